//! Hosts whose cluster is gone: PGDATA missing, empty, without pg_control, crashed beyond starting, or another, fresh
//! cluster in its place. Recovered, and taken back to what was there.

use std::fs;
use std::path::Path;

use crate::support::cluster::{Archive, Builder};
use crate::support::story::{self, DATABASE, Point};
use crate::support::tree::{Tree, diff, snapshot_tree};
use crate::support::{Pitr, Scratch, Story, TestCluster, program};

/// What became of the old cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Missing,
    Empty,
    NoControl,
    TornControl,
    Unstartable,
}

impl Loss {
    fn inflict(self, cluster: &TestCluster) {
        let control = cluster.data.join("global/pg_control");
        match self {
            Loss::Missing => fs::remove_dir_all(&cluster.data).unwrap(),
            Loss::Empty => empty(&cluster.data),
            Loss::NoControl => fs::remove_file(control).unwrap(),
            Loss::TornControl => {
                let mut bytes = fs::read(&control).unwrap();
                bytes[100] ^= 1;
                fs::write(&control, bytes).unwrap();
            }
            // pg_control says that it ran, and the WAL to recover from is gone.
            Loss::Unstartable => empty(&cluster.data.join("pg_wal")),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Loss::Missing => "missing",
            Loss::Empty => "empty",
            Loss::NoControl | Loss::TornControl => "damaged",
            Loss::Unstartable => "crashed",
        }
    }
}

fn empty(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
}

/// A cluster with a story and a backup, down; what is to be recovered, and how.
struct Ground {
    cluster: TestCluster,
    pitr: Pitr,
    target: Point,
    before_last: Point,
    last: Point,
    checks: usize,
}

impl Ground {
    fn new(scratch: &Scratch, builder: Builder<'_>, back_up: impl FnOnce(&TestCluster)) -> Ground {
        let cluster = builder.start();
        let story = Story::begin(&cluster);
        back_up(&cluster);
        // Without its pg_wal a backup is known to have ended by whole seconds only.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let target = story.work(10);
        story.migrate(123);
        let before_last = story.work(2);
        let last = story.work(1);
        cluster.archive_caught_up();
        let pitr = Pitr::for_runbook(scratch, &cluster);
        Ground { cluster, pitr, target, before_last, last, checks: 3 }
    }

    /// Theirs is the state before the migration.
    fn without_checks(&mut self) {
        self.pitr.unset("checks");
        self.checks = 0;
    }

    fn lose(&self, loss: Loss) {
        self.cluster.crash();
        let _ = fs::remove_file(self.cluster.data.join("postmaster.pid"));
        loss.inflict(&self.cluster);
    }

    /// Recovers the lost cluster, writes in it, and takes it back to what was there, byte for byte.
    #[track_caller]
    fn there_and_back(&self, loss: Loss, target: &[&str], expected: &Point) {
        self.lose(loss);
        let before = remains(&self.cluster);
        let status = self.pitr.json(&["status"]);
        assert_eq!(status["clusters"][0]["state"], loss.word(), "{status}");
        let plan = self.pitr.json(&[&["plan"], target].concat());
        assert!(plan["consequences"].as_array().unwrap().iter().any(|c| c["id"] == "remains"), "{plan}");
        assert_as_it_was(before.as_ref(), &self.cluster);
        let restored = self.restored(&[&["restore", "--yes"], target].concat(), expected);
        self.undone();
        assert_as_it_was(before.as_ref(), &self.cluster);
        let purged = self.pitr.json(&["purge", restored["run"].as_str().unwrap(), "--yes"]);
        assert_eq!(purged["outcome"], "removed", "{purged}");
        assert_as_it_was(before.as_ref(), &self.cluster);
        // Once more, and it stays.
        let restored = self.restored(&[&["restore", "--yes"], target].concat(), expected);
        let purged = self.pitr.json(&["purge", restored["run"].as_str().unwrap(), "--yes"]);
        assert_eq!(purged["outcome"], "removed", "{purged}");
        assert_eq!(story::facts(&self.cluster, DATABASE), expected.facts);
    }

