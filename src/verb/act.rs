//! What the verbs that act have in common: the cluster's lock, who asked, carrying out a course, its result.

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::observe::host::host_name;
use crate::plan::course::{self, Course};
use crate::plan::ledger::{By, Ledger, Outcome, Purpose};
use crate::plan::planned::Reason;
use crate::plan::recovery::Recovery;
use crate::report::ahead::{self, Ahead};
use crate::report::run::{Mark, ResultOutcome, RunResult};
use crate::report::terminal::Out;
use crate::run::control;
use crate::run::executor::Run;
use crate::run::paths::prepare_state;
use crate::run::steps;
use crate::run::switch::Stage;
use crate::sys::lock::Lock;
use crate::verb::Context;

/// One run at a time per data directory, whichever cluster is recovered to it: held until the verb ends.
pub fn lock_cluster(config: &Config, recovery: &Recovery) -> Result<Lock> {
    let directory = prepare_state(&config.state_directory)?;
    let name = crc32c::crc32c(recovery.cluster.data_directory.as_os_str().as_encoded_bytes());
    let path = directory.join(format!("data-{name:08x}"));
    Lock::take(&path).map_err(|e| match e.kind {
        Kind::Locked => Error::new(Kind::Locked, format!("another run is at work on {}", recovery.cluster.name))
            .cause(e.what)
            .hint("Wait for it: pitr status."),
        _ => e,
    })
}

/// Who asked: the login user of this session, also behind sudo.
pub fn by(context: &Context, reason: Option<String>) -> By {
    let login =
        std::fs::read_to_string("/proc/self/loginuid").ok().and_then(|t| t.trim().parse::<u32>().ok()).filter(|uid| *uid != u32::MAX);
    let sudo = std::env::var("SUDO_UID").ok().and_then(|t| t.parse::<u32>().ok());
    let uid = login.or(sudo).unwrap_or(0);
    let name = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten().map(|u| u.name);
    By { user: name.unwrap_or_else(|| uid.to_string()), command: context.command.clone(), reason }
}

/// Carries out a course; a recovery that fails before the switch puts the old cluster back. Returns how the run stands.
pub fn carry_out(run: &mut Run, course: Course, by: By) -> (ResultOutcome, Option<Error>) {
    let purpose = course.purpose;
    let outcome = course.outcome;
    match run.execute(purpose, course.steps, by.clone(), outcome) {
        Ok(()) => {
            if purpose == Purpose::Restore && run.signals.check().is_err() {
                log::warn!("it was too late to stop the recovery: it came to its end");
            }
            (ResultOutcome::from(outcome), None)
        }
        Err(error) if purpose == Purpose::Restore => fall_back(run, error, by),
        Err(error) => {
            run.end_private();
            if purpose == Purpose::Undo {
                serve_recovered_again(run);
            }
            let id = run.paths.id.clone();
            let kept = error.hint.clone().map(|h| format!("{h} ")).unwrap_or_default();
            (ResultOutcome::Failed, Some(error.with_kind(Kind::Hands).hint(format!("{kept}Then go on: pitr resume {id}."))))
        }
    }
}

/// An undo that failed while the recovered cluster still stood at PGDATA: better that one serves than none.
fn serve_recovered_again(run: &mut Run) {
    let served = steps::stage(run).and_then(|stage| match stage {
        Stage::Switched => steps::give(run, 0, 0).and_then(|()| control::start(run)),
        _ => Ok(()),
    });
    if let Err(error) = served {
        log::error!("the recovered cluster does not start again: {error}");
    }
}

/// A failed recovery: before the switch the old cluster serves again, after it a person decides.
fn fall_back(run: &mut Run, error: Error, by: By) -> (ResultOutcome, Option<Error>) {
    run.end_private();
    let remove = run.signals.undo_asked();
    run.signals.forget();
    match put_old_back(run, &error, remove, by) {
        Ok(outcome) => (outcome, Some(explained(run, error, outcome))),
        Err(trouble) => {
            let id = run.paths.id.clone();
            let error = Error::new(Kind::Hands, error.to_string())
                .cause(trouble)
                .hint(format!("Look: pitr status. Then: pitr resume {id}, or pitr undo {id}."));
            (ResultOutcome::Failed, Some(error))
        }
    }
}

