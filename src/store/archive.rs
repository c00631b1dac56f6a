//! What a WAL archive directory holds, by name; contents are read only of the small history files.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::codec::{Compression, decoder};
use crate::error::{At, Result};
use crate::pg::label::{BackupHistory, parse_backup_history_name};
use crate::pg::segment::parse_history_name;
use crate::pg::{SegmentName, SegmentSize, Timeline};
use crate::sys::dir::{Dir, Kind, Stamp};

/// A history file has a line of some 50 bytes for each timeline before it.
const LARGEST_HISTORY: u64 = 1 << 20;

/// One archive directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveListing {
    /// Its real path.
    pub directory: PathBuf,
    /// Segments by timeline and number; the same one may be there plain, compressed and partial.
    pub segments: Vec<ArchivedSegment>,
    /// Timeline histories.
    pub histories: Vec<ArchivedHistory>,
    /// Backup histories: the only place with a backup's stop time.
    pub backup_histories: Vec<ArchivedBackupHistory>,
    /// Names of WAL files that are links, empty, or could not be read, each with the reason: nothing is to be concluded from their
    /// absence in the lists above.
    pub unusable: Vec<(String, String)>,
    /// Everything else.
    pub ignored: usize,
}

/// A segment file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ArchivedSegment {
    /// Timeline and number.
    pub name: SegmentName,
    /// `.partial`: the last segment of a timeline that was left, or one that a receiver still writes; possibly incomplete.
    pub partial: bool,
    /// File name.
    pub file: String,
    /// Bytes on disk.
    pub size: u64,
    /// As the suffix says; the content decides when it is read.
    pub compression: Compression,
    /// When the content changed last.
    pub modified: Stamp,
    /// When the inode changed last.
    pub changed: Stamp,
    /// Inode number.
    pub inode: u64,
}

/// A timeline's history file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedHistory {
    /// The timeline whose history it is.
    pub timeline: Timeline,
    /// File name.
    pub file: String,
    /// The file's bytes, decompressed.
    pub content: Vec<u8>,
}

/// A backup history file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedBackupHistory {
    /// Segment in which the backup starts.
    pub segment: SegmentName,
    /// File name.
    pub file: String,
    /// What it says.
    pub history: BackupHistory,
}

/// Lists the directory. Links on the way to it are followed, those in it are not.
pub fn list_archive(directory: &Path, size: SegmentSize) -> Result<ArchiveListing> {
    let directory = std::fs::canonicalize(directory).at("open WAL archive", directory)?;
    list_archive_dir(&Dir::open(&directory)?, size)
}

/// [`list_archive`] of an open directory, such as one inherited by descriptor.
pub fn list_archive_dir(dir: &Dir, size: SegmentSize) -> Result<ArchiveListing> {
    let mut listing = ArchiveListing {
        directory: dir.path().to_path_buf(),
        segments: Vec::new(),
        histories: Vec::new(),
        backup_histories: Vec::new(),
        unusable: Vec::new(),
        ignored: 0,
    };
    for entry in dir.entries()? {
        let Some(wal) = entry.name_str().and_then(|name| WalFile::of_name(name, size)) else {
            listing.ignored += 1;
            continue;
        };
        let file = entry.name.to_string_lossy().into_owned();
        let read = |what: &str| -> std::result::Result<Vec<u8>, String> {
            content(dir, &file).map_err(|e| format!("{what} cannot be read: {}", e.cause.unwrap_or(e.what)))
        };
        let added = match wal {
            _ if entry.kind() != Kind::File => Err("not a regular file".to_owned()),
            _ if entry.metadata.size == 0 => Err("empty".to_owned()),
            WalFile::Segment { name, partial, compression } => {
                let metadata = &entry.metadata;
                let (size, modified, changed, inode) = (metadata.size, metadata.modified, metadata.changed, metadata.inode);
                listing.segments.push(ArchivedSegment { name, partial, file: file.clone(), size, compression, modified, changed, inode });
                Ok(())
            }
            WalFile::History(timeline) => {
                read("the history").map(|content| listing.histories.push(ArchivedHistory { timeline, file: file.clone(), content }))
            }
            WalFile::BackupHistory(segment) => read("the backup history").and_then(|content| {
                let history = BackupHistory::parse(&content).map_err(|e| e.to_string())?;
                listing.backup_histories.push(ArchivedBackupHistory { segment, file: file.clone(), history });
                Ok(())
            }),
        };
        if let Err(why) = added {
            listing.unusable.push((file, why));
        }
    }
    listing.segments.sort();
    Ok(listing)
}

