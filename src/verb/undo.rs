//! `undo`: back to the old cluster, before and after success.

use crate::cli::ReturnArgs;
use crate::error::{Error, Kind, Result};
use crate::observe::runs;
use crate::plan::course;
use crate::plan::ledger::{Fact, Ledger, Outcome};
use crate::plan::recovery::Recovery;
use crate::report::ahead::Ahead;
use crate::report::confirm::Question;
use crate::report::run::Mark;
use crate::run::control;
use crate::run::executor::Run;
use crate::run::steps;
use crate::run::switch::Stage;
use crate::sys::signals::Signals;
use crate::verb::resume::choose;
use crate::verb::{Context, act};

/// `pitr undo [RUN]`.
pub fn run(context: &Context, args: &ReturnArgs, signals: Signals) -> Result<u8> {
    // A run without a plan in its journal did nothing.
    let can = |ledger: &Ledger| ledger.is_open() || ledger.outcome == Some(Outcome::Switched);
    let Some((id, ledger, recovery)) = choose(context, args.run.as_deref(), can)? else {
        return act::nothing(context, "undo", args.dry_run, "there is nothing to undo".into());
    };
    if ledger.outcome == Some(Outcome::Removed) && ledger.exchanged() {
        return Err(purged(format!("run {id} was purged: the cluster that it replaced is deleted")));
    }
    if !can(&ledger) {
        return act::nothing(context, "undo", args.dry_run, format!("run {id} is {}", ledger.state()));
    }
    newest_first(context, &id, &recovery)?;
    if ledger.removing() {
        return Err(Error::new(Kind::Refused, format!("the cluster aside of run {id} is being deleted"))
            .hint(format!("It cannot come back. To go on: pitr purge {id}.")));
    }
    let host = crate::observe::host::host_name();
    let _lock = act::lock_cluster(&context.config, &recovery)?;
    let by = act::by(context, args.reason.clone());
    let mut narrator = context.narrator();
    if args.dry_run {
        let lines = vec![format!("run {id} is {}", ledger.state())];
        let course = course::undo(&ledger, &recovery, ledger.exchanged());
        return act::show(context, "undo", &Ahead::new(&id, &recovery, &course.steps, lines));
    }
    let mut run = Run::open(&context.config.state_directory, &id, signals.clone(), &mut narrator)?;
    let mark = Mark::end_of(run.ledger());
    run.accepted.extend(args.accept.iter().cloned());
    let seen = steps::stage(&mut run)?;
    still_there(&run, seen)?;
    steps::settle_public_start(&mut run, seen)?;
    let course = course::undo(run.ledger(), &recovery, matches!(seen, Stage::Exchanged | Stage::Switched));
    let written = written_since(&mut run);
    let lines = vec![format!("run {id} is {}", run.ledger().state()), written.clone()];
    if context.shows(args.yes) {
        act::print_text(&Ahead::new(&id, &recovery, &course.steps, lines).text(&act::heading("undo", &id, &host)))?;
    }
    Question { host: &host, cluster: &recovery.cluster.name, verb: "undo" }.ask(args.yes, context.is_typed(), &mut || signals.check())?;
    run.remark(written)?;
    let (outcome, error) = act::carry_out(&mut run, course, by);
    let ledger = run.ledger().clone();
    drop(run);
    narrator.finish();
    act::finish(context, &id, &ledger, mark, outcome, error)
}

/// A later run stands on this one: it has to go back first.
fn newest_first(context: &Context, id: &str, recovery: &Recovery) -> Result<()> {
    let cluster = &recovery.cluster;
    let later = runs::list(&context.config.state_directory, cluster.system_identifier, &cluster.data_directory)?;
    match later.iter().rev().find(|r| r.id.as_str() > id && (r.open || r.stands)) {
        Some(run) if run.removing => {
            Err(purged(format!("run {} came after {id}, and the cluster that it replaced was deleted by a purge", run.id)))
        }
        Some(run) => Err(Error::new(Kind::Refused, format!("run {} came after {id}", run.id))
            .hint(format!("Undo the newest first: pitr undo {}.", run.id))),
        None => Ok(()),
    }
}

/// What a purge deleted does not come back.
fn purged(what: String) -> Error {
    Error::new(Kind::Refused, what)
        .id("purged")
        .hint("There is no way back but another recovery, which the WAL kept by the purge serves: pitr plan.")
}

/// Before anything is touched: where the journal says that the recovered cluster stands at PGDATA it must be there.
fn still_there(run: &Run, seen: Stage) -> Result<()> {
    if !run.ledger().exchanged() || matches!(seen, Stage::Exchanged | Stage::Switched | Stage::Hidden | Stage::Staged) {
        return Ok(());
    }
    let data_directory = run.recovery().cluster.data_directory.display();
    Err(Error::new(Kind::Hands, format!("{data_directory} is not the cluster that run {} recovered", run.paths.id))
        .cause(format!("no {} in it", run.paths.marker()))
        .hint(format!("Somebody replaced it, or a later run did. Nothing was touched: look at it and at {}.", run.beside().display())))
}

/// What the recovered cluster's clients wrote and an undo takes away.
fn written_since(run: &mut Run) -> String {
    let promoted = run.ledger().last(|f| if let Fact::Promoted { next_xid, .. } = f { Some(*next_xid) } else { None });
    let (Some(before), true) = (promoted, run.ledger().switch_begun() && run.ledger().public_start()) else {
        return "nothing was written by clients: the recovered cluster was never public".into();
    };
    let asked = control::query(run, "postgres", "SELECT pg_snapshot_xmax(pg_current_snapshot())")
        .ok()
        .and_then(|r| r.single().and_then(|t| t.parse::<u64>().ok()));
    match asked {
        Some(now) => match now.saturating_sub(before) {
            0 => "no transaction was written since the switch".into(),
            number => format!("about {number} transactions were written since the switch; they stay in the cluster aside"),
        },
        None => "what was written since the switch is not known: the recovered cluster does not answer; it stays aside".into(),
    }
}
