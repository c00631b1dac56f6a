//! Timelines and the archive over several recoveries: no number twice, no WAL lost, the archiver never stuck, and whoever
//! follows `latest` follows the cluster that serves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::story::{self, DATABASE, Facts, Point};
use crate::support::{Pitr, Scratch, Story, TestCluster, recover_by_hand, wait_until};

/// A cluster over several recoveries, and every history file that was ever seen.
struct Course<'a> {
    scratch: &'a Scratch,
    cluster: TestCluster,
    pitr: Pitr,
    backup: PathBuf,
    histories: BTreeMap<String, Vec<u8>>,
    served: Vec<u32>,
}

impl<'a> Course<'a> {
    fn new(scratch: &'a Scratch) -> Course<'a> {
        let cluster = TestCluster::builder(scratch, "main").archiver_switch().start();
        Story::begin(&cluster);
        let backup = cluster.cron_tarball("base-20261121.tar.gz", None);
        let mut pitr = Pitr::for_cluster(scratch, &cluster);
        pitr.set("database", DATABASE);
        Course { scratch, cluster, pitr, backup, histories: BTreeMap::new(), served: vec![1] }
    }

    fn archive(&self) -> &Path {
        self.cluster.archive.as_deref().unwrap()
    }

    /// Work over some segments; the point after it.
    #[track_caller]
    fn work(&self) -> Point {
        let story = Story::on(&self.cluster);
        for _ in 0..2 {
            story.work(5);
            self.cluster.switch_wal();
        }
        story.work(3)
    }

    /// Restores to right after `point`; the cluster then has its rows, on a number that never served before.
    #[track_caller]
    fn restore(&mut self, point: &Point) {
        let restored = self.pitr.json(&["restore", "--yes", "--before-lsn", &point.lsn]);
        assert_eq!(restored["outcome"], "switched", "{restored}");
        assert_eq!(self.facts(), point.facts, "not the rows of {}", point.lsn);
        let number = self.timeline();
        assert!(!self.served.contains(&number), "timeline {number} served before: {:?}", self.served);
        self.served.push(number);
        self.collect();
    }

    /// Back to the old cluster with the rows that it had.
    #[track_caller]
    fn undo(&mut self, expected: &Facts) {
        let undone = self.pitr.json(&["undo", "--yes"]);
        assert_eq!(undone["outcome"], "undone", "{undone}");
        assert_eq!(&self.facts(), expected);
        let number = self.timeline();
        assert!(!self.served.contains(&number), "timeline {number} served before: {:?}", self.served);
        self.served.push(number);
        self.collect();
    }

    fn facts(&self) -> Facts {
        story::facts(&self.cluster, DATABASE)
    }

    fn timeline(&self) -> u32 {
        self.cluster.sql("postgres", "SELECT timeline_id FROM pg_control_checkpoint()").parse().unwrap()
    }

    /// A history that was seen once never gets another text.
    #[track_caller]
    fn collect(&mut self) {
        for directory in [self.archive().to_path_buf(), self.cluster.data.join("pg_wal")] {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.ends_with(".history") {
                    let text = fs::read(entry.path()).unwrap();
                    let known = self.histories.entry(name.clone()).or_insert_with(|| text.clone());
                    assert_eq!(String::from_utf8_lossy(known), String::from_utf8_lossy(&text), "two histories are {name}");
                }
            }
        }
    }

    /// The archiver works off everything that waits, and nothing fails any more.
    #[track_caller]
    fn archiver_works(&mut self) {
        let counted = |c: &TestCluster| c.sql("postgres", "SELECT archived_count FROM pg_stat_archiver").parse::<u64>().unwrap();
        let before = counted(&self.cluster);
        self.cluster.switch_wal();
        self.cluster.archive_caught_up();
        let cluster = &self.cluster;
        wait_until(20, "the archiver's count grows", || counted(cluster) > before);
        let stuck = "SELECT coalesce(last_failed_time > last_archived_time, false) FROM pg_stat_archiver";
        assert_eq!(self.cluster.sql("postgres", stuck), "f", "{}", self.cluster.log_tail());
        self.collect();
    }

    /// A recovery with PostgreSQL alone, from the backup and the archive, gives the rows that the cluster serves.
    #[track_caller]
    fn by_hand(&self, name: &str, settings: &[&str]) {
        let cluster = recover_by_hand(self.scratch, name, &self.backup, self.archive(), settings);
        assert_eq!(story::facts(&cluster, DATABASE), self.facts(), "the archive alone gives other rows");
        cluster.stop();
    }

    /// The archive has every segment of the serving cluster's own history from the backup on, in one chain.
    #[track_caller]
    fn archive_is_whole(&self) {
        let segment = |name: &str| {
            (name.len() == 24).then(|| u64::from_str_radix(&name[8..16], 16).unwrap() << 32 | u64::from_str_radix(&name[16..], 16).unwrap())
        };
        let names: BTreeSet<String> =
            fs::read_dir(self.archive()).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        let numbers: BTreeSet<u64> = names.iter().filter_map(|n| segment(n)).collect();
        let (first, last) = (numbers.first().unwrap(), numbers.last().unwrap());
        let missing: Vec<u64> = (*first..=*last).filter(|n| !numbers.contains(n)).collect();
        // With segments of 1 MiB a number runs from 0 to FFF in each logical file; the test stays in the first.
        assert!(missing.is_empty(), "holes at {missing:X?} in {names:#?}");
    }
}

