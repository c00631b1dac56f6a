//! WAL that no server can be made to write on demand, written by hand: a record lost in a crash, an extension's
//! resource manager, records that end exactly on boundaries.

use std::collections::BTreeMap;

use pitr::pg::{History, Lsn, SegmentName, SegmentSize, Timeline};
use pitr::wal::record::checksum;
use pitr::wal::{Reason, Rmgr};

use super::memory::Memory;
use super::oracle::{join, walk};

const SEGMENT: usize = 1 << 20;
const PAGE: usize = 8192;
const SYSTEM: u64 = 0x1234_5678_9ABC_DEF0;

/// Writes records from the start of segment 1 on.
struct Forge {
    bytes: Vec<u8>,
    prev: u64,
    starts: Vec<Lsn>,
}

impl Forge {
    fn new() -> Forge {
        let mut forge = Forge { bytes: vec![0; SEGMENT], prev: 0x1000, starts: Vec::new() };
        forge.page(0, 0x4);
        forge
    }

    /// Begins a page, if the end is at one's beginning.
    fn page(&mut self, remaining: u32, flags: u16) {
        if !self.bytes.len().is_multiple_of(PAGE) {
            return;
        }
        let address = self.bytes.len() as u64;
        let first = self.bytes.len().is_multiple_of(SEGMENT);
        let flags = flags | if remaining > 0 { 1 } else { 0 } | if first { 2 } else { 0 };
        self.bytes.extend(0xD110u16.to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(1u32.to_le_bytes());
        self.bytes.extend(address.to_le_bytes());
        self.bytes.extend(remaining.to_le_bytes());
        self.bytes.extend([0; 4]);
        if first {
            self.bytes.extend(SYSTEM.to_le_bytes());
            self.bytes.extend((SEGMENT as u32).to_le_bytes());
            self.bytes.extend((PAGE as u32).to_le_bytes());
        }
    }

    /// Bytes until the page ends.
    fn room(&self) -> usize {
        PAGE - self.bytes.len() % PAGE
    }

    fn record(&mut self, rmgr: u8, info: u8, main: &[u8]) -> Lsn {
        self.page(0, 0x4);
        let mut body = Vec::new();
        if !main.is_empty() && main.len() < 256 {
            body.extend([255, main.len() as u8]);
        } else if !main.is_empty() {
            body.push(254);
            body.extend((main.len() as u32).to_le_bytes());
        }
        body.extend(main);
        let lsn = self.bytes.len() as u64;
        let mut header = Vec::new();
        header.extend((body.len() as u32 + 24).to_le_bytes());
        header.extend(700u32.to_le_bytes());
        header.extend(self.prev.to_le_bytes());
        header.extend([info, rmgr, 0, 0]);
        header.extend(checksum(&header, crc32c::crc32c(&body)).to_le_bytes());
        header.extend(body);
        self.put(&header);
        self.prev = lsn;
        self.starts.push(Lsn(lsn));
        Lsn(lsn)
    }

    fn put(&mut self, mut record: &[u8]) {
        while !record.is_empty() {
            self.page(record.len() as u32, 0x4);
            let (piece, rest) = record.split_at(self.room().min(record.len()));
            self.bytes.extend(piece);
            record = rest;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    /// A message whose record, from a fresh page or not, fills exactly `bytes`.
    fn filler(&mut self, bytes: usize) -> Lsn {
        let main = bytes - 24 - if bytes - 26 < 256 { 2 } else { 5 };
        self.record(21, 0, &vec![7; main])
    }

    fn filler_of(&mut self, rmgr: u8) {
        self.record(rmgr, 0, b"");
    }

    /// Records until `room` bytes are left on the segment's last page.
    fn fill_segment(&mut self, room: usize) {
        loop {
            self.page(0, 0x4);
            let last = self.bytes.len() % SEGMENT >= SEGMENT - PAGE;
            if last && self.room() > room + 300 {
                self.filler(self.room() - room);
                return;
            }
            self.filler(self.room().clamp(32, 4000));
        }
    }

    fn memory(&self) -> Memory {
        let size = SegmentSize::new(SEGMENT as u32).unwrap();
        let mut segments = BTreeMap::new();
        for (index, chunk) in self.bytes.chunks(SEGMENT).enumerate().skip(1) {
            let mut bytes = chunk.to_vec();
            bytes.resize(SEGMENT, 0);
            segments.insert(SegmentName { timeline: Timeline(1), number: index as u64 }, bytes);
        }
        Memory { size, history: History::root(Timeline(1)), segments }
    }
}

/// Both ways of reading give the same records and the same end; returns the starts and the reason.
fn read(memory: &Memory) -> (Vec<Lsn>, Reason, Lsn) {
    let (records, end) = walk(memory, memory.size, &memory.history, 1);
    let joined = join(&mut &*memory, memory.size, &memory.history, 1);
    // Where the fault lies may be told more closely by one of them.
    assert_eq!((joined.end.lsn, joined.end.reason, joined.end.last_record), (end.lsn, end.reason, end.last_record));
    assert_eq!(joined.records.values().sum::<u64>(), records.len() as u64);
    (records.into_keys().collect(), end.reason, end.lsn)
}

#[test]
fn records_of_every_length_across_every_boundary() {
    let mut forge = Forge::new();
    // Every room that can be left on a segment's last page, the header split at each multiple of 8 included.
    for room in [8, 16, 24, 32, 40, 0] {
        forge.fill_segment(room);
        forge.record(21, 0, b"across");
    }
    forge.record(200, 0x50, &[1; 20_000]);
    forge.record(130, 0, &vec![2; 3 * SEGMENT]);
    forge.record(0, 0x20, b"");
    let (starts, reason, end) = read(&forge.memory());
    assert_eq!(starts, forge.starts);
    assert_eq!((reason, end), (Reason::ZeroLength, Lsn(forge.bytes.len() as u64)));
}

#[test]
fn a_switch_ends_its_segment_and_none_where_it_ends_with_it() {
    // In the middle; over the boundary, so that the next segment is the unused one; and exactly at the end.
    for room in [400, 8, 24] {
        let mut forge = Forge::new();
        forge.fill_segment(room);
        forge.record(0, 0x40, b"");
        let unused = forge.bytes.len().next_multiple_of(SEGMENT);
        forge.bytes.resize(unused, 0);
        let after = forge.record(0, 0x20, b"");
        assert_eq!(after.0 % SEGMENT as u64, 40);
        let (starts, reason, _) = read(&forge.memory());
        assert_eq!(starts, forge.starts, "room {room}");
        assert_eq!(reason, Reason::ZeroLength);
    }
}

#[test]
fn a_record_lost_in_a_crash_is_replaced_and_no_other() {
    // Within a segment, and from one to the next.
    for room in [None, Some(64)] {
        for named_wrongly in [false, true] {
            let mut forge = Forge::new();
            match room {
                Some(room) => forge.fill_segment(room),
                None => forge.filler_of(21),
            }
            let prev = forge.prev;
            let broken = forge.filler(20_000);
            forge.starts.pop();
            forge.prev = prev;
            // The page after the first part was never written; the server begins it anew.
            forge.bytes.truncate((broken.0 as usize).next_multiple_of(PAGE));
            forge.page(0, 0xC);
            let named = if named_wrongly { broken.0 + 8 } else { broken.0 };
            let payload = [named.to_le_bytes(), 5u64.to_le_bytes()].concat();
            let replacement = forge.record(0, 0xD0, &payload);
            forge.record(0, 0x20, b"");
            let (starts, reason, _) = read(&forge.memory());
            if named_wrongly {
                assert_eq!(reason, Reason::Overwrite);
                assert!(!starts.contains(&replacement));
            } else {
                assert_eq!(starts, forge.starts);
                assert_eq!(reason, Reason::ZeroLength);
            }
        }
    }
}

#[test]
fn a_replacement_without_a_broken_record_is_refused() {
    let mut forge = Forge::new();
    forge.filler(4000);
    let record = forge.record(0, 0xD0, &[0; 16]);
    assert_eq!(read(&forge.memory()).1, Reason::Overwrite);
    assert_eq!(read(&forge.memory()).2, record);
}

#[test]
fn what_is_wrong_is_said() {
    let damage = |change: &dyn Fn(&mut Forge)| {
        let mut forge = Forge::new();
        forge.filler(4000);
        change(&mut forge);
        forge.record(0, 0x20, b"");
        read(&forge.memory()).1
    };
    assert_eq!(damage(&|forge| forge.filler_of(50)), Reason::ResourceManager);
    assert_eq!(damage(&|forge| forge.prev += 8), Reason::PrevLink);
    assert_eq!(damage(&|forge| forge.bytes.extend(23u64.to_le_bytes())), Reason::Length);
    assert_eq!(damage(&|forge| forge.bytes.extend([0xFF; 8])), Reason::Length);
    let half = |forge: &mut Forge| {
        forge.filler(20_000);
        let length = forge.bytes.len().next_multiple_of(PAGE) - PAGE;
        forge.bytes.truncate(length);
        forge.bytes.resize(length + PAGE, 0);
    };
    assert_eq!(damage(&half), Reason::ZeroPage);
    // A good checksum over parts that do not add up.
    let misfit = |forge: &mut Forge| {
        let lsn = forge.record(21, 0, &[1; 20]).0 as usize;
        forge.bytes[lsn + 25] = 19;
        let body = crc32c::crc32c(&forge.bytes[lsn + 24..lsn + 46]);
        let crc = checksum(&forge.bytes[lsn..lsn + 24], body);
        forge.bytes[lsn + 20..lsn + 24].copy_from_slice(&crc.to_le_bytes());
    };
    assert_eq!(damage(&misfit), Reason::Malformed);
}

#[test]
fn segments_of_other_places_and_clusters_are_refused() {
    let mut forge = Forge::new();
    forge.filler(3 * SEGMENT + 5000);
    forge.record(0, 0x20, b"");
    let whole = forge.memory();
    let name = |number| SegmentName { timeline: Timeline(1), number };

    let mut memory = whole.clone();
    memory.segments.remove(&name(3));
    let (_, reason, end) = read(&memory);
    assert_eq!((reason, end), (Reason::MissingSegment, forge.starts[0]), "the record that is not whole is where WAL ends");

    let mut memory = whole.clone();
    let recycled = memory.segments[&name(2)].clone();
    memory.segments.insert(name(3), recycled);
    assert_eq!(read(&memory).1, Reason::PageAddress);

    let mut memory = whole.clone();
    memory.segments.get_mut(&name(2)).unwrap()[24] ^= 1;
    assert_eq!(read(&memory).1, Reason::SystemIdentifier);

    let mut memory = whole.clone();
    memory.segments.get_mut(&name(2)).unwrap()[34] ^= 0x30;
    assert_eq!(read(&memory).1, Reason::SegmentSize);

    let mut memory = whole.clone();
    memory.segments.get_mut(&name(2)).unwrap().extend([0; 8]);
    assert_eq!(read(&memory).1, Reason::SegmentSize);

    let mut memory = whole.clone();
    memory.segments.get_mut(&name(2)).unwrap()[..2].copy_from_slice(&0xD113u16.to_le_bytes());
    assert_eq!(read(&memory).1, Reason::OtherMajor);

    assert_eq!(Rmgr(200).to_string(), "custom200");
}
