//! The records of one segment, in order.
//!
//! A [`Scan`] holds no bytes of the segment: each call is given the [`Window`] that is in memory, and says when it needs
//! the next one. A record that lies on one page is handed out in place; one that spans pages is put together in one
//! reused buffer. Segments can be read independently: what a segment carries in from the one before is kept as its
//! [`Head`], what it carries out as an [`Assembly`].

use std::cmp::Ordering;
use std::ops::ControlFlow;

use super::assembly::{Assembly, check_header};
use super::block::Layout;
use super::bytes::{u32, u64};
use super::enter::{Entered, Entrance, align};
use super::page::Page;
use super::pages::Pages;
use super::record::{self, HEADER, Header, MAX_LENGTH, Record, Rmgr};
use super::summary::PageRun;
use super::window::Window;
use super::{EndOfWal, Reason};
use crate::pg::{Lsn, SegmentName, SegmentSize};

pub use super::assembly::KEPT;
pub use super::start::{Checks, Head, Identity, Start};

/// What reading in a window came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// A good record: see [`Scan::record`].
    Record,
    /// The next window is needed.
    More,
    /// Nothing more in this segment; [`Scan::finish`] says how it ended.
    Done,
}

/// How a segment ended.
#[derive(Debug)]
pub enum Outcome {
    /// At its last byte, or by `XLOG_SWITCH`; the next segment begins with a record.
    Complete,
    /// In the middle of a record.
    Carried(Assembly),
    /// Before its last byte.
    Ended(EndOfWal),
    /// Before reading came to the place where it was to begin, or with more bytes than a segment has: as if there were
    /// no such segment.
    Unfit(EndOfWal),
}

/// State of reading one segment.
#[derive(Debug)]
pub struct Scan {
    pages: Pages,
    /// Offset of the next byte to read; on a page boundary the page's header comes first.
    pos: usize,
    prev: Option<Lsn>,
    last: Option<(Lsn, Lsn)>,
    /// The record being put together, kept after it was handed out for its buffer.
    assembly: Assembly,
    assembling: bool,
    /// The next record must say that it replaces this one.
    broken: Option<Broken>,
    /// The first record may be one that replaces another.
    at_start: bool,
    entrance: Entrance,
    /// The record found last. It is filled in place: copies of it would be a good part of the work of reading.
    found: Found,
    stop: Option<Stop>,
}

#[derive(Debug, Clone, Copy)]
enum Broken {
    At(Lsn),
    /// In the segment before, which is not known.
    Before,
}

#[derive(Debug)]
enum Stop {
    Complete,
    Carried,
    Ended(EndOfWal),
    Unfit(EndOfWal),
}

/// A record without its bytes.
#[derive(Debug, Default)]
struct Found {
    lsn: Lsn,
    end: Lsn,
    header: Header,
    layout: Layout,
    /// Offset of the body in the segment; `None` for the assembly.
    body: Option<usize>,
}

/// What became of a record that spans pages.
enum Assembled {
    Whole,
    /// It is broken, and the page at hand replaces it.
    Replaced,
    /// It goes on in the next window.
    Further,
}

impl Scan {
    /// Checks the segment's first page, which is in `window`, and begins at `start`.
    ///
    /// # Errors
    /// [`EndOfWal`] when the first page is not the one of this segment.
    pub fn open(window: Window<'_>, name: SegmentName, size: SegmentSize, checks: Checks, start: Start) -> Result<Scan, EndOfWal> {
        let begin = size.start(name.number);
        let entrance = Entrance::new(&start, begin);
        let pages = Pages::open(window, name, size, checks).map_err(|reason| entrance.end(begin, reason))?;
        let (prev, carried) = match start {
            Start::Following { prev, carried } => (prev, carried),
            _ => (None, None),
        };
        Ok(Scan {
            pages,
            pos: 0,
            prev,
            last: None,
            assembling: carried.is_some(),
            assembly: carried.unwrap_or_default(),
            broken: None,
            at_start: !entrance.is_done(),
            entrance,
            found: Found::default(),
            stop: None,
        })
    }

    /// The next good record in `window`, the need for the next one, or the end of this segment; after the end, the end again.
    pub fn advance(&mut self, window: Window<'_>) -> Advance {
        self.run(window, &mut |_: &Record<'_>| ControlFlow::Break(()))
    }

    /// Gives each good record in `window` to `sink`, until that breaks off.
    pub fn run(&mut self, window: Window<'_>, sink: &mut impl FnMut(&Record<'_>) -> ControlFlow<()>) -> Advance {
        if self.stop.is_some() {
            return Advance::Done;
        }
        self.read(window, sink).unwrap_or_else(|stop| {
            self.stop = Some(stop);
            Advance::Done
        })
    }

