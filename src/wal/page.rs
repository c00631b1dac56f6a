//! Page headers (`XLogPageHeaderData`, access/xlog_internal.h).
//!
//! The first page of a segment has the long form of 40 bytes, every other page 24.

use serde::{Deserialize, Serialize};

use super::Reason;
use super::bytes::{u16, u32, u64};
use crate::pg::{Lsn, Timeline};

/// Smallest page that is parsed; also the size of the short header.
pub const SHORT_HEADER: usize = 24;
/// Size of the header of a segment's first page.
pub const LONG_HEADER: usize = 40;

const FIRST_IS_CONTRECORD: u16 = 0x0001;
const IS_LONG: u16 = 0x0002;
const FIRST_IS_OVERWRITE_CONTRECORD: u16 = 0x0008;
const ALL_FLAGS: u16 = 0x000F;

/// PostgreSQL major whose WAL a page holds; the layout of records depends on nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Major(pub u8);

impl Major {
    /// The major that writes this `xlp_magic` (`XLOG_PAGE_MAGIC`).
    pub fn of_magic(magic: u16) -> Option<Major> {
        Some(Major(match magic {
            0xD106 => 13,
            0xD10D => 14,
            0xD110 => 15,
            0xD113 => 16,
            0xD116 => 17,
            0xD118 => 18,
            _ => return None,
        }))
    }
}

/// One page's header, parsed; [`PageHeader::parse`] checked what the page alone can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageHeader {
    /// From `xlp_magic`.
    pub major: Major,
    /// Timeline of the page's first record.
    pub timeline: Timeline,
    /// LSN of the page's first byte.
    pub address: Lsn,
    /// Bytes of a record that began on an earlier page, including what continues on later ones; 0 if none.
    pub remaining: u32,
    /// The page begins with the rest of a record.
    pub continues: bool,
    /// The page begins with the record that replaces a broken one.
    pub overwrites: bool,
    /// Present on a segment's first page.
    pub long: Option<LongHeader>,
}

/// What only a segment's first page carries (`XLogLongPageHeaderData`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongHeader {
    /// The cluster's system identifier.
    pub system_identifier: u64,
    /// Bytes of a segment.
    pub segment_size: u32,
    /// Bytes of a page.
    pub block_size: u32,
}

impl PageHeader {
    /// Parses the header at the beginning of `page`.
    ///
    /// # Errors
    /// [`Reason::ShortSegment`] when the bytes end, [`Reason::ZeroPage`], [`Reason::PageHeader`].
    pub fn parse(page: &[u8]) -> Result<PageHeader, Reason> {
        let short = page.first_chunk::<SHORT_HEADER>().ok_or(Reason::ShortSegment)?;
        let major = match u16(short, 0) {
            Some(magic) => Major::of_magic(magic),
            None => None,
        };
        let Some(major) = major else {
            return Err(if short.iter().all(|b| *b == 0) { Reason::ZeroPage } else { Reason::PageHeader });
        };
        let flags = u16(short, 2).unwrap_or_default();
        let header = PageHeader {
            major,
            timeline: Timeline(u32(short, 4).unwrap_or_default()),
            address: Lsn(u64(short, 8).unwrap_or_default()),
            remaining: u32(short, 16).unwrap_or_default(),
            continues: flags & FIRST_IS_CONTRECORD != 0,
            overwrites: flags & FIRST_IS_OVERWRITE_CONTRECORD != 0,
            long: if flags & IS_LONG != 0 { Some(LongHeader::parse(page)?) } else { None },
        };
        // A page is written from zeroed memory, and the two continuation flags exclude each other.
        let consistent = (header.remaining != 0) == header.continues && !(header.continues && header.overwrites);
        if flags & !ALL_FLAGS != 0 || !consistent || header.timeline.0 == 0 {
            return Err(Reason::PageHeader);
        }
        Ok(header)
    }

    /// Bytes of this header.
    pub fn size(&self) -> usize {
        if self.long.is_some() { LONG_HEADER } else { SHORT_HEADER }
    }
}

impl LongHeader {
    fn parse(page: &[u8]) -> Result<LongHeader, Reason> {
        let long = page.first_chunk::<LONG_HEADER>().ok_or(Reason::ShortSegment)?;
        Ok(LongHeader {
            system_identifier: u64(long, 24).unwrap_or_default(),
            segment_size: u32(long, 32).unwrap_or_default(),
            block_size: u32(long, 36).unwrap_or_default(),
        })
    }
}
