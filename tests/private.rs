//! The private server: what it says, what is asked of it, and what is done on it while nobody else sees it.

use std::fs;

use crate::support::scratch::Scratch;
use crate::support::stand::{Serves, Stand};
use crate::support::story::{self, DATABASE};
use crate::support::{Pitr, Story, TestCluster};

/// The lines of the private server's log are lost, all of them: that it stands at the target is asked of it.
#[test]
fn a_log_that_says_nothing_is_not_waited_for() {
    let scratch = Scratch::new("silent");
    let stand = Stand::new(&scratch, TestCluster::builder(&scratch, "main"));
    stand.reset();
    let mut running = stand.pitr.spawn(&stand.restore());
    let runs = stand.pitr.state.join("runs");
    while !running.ended() {
        // An empty file in place of what was said: the server appends, and what is read stands behind its end.
        for run in fs::read_dir(&runs).into_iter().flatten().flatten() {
            if let Ok(log) = fs::OpenOptions::new().write(true).open(run.path().join("server.log")) {
                log.set_len(0).unwrap();
            }
        }
    }
    let document = running.wait().expect_code(0).json();
    assert_eq!(document["outcome"], "switched", "{document}");
    stand.assert_serves(Serves::New);
    stand.halt();
}

/// An enabled subscription is disabled and named; one in a database that nobody can connect to is named and no obstacle.
#[test]
fn subscriptions_are_disabled_where_anybody_can() {
    let scratch = Scratch::new("subscriptions");
    let cluster = TestCluster::builder(&scratch, "main").conf("wal_retrieve_retry_interval = '1h'").start();
    let story = Story::begin(&cluster);
    cluster.sql("postgres", "CREATE DATABASE broken");
    for database in [DATABASE, "broken"] {
        let make = "CREATE SUBSCRIPTION \"Sub \"\"x\"\"\" CONNECTION 'host=/nowhere' PUBLICATION p \
                    WITH (connect = false, enabled = false, create_slot = false, slot_name = 's')";
        cluster.sql(database, &make.replace("x", database));
        cluster.sql(database, &format!("ALTER SUBSCRIPTION \"Sub \"\"{database}\"\"\" ENABLE"));
    }
    // As a DROP DATABASE leaves it that was interrupted.
    cluster.sql("postgres", "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'broken'");
    cluster.cron_tarball("base-20261121.tar.gz", None);
    let target = story.work(3);
    story.work(1);
    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.set("database", DATABASE);

    let restored = pitr.json(&["restore", "--yes", "--before-lsn", &target.lsn]);

    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(story::facts(&cluster, DATABASE), target.facts);
    let enabled = cluster.sql("postgres", "SELECT datname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE subenabled");
    assert_eq!(enabled, "broken");
    let journal = fs::read_to_string(pitr.state.join("runs").join(restored["run"].as_str().unwrap()).join("journal")).unwrap();
    assert!(journal.contains("broken") && journal.contains("nobody can connect to its database broken"), "{journal}");
    assert!(journal.contains(&format!("{DATABASE}.Sub ")), "{journal}");
}
