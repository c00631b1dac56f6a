//! The entries of a journal, as values (docs/journal.md).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::loss::Loss;
use super::place::Exchange;
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

/// Bytes of a text that others wrote, as far as it is kept.
const LONGEST_TEXT: usize = 8 << 10;
/// Bytes of a value that a check returned.
const LONGEST_VALUE: usize = 1 << 10;

impl Event {
    /// The same with texts of others, such as a server's words and what a check returned, cut to what a person reads.
    pub fn bounded(self) -> Event {
        match self {
            Event::Failed { index, error } => Event::Failed { index, error: bounded_error(error) },
            Event::Note { text } => Event::Note { text: cut(text, LONGEST_TEXT) },
            Event::Fact { fact } => Event::Fact { fact: fact.bounded() },
            other => other,
        }
    }
}

impl Fact {
    fn bounded(self) -> Fact {
        match self {
            Fact::Remark { text } => Fact::Remark { text: cut(text, LONGEST_TEXT) },
            Fact::Reached { lsn, words } => Fact::Reached { lsn, words: cut(words, LONGEST_TEXT) },
            Fact::Checked { checks, public } => Fact::Checked { checks: checks.into_iter().map(CheckResult::bounded).collect(), public },
            other => other,
        }
    }
}

impl CheckResult {
    fn bounded(self) -> CheckResult {
        let value = |text: String| cut(text, LONGEST_VALUE);
        CheckResult {
            name: value(self.name),
            passed: self.passed,
            words: self.words.map(|text| cut(text, LONGEST_TEXT)),
            rows: self.rows.into_iter().map(|row| row.into_iter().map(value).collect()).collect(),
        }
    }
}

fn bounded_error(error: Error) -> Error {
    let text = |text| cut(text, LONGEST_TEXT);
    Error { what: text(error.what), cause: error.cause.map(text), hint: error.hint.map(text), ..error }
}

/// The beginning of a text that is longer than `most` bytes, and how much is missing.
fn cut(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let kept = (0..=most).rev().find_map(|end| text.get(..end)).unwrap_or_default();
    format!("{kept}… ({} more bytes)", text.len() - kept.len())
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
    /// They were started again, as far as they could be.
    UnitsStarted,
    /// A dump is about to be written to this file: only what a run began may it replace.
    Dumping {
        /// Its name in the directory of the plan.
        file: String,
        /// The database; none: what belongs to none.
        database: Option<String>,
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
    /// There is no old cluster that could run, and nothing runs at PGDATA.
    OldAbsent,
    /// An empty directory is about to be made at PGDATA.
    Placeholder,
    /// Settings of the recovered cluster, read from staging once it was configured.
    Settings {
        /// By name.
        settings: std::collections::BTreeMap<String, String>,
    },
    /// The old cluster was let go: whatever it does from here on is expected.
    OldStarted,
    /// The directory beside PGDATA was made for the run.
    Staged {
        /// Its inode.
        inode: u64,
    },
    /// The same at another place that holds data: in a tablespace's location, beside an external pg_wal.
    StagedAt {
        /// The directory.
        path: std::path::PathBuf,
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
        /// Its pg_control, which a look at the backup does not always show.
        #[serde(default)]
        control: Option<Box<ControlFile>>,
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
    /// Replay asked for a resource manager: a server that may open is tried with these preloaded libraries besides
    /// those that do not act.
    Needed {
        /// As they stand in `shared_preload_libraries`.
        libraries: Vec<String>,
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
    /// What changes places at the switch, in its order, with the inodes that tell old from new.
    Exchanges {
        /// PGDATA first.
        list: Vec<Exchange>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_are_cut_visibly_and_at_a_character() {
        let long = "ü".repeat(1 << 20);
        let error = Error::failed(&long).cause(&long).hint(&long);
        let check = CheckResult { name: "c".into(), passed: false, words: Some(long.clone()), rows: vec![vec![long.clone(), "1".into()]] };
        let events = [
            Event::Failed { index: 0, error },
            Event::Fact { fact: Fact::Remark { text: long.clone() } },
            Event::Fact { fact: Fact::Reached { lsn: Lsn(8), words: long.clone() } },
            Event::Fact { fact: Fact::Checked { checks: vec![check], public: true } },
            Event::Note { text: long },
        ];
        for event in events {
            let event = event.bounded();
            let line = serde_json::to_string(&Entry { time: Timestamp::UNIX_EPOCH, event: event.clone() }).unwrap();
            assert!(line.len() < 40 << 10 && line.contains("ü… (20"), "{} bytes", line.len());
            assert_eq!(event.clone().bounded(), event.bounded(), "what is cut stays as it is");
            assert!(serde_json::from_str::<Entry>(&line).is_ok());
        }
    }

    #[test]
    fn a_short_text_is_kept_whole() {
        for most in 0..7 {
            let cut = cut("aüß€".into(), most);
            assert!(cut.starts_with("aüß€".get(..most).unwrap_or_default()) && cut.ends_with("more bytes)"), "{cut}");
        }
        assert_eq!(cut("aüß€".into(), 8), "aüß€");
    }
}
