//! A run retold from its journal alone: what was asked, by whom, what was done in which section, how it ended.
//!
//! Pure. Nothing of the host is looked at, so that a run is told also when its cluster is long gone.

use jiff::Timestamp;

use super::ledger::{By, CheckResult, Entry, Event, Fact, Ledger, Outcome, Purpose};
use super::loss::Loss;
use super::recovery::Recovery;
use super::step::Step;
use crate::error::Error;
use crate::pg::{Lsn, Timeline};

/// A run as it is reported.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// Id.
    pub id: String,
    /// Version of the program that began it.
    pub program: String,
    /// What was decided.
    pub recovery: Recovery,
    /// Who began it.
    pub by: By,
    /// When.
    pub begun: Timestamp,
    /// The journal's last line.
    pub last: Timestamp,
    /// How it stands, in words.
    pub state: String,
    /// How its last section ended; `None` while one is open.
    pub outcome: Option<Outcome>,
    /// It wants `resume` or `undo`.
    pub open: bool,
    /// What was done, section by section.
    pub sections: Vec<SectionAccount>,
    /// Where replay stopped, and the server's words about it.
    pub reached: Option<(Lsn, String)>,
    /// The backup's files were compared with a manifest.
    pub verified: Option<bool>,
    /// The recovered cluster's timeline, and where it left its parent.
    pub timeline: Option<(Timeline, Lsn)>,
    /// What was discarded, counted after the stop.
    pub loss: Option<Loss>,
    /// Checks of the last time they ran privately, and publicly.
    pub checks: Vec<(CheckResult, bool)>,
    /// All facts, for remarks.
    pub facts: Vec<Fact>,
}

/// One section: a recovery, its continuation, an undo.
#[derive(Debug, Clone, PartialEq)]
pub struct SectionAccount {
    /// What for.
    pub purpose: Purpose,
    /// Who asked.
    pub by: By,
    /// When it began.
    pub begun: Timestamp,
    /// Its last line.
    pub last: Timestamp,
    /// How it ended, if it came to its end.
    pub outcome: Option<Outcome>,
    /// Steps that were begun, with seconds where they came to their end.
    pub steps: Vec<(Step, Option<f64>)>,
    /// Nobody was served for so many seconds.
    pub downtime: Option<f64>,
    /// Why it failed.
    pub error: Option<Error>,
}

impl Account {
    /// Retells `entries`; `None` where the journal has no plan: such a run did nothing.
    pub fn of(id: &str, entries: &[Entry]) -> Option<Account> {
        let first = entries.first()?;
        let Event::Run { program, recovery, by, .. } = &first.event else { return None };
        let ledger = Ledger::fold(entries);
        Some(Account {
            id: id.to_string(),
            program: program.clone(),
            recovery: (**recovery).clone(),
            by: by.clone(),
            begun: first.time,
            last: entries.last()?.time,
            state: ledger.state(),
            outcome: ledger.outcome,
            open: ledger.is_open(),
            sections: sections(entries),
            reached: ledger.last(|f| if let Fact::Reached { lsn, words } = f { Some((*lsn, words.clone())) } else { None }),
            verified: ledger.last(|f| if let Fact::Extracted { verified, .. } = f { Some(*verified) } else { None }),
            timeline: ledger.last(|f| if let Fact::Promoted { timeline, fork, .. } = f { Some((*timeline, *fork)) } else { None }),
            loss: ledger.last(|f| if let Fact::Discarded { loss } = f { Some((**loss).clone()) } else { None }),
            checks: checks(&ledger),
            facts: ledger.facts,
        })
    }

    /// Steps with their seconds, of the recovery and its continuations.
    pub fn recovery_seconds(&self) -> Vec<(Step, f64)> {
        let of_recovery = self.sections.iter().filter(|s| s.purpose == Purpose::Restore);
        of_recovery.flat_map(|s| &s.steps).filter_map(|(step, seconds)| Some((step.clone(), (*seconds)?))).collect()
    }

    /// How long nobody was served because of the recovery, in seconds.
    pub fn downtime(&self) -> Option<f64> {
        self.sections
            .iter()
            .filter(|s| matches!(s.purpose, Purpose::Restore | Purpose::StandBack))
            .filter_map(|s| s.downtime)
            .reduce(|a, b| a + b)
    }

    /// The last failure that nothing later made good.
    pub fn error(&self) -> Option<&Error> {
        let ended_well = matches!(self.outcome, Some(Outcome::Switched | Outcome::Removed));
        self.sections.iter().rev().find_map(|s| s.error.as_ref()).filter(|_| !ended_well)
    }
}

fn sections(entries: &[Entry]) -> Vec<SectionAccount> {
    let mut sections: Vec<SectionAccount> = Vec::new();
    let mut planned: Vec<Step> = Vec::new();
    for entry in entries {
        if let Event::Section { purpose, steps, by } = &entry.event {
            planned.clone_from(steps);
            sections.push(SectionAccount {
                purpose: *purpose,
                by: by.clone(),
                begun: entry.time,
                last: entry.time,
                outcome: None,
                steps: Vec::new(),
                downtime: None,
                error: None,
            });
        }
        let Some(section) = sections.last_mut() else { continue };
        section.last = entry.time;
        match &entry.event {
            Event::Begin { step, .. } => section.steps.push((step.clone(), None)),
            Event::Done { index, seconds } => {
                let done = planned.get(*index);
                if let Some((_, slot)) = section.steps.iter_mut().rev().find(|(step, _)| Some(step) == done) {
                    *slot = Some(*seconds);
                }
            }
            Event::Fact { fact: Fact::Downtime { seconds } } => section.downtime = Some(*seconds),
            Event::Failed { error, .. } => section.error = Some(error.clone()),
            Event::End { outcome } => section.outcome = Some(*outcome),
            Event::Run { .. } | Event::Section { .. } | Event::Fact { .. } | Event::Note { .. } => {}
        }
    }
    sections
}

fn checks(ledger: &Ledger) -> Vec<(CheckResult, bool)> {
    let last = |wanted: bool| {
        ledger.last(|f| match f {
            Fact::Checked { checks, public } if *public == wanted => Some(checks.clone()),
            _ => None,
        })
    };
    let told = |public: bool| last(public).unwrap_or_default().into_iter().map(move |check| (check, public));
    told(false).chain(told(true)).collect()
}

/// What a section was for, in a word.
pub fn purpose_word(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Restore => "restore",
        Purpose::StandBack => "stand-back",
        Purpose::Undo => "undo",
        Purpose::Purge => "purge",
    }
}

/// How a section ended, in the word of the documents.
pub fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Switched => "switched",
        Outcome::Undone => "undone",
        Outcome::Kept => "kept",
        Outcome::Removed => "removed",
    }
}
