//! Locks that die with their holders.
//!
//! `flock` belongs to the open file, not to a process: a child that inherits the descriptor holds the lock too,
//! until the last of them is gone. That is how a `resume` knows that nothing of a killed run is still at work.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::{At, Error, Kind, Result};

/// An exclusive lock on a file of the state directory.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
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
            Ok(()) => Ok(Lock { file, path: path.to_path_buf() }),
            Err(Errno::WOULDBLOCK) => Err(Error::new(Kind::Locked, format!("another process holds {}", path.display()))),
            Err(e) => Err(e).at("lock", path),
        }
    }

    /// A copy of the descriptor that a child inherits (no close-on-exec); keep it only around one spawn.
    pub fn for_child(&self) -> Result<OwnedFd> {
        rustix::io::dup(self.file.as_fd()).at("duplicate lock", &self.path)
    }

    /// Inode and device of the lock file, to find who else has it open.
    pub fn identity(path: &Path) -> Result<(u64, u64)> {
        let meta = std::fs::symlink_metadata(path).at("look at lock", path)?;
        Ok((meta.dev(), meta.ino()))
    }
}
