//! Row changes (access/heapam_xlog.h): which relation, how many rows.

use serde::{Deserialize, Serialize};

use super::block::{Fork, RelationFile};
use super::bytes::{Fields, u16, unfit};
use super::record::{Record, Rmgr};
use crate::pg::Malformed;

/// Rows of one relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rows {
    /// Row versions inserted, those of speculative insertions that were cancelled included.
    #[serde(rename = "i", default)]
    pub inserted: u64,
    /// Rows updated.
    #[serde(rename = "u", default)]
    pub updated: u64,
    /// Rows deleted.
    #[serde(rename = "d", default)]
    pub deleted: u64,
    /// Rows that an update moved to another partition, where they count as inserted.
    #[serde(rename = "m", default)]
    pub moved: u64,
    /// Speculative insertions (`ON CONFLICT`) that were cancelled.
    #[serde(rename = "c", default)]
    pub cancelled: u64,
}

impl Rows {
    /// Sum of both.
    pub fn add(&mut self, other: Rows) {
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.deleted += other.deleted;
        self.moved += other.moved;
        self.cancelled += other.cancelled;
    }

    /// Rows that really came into being: inserted and not cancelled.
    pub fn net_inserted(&self) -> u64 {
        self.inserted.saturating_sub(self.cancelled)
    }
}

/// A record of Heap or Heap2 that changes rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heap {
    /// Rows of this relation.
    Rows(RelationFile, Rows),
    /// TRUNCATE of relations by `pg_class` OID (wal_level logical only).
    Truncate {
        /// Database.
        database: u32,
        /// Relations.
        relations: Vec<u32>,
    },
}

const DELETE_IS_SUPER: u8 = 0x08;
const DELETE_IS_PARTITION_MOVE: u8 = 0x10;

impl Heap {
    /// Decodes a record of [`Rmgr::HEAP`] or [`Rmgr::HEAP2`]; `Ok(None)` when no row changes (locks, pruning,
    /// freezing, statistics in place).
    ///
    /// # Errors
    /// When the payload is not what it must be.
    pub fn parse(record: &Record<'_>) -> Result<Option<Heap>, Malformed> {
        let main = record.main();
        let operation = record.header.info & 0x70;
        let rows = match (record.header.rmgr, operation) {
            (Rmgr::HEAP, 0x00) => Rows { inserted: 1, ..Rows::default() },
            (Rmgr::HEAP, 0x10) => deleted(*main.get(7).ok_or_else(unfit)?),
            (Rmgr::HEAP, 0x20 | 0x40) => Rows { updated: 1, ..Rows::default() },
            (Rmgr::HEAP, 0x30) => return truncate(main).map(Some).ok_or_else(unfit),
            (Rmgr::HEAP2, 0x50) => Rows { inserted: u64::from(u16(main, 2).ok_or_else(unfit)?), ..Rows::default() },
            _ => return Ok(None),
        };
        match record.layout.first {
            Some((relation, Fork::Main)) => Ok(Some(Heap::Rows(relation, rows))),
            _ => Err(unfit()),
        }
    }
}

fn deleted(flags: u8) -> Rows {
    if flags & DELETE_IS_SUPER != 0 {
        Rows { cancelled: 1, ..Rows::default() }
    } else if flags & DELETE_IS_PARTITION_MOVE != 0 {
        Rows { moved: 1, ..Rows::default() }
    } else {
        Rows { deleted: 1, ..Rows::default() }
    }
}

fn truncate(main: &[u8]) -> Option<Heap> {
    let mut fields = Fields::new(main);
    let database = fields.u32()?;
    let count = fields.count()?;
    fields.skip(4)?; // flags and padding
    Some(Heap::Truncate { database, relations: fields.u32s(count)? })
}
