//! Names beneath a [`Dir`] that change or go: a rename says whether the filesystem knows its flags, a removal follows no link
//! and stays on the filesystem where it began.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, RenameFlags, StatxFlags};
use rustix::io::Errno;

use super::{Dir, Kind, absent_is_none, names, open_directory, single};
use crate::error::{At, Error, Result};

/// Levels that [`Dir::remove_tree`] descends; each holds a descriptor. PostgreSQL needs five.
pub(super) const DEEPEST: usize = 128;

impl Dir {
    /// Renames `from` here to `to` in `other`, replacing a file that is there.
    pub fn rename(&self, from: impl AsRef<Path>, other: &Dir, to: impl AsRef<Path>) -> Result<()> {
        self.rename_with(from.as_ref(), other, to.as_ref(), RenameFlags::empty(), "rename")
    }

    /// Renames `from` here to `to` in `other`; fails where that exists. On a filesystem that cannot do both in one step,
    /// it is looked first.
    pub fn rename_noreplace(&self, from: impl AsRef<Path>, other: &Dir, to: impl AsRef<Path>) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        if self.rename_known(from, other, to, RenameFlags::NOREPLACE, "rename")? {
            return Ok(());
        }
        match other.metadata_if_exists(to)? {
            Some(_) => Err(io::Error::from(Errno::EXIST)).at(&format!("rename {} to", self.join(from).display()), other.join(to)),
            None => self.rename(from, other, to),
        }
    }

    /// Lets two names change places in one step (`RENAME_EXCHANGE`); both must exist, on one filesystem.
    pub fn exchange(&self, name: impl AsRef<Path>, other: &Dir, with: impl AsRef<Path>) -> Result<()> {
        match self.try_exchange(name.as_ref(), other, with.as_ref())? {
            true => Ok(()),
            false => Err(io::Error::from(Errno::INVAL))
                .at(&format!("exchange {} with", self.join(name.as_ref()).display()), other.join(with.as_ref())),
        }
    }

    /// Like [`Dir::exchange`]; `false` where the filesystem cannot do it at all, and nothing was done.
    pub fn try_exchange(&self, name: impl AsRef<Path>, other: &Dir, with: impl AsRef<Path>) -> Result<bool> {
        self.rename_known(name.as_ref(), other, with.as_ref(), RenameFlags::EXCHANGE, "exchange")
    }

    fn rename_with(&self, from: &Path, other: &Dir, to: &Path, flags: RenameFlags, act: &str) -> Result<()> {
        self.renamed(from, other, to, flags).at(&words(act, &self.join(from)), other.join(to))
    }

    /// `false` where the filesystem does not know the flags (renameat2(2): EINVAL, ENOSYS).
    fn rename_known(&self, from: &Path, other: &Dir, to: &Path, flags: RenameFlags, act: &str) -> Result<bool> {
        match self.renamed(from, other, to, flags) {
            Ok(()) => Ok(true),
            Err(e) if [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP].map(|e| Some(e.raw_os_error())).contains(&e.raw_os_error()) => {
                Ok(false)
            }
            Err(e) => Err(e).at(&words(act, &self.join(from)), other.join(to)),
        }
    }

    fn renamed(&self, from: &Path, other: &Dir, to: &Path, flags: RenameFlags) -> io::Result<()> {
        let (from, to) = (single(from)?, single(to)?);
        if flags.is_empty() {
            // Plain renameat also works where a filesystem does not know renameat2.
            rustix::fs::renameat(&self.fd, from, &other.fd, to)?;
        } else {
            rustix::fs::renameat_with(&self.fd, from, &other.fd, to, flags)?;
        }
        Ok(())
    }

    /// Removes a name that is not a directory; of a link, the link.
    pub fn unlink(&self, name: impl AsRef<Path>) -> Result<()> {
        let name = name.as_ref();
        self.walk(name, |dir, name| Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?)).at("remove", self.join(name))
    }

    /// Like [`Dir::unlink`]; says whether there was something to remove.
    pub fn unlink_if_exists(&self, name: impl AsRef<Path>) -> Result<bool> {
        let name = name.as_ref();
        let removed = self.walk(name, |dir, name| Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?));
        absent_is_none(removed).map(|done| done.is_some()).at("remove", self.join(name))
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, name: impl AsRef<Path>) -> Result<()> {
        let name = name.as_ref();
        self.walk(name, |dir, name| Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)).at("remove directory", self.join(name))
    }

    /// Removes a name in this directory with everything beneath it. Links are removed, never followed. A mount point beneath is an
    /// error and nothing in it is touched: what is mounted there is somebody's data.
    pub fn remove_tree(&self, name: impl AsRef<Path>) -> Result<()> {
        let name = name.as_ref();
        let place = Place::of(self.fd.as_fd()).at("examine", &self.path)?;
        single(name).at("remove", self.join(name)).and_then(|single| self.remove_below(single, place, DEEPEST))
    }

    fn remove_below(&self, name: &OsStr, place: Place, depth: usize) -> Result<()> {
        let path = self.join(name);
        match self.stat(Path::new(name)).at("examine", &path)?.kind {
            Kind::Directory => {}
            _ => return rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()).at("remove", &path),
        }
        let fd = open_directory(self.fd.as_fd(), name).at("open directory", &path)?;
        if Place::of(fd.as_fd()).at("examine", &path)? != place {
            return Err(Error::failed(format!("remove {}", path.display())).cause("another filesystem is mounted there"));
        }
        let Some(deeper) = depth.checked_sub(1) else {
            return Err(Error::failed(format!("remove {}", path.display())).cause("nested too deeply for a data directory"));
        };
        let inner = Dir { fd, path };
        for child in names(inner.fd.as_fd()).at("list", &inner.path)? {
            inner.remove_below(&child, place, deeper)?;
        }
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR).at("remove directory", &inner.path)
    }
}

fn words(act: &str, from: &Path) -> String {
    let joint = if act == "exchange" { "with" } else { "to" };
    format!("{act} {} {joint}", from.display())
}

/// Where a directory is mounted. The device alone does not tell a bind mount of the same filesystem apart; the mount id
/// (Linux 5.8) does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    device: u64,
    mount: Option<u64>,
}

impl Place {
    fn of(fd: BorrowedFd<'_>) -> io::Result<Place> {
        let device = rustix::fs::fstat(fd)?.st_dev;
        let mount = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .ok()
            .filter(|s| StatxFlags::from_bits_retain(s.stx_mask).contains(StatxFlags::MNT_ID))
            .map(|s| s.stx_mnt_id);
        Ok(Place { device, mount })
    }
}