    #[track_caller]
    fn restored(&self, args: &[&str], expected: &Point) -> serde_json::Value {
        let restored = self.pitr.json(args);
        assert_eq!(restored["outcome"], "switched", "{restored}");
        let checks = restored["checks"].as_array().unwrap();
        assert!(checks.len() >= self.checks && checks.iter().all(|check| check["passed"] == true), "{restored}");
        assert_eq!(self.cluster.sql("postgres", "SELECT pg_is_in_recovery()"), "f");
        assert_eq!(story::facts(&self.cluster, DATABASE), expected.facts);
        assert_eq!(self.cluster.sql("postgres", "SHOW archive_command").matches("cp %p").count(), 1);
        self.cluster.archive_caught_up();
        self.pitr.assert_nothing_left();
        restored
    }

    #[track_caller]
    fn undone(&self) {
        let undone = self.pitr.json(&["undo", "--yes"]);
        assert_eq!(undone["outcome"], "undone", "{undone}");
        assert!(!self.cluster.running());
        self.pitr.assert_nothing_left();
    }
}

/// Everything at PGDATA; nothing where it is missing.
fn remains(cluster: &TestCluster) -> Option<Tree> {
    cluster.data.exists().then(|| snapshot_tree(&cluster.data))
}

#[track_caller]
fn assert_as_it_was(before: Option<&Tree>, cluster: &TestCluster) {
    match (before, &remains(cluster)) {
        (Some(before), Some(after)) => assert_eq!(diff(before, after), [] as [String; 0]),
        (before, after) => assert_eq!((before.is_some(), after.is_some()), (false, false), "there or not there"),
    }
}

fn nightly(cluster: &TestCluster) {
    cluster.basebackup_tar("nightly", true);
}

fn cron(cluster: &TestCluster) {
    cluster.cron_tarball("base-20261121.tar.gz", None);
}

#[test]
fn a_missing_data_directory() {
    let scratch = Scratch::new("missing");
    let ground = Ground::new(&scratch, TestCluster::builder(&scratch, "main"), cron);
    ground.there_and_back(Loss::Missing, &["--before-time", &ground.target.time], &ground.target);
}

#[test]
fn a_missing_data_directory_below_a_parent_of_roots() {
    let scratch = Scratch::new("missing-root");
    let mut ground = Ground::new(&scratch, TestCluster::builder(&scratch, "main").root_owned_parent(), nightly);
    ground.without_checks();
    ground.there_and_back(Loss::Missing, &["--to-latest"], &ground.last);
}

#[test]
fn a_missing_data_directory_of_debians() {
    let scratch = Scratch::new("missing-debian");
    let ground = Ground::new(&scratch, TestCluster::builder(&scratch, "main").debian(), nightly);
    ground.there_and_back(Loss::Missing, &["--before-lsn", &ground.target.lsn], &ground.target);
}

#[test]
fn an_empty_data_directory() {
    let scratch = Scratch::new("empty");
    let mut ground = Ground::new(&scratch, TestCluster::builder(&scratch, "main"), nightly);
    ground.without_checks();
    ground.there_and_back(Loss::Empty, &["--before-xid", &ground.last.xid], &ground.before_last);
}

/// WAL that never reached the archive stands in what is left of the old cluster, and is used.
#[test]
fn pg_control_is_gone_or_damaged() {
    for (topic, loss) in [("control-gone", Loss::NoControl), ("control-torn", Loss::TornControl)] {
        let scratch = Scratch::new(topic);
        let mut ground = Ground::new(&scratch, TestCluster::builder(&scratch, "main").archiver_switch(), nightly);
        ground.without_checks();
        ground.cluster.fail_archiving(true);
        ground.last = Story::on(&ground.cluster).work(7);
        ground.lose(loss);
        ground.cluster.fail_archiving(false);
        let before = remains(&ground.cluster);
        ground.restored(&["restore", "--yes", "--to-latest"], &ground.last);
        ground.undone();
        assert_as_it_was(before.as_ref(), &ground.cluster);
    }
}

