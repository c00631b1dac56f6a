//! A seeded fuzzer over pages and records: whatever was done to a segment, each record that is handed out is one that the
//! server wrote, at its place; and a forged checksum makes nothing fall over.
//!
//! `PITR_FUZZ=N` plays N rounds for each major instead of the few that every test run has.

use std::collections::BTreeMap;

use pitr::pg::{Lsn, SegmentName};
use pitr::wal::Walk;
use pitr::wal::chain::Chain;
use pitr::wal::ledger::Ledger;
use pitr::wal::packed::{divide, pack};
use pitr::wal::scan::{Advance, Checks, Scan, Start};
use pitr::wal::summary::summarise;
use pitr::wal::window::Window;

use super::damage::{Sound, proof};
use super::memory::{Memory, fixtures};

const ROUNDS: usize = 24;
const PAGE: usize = 8192;

/// xorshift64: the same rounds each time.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

/// Where each record starts, how long it is, and a checksum of header and body.
type Known = BTreeMap<Lsn, (u32, u32)>;

fn known(memory: &Memory) -> Known {
    let mut walk = Walk::from_segment(memory, memory.size, memory.history.clone(), None, memory.first());
    let mut known = Known::new();
    while let Some(record) = walk.next().unwrap() {
        known.insert(record.lsn, (record.header.total_length, crc32c::crc32c_append(record.header.crc, record.body)));
    }
    known
}

/// Something that happens to files, or that somebody does to them.
fn spoil(bytes: &mut Vec<u8>, others: &[&Vec<u8>], dice: &mut Dice) {
    let length = bytes.len();
    let page = |dice: &mut Dice| dice.throw(length / PAGE) * PAGE;
    match dice.throw(8) {
        0 => (0..=dice.throw(8)).for_each(|_| {
            let at = dice.throw(length);
            bytes[at] = dice.throw(256) as u8;
        }),
        1 => {
            let (from, to) = (page(dice), page(dice));
            bytes.copy_within(from..from + PAGE, to);
        }
        2 => {
            let (other, at) = (others[dice.throw(others.len())], page(dice));
            if let Some(piece) = other.get(at..at + PAGE) {
                bytes[at..at + PAGE].copy_from_slice(piece);
            }
        }
        3 => {
            let at = dice.throw(length);
            let end = (at + dice.throw(3 * PAGE)).min(length);
            bytes[at..end].fill(0);
        }
        4 => bytes.truncate(dice.throw(length)),
        5 => {
            let (from, to) = (dice.throw(length - 64), dice.throw(length - 64));
            bytes.copy_within(from..from + 64, to);
        }
        6 => {
            // Page headers: flags, timeline, address, the length that is still to come.
            let at = page(dice) + dice.throw(24);
            bytes[at] ^= 1 << dice.throw(8);
        }
        _ => {
            let at = dice.throw(length / 8) * 8;
            let lies = [0u32, 23, 24, 0x3FFF_FFFF, 0x4000_0000, u32::MAX][dice.throw(6)];
            if let Some(field) = bytes.get_mut(at..at + 4) {
                field.copy_from_slice(&lies.to_le_bytes());
            }
        }
    }
}

/// Gives a record that lies on one page other content and the checksum of that.
fn forge(bytes: &mut [u8], memory: &Memory, name: SegmentName, known: &Known, dice: &mut Dice) {
    let start = memory.size.start(name.number);
    let mine: Vec<_> = known.range(start..memory.size.start(name.number + 1)).collect();
    for _ in 0..8 {
        let Some((lsn, (length, _))) = mine.get(dice.throw(mine.len())) else { return };
        let (at, length) = ((lsn.0 - start.0) as usize, *length as usize);
        if at % PAGE + length > PAGE || length <= 24 {
            continue;
        }
        for _ in 0..=dice.throw(6) {
            // Length, xid and the link to the record before are left: they are judged before the checksum.
            let place = if dice.throw(4) == 0 { 16 } else { 24 + dice.throw(length - 24) };
            bytes[at + place] = dice.throw(256) as u8;
        }
        let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[at + 24..at + length]), &bytes[at..at + 20]);
        bytes[at + 20..at + 24].copy_from_slice(&sum.to_le_bytes());
    }
}

