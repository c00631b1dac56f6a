//! What a journal tells: its entries, and the state of a run folded from them.
//!
//! Pure. The file itself is `run::journal`.

use std::collections::BTreeMap;

use jiff::Timestamp;

pub use super::entry::{By, CheckResult, Entry, Event, Fact, Outcome, Purpose};
use super::place::Exchange;
use super::recovery::Recovery;
use super::step::Step;
use crate::error::Error;
use crate::pg::control::ControlFile;
use crate::pg::{Lsn, Timeline, version};

/// The state of a run, folded from its journal.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger {
    /// Format version of the journal.
    pub format: u32,
    /// The recovery.
    pub recovery: Option<Recovery>,
    /// Who began it.
    pub by: By,
    /// When it began.
    pub begun: Option<Timestamp>,
    /// The current section.
    pub section: Option<Section>,
    /// Restore steps that are done, whatever section they were done in.
    pub done: Vec<Step>,
    /// All facts in order.
    pub facts: Vec<Fact>,
    /// Seconds per finished step.
    pub seconds: Vec<(Step, f64)>,
    /// How the last ended section ended; `None` while one is open.
    pub outcome: Option<Outcome>,
    /// The last failure.
    pub failure: Option<Error>,
}

/// A list of steps and how far it got.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// What for.
    pub purpose: Purpose,
    /// In this order.
    pub steps: Vec<Step>,
    /// How many are done: steps are done in order.
    pub done: usize,
    /// A step was begun and not done.
    pub open: bool,
}

impl Section {
    /// The step that comes next, or is at work.
    fn at(&self) -> &'static str {
        self.steps.get(self.done).map_or("its end", Step::name)
    }
}

impl Purpose {
    /// In a person's words.
    pub fn words(self) -> &'static str {
        match self {
            Purpose::Restore => "recovery",
            Purpose::StandBack => "putting the old cluster back",
            Purpose::Undo => "undo",
            Purpose::Purge => "purge",
        }
    }
}

impl Ledger {
    /// Reads the entries in order.
    pub fn fold(entries: &[Entry]) -> Ledger {
        let mut ledger = Ledger::default();
        for entry in entries {
            ledger.take(entry);
        }
        ledger
    }

    /// Adds one entry.
    pub fn take(&mut self, entry: &Entry) {
        match &entry.event {
            Event::Run { recovery, by, format, .. } => {
                self.format = *format;
                self.recovery = Some((**recovery).clone());
                self.by = by.clone();
                self.begun = Some(entry.time);
            }
            Event::Section { purpose, steps, .. } => {
                self.outcome = None;
                self.section = Some(Section { purpose: *purpose, steps: steps.clone(), done: 0, open: false });
            }
            Event::Begin { .. } => {
                if let Some(section) = &mut self.section {
                    section.open = true;
                }
            }
            Event::Fact { fact } => {
                match fact {
                    Fact::Extracting => self.done.retain(|step| *step != Step::Extract),
                    Fact::Extracted { .. } if !self.done.contains(&Step::Extract) => self.done.push(Step::Extract),
                    _ => {}
                }
                self.facts.push(fact.clone());
            }
            Event::Done { index, seconds } => self.finish(*index, *seconds),
            Event::Failed { error, .. } => self.failure = Some(error.clone()),
            Event::End { outcome } => self.outcome = Some(*outcome),
            Event::Note { .. } => {}
        }
    }

    fn finish(&mut self, index: usize, seconds: f64) {
        let Some(section) = &mut self.section else { return };
        section.done = index + 1;
        section.open = false;
        if let Some(step) = section.steps.get(index).cloned() {
            if section.purpose == Purpose::Restore {
                self.done.push(step.clone());
            }
            self.seconds.push((step, seconds));
        }
    }

    /// The newest fact that `pick` wants.
    pub fn last<T>(&self, pick: impl Fn(&Fact) -> Option<T>) -> Option<T> {
        self.facts.iter().rev().find_map(pick)
    }

