//! What a journal tells: its entries, and the state of a run folded from them.
//!
//! Pure. The file itself is `run::journal`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::loss::Loss;
use super::recovery::Recovery;
use super::step::Step;
use crate::error::Error;
use crate::pg::control::ControlFile;
use crate::pg::{Lsn, Timeline};

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was written.
    pub time: Timestamp,
    /// What it says.
    #[serde(flatten)]
    pub event: Event,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run: everything later sections need, written once, first.
    Run {
        /// Format version of the journal.
        format: u32,
        /// Version of the program.
        program: String,
        /// The recovery that was planned.
        recovery: Box<Recovery>,
        /// Who asked and why.
        by: By,
    },
    /// A list of steps begins: a recovery, its continuation, an undo, a purge, or putting the old cluster back.
    Section {
        /// What for.
        purpose: Purpose,
        /// In this order.
        steps: Vec<Step>,
        /// Who asked and why.
        by: By,
    },
    /// A step's effect is about to happen.
    Begin {
        /// Which one of the section, from 0.
        index: usize,
        /// The step, for readers.
        step: Step,
    },
    /// A fact that later steps, `resume` or `undo` need; durable before the effect it is for.
    Fact {
        /// The fact.
        fact: Fact,
    },
    /// A step's effect is durable.
    Done {
        /// Which one of the section.
        index: usize,
        /// Seconds it took.
        seconds: f64,
    },
    /// A step failed; what follows is in the next section.
    Failed {
        /// Which one.
        index: usize,
        /// Why.
        error: Error,
    },
    /// The section ended.
    End {
        /// What of the run.
        outcome: Outcome,
    },
    /// For readers.
    Note {
        /// Words.
        text: String,
    },
}

/// Who did it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// Login user (the audit uid, then SUDO_USER's uid, else root).
    pub user: String,
    /// The command line.
    pub command: Vec<String>,
    /// `--reason`.
    pub reason: Option<String>,
}

/// What a section is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Forward.
    Restore,
    /// A recovery failed or was stopped: the old cluster serves again, the work is kept.
    StandBack,
    /// Back.
    Undo,
    /// Delete what is left.
    Purge,
}

/// How a section ended; the JSON documents use these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The recovered cluster serves.
    Switched,
    /// Reverted: the old cluster serves, the run is over.
    Undone,
    /// Failed or stopped before the switch: the old cluster serves, the work is kept for `resume`.
    Kept,
    /// Purged.
    Removed,
}

/// Facts of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// Stopped units, in the order of stopping, that ran before.
    UnitsStopped {
        /// Their names.
        units: Vec<String>,
    },
    /// The old cluster is about to be told to stop.
    Stopping,
    /// The old cluster is down and this is its pg_control.
    OldStopped {
        /// pg_control after the stop.
        control: Box<ControlFile>,
        /// It had crashed rather than been stopped.
        crashed: bool,
    },
    /// The old cluster was let go: whatever it does from here on is expected.
    OldStarted,
    /// The directory beside PGDATA was made for the run.
    Staged {
        /// Its inode.
        inode: u64,
    },
    /// Staging is about to be made anew: what was there is void.
    Extracting,
    /// The backup lies verified in staging.
    Extracted {
        /// Files.
        files: u64,
        /// Bytes.
        bytes: u64,
        /// Checked against a manifest.
        verified: bool,
    },
    /// The target as an LSN, known only after the stop.
    Target {
        /// Where replay ends.
        lsn: Lsn,
    },
    /// What is discarded, counted after the stop.
    Discarded {
        /// The sum.
        loss: Box<Loss>,
    },
    /// WAL after the stop: what `wal-get` may hand out.
    Chain {
        /// First and last segment file, in words.
        first: String,
        /// Last segment.
        last: String,
    },
    /// Staging opened by itself instead of pausing: extracted again, promoted without a pause.
    PausedNot,
    /// Replay stands at the target.
    Reached {
        /// Replay LSN.
        lsn: Lsn,
        /// The server's own words.
        words: String,
    },
    /// Checks passed.
    Checked {
        /// Results.
        checks: Vec<CheckResult>,
        /// On the public server.
        public: bool,
    },
    /// These checks wait for a lock of a transaction that ends with the promotion: they run after it.
    ChecksPutOff {
        /// Their names.
        checks: Vec<String>,
    },
    /// The number the recovered cluster takes.
    Number {
        /// Timeline.
        timeline: Timeline,
    },
    /// Promoted privately.
    Promoted {
        /// Its timeline.
        timeline: Timeline,
        /// Where it left its parent.
        fork: Lsn,
        /// Next transaction id after promotion.
        next_xid: u64,
        /// Subscriptions that were disabled, `database.name`.
        subscriptions: Vec<String>,
    },
    /// Staging is shut down and tidy; this is its pg_control.
    Tidied {
        /// pg_control.
        control: Box<ControlFile>,
        /// Segments and histories put up for the archive.
        offered: Vec<String>,
    },
    /// The switch is about to begin.
    Switching,
    /// The recovered cluster stands at PGDATA, complete.
    Switched,
    /// The recovered cluster was started publicly (or is about to be).
    PublicStart,
    /// An undo is about to bring the old cluster back into place.
    SwitchingBack,
    /// The old cluster stands at PGDATA again.
    SwitchedBack,
    /// The number that the old cluster moves to on undo.
    MoveTo {
        /// Timeline.
        timeline: Timeline,
    },
    /// It did.
    Moved {
        /// Timeline.
        timeline: Timeline,
    },
    /// The cluster aside is about to be deleted: nothing can be undone from here on.
    Removing,
    /// WAL kept by a purge.
    WalKept {
        /// Segment files.
        segments: Vec<String>,
    },
    /// When the cluster went away and when it was back.
    Downtime {
        /// Seconds.
        seconds: f64,
    },
    /// Something a person should read in the report.
    Remark {
        /// Words.
        text: String,
    },
}

/// One check's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Its name.
    pub name: String,
    /// Did it hold?
    pub passed: bool,
    /// Why not, or why it was not run.
    pub words: Option<String>,
    /// Rows it returned, as text, at most a few.
    pub rows: Vec<Vec<String>>,
}

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

    /// The old cluster's pg_control as it must still be, while it must be down.
    pub fn old_control(&self) -> Option<ControlFile> {
        let picked = self.facts.iter().rev().find_map(|fact| match fact {
            Fact::OldStopped { control, .. } => Some(Some((**control).clone())),
            Fact::OldStarted | Fact::SwitchedBack | Fact::Moved { .. } => Some(None),
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
            Fact::OldStopped { .. } => Some(None),
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
        self.facts.iter().any(|f| matches!(f, Fact::Stopping | Fact::OldStopped { .. }))
    }
    /// The timeline number of the recovered cluster.
    pub fn number(&self) -> Option<Timeline> {
        self.last(|f| match f {
            Fact::Number { timeline } => Some(*timeline),
            _ => None,
        })
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
            (None, Some(section)) => {
                let at = section.steps.get(section.done).map_or("its end", Step::name);
                let what = match section.purpose {
                    Purpose::Restore => "recovery",
                    Purpose::StandBack => "putting the old cluster back",
                    Purpose::Undo => "undo",
                    Purpose::Purge => "purge",
                };
                format!("open: {what} ended or was interrupted at '{at}'")
            }
            (None, None) => "open: planned, nothing done".into(),
        }
    }
}
