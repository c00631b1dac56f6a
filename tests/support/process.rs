//! Which processes stand on, run from or hold open anything below a directory: read from `/proc`.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process and why it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: i32,
    /// Its command line, arguments separated by blanks.
    pub command: String,
    /// The program it runs.
    pub exe: PathBuf,
    /// The path below the directory, and what it is to the process: `exe`, `cwd`, `root` or `fd`.
    pub holds: String,
}

/// Every process of others that has its program, its working directory, its root or an open file below `dir`.
///
/// A mount namespace of its own does not hide a process: the kernel shows such a link as the process sees it.
pub fn holders(dir: &Path) -> Vec<Holder> {
    others().filter_map(|pid| holds(pid, dir).map(|what| describe(pid, what))).collect()
}

/// Every process of others that has `path`, or a file below it, open.
pub fn having_open(path: &Path) -> Vec<Holder> {
    let open = |pid: i32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        files.flatten().filter_map(|fd| fs::read_link(fd.path()).ok()).find(|file| file.starts_with(path))
    };
    others().filter_map(|pid| open(pid).map(|file| describe(pid, format!("fd {}", file.display())))).collect()
}

/// Every process of others whose program is `exe`, also if that file is gone by now.
pub fn running(exe: &Path) -> Vec<Holder> {
    let gone = PathBuf::from(format!("{} (deleted)", exe.display()));
    others()
        .filter(|pid| link(*pid, "exe").is_some_and(|path| path == exe || path == gone))
        .map(|pid| describe(pid, "exe".to_string()))
        .collect()
}

/// Sends `signal`; a process that is gone already is fine.
pub fn send(pid: i32, signal: Signal) {
    // 0 and below address groups or everything: never meant by a test.
    assert!(pid > 1, "pid {pid}");
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Whether the process id is taken, if only by a zombie.
pub fn exists(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// All processes but those that run this test binary: itself, and a child between fork and exec, which for that
/// moment holds whatever another test has open.
fn others() -> impl Iterator<Item = i32> {
    let own = fs::read_link("/proc/self/exe").expect("read /proc/self/exe");
    let entries = fs::read_dir("/proc").expect("read /proc");
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(move |pid| link(*pid, "exe").is_none_or(|exe| exe != own))
}

fn link(pid: i32, name: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/{name}")).ok()
}

fn holds(pid: i32, dir: &Path) -> Option<String> {
    for name in ["exe", "cwd", "root"] {
        if let Some(path) = link(pid, name).filter(|p| p.starts_with(dir)) {
            return Some(format!("{name} {}", path.display()));
        }
    }
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    files.flatten().filter_map(|fd| fs::read_link(fd.path()).ok()).find(|p| p.starts_with(dir)).map(|p| format!("fd {}", p.display()))
}

fn describe(pid: i32, holds: String) -> Holder {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_string();
    Holder { pid, command, exe: link(pid, "exe").unwrap_or_default(), holds }
}
