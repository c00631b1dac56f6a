//! The pages of one segment, each header judged when reading comes to it: its place, cluster, major and timeline.

use super::Reason;
use super::page::Page;
use super::record::MAX_LENGTH;
use super::start::{Checks, Identity, first_page};
use super::summary::PageRun;
use super::window::Window;
use crate::pg::{Lsn, SegmentName, SegmentSize, Timeline};

/// What is known of a segment's pages.
#[derive(Debug)]
pub(super) struct Pages {
    name: SegmentName,
    /// LSN of the segment's first byte.
    pub(super) begin: Lsn,
    /// Bytes of the segment.
    pub(super) size: usize,
    /// Bytes of a page.
    pub(super) block: usize,
    /// The first page's header.
    pub(super) first: Page,
    checks: Checks,
    runs: Vec<PageRun>,
}

impl Pages {
    /// Judges the segment's first page, which is in `window`.
    pub(super) fn open(window: Window<'_>, name: SegmentName, size: SegmentSize, checks: Checks) -> Result<Pages, Reason> {
        let first = first_page(window, size)?;
        let block = first.long.map_or(0, |long| long.block_size as usize);
        let bytes = usize::try_from(size.bytes()).map_err(|_| Reason::SegmentSize)?;
        let mut pages = Pages { name, begin: size.start(name.number), size: bytes, block, first, checks, runs: Vec::new() };
        pages.judge(window, 0)?;
        Ok(pages)
    }

    /// Parses the page header at offset `at` and checks that it is this segment's and this place's.
    pub(super) fn judge(&mut self, window: Window<'_>, at: usize) -> Result<Page, Reason> {
        let header = Page::parse(window.from(at))?;
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
        self.judge_timeline(header.timeline, address)?;
        // A continuation longer than any record is refused before anything is collected for it.
        if header.remaining > MAX_LENGTH { Err(Reason::Continuation) } else { Ok(header) }
    }

    fn judge_timeline(&mut self, timeline: Timeline, address: Lsn) -> Result<(), Reason> {
        let expected = self.checks.history.as_ref().map(|history| history.timeline_at(address));
        let before = self.runs.last().map_or(Timeline(0), |run| run.timeline);
        if timeline > self.name.timeline || timeline < before || expected.is_some_and(|expected| expected != timeline) {
            return Err(Reason::Timeline);
        }
        match self.runs.last_mut() {
            Some(run) if timeline == before => run.last = address,
            _ => self.runs.push(PageRun { timeline, first: address, last: address }),
        }
        Ok(())
    }

    /// LSN of the byte at this offset.
    pub(super) fn lsn_at(&self, offset: usize) -> Lsn {
        Lsn(self.begin.0.saturating_add(offset as u64))
    }

    /// Timelines of the pages read, each with the first and the last page that has it.
    pub(super) fn runs(&self) -> &[PageRun] {
        &self.runs
    }

    /// The cluster that the segment says it is of.
    pub(super) fn identity(&self) -> Identity {
        Identity { system_identifier: self.first.long.map_or(0, |long| long.system_identifier), major: self.first.major }
    }
}
