//! What planning a recovery comes to: a decision, or every reason against it, with all that a person wants to read.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::loss::{Border, Loss};
use super::recovery::{Consequence, Recovery};
use crate::error::{Error, Kind};
use crate::pg::{Lsn, Timeline};

/// A reason against a recovery. With an id that is a judgement, `--accept` overrides it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable id, documented.
    pub id: String,
    /// What is wrong, with path or LSN.
    pub what: String,
    /// What to do, with the command.
    pub hint: String,
    /// `--accept ID` overrides it.
    pub judgement: bool,
}

impl Reason {
    /// A fact: nothing overrides it.
    pub fn fact(id: &str, what: impl Into<String>, hint: impl Into<String>) -> Reason {
        Reason { id: id.into(), what: what.into(), hint: hint.into(), judgement: false }
    }

    /// A judgement: `--accept ID` overrides it.
    pub fn judgement(id: &str, what: impl Into<String>, hint: impl Into<String>) -> Reason {
        Reason { id: id.into(), what: what.into(), hint: hint.into(), judgement: true }
    }
}

/// The result of planning. Equal facts and an equal request give an equal value, but for what says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// The host's name.
    pub host: String,
    /// The cluster.
    pub cluster: ClusterLine,
    /// The target as it is understood.
    pub target: TargetLine,
    /// The backup, once one could be chosen.
    pub backup: Option<BackupLine>,
    /// Every other backup and why it cannot serve or was not taken.
    pub passed_over: Vec<(String, String)>,
    /// The WAL, once a backup was chosen.
    pub wal: Option<WalLine>,
    /// What is discarded; `None` where that is not known.
    pub loss: Option<Loss>,
    /// What a person should know will be different.
    pub consequences: Vec<Consequence>,
    /// Other ways, in words.
    pub alternatives: Vec<String>,
    /// Room on the filesystem of PGDATA.
    pub space: SpaceLine,
    /// Room on the others that tablespaces and pg_wal lie on.
    #[serde(default)]
    pub other_space: Vec<SpaceLine>,
    /// How long it takes, in seconds; `None` when nothing was measured on this host yet.
    pub estimate: Option<Estimate>,
    /// Reasons against; empty when it can be done.
    pub refusals: Vec<Reason>,
    /// The decision, when there is no reason against it.
    pub recovery: Option<Recovery>,
}

/// The cluster's line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterLine {
    /// Name.
    pub name: String,
    /// PGDATA.
    pub data_directory: String,
    /// Version.
    pub version: String,
    /// `serving`, `stopped`, `crashed`.
    pub state: String,
    /// Bytes.
    pub bytes: u64,
}

/// The target's line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetLine {
    /// In words: `before 2026-11-21 21:05:19.998811+00`.
    pub text: String,
    /// As it was asked, for a command line: `--before-time '…'`.
    pub argument: String,
    /// Timeline, once known.
    pub timeline: Option<Timeline>,
    /// LSN, when known before replay.
    pub lsn: Option<Lsn>,
    /// The record at the target is kept.
    pub inclusive: bool,
    /// The last transaction that is kept, where the WAL was read.
    pub keeps: Option<Border>,
    /// The first transaction that is discarded, if there is one.
    pub discards: Option<Border>,
    /// What else is to be known of it.
    pub note: Option<String>,
}

/// The backup's line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupLine {
    /// Name.
    pub name: String,
    /// Path.
    pub path: String,
    /// Redo point.
    pub start_lsn: Option<Lsn>,
    /// Where it becomes consistent.
    pub end_lsn: Option<Lsn>,
    /// When it ended, at the latest.
    pub time: Option<Timestamp>,
    /// Bytes as it lies there.
    pub bytes: u64,
    /// Bytes unpacked, if known.
    pub unpacked: Option<u64>,
    /// A manifest vouches for every file.
    pub manifest: bool,
}

/// The WAL's line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalLine {
    /// Timeline.
    pub timeline: Timeline,
    /// How many segments.
    pub segments: u64,
    /// First file.
    pub first: String,
    /// Last file.
    pub last: String,
    /// Segments that stand only in pg_wal, not in the archive.
    pub only_in_pg_wal: u64,
    /// Missing segments.
    pub gaps: Vec<String>,
}

/// Room on the filesystem, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceLine {
    /// Where.
    pub at: String,
    /// Needed.
    pub needed: u64,
    /// Free.
    pub free: u64,
    /// Kept in reserve.
    pub reserve: u64,
}

/// How long it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// In all, seconds.
    pub total_seconds: u64,
    /// PostgreSQL is down for this long, seconds.
    pub downtime_seconds: u64,
}

impl Planned {
    /// The refusal as one error: the first reason leads, all are named.
    pub fn refusal(&self) -> Option<Error> {
        let first = self.refusals.first()?;
        let mut error = Error::new(Kind::Refused, format!("refused: {} [{}]", first.what, first.id)).hint(first.hint.clone());
        if self.refusals.len() > 1 {
            let rest: Vec<String> = self.refusals.iter().skip(1).map(|r| format!("{} [{}]", r.what, r.id)).collect();
            error = error.cause(format!("and {} more: {}", rest.len(), rest.join("; ")));
        }
        Some(error)
    }
}
