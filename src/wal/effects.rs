//! What records did: counts per resource manager, events in the order of the WAL, work per transaction.
//!
//! Transactions are known by their 32-bit ids here, as records have them, subtransactions apart from their
//! parents; [`super::ledger`] puts them together. Memory is proportional to the WAL read (a commit is 40
//! bytes here, at least 34 there).

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};

use super::block::{Fork, RelationFile};
use super::heap::{Heap, Rows};
use super::names::{NameReader, Sighting};
use super::record::{Record, Rmgr};
use super::standby::{Lock, Running, Standby};
use super::storage::Storage;
use super::transaction::{Finish, Prepared, Transaction};
use super::xlog::Xlog;
use crate::pg::{Lsn, Malformed};

/// What a run of records did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Effects {
    /// Per resource manager.
    pub records: BTreeMap<Rmgr, Tally>,
    /// In the order of the WAL.
    pub events: Vec<Event>,
    /// Per (sub)transaction, in the order of their first record here.
    pub work: Vec<Work>,
    /// Records that are whole but whose payload was not understood.
    #[serde(default)]
    pub unfit: Vec<Lsn>,
    /// Names of relations and schemas, as rows of catalogs tell them.
    #[serde(default)]
    pub names: Vec<Sighting>,
    /// Resource managers of extensions, each with the start of its first record.
    #[serde(default)]
    pub extensions: Vec<(Rmgr, Lsn)>,
}

/// How much WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Number of records.
    pub records: u64,
    /// Their bytes, images included, padding and page headers not.
    pub bytes: u64,
    /// Bytes of page images among them.
    pub image_bytes: u64,
}

impl Tally {
    /// Sum of both.
    pub fn add(&mut self, other: Tally) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.image_bytes += other.image_bytes;
    }
}

/// A record that a reader of WAL wants to know of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Start of the record: what recovery targets compare.
    #[serde(rename = "a")]
    pub lsn: Lsn,
    /// End of the record.
    #[serde(rename = "z")]
    pub end: Lsn,
    /// What it says.
    #[serde(rename = "w")]
    pub what: What,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// COMMIT.
    Commit(Finish),
    /// ROLLBACK of a transaction or a subtransaction.
    Abort(Finish),
    /// PREPARE TRANSACTION.
    Prepare(Box<Prepared>),
    /// COMMIT PREPARED.
    CommitPrepared(Finish),
    /// ROLLBACK PREPARED.
    AbortPrepared(Finish),
    /// Subtransactions and their top-level transaction.
    Assignment(Box<(u32, Vec<u32>)>),
    /// Transactions in flight.
    Running(Box<Running>),
    /// A record of the XLOG resource manager.
    Xlog(Box<Xlog>),
    /// A database, a tablespace or a mapped catalog, by this transaction.
    Storage(Box<(u32, Storage)>),
}

/// What one (sub)transaction did in a run of records.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Work {
    /// (Sub)transaction.
    #[serde(rename = "x")]
    pub xid: u32,
    /// Its first record here.
    #[serde(rename = "a")]
    pub first: Lsn,
    /// Its WAL.
    #[serde(rename = "w")]
    pub wal: Tally,
    /// Its top-level transaction, where a record said so.
    #[serde(rename = "p", default)]
    pub top: Option<u32>,
    /// Rows changed, per relation.
    #[serde(rename = "r", default)]
    pub rows: Vec<(RelationFile, Rows)>,
    /// What most transactions do not do.
    #[serde(rename = "m", default)]
    pub marks: Option<Box<Marks>>,
}

/// Signs of DDL.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Marks {
    /// Files made (main forks).
    #[serde(default)]
    pub created: Vec<RelationFile>,
    /// Made with an init fork: unlogged relations.
    #[serde(default)]
    pub unlogged: Vec<RelationFile>,
    /// Files cut short, by VACUUM or a TRUNCATE in place.
    #[serde(default)]
    pub cut: Vec<RelationFile>,
    /// AccessExclusiveLocks taken: `(database, pg_class OID)`.
    #[serde(default)]
    pub locked: Vec<(u32, u32)>,
    /// TRUNCATE: `(database, pg_class OID)`; only with wal_level logical.
    #[serde(default)]
    pub truncated: Vec<(u32, u32)>,
}

impl Work {
    /// Adds `rows` to those of `relation`.
    pub fn add_rows(&mut self, relation: RelationFile, rows: Rows) {
        // The last relation is the likeliest; a transaction with many is searched from the end too.
        match self.rows.iter_mut().rev().find(|(r, _)| *r == relation) {
            Some((_, sum)) => sum.add(rows),
            None => {
                // Most transactions change one relation, and there are many transactions: no room for four.
                if self.rows.is_empty() {
                    self.rows.reserve_exact(1);
                }
                self.rows.push((relation, rows));
            }
        }
    }

    fn marks(&mut self) -> &mut Marks {
        self.marks.get_or_insert_default()
    }
}

/// Spreads transaction ids, which are dense and not chosen by an enemy of the table: at most one transaction
/// per 24 bytes of WAL with a good checksum.
#[derive(Debug, Default)]
pub struct XidHasher(u64);

impl Hasher for XidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// A table by transaction id.
pub type ByXid<T> = HashMap<u32, T, BuildHasherDefault<XidHasher>>;

/// Builds [`Effects`] record by record.
#[derive(Debug)]
pub struct Collector {
    tallies: Box<[Tally; 256]>,
    events: Vec<Event>,
    work: Vec<Work>,
    index: ByXid<usize>,
    last: Option<(u32, usize)>,
    unfit: Vec<Lsn>,
    names: NameReader,
    extensions: Vec<(Rmgr, Lsn)>,
}

