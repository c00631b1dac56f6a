//! Settings and sizes of real clusters, many in one: each combination is restored and undone.

use std::fs;

use crate::support::cluster::Builder;
use crate::support::majors;
use crate::support::program;
use crate::support::scratch::{give, make_dir};
use crate::support::story::{self, DATABASE};
use crate::support::{Pitr, Scratch, Story, TestCluster};

/// One combination. A setting that a major does not know is left out there.
struct Case {
    name: &'static str,
    segment_mib: u32,
    checksums: bool,
    conf: &'static [&'static str],
    /// SQL before the backup.
    sql: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "logical, archived always, other zones and dates, transactions that only read",
        segment_mib: 16,
        checksums: false,
        conf: &[
            "wal_level = logical",
            "archive_mode = always",
            "timezone = 'Asia/Kolkata'",
            "log_timezone = 'America/St_Johns'",
            "datestyle = 'SQL, DMY'",
            "intervalstyle = 'postgres_verbose'",
            "default_transaction_isolation = 'serializable'",
            "default_transaction_read_only = on",
            "bytea_output = 'escape'",
            "log_statement = 'all'",
            "search_path = 'nowhere'",
            "row_security = off",
        ],
        sql: &["SELECT pg_create_logical_replication_slot('decoder', 'pgoutput')"],
    },
    Case {
        name: "large segments, limits above the defaults, no hot standby",
        segment_mib: 64,
        checksums: true,
        conf: &[
            "max_prepared_transactions = 30",
            "max_locks_per_transaction = 200",
            "max_worker_processes = 20",
            "wal_compression = on",
            "track_commit_timestamp = on",
            "hot_standby = off",
            "statement_timeout = '15s'",
            "lock_timeout = '5s'",
            "vacuum_defer_cleanup_age = 0",
        ],
        sql: &["CREATE DATABASE \"Größe, 'quoted'\" TEMPLATE template0"],
    },
];

fn settings_of(major: u32) {
    if majors::available(major).is_none() {
        return;
    }
    for (number, case) in CASES.iter().enumerate() {
        eprintln!("{major}: {}", case.name);
        let scratch = Scratch::new(&format!("settings-{major}-{number}"));
        play(case, &scratch, TestCluster::builder(&scratch, "main").major(major));
    }
}

fn play(case: &Case, scratch: &Scratch, builder: Builder<'_>) {
    let cluster = builder.segment_mib(case.segment_mib).checksums(case.checksums).create();
    configure(case, &cluster);
    cluster.start();
    // The harness writes; production's default does not.
    let own = "ALTER ROLE postgres SET default_transaction_read_only = off; ALTER ROLE postgres SET search_path = public";
    cluster.script("postgres", &format!("SET default_transaction_read_only = off; {own};"));
    for sql in case.sql {
        cluster.sql("postgres", sql);
    }
    let story = Story::begin(&cluster);
    cluster.basebackup_tar("nightly", false);
    let target = story.work(10);
    let last = story.migrate(123).after;
    let pitr = Pitr::for_cluster(scratch, &cluster);
    let settings = settings(&cluster);
    let restored = pitr.json(&["restore", "--yes", "--before-lsn", &target.lsn]);
    assert_eq!(restored["outcome"], "switched", "{}: {restored}", case.name);
    assert_eq!(story::facts(&cluster, DATABASE), target.facts, "{}", case.name);
    assert_eq!(self::settings(&cluster), settings, "{}", case.name);
    cluster.archive_caught_up();
    let undone = pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{}: {undone}", case.name);
    assert_eq!(story::facts(&cluster, DATABASE), last.facts, "{}", case.name);
    assert_eq!(self::settings(&cluster), settings, "{}", case.name);
    cluster.archive_caught_up();
    pitr.assert_nothing_left();
}

/// In a file of its own that the main one includes: what is taken over must follow.
fn configure(case: &Case, cluster: &TestCluster) {
    let folder = cluster.data.join("conf.d");
    make_dir(&folder, "postgres", "postgres", 0o700);
    let known = case.conf.iter().filter(|line| knows(cluster, line));
    let text: String = known.map(|line| format!("{line}\n")).collect();
    fs::write(folder.join("10-site.conf"), text).unwrap();
    give(&folder.join("10-site.conf"), "postgres", "postgres", 0o600);
    let main = fs::read_to_string(&cluster.conf_file).unwrap();
    fs::write(&cluster.conf_file, format!("{main}\ninclude_dir = 'conf.d'\n")).unwrap();
}

fn knows(cluster: &TestCluster, line: &str) -> bool {
    let name = line.split(' ').next().unwrap();
    program::output(cluster.tool("postgres").arg("-D").arg(&cluster.data).args(["-C", name])).code == 0
}

/// Everything that files and defaults set.
fn settings(cluster: &TestCluster) -> String {
    cluster.sql("postgres", "SELECT name, setting FROM pg_settings WHERE source NOT IN ('client', 'session') ORDER BY name")
}

majors::on_each_major! {
    settings_there_and_back => super::settings_of,
}
