//! Reading files that decide what root does.
//!
//! Guarantees: text is returned only from a regular file that belongs to root and that nobody else can write,
//! reached through directories of which the same holds (a sticky one may be writable, as /tmp is). Every component
//! is opened by descriptor and judged by that descriptor, so nothing can be exchanged between look and use. The last
//! component is never a link; links before it are resolved step by step and must belong to root.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{At, Error, Kind, Result};

/// More than this is no configuration, in bytes.
const LARGEST: u64 = 1 << 20;
/// As many links as the kernel follows (path_resolution(7)).
const MOST_LINKS: u32 = 40;

/// The file's text, or `None` where it or a directory of its path does not exist.
///
/// # Errors
/// [`Kind::Refused`] for a file or directory that others can write, a link or something that is no regular file;
/// [`Kind::Usage`] for text that is not UTF-8 or larger than 1 MiB; [`Kind::Failed`] for what the system refuses.
pub fn read(file: &Path) -> Result<Option<String>> {
    let path = std::path::absolute(file).at("resolve", file)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::usage(format!("{} is not a file", path.display())));
    };
    let Some(directory) = open_directory(parent)? else { return Ok(None) };
    // O_NONBLOCK: a named pipe must not hold us before it is refused.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(refused(&path, "it is a symbolic link").hint("Name the file itself.")),
        // A socket cannot be opened at all.
        Err(Errno::NXIO) => return Err(not_regular(&path)),
        Err(e) => return Err(e).at("open", &path),
    };
    let stat = rustix::fs::fstat(&opened).at("stat", &path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(not_regular(&path));
    }
    only_root_writes(&path, &stat, false)?;
    contents(File::from(opened), &path).map(Some)
}

/// The `*.toml` files of a directory by name, without hidden ones; none where the directory does not exist.
/// Errors as [`read`].
pub fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let path = std::path::absolute(directory).at("resolve", directory)?;
    let Some(opened) = open_directory(&path)? else { return Ok(Vec::new()) };
    let stat = rustix::fs::fstat(&opened).at("stat", &path)?;
    // Not even a sticky one: whatever stands in it is read.
    only_root_writes(&path, &stat, false)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&opened).at("read directory", &path)? {
        let name = entry.at("read directory", &path)?.file_name().to_bytes().to_vec();
        if name.ends_with(b".toml") && !name.starts_with(b".") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names.into_iter().map(|name| path.join(OsString::from_vec(name))).collect())
}

/// Walks from the root to `path`, every component judged. `None`: there is no such directory.
fn open_directory(path: &Path) -> Result<Option<OwnedFd>> {
    let mut here = open_root()?;
    let mut passed = PathBuf::from("/");
    let mut ahead: Vec<OsString> = names(path);
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        let place = passed.join(&name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = match rustix::fs::openat(&here, &name, flags, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e).at("open", &place),
        };
        let stat = rustix::fs::fstat(&next).at("stat", &place)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                only_root_writes(&place, &stat, true)?;
                (here, passed) = (next, place);
            }
            FileType::Symlink if stat.st_uid != 0 => return Err(refused(&place, owned_by(&stat)).hint(chown(&place))),
            FileType::Symlink if links == MOST_LINKS => return Err(refused(&place, "too many symbolic links")),
            FileType::Symlink => {
                links += 1;
                let target = rustix::fs::readlinkat(&next, "", Vec::new()).at("read link", &place)?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    (here, passed) = (open_root()?, PathBuf::from("/"));
                }
                ahead.extend(names(&target));
            }
            _ => return Err(refused(&place, "it is not a directory")),
        }
    }
    // A descriptor of O_PATH cannot be listed.
    rustix::fs::openat(&here, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at("open", &passed).map(Some)
}

fn open_root() -> Result<OwnedFd> {
    rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at("open", "/")
}

/// The components to walk, the next one last. `..` stays: it is opened like any other name.
fn names(path: &Path) -> Vec<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(part).collect()
}

fn only_root_writes(path: &Path, stat: &Stat, sticky_suffices: bool) -> Result<()> {
    if stat.st_uid != 0 {
        return Err(refused(path, owned_by(stat)).hint(chown(path)));
    }
    let sticky = sticky_suffices && stat.st_mode & 0o1000 != 0;
    // An access list that lets somebody write shows in the group's bit: it is the list's mask (acl(5)).
    if stat.st_mode & 0o022 != 0 && !sticky {
        let mode = stat.st_mode & 0o7777;
        let command = crate::plan::target::shell_word(&path.to_string_lossy());
        return Err(refused(path, format!("its mode is {mode:04o}")).hint(format!("Look at what it says, then: chmod go-w {command}")));
    }
    Ok(())
}

fn owned_by(stat: &Stat) -> String {
    format!("it belongs to user {}, not to root", stat.st_uid)
}

fn chown(path: &Path) -> String {
    format!("Look at what it says, then: chown -h root {}", crate::plan::target::shell_word(&path.to_string_lossy()))
}

fn not_regular(path: &Path) -> Error {
    refused(path, "it is not a regular file").hint("Put the configuration into a plain file.")
}

fn refused(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Refused, format!("configuration file others can write: {}", path.display())).cause(why)
}

fn contents(file: File, path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).at("read", path)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::usage(format!("configuration {} is larger than 1 MiB", path.display())));
    }
    String::from_utf8(bytes).map_err(|e| Error::usage(format!("configuration {} is not UTF-8", path.display())).cause(e.utf8_error()))
}
