//! Files by descriptor: everything below an opened [`Dir`] is reached component by component, without following a link.
//!
//! Guarantees: no function leaves the directory it was given (`..`, absolute paths and links are refused, not resolved); no function
//! blocks on a fifo or reads a device; what is created did not exist before; modes are exact whatever the umask; every error names
//! the full path. The owner of the directory may change it meanwhile: the worst that follows is an error. Here is how a directory is
//! opened and looked at; `dir_make` makes what is beneath, `dir_change` renames and removes it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::vault;
use crate::error::{At, Result};

/// An open directory, with the path it was opened by (for messages only; the descriptor is what counts).
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// What a name stands for; links are never looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A fifo, socket or device.
    Other,
}

pub use crate::host::Stamp;

/// `lstat` of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, including set-id and sticky (`07777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links.
    pub links: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content.
    pub modified: Stamp,
    /// Last change of the inode.
    pub changed: Stamp,
    /// Device number of the filesystem; not stable over a reboot.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, a single component.
    pub name: OsString,
    /// What it is.
    pub metadata: Metadata,
}

impl Entry {
    /// What the name stands for.
    pub fn kind(&self) -> Kind {
        self.metadata.kind
    }

    /// The name where it is UTF-8; PostgreSQL's own names always are.
    pub fn name_str(&self) -> Option<&str> {
        self.name.to_str()
    }
}

// Opening.
impl Dir {
    /// Opens the directory at `path`. Components before the last are resolved as usual; the last must not be a link.
    pub fn open(path: impl AsRef<Path>) -> Result<Dir> {
        // Components drop a trailing slash, with which the kernel would follow a final link.
        let path: PathBuf = path.as_ref().components().collect();
        let fd = rustix::fs::open(&path, OFlags::NOFOLLOW | DIRECTORY, Mode::empty()).map_err(refusal);
        let fd = or_ask(fd, || vault::directory(&path)).at("open directory", &path)?;
        Ok(Dir { fd, path })
    }

    /// Opens the directory at the absolute `path`, no component of which may be a link. Those above it need not be readable.
    pub fn open_real(path: impl AsRef<Path>) -> Result<Dir> {
        let path = path.as_ref();
        let opened = || -> io::Result<OwnedFd> {
            let mut parts = components(path.strip_prefix("/").unwrap_or(path))?;
            let last = parts.pop().unwrap_or(OsStr::new("."));
            let passing = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut held = rustix::fs::open("/", passing, Mode::empty())?;
            for part in parts {
                held = rustix::fs::openat(&held, part, passing, Mode::empty()).map_err(refusal)?;
            }
            open_directory(held.as_fd(), last)
        };
        Ok(Dir { fd: opened().at("open directory", path)?, path: path.to_path_buf() })
    }

    /// Takes over a descriptor of a directory, such as one that was passed by another process.
    pub fn from_fd(fd: OwnedFd, path: impl Into<PathBuf>) -> Result<Dir> {
        let dir = Dir { fd, path: path.into() };
        match dir.own_metadata()?.kind {
            Kind::Directory => Ok(dir),
            _ => Err(io::Error::from(Errno::NOTDIR)).at("use descriptor of", &dir.path),
        }
    }

    /// Opens a directory beneath this one; `.` is this one again.
    pub fn open_beneath(&self, rel: impl AsRef<Path>) -> Result<Dir> {
        let rel = rel.as_ref();
        let fd = or_ask(self.walk(rel, open_directory), || vault::directory(&self.join(rel))).at("open directory", self.path.join(rel))?;
        Ok(Dir { fd, path: self.join(rel) })
    }

    /// A second descriptor of the same directory.
    pub fn try_clone(&self) -> Result<Dir> {
        Ok(Dir { fd: self.fd.try_clone().at("duplicate the descriptor of", &self.path)?, path: self.path.clone() })
    }

