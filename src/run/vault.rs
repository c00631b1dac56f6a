//! Root's side of the vault: opens for the owner's child what the configuration names and only root may read.
//!
//! A confused deputy would be worse than none (pitfalls F3). Handed out is only a file beneath a directory that
//! `/etc/pitr` names, reached from `/` component by component without a link (those of the configured name itself are
//! followed where they are root's, in directories of root's), where each of them belongs to root and nobody else can
//! write it; a regular file with one name, called as WAL or as the archives of a backup are called, or whatever it is called
//! where it lies in a data directory among the backups: that is the cluster's own content.
//! Directories are handed out as names (`O_PATH`), and their listings without what could not be opened anyway.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};

use crate::error::{At, Error, Kind, Result};
use crate::plan::recovery::Trusted;
use crate::store::catalogue::is_backup_file;
use crate::store::index::Index;
use crate::store::layout::is_archived_wal_file;
use crate::sys::dir::{self, Dir, Metadata};
use crate::sys::passing::{receive_line, send_line};
use crate::sys::vault::{Ask, Reply};
use crate::sys::way::{self, Link, Way};

/// What a trusted place holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shelf {
    Wal,
    Backups,
}

/// The places that may be opened for the owner of one cluster.
#[derive(Debug, Clone, Default)]
pub struct Vault {
    /// What it holds, as it is named, where it really is.
    places: Vec<(Shelf, PathBuf, PathBuf)>,
    /// What was found out about WAL before.
    index: Option<Index>,
}

impl Vault {
    /// The places that the configuration names. One that does not exist, or that others than root can change, is none.
    pub fn of(trusted: &Trusted) -> Vault {
        let wal = trusted.wal.iter().map(|path| (Shelf::Wal, path));
        let named = wal.chain(trusted.backups.iter().map(|path| (Shelf::Backups, path)));
        let real = named.filter_map(|(shelf, path)| Some((shelf, path.clone(), roots_place(path)?)));
        Vault { places: real.collect(), index: None }
    }

    /// Entries of `index` are handed out too.
    #[must_use]
    pub fn with_index(self, index: Option<Index>) -> Vault {
        Vault { index, ..self }
    }

