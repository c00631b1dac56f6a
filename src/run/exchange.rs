//! The exchange of old and recovered cluster: what the steps switch and switch-back do. The effects themselves are in
//! `switch`; here they are put in order and journaled.
//!
//! Where a place's parent is root's it is root who renames, between that parent and the run's directory. The owner works
//! in the latter until then and could put something else there between a look and the rename: so it is root's alone from
//! before the first rename until the way back is done ([`beside::take`]). That is not journaled but seen: [`stage`] looks
//! into a directory that is root's as root, and taking and handing back are done again by whatever goes on. After the
//! switch it stays root's, which the step seal only repeats; on the way back it is the owner's again before the journal
//! says that the old cluster is back.

use crate::error::{Error, Kind, Result};
use crate::observe::postmaster;
use crate::plan::ledger::Fact;
use crate::plan::place::{Exchange, Holds, Place};
use crate::run::beside;
use crate::run::executor::Run;
use crate::run::owner::Task;
use crate::run::switch::{self, Effect, ListRequest, Pair, Places, Side, Stage};
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
    if !switch::holds_a_cluster(&beside)? {
        return Ok(Stage::Nothing);
    }
    Ok(if switch::beside(&beside, &places(run))?.is_some() { Stage::Hidden } else { Stage::Foreign })
}

fn places(run: &Run) -> Places {
    let mounted = run.data_place().holds == Holds::MountedData;
    Places {
        data_directory: run.recovery().cluster.data_directory.clone(),
        run_directory: run.beside(),
        marker: run.paths.marker(),
        run: run.paths.id.clone(),
        first: run.ledger().exchanges().first().filter(|_| mounted).cloned(),
    }
}

/// Old and recovered cluster change places. Whatever was interrupted, the loop goes on from what stands there.
pub fn switch_over(run: &mut Run) -> Result<()> {
    if !run.ledger().switch_begun() {
        let list = list(run)?;
        run.fact(Fact::Exchanges { list })?;
        run.fact(Fact::Switching)?;
    }
    loop {
        match stage(run)? {
            Stage::Staged => hide(run, run.staging())?,
            Stage::Hidden | Stage::Exchanged => {
                exchange_all(run, Side::New)?;
                reveal(run)?;
            }
            Stage::Switched => return run.fact(Fact::Switched),
            Stage::Nothing | Stage::Foreign | Stage::Sealed => return Err(Error::failed("there is no staging of this run")),
        }
    }
}

