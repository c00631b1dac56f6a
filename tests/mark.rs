//! `pitr mark`: exit 0 only when one can come back; tables that are protected.

use std::fs;

use serde_json::Value;

use crate::support::tools::url;
use crate::support::{Pitr, Scratch, TestCluster};

fn cluster(scratch: &Scratch) -> (TestCluster, Pitr) {
    let cluster = TestCluster::builder(scratch, "main").conf("autovacuum = off").archiver_switch().start();
    cluster.sql("postgres", "CREATE TABLE t AS SELECT 1 AS id");
    let pitr = Pitr::for_cluster(scratch, &cluster);
    (cluster, pitr)
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
