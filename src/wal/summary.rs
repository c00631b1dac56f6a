//! One segment in brief: what its records did, and what is needed to join it to its neighbours.
//!
//! A summary depends on nothing but the segment's bytes, so that segments can be read in parallel and the
//! result be kept. It proves the segment from its first record to its last; [`super::chain`] proves the joints.

use std::io::{self, Read};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::EndOfWal;
use super::assembly::Assembly;
use super::effects::{Collector, Effects};
use super::page::Major;
use super::scan::{Advance, Checks, Head, Outcome, Scan, Start};
use super::window::{Window, Windows};
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

/// Reads one segment that is in memory as a whole.
///
/// # Errors
/// When its first page is not that of this segment, or it has more bytes than a segment.
pub fn summarise(bytes: &[u8], name: SegmentName, size: SegmentSize, checks: Checks) -> Result<SegmentSummary, EndOfWal> {
    let mut summary = Summary::open(Window::whole(bytes), name, size, checks)?;
    summary.read(Window::whole(bytes));
    summary.finish()
}

/// Reads one segment as it comes, in windows for which `buffer` is used.
///
/// # Errors
/// Outer: those of `source`. Inner: as [`summarise`].
pub fn summarise_stream(
    source: impl Read,
    buffer: &mut Vec<u8>,
    name: SegmentName,
    size: SegmentSize,
    checks: Checks,
) -> io::Result<Result<SegmentSummary, EndOfWal>> {
    let mut windows = Windows::open(source, std::mem::take(buffer))?;
    let mut opened = Summary::open(windows.window(), name, size, checks);
    while let Ok(summary) = &mut opened
        && summary.read(windows.window())
    {
        windows.advance()?;
    }
    *buffer = windows.into_buffer();
    Ok(opened.and_then(Summary::finish))
}

/// A summary in the making.
struct Summary {
    name: SegmentName,
    size: SegmentSize,
    scan: Scan,
    collector: Collector,
    first: Option<FirstRecord>,
}

impl Summary {
    fn open(window: Window<'_>, name: SegmentName, size: SegmentSize, checks: Checks) -> Result<Summary, EndOfWal> {
        let scan = Scan::open(window, name, size, checks, Start::Unknown)?;
        Ok(Summary { name, size, scan, collector: Collector::default(), first: None })
    }

    /// Whether there is more to read.
    fn read(&mut self, window: Window<'_>) -> bool {
        let Summary { scan, collector, first, .. } = self;
        let advance = scan.run(window, &mut |record| {
            first.get_or_insert(FirstRecord { lsn: record.lsn, prev: record.header.prev });
            collector.record(record);
            ControlFlow::Continue(())
        });
        advance != Advance::Done
    }

    fn finish(self) -> Result<SegmentSummary, EndOfWal> {
        let identity = self.scan.identity();
        let (timelines, last) = (self.scan.timelines().to_vec(), self.scan.last());
        let (outcome, head) = self.scan.finish();
        Ok(SegmentSummary {
            name: self.name,
            size: self.size,
            major: identity.major,
            system_identifier: identity.system_identifier,
            timelines,
            head,
            first: self.first,
            last,
            tail: match outcome {
                Outcome::Complete => Tail::Complete,
                Outcome::Carried(assembly) => Tail::Carried(assembly),
                Outcome::Ended(end) => Tail::Ended(end),
                Outcome::Unfit(end) => return Err(end),
            },
            effects: self.collector.finish(),
        })
    }
}
