//! Questions to the WAL: which record a target means, and what lies between two places.
//!
//! Pure, over the entries of a [`super::ledger::Ledger`] in the order of the WAL; each answer is a fold, so that
//! an archive of any size is read once and never held.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::block::RelationFile;
use super::heap::Rows;
use super::ledger::{Entry, Transaction};
use super::transaction::PgTime;
use crate::pg::{History, Lsn, Timeline};

/// An end of a transaction, as recovery compares it with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Full id; of an abort perhaps a subtransaction's.
    pub xid: u64,
    /// When.
    pub time: PgTime,
    /// Start of the record.
    pub lsn: Lsn,
    /// End of the record.
    pub end: Lsn,
    /// It committed.
    pub committed: bool,
}

impl Ended {
    /// The end an entry tells of, if it is one.
    pub fn of(entry: &Entry) -> Option<Ended> {
        match entry {
            Entry::Committed(t) => Some(Ended { xid: t.xid, time: t.time, lsn: t.lsn, end: t.end, committed: true }),
            Entry::Aborted { lsn, end, xid, time } => Some(Ended { xid: *xid, time: *time, lsn: *lsn, end: *end, committed: false }),
            _ => None,
        }
    }
}

/// Where recovery to a time stops (`recoveryStopsBefore`, xlogrecovery.c): before the first commit or abort whose
/// time is past it. Times do not rise strictly; the first in the order of the WAL decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByTime {
    time: PgTime,
    inclusive: bool,
    /// The first commit or abort that is discarded.
    pub stop: Option<Ended>,
    /// The last commit that is kept.
    pub kept: Option<Ended>,
    /// The first commit that is discarded.
    pub discarded: Option<Ended>,
}

impl ByTime {
    /// To `time`: with `inclusive` transactions of exactly that time are kept.
    pub fn new(time: PgTime, inclusive: bool) -> ByTime {
        ByTime { time, inclusive, stop: None, kept: None, discarded: None }
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        let Some(ended) = Ended::of(entry) else { return };
        let past = if self.inclusive { ended.time > self.time } else { ended.time >= self.time };
        if self.stop.is_none() && past {
            self.stop = Some(ended);
        }
        match (ended.committed, self.stop.is_some()) {
            (true, false) => self.kept = Some(ended),
            (true, true) => self.discarded = self.discarded.or(Some(ended)),
            (false, _) => {}
        }
    }
}

/// What an id turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// A top-level transaction that committed.
    Commit(Ended),
    /// A subtransaction; recovery targets know only its top-level transaction, which committed here.
    Subtransaction(Ended),
    /// A transaction or subtransaction that was rolled back.
    Abort(Ended),
    /// Prepared, and neither committed nor rolled back later.
    Prepared {
        /// Start of the PREPARE record.
        lsn: Lsn,
    },
}

/// Looks for a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByXid {
    xid: u64,
    full: bool,
    found: Vec<Found>,
}

impl ByXid {
    /// `xid` as a person gives it: below 2^32 the epoch is not compared.
    pub fn new(xid: u64) -> ByXid {
        ByXid { xid, full: xid >> 32 != 0, found: Vec::new() }
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Committed(t) if self.is(t.xid) => self.settle(Ended::of(entry).map(Found::Commit)),
            Entry::Committed(t) if t.subxids.iter().any(|sub| self.is(full_sub(t, *sub))) => {
                self.settle(Ended::of(entry).map(Found::Subtransaction));
            }
            Entry::Aborted { xid, .. } if self.is(*xid) => self.settle(Ended::of(entry).map(Found::Abort)),
            Entry::Prepared { xid, lsn, .. } if self.is(*xid) => self.found.push(Found::Prepared { lsn: *lsn }),
            _ => {}
        }
    }

    /// All that was found, in the order of the WAL: more than one only where ids wrapped around.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    fn settle(&mut self, found: Option<Found>) {
        self.found.retain(|found| !matches!(found, Found::Prepared { .. }));
        self.found.extend(found);
    }

    fn is(&self, xid: u64) -> bool {
        if self.full { xid == self.xid } else { xid as u32 == self.xid as u32 }
    }
}