impl Default for Collector {
    fn default() -> Collector {
        Collector {
            tallies: Box::new([Tally::default(); 256]),
            events: Vec::new(),
            work: Vec::new(),
            index: ByXid::default(),
            last: None,
            unfit: Vec::new(),
            names: NameReader::default(),
            extensions: Vec::new(),
        }
    }
}

impl Collector {
    /// Takes one record.
    pub fn record(&mut self, record: &Record<'_>) {
        let header = record.header;
        let tally = Tally { records: 1, bytes: u64::from(header.total_length), image_bytes: u64::from(record.layout.image_bytes) };
        if let Some(sum) = self.tallies.get_mut(usize::from(header.rmgr.0)) {
            sum.add(tally);
        }
        if header.xid != 0 {
            let top = record.layout.toplevel_xid;
            let work = self.work_of(header.xid, record.lsn);
            work.wal.add(tally);
            if top.is_some() {
                work.top = top;
            }
        }
        self.names.record(record);
        if self.decode(record).is_err() {
            self.unfit.push(record.lsn);
        }
    }

    /// The sum.
    pub fn finish(self) -> Effects {
        let tallies = self.tallies.iter().enumerate().filter(|(_, tally)| tally.records > 0);
        Effects {
            records: tallies.map(|(id, tally)| (Rmgr(id as u8), *tally)).collect(),
            events: self.events,
            work: self.work,
            unfit: self.unfit,
            names: self.names.finish(),
            extensions: self.extensions,
        }
    }

    fn decode(&mut self, record: &Record<'_>) -> Result<(), Malformed> {
        match record.header.rmgr {
            Rmgr::HEAP | Rmgr::HEAP2 => self.heap(record),
            Rmgr::TRANSACTION => self.transaction(record),
            Rmgr::XLOG => {
                if let Some(xlog) = Xlog::parse(record)? {
                    self.event(record, What::Xlog(Box::new(xlog)));
                }
                Ok(())
            }
            Rmgr::STANDBY => self.standby(record),
            Rmgr::STORAGE | Rmgr::DATABASE | Rmgr::TABLESPACE | Rmgr::RELMAP => self.storage(record),
            rmgr if rmgr.is_custom() && !self.extensions.iter().any(|(known, _)| *known == rmgr) => {
                self.extensions.push((rmgr, record.lsn));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn heap(&mut self, record: &Record<'_>) -> Result<(), Malformed> {
        let Some(heap) = Heap::parse(record)? else { return Ok(()) };
        let work = self.work_of(record.header.xid, record.lsn);
        match heap {
            Heap::Rows(relation, rows) => work.add_rows(relation, rows),
            Heap::Truncate { database, relations } => {
                work.marks().truncated.extend(relations.into_iter().map(|relation| (database, relation)));
            }
        }
        Ok(())
    }

    fn transaction(&mut self, record: &Record<'_>) -> Result<(), Malformed> {
        let what = match Transaction::parse(record)? {
            Transaction::Commit(finish) => What::Commit(finish),
            Transaction::Abort(finish) => What::Abort(finish),
            Transaction::CommitPrepared(finish) => What::CommitPrepared(finish),
            Transaction::AbortPrepared(finish) => What::AbortPrepared(finish),
            Transaction::Prepare(prepared) => What::Prepare(Box::new(prepared)),
            Transaction::Assignment { top, subxids } => What::Assignment(Box::new((top, subxids))),
            Transaction::Invalidations => return Ok(()),
        };
        self.event(record, what);
        Ok(())
    }

    fn standby(&mut self, record: &Record<'_>) -> Result<(), Malformed> {
        match Standby::parse(record)? {
            // With xid 0 they are only repeated.
            Some(Standby::Locks(locks)) if record.header.xid != 0 => {
                for Lock { xid, database, relation } in locks {
                    self.work_of(xid, record.lsn).marks().locked.push((database, relation));
                }
            }
            Some(Standby::Running(running)) => self.event(record, What::Running(Box::new(running))),
            _ => {}
        }
        Ok(())
    }

    fn storage(&mut self, record: &Record<'_>) -> Result<(), Malformed> {
        let xid = record.header.xid;
        match Storage::parse(record)? {
            // Without a transaction these are recovery's or VACUUM's.
            Storage::Created(..) | Storage::Truncated(..) if xid == 0 => {}
            Storage::Created(file, Fork::Main) => self.work_of(xid, record.lsn).marks().created.push(file),
            Storage::Created(file, Fork::Init) => self.work_of(xid, record.lsn).marks().unlogged.push(file),
            Storage::Created(..) => {}
            Storage::Truncated(file, _) => self.work_of(xid, record.lsn).marks().cut.push(file),
            other => self.event(record, What::Storage(Box::new((xid, other)))),
        }
        Ok(())
    }

    fn event(&mut self, record: &Record<'_>, what: What) {
        self.events.push(Event { lsn: record.lsn, end: record.end, what });
    }

    #[allow(clippy::indexing_slicing)] // positions of this vector, which never shrinks
    fn work_of(&mut self, xid: u32, lsn: Lsn) -> &mut Work {
        let at = match self.last {
            Some((last, at)) if last == xid => at,
            _ => {
                let next = self.work.len();
                let at = *self.index.entry(xid).or_insert(next);
                if at == next {
                    self.work.push(Work { xid, first: lsn, ..Work::default() });
                }
                at
            }
        };
        self.last = Some((xid, at));
        &mut self.work[at]
    }
}