    /// The record that [`Scan::advance`] just found, with the window it was found in.
    pub fn record<'s>(&'s self, window: Window<'s>) -> Record<'s> {
        let Found { lsn, end, header, layout, body } = &self.found;
        let body = match *body {
            Some(at) => window.get(at, (header.total_length as usize).saturating_sub(HEADER)),
            None => self.assembly.kept().get(HEADER..),
        };
        Record { lsn: *lsn, end: *end, major: self.pages.first.major, header, body: body.unwrap_or_default(), layout }
    }

    fn read(&mut self, window: Window<'_>, sink: &mut impl FnMut(&Record<'_>) -> ControlFlow<()>) -> Result<Advance, Stop> {
        if !self.entrance.is_done() && !self.enter(window)? {
            return Ok(Advance::More);
        }
        loop {
            if window.is_before(self.pos) {
                return Ok(Advance::More);
            }
            if self.assembling {
                match self.assemble(window)? {
                    Assembled::Whole => {}
                    Assembled::Replaced => continue,
                    Assembled::Further => return Ok(Advance::More),
                }
            } else if !self.on_page(window)? {
                continue;
            }
            if sink(&self.record(window)).is_break() {
                return Ok(Advance::Record);
            }
        }
    }

    /// Comes to the first record; `false` where the next window is needed for it.
    fn enter(&mut self, window: Window<'_>) -> Result<bool, Stop> {
        match self.entrance.go(&mut self.pages, window).map_err(Stop::Unfit)? {
            Entered::Here { replaces } => {
                self.pos = self.entrance.pos;
                self.broken = Some(Broken::Before).filter(|_| replaces);
                Ok(true)
            }
            Entered::Further => Ok(false),
        }
    }

    /// Finds the record at the position; `false` where it goes on on another page.
    #[inline]
    fn on_page(&mut self, window: Window<'_>) -> Result<bool, Stop> {
        if self.pos >= self.pages.size {
            return Err(self.at_end(window));
        }
        if self.pos & (self.pages.block - 1) == 0 {
            let header = self.judge(window, self.pos)?;
            if header.continues() || header.overwrites {
                return Err(self.ended(self.pos, if header.continues() { Reason::Continuation } else { Reason::Overwrite }));
            }
            self.pos += header.header;
        }
        let pos = self.pos;
        let bytes = window.from(pos);
        let total = u32(bytes, 0).ok_or_else(|| self.ended(pos, Reason::ShortSegment))?;
        if total == 0 {
            return Err(self.ended(pos, Reason::ZeroLength));
        }
        if total < HEADER as u32 || total > MAX_LENGTH {
            return Err(self.ended(pos, Reason::Length));
        }
        let lsn = self.pages.lsn_at(pos);
        let rest = self.pages.block - (pos & (self.pages.block - 1));
        if total as usize > rest {
            let piece = bytes.get(..rest).ok_or_else(|| self.ended(pos, Reason::ShortSegment))?;
            self.assembly.begin(lsn, total);
            self.assembly.push(piece);
            self.check_assembled_header(pos)?;
            self.assembling = true;
            self.pos = pos + rest;
            return Ok(false);
        }
        let record = bytes.get(..total as usize).ok_or_else(|| self.ended(pos, Reason::ShortSegment))?;
        self.found.header = Header::parse(record).ok_or_else(|| self.ended(pos, Reason::Length))?;
        check_header(&self.found.header, lsn, self.prev).map_err(|reason| self.ended(pos, reason))?;
        let body = record.get(HEADER..).unwrap_or_default();
        if record::checksum(record, crc32c::crc32c(body)) != self.found.header.crc {
            return Err(self.ended(pos, Reason::Crc));
        }
        self.found.body = Some(pos + HEADER);
        self.accept(lsn, align(pos + total as usize), body)?;
        Ok(true)
    }

    /// Goes on with a record that spans pages.
    fn assemble(&mut self, window: Window<'_>) -> Result<Assembled, Stop> {
        loop {
            let page = self.pos;
            if window.is_before(page) {
                return Ok(Assembled::Further);
            }
            if page >= self.pages.size {
                return Err(if window.end() > self.pages.size { self.at_end(window) } else { Stop::Carried });
            }
            let header = self.judge(window, page)?;
            if header.overwrites {
                // The record that replaces a broken one lies on one page, so that this cannot repeat.
                if self.broken.is_some() {
                    return Err(self.ended(page, Reason::Overwrite));
                }
                self.assembling = false;
                self.broken = Some(Broken::At(self.assembly.lsn()));
                self.pos = page + header.header;
                return Ok(Assembled::Replaced);
            }
            let missing = self.assembly.missing();
            if !header.continues() || header.remaining as usize != missing {
                return Err(self.ended(page, Reason::Continuation));
            }
            let from = page + header.header;
            let take = missing.min(self.pages.block - header.header);
            let piece = window.get(from, take).ok_or_else(|| self.ended(page, Reason::ShortSegment))?;
            self.assembly.push(piece);
            self.check_assembled_header(page)?;
            self.pos = align(from + take);
            if take == missing {
                return self.assembled(page).map(|()| Assembled::Whole);
            }
        }
    }

    /// The last piece of a record came, from this page.
    fn assembled(&mut self, page: usize) -> Result<(), Stop> {
        self.found.header = self.assembly.finish().map_err(|reason| self.ended(page, reason))?;
        self.found.body = None;
        self.assembling = false;
        let assembly = std::mem::take(&mut self.assembly);
        let accepted = self.accept(assembly.lsn(), self.pos, assembly.kept().get(HEADER..).unwrap_or_default());
        self.assembly = assembly;
        accepted
    }

    /// As soon as a header is complete it is judged, before more is read for it.
    fn check_assembled_header(&mut self, page: usize) -> Result<(), Stop> {
        match self.assembly.unchecked_header() {
            Some(header) => check_header(&header, self.assembly.lsn(), self.prev).map_err(|reason| self.ended(page, reason)),
            None => Ok(()),
        }
    }

    /// Takes note of the good record whose header was found, and whose aligned end is at offset `end`.
    #[inline]
    fn accept(&mut self, lsn: Lsn, end: usize, body: &[u8]) -> Result<(), Stop> {
        let header = &self.found.header;
        let (replaces, switches) = (header.rmgr == Rmgr::XLOG && header.operation() == 0xD0, header.is_switch());
        if !self.found.layout.read_checked(header, body, self.pages.first.major) {
            return Err(self.ended_at(lsn, Reason::Malformed));
        }
        if replaces || self.broken.is_some() {
            self.check_replacement(replaces, body).map_err(|reason| self.ended_at(lsn, reason))?;
        }
        self.broken = None;
        self.at_start = false;
        self.pos = if switches { self.pages.size.max(end) } else { end };
        self.found.lsn = lsn;
        self.found.end = self.pages.lsn_at(end);
        self.prev = Some(lsn);
        self.last = Some((lsn, self.found.end));
        Ok(())
    }

    /// The record after a broken one, and only that, names the broken one's place (`xl_overwrite_contrecord`).
    fn check_replacement(&mut self, replaces: bool, body: &[u8]) -> Result<(), Reason> {
        // One short main-data header (255, length 16), then the LSN.
        let named = u64(body, 2).map(Lsn).filter(|_| replaces && body.first() == Some(&255));
        match (self.broken, named) {
            (Some(Broken::At(broken)), Some(named)) if broken == named => Ok(()),
            (Some(Broken::Before), Some(named)) => {
                self.entrance.head.replaces = Some(named);
                Ok(())
            }
            (None, Some(_)) if self.at_start => Ok(()),
            _ => Err(Reason::Overwrite),
        }
    }

    fn judge(&mut self, window: Window<'_>, at: usize) -> Result<Page, Stop> {
        self.pages.judge(window, at).map_err(|reason| self.ended(at, reason))
    }

    /// Everything was read; `window` is the last one.
    fn at_end(&self, window: Window<'_>) -> Stop {
        match window.end().cmp(&self.pages.size) {
            Ordering::Equal => Stop::Complete,
            // After XLOG_SWITCH the rest is unused, but a file without it was cut.
            Ordering::Less => self.ended(window.end(), Reason::ShortSegment),
            Ordering::Greater => Stop::Unfit(self.entrance.end(self.pages.begin, Reason::SegmentSize)),
        }
    }

    fn ended(&self, at: usize, reason: Reason) -> Stop {
        self.ended_at(self.pages.lsn_at(at), reason)
    }

    #[cold]
    fn ended_at(&self, at: Lsn, reason: Reason) -> Stop {
        // What was begun and cannot be had whole is where WAL ends, not the place where that showed.
        let lsn = match self.broken {
            _ if self.assembling => self.assembly.lsn(),
            Some(Broken::At(lsn)) => lsn,
            _ => at,
        };
        Stop::Ended(EndOfWal {
            lsn,
            at,
            reason,
            last_record: self.last.map(|l| l.0).or(self.prev),
            last_record_end: self.last.map(|l| l.1),
        })
    }

    /// The cluster that the segment says it is of.
    pub fn identity(&self) -> Identity {
        self.pages.identity()
    }

    /// History of the pages read, each with the first page that has it.
    pub fn timelines(&self) -> &[PageRun] {
        self.pages.runs()
    }

    /// What the segment carried in; for [`Start::Unknown`], complete after the first record.
    pub fn head(&self) -> &Head {
        &self.entrance.head
    }

    /// Start and end of the last good record.
    pub fn last(&self) -> Option<(Lsn, Lsn)> {
        self.last
    }

    /// Ends the scan. Before [`Advance::Done`] was returned this is an unfinished read, and said to be complete.
    pub fn finish(self) -> (Outcome, Head) {
        let outcome = match self.stop {
            Some(Stop::Ended(end)) => Outcome::Ended(end),
            Some(Stop::Unfit(end)) => Outcome::Unfit(end),
            Some(Stop::Carried) => Outcome::Carried(self.assembly),
            Some(Stop::Complete) | None => Outcome::Complete,
        };
        (outcome, self.entrance.head)
    }
}
