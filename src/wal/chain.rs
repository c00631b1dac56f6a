//! Joins summaries of consecutive segments, and so proves that no record between them is missing.
//!
//! Holds at most the one record that spans the joint.

use super::assembly::{Assembly, check_header};
use super::block::Layout;
use super::effects::{Collector, Effects};
use super::record::{HEADER, Record};
use super::scan::Identity;
use super::summary::{SegmentSummary, Tail};
use super::{EndOfWal, Reason};
use crate::pg::{History, Lsn, SegmentName, SegmentSize};

/// A run of segments along a history, summary by summary.
#[derive(Debug)]
pub struct Chain {
    size: SegmentSize,
    history: History,
    identity: Option<Identity>,
    /// The segment that must come next, once one came.
    next: Option<u64>,
    carried: Option<Assembly>,
    first: Option<Lsn>,
    last: Option<(Lsn, Lsn)>,
    end: Option<EndOfWal>,
}

/// What one segment adds to the chain, in the order of the WAL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Joined {
    /// The record that began in an earlier segment and ends in this one.
    pub spanning: Option<Effects>,
    /// The records that start and end in it.
    pub inside: Effects,
}

impl Joined {
    /// Both parts, in the order of the WAL.
    pub fn parts(self) -> impl Iterator<Item = Effects> {
        self.spanning.into_iter().chain([self.inside])
    }
}

impl Chain {
    /// A chain along `history`. Its first segment may begin with the end of a record, which is not judged.
    pub fn new(size: SegmentSize, history: History, identity: Option<Identity>) -> Chain {
        Chain { size, history, identity, next: None, carried: None, first: None, last: None, end: None }
    }

    /// The name of segment `number` on this chain.
    pub fn name_of(&self, number: u64) -> SegmentName {
        SegmentName { timeline: self.history.timeline_of_segment(number, self.size), number }
    }

    /// Joins the next segment. What it returns is proved; when the segment itself ends early, that is
    /// [`Chain::end`], and the next call fails.
    ///
    /// # Errors
    /// The end of WAL, when the segment is not the next one or does not continue the chain.
    pub fn push(&mut self, summary: SegmentSummary) -> Result<Joined, EndOfWal> {
        if let Some(end) = self.end {
            return Err(end);
        }
        self.join(summary).map_err(|(at, reason)| self.stop(at, reason))
    }

    /// What was read another way, record by record ([`super::Walk`]), from the first record on to `end`.
    pub fn walked(mut self, first: Option<Lsn>, last: Option<(Lsn, Lsn)>, end: Option<EndOfWal>) -> Chain {
        (self.first, self.last, self.end) = (first, last, end);
        self
    }

    /// Takes note that the next segment does not exist.
    pub fn missing(&mut self) -> EndOfWal {
        let at = self.next.map_or(Lsn(0), |number| self.size.start(number));
        self.end.unwrap_or_else(|| self.stop(at, Reason::MissingSegment))
    }

    /// Takes note that the next segment could not be read: what [`super::summary::summarise`] returned for it.
    pub fn unreadable(&mut self, end: EndOfWal) -> EndOfWal {
        self.end.unwrap_or_else(|| self.stop(end.at, end.reason))
    }

    /// Where the chain ended early, if it did.
    pub fn end(&self) -> Option<EndOfWal> {
        self.end
    }

    /// Start of the first record.
    pub fn first(&self) -> Option<Lsn> {
        self.first
    }

    /// Start and end of the last good record.
    pub fn last(&self) -> Option<(Lsn, Lsn)> {
        self.last
    }

    fn stop(&mut self, at: Lsn, reason: Reason) -> EndOfWal {
        let lsn = self.carried.as_ref().map_or(at, Assembly::lsn);
        let end = EndOfWal { lsn, at, reason, last_record: self.last.map(|l| l.0), last_record_end: self.last.map(|l| l.1) };
        *self.end.insert(end)
    }

    fn join(&mut self, summary: SegmentSummary) -> Result<Joined, (Lsn, Reason)> {
        let begin = self.size.start(summary.name.number);
        self.identify(&summary).map_err(|reason| (begin, reason))?;
        self.check_timelines(&summary)?;
        let carried = self.carry_on(&summary).map_err(|reason| match (&summary.tail, summary.first) {
            // Why the record that should replace the carried one is not there.
            (Tail::Ended(end), None) if summary.head.overwrites => (end.at, end.reason),
            (_, Some(first)) if reason == Reason::Overwrite => (first.lsn, reason),
            _ => (begin, reason),
        })?;
        self.next = Some(summary.name.number.saturating_add(1));
        let (spanning, switched) = match carried {
            Carried::Nothing => (None, false),
            Carried::Further => return Ok(Joined::default()),
            Carried::Record { effects, switched } => (Some(effects), switched),
        };
        if switched {
            // What follows in this segment is unused; the scan could not know.
            return Ok(Joined { spanning, inside: Effects::default() });
        }
        if let (Some(first), Some((last, _))) = (summary.first, self.last)
            && first.prev != last
        {
            return Err((first.lsn, Reason::PrevLink));
        }
        self.leave(summary, spanning)
    }

