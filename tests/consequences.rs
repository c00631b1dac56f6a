//! What a person must act upon afterwards: told by the plan, by the result and by the report (pitfalls B19).

use crate::support::cluster::Builder;
use crate::support::standby::Receiver;
use crate::support::story::DATABASE;
use crate::support::{Pitr, Scratch, Story, majors};

majors::on_each_major! {
    consequences_are_told_and_hanging_commits_refused => |major| super::majors::play("told", major, super::told),
}

fn told(scratch: &Scratch, builder: Builder<'_>) {
    let cluster = builder.conf("max_prepared_transactions = 5").conf("max_logical_replication_workers = 0").start();
    let story = Story::begin(&cluster);
    let space = scratch.dir("space", "postgres", "postgres", 0o700);
    cluster.sql("postgres", &format!("CREATE TABLESPACE one LOCATION '{}'", space.display()));
    cluster.sql(DATABASE, "CREATE UNLOGGED TABLE cache AS SELECT generate_series(1, 10) AS n");
    cluster.sql(DATABASE, "CREATE UNLOGGED TABLE index_cache (n int PRIMARY KEY USING INDEX TABLESPACE one) TABLESPACE one");
    cluster.sql(DATABASE, "INSERT INTO index_cache SELECT generate_series(1, 3000)");
    let subscription = "CREATE SUBSCRIPTION \"Sub x\" CONNECTION 'host=/nowhere' PUBLICATION p \
                        WITH (connect = false, enabled = false, create_slot = false, slot_name = 's')";
    cluster.sql(DATABASE, subscription);
    cluster.sql(DATABASE, "ALTER SUBSCRIPTION \"Sub x\" ENABLE");
    cluster.basebackup_tar("nightly", false);
    let receiver = Receiver::start(&cluster, &scratch.dir("received", "postgres", "postgres", 0o700), &[]);
    cluster.sql("postgres", "SELECT pg_create_physical_replication_slot('standby_1')");
    cluster
        .script(DATABASE, "BEGIN; INSERT INTO audit_events (organization_id, note) VALUES (1, 'held'); PREPARE TRANSACTION 'held over';");
    let target = story.work(3);
    story.work(2);
    let mut pitr = Pitr::for_cluster(scratch, &cluster);
    pitr.set("database", DATABASE);
    let args = ["--before-lsn", target.lsn.as_str()];
    cluster.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    let refused = pitr.json_code(3, &[&["plan"], args.as_slice()].concat());
    assert_eq!(refused["refusals"][0]["id"], "synchronous-standbys", "{refused}");
    cluster.sql("postgres", "ALTER SYSTEM RESET synchronous_standby_names");
    let before =
        ["replication slots are gone (standby_1)", "connected now: received (local)", "unlogged tables will be empty", "will be disabled"];
    let plan = pitr.json(&[&["plan"], args.as_slice()].concat())["consequences"].to_string();
    before.iter().for_each(|words| assert!(plan.contains(words), "{words}: {plan}"));

    let restored = pitr.json(&[&["restore", "--yes"], args.as_slice()].concat());

    let after = ["held over in mazevault", "unlogged tables are empty: mazevault.public.cache", "disabled now: mazevault.Sub x"];
    let remarks = restored["remarks"].to_string();
    after.iter().for_each(|words| assert!(remarks.contains(words), "{words}: {remarks}"));
    for report in
        [pitr.json(&["report"]).to_string(), pitr.run(&["report"]).expect_code(0).stdout.split_whitespace().collect::<Vec<_>>().join(" ")]
    {
        before.iter().chain(&after).for_each(|words| assert!(report.contains(words), "{words}: {report}"));
    }
    assert_eq!(cluster.sql(DATABASE, "SELECT count(*) FROM cache"), "0");
    assert_eq!(cluster.sql("postgres", "SELECT gid FROM pg_prepared_xacts"), "held over");
    assert_eq!(cluster.sql(DATABASE, "SELECT subenabled FROM pg_subscription"), "f");
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM pg_replication_slots"), "0");
    receiver.kill();
    // The old cluster moves to a timeline of its own, which is an archive recovery: such tables keep their rows.
    let undone = pitr.json(&["undo", "--yes"]);
    assert!(undone["remarks"].to_string().contains("is on timeline"), "{undone}");
    assert_eq!(cluster.sql(DATABASE, "SELECT count(*) FROM cache"), "10");
    assert_eq!(cluster.sql(DATABASE, "SET enable_seqscan = off; SELECT count(*) FROM index_cache WHERE n > 0"), "3000");
    assert_eq!(cluster.sql(DATABASE, "INSERT INTO index_cache VALUES (0) RETURNING n"), "0");
    cluster.crash();
    cluster.start();
    // As a crash always did: the init forks are where they belong.
    assert_eq!(cluster.sql(DATABASE, "SELECT (SELECT count(*) FROM cache) + (SELECT count(*) FROM index_cache)"), "0");
    assert_eq!(cluster.sql(DATABASE, "SELECT subenabled FROM pg_subscription"), "t");
    assert_eq!(cluster.sql("postgres", "SELECT slot_name FROM pg_replication_slots"), "standby_1");
}

/// Killed around each renaming: however often, the undo that ends gives the old cluster every row, also of unlogged tables.
#[cfg(feature = "crash-points")]
#[test]
fn unlogged_tables_keep_their_rows_however_an_undo_is_killed() {
    use crate::support::{TestCluster, program, story};

    let scratch = Scratch::new("unlogged");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    cluster.basebackup_tar("nightly", false);
    let target = story.work(2);
    cluster.sql(DATABASE, "CREATE UNLOGGED TABLE cache AS SELECT generate_series(1, 10) AS n");
    let last = story.work(2);
    let pitr = Pitr::for_cluster(&scratch, &cluster);
    let restored = pitr.json(&["restore", "--yes", "--before-lsn", &target.lsn]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    let undo = ["undo", "--yes"];
    for point in
        ["before init forks are hidden", "after init forks are hidden", "before init forks are shown", "after init forks are shown"]
    {
        pitr.crash_at(point, &undo);
    }
    assert_eq!(pitr.json(&undo)["outcome"], "undone");
    assert_eq!(story::facts(&cluster, DATABASE), last.facts);
    assert_eq!(cluster.sql(DATABASE, "SELECT count(*) FROM cache"), "10");
    let left = program::ok(program::program("find").arg(&cluster.data).args(["-name", "pitr-*_init*"]));
    assert_eq!(left, "");
}
