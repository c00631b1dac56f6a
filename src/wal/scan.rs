//! The records of one segment, in order.
//!
//! A [`Scan`] holds no bytes: the segment is passed to each call, so that its owner may be anything. A record
//! that lies on one page is handed out in place; one that spans pages is put together in one reused buffer.
//! Segments can be read independently: what a segment carries in from the one before is kept as its [`Head`],
//! what it carries out as an [`Assembly`].

use std::ops::Range;

use super::assembly::{Assembly, check_header};
use super::block::Layout;
use super::bytes::{u32, u64};
use super::page::{Major, Page};
use super::record::{self, HEADER, Header, MAX_LENGTH, Record, Rmgr};
use super::start::first_page;
use super::summary::PageRun;
use super::{EndOfWal, Reason};
use crate::pg::{Lsn, SegmentName, SegmentSize, Timeline};

pub use super::assembly::KEPT;
pub use super::start::{Checks, Head, Identity, Start};

/// What [`Scan::advance`] found.
#[derive(Debug)]
pub enum Advance {
    /// A good record: see [`Scan::record`].
    Record,
    /// Nothing more in this segment; [`Scan::finish`] says how it ended.
    Done,
}

/// Place of a record that was found good.
#[derive(Debug, Default)]
struct Span {
    lsn: Lsn,
    end: Lsn,
    header: Header,
    layout: Layout,
    /// Of the body, in the segment; `None` for the assembly buffer.
    body: Option<Range<usize>>,
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
}

/// State of reading one segment.
#[derive(Debug)]
pub struct Scan {
    name: SegmentName,
    start: Lsn,
    size: usize,
    block: usize,
    first: Page,
    checks: Checks,
    /// Offset of the next byte to read; on a page boundary the page's header comes first.
    pos: usize,
    prev: Option<Lsn>,
    last: Option<(Lsn, Lsn)>,
    switched: bool,
    /// The record being put together, kept after it was handed out for its buffer.
    assembly: Assembly,
    assembling: bool,
    /// The next record must say that it replaces this one.
    broken: Option<Broken>,
    /// The first record may be one that replaces another.
    at_start: bool,
    head: Head,
    runs: Vec<PageRun>,
    /// The record found last.
    span: Span,
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
}

impl Scan {
    /// Checks the segment's first page and takes the state to `start`.
    ///
    /// # Errors
    /// [`EndOfWal`] when the first page is not the one of this segment, or when no record can start at the
    /// position of [`Start::At`].
    pub fn open(bytes: &[u8], name: SegmentName, size: SegmentSize, checks: Checks, start: Start) -> Result<Scan, EndOfWal> {
        let begin = size.start(name.number);
        let (lsn, last, carried_from) = match &start {
            Start::Unknown => (begin, None, None),
            Start::At(lsn) => (*lsn, None, None),
            Start::Following { prev, carried } => (begin, *prev, carried.as_ref().map(Assembly::lsn)),
        };
        let fail = |at: Lsn, reason| EndOfWal { lsn: carried_from.unwrap_or(lsn), at, reason, last_record: last, last_record_end: None };
        let first = first_page(bytes, size).map_err(|reason| fail(begin, reason))?;
        let mut scan = Scan {
            name,
            start: begin,
            size: usize::try_from(size.bytes()).map_err(|_| fail(begin, Reason::SegmentSize))?,
            block: first.long.map_or(0, |long| long.block_size as usize),
            first,
            checks,
            pos: 0,
            prev: None,
            last: None,
            switched: false,
            assembly: Assembly::default(),
            assembling: false,
            broken: None,
            at_start: true,
            head: Head::default(),
            runs: Vec::new(),
            span: Span::default(),
            stop: None,
        };
        scan.page(bytes, 0).map_err(|reason| fail(begin, reason))?;
        scan.enter(bytes, start).map_err(|(at, reason)| fail(at, reason))?;
        Ok(scan)
    }

    fn enter(&mut self, bytes: &[u8], start: Start) -> Result<(), (Lsn, Reason)> {
        match start {
            Start::Unknown => self.take_head(bytes),
            Start::At(lsn) => self.seek(bytes, lsn),
            Start::Following { prev, carried } => {
                self.prev = prev;
                self.at_start = false;
                if let Some(assembly) = carried {
                    self.assembly = assembly;
                    self.assembling = true;
                }
                Ok(())
            }
        }
    }

