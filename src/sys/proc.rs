//! Processes of the host, found in /proc and ended through a pidfd after their identity was compared.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::error::{At, Error, Result};

pub use crate::host::ProcessIdentity;

/// A process as /proc shows it to root.
#[derive(Debug, Clone)]
pub struct Process {
    /// Id, start time, boot.
    pub identity: ProcessIdentity,
    /// Parent's process id.
    pub parent: i32,
    /// Effective user id.
    pub uid: u32,
    /// Real, effective, saved and filesystem user id are all this one.
    pub only_uid: Option<u32>,
    /// Target of `exe`, with ` (deleted)` removed.
    pub exe: PathBuf,
    /// Target of `cwd`, as text of the process's own mount namespace.
    pub cwd: PathBuf,
    /// Device and inode of its working directory: what tells the same path in a container from ours.
    pub cwd_identity: (u64, u64),
    /// Arguments, the program's name first.
    pub arguments: Vec<String>,
}

/// This boot's id.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(std::fs::read_to_string(path).at("read", path)?.trim().to_string())
}

/// All processes that can be looked at; those that end meanwhile are left out.
pub fn processes() -> Result<Vec<Process>> {
    let boot = boot_id()?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").at("list", "/proc")?.flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) {
            found.extend(process(pid, &boot));
        }
    }
    Ok(found)
}

/// Whether the process is there, if only as a zombie.
pub fn is_there(identity: &ProcessIdentity) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", identity.pid)).ok();
    stat.and_then(|stat| start_ticks(&fields(&stat)?)) == Some(identity.start_ticks)
}

/// Fields of `stat` from the third on (proc_pid_stat(5)). The command's name may hold anything, spaces and parentheses
/// included: fields follow the last ')'.
fn fields(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace().collect())
}

/// Field 22.
fn start_ticks(fields: &[&str]) -> Option<u64> {
    fields.get(19)?.parse().ok()
}

/// The program that this process runs, as [`Process::exe`] says it.
pub fn own_program() -> Option<PathBuf> {
    target_of("/proc/self/exe")
}

/// Target of a link below /proc, with the kernel's remark removed that its file is gone.
fn target_of(link: impl AsRef<Path>) -> Option<PathBuf> {
    let target = std::fs::read_link(link).ok()?;
    Some(target.to_str().and_then(|t| t.strip_suffix(" (deleted)")).map(PathBuf::from).unwrap_or(target))
}

/// One process, if it is there and can be looked at.
pub fn process(pid: i32, boot: &str) -> Option<Process> {
    let base = PathBuf::from(format!("/proc/{pid}"));
    let stat = std::fs::read_to_string(base.join("stat")).ok()?;
    let fields = fields(&stat)?;
    let exe = target_of(base.join("exe"))?;
    let arguments = std::fs::read(base.join("cmdline")).ok()?;
    let uids = user_ids(&base)?;
    Some(Process {
        identity: ProcessIdentity { pid, start_ticks: start_ticks(&fields)?, boot_id: boot.to_string() },
        parent: fields.get(1)?.parse().ok()?,
        uid: *uids.get(1)?,
        only_uid: uids.first().filter(|first| uids.iter().all(|uid| uid == *first)).copied(),
        exe,
        cwd: std::fs::read_link(base.join("cwd")).ok()?,
        cwd_identity: std::fs::metadata(base.join("cwd")).ok().map(|m| (m.dev(), m.ino()))?,
        arguments: words(&arguments),
    })
}

/// `cmdline` ends each argument with a zero byte; an empty argument in between is an argument.
fn words(cmdline: &[u8]) -> Vec<String> {
    let ended = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
    if ended.is_empty() { Vec::new() } else { ended.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect() }
}

/// Real, effective, saved and filesystem user id, from `status` (proc_pid_status(5)): the owner of `/proc/PID` itself is
/// root for a process that may not be dumped.
fn user_ids(base: &Path) -> Option<Vec<u32>> {
    let status = std::fs::read_to_string(base.join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().map(|id| id.parse().ok()).collect()
}

/// The environment of a process as `KEY=VALUE` bytes, empty if it cannot be read.
pub fn environment(pid: i32) -> Vec<Vec<u8>> {
    let raw = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    raw.split(|b| *b == 0).filter(|e| e.contains(&b'=')).map(<[u8]>::to_vec).collect()
}

/// The regular file behind a descriptor of a process, such as the log that is its standard error.
pub fn file_behind(pid: i32, descriptor: i32) -> Option<PathBuf> {
    let link = format!("/proc/{pid}/fd/{descriptor}");
    let target = target_of(&link)?;
    std::fs::metadata(&link).ok()?.is_file().then_some(target)
}

/// Ids of processes, other than this one, that have one of these files open, told by device and inode.
pub fn holders(files: &[(u64, u64)]) -> Result<Vec<i32>> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").at("list", "/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()).filter(|p| *p != own) else { continue };
        let Ok(descriptors) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let holds = |path: &Path| std::fs::metadata(path).is_ok_and(|m| files.contains(&(m.dev(), m.ino())));
        if descriptors.flatten().any(|d| holds(&d.path())) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// A handle that keeps naming one process even when its id is used again.
#[derive(Debug)]
pub struct ProcessHandle {
    descriptor: OwnedFd,
    /// Process id, for messages.
    pub pid: i32,
}

impl ProcessHandle {
    /// Opens a handle on `identity`, or `None` when that process is gone.
    pub fn open(identity: &ProcessIdentity) -> Result<Option<ProcessHandle>> {
        let Some(pid) = Pid::from_raw(identity.pid) else { return Ok(None) };
        let descriptor = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(e) => return Err(Error::failed(format!("open process {}", identity.pid)).cause(e)),
        };
        // Compared after opening: from here on the handle cannot slide to another process.
        let same = boot_id()? == identity.boot_id
            && process(identity.pid, &identity.boot_id).is_some_and(|p| p.identity.start_ticks == identity.start_ticks);
        Ok(same.then_some(ProcessHandle { descriptor, pid: identity.pid }))
    }

    /// Sends a signal; a process that is gone already is no error.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match rustix::process::pidfd_send_signal(&self.descriptor, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(Error::failed(format!("signal process {}", self.pid)).cause(e)),
        }
    }

    /// Waits until the process has ended; `false` when `limit` passed first.
    pub fn wait_gone(&self, limit: Duration) -> Result<bool> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now()).min(Duration::from_secs(3600));
            let timeout =
                rustix::event::Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(0), tv_nsec: left.subsec_nanos().into() };
            let mut polled = [PollFd::new(&self.descriptor, PollFlags::IN)];
            match rustix::event::poll(&mut polled, Some(&timeout)) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::failed(format!("wait for process {}", self.pid)).cause(e)),
            }
        }
    }
}
