//! Ends of transactions (`xl_xact_commit`, `xl_xact_abort`, `xl_xact_prepare`: access/xact.h, xactdesc.c).

use serde::{Deserialize, Serialize};

use super::block::RelationFile;
use super::bytes::{Fields, unfit};
use super::page::Major;
use super::record::Record;
use crate::pg::{Lsn, Malformed};

/// A `timestamptz`: microseconds since 2000-01-01 00:00:00 UTC. Commit times are taken before the record gets
/// its place: they do not rise strictly with the LSN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PgTime(pub i64);

impl PgTime {
    /// Seconds from 1970 to 2000.
    const EPOCH: i64 = 946_684_800;

    /// Microseconds since 1970-01-01 00:00:00 UTC, saturating.
    pub fn unix_micros(self) -> i64 {
        self.0.saturating_add(PgTime::EPOCH * 1_000_000)
    }

    /// From microseconds since 1970-01-01 00:00:00 UTC, saturating.
    pub fn from_unix_micros(micros: i64) -> PgTime {
        PgTime(micros.saturating_sub(PgTime::EPOCH * 1_000_000))
    }
}

/// A record of the Transaction resource manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transaction {
    /// COMMIT.
    Commit(Finish),
    /// ROLLBACK, also of a subtransaction (`ROLLBACK TO SAVEPOINT`).
    Abort(Finish),
    /// COMMIT PREPARED.
    CommitPrepared(Finish),
    /// ROLLBACK PREPARED.
    AbortPrepared(Finish),
    /// PREPARE TRANSACTION.
    Prepare(Prepared),
    /// These subtransactions belong to this top-level transaction.
    Assignment {
        /// Top-level transaction.
        top: u32,
        /// Its subtransactions, 64 at a time.
        subxids: Vec<u32>,
    },
    /// Cache invalidations in the middle of a transaction (14 and later, wal_level logical).
    Invalidations,
}

/// A commit or an abort.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Finish {
    /// When, by the server's clock.
    #[serde(rename = "t")]
    pub time: PgTime,
    /// The transaction; for a prepared one the one that was prepared.
    #[serde(rename = "x")]
    pub xid: u32,
    /// Database, 0 where the record does not say (it does when caches must be invalidated).
    #[serde(rename = "d", default)]
    pub database: u32,
    /// What most transactions do not have.
    #[serde(rename = "m", default)]
    pub more: Option<Box<FinishMore>>,
}

impl Finish {
    /// Subtransactions that end with it: for a commit the committed ones.
    pub fn subxids(&self) -> &[u32] {
        self.more.as_ref().map_or(&[], |more| &more.subxids)
    }

    /// Files that are removed with it.
    pub fn dropped(&self) -> &[RelationFile] {
        self.more.as_ref().map_or(&[], |more| &more.dropped)
    }
}

/// The rarer parts of a commit or an abort.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FinishMore {
    /// Subtransactions.
    #[serde(default)]
    pub subxids: Vec<u32>,
    /// Removed files.
    #[serde(default)]
    pub dropped: Vec<RelationFile>,
    /// `(database, pg_class OID)` of relations whose definition other backends must read again.
    #[serde(default)]
    pub relcache: Vec<(u32, u32)>,
    /// Catalog caches were invalidated: rows of a catalog changed.
    #[serde(default)]
    pub catalog: bool,
    /// It held an AccessExclusiveLock.
    #[serde(default)]
    pub exclusive_locks: bool,
    /// Name of the prepared transaction (wal_level logical only).
    #[serde(default)]
    pub gid: Option<String>,
    /// Position and time at the replication origin.
    #[serde(default)]
    pub origin: Option<(Lsn, PgTime)>,
}

/// PREPARE TRANSACTION.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Prepared {
    /// Transaction.
    pub xid: u32,
    /// Database.
    pub database: u32,
    /// When.
    pub time: PgTime,
    /// Role.
    pub owner: u32,
    /// Name.
    pub gid: String,
    /// Its subtransactions.
    pub subxids: Vec<u32>,
}

const HAS_INFO: u8 = 0x80;
const HAS_DATABASE: u32 = 0x001;
const HAS_SUBXACTS: u32 = 0x002;
const HAS_DROPPED: u32 = 0x004;
const HAS_INVALIDATIONS: u32 = 0x008;
const HAS_TWOPHASE: u32 = 0x010;
const HAS_ORIGIN: u32 = 0x020;
const HAS_LOCKS: u32 = 0x040;
const HAS_GID: u32 = 0x080;
const HAS_DROPPED_STATS: u32 = 0x100;
const WITH_MORE: u32 = HAS_SUBXACTS | HAS_DROPPED | HAS_INVALIDATIONS | HAS_TWOPHASE | HAS_ORIGIN | HAS_LOCKS | HAS_GID | HAS_DROPPED_STATS;