/// A subtransaction's id follows its parent's.
fn full_sub(parent: &Transaction, sub: u32) -> u64 {
    parent.xid.saturating_add(u64::from(sub.wrapping_sub(parent.xid as u32)))
}

/// A restore point that has the name asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePoint {
    /// Start of the record.
    pub lsn: Lsn,
    /// End of the record: where recovery stops.
    pub end: Lsn,
    /// When.
    pub time: PgTime,
}

/// The restore point of an entry, if it has this name. Names are not unique; recovery stops at the first.
pub fn restore_point(entry: &Entry, wanted: &str) -> Option<RestorePoint> {
    match entry {
        Entry::RestorePoint { lsn, end, name, time } if name == wanted => Some(RestorePoint { lsn: *lsn, end: *end, time: *time }),
        _ => None,
    }
}

/// What committed within a range of LSNs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First LSN of the range.
    pub from: Lsn,
    /// First LSN after it; a commit belongs to the range by its record's start.
    pub to: Lsn,
    /// Number of commits.
    pub transactions: u64,
    /// The first.
    pub first: Option<Ended>,
    /// The last.
    pub last: Option<Ended>,
    /// Rows per relation.
    pub relations: BTreeMap<RelationFile, Rows>,
}

impl Range {
    /// An empty sum over `from..to`.
    pub fn new(from: Lsn, to: Lsn) -> Range {
        Range { from, to, transactions: 0, first: None, last: None, relations: BTreeMap::new() }
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        let Entry::Committed(t) = entry else { return };
        if t.lsn < self.from || t.lsn >= self.to {
            return;
        }
        self.transactions += 1;
        self.last = Ended::of(entry);
        self.first = self.first.or(self.last);
        for (relation, rows) in &t.rows {
            self.relations.entry(*relation).or_default().add(*rows);
        }
    }
}

/// Compares the switches that a history promises with those that the WAL records.
///
/// The first record of a timeline is a shutdown checkpoint or END_OF_RECOVERY at the switch point; it names the timeline
/// and the one it leaves (xlogrecovery.c, `checkTimeLineSwitch`). Page headers do not show a wrong branch before the next page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switches {
    /// Switch point, the timeline it begins, the one it leaves; ascending.
    expected: Vec<(Lsn, Timeline, Timeline)>,
    found: Vec<(Lsn, Timeline, Timeline)>,
}

impl Switches {
    /// Those of `history` in WAL that is read from `from` on.
    pub fn new(history: &History, from: Lsn) -> Switches {
        let points = history.ancestors.iter().map(|ancestor| ancestor.switch).filter(|switch| *switch > from);
        let sides = |at: Lsn| (at, history.timeline_at(at), history.timeline_at(Lsn(at.0.saturating_sub(1))));
        let mut expected: Vec<_> = points.map(sides).filter(|(_, begins, leaves)| begins != leaves).collect();
        expected.sort_unstable();
        expected.dedup();
        Switches { expected, found: Vec::new() }
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        if let Entry::Timeline { lsn, timeline, previous } = entry {
            self.found.push((*lsn, *timeline, *previous));
        }
    }

    /// The first place up to `to` where history and WAL differ: a switch that is not recorded there, or one that is
    /// recorded and not in the history.
    pub fn difference(&self, to: Lsn) -> Option<Lsn> {
        let mut found = self.found.iter();
        for (switch, begins, leaves) in self.expected.iter().filter(|(switch, ..)| *switch < to) {
            // A record at a page boundary starts behind the page's header.
            let at_switch = |lsn: Lsn| lsn >= *switch && lsn.0 - switch.0 <= 40;
            if !found.next().is_some_and(|(lsn, timeline, previous)| at_switch(*lsn) && timeline == begins && previous == leaves) {
                return Some(*switch);
            }
        }
        found.next().map(|(lsn, ..)| *lsn).filter(|lsn| *lsn < to)
    }
}
