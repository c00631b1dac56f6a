//! Every record, every commit and every abort as `pg_waldump` sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use pitr::error::{At, Result};
use pitr::pg::segment::history_name;
use pitr::pg::{History, Lsn, SegmentName, SegmentSize, Timeline};
use pitr::wal::called::Called;
use pitr::wal::chain::Chain;
use pitr::wal::effects::What;
use pitr::wal::ledger::{Entry, Ledger};
use pitr::wal::scan::Checks;
use pitr::wal::summary::summarise_stream;
use pitr::wal::xlog::Xlog;
use pitr::wal::{EndOfWal, PgTime, Reason, RelationFile, Rmgr, SegmentSource, Walk, resolve};

use super::cluster::{Cluster, TABLES, workload};

/// Segments in a directory.
pub struct Directory {
    pub path: PathBuf,
    pub size: SegmentSize,
}

impl SegmentSource for Directory {
    type Stream = File;

    fn segment(&mut self, name: SegmentName) -> Result<Option<File>> {
        let path = self.path.join(name.file_name(self.size));
        if !path.exists() {
            return Ok(None);
        }
        File::open(&path).at("open", &path).map(Some)
    }
}

/// A record in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brief {
    pub rmgr: String,
    pub length: u32,
    pub xid: u32,
    pub prev: Lsn,
}

/// A commit or an abort: xid (of a prepared one, its own) and time.
pub type End = (bool, u32, PgTime);

/// What `pg_waldump` says about a run of segments of one timeline.
#[derive(Debug, Default)]
pub struct Dump {
    pub records: BTreeMap<Lsn, Brief>,
    pub ends: BTreeMap<Lsn, End>,
}

impl Dump {
    /// From the dumps of each timeline of a history, a line of dashes after each.
    pub fn of_history(text: &str, history: &History) -> Dump {
        let mut all = Dump::default();
        let ends = history.ancestors.iter().map(|a| a.switch).chain([Lsn(u64::MAX)]);
        let mut begin = Lsn(0);
        for (part, end) in text.split("--\n").zip(ends) {
            let mut dump = Dump::default();
            part.lines().for_each(|line| dump.line(line));
            all.extend(&dump, begin, end);
            begin = end;
        }
        all
    }

    fn extend(&mut self, other: &Dump, begin: Lsn, end: Lsn) {
        self.records.extend(other.records.range(begin..end).map(|(lsn, brief)| (*lsn, brief.clone())));
        self.ends.extend(other.ends.range(begin..end).map(|(lsn, end)| (*lsn, *end)));
    }

    fn read(cluster: &Cluster, first: &str, last: &str) -> Dump {
        let mut dump = Dump::default();
        cluster.waldump(first, last).lines().for_each(|line| dump.line(line));
        dump
    }

    /// `rmgr: Heap len (rec/tot): 54/ 54, tx: 737, lsn: 0/01, prev 0/00, desc: …`
    fn line(&mut self, line: &str) {
        let between = |from: &str, to: &str| line.split_once(from).and_then(|(_, rest)| rest.split_once(to)).map(|(value, _)| value.trim());
        let (Some(rmgr), Some(lengths)) = (between("rmgr: ", " len"), between("(rec/tot):", ", tx:")) else { return };
        let lsn: Lsn = between("lsn: ", ", prev").unwrap().parse().unwrap();
        let brief = Brief {
            rmgr: rmgr.to_owned(),
            length: lengths.split_once('/').unwrap().1.trim().parse().unwrap(),
            xid: between(", tx:", ", lsn").unwrap().parse().unwrap(),
            prev: between("prev ", ",").unwrap().parse().unwrap(),
        };
        if rmgr == "Transaction" {
            self.end(lsn, brief.xid, line.split_once("desc: ").map_or("", |(_, text)| text));
        }
        self.records.insert(lsn, brief);
    }

    /// `COMMIT 2026-11-21 23:03:09.123456 UTC; …`, `COMMIT_PREPARED 739: 2026-…`
    fn end(&mut self, lsn: Lsn, xid: u32, description: &str) {
        let Some((kind, rest)) = description.split_once(' ') else { return };
        let committed = match kind {
            "COMMIT" | "COMMIT_PREPARED" => true,
            "ABORT" | "ABORT_PREPARED" => false,
            _ => return,
        };
        let (xid, rest) = match (kind.ends_with("PREPARED"), rest.split_once(": ")) {
            (true, Some((own, rest))) => (own.parse().unwrap(), rest),
            _ => (xid, rest),
        };
        let (date, time) = (&rest[..10], rest[11..].split_once(" UTC").unwrap().0);
        let stamp: jiff::Timestamp = format!("{date}T{time}Z").parse().unwrap();
        self.ends.insert(lsn, (committed, xid, PgTime::from_unix_micros(stamp.as_microsecond())));
    }
}

