//! Transactions put together: work of subtransactions joined to their parents, ids widened to 64 bits, in the
//! order of commit.
//!
//! Takes [`Effects`] in the order of the WAL and hands out [`Entry`] values. Holds only transactions in flight; those
//! that a crash cut off are dropped when a record says that nothing so old is running.

use serde::{Deserialize, Serialize};

use super::block::RelationFile;
use super::effects::{ByXid, Effects, Event, Marks, Tally, What, Work};
use super::heap::Rows;
use super::standby::Running;
use super::storage::Storage;
use super::transaction::{Finish, PgTime, Prepared};
use super::xlog::{Checkpoint, Xlog};
use crate::pg::{Lsn, Timeline};

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A transaction committed.
    Committed(Box<Transaction>),
    /// A transaction or subtransaction was rolled back; `time` tells when.
    Aborted {
        /// Start of the record.
        lsn: Lsn,
        /// End of the record.
        end: Lsn,
        /// Transaction or subtransaction.
        xid: u64,
        /// When.
        time: PgTime,
    },
    /// A transaction was prepared; it is in doubt until it is committed or rolled back.
    Prepared {
        /// Start of the record.
        lsn: Lsn,
        /// End of the record.
        end: Lsn,
        /// Full id.
        xid: u64,
        /// The record.
        prepared: Box<Prepared>,
    },
    /// A restore point.
    RestorePoint {
        /// Start of the record.
        lsn: Lsn,
        /// End of the record.
        end: Lsn,
        /// Name.
        name: String,
        /// When.
        time: PgTime,
    },
    /// A timeline begins here.
    Timeline {
        /// Start of the record.
        lsn: Lsn,
        /// The one that begins.
        timeline: Timeline,
        /// The one it leaves.
        previous: Timeline,
    },
}

/// A committed transaction with its subtransactions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Transaction {
    /// Full id: epoch and 32-bit id.
    pub xid: u64,
    /// When, by the server's clock.
    pub time: PgTime,
    /// Start of the commit record.
    pub lsn: Lsn,
    /// End of the commit record.
    pub end: Lsn,
    /// Its first record, as far as read.
    pub first: Lsn,
    /// Database, 0 when nothing tells.
    pub database: u32,
    /// Its WAL, without the commit record's.
    pub wal: Tally,
    /// Committed subtransactions.
    pub subxids: Vec<u32>,
    /// Rows changed, per relation.
    pub rows: Vec<(RelationFile, Rows)>,
    /// Files made, locks taken, relations truncated.
    pub marks: Marks,
    /// Files removed.
    pub dropped: Vec<RelationFile>,
    /// `(database, pg_class OID)` of relations whose definition changed (or whose statistics were gathered).
    pub relcache: Vec<(u32, u32)>,
    /// It changed rows of catalogs, by the caches that it invalidated (ANALYZE does too).
    pub catalog: bool,
    /// Databases, tablespaces and mapped catalogs changed.
    pub storage: Vec<Storage>,
    /// It was prepared under this name, where that is known.
    pub gid: Option<String>,
    /// It was committed by COMMIT PREPARED.
    pub prepared: bool,
    /// It was running before what was read began: rows and bytes may be incomplete.
    pub incomplete: bool,
}

/// Catalogs that ANALYZE and large objects write: changes in them are no DDL (catalog/pg_statistic.h and others).
const NOT_DDL: [u32; 6] = [
    2619, // pg_statistic
    2840, // its TOAST table
    3429, // pg_statistic_ext_data
    3430, // its TOAST table
    2613, // pg_largeobject
    2995, // pg_largeobject_metadata
];

impl Transaction {
    /// Whether it changed the definition of anything: rows of a catalog, files of relations, databases.
    pub fn is_ddl(&self) -> bool {
        let catalog = self.rows.iter().any(|(relation, _)| relation.is_catalog() && !NOT_DDL.contains(&relation.number));
        // After a VACUUM FULL of catalogs their file numbers tell nothing; VACUUM, too, locks where it cuts a file.
        let locked = self.catalog && !self.marks.locked.is_empty() && self.marks.cut.is_empty();
        catalog || locked || !self.marks.created.is_empty() || !self.dropped.is_empty() || !self.storage.is_empty()
    }
}

impl Transaction {
    /// Files that it replaced, old and new, as far as that can be told; `has_rows` knows files that had rows, which
    /// indexes have not.
    ///
    /// TRUNCATE makes a new file for each relation, tables before what belongs to them, and drops the old ones with the
    /// commit, in the reverse order (`smgrGetPendingDeletes`, storage.c, walks a list to which each drop was prepended).
    /// VACUUM FULL and CLUSTER make the table's file first and drop the old one first; what follows is not paired.
    pub fn replaced(&self, has_rows: impl Fn(&RelationFile) -> bool) -> Vec<(RelationFile, RelationFile)> {
        let (created, dropped) = (&self.marks.created, &self.dropped);
        let paired = |old: &RelationFile, new: &RelationFile| old.database == new.database && !created.contains(old);
        let (Some(old), Some(new)) = (dropped.first(), created.first()) else { return Vec::new() };
        if self.marks.locked.is_empty() || created.len() != dropped.len() {
            return Vec::new();
        }
        if self.rewrites() {
            return if has_rows(old) && paired(old, new) { vec![(*old, *new)] } else { Vec::new() };
        }
        let pairs = || dropped.iter().rev().zip(created);
        if pairs().all(|(old, new)| paired(old, new)) { pairs().map(|(old, new)| (*old, *new)).collect() } else { Vec::new() }
    }

