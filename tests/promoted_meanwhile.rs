//! Backups of a standby during which a promotion happens: of the standby that is promoted, which PostgreSQL gives up, and of
//! one that follows it, which ends on another timeline than it began on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;

use crate::support::cluster::Builder;
use crate::support::scratch::make_dir;
use crate::support::story::{self, DATABASE};
use crate::support::{Pitr, Scratch, Story, TestCluster, majors, process, wait_until};

majors::on_each_major! {
    a_promotion_during_backups => |major| super::majors::play("meanwhile", major, super::a_promotion_during_backups),
}

/// A `pg_basebackup` that was stopped within.
struct Held {
    child: Child,
    directory: PathBuf,
    messages: PathBuf,
}

impl Held {
    /// Begins one of `cluster` into `name` and stops it as soon as the server sends files.
    fn begin(cluster: &TestCluster, name: &str, options: &[&str]) -> Held {
        let directory = make_dir(&cluster.backups.join(name), "postgres", "postgres", 0o700);
        let messages = cluster.home.join(format!("{name}.messages"));
        let mut command = cluster.tool("pg_basebackup");
        command.arg("-h").arg(&cluster.socket.dir).arg("-p").arg(cluster.socket.port.to_string()).args(["-U", "postgres"]);
        // Slow enough to be caught within.
        command.args(["-c", "fast", "--no-sync", "--no-clean", "--max-rate=16M"]).args(options).arg("-D").arg(&directory);
        let child = command.stdin(Stdio::null()).stderr(fs::File::create(&messages).unwrap()).spawn().unwrap();
        wait_until(30, "the first file of the backup", || ["base.tar", "backup_label"].iter().any(|name| directory.join(name).exists()));
        process::send(child.id().cast_signed(), Signal::SIGSTOP);
        Held { child, directory, messages }
    }

    /// Lets it go on to its end: its exit code and what it said.
    fn end(mut self) -> (PathBuf, i32, String) {
        process::send(self.child.id().cast_signed(), Signal::SIGCONT);
        let code = self.child.wait().unwrap().code().unwrap();
        (self.directory.clone(), code, fs::read_to_string(&self.messages).unwrap())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            process::send(self.child.id().cast_signed(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// Timelines of the WAL that a backup needs, in order, as its manifest says.
fn timelines(directory: &Path) -> Vec<u64> {
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(directory.join("backup_manifest")).unwrap()).unwrap();
    let mut ranges: Vec<u64> = manifest["WAL-Ranges"].as_array().unwrap().iter().map(|r| r["Timeline"].as_u64().unwrap()).collect();
    ranges.sort_unstable();
    ranges
}

/// Both servers would archive the last segment before the fork to one place, and the later one would be refused there.
fn archive_elsewhere(cluster: &mut TestCluster, archive: PathBuf) {
    let command = format!("archive_command = 'cp %p {}/%f'", archive.display());
    let conf = fs::read_to_string(&cluster.conf_file).unwrap();
    fs::write(&cluster.conf_file, format!("{conf}\n{command}\n")).unwrap();
    cluster.sql("postgres", "SELECT pg_reload_conf()");
    cluster.archive = Some(archive);
}

fn a_promotion_during_backups(scratch: &Scratch, builder: Builder<'_>) {
    let primary = builder.conf("wal_retrieve_retry_interval = 100").start();
    let story = Story::begin(&primary);
    let mut standby = primary.standby(scratch, "standby");
    archive_elsewhere(&mut standby, scratch.dir("second", "postgres", "postgres", 0o755));
    let follower = standby.standby(scratch, "follower");
    story.work(2);
    follower.caught_up_with(&primary);
    let given_up = [("given-up", "-Fp"), ("given-up-tar", "-Ft")].map(|(name, form)| Held::begin(&standby, name, &[form, "-X", "none"]));
    let crossing =
        [("plain", "-Fp", "none"), ("tar", "-Ft", "stream")].map(|(name, form, wal)| Held::begin(&follower, name, &[form, "-X", wal]));
    standby.caught_up_with(&primary);
    standby.sql("postgres", "SELECT pg_promote()");
    let after = Story::on(&standby);
    after.work(2);
    standby.sql("postgres", "CHECKPOINT");
    follower.caught_up_with(&standby);
    // A restartpoint: its pg_control says the new timeline.
    follower.sql("postgres", "CHECKPOINT");
    for (directory, code, said) in given_up.map(Held::end) {
        assert!(code != 0 && said.contains("promoted during online backup"), "{}: {said}", directory.display());
    }
    for (directory, code, said) in crossing.map(Held::end) {
        assert_eq!(code, 0, "{}: {said}", directory.display());
        assert_eq!(timelines(&directory), [1, 2], "{}", directory.display());
    }
    follower.stop();
    // The primary goes on by itself: behind the fork on timeline 1.
    let left = story.work(2);
    story.work(1);
    primary.archive_caught_up();
    primary.stop();
    let target = after.work(3);
    let last = after.migrate(123).after;
    standby.archive_caught_up();

    let mut pitr = Pitr::for_cluster(scratch, &standby);
    let archives = [&primary, &standby].map(|cluster| cluster.archive.as_deref().unwrap().to_str().unwrap());
    pitr.set("wal_archive", archives.to_vec());
    pitr.set("database", DATABASE);
    let plan = |args: &[&str], backup: &str| pitr.json_code(3, &[&["plan", "--backup", backup], args].concat())["refusals"][0].clone();
    for name in ["given-up", "given-up-tar"] {
        let refused = plan(&["--before-lsn", &target.lsn], name);
        assert_eq!(refused["id"], "backup-unusable", "{name}: {refused}");
        let what = refused["what"].as_str().unwrap();
        // From 15 on the program leaves the archive without an end.
        assert!(what.contains("[incomplete]") || what.contains("[truncated]"), "{name}: {refused}");
    }
    for name in ["plain", "tar"] {
        let refused = plan(&["--timeline", "1", "--before-lsn", &left.lsn], name);
        assert!(refused["what"].as_str().unwrap().contains("does not lead to timeline 1"), "{name}: {refused}");
        let planned = pitr.json(&["plan", "--before-lsn", &target.lsn, "--backup", name]);
        assert_eq!(planned["target"]["timeline"], 2, "{name}: {planned}");
    }
    // The newest of them all: the one that crossed.
    let restored = pitr.json(&["restore", "--yes", "--before-lsn", &target.lsn]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(story::facts(&standby, DATABASE), target.facts);
    assert_eq!(pitr.json(&["undo", "--yes"])["outcome"], "undone");
    assert_eq!(story::facts(&standby, DATABASE), last.facts);
}
