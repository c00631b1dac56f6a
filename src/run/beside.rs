//! The directories of a run, one at each place that holds data of the cluster: made before anything is staged, root's
//! alone while a cluster stands aside, deleted by undo or purge.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};

use crate::error::{At, Error, Kind, Result};
use crate::plan::ledger::Fact;
use crate::plan::place::{Holds, Place};
use crate::run::executor::Run;
use crate::run::owner::Task;
use crate::run::staging;
use crate::sys::crash;
use crate::sys::dir::Dir;
use crate::sys::label;

/// Makes the directory at each place, by whoever owns what it stands in, with the label of what it will replace.
pub fn make_all(run: &mut Run) -> Result<()> {
    for place in directories(run) {
        make(run, &place)?;
    }
    Ok(())
}

fn make(run: &mut Run, place: &Place) -> Result<()> {
    let path = place.run_directory(&run.paths.id);
    let inode: u64 = if place.parent_is_owners {
        run.owner(Task::MakeRunDirectory { path: path.clone() })?
    } else {
        crate::observe::trust::roots_alone(&place.parent)?;
        let inode = staging::make_run_directory(&path)?;
        let owner = &run.recovery().cluster.owner;
        let directory = Dir::open(&path)?;
        rustix::fs::fchown(directory.as_fd(), Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid))).at("give away", &path)?;
        inode
    };
    // An external pg_wal and a location carry the label themselves; a missing one has nothing to copy.
    if let Ok(live) = Dir::open(place.at()) {
        label::copy(&live, &Dir::open(&path)?)?;
    }
    match journaled(run, &path) {
        None if path == run.beside() => run.fact(Fact::Staged { inode }),
        None => run.fact(Fact::StagedAt { path, inode }),
        Some(known) if known == inode => Ok(()),
        Some(_) => Err(Error::new(Kind::Hands, format!("{} is not the directory that this run made", path.display()))
            .hint("Look at it: somebody replaced it.")),
    }
}

/// The inode of a run's directory as it was made.
fn journaled(run: &Run, path: &Path) -> Option<u64> {
    let main = run.beside();
    run.ledger().last(|fact| match fact {
        Fact::Staged { inode } if path == main => Some(*inode),
        Fact::StagedAt { path: other, inode } if path == other => Some(*inode),
        _ => None,
    })
}

/// One place for each directory of the run, PGDATA's first: an external pg_wal may stand beside PGDATA.
fn directories(run: &Run) -> Vec<Place> {
    let id = run.paths.id.clone();
    let mut found: Vec<Place> = Vec::new();
    for place in run.places() {
        if !found.iter().any(|other| other.run_directory(&id) == place.run_directory(&id)) {
            found.push(place);
        }
    }
    found
}

/// What stands aside becomes root's: nobody starts it beside the cluster that serves (pitfalls A3).
pub fn seal(run: &mut Run) -> Result<()> {
    give(run, 0, 0)
}

/// What stands aside becomes the owner's again, before it is worked on.
pub fn unseal(run: &mut Run) -> Result<()> {
    let owner = run.recovery().cluster.owner.clone();
    give(run, owner.uid, owner.gid)
}

/// Changes the owner of every directory of the run.
pub fn give(run: &mut Run, uid: u32, gid: u32) -> Result<()> {
    for place in directories(run) {
        give_one(run, &place.run_directory(&run.paths.id), uid, gid)?;
        crash::point("after a change of owner")?;
    }
    Ok(())
}

/// The directories out of which root renames become root's alone: also a descriptor that the owner holds of one is worth
/// nothing from here on, since permission to rename is asked at each rename.
pub fn take(run: &mut Run) -> Result<()> {
    for path in roots_work(run) {
        give_one(run, &path, 0, 0)?;
        crash::point("taken for the exchange")?;
    }
    Ok(())
}

/// What [`take`] took is the owner's again.
pub fn hand_back(run: &mut Run) -> Result<()> {
    let owner = run.recovery().cluster.owner.clone();
    for path in roots_work(run) {
        give_one(run, &path, owner.uid, owner.gid)?;
        crash::point("handed back after the exchange")?;
    }
    Ok(())
}

/// The run's directories at places where root makes the exchange.
fn roots_work(run: &Run) -> Vec<PathBuf> {
    let of_root = directories(run).into_iter().filter(|place| !place.parent_is_owners);
    of_root.map(|place| place.run_directory(&run.paths.id)).collect()
}

/// By descriptor, after its inode was compared with the journal's.
fn give_one(run: &Run, path: &PathBuf, uid: u32, gid: u32) -> Result<()> {
    if !exists(path) {
        return Ok(());
    }
    let directory = Dir::open(path)?;
    let metadata = directory.own_metadata()?;
    let expected = journaled(run, path);
    let owner = run.recovery().cluster.owner.uid;
    // Killed between making it and noting it: empty, it can only be ours.
    let unnoted = expected.is_none() && directory.entries()?.is_empty();
    if (expected != Some(metadata.inode) && !unnoted) || (metadata.uid != owner && metadata.uid != 0) {
        return Err(Error::new(Kind::Hands, format!("{} is not the directory that this run made", path.display()))
            .hint("Look at it: somebody replaced it."));
    }
    directory.set_mode(0o700)?;
    rustix::fs::fchown(directory.as_fd(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).at("change owner of", path)?;
    directory.sync()
}

/// Deletes every directory of the run with everything in it, by descriptor and as the owner; PGDATA's last, so that a
/// deletion that was interrupted is seen to go on.
pub fn delete_all(run: &mut Run) -> Result<()> {
    unseal(run)?;
    for place in directories(run).into_iter().rev() {
        delete(run, &place)?;
        crash::point("after a deletion")?;
    }
    Ok(())
}

fn delete(run: &mut Run, place: &Place) -> Result<()> {
    let path = place.run_directory(&run.paths.id);
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = path.parent().unwrap_or(Path::new("/")).to_path_buf();
    if !exists(&path) {
        return Ok(());
    }
    if place.parent_is_owners {
        run.owner::<()>(Task::RemoveTree { parent: parent.clone(), name })?;
        if place.holds == Holds::MountedData {
            // The directory of all runs goes with the last of them.
            return run.owner(Task::RemoveEmpty { path: parent });
        }
        return Ok(());
    }
    for inner in ["data", "data.between", "wal", "wal.between", "tail", "undo"] {
        run.owner::<()>(Task::RemoveTree { parent: path.clone(), name: inner.into() })?;
    }
    crate::observe::trust::roots_alone(&parent)?;
    let parent = Dir::open(&parent)?;
    parent.remove_dir(&name)?;
    parent.sync()
}

fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
