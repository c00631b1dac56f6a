//! Histories: a target two timelines above the backup, branches that died, backups taken from a standby, histories that are
//! packed or missing, and the ends of WAL that a `.partial` holds.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::cluster::{Archive, Builder};
use crate::support::majors;
use crate::support::program::{self, program};
use crate::support::scratch::give;
use crate::support::standby::Receiver;
use crate::support::story::{self, DATABASE, Facts, Point};
use crate::support::{Pitr, Scratch, Story, TestCluster};

majors::on_each_major! {
    a_target_two_timelines_above_the_backup => |major| super::run(major, super::a_target_two_timelines_above_the_backup),
    backups_of_a_standby => |major| super::run(major, super::backups_of_a_standby),
    what_a_receiver_had_when_the_host_died => |major| super::run(major, super::what_a_receiver_had_when_the_host_died),
    what_a_promotion_left_of_a_segment => |major| super::run(major, super::what_a_promotion_left_of_a_segment),
}

fn run(major: u32, case: fn(&Scratch, Builder<'_>)) {
    majors::play("hist", major, case);
}

fn configured(scratch: &Scratch, cluster: &TestCluster) -> Pitr {
    let mut pitr = Pitr::for_cluster(scratch, cluster);
    pitr.set("database", DATABASE);
    pitr
}

fn facts(cluster: &TestCluster) -> Facts {
    story::facts(cluster, DATABASE)
}

fn timeline(cluster: &TestCluster) -> String {
    cluster.sql("postgres", "SELECT timeline_id FROM pg_control_checkpoint()")
}

#[track_caller]
fn restored(pitr: &Pitr, cluster: &TestCluster, target: &[&str], expected: &Point) {
    let restored = pitr.json(&[&["restore", "--yes"], target].concat());
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(facts(cluster), expected.facts, "{target:?}");
    pitr.assert_nothing_left();
}

#[track_caller]
fn refused(pitr: &Pitr, args: &[&str], id: &str) -> Value {
    let refused = pitr.json_code(3, &[&["plan"], args].concat());
    let ids: Vec<&str> = refused["refusals"].as_array().unwrap().iter().filter_map(|r| r["id"].as_str()).collect();
    assert!(ids.contains(&id), "{args:?}: {refused:#}");
    refused
}

fn crash_and_remove(cluster: &TestCluster) {
    if cluster.running() {
        cluster.crash();
    }
    fs::remove_dir_all(&cluster.data).unwrap();
}

/// Packs a file as `command` does to standard output and removes it.
fn pack(file: &Path, command: &[&str], suffix: &str) -> PathBuf {
    let to = PathBuf::from(format!("{}{suffix}", file.display()));
    let ended = program(command[0]).args(&command[1..]).arg(file).stdout(fs::File::create(&to).unwrap()).status().unwrap();
    assert!(ended.success(), "{command:?}");
    give(&to, "postgres", "postgres", 0o600);
    fs::remove_file(file).unwrap();
    to
}

/// The backup is of timeline 1, the target on 3; what 1 and 2 had after their forks is dead, and still can be asked for by name.
/// In the end the histories are nowhere but in the archive, packed.
fn a_target_two_timelines_above_the_backup(scratch: &Scratch, builder: Builder<'_>) {
    let cluster = builder.start();
    let story = Story::begin(&cluster);
    cluster.cron_tarball("base-20261121.tar.gz", None);
    let pitr = configured(scratch, &cluster);
    let walked = || {
        story.work(4);
        cluster.switch_wal();
        story.work(3)
    };
    let first = walked();
    let dead_on_1 = walked();
    story.work(1);
    restored(&pitr, &cluster, &["--before-lsn", &first.lsn], &first);
    let second = walked();
    let dead_on_2 = walked();
    story.work(1);
    restored(&pitr, &cluster, &["--before-lsn", &second.lsn], &second);
    assert_eq!(timeline(&cluster), "3");
    let third = walked();
    story.work(1);
    cluster.archive_caught_up();

    let plan = pitr.json(&["plan", "--before-lsn", &third.lsn]);
    assert_eq!((&plan["target"]["timeline"], &plan["backup"]["name"]), (&3.into(), &"base-20261121.tar.gz".into()), "{plan}");
    let dead = pitr.json(&["plan", "--timeline", "2", "--before-lsn", &dead_on_2.lsn]);
    assert_eq!(dead["target"]["timeline"], 2, "{dead}");
    restored(&pitr, &cluster, &["--timeline", "1", "--before-time", &dead_on_1.time], &dead_on_1);
    // A backup of the branch that is left again is of no use for the others.
    cluster.basebackup_tar("of-a-dead-branch", true);
    cluster.archive_caught_up();
    assert_eq!(pitr.json(&["undo", "--yes"])["outcome"], "undone");
    let now = story.work(2);
    story.work(1);
    let refused = refused(&pitr, &["--before-lsn", &now.lsn, "--backup", "of-a-dead-branch"], "backup-unusable");
    assert!(refused.to_string().contains("does not lead to timeline"), "{refused}");
    cluster.archive_caught_up();
    pitr.run(&["purge", "--all", "--yes"]).expect_code(0);
    packed_histories(&cluster, &pitr, &third);
}

/// Nothing but backup and archive is left.
fn packed_histories(cluster: &TestCluster, pitr: &Pitr, third: &Point) {
    crash_and_remove(cluster);
    let archive = cluster.archive.clone().unwrap();
    let packers: [(&[&str], &str); 3] = [(&["gzip", "-c"], ".gz"), (&["zstd", "-q", "-c"], ".zst"), (&["lz4", "-q", "-c"], ".lz4")];
    let mut histories: Vec<PathBuf> = fs::read_dir(&archive).unwrap().flatten().map(|e| e.path()).collect();
    histories.retain(|path| path.extension().is_some_and(|e| e == "history"));
    histories.sort();
    assert!(histories.len() >= 3, "{histories:?}");
    for (number, history) in histories.iter().enumerate() {
        let (command, suffix) = packers[number % 3];
        pack(history, command, suffix);
    }
    let target = ["--timeline", "3", "--before-lsn", &third.lsn];
    let hidden = archive.parent().unwrap().join("hidden.history");
    let history = archive.join("00000003.history.zst");
    fs::rename(&history, &hidden).unwrap();
    let said = refused(pitr, &target, "no-history");
    assert!(said.to_string().contains("timeline 3"), "{said}");
    fs::rename(&hidden, &history).unwrap();
    restored(pitr, cluster, &target, third);
}

/// Backups that a standby gave are consistent where its pg_control says, without a record of it in the WAL.
fn backups_of_a_standby(scratch: &Scratch, builder: Builder<'_>) {
    let cluster = builder.start();
    let story = Story::begin(&cluster);
    let standby = cluster.standby(scratch, "standby");
    let early = story.work(2);
    story.bulk(2);
    standby.caught_up_with(&cluster);
    standby.basebackup_tar("tar", true);
    standby.basebackup_plain("plain");
    standby.cron_tarball("copied.tar.gz", None);
    let target = story.work(5);
    let last = story.migrate(123).after;
    cluster.archive_caught_up();
    standby.stop();
    let pitr = configured(scratch, &cluster);
    for name in ["tar", "plain", "copied.tar.gz"] {
        let label = pitr.json(&["backups"]);
        assert!(label.to_string().contains(name), "{label}");
        refused(&pitr, &["--before-lsn", &early.lsn, "--backup", name], "backup-unusable");
        let mut args = vec!["--before-lsn", target.lsn.as_str(), "--backup", name];
        if name.starts_with("copied") {
            refused(&pitr, &args, "standby-copy");
            args.extend(["--accept", "standby-copy"]);
        }
        restored(&pitr, &cluster, &args, &target);
        cluster.archive_caught_up();
        assert_eq!(pitr.json(&["undo", "--yes"])["outcome"], "undone");
        assert_eq!(facts(&cluster), last.facts);
    }
    let verified = pitr.json(&["verify", "wal"]);
    assert!(verified.to_string().contains("\"tar\""), "no window begins with it: {verified}");
}

/// `pg_receivewal` was the archive. What it had of the last segment is used to its last byte.
fn what_a_receiver_had_when_the_host_died(scratch: &Scratch, builder: Builder<'_>) {
    let cluster = builder.archive(Archive::Off).start();
    let story = Story::begin(&cluster);
    // Compression methods by name are 15's (pg_receivewal, release notes).
    let forms: &[(&str, &[&str], &str)] = match cluster.programs.major {
        ..=14 => &[("none", &[], ".partial"), ("gzip", &["-Z", "1"], ".gz.partial")],
        // Not every source of programs has LZ4.
        15 | 17 => {
            &[("none", &[], ".partial"), ("gzip", &["--compress=gzip"], ".gz.partial"), ("lz4", &["--compress=lz4"], ".lz4.partial")]
        }
        _ => &[("none", &[], ".partial"), ("gzip", &["--compress=gzip"], ".gz.partial")],
    };
    let receivers: Vec<(Receiver, &str)> = forms
        .iter()
        .map(|(name, options, suffix)| {
            let directory = scratch.dir(format!("received-{name}"), "postgres", "postgres", 0o700);
            (Receiver::start(&cluster, &directory, options), *suffix)
        })
        .collect();
    cluster.basebackup_tar("nightly", true);
    story.bulk(3);
    story.migrate(123);
    let last = story.work(5);
    receivers.iter().for_each(|(receiver, _)| receiver.caught_up_with(&cluster));
    cluster.crash();
    let places: Vec<(PathBuf, &str)> =
        receivers.into_iter().map(|(r, suffix)| (r.directory.clone(), suffix, r.kill())).map(|(d, s, ())| (d, s)).collect();
    fs::remove_dir_all(&cluster.data).unwrap();
    let mut pitr = configured(scratch, &cluster);
    pitr.tell_environment(&cluster);
    for (directory, suffix) in &places {
        let partial = fs::read_dir(directory).unwrap().flatten().map(|e| e.path()).find(|p| p.to_string_lossy().ends_with(suffix));
        let partial = partial.unwrap_or_else(|| panic!("no {suffix} in {}", directory.display()));
        pitr.set("wal_archive", vec![directory.to_str().unwrap()]);
        let log = pitr.run(&["log", "--wal", directory.to_str().unwrap()]).expect_code(0);
        assert!(log.stdout.contains(&last.xid), "log does not read {}: {}", partial.display(), log.stdout);
        let target: &[&str] = if *suffix == ".partial" { &["--to-xid", &last.xid] } else { &["--to-latest"] };
        restored(&pitr, &cluster, target, &last);
        assert_eq!(pitr.json(&["undo", "--yes"])["outcome"], "undone");
        // Without it the last rows are gone, and a target among them is refused.
        let hidden = scratch.path().join("hidden");
        fs::rename(&partial, &hidden).unwrap();
        refused(&pitr, &["--to-xid", &last.xid], "target-not-found");
        fs::rename(&hidden, &partial).unwrap();
    }
}

/// A standby was promoted and archived what it had of its parent's last segment; packed too, as archive commands do.
fn what_a_promotion_left_of_a_segment(scratch: &Scratch, builder: Builder<'_>) {
    let cluster = builder.start();
    let story = Story::begin(&cluster);
    cluster.basebackup_tar("nightly", true);
    let standby = cluster.standby(scratch, "standby");
    story.bulk(2);
    let last = story.work(5);
    standby.caught_up_with(&cluster);
    crash_and_remove(&cluster);
    standby.sql("postgres", "SELECT pg_promote()");
    let new = Story::on(&standby).work(3);
    standby.archive_caught_up();
    standby.stop();
    let archive = cluster.archive.clone().unwrap();
    let partial = fs::read_dir(&archive).unwrap().flatten().map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "partial"));
    let partial = partial.unwrap_or_else(|| panic!("no .partial: {}", program::ok(program("ls").arg(&archive))));
    let mut pitr = configured(scratch, &cluster);
    pitr.tell_environment(&cluster);
    // Which of the two branches it was on, nothing says.
    refused(&pitr, &["--to-latest"], "timeline-unknown");
    let on_1 = ["--timeline", "1", "--to-xid", &last.xid];
    restored(&pitr, &cluster, &on_1, &last);
    assert_eq!(timeline(&cluster), "3");
    assert_eq!(pitr.json(&["undo", "--yes"])["outcome"], "undone");
    restored(&pitr, &cluster, &["--timeline", "2", "--to-xid", &new.xid], &new);
    assert_eq!(pitr.json(&["undo", "--yes"])["outcome"], "undone");
    pack(&partial, &["gzip", "-c"], ".gz");
    restored(&pitr, &cluster, &on_1, &last);
}
