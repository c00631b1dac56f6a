//! What WAL demands of the server that replays it: settings that stood higher for a while, and a stretch that was written
//! with `wal_level = minimal`.

use serde_json::Value;

use crate::support::cluster::Builder;
use crate::support::{Pitr, Scratch, TestCluster, majors};

majors::on_each_major! {
    settings_that_stood_higher_for_a_while => |major| super::run(major, super::settings_that_stood_higher_for_a_while),
    minimal_wal_in_the_range => |major| super::run(major, super::minimal_wal_in_the_range),
}

fn run(major: u32, case: fn(&Scratch, Builder<'_>)) {
    majors::play("demands", major, case);
}

/// What hot standby compares (`CheckRequiredParameterValues`), each above what backup and today's configuration have.
const RAISED: [(&str, u32); 5] = [
    ("max_connections", 91),
    ("max_worker_processes", 17),
    ("max_wal_senders", 23),
    ("max_prepared_transactions", 9),
    ("max_locks_per_transaction", 133),
];

fn again(cluster: &TestCluster) {
    cluster.stop();
    cluster.start();
}

fn rows(cluster: &TestCluster) -> String {
    cluster.sql("postgres", "SELECT count(*) FROM t")
}

/// Raised, then lowered again, between the backup and the target: neither the backup nor today's settings know of it.
fn settings_that_stood_higher_for_a_while(scratch: &Scratch, builder: Builder<'_>) {
    let cluster = builder.start();
    cluster.sql("postgres", "CREATE TABLE t (n int)");
    cluster.basebackup_plain("plain");
    let shown = |name: &str| cluster.sql("postgres", &format!("SHOW {name}"));
    let before: Vec<String> = RAISED.iter().map(|(name, _)| shown(name)).collect();
    for (name, value) in RAISED {
        cluster.sql("postgres", &format!("ALTER SYSTEM SET {name} = {value}"));
    }
    again(&cluster);
    cluster.sql("postgres", "INSERT INTO t VALUES (1)");
    for (name, _) in RAISED {
        cluster.sql("postgres", &format!("ALTER SYSTEM RESET {name}"));
    }
    again(&cluster);
    assert_eq!(RAISED.iter().map(|(name, _)| shown(name)).collect::<Vec<_>>(), before);
    cluster.sql("postgres", "INSERT INTO t VALUES (2)");
    let target = cluster.wal_lsn();
    cluster.sql("postgres", "INSERT INTO t VALUES (3)");

    let mut pitr = Pitr::for_cluster(scratch, &cluster);
    // What the server that replays was told, by its own word.
    let check = "-- check: settings\nSELECT name, setting FROM pg_settings WHERE name = ANY ('{max_connections,max_worker_processes,\
                 max_wal_senders,max_prepared_transactions,max_locks_per_transaction}');\n";
    let file = scratch.file("checks/settings.sql", check, 0o644);
    pitr.set("checks", vec![file.to_str().unwrap()]);
    let restored = pitr.json(&["restore", "--yes", "--before-lsn", &target]);
    assert_eq!(restored["outcome"], "switched", "{restored:#}");
    let report = pitr.json(&["report"]);
    let told = report["checks"].to_string();
    for (name, value) in RAISED {
        assert!(told.contains(name) && told.contains(&value.to_string()), "{name} = {value} in {told}");
    }
    assert_eq!((rows(&cluster).as_str(), RAISED.iter().map(|(name, _)| shown(name)).collect::<Vec<_>>()), ("2", before));
}

/// A server that wrote `wal_level = minimal` for a while: behind that nothing can be reached, before it everything.
fn minimal_wal_in_the_range(scratch: &Scratch, builder: Builder<'_>) {
    let cluster = builder.segment_mib(16).start();
    cluster.sql("postgres", "CREATE TABLE t (n int)");
    cluster.basebackup_plain("plain");
    cluster.sql("postgres", "INSERT INTO t VALUES (1)");
    let before = cluster.wal_lsn();
    for set in ["wal_level = minimal", "archive_mode = off", "max_wal_senders = 0"] {
        cluster.sql("postgres", &format!("ALTER SYSTEM SET {set}"));
    }
    again(&cluster);
    // Its rows are in the file and not in the WAL.
    cluster.sql("postgres", "BEGIN; TRUNCATE t; INSERT INTO t SELECT generate_series(1, 500); COMMIT");
    cluster.sql("postgres", "ALTER SYSTEM RESET ALL");
    again(&cluster);
    cluster.sql("postgres", "INSERT INTO t VALUES (2)");
    let behind = cluster.wal_lsn();
    cluster.switch_wal();
    cluster.archive_caught_up();

    let pitr = Pitr::for_cluster(scratch, &cluster);
    let refused = pitr.json_code(3, &["plan", "--before-lsn", &behind]);
    let reasons: Vec<&Value> = refused["refusals"].as_array().unwrap().iter().collect();
    assert_eq!((reasons.len(), reasons[0]["id"].as_str()), (1, Some("wal-minimal")), "{refused:#}");
    pitr.json_code(3, &["restore", "--yes", "--to-latest"]);
    assert_eq!(rows(&cluster), "501");
    let restored = pitr.json(&["restore", "--yes", "--before-lsn", &before]);
    assert_eq!(restored["outcome"], "switched", "{restored:#}");
    assert_eq!(rows(&cluster), "1");
}
