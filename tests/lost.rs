//! What a recovery discarded, as the report says it afterwards: counted after the stop on the timeline that served, whatever
//! timeline the target is on.

use serde_json::Value;

use crate::support::{Pitr, Scratch, TestCluster};

struct Ground {
    cluster: TestCluster,
    pitr: Pitr,
}

impl Ground {
    fn rows(&self) -> String {
        self.cluster.sql(
            "postgres",
            "SELECT string_agg(format('%s %s', kind, n), ', ' ORDER BY kind) FROM (SELECT kind, count(*) AS n FROM t GROUP BY 1) g",
        )
    }

    /// A transaction that inserts so many rows; its id.
    fn insert(&self, kind: &str, rows: u32) -> String {
        let insert = format!("INSERT INTO t SELECT '{kind}' FROM generate_series(1, {rows})");
        self.cluster.sql("postgres", &format!("BEGIN; {insert}; SELECT pg_current_xact_id(); COMMIT"))
    }

    /// Transactions, and rows inserted and deleted of `public.t`; as the plan counted, the run, and the report.
    #[track_caller]
    fn restore(&self, target: &[&str], expected: (u64, u64, u64)) {
        let counted = |loss: &Value| {
            let rows = loss["relations"].as_array().unwrap().iter().find(|r| r["name"] == "public.t").cloned().unwrap_or_default();
            let number = |key: &str| rows[key].as_u64().unwrap_or(0);
            (loss["transactions"].as_u64().unwrap(), number("inserted"), number("deleted"))
        };
        let plan = self.pitr.json(&[&["plan"], target].concat());
        assert_eq!(counted(&plan["loss"]), expected, "{:#}", plan["loss"]);
        let done = self.pitr.json(&[&["restore", "--yes"], target].concat());
        assert_eq!(done["outcome"], "switched", "{done:#}");
        assert_eq!(counted(&done["loss"]), expected, "{:#}", done["loss"]);
        assert_eq!(done["loss"], plan["loss"], "nothing was added meanwhile");
        let report = self.pitr.json(&["report"]);
        assert_eq!(report["loss"], done["loss"], "{report:#}");
    }
}

/// A cluster that goes to a branch that was left, and then to before both: what the other branches have is not counted, what
/// the serving one has is, also where its WAL was never archived.
#[test]
fn what_is_discarded_is_counted_on_the_timeline_that_served() {
    let scratch = Scratch::new("lost");
    let cluster = TestCluster::builder(&scratch, "main").segment_mib(1).conf("autovacuum = off").archiver_switch().start();
    cluster.sql("postgres", "CREATE TABLE t (kind text)");
    cluster.basebackup_plain("plain");
    let pitr = Pitr::for_cluster(&scratch, &cluster);
    let ground = Ground { cluster, pitr };
    ground.insert("0", 1);
    let early = ground.cluster.wal_lsn();
    ground.insert("a", 10);
    let fork = ground.cluster.wal_lsn();
    ground.cluster.switch_wal();
    let left = ground.insert("b", 20);
    ground.insert("b later", 2);
    ground.restore(&["--before-lsn", &fork], (2, 22, 0));
    assert_eq!(ground.rows(), "0 1, a 10");

    ground.cluster.archive_caught_up();
    ground.cluster.fail_archiving(true);
    ground.insert("c", 7);
    ground.cluster.switch_wal();
    ground.cluster.sql("postgres", "DELETE FROM t WHERE kind = 'a'");
    // To where timeline 1 was left behind: it is timeline 2 that is discarded.
    ground.restore(&["--timeline", "1", "--to-xid", &left], (2, 7, 10));
    assert_eq!(ground.rows(), "0 1, a 10, b 20");

    ground.insert("d", 5);
    ground.cluster.sql("postgres", "DELETE FROM t WHERE kind = 'b'");
    ground.cluster.fail_archiving(false);
    // To a place that all of them share: what led to the serving one, and nothing of timeline 2.
    ground.restore(&["--timeline", "1", "--before-lsn", &early], (4, 35, 20));
    assert_eq!(ground.rows(), "0 1");

    // To the last record of all: nothing.
    ground.insert("e", 3);
    ground.restore(&["--to-latest"], (0, 0, 0));
    assert_eq!(ground.rows(), "0 1, e 3");
    let said = ground.pitr.run(&["report"]).expect_code(0).stdout;
    assert!(said.contains("No committed transaction"), "{said}");
}