    /// Nothing may be opened.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.index.is_none()
    }

    /// Answers questions on `socket` until the other end closes it.
    pub fn serve(&self, socket: &UnixStream) {
        while let Ok(Some((line, _))) = receive_line(socket) {
            let (reply, descriptor) = match serde_json::from_str(&line) {
                Ok(question) => self.answer(&question),
                Err(error) => (Reply::Refused { why: error.to_string() }, None),
            };
            let Ok(text) = serde_json::to_string(&reply) else { return };
            if send_line(socket, &text, descriptor.as_ref().map(AsFd::as_fd)).is_err() {
                return;
            }
        }
    }

    fn answer(&self, question: &Ask) -> (Reply, Option<OwnedFd>) {
        let answered = match question {
            Ask::Real { path } => self.real(path).map(|reply| (reply, None)),
            Ask::Directory { path } => self.directory(path).map(|fd| (Reply::Passed, Some(fd))),
            Ask::List { path } => self.list(path).map(|entries| (Reply::Names { entries }, None)),
            Ask::Link { path } => self.link(path).map(|target| (Reply::Target { target }, None)),
            Ask::File { path } => self.file(path).map(|file| (Reply::Passed, Some(OwnedFd::from(file)))),
            Ask::Kept { path } => {
                let entry = self.index.as_ref().and_then(|index| index.entry(path));
                return entry.map_or((Reply::Missing, None), |file| (Reply::Passed, Some(OwnedFd::from(file))));
            }
        };
        answered.unwrap_or_else(|error| {
            if let Ask::File { path } | Ask::Directory { path } | Ask::Link { path } = question
                && self.is_missing(path)
            {
                return (Reply::Missing, None);
            }
            log::debug!("not opened for the owner: {error}");
            (Reply::Refused { why: error.to_string() }, None)
        })
    }

    fn real(&self, named: &Path) -> Result<Reply> {
        let place = self.places.iter().find(|(_, name, real)| name == named || real == named);
        let (_, _, real) = place.ok_or_else(|| refused(named, "the configuration does not name it"))?;
        let parent = real.parent().map_or_else(|| Ok(None), |parent| walk(parent).map(Some))?;
        let (Some(parent), Some(name)) = (parent, real.file_name()) else { return Err(refused(named, "it is the root directory")) };
        let stat = rustix::fs::statat(&parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).at("examine", real)?;
        Ok(Reply::Real { path: real.clone(), file: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile })
    }

    /// The same path without the links that the configuration itself names.
    fn real_of(&self, path: &Path) -> PathBuf {
        let below = |(_, named, real): &(Shelf, PathBuf, PathBuf)| {
            let rest = path.strip_prefix(named).ok()?;
            Some(if rest.as_os_str().is_empty() { real.clone() } else { real.join(rest) })
        };
        self.places.iter().find_map(below).unwrap_or_else(|| path.to_path_buf())
    }

    fn directory(&self, path: &Path) -> Result<OwnedFd> {
        let path = &self.real_of(path);
        let named = self.places.iter().any(|(shelf, _, real)| has_directory(*shelf, real, path));
        if !named && !self.in_a_plain_backup(path) {
            return Err(outside(path));
        }
        walk(path)
    }

    /// The text of a link in a data directory among the backups. Where it leads is not followed.
    fn link(&self, path: &Path) -> Result<PathBuf> {
        let path = &self.real_of(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(outside(path)) };
        if !self.in_a_plain_backup(path) {
            return Err(outside(path));
        }
        let target = rustix::fs::readlinkat(walk(parent)?, name, Vec::new()).at("read link", path)?;
        Ok(PathBuf::from(OsStr::from_bytes(target.to_bytes())))
    }

    /// The path is, or lies in, a data directory that is a place of backups or stands directly in one.
    fn in_a_plain_backup(&self, path: &Path) -> bool {
        let of_place = |(shelf, _, real): &(Shelf, PathBuf, PathBuf)| {
            let Ok(rest) = path.strip_prefix(real) else { return false };
            let inside = rest.components().next().map(|first| real.join(first));
            *shelf == Shelf::Backups && std::iter::once(real.clone()).chain(inside).any(|directory| is_data_directory(&directory))
        };
        is_plain(path) && self.places.iter().any(of_place)
    }

    fn list(&self, path: &Path) -> Result<Vec<(String, Metadata)>> {
        let path = &self.real_of(path);
        let opened = self.directory(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = rustix::fs::openat(&opened, ".", flags, Mode::empty()).at("open", path)?;
        let entries = Dir::from_fd(readable, path)?.entries()?;
        let all = self.in_a_plain_backup(path);
        let shown = |entry: &dir::Entry| {
            let inside = path.join(&entry.name);
            let telling = entry.name == "PG_VERSION" || entry.name == "global";
            let backups = self.places.iter().any(|(shelf, _, real)| *shelf == Shelf::Backups && has_directory(*shelf, real, path));
            all || self.holds(&inside) || (backups && (telling || entry.kind() == dir::Kind::Directory))
        };
        Ok(entries.into_iter().filter(shown).filter_map(|e| Some((e.name.to_str()?.to_string(), e.metadata))).collect())
    }

    /// Opens a file for reading, if it is one that may be handed out.
    pub fn file(&self, path: &Path) -> Result<File> {
        let path = &self.real_of(path);
        if !self.holds(path) {
            return Err(outside(path));
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(outside(path)) };
        let parent = walk(parent)?;
        // First only a handle: opening a fifo or a device would already be an act.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&parent, name, flags, Mode::empty()).at("open", path)?;
        let stat = rustix::fs::fstat(&handle).at("examine", path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(refused(path, "not a regular file"));
        }
        if stat.st_nlink != 1 {
            return Err(refused(path, "it has another name elsewhere"));
        }
        let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(format!("/proc/self/fd/{}", handle.as_raw_fd()), flags, Mode::empty()).at("open", path)?;
        Ok(File::from(opened))
    }

    /// Nothing stands there, which is told of what could be handed out.
    fn is_missing(&self, path: &Path) -> bool {
        let path = &self.real_of(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return false };
        let look = |parent: OwnedFd| rustix::fs::statat(parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        let absent = |parent: OwnedFd| look(parent).is_err_and(|errno| errno == rustix::io::Errno::NOENT);
        self.holds(path) && walk(parent).is_ok_and(absent)
    }

    /// The path lies in a trusted place and has a name that is expected there.
    fn holds(&self, path: &Path) -> bool {
        let named = is_plain(path) && self.places.iter().any(|(shelf, _, real)| has_file(*shelf, real, path));
        named || self.in_a_plain_backup(path)
    }
}

/// Directories: the place itself, and for backups those directly in it.
fn has_directory(shelf: Shelf, real: &Path, path: &Path) -> bool {
    is_plain(path) && (path == real || (shelf == Shelf::Backups && path.parent() == Some(real)))
}

/// A data directory by its content, in root's hands: what `store::catalogue` takes for one.
fn is_data_directory(path: &Path) -> bool {
    let Ok(opened) = walk(path) else { return false };
    let is = |name: &str, kind: FileType| {
        let stat = rustix::fs::statat(&opened, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| stat.st_uid == 0 && FileType::from_raw_mode(stat.st_mode) == kind)
    };
    is("PG_VERSION", FileType::RegularFile) && is("global", FileType::Directory)
}

fn has_file(shelf: Shelf, real: &Path, path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let depth = path.strip_prefix(real).map_or(usize::MAX, |rel| rel.components().count());
    match shelf {
        Shelf::Wal => depth == 1 && is_archived_wal_file(name),
        // A place may be a tarball itself.
        Shelf::Backups => depth <= 2 && is_backup_file(name),
    }
}

/// Absolute, and every component a plain name.
fn is_plain(path: &Path) -> bool {
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir)
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !path.as_os_str().as_bytes().contains(&0)
}

