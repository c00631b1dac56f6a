//! Undo after the recovered cluster's timeline may have reached the archive: the old cluster moves to a number
//! above it, so that readers of `latest` follow what serves (pitfalls A6, F9).
//!
//! The old cluster is started privately where it stands aside, as an archive recovery that finds no more WAL,
//! and promotes at once. An archive recovery recycles segments that are still to be archived: they are
//! copied before and put back, marked `.ready`, after.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::pg::{ControlFile, Timeline};
use crate::plan::chain;
use crate::plan::facts::{WalKind, WalSource};
use crate::plan::ledger::Fact;
use crate::plan::place::Holds;
use crate::run::broker::{Broker, Offer};
use crate::run::executor::Run;
use crate::run::libraries::{self, Libraries};
use crate::run::owner::Task;
use crate::run::private::{Private, RecoverySettings};
use crate::run::sources::{self, Directories};
use crate::run::switch::Stage;
use crate::run::tail::CopyRequest;
use crate::run::tidy::TidyRequest;
use crate::run::unlogged::Files;
use crate::run::{marks, promote, steps};
use crate::sys::crash;

/// Moves the old cluster; what was interrupted goes on from what its pg_control says.
pub fn move_old(run: &mut Run) -> Result<()> {
    if steps::stage(run)? != Stage::Switched {
        // It stands at PGDATA already: the exchange back came later and was done, or the switch never was.
        return Ok(());
    }
    if run.accepted.iter().any(|id| id == "latest-follows-undone") {
        init_forks(run, false)?;
        return run.remark("the old cluster stays on its timeline, as accepted: readers of `latest` follow the undone one");
    }
    let aside = run.staging();
    let before = control(run)?;
    let planned = run.ledger().last(|f| if let Fact::MoveTo { timeline } = f { Some(*timeline) } else { None });
    if planned != Some(before.timeline) {
        preserve(run)?;
        let number = promote::next_number(run)?;
        run.fact(Fact::MoveTo { timeline: number })?;
        init_forks(run, true)?;
        recover(run, before.timeline, number)?;
    }
    init_forks(run, false)?;
    let after = control(run)?;
    run.owner::<()>(Task::RemoveFile { parent: aside.clone(), name: "recovery.signal".into() })?;
    put_back(run, after.timeline)?;
    let wal = run.staged_wal();
    marks::settle(run, &wal)?;
    run.fact(Fact::Moved { timeline: after.timeline })
}

/// Its unlogged tables keep their rows: the move must not reset them.
fn init_forks(run: &mut Run, hide: bool) -> Result<()> {
    let id = &run.paths.id;
    let places = run.recovery().places.iter().filter(|place| place.holds == Holds::Tablespace);
    let spaces = places.map(|place| place.staged(id)).collect();
    let files = Files { data: run.staging(), spaces, hide };
    crash::point(if hide { "before init forks are hidden" } else { "before init forks are shown" })?;
    let _renamed: u64 = run.owner(Task::RenameInitForks(files))?;
    crash::point(if hide { "after init forks are hidden" } else { "after init forks are shown" })
}

fn control(run: &mut Run) -> Result<ControlFile> {
    run.owner(Task::ReadControl { data_directory: run.staging(), hidden: None })
}

fn kept(run: &Run) -> PathBuf {
    run.beside().join("undo")
}

/// Copies every valid segment of the old pg_wal that the archive lacks.
fn preserve(run: &mut Run) -> Result<()> {
    let own = run.staged_wal();
    let directories = sources::archives(run).with(&own, WalKind::Live);
    let listed = sources::list(run, &directories)?;
    let files = chain::copies(&listed).into_values().filter(|list| list.iter().all(|c| !c.archived));
    let files: Vec<(PathBuf, String, u64)> =
        files.filter_map(|list| list.first().map(|c| (c.directory.clone(), c.file.clone(), c.size))).collect();
    let to = kept(run);
    let _copied: u64 = run.owner(Task::CopyWal(Box::new(CopyRequest { files, to })))?;
    Ok(())
}

