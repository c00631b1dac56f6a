//! Summaries that are kept: equal to those that were made, refused when anything in them was changed, and left out of a
//! log only where that makes no difference.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pitr::host::Stamp;
use pitr::pg::{History, Timeline};
use pitr::store::index::{Key, decode, encode};
use pitr::wal::chain::Chain;
use pitr::wal::ledger::Ledger;
use pitr::wal::log::{Filter, Line, Log, Relations};
use pitr::wal::packed::{Front, Inside, Packed, VERSION, divide, pack, unpack};
use pitr::wal::scan::Checks;
use pitr::wal::summary::{SegmentSummary, summarise};
use pitr::wal::{PgTime, RelationFile};

use super::memory::{Memory, fixtures};

fn summaries(memory: &Memory) -> Vec<SegmentSummary> {
    let chain = Chain::new(memory.size, memory.history.clone(), None);
    let numbers = memory.first()..;
    let names = numbers.map(|number| chain.name_of(number)).map_while(|name| memory.segments.get(&name).map(|bytes| (name, bytes)));
    names.map(|(name, bytes)| summarise(bytes, name, memory.size, Checks::default()).unwrap()).collect()
}

fn packed(summary: &SegmentSummary) -> Packed {
    let (front, inside) = divide(summary.clone());
    pack(&front, &inside).unwrap()
}

fn key() -> Key {
    let stamp = Stamp { seconds: 1, nanos: 999_999_999 };
    Key { path: PathBuf::from("/wal/000000010000000000000001"), inode: 7, size: 1 << 20, modified: stamp, changed: stamp }
}

#[test]
fn what_was_packed_comes_back() {
    let mut divided = 0;
    for (major, directory) in fixtures() {
        for summary in summaries(&Memory::fixture(&directory)) {
            let packed = packed(&summary);
            let Front { summary: mut whole, digest } = unpack(&packed.front).unwrap();
            let inside = Inside::unpack(&packed.rest).unwrap();
            divided += digest.xids().count();
            inside.add_to(&mut whole.effects);
            assert_eq!(whole, summary, "{major}");
            let bytes = encode(&key(), &packed).unwrap();
            assert_eq!(decode(&bytes, &key()).as_ref(), Some(&packed));
            let other = Key { modified: Stamp { seconds: 1, nanos: 0 }, ..key() };
            assert_eq!(decode(&bytes, &other), None, "an entry of another state of the file");
        }
    }
    assert!(divided > 50, "{divided} transactions in second parts: nothing was tested");
}

/// A changed format must get a new number, or entries of an older program would be misread.
#[test]
fn the_format_has_its_number() {
    let (_, directory) = fixtures().into_iter().find(|(major, _)| *major == 15).unwrap();
    let sum = summaries(&Memory::fixture(&directory)).iter().fold(0, |sum, summary| {
        let packed = packed(summary);
        crc32c::crc32c_append(crc32c::crc32c_append(sum, &packed.front), &packed.rest)
    });
    assert_eq!((VERSION, sum), (3, 1_686_337_424), "the bytes changed: raise VERSION in wal/packed.rs and note the new sum here");
}

#[test]
fn damaged_entries_are_not_believed() {
    let (_, directory) = fixtures().into_iter().next_back().unwrap();
    let summary = &summaries(&Memory::fixture(&directory))[1];
    let packed = packed(summary);
    let bytes = encode(&key(), &packed).unwrap();
    let stride = (bytes.len() / 1000).max(1);
    for at in (0..bytes.len()).step_by(stride) {
        assert_eq!(decode(&bytes[..at], &key()), None, "cut at {at}");
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert_eq!(decode(&flipped, &key()), None, "flipped at {at}");
    }
    // Behind a good checksum an enemy may have put anything: no panic, whatever comes out.
    for part in [&packed.front, &packed.rest] {
        for at in (0..part.len()).step_by((part.len() / 250).max(1)) {
            let mut flipped = part.clone();
            flipped[at] ^= 0x80 >> (at % 8);
            for bytes in [&part[..at], &flipped[..]] {
                if let Ok(front) = unpack(bytes) {
                    let mut chain = Chain::new(summary.size, History::root(Timeline(1)), None);
                    let _ = chain.push(front.summary).map(|joined| {
                        let mut ledger = Ledger::new(0);
                        joined.parts().for_each(|part| ledger.apply(part, &mut |_| ()));
                    });
                    let _ = front.digest.xids().count();
                }
                if let Ok(inside) = Inside::unpack(bytes) {
                    let mut effects = summary.effects.clone();
                    inside.add_to(&mut effects);
                    Ledger::new(0).apply(effects, &mut |_| ());
                }
            }
        }
    }
}

