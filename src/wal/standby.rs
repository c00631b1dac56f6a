//! What a hot standby must know (storage/standbydefs.h): exclusive locks, transactions in flight.

use serde::{Deserialize, Serialize};

use super::bytes::{Fields, unfit};
use super::record::Record;
use crate::pg::Malformed;

/// A record of the Standby resource manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standby {
    /// AccessExclusiveLocks that are taken now or, with xid 0 in the record's header, are still held.
    Locks(Vec<Lock>),
    /// Transactions in flight.
    Running(Running),
}

/// One AccessExclusiveLock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lock {
    /// Transaction that holds it.
    pub xid: u32,
    /// Database.
    pub database: u32,
    /// `pg_class` OID, not a file number.
    pub relation: u32,
}

/// `xl_running_xacts`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Running {
    /// Next transaction.
    pub next_xid: u32,
    /// Everything below it has ended.
    pub oldest_running: u32,
    /// The list of subtransactions is not complete.
    pub overflowed: bool,
    /// Top-level transactions, then subtransactions.
    pub xids: Vec<u32>,
}

impl Standby {
    /// Decodes a record of [`super::Rmgr::STANDBY`]; `Ok(None)` for invalidations.
    ///
    /// # Errors
    /// When the payload is too short.
    pub fn parse(record: &Record<'_>) -> Result<Option<Standby>, Malformed> {
        let main = record.main();
        match record.header.operation() {
            0x00 => locks(main).map(Some).ok_or_else(unfit),
            0x10 => running(main).map(|running| Some(Standby::Running(running))).ok_or_else(unfit),
            _ => Ok(None),
        }
    }
}

fn locks(main: &[u8]) -> Option<Standby> {
    let list = Fields::new(main).items(12)?;
    let lock = |item: &[u8]| {
        let mut fields = Fields::new(item);
        Some(Lock { xid: fields.u32()?, database: fields.u32()?, relation: fields.u32()? })
    };
    Some(Standby::Locks(list.chunks_exact(12).filter_map(lock).collect()))
}

fn running(main: &[u8]) -> Option<Running> {
    let mut fields = Fields::new(main);
    let (transactions, subtransactions) = (fields.count()?, fields.count()?);
    let overflowed = *fields.take(4)?.first()? != 0;
    let (next_xid, oldest_running) = (fields.u32()?, fields.u32()?);
    fields.skip(4)?; // latest completed
    let xids = fields.u32s(transactions.checked_add(subtransactions)?)?;
    Some(Running { next_xid, oldest_running, overflowed, xids })
}
