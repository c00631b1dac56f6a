//! Locks that die with their holders.
//!
//! `flock` belongs to the open file, not to a process: a child that is sent the descriptor holds the lock too, until the
//! last of them is gone. That is how a `resume` knows that no child of a killed run is still at work. Whoever has the
//! descriptor can also give the lock back for all (`LOCK_UN`) or keep it for ever: it goes to this program only, never
//! through an exec.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::{At, Error, Kind, Result};

/// An exclusive lock on a file of the state directory.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock or says at once that another holds it ([`Kind::Locked`]).
    pub fn take(path: &Path) -> Result<Lock> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)
            .at("open lock", path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock { file }),
            Err(Errno::WOULDBLOCK) => Err(Error::new(Kind::Locked, format!("another process holds {}", path.display()))),
            Err(e) => Err(e).at("lock", path),
        }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
