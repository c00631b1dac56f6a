//! Rows decoded from the WAL against the rows that the server has: every kind of record, on every major.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;

use pitr::pg::{History, SegmentName, SegmentSize, Timeline};
use pitr::wal::rows::{Happened, Watch};
use pitr::wal::tuple::{Column, Kind, Row, Value};
use pitr::wal::{RelationFile, SegmentSource, Walk};

use crate::support::{Scratch, TestCluster, majors};

struct Directory(PathBuf);

impl SegmentSource for Directory {
    type Stream = File;

    fn segment(&mut self, name: SegmentName) -> pitr::error::Result<Option<File>> {
        Ok(File::open(self.0.join(name.file_name(SegmentSize::new(1 << 20).unwrap()))).ok())
    }
}

const TABLE: &str = "CREATE TABLE t (id int, name text, gone int, n bigint, flag boolean, at timestamptz) WITH (autovacuum_enabled = off);
    ALTER TABLE t ALTER COLUMN name SET STORAGE MAIN";

fn columns() -> Vec<Column> {
    let column = |name: &str, kind, length, align| Column { name: name.into(), kind, length, align };
    vec![
        column("id", Kind::Integer, 4, 4),
        column("name", Kind::Text, -1, 4),
        column("gone", Kind::Other, 4, 4),
        column("n", Kind::Integer, 8, 8),
        column("flag", Kind::Bool, 1, 1),
        column("at", Kind::Time, 8, 8),
        column("late", Kind::Text, -1, 4),
    ]
}

/// What a row is compared by.
fn shown(row: &Row) -> String {
    let value = |value: &Value| match value {
        Value::Null => "-".to_string(),
        Value::Bool(true) => "t".into(),
        Value::Bool(false) => "f".into(),
        Value::Integer(n) => n.to_string(),
        Value::Text(text) => text.clone(),
        Value::Time(time) => (time.unix_micros()).to_string(),
        Value::Unread => "?".into(),
    };
    row.iter().enumerate().filter(|(index, _)| *index != 2).map(|(_, one)| value(one)).collect::<Vec<_>>().join("|")
}

const SHOWN: &str = "SELECT concat_ws('|', id, coalesce(name, '-'), coalesce(n::text, '-'), coalesce(left(flag::text, 1), '-'),
    coalesce((extract(epoch FROM at) * 1000000)::bigint::text, '-'), coalesce(late, '-')) FROM t";