#[test]
fn a_crashed_cluster_that_does_not_start() {
    let scratch = Scratch::new("unstartable");
    let ground = Ground::new(&scratch, TestCluster::builder(&scratch, "main"), cron);
    ground.lose(Loss::Unstartable);
    assert_ne!(ground.cluster.try_start().code, 0, "it starts");
    let _ = fs::remove_file(ground.cluster.data.join("postmaster.pid"));
    let before = remains(&ground.cluster);
    let target = ["restore", "--yes", "--before-time", &ground.target.time];
    ground.restored(&target, &ground.target);
    ground.undone();
    assert_as_it_was(before.as_ref(), &ground.cluster);
}

/// Nothing to go by: refused, with what to name.
#[test]
fn nothing_says_which_cluster_it_was() {
    let scratch = Scratch::new("unknown");
    let mut ground = Ground::new(&scratch, TestCluster::builder(&scratch, "main"), cron);
    ground.lose(Loss::Missing);
    for entry in fs::read_dir(&ground.cluster.backups).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    ground.pitr.unset("wal_archive");
    let refused = ground.pitr.json_code(3, &["plan", "--to-latest"]);
    assert_eq!(refused["refusals"][0]["id"], "unknown-cluster", "{refused}");
    assert!(!ground.cluster.data.exists());
}

/// Killed at each step, and around the placeholder: `undo` leaves nothing at PGDATA, `resume` the recovered cluster.
#[cfg(feature = "crash-points")]
#[test]
fn killed_while_nothing_is_at_pgdata() {
    let scratch = Scratch::new("missing-killed");
    let ground = Ground::new(&scratch, TestCluster::builder(&scratch, "main"), nightly);
    ground.lose(Loss::Missing);
    let args = ["restore", "--yes", "--before-time", &ground.target.time, "-o", "json"];
    let at =
        ["begun placeholder", "after placeholder", "applied extract", "done stop", "applied replay", "after exchange", "applied start"];
    for (index, point) in at.into_iter().enumerate() {
        ground.pitr.crash_at(point, &args);
        ground.pitr.assert_nothing_left();
        if index % 2 == 1 {
            let resumed = ground.pitr.json(&["resume", "--yes"]);
            assert_eq!(resumed["outcome"], "switched", "{point}: {resumed}");
            assert_eq!(story::facts(&ground.cluster, DATABASE), ground.target.facts);
        }
        ground.undone();
        assert!(!ground.cluster.data.exists(), "{point}: something is left at PGDATA");
    }
    // A failure before the switch puts things back too.
    let failed = ground.pitr.fail_at("applied promote", &args).expect_code(1).json();
    assert_eq!(failed["outcome"], "failed", "{failed}");
    assert!(!ground.cluster.data.exists(), "something is left at PGDATA");
    let resumed = ground.pitr.json(&["resume", "--yes"]);
    assert_eq!(resumed["outcome"], "switched", "{resumed}");
    assert_eq!(story::facts(&ground.cluster, DATABASE), ground.target.facts);
}

