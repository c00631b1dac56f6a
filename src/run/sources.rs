//! Lists of WAL directories, asked of the owner's child; asides that are root's are reached by a descriptor.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::host::Owner;
use crate::plan::damaged;
use crate::plan::facts::{WalKind, WalSource};
use crate::plan::recovery::{OtherWal, Trusted};
use crate::run::executor::Run;
use crate::run::owner::{self, Task};
use crate::run::tail::{ListRequest, WalIdentity};
use crate::sys::descendant::{inheritable, inherited_path};
use crate::sys::dir::Dir;
use crate::sys::lock::Lock;

/// Directories to list, and descriptors that must live until the child was started.
#[derive(Debug, Default)]
pub struct Directories {
    list: Vec<(PathBuf, WalKind, PathBuf)>,
    held: Vec<OwnedFd>,
}

impl Directories {
    /// Adds a directory that the owner opens by its path.
    #[must_use]
    pub fn with(mut self, path: &Path, kind: WalKind) -> Directories {
        self.list.push((path.to_path_buf(), kind, path.to_path_buf()));
        self
    }

    /// Adds WAL of earlier runs; one that cannot be reached is left out with a word in the log.
    #[must_use]
    pub fn with_others(mut self, others: &[OtherWal]) -> Directories {
        for other in others {
            let kind = if other.sealed { WalKind::Aside(other.run.clone()) } else { WalKind::Kept(other.run.clone()) };
            if !other.sealed {
                self.list.push((other.directory.clone(), kind, other.directory.clone()));
                continue;
            }
            match open_sealed(&other.directory) {
                Ok(descriptor) => {
                    self.list.push((other.directory.clone(), kind, inherited_path(&descriptor)));
                    self.held.push(descriptor);
                }
                Err(error) => log::warn!("WAL of run {} is not used: {error}", other.run),
            }
        }
        self
    }

    /// The path under which the child opens what is listed as `directory`.
    pub fn open_path(&self, directory: &Path) -> PathBuf {
        self.list.iter().find(|(name, _, _)| name == directory).map_or_else(|| directory.to_path_buf(), |(_, _, open)| open.clone())
    }

    /// Lists them as `owner`.
    pub fn list(&self, owner: &Owner, lock: Option<&Lock>, trusted: &Trusted, identity: WalIdentity) -> Result<Vec<WalSource>> {
        let request = ListRequest { directories: self.list.clone(), identity };
        owner::call_trusting(owner, lock, trusted, Task::ListWal(Box::new(request)))
    }
}

/// Opens `…/.pitr-<run>/data/pg_wal` (or `…/.pitr-<run>/wal`) below a directory that is root's alone: nobody else can
/// change what is there meanwhile, and every component is opened without following a link.
fn open_sealed(pg_wal: &Path) -> Result<OwnedFd> {
    let of_run = |path: &&Path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(".pitr-"));
    let above = pg_wal.ancestors().find(of_run).unwrap_or(Path::new("/"));
    let sealed = Dir::open(above)?;
    let metadata = sealed.own_metadata()?;
    if metadata.uid != 0 || metadata.mode & 0o077 != 0 {
        return Err(crate::error::Error::failed(format!("{} is not sealed", sealed.path().display())));
    }
    inheritable(sealed.open_beneath(pg_wal.strip_prefix(above).unwrap_or(pg_wal))?.as_fd())
}

/// Whose WAL this run needs.
pub fn identity(run: &Run) -> WalIdentity {
    let cluster = &run.recovery().cluster;
    WalIdentity { major: cluster.major, system_identifier: cluster.system_identifier, segment_size: cluster.segment_size }
}

/// Archives, in order.
pub fn archives(run: &Run) -> Directories {
    run.recovery().site.archives.iter().fold(Directories::default(), |all, path| all.with(path, WalKind::Archive))
}

/// Archives and the run's copied tail: what `wal-get` serves.
pub fn serving(run: &Run) -> Directories {
    archives(run).with(&run.tail(), WalKind::Kept(run.paths.id.clone()))
}

/// Everything that may hold a timeline number or a segment: archives, tail, PGDATA, earlier runs.
pub fn everything(run: &Run) -> Directories {
    let live = run.recovery().live_wal();
    serving(run).with(&live, WalKind::Live).with_others(&run.recovery().other_wal)
}

/// Lists `directories` for this run.
///
/// Copies that were found damaged when the run was planned are marked: another one is there.
pub fn list(run: &Run, directories: &Directories) -> Result<Vec<WalSource>> {
    let mut listed = directories.list(&run.recovery().cluster.owner, Some(&run.lock), &run.recovery().site.trusted, identity(run))?;
    damaged::mark(&mut listed, &run.recovery().damaged_wal);
    Ok(listed)
}