impl Transaction {
    /// Decodes a record of [`super::Rmgr::TRANSACTION`].
    ///
    /// # Errors
    /// When the payload is not what it must be.
    pub fn parse(record: &Record<'_>) -> Result<Transaction, Malformed> {
        parse(record).ok_or_else(unfit)
    }
}

fn parse(record: &Record<'_>) -> Option<Transaction> {
    let mut fields = Fields::new(record.main());
    let info = record.header.info;
    let xid = record.header.xid;
    Some(match info & 0x70 {
        0x00 => Transaction::Commit(finish(&mut fields, info, xid, record.major)?),
        0x20 => Transaction::Abort(finish(&mut fields, info, xid, record.major)?),
        0x30 => Transaction::CommitPrepared(finish(&mut fields, info, xid, record.major)?),
        0x40 => Transaction::AbortPrepared(finish(&mut fields, info, xid, record.major)?),
        0x10 => Transaction::Prepare(prepared(record.main(), record.major)?),
        0x50 => {
            let top = fields.u32()?;
            let count = fields.count()?;
            Transaction::Assignment { top, subxids: fields.u32s(count)? }
        }
        0x60 if record.major >= Major(14) => Transaction::Invalidations,
        _ => return None,
    })
}

/// The parts follow each other without padding, each present if its bit in xinfo is set.
fn finish(fields: &mut Fields<'_>, info: u8, xid: u32, major: Major) -> Option<Finish> {
    let mut finish = Finish { time: PgTime(fields.i64()?), xid, ..Finish::default() };
    let present = if info & HAS_INFO != 0 { fields.u32()? } else { 0 };
    if present & HAS_DATABASE != 0 {
        finish.database = fields.u32()?;
        fields.skip(4)?;
    }
    if present & WITH_MORE != 0 {
        finish.more = Some(Box::new(more(fields, present, major, &mut finish.xid)?));
    }
    Some(finish)
}

fn more(fields: &mut Fields<'_>, present: u32, major: Major, xid: &mut u32) -> Option<FinishMore> {
    let mut more = FinishMore { exclusive_locks: present & HAS_LOCKS != 0, ..FinishMore::default() };
    if present & HAS_SUBXACTS != 0 {
        let count = fields.count()?;
        more.subxids = fields.u32s(count)?;
    }
    if present & HAS_DROPPED != 0 {
        let list = fields.items(12)?;
        more.dropped = list.chunks_exact(12).filter_map(|item| RelationFile::parse(item, 0)).collect();
    }
    if present & HAS_DROPPED_STATS != 0 {
        fields.items(if major >= Major(18) { 16 } else { 12 })?;
    }
    if present & HAS_INVALIDATIONS != 0 {
        invalidations(fields.items(16)?, &mut more);
    }
    if present & HAS_TWOPHASE != 0 {
        *xid = fields.u32()?;
    }
    if present & HAS_GID != 0 {
        more.gid = Some(fields.text()?);
    }
    if present & HAS_ORIGIN != 0 {
        more.origin = Some((Lsn(fields.u64()?), PgTime(fields.i64()?)));
    }
    Some(more)
}

/// `SharedInvalidationMessage` (storage/sinval.h): the first byte tells the kind.
fn invalidations(list: &[u8], more: &mut FinishMore) {
    for item in list.chunks_exact(16) {
        let mut fields = Fields::new(item);
        let kind = fields.u32().map_or(0, |word| word as u8 as i8);
        let (Some(database), Some(relation)) = (fields.u32(), fields.u32()) else { continue };
        match kind {
            -2 => more.relcache.push((database, relation)),
            0.. | -1 => more.catalog = true,
            _ => {}
        }
    }
    more.relcache.sort_unstable();
    more.relcache.dedup();
}

/// `TwoPhaseFileHeader` (twophase.c): the record is the state file.
fn prepared(main: &[u8], major: Major) -> Option<Prepared> {
    let mut fields = Fields::new(main);
    if fields.u32()? != 0x57F9_4534 {
        return None;
    }
    fields.skip(4)?;
    let xid = fields.u32()?;
    let database = fields.u32()?;
    let time = PgTime(fields.i64()?);
    let owner = fields.u32()?;
    let subxact_count = fields.count()?;
    // From 15 on the counts of dropped statistics stand before the length of the name.
    let (gid_length_at, gid_at) = if major >= Major(15) { (54, 72) } else { (46, 64) };
    let gid_length = usize::from(super::bytes::u16(main, gid_length_at)?);
    let gid = main.get(gid_at..gid_at + gid_length)?;
    let subxacts_at = (gid_at + gid_length).next_multiple_of(8);
    Some(Prepared {
        xid,
        database,
        time,
        owner,
        gid: super::bytes::text(gid),
        subxids: Fields::new(main.get(subxacts_at..).unwrap_or_default()).u32s(subxact_count)?,
    })
}
