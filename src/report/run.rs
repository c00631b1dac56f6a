//! What became of a `restore`, `resume`, `undo` or `purge`: the page and the document that stand at its end.
//!
//! Guarantees: only what the journal tells is reported as done. The error is in the document; on a terminal it is
//! printed after the page by [`super::terminal::Out::error`], so that its hint is the last thing a person reads.

use std::time::Duration;

use serde_json::{Value, json};

use super::layout::{Sheet, counted};
use super::plan::{reasons, reasons_json};
use super::terminal::human_duration;
use crate::error::{Error, Kind};
use crate::plan::ledger::{CheckResult, Fact, Ledger, Outcome};
use crate::plan::loss::Loss;
use crate::plan::planned::Reason;
use crate::plan::step::Step;

/// Phases in the order in which a recovery goes through them.
const PHASES: [&str; 9] = ["stop", "extract", "configure", "replay", "check", "promote", "tidy", "switch", "start"];

/// How a verb ended; the words of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultOutcome {
    /// The recovered cluster serves.
    Switched,
    /// Built and proved; waits for `resume` or `undo`.
    Held,
    /// The old cluster is back.
    Undone,
    /// Stopped before the switch, the work is kept.
    Kept,
    /// Purged.
    Removed,
    /// Refused before anything was touched.
    Refused,
    /// A signal stopped it.
    Interrupted,
    /// There was nothing to do.
    Nothing,
    /// It failed.
    Failed,
}

impl ResultOutcome {
    /// The word in the document.
    pub fn word(self) -> &'static str {
        match self {
            ResultOutcome::Switched => "switched",
            ResultOutcome::Held => "held",
            ResultOutcome::Undone => "undone",
            ResultOutcome::Kept => "kept",
            ResultOutcome::Removed => "removed",
            ResultOutcome::Refused => "refused",
            ResultOutcome::Interrupted => "interrupted",
            ResultOutcome::Nothing => "nothing",
            ResultOutcome::Failed => "failed",
        }
    }

    /// What it means, for the first line of the page.
    fn words(self) -> &'static str {
        match self {
            ResultOutcome::Switched => "the recovered cluster stands at PGDATA, the old one is kept aside",
            ResultOutcome::Held => "the recovered cluster is built and proved, and waits",
            ResultOutcome::Undone => "the old cluster is back",
            ResultOutcome::Kept => "stopped before the switch; the old cluster is in place, the work is kept",
            ResultOutcome::Removed => "what the run kept is deleted",
            ResultOutcome::Refused => "refused before anything was touched",
            ResultOutcome::Interrupted => "interrupted; the work is kept",
            ResultOutcome::Nothing => "there was nothing to do",
            ResultOutcome::Failed => "failed",
        }
    }

    /// What can be typed next, for run `id`.
    fn next(self, id: &str) -> Vec<String> {
        let undo = format!("pitr undo {id}");
        match self {
            ResultOutcome::Switched => vec![format!("{undo}  puts the old cluster back"), format!("pitr purge {id}  deletes it for good")],
            ResultOutcome::Held | ResultOutcome::Kept | ResultOutcome::Interrupted | ResultOutcome::Failed => {
                vec![format!("pitr resume {id}  continues"), format!("{undo}  goes back to the old cluster and deletes what was built")]
            }
            ResultOutcome::Undone => vec![format!("pitr purge {id}  deletes what is left of the run")],
            ResultOutcome::Removed | ResultOutcome::Refused | ResultOutcome::Nothing => Vec::new(),
        }
    }
}

impl From<Outcome> for ResultOutcome {
    fn from(outcome: Outcome) -> ResultOutcome {
        match outcome {
            Outcome::Switched => ResultOutcome::Switched,
            Outcome::Undone => ResultOutcome::Undone,
            Outcome::Kept => ResultOutcome::Kept,
            Outcome::Removed => ResultOutcome::Removed,
        }
    }
}

/// How far a journal was when a verb began. What came before belongs to the report of an earlier verb; the default
/// is the journal's beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    facts: usize,
    seconds: usize,
}

impl Mark {
    /// The end of the journal as it is now.
    pub fn end_of(ledger: &Ledger) -> Mark {
        Mark { facts: ledger.facts.len(), seconds: ledger.seconds.len() }
    }
}

