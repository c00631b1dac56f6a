//! Records of the XLOG resource manager (catalog/pg_control.h, access/xlog_internal.h, xlogdesc.c).

use serde::{Deserialize, Serialize};

use super::bytes::{Fields, text, u64, unfit};
use super::page::Major;
use super::record::Record;
use super::transaction::PgTime;
use crate::pg::{Lsn, Malformed, Timeline};

/// What an XLOG record says; `None` from [`Xlog::parse`] for those that say nothing to a reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Xlog {
    /// CHECKPOINT_SHUTDOWN or CHECKPOINT_ONLINE.
    Checkpoint(Box<Checkpoint>),
    /// CHECKPOINT_REDO (17 and later): where an online checkpoint's redo begins.
    CheckpointRedo(WalLevel),
    /// SWITCH: the rest of the segment is unused.
    Switch,
    /// BACKUP_END of the base backup whose redo point this is: replay is consistent after it.
    BackupEnd(Lsn),
    /// PARAMETER_CHANGE: a server that replays this needs settings at least as high.
    Parameters(Parameters),
    /// RESTORE_POINT, by `pg_create_restore_point`.
    RestorePoint {
        /// Its name; not unique.
        name: String,
        /// When.
        time: PgTime,
    },
    /// FPW_CHANGE: `full_page_writes` is now this.
    FullPageWrites(bool),
    /// END_OF_RECOVERY: a promotion began this timeline.
    EndOfRecovery {
        /// When.
        time: PgTime,
        /// The timeline that begins.
        timeline: Timeline,
        /// The timeline it leaves.
        previous: Timeline,
    },
    /// OVERWRITE_CONTRECORD: the record here was lost in a crash.
    Overwrite(Lsn),
}

/// `wal_level` as WAL stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WalLevel(pub i32);

impl WalLevel {
    /// Archive recovery is impossible across it.
    pub const MINIMAL: WalLevel = WalLevel(0);
    /// Archiving and standbys.
    pub const REPLICA: WalLevel = WalLevel(1);
    /// Logical decoding.
    pub const LOGICAL: WalLevel = WalLevel(2);
}

/// `CheckPoint` (catalog/pg_control.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// A shutdown checkpoint; its redo point is itself.
    pub shutdown: bool,
    /// Where replay starts from this checkpoint.
    pub redo: Lsn,
    /// Timeline at the checkpoint.
    pub timeline: Timeline,
    /// Timeline before it; another one if the checkpoint begins a timeline.
    pub previous: Timeline,
    /// `full_page_writes`.
    pub full_page_writes: bool,
    /// `wal_level`, from 17 on.
    pub wal_level: Option<WalLevel>,
    /// Next transaction, 64 bits: the epoch is in the upper half.
    pub next_xid: u64,
    /// Next OID.
    pub next_oid: u32,
    /// Oldest transaction whose state is kept.
    pub oldest_xid: u32,
    /// When, in seconds since 1970 (unlike every other time in WAL).
    pub unix_seconds: i64,
    /// Oldest transaction that was running; 0 after a shutdown.
    pub oldest_active_xid: u32,
}

/// `xl_parameter_change`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// `max_connections`.
    pub max_connections: i32,
    /// `max_worker_processes`.
    pub max_worker_processes: i32,
    /// `max_wal_senders`.
    pub max_wal_senders: i32,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: i32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_transaction: i32,
    /// `wal_level`.
    pub wal_level: WalLevel,
    /// `wal_log_hints`.
    pub wal_log_hints: bool,
    /// `track_commit_timestamp`.
    pub track_commit_timestamp: bool,
}

impl Parameters {
    /// The highest of both, setting by setting, as a recovery over both needs; the rest is the later one's.
    #[must_use]
    pub fn highest(self, later: Parameters) -> Parameters {
        Parameters {
            max_connections: self.max_connections.max(later.max_connections),
            max_worker_processes: self.max_worker_processes.max(later.max_worker_processes),
            max_wal_senders: self.max_wal_senders.max(later.max_wal_senders),
            max_prepared_transactions: self.max_prepared_transactions.max(later.max_prepared_transactions),
            max_locks_per_transaction: self.max_locks_per_transaction.max(later.max_locks_per_transaction),
            ..later
        }
    }
}