/// A tail that only the old pg_wal held: after the switch it reaches the archive, also when the aside is purged (A4, F4).
#[test]
fn a_tail_that_was_never_archived_is_not_lost() {
    let scratch = Scratch::new("tail");
    let mut course = Course::new(&scratch);
    course.work();
    course.cluster.archive_caught_up();
    course.cluster.fail_archiving(true);
    let target = course.work();
    course.work();

    course.restore(&target);
    assert_eq!(course.timeline(), 2);
    course.cluster.fail_archiving(false);
    let later = course.work();
    course.archiver_works();
    let purged = course.pitr.json(&["purge", "--all", "--yes"]);
    assert_eq!(purged["outcome"], "removed", "{purged}");

    course.archive_is_whole();
    course.by_hand("by-hand", &["recovery_target_timeline = '2'"]);
    let last = course.work();
    course.restore(&later);
    course.archiver_works();
    course.undo(&last.facts);
    course.restore(&last);
    course.archiver_works();
    course.by_hand("by-hand-latest", &[]);
}

/// What gets in the way between the recoveries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Nothing,
    /// `00000002.history` is not in the archive while the next number is chosen.
    LateHistory,
    /// The archiver fails from before the first recovery until after its undo.
    FailingArchiver,
}

/// Restore, undo, write, restore to an earlier point, undo, restore to a later one.
fn there_back_and_there_again(topic: &str, trouble: Trouble) {
    let scratch = Scratch::new(topic);
    let mut course = Course::new(&scratch);
    let early = course.work();
    let first = course.work();
    course.cluster.archive_caught_up();
    course.cluster.fail_archiving(trouble == Trouble::FailingArchiver);
    let old = course.work();

    course.restore(&first);
    course.work();
    if trouble != Trouble::FailingArchiver {
        course.archiver_works();
    }
    course.undo(&old.facts);
    course.cluster.fail_archiving(false);
    course.archiver_works();
    course.archive_is_whole();
    course.by_hand("after-the-first-undo", &[]);
    let hidden = (trouble == Trouble::LateHistory).then(|| hide(&course, "00000002.history"));

    let written = course.work();
    course.restore(&early);
    course.archiver_works();
    course.undo(&written.facts);
    if let Some((from, to)) = hidden {
        fs::rename(from, to).unwrap();
        course.collect();
    }
    let later = course.work();
    let all = course.work();
    course.restore(&later);
    course.archiver_works();
    course.by_hand("restored-later", &[]);
    course.undo(&all.facts);
    course.archiver_works();
    course.archive_is_whole();
    course.by_hand("at-the-end", &[]);
}

fn hide(course: &Course<'_>, name: &str) -> (PathBuf, PathBuf) {
    let place = course.archive().join(name);
    let elsewhere = course.scratch.path().join(name);
    fs::rename(&place, &elsewhere).unwrap_or_else(|e| panic!("{}: {e}", place.display()));
    (elsewhere, place)
}

#[test]
fn several_recoveries_share_one_archive() {
    there_back_and_there_again("again", Trouble::Nothing);
}

#[test]
fn a_history_that_becomes_visible_late_is_not_taken_twice() {
    there_back_and_there_again("late", Trouble::LateHistory);
}

#[test]
fn an_archiver_that_fails_until_after_the_undo_loses_nothing() {
    there_back_and_there_again("failing", Trouble::FailingArchiver);
}

/// A recovery that a check ended took no number: the next one gets it, and ships a chain without a gap (F5).
#[test]
fn a_number_that_never_left_staging_is_free_again() {
    let scratch = Scratch::new("free");
    let mut course = Course::new(&scratch);
    let target = course.work();
    let old = course.work();
    let never = scratch.file("checks/never.sql", "-- check: never\n-- expect: false\nSELECT 1;\n", 0o644);
    course.pitr.set("checks", vec![never.to_str().unwrap()]);
    let failed: Value = course.pitr.json_code(6, &["restore", "--yes", "--before-lsn", &target.lsn]);
    assert_eq!(failed["outcome"], "kept", "{failed}");
    assert_eq!(course.pitr.json(&["undo", "--yes"])["outcome"], "undone");
    course.pitr.unset("checks");
    promoted_and_undone(&course, &target);

    assert_eq!((course.facts(), course.timeline()), (old.facts.clone(), 1));
    course.restore(&target);
    assert_eq!(course.timeline(), 2, "the number that never left a staging");
    course.archiver_works();
    course.by_hand("number-2", &[]);
}

/// A run that dies after its private promotion, and is undone.
#[cfg(feature = "crash-points")]
fn promoted_and_undone(course: &Course<'_>, target: &Point) {
    course.pitr.fail_at("applied promote", &["restore", "--yes", "--before-lsn", &target.lsn]).expect_code(1);
    let undone = course.pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{undone}");
}

#[cfg(not(feature = "crash-points"))]
fn promoted_and_undone(_: &Course<'_>, _: &Point) {}
