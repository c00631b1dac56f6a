//! Relation files, databases and tablespaces as WAL creates and removes them (storage_xlog.h, dbcommands_xlog.h,
//! tablespace.h, relmapper.h).

use serde::{Deserialize, Serialize};

use super::block::{Fork, RelationFile};
use super::bytes::{Fields, unfit};
use super::page::Major;
use super::record::{Record, Rmgr};
use crate::pg::Malformed;

/// A change to what exists as a file or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// A fork of a relation.
    Created(RelationFile, Fork),
    /// A relation was cut to this many blocks.
    Truncated(RelationFile, u32),
    /// CREATE DATABASE in this tablespace, by copying files of `template` or, from 15 on, by logging every page.
    DatabaseCreated {
        /// Database.
        database: u32,
        /// Tablespace.
        tablespace: u32,
        /// The copied database.
        template: Option<u32>,
    },
    /// DROP DATABASE, or ALTER DATABASE SET TABLESPACE away from these.
    DatabaseDropped {
        /// Database.
        database: u32,
        /// Tablespaces.
        tablespaces: Vec<u32>,
    },
    /// CREATE TABLESPACE. Replay makes this directory and a link to it on the host that replays.
    TablespaceCreated {
        /// Tablespace.
        tablespace: u32,
        /// Absolute path, as the creating server knew it.
        location: String,
    },
    /// DROP TABLESPACE.
    TablespaceDropped(u32),
    /// File numbers of catalogs that have no `pg_class.relfilenode`.
    Mapped {
        /// 0 for shared catalogs.
        database: u32,
        /// `(pg_class OID, file number)`.
        files: Vec<(u32, u32)>,
    },
}

impl Storage {
    /// Decodes a record of [`Rmgr::STORAGE`], [`Rmgr::DATABASE`], [`Rmgr::TABLESPACE`] or [`Rmgr::RELMAP`].
    ///
    /// # Errors
    /// When the payload is not what it must be.
    pub fn parse(record: &Record<'_>) -> Result<Storage, Malformed> {
        parse(record).ok_or_else(unfit)
    }
}

fn parse(record: &Record<'_>) -> Option<Storage> {
    let mut fields = Fields::new(record.main());
    match (record.header.rmgr, record.header.operation()) {
        (Rmgr::STORAGE, 0x10) => Some(Storage::Created(relation(&mut fields)?, Fork::of(fields.u32()?)?)),
        (Rmgr::STORAGE, 0x20) => {
            let blocks = fields.u32()?;
            Some(Storage::Truncated(relation(&mut fields)?, blocks))
        }
        (Rmgr::DATABASE, operation) => database(&mut fields, operation, record.major),
        (Rmgr::TABLESPACE, 0x00) => {
            let tablespace = fields.u32()?;
            Some(Storage::TablespaceCreated { tablespace, location: fields.text()? })
        }
        (Rmgr::TABLESPACE, 0x10) => Some(Storage::TablespaceDropped(fields.u32()?)),
        (Rmgr::RELMAP, 0x00) => mapped(&mut fields),
        _ => None,
    }
}

fn relation(fields: &mut Fields<'_>) -> Option<RelationFile> {
    RelationFile::parse(fields.take(12)?, 0)
}

/// 15 moved DROP from 0x10 to 0x20 and put CREATE_WAL_LOG in its place.
fn database(fields: &mut Fields<'_>, operation: u8, major: Major) -> Option<Storage> {
    let drop = if major >= Major(15) { 0x20 } else { 0x10 };
    let database = fields.u32()?;
    if operation == drop {
        let count = fields.count()?;
        return Some(Storage::DatabaseDropped { database, tablespaces: fields.u32s(count)? });
    }
    let tablespace = fields.u32()?;
    let template = match operation {
        0x00 => Some(fields.u32()?),
        0x10 => None,
        _ => return None,
    };
    Some(Storage::DatabaseCreated { database, tablespace, template })
}

/// `xl_relmap_update` around a `RelMapFile` (relmapper.c).
fn mapped(fields: &mut Fields<'_>) -> Option<Storage> {
    let database = fields.u32()?;
    fields.skip(4)?; // tablespace
    let length = fields.count()?;
    let mut map = Fields::new(fields.take(length)?);
    if map.u32()? != 0x0059_2717 {
        return None;
    }
    let count = map.count()?;
    let pairs = map.u32s(count.checked_mul(2)?)?;
    let files = pairs.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect();
    Some(Storage::Mapped { database, files })
}
