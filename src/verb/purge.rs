//! `purge`: the only verb that deletes a cluster aside.

use crate::cli::PurgeArgs;
use crate::error::{Error, Kind, Result};
use crate::observe::{discover, runs};
use crate::plan::course;
use crate::plan::ledger::{Ledger, Outcome};
use crate::plan::recovery::Recovery;
use crate::report::confirm::Question;
use crate::report::run::{Mark, ResultOutcome, RunResult, section_text};
use crate::run::executor::Run;
use crate::run::paths::RunPaths;
use crate::sys::lock::Lock;
use crate::sys::signals::Signals;
use crate::verb::resume::choose;
use crate::verb::{Context, act};

/// `pitr purge RUN | --all`.
pub fn run(context: &Context, args: &PurgeArgs, signals: Signals) -> Result<u8> {
    if args.all {
        return all(context, args, signals);
    }
    if let Some(name) = args.run.as_deref()
        && let Some(why) = runs::all(&context.config.state_directory)?.into_iter().find(|k| k.id == name).and_then(|k| k.ledger.err())
    {
        return unreadable(context, args, name, &why, &signals);
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
        let ledger = match known.ledger {
            Ok(ledger) => ledger,
            Err(why) => match unreadable(context, args, &known.id, &why, &signals) {
                Ok(code) => {
                    worst = worst.max(code);
                    continue;
                }
                Err(error) => {
                    left.push(format!("{}: {error}", known.id));
                    continue;
                }
            },
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

/// A run whose journal tells nothing goes where nothing of it is found anywhere else.
fn unreadable(context: &Context, args: &PurgeArgs, id: &str, why: &str, signals: &Signals) -> Result<u8> {
    let state = &context.config.state_directory;
    let paths = RunPaths::new(state, id);
    let data_directories: Vec<_> = discover::clusters(&context.config)?.into_iter().map(|found| found.data_directory).collect();
    if let Some(trace) = runs::traces(state, id, &data_directories).first() {
        return Err(Error::new(Kind::Hands, format!("the journal of run {id} cannot be read, and {} is left of it", trace.display()))
            .cause(why)
            .id("journal-damaged")
            .hint("Nothing was deleted. Look at PGDATA and at what stands beside it; what is not needed goes by hand."));
    }
    if !context.json() || args.dry_run {
        act::print_text(&format!("Run {id} has no readable journal ({why}) and left nothing: {} is deleted", paths.root.display()))?;
    }
    if args.dry_run {
        return Ok(0);
    }
    let host = crate::observe::host::host_name();
    Question { host: &host, cluster: id, verb: "purge" }.ask(args.yes, context.is_typed(), &mut || signals.check())?;
    // A run that is only just beginning holds it.
    let _lock = Lock::take(&paths.lock())?;
    paths.remove()?;
    let removed = RunResult { changed: true, ..RunResult::of(id, &Ledger::default(), Mark::default(), ResultOutcome::Removed) };
    act::print_result(context, &removed)?;
    Ok(0)
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
    Question { host: &host, cluster: &recovery.cluster.name, verb: "purge" }.ask(args.yes, context.is_typed(), &mut || signals.check())?;
    let _lock = act::lock_cluster(&context.config, recovery)?;
    let by = act::by(context, None);
    let mut narrator = context.narrator();
    let mut run = Run::open(&context.config.state_directory, id, signals, &mut narrator)?;
    let mark = Mark::end_of(run.ledger());
    let (outcome, error) = act::carry_out(&mut run, course, by);
    let ledger = run.ledger().clone();
    drop(run);
    narrator.finish();
    act::finish(context, id, &ledger, mark, outcome, error)
}