    fn leave(&mut self, summary: SegmentSummary, spanning: Option<Effects>) -> Result<Joined, (Lsn, Reason)> {
        self.first = self.first.or(summary.first.map(|first| first.lsn));
        self.last = summary.last.or(self.last);
        match summary.tail {
            Tail::Complete => {}
            Tail::Carried(mut assembly) => {
                // A segment in which no record ends could not check the link of the one that begins.
                let header = assembly.header();
                if let (Some(header), Some((last, _))) = (header, self.last) {
                    check_header(&header, assembly.lsn(), Some(last)).map_err(|reason| (assembly.lsn(), reason))?;
                }
                self.carried = Some(std::mem::take(&mut assembly));
            }
            Tail::Ended(end) => {
                self.stop(end.at, end.reason);
                self.end = self.end.map(|mine| EndOfWal { lsn: end.lsn, ..mine });
            }
        }
        Ok(Joined { spanning, inside: summary.effects })
    }

    /// The segment is the one that must come, of the same cluster and major.
    fn identify(&mut self, summary: &SegmentSummary) -> Result<(), Reason> {
        let expected = self.name_of(self.next.unwrap_or(summary.name.number));
        if summary.name != expected {
            return Err(Reason::MissingSegment);
        }
        if summary.size != self.size {
            return Err(Reason::SegmentSize);
        }
        let found = Identity { system_identifier: summary.system_identifier, major: summary.major };
        let identity = *self.identity.get_or_insert(found);
        if found.system_identifier != identity.system_identifier {
            return Err(Reason::SystemIdentifier);
        }
        if found.major != identity.major {
            return Err(Reason::OtherMajor);
        }
        Ok(())
    }

    /// Timelines rise along a history: where the first and the last page of a run are right, all between are.
    fn check_timelines(&self, summary: &SegmentSummary) -> Result<(), (Lsn, Reason)> {
        for run in &summary.timelines {
            for page in [run.first, run.last] {
                if self.history.timeline_at(page) != run.timeline {
                    return Err((page, Reason::Timeline));
                }
            }
        }
        Ok(())
    }

    /// Completes the record that runs into the segment.
    fn carry_on(&mut self, summary: &SegmentSummary) -> Result<Carried, Reason> {
        let head = &summary.head;
        let fresh = self.next.is_none();
        let Some(mut assembly) = self.carried.take() else {
            return match (head.remaining, head.replaces) {
                (0, None) => Ok(Carried::Nothing),
                _ if fresh => Ok(Carried::Nothing),
                (0, Some(_)) => Err(Reason::Overwrite),
                // The middle of a record whose beginning was before the chain's.
                _ if self.last.is_none() => Ok(Carried::Nothing),
                _ => Err(Reason::Continuation),
            };
        };
        if head.replaces.is_some_and(|lsn| lsn == assembly.lsn()) {
            return Ok(Carried::Nothing);
        }
        let continues = head.remaining != 0 && head.remaining as usize == assembly.missing();
        if !continues {
            self.carried = Some(assembly);
            return Err(if head.replaces.is_some() { Reason::Overwrite } else { Reason::Continuation });
        }
        assembly.push(&head.bytes);
        let checked = match assembly.unchecked_header() {
            Some(header) => check_header(&header, assembly.lsn(), self.last.map(|l| l.0)),
            None => Ok(()),
        };
        if checked.is_err() || head.is_open() {
            self.carried = Some(assembly);
            return checked.map(|()| Carried::Further);
        }
        let finished = self.finish(&assembly, summary);
        if finished.is_err() {
            self.carried = Some(assembly);
        }
        finished
    }

    fn finish(&mut self, assembly: &Assembly, summary: &SegmentSummary) -> Result<Carried, Reason> {
        let header = assembly.finish()?;
        let body = assembly.kept().get(HEADER..).unwrap_or_default();
        let mut layout = Layout::default();
        if !layout.read_checked(&header, body, summary.major) {
            return Err(Reason::Malformed);
        }
        let (header, layout) = (&header, &layout);
        let record = Record { lsn: assembly.lsn(), end: summary.head.end, major: summary.major, header, body, layout };
        let mut collector = Collector::default();
        collector.record(&record);
        self.first.get_or_insert(record.lsn);
        self.last = Some((record.lsn, record.end));
        let switched = header.is_switch() && record.end != self.size.start(summary.name.number.saturating_add(1));
        Ok(Carried::Record { effects: collector.finish(), switched })
    }
}

enum Carried {
    Nothing,
    /// The record goes on in the next segment.
    Further,
    Record {
        effects: Effects,
        switched: bool,
    },
}
