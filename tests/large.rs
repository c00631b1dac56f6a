//! Large segments with very many transactions: memory stays bounded, and all is told as of small ones.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::program::Output;
use crate::support::{Pitr, Scratch, TestCluster};

/// KiB that no process may need, whatever it reads.
const BOUND: u64 = 256 << 10;

struct Ground {
    cluster: TestCluster,
    pitr: Pitr,
    used: PathBuf,
}

impl Ground {
    /// Runs `pitr ARGS`, none of whose processes may need more memory than the bound.
    #[track_caller]
    fn run(&mut self, args: &[&str]) -> Output {
        let words = ["/usr/bin/time", "-q", "-f", "%M", "-o", self.used.to_str().unwrap()];
        self.pitr.within(words.map(str::to_string).to_vec());
        let said = self.pitr.run(args);
        self.pitr.within(vec![]);
        let used: u64 = fs::read_to_string(&self.used).unwrap().trim().parse().unwrap();
        assert!(used > 1000 && used < BOUND, "{args:?} needed {used} KiB");
        said
    }

    fn json(&mut self, code: i32, args: &[&str]) -> Value {
        self.run(&[args, &["-o", "json"]].concat()).expect_code(code).json()
    }
}

/// 250,000 transactions in two segments of 64 MiB.
#[test]
fn very_many_transactions_in_large_segments() {
    const MANY: u64 = 250_000;
    let scratch = Scratch::new("large");
    let builder = TestCluster::builder(&scratch, "main").segment_mib(64).conf("wal_init_zero = off").conf("wal_recycle = off");
    let cluster = builder.conf("synchronous_commit = off").conf("fsync = off").start();
    cluster.sql("postgres", "CREATE TABLE t (n int)");
    cluster.basebackup_plain("plain");
    let first = cluster.sql("postgres", "BEGIN; INSERT INTO t VALUES (0); SELECT pg_current_xact_id(); COMMIT");
    cluster.sql("postgres", &format!("DO $$ BEGIN FOR n IN 1..{MANY} LOOP INSERT INTO t VALUES (n); COMMIT; END LOOP; END $$"));
    let last = cluster.sql("postgres", "BEGIN; DELETE FROM t WHERE n = 7; SELECT pg_current_xact_id(); COMMIT");
    let segment = cluster.switch_wal();
    cluster.archive_caught_up();
    let pitr = Pitr::for_cluster(&scratch, &cluster);
    let mut ground = Ground { cluster, pitr, used: scratch.path().join("used") };

    let plan = ground.json(0, &["plan", "--before-xid", &first]);
    assert_eq!(plan["loss"]["transactions"], MANY + 2, "{:#}", plan["loss"]);
    let rows = &plan["loss"]["relations"][0];
    assert_eq!((&rows["name"], &rows["inserted"], &rows["deleted"]), (&"public.t".into(), &(MANY + 1).into(), &1.into()), "{rows}");
    let proof = ground.json(0, &["verify", "wal"]);
    assert_eq!(proof["whole"], true, "{proof:#}");
    let told = ground.run(&["log", "-t", "t", "--deletes", "-o", "json"]).expect_code(0).stdout;
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.iter().map(|line| &line["xid"]).collect::<Vec<_>>(), [&Value::from(last.as_str())]);
    let restored = ground.pitr.json(&["restore", "--yes", "--before-xid", &last]);
    assert_eq!(restored["outcome"], "switched", "{restored:#}");
    assert_eq!(restored["loss"]["transactions"], 1);
    assert_eq!(ground.cluster.sql("postgres", "SELECT count(*) FROM t"), (MANY + 1).to_string());

    // A byte of a record, in the archive and in what was put aside.
    let archive = ground.cluster.archive.clone().unwrap();
    ground.pitr.json(&["purge", "--all", "--yes"]);
    let victim = fs::OpenOptions::new().read(true).write(true).open(archive.join(&segment)).unwrap();
    let (mut byte, at) = ([0], 100_000);
    victim.read_exact_at(&mut byte, at).unwrap();
    victim.write_all_at(&[byte[0] ^ 0x20], at).unwrap();
    let proof = ground.json(6, &["verify", "wal", "--wal", archive.to_str().unwrap()]);
    let hole = &proof["holes"][0];
    assert!(hole["what"].as_str().unwrap().contains(&format!("segment {segment} is damaged at ")), "{proof:#}");
    let refused = ground.json(3, &["plan", "--timeline", "1", "--to-xid", &last]);
    assert!(refused["refusals"].to_string().contains("wal-damaged"), "{refused:#}");
}
