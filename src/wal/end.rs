//! Where reading stopped, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::pg::Lsn;

/// The end of a read: nothing from `lsn` on was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndOfWal {
    /// Where the next record was expected to start (it may be a page boundary, before the page's header).
    pub lsn: Lsn,
    /// Where the fault lies: the record's start, or the page whose header is wrong.
    pub at: Lsn,
    /// What was wrong there.
    pub reason: Reason,
    /// Start of the last good record; `None` when there was none.
    pub last_record: Option<Lsn>,
    /// End of the last good record (rounded up to 8 bytes, as PostgreSQL's `EndRecPtr`).
    pub last_record_end: Option<Lsn>,
}

/// Why a record could not be read (`ValidXLogRecordHeader`, `XLogReaderValidatePageHeader`, xlogreader.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The record length is zero: the usual end inside a live segment.
    ZeroLength,
    /// A page of zeros where a page header was expected: the usual end at a page boundary.
    ZeroPage,
    /// Magic, flags, segment size or block size of a page header are wrong.
    PageHeader,
    /// A page of another major than its segment's first page.
    OtherMajor,
    /// The page says it belongs elsewhere: a recycled segment.
    PageAddress,
    /// The segment is of another cluster.
    SystemIdentifier,
    /// The page's timeline is not the one of the history at this place.
    Timeline,
    /// The record length is impossible.
    Length,
    /// The resource manager id is not one of 0..=21 or 128..=255.
    ResourceManager,
    /// The record does not point back at the one before it.
    PrevLink,
    /// The checksum does not match.
    Crc,
    /// The checksum is right, but the record's parts do not add up to its length.
    Malformed,
    /// A page does not continue the record that runs into it, or continues one that does not.
    Continuation,
    /// A page replaces a broken record, but its first record does not name that record's place.
    Overwrite,
    /// The segment is shorter than its size.
    ShortSegment,
    /// The segment is longer than its size, or the size is not the one of its header.
    SegmentSize,
    /// The segment is not there.
    MissingSegment,
    /// The position asked for is not where a record can start.
    Position,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::ZeroLength => "zero record length",
            Reason::ZeroPage => "a page of zeros",
            Reason::PageHeader => "not a WAL page header",
            Reason::OtherMajor => "a page of another major version",
            Reason::PageAddress => "a page of another place (recycled segment)",
            Reason::SystemIdentifier => "a segment of another cluster",
            Reason::Timeline => "a page of an unexpected timeline",
            Reason::Length => "an impossible record length",
            Reason::ResourceManager => "an unknown resource manager",
            Reason::PrevLink => "a record that does not follow the one before",
            Reason::Malformed => "a record whose parts do not fit",
            Reason::Crc => "a wrong checksum",
            Reason::Continuation => "a record that is not continued",
            Reason::Overwrite => "an overwritten record that does not match",
            Reason::ShortSegment => "the segment is too short",
            Reason::SegmentSize => "the segment has another size than expected",
            Reason::MissingSegment => "the segment is missing",
            Reason::Position => "no record starts here",
        })
    }
}

impl fmt::Display for EndOfWal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WAL ends at {}: {} at {}", self.lsn, self.reason, self.at)
    }
}