fn recover(run: &mut Run, from: Timeline, number: Timeline) -> Result<()> {
    let aside = run.staging();
    run.owner::<()>(Task::TouchFile { parent: aside.clone(), name: "recovery.signal".into() })?;
    let sources = sources::list(run, &everything(run))?;
    let histories = chain::histories(&sources).into_iter().filter(|(t, _)| *t <= from).collect();
    let offer = Offer { histories, placeholders: Some(from.0.saturating_add(1)..number.0), ..Offer::default() };
    // It opens here: workers of its libraries would act in it. One that crashed replays its own WAL and may need some.
    libraries::with_the_needed(run, |run| {
        run.broker = Some(Broker::listen(&run.paths.broker(), run.recovery().cluster.owner.uid, offer.clone())?);
        let settings = RecoverySettings { target: None, inclusive: true, timeline: "current".into(), action: "promote" };
        run.server = Some(Private::start(run, &aside, Some(&settings), Libraries::Fewest)?);
        promote::wait_open(run)
    })?;
    let checked = promote::query(run, "postgres", "CHECKPOINT")?;
    if let Some(error) = checked.error {
        return Err(Error::failed("checkpoint of the old cluster").cause(error));
    }
    if let Some(server) = run.server.take() {
        server.stop()?;
    }
    run.broker = None;
    let after = control(run)?;
    if after.timeline != number {
        return Err(Error::failed(format!("the old cluster is on timeline {}, not on {number}", after.timeline)));
    }
    Ok(())
}

/// Preserved segments stand in pg_wal again, offered to the archive, with every lower history it lacks.
fn put_back(run: &mut Run, number: Timeline) -> Result<()> {
    let kept = kept(run);
    let directories = sources::archives(run).with(&kept, WalKind::Kept(run.paths.id.clone()));
    let listed = sources::list(run, &directories)?;
    let size = run.recovery().cluster.segment_size;
    let lone = |source: &WalSource| source.kind != WalKind::Archive;
    let archived = chain::copies(&listed.iter().filter(|s| !lone(s)).cloned().collect::<Vec<_>>());
    let before_fork = fork_segment(run, number)?;
    let preserved = listed.iter().filter(|s| lone(s)).flat_map(|s| &s.segments);
    // The segment that holds the fork lives on under the new timeline; the old one ends in the middle of it.
    let segments = preserved
        .filter(|s| s.problem.is_none() && !archived.contains_key(&s.name) && s.name.number < before_fork)
        .map(|s| (s.name.file_name(size), kept.clone()));
    let segments: Vec<(String, PathBuf)> = segments.collect();
    let everything = sources::list(run, &everything(run))?;
    let histories = steps::missing_histories(&everything, number);
    let request = TidyRequest { wal: run.staged_wal(), segments, histories };
    let _offered: Vec<String> = run.owner(Task::Tidy(Box::new(request)))?;
    Ok(())
}

fn fork_segment(run: &mut Run, number: Timeline) -> Result<u64> {
    let own = Directories::default().with(&run.staged_wal(), WalKind::Live);
    let listed = sources::list(run, &own)?;
    let text = chain::histories(&listed).remove(&number).unwrap_or_default();
    let history = crate::pg::History::parse(number, text.as_bytes())
        .map_err(|cause| Error::failed(format!("history of timeline {number}")).cause(cause))?;
    let fork = history.ancestors.last().map(|a| a.switch).unwrap_or_default();
    Ok(run.recovery().cluster.segment_size.number(fork))
}

/// Archives, the recovered cluster at PGDATA, and the old one aside.
fn everything(run: &Run) -> Directories {
    sources::everything(run).with(&run.staged_wal(), WalKind::Kept(run.paths.id.clone()))
}