/// The result of a verb that acts.
#[derive(Debug, Clone, PartialEq)]
pub struct RunResult {
    /// The run's id, where one was begun.
    pub run: Option<String>,
    /// Anything on the host is different now: a run that failed has stopped a server and left its work.
    pub changed: bool,
    /// How it ended.
    pub outcome: ResultOutcome,
    /// Nobody was served for so long.
    pub downtime_seconds: Option<f64>,
    /// Seconds by phase.
    pub phases: Vec<(String, f64)>,
    /// What was discarded, counted after the stop.
    pub loss: Option<Loss>,
    /// Results of the last time that the checks ran.
    pub checks: Vec<CheckResult>,
    /// Reasons against it.
    pub refusals: Vec<Reason>,
    /// Why it failed.
    pub error: Option<Error>,
    /// What a person should know.
    pub remarks: Vec<String>,
}

impl RunResult {
    /// The result of a verb on run `id`: what its journal says since `mark`.
    pub fn of(id: &str, ledger: &Ledger, mark: Mark, outcome: ResultOutcome) -> RunResult {
        let facts = ledger.facts.get(mark.facts..).unwrap_or_default();
        let seconds = ledger.seconds.get(mark.seconds..).unwrap_or_default();
        let untouched = matches!(outcome, ResultOutcome::Refused | ResultOutcome::Nothing);
        RunResult {
            run: Some(id.to_string()),
            changed: !untouched && (!facts.is_empty() || !seconds.is_empty()),
            downtime_seconds: facts.iter().rev().find_map(downtime),
            phases: phases(seconds),
            loss: facts.iter().rev().find_map(loss).filter(|_| outcome != ResultOutcome::Undone),
            checks: facts.iter().rev().find_map(checks).unwrap_or_default(),
            remarks: facts.iter().filter_map(remark).collect(),
            ..RunResult::without_run(outcome)
        }
    }

    /// A refusal before any run began.
    pub fn refused(reasons: Vec<Reason>, error: Option<Error>) -> RunResult {
        RunResult { refusals: reasons, error, ..RunResult::without_run(ResultOutcome::Refused) }
    }

    /// Nothing was to be done, in words.
    pub fn nothing(words: impl Into<String>) -> RunResult {
        RunResult { remarks: vec![words.into()], ..RunResult::without_run(ResultOutcome::Nothing) }
    }

    /// A failure before any run began.
    pub fn failed(error: Error) -> RunResult {
        RunResult { error: Some(error), ..RunResult::without_run(ResultOutcome::Failed) }
    }

    /// The same with its error.
    #[must_use]
    pub fn with_error(mut self, error: Error) -> RunResult {
        self.error = Some(error);
        self
    }

    /// The result of a verb that began no run.
    pub(super) fn without_run(outcome: ResultOutcome) -> RunResult {
        RunResult {
            run: None,
            changed: false,
            outcome,
            downtime_seconds: None,
            phases: Vec::new(),
            loss: None,
            checks: Vec::new(),
            refusals: Vec::new(),
            error: None,
            remarks: Vec::new(),
        }
    }
}

/// Seconds summed by phase, in the order of a recovery.
pub(super) fn phases(seconds: &[(Step, f64)]) -> Vec<(String, f64)> {
    let of = |phase: &str| seconds.iter().filter(|(step, _)| step.phase() == phase).map(|(_, s)| *s).reduce(|a, b| a + b);
    PHASES.into_iter().filter_map(|phase| Some((phase.to_string(), of(phase)?))).collect()
}

fn downtime(fact: &Fact) -> Option<f64> {
    match fact {
        Fact::Downtime { seconds } => Some(*seconds),
        _ => None,
    }
}

fn loss(fact: &Fact) -> Option<Loss> {
    match fact {
        Fact::Discarded { loss } => Some(loss.as_ref().clone()),
        _ => None,
    }
}

fn checks(fact: &Fact) -> Option<Vec<CheckResult>> {
    match fact {
        Fact::Checked { checks, .. } => Some(checks.clone()),
        _ => None,
    }
}