/// The reverse, in reverse order. The recovered cluster stays hidden: nobody starts it by accident.
pub fn switch_back(run: &mut Run) -> Result<()> {
    let exchanged = run.ledger().exchanged();
    run.fact(Fact::SwitchingBack)?;
    loop {
        match stage(run)? {
            Stage::Switched => hide(run, run.recovery().cluster.data_directory.clone())?,
            Stage::Exchanged => exchange_all(run, Side::Old)?,
            Stage::Hidden | Stage::Staged => {
                exchange_all(run, Side::Old)?;
                beside::hand_back(run)?;
                return run.fact(Fact::SwitchedBack);
            }
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

/// What will change places: PGDATA first, since with it goes pg_control.
fn list(run: &mut Run) -> Result<Vec<Exchange>> {
    let id = run.paths.id.clone();
    let pairs = run.places().iter().map(|place| pair(place, &id)).collect();
    run.owner(Task::ListExchanges(ListRequest { pairs }))
}

fn pair(place: &Place, id: &str) -> Pair {
    let (run, staged) = (place.run_directory(id), place.staged(id));
    let (aside, names) = match place.holds {
        Holds::Data => (run, Some("data")),
        Holds::Wal => (run, Some("wal")),
        Holds::Tablespace => (staged, Some(place.name.as_str())),
        Holds::MountedData => (staged, None),
    };
    let names = names.map(|other| (place.name.clone(), other.to_string()));
    Pair { live: place.parent.clone(), aside, names, by_owner: place.parent_is_owners, one_step: place.one_step }
}

fn hide(run: &mut Run, data_directory: std::path::PathBuf) -> Result<()> {
    let effect = Effect::Hide { data_directory, run: run.paths.id.clone() };
    effect_by_owner(run, effect)
}

fn reveal(run: &mut Run) -> Result<()> {
    let data_directory = run.recovery().cluster.data_directory.clone();
    let effect = Effect::Reveal { data_directory, run: run.paths.id.clone() };
    effect_by_owner(run, effect)
}

fn effect_by_owner(run: &mut Run, effect: Effect) -> Result<()> {
    nothing_runs(run)?;
    crash::point("before effect of the switch")?;
    let _: bool = run.owner(Task::Switch(effect))?;
    crash::point("after effect of the switch")
}

/// Every exchange that is left; those that are done are seen to be done. PGDATA's is the first there and the last back.
fn exchange_all(run: &mut Run, side: Side) -> Result<()> {
    let mut list = run.ledger().exchanges().to_vec();
    if side == Side::Old {
        list.reverse();
    }
    list.retain(|exchange| !switch::is_settled(exchange, side));
    if list.iter().any(|exchange| !exchange.by_owner) {
        beside::take(run)?;
    }
    for exchange in list {
        nothing_runs(run)?;
        crash::point("before exchange")?;
        while rename(run, &exchange, side)? {
            crash::point("after exchange")?;
        }
    }
    Ok(())
}

/// One rename, by whoever may change the directory. Says whether there was one to do.
fn rename(run: &mut Run, exchange: &Exchange, side: Side) -> Result<bool> {
    let effect = Effect::Exchange { exchange: exchange.clone(), side };
    if exchange.by_owner {
        return run.owner(Task::Switch(effect));
    }
    // The directory and everything above it is root's and nobody else can write it: proved when planning, and here again.
    crate::observe::trust::roots_alone(&exchange.live)?;
    roots_own(exchange)?;
    switch::perform(&effect)
}

/// Root renames only out of a directory that nobody else can change meanwhile, and only directories: both exchanged things
/// are one, whatever stands there.
fn roots_own(exchange: &Exchange) -> Result<()> {
    let aside = Dir::open(&exchange.aside)?;
    let metadata = aside.own_metadata()?;
    if metadata.uid != 0 || metadata.mode & 0o077 != 0 {
        return Err(Error::failed(format!("{} changed while it was root's", aside.path().display())));
    }
    for name in [exchange.aside_name.clone(), switch::between(&exchange.aside_name)] {
        if aside.metadata_if_exists(&name)?.is_some_and(|found| found.kind != crate::sys::dir::Kind::Directory) {
            return Err(Error::new(Kind::Hands, format!("{} is not a directory", aside.join(&name).display()))
                .hint("Somebody put it there. Nothing was moved: look at it before anything else."));
        }
    }
    Ok(())
}

/// Nothing is renamed below a running server, whoever started it.
fn nothing_runs(run: &Run) -> Result<()> {
    for place in [run.recovery().cluster.data_directory.clone(), run.staging()] {
        if let Some(process) = postmaster::find_staying(&place)? {
            let what = format!("process {}: {}", process.identity.pid, process.arguments.join(" "));
            return Err(Error::failed(format!("a server runs on {}", place.display())).cause(what));
        }
    }
    Ok(())
}

/// Whether each entry of the run's directories is the one that stands there by the journal, looked at by root where the
/// directories are sealed, by the owner otherwise.
pub fn asides_are_in_place(run: &mut Run) -> Result<()> {
    let exchanged = run.ledger().exchanged();
    for exchange in run.ledger().exchanges().to_vec() {
        let found = std::fs::symlink_metadata(exchange.aside.join(&exchange.aside_name)).ok();
        let found = found.map(|m| std::os::unix::fs::MetadataExt::ino(&m));
        // After an undo the recovered cluster may have changed there what was its own; the old one never stands aside.
        let wrong = if exchanged { found != exchange.old } else { found.is_some() && found == exchange.old };
        if wrong {
            let path = exchange.aside.join(&exchange.aside_name);
            return Err(Error::new(Kind::Hands, format!("{} is not what this run put there", path.display()))
                .hint("Somebody exchanged directories. Nothing was deleted: look at it and at PGDATA."));
        }
    }
    Ok(())
}
