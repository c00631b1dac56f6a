//! What the archive lacks is offered to it: files in pg_wal with `.ready` marks (pitfalls A4, F5, F9).
//!
//! PostgreSQL marks everything that came through `restore_command` as archived. For a segment that came from
//! the tail this is wrong, and the chain from the backup to the fork would have a hole that nobody sees.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};
use crate::run::owner::open_directory;
use crate::sys::dir::{Dir, Kind};

/// Files to offer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TidyRequest {
    /// pg_wal, by its real path.
    pub wal: PathBuf,
    /// Segments: name and the directory that holds a plain copy.
    pub segments: Vec<(String, PathBuf)>,
    /// Histories: name and text.
    pub histories: Vec<(String, String)>,
}

/// Marks to settle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SettleRequest {
    /// pg_wal, by its real path.
    pub wal: PathBuf,
    /// Files that pg_wal marks `.ready` and the archive holds: name, archive directory and file there.
    pub archived: Vec<(String, PathBuf, String)>,
    /// Files that are not offered any more: the archive holds another one of that name.
    pub given_up: Vec<String>,
}

/// Puts every file into `pg_wal` and marks it `.ready`, then proves that it stands so. Returns the names.
pub fn tidy(request: &TidyRequest) -> Result<Vec<String>> {
    let wal = open_directory(&request.wal)?;
    let status = wal.open_beneath("archive_status")?;
    let mut names = Vec::new();
    for (name, from) in &request.segments {
        bring(&wal, name, &open_directory(from)?)?;
        names.push(name.clone());
    }
    for (name, text) in &request.histories {
        if wal.metadata_if_exists(name)?.is_none() {
            wal.write_durable(name, text.as_bytes(), 0o600)?;
        }
        names.push(name.clone());
    }
    wal.sync()?;
    for name in &names {
        mark_ready(&status, name)?;
    }
    status.sync()?;
    for name in &names {
        prove(&wal, &status, name)?;
    }
    Ok(names)
}

/// A `.ready` file that the archive already holds, byte for byte, would stop an archiver whose command refuses
/// to overwrite: it becomes `.done`. Returns those whose archived copy differs; they stay as they are.
pub fn settle_marks(request: &SettleRequest) -> Result<Vec<String>> {
    let wal = open_directory(&request.wal)?;
    let status = wal.open_beneath("archive_status")?;
    let mut different = Vec::new();
    for (name, archive, file) in &request.archived {
        let ready = format!("{name}.ready");
        if status.metadata_if_exists(&ready)?.is_none() {
            continue;
        }
        // What cannot be read to its end, such as a packed file that was cut, is another one too.
        if same_content(&wal, name, &open_directory(archive)?, file).unwrap_or(false) {
            status.rename(&ready, &status, format!("{name}.done"))?;
        } else {
            different.push(name.clone());
        }
    }
    for name in &request.given_up {
        let ready = format!("{name}.ready");
        if status.metadata_if_exists(&ready)?.is_some() {
            status.rename(&ready, &status, format!("{name}.done"))?;
        }
    }
    status.sync()?;
    Ok(different)
}

/// Positions of pairs of files that have other bytes, unpacked, or cannot be read to their end.
pub fn different(pairs: &[(PathBuf, String, PathBuf, String)]) -> Vec<usize> {
    let same = |(directory, name, archive, file): &(PathBuf, String, PathBuf, String)| {
        open_directory(directory).and_then(|own| same_content(&own, name, &open_directory(archive)?, file)).unwrap_or(false)
    };
    pairs.iter().enumerate().filter(|(_, pair)| !same(pair)).map(|(at, _)| at).collect()
}

fn bring(wal: &Dir, name: &str, from: &Dir) -> Result<()> {
    let mut source = from.open_file(name)?;
    let size = source.metadata().at("look at", from.join(name))?.len();
    if let Some(there) = wal.metadata_if_exists(name)?
        && there.kind == Kind::File
        && there.size == size
        && same_content(wal, name, from, name)?
    {
        return Ok(());
    }
    let fresh = format!("{name}.pitr");
    wal.unlink_if_exists(&fresh)?;
    let mut copy = wal.create_file(&fresh, 0o600)?;
    std::io::copy(&mut source, &mut copy).at("copy", from.join(name))?;
    copy.sync_all().at("sync", wal.join(&fresh))?;
    wal.rename(&fresh, wal, name)
}

fn mark_ready(status: &Dir, name: &str) -> Result<()> {
    let ready = format!("{name}.ready");
    if status.metadata_if_exists(&ready)?.is_none() {
        status.create_file(&ready, 0o600)?.sync_all().at("sync", status.join(&ready))?;
    }
    status.unlink_if_exists(format!("{name}.done")).map(|_| ())
}

fn prove(wal: &Dir, status: &Dir, name: &str) -> Result<()> {
    let marked =
        status.metadata_if_exists(format!("{name}.ready"))?.is_some() && status.metadata_if_exists(format!("{name}.done"))?.is_none();
    if marked && wal.metadata_if_exists(name)?.is_some() {
        Ok(())
    } else {
        Err(Error::failed(format!("{} is not offered to the archive", wal.join(name).display())))
    }
}

fn same_content(one: &Dir, name: &str, other: &Dir, file: &str) -> Result<bool> {
    use std::io::Read;
    let (_, mut left) = crate::store::codec::decoder(one.open_file(name)?).at("read", one.join(name))?;
    let (_, mut right) = crate::store::codec::decoder(other.open_file(file)?).at("read", other.join(file))?;
    let (mut a, mut b) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let read = left.read(&mut a).at("read", one.join(name))?;
        let mut filled = 0;
        while filled < read.max(1) {
            let Some(space) = b.get_mut(filled..read.max(1)) else { break };
            match right.read(space).at("read", other.join(file))? {
                0 => break,
                n => filled += n,
            }
        }
        if read != filled || a.get(..read) != b.get(..read) {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
    }
}