enum WalFile {
    Segment { name: SegmentName, partial: bool, compression: Compression },
    History(Timeline),
    BackupHistory(SegmentName),
}

impl WalFile {
    fn of_name(name: &str, size: SegmentSize) -> Option<WalFile> {
        // `pg_receivewal -Z` puts its suffix last.
        let (receiving, outer) = name.strip_suffix(".partial").map_or((false, name), |outer| (true, outer));
        let (compression, stem) = Compression::of_name(outer);
        if receiving {
            return SegmentName::parse(stem, size).map(|name| WalFile::Segment { name, partial: true, compression });
        }
        if let Some(timeline) = parse_history_name(stem) {
            return Some(WalFile::History(timeline));
        }
        if let Some((segment, _)) = parse_backup_history_name(stem, size) {
            return Some(WalFile::BackupHistory(segment));
        }
        let (segment, partial) = stem.strip_suffix(".partial").map_or((stem, false), |segment| (segment, true));
        SegmentName::parse(segment, size).map(|name| WalFile::Segment { name, partial, compression })
    }
}

fn content(dir: &Dir, file: &str) -> Result<Vec<u8>> {
    let path = dir.join(file);
    let (_, decoded) = decoder(dir.open_file(file)?).at("read", &path)?;
    let mut bytes = Vec::new();
    decoded.take(LARGEST_HISTORY + 1).read_to_end(&mut bytes).at("read", &path)?;
    if bytes.len() as u64 > LARGEST_HISTORY {
        return Err(crate::error::Error::failed(format!("read {}", path.display())).cause("too large for a history file"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn an_archive_is_listed_by_name_and_links_are_not_followed() {
        let held = tempfile::tempdir().unwrap();
        let at = |name: &str| held.path().join(name);
        for name in [
            "000000010000000000000002",
            "000000010000000000000001",
            "000000010000000000000003.gz",
            "000000010000000000000002.partial",
            "000000020000000000000002.partial.zst",
        ] {
            std::fs::write(at(name), "x").unwrap();
        }
        for name in ["notes.txt", "000000010000000000000001.tmp", "00000001000000000000zz01"] {
            std::fs::write(at(name), "x").unwrap();
        }
        std::fs::write(at("000000010000000000000009"), "").unwrap();
        std::fs::write(at("00000002.history"), "1\t0/5000000\tno recovery target specified\n").unwrap();
        let mut gz = flate2::write::GzEncoder::new(std::fs::File::create(at("00000003.history.gz")).unwrap(), flate2::Compression::fast());
        gz.write_all(b"three").unwrap();
        gz.finish().unwrap();
        std::fs::write(at("00000004.history"), vec![b'x'; 2 << 20]).unwrap();
        let backup = include_bytes!("../../tests/fixtures/pg/000000010000000000000002.00000028.backup");
        std::fs::write(at("000000010000000000000002.00000028.backup"), backup).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", at("000000010000000000000004")).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", at("00000009.history")).unwrap();

        let size = SegmentSize::new(16 << 20).unwrap();
        let listing = list_archive(held.path(), size).unwrap();
        let files: Vec<_> = listing.segments.iter().map(|s| (s.file.as_str(), s.partial, s.compression)).collect();
        assert_eq!(
            files,
            [
                ("000000010000000000000001", false, Compression::Plain),
                ("000000010000000000000002", false, Compression::Plain),
                ("000000010000000000000002.partial", true, Compression::Plain),
                ("000000010000000000000003.gz", false, Compression::Gzip),
                ("000000020000000000000002.partial.zst", true, Compression::Zstd),
            ]
        );
        let histories: Vec<_> = listing.histories.iter().map(|h| (h.timeline.0, h.content.as_slice())).collect();
        assert_eq!(histories, [(2, &b"1\t0/5000000\tno recovery target specified\n"[..]), (3, b"three")]);
        assert_eq!(listing.backup_histories[0].history.stop_lsn, crate::pg::Lsn(0x2000100));
        let unusable: Vec<_> = listing.unusable.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(unusable, ["000000010000000000000004", "000000010000000000000009", "00000004.history", "00000009.history"]);
        assert_eq!(listing.ignored, 3);
    }
}