/// Where a configured path really leads, if nobody but root chose that.
fn roots_place(path: &Path) -> Option<PathBuf> {
    let judged = way::follow(path).at("follow", path).and_then(|way| roots_choice(&way).map(|()| way.end.path));
    judged.inspect_err(|error| log::debug!("not a place of root's: {error}")).ok()
}

/// Only root can have chosen where the way leads. A link has to stand in a directory that only root can write: into a
/// sticky one everybody can move a link of root's from elsewhere.
fn roots_choice(way: &Way) -> Result<()> {
    for passed in &way.directories {
        roots_own(&passed.path, &passed.stat, true)?;
    }
    for Link { link, directory } in &way.links {
        roots_own(&directory.path, &directory.stat, false)?;
        if link.stat.st_uid != 0 {
            return Err(refused(&link.path, format!("the link belongs to uid {}", link.stat.st_uid)));
        }
    }
    Ok(())
}

/// A handle on a directory, reached from `/` without a link through directories that only root can change. On the way a
/// sticky directory is as good: nobody renames in it what is root's.
fn walk(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here = rustix::fs::openat(CWD, "/", flags, Mode::empty()).at("open", "/")?;
    let mut passed = PathBuf::from("/");
    let names: Vec<&OsStr> =
        path.components().filter_map(|part| if let Component::Normal(name) = part { Some(name) } else { None }).collect();
    roots_own(&passed, &rustix::fs::fstat(&here).at("examine", &passed)?, !names.is_empty())?;
    for (number, name) in names.iter().enumerate() {
        passed.push(name);
        here = rustix::fs::openat(&here, *name, flags, Mode::empty()).at("open", &passed)?;
        roots_own(&passed, &rustix::fs::fstat(&here).at("examine", &passed)?, number + 1 < names.len())?;
    }
    Ok(here)
}

fn roots_own(path: &Path, stat: &Stat, sticky_suffices: bool) -> Result<()> {
    let sticky = sticky_suffices && stat.st_mode & 0o1000 != 0;
    if stat.st_uid == 0 && (stat.st_mode & 0o022 == 0 || sticky) {
        return Ok(());
    }
    Err(refused(path, format!("others than root can change it (owner {}, mode {:o})", stat.st_uid, stat.st_mode & 0o7777)))
}

fn outside(path: &Path) -> Error {
    refused(path, "it is no WAL or backup in a directory that the configuration names")
}

fn refused(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Refused, format!("{} is not opened for the cluster's owner", path.display())).cause(why)
}

#[cfg(test)]
#[path = "vault_tests.rs"]
mod tests;
