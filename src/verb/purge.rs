//! `purge`: the only verb that deletes a cluster aside.

use crate::cli::PurgeArgs;
use crate::error::{Error, Result};
use crate::observe::runs;
use crate::plan::course;
use crate::plan::ledger::{Ledger, Outcome};
use crate::plan::recovery::Recovery;
use crate::report::confirm::Question;
use crate::report::narrator::StepNarrator;
use crate::report::run::{Mark, RunResult, section_text};
use crate::run::executor::Run;
use crate::sys::signals::Signals;
use crate::verb::resume::choose;
use crate::verb::{Context, act};

/// `pitr purge RUN | --all`.
pub fn run(context: &Context, args: &PurgeArgs, signals: Signals) -> Result<u8> {
    if args.all {
        return all(context, args, signals);
    }
    let Some((id, ledger, recovery)) = choose(context, args.run.as_deref(), |_| true)? else {
        return Err(Error::usage("no run is named"));
    };
    if ledger.outcome == Some(Outcome::Removed) {
        act::print_result(context, &RunResult::nothing(format!("run {id} is {}", ledger.state())))?;
        return Ok(0);
    }
    if let Some(refusal) = course::purge_refusal(&id, &ledger) {
        return Err(refusal);
    }
    one(context, args, &id, &ledger, &recovery, signals)
}

fn all(context: &Context, args: &PurgeArgs, signals: Signals) -> Result<u8> {
    let mut left = Vec::new();
    let mut worst = 0;
    for known in runs::all(&context.config.state_directory)? {
        let Ok(ledger) = known.ledger else {
            left.push(format!("{}: its journal cannot be read", known.id));
            continue;
        };
        let Some(recovery) = ledger.recovery.clone() else { continue };
        if ledger.outcome == Some(Outcome::Removed) {
            continue;
        }
        match course::purge_refusal(&known.id, &ledger) {
            Some(refusal) => left.push(format!("{}: {refusal}", known.id)),
            None => worst = worst.max(one(context, args, &known.id, &ledger, &recovery, signals.clone())?),
        }
    }
    for line in left {
        log::warn!("not purged: {line}");
    }
    Ok(worst)
}

fn one(context: &Context, args: &PurgeArgs, id: &str, ledger: &Ledger, recovery: &Recovery, signals: Signals) -> Result<u8> {
    let course = course::purge(ledger);
    if !context.json() || args.dry_run {
        let deleted = recovery.all_places().into_iter().map(|place| format!("{} is deleted", place.run_directory(id).display()));
        let first = format!("run {id} is {}", ledger.state());
        let last = "undo of this run is not possible afterwards".to_string();
        let lines: Vec<String> = std::iter::once(first).chain(deleted).chain([last]).collect();
        act::print_text(&section_text(&format!("Purge {id}"), &course.steps, recovery, &lines))?;
    }
    if args.dry_run {
        return Ok(0);
    }
    let host = crate::observe::host::host_name();
    Question { host: &host, cluster: &recovery.cluster.name, verb: "purge" }.ask(args.yes, &mut || signals.check())?;
    let _lock = act::lock_cluster(&context.config, recovery)?;
    let by = act::by(context, None);
    let mut narrator = StepNarrator::new(context.global.quiet, context.global.no_progress);
    let mut run = Run::open(&context.config.state_directory, id, signals, &mut narrator)?;
    let mark = Mark::end_of(run.ledger());
    let (outcome, error) = act::carry_out(&mut run, course, by);
    let ledger = run.ledger().clone();
    drop(run);
    narrator.finish();
    act::finish(context, id, &ledger, mark, outcome, error)
}
