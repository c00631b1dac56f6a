//! One cluster with a story, a backup and a target, that a matrix of recoveries begins from again and again.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::cluster::{Builder, TestCluster};
use super::program::{self, program};
use super::story::{self, DATABASE, Facts, Point, Story};
use super::tree::{Tree, diff, snapshot_tree};
use super::{Pitr, Scratch, process, wait_until};

/// Which cluster answers at PGDATA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// The one from before the recovery, all its rows there.
    Old,
    /// The recovered one, exactly the rows of the target.
    New,
}

/// The prepared ground; [`Stand::reset`] makes it new.
#[derive(Debug)]
pub struct Stand {
    /// The cluster, serving after a reset.
    pub cluster: TestCluster,
    /// Configured for it, with the runbook's checks.
    pub pitr: Pitr,
    /// Just before the lossy migration.
    pub target: Point,
    old: Facts,
    saved: PathBuf,
    configuration: BTreeMap<PathBuf, Vec<u8>>,
    archived: Tree,
}

impl Stand {
    /// Lays it out; the cluster is down until the first reset.
    pub fn new(scratch: &Scratch, builder: Builder<'_>) -> Stand {
        let cluster = builder.start();
        let story = Story::begin(&cluster);
        cluster.cron_tarball("base-20261121.tar.gz", None);
        story.work(10);
        let lossy = story.migrate(123);
        story.work(5);
        let old = story.facts();
        cluster.stop();
        let pitr = Pitr::for_runbook(scratch, &cluster);
        let saved = scratch.dir("saved", "root", "root", 0o700);
        copy(cluster.parent(), &saved.join("pg"));
        copy(archive(&cluster), &saved.join("archive"));
        let configuration = configuration(&cluster);
        let archived = snapshot_tree(archive(&cluster));
        Stand { target: lossy.before, cluster, pitr, old, saved, configuration, archived }
    }

    /// The arguments of the recovery: to just before the migration.
    pub fn restore(&self) -> [&str; 6] {
        ["restore", "--yes", "--before-time", &self.target.time, "-o", "json"]
    }

    /// Everything as it was at the beginning, the cluster serving.
    #[track_caller]
    pub fn reset(&self) {
        self.halt();
        for (name, dir) in [("pg", self.cluster.parent()), ("archive", archive(&self.cluster))] {
            let _ = fs::remove_dir_all(dir);
            copy(&self.saved.join(name), dir);
        }
        let _ = fs::remove_dir_all(&self.pitr.state);
        let _ = fs::write(&self.cluster.log, "");
        self.cluster.start();
    }

    /// Ends every server of this cluster, also one that a failed entry left on a directory that is gone.
    pub fn halt(&self) {
        let ours = || [self.cluster.parent(), &self.cluster.socket.dir].into_iter().flat_map(process::holders).collect::<Vec<_>>();
        for holder in ours() {
            process::send(holder.pid, if holder.exe.ends_with("postgres") { Signal::SIGQUIT } else { Signal::SIGKILL });
        }
        wait_until(20, "the end of the servers of the last entry", || ours().is_empty());
        for entry in fs::read_dir(&self.cluster.socket.dir).unwrap().flatten() {
            let _ = fs::remove_file(entry.path());
        }
    }

    /// Whose rows the running server has: exactly one of the two clusters'. It is writable.
    #[track_caller]
    pub fn who(&self) -> Serves {
        assert_eq!(self.cluster.sql("postgres", "SELECT pg_is_in_recovery()"), "f");
        let facts = story::facts(&self.cluster, DATABASE);
        match (facts == self.old, facts == self.target.facts) {
            (true, false) => Serves::Old,
            (false, true) => Serves::New,
            _ => panic!("neither the old cluster's rows nor the target's: {facts:?}"),
        }
    }

    /// The server at PGDATA has the rows of `expected`; nothing is left of a run's processes; configuration and log are
    /// production's own; the archive lost nothing.
    #[track_caller]
    pub fn assert_serves(&self, expected: Serves) {
        assert!(self.cluster.running(), "no server at {}\n{}", self.cluster.data.display(), self.cluster.log_tail());
        assert_eq!(self.who(), expected);
        self.pitr.assert_nothing_left();
        assert_eq!(configuration(&self.cluster), self.configuration, "the configuration is not production's");
        let log = fs::read_to_string(&self.cluster.log).unwrap_or_default();
        for word in ["archive recovery", "point-in-time", ".pitr-", "wal-get"] {
            assert!(!log.contains(word), "production's log tells of the private server: {log}");
        }
        for change in diff(&self.archived, &snapshot_tree(archive(&self.cluster))) {
            assert!(change.starts_with('+'), "the archive lost something: {change}");
        }
        let written = self.cluster.sql(DATABASE, "CREATE TABLE proof_of_writing AS SELECT 1; DROP TABLE proof_of_writing; SELECT 'yes'");
        assert!(written.ends_with("yes"), "{written}");
    }

    /// `pitr status` names the open run and both ways on.
    #[track_caller]
    pub fn assert_open(&self) -> String {
        let status = self.pitr.json(&["status"]);
        let run = &status["clusters"][0]["run"];
        let id = run["id"].as_str().unwrap_or_else(|| panic!("no open run: {status}")).to_string();
        let next = serde_json::json!([format!("pitr resume {id}"), format!("pitr undo {id}")]);
        assert_eq!(run["next"], next, "{status}");
        id
    }

    /// `pitr status` knows of no open run.
    #[track_caller]
    pub fn assert_closed(&self) {
        let status = self.pitr.json(&["status"]);
        assert!(status["clusters"][0]["run"].is_null(), "{status}");
        assert_eq!(status["clusters"][0]["state"], "serving", "{status}");
    }
}

/// Plays every entry on a new ground, all of them whatever happens, then panics with the names of those that failed.
pub fn matrix<T: std::fmt::Debug>(stand: &Stand, entries: &[T], play: impl Fn(&T)) {
    let mut failed = Vec::new();
    for entry in entries {
        let begun = std::time::Instant::now();
        let played = catch_unwind(AssertUnwindSafe(|| {
            stand.reset();
            play(entry);
        }));
        eprintln!("{entry:?}: {} in {:.1} s", if played.is_ok() { "ok" } else { "FAILED" }, begun.elapsed().as_secs_f64());
        if played.is_err() {
            failed.push(entry);
        }
    }
    stand.halt();
    assert!(failed.is_empty(), "{} of {} entries failed: {failed:#?}", failed.len(), entries.len());
}

/// Whether every entry of each matrix is wanted, which takes a quarter of an hour and more.
pub fn full_matrix() -> bool {
    std::env::var_os("PITR_FULL_MATRIX").is_some_and(|v| v == "1")
}

fn archive(cluster: &TestCluster) -> &std::path::Path {
    cluster.archive.as_ref().expect("it archives")
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    program::ok(program("cp").args(["-a", "--reflink=auto", "--"]).arg(from).arg(to));
}

fn configuration(cluster: &TestCluster) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = ["postgresql.conf", "pg_hba.conf", "pg_ident.conf", "postgresql.auto.conf"];
    names.iter().map(|name| cluster.data.join(name)).map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}
