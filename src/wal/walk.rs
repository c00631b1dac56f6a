//! Records from an LSN on, over segments and history.
//!
//! The walk reads the newest timeline's file of each segment, as recovery does where that file is there, and
//! never falls back to an ancestor's: that would replay past the fork unseen.

use std::io::Read;

use super::scan::{Advance, Checks, Identity, Outcome, Scan, Start};
use super::window::Windows;
use super::{EndOfWal, Reason, Record};
use crate::error::{Error, Result};
use crate::pg::{History, Lsn, SegmentName, SegmentSize};

/// Where whole, decompressed segments come from.
pub trait SegmentSource {
    /// A segment's bytes, from the first on.
    type Stream: Read;

    /// The segment of this name, `None` when it does not exist.
    ///
    /// # Errors
    /// When it exists and cannot be read; the walk passes this on.
    fn segment(&mut self, name: SegmentName) -> Result<Option<Self::Stream>>;
}

/// A sequential read. After the end it stays at its end.
pub struct Walk<S: SegmentSource> {
    source: S,
    size: SegmentSize,
    history: History,
    identity: Option<Identity>,
    current: Option<(Scan, Windows<S::Stream>)>,
    /// For the windows of the next segment.
    buffer: Vec<u8>,
    /// The segment to open next, and how.
    next: (u64, Start),
    /// The last good record.
    last: Option<(Lsn, Lsn)>,
    end: Option<EndOfWal>,
}

impl<S: SegmentSource> Walk<S> {
    /// A read from the record that starts at `from` (or after the page header that is there).
    /// `identity` is demanded of every segment; without it, the first segment's is.
    pub fn new(source: S, size: SegmentSize, history: History, identity: Option<Identity>, from: Lsn) -> Walk<S> {
        let next = (size.number(from), Start::At(from));
        Walk { source, size, history, identity, current: None, buffer: Vec::new(), next, last: None, end: None }
    }

    /// A read from the first record that starts in segment `number` or, where a record leads past it, later.
    pub fn from_segment(source: S, size: SegmentSize, history: History, identity: Option<Identity>, number: u64) -> Walk<S> {
        let walk = Walk::new(source, size, history, identity, size.start(number));
        Walk { next: (number, Start::Unknown), ..walk }
    }

    /// The next good record, `None` at the end of WAL: see [`Walk::end`].
    ///
    /// # Errors
    /// Those of the source.
    #[allow(clippy::should_implement_trait)] // a record borrows the walk
    pub fn next(&mut self) -> Result<Option<Record<'_>>> {
        loop {
            if self.end.is_some() || (self.current.is_none() && !self.open()?) {
                return Ok(None);
            }
            let Some((scan, windows)) = &mut self.current else { return Ok(None) };
            match scan.advance(windows.window()) {
                Advance::Record => {
                    self.last = scan.last();
                    break;
                }
                Advance::More => windows.advance().map_err(unreadable)?,
                Advance::Done => self.leave(),
            }
        }
        Ok(self.current.as_ref().map(|(scan, windows)| scan.record(windows.window())))
    }

    /// Where and why the read ended, once [`Walk::next`] returned `None`.
    pub fn end(&self) -> Option<EndOfWal> {
        self.end
    }

    /// Gives the source back.
    pub fn into_source(self) -> S {
        self.source
    }

    /// Opens the next segment; `false` when WAL ends before it.
    fn open(&mut self) -> Result<bool> {
        let number = self.next.0;
        let name = SegmentName { timeline: self.history.timeline_of_segment(number, self.size), number };
        let begin = self.size.start(number);
        let start = std::mem::replace(&mut self.next.1, Start::Unknown);
        let Some(stream) = self.source.segment(name)? else {
            let lsn = match &start {
                Start::At(lsn) => *lsn,
                Start::Following { carried: Some(assembly), .. } => assembly.lsn(),
                _ => begin,
            };
            self.end_with(EndOfWal { lsn, at: begin, reason: Reason::MissingSegment, last_record: None, last_record_end: None });
            return Ok(false);
        };
        let checks = Checks { identity: self.identity, history: Some(self.history.clone()) };
        let windows = Windows::open(stream, std::mem::take(&mut self.buffer)).map_err(unreadable)?;
        match Scan::open(windows.window(), name, self.size, checks, start) {
            Ok(scan) => {
                self.identity = Some(scan.identity());
                self.current = Some((scan, windows));
                Ok(true)
            }
            Err(end) => {
                self.end_with(end);
                Ok(false)
            }
        }
    }

    /// The current segment has no more records.
    fn leave(&mut self) {
        let Some((scan, windows)) = self.current.take() else { return };
        self.buffer = windows.into_buffer();
        let prev = self.last.map(|(start, _)| start);
        let start = match scan.finish() {
            (Outcome::Ended(end) | Outcome::Unfit(end), _) => return self.end_with(end),
            (Outcome::Carried(assembly), _) => Start::Following { prev, carried: Some(assembly) },
            // Nothing but the middle of a record whose beginning was not read.
            (Outcome::Complete, head) if head.is_open() => Start::Unknown,
            (Outcome::Complete, _) => Start::Following { prev, carried: None },
        };
        self.next = (self.next.0.saturating_add(1), start);
    }

    fn end_with(&mut self, end: EndOfWal) {
        self.end = Some(EndOfWal { last_record: self.last.map(|l| l.0), last_record_end: self.last.map(|l| l.1), ..end });
    }
}

fn unreadable(e: std::io::Error) -> Error {
    Error::failed("read a WAL segment").cause(e)
}
