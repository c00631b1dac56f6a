//! Damage: every flipped bit in a byte that PostgreSQL checks ends the WAL at or before it, every cut segment
//! gives only whole records, and nothing panics.

use std::collections::BTreeMap;

use pitr::error::Result;
use pitr::pg::{Lsn, SegmentName};
use pitr::wal::chain::Chain;
use pitr::wal::effects::Collector;
use pitr::wal::page::Major;
use pitr::wal::scan::{Advance, Checks, Identity, Outcome, Scan, Start};
use pitr::wal::summary::{SegmentSummary, summarise};
use pitr::wal::window::Window;
use pitr::wal::{EndOfWal, Layout, Record, SegmentSource, Walk};

use super::memory::{Memory, fixtures};

const PAGE: usize = 8192;

/// The fixture with one segment replaced.
struct Damaged<'a> {
    memory: &'a Memory,
    name: SegmentName,
    bytes: &'a [u8],
}

impl<'a> SegmentSource for &Damaged<'a> {
    type Stream = &'a [u8];

    fn segment(&mut self, name: SegmentName) -> Result<Option<&'a [u8]>> {
        if name == self.name { Ok(Some(self.bytes)) } else { (&mut &*self.memory).segment(name) }
    }
}

/// A good record, by what it contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) lsn: Lsn,
    end: Lsn,
    crc: u32,
    body: u32,
}

impl Known {
    fn of(record: &Record<'_>) -> Known {
        Known { lsn: record.lsn, end: record.end, crc: record.header.crc, body: crc32c::crc32c(record.body) }
    }
}

/// The undamaged WAL: its records and which bytes no check covers.
pub(super) struct Sound {
    pub(super) memory: Memory,
    identity: Identity,
    pub(super) records: Vec<Known>,
    /// Lengths without padding.
    lengths: BTreeMap<Lsn, u32>,
}

impl Sound {
    pub(super) fn new(major: u32, memory: Memory) -> Sound {
        let mut walk = Walk::from_segment(&memory, memory.size, memory.history.clone(), None, memory.first());
        let (mut records, mut lengths) = (Vec::new(), BTreeMap::new());
        while let Some(record) = walk.next().unwrap() {
            records.push(Known::of(&record));
            lengths.insert(record.lsn, record.header.total_length);
        }
        let first = memory.segments.values().next().unwrap();
        let system_identifier = u64::from_le_bytes(first[24..32].try_into().unwrap());
        let identity = Identity { system_identifier, major: Major(major) };
        Sound { memory, identity, records, lengths }
    }

    /// The segments a reader opens, with the bytes of each.
    pub(super) fn segments(&self) -> Vec<(SegmentName, Vec<u8>)> {
        let newest: BTreeMap<u64, SegmentName> = self.memory.segments.keys().map(|name| (name.number, *name)).collect();
        newest.into_values().map(|name| (name, self.memory.segments[&name].clone())).collect()
    }

    /// Position in `records` of the first that ends after `lsn`: the one a fault at `lsn` spoils.
    pub(super) fn spoiled(&self, lsn: Lsn) -> usize {
        self.records.partition_point(|record| record.end <= lsn)
    }

    /// The flip of `bit` at `lsn` must be noticed. See the list in the module documentation of `wal`.
    pub(super) fn is_covered(&self, lsn: Lsn, bit: u32) -> bool {
        let in_page = lsn.0 as usize % PAGE;
        let Some(record) = self.records.get(self.spoiled(lsn)) else { return false };
        let header = if (lsn.0 as usize).is_multiple_of(1 << 20) || (lsn.0 as usize % (1 << 20)) < 40 { 40 } else { 24 };
        let page_of = |lsn: Lsn| lsn.0 / PAGE as u64;
        if in_page < header {
            // Between SWITCH and the next segment there are no pages.
            let read = page_of(lsn) >= page_of(record.lsn) || self.is_page_before(record.lsn, lsn);
            return read && !(20..24).contains(&in_page) && !(in_page == 2 && bit == 2);
        }
        // Outside of page headers: in a record, or in the padding behind the one before.
        let behind = self.records[..self.spoiled(lsn)].last().is_some_and(|before| lsn < before.end);
        !behind && lsn >= record.lsn && !self.is_padding(record, lsn)
    }

    /// A header on the page of `record`'s first byte, before it.
    fn is_page_before(&self, record: Lsn, lsn: Lsn) -> bool {
        record.0 - lsn.0 < PAGE as u64
    }

    /// The last bytes before `end` that are not the record's.
    fn is_padding(&self, record: &Known, lsn: Lsn) -> bool {
        let padding = self.lengths[&record.lsn].next_multiple_of(8) - self.lengths[&record.lsn];
        lsn.0 >= record.end.0 - u64::from(padding)
    }