    /// Collects the end of a record that began in an earlier segment, without being able to judge it.
    fn take_head(&mut self, bytes: &[u8]) -> Result<(), (Lsn, Reason)> {
        if self.first.overwrites {
            self.broken = Some(Broken::Before);
            self.head.overwrites = true;
            self.pos = self.first.header;
            return Ok(());
        }
        if !self.first.continues() {
            return Ok(());
        }
        self.head.remaining = self.first.remaining;
        let mut missing = self.first.remaining as usize;
        loop {
            let at = self.lsn_at(self.pos);
            let header = self.page(bytes, self.pos).map_err(|reason| (at, reason))?;
            if header.remaining as usize != missing {
                return Err((at, Reason::Continuation));
            }
            let from = self.pos + header.header;
            let take = missing.min(self.block - header.header);
            let piece = bytes.get(from..from + take).ok_or((at, Reason::ShortSegment))?;
            self.head.bytes.extend_from_slice(piece);
            missing -= take;
            self.pos = align(from + take);
            self.head.end = self.lsn_at(self.pos);
            if missing == 0 || self.pos >= self.size {
                return Ok(());
            }
        }
    }

    /// Goes to a record's start.
    fn seek(&mut self, bytes: &[u8], lsn: Lsn) -> Result<(), (Lsn, Reason)> {
        let wrong = (lsn, Reason::Position);
        let offset = lsn.0.checked_sub(self.start.0).and_then(|o| usize::try_from(o).ok()).filter(|o| *o < self.size).ok_or(wrong)?;
        let in_page = offset & (self.block - 1);
        let page = offset - in_page;
        let header = self.page(bytes, page).map_err(|reason| (self.lsn_at(page), reason))?;
        let first = header.header + align(header.remaining as usize);
        if offset % 8 != 0 || (in_page != 0 && in_page < first) || (in_page == 0 && header.continues()) {
            return Err(wrong);
        }
        self.pos = offset;
        if header.overwrites && (in_page == 0 || in_page == header.header) {
            self.pos = page + header.header;
        }
        Ok(())
    }

    /// The next good record, or the end of this segment; after the end, the end again.
    pub fn advance(&mut self, bytes: &[u8]) -> Advance {
        if self.stop.is_some() {
            return Advance::Done;
        }
        match self.next_span(bytes) {
            Ok(()) => Advance::Record,
            Err(stop) => {
                self.stop = Some(stop);
                Advance::Done
            }
        }
    }

    /// The record that [`Scan::advance`] just found, with the bytes it was found in.
    pub fn record<'s>(&'s self, bytes: &'s [u8]) -> Record<'s> {
        let span = &self.span;
        let body = match &span.body {
            Some(range) => bytes.get(range.clone()),
            None => self.assembly.kept().get(HEADER..),
        };
        Record {
            lsn: span.lsn,
            end: span.end,
            major: self.first.major,
            header: span.header,
            body: body.unwrap_or_default(),
            layout: span.layout,
        }
    }