impl Xlog {
    /// Decodes a record of [`super::Rmgr::XLOG`].
    ///
    /// # Errors
    /// When the payload is too short for what it must be.
    pub fn parse(record: &Record<'_>) -> Result<Option<Xlog>, Malformed> {
        let main = record.main();
        let found = match record.header.operation() {
            0x00 => checkpoint(main, record.major, true).map(|c| Xlog::Checkpoint(Box::new(c))),
            0x10 => checkpoint(main, record.major, false).map(|c| Xlog::Checkpoint(Box::new(c))),
            0x40 => Some(Xlog::Switch),
            0x50 => u64(main, 0).map(|start| Xlog::BackupEnd(Lsn(start))),
            0x60 => parameters(main).map(Xlog::Parameters),
            0x70 => restore_point(main),
            0x80 => main.first().map(|on| Xlog::FullPageWrites(*on != 0)),
            0x90 => end_of_recovery(main),
            0xD0 => u64(main, 0).map(|lsn| Xlog::Overwrite(Lsn(lsn))),
            0xE0 if record.major >= Major(17) => Fields::new(main).i32().map(|level| Xlog::CheckpointRedo(WalLevel(level))),
            _ => return Ok(None),
        };
        found.map(Some).ok_or_else(unfit)
    }
}

fn checkpoint(main: &[u8], major: Major, shutdown: bool) -> Option<Checkpoint> {
    let mut fields = Fields::new(main);
    let redo = Lsn(fields.u64()?);
    let (timeline, previous) = (Timeline(fields.u32()?), Timeline(fields.u32()?));
    let full_page_writes = *fields.take(4)?.first()? != 0;
    let wal_level = Some(WalLevel(fields.i32()?)).filter(|_| major >= Major(17));
    let next_xid = fields.u64()?;
    let next_oid = fields.u32()?;
    fields.skip(8)?; // next multixact and its offset
    let oldest_xid = fields.u32()?;
    fields.skip(16)?; // its database, oldest multixact and its database, padding
    let unix_seconds = fields.i64()?;
    fields.skip(8)?; // oldest and newest transaction with a commit timestamp
    let oldest_active_xid = fields.u32()?;
    Some(Checkpoint {
        shutdown,
        redo,
        timeline,
        previous,
        full_page_writes,
        wal_level,
        next_xid,
        next_oid,
        oldest_xid,
        unix_seconds,
        oldest_active_xid,
    })
}

fn parameters(main: &[u8]) -> Option<Parameters> {
    let mut fields = Fields::new(main);
    Some(Parameters {
        max_connections: fields.i32()?,
        max_worker_processes: fields.i32()?,
        max_wal_senders: fields.i32()?,
        max_prepared_transactions: fields.i32()?,
        max_locks_per_transaction: fields.i32()?,
        wal_level: WalLevel(fields.i32()?),
        wal_log_hints: *fields.take(1)?.first()? != 0,
        track_commit_timestamp: *fields.take(1)?.first()? != 0,
    })
}

/// The 64 bytes of the name are filled with garbage after its NUL.
fn restore_point(main: &[u8]) -> Option<Xlog> {
    let mut fields = Fields::new(main);
    let time = PgTime(fields.i64()?);
    Some(Xlog::RestorePoint { name: text(fields.take(64)?), time })
}

fn end_of_recovery(main: &[u8]) -> Option<Xlog> {
    let mut fields = Fields::new(main);
    let time = PgTime(fields.i64()?);
    Some(Xlog::EndOfRecovery { time, timeline: Timeline(fields.u32()?), previous: Timeline(fields.u32()?) })
}