    /// A record over a megabyte is read whole for each of its bytes, and behind the last record of a segment nothing is read:
    /// few of those bytes will do.
    fn is_spared(&self, lsn: Lsn) -> bool {
        let record = self.records.get(self.spoiled(lsn));
        let next = self.memory.size.start(self.memory.size.number(lsn) + 1);
        if record.is_none_or(|record| record.lsn >= next) && !lsn.0.is_multiple_of(16_411) {
            return true;
        }
        record.is_some_and(|record| self.lengths[&record.lsn] > 100_000) && !lsn.0.is_multiple_of(16_411)
    }

    /// Reads around `lsn` with that segment replaced. Returns whether the spoiled record was still handed out.
    fn read_around(&self, name: SegmentName, bytes: &[u8], lsn: Lsn) -> bool {
        let spoiled = self.spoiled(lsn);
        let begin = spoiled.saturating_sub(2).min(self.records.len() - 1);
        self.read_within(name, bytes, begin..spoiled + 1).unwrap_or_else(|| self.walk_around(name, bytes, lsn, begin, spoiled))
    }

    /// The same for records that all lie in this segment: nothing else has to be read. `None` where that does not decide it.
    fn read_within(&self, name: SegmentName, bytes: &[u8], range: std::ops::Range<usize>) -> Option<bool> {
        let (start, end) = (self.memory.size.start(name.number), self.memory.size.start(name.number + 1));
        let records = self.records.get(range)?;
        let first = records.first().filter(|first| first.lsn >= start)?;
        records.last().filter(|last| last.end < end)?;
        let checks = Checks { identity: Some(self.identity), history: Some(self.memory.history.clone()) };
        let window = Window::whole(bytes);
        let mut scan = match Scan::open(window, name, self.memory.size, checks, Start::At(first.lsn)) {
            Ok(scan) => scan,
            Err(end) => {
                assert!(end.lsn <= first.lsn, "{end:?}");
                return Some(false);
            }
        };
        for known in records {
            if scan.advance(window) == Advance::Record {
                assert_eq!(Known::of(&scan.record(window)), *known, "a record that was never written");
                continue;
            }
            let (Outcome::Ended(end) | Outcome::Unfit(end), _) = scan.finish() else { return None };
            assert!(end.lsn <= known.lsn, "{end:?}");
            return Some(false);
        }
        Some(true)
    }

    fn walk_around(&self, name: SegmentName, bytes: &[u8], lsn: Lsn, begin: usize, spoiled: usize) -> bool {
        let source = Damaged { memory: &self.memory, name, bytes };
        let mut walk = Walk::new(&source, self.memory.size, self.memory.history.clone(), Some(self.identity), self.records[begin].lsn);
        for known in self.records[begin..].iter().take(spoiled - begin + 1) {
            match walk.next().unwrap() {
                Some(record) => assert_eq!(Known::of(&record), *known, "a record that was never written, damage at {lsn}"),
                None => {
                    assert!(walk.end().unwrap().lsn <= known.lsn, "damage at {lsn}: {:?}", walk.end());
                    return false;
                }
            }
        }
        true
    }
}

/// Each fixture flipped at each byte and cut at each length, but where `is_spared` says that it would be the same again.
macro_rules! every_byte {
    ($($name:ident $major:literal;)*) => {$(
        #[test]
        fn $name() {
            let (major, directory) = fixtures().into_iter().find(|(major, _)| *major == $major).unwrap();
            let sound = Sound::new(major, Memory::fixture(&directory));
            let damaged: usize = sound.segments().into_iter().map(|(name, _)| sound.damage_segment(name)).sum();
            assert!(damaged > 300_000, "{damaged}");
        }
    )*};
}
every_byte! {
    each_byte_flipped_and_each_length_of_13 13;
    each_byte_flipped_and_each_length_of_14 14;
    each_byte_flipped_and_each_length_of_15 15;
    each_byte_flipped_and_each_length_of_16 16;
    each_byte_flipped_and_each_length_of_17 17;
    each_byte_flipped_and_each_length_of_18 18;
}