/// What a fact means to a person who reads the report.
pub(super) fn remark(fact: &Fact) -> Option<String> {
    match fact {
        Fact::Remark { text } => Some(text.clone()),
        Fact::OldStopped { crashed: true, .. } => Some("the old cluster had crashed: its WAL up to there is kept".into()),
        Fact::Extracted { verified: false, files, .. } => {
            Some(format!("{} of the backup had no manifest to be verified against", counted(*files, "file", "files")))
        }
        Fact::Promoted { timeline, fork, subscriptions, .. } => {
            let mut words = format!("the recovered cluster is on timeline {timeline}, which begins at {fork}");
            if !subscriptions.is_empty() {
                words += &format!("; subscriptions that are disabled now: {}", subscriptions.join(", "));
            }
            Some(words)
        }
        Fact::Moved { timeline } => Some(format!("the old cluster is on timeline {timeline} now")),
        Fact::WalKept { segments } if !segments.is_empty() => {
            Some(format!("{} that stood nowhere else kept", counted(segments.len() as u64, "WAL segment", "WAL segments")))
        }
        _ => None,
    }
}

/// The page, `width` columns wide.
pub fn text(result: &RunResult, width: usize) -> String {
    let mut sheet = Sheet::new(width);
    let run = result.run.as_ref().map(|id| format!("run {id}: ")).unwrap_or_default();
    sheet.line("Result", &format!("{run}{}", result.outcome.words()));
    if let Some(seconds) = result.downtime_seconds {
        sheet.line("Down for", &seconds_words(seconds));
    }
    let phases: Vec<String> = result.phases.iter().map(|(name, seconds)| format!("{name} {}", seconds_words(*seconds))).collect();
    if !phases.is_empty() {
        sheet.line("Phases", &phases.join(", "));
    }
    for (number, check) in result.checks.iter().enumerate() {
        put_check(&mut sheet, if number == 0 { "Checks" } else { "" }, check);
    }
    if let Some(loss) = &result.loss {
        super::plan::loss_lines(&mut sheet, loss);
    }
    sheet.list("Note", result.remarks.iter().map(String::as_str));
    reasons(&mut sheet, &result.refusals);
    // Where hands are needed, the error's hint is the one thing to do.
    let hands = result.error.as_ref().is_some_and(|e| e.kind == Kind::Hands);
    if let Some(id) = result.run.as_ref().filter(|_| !hands) {
        let next = result.outcome.next(id);
        sheet.list("Next", next.iter().map(String::as_str));
    }
    sheet.finish()
}

/// A check passed or not, why not, and the rows it returned.
pub(super) fn put_check(sheet: &mut Sheet, label: &str, check: &CheckResult) {
    let verdict = if check.passed { "passed" } else { "FAILED" };
    let why = check.words.as_ref().map(|words| format!(": {words}")).unwrap_or_default();
    sheet.line(label, &format!("{verdict}  {}{why}", check.name));
    for row in &check.rows {
        sheet.more(8, &row.join(" | "));
    }
}

pub(super) fn seconds_words(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| "?".into(), human_duration)
}

/// The document of `restore`, `resume`, `undo` and `purge`.
pub fn json(result: &RunResult) -> Value {
    json!({
        "schema": 1,
        "run": result.run,
        "changed": result.changed,
        "outcome": result.outcome.word(),
        "downtime_seconds": result.downtime_seconds.map(milliseconds),
        "phases": result.phases.iter().map(|(name, s)| json!({"name": name, "seconds": milliseconds(*s)})).collect::<Vec<_>>(),
        "checks": result.checks.iter().map(check_json).collect::<Vec<_>>(),
        "loss": result.loss.as_ref().map(super::plan::loss_json),
        "refusals": reasons_json(&result.refusals),
        "error": result.error.as_ref().map(error_json),
        "remarks": result.remarks,
    })
}

pub(super) fn check_json(check: &CheckResult) -> Value {
    json!({"name": check.name, "passed": check.passed, "rows": check.rows, "words": check.words})
}

pub(super) fn error_json(error: &Error) -> Value {
    json!({"kind": error.kind, "what": error.what, "cause": error.cause, "hint": error.hint})
}

/// Seconds to the millisecond; finer is noise.
pub(super) fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