/// What the walk says.
pub fn walk(source: impl SegmentSource, size: SegmentSize, history: &History, from: u64) -> (BTreeMap<Lsn, Brief>, EndOfWal) {
    let mut walk = Walk::from_segment(source, size, history.clone(), None, from);
    let mut records = BTreeMap::new();
    while let Some(record) = walk.next().unwrap() {
        let header = record.header;
        let brief = Brief { rmgr: header.rmgr.to_string(), length: header.total_length, xid: header.xid, prev: header.prev };
        records.insert(record.lsn, brief);
    }
    (records, walk.end().unwrap())
}

/// What summaries, each made without knowledge of the others, say once they are joined.
pub struct Joined {
    pub records: BTreeMap<Rmgr, u64>,
    pub xlog: Vec<Xlog>,
    pub entries: Vec<Entry>,
    pub in_doubt: Vec<String>,
    /// Relations that committed transactions dropped, or made, by the names that rows of catalogs have.
    pub definitions: Vec<(bool, String)>,
    pub end: EndOfWal,
}

pub fn join(source: &mut impl SegmentSource, size: SegmentSize, history: &History, from: u64) -> Joined {
    let mut chain = Chain::new(size, history.clone(), None);
    let mut ledger = Ledger::new(0);
    let (mut records, mut xlog, mut entries) = (BTreeMap::new(), Vec::new(), Vec::new());
    let (mut called, mut definitions) = (Called::default(), Vec::new());
    let (mut number, mut buffer) = (from, Vec::new());
    let end = loop {
        let name = chain.name_of(number);
        let Some(stream) = source.segment(name).unwrap() else { break chain.missing() };
        let summary = match summarise_stream(stream, &mut buffer, name, size, Checks::default()).unwrap() {
            Ok(summary) => summary,
            Err(end) => break chain.unreadable(end),
        };
        let json = serde_json::to_string(&summary).unwrap();
        assert_eq!(serde_json::from_str::<pitr::wal::summary::SegmentSummary>(&json).unwrap(), summary);
        let joined = match chain.push(summary) {
            Ok(joined) => joined,
            Err(end) => break end,
        };
        for mut effects in joined.parts() {
            called.add(std::mem::take(&mut effects.names));
            assert_eq!(effects.unfit, [], "every payload is understood");
            for (rmgr, tally) in &effects.records {
                *records.entry(*rmgr).or_insert(0) += tally.records;
            }
            xlog.extend(effects.events.iter().filter_map(|event| match &event.what {
                What::Xlog(xlog) => Some((**xlog).clone()),
                _ => None,
            }));
            ledger.apply(effects, &mut |entry| {
                if let Entry::Committed(transaction) = &entry {
                    let found = called.definitions(transaction).into_iter();
                    definitions.extend(found.map(|d| (d.dropped, d.what.map_or_else(|file| file.to_string(), |called| called.name))));
                }
                entries.push(entry);
            });
        }
        if let Some(end) = chain.end() {
            break end;
        }
        number += 1;
    };
    Joined { records, xlog, entries, in_doubt: ledger.in_doubt().map(|p| p.gid.clone()).collect(), definitions, end }
}

/// Names of the segments of one timeline, ascending.
fn segments(directory: &Path, size: SegmentSize, timeline: Timeline) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let ours = names.filter(|name| SegmentName::parse(name, size).is_some_and(|segment| segment.timeline == timeline));
    ours.collect::<BTreeSet<_>>().into_iter().collect()
}

/// `pg_waldump` does not follow a switch: the parent's records before it, then the child's.
fn dump_history(cluster: &Cluster, size: SegmentSize, history: &History) -> Dump {
    let mut all = Dump::default();
    let timelines = history.ancestors.iter().map(|a| (a.timeline, a.switch)).chain([(history.timeline, Lsn(u64::MAX))]);
    let mut begin = Lsn(0);
    for (timeline, end) in timelines {
        let names = segments(&cluster.wal(), size, timeline);
        let dump = Dump::read(cluster, &names[0], &names[names.len() - 1]);
        all.extend(&dump, begin, end);
        begin = end;
    }
    all
}

pub fn ends_of(entries: &[Entry]) -> BTreeMap<Lsn, End> {
    let ends = entries.iter().filter_map(resolve::Ended::of);
    ends.map(|end| (end.lsn, (end.committed, end.xid as u32, end.time))).collect()
}

fn relation(cluster: &Cluster, name: &str) -> RelationFile {
    let query = format!(
        "select case c.reltablespace when 0 then d.dattablespace else c.reltablespace end, d.oid, pg_relation_filenode(c.oid)
         from pg_class c, pg_database d where c.oid = '{name}'::regclass and d.datname = current_database()"
    );
    let answer = cluster.query(&query);
    let fields: Vec<u32> = answer.split('|').map(|field| field.parse().unwrap()).collect();
    RelationFile { tablespace: fields[0], database: fields[1], number: fields[2] }
}