/// A fresh host: the packages made an empty cluster where the recovered one is to stand. It gives way, and comes back.
#[test]
fn an_empty_cluster_of_a_fresh_host() {
    let scratch = Scratch::new("fresh");
    let mut ground = Ground::new(&scratch, TestCluster::builder(&scratch, "main"), nightly);
    let lost = ground.cluster.sql("postgres", IDENTIFIER);
    ground.cluster.crash();
    let configuration = fs::read(&ground.cluster.conf_file).unwrap();
    fs::remove_dir_all(&ground.cluster.data).unwrap();
    let mut initdb = ground.cluster.tool("initdb");
    program::ok(initdb.arg("-D").arg(&ground.cluster.data).args(["--auth=trust", "--username=postgres", "--no-sync", "--wal-segsize=1"]));
    fs::write(&ground.cluster.conf_file, configuration).unwrap();
    ground.cluster.start();
    ground.cluster.sql("postgres", "CREATE TABLE fresh AS SELECT 1");
    let fresh = ground.cluster.sql("postgres", IDENTIFIER);
    assert_ne!(lost, fresh);
    ground.pitr.unset("backups");
    ground.pitr.unset("wal_archive");
    let (backups, archive) = (ground.cluster.backups.clone(), ground.cluster.archive.clone().unwrap());
    let target = ["--before-lsn", &ground.target.lsn, "--backups", backups.to_str().unwrap(), "--wal", archive.to_str().unwrap()];
    // Not by accident: a backup of another cluster is none of this one.
    let refused = ground.pitr.json_code(3, &[&["plan"], target.as_slice()].concat());
    assert_ne!(refused["refusals"], serde_json::json!([]), "{refused}");
    let named = [target.as_slice(), &["--as", "main"]].concat();
    let plan = ground.pitr.json(&[&["plan"], named.as_slice()].concat());
    assert!(plan.to_string().contains(&format!("system identifier {fresh}, is kept aside")), "{plan}");
    ground.restored(&[&["restore", "--yes"], named.as_slice()].concat(), &ground.target);
    assert_eq!(ground.cluster.sql("postgres", IDENTIFIER), lost);
    let undone = ground.pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{undone}");
    assert_eq!(ground.cluster.sql("postgres", "SELECT count(*) FROM fresh"), "1");
    assert_eq!(ground.cluster.sql("postgres", IDENTIFIER), fresh);
}

const IDENTIFIER: &str = "SELECT system_identifier FROM pg_control_system()";

