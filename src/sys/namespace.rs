//! Namespaces of the private server: mounts, network and System V memory of its own.
//!
//! Nothing that is mounted in them is ever seen outside: that is proved before the first mount is made. What planning
//! probes is the very function that the start calls.
//!
//! In its mount namespace each tablespace location and an external pg_wal is the staged directory, so that replay, which
//! writes to locations by their paths (CREATE TABLESPACE, CREATE DATABASE), never reaches the cluster that serves
//! (pitfalls A1).

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
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
    make_mounts_private().map_err(|e| Error::failed("make the mounts of the private server private").cause(e))?;
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

/// Cuts every mount of this new namespace from the ones it was copied from: what is mounted here stays here.
///
/// That is asked of the mount at `/`. In a chroot, `/` need not be a mount point: the mount that holds it begins above,
/// out of reach, and the kernel says EINVAL. Binding the root onto itself would make it one, but that bind would itself
/// be seen by the host. So the namespace is entered once more, which leads to its own root (setns(2)), and then the
/// chroot is entered again.
fn make_mounts_private() -> rustix::io::Result<()> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    match mount_change("/", private) {
        Err(Errno::INVAL) => {}
        result => return result,
    }
    let open = |path, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    // Both are opened now, not before the namespace was made: they are to be the ones of this namespace and this thread.
    let chroot = open("/", OFlags::PATH | OFlags::DIRECTORY)?;
    let namespace = open("/proc/thread-self/ns/mnt", OFlags::RDONLY)?;
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Mount))?;
    let changed = mount_change("/", private);
    rustix::process::fchdir(&chroot)?;
    rustix::process::chroot(".")?;
    changed
}

/// Whether this host lets root do that at all, tried to the end in a thread of its own, so that nothing of the caller
/// changes: a new mount namespace has a root and a working directory of its own (unshare(2)).
pub fn probe() -> std::result::Result<(), String> {
    let tried = std::thread::spawn(|| {
        isolate(&[], 0).map(drop).map_err(|error| match error.cause {
            Some(cause) => format!("{}: {cause}", error.what),
            None => error.what,
        })
    });
    tried.join().unwrap_or_else(|_| Err("the probing thread died".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mount::{MountFlags, mount, mount_bind_recursive};

    /// In a chroot whose `/` is no mount point, on a host whose mounts are shared, as systemd makes them.
    #[test]
    fn in_a_chroot_no_mount_is_seen_outside() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().to_path_buf();
        let host = std::thread::spawn(move || {
            enter_chroot(&path);
            assert_eq!(mount_change("/", MountPropagationFlags::PRIVATE), Err(Errno::INVAL), "/ is a mount point: this shows nothing");
            let place = std::fs::metadata("/place").unwrap();

            std::thread::spawn(|| nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map(|()| mount_at("/leaks")))
                .join()
                .unwrap()
                .unwrap();
            assert!(mounted("/leaks"), "mounts are not shared: this shows nothing");
            std::thread::spawn(move || {
                isolate(&[], 0).unwrap();
                assert_eq!(
                    std::fs::metadata("/place").map(|m| device_and_inode(&m)).unwrap(),
                    device_and_inode(&place),
                    "the chroot was left"
                );
                mount_at("/place");
                assert!(mounted("/place"));
            })
            .join()
            .unwrap();
            assert!(!mounted("/place"), "the host sees it");
            assert!(std::fs::metadata("/place").is_ok() && probe().is_ok());
        });
        host.join().unwrap();
    }

    /// A mount namespace of this thread that plays the host's: everything shared, and a directory of it as root.
    fn enter_chroot(root: &std::path::Path) {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
        for name in ["proc", "place", "leaks"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        mount_bind_recursive("/proc", root.join("proc")).unwrap();
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::SHARED).unwrap();
        rustix::process::chroot(root).unwrap();
        rustix::process::chdir("/").unwrap();
    }

    fn mount_at(path: &str) {
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), None).unwrap();
    }

    fn mounted(path: &str) -> bool {
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        mounts.lines().any(|line| line.split(' ').nth(4) == Some(path))
    }

    fn device_and_inode(metadata: &std::fs::Metadata) -> (u64, u64) {
        use std::os::unix::fs::MetadataExt;
        (metadata.dev(), metadata.ino())
    }
}