    /// New files of relations that it emptied by TRUNCATE.
    pub fn truncated(&self) -> Vec<RelationFile> {
        if self.rewrites() { Vec::new() } else { self.replaced(|_| true).into_iter().map(|(_, new)| new).collect() }
    }

    /// Files went and none came: of what was dropped, not of what was replaced.
    pub(crate) fn only_drops(&self) -> bool {
        !self.dropped.is_empty() && self.marks.created.is_empty()
    }

    /// A passing table was entered into pg_class, as VACUUM FULL and CLUSTER do (`make_new_heap`, cluster.c).
    pub(crate) fn rewrites(&self) -> bool {
        const PG_CLASS: u32 = 1259;
        self.rows.iter().any(|(file, rows)| file.number == PG_CLASS && rows.inserted > 0)
    }
}

/// Widens 32-bit ids by the newest full id seen.
#[derive(Debug, Clone, Copy, Default)]
struct Epoch(u64);

impl Epoch {
    /// Every id in use is within 2^31 of any other.
    fn widen(self, xid: u32) -> u64 {
        let distance = xid.wrapping_sub(self.0 as u32) as i32;
        self.0.saturating_add_signed(i64::from(distance))
    }

    fn advance(&mut self, xid: u32) {
        self.0 = self.0.max(self.widen(xid));
    }
}

/// Puts transactions together.
#[derive(Debug, Default)]
pub struct Ledger {
    open: ByXid<Work>,
    /// Storage changes of open transactions.
    storage: ByXid<Vec<Storage>>,
    prepared: ByXid<Box<Prepared>>,
    /// Ran before the first record.
    before: ByXid<()>,
    seen_running: bool,
    begun: Option<Lsn>,
    epoch: Epoch,
}

impl Ledger {
    /// A ledger that starts with `next_xid`, the full id of a checkpoint at or before the first record (pg_control or
    /// the record itself); 0 when none is known, which is right until 2^32 transactions were made.
    pub fn new(next_xid: u64) -> Ledger {
        Ledger { epoch: Epoch(next_xid), ..Ledger::default() }
    }

    /// Takes what follows in the WAL. Entries go to `sink` in the order of the WAL.
    pub fn apply(&mut self, effects: Effects, sink: &mut impl FnMut(Entry)) {
        // Within one run of records all work of a transaction lies before its end.
        for work in effects.work {
            self.begun = self.begun.or(Some(work.first));
            self.add(work);
        }
        for event in effects.events {
            self.event(event, sink);
        }
    }

    /// Prepared transactions that were neither committed nor rolled back.
    pub fn in_doubt(&self) -> impl Iterator<Item = &Prepared> {
        self.prepared.values().map(Box::as_ref)
    }

    /// Transactions and subtransactions that did work and have not ended, with 32-bit ids.
    pub fn in_flight(&self) -> impl Iterator<Item = &Work> {
        self.open.values()
    }

    /// Whether one of these, by their 32-bit ids, did work before and has not ended.
    pub fn has_open(&self, mut xids: impl Iterator<Item = u32>) -> bool {
        let known = |xid: &u32| self.open.contains_key(xid) || self.prepared.contains_key(xid) || self.before.contains_key(xid);
        !(self.open.is_empty() && self.prepared.is_empty() && self.before.is_empty()) && xids.any(|xid| known(&xid))
    }

    /// Full form of a 32-bit id at this place of the WAL.
    pub fn widen(&self, xid: u32) -> u64 {
        self.epoch.widen(xid)
    }

