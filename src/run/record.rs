//! What a run does, for the host's own log: a record when it begins and ends, for each step, each failure and each
//! remark.
//!
//! The journal of the run is what counts; these records are for whoever reads the host's log. Their fields and ids are
//! documented in docs/hosts.md.

use crate::plan::ledger::{By, Event, Fact, Ledger, Outcome, Purpose};
use crate::plan::recovery::Recovery;
use crate::sys::syslog::{Log, Priority, Record};

/// What kind of record it is, for programs (`MESSAGE_ID`).
mod id {
    pub(super) const SECTION: &str = "2c7264c8e0984a148e992358c0af75a6";
    pub(super) const BEGIN: &str = "8c7b445b4c694ad2bd8bf4c517234e54";
    pub(super) const DONE: &str = "0b5627ded52f4781bf84b599d5a958c2";
    pub(super) const FAILED: &str = "1cb0998c380941d9bde2f9f891dafba3";
    pub(super) const REMARK: &str = "5731fdfd8d91430996f2b3d884a7a5e9";
    pub(super) const END: &str = "88e7c069e4624ae4a04c88e2484bbe6b";
}

/// Writes down what `event` says of run `run`; the ledger knows the event already.
pub fn write(run: &str, recovery: &Recovery, ledger: &Ledger, event: &Event) {
    if let Some(record) = record(run, recovery, ledger, event) {
        Log::of_this_host().write(&record);
    }
}

fn record(run: &str, recovery: &Recovery, ledger: &Ledger, event: &Event) -> Option<Record> {
    let step = |index: usize| ledger.section.as_ref().and_then(|section| section.steps.get(index));
    let name = |index| step(index).map(|step| ("PITR_STEP", step.name().to_string()));
    let cluster = &recovery.cluster.name;
    let (act, id, priority, words, more) = match event {
        Event::Section { purpose, by, .. } => {
            let words = format!("cluster {cluster}: {} begins, asked for by {}", purpose.words(), by.user);
            ("begin", id::SECTION, Priority::Notice, words, asked(by))
        }
        Event::Begin { index, step } => ("step", id::BEGIN, Priority::Info, step.describe(recovery), name(*index).into_iter().collect()),
        Event::Done { index, seconds } => {
            let seconds = format!("{seconds:.3}");
            let words = format!("{}: done in {seconds} s", step(*index).map_or("step", |step| step.name()));
            ("done", id::DONE, Priority::Info, words, name(*index).into_iter().chain([("PITR_SECONDS", seconds)]).collect())
        }
        Event::Failed { index, error } => {
            let words = format!("{}: {error}", step(*index).map_or("step", |step| step.name()));
            ("failed", id::FAILED, Priority::Error, words, name(*index).into_iter().collect())
        }
        Event::Fact { fact: Fact::Remark { text } } => ("remark", id::REMARK, Priority::Warning, text.clone(), Vec::new()),
        Event::End { outcome } => {
            let word = outcome_word(*outcome);
            ("end", id::END, Priority::Notice, format!("cluster {cluster}: {}", ledger.state()), vec![("PITR_OUTCOME", word.to_string())])
        }
        Event::Run { .. } | Event::Fact { .. } | Event::Note { .. } => return None,
    };
    let purpose = ledger.section.as_ref().map(|section| ("PITR_PURPOSE", purpose_word(section.purpose).to_string()));
    let always = [("PITR_ACT", act.to_string()), ("PITR_RUN", run.to_string()), ("PITR_CLUSTER", cluster.clone())];
    let fields = always.into_iter().chain(purpose).chain(more).collect();
    Some(Record { message: format!("run {run}: {words}"), id, priority, fields })
}

fn asked(by: &By) -> Vec<(&'static str, String)> {
    let reason = by.reason.clone().map(|reason| ("PITR_REASON", reason));
    [("PITR_USER", by.user.clone()), ("PITR_COMMAND", by.command.join(" "))].into_iter().chain(reason).collect()
}

/// As in the journal (docs/journal.md).
fn purpose_word(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Restore => "restore",
        Purpose::StandBack => "stand_back",
        Purpose::Undo => "undo",
        Purpose::Purge => "purge",
    }
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Switched => "switched",
        Outcome::Undone => "undone",
        Outcome::Kept => "kept",
        Outcome::Removed => "removed",
    }
}
