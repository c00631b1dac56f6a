//! Runs that go on after more happened than an interruption: the old cluster ran meanwhile, or the promotion was cut short.

use crate::support::story::{self, CHECK_USER, DATABASE, Facts};
use crate::support::{Pitr, Scratch, Story, TestCluster, wait_until};

struct Ground {
    cluster: TestCluster,
    pitr: Pitr,
}

impl Ground {
    fn new(scratch: &Scratch) -> Ground {
        let cluster = TestCluster::builder(scratch, "main").start();
        Story::begin(&cluster).work(3);
        cluster.cron_tarball("base-20261121.tar.gz", None);
        Story::on(&cluster).work(3);
        let mut pitr = Pitr::for_cluster(scratch, &cluster);
        pitr.set("database", DATABASE);
        Ground { cluster, pitr }
    }

    fn facts(&self) -> Facts {
        story::facts(&self.cluster, DATABASE)
    }
}

/// Latest, interrupted with the cluster down; somebody starts it, clients write, and it runs or is stopped again: that stops
/// the resume until it is accepted by name. Then "latest" is what there is now, whatever was built before.
#[cfg(feature = "crash-points")]
#[test]
fn latest_after_the_old_cluster_ran_is_what_it_wrote() {
    let scratch = Scratch::new("ran");
    let ground = Ground::new(&scratch);
    for (point, left_running) in [("applied replay", true), ("applied promote", false)] {
        ground.pitr.crash_at(point, &["restore", "--yes", "--to-latest"]);
        ground.cluster.start();
        let written = Story::on(&ground.cluster).work(7);
        ground.cluster.switch_wal();
        let last = Story::on(&ground.cluster).work(2);
        assert_ne!(written.facts, last.facts);
        if !left_running {
            ground.cluster.stop();
        }
        let pid = ground.cluster.postmaster_pid();

        let refused = ground.pitr.run(&["resume", "--yes", "-o", "json"]).expect_code(3);
        assert_eq!(refused.json()["outcome"], "refused", "{}", refused.stdout);
        assert!(refused.stderr.contains("--accept old-cluster-ran") && refused.stderr.contains("pitr undo"), "{}", refused.stderr);
        assert_eq!(ground.cluster.postmaster_pid(), pid, "a refusal leaves the server as it is");

        let resumed = ground.pitr.json(&["resume", "--yes", "--accept", "old-cluster-ran"]);
        assert_eq!(resumed["outcome"], "switched", "{resumed}");
        assert_eq!(ground.facts(), last.facts, "not the rows of the latest moment, after '{point}'");
        let undone = ground.pitr.json(&["undo", "--yes"]);
        assert_eq!(undone["outcome"], "undone", "{undone}");
        assert_eq!(ground.facts(), last.facts);
    }
}

/// `kill -9` after the private server promoted and before that was written down: `resume` comes to the same rows on a number of
/// its own. A check that waits for a lock of the discarded transaction runs after the promotion and holds it there.
#[test]
fn a_promotion_that_was_cut_short_is_settled() {
    let scratch = Scratch::new("promotion");
    let mut ground = Ground::new(&scratch);
    let migration = Story::on(&ground.cluster).migrate(123);
    let old = Story::on(&ground.cluster).work(2);
    let slow =
        "-- check: slow, and only after the promotion\n-- expect: count(*) = 1\nSELECT pg_sleep(4), version FROM schema_migrations;\n";
    let check = scratch.file("checks/slow.sql", slow, 0o644);
    ground.pitr.set("check_user", CHECK_USER);
    ground.pitr.set("checks", vec![check.to_str().unwrap()]);

    let mut running = ground.pitr.spawn(&["restore", "--yes", "--before-xid", &migration.first_xid, "-o", "json"]);
    let said = || {
        let runs = std::fs::read_dir(ground.pitr.state.join("runs")).into_iter().flatten().flatten();
        runs.filter_map(|run| std::fs::read_to_string(run.path().join("server.log")).ok()).collect::<String>()
    };
    wait_until(120, "the private promotion", || {
        assert!(!running.ended(), "the run ended: {}", running.stderr());
        said().contains("archive recovery complete")
    });
    running.kill_9();
    ground.pitr.assert_nothing_left();

    let resumed = ground.pitr.json(&["resume", "--yes"]);
    assert_eq!(resumed["outcome"], "switched", "{resumed}");
    assert_eq!(resumed["checks"][0]["passed"], true, "{resumed}");
    assert_eq!(ground.facts(), migration.before.facts);
    assert_eq!(ground.cluster.sql("postgres", "SELECT timeline_id FROM pg_control_checkpoint()"), "2");
    ground.cluster.archive_caught_up();
    let undone = ground.pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{undone}");
    assert_eq!(ground.facts(), old.facts);
}
