//! `resume`: an interrupted or kept run goes on.

use crate::cli::ReturnArgs;
use crate::error::{Error, Kind, Result};
use crate::observe::runs;
use crate::plan::course;
use crate::plan::ledger::{Fact, Ledger};
use crate::plan::recovery::Recovery;
use crate::report::ahead::Ahead;
use crate::report::confirm::Question;
use crate::report::run::Mark;
use crate::run::executor::Run;
use crate::run::switch::Stage;
use crate::run::{steps, watch};
use crate::sys::signals::Signals;
use crate::verb::{Context, act};

/// `pitr resume [RUN]`.
pub fn run(context: &Context, args: &ReturnArgs, signals: Signals) -> Result<u8> {
    let Some((id, ledger, recovery)) = choose(context, args.run.as_deref(), Ledger::is_open)? else {
        return act::nothing(context, "resume", args.dry_run, "no run is open".into());
    };
    let course = course::resume(&id, &ledger, &recovery, ledger.exchanged())?;
    let host = crate::observe::host::host_name();
    let lines = vec![format!("run {id} is {}", ledger.state())];
    let ahead = Ahead::new(&id, &recovery, &course.steps, lines);
    if args.dry_run {
        return act::show(context, "resume", &ahead);
    }
    if !context.json() {
        act::print_text(&ahead.text(&act::heading("resume", &id, &host)))?;
    }
    Question { host: &host, cluster: &recovery.cluster.name, verb: "resume" }.ask(args.yes, context.is_typed(), &mut || signals.check())?;
    let _lock = act::lock_cluster(&context.config, &recovery)?;
    let by = act::by(context, args.reason.clone());
    let mut narrator = context.narrator();
    let mut run = Run::open(&context.config.state_directory, &id, signals, &mut narrator)?;
    let mark = Mark::end_of(run.ledger());
    run.accepted.extend(args.accept.iter().cloned());
    let settled = settle(&mut run);
    // Settling may have changed what is to be done: the course is computed from the journal as it is now.
    let (outcome, error) = match settled.and_then(|at_pgdata| course::resume(&id, run.ledger(), &recovery, at_pgdata)) {
        Ok(course) => act::carry_out(&mut run, course, by),
        Err(error) => (crate::report::run::ResultOutcome::Refused, Some(error)),
    };
    let ledger = run.ledger().clone();
    drop(run);
    narrator.finish();
    act::finish(context, &id, &ledger, mark, outcome, error)
}

/// The old cluster may have run meanwhile: that stops here, unless it was accepted by name. An undo or a purge takes nothing
/// from it. Returns whether the recovered cluster stands at PGDATA.
fn settle(run: &mut Run) -> Result<bool> {
    let at_pgdata = matches!(steps::stage(run)?, Stage::Exchanged | Stage::Switched);
    if !run.ledger().goes_forward() {
        return Ok(at_pgdata);
    }
    match watch::compare_old_cluster(run) {
        Err(error) if error.kind == Kind::Refused && run.accepted.iter().any(|id| id == "old-cluster-ran") => {
            log::warn!("{error}");
            run.remark(format!("{error}; accepted"))?;
            run.fact(Fact::OldStarted)?;
        }
        other => other?,
    }
    Ok(at_pgdata)
}

/// Nothing can be done about a run whose journal tells nothing, and nothing is guessed.
pub fn unreadable(id: &str, why: &str) -> Error {
    Error::new(Kind::Hands, format!("the journal of run {id} cannot be read")).cause(why).id("journal-damaged").hint(format!(
        "What it did is not known: look at PGDATA and what stands beside it. Where it left nothing: pitr purge {id}. Another run can be named."
    ))
}

/// The run that is meant: the named one, or the newest that `wanted` accepts, of the chosen cluster. Where runs of more than
/// one cluster could be meant, none is.
pub fn choose(context: &Context, name: Option<&str>, wanted: impl Fn(&Ledger) -> bool) -> Result<Option<(String, Ledger, Recovery)>> {
    let mut newest: Vec<(String, Ledger, Recovery)> = Vec::new();
    for known in runs::all(&context.config.state_directory)? {
        let named = name == Some(known.id.as_str());
        let ledger = match known.ledger {
            Ok(ledger) => ledger,
            Err(why) if named || name.is_none() => return Err(unreadable(&known.id, &why)),
            Err(_) => continue,
        };
        let Some(recovery) = ledger.recovery.clone() else { continue };
        if named || (name.is_none() && context.is_meant(&recovery.cluster) && wanted(&ledger)) {
            newest.retain(|(_, _, other)| other.cluster.data_directory != recovery.cluster.data_directory);
            newest.push((known.id, ledger, recovery));
        }
    }
    match (newest.len(), name) {
        (0, Some(name)) => Err(Error::usage(format!("there is no run {name}")).hint("`pitr runs` lists them.")),
        (0 | 1, _) => Ok(newest.pop()),
        _ => {
            let each = |(id, _, recovery): &(String, Ledger, Recovery)| format!("{id} ({})", recovery.cluster.data_directory.display());
            let runs = newest.iter().map(each).collect::<Vec<_>>().join(", ");
            Err(Error::usage("runs of more than one cluster could be meant").hint(format!("Name one: {runs}.")))
        }
    }
}
