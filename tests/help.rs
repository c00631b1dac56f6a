//! What a refusal says that would help, does: each flag that a hint names is tried.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::program::{self, program};
use crate::support::story::DATABASE;
use crate::support::{Pitr, Scratch, Story, TestCluster};

struct Ground {
    cluster: TestCluster,
    pitr: Pitr,
}

impl Ground {
    fn new(scratch: &Scratch) -> Ground {
        let cluster = TestCluster::builder(scratch, "main").start();
        Story::begin(&cluster);
        let mut pitr = Pitr::for_cluster(scratch, &cluster);
        pitr.set("database", DATABASE);
        Ground { cluster, pitr }
    }

    fn archive(&self) -> &Path {
        self.cluster.archive.as_ref().unwrap()
    }

    /// The hint of refusal `id` of a plan with these words.
    #[track_caller]
    fn hint(&self, id: &str, words: &[&str]) -> String {
        let plan = self.pitr.json_code(3, &[&["plan"], words].concat());
        let reasons = plan["refusals"].as_array().unwrap();
        let reason = reasons.iter().find(|reason| reason["id"] == id).unwrap_or_else(|| panic!("no {id} in {plan:#}"));
        reason["hint"].as_str().unwrap().to_string()
    }

    #[track_caller]
    fn planned(&self, words: &[&str]) -> Value {
        self.pitr.json(&[&["plan"], words].concat())
    }

    /// A segment is gone, from the archive and from pg_wal.
    fn lose(&self, name: &str) {
        fs::remove_file(self.archive().join(name)).unwrap();
        let _ = fs::remove_file(self.cluster.data.join("pg_wal").join(name));
    }

    /// Work over a segment; the name of one that lies wholly before what comes after.
    fn segment(&self) -> String {
        Story::on(&self.cluster).bulk(1);
        let name = self.cluster.switch_wal();
        self.cluster.archive_caught_up();
        self.cluster.sql("postgres", "CHECKPOINT");
        name
    }
}

/// The words from the first `--wal`, `--backup` or whatever `flag` is to the end of the sentence.
#[track_caller]
fn flags(hint: &str, flag: &str) -> Vec<String> {
    let at = hint.find(flag).unwrap_or_else(|| panic!("no {flag} in: {hint}"));
    let sentence = hint[at..].split(". ").next().unwrap();
    sentence.trim_end_matches('.').split(' ').map(str::to_string).collect()
}

/// A gap within a backup: the backup's own WAL, a later backup. A target before every backup: the earliest point.
#[test]
fn a_gap_is_refused_with_what_would_close_it() {
    let scratch = Scratch::new("help-gap");
    let ground = Ground::new(&scratch);
    let cluster = &ground.cluster;
    let story = Story::on(cluster);
    let before = story.work(1);
    ground.segment();
    cluster.basebackup_tar("first", true);
    cluster.archive_caught_up();
    let of_the_backup = first_segment(&ground, "first");
    ground.segment();
    let target = story.work(2);
    let words = ["--before-lsn", target.lsn.as_str()];
    ground.planned(&words);

    let lsn = ["--before-lsn", before.lsn.as_str()];
    let hint = ground.hint("target-before-backup", &lsn);
    let earliest = flags(&hint, "--to-consistent");
    ground.planned(&earliest.iter().map(String::as_str).collect::<Vec<_>>());

    ground.lose(&of_the_backup);
    let hint = ground.hint("wal-gap", &words);
    let own = scratch.dir("own", "postgres", "postgres", 0o700);
    assert!(hint.contains(&format!("unpack {}", cluster.backups.join("first/pg_wal.tar.gz").display())), "{hint}");
    program::ok(program("tar").arg("-xzf").arg(cluster.backups.join("first/pg_wal.tar.gz")).arg("-C").arg(&own));
    let own_wal = flags(&hint, "--wal").join(" ").replace("THAT_DIRECTORY", own.to_str().unwrap());
    ground.planned(&[&words[..], &own_wal.split(' ').collect::<Vec<_>>()].concat());
    // The last help is another copy of the archive.
    assert!(hint.ends_with(&format!("other copies of the archive: --wal {} --wal DIR.", ground.archive().display())), "{hint}");

    cluster.basebackup_plain("second");
    let of_the_second = first_segment(&ground, "second");
    ground.segment();
    let later = story.work(2);
    let words = ["--before-lsn", later.lsn.as_str()];
    let hint = ground.hint("wal-gap", &[&words[..], &["--backup", "first"]].concat());
    let other = flags(&hint, "--backup");
    assert_eq!(other, ["--backup", "second"], "{hint}");
    ground.planned(&[&words[..], &["--backup", "second"]].concat());
    let hint = ground.hint("backup-unusable", &["--before-lsn", &before.lsn, "--backup", "second"]);
    assert!(!hint.contains("serves this target"), "nothing does: {hint}");
    ground.lose(&of_the_second);
    let hint = ground.hint("wal-gap", &words);
    assert!(hint.contains(&format!("--wal {}", cluster.backups.join("second/pg_wal").display())), "{hint}");
    let own_wal = flags(&hint, "--wal");
    ground.planned(&[&words[..], &own_wal.iter().map(String::as_str).collect::<Vec<_>>()].concat());
}

