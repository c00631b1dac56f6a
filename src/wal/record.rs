//! Record headers and checksums (`XLogRecord`, access/xlogrecord.h).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::block::{Block, Layout};
use super::bytes::{u32, u64};
use super::page::Major;
use crate::pg::Lsn;

/// Bytes of a record header.
pub const HEADER: usize = 24;
/// Longest record that is believed: PostgreSQL cannot allocate more (`MaxAllocSize`, utils/memutils.h).
pub const MAX_LENGTH: u32 = 0x3FFF_FFFF;

/// Resource manager id (access/rmgrlist.h); 128..=255 belong to extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rmgr(pub u8);

/// `pg_waldump`'s names, by id.
const NAMES: [&str; 22] = [
    "XLOG",
    "Transaction",
    "Storage",
    "CLOG",
    "Database",
    "Tablespace",
    "MultiXact",
    "RelMap",
    "Standby",
    "Heap2",
    "Heap",
    "Btree",
    "Hash",
    "Gin",
    "Gist",
    "Sequence",
    "SPGist",
    "BRIN",
    "CommitTs",
    "ReplicationOrigin",
    "Generic",
    "LogicalMessage",
];

impl Rmgr {
    /// Checkpoints, switches, full page images.
    pub const XLOG: Rmgr = Rmgr(0);
    /// Commits, aborts, prepared transactions.
    pub const TRANSACTION: Rmgr = Rmgr(1);
    /// Creation and truncation of relation files.
    pub const STORAGE: Rmgr = Rmgr(2);
    /// CREATE and DROP DATABASE.
    pub const DATABASE: Rmgr = Rmgr(4);
    /// CREATE and DROP TABLESPACE.
    pub const TABLESPACE: Rmgr = Rmgr(5);
    /// File numbers of mapped catalogs.
    pub const RELMAP: Rmgr = Rmgr(7);
    /// Locks and running transactions, for hot standby.
    pub const STANDBY: Rmgr = Rmgr(8);
    /// Multi-inserts, pruning, freezing.
    pub const HEAP2: Rmgr = Rmgr(9);
    /// Row changes.
    pub const HEAP: Rmgr = Rmgr(10);

    /// An id PostgreSQL accepts (`RmgrIdIsValid`).
    pub fn is_valid(self) -> bool {
        usize::from(self.0) < NAMES.len() || self.is_custom()
    }

    /// An extension's resource manager (15 and later): replay needs the extension's library.
    pub fn is_custom(self) -> bool {
        self.0 >= 128
    }
}

impl fmt::Display for Rmgr {
    /// The name `pg_waldump` prints, which for an unknown extension is `customNNN`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "custom{:03}", self.0),
        }
    }
}

/// A record's 24-byte header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Bytes of the whole record, this header included, page headers and padding not.
    pub total_length: u32,
    /// 32-bit id of the (sub)transaction, 0 for none.
    pub xid: u32,
    /// Start of the record before this one.
    pub prev: Lsn,
    /// Operation in the high half, generic flags in the low half.
    pub info: u8,
    /// Resource manager.
    pub rmgr: Rmgr,
    /// CRC-32C of the rest of the record, then of the header's first 20 bytes.
    pub crc: u32,
}

impl Header {
    /// Reads the fields; nothing is judged.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.first_chunk::<HEADER>()?;
        Some(Header {
            total_length: u32(bytes, 0)?,
            xid: u32(bytes, 4)?,
            prev: Lsn(u64(bytes, 8)?),
            info: *bytes.get(16)?,
            rmgr: Rmgr(*bytes.get(17)?),
            crc: u32(bytes, 20)?,
        })
    }

    /// The operation: `xl_info` without the generic flags.
    pub fn operation(&self) -> u8 {
        self.info & 0xF0
    }

    /// `XLOG_SWITCH`: the rest of the segment is unused.
    pub fn is_switch(&self) -> bool {
        self.rmgr == Rmgr::XLOG && self.operation() == 0x40
    }
}

/// One checked record.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Start: what PostgreSQL's recovery targets compare.
    pub lsn: Lsn,
    /// End, rounded up to 8 bytes (`EndRecPtr`); a page boundary is not advanced over the page's header.
    pub end: Lsn,
    /// Major that wrote it.
    pub major: Major,
    /// The header.
    pub header: &'a Header,
    /// What follows the header. Shorter than `total_length` says only for a record above
    /// [`super::scan::KEPT`] bytes, whose tail was checked but not kept.
    pub body: &'a [u8],
    /// The body's parts; empty for a record that is not whole.
    pub layout: &'a Layout,
}

impl<'a> Record<'a> {
    /// The main data.
    pub fn main(&self) -> &'a [u8] {
        if self.is_whole() { self.layout.main(self.body) } else { &[] }
    }

    /// The block references, each with its image bytes and its data.
    pub fn blocks(&self) -> impl Iterator<Item = (Block, &'a [u8], &'a [u8])> {
        self.layout.blocks(self.body, self.major)
    }

    /// Whether `body` is all of the record.
    pub fn is_whole(&self) -> bool {
        self.body.len() + HEADER == self.header.total_length as usize
    }
}

/// The checksum of a record whose header bytes are `header` and whose other bytes have the CRC `body`.
pub fn checksum(header: &[u8], body: u32) -> u32 {
    crc32c::crc32c_append(body, header.get(..20).unwrap_or(header))
}
