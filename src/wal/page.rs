//! Page headers, judged for reading records from them.
//!
//! The header itself is parsed by [`crate::pg::page`]. Here come the rules that only a reader of records
//! needs: which bytes continue a record.

use serde::{Deserialize, Serialize};

use super::Reason;
use crate::pg::page::{self, FIRST_IS_CONTRECORD, FIRST_IS_OVERWRITE_CONTRECORD};
use crate::pg::{LongHeader, Lsn, Timeline};

/// PostgreSQL major whose WAL a page holds; the layout of records depends on nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Major(pub u32);

/// One page's header; what the page alone can tell was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Major that wrote it.
    pub major: Major,
    /// Timeline of the page's first record.
    pub timeline: Timeline,
    /// LSN of the page's first byte.
    pub address: Lsn,
    /// Bytes of a record that began on an earlier page, including what continues on later ones; 0 if none.
    pub remaining: u32,
    /// The page begins with the record that replaces a broken one.
    pub overwrites: bool,
    /// Bytes of the header.
    pub header: usize,
    /// Present on a segment's first page.
    pub long: Option<LongHeader>,
}

impl Page {
    /// Parses the header at the beginning of `bytes`.
    ///
    /// # Errors
    /// [`Reason::ShortSegment`] when the bytes end, [`Reason::ZeroPage`], [`Reason::PageHeader`].
    pub fn parse(bytes: &[u8]) -> Result<Page, Reason> {
        let header = page::PageHeader::parse(bytes).map_err(|_| unreadable(bytes))?;
        let continues = header.info & FIRST_IS_CONTRECORD != 0;
        let overwrites = header.info & FIRST_IS_OVERWRITE_CONTRECORD != 0;
        // A page is written from zeroed memory, and the two continuation flags exclude each other.
        let consistent = (header.remaining != 0) == continues && !(continues && overwrites);
        if !consistent || header.timeline.0 == 0 {
            return Err(Reason::PageHeader);
        }
        Ok(Page {
            major: Major(header.major().ok_or(Reason::PageHeader)?),
            timeline: header.timeline,
            address: header.address,
            remaining: header.remaining,
            overwrites,
            header: header.size() as usize,
            long: header.long,
        })
    }

    /// The page begins with the rest of a record.
    pub fn continues(&self) -> bool {
        self.remaining != 0
    }
}

fn unreadable(bytes: &[u8]) -> Reason {
    match bytes.first_chunk::<24>() {
        None => Reason::ShortSegment,
        Some(header) if header.iter().all(|b| *b == 0) => Reason::ZeroPage,
        Some(_) => Reason::PageHeader,
    }
}
