//! Exact targets: what a plan says is kept and discarded is what stands there after the recovery, with writers around.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Child;

use serde_json::Value;

use crate::support::cluster::Builder;
use crate::support::program::as_postgres;
use crate::support::{Pitr, Scratch, TestCluster};

pub const DATABASE: &str = "aims";

/// A cluster whose table `journal` has one row per transaction, with that transaction's id.
pub struct Ground {
    pub cluster: TestCluster,
    pub pitr: Pitr,
}

impl Ground {
    fn new(scratch: &Scratch) -> Ground {
        Ground::with(scratch, TestCluster::builder(scratch, "main"))
    }

    pub fn with(scratch: &Scratch, builder: Builder<'_>) -> Ground {
        let cluster = builder.conf("max_prepared_transactions = 5").conf("autovacuum = off").start();
        cluster.sql("postgres", &format!("CREATE DATABASE {DATABASE}"));
        let tables =
            "CREATE TABLE journal (id bigserial PRIMARY KEY, xid bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint), note text);
            CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL DEFAULT 0);
            INSERT INTO accounts SELECT i FROM generate_series(1, 100) AS i";
        cluster.sql(DATABASE, tables);
        cluster.packed_basebackup("base-20261121.tar.gz", None);
        let mut pitr = Pitr::for_cluster(scratch, &cluster);
        pitr.set("database", DATABASE);
        Ground { cluster, pitr }
    }

    /// One transaction with one row; its id.
    pub fn write(&self, note: &str) -> String {
        self.cluster.sql(DATABASE, &format!("INSERT INTO journal (note) VALUES ('{note}') RETURNING xid"))
    }

    /// Writers on two connections until they are killed.
    fn writers(&self, scratch: &Scratch) -> Child {
        let script = scratch.file("writers.sql", "INSERT INTO journal (note) VALUES ('noise');\n", 0o644);
        let mut command = as_postgres(self.cluster.programs.bin.join("pgbench"));
        command.args(["-n", "-c", "2", "-T", "60", "-R", "200", "-f"]).arg(script);
        command
            .arg("-h")
            .arg(&self.cluster.socket.dir)
            .arg("-p")
            .arg(self.cluster.socket.port.to_string())
            .args(["-U", "postgres", DATABASE]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
    }

    pub fn has(&self, xid: &str) -> bool {
        self.cluster.sql(DATABASE, &format!("SELECT count(*) FROM journal WHERE xid = {xid}")) == "1"
    }

    pub fn archive(&self) -> &Path {
        self.cluster.archive.as_ref().unwrap()
    }

    /// Archived segments in order.
    pub fn segments(&self) -> Vec<PathBuf> {
        let mut segments: Vec<PathBuf> = fs::read_dir(self.archive()).unwrap().flatten().map(|entry| entry.path()).collect();
        segments.retain(|path| path.file_name().is_some_and(|name| name.len() == 24));
        segments.sort();
        segments
    }

    #[track_caller]
    pub fn refused(&self, target: &[&str], id: &str) -> String {
        let plan = self.pitr.json_code(3, &[&["plan"], target].concat());
        let reasons = plan["refusals"].as_array().unwrap();
        let reason = reasons.iter().find(|reason| reason["id"] == id).unwrap_or_else(|| panic!("no {id} in {plan:#}"));
        format!("{} {}", reason["what"].as_str().unwrap(), reason["hint"].as_str().unwrap())
    }
}

pub fn word(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_string()
}

