//! One question to a stretch of WAL, answered in one pass: where a target lies, what is kept and what is lost.
//!
//! Pure; takes what a [`super::chain::Chain`] proved, segment by segment, and holds only transactions in flight, sums
//! and the answer. What it counts after the target belongs to the WAL that was read: a chain that ends early
//! ([`Answer::end`]) tells of no more.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::EndOfWal;
use super::block::RelationFile;
use super::called::{Called, CalledRelation};
use super::chain::{Chain, Joined};
use super::effects::{Effects, What};
use super::heap::Rows;
use super::ledger::{Entry, Ledger};
use super::log::newest;
use super::names::{Fate, Sighting};
use super::record::Rmgr;
use super::resolve::{ByTime, ByXid, Ended, Found, Range, RestorePoint, Switches, restore_point};
use super::storage::Storage;
use super::transaction::PgTime;
use super::xlog::{Parameters, WalLevel, Xlog};
use crate::pg::{History, Lsn};

/// Where recovery is to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// At a time; with `inclusive` transactions of exactly that time are kept.
    Time {
        /// The time.
        time: PgTime,
        /// Keep those of exactly that time.
        inclusive: bool,
    },
    /// At a transaction's end.
    Xid {
        /// As a person gives it: below 2^32 the epoch is not compared.
        xid: u64,
        /// Keep it.
        inclusive: bool,
    },
    /// After the restore point of this name.
    Name(String),
    /// At the first record that starts at this place or later.
    Lsn {
        /// The place.
        lsn: Lsn,
        /// Keep that record.
        inclusive: bool,
    },
    /// After the last record.
    Latest,
    /// After the record that ends the backup.
    Consistent,
}

/// Where a backup says that it starts (`backup_label`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupStart {
    /// Redo point: START WAL LOCATION.
    pub redo: Lsn,
    /// Start of the checkpoint record: CHECKPOINT LOCATION.
    pub checkpoint: Lsn,
}

/// The record at which recovery stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Start of the record: what `recovery_target_lsn` is compared with.
    pub lsn: Lsn,
    /// End of the record.
    pub end: Lsn,
    /// It is replayed.
    pub inclusive: bool,
}

impl Stop {
    /// Whether the record that starts at `lsn` is replayed.
    pub fn keeps(self, lsn: Lsn) -> bool {
        if self.inclusive { lsn <= self.lsn } else { lsn < self.lsn }
    }
}

/// What committed after the target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Number of commits.
    pub transactions: u64,
    /// The first.
    pub first: Option<Ended>,
    /// The last.
    pub last: Option<Ended>,
    /// Rows per relation, by the file that it has at the end of what was read.
    pub relations: Vec<(RelationFile, Rows)>,
}

/// The first transaction that is discarded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstLost {
    /// Full id.
    #[serde(with = "crate::pg::decimal")]
    pub xid: u64,
    /// Rows per relation, by the file that it has at the end of what was read.
    pub relations: Vec<(RelationFile, Rows)>,
    /// Relations that it emptied, likewise.
    pub truncated: Vec<RelationFile>,
    /// It changed definitions.
    pub ddl: bool,
    /// It dropped relations, with what they held.
    #[serde(default)]
    pub dropped: bool,
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Start of the first record.
    pub first: Option<Lsn>,
    /// Start and end of the last good record.
    pub last: Option<(Lsn, Lsn)>,
    /// Where and why reading ended before the last segment's end, or after it for want of another.
    pub end: Option<EndOfWal>,
    /// The target's record; `None` when nothing that was read is it.
    pub stop: Option<Stop>,
    /// The last commit that is kept.
    pub kept: Option<Ended>,
    /// The first commit that is discarded.
    pub discarded: Option<Ended>,
    /// The last commit or abort of all.
    pub newest: Option<Ended>,
    /// What is discarded.
    pub lost: Lost,
    /// What the first discarded transaction did.
    pub first_lost: Option<FirstLost>,
    /// Ends of the transaction that was asked for.
    pub found: Vec<Found>,
    /// The transaction that was asked for had begun and not ended.
    pub in_flight: bool,
    /// Restore points of the name that was asked for.
    pub points: Vec<RestorePoint>,
    /// Start and end of the BACKUP_END record of the backup in question.
    pub backup_end: Option<(Lsn, Lsn)>,
    /// The redo point that the checkpoint record names which stands where that backup says.
    pub checkpoint: Option<Lsn>,
    /// Resource managers of extensions that replay up to the target needs.
    pub extensions: Vec<Rmgr>,
    /// Tablespaces that replay up to the target creates: OID and location.
    pub tablespaces: Vec<(u32, String)>,
    /// Tablespaces that replay up to the target drops.
    pub tablespaces_dropped: Vec<u32>,
    /// The highest settings that replay up to the target demands.
    pub parameters: Option<Parameters>,
    /// From here on the WAL was written with wal_level minimal, if any of it up to the target was.
    pub minimal: Option<Lsn>,
    /// Where WAL up to the target and the history do not agree on a timeline switch.
    pub difference: Option<Lsn>,
    /// Relations of which rows are discarded, as the WAL names them, by the files that they have in it.
    #[serde(default)]
    pub named: Vec<CalledRelation>,
    /// Schemas that the WAL names: database, OID, name.
    #[serde(default)]
    pub schemas: Vec<(u32, u32, String)>,
}

