//! What is made beneath a [`Dir`]: it did not exist before, its mode is exact whatever the umask, and what has to survive a
//! power cut is synced.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{Dir, components, open_directory};
use crate::error::{At, Result};

impl Dir {
    /// Makes and opens a directory that did not exist.
    pub fn make_dir(&self, name: impl AsRef<Path>, mode: u32) -> Result<Dir> {
        let name = name.as_ref();
        let fd = self
            .walk(name, |dir, name| {
                rustix::fs::mkdirat(dir, name, Mode::RWXU)?;
                let fd = open_directory(dir, name)?;
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
                Ok(fd)
            })
            .at("make directory", self.join(name))?;
        Ok(Dir { fd, path: self.join(name) })
    }

    /// Opens `rel`, making each missing directory on the way with `mode`; those that exist keep theirs.
    pub fn make_dirs(&self, rel: impl AsRef<Path>, mode: u32) -> Result<Dir> {
        let rel = rel.as_ref();
        let made = || -> io::Result<OwnedFd> {
            let mut fd = self.fd.try_clone()?;
            for part in components(rel)? {
                fd = match rustix::fs::mkdirat(&fd, part, Mode::RWXU) {
                    Ok(()) => {
                        let made = open_directory(fd.as_fd(), part)?;
                        rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))?;
                        made
                    }
                    Err(Errno::EXIST) => open_directory(fd.as_fd(), part)?,
                    Err(e) => return Err(e.into()),
                };
            }
            Ok(fd)
        };
        let fd = made().at("make directory", self.join(rel))?;
        Ok(Dir { fd, path: self.join(rel) })
    }

    /// Creates a file that did not exist, open for writing (and reading back).
    pub fn create_file(&self, rel: impl AsRef<Path>, mode: u32) -> Result<File> {
        let rel = rel.as_ref();
        self.walk(rel, |dir, name| create(dir, name, mode)).at("create", self.join(rel))
    }

    /// Creates a symbolic link; `target` is stored as it is.
    pub fn make_link(&self, target: impl AsRef<Path>, rel: impl AsRef<Path>) -> Result<()> {
        let rel = rel.as_ref();
        self.walk(rel, |dir, name| Ok(rustix::fs::symlinkat(target.as_ref(), dir, name)?)).at("create link", self.join(rel))
    }

    /// Sets the permission bits of the directory itself.
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode)).at("change the mode of", &self.path)
    }

    /// Puts `bytes` at `rel` so that after a power cut either the old or the whole new content is there: a new file beside it is
    /// written and synced, renamed over it, and the directory synced.
    pub fn write_durable(&self, rel: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<()> {
        let rel = rel.as_ref();
        self.walk(rel, |dir, name| replace(dir, name, bytes, mode)).at("write", self.join(rel))
    }

    /// Makes names created, renamed and removed in this directory survive a power cut.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.fd).at("sync", &self.path)
    }

    /// Writes out everything of the filesystem that holds this directory. Reports write errors only since Linux 5.8.
    pub fn sync_filesystem(&self) -> Result<()> {
        rustix::fs::syncfs(&self.fd).at("sync the filesystem of", &self.path)
    }
}

fn create(dir: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
    if mode != 0o600 {
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
    }
    Ok(File::from(fd))
}

fn replace(dir: BorrowedFd<'_>, name: &OsStr, bytes: &[u8], mode: u32) -> io::Result<()> {
    // Numbered by process: two writers never share a temporary file.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let temporary = OsString::from(format!(".pitr-new-{}-{}", std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed)));
    let mut file = match create(dir, &temporary, mode) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            // Left by a process of the same number that died.
            rustix::fs::unlinkat(dir, &temporary, AtFlags::empty())?;
            create(dir, &temporary, mode)?
        }
        created => created?,
    };
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let renamed = written.and_then(|()| Ok(rustix::fs::renameat(dir, &temporary, dir, name)?));
    if let Err(e) = renamed {
        // The first error is the one to report; a temporary file that stays behind harms nobody.
        let _ = rustix::fs::unlinkat(dir, &temporary, AtFlags::empty());
        return Err(e);
    }
    Ok(rustix::fs::fsync(dir)?)
}
