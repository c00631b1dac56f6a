//! How reading comes to the first record of a segment: past the end of a record that began earlier, or to a given place.

use super::assembly::Assembly;
use super::page::Page;
use super::pages::Pages;
use super::start::{Head, Start};
use super::window::Window;
use super::{EndOfWal, Reason};
use crate::pg::Lsn;

/// What is still to be done before the first record.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entering {
    /// Look at the first page.
    Unknown,
    /// Collect so many bytes more of a record that began in an earlier segment.
    Head(usize),
    /// Go to the record that starts here.
    At(Lsn),
    /// Nothing.
    Done,
}

/// The way to the first record.
#[derive(Debug)]
pub(super) struct Entrance {
    entering: Entering,
    /// Where the first record was expected to start.
    from: Lsn,
    /// Start of the last record of the segment before.
    prev: Option<Lsn>,
    /// Offset that was come to.
    pub(super) pos: usize,
    /// What was found on the way.
    pub(super) head: Head,
}

/// Where a step led.
pub(super) enum Entered {
    /// To the first record, which must say that it replaces another when the flag is set.
    Here {
        /// The segment begins in place of a record that was begun in the one before.
        replaces: bool,
    },
    /// To what is in the next window.
    Further,
}

impl Entrance {
    /// Before the first step into the segment that begins at `begin`.
    pub(super) fn new(start: &Start, begin: Lsn) -> Entrance {
        let (entering, from, prev) = match start {
            Start::Unknown => (Entering::Unknown, begin, None),
            Start::At(lsn) => (Entering::At(*lsn), *lsn, None),
            Start::Following { prev, carried } => (Entering::Done, carried.as_ref().map_or(begin, Assembly::lsn), *prev),
        };
        Entrance { entering, from, prev, pos: 0, head: Head::default() }
    }

    /// The first record was come to.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.entering, Entering::Done)
    }

    /// Goes as far as `window` leads.
    ///
    /// # Errors
    /// When the pages on the way are not what they must be, or no record can start at the place asked for.
    pub(super) fn go(&mut self, pages: &mut Pages, window: Window<'_>) -> Result<Entered, EndOfWal> {
        self.steps(pages, window).map_err(|(at, reason)| self.end(at, reason))
    }

    /// The end of a read that never came to its first record, or might as well not have.
    pub(super) fn end(&self, at: Lsn, reason: Reason) -> EndOfWal {
        EndOfWal { lsn: self.from, at, reason, last_record: self.prev, last_record_end: None }
    }

    fn steps(&mut self, pages: &mut Pages, window: Window<'_>) -> Result<Entered, (Lsn, Reason)> {
        loop {
            self.entering = match self.entering {
                Entering::Unknown if pages.first.overwrites => {
                    self.head.overwrites = true;
                    self.pos = pages.first.header;
                    Entering::Done
                }
                Entering::Unknown => {
                    self.head.remaining = pages.first.remaining;
                    Entering::Head(self.head.remaining as usize)
                }
                Entering::Head(missing) if missing == 0 || self.pos >= pages.size => Entering::Done,
                Entering::Head(_) if window.is_before(self.pos) => return Ok(Entered::Further),
                Entering::Head(missing) => Entering::Head(self.take_head(pages, window, missing)?),
                Entering::At(lsn) if window.is_before(place(pages, lsn)?) => return Ok(Entered::Further),
                Entering::At(lsn) => {
                    self.seek(pages, window, lsn)?;
                    Entering::Done
                }
                Entering::Done => return Ok(Entered::Here { replaces: self.head.overwrites }),
            };
        }
    }

    /// Collects the part of a record that began in an earlier segment which is on the page at hand, without being able to
    /// judge it; how many bytes are still missing.
    fn take_head(&mut self, pages: &mut Pages, window: Window<'_>, missing: usize) -> Result<usize, (Lsn, Reason)> {
        let header = judge(pages, window, self.pos)?;
        let at = pages.lsn_at(self.pos);
        if header.remaining as usize != missing {
            return Err((at, Reason::Continuation));
        }
        let from = self.pos + header.header;
        let take = missing.min(pages.block - header.header);
        let piece = window.get(from, take).ok_or((at, Reason::ShortSegment))?;
        self.head.bytes.extend_from_slice(piece);
        self.pos = align(from + take);
        self.head.end = pages.lsn_at(self.pos);
        Ok(missing - take)
    }

    /// Goes to a record's start.
    fn seek(&mut self, pages: &mut Pages, window: Window<'_>, lsn: Lsn) -> Result<(), (Lsn, Reason)> {
        let offset = place(pages, lsn)?;
        let page = offset - (offset & (pages.block - 1));
        let in_page = offset - page;
        let header = judge(pages, window, page)?;
        let first = header.header + align(header.remaining as usize);
        if offset % 8 != 0 || (in_page != 0 && in_page < first) || (in_page == 0 && header.continues()) {
            return Err((lsn, Reason::Position));
        }
        self.pos = offset;
        if header.overwrites && (in_page == 0 || in_page == header.header) {
            self.pos = page + header.header;
        }
        Ok(())
    }
}

/// The offset of `lsn`.
fn place(pages: &Pages, lsn: Lsn) -> Result<usize, (Lsn, Reason)> {
    let offset = lsn.0.checked_sub(pages.begin.0).and_then(|offset| usize::try_from(offset).ok());
    offset.filter(|offset| *offset < pages.size).ok_or((lsn, Reason::Position))
}

fn judge(pages: &mut Pages, window: Window<'_>, at: usize) -> Result<Page, (Lsn, Reason)> {
    pages.judge(window, at).map_err(|reason| (pages.lsn_at(at), reason))
}

/// Rounds up to the alignment of record starts (`MAXALIGN`).
pub(super) fn align(offset: usize) -> usize {
    offset.saturating_add(7) & !7
}