impl Sound {
    /// Every flip in a byte that is covered is noticed, and a cut segment gives whole records only. How many bytes that was.
    fn damage_segment(&self, name: SegmentName) -> usize {
        let mut bytes = self.memory.segments[&name].clone();
        let start = self.memory.size.start(name.number).0;
        let mut flipped = 0;
        for offset in 0..bytes.len() {
            let bit = (offset * 7 % 8) as u32;
            let lsn = Lsn(start + offset as u64);
            if self.is_spared(lsn) {
                continue;
            }
            bytes[offset] ^= 1 << bit;
            let survived = self.read_around(name, &bytes, lsn);
            bytes[offset] ^= 1 << bit;
            assert!(!(self.is_covered(lsn, bit) && survived), "bit {bit} of {lsn} was flipped unnoticed");
            let cut = self.read_around(name, &bytes[..offset], lsn);
            let whole = self.records.get(self.spoiled(lsn)).is_none_or(|record| self.is_padding(record, lsn));
            assert!(!cut || whole, "a record cut at {lsn} was handed out");
            flipped += 1;
        }
        flipped
    }
}

#[test]
fn reading_begins_only_where_a_record_starts() {
    for (major, directory) in fixtures() {
        let sound = Sound::new(major, Memory::fixture(&directory));
        let memory = &sound.memory;
        let first = |from| {
            let mut walk = Walk::new(memory, memory.size, memory.history.clone(), Some(sound.identity), from);
            walk.next().unwrap().map(|record| Known::of(&record))
        };
        for known in sound.records.iter().step_by(37) {
            assert_eq!(first(known.lsn), Some(*known), "{major}");
            assert_eq!(first(Lsn(known.lsn.0 + 4)), None, "{major}: not aligned");
            let inside = first(Lsn(known.lsn.0 + 8));
            assert_eq!(inside, None, "{major}: in the middle of the record at {}", known.lsn);
        }
    }
}

/// What summaries prove, with one of them made from damaged bytes.
pub(super) fn proof(sound: &Sound, summaries: &[std::result::Result<SegmentSummary, EndOfWal>]) -> EndOfWal {
    let mut chain = Chain::new(sound.memory.size, sound.memory.history.clone(), Some(sound.identity));
    for summary in summaries {
        match summary {
            Ok(summary) => {
                if let Err(end) = chain.push(summary.clone()) {
                    return end;
                }
            }
            Err(end) => return chain.unreadable(*end),
        }
        if let Some(end) = chain.end() {
            return end;
        }
    }
    chain.missing()
}

#[test]
fn a_flipped_bit_never_passes_the_chain_of_summaries() {
    for (major, directory) in fixtures() {
        let sound = Sound::new(major, Memory::fixture(&directory));
        let memory = &sound.memory;
        let summary = |name, bytes: &[u8]| summarise(bytes, name, memory.size, Checks::default());
        let segments = sound.segments();
        let mut summaries: Vec<_> = segments.iter().map(|(name, bytes)| summary(*name, bytes)).collect();
        let good = proof(&sound, &summaries);
        for (at, (name, bytes)) in segments.iter().enumerate() {
            let start = memory.size.start(name.number);
            let stride = if major == 15 { 20_011 } else { 100_003 };
            for offset in (0..bytes.len()).step_by(stride).chain(1..24).chain(bytes.len() - 64..bytes.len()) {
                let lsn = Lsn(start.0 + offset as u64);
                if !sound.is_covered(lsn, 3) {
                    continue;
                }
                let mut damaged = bytes.clone();
                damaged[offset] ^= 8;
                let before = std::mem::replace(&mut summaries[at], summary(*name, &damaged));
                let end = proof(&sound, &summaries);
                let spoiled = sound.records[sound.spoiled(lsn)].lsn;
                assert!(end.lsn <= spoiled && end.lsn < good.lsn, "{major}: {lsn} flipped, but WAL ends at {end}");
                summaries[at] = before;
            }
        }
    }
}

#[test]
fn payloads_of_any_content_are_survived() {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for (_, directory) in fixtures() {
        let memory = Memory::fixture(&directory);
        let mut walk = Walk::from_segment(&memory, memory.size, memory.history.clone(), None, memory.first());
        while let Some(record) = walk.next().unwrap() {
            if record.body.is_empty() || record.body.len() > 1000 {
                continue;
            }
            let mut body = record.body.to_vec();
            for _ in 0..8 {
                let at = random() as usize % body.len();
                let kept = std::mem::replace(&mut body[at], random() as u8);
                let length = if random() % 3 == 0 { random() as usize % body.len() } else { body.len() };
                let cut = &body[..length];
                let layout = Layout::parse(cut, record.major).unwrap_or_default();
                let mut header = *record.header;
                header.total_length = cut.len() as u32 + 24;
                let mut collector = Collector::default();
                let forged = Record { body: cut, header: &header, layout: &layout, ..record };
                collector.record(&forged);
                assert!(forged.blocks().count() <= 33);
                assert_eq!(collector.finish().records.len(), 1);
                body[at] = kept;
            }
        }
    }
}
