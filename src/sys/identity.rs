//! Who owns a cluster, and how a process of ours becomes that user for good.

use nix::unistd::{Gid, Uid, User};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use crate::host::Owner;

impl Owner {
    /// Looks up user `uid` with its groups. Done before any mount namespace exists, so that a forged
    /// `/etc/group` in one can never be what is read (pitfalls F2).
    pub fn lookup(uid: u32) -> Result<Owner> {
        if uid == 0 {
            return Err(Error::failed("the data directory belongs to root")
                .hint("PostgreSQL never runs as root: give the directory to its user first."));
        }
        let user = User::from_uid(Uid::from_raw(uid))
            .map_err(|e| Error::failed(format!("look up user {uid}")).cause(e))?
            .ok_or_else(|| Error::failed(format!("no user has the id {uid} that owns the data directory")))?;
        let name = std::ffi::CString::new(user.name.as_bytes()).map_err(|e| Error::failed("user name").cause(e))?;
        let groups = nix::unistd::getgrouplist(&name, user.gid).map_err(|e| Error::failed(format!("groups of {}", user.name)).cause(e))?;
        Ok(Owner {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            home: user.dir,
            name: user.name,
        })
    }
}

/// What a process keeps when it becomes the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leash {
    /// Dies by this signal number with its parent, gains no privileges ever again: everything private.
    Tied(i32),
    /// Lives on and may use set-user-id programs: the public server.
    Free,
}

/// Makes this process the owner, irrevocably: groups, gid, uid (real, effective, saved), a session of its own
/// without terminal, umask 077. All capabilities go with the change from uid 0 (capabilities(7)). A tied
/// process also gets no_new_privs and the parent-death signal, which the change of uid would have cleared.
///
/// Must be called while the process has one thread. `parent` is the process id of the coordinator: if it died
/// before the signal was armed, this fails.
pub fn become_owner(owner: &Owner, leash: Leash, parent: i32) -> Result<()> {
    let failed = |what: &str, e: &dyn std::fmt::Display| Error::failed(format!("{what} as {}", owner.name)).cause(e);
    if owner.uid == 0 {
        return Err(Error::failed("refusing to run the owner's work as root"));
    }
    // Failing is fine: a process that leads its group already has no terminal of ours to lose.
    let _ = rustix::process::setsid();
    let groups: Vec<Gid> = owner.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    if nix::unistd::geteuid().is_root() {
        nix::unistd::setgroups(&groups).map_err(|e| failed("set groups", &e))?;
        nix::unistd::setresgid(gid, gid, gid).map_err(|e| failed("set group", &e))?;
        nix::unistd::setresuid(uid, uid, uid).map_err(|e| failed("set user", &e))?;
    }
    let now = nix::unistd::getresuid().map_err(|e| failed("read user ids", &e))?;
    if now.real != uid || now.effective != uid || now.saved != uid {
        return Err(Error::failed(format!("this process did not become {}", owner.name)));
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    if let Leash::Tied(signal) = leash {
        rustix::thread::set_no_new_privs(true).map_err(|e| failed("set no_new_privs", &e))?;
        let signal = Signal::from_named_raw(signal).ok_or_else(|| Error::failed("unknown signal"))?;
        rustix::process::set_parent_process_death_signal(Some(signal)).map_err(|e| failed("arm the parent-death signal", &e))?;
        if rustix::process::getppid().map(|p| p.as_raw_nonzero().get()) != Some(parent) {
            return Err(Error::failed("the coordinator is gone"));
        }
    }
    Ok(())
}
