//! `pitr log` against what a workload did: every filter, every kind of line, and names that only the WAL remembers.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Pitr, Scratch, TestCluster};

const DATABASE: &str = "shop";

/// A cluster whose archive holds every segment that was left.
struct Ground {
    cluster: TestCluster,
    pitr: Pitr,
}

impl Ground {
    fn new(scratch: &Scratch) -> Ground {
        let cluster = TestCluster::builder(scratch, "main").conf("max_prepared_transactions = 5").conf("autovacuum = off").start();
        cluster.sql("postgres", &format!("CREATE DATABASE {DATABASE}"));
        let pitr = Pitr::for_cluster(scratch, &cluster);
        Ground { cluster, pitr }
    }

    /// Runs a statement as a transaction; its id.
    fn sql(&self, statement: &str) -> String {
        self.cluster.sql(DATABASE, &format!("{statement}; SELECT pg_current_xact_id()")).lines().last().unwrap().to_string()
    }

    fn log(&self, args: &[&str]) -> Vec<Value> {
        let said = self.pitr.run(&[&["log", "-o", "json"], args].concat()).expect_code(0).stdout;
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn xids(&self, args: &[&str]) -> Vec<String> {
        self.log(args).iter().filter_map(|line| line["xid"].as_str().map(str::to_string)).collect()
    }

    fn archived(&self) {
        self.cluster.switch_wal();
        self.cluster.archive_caught_up();
    }

    fn archive(&self) -> &str {
        self.cluster.archive.as_ref().unwrap().to_str().unwrap()
    }
}

/// Names of relations that a line says were dropped, and those that it says were made.
fn defined(line: &Value, dropped: bool) -> BTreeSet<&str> {
    let definitions = line["definitions"].as_array().unwrap().iter().filter(|definition| definition["dropped"] == dropped);
    definitions.map(|definition| definition["name"].as_str().unwrap()).collect()
}

fn dropped(line: &Value) -> BTreeSet<&str> {
    defined(line, true)
}

/// Who dropped this table, and what is passed to `--before-xid`? The answer is executed, and the table is back.
#[test]
fn a_dropped_table_is_found_by_its_name_and_brought_back() {
    let scratch = Scratch::new("dropped");
    let ground = Ground::new(&scratch);
    let made =
        ground.sql("CREATE TABLE orders (id int PRIMARY KEY, body text); INSERT INTO orders SELECT i, 'x' FROM generate_series(1, 9) AS i");
    ground.sql("CREATE SCHEMA app; CREATE TABLE app.items (id int); CREATE TABLE app.\"Odd one\" (id int); CREATE VIEW app.seen AS SELECT 1 AS one");
    ground.cluster.packed_basebackup("base-20261121.tar.gz", None);
    let last = ground.sql("INSERT INTO orders VALUES (10, 'the last')");
    let emptied = ground.sql("TRUNCATE orders; INSERT INTO orders VALUES (11, 'after')");
    let mut careful = ground.cluster.session(DATABASE);
    careful.sql("BEGIN; DROP TABLE orders");
    careful.sql("ROLLBACK");
    careful.close();
    let culprit = ground.sql("DROP TABLE orders");
    // A table of the same name hides nothing.
    let again = ground.sql("CREATE TABLE orders (other int)");
    let cascade = ground.sql("DROP SCHEMA app CASCADE");
    let inner = ground.cluster.script(
        DATABASE,
        "CREATE TABLE inner_one (id int); CREATE TABLE passing (id int);
        BEGIN; SELECT pg_current_xact_id(); SAVEPOINT a; DROP TABLE inner_one; RELEASE a; CREATE TABLE gone (id int); DROP TABLE gone;
        ALTER TABLE passing ALTER id TYPE bigint; COMMIT;",
    );
    let inner = inner.lines().find(|line| line.parse::<u64>().is_ok()).unwrap().to_string();
    ground.archived();

    let lines = ground.log(&["-t", "orders", "--ddl"]);
    let of = |xid: &str| lines.iter().find(|line| line["xid"] == xid).unwrap_or_else(|| panic!("no {xid} in {lines:#?}"));
    assert_eq!(ground.xids(&["-t", "orders", "--ddl"]), [&made, &emptied, &culprit, &again].map(String::as_str));
    assert_eq!(dropped(of(&culprit)), ["public.orders"].into());
    assert_eq!(defined(of(&again), false), ["public.orders"].into());
    assert_eq!(dropped(of(&emptied)), [].into(), "a file that is replaced is no table that is dropped");
    let page = ground.pitr.run(&["log", "-t", "public.orders", "--ddl"]).expect_code(0);
    assert!(page.stdout.contains("DDL; dropped public.orders"), "{}", page.stdout);

    // Rows of the dropped table have its name, in the cluster and without any.
    for source in [&[][..], &["--wal", ground.archive()]] {
        let lines = ground.log(&[&["--xid", &last], source].concat());
        assert_eq!(lines[0]["relations"][0]["name"], "public.orders", "{lines:?}");
        let lines = ground.log(&[&["--xid", &cascade], source].concat());
        assert_eq!(dropped(&lines[0]), ["app.items", "app.\"Odd one\"", "app.seen"].into(), "{lines:?}");
        let lines = ground.log(&[&["--xid", &inner], source].concat());
        assert_eq!(dropped(&lines[0]), ["public.inner_one"].into(), "{lines:?}");
        assert!(defined(&lines[0], false).is_empty(), "{lines:?}");
        let by_name = ground.xids(&[&["-t", "app.items", "--ddl"], source].concat());
        assert_eq!(by_name.last(), Some(&cascade));
    }
    let unknown = ground.pitr.run(&["log", "-t", "nobody_made_it"]).expect_code(2);
    assert!(unknown.stderr.contains("the WAL tells of none"), "{}", unknown.stderr);

    let plan = ground.pitr.json(&["plan", "--before-xid", &culprit]);
    assert_eq!(plan["target"]["discards"]["xid"], culprit.as_str());
    assert_eq!(plan["target"]["keeps"]["xid"], emptied.as_str());
    let restored = ground.pitr.json(&["restore", "--yes", "--before-xid", &culprit]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(ground.cluster.sql(DATABASE, "SELECT string_agg(body, ' ') FROM orders"), "after");

    // Two timelines now: what serves, and what was left.
    ground.sql("INSERT INTO orders VALUES (12, 'on the new timeline')");
    ground.archived();
    let kinds = |args: &[&str]| -> Vec<String> { ground.log(args).iter().map(|line| line["kind"].as_str().unwrap().to_string()).collect() };
    assert!(kinds(&[]).contains(&"timeline".to_string()));
    assert!(!ground.xids(&["-t", "orders", "--ddl"]).contains(&culprit));
    assert!(!kinds(&["--timeline", "1"]).contains(&"timeline".to_string()));
    assert!(ground.xids(&["-t", "orders", "--ddl", "--timeline", "1"]).contains(&culprit));
}

/// Each filter alone and some together.
#[test]
fn each_filter_leaves_what_the_workload_did() {
    let scratch = Scratch::new("filters");
    let ground = Ground::new(&scratch);
    ground.cluster.sql("postgres", "CREATE DATABASE other");
    ground.sql("CREATE TABLE orders (id int PRIMARY KEY, n int); CREATE TABLE lines (id int)");
    ground.cluster.sql("other", "CREATE TABLE orders (id int)");
    let pause = || std::thread::sleep(std::time::Duration::from_millis(20));
    pause();
    let begin = ground.cluster.now();
    pause();
    let inserted = ground.sql("INSERT INTO orders SELECT i, 0 FROM generate_series(1, 30) AS i");
    let updated = ground.sql("UPDATE orders SET n = 1 WHERE id <= 12");
    ground.cluster.sql(DATABASE, "SELECT pg_create_restore_point('a point')");
    let mut two = ground.cluster.session(DATABASE);
    let prepare = |session: &mut crate::support::psql::Session, statement: &str, name: &str| {
        let said = session.sql(&format!("BEGIN; {statement}; SELECT pg_current_xact_id()")).lines().last().unwrap().to_string();
        session.sql(&format!("PREPARE TRANSACTION '{name}'"));
        said
    };
    let kept = prepare(&mut two, "INSERT INTO lines VALUES (1), (2)", "kept");
    let lost = prepare(&mut two, "INSERT INTO lines VALUES (3)", "lost");
    two.close();
    pause();
    let middle = ground.cluster.now();
    pause();
    ground.cluster.sql(DATABASE, "COMMIT PREPARED 'kept'");
    ground.cluster.sql(DATABASE, "ROLLBACK PREPARED 'lost'");
    let deleted = ground.sql("DELETE FROM orders WHERE id > 25");
    let elsewhere = ground.cluster.sql("other", "INSERT INTO orders VALUES (1); SELECT pg_current_xact_id()");
    let altered = ground.sql("ALTER TABLE orders ADD COLUMN more int");
    let emptied = ground.sql("TRUNCATE lines");
    ground.archived();

    let own = ["--since", &begin];
    let with = |more: &[&str]| ground.xids(&[&own[..], more].concat());
    let all = [&inserted, &updated, &kept, &lost, &kept, &deleted, &elsewhere, &altered, &emptied].map(String::clone);
    assert_eq!(with(&[]), all, "a prepared transaction has two lines, one that was rolled back its first");
    let lines = ground.log(&own);
    let kinds: Vec<&str> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    let expected = ["committed", "committed", "restore_point", "prepared", "prepared"];
    assert_eq!(kinds[..5], expected);
    assert!(kinds[5..].iter().all(|kind| *kind == "committed"), "{kinds:?}");
    assert_eq!((&lines[2]["name"], &lines[3]["name"], &lines[5]["name"]), (&"a point".into(), &"kept".into(), &"kept".into()));

    assert_eq!(with(&["--until", &middle]), all[..4]);
    assert_eq!(ground.xids(&["--since", &middle]), all[4..]);
    assert_eq!(ground.xids(&["--around", &middle])[ground.xids(&["--until", &begin]).len()..], all);
    assert_eq!(ground.xids(&["--around", "1d"]), [] as [String; 0]);
    assert_eq!(with(&["--database", "other"]), [elsewhere.as_str()]);
    assert_eq!(with(&["--deletes"]), [deleted.as_str(), &emptied]);
    assert_eq!(with(&["--ddl"]), [altered.as_str(), &emptied]);
    assert_eq!(with(&["-t", "orders"]), [&inserted, &updated, &deleted, &elsewhere, &altered].map(String::as_str));
    assert_eq!(with(&["-t", "orders", "--database", DATABASE, "--deletes"]), [deleted.as_str()]);
    assert_eq!(with(&["-t", "lines"]), [kept.as_str(), &emptied], "what was rolled back changed nothing");
    assert_eq!(ground.xids(&["--xid", &kept]), [kept.as_str(), &kept]);
    let rolled_back = ground.log(&["--xid", &lost]);
    assert_eq!(rolled_back.iter().map(|line| line["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["prepared", "aborted"]);
    assert_eq!(with(&["--limit", "2"]), [altered.as_str(), &emptied]);
    let page = ground.pitr.run(&["log", "--limit", "2"]).expect_code(0);
    assert!(page.stderr.contains("left out by --limit"), "{}", page.stderr);

    let counts = |xid: &str| {
        let line = ground.log(&["--xid", xid]).pop().unwrap();
        let relation = &line["relations"][0];
        let number = |key: &str| relation[key].as_u64().unwrap();
        (
            relation["name"].as_str().unwrap().to_string(),
            number("inserted"),
            number("updated"),
            number("deleted"),
            relation["truncated"] == true,
        )
    };
    let expected = |name: &str, inserted, updated, deleted, truncated| (format!("public.{name}"), inserted, updated, deleted, truncated);
    assert_eq!(counts(&inserted), expected("orders", 30, 0, 0, false));
    assert_eq!(counts(&updated), expected("orders", 0, 12, 0, false));
    assert_eq!(counts(&deleted), expected("orders", 0, 0, 5, false));
    assert_eq!(counts(&kept), expected("lines", 2, 0, 0, false));
    assert_eq!(counts(&emptied), expected("lines", 0, 0, 0, true));
}
