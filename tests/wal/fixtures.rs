//! The stored WAL of each major: the same work, read the same.

use std::collections::BTreeMap;

use pitr::pg::{History, Lsn, Timeline};
use pitr::wal::ledger::Entry;
use pitr::wal::xlog::Xlog;
use pitr::wal::{PgTime, Reason, Rmgr, resolve};

use super::memory::{Memory, fixtures, unpack};
use super::oracle::{Dump, ends_of, join, walk};

#[test]
fn every_majors_wal_tells_what_the_workload_did() {
    for (major, directory) in fixtures() {
        let memory = Memory::fixture(&directory);
        let (records, end) = walk(&memory, memory.size, &memory.history, memory.first());
        let joined = join(&mut &memory, memory.size, &memory.history, memory.first());
        assert_eq!(joined.end, end, "{major}");
        assert_eq!(end.reason, Reason::ZeroLength, "{major}");
        let oracle = directory.join("pg_waldump.gz");
        if oracle.exists() {
            let dump = Dump::of_history(&String::from_utf8(unpack(&oracle)).unwrap(), &memory.history);
            assert_eq!(records, dump.records, "{major}");
            assert_eq!(ends_of(&joined.entries), dump.ends, "{major}");
        }
        assert_eq!(joined.records.values().sum::<u64>(), records.len() as u64, "{major}");

        let mut range = resolve::Range::new(Lsn(0), Lsn(u64::MAX));
        joined.entries.iter().for_each(|entry| range.entry(entry));
        let user: Vec<_> = range.relations.iter().filter(|(relation, _)| !relation.is_catalog()).map(|(_, rows)| *rows).collect();
        let with = |inserted, updated, deleted, moved| {
            user.iter().filter(|r| (r.net_inserted(), r.updated, r.deleted, r.moved) == (inserted, updated, deleted, moved)).count()
        };
        assert_eq!(with(300, 20, 10, 0), 1, "{major}: orders in {user:?}");
        assert_eq!(with(80 - 12 + 1 + 100, 0, 0, 0), 1, "{major}: nested before its truncation in {user:?}");
        assert_eq!(with(20, 0, 0, 5), 1, "{major}: the first partition in {user:?}");
        assert_eq!(with(62, 0, 0, 0), 1, "{major}: nested after its truncation in {user:?}");
        assert_eq!(joined.in_doubt, ["in doubt"], "{major}");
        let defined = |dropped| joined.definitions.iter().filter(move |d| d.0 == dropped).map(|d| d.1.as_str()).collect::<Vec<_>>();
        assert_eq!(defined(false), ["orders", "nested", "doubtful", "parts", "parts_1", "parts_2"], "{major}");
        let dropped = defined(true);
        assert!(dropped.contains(&"parts_1") && dropped.contains(&"parts_2") && dropped.len() <= 3, "{major}: {dropped:?}");
        assert!(joined.records[&Rmgr(21)] >= 1, "{major}: the logical message");
        let switches = joined.entries.iter().filter(|entry| matches!(entry, Entry::Timeline { timeline: Timeline(2), .. }));
        assert_eq!(switches.count(), 1, "{major}");
        let check = |history: &History, to| {
            let mut switches = resolve::Switches::new(history, Lsn(0));
            joined.entries.iter().for_each(|entry| switches.entry(entry));
            switches.difference(to)
        };
        let switch = memory.history.ancestors[0].switch;
        assert_eq!(check(&memory.history, end.lsn), None, "{major}");
        assert!(check(&History::root(Timeline(2)), end.lsn).is_some(), "{major}: a switch that no history knows");
        let mut elsewhere = memory.history.clone();
        elsewhere.ancestors[0].switch = Lsn(switch.0 - 64);
        assert_eq!(check(&elsewhere, end.lsn), Some(Lsn(switch.0 - 64)), "{major}: a switch at another place");
        assert_eq!(check(&elsewhere, Lsn(switch.0 - 64)), None, "{major}: not reached");
    }
}