#[test]
fn no_record_is_handed_out_that_was_not_written() {
    let rounds = std::env::var("PITR_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut good, mut spoiled) = (0usize, 0usize);
    for (major, directory) in fixtures() {
        let memory = Memory::fixture(&directory);
        let known = known(&memory);
        let names: Vec<SegmentName> = memory.segments.keys().copied().collect();
        let others: Vec<&Vec<u8>> = memory.segments.values().collect();
        for round in 0..rounds {
            let name = names[dice.throw(names.len())];
            let mut bytes = memory.segments[&name].clone();
            (0..=dice.throw(3)).for_each(|_| {
                if bytes.len() > PAGE {
                    spoil(&mut bytes, &others, &mut dice);
                }
            });
            let Ok(mut scan) = Scan::open(Window::whole(&bytes), name, memory.size, Checks::default(), Start::Unknown) else {
                spoiled += 1;
                continue;
            };
            while let Advance::Record = scan.advance(Window::whole(&bytes)) {
                let record = scan.record(Window::whole(&bytes));
                let sum = crc32c::crc32c_append(record.header.crc, record.body);
                assert_eq!(known.get(&record.lsn), Some(&(record.header.total_length, sum)), "{major}, round {round}: {}", record.lsn);
                good += 1;
            }
            spoiled += 1;
        }
    }
    assert!(good > 1000 && spoiled > 50, "{good} records of {spoiled} spoiled segments: nothing was tested");
}

/// Whatever was done to segments, what is proved never reaches over the first byte that a check covers and that is another.
#[test]
fn no_hole_is_overlooked() {
    let rounds = std::env::var("PITR_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS / 3);
    let mut dice = Dice(0xA076_1D64_78BD_642F);
    let mut broken = 0;
    for (major, directory) in fixtures() {
        let sound = Sound::new(major, Memory::fixture(&directory));
        let segments = sound.segments();
        let others: Vec<&Vec<u8>> = segments.iter().map(|(_, bytes)| bytes).collect();
        let summary = |name, bytes: &[u8]| summarise(bytes, name, sound.memory.size, Checks::default());
        let good: Vec<_> = segments.iter().map(|(name, bytes)| summary(*name, bytes)).collect();
        let whole = proof(&sound, &good);
        for round in 0..rounds {
            let mut summaries = good.clone();
            let mut first: Option<Lsn> = None;
            for _ in 0..=dice.throw(2) {
                let at = dice.throw(segments.len());
                let (name, original) = &segments[at];
                let mut bytes = original.clone();
                (0..=dice.throw(2)).for_each(|_| {
                    if bytes.len() > PAGE {
                        spoil(&mut bytes, &others, &mut dice);
                    }
                });
                let start = sound.memory.size.start(name.number);
                let is_other = |offset: &usize| {
                    let changed = original[*offset] ^ bytes.get(*offset).copied().unwrap_or(!original[*offset]);
                    let lsn = Lsn(start.0 + *offset as u64);
                    changed != 0 && (0..8).any(|bit| changed & 1 << bit != 0 && sound.is_covered(lsn, bit))
                };
                // One more change of the same segment starts from the original again.
                summaries[at] = summary(*name, &bytes);
                let other = (0..original.len()).find(is_other).map(|offset| Lsn(start.0 + offset as u64));
                first = [first.filter(|lsn| sound.memory.size.number(*lsn) != name.number), other].into_iter().flatten().min();
            }
            let end = proof(&sound, &summaries);
            match first {
                Some(lsn) => {
                    let spoiled = sound.records[sound.spoiled(lsn)].lsn;
                    assert!(end.lsn <= spoiled, "{major}, round {round}: {lsn} is another, but WAL ends at {end}");
                    broken += 1;
                }
                None => assert!(end.lsn <= whole.lsn, "{major}, round {round}: more than there was: {end}"),
            }
        }
    }
    assert!(broken > 3 * rounds, "{broken} in {rounds} rounds for each major");
}

#[test]
fn forged_records_are_survived_by_everything_behind_the_reader() {
    let rounds = std::env::var("PITR_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS / 4);
    let mut dice = Dice(0xD1B5_4A32_D192_ED03);
    for (_, directory) in fixtures() {
        let memory = Memory::fixture(&directory);
        let known = known(&memory);
        for _ in 0..rounds {
            let mut chain = Chain::new(memory.size, memory.history.clone(), None);
            let mut ledger = Ledger::new(0);
            for number in memory.first().. {
                let name = chain.name_of(number);
                let Some(bytes) = memory.segments.get(&name) else { break };
                let mut bytes = bytes.clone();
                forge(&mut bytes, &memory, name, &known, &mut dice);
                let Ok(summary) = summarise(&bytes, name, memory.size, Checks::default()) else { break };
                let (front, inside) = divide(summary.clone());
                pack(&front, &inside).unwrap();
                let mut whole = front.summary;
                inside.add_to(&mut whole.effects);
                assert_eq!(whole, summary);
                let Ok(joined) = chain.push(whole) else { break };
                joined.parts().for_each(|part| ledger.apply(part, &mut |entry| drop(format!("{entry:?}"))));
            }
        }
    }
}
