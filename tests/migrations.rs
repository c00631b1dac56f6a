//! Migrations of real tools while others write: found, gone back to before one of them, and looked at by the tool itself.
//!
//! A tool that no registry has is played: its statements, transaction by transaction, as its source has them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::busy::Busy;
use crate::support::story::{DATABASE, Story};
use crate::support::{Pitr, Scratch, TestCluster};

mod cargo;
mod debian;
mod node;
mod played;
mod python;
mod rows;

/// A cluster with a backup, a writer that never rests, and a tool's database.
pub struct Ground {
    /// The cluster.
    pub cluster: TestCluster,
    /// Configured for it.
    pub pitr: Pitr,
}

/// The database in which tools work.
pub const SHOP: &str = "shop";

impl Ground {
    /// Begins with a backup; the tool has not run yet.
    pub fn new(scratch: &Scratch) -> Ground {
        let cluster = TestCluster::builder(scratch, "main").conf("log_min_messages = warning").start();
        cluster.sql("postgres", "CREATE DATABASE shop");
        cluster.sql(SHOP, "CREATE TABLE environments (id bigint PRIMARY KEY, slug text NOT NULL)");
        cluster.sql(SHOP, "INSERT INTO environments SELECT i, 'Stage-' || i FROM generate_series(1, 50) AS i");
        Busy::prepare(&cluster, SHOP);
        cluster.cron_tarball("base-20261121.tar.gz", None);
        let mut pitr = Pitr::for_cluster(scratch, &cluster);
        pitr.set("database", SHOP);
        Ground { cluster, pitr }
    }

    /// Runs `steps` one after the other while others write; a checkpoint between them makes the next change of a page an
    /// image.
    pub fn busily(&self, steps: &mut [&mut dyn FnMut()]) {
        let busy = Busy::begin(&self.cluster, SHOP);
        for step in steps {
            self.cluster.sql(SHOP, "CHECKPOINT");
            busy.some_more();
            step();
            busy.some_more();
        }
        busy.end();
    }

    /// What `pitr migrations` lists.
    pub fn listed(&self, args: &[&str]) -> Vec<Value> {
        let document = self.pitr.json(&[&["migrations"], args].concat());
        document["migrations"].as_array().unwrap().clone()
    }

    /// Goes back to before `version`; exactly what committed before its first commit is there.
    pub fn back_to_before(&self, version: &str, args: &[&str]) -> Value {
        let listed = self.listed(args);
        let meant = |one: &&Value| one["version"] == version || one["name"] == version;
        let migration = listed.iter().rfind(meant).unwrap_or_else(|| panic!("{version} is not listed: {listed:#?}")).clone();
        assert_eq!(migration["recoverable"], true, "{migration:#}");
        let lsn = migration["lsn"].as_str().unwrap();
        let expected = Busy::committed_before(&self.cluster, SHOP, lsn);
        let all = Busy::rows(&self.cluster, SHOP);
        assert!(expected.len() > 3 && expected.len() < all.len(), "others wrote before and after: {} of {}", expected.len(), all.len());

        let restored = self.pitr.json(&[&["restore", "--yes", "--before-migration", version], args].concat());

        assert_eq!(restored["outcome"], "switched", "{restored:#}");
        let check = restored["checks"].as_array().unwrap().iter().find(|check| check["name"].as_str().unwrap().starts_with("migration "));
        assert_eq!(check.unwrap_or_else(|| panic!("no check was added: {restored:#}"))["passed"], true, "{restored:#}");
        let there: BTreeSet<String> = Busy::rows(&self.cluster, SHOP);
        let missing: Vec<_> = expected.difference(&there).collect();
        let too_much: Vec<_> = there.difference(&expected).collect();
        assert!(missing.is_empty() && too_much.is_empty(), "missing {missing:?}, too much {too_much:?}");
        self.pitr.assert_nothing_left();
        migration
    }
}

/// The runbook's own story: 121 to 125, back to before 123, by its number alone.
#[test]
fn golang_migrate_in_the_runbooks_story() {
    let scratch = Scratch::new("mig-story");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    story.work(3);
    cluster.cron_tarball("base-20261121.tar.gz", None);
    story.migrate(121);
    story.work(5);
    story.migrate(122);
    let lossy = story.migrate(123);
    story.work(5);
    story.migrate(124);
    story.migrate(125);
    let last = story.work(5);
    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.set("database", DATABASE);

    let listed = pitr.json(&["migrations"]);
    let told: Vec<_> =
        listed["migrations"].as_array().unwrap().iter().map(|m| (m["version"].as_str().unwrap(), m["how"].as_str().unwrap())).collect();
    assert_eq!(
        told,
        [("120", "not-in-wal"), ("121", "mark"), ("122", "mark"), ("123", "mark"), ("124", "mark"), ("125", "mark")],
        "{listed:#}"
    );
    assert_eq!(listed["migrations"][3]["xid"], lossy.first_xid);
    let changed: Vec<_> =
        listed["migrations"][3]["transactions"].as_array().unwrap().iter().flat_map(|t| t["relations"].as_array().unwrap()).collect();
    assert_eq!((&changed[0]["name"], &changed[0]["updated"]), (&"public.environments".into(), &400.into()), "{listed:#}");

    let plan = pitr.json(&["plan", "--before-migration", "000123"]);
    assert_eq!(plan["target"]["keeps"]["xid"], lossy.before.xid, "{plan:#}");
    assert_eq!(plan["target"]["discards"]["xid"], lossy.first_xid);
    let said = plan["consequences"].as_array().unwrap().iter().find(|c| c["id"] == "migrations-pending").unwrap();
    assert!(said["text"].as_str().unwrap().contains("123, 124, 125 pending"), "{said}");
    // Three commits of it, and what they changed beside the tool's own table.
    for (version, changed) in [("123", "public.environments (400 updated)"), ("125", "only definitions")] {
        let plan = pitr.json(&["plan", "--before-migration", version]);
        let instead = format!("migration {version} changed {changed}: it may be repaired without a recovery, which would discard ");
        assert!(plan["alternatives"].as_array().unwrap().iter().any(|a| a.as_str().unwrap().starts_with(&instead)), "{plan:#}");
    }

    let restored = pitr.json(&["restore", "--yes", "--before-migration", "123"]);
    assert_eq!(restored["outcome"], "switched", "{restored:#}");
    assert_eq!(restored["checks"][0]["rows"][0][0], "golang-migrate is at 122", "{restored:#}");
    assert_eq!(Story::on(&cluster).facts(), lossy.before.facts);
    pitr.json(&["undo", "--yes"]);
    assert_eq!(Story::on(&cluster).facts(), last.facts);

    let nearest = pitr.json_code(3, &["plan", "--before-migration", "126"]);
    assert_eq!(nearest["refusals"][0]["id"], "migration-not-found", "{nearest:#}");
    assert!(nearest["refusals"][0]["hint"].as_str().unwrap().contains("125"), "{nearest:#}");
    let unseen = pitr.json_code(3, &["plan", "--before-migration", "120"]);
    assert_eq!(unseen["refusals"][0]["id"], "migration-not-in-wal", "{unseen:#}");
    cluster.stop();
    let stopped = pitr.json_code(3, &["plan", "--before-migration", "123"]);
    assert_eq!(stopped["refusals"][0]["id"], "no-catalog", "{stopped:#}");
}
