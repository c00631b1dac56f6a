//! One segment in brief: what its records did, and what is needed to join it to its neighbours.
//!
//! A summary depends on nothing but the segment's bytes, so that segments can be read in parallel and the
//! result be kept. It proves the segment from its first record to its last; [`super::chain`] proves the joints.

use serde::{Deserialize, Serialize};

use super::EndOfWal;
use super::assembly::Assembly;
use super::effects::{Collector, Effects};
use super::page::Major;
use super::scan::{Advance, Checks, Head, Outcome, Scan, Start};
use crate::pg::{Lsn, SegmentName, SegmentSize, Timeline};

/// A segment in brief.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentSummary {
    /// Which segment.
    pub name: SegmentName,
    /// Its size.
    pub size: SegmentSize,
    /// Major that wrote it.
    pub major: Major,
    /// Cluster that wrote it; a decimal string in JSON.
    #[serde(with = "crate::pg::decimal")]
    pub system_identifier: u64,
    /// Timelines of its pages, each with the first and the last page that has it.
    pub timelines: Vec<PageRun>,
    /// The record it was carried in.
    pub head: Head,
    /// The first record that starts in it, with the start of the one before.
    pub first: Option<FirstRecord>,
    /// Start and end of the last record that starts and ends in it.
    pub last: Option<(Lsn, Lsn)>,
    /// How it ends.
    pub tail: Tail,
    /// What the records did that start and end in it.
    pub effects: Effects,
}

/// Pages of one timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRun {
    /// Timeline in the pages' headers.
    pub timeline: Timeline,
    /// Address of the first page.
    pub first: Lsn,
    /// Address of the last page that was read.
    pub last: Lsn,
}

/// The link to the segment before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstRecord {
    /// Its start.
    pub lsn: Lsn,
    /// Start of the record before it.
    pub prev: Lsn,
}

/// How a segment ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tail {
    /// With its last byte, or by `XLOG_SWITCH`.
    Complete,
    /// In the middle of a record.
    Carried(Assembly),
    /// Before its last byte.
    Ended(EndOfWal),
}

/// Reads one segment, from its first byte or from the record at `from`.
///
/// # Errors
/// When its first page is not that of this segment, or no record starts at `from`.
pub fn summarise(
    bytes: &[u8],
    name: SegmentName,
    size: SegmentSize,
    checks: Checks,
    from: Option<Lsn>,
) -> Result<SegmentSummary, EndOfWal> {
    let start = from.map_or(Start::Unknown, Start::At);
    let mut scan = Scan::open(bytes, name, size, checks, start)?;
    let mut collector = Collector::default();
    let mut first = None;
    while let Advance::Record = scan.advance(bytes) {
        let record = scan.record(bytes);
        first.get_or_insert(FirstRecord { lsn: record.lsn, prev: record.header.prev });
        collector.record(&record);
    }
    let identity = scan.identity();
    let (timelines, last) = (scan.timelines().to_vec(), scan.last());
    let (outcome, head) = scan.finish();
    Ok(SegmentSummary {
        name,
        size,
        major: identity.major,
        system_identifier: identity.system_identifier,
        timelines,
        head,
        first,
        last,
        tail: match outcome {
            Outcome::Complete => Tail::Complete,
            Outcome::Carried(assembly) => Tail::Carried(assembly),
            Outcome::Ended(end) => Tail::Ended(end),
        },
        effects: collector.finish(),
    })
}
