//! A record put together from the pages, or segments, it lies on.

use serde::{Deserialize, Serialize};

use super::Reason;
use super::record::{self, HEADER, Header};
use crate::pg::Lsn;

/// Bytes of a record that are kept; what a longer one has beyond is checked, not kept. A commit record
/// holds more than 16 million subtransactions in this.
pub const KEPT: usize = 64 << 20;

/// A record that has begun. Its buffer grows with the bytes that really came, never by the announced length.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assembly {
    lsn: Lsn,
    total: u32,
    have: usize,
    #[serde(with = "super::bytes::as_hex")]
    kept: Vec<u8>,
    /// CRC-32C of what came after the header.
    crc: u32,
    header_seen: bool,
}

impl Assembly {
    /// Forgets the record before, keeps its buffer.
    pub fn begin(&mut self, lsn: Lsn, total: u32) {
        self.kept.clear();
        *self = Assembly { lsn, total, kept: std::mem::take(&mut self.kept), ..Assembly::default() };
    }

    /// Adds the next bytes.
    pub fn push(&mut self, piece: &[u8]) {
        let header_part = HEADER.saturating_sub(self.have).min(piece.len());
        self.crc = crc32c::crc32c_append(self.crc, piece.get(header_part..).unwrap_or_default());
        let room = KEPT.saturating_sub(self.kept.len()).min(piece.len());
        self.kept.extend_from_slice(piece.get(..room).unwrap_or_default());
        self.have += piece.len();
    }

    /// Start of the record.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Bytes still to come.
    pub fn missing(&self) -> usize {
        (self.total as usize).saturating_sub(self.have)
    }

    /// The bytes from the header on, at most [`KEPT`].
    pub fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// The header, if it is complete.
    pub fn header(&self) -> Option<Header> {
        Header::parse(&self.kept)
    }

    /// The header, once, as soon as it is complete.
    pub fn unchecked_header(&mut self) -> Option<Header> {
        if self.header_seen {
            return None;
        }
        let header = Header::parse(&self.kept)?;
        self.header_seen = true;
        Some(header)
    }

    /// Checks length and CRC of the whole.
    ///
    /// # Errors
    /// [`Reason::Crc`], [`Reason::Length`] when bytes are missing.
    pub fn finish(&self) -> Result<Header, Reason> {
        let header = Header::parse(&self.kept).filter(|_| self.have == self.total as usize).ok_or(Reason::Length)?;
        if record::checksum(&self.kept, self.crc) == header.crc { Ok(header) } else { Err(Reason::Crc) }
    }
}

/// Judges a header before its record is read (`ValidXLogRecordHeader`). The first record of a read has no
/// known predecessor; it must only lie behind it.
///
/// # Errors
/// [`Reason::ResourceManager`], [`Reason::PrevLink`].
pub fn check_header(header: &Header, lsn: Lsn, prev: Option<Lsn>) -> Result<(), Reason> {
    if !header.rmgr.is_valid() {
        return Err(Reason::ResourceManager);
    }
    let linked = prev.map_or(header.prev < lsn, |prev| header.prev == prev);
    if linked { Ok(()) } else { Err(Reason::PrevLink) }
}