/// The log of `memory`; with `lazy` second parts are left out where nothing needs them. Also how many were.
fn log(memory: &Memory, filter: &Filter, replaced: &BTreeMap<RelationFile, RelationFile>, lazy: bool) -> (Log, usize) {
    let mut log = Log::new(filter.clone(), memory.history.clone(), replaced.clone());
    let (mut chain, mut ledger) = (Chain::new(memory.size, memory.history.clone(), None), Ledger::new(0));
    let mut left_out = 0;
    for summary in summaries(memory) {
        let (mut front, inside) = divide(summary);
        let needed = !lazy || front.digest.replaces || filter.may_match(&front.digest, replaced) || ledger.has_open(front.digest.xids());
        if needed {
            inside.add_to(&mut front.summary.effects);
        } else {
            left_out += 1;
        }
        let Ok(joined) = chain.push(front.summary) else { break };
        for mut part in joined.parts() {
            log.names(std::mem::take(&mut part.names));
            ledger.apply(part, &mut |entry| log.entry(&entry));
        }
        if !needed {
            log.left_out(&front.digest);
        }
    }
    (log, left_out)
}

#[test]
fn leaving_out_changes_no_answer() {
    let mut left_out = 0;
    for (major, directory) in fixtures() {
        let memory = Memory::fixture(&directory);
        let nothing = Filter { limit: 0, ..Filter::default() };
        let replaced = log(&memory, &nothing, &BTreeMap::new(), false).0.into_known().0;
        assert_eq!(log(&memory, &nothing, &BTreeMap::new(), true).0.into_known().0, replaced, "{major}");
        let all = Filter { limit: usize::MAX, ..Filter::default() };
        let lines = log(&memory, &all, &replaced, false).0.finish().lines;
        let middle: &Line = &lines[lines.len() / 2];
        let mut filters = vec![
            Filter { ddl: true, ..all.clone() },
            Filter { deletes: true, ..all.clone() },
            Filter { since: middle.time, ..all.clone() },
            Filter { until: Some(PgTime(0)), ..all.clone() },
            Filter { until: middle.time, ..all.clone() },
            Filter { database: Some(1), ..all.clone() },
        ];
        filters.extend(lines.iter().step_by(7).map(|line| Filter { xid: Some(line.xid).filter(|xid| *xid != 0), ..all.clone() }));
        let mut files: Vec<_> = lines.iter().flat_map(|line| &line.relations).map(|change| change.file).collect();
        files.sort();
        files.dedup();
        filters.extend(files.iter().map(|file| {
            let relations = Relations { files: [(file.database, file.number)].into(), ..Relations::default() };
            Filter { relations: Some(relations), ..all.clone() }
        }));
        for filter in &filters {
            let (eager, _) = log(&memory, filter, &replaced, false);
            let (lazy, skipped) = log(&memory, filter, &replaced, true);
            left_out += skipped;
            let (lazy, eager) = (lazy.finish(), eager.finish());
            assert_eq!((lazy.lines, lazy.left_out), (eager.lines, eager.left_out), "{major}: {filter:?}");
        }
    }
    assert!(left_out > 50, "{left_out} second parts were left out: nothing was tested");
}
