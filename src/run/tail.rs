//! WAL files: what stands in a directory, and durable copies of it, by the owner's child.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{At, Result};
use crate::pg::page::{PageVerdict, SegmentExpectation, check_segment_page};
use crate::pg::{SegmentName, SegmentSize};
use crate::plan::facts::{SegmentCopy, WalKind, WalSource};
use crate::run::owner::{Progress, open_directory};
use crate::store::archive::{ArchivedSegment, list_archive_dir};
use crate::store::codec;
use crate::sys::dir::{Dir, Kind};

/// Bytes of a WAL page as far as its header goes.
const PAGE: usize = 8192;

/// Whose WAL it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalIdentity {
    /// Major version.
    pub major: u32,
    /// System identifier.
    #[serde(with = "crate::pg::decimal")]
    pub system_identifier: u64,
    /// Segment size.
    pub segment_size: SegmentSize,
}

impl WalIdentity {
    /// What the pages of segment `name` must say.
    pub fn expect(&self, name: SegmentName) -> SegmentExpectation {
        SegmentExpectation { major: self.major, system_identifier: self.system_identifier, segment_size: self.segment_size, name }
    }
}

/// Directories to list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListRequest {
    /// Each with what it is and the path to open, which may be an inherited descriptor.
    pub directories: Vec<(PathBuf, WalKind, PathBuf)>,
    /// Whose WAL.
    pub identity: WalIdentity,
}

/// Lists every directory; one that cannot be read is a source with a problem, not an error.
pub fn list(request: &ListRequest) -> Result<Vec<WalSource>> {
    Ok(request.directories.iter().map(|(name, kind, open)| list_one(name, kind, open, &request.identity)).collect())
}

fn list_one(name: &Path, kind: &WalKind, open: &Path, identity: &WalIdentity) -> WalSource {
    let mut source = WalSource {
        directory: name.to_path_buf(),
        kind: kind.clone(),
        segments: vec![],
        histories: vec![],
        backups: vec![],
        marks: vec![],
        problem: None,
    };
    let listed = open_directory(open).and_then(|dir| {
        let listing = list_archive_dir(&dir, identity.segment_size)?;
        source.segments = listing.segments.iter().map(|s| examine(&dir, s, identity)).collect();
        source.histories = listing.histories.into_iter().map(|h| (h.timeline, String::from_utf8_lossy(&h.content).into_owned())).collect();
        source.backups = listing.backup_histories;
        if matches!(kind, WalKind::Live | WalKind::Aside(_)) {
            source.marks = marks(&dir)?;
        }
        Ok(())
    });
    if let Err(error) = listed {
        source.problem = Some(error.to_string());
    }
    source
}

/// Names in `archive_status`, such as `000000010000000000000005.ready`.
fn marks(pg_wal: &Dir) -> Result<Vec<String>> {
    match pg_wal.metadata_if_exists("archive_status")? {
        Some(m) if m.kind == Kind::Directory => {
            Ok(pg_wal.open_beneath("archive_status")?.entries()?.into_iter().filter_map(|e| e.name_str().map(str::to_string)).collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// Looks at the first page: preallocated and foreign files carry another address or identity.
fn examine(dir: &Dir, segment: &ArchivedSegment, identity: &WalIdentity) -> SegmentCopy {
    let problem = first_page(dir, &segment.file).map_err(|e| e.to_string()).and_then(|page| {
        match check_segment_page(&identity.expect(segment.name), 0, &page) {
            PageVerdict::Valid => Ok(()),
            PageVerdict::Zero => Err("its first page is empty".into()),
            PageVerdict::Invalid(cause) => Err(cause.to_string()),
        }
    });
    let plain_size_wrong =
        segment.compression == codec::Compression::Plain && !segment.partial && segment.size != identity.segment_size.bytes();
    let problem =
        problem.err().or_else(|| plain_size_wrong.then(|| format!("it has {} bytes, not {}", segment.size, identity.segment_size.bytes())));
    SegmentCopy { name: segment.name, file: segment.file.clone(), size: segment.size, problem, partial: segment.partial }
}

fn first_page(dir: &Dir, file: &str) -> Result<Vec<u8>> {
    let opened = dir.open_file(file)?;
    let (_, mut reader) = codec::decoder(opened).at("read", dir.join(file))?;
    let mut page = Vec::with_capacity(PAGE);
    reader.by_ref().take(PAGE as u64).read_to_end(&mut page).at("read", dir.join(file))?;
    Ok(page)
}

/// Files to copy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CopyRequest {
    /// Directory to open and file in it, with its size.
    pub files: Vec<(PathBuf, String, u64)>,
    /// The directory they go to, made if missing.
    pub to: PathBuf,
}

/// Copies each file under its name; those that are there with the same size stay. Returns how many were copied.
pub fn copy(request: &CopyRequest, say: &mut dyn FnMut(Progress) -> bool) -> Result<u64> {
    let to = open_or_make(&request.to)?;
    let total = request.files.iter().map(|(_, _, size)| size).sum();
    let (mut done, mut copied) = (0, 0);
    for (directory, file, size) in &request.files {
        let there = to.metadata_if_exists(file)?.is_some_and(|m| m.kind == Kind::File && m.size == *size);
        if !there {
            copy_one(&open_directory(directory)?, file, &to)?;
            copied += 1;
        }
        done += size;
        say(Progress { done, total: Some(total) });
    }
    to.sync()?;
    Ok(copied)
}

/// One that is there is opened by its path: the parent, such as a run's directory, may be closed to the owner.
fn open_or_make(path: &Path) -> Result<Dir> {
    if std::fs::symlink_metadata(path).is_ok() {
        return open_directory(path);
    }
    let parent = open_directory(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default();
    parent.make_dir(name, 0o700)?;
    parent.sync()?;
    parent.open_beneath(name)
}

fn copy_one(from: &Dir, file: &str, to: &Dir) -> Result<()> {
    let mut source = from.open_file(file)?;
    let fresh = format!("{file}.new");
    to.unlink_if_exists(&fresh)?;
    let mut copy = to.create_file(&fresh, 0o600)?;
    std::io::copy(&mut source, &mut copy).at("copy", from.join(file))?;
    copy.sync_all().at("sync", to.join(&fresh))?;
    to.rename(&fresh, to, file)
}
