//! Staging: the run's directory beside PGDATA and the unpacked backup in it, by the owner's child.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};
use crate::plan::place::INSIDE;
use crate::run::owner::Progress;
use crate::store::extract::{ExtractOptions, Extracted, extract as unpack};
use crate::store::layout::required_directories;
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
    /// How. Directories for tablespaces are added here.
    pub options: ExtractOptions,
    /// Directories of tablespaces outside PGDATA, made afresh.
    pub spaces: Vec<PathBuf>,
    /// Tablespaces of the backup: OID, and for one outside PGDATA its directory among `spaces` and the text of its link.
    pub tablespaces: Vec<(u32, Option<(PathBuf, PathBuf)>)>,
    /// Directory of a pg_wal outside PGDATA, made afresh, and the text of the link to it.
    pub wal: Option<(PathBuf, PathBuf)>,
}

/// Unpacks into an empty `data`, then puts the marker: without it the directory is nothing. No link of the backup is
/// made; those to places outside have the text that the cluster that stands has.
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
    for place in request.spaces.iter().chain(request.wal.as_ref().map(|(place, _)| place)) {
        afresh(place, mode)?;
    }
    let mut options = request.options.clone();
    for (oid, place) in &request.tablespaces {
        let inside = Path::new("pg_tblspc").join(oid.to_string());
        let directory = match place {
            Some((directory, _)) => directory.clone(),
            None => staging.make_dirs(&inside, mode)?.path().to_path_buf(),
        };
        options.tablespaces.insert(*oid, directory);
    }
    let extracted = unpack(&request.source, &staging, &options, &mut |p| say(Progress { done: p.read, total: Some(p.total) }))?;
    link(request, &staging, mode, extracted.major)?;
    staging.write_durable(&request.marker, b"", 0o600)?;
    staging.sync()?;
    beside.sync()?;
    Ok(extracted)
}

/// The links of the new cluster. The map of the backup goes: the server would make its links again from it.
fn link(request: &ExtractRequest, staging: &Dir, mode: u32, major: u32) -> Result<()> {
    staging.unlink_if_exists("tablespace_map")?;
    let spaces = staging.open_beneath("pg_tblspc")?;
    for (oid, place) in &request.tablespaces {
        if let Some((_, text)) = place {
            if spaces.metadata_if_exists(oid.to_string())?.is_some() {
                spaces.remove_dir(oid.to_string())?;
            }
            spaces.make_link(text, oid.to_string())?;
        }
    }
    spaces.sync()?;
    if let Some((place, text)) = &request.wal {
        let wal = Dir::open(place)?;
        for name in required_directories(major).filter_map(|name| name.strip_prefix("pg_wal/")) {
            wal.make_dir(name, mode)?;
        }
        wal.sync()?;
        staging.remove_tree("pg_wal")?;
        staging.make_link(text, "pg_wal")?;
    }
    Ok(())
}

/// An empty directory in a run's directory.
fn afresh(path: &Path, mode: u32) -> Result<()> {
    let above = Dir::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default();
    if above.metadata_if_exists(name)?.is_some() {
        above.remove_tree(name)?;
    }
    above.make_dir(name, mode)?;
    above.sync()
}

/// Makes the run's directory where the parent is the owner's; one that is there already is the same run's.
/// Returns its inode.
pub fn make_run_directory(path: &Path) -> Result<u64> {
    let above = path.parent().unwrap_or(Path::new("/"));
    if above.file_name().is_some_and(|n| n == INSIDE) && std::fs::symlink_metadata(above).is_err() {
        // In a data directory that is a mount point.
        let data = Dir::open(above.parent().unwrap_or(Path::new("/")))?;
        data.make_dir(INSIDE, 0o700)?;
        data.sync()?;
    }
    let parent = Dir::open(above)?;
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

/// Removes a directory that is empty; one that is not, or is gone, stays as it is.
pub fn remove_if_empty(path: &Path) -> Result<()> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    if std::fs::symlink_metadata(path).is_err() || !Dir::open(path)?.entries()?.is_empty() {
        return Ok(());
    }
    let above = Dir::open(above)?;
    above.remove_dir(name)?;
    above.sync()
}

/// Runs the program's copy as the owner does when PostgreSQL calls it.
pub fn try_program(program: &Path) -> Result<()> {
    let output = std::process::Command::new(program).arg("--version").env_clear().output().at("run", program)?;
    if output.status.success() { Ok(()) } else { Err(Error::failed(format!("run {}", program.display())).cause(output.status)) }
}
