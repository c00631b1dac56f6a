//! `pitr verify wal`: what can be reached, and every hole.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::layout::{Sheet, moment};
use crate::pg::{Lsn, Timeline};
use crate::plan::time::rfc3339;

/// What reading all WAL showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// What can be reached.
    pub windows: Vec<WalWindow>,
    /// What is missing or damaged.
    pub holes: Vec<Hole>,
    /// What else was wrong.
    pub problems: Vec<String>,
}

impl Proof {
    /// Nothing is missing or damaged.
    pub fn is_whole(&self) -> bool {
        self.holes.is_empty() && self.problems.is_empty()
    }
}

/// From the end of a backup, or where none is known of a stretch's first record, to the last good record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalWindow {
    /// Timeline.
    pub timeline: Timeline,
    /// Backup.
    pub backup: Option<String>,
    /// When it had ended, at the latest.
    pub from: Option<Timestamp>,
    /// The last end of a transaction.
    pub to: Option<Timestamp>,
    /// First position.
    pub from_lsn: Lsn,
    /// End of the last good record.
    pub to_lsn: Lsn,
}

/// WAL that is not there as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// Timeline.
    pub timeline: Timeline,
    /// End of the last good record before.
    pub from: Lsn,
    /// The first good record behind, if there is one.
    pub to: Option<Lsn>,
    /// Which segment, and what is wrong.
    pub what: String,
}

/// The page.
pub fn text(proof: &Proof, width: usize) -> String {
    let mut sheet = Sheet::new(width);
    if proof.windows.is_empty() {
        sheet.line("Windows", "none: nothing can be recovered from this WAL");
    }
    let words: Vec<String> = proof.windows.iter().map(window_words).collect();
    sheet.list("Windows", words.iter().map(String::as_str));
    let holes: Vec<String> = proof.holes.iter().map(hole_words).collect();
    sheet.list("Holes", holes.iter().map(String::as_str));
    sheet.list("Problems", proof.problems.iter().map(String::as_str));
    if proof.is_whole() {
        sheet.line("Result", "every record is there, with its checksum");
    }
    sheet.finish()
}

fn window_words(window: &WalWindow) -> String {
    let time = |time: Option<Timestamp>| time.map(|time| format!("{}, ", moment(time))).unwrap_or_default();
    let backup = window.backup.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
    format!("timeline {}{backup}: from {}{} to {}{}", window.timeline, time(window.from), window.from_lsn, time(window.to), window.to_lsn)
}

fn hole_words(hole: &Hole) -> String {
    let to = hole.to.map_or_else(String::new, |to| format!("; WAL goes on at {to}"));
    format!("timeline {}, from {}: {}{to}", hole.timeline, hole.from, hole.what)
}

/// The document.
pub fn json(proof: &Proof) -> Value {
    let windows = proof.windows.iter().map(|w| {
        json!({
            "timeline": w.timeline,
            "backup": w.backup,
            "from": w.from.map(rfc3339),
            "to": w.to.map(rfc3339),
            "from_lsn": w.from_lsn,
            "to_lsn": w.to_lsn,
        })
    });
    let holes = proof.holes.iter().map(|h| json!({"timeline": h.timeline, "from": h.from, "to": h.to, "what": h.what}));
    json!({
        "schema": 1,
        "whole": proof.is_whole(),
        "windows": windows.collect::<Vec<_>>(),
        "holes": holes.collect::<Vec<_>>(),
        "problems": proof.problems,
    })
}
