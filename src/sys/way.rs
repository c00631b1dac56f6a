//! The way that a path takes: from `/` component by component, with every directory and every link on it.
//!
//! `realpath(3)` tells where a path ends, not who could choose that end: a link does, and whoever can write the directory
//! that it stands in. What is told here is of the very files that were followed, each held open until the next was.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// As many links are followed as the kernel follows (`path_resolution(7)`).
const MOST_LINKS: usize = 40;

/// A file on the way.
#[derive(Debug, Clone)]
pub struct Passed {
    /// Its real path.
    pub path: PathBuf,
    /// What it is, and whose.
    pub stat: Stat,
}

impl Passed {
    /// It is a directory.
    pub fn is_dir(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }
}

/// A link that was followed.
#[derive(Debug, Clone)]
pub struct Link {
    /// The link itself.
    pub link: Passed,
    /// The directory that it stands in.
    pub directory: Passed,
}

/// The whole way.
#[derive(Debug, Clone)]
pub struct Way {
    /// Directories in which a name was looked up, in order; one may be there more than once.
    pub directories: Vec<Passed>,
    /// Links, in order.
    pub links: Vec<Link>,
    /// Where it ends: never a link, and its path is real.
    pub end: Passed,
}

/// Follows `path`, which is absolute. Errors are the system's; too many links are `ELOOP`.
pub fn follow(path: &Path) -> io::Result<Way> {
    if !path.is_absolute() {
        return Err(Errno::INVAL.into());
    }
    let mut ahead: VecDeque<OsString> = names(path).collect();
    let (mut directories, mut links) = (Vec::new(), Vec::new());
    let (root, mut end) = open(CWD, OsStr::new("/"), PathBuf::from("/"))?;
    let mut handle = root;
    // Those that `..` leads back to.
    let mut above: Vec<(OwnedFd, Passed)> = Vec::new();
    while let Some(name) = ahead.pop_front() {
        if !end.is_dir() {
            return Err(Errno::NOTDIR.into());
        }
        directories.push(end.clone());
        if name == ".." {
            if let Some(back) = above.pop() {
                (handle, end) = back;
            }
            continue;
        }
        let (next, passed) = open(&handle, &name, end.path.join(&name))?;
        if FileType::from_raw_mode(passed.stat.st_mode) != FileType::Symlink {
            above.push((std::mem::replace(&mut handle, next), std::mem::replace(&mut end, passed)));
            continue;
        }
        if links.len() == MOST_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = rustix::fs::readlinkat(&next, "", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        links.push(Link { link: passed, directory: end.clone() });
        if target.is_absolute() && !above.is_empty() {
            above.truncate(1);
            if let Some(top) = above.pop() {
                (handle, end) = top;
            }
        }
        ahead = names(&target).chain(ahead).collect();
    }
    Ok(Way { directories, links, end })
}

fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    let wanted = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().filter(wanted).map(|part| part.as_os_str().to_os_string())
}

fn open(directory: impl std::os::fd::AsFd, name: &OsStr, path: PathBuf) -> io::Result<(OwnedFd, Passed)> {
    let handle = rustix::fs::openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&handle)?;
    Ok((handle, Passed { path, stat }))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_way_ends_where_the_system_says() {
        let held = tempfile::tempdir_in("/var/tmp").unwrap();
        let at = |name: &str| held.path().join(name);
        fs::create_dir_all(at("a/b/c")).unwrap();
        fs::write(at("a/file"), "").unwrap();
        symlink("a/b", at("relative")).unwrap();
        symlink(at("relative/c"), at("absolute")).unwrap();
        symlink("../..", at("a/b/up")).unwrap();
        symlink("round", at("round")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        for name in ["a/b/c", "a/file", "relative", "absolute", "absolute/..", "relative/up/absolute", "relative/../b/./c", "a/b/up/a/file"]
        {
            assert_eq!(follow(&at(name)).unwrap().end.path, fs::canonicalize(at(name)).unwrap(), "{name}");
        }
        for name in ["round", "dangling", "missing/a", "a/file/x", "a/file/.."] {
            let system = fs::canonicalize(at(name)).unwrap_err();
            assert_eq!(follow(&at(name)).unwrap_err().raw_os_error(), system.raw_os_error(), "{name}");
        }
        for name in ["/", "/..", "/../../var", "/proc/self/exe/../x"] {
            let real = fs::canonicalize(name);
            assert_eq!(follow(Path::new(name)).map(|way| way.end.path).ok(), real.ok(), "{name}");
        }
        let way = follow(&at("absolute")).unwrap();
        let links: Vec<_> = way.links.iter().map(|l| (l.link.path.clone(), l.directory.path.clone())).collect();
        assert_eq!(links, [(at("absolute"), held.path().to_path_buf()), (at("relative"), held.path().to_path_buf())]);
        assert!(way.directories.iter().any(|d| d.path == at("a/b")) && way.end.is_dir());
        assert!(follow(Path::new("relative")).is_err());
    }
}