fn put_old_back(run: &mut Run, error: &Error, remove: bool, by: By) -> Result<ResultOutcome> {
    if error.kind == Kind::Refused && run.ledger().old_control().is_some() && !run.ledger().switch_begun() {
        // The old cluster ran by somebody else's hand: it is left to them, and the run stays open.
        return Ok(ResultOutcome::Refused);
    }
    if run.ledger().switch_begun() {
        match steps::stage(run)? {
            Stage::Switched => return Ok(ResultOutcome::Switched),
            Stage::Exchanged | Stage::Hidden | Stage::Staged | Stage::Nothing | Stage::Foreign | Stage::Sealed => steps::switch_back(run)?,
        }
    }
    let recovery = run.recovery().clone();
    if !run.ledger().stop_begun() && error.kind == Kind::Check {
        // A damaged backup, found while the cluster serves: nothing of it is worth keeping.
        let course = course::undo(run.ledger(), &recovery, false);
        run.execute(Purpose::Undo, course.steps, by, Outcome::Undone)?;
        return Ok(ResultOutcome::Refused);
    }
    let course = course::stand_back(&recovery);
    run.execute(course.purpose, course.steps, by.clone(), course.outcome)?;
    if remove && error.kind == Kind::Interrupted {
        let course = course::undo(run.ledger(), &recovery, false);
        run.execute(course.purpose, course.steps, by, course.outcome)?;
        return Ok(ResultOutcome::Undone);
    }
    Ok(match error.kind {
        Kind::Interrupted | Kind::Terminated => ResultOutcome::Interrupted,
        _ => ResultOutcome::Failed,
    })
}

fn explained(run: &Run, error: Error, outcome: ResultOutcome) -> Error {
    let id = &run.paths.id;
    match outcome {
        ResultOutcome::Switched => control::hands(error, id),
        ResultOutcome::Refused if run.ledger().outcome == Some(Outcome::Undone) => {
            let hint = error.hint.clone().unwrap_or_else(|| "The cluster was not touched. Choose another backup: pitr backups.".into());
            error.with_kind(Kind::Refused).id("backup-damaged").hint(hint)
        }
        ResultOutcome::Refused => error,
        ResultOutcome::Undone => error.hint("The old cluster is as it was; what was built is deleted."),
        _ => {
            let hint = error.hint.clone().map(|h| format!("{h} ")).unwrap_or_default();
            error.hint(format!(
                "{hint}The old cluster is as it was; what was built is kept: pitr resume {id}, or pitr undo {id} to delete it."
            ))
        }
    }
}

/// Prints the result and returns the exit code.
pub fn finish(context: &Context, id: &str, ledger: &Ledger, mark: Mark, outcome: ResultOutcome, error: Option<Error>) -> Result<u8> {
    let code = error.as_ref().map_or(0, |e| e.kind.exit_code());
    print_result(context, &result(id, ledger, mark, outcome, error))?;
    Ok(code)
}

/// What the journal of run `id` says since `mark`, with its error.
pub fn result(id: &str, ledger: &Ledger, mark: Mark, outcome: ResultOutcome, error: Option<Error>) -> RunResult {
    let mut result = RunResult::of(id, ledger, mark, outcome);
    if let Some(error) = error {
        if let Some(id) = &error.id {
            result.refusals.push(Reason::fact(id, error.to_string(), error.hint.clone().unwrap_or_default()));
        }
        result = result.with_error(error);
    }
    result
}

/// Prints a result: one document, or a page, with the error on standard error.
pub fn print_result(context: &Context, result: &RunResult) -> Result<()> {
    if context.json() {
        print_json(&crate::report::run::json(result))?;
    } else {
        print_text(&crate::report::run::text(result, context.width()))?;
    }
    if let Some(error) = &result.error {
        Out::stderr().error(error);
    }
    Ok(())
}

/// One JSON document on standard output.
pub fn print_json(document: &serde_json::Value) -> Result<()> {
    let mut out = Out::stdout();
    out.json(document)?;
    out.finish()
}

/// There is nothing to do, in `words`.
pub fn nothing(context: &Context, verb: &str, dry_run: bool, words: String) -> Result<u8> {
    match dry_run && context.json() {
        true => print_json(&ahead::json(verb, &host_name(), &[], &[], None))?,
        false => print_result(context, &RunResult::nothing(words))?,
    }
    Ok(0)
}

/// What `verb` would do: its `--dry-run`.
pub fn show(context: &Context, verb: &str, ahead: &Ahead) -> Result<u8> {
    let host = host_name();
    match context.json() {
        true => print_json(&ahead::json(verb, &host, std::slice::from_ref(ahead), &[], None))?,
        false => print_text(&ahead.text(&heading(verb, &ahead.run, &host)))?,
    }
    Ok(0)
}

/// `Undo 20261121-210519 on db-prod-03`.
pub fn heading(verb: &str, run: &str, host: &str) -> String {
    let mut letters = verb.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    format!("{}{} {run} on {host}", first.map(String::from).unwrap_or_default(), letters.as_str())
}

/// A page on standard output.
pub fn print_text(text: &str) -> Result<()> {
    let mut out = Out::stdout();
    out.line(text.trim_end_matches('\n'));
    out.finish()
}