    fn next_span(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if self.assembling && self.assemble(bytes)? {
            return Ok(());
        }
        if self.pos >= self.size {
            // After XLOG_SWITCH the rest is unused, but a file without it was cut.
            return Err(if bytes.len() < self.size { self.ended(bytes.len(), Reason::ShortSegment) } else { Stop::Complete });
        }
        if self.pos & (self.block - 1) == 0 {
            let header = self.page(bytes, self.pos).map_err(|reason| self.ended(self.pos, reason))?;
            if header.continues() || header.overwrites {
                return Err(self.ended(self.pos, if header.continues() { Reason::Continuation } else { Reason::Overwrite }));
            }
            self.pos += header.header;
        }
        let pos = self.pos;
        let lsn = self.lsn_at(pos);
        let total = u32(bytes, pos).ok_or_else(|| self.ended(pos, Reason::ShortSegment))?;
        if total == 0 {
            return Err(self.ended(pos, Reason::ZeroLength));
        }
        if total < HEADER as u32 || total > MAX_LENGTH {
            return Err(self.ended(pos, Reason::Length));
        }
        let rest = self.block - (pos & (self.block - 1));
        if total as usize > rest {
            let piece = bytes.get(pos..pos + rest).ok_or_else(|| self.ended(pos, Reason::ShortSegment))?;
            self.assembly.begin(lsn, total);
            self.assembly.push(piece);
            self.check_assembled_header(pos)?;
            self.assembling = true;
            self.pos = pos + rest;
            return if self.assemble(bytes)? { Ok(()) } else { self.next_span(bytes) };
        }
        let record = bytes.get(pos..pos + total as usize).ok_or_else(|| self.ended(pos, Reason::ShortSegment))?;
        let header = Header::parse(record).ok_or_else(|| self.ended(pos, Reason::Length))?;
        check_header(&header, lsn, self.prev).map_err(|reason| self.ended(pos, reason))?;
        let body = record.get(HEADER..).unwrap_or_default();
        if record::checksum(record, crc32c::crc32c(body)) != header.crc {
            return Err(self.ended(pos, Reason::Crc));
        }
        let end = align(pos + total as usize);
        let layout = self.accept(lsn, end, header, body)?;
        self.span = Span { lsn, end: self.lsn_at(end), header, layout, body: Some(pos + HEADER..pos + total as usize) };
        Ok(())
    }

    /// Goes on with a record that spans pages. `false`: it is broken, and the page at hand replaces it.
    fn assemble(&mut self, bytes: &[u8]) -> Result<bool, Stop> {
        loop {
            let page = self.pos;
            if page >= self.size {
                return Err(Stop::Carried);
            }
            let header = self.page(bytes, page).map_err(|reason| self.ended(page, reason))?;
            if header.overwrites {
                // The record that replaces a broken one lies on one page, so that this cannot repeat.
                if self.broken.is_some() {
                    return Err(self.ended(page, Reason::Overwrite));
                }
                self.assembling = false;
                self.broken = Some(Broken::At(self.assembly.lsn()));
                self.pos = page + header.header;
                return Ok(false);
            }
            let missing = self.assembly.missing();
            if !header.continues() || header.remaining as usize != missing {
                return Err(self.ended(page, Reason::Continuation));
            }
            let from = page + header.header;
            let take = missing.min(self.block - header.header);
            let piece = bytes.get(from..from + take).ok_or_else(|| self.ended(page, Reason::ShortSegment))?;
            self.assembly.push(piece);
            self.check_assembled_header(page)?;
            self.pos = align(from + take);
            if take < missing {
                continue;
            }
            let header = self.assembly.finish().map_err(|reason| self.ended(page, reason))?;
            let lsn = self.assembly.lsn();
            let end = self.pos;
            self.assembling = false;
            let assembly = std::mem::take(&mut self.assembly);
            let accepted = self.accept(lsn, end, header, assembly.kept().get(HEADER..).unwrap_or_default());
            self.assembly = assembly;
            self.span = Span { lsn, end: self.lsn_at(end), header, layout: accepted?, body: None };
            return Ok(true);
        }
    }

    /// As soon as a header is complete it is judged, before more is read for it.
    fn check_assembled_header(&mut self, page: usize) -> Result<(), Stop> {
        match self.assembly.unchecked_header() {
            Some(header) => check_header(&header, self.assembly.lsn(), self.prev).map_err(|reason| self.ended(page, reason)),
            None => Ok(()),
        }
    }

    /// Takes note of a good record whose aligned end is at offset `end`.
    fn accept(&mut self, lsn: Lsn, end: usize, header: Header, body: &[u8]) -> Result<Layout, Stop> {
        let layout = layout_of(&header, body, self.first.major).ok_or_else(|| self.ended_at(lsn, Reason::Malformed))?;
        let replaces = header.rmgr == Rmgr::XLOG && header.operation() == 0xD0;
        if replaces || self.broken.is_some() {
            self.check_replacement(replaces, body).map_err(|reason| self.ended_at(lsn, reason))?;
        }
        self.broken = None;
        self.at_start = false;
        self.pos = end;
        if header.is_switch() && end < self.size {
            self.switched = true;
            self.pos = self.size;
        }
        self.prev = Some(lsn);
        self.last = Some((lsn, self.lsn_at(end)));
        Ok(layout)
    }

