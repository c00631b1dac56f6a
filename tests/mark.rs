//! `pitr mark`: exit 0 only when one can come back; what is kept of the WAL that was read; tables that are protected.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::tools::url;
use crate::support::{Pitr, Scratch, TestCluster};

fn cluster(scratch: &Scratch) -> (TestCluster, Pitr) {
    let cluster = TestCluster::builder(scratch, "main").conf("autovacuum = off").archiver_switch().start();
    cluster.sql("postgres", "CREATE TABLE t AS SELECT 1 AS id");
    let pitr = Pitr::for_cluster(scratch, &cluster);
    (cluster, pitr)
}

fn entries(state: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![state.join("index")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() { open.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found.sort();
    found
}

/// Without a backup, with a failing archiver, under a used name: no gate opens. Then it does, and what it promised works.
#[test]
fn a_mark_is_good_only_when_one_can_come_back_to_it() {
    let scratch = Scratch::new("mark");
    let (cluster, pitr) = cluster(&scratch);
    let marked = pitr.json_code(6, &["mark", "no backup", "--wait"]);
    assert_eq!((&marked["archived"], &marked["recoverable"]), (&Value::Bool(true), &Value::Bool(false)), "{marked}");
    assert_eq!(marked["refusals"][0]["id"], "no-backup", "{marked}");

    cluster.packed_basebackup("base-20261121.tar.gz", None);
    cluster.fail_archiving(true);
    let marked = pitr.json_code(6, &["mark", "not archived", "--wait", "--timeout", "2s"]);
    assert_eq!((&marked["archived"], &marked["recoverable"]), (&Value::Bool(false), &Value::Bool(false)), "{marked}");
    assert_eq!(marked["refusals"][0]["id"], "not-archived", "{marked}");
    let later = pitr.json(&["mark", "nobody waits"]);
    assert_eq!((&later["waited"], &later["recoverable"]), (&Value::Bool(false), &Value::Null), "{later}");
    cluster.fail_archiving(false);

    cluster.sql("postgres", "INSERT INTO t VALUES (2)");
    let marked = pitr.json(&["mark", "before it's done", "--wait"]);
    assert_eq!(marked["recoverable"], true, "{marked}");
    let status = pitr.json(&["status"]);
    assert!(status["clusters"][0]["windows"][0]["to"].is_string(), "{status}");
    assert_eq!(marked["backup"]["name"], "base-20261121.tar.gz");
    let segment = cluster.archive.as_ref().unwrap().join(marked["segment"].as_str().unwrap());
    assert!(segment.exists());
    cluster.sql("postgres", "INSERT INTO t VALUES (3)");
    let again = pitr.run(&["mark", "before it's done"]).expect_code(3);
    assert!(again.stderr.contains("already"), "{}", again.stderr);

    let by_url = pitr.json(&["mark", "by URL", "--wait", "--url", &url("postgres", &cluster, "postgres")]);
    assert_eq!(by_url["recoverable"], true, "{by_url}");
    let other = TestCluster::builder(&scratch, "other").start();
    let untouched = other.wal_lsn();
    let wrong = pitr.run(&["mark", "elsewhere", "--url", &url("postgres", &other, "postgres")]).expect_code(3);
    assert!(wrong.stderr.contains("another cluster's server answers"), "{}", wrong.stderr);
    assert_eq!(other.wal_lsn(), untouched);

    assert_eq!(marked["command"], r"pitr restore --to-name 'before it'\''s done'");
    let restored = pitr.json(&["restore", "--yes", "--to-name", "before it's done"]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(cluster.sql("postgres", "SELECT array_agg(id ORDER BY id) FROM t"), "{1,2}");
}

/// A hole between the backup and the mark: archived, and still no way back.
#[test]
fn a_hole_before_the_mark_shuts_the_gate() {
    let scratch = Scratch::new("mark-hole");
    let (cluster, pitr) = cluster(&scratch);
    cluster.packed_basebackup("base-20261121.tar.gz", None);
    let lost = cluster.switch_wal();
    cluster.sql("postgres", "INSERT INTO t VALUES (2)");
    cluster.switch_wal();
    cluster.archive_caught_up();
    fs::remove_file(cluster.archive.as_ref().unwrap().join(&lost)).unwrap();
    let _ = fs::remove_file(cluster.data.join("pg_wal").join(&lost));
    let marked = pitr.json_code(6, &["mark", "gate", "--wait"]);
    assert_eq!(marked["archived"], true, "{marked}");
    assert_eq!(marked["refusals"][0]["id"], "wal-gap", "{marked}");
    assert!(marked["command"].is_null());
}

/// What was read is kept, and used; damaged, outdated and deleted entries change no answer, nor does what a later
/// program would keep; nobody but root writes there.
#[test]
fn what_is_kept_of_the_wal_never_changes_an_answer() {
    let scratch = Scratch::new("index");
    let (cluster, pitr) = cluster(&scratch);
    for n in 0..6 {
        cluster.sql("postgres", &format!("CREATE TABLE t{n} AS SELECT generate_series(1, 500) AS id; DELETE FROM t WHERE id = {n}"));
        cluster.sql("postgres", &format!("INSERT INTO t VALUES ({n}); UPDATE t{n} SET id = 0"));
        cluster.sql("postgres", "VACUUM FULL t");
        cluster.sql("postgres", &format!("TRUNCATE t{n}"));
        cluster.switch_wal();
    }
    cluster.archive_caught_up();
    // Files that changed just now are not kept: they could change again unseen.
    std::thread::sleep(std::time::Duration::from_millis(3500));
    let archive = cluster.archive.as_ref().unwrap().to_str().unwrap().to_string();
    let questions: [&[&str]; 6] = [
        &["log", "-o", "json", "--wal", &archive],
        &["log", "-o", "json", "--wal", &archive, "--deletes"],
        &["log", "-o", "json", "--wal", &archive, "--ddl"],
        &["log", "-o", "json", "-t", "t"],
        &["log", "-o", "json", "-t", "t3"],
        &["verify", "wal", "--wal", &archive, "-o", "json"],
    ];
    let ask = || -> Vec<String> { questions.iter().map(|question| pitr.run(question).expect_code(0).stdout).collect() };
    let first = ask();
    assert!(first[3].lines().count() >= 12, "{}", first[3]);
    let kept = entries(&pitr.state);
    assert!(kept.len() >= 6, "{kept:?}");
    for path in &kept {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(path).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o777), (0, 0o640), "{}", path.display());
    }
    assert_eq!(ask(), first, "from the index");

    for (n, path) in kept.iter().enumerate() {
        let mut bytes = fs::read(path).unwrap();
        match n % 4 {
            0 => bytes.truncate(bytes.len() / 2),
            1 => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            2 => bytes[8] ^= 0x40,
            _ => bytes.clear(),
        }
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(ask(), first, "damaged entries are made anew");
    assert_eq!(ask(), first);
    // One entry under another's name: it is of another file.
    fs::copy(&kept[0], &kept[1]).unwrap();
    assert_eq!(ask(), first);
    fs::remove_dir_all(pitr.state.join("index")).unwrap();
    assert_eq!(ask(), first, "deleting loses nothing");

    // A segment that changes is read again.
    let victim = PathBuf::from(&archive).join(kept[2].file_name().unwrap());
    let mut bytes = fs::read(&victim).unwrap();
    bytes[20_000] ^= 1;
    fs::write(&victim, bytes).unwrap();
    let broken = pitr.run(&["verify", "wal", "--wal", &archive, "-o", "json"]).expect_code(6);
    assert!(broken.stdout.contains("is damaged at"), "{}", broken.stdout);
    fs::remove_file(&victim).unwrap();
    pitr.run(&["verify", "wal", "--wal", &archive, "-o", "json"]).expect_code(6);
    let left = entries(&pitr.state);
    assert!(!left.iter().any(|path| path.file_name() == victim.file_name()), "an entry of a file that is gone: {left:?}");
}

/// Rows of a protected table go only when that is accepted, those of a partition of it too; rows that come back need no
/// word. What the first discarded transaction did is told, and limits are compared.
#[test]
fn protected_rows_vanish_only_when_that_is_accepted() {
    let scratch = Scratch::new("protected");
    let (cluster, mut pitr) = cluster(&scratch);
    cluster.sql(
        "postgres",
        "CREATE TABLE audit (id int) PARTITION BY RANGE (id); CREATE TABLE audit_1 PARTITION OF audit FOR VALUES FROM (0) TO (100)",
    );
    cluster.sql("postgres", "INSERT INTO audit VALUES (1), (2)");
    cluster.packed_basebackup("base-20261121.tar.gz", None);
    pitr.set("protected", vec!["public.audit".to_string(), "public.other".to_string()]);
    pitr.set("rpo", "1s");
    let first = cluster.sql("postgres", "DELETE FROM audit WHERE id = 1; SELECT pg_current_xact_id()");
    cluster.sql("postgres", "INSERT INTO t VALUES (7)");
    std::thread::sleep(std::time::Duration::from_millis(1200));
    cluster.sql("postgres", "INSERT INTO t VALUES (8)");
    let plan = pitr.json(&["plan", "--before-xid", &first]);
    assert_eq!(plan["loss"]["transactions"], 3, "{plan}");
    let words = plan["alternatives"].to_string();
    assert!(words.contains("public.audit_1 (1 deleted)") && words.contains("2 other transactions"), "{words}");
    assert!(plan["consequences"].as_array().unwrap().iter().any(|c| c["id"] == "rpo"), "{plan}");

    cluster.sql("postgres", "INSERT INTO audit VALUES (3)");
    let plan = pitr.json_code(3, &["plan", "--before-xid", &first]);
    assert_eq!(plan["refusals"][0]["id"], "protected:public.audit", "{plan}");
    assert_eq!(plan["refusals"].as_array().unwrap().len(), 1, "{plan}");
    let restored = pitr.json(&["restore", "--yes", "--before-xid", &first, "--accept", "protected:public.audit"]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(cluster.sql("postgres", "SELECT array_agg(id ORDER BY id) FROM audit"), "{1,2}");
    // What was taken back can be taken forward: what that discards is on the timeline that serves now.
    cluster.sql("postgres", "INSERT INTO audit VALUES (50); INSERT INTO t VALUES (51)");
    let plan = pitr.json_code(3, &["plan", "--timeline", "1", "--to-xid", &first]);
    assert_eq!(plan["refusals"][0]["id"], "protected:public.audit", "{plan}");
    assert_eq!(plan["loss"]["transactions"], 1, "{plan}");
}