/// The pass.
#[derive(Debug)]
pub struct Inquiry {
    question: Question,
    backup: Option<BackupStart>,
    history: History,
    ledger: Ledger,
    by_time: Option<ByTime>,
    by_xid: Option<ByXid>,
    switches: Option<Switches>,
    tablespaces: Vec<(Lsn, u32, String)>,
    tablespaces_dropped: Vec<(Lsn, u32)>,
    levels: Vec<(Lsn, WalLevel)>,
    parameters: Vec<(Lsn, Parameters)>,
    extensions: BTreeMap<Rmgr, Lsn>,
    /// Files that had rows.
    seen: BTreeSet<RelationFile>,
    /// Old and new file of relations that got another one, whoever did that.
    replaced: BTreeMap<RelationFile, RelationFile>,
    lost: Range,
    called: Called,
    answer: Answer,
}

impl Inquiry {
    /// A pass for `question` along `history`. `backup` is the start of the backup whose end is looked for;
    /// `next_xid` is as [`Ledger::new`] wants it; `located` is the record that a [`Question::Lsn`] means.
    pub fn new(question: Question, history: History, backup: Option<BackupStart>, next_xid: u64, located: Option<Stop>) -> Inquiry {
        let by_time = match question {
            Question::Time { time, inclusive } => Some(ByTime::new(time, inclusive)),
            _ => None,
        };
        let by_xid = match question {
            Question::Xid { xid, .. } => Some(ByXid::new(xid)),
            _ => None,
        };
        Inquiry {
            question,
            backup,
            history,
            ledger: Ledger::new(next_xid),
            by_time,
            by_xid,
            switches: None,
            tablespaces: Vec::new(),
            tablespaces_dropped: Vec::new(),
            levels: Vec::new(),
            parameters: Vec::new(),
            extensions: BTreeMap::new(),
            seen: BTreeSet::new(),
            replaced: BTreeMap::new(),
            lost: Range { relations: BTreeMap::new(), ..Range::new(Lsn(0), Lsn(u64::MAX)) },
            called: Called::default(),
            answer: Answer { stop: located, ..Answer::default() },
        }
    }

    /// Takes what one segment adds to the chain.
    pub fn joined(&mut self, joined: Joined) {
        for part in joined.parts() {
            self.part(part);
        }
    }

    /// The answer, once `chain` got no more segments.
    pub fn finish(mut self, chain: &Chain) -> Answer {
        let stop = self.answer.stop;
        let replayed = |lsn: Lsn| stop.is_none_or(|stop| stop.keeps(lsn));
        let mut answer = self.answer;
        (answer.first, answer.last, answer.end) = (chain.first(), chain.last(), chain.end());
        answer.tablespaces = self.tablespaces.into_iter().filter(|t| replayed(t.0)).map(|(_, oid, place)| (oid, place)).collect();
        answer.tablespaces_dropped = self.tablespaces_dropped.into_iter().filter(|t| replayed(t.0)).map(|(_, oid)| oid).collect();
        let parameters = self.parameters.into_iter().filter(|p| replayed(p.0)).map(|(_, parameters)| parameters);
        answer.parameters = parameters.reduce(Parameters::highest);
        answer.extensions = self.extensions.into_iter().filter(|(_, lsn)| replayed(*lsn)).map(|(rmgr, _)| rmgr).collect();
        answer.minimal = self.levels.into_iter().find(|(lsn, level)| replayed(*lsn) && *level == WalLevel::MINIMAL).map(|(lsn, _)| lsn);
        let read_to = chain.last().map_or(Lsn(0), |(_, end)| end);
        let to = stop.map_or(read_to, |stop| stop.lsn.min(read_to));
        answer.difference = self.switches.and_then(|switches| switches.difference(to));
        if let Some(by_xid) = self.by_xid.take() {
            answer.found = by_xid.found().to_vec();
        }
        if let Question::Xid { xid, .. } = self.question {
            let wanted = xid as u32;
            answer.in_flight =
                answer.found.is_empty() && self.ledger.in_flight().any(|work| work.xid == wanted || work.top == Some(wanted));
        }
        if let Some(first) = &mut answer.first_lost {
            first.relations.iter_mut().for_each(|(file, _)| *file = newest(&self.replaced, *file));
            first.truncated.iter_mut().for_each(|file| *file = newest(&self.replaced, *file));
        }
        let Range { transactions, first, last, relations, .. } = self.lost;
        let mut by_newest: BTreeMap<RelationFile, Rows> = BTreeMap::new();
        for (file, rows) in relations {
            by_newest.entry(newest(&self.replaced, file)).or_default().add(rows);
        }
        answer.named = by_newest.keys().filter(|file| !file.is_catalog()).filter_map(|file| self.called.relation(*file)).collect();
        answer.schemas = self.called.schemas().map(|(database, oid, name)| (database, oid, name.to_owned())).collect();
        answer.lost = Lost { transactions, first, last, relations: by_newest.into_iter().collect() };
        answer
    }

