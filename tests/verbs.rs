//! The verbs that look: `runs`, `report` and `check`, against real runs and real servers.

use std::fs;

use serde_json::Value;

use crate::support::story::{CHECK_USER, CHECKS, DATABASE};
use crate::support::{Pitr, Scratch, Story, TestCluster, wait_until};

fn line<'a>(document: &'a Value, id: &str) -> &'a Value {
    let lines = document["clusters"][0]["lines"].as_array().unwrap();
    lines.iter().find(|l| l["id"] == id).unwrap_or_else(|| panic!("no {id} in {document:#}"))
}

/// A recovery with a hostile reason is undone, listed and reported; still when the cluster and its configuration are gone.
#[test]
fn a_run_is_told_also_when_its_cluster_is_gone() {
    let scratch = Scratch::new("report");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    cluster.cron_tarball("base-20261121.tar.gz", None);
    let target = story.work(10);
    story.migrate(123);
    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.set("database", DATABASE);
    pitr.set("check_user", CHECK_USER);
    pitr.set("checks", vec![scratch.file("checks.sql", CHECKS, 0o644).to_str().unwrap()]);
    assert_eq!(pitr.json(&["runs"])["runs"], Value::Array(vec![]));
    pitr.run(&["report"]).expect_code(2);

    let reason = "<script>alert(1)</script>";
    let restored = pitr.json(&["restore", "--yes", "--before-time", &target.time, "--reason", reason]);
    let id = restored["run"].as_str().unwrap();
    let kept = pitr.json(&["runs"]);
    let run = &kept["runs"][0];
    assert_eq!((&run["outcome"], &run["reason"], run["run"].as_str()), (&"switched".into(), &reason.into(), Some(id)), "{kept:#}");
    assert!(run["keeps"][0]["bytes"].as_u64().unwrap() > 20 << 20, "the old cluster is kept aside: {kept:#}");
    pitr.json(&["undo", "--yes", "--reason", "it was not that"]);
    pitr.json(&["purge", "--yes", id]);

    cluster.stop();
    fs::remove_dir_all(cluster.parent()).unwrap();
    pitr.write(&format!("state_directory = \"{}\"\n", pitr.state.display()));
    let report = pitr.json(&["report", id]);
    let purposes: Vec<&str> = report["sections"].as_array().unwrap().iter().map(|s| s["purpose"].as_str().unwrap()).collect();
    assert_eq!(purposes, ["restore", "undo", "purge"]);
    assert_eq!((&report["phases"], &report["downtime_seconds"]), (&restored["phases"], &restored["downtime_seconds"]));
    assert_eq!(report["sections"][1]["by"]["reason"], "it was not that");
    assert!(report["checks"].as_array().unwrap().iter().all(|c| c["passed"] == true) && report["checks"][0]["rows"][0][0].is_string());
    assert!(report["loss"]["transactions"].as_u64().unwrap() > 0, "{report:#}");
    assert_eq!(report["run"], pitr.json(&["report"])["run"], "the newest by default");
    let html = pitr.run(&["report", id, "-o", "html"]).expect_code(0).stdout;
    assert!(html.starts_with("<!DOCTYPE html>") && !html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
    assert!(!pitr.run(&["report", id, "-o", "md"]).expect_code(0).stdout.contains("<script"));
    assert!(pitr.run(&["report", id]).expect_code(0).stdout.contains("it was not that"));
    assert!(pitr.run(&["runs"]).expect_code(0).stdout.contains("purged"));
    pitr.run(&["report", "20200101T000000Z-0000"]).expect_code(2);
    pitr.run(&["status", "-o", "html"]).expect_code(2);
}

/// What makes a host unready, one thing after the other: a failing archiver, an old backup, a hole, no backup.
#[test]
fn a_host_is_ready_or_it_is_said_why_not() {
    let scratch = Scratch::new("check");
    let cluster = TestCluster::builder(&scratch, "main").archiver_switch().start();
    let story = Story::begin(&cluster);
    cluster.basebackup_tar("base", true);
    story.work(5);
    cluster.archive_caught_up();
    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.set("rpo", "5min");
    let check = |code| pitr.json_code(code, &["check"]);

    let ready = check(0);
    assert_eq!(ready["ready"], true);
    for id in [
        "configuration",
        "server",
        "exchange",
        "namespaces",
        "program",
        "parent",
        "archiving",
        "archiver",
        "archive",
        "backup",
        "window",
        "room",
    ] {
        assert_eq!(line(&ready, id)["state"], "ok", "{:#}", line(&ready, id));
    }
    for id in ["checks", "rpo"] {
        assert_eq!(line(&ready, id)["state"], "warn", "{:#}", line(&ready, id));
    }
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let aged = pitr.json_code(6, &["check", "--max-backup-age", "0s"]);
    assert_eq!(line(&aged, "backup")["state"], "fail", "{aged}");

    cluster.fail_archiving(true);
    cluster.sql("postgres", "SELECT pg_stat_reset_shared('archiver')");
    for _ in 0..4 {
        cluster.switch_wal();
    }
    wait_until(30, "a failure of the archiver", || cluster.sql("postgres", "SELECT failed_count > 0 FROM pg_stat_archiver") == "t");
    let failing = check(6);
    assert_eq!(
        (&line(&failing, "archiver")["state"], &line(&failing, "ready-files")["state"]),
        (&"fail".into(), &"warn".into()),
        "{failing:#}"
    );
    let text = pitr.run(&["check"]).expect_code(6).stdout;
    assert!(text.contains("fail      the archiver fails") && text.ends_with("not ready for a recovery\n"), "{text}");

    cluster.fail_archiving(false);
    cluster.archive_caught_up();
    check(0);
    // A hole in the only chain.
    let archive = cluster.archive.clone().unwrap();
    let mut segments: Vec<_> =
        fs::read_dir(&archive).unwrap().flatten().map(|e| e.path()).filter(|p| p.file_name().unwrap().len() == 24).collect();
    segments.sort();
    let hole = &segments[segments.len() - 3];
    fs::remove_file(hole).unwrap();
    let _ = fs::remove_file(cluster.data.join("pg_wal").join(hole.file_name().unwrap()));
    assert_eq!(line(&check(6), "wal-gap")["state"], "fail");

    fs::remove_dir_all(cluster.backups.join("base")).unwrap();
    let bare = check(6);
    assert_eq!((&line(&bare, "backup")["state"], &line(&bare, "window")["state"]), (&"fail".into(), &"fail".into()), "{bare:#}");
    // A check file that no recovery would begin with.
    pitr.set("checks", vec![scratch.file("bad.sql", "SELECT 1;", 0o644).to_str().unwrap()]);
    assert_eq!(line(&pitr.json_code(6, &["check"]), "checks")["state"], "fail");
}

/// Check files against the serving cluster: by its socket, by a URL, and never against another cluster.
#[test]
fn checks_run_against_the_right_server_only() {
    let scratch = Scratch::new("checksql");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let other = TestCluster::builder(&scratch, "other").conf("log_statement = all").start();
    let story = Story::begin(&cluster);
    story.work(5);
    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.set("database", DATABASE);
    pitr.set("check_user", CHECK_USER);
    let file = scratch.file("one.sql", "-- check: slugs\n-- expect: count(*) > 0\nSELECT slug FROM environments;\n", 0o644);
    let file = file.to_str().unwrap();
    let passed = pitr.json(&["check", "--sql", file]);
    assert_eq!((&passed["passed"], &passed["compared"], &passed["user"]), (&true.into(), &true.into(), &CHECK_USER.into()), "{passed:#}");
    assert!(!passed["checks"][0]["rows"].as_array().unwrap().is_empty());

    let bad = scratch.file("two.sql", "-- check: none\n-- expect: count(*) = 0\nSELECT slug FROM environments;\n", 0o644);
    let failed = pitr.json_code(6, &["check", "--sql", file, "--sql", bad.to_str().unwrap()]);
    assert_eq!((&failed["checks"][0]["passed"], &failed["checks"][1]["passed"]), (&true.into(), &false.into()));
    // Nothing is written, whatever the file says.
    let delete = "-- check: d\nWITH gone AS (DELETE FROM environments RETURNING 1) SELECT count(*) FROM gone;\n";
    let delete = scratch.file("delete.sql", delete, 0o644);
    pitr.run(&["check", "--sql", delete.to_str().unwrap()]).expect_code(6);
    story.work(1);
    assert_ne!(cluster.sql(DATABASE, "SELECT count(*) FROM environments"), "0");

    let url = |c: &TestCluster, database: &str| {
        let host = c.socket.dir.to_str().unwrap().replace('/', "%2F");
        format!("postgres://postgres:secret_8c1f@{host}:{}/{database}", c.socket.port)
    };
    let by_url = pitr.json(&["check", "--sql", file, "--url", &url(&cluster, DATABASE)]);
    assert_eq!((&by_url["passed"], &by_url["database"]), (&true.into(), &DATABASE.into()), "{by_url:#}");
    assert!(by_url["remarks"][0].as_str().unwrap().contains("superuser"));
    let wrong = pitr.run(&["check", "--sql", file, "--url", &url(&other, "postgres")]).expect_code(3);
    assert!(wrong.stderr.contains("not this host's cluster") && !wrong.stderr.contains("secret_8c1f"), "{}", wrong.stderr);
    // Nothing of the file was asked of it.
    let asked = std::fs::read_to_string(&other.log).unwrap();
    assert!(asked.contains("pg_control_system") && !asked.contains("environments"), "{asked}");
    // The socket does not serve this role: the environment's URL does, and must be of the same cluster.
    pitr.set("check_user", "nobody_of_that_name");
    pitr.run(&["check", "--sql", file]).expect_code(1);
    pitr.env("DATABASE_URL", &url(&other, "postgres"));
    pitr.run(&["check", "--sql", file]).expect_code(3);
    pitr.env("DIRECT_DATABASE_URL", &url(&cluster, DATABASE));
    assert_eq!(pitr.json(&["check", "--sql", file])["server"], "by DIRECT_DATABASE_URL");
}