#[test]
fn targets_are_resolved_to_the_record_that_decides() {
    let (_, directory) = fixtures().into_iter().find(|(major, _)| *major == 15).unwrap();
    let memory = Memory::fixture(&directory);
    let joined = join(&mut &memory, memory.size, &memory.history, memory.first());
    let ends: Vec<_> = joined.entries.iter().filter_map(resolve::Ended::of).collect();
    let middle = ends.iter().filter(|end| end.committed).nth(10).unwrap();

    for (time, inclusive) in [(middle.time, true), (middle.time, false), (PgTime(i64::MIN), true), (PgTime(i64::MAX), true)] {
        let mut by_time = resolve::ByTime::new(time, inclusive);
        joined.entries.iter().for_each(|entry| by_time.entry(entry));
        // By the rule of recoveryStopsBefore, written another way.
        let stop = ends.iter().position(|end| end.time > time || (end.time == time && !inclusive));
        assert_eq!(by_time.stop, stop.map(|at| ends[at]));
        let kept = ends[..stop.unwrap_or(ends.len())].iter().rev().find(|end| end.committed);
        assert_eq!(by_time.kept, kept.copied());
        let discarded = stop.and_then(|at| ends[at..].iter().find(|end| end.committed));
        assert_eq!(by_time.discarded, discarded.copied());
    }

    let find = |xid| {
        let mut by_xid = resolve::ByXid::new(xid);
        joined.entries.iter().for_each(|entry| by_xid.entry(entry));
        by_xid.found().to_vec()
    };
    assert_eq!(find(middle.xid), [resolve::Found::Commit(*middle)]);
    assert_eq!(find(middle.xid + (1 << 32)), [], "another epoch's");
    let parent = joined.entries.iter().find_map(|entry| match entry {
        Entry::Committed(t) if t.subxids.len() > 64 => Some(t.clone()),
        _ => None,
    });
    let parent = parent.unwrap();
    assert_eq!(parent.subxids.len(), 80, "a savepoint that was rolled back to begins anew");
    assert!(matches!(find(u64::from(parent.subxids[3]))[..], [resolve::Found::Subtransaction(end)] if end.lsn == parent.lsn));
    let aborted = ends.iter().find(|end| !end.committed).unwrap();
    assert_eq!(find(aborted.xid), [resolve::Found::Abort(*aborted)]);
    let doubtful: Vec<_> = joined
        .entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Prepared { xid, prepared, .. } if prepared.gid == "in doubt" => Some(*xid),
            _ => None,
        })
        .collect();
    assert!(matches!(find(doubtful[0])[..], [resolve::Found::Prepared { .. }]));

    let points: Vec<_> = joined.entries.iter().filter_map(|entry| resolve::restore_point(entry, "before the truncate")).collect();
    assert_eq!(points.len(), 1);
    assert!(points[0].lsn < points[0].end);
    let mut range = resolve::Range::new(Lsn(0), middle.lsn);
    joined.entries.iter().for_each(|entry| range.entry(entry));
    assert_eq!(range.transactions, 10, "a commit at the end of the range is not in it");
}

#[test]
fn ddl_is_told_from_row_changes() {
    let (_, directory) = fixtures().into_iter().find(|(major, _)| *major == 15).unwrap();
    let memory = Memory::fixture(&directory);
    let joined = join(&mut &memory, memory.size, &memory.history, memory.first());
    let mut ddl = BTreeMap::new();
    for entry in &joined.entries {
        if let Entry::Committed(t) = entry {
            *ddl.entry(t.is_ddl()).or_insert(0) += 1;
        }
    }
    // CREATE TABLE x 6, CREATE INDEX, TRUNCATE x 2, CLUSTER, DROP TABLE.
    assert_eq!(ddl[&true], 11, "{ddl:?}");
    let parameters = joined.xlog.iter().filter_map(|xlog| match xlog {
        Xlog::Parameters(parameters) => Some(parameters.wal_level.0),
        _ => None,
    });
    assert_eq!(parameters.collect::<Vec<_>>(), [2], "wal_level became logical");
    let checkpoint = joined.xlog.iter().find_map(|xlog| match xlog {
        Xlog::Checkpoint(checkpoint) => Some(checkpoint.clone()),
        _ => None,
    });
    assert!((1_577_836_800..4_102_444_800).contains(&checkpoint.unwrap().unix_seconds), "between 2020 and 2100");
}