/// One module a major that has a `pg_waldump`: 14's source has none.
macro_rules! majors {
    ($($name:ident $major:literal $($slow:literal)?;)*) => {$(
        mod $name {
            #[test]
            $(#[ignore = $slow])?
            fn a_servers_wal_is_read_as_pg_waldump_reads_it() {
                super::read_as_pg_waldump_reads_it($major);
            }
        }
    )*};
}
majors! { pg13 13 "scripts/test-majors"; pg15 15; pg16 16 "scripts/test-majors"; pg17 17 "scripts/test-majors"; pg18 18 "scripts/test-majors"; }

fn read_as_pg_waldump_reads_it(major: u32) {
    let Some(cluster) = Cluster::create(major) else { return };
    cluster.sql(TABLES);
    let orders = relation(&cluster, "orders");
    let (parts_1, parts_2) = (relation(&cluster, "parts_1"), relation(&cluster, "parts_2"));
    let nested = relation(&cluster, "nested");
    let doubtful = relation(&cluster, "doubtful");
    cluster.sql(&workload());
    cluster.tool("pgbench", &["-h", &cluster.path(""), "-U", "postgres", "-i", "-s", "1", "-q"]);
    cluster.tool("pgbench", &["-h", &cluster.path(""), "-U", "postgres", "-c", "4", "-t", "300"]);
    cluster.settings("wal_level = logical\n");
    cluster.promote();
    cluster.sql("truncate orders, nested; insert into nested select generate_series(1, 10);");
    cluster.sql(&super::cluster::savepoints(10));
    cluster.sql("begin; insert into doubtful values (6); prepare transaction 'four'; commit prepared 'four';");
    cluster.tool("pgbench", &["-h", &cluster.path(""), "-U", "postgres", "-c", "2", "-t", "100"]);
    cluster.stop();

    let size = SegmentSize::new(1 << 20).unwrap();
    let directory = cluster.wal();
    let text = std::fs::read(directory.join(history_name(Timeline(2)))).unwrap();
    let history = History::parse(Timeline(2), &text).unwrap();
    let oracle = dump_history(&cluster, size, &history);
    let from = SegmentName::parse(&segments(&directory, size, Timeline(1))[0], size).unwrap().number;

    let (records, end) = walk(Directory { path: directory.clone(), size }, size, &history, from);
    assert_eq!(records.len(), oracle.records.len());
    assert_eq!(records, oracle.records);
    assert_eq!(end.reason, Reason::ZeroLength);
    assert_eq!(end.last_record, oracle.records.keys().next_back().copied());

    let joined = join(&mut Directory { path: directory, size }, size, &history, from);
    assert_eq!(joined.end, end, "independent summaries prove the same as the walk");
    let mut counts = BTreeMap::new();
    for brief in oracle.records.values() {
        *counts.entry(brief.rmgr.clone()).or_insert(0u64) += 1;
    }
    assert_eq!(joined.records.iter().map(|(rmgr, count)| (rmgr.to_string(), *count)).collect::<BTreeMap<_, _>>(), counts);
    let ends = ends_of(&joined.entries);
    assert!(ends.len() > 1400, "{}", ends.len());
    assert_eq!(ends, oracle.ends);

    // What the workload did.
    let mut range = resolve::Range::new(Lsn(0), Lsn(u64::MAX));
    joined.entries.iter().for_each(|entry| range.entry(entry));
    assert_eq!(range.transactions, ends.values().filter(|(committed, ..)| *committed).count() as u64);
    let rows =
        |relation: &RelationFile| range.relations.get(relation).map(|rows| (rows.net_inserted(), rows.updated, rows.deleted, rows.moved));
    assert_eq!(rows(&orders), Some((1000, 210, 90, 0)));
    assert_eq!(rows(&parts_1), Some((50, 0, 0, 20)));
    assert_eq!(rows(&parts_2), Some((20, 0, 0, 0)));
    assert_eq!(rows(&nested), Some((150 - 22, 0, 0, 0)), "every seventh savepoint is rolled back");
    assert_eq!(rows(&doubtful), Some((2, 0, 0, 0)));
    assert_eq!(joined.in_doubt, ["three"]);

    let points = joined.entries.iter().filter_map(|entry| resolve::restore_point(entry, "before the truncate"));
    assert_eq!(points.count(), 2);
    let switch = |entry: &Entry| match entry {
        Entry::Timeline { lsn, timeline, previous } => Some((*lsn, *timeline, *previous)),
        _ => None,
    };
    let switches: Vec<_> = joined.entries.iter().filter_map(switch).collect();
    assert_eq!(switches.len(), 1);
    assert_eq!((switches[0].1, switches[0].2), (Timeline(2), Timeline(1)));
    assert!(switches[0].0 >= history.ancestors[0].switch);
}
