//! The exchange of old and recovered cluster, and who may reach the one that stands aside: what the steps switch,
//! switch-back, seal and unseal do. The effects themselves are in `switch`; here they are put in order and journaled.

use std::os::fd::AsFd;
use std::path::Path;

use crate::error::{At, Error, Kind, Result};
use crate::observe::postmaster;
use crate::plan::ledger::Fact;
use crate::run::executor::Run;
use crate::run::owner::Task;
use crate::run::switch;
use crate::run::switch::{Effect, Places, Stage};
use crate::sys::crash;
use crate::sys::dir::Dir;

/// Where the switch stands.
pub fn stage(run: &mut Run) -> Result<Stage> {
    let places = places(run);
    match run.owner(Task::LookAtSwitch(places))? {
        Stage::Sealed => look_into_sealed(run),
        seen => Ok(seen),
    }
}

/// What stands in a directory that is root's alone: nobody changes it meanwhile, and nothing in it is followed.
fn look_into_sealed(run: &Run) -> Result<Stage> {
    let beside = Dir::open(run.beside())?;
    let metadata = beside.own_metadata()?;
    if metadata.uid != 0 || metadata.mode & 0o077 != 0 {
        return Err(Error::failed(format!("{} changed while it was looked at", run.beside().display())));
    }
    if beside.metadata_if_exists("data")?.is_none() {
        return Ok(Stage::Nothing);
    }
    let ours = beside.open_beneath("data")?.metadata_if_exists(run.paths.marker())?.is_some();
    Ok(if ours { Stage::Hidden } else { Stage::Foreign })
}

/// The two directories of this run.
pub fn places(run: &Run) -> Places {
    let data_directory = &run.recovery().cluster.data_directory;
    Places {
        parent: data_directory.parent().unwrap_or(Path::new("/")).to_path_buf(),
        name: data_directory.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        run_directory: format!(".pitr-{}", run.paths.id),
        marker: run.paths.marker(),
        run: run.paths.id.clone(),
    }
}

/// Old and recovered cluster change places. Whatever was interrupted, the loop goes on from what stands there.
pub fn switch_over(run: &mut Run) -> Result<()> {
    let places = places(run);
    let run_id = run.paths.id.clone();
    if !run.ledger().switch_begun() {
        run.fact(Fact::Switching)?;
    }
    loop {
        match stage(run)? {
            Stage::Staged => effect(run, Effect::Hide { data_directory: run.staging(), run: run_id.clone() })?,
            Stage::Hidden => exchange(run, places.clone())?,
            Stage::Exchanged => {
                effect(run, Effect::Reveal { data_directory: run.recovery().cluster.data_directory.clone(), run: run_id.clone() })?
            }
            Stage::Switched => return run.fact(Fact::Switched),
            Stage::Nothing | Stage::Foreign | Stage::Sealed => return Err(Error::failed("there is no staging of this run")),
        }
    }
}

/// The reverse, in reverse order. The recovered cluster stays hidden: nobody starts it by accident.
pub fn switch_back(run: &mut Run) -> Result<()> {
    let places = places(run);
    let run_id = run.paths.id.clone();
    let exchanged = run.ledger().exchanged();
    run.fact(Fact::SwitchingBack)?;
    loop {
        match stage(run)? {
            Stage::Switched => {
                effect(run, Effect::Hide { data_directory: run.recovery().cluster.data_directory.clone(), run: run_id.clone() })?
            }
            Stage::Exchanged => exchange(run, places.clone())?,
            Stage::Hidden | Stage::Staged => return run.fact(Fact::SwitchedBack),
            Stage::Nothing if !exchanged => return run.fact(Fact::SwitchedBack),
            Stage::Nothing | Stage::Foreign | Stage::Sealed => {
                return Err(Error::new(
                    Kind::Hands,
                    format!("neither PGDATA nor {} is the cluster that this run recovered", run.beside().display()),
                )
                .cause(format!("no {} in them", run.paths.marker()))
                .hint("Somebody replaced PGDATA, or a later run did. Nothing was moved: look at both before anything else."));
            }
        }
    }
}

/// Nothing is renamed below a running server, whoever started it.
fn nothing_runs(run: &Run) -> Result<()> {
    for place in [run.recovery().cluster.data_directory.clone(), run.staging()] {
        if let Some(process) = postmaster::find(&place)? {
            return Err(Error::failed(format!("a server runs on {}", place.display())).cause(format!("process {}", process.identity.pid)));
        }
    }
    Ok(())
}

fn effect(run: &mut Run, effect: Effect) -> Result<()> {
    nothing_runs(run)?;
    crash::point("before effect of the switch")?;
    run.owner::<()>(Task::Switch(effect))?;
    crash::point("after effect of the switch")
}

/// The one rename that exchanges, by whoever may change the parent.
fn exchange(run: &mut Run, places: Places) -> Result<()> {
    nothing_runs(run)?;
    crash::point("before exchange")?;
    if run.recovery().cluster.parent_is_owners {
        run.owner::<()>(Task::Switch(Effect::Exchange(places)))?;
    } else {
        // The parent and everything above it is root's and nobody else can write it: proved when planning, and here again.
        crate::observe::trust::roots_alone(&places.parent)?;
        switch::perform(&Effect::Exchange(places))?;
    }
    crash::point("after exchange")
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

/// Changes the owner of the run's directory by descriptor, after its inode was compared with the journal's.
pub fn give(run: &mut Run, uid: u32, gid: u32) -> Result<()> {
    let path = run.beside();
    if std::fs::symlink_metadata(&path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Ok(());
    }
    let directory = Dir::open(&path)?;
    let metadata = directory.own_metadata()?;
    let expected = run.ledger().last(|f| if let Fact::Staged { inode } = f { Some(*inode) } else { None });
    let owner = run.recovery().cluster.owner.uid;
    // Killed between making it and noting it: empty, it can only be ours.
    let unnoted = expected.is_none() && directory.entries()?.is_empty();
    if (expected != Some(metadata.inode) && !unnoted) || (metadata.uid != owner && metadata.uid != 0) {
        return Err(Error::new(Kind::Hands, format!("{} is not the directory that this run made", path.display()))
            .hint("Look at it: somebody replaced it."));
    }
    directory.set_mode(0o700)?;
    rustix::fs::fchown(directory.as_fd(), Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)))
        .at("change owner of", &path)?;
    directory.sync()
}
