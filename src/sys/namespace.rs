//! Namespaces of the private server: mounts, network and System V memory of its own.

use std::path::PathBuf;

use rustix::mount::{MountPropagationFlags, mount_change};
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
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(|e| Error::failed("make mounts private").cause(e))?;
    if let Some(bind) = binds.first() {
        return Err(Error::failed(format!("bind {} onto {}", bind.from.display(), bind.to.display())).cause("not built yet"));
    }
    Ok(())
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