/// Insertions, updates that are stored as what differs, images of pages, COPY, TRUNCATE, a rewrite, values that are
/// compressed in their row.
fn follow(major: u32, settings: &[&str]) {
    if majors::available(major).is_none() {
        return;
    }
    let scratch = Scratch::new(&format!("mig-rows-{major}"));
    let mut builder = TestCluster::builder(&scratch, "main").major(major).conf("wal_keep_size = 1GB").conf("max_wal_size = 1GB");
    for line in settings {
        builder = builder.conf(line);
    }
    let cluster = builder.start();
    let run = |text: &str| cluster.sql("postgres", text);
    run(TABLE);
    let mut files: BTreeSet<u32> = BTreeSet::new();
    let mut file = || files.insert(run("SELECT pg_relation_filenode('t')").parse().unwrap());
    file();
    let step = "INSERT INTO t SELECT i, 'name ' || i, i, i * 1000, i % 2 = 0, now() FROM generate_series(1, 40) AS i;
        UPDATE t SET name = name || ' longer' WHERE id % 3 = 0; UPDATE t SET n = n + 1 WHERE id % 5 = 0; DELETE FROM t WHERE id % 7 = 0;
        UPDATE t SET flag = NULL, name = NULL WHERE id = 11";
    run(step);
    run("CHECKPOINT");
    run("UPDATE t SET n = -n WHERE id < 9; INSERT INTO t VALUES (100, repeat('compressed ', 400), 1, 2, true, 'infinity')");
    run("CHECKPOINT");
    run("SELECT count(*) FROM t");
    run("UPDATE t SET flag = NOT flag WHERE id > 30");
    run("TRUNCATE t");
    file();
    run(step);
    run("ALTER TABLE t DROP COLUMN gone, ADD COLUMN late text");
    cluster.script("postgres", "COPY t (id, name, n, flag, at) FROM stdin;\n200\tcopied\t1\tt\t2026-01-01 00:00:00+00\n201\t\\N\t\\N\t\\N\t\\N\n\\.\nUPDATE t SET late = 'now' WHERE id = 200;");
    run("BEGIN; SAVEPOINT a; DELETE FROM t WHERE id = 200; ROLLBACK TO a; UPDATE t SET n = 5 WHERE id = 200; COMMIT");
    run("VACUUM FULL t");
    file();
    run("UPDATE t SET n = n + 7 WHERE id % 2 = 1; DELETE FROM t WHERE id = 2; UPDATE t SET at = NULL WHERE id = 200");
    let expected: BTreeSet<String> = run(SHOWN).lines().map(str::to_string).collect();
    let oid: u32 = run("SELECT oid FROM pg_database WHERE datname = 'postgres'").parse().unwrap();
    cluster.stop();

    let of_table: BTreeMap<RelationFile, usize> =
        files.iter().map(|number| (RelationFile { tablespace: 1663, database: oid, number: *number }, 0)).collect();
    let mut watch = Watch::new(vec![columns()], of_table);
    let source = Directory(cluster.data.join("pg_wal"));
    let size = SegmentSize::new(1 << 20).unwrap();
    // initdb's own WAL is gone.
    let names = fs::read_dir(cluster.data.join("pg_wal")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let first = names.filter(|name| name.len() == 24).min().unwrap();
    let number = u64::from_str_radix(&first[8..16], 16).unwrap() * 4096 + u64::from_str_radix(&first[16..], 16).unwrap();
    let mut walk = Walk::from_segment(source, size, History::root(Timeline(1)), None, number);
    let mut aborted = BTreeSet::new();
    while let Some(record) = walk.next().unwrap() {
        watch.record(&record);
        // Rollback of a transaction or to a savepoint.
        if record.header.rmgr.0 == 1 && record.header.info & 0x70 == 0x20 {
            aborted.insert(record.header.xid);
        }
    }
    let mut rows: BTreeSet<String> = BTreeSet::new();
    let mut emptied = 0;
    let changes = watch.finish();
    for change in changes.iter().filter(|change| !aborted.contains(&change.xid)) {
        match &change.happened {
            Happened::Inserted { row, .. } => assert!(rows.insert(shown(row.as_ref().unwrap())), "{major}: twice: {change:?}"),
            Happened::Updated { old, new } => {
                // VACUUM FULL copies rows as whole pages, and those it copied are all known by then.
                assert!(rows.remove(&shown(old.as_ref().unwrap())), "{major}: not there before: {change:?}");
                rows.insert(shown(new.as_ref().unwrap()));
            }
            Happened::Deleted { row } => assert!(rows.remove(&shown(row.as_ref().unwrap())), "{major}: {change:?}"),
            Happened::Emptied => {
                emptied += 1;
                // The table's making, TRUNCATE, VACUUM FULL.
                if emptied == 2 {
                    rows.clear();
                }
            }
        }
    }
    assert_eq!(emptied, 3, "{major}");
    assert_eq!(rows, expected, "{major} {settings:?}");
    assert!(changes.len() > 150 && expected.iter().any(|row| row.starts_with("200|copied|5|")), "{major}: {expected:?}");
}

#[test]
fn of_15_as_it_is_by_default_and_with_compressed_images() {
    follow(15, &[]);
    follow(15, &["wal_compression = lz4"]);
    follow(15, &["wal_compression = zstd", "wal_level = logical"]);
    follow(15, &["wal_compression = pglz", "wal_log_hints = on"]);
}

#[test]
fn of_every_other_major() {
    for major in [13, 14, 16, 17, 18] {
        follow(major, &["wal_compression = on"]);
    }
}
