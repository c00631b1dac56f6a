//! Which postmaster runs on a data directory: PostgreSQL's own working directory tells, not a file.
//!
//! Compared by device and inode, and by the directory's owner: a server in a container can have the same path, and
//! any user can call a program `postgres`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::sys::proc::{self, Process};

/// The postmaster whose working directory is `data_directory`.
pub fn find(data_directory: &Path) -> Result<Option<Process>> {
    let all = processes_on(data_directory)?;
    let pids: Vec<i32> = all.iter().map(|p| p.identity.pid).collect();
    Ok(all.into_iter().find(|p| !pids.contains(&p.parent)))
}

/// How long a process must be seen to be taken for a server, where that decides.
const STAYS: Duration = Duration::from_secs(2);

/// The same, if it stays: a process that is seen at its end, or that only asks for a setting, keeps nobody from anything.
pub fn find_staying(data_directory: &Path) -> Result<Option<Process>> {
    let begun = Instant::now();
    while let Some(process) = find(data_directory)? {
        if begun.elapsed() > STAYS {
            return Ok(Some(process));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(None)
}

/// Every `postgres` process of the directory's owner whose working directory it is, backends of a dead postmaster too.
pub fn processes_on(data_directory: &Path) -> Result<Vec<Process>> {
    let Ok(metadata) = std::fs::symlink_metadata(data_directory) else { return Ok(vec![]) };
    let identity = (metadata.dev(), metadata.ino());
    Ok(postgres_processes()?.into_iter().filter(|p| p.cwd_identity == identity && p.uid == metadata.uid()).collect())
}

/// Every running postmaster of this host's own view: a `postgres` whose parent is none, on a directory that is here
/// what it is there.
pub fn all() -> Result<Vec<Process>> {
    let found = postgres_processes()?;
    let pids: Vec<i32> = found.iter().map(|p| p.identity.pid).collect();
    let here = |p: &Process| std::fs::symlink_metadata(&p.cwd).is_ok_and(|m| (m.dev(), m.ino()) == p.cwd_identity && m.uid() == p.uid);
    Ok(found.into_iter().filter(|p| !pids.contains(&p.parent) && here(p)).collect())
}

fn postgres_processes() -> Result<Vec<Process>> {
    let is_postgres = |p: &Process| matches!(p.exe.file_name().and_then(|n| n.to_str()), Some("postgres" | "postmaster"));
    Ok(proc::processes()?.into_iter().filter(|p| p.uid != 0 && is_postgres(p)).collect())
}