/// Below a parent of root's the directory is made by root: killed before it is given away, nothing stands at PGDATA.
#[cfg(feature = "crash-points")]
#[test]
fn killed_before_the_placeholder_is_given_away() {
    let scratch = Scratch::new("missing-given");
    let ground = Ground::new(&scratch, TestCluster::builder(&scratch, "main").root_owned_parent(), nightly);
    ground.lose(Loss::Missing);
    for on in [false, true] {
        ground.pitr.crash_at("before a change of owner", &["restore", "--yes", "--before-time", &ground.target.time]);
        assert!(!ground.cluster.data.exists());
        if on {
            assert_eq!(ground.pitr.json(&["resume", "--yes"])["outcome"], "switched");
            assert_eq!(story::facts(&ground.cluster, DATABASE), ground.target.facts);
        }
        ground.undone();
        let left: Vec<_> = fs::read_dir(ground.cluster.parent()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(!ground.cluster.data.exists() && !left.iter().any(|n| n.to_string_lossy().contains("placeholder")), "{left:?}");
    }
}

/// A fresh host on Debian's layout: the package made an empty cluster of the same name, with its own configuration in
/// `/etc/postgresql`. The recovered one takes its place and its configuration; `pitr` knows nothing but what it is told.
#[test]
fn an_empty_cluster_of_a_fresh_debian() {
    let scratch = Scratch::new("fresh-debian");
    let lost = TestCluster::builder(&scratch, "lost").start();
    let story = Story::begin(&lost);
    nightly(&lost);
    let target = story.work(5);
    let last = story.work(1);
    lost.archive_caught_up();
    let identifier = lost.sql("postgres", IDENTIFIER);
    lost.crash();
    fs::remove_dir_all(&lost.data).unwrap();

    let fresh = TestCluster::builder(&scratch, "fresh").debian().archive(Archive::OwnerOwned).start();
    fresh.sql("postgres", "CREATE TABLE fresh AS SELECT 1");
    let own = fresh.sql("postgres", IDENTIFIER);
    let pitr = Pitr::for_cluster(&scratch, &fresh);
    pitr.write(&format!("state_directory = '{}'\n", pitr.state.display()));
    let (backups, archive) = (lost.backups.to_str().unwrap(), lost.archive.as_deref().unwrap().to_str().unwrap());
    let name = fresh.name.replacen('-', "/", 1);
    let args = ["--before-lsn", &target.lsn, "--backups", backups, "--wal", archive, "--as", &name];
    let plan = pitr.json(&[&["plan"], args.as_slice()].concat());
    assert!(plan.to_string().contains(&format!("system identifier {own}, is kept aside")), "{plan}");
    let restored = pitr.json(&[&["restore", "--yes"], args.as_slice()].concat());
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(fresh.sql("postgres", IDENTIFIER), identifier);
    assert_eq!(story::facts(&fresh, DATABASE), target.facts);
    let file = fresh.sql("postgres", "SHOW config_file");
    assert!(file.starts_with("/etc/postgresql/15/"), "{file}");
    // Latest, from the cluster that now serves.
    let undone = pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{undone}");
    assert_eq!(fresh.sql("postgres", "SELECT count(*) FROM fresh"), "1");
    assert_eq!(fresh.sql("postgres", IDENTIFIER), own);
    let latest = ["restore", "--yes", "--to-latest", "--backups", backups, "--wal", archive, "--as", &name];
    let restored = pitr.json(&latest);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(story::facts(&fresh, DATABASE), last.facts);
    pitr.assert_nothing_left();
}

/// A host with Debian's packages and no cluster of that name: `pitr` has it made a place in `/etc/postgresql`. Taken back,
/// nothing is at PGDATA again. Killed before and after the place is made, it goes on.
#[cfg(feature = "crash-points")]
#[test]
fn a_debian_host_without_a_cluster() {
    let scratch = Scratch::new("register");
    let lost = TestCluster::builder(&scratch, "lost").start();
    let story = Story::begin(&lost);
    nightly(&lost);
    let target = story.work(5);
    story.work(1);
    lost.archive_caught_up();
    lost.crash();
    fs::remove_dir_all(&lost.data).unwrap();

    let place = DebianPlace::new();
    let pitr = Pitr::for_cluster(&scratch, &lost);
    pitr.write(&format!("state_directory = '{}'\n", pitr.state.display()));
    let (backups, archive) = (lost.backups.to_str().unwrap(), lost.archive.as_deref().unwrap().to_str().unwrap());
    let name = format!("15/{}", place.name);
    let args = ["--before-lsn", &target.lsn, "--backups", backups, "--wal", archive, "--as", &name];
    let plan = pitr.json(&[&["plan"], args.as_slice()].concat());
    assert_eq!(plan["steps"][0]["name"], "register", "{plan}");
    assert!(plan["consequences"].to_string().contains("is made anew, with Debian's settings"), "{plan}");
    assert!(!place.etc.exists() && !place.data.exists());
    pitr.crash_at("before registering", &[&["restore", "--yes"], args.as_slice()].concat());
    pitr.crash_at("after registering", &["resume", "--yes"]);
    assert!(place.etc.join("postgresql.conf").is_file() && !place.data.exists());
    let resumed = pitr.json(&["resume", "--yes"]);
    assert_eq!(resumed["outcome"], "switched", "{resumed}");
    assert_eq!(place.facts(), target.facts);
    let listed = program::ok(program::program("pg_lsclusters").arg("-h"));
    let line = listed.lines().find(|line| line.contains(&place.name)).unwrap_or_else(|| panic!("{listed}"));
    assert!(line.contains("online") && line.contains(place.data.to_str().unwrap()), "{line}");
    let undone = pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{undone}");
    assert!(!place.data.exists() && place.etc.join("postgresql.conf").is_file());
    // Now it is known, and nothing is registered again.
    let plan = pitr.json(&[&["plan"], args.as_slice()].concat());
    assert!(!plan["steps"].to_string().contains("register"), "{plan}");
    pitr.run(&["purge", "--all", "--yes"]).expect_code(0);
    pitr.assert_nothing_left();
}

/// A cluster's name among Debian's that nobody has; whatever is made under it goes at the end.
#[cfg(feature = "crash-points")]
struct DebianPlace {
    name: String,
    etc: std::path::PathBuf,
    data: std::path::PathBuf,
}

#[cfg(feature = "crash-points")]
impl DebianPlace {
    fn new() -> DebianPlace {
        let name = format!("pitrt{}place", std::process::id());
        let (etc, data) = (Path::new("/etc/postgresql/15").join(&name), Path::new("/var/lib/postgresql/15").join(&name));
        crate::support::scratch::make_dir(data.parent().unwrap(), "postgres", "postgres", 0o755);
        assert!(!etc.exists() && !data.exists());
        DebianPlace { name, etc, data }
    }

    /// The rows of the story in the cluster that serves there.
    fn facts(&self) -> story::Facts {
        let conf = fs::read_to_string(self.etc.join("postgresql.conf")).unwrap();
        let port = conf.lines().find_map(|line| line.strip_prefix("port = ")).and_then(|rest| rest.split_whitespace().next()).unwrap();
        let socket = crate::support::psql::Socket { dir: "/var/run/postgresql".into(), port: port.parse().unwrap() };
        story::facts_by(|| socket.psql(Path::new("/usr/lib/postgresql/15/bin"), DATABASE, "postgres"))
    }
}

#[cfg(feature = "crash-points")]
impl Drop for DebianPlace {
    fn drop(&mut self) {
        let _ = program::output(program::program("pg_dropcluster").args(["--stop", "15", &self.name]));
        let _ = fs::remove_dir_all(&self.etc);
        let _ = fs::remove_dir_all(&self.data);
        let _ = fs::remove_file(format!("/var/log/postgresql/postgresql-15-{}.log", self.name));
    }
}

/// A run of one cluster is open, and another cluster is to be recovered to the same place: refused until that run has ended.
#[cfg(feature = "crash-points")]
#[test]
fn an_open_run_of_another_cluster_at_the_same_place() {
    let scratch = Scratch::new("same-place");
    let lost = Ground::new(&scratch, TestCluster::builder(&scratch, "lost"), nightly);
    let here = Ground::new(&scratch, TestCluster::builder(&scratch, "main"), nightly);
    let (backups, archive) = (lost.cluster.backups.to_str().unwrap(), lost.cluster.archive.as_ref().unwrap().to_str().unwrap());
    let flags = ["--as", "main", "--before-lsn", &lost.target.lsn, "--backups", backups, "--wal", archive];
    let plan = here.pitr.json(&[&["plan"], flags.as_slice()].concat());
    here.pitr.crash_at("done extract", &["restore", "--yes", "--before-lsn", &here.target.lsn]);
    let status = here.pitr.json(&["status"]);
    let run = status["clusters"][0]["run"]["id"].as_str().unwrap().to_string();
    for words in [&["plan"][..], &["restore", "--yes"]] {
        let refused = here.pitr.json_code(3, &[words, flags.as_slice()].concat());
        let reason =
            refused["refusals"].as_array().unwrap().iter().find(|r| r["id"] == "open-run").unwrap_or_else(|| panic!("{refused:#}"));
        assert!(reason["hint"].as_str().unwrap().contains(&format!("pitr undo {run}")), "{refused:#}");
    }
    assert_eq!(here.pitr.json(&["undo", "--yes"])["outcome"], "undone");
    assert_eq!(here.pitr.json(&[&["plan"], flags.as_slice()].concat())["digest"], plan["digest"]);
}