    /// The record after a broken one, and only that, names the broken one's place (`xl_overwrite_contrecord`).
    fn check_replacement(&mut self, replaces: bool, body: &[u8]) -> Result<(), Reason> {
        // One short main-data header (255, length 16), then the LSN.
        let named = u64(body, 2).map(Lsn).filter(|_| replaces && body.first() == Some(&255));
        match (self.broken, named) {
            (Some(Broken::At(broken)), Some(named)) if broken == named => Ok(()),
            (Some(Broken::Before), Some(named)) => {
                self.head.replaces = Some(named);
                Ok(())
            }
            (None, Some(_)) if self.at_start => Ok(()),
            _ => Err(Reason::Overwrite),
        }
    }

    /// Parses the page header at offset `at` and checks that it is this segment's and this place's.
    fn page(&mut self, bytes: &[u8], at: usize) -> Result<Page, Reason> {
        let header = Page::parse(bytes.get(at..).unwrap_or_default())?;
        let address = self.lsn_at(at);
        if header.long.is_some() != (at == 0) {
            return Err(Reason::PageHeader);
        }
        if header.major != self.first.major {
            return Err(Reason::OtherMajor);
        }
        if header.address != address {
            return Err(Reason::PageAddress);
        }
        if let (Some(identity), Some(long)) = (self.checks.identity, header.long) {
            if long.system_identifier != identity.system_identifier {
                return Err(Reason::SystemIdentifier);
            }
            if header.major != identity.major {
                return Err(Reason::OtherMajor);
            }
        }
        let expected = self.checks.history.as_ref().map(|history| history.timeline_at(address));
        let before = self.runs.last().map_or(Timeline(0), |run| run.timeline);
        if header.timeline > self.name.timeline || header.timeline < before || expected.is_some_and(|t| t != header.timeline) {
            return Err(Reason::Timeline);
        }
        match self.runs.last_mut() {
            Some(run) if header.timeline == before => run.last = address,
            _ => self.runs.push(PageRun { timeline: header.timeline, first: address, last: address }),
        }
        // A continuation longer than any record is refused before anything is collected for it.
        if header.remaining > MAX_LENGTH { Err(Reason::Continuation) } else { Ok(header) }
    }

    fn lsn_at(&self, offset: usize) -> Lsn {
        Lsn(self.start.0.saturating_add(offset as u64))
    }

    fn ended(&self, at: usize, reason: Reason) -> Stop {
        self.ended_at(self.lsn_at(at), reason)
    }

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
        Identity { system_identifier: self.first.long.map_or(0, |long| long.system_identifier), major: self.first.major }
    }

    /// The first page's header.
    pub fn first_page(&self) -> &Page {
        &self.first
    }

    /// History of the pages read, each with the first page that has it.
    pub fn timelines(&self) -> &[PageRun] {
        &self.runs
    }

    /// What the segment carried in; for [`Start::Unknown`], complete after the first record.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Start and end of the last good record.
    pub fn last(&self) -> Option<(Lsn, Lsn)> {
        self.last
    }

    /// Whether the segment was left by `XLOG_SWITCH`.
    pub fn switched(&self) -> bool {
        self.switched
    }

    /// Ends the scan. Before [`Advance::Done`] was returned this is an unfinished read, and said to be complete.
    pub fn finish(self) -> (Outcome, Head) {
        let outcome = match self.stop {
            Some(Stop::Ended(end)) => Outcome::Ended(end),
            Some(Stop::Carried) => Outcome::Carried(self.assembly),
            Some(Stop::Complete) | None => Outcome::Complete,
        };
        (outcome, self.head)
    }
}

/// The parts of a checked record; those of one that was not kept whole are not looked for.
pub fn layout_of(header: &Header, body: &[u8], major: Major) -> Option<Layout> {
    if body.len() + HEADER == header.total_length as usize { Layout::parse(body, major) } else { Some(Layout::default()) }
}

/// Rounds up to the alignment of record starts (`MAXALIGN`).
fn align(offset: usize) -> usize {
    offset.saturating_add(7) & !7
}
