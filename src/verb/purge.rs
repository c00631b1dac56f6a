//! `purge`: the only verb that deletes a cluster aside.

use crate::cli::PurgeArgs;
use crate::error::{Error, Kind, Result};
use crate::observe::{discover, runs, traces};
use crate::plan::course;
use crate::plan::ledger::{Ledger, Outcome};
use crate::plan::recovery::Recovery;
use crate::report::ahead::{self, Ahead};
use crate::report::confirm::Question;
use crate::report::purge::{Left, Purged, json as purged_json};
use crate::report::run::{Mark, ResultOutcome, RunResult};
use crate::report::terminal::Out;
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
        let went = unreadable(context, args, name, &why, &signals)?;
        return say(context, went);
    }
    let Some((id, ledger, recovery)) = choose(context, args.run.as_deref(), |_| true)? else {
        return Err(Error::usage("no run is named"));
    };
    if ledger.outcome == Some(Outcome::Removed) {
        return act::nothing(context, "purge", args.dry_run, format!("run {id} is {}", ledger.state()));
    }
    if let Some(refusal) = course::purge_refusal(&id, &ledger) {
        return Err(refusal);
    }
    let went = one(context, args, &id, &ledger, &recovery, signals)?;
    say(context, went)
}

/// What became of one run.
enum Went {
    /// It was only to be shown.
    Shown(Ahead),
    /// It was purged, or that failed.
    Done(Box<RunResult>),
}

fn say(context: &Context, went: Went) -> Result<u8> {
    match went {
        Went::Shown(ahead) => act::show(context, "purge", &ahead),
        Went::Done(result) => {
            act::print_result(context, &result)?;
            Ok(exit_code(&result))
        }
    }
}

/// What may go goes; the rest is named. One document for all of it.
fn all(context: &Context, args: &PurgeArgs, signals: Signals) -> Result<u8> {
    let mut purged = Purged::default();
    let mut shown = Vec::new();
    for known in runs::all(&context.config.state_directory)? {
        let id = known.id.as_str();
        let done = match &known.ledger {
            Err(why) => unreadable(context, args, id, why, &signals),
            Ok(ledger) if ledger.outcome == Some(Outcome::Removed) => continue,
            Ok(ledger) => {
                let Some(recovery) = &ledger.recovery else { continue };
                if let Some(error) = course::purge_refusal(id, ledger) {
                    purged.left.push(Left { run: id.to_string(), error });
                    continue;
                }
                one(context, args, id, ledger, recovery, signals.clone())
            }
        };
        match done {
            Ok(Went::Shown(ahead)) if context.json() => shown.push(ahead),
            Ok(Went::Shown(ahead)) => drop(act::show(context, "purge", &ahead)?),
            Ok(Went::Done(result)) => {
                if !context.json() {
                    act::print_result(context, &result)?;
                }
                purged.runs.push(*result);
            }
            Err(error) if error.kind == Kind::Hands => purged.left.push(Left { run: id.to_string(), error }),
            Err(error) => {
                purged.error = Some(error);
                break;
            }
        }
    }
    say_all(context, args, &purged, &shown)
}

fn say_all(context: &Context, args: &PurgeArgs, purged: &Purged, shown: &[Ahead]) -> Result<u8> {
    for left in &purged.left {
        log::warn!("not purged: {}: {}", left.run, left.error);
    }
    if context.json() {
        let host = crate::observe::host::host_name();
        act::print_json(&match args.dry_run {
            true => ahead::json("purge", &host, shown, &purged.left, purged.error.as_ref()),
            false => purged_json(purged),
        })?;
    } else if purged.runs.is_empty() && purged.error.is_none() && !args.dry_run {
        act::print_text("There is nothing to purge.")?;
    }
    if let Some(error) = &purged.error {
        Out::stderr().error(error);
    }
    Ok(purged.error.as_ref().map(|error| error.kind.exit_code()).into_iter().chain(purged.runs.iter().map(exit_code)).max().unwrap_or(0))
}

fn exit_code(result: &RunResult) -> u8 {
    result.error.as_ref().map_or(0, |error| error.kind.exit_code())
}

/// A run whose journal tells nothing goes where nothing of it is found anywhere else.
fn unreadable(context: &Context, args: &PurgeArgs, id: &str, why: &str, signals: &Signals) -> Result<Went> {
    let state = &context.config.state_directory;
    let paths = RunPaths::new(state, id);
    let data_directories: Vec<_> = discover::clusters(&context.config)?.into_iter().map(|found| found.data_directory).collect();
    let left: Vec<String> = traces::of(state, id, &data_directories)?.iter().map(|path| path.display().to_string()).collect();
    if !left.is_empty() {
        let verb = if left.len() == 1 { "is" } else { "are" };
        return Err(Error::new(Kind::Hands, format!("the journal of run {id} cannot be read, and {} {verb} left of it", left.join(", ")))
            .cause(why)
            .id("journal-damaged")
            .hint("Nothing was deleted. Look at PGDATA and at what stands beside it; what is not needed goes by hand."));
    }
    let ahead = Ahead {
        run: id.to_string(),
        notes: vec![format!("its journal cannot be read ({why}), and nothing else is left of it")],
        steps: vec![("delete".into(), format!("delete {}", paths.root.display()))],
        ..Ahead::default()
    };
    if args.dry_run {
        return Ok(Went::Shown(ahead));
    }
    let host = crate::observe::host::host_name();
    if context.shows(args.yes) {
        act::print_text(&ahead.text(&act::heading("purge", id, &host)))?;
    }
    Question { host: &host, cluster: id, verb: "purge" }.ask(args.yes, context.is_typed(), &mut || signals.check())?;
    // A run that is only just beginning holds it.
    let _lock = Lock::take(&paths.lock())?;
    paths.remove()?;
    let removed = RunResult::of(id, &Ledger::default(), Mark::default(), ResultOutcome::Removed);
    Ok(Went::Done(Box::new(RunResult { changed: true, ..removed })))
}

/// Purges one run, or only tells what that would be.
fn one(context: &Context, args: &PurgeArgs, id: &str, ledger: &Ledger, recovery: &Recovery, signals: Signals) -> Result<Went> {
    let course = course::purge(ledger);
    let deleted = recovery.all_places().into_iter().map(|place| format!("{} is deleted", place.run_directory(id).display()));
    let first = format!("run {id} is {}", ledger.state());
    let last = (ledger.outcome == Some(Outcome::Switched)).then(|| "undo of this run is not possible afterwards".to_string());
    let ahead = Ahead::new(id, recovery, &course.steps, std::iter::once(first).chain(deleted).chain(last).collect());
    if args.dry_run {
        return Ok(Went::Shown(ahead));
    }
    let host = crate::observe::host::host_name();
    if context.shows(args.yes) {
        act::print_text(&ahead.text(&act::heading("purge", id, &host)))?;
    }
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
    Ok(Went::Done(Box::new(act::result(id, &ledger, mark, outcome, error))))
}