    /// The path the directory was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of something beneath, for messages.
    pub fn join(&self, rel: impl AsRef<Path>) -> PathBuf {
        self.path.join(rel).components().collect()
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

// Looking.
impl Dir {
    /// Opens a regular file for reading. A fifo, socket or device is refused without blocking.
    pub fn open_file(&self, rel: impl AsRef<Path>) -> Result<File> {
        let rel = rel.as_ref();
        self.open_regular(rel).at("open", self.join(rel))
    }

    /// The content of a regular file of at most `max_bytes`.
    pub fn read_file(&self, rel: impl AsRef<Path>, max_bytes: u64) -> Result<Vec<u8>> {
        let rel = rel.as_ref();
        self.open_regular(rel).and_then(|file| read_bounded(file, max_bytes)).at("read", self.join(rel))
    }

    /// Like [`Dir::read_file`]; `None` where the file or a directory above it does not exist.
    pub fn read_file_if_exists(&self, rel: impl AsRef<Path>, max_bytes: u64) -> Result<Option<Vec<u8>>> {
        let rel = rel.as_ref();
        absent_is_none(self.open_regular(rel).and_then(|file| read_bounded(file, max_bytes))).at("read", self.join(rel))
    }

    /// `lstat` of a name beneath.
    pub fn metadata(&self, rel: impl AsRef<Path>) -> Result<Metadata> {
        let rel = rel.as_ref();
        self.stat(rel).at("examine", self.join(rel))
    }

    /// Like [`Dir::metadata`]; `None` where the name or a directory above it does not exist.
    pub fn metadata_if_exists(&self, rel: impl AsRef<Path>) -> Result<Option<Metadata>> {
        let rel = rel.as_ref();
        absent_is_none(self.stat(rel)).at("examine", self.join(rel))
    }

    /// `fstat` of the directory itself.
    pub fn own_metadata(&self) -> Result<Metadata> {
        rustix::fs::fstat(&self.fd).map(|stat| Metadata::from(&stat)).at("examine", &self.path)
    }

    /// Target of a symbolic link, as text; it is never followed.
    pub fn read_link(&self, rel: impl AsRef<Path>) -> Result<PathBuf> {
        let rel = rel.as_ref();
        let read = self.walk(rel, |dir, name| Ok(rustix::fs::readlinkat(dir, name, Vec::new())?));
        let text = read.map(|target| PathBuf::from(OsString::from_vec(target.into_bytes())));
        or_ask(text, || vault::link(&self.join(rel))).at("read link", self.join(rel))
    }

    /// Everything in the directory but `.` and `..`, sorted by name as bytes. What vanishes meanwhile is left out.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        or_ask(self.list(), || self.list_by_asking()).at("list", &self.path)
    }

    fn list_by_asking(&self) -> io::Result<Vec<Entry>> {
        let named = vault::list(&self.path)?.into_iter();
        Ok(named.map(|(name, metadata)| Entry { name: name.into(), metadata }).collect())
    }

    fn list(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for name in names(self.fd.as_fd())? {
            if let Some(metadata) = absent_is_none(self.stat(Path::new(&name)))? {
                entries.push(Entry { name, metadata });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn stat(&self, rel: &Path) -> io::Result<Metadata> {
        let stat = self.walk(rel, |dir, name| Ok(rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?));
        or_ask(stat.map(|stat| Metadata::from(&stat)), || {
            let path = self.join(rel);
            // A file tells it itself; what is none is told by the listing of its directory.
            match vault::file(&path) {
                Ok(file) => return Ok(Metadata::from(&rustix::fs::fstat(&file)?)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
                Err(_) => {}
            }
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::ACCESS.into()) };
            let found = vault::list(parent)?.into_iter().find(|(known, _)| OsStr::new(known) == name);
            found.map(|(_, metadata)| metadata).ok_or_else(|| Errno::NOENT.into())
        })
    }

    fn open_regular(&self, rel: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = self.walk(rel, |dir, name| rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(refusal));
        let fd = or_ask(fd, || vault::file(&self.join(rel)))?;
        let stat = rustix::fs::fstat(&fd)?;
        match Metadata::from(&stat).kind {
            Kind::File => Ok(File::from(fd)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        }
    }
}

// Paths beneath.
impl Dir {
    /// Opens the directory that holds `rel` without following a link and lets `act` work on the last component.
    fn walk<T>(&self, rel: &Path, act: impl FnOnce(BorrowedFd<'_>, &OsStr) -> io::Result<T>) -> io::Result<T> {
        let mut parts = components(rel)?;
        let last = parts.pop().unwrap_or(OsStr::new("."));
        let mut held: Option<OwnedFd> = None;
        for part in parts {
            let next = open_directory(held.as_ref().map_or(self.fd.as_fd(), OwnedFd::as_fd), part)?;
            held = Some(next);
        }
        act(held.as_ref().map_or(self.fd.as_fd(), OwnedFd::as_fd), last)
    }
}

/// The real path of what a configuration names, and whether it is a regular file. Links on the way are followed.
pub fn real_path(path: &Path) -> io::Result<(PathBuf, bool)> {
    or_ask(std::fs::canonicalize(path).map(|real| (real.is_file(), real)).map(|(file, real)| (real, file)), || vault::real(path))
}

/// What this process could not do for lack of permission, done by asking, if there is somebody to be asked.
fn or_ask<T>(tried: io::Result<T>, ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match tried {
        Err(error) if vault::is_worth_asking(&error) => ask(),
        other => other,
    }
}

/// A hostile path by its bytes: relative, no `..`; empty and `.` components say nothing and are dropped.
fn components(rel: &Path) -> io::Result<Vec<&OsStr>> {
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why.to_string()));
    let bytes = rel.as_os_str().as_bytes();
    if bytes.first() == Some(&b'/') {
        return refuse("an absolute path where a relative one is needed");
    }
    let parts: Vec<&OsStr> = bytes.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").map(OsStr::from_bytes).collect();
    if parts.iter().any(|p| *p == "..") {
        return refuse("the path contains ..");
    }
    Ok(parts)
}

fn single(name: &Path) -> io::Result<&OsStr> {
    match components(name)?.as_slice() {
        [one] if one.len() == name.as_os_str().len() => Ok(one),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a single name")),
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn open_directory(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    rustix::fs::openat(dir, name, OFlags::NOFOLLOW | DIRECTORY, Mode::empty()).map_err(|e| {
        // With O_DIRECTORY a link is reported as "not a directory"; say what it is.
        let link = || rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|s| Metadata::from(&s).kind == Kind::Link);
        if e == Errno::NOTDIR && link() { refusal(Errno::LOOP) } else { refusal(e) }
    })
}

/// The kernel's word for "this is a link and you said not to follow it" is misleading.
fn refusal(e: Errno) -> io::Error {
    if e == Errno::LOOP { io::Error::new(io::ErrorKind::InvalidInput, "a symbolic link, which is not followed") } else { e.into() }
}

fn read_bounded(file: File, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= max_bytes => Ok(bytes),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("larger than {max_bytes} bytes"))),
    }
}

fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_os_string();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

impl From<&rustix::fs::Stat> for Metadata {
    #[allow(clippy::unnecessary_cast, reason = "the field types differ between architectures")]
    fn from(stat: &rustix::fs::Stat) -> Metadata {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        Metadata {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: stat.st_nlink as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: Stamp { seconds: stat.st_mtime as i64, nanos: stat.st_mtime_nsec as u32 },
            changed: Stamp { seconds: stat.st_ctime as i64, nanos: stat.st_ctime_nsec as u32 },
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

#[path = "dir_change.rs"]
mod change;
#[path = "dir_make.rs"]
mod make;

#[cfg(test)]
#[path = "dir_tests.rs"]
mod tests;