/// Each kind of target, while others write: the last kept transaction is there, the first discarded is not, and the
/// report counts what was committed between plan and stop.
#[test]
fn each_target_lands_where_it_was_planned() {
    let scratch = Scratch::new("aims");
    let ground = Ground::new(&scratch);
    let mut writers = ground.writers(&scratch);
    // The backup's end is known by whole seconds: a time in the same one is refused.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let (first, middle) = (ground.write("first"), ground.write("middle"));
    std::thread::sleep(std::time::Duration::from_millis(20));
    let time = ground.cluster.now();
    std::thread::sleep(std::time::Duration::from_millis(20));
    ground.cluster.sql(DATABASE, "SELECT pg_create_restore_point('here')");
    let last = ground.write("last");

    let targets = [
        ("--to-xid", first.clone()),
        ("--before-xid", middle.clone()),
        ("--to-time", time.clone()),
        ("--before-time", time),
        ("--to-name", "here".to_string()),
    ];
    for (flag, value) in &targets {
        let plan = ground.pitr.json(&["plan", flag, value]);
        let (keeps, discards) = (word(&plan["target"]["keeps"]["xid"]), word(&plan["target"]["discards"]["xid"]));
        assert!(plan["target"]["lsn"].is_string(), "{plan}");
        match *flag {
            "--to-xid" => assert_eq!(keeps, first),
            "--before-xid" => assert_eq!(discards, middle),
            _ => {}
        }
        let restored = ground.pitr.json(&["restore", "--yes", flag, value]);
        assert_eq!(restored["outcome"], "switched", "{flag}: {restored}");
        assert!(ground.has(&keeps), "{flag} {value}: {keeps} is not there");
        assert!(!ground.has(&discards), "{flag} {value}: {discards} is there");
        assert!(!ground.has(&last), "{flag}");
        let (planned, real) = (&plan["loss"]["transactions"], &restored["loss"]["transactions"]);
        assert!(real.as_u64() >= planned.as_u64() && planned.as_u64() > Some(0), "{planned} {real}");
        assert_eq!(ground.pitr.json(&["undo", "--yes"])["outcome"], "undone");
        assert!(ground.has(&last));
    }
    let _ = writers.kill();
    let _ = writers.wait();

    // LSNs: of the record, of the place where one ends, and of the very end.
    let before = ground.cluster.wal_lsn();
    let next = ground.write("next");
    let end = ground.cluster.wal_lsn();
    let plan = ground.pitr.json(&["plan", "--before-lsn", &before]);
    assert_eq!(word(&plan["target"]["discards"]["xid"]), next);
    let commit = word(&plan["target"]["discards"]["lsn"]);
    let plan = ground.pitr.json(&["plan", "--to-lsn", &commit]);
    assert_eq!((word(&plan["target"]["keeps"]["xid"]), &plan["target"]["discards"]), (next.clone(), &Value::Null));
    assert_eq!(plan["loss"]["transactions"], 0);
    let restored = ground.pitr.json(&["restore", "--yes", "--before-lsn", &end]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert!(ground.has(&next));
}

/// What is no target is refused, with the way out.
#[test]
fn what_is_no_target_is_refused_with_the_choices() {
    let scratch = Scratch::new("no-aims");
    let ground = Ground::new(&scratch);
    let script = "BEGIN; INSERT INTO journal (note) VALUES ('top') RETURNING xid; SAVEPOINT a;
        INSERT INTO journal (note) VALUES ('sub'); SELECT xmin FROM journal WHERE note = 'sub'; COMMIT;";
    let said = ground.cluster.script(DATABASE, script);
    let numbers: Vec<&str> = said.lines().filter(|line| line.parse::<u64>().is_ok()).collect();
    let [top, sub] = numbers.as_slice() else { panic!("{said}") };
    assert_ne!(top, sub);
    let words = ground.refused(&["--before-xid", sub], "subtransaction");
    assert!(words.contains(&format!("--before-xid {top}")), "{words}");

    ground.cluster.sql(DATABASE, "SELECT pg_create_restore_point('twice')");
    ground.write("between");
    ground.cluster.sql(DATABASE, "SELECT pg_create_restore_point('twice')");
    let words = ground.refused(&["--to-name", "twice"], "restore-point-ambiguous");
    assert_eq!(words.matches("--to-lsn ").count(), 2, "{words}");
    ground.refused(&["--to-name", "never"], "target-not-found");
    ground.refused(&["--to-xid", "4000000"], "target-not-found");

    let mut open = ground.cluster.session(DATABASE);
    let running = open.sql("BEGIN; INSERT INTO journal (note) VALUES ('open') RETURNING xid");
    let running = running.lines().last().unwrap().to_string();
    ground.write("flushes it");
    ground.refused(&["--to-xid", &running], "transaction-in-progress");
    open.sql("PREPARE TRANSACTION 'later'");
    ground.refused(&["--before-xid", &running], "transaction-prepared");
    open.sql("COMMIT PREPARED 'later'");
    let plan = ground.pitr.json(&["plan", "--before-xid", &running]);
    assert_eq!(word(&plan["target"]["discards"]["xid"]), running);
    open.close();

    let words = ground.refused(&["--to-lsn", "FF/0"], "target-behind-wal");
    assert!(words.contains("--to-lsn 0/"), "{words}");
    let refused = ground.pitr.json_code(3, &["restore", "--yes", "--before-xid", top, "--max-loss", "1"]);
    assert_eq!(refused["refusals"][0]["id"], "max-loss", "{refused}");
    let now = ground.cluster.now();
    std::thread::sleep(std::time::Duration::from_millis(50));
    let plan = ground.pitr.json(&["plan", "--to-time", &now]);
    assert!(plan["target"]["lsn"].is_string() && plan["target"]["discards"].is_null(), "{plan}");
    assert!(word(&plan["target"]["note"]).contains("latest"), "{plan}");
}

/// A transaction that committed before the newest backup ended is recovered from the one before.
#[test]
fn an_older_backup_serves_an_older_transaction() {
    let scratch = Scratch::new("older");
    let ground = Ground::new(&scratch);
    let xid = ground.write("between the backups");
    ground.write("after it");
    ground.cluster.packed_basebackup("base-20261122.tar.gz", None);
    ground.write("at last");

    let plan = ground.pitr.json(&["plan", "--to-xid", &xid]);
    assert_eq!(plan["backup"]["name"], "base-20261121.tar.gz", "{plan}");
    assert_eq!(word(&plan["target"]["keeps"]["xid"]), xid);
    let words = ground.refused(&["--to-xid", &xid, "--backup", "base-20261122.tar.gz"], "target-not-found");
    assert!(words.contains(&xid), "{words}");
}

/// Rows per relation are what the workload did, also for a table that was truncated, rewritten or moved since.
#[test]
fn the_loss_is_what_the_workload_did() {
    let scratch = Scratch::new("loss");
    let ground = Ground::new(&scratch);
    let border = ground.write("border");
    ground.cluster.sql(DATABASE, "CREATE TABLE wide (id int PRIMARY KEY, body text); CREATE INDEX ON wide (body)");
    ground.cluster.sql(DATABASE, "INSERT INTO wide SELECT i, repeat(md5(i::text), 2) FROM generate_series(1, 50) AS i");
    ground.cluster.sql(DATABASE, "TRUNCATE wide");
    ground.cluster.sql(DATABASE, "INSERT INTO wide SELECT i, repeat(md5(i::text), 2) FROM generate_series(1, 30) AS i");
    ground.cluster.sql(DATABASE, "UPDATE accounts SET balance = 7 WHERE id <= 40; DELETE FROM accounts WHERE id > 90");
    ground.cluster.sql(DATABASE, "VACUUM FULL accounts");
    ground.cluster.sql(DATABASE, "INSERT INTO accounts VALUES (101), (102)");
    ground.cluster.sql(DATABASE, "TRUNCATE accounts");
    ground.cluster.sql(DATABASE, "INSERT INTO accounts VALUES (1)");
    // The catalogs know nothing of it any more.
    ground.cluster.sql(DATABASE, "CREATE SCHEMA old; CREATE TABLE old.gone (id int); INSERT INTO old.gone VALUES (1), (2), (3), (4)");
    ground.cluster.sql(DATABASE, "DROP SCHEMA old CASCADE");

    let plan = ground.pitr.json(&["plan", "--to-xid", &border]);
    let mut found = BTreeMap::new();
    for rows in plan["loss"]["relations"].as_array().unwrap() {
        assert_eq!(rows["database"], DATABASE);
        let counts = ["inserted", "updated", "deleted"].map(|key| rows[key].as_u64().unwrap());
        found.insert(word(&rows["name"]), counts);
    }
    let expected = [("old.gone", [4, 0, 0]), ("public.accounts", [3, 40, 10]), ("public.wide", [80, 0, 0])]
        .map(|(name, counts)| (name.to_string(), counts));
    assert_eq!(found, BTreeMap::from(expected));
    assert_eq!(plan["loss"]["transactions"], 11, "one for each statement sent");
}

/// A byte within a record, a segment that is gone: refused for what lies behind, with the command that reaches what
/// lies before, and that command works.
#[test]
fn damage_is_refused_with_the_furthest_point() {
    let scratch = Scratch::new("broken");
    let ground = Ground::new(&scratch);
    let early = ground.write("early");
    ground.cluster.sql(DATABASE, "INSERT INTO journal (note) SELECT repeat(md5(i::text), 30) FROM generate_series(1, 4000) AS i");
    let late = ground.write("late");
    ground.cluster.switch_wal();
    ground.cluster.archive_caught_up();
    ground.cluster.sql("postgres", "CHECKPOINT");
    let segments = ground.segments();
    let victim = segments[segments.len() - 3].clone();
    let name = victim.file_name().unwrap().to_str().unwrap().to_string();
    let _ = fs::remove_file(ground.cluster.data.join("pg_wal").join(&name));
    let whole = ground.pitr.json(&["verify", "wal"]);
    assert_eq!(whole["windows"][0]["backup"], "base-20261121.tar.gz", "{whole}");

    let mut file = OpenOptions::new().read(true).write(true).open(&victim).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(300_001)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(300_001)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
    let words = ground.refused(&["--to-xid", &late], "wal-damaged");
    assert!(words.contains(&name) && words.contains("--to-lsn "), "{words}");
    ground.refused(&["--to-latest"], "wal-damaged");
    let plan = ground.pitr.json(&["plan", "--to-xid", &early]);
    assert!(word(&plan["target"]["note"]).contains("damaged"), "{plan}");

    let broken = ground.pitr.json_code(6, &["verify", "wal"]);
    assert!(word(&broken["holes"][0]["what"]).contains(&format!("{name} is damaged")), "{broken}");

    fs::remove_file(&victim).unwrap();
    let broken = ground.pitr.json_code(6, &["verify", "wal", "--wal", ground.archive().to_str().unwrap()]);
    assert!(word(&broken["holes"][0]["what"]).contains(&format!("{name} is missing")), "{broken}");
    assert_eq!(broken["windows"].as_array().map(Vec::len), Some(2), "{broken}");
    let words = ground.refused(&["--to-xid", &late], "wal-gap");
    assert!(words.contains(&name), "{words}");
    let furthest = words.split("--to-lsn ").nth(1).unwrap().split(' ').next().unwrap().to_string();
    let plan = ground.pitr.json(&["plan", "--to-lsn", &furthest]);
    assert_eq!(word(&plan["target"]["lsn"]), furthest);
    let restored = ground.pitr.json(&["restore", "--yes", "--to-lsn", &furthest]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert!(ground.has(&early) && !ground.has(&late));
}

/// The log has the commits that `pg_waldump` finds, from the cluster and from a directory alone, and the filters find
/// what was done, also under a file that the relation no longer has.
#[test]
fn the_log_is_what_pg_waldump_says() {
    let scratch = Scratch::new("log");
    let ground = Ground::new(&scratch);
    let insert = ground.write("a line");
    ground.cluster.sql(DATABASE, "SELECT pg_create_restore_point('a point')");
    ground.cluster.sql(DATABASE, "INSERT INTO accounts VALUES (500); UPDATE accounts SET balance = 1 WHERE id < 6");
    let emptied = ground.cluster.sql(DATABASE, "TRUNCATE accounts; SELECT pg_current_xact_id()");
    let dropped = ground.cluster.sql(DATABASE, "DROP TABLE accounts; SELECT pg_current_xact_id()");
    let deleted = ground.cluster.sql(DATABASE, "DELETE FROM journal WHERE xid = 0 OR note = 'a line'; SELECT pg_current_xact_id()");
    let mut aborted = ground.cluster.session(DATABASE);
    let rolled_back = aborted.sql("BEGIN; INSERT INTO journal (note) VALUES ('never') RETURNING xid").lines().last().unwrap().to_string();
    aborted.sql("ROLLBACK");
    aborted.close();
    ground.cluster.switch_wal();
    ground.cluster.archive_caught_up();

    let segments = ground.segments();
    let mut waldump = as_postgres(ground.cluster.programs.bin.join("pg_waldump"));
    waldump.args(["-r", "Transaction", "-p"]).arg(ground.archive()).arg(segments[0].file_name().unwrap());
    let said = crate::support::program::ok(waldump.arg(segments.last().unwrap().file_name().unwrap()));
    let field = |line: &str, name: &str| line.split(name).nth(1).unwrap().trim_start().split([',', ' ']).next().unwrap().to_string();
    let lsn = |text: String| {
        let (high, low) = text.split_once('/').unwrap();
        format!("{high}/{:X}", u32::from_str_radix(low, 16).unwrap())
    };
    let commits = said.lines().filter(|line| line.contains("desc: COMMIT "));
    let expected: Vec<_> = commits.map(|line| (field(line, "tx:"), lsn(field(line, "lsn:")))).collect();
    assert!(expected.len() > 8, "{said}");

    let lines = |args: &[&str]| -> Vec<Value> {
        let said = ground.pitr.run(&[&["log", "-o", "json"], args].concat()).expect_code(0).stdout;
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let archive = ground.archive().to_str().unwrap();
    let committed = |lines: &[Value]| -> Vec<(String, String)> {
        let committed = lines.iter().filter(|line| line["kind"] == "committed");
        committed.map(|line| (word(&line["xid"]), word(&line["lsn"]))).collect()
    };
    assert_eq!(committed(&lines(&["--wal", archive])), expected);
    let all = lines(&[]);
    assert_eq!(committed(&all), expected);
    assert!(all.iter().any(|line| line["kind"] == "restore_point" && line["name"] == "a point"), "{all:?}");

    let xids = |args: &[&str]| -> Vec<String> { lines(args).iter().map(|line| word(&line["xid"])).collect() };
    assert_eq!(xids(&["-t", "journal", "--deletes"]), [deleted.as_str()]);
    assert!(xids(&["-t", "public.journal"]).contains(&insert));
    assert!(xids(&["--ddl", "--database", DATABASE]).ends_with(&[emptied.clone(), dropped.clone()]));
    let dump = |wanted: &str| lines(&["--xid", wanted]);
    assert_eq!(dump(&rolled_back)[0]["kind"], "aborted");
    let truncate = dump(&emptied);
    assert!(truncate[0]["relations"].as_array().unwrap().iter().any(|relation| relation["truncated"] == true), "{truncate:?}");
    assert_eq!(xids(&["--limit", "1"]).len(), 1);
    assert!(lines(&["--until", "1h"]).is_empty() && lines(&["--since", "1h"]).len() > expected.len() - 1);
    let page = ground.pitr.run(&["log", "-t", "journal"]).expect_code(0);
    assert!(page.stdout.contains("public.journal +1") && page.stderr.contains("timeline 1, WAL from"), "{}{}", page.stdout, page.stderr);
    assert_eq!(xids(&["-t", "accounts"]).last(), Some(&dropped), "a table that is there no longer");
}
