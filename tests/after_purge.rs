//! What a purge leaves: undo is refused wherever the way back is gone, WAL that stood nowhere else is kept byte for byte and
//! serves later recoveries, and an interrupted purge goes on and nothing else does.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::program::{self, program};
use crate::support::scratch::make_dir;
use crate::support::story::{self, DATABASE, Facts, Point};
use crate::support::{Pitr, Scratch, Story, TestCluster};

/// A cluster with a backup, whose archiver can be made to fail.
struct Ground {
    cluster: TestCluster,
    pitr: Pitr,
}

impl Ground {
    fn new(scratch: &Scratch) -> Ground {
        let cluster = TestCluster::builder(scratch, "main").archiver_switch().start();
        Story::begin(&cluster);
        cluster.cron_tarball("base-20261121.tar.gz", None);
        let mut pitr = Pitr::for_cluster(scratch, &cluster);
        pitr.set("database", DATABASE);
        Ground { cluster, pitr }
    }

    /// Work over some segments; the point after it.
    #[track_caller]
    fn work(&self) -> Point {
        let story = Story::on(&self.cluster);
        story.work(5);
        self.cluster.switch_wal();
        story.work(3)
    }

    /// Restores to right after `point` and returns the run's id.
    #[track_caller]
    fn restore(&self, point: &Point) -> String {
        let restored = self.pitr.json(&["restore", "--yes", "--before-lsn", &point.lsn]);
        assert_eq!(restored["outcome"], "switched", "{restored}");
        assert_eq!(self.facts(), point.facts, "not the rows of {}", point.lsn);
        word(&restored["run"]).to_string()
    }

    fn facts(&self) -> Facts {
        story::facts(&self.cluster, DATABASE)
    }

    fn timeline(&self) -> u64 {
        self.cluster.sql("postgres", "SELECT timeline_id FROM pg_control_checkpoint()").parse().unwrap()
    }

    /// `undo` with these words is refused for `reason`, and afterwards the cluster serves as before.
    #[track_caller]
    fn undo_refused(&self, words: &[&str], reason: &str) {
        let (facts, pid, asides) = (self.facts(), self.cluster.postmaster_pid(), self.asides());
        let said = self.pitr.run(&[&["undo", "--yes", "-o", "json"], words].concat()).expect_code(3);
        let document = said.json();
        assert_eq!((&document["outcome"], &document["changed"]), (&"refused".into(), &false.into()), "{document}");
        assert!(said.stderr.contains(reason), "{}", said.stderr);
        assert_eq!((self.facts(), self.cluster.postmaster_pid(), self.asides()), (facts, pid, asides), "it was not left alone");
    }