    fn part(&mut self, mut effects: Effects) {
        // Who made and dropped them is not asked here.
        let names = std::mem::take(&mut effects.names).into_iter().map(|sighting| Sighting { fate: Fate::Seen, ..sighting });
        self.called.add(names.collect());
        for (rmgr, lsn) in &effects.extensions {
            self.extensions.entry(*rmgr).or_insert(*lsn);
        }
        for event in &effects.events {
            self.event(event.lsn, event.end, &event.what);
        }
        let mut ledger = std::mem::take(&mut self.ledger);
        ledger.apply(effects, &mut |entry| self.entry(&entry));
        self.ledger = ledger;
    }

    fn event(&mut self, lsn: Lsn, end: Lsn, what: &What) {
        if self.switches.is_none() {
            self.switches = Some(Switches::new(&self.history, lsn));
        }
        match what {
            What::Xlog(xlog) => match xlog.as_ref() {
                Xlog::Checkpoint(checkpoint) if self.backup.is_some_and(|backup| backup.checkpoint == lsn) => {
                    self.answer.checkpoint = Some(checkpoint.redo);
                }
                Xlog::BackupEnd(start) if self.backup.is_some_and(|backup| backup.redo == *start) => {
                    self.answer.backup_end = Some((lsn, end));
                    if self.question == Question::Consistent {
                        self.answer.stop = Some(Stop { lsn, end, inclusive: true });
                    }
                }
                Xlog::Parameters(parameters) => {
                    self.parameters.push((lsn, *parameters));
                    self.levels.push((lsn, parameters.wal_level));
                }
                Xlog::CheckpointRedo(level) => self.levels.push((lsn, *level)),
                _ => {}
            },
            What::Storage(change) => match &change.1 {
                Storage::TablespaceCreated { tablespace, location } => self.tablespaces.push((lsn, *tablespace, location.clone())),
                Storage::TablespaceDropped(tablespace) => self.tablespaces_dropped.push((lsn, *tablespace)),
                _ => {}
            },
            _ => {}
        }
    }

    fn entry(&mut self, entry: &Entry) {
        if let Some(switches) = &mut self.switches {
            switches.entry(entry);
        }
        self.look_for_stop(entry);
        if let Entry::Committed(transaction) = entry {
            self.seen.extend(transaction.rows.iter().map(|(file, _)| *file));
            self.replaced.extend(transaction.replaced(|file| self.seen.contains(file)));
        }
        let Some(ended) = Ended::of(entry) else { return };
        self.answer.newest = Some(ended);
        if !ended.committed {
            return;
        }
        if self.answer.stop.is_none_or(|stop| stop.keeps(ended.lsn)) {
            self.answer.kept = Some(ended);
        } else {
            self.answer.discarded = self.answer.discarded.or(Some(ended));
            self.lost.entry(entry);
            if let (None, Entry::Committed(t)) = (&self.answer.first_lost, entry) {
                let truncated = t.truncated();
                // A relation that is only emptied is given another file, which is no change of its definition.
                let ddl = t.is_ddl() && truncated.is_empty();
                let (relations, dropped) = (t.rows.clone(), t.only_drops());
                self.answer.first_lost = Some(FirstLost { xid: t.xid, relations, truncated, ddl, dropped });
            }
        }
    }

    fn look_for_stop(&mut self, entry: &Entry) {
        let stop = match &self.question {
            Question::Time { .. } => self.by_time.as_mut().and_then(|by_time| {
                by_time.entry(entry);
                by_time.stop.map(|ended| Stop { lsn: ended.lsn, end: ended.end, inclusive: false })
            }),
            Question::Xid { inclusive, .. } => self.by_xid.as_mut().and_then(|by_xid| {
                by_xid.entry(entry);
                by_xid.found().iter().find_map(|found| match found {
                    Found::Commit(ended) | Found::Abort(ended) => Some(Stop { lsn: ended.lsn, end: ended.end, inclusive: *inclusive }),
                    _ => None,
                })
            }),
            Question::Name(name) => restore_point(entry, name).map(|point| {
                self.answer.points.push(point);
                Stop { lsn: point.lsn, end: point.end, inclusive: true }
            }),
            Question::Lsn { .. } | Question::Latest | Question::Consistent => None,
        };
        self.answer.stop = self.answer.stop.or(stop);
    }
}