    /// Units that this run stopped and has not started again; `None` where it has stopped none since.
    pub fn stopped_units(&self) -> Option<&[String]> {
        let picked = self.facts.iter().rev().find_map(|fact| match fact {
            Fact::UnitsStopped { units } => Some(Some(units.as_slice())),
            Fact::UnitsStarted => Some(None),
            _ => None,
        });
        picked.flatten()
    }

    /// The old cluster's pg_control as it must still be, while it must be down: until it is let go or, on undo, moved to
    /// another number. An exchange there and back changes nothing in it: once it is back at PGDATA somebody may start it
    /// before we do, and that must be noticed.
    pub fn old_control(&self) -> Option<ControlFile> {
        let picked = self.facts.iter().rev().find_map(|fact| match fact {
            Fact::OldStopped { control, .. } => Some(Some((**control).clone())),
            Fact::OldAbsent | Fact::OldStarted | Fact::MoveTo { .. } | Fact::Moved { .. } => Some(None),
            _ => None,
        });
        picked.flatten()
    }

    /// Whether the recovered cluster stands, or may stand, at PGDATA. Where the old one was let go, or was found
    /// running there, the exchange has not happened, however far the switch had come.
    pub fn switch_begun(&self) -> bool {
        let picked = self.facts.iter().rev().find_map(|fact| match fact {
            Fact::Switching | Fact::Switched | Fact::SwitchingBack => Some(true),
            Fact::SwitchedBack | Fact::OldStarted => Some(false),
            _ => None,
        });
        picked.unwrap_or(false)
    }

    /// What changes places at the newest switch, in its order; empty before one began.
    pub fn exchanges(&self) -> &[Exchange] {
        let list = self.facts.iter().rev().find_map(|fact| if let Fact::Exchanges { list } = fact { Some(list.as_slice()) } else { None });
        list.unwrap_or_default()
    }

    /// Whether the recovered cluster was, or may have been, started publicly.
    pub fn public_start(&self) -> bool {
        self.facts.iter().any(|f| matches!(f, Fact::PublicStart))
    }

    /// Staging as it lies there was promoted: a later extraction made it new.
    pub fn promoted(&self) -> bool {
        let picked = self.facts.iter().rev().find_map(|fact| match fact {
            Fact::Promoted { .. } => Some(true),
            Fact::Extracting | Fact::Extracted { .. } => Some(false),
            _ => None,
        });
        picked.unwrap_or(false)
    }

    /// A promotion was begun on this staging and did not come to its end.
    pub fn promotion_begun(&self) -> bool {
        let picked = self.facts.iter().rev().find_map(|fact| match fact {
            Fact::Number { .. } => Some(true),
            Fact::Promoted { .. } | Fact::Extracting | Fact::Extracted { .. } => Some(false),
            _ => None,
        });
        picked.unwrap_or(false)
    }

    /// The target's LSN as it was found after the newest stop; an earlier stop's is void.
    pub fn found_target(&self) -> Option<Lsn> {
        let picked = self.facts.iter().rev().find_map(|fact| match fact {
            Fact::Target { lsn } => Some(Some(*lsn)),
            Fact::OldStopped { .. } | Fact::OldAbsent => Some(None),
            _ => None,
        });
        picked.flatten()
    }

    /// The recovered cluster was put at PGDATA and not taken back.
    pub fn exchanged(&self) -> bool {
        let picked = self.facts.iter().rev().find_map(|fact| match fact {
            Fact::Switched => Some(true),
            Fact::SwitchedBack => Some(false),
            _ => None,
        });
        picked.unwrap_or(false)
    }

    /// Deleting the cluster aside was begun.
    pub fn removing(&self) -> bool {
        self.facts.contains(&Fact::Removing)
    }

    /// The old cluster was told to stop, whether or not it is known to have done so.
    pub fn stop_begun(&self) -> bool {
        self.facts.iter().any(|f| matches!(f, Fact::Stopping | Fact::OldStopped { .. } | Fact::OldAbsent))
    }

