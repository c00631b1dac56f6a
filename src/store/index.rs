//! What was found out about WAL files before: `<state>/index/<uid>/<directory>/<file>`, their summaries, and digests of what
//! they hold.
//!
//! An entry is made by the owner's child from bytes that the owner controls or that root opened for it, and is read by a
//! child of the same owner. Root alone writes it down and opens it: nobody learns from it what he may not read himself.
//! Guarantees: an entry is used only for the file it was made of (path, inode, size, times to the nanosecond), whole
//! (checksum) and by the version that made it; anything else is as if it were not there. Deleting entries loses nothing.
//! A restore's own proof does not use them.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{At, Result};
use crate::host::{Owner, Stamp};
use crate::sys::dir::{Dir, Kind, Metadata};
use crate::sys::vault;
use crate::wal::packed::{Packed, VERSION};

/// Nothing larger is kept or read.
const LARGEST: usize = 64 << 20;
/// A file that changed so recently could change again without a new time.
const SETTLED: Duration = Duration::from_secs(2);
const MAGIC: &[u8; 8] = b"pitr-sum";
/// Magic, version, checksum, lengths of the key and of the first part.
const HEADER: usize = 24;

/// The file that a summary was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Directory, by the name it is listed under, and file.
    pub path: PathBuf,
    /// Inode number.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Last change of the content.
    pub modified: Stamp,
    /// Last change of the inode.
    pub changed: Stamp,
}

impl Key {
    /// The key of a file that was looked at.
    pub fn new(path: PathBuf, metadata: &Metadata) -> Key {
        let Metadata { inode, size, modified, changed, .. } = *metadata;
        Key { path, inode, size, modified, changed }
    }

    /// Whether a further change would show in its times: not that of a file that changed just now.
    pub fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let last = self.modified.max(self.changed).seconds;
        i64::try_from(now.saturating_sub(SETTLED).as_secs()).is_ok_and(|border| last < border)
    }
}

/// An entry's bytes; `None` for what is too large to be kept.
pub fn encode(key: &Key, packed: &Packed) -> Option<Vec<u8>> {
    let key = serde_json::to_vec(key).ok()?;
    let length = HEADER + key.len() + packed.front.len() + packed.rest.len();
    if length > LARGEST {
        return None;
    }
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&u32::try_from(key.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(packed.front.len()).ok()?.to_le_bytes());
    for part in [&key, &packed.front, &packed.rest] {
        bytes.extend_from_slice(part);
    }
    let sum = crc32c::crc32c(bytes.get(16..)?);
    bytes.get_mut(12..16)?.copy_from_slice(&sum.to_le_bytes());
    Some(bytes)
}

/// What an entry holds, if it is whole and `key`'s.
pub fn decode(bytes: &[u8], key: &Key) -> Option<Packed> {
    let number = |at: usize| bytes.get(at..at + 4)?.first_chunk::<4>().map(|b| u32::from_le_bytes(*b));
    if bytes.get(..8)? != MAGIC || number(8)? != VERSION || number(12)? != crc32c::crc32c(bytes.get(16..)?) {
        return None;
    }
    let (key_bytes, rest) = bytes.get(HEADER..)?.split_at_checked(number(16)? as usize)?;
    let (front, rest) = rest.split_at_checked(number(20)? as usize)?;
    let found: Key = serde_json::from_slice(key_bytes).ok()?;
    (found == *key).then(|| Packed { front: front.to_vec(), rest: rest.to_vec() })
}

/// What an entry tells of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The summary of a segment.
    Summary,
    /// A digest of the content, unpacked.
    Content,
}

impl Entry {
    const ALL: [Entry; 2] = [Entry::Summary, Entry::Content];

    /// The directory of entries for a directory of WAL.
    fn room(self, directory: &Path) -> String {
        let named = hex::encode(Sha256::digest(directory.as_os_str().as_bytes()));
        let room: String = named.chars().take(32).collect();
        match self {
            Entry::Summary => room,
            Entry::Content => room + "-content",
        }
    }

    fn path(self, directory: &Path, file: &str) -> PathBuf {
        Path::new(&self.room(directory)).join(file)
    }
}

/// The entry of `file` in the WAL directory `directory`, for the owner's child: root opens it.
pub fn look_up(entry: Entry, directory: &Path, file: &str, key: &Key) -> Option<Packed> {
    let opened = vault::kept(&entry.path(directory, file)).ok()?;
    let mut bytes = Vec::new();
    File::from(opened).take(LARGEST as u64).read_to_end(&mut bytes).ok()?;
    decode(&bytes, key)
}

/// What is kept for one owner, for the coordinator.
#[derive(Debug, Clone)]
pub struct Index {
    root: PathBuf,
}

impl Index {
    /// The index of `owner`, which is made if it is missing.
    pub fn open(state: &Path, owner: &Owner) -> Result<Index> {
        let all = state.join("index");
        DirBuilder::new().recursive(true).mode(0o711).create(state).at("make", state)?;
        make_private(&all)?;
        let root = all.join(owner.uid.to_string());
        make_private(&root)?;
        Ok(Index { root })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the entry that a child asks for by its path in the index; `None` where there is none.
    pub fn entry(&self, path: &Path) -> Option<File> {
        let index = Dir::open(&self.root).ok()?;
        index.open_file(path).ok()
    }

    /// Writes an entry down as it came. One that is torn by a crash is not whole, and made again.
    pub fn keep(&self, entry: Entry, directory: &Path, file: &str, bytes: &[u8]) -> Result<()> {
        if bytes.len() > LARGEST || file.contains('/') || file.starts_with('.') {
            return Ok(());
        }
        let room = self.root.join(entry.room(directory));
        make_private(&room)?;
        let fresh = room.join(format!(".{file}.{}", std::process::id()));
        let _ = fs::remove_file(&fresh);
        let mut options = fs::OpenOptions::new();
        let mut opened = options.write(true).create_new(true).mode(0o600).open(&fresh).at("make", &fresh)?;
        opened.write_all(bytes).at("write", &fresh)?;
        fs::rename(&fresh, room.join(file)).at("rename", &fresh)
    }

    /// Removes the entries of files that are no longer in `directory`.
    pub fn prune(&self, directory: &Path, is_there: impl Fn(&str) -> bool) -> Result<()> {
        for kind in Entry::ALL {
            let Ok(dir) = Dir::open(self.root.join(kind.room(directory))) else { continue };
            for entry in dir.entries()?.iter().filter(|entry| entry.kind() == Kind::File) {
                if !entry.name_str().is_some_and(&is_there) {
                    dir.unlink_if_exists(&entry.name)?;
                }
            }
        }
        Ok(())
    }
}

/// Root's alone, also where an earlier version let the owner in.
fn make_private(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e).at("make", path),
        _ => {}
    }
    let mode = fs::symlink_metadata(path).at("examine", path)?.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).at("set mode of", path)?;
    }
    Ok(())
}