/// The segment in which backup `name` begins.
fn first_segment(ground: &Ground, name: &str) -> String {
    let backups = ground.pitr.json(&["backups"]);
    let of = backups["backups"].as_array().unwrap().iter().find(|b| b["name"] == name).unwrap_or_else(|| panic!("{backups:#}")).clone();
    let start = of["start_lsn"].as_str().unwrap_or_else(|| panic!("{of:#}"));
    ground.cluster.sql("postgres", &format!("SELECT pg_walfile_name('{start}'::pg_lsn + 1)"))
}

/// The last segment of a timeline that was left: its successor has the same up to the fork, a partial copy its beginning.
#[test]
fn a_segment_of_a_timeline_that_was_left_is_found_on_the_next() {
    let scratch = Scratch::new("help-timeline");
    let ground = Ground::new(&scratch);
    let story = Story::on(&ground.cluster);
    ground.cluster.cron_tarball("base-20261121.tar.gz", None);
    ground.segment();
    let early = story.work(2);
    let target = story.work(2);
    let discarded = story.work(2);
    let fork = ground.cluster.sql("postgres", "SELECT pg_walfile_name(pg_current_wal_lsn())");
    ground.pitr.json(&["restore", "--yes", "--before-lsn", &target.lsn]);
    story.work(1);
    ground.cluster.archive_caught_up();
    let hint = ground.hint("target-not-found", &["--to-xid", "999999"]);
    assert!(hint.contains("--timeline 1 looks on it"), "{hint}");
    // On the left timeline everything is there, with what was discarded: its last segment is in the aside.
    ground.planned(&["--timeline", "1", "--to-xid", &discarded.xid]);
    ground.pitr.run(&["purge", "--all", "--yes"]).expect_code(0);
    for run in fs::read_dir(ground.pitr.state.join("runs")).unwrap().flatten() {
        let _ = fs::remove_dir_all(run.path().join("wal"));
    }
    let last = ground.archive().join(&fork);
    let beginning = scratch.dir("beginning", "postgres", "postgres", 0o700);
    fs::rename(&last, beginning.join(format!("{fork}.partial"))).unwrap();
    let words = ["--before-lsn", early.lsn.as_str(), "--timeline", "1"];
    let hint = ground.hint("target-behind-wal", &words);
    assert_eq!(flags(&hint, "--timeline 2")[..2], ["--timeline", "2"], "{hint}");
    ground.planned(&["--before-lsn", &early.lsn, "--timeline", "2"]);
    // What pg_receivewal leaves of a segment that it did not see the end of goes as far as it goes.
    let (archive, beginning) = (ground.archive().to_str().unwrap(), beginning.to_str().unwrap());
    ground.planned(&[&words[..], &["--wal", archive, "--wal", beginning]].concat());
}

/// The host is lost, and the archive ends within the backup: `--to-consistent` is refused when it is planned.
#[test]
fn a_backup_without_its_end_is_refused() {
    let scratch = Scratch::new("help-end");
    let ground = Ground::new(&scratch);
    let cluster = &ground.cluster;
    let mut inside = String::new();
    cluster.cron_tarball_during("base-20261121.tar.gz", None, &[], || inside = ground.segment());
    ground.segment();
    cluster.stop();
    fs::remove_dir_all(&cluster.data).unwrap();
    let whole = ground.planned(&["--to-consistent", "--accept", "no-manifest"]);
    assert!(whole["target"]["lsn"].is_string(), "{whole:#}");
    // Everything behind that segment was never archived, and so the history file of the backup.
    let files = || fs::read_dir(ground.archive()).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
    let mut behind: Vec<String> = files().filter(|name| name[..24] > inside[..] || name.ends_with(".backup")).collect();
    behind.sort();
    for name in &behind {
        fs::remove_file(ground.archive().join(name)).unwrap();
    }
    let before = crate::support::tree::snapshot_tree(ground.archive());
    for words in [&["--to-consistent"][..], &["--to-latest"], &["--to-name", "x"]] {
        let plan = ground.pitr.json_code(3, &[&["plan"], words].concat());
        assert_eq!(plan["recovery"], Value::Null);
    }
    let hint = ground.hint("backup-incomplete", &["--to-consistent"]);
    assert!(
        hint.contains(&format!("WAL behind {inside} is missing"))
            && hint.contains(&format!("Look for {}", behind.iter().find(|name| name.len() == 24).unwrap())),
        "{hint}"
    );
    let refused = ground.pitr.json_code(3, &["restore", "--yes", "--to-consistent"]);
    assert_eq!(refused["outcome"], "refused", "{refused}");
    assert!(!cluster.data.exists() && crate::support::tree::snapshot_tree(ground.archive()) == before);
}