    fn add(&mut self, work: Work) {
        self.epoch.advance(work.xid);
        match self.open.entry(work.xid) {
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(work);
            }
            std::collections::hash_map::Entry::Occupied(mut place) => join(place.get_mut(), work),
        }
    }

    fn event(&mut self, event: Event, sink: &mut impl FnMut(Entry)) {
        let Event { lsn, end, what } = event;
        match what {
            What::Commit(finish) => sink(self.commit(lsn, end, finish, false)),
            What::CommitPrepared(finish) => sink(self.commit(lsn, end, finish, true)),
            What::Abort(finish) | What::AbortPrepared(finish) => sink(self.abort(lsn, end, &finish)),
            What::Prepare(prepared) => {
                let xid = self.epoch.widen(prepared.xid);
                self.prepared.insert(prepared.xid, prepared.clone());
                sink(Entry::Prepared { lsn, end, xid, prepared });
            }
            What::Assignment(_) => {}
            What::Running(running) => self.running(lsn, &running),
            What::Xlog(xlog) => self.xlog(lsn, end, *xlog, sink),
            What::Storage(change) => {
                let (xid, change) = *change;
                self.storage.entry(xid).or_default().push(change);
            }
        }
    }

    fn commit(&mut self, lsn: Lsn, end: Lsn, finish: Finish, prepared: bool) -> Entry {
        self.epoch.advance(finish.xid);
        let gid = self.prepared.remove(&finish.xid);
        let mut work = self.open.remove(&finish.xid).unwrap_or_default();
        let mut storage = self.storage.remove(&finish.xid).unwrap_or_default();
        let mut incomplete = self.before.remove(&finish.xid).is_some() || (prepared && gid.is_none());
        let subxids = finish.subxids().to_vec();
        for sub in &subxids {
            if let Some(part) = self.open.remove(sub) {
                join(&mut work, part);
            }
            storage.extend(self.storage.remove(sub).unwrap_or_default());
            incomplete |= self.before.remove(sub).is_some();
        }
        let named = |gid: &Option<Box<Prepared>>| gid.as_ref().map(|p| (p.database, p.gid.clone()));
        let (prepared_in, prepared_as) = named(&gid).unzip();
        let more = finish.more.map(|more| *more).unwrap_or_default();
        let first_row = || work.rows.iter().map(|(relation, _)| relation.database).find(|database| *database != 0);
        let database = Some(finish.database).filter(|d| *d != 0).or(prepared_in).or_else(first_row);
        Entry::Committed(Box::new(Transaction {
            xid: self.epoch.widen(finish.xid),
            time: finish.time,
            lsn,
            end,
            first: if work.first.is_valid() { work.first } else { lsn },
            database: database.unwrap_or_default(),
            wal: work.wal,
            subxids,
            rows: work.rows,
            marks: work.marks.map(|marks| *marks).unwrap_or_default(),
            dropped: more.dropped,
            relcache: more.relcache,
            catalog: more.catalog,
            storage,
            gid: prepared_as.or(more.gid),
            prepared,
            incomplete,
        }))
    }

    fn abort(&mut self, lsn: Lsn, end: Lsn, finish: &Finish) -> Entry {
        self.epoch.advance(finish.xid);
        self.prepared.remove(&finish.xid);
        for xid in std::iter::once(&finish.xid).chain(finish.subxids()) {
            self.open.remove(xid);
            self.storage.remove(xid);
            self.before.remove(xid);
        }
        Entry::Aborted { lsn, end, xid: self.epoch.widen(finish.xid), time: finish.time }
    }

    fn xlog(&mut self, lsn: Lsn, end: Lsn, xlog: Xlog, sink: &mut impl FnMut(Entry)) {
        match xlog {
            Xlog::RestorePoint { name, time } => sink(Entry::RestorePoint { lsn, end, name, time }),
            Xlog::EndOfRecovery { timeline, previous, .. } => sink(Entry::Timeline { lsn, timeline, previous }),
            Xlog::Checkpoint(checkpoint) => {
                let Checkpoint { next_xid, shutdown, timeline, previous, .. } = *checkpoint;
                self.epoch.0 = self.epoch.0.max(next_xid);
                if shutdown {
                    self.forget(lsn, |_| true);
                }
                if timeline != previous {
                    sink(Entry::Timeline { lsn, timeline, previous });
                }
            }
            _ => {}
        }
    }

    /// The first such record tells what ran before; each one tells what no longer runs.
    fn running(&mut self, lsn: Lsn, running: &Running) {
        if !self.seen_running {
            self.seen_running = true;
            let unseen = running.xids.iter().filter(|xid| self.open.get(xid).is_none_or(|work| work.first > lsn));
            self.before.extend(unseen.map(|xid| (*xid, ())));
        }
        let oldest = running.oldest_running;
        self.forget(lsn, |xid| (xid.wrapping_sub(oldest) as i32) < 0);
    }

    /// Drops transactions that began before `lsn` and can no longer commit. Those that are prepared can. (Work is
    /// added ahead of the events of its run of records, so that younger transactions may be there already.)
    fn forget(&mut self, lsn: Lsn, ended: impl Fn(u32) -> bool) {
        let held: std::collections::HashSet<u32> =
            self.prepared.values().flat_map(|p| std::iter::once(p.xid).chain(p.subxids.iter().copied())).collect();
        let keep = |xid: u32| held.contains(&xid) || !ended(xid);
        self.open.retain(|xid, work| work.first >= lsn || keep(*xid));
        self.storage.retain(|xid, _| keep(*xid));
        self.before.retain(|xid, ()| keep(*xid));
    }
}

fn join(sum: &mut Work, part: Work) {
    sum.wal.add(part.wal);
    if !sum.first.is_valid() || (part.first.is_valid() && part.first < sum.first) {
        sum.first = part.first;
    }
    sum.top = sum.top.or(part.top);
    for (relation, rows) in part.rows {
        sum.add_rows(relation, rows);
    }
    if let Some(marks) = part.marks {
        let mine = sum.marks.get_or_insert_default();
        mine.created.extend(marks.created);
        mine.unlogged.extend(marks.unlogged);
        mine.cut.extend(marks.cut);
        mine.locked.extend(marks.locked);
        mine.truncated.extend(marks.truncated);
    }
}