    /// Runs' directories beside PGDATA, with who owns each.
    fn asides(&self) -> Vec<(String, u32)> {
        use std::os::unix::fs::MetadataExt;
        let entries = fs::read_dir(self.cluster.parent()).unwrap().flatten();
        let mut found: Vec<_> = entries.map(|e| (e.file_name().to_string_lossy().into_owned(), e.metadata().unwrap().uid())).collect();
        found.retain(|(name, _)| name.starts_with(".pitr-"));
        found.sort();
        found
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a word: {value}"))
}

/// The newest run was purged: neither it nor the one below it can go back, by whatever words. Nothing says that it did.
#[test]
fn an_undo_below_a_purged_run_is_refused() {
    let scratch = Scratch::new("below-purged");
    let ground = Ground::new(&scratch);
    let early = ground.work();
    let late = ground.work();
    ground.work();
    let first = ground.restore(&late);
    let second = ground.restore(&early);
    let purged = ground.pitr.json(&["purge", &second, "--yes"]);
    assert_eq!((&purged["outcome"], &purged["changed"]), (&"removed".into(), &true.into()), "{purged}");

    ground.undo_refused(&[], "deleted by a purge");
    ground.undo_refused(&[&first], "deleted by a purge");
    ground.undo_refused(&[&second], "was purged");

    // The state directory lost the later run: PGDATA itself says that it is not the first one's.
    fs::remove_dir_all(ground.pitr.state.join("runs").join(&second)).unwrap();
    let before = (ground.facts(), ground.cluster.postmaster_pid(), ground.asides());
    let hands = ground.pitr.json_code(4, &["undo", "--yes"]);
    assert_ne!(hands["outcome"], "undone", "{hands}");
    assert!(word(&hands["error"]["what"]).contains("is not the cluster that run"), "{hands}");
    assert_eq!((ground.facts(), ground.cluster.postmaster_pid(), ground.asides()), before, "it was not left alone");
}

/// A later run that was undone and purged stands in nobody's way; `--timeline latest` never follows a dead branch.
#[test]
fn a_purge_after_an_undo_leaves_the_way_back_and_the_right_latest_timeline() {
    let scratch = Scratch::new("undone-purged");
    let ground = Ground::new(&scratch);
    let early = ground.work();
    let late = ground.work();
    let all = ground.work();
    let first = ground.restore(&late);
    let second = ground.restore(&early);
    assert_eq!(ground.timeline(), 3);
    ground.work();
    ground.cluster.archive_caught_up();
    let undone = ground.pitr.json(&["undo", "--yes"]);
    assert_eq!((&undone["outcome"], word(&undone["run"])), (&"undone".into(), second.as_str()), "{undone}");
    assert_eq!((ground.facts(), ground.timeline()), (late.facts.clone(), 4));
    assert_eq!(ground.pitr.json(&["purge", &second, "--yes"])["outcome"], "removed");

    // 3 is a dead branch, and its history is in the archive; the serving cluster is on 4.
    let planned = ground.pitr.json(&["plan", "--timeline", "latest", "--before-lsn", &early.lsn]);
    assert_eq!(planned["target"]["timeline"], 4, "{planned}");

    let undone = ground.pitr.json(&["undo", "--yes"]);
    assert_eq!((&undone["outcome"], word(&undone["run"])), (&"undone".into(), first.as_str()), "{undone}");
    assert_eq!(ground.facts(), all.facts);
    assert_eq!(ground.pitr.json(&["purge", "--all", "--yes"])["outcome"], "removed");
    let serving = ground.timeline();
    ground.cluster.archive_caught_up();
    let planned = ground.pitr.json(&["plan", "--timeline", "latest", "--before-lsn", &late.lsn]);
    assert_eq!(planned["target"]["timeline"], serving, "{planned}");
    assert_eq!(ground.asides(), []);
}

/// What only the aside had is in `runs/<id>/wal` after the purge, byte for byte, and a recovery to behind the fork uses it.
#[test]
fn wal_kept_by_a_purge_is_the_asides_and_serves_a_later_recovery() {
    let scratch = Scratch::new("kept-wal");
    let ground = Ground::new(&scratch);
    let target = ground.work();
    ground.cluster.archive_caught_up();
    ground.cluster.fail_archiving(true);
    ground.work();
    let lost = ground.work();
    let run = ground.restore(&target);
    ground.cluster.fail_archiving(false);
    ground.work();
    ground.cluster.archive_caught_up();
    let aside = ground.cluster.parent().join(format!(".pitr-{run}/data"));
    let archive = ground.cluster.archive.clone().unwrap();
    let only_there = segments(&aside.join("pg_wal"), &last_segment(&ground, &aside), |name| !archive.join(name).exists());
    assert!(only_there.len() >= 2, "the story needs WAL that is nowhere else: {:?}", only_there.keys());

    // An earlier purge was killed when it had made the directory and not yet given it away.
    let kept = make_dir(&ground.pitr.state.join("runs").join(&run).join("wal"), "root", "root", 0o700);
    assert_eq!(ground.pitr.json(&["purge", &run, "--yes"])["outcome"], "removed");

    for (name, bytes) in &only_there {
        let copy = fs::read(kept.join(name)).unwrap_or_else(|e| panic!("{name} was not kept: {e}"));
        assert!(copy == *bytes, "{name} is not what the aside had");
    }
    assert!(!aside.exists());
    let restored = ground.pitr.json(&["restore", "--yes", "--timeline", "1", "--before-lsn", &lost.lsn]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(ground.facts(), lost.facts, "not the rows that only the kept WAL has");
}

/// Name of the last segment that has a record, by the cluster's own pg_control.
fn last_segment(ground: &Ground, data: &Path) -> String {
    let said = program::ok(program(ground.cluster.programs.bin.join("pg_controldata")).env("LC_ALL", "C").arg("-D").arg(data));
    let line = said.lines().find_map(|line| line.strip_prefix("Latest checkpoint's REDO WAL file:")).unwrap_or_else(|| panic!("{said}"));
    line.trim().to_string()
}

/// The segments of a pg_wal up to `last` (behind it stand old files under new names), as far as `wanted`.
fn segments(pg_wal: &Path, last: &str, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Vec<u8>> {
    let names = fs::read_dir(pg_wal).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let names = names.filter(|name| name.len() == 24 && name.as_str() <= last && wanted(name));
    names.map(|name| (name.clone(), fs::read(pg_wal.join(&name)).unwrap())).collect()
}

/// A purge that was killed: before the deleting began the way back is open; from then on only the purge goes on.
#[cfg(feature = "crash-points")]
#[test]
fn a_half_purged_aside_never_comes_back() {
    let scratch = Scratch::new("half-purged");
    let ground = Ground::new(&scratch);
    let early = ground.work();
    let late = ground.work();
    let all = ground.work();
    let first = ground.restore(&late);

    ground.pitr.crash_at("applied keep-wal", &["purge", &first, "--yes"]);
    let status = ground.pitr.json(&["status"]);
    let next = serde_json::json!([format!("pitr purge {first}"), format!("pitr undo {first}")]);
    assert_eq!(status["clusters"][0]["run"]["next"], next, "{status}");
    assert_eq!(ground.pitr.json(&["undo", "--yes"])["outcome"], "undone");
    assert_eq!(ground.facts(), all.facts);

    let run = ground.restore(&early);
    let beside = ground.cluster.parent().join(format!(".pitr-{run}"));
    ground.pitr.crash_at("before a deletion", &["purge", &run, "--yes"]);
    let journal = fs::read_to_string(ground.pitr.state.join("runs").join(&run).join("journal")).unwrap();
    assert!(journal.lines().next_back().unwrap().contains("\"removing\"") && beside.join("data/global/pg_control").exists());
    // The deleting itself was killed half way.
    for part in ["global", "base", "pg_wal", "PG_VERSION"] {
        program::ok(program("rm").arg("-r").arg(beside.join("data").join(part)));
    }

    half_purged(&ground, &run);
    assert_eq!(ground.pitr.json(&["purge", &run, "--yes"])["outcome"], "removed");
    assert!(!beside.exists());
    let status = ground.pitr.json(&["status"]);
    assert!(status["clusters"][0]["run"].is_null(), "{status}");
    assert_eq!(ground.facts(), early.facts);
    ground.undo_refused(&[&run], "was purged");
}

/// After an undo it is the recovered cluster that is deleted: killed when its pg_control was gone, the purge goes on.
#[cfg(feature = "crash-points")]
#[test]
fn a_half_purged_recovered_cluster_is_purged() {
    let scratch = Scratch::new("half-undone");
    let ground = Ground::new(&scratch);
    let early = ground.work();
    let all = ground.work();
    let run = ground.restore(&early);
    assert_eq!(ground.pitr.json(&["undo", "--yes"])["outcome"], "undone");
    ground.pitr.crash_at("before a deletion", &["purge", &run, "--yes"]);
    let beside = ground.cluster.parent().join(format!(".pitr-{run}"));
    fs::remove_file(beside.join(format!("data/global/pitr-{run}.pg_control"))).unwrap();
    assert_eq!(ground.pitr.json(&["purge", &run, "--yes"])["outcome"], "removed");
    assert!(!beside.exists());
    assert_eq!(ground.facts(), all.facts);
}

/// Status says what is going on; undo and restore are refused and name the one way on.
#[cfg(feature = "crash-points")]
#[track_caller]
fn half_purged(ground: &Ground, run: &str) {
    let way = format!("pitr purge {run}");
    let status = ground.pitr.json(&["status"]);
    let open = &status["clusters"][0]["run"];
    assert_eq!((&open["id"], &open["next"]), (&run.into(), &serde_json::json!([way])), "{status}");
    assert!(word(&open["state"]).contains("purge"), "{status}");
    for words in [vec![], vec![run]] {
        ground.undo_refused(&words, "is being deleted");
    }
    let refused = ground.pitr.json_code(3, &["restore", "--yes", "--to-latest"]);
    let reason = refused["refusals"].as_array().unwrap().iter().find(|r| r["id"] == "open-run").unwrap_or_else(|| panic!("{refused}"));
    assert!(word(&reason["hint"]).contains(&way), "{refused}");
}

/// Two runs go, an open one is left: one document for all three, and one for what was left to do the next time.
#[cfg(feature = "crash-points")]
#[test]
fn purge_all_prints_one_document() {
    let scratch = Scratch::new("purge-all");
    let ground = Ground::new(&scratch);
    let early = ground.work();
    let late = ground.work();
    let (first, second) = (ground.restore(&late), ground.restore(&early));
    ground.pitr.crash_at("done extract", &["restore", "--yes", "--to-consistent"]);
    let purged = ground.pitr.json(&["purge", "--all", "--yes"]);
    assert_eq!((&purged["outcome"], &purged["changed"], &purged["run"]), (&"removed".into(), &true.into(), &Value::Null), "{purged}");
    let runs: Vec<_> = purged["runs"].as_array().unwrap().iter().map(|run| (word(&run["run"]), word(&run["outcome"]))).collect();
    assert_eq!(runs, [(first.as_str(), "removed"), (second.as_str(), "removed")]);
    let [left] = purged["left"].as_array().unwrap().as_slice() else { panic!("{purged}") };
    assert!(word(&left["hint"]).contains(&format!("pitr undo {}", word(&left["run"]))), "{purged}");
    // Quiet: the result and nothing else.
    let quiet = ground.pitr.run(&["undo", "--yes", "-q"]).expect_code(0);
    assert!(quiet.stdout.starts_with("Result"), "{}", quiet.stdout);
    let last = ground.pitr.json(&["purge", "--all", "--yes"]);
    assert_eq!((last["runs"].as_array().unwrap().len(), &last["left"]), (1, &serde_json::json!([])), "{last}");
    let nothing = ground.pitr.json(&["purge", "--all", "--yes"]);
    assert_eq!((&nothing["outcome"], &nothing["changed"]), (&"nothing".into(), &false.into()), "{nothing}");
}
