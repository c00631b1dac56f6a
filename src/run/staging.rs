//! Staging: the run's directory beside PGDATA and the unpacked backup in it, by the owner's child.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};
use crate::run::owner::Progress;
use crate::store::extract::{ExtractOptions, Extracted, extract as unpack};
use crate::store::source::Source;
use crate::sys::dir::{Dir, Kind};

/// What to unpack and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExtractRequest {
    /// The backup.
    pub source: Source,
    /// The run's directory; `data` is made in it afresh.
    pub beside: PathBuf,
    /// Marker file that names the run.
    pub marker: String,
    /// How.
    pub options: ExtractOptions,
}

/// Unpacks into an empty `data`, then puts the marker: without it the directory is nothing.
pub fn extract(request: &ExtractRequest, say: &mut dyn FnMut(Progress) -> bool) -> Result<Extracted> {
    let beside = Dir::open(&request.beside)?;
    if beside.metadata_if_exists("data")?.is_some() {
        // The marker goes first: what is half deleted is nothing.
        if beside.open_beneath("data")?.unlink_if_exists(&request.marker)? {
            beside.open_beneath("data")?.sync()?;
        }
        beside.remove_tree("data")?;
    }
    let mode = if request.options.group_access { 0o750 } else { 0o700 };
    let staging = beside.make_dir("data", mode)?;
    beside.sync()?;
    let extracted = unpack(&request.source, &staging, &request.options, &mut |p| say(Progress { done: p.read, total: Some(p.total) }))?;
    staging.write_durable(&request.marker, b"", 0o600)?;
    staging.sync()?;
    beside.sync()?;
    Ok(extracted)
}

/// Makes the run's directory where the parent is the owner's; one that is there already is the same run's.
/// Returns its inode.
pub fn make_run_directory(path: &Path) -> Result<u64> {
    let parent = Dir::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default();
    if parent.metadata_if_exists(name)?.is_none() {
        parent.make_dir(name, 0o700)?;
        parent.sync()?;
    }
    let metadata = parent.metadata(name)?;
    if metadata.kind != Kind::Directory {
        return Err(Error::failed(format!("{} is not a directory", path.display())));
    }
    Ok(metadata.inode)
}

/// Runs the program's copy as the owner does when PostgreSQL calls it.
pub fn try_program(program: &Path) -> Result<()> {
    let output = std::process::Command::new(program).arg("--version").env_clear().output().at("run", program)?;
    if output.status.success() { Ok(()) } else { Err(Error::failed(format!("run {}", program.display())).cause(output.status)) }
}
