//! Which postmaster runs on a data directory: PostgreSQL's own working directory tells, not a file.

use std::path::Path;

use crate::error::Result;
use crate::sys::proc::{self, Process};

/// The postmaster whose working directory is `data_directory` (a real path).
pub fn find(data_directory: &Path) -> Result<Option<Process>> {
    let all = processes_on(data_directory)?;
    let pids: Vec<i32> = all.iter().map(|p| p.identity.pid).collect();
    Ok(all.into_iter().find(|p| !pids.contains(&p.parent)))
}

/// Every `postgres` process whose working directory is `data_directory`, backends of a dead postmaster too.
pub fn processes_on(data_directory: &Path) -> Result<Vec<Process>> {
    Ok(postgres_processes()?.into_iter().filter(|p| p.cwd == data_directory).collect())
}

/// Every running postmaster of the host: a `postgres` whose parent is none.
pub fn all() -> Result<Vec<Process>> {
    let found = postgres_processes()?;
    let pids: Vec<i32> = found.iter().map(|p| p.identity.pid).collect();
    Ok(found.into_iter().filter(|p| !pids.contains(&p.parent)).collect())
}

fn postgres_processes() -> Result<Vec<Process>> {
    let is_postgres = |p: &Process| matches!(p.exe.file_name().and_then(|n| n.to_str()), Some("postgres" | "postmaster"));
    Ok(proc::processes()?.into_iter().filter(|p| p.uid != 0 && is_postgres(p)).collect())
}