    /// A setting of the recovered cluster: as it was read from staging, or before that as the plan knows it.
    pub fn setting(&self, recovery: &Recovery, name: &str) -> String {
        let read = self.last(|f| if let Fact::Settings { settings } = f { Some(settings.clone()) } else { None });
        let known = read.as_ref().unwrap_or(&recovery.cluster.configuration.settings);
        known.get(name).cloned().unwrap_or_default()
    }

    /// What the private server needs at least: as planned, as the backup's own pg_control says, and as configured.
    pub fn floors(&self, recovery: &Recovery) -> BTreeMap<String, i64> {
        let control = self.last(|f| if let Fact::Extracted { control, .. } = f { control.clone() } else { None });
        let of_backup = control.map(|control| control.floors()).unwrap_or_default();
        let known = |name: &str| version::FLOORS.iter().position(|n| *n == name).and_then(|at| of_backup.get(at).copied());
        let highest = |name: &str, planned: i64| {
            let configured = self.setting(recovery, name).parse().unwrap_or(0);
            planned.max(known(name).unwrap_or(0)).max(configured)
        };
        recovery.floors.iter().map(|(name, planned)| (name.clone(), highest(name, *planned))).collect()
    }

    /// The recovered cluster archives its WAL. Where that is not known it is taken for granted.
    pub fn archives(&self, recovery: &Recovery) -> bool {
        matches!(self.setting(recovery, "archive_mode").as_str(), "on" | "always" | "")
    }

    /// The timeline number of the recovered cluster.
    pub fn number(&self) -> Option<Timeline> {
        self.last(|f| match f {
            Fact::Number { timeline } => Some(*timeline),
            _ => None,
        })
    }

    /// Whether a `resume` goes on with the recovery, rather than with an undo or a purge.
    pub fn goes_forward(&self) -> bool {
        let back = |section: &Section| matches!(section.purpose, Purpose::Undo | Purpose::Purge);
        !(self.outcome.is_none() && self.section.as_ref().is_some_and(back))
    }

    /// Whether the run still wants `resume` or `undo`.
    pub fn is_open(&self) -> bool {
        match self.outcome {
            None | Some(Outcome::Kept) => true,
            Some(Outcome::Switched | Outcome::Undone | Outcome::Removed) => false,
        }
    }

    /// How fast this run unpacked and replayed, bytes a second, if it did both.
    pub fn rates(&self) -> Option<(u64, u64)> {
        let took = |wanted: Step| self.seconds.iter().rev().find(|(step, _)| *step == wanted).map(|(_, s)| s.max(0.01));
        let unpacked = self.last(|f| if let Fact::Extracted { bytes, .. } = f { Some(*bytes) } else { None })?;
        let chain = self.recovery.as_ref().map(|r| r.chain.segments.saturating_mul(r.cluster.segment_size.bytes()))?;
        let rate = |bytes: u64, seconds: f64| ((bytes as f64 / seconds) as u64).max(1);
        Some((rate(unpacked, took(Step::Extract)?), rate(chain, took(Step::Replay)?)))
    }

    /// The state in a person's words.
    pub fn state(&self) -> String {
        match (self.outcome, &self.section) {
            (Some(Outcome::Switched), _) => "switched: the recovered cluster stands at PGDATA, the old one is kept aside".into(),
            (Some(Outcome::Undone), _) => "undone: the old cluster is back".into(),
            (Some(Outcome::Removed), _) => "purged".into(),
            (Some(Outcome::Kept), _) => "stopped before the switch: the old cluster is in place, the work is kept".into(),
            (None, Some(section)) => format!("open: {} ended or was interrupted at '{}'", section.purpose.words(), section.at()),
            (None, None) => "open: planned, nothing done".into(),
        }
    }

    /// The same while process `pid` is at work.
    pub fn at_work(&self, pid: i32) -> String {
        let at = self.section.as_ref().map(|section| format!(": {} is at '{}'", section.purpose.words(), section.at()));
        format!("at work in process {pid}{}", at.unwrap_or_default())
    }
}
