//! How a segment is entered: from where, what is known of it, and what it carries in.

use serde::{Deserialize, Serialize};

use super::Reason;
use super::assembly::Assembly;
use super::page::{Major, Page};
use super::window::Window;
use crate::pg::{History, Lsn, SegmentSize};

/// Where and with what knowledge a segment is entered.
#[derive(Debug)]
pub enum Start {
    /// At its first byte, knowing nothing of the segment before.
    Unknown,
    /// At a record's start inside it (or at a page boundary before one).
    At(Lsn),
    /// After the segment before, whose last record began at `prev` and whose last bytes may be half a record.
    Following {
        /// Start of the last complete record.
        prev: Option<Lsn>,
        /// The record that runs into this segment.
        carried: Option<Assembly>,
    },
}

/// What the caller knows about the WAL; each field is checked on every page where it is given.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    /// The cluster. Without it the segment's first page is believed.
    pub identity: Option<Identity>,
    /// The history of the timeline that is read.
    pub history: Option<History>,
}

/// Whose WAL it is; from pg_control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's identifier.
    pub system_identifier: u64,
    /// Its major version.
    pub major: Major,
}

/// The end of a record that began in an earlier segment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// `xlp_rem_len` of the segment's first page: bytes still missing at its start; 0 if none.
    pub remaining: u32,
    /// Where the segment's own records begin, if the record ends here.
    pub end: Lsn,
    /// The bytes found; fewer than `remaining` when the record continues past this segment.
    #[serde(with = "super::bytes::as_hex")]
    pub bytes: Vec<u8>,
    /// The segment's first page says that it begins with a record that replaces a broken one.
    pub overwrites: bool,
    /// That record is there, and the broken one was at this place.
    pub replaces: Option<Lsn>,
}

impl Head {
    /// The record continues in the next segment too.
    pub fn is_open(&self) -> bool {
        self.bytes.len() < self.remaining as usize
    }
}

/// Parses the first page's header and compares the sizes it gives.
pub(super) fn first_page(window: Window<'_>, size: SegmentSize) -> Result<Page, Reason> {
    if window.end() as u64 > size.bytes() {
        return Err(Reason::SegmentSize);
    }
    let header = Page::parse(window.from(0))?;
    let long = header.long.ok_or(Reason::PageHeader)?;
    if long.segment_size != size {
        return Err(Reason::SegmentSize);
    }
    // XLOG_BLCKSZ is one of 1 to 64 kB (configure --with-wal-blocksize).
    if !long.block_size.is_power_of_two() || !(1024..=65536).contains(&long.block_size) {
        return Err(Reason::PageHeader);
    }
    Ok(header)
}
