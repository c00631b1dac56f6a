//! Namespaces of the private server: mounts, network and System V memory of its own.
//!
//! In its mount namespace each tablespace location and an external pg_wal is the staged directory, so that replay, which
//! writes to locations by their paths (CREATE TABLESPACE, CREATE DATABASE), never reaches the cluster that serves
//! (pitfalls A1).

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount};
use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};
use crate::sys::dir::{Dir, Metadata};

/// One directory that stands at another path inside the private server's mount namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// The staged directory, a real path.
    pub from: PathBuf,
    /// Where it stands, a real path.
    pub to: PathBuf,
    /// Paths by which PostgreSQL knows `to`: each must lead to `from` then.
    pub called: Vec<PathBuf>,
}

/// Leaves the host's namespaces: no mount made here is seen outside, no packet leaves (not even loopback is
/// up), no System V segment is shared. Needs CAP_SYS_ADMIN.
///
/// Both ends of each bind are opened without following any link and must be directories of user `uid`: whoever owns
/// the place could put the same content there by hand (pitfalls F2). Binds are nosuid and nodev.
///
/// Returns what [`prove`] compares.
pub fn isolate(binds: &[Bind], uid: u32) -> Result<Vec<Identity>> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_NEWNET | nix::sched::CloneFlags::CLONE_NEWIPC)
        .map_err(|e| Error::failed("make namespaces for the private server").cause(e).hint("A container needs CAP_SYS_ADMIN for this."))?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(|e| Error::failed("make mounts private").cause(e))?;
    // All ends are opened before the first mount: none is looked for below another bind.
    let ends: Vec<(OwnedFd, OwnedFd, &Bind)> =
        binds.iter().map(|b| Ok((directory_of(uid, &b.from)?, directory_of(uid, &b.to)?, b))).collect::<Result<_>>()?;
    ends.iter().map(|(from, to, bind)| put(from, to, bind)).collect()
}

/// Device and inode of a directory, in this boot.
pub type Identity = (u64, u64);

/// As the owner, after [`isolate`]: every path that PostgreSQL will take leads to the staged directory, which may itself
/// be hidden by now, below the place that it stands at.
pub fn prove(binds: &[Bind], staged: &[Identity]) -> Result<()> {
    for (bind, staged) in binds.iter().zip(staged) {
        for path in bind.called.iter().chain([&bind.to]) {
            let seen = std::fs::metadata(path).at("look at", path)?;
            if (seen.dev(), seen.ino()) != *staged {
                return Err(Error::failed(format!("{} does not lead to {}", path.display(), bind.from.display()))
                    .cause("the private server would write into the cluster that serves"));
            }
        }
    }
    Ok(())
}

fn put(from: &OwnedFd, to: &OwnedFd, bind: &Bind) -> Result<Identity> {
    let magic = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    mount_bind(magic(from), magic(to)).at(&format!("bind {} onto", bind.from.display()), &bind.to)?;
    // What is mounted now is opened anew: the old descriptor is of what lies below it.
    let mounted = open_real(&bind.to)?;
    let staged = identity(from)?;
    if identity(&mounted)? != staged {
        return Err(Error::failed(format!("{} is not what was bound onto {}", bind.from.display(), bind.to.display())));
    }
    mount_change(magic(&mounted), MountPropagationFlags::PRIVATE).at("make private", &bind.to)?;
    mount_remount(magic(&mounted), MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV, c"").at("restrict", &bind.to)?;
    Ok(staged)
}

fn directory_of(uid: u32, path: &Path) -> Result<OwnedFd> {
    let opened = open_real(path)?;
    let metadata = rustix::fs::fstat(&opened).map(|stat| Metadata::from(&stat)).at("look at", path)?;
    if metadata.uid != uid {
        return Err(Error::failed(format!("{} does not belong to the cluster's owner", path.display())));
    }
    Ok(opened)
}

/// A directory by its absolute path, no component a link.
fn open_real(path: &Path) -> Result<OwnedFd> {
    let parent = Dir::open_real(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().ok_or_else(|| Error::failed(format!("{} is no place for a bind", path.display())))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&parent, name, flags, Mode::empty()).at("open directory", path)
}

fn identity(fd: &OwnedFd) -> Result<Identity> {
    let stat = rustix::fs::fstat(fd).map_err(|e| Error::failed("look at a bound directory").cause(e))?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Whether this host lets root make such namespaces at all, tried in a thread of its own so that nothing
/// of the caller changes.
pub fn probe() -> std::result::Result<(), String> {
    let tried = std::thread::spawn(|| {
        nix::sched::unshare(
            nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_NEWNET | nix::sched::CloneFlags::CLONE_NEWIPC,
        )
        .map_err(|e| e.to_string())
    });
    tried.join().unwrap_or_else(|_| Err("the probing thread died".into()))
}
