//! Namespaces of the private server: mounts, network and System V memory of its own.
//!
//! Nothing that is mounted in them is ever seen outside: that is proved before the first mount is made. What planning
//! probes is the very function that the start calls.

use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One directory that stands at another path inside the private server's mount namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// The staged directory.
    pub from: PathBuf,
    /// Where PostgreSQL expects it.
    pub to: PathBuf,
}

/// Leaves the host's namespaces: no mount made here is seen outside, no packet leaves (not even loopback is
/// up), no System V segment is shared. Needs CAP_SYS_ADMIN.
///
/// Binds are refused for now: a cluster with tablespaces outside PGDATA is refused when planning.
pub fn isolate(binds: &[Bind]) -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_NEWNET | nix::sched::CloneFlags::CLONE_NEWIPC)
        .map_err(|e| Error::failed("make namespaces for the private server").cause(e).hint("A container needs CAP_SYS_ADMIN for this."))?;
    make_mounts_private().map_err(|e| Error::failed("make the mounts of the private server private").cause(e))?;
    if let Some(bind) = binds.first() {
        return Err(Error::failed(format!("bind {} onto {}", bind.from.display(), bind.to.display())).cause("not built yet"));
    }
    Ok(())
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
        isolate(&[]).map_err(|error| match error.cause {
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
                isolate(&[]).unwrap();
                assert_eq!(std::fs::metadata("/place").map(|m| identity(&m)).unwrap(), identity(&place), "the chroot was left");
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

    fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
        use std::os::unix::fs::MetadataExt;
        (metadata.dev(), metadata.ino())
    }
}
