//! Whole recoveries: every target there and back, and what stands after one that failed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::cluster::{Builder, Layout};
use crate::support::program;
use crate::support::story::{self, CHECK_USER, CHECKS, DATABASE, Facts, Point};
use crate::support::tree::{diff, snapshot_tree};
use crate::support::{Pitr, Scratch, Story, TestCluster, process, wait_until};

/// Restored to a time, undone, to a restore point, undone, to latest after a clean stop.
#[test]
fn there_and_back_on_the_plain_layout() {
    let scratch = Scratch::new("plain");
    let logs = scratch.dir("server-logs", "postgres", "postgres", 0o700);
    there_and_back(&scratch, collected(TestCluster::builder(&scratch, "main"), &logs), &logs);
}

/// The same where the configuration lives in `/etc/postgresql` and names the data directory.
#[test]
fn there_and_back_on_debians_layout() {
    let scratch = Scratch::new("debian");
    let logs = scratch.dir("server-logs", "postgres", "postgres", 0o700);
    there_and_back(&scratch, collected(TestCluster::builder(&scratch, "main").debian(), &logs), &logs);
}

/// A log collector: a private server that kept this setting would write into production's log directory.
fn collected<'a>(builder: Builder<'a>, logs: &Path) -> Builder<'a> {
    builder.conf("logging_collector = on").conf(&format!("log_directory = '{}'", logs.display()))
}

fn there_and_back(scratch: &Scratch, builder: Builder<'_>, logs: &Path) {
    let cluster = builder.start();
    let story = Story::begin(&cluster);
    cluster.sql(DATABASE, "CREATE EXTENSION amcheck");
    story.bulk(size_mib());
    cluster.cron_tarball("base-20261121.tar.gz", None);
    let at_time = story.work(20);
    let lossy = story.migrate(123);
    let at_name = story.restore_point("after the migration");
    let last = story.work(30);
    let pitr = configured(scratch, &cluster);
    // What the backup does not have: a recovery that brings yesterday's configuration back shows here.
    append_as_owner(&hba_file(&cluster), "# as of today\n");
    cluster.sql("postgres", "SELECT pg_reload_conf()");
    let configuration = configuration(&cluster);
    assert_ne!(at_time.facts, lossy.after.facts);

    for (target, expected) in [
        (["--to-time", at_time.time.as_str()].as_slice(), &at_time),
        (&["--to-name", "after the migration"], &at_name),
        (&["--to-latest"], &last),
    ] {
        let restored = pitr.json(&[&["restore", "--yes", "--reason", "test"], target].concat());
        assert_eq!(restored["outcome"], "switched", "{restored}");
        assert_eq!(restored["changed"], true);
        assert_sound(&cluster, expected);
        assert_untouched(&cluster, logs, &configuration);
        pitr.assert_nothing_left();

        let undone = pitr.json(&["undo", "--yes"]);
        assert_eq!(undone["outcome"], "undone", "{undone}");
        assert_sound(&cluster, &last);
        assert_untouched(&cluster, logs, &configuration);
        pitr.assert_nothing_left();
    }
    let again = pitr.json(&["undo", "--yes"]);
    assert_eq!((&again["outcome"], &again["changed"]), (&"nothing".into(), &false.into()), "{again}");
    cluster.stop();
    program::ok(cluster.tool("pg_checksums").arg("--check").arg("-D").arg(&cluster.data));
}

/// A check that fails: exit 6, the old cluster serves, the archive has nothing of the recovery.
#[test]
fn a_failing_check_leaves_the_old_cluster_serving() {
    let scratch = Scratch::new("check");
    let mut ground = Ground::new(&scratch);
    let never = scratch.file("checks/never.sql", "-- check: never\n-- expect: count(*) = 0\nSELECT 1;\n", 0o644);
    ground.pitr.set("checks", vec![never.to_str().unwrap()]);

    let failed = ground.fails(6, |pitr, target| pitr.json_code(6, &["restore", "--yes", "--before-time", target]));

    assert_eq!(failed["outcome"], "failed", "{failed}");
    assert_eq!((&failed["checks"][0]["name"], &failed["checks"][0]["passed"]), (&"never".into(), &false.into()), "{failed}");
}

/// The backup loses its end after it was planned with: it is unpacked while the old cluster serves, so that this
/// costs no outage: refused, and nothing was touched.
#[test]
fn a_failed_extraction_leaves_the_old_cluster_serving() {
    let scratch = Scratch::new("extract");
    let mut ground = Ground::new(&scratch);
    let damage = toml::Value::from(vec!["/usr/bin/truncate", "-s", "-65536", ground.backup.to_str().unwrap()]);
    let hooks = toml::Table::from_iter([("before".to_string(), toml::Value::from(vec![damage]))]);
    ground.pitr.set("hooks", hooks);

    let failed = ground.fails(3, |pitr, target| pitr.json_code(3, &["restore", "--yes", "--before-time", target]));

    assert_eq!(failed["outcome"], "refused", "{failed}");
    let phases: Vec<&Value> = failed["phases"].as_array().unwrap().iter().map(|phase| &phase["name"]).collect();
    assert!(!phases.contains(&&Value::from("switch")) && failed["downtime_seconds"].is_null(), "{failed}");
}

/// The private server dies: exit 1, the old cluster serves again.
#[test]
fn a_killed_private_server_leaves_the_old_cluster_serving() {
    let scratch = Scratch::new("killed");
    let mut ground = Ground::new(&scratch);
    let slow = scratch.file("checks/slow.sql", "-- check: slow\nSELECT pg_sleep(20);\n", 0o644);
    ground.pitr.set("checks", vec![slow.to_str().unwrap()]);
    let parent = ground.cluster.parent().to_path_buf();

    let failed = ground.fails(1, |pitr, target| {
        let mut running = pitr.spawn(&["restore", "--yes", "--before-time", target, "-o", "json"]);
        let mut server = None;
        wait_until(120, "the private server", || {
            server = private_postmaster(&parent);
            server.is_some() || running.ended()
        });
        process::send(server.expect("a private server before the end of the run"), Signal::SIGKILL);
        running.wait().expect_code(1).json()
    });

    assert_eq!(failed["outcome"], "failed", "{failed}");
}

/// A cluster with a story, a backup and a target, on which a recovery is going to fail.
struct Ground {
    cluster: TestCluster,
    pitr: Pitr,
    backup: PathBuf,
    target: Point,
    now: Facts,
}

impl Ground {
    fn new(scratch: &Scratch) -> Ground {
        let cluster = TestCluster::builder(scratch, "main").start();
        let story = Story::begin(&cluster);
        let backup = cluster.cron_tarball("base-20261121.tar.gz", None);
        let target = story.work(10);
        story.migrate(123);
        cluster.archive_caught_up();
        let now = story.facts();
        let pitr = configured(scratch, &cluster);
        Ground { cluster, pitr, backup, target, now }
    }

    /// Runs `act` with the time of the target, then asserts that the old cluster serves its own rows, that nothing runs
    /// on, and that the archive only got what the old cluster gave it.
    #[track_caller]
    fn fails(&mut self, code: i32, act: impl FnOnce(&Pitr, &str) -> Value) -> Value {
        let archive = self.cluster.archive.clone().unwrap();
        let before = snapshot_tree(&archive);
        let document = act(&self.pitr, &self.target.time);

        assert!(document["error"]["what"].is_string(), "exit {code} without a reason: {document}");
        assert_eq!(story::facts(&self.cluster, DATABASE), self.now);
        assert_eq!(self.cluster.sql("postgres", "SELECT timeline_id FROM pg_control_checkpoint()"), "1");
        self.pitr.assert_nothing_left();
        for change in diff(&before, &snapshot_tree(&archive)) {
            assert!(change.starts_with("+ 00000001"), "the archive changed: {change}");
        }
        let status = self.pitr.json(&["status"]);
        assert_eq!(status["clusters"][0]["state"], "serving", "{status}");
        document
    }
}

/// MiB of rows: little by default, `PITR_TEST_MIB=2048` for the size that the releases are shown with.
fn size_mib() -> u32 {
    std::env::var("PITR_TEST_MIB").map_or(16, |text| text.parse().expect("PITR_TEST_MIB is a number of MiB"))
}

fn configured(scratch: &Scratch, cluster: &TestCluster) -> Pitr {
    let mut pitr = Pitr::for_cluster(scratch, cluster);
    pitr.set("database", DATABASE);
    if cluster.layout == Layout::Plain {
        pitr.set("check_user", CHECK_USER);
    }
    pitr
}

/// The server answers with the rows of `point`, writable, and `pg_amcheck` finds nothing.
#[track_caller]
fn assert_sound(cluster: &TestCluster, point: &Point) {
    assert!(cluster.running(), "no server at {}", cluster.data.display());
    assert_eq!(cluster.sql("postgres", "SELECT pg_is_in_recovery()"), "f");
    assert_eq!(story::facts(cluster, DATABASE), point.facts, "not the rows of {}", point.time);
    let mut amcheck = cluster.tool("pg_amcheck");
    amcheck.arg("-h").arg(&cluster.socket.dir).arg("-p").arg(cluster.socket.port.to_string()).args(["-U", "postgres", "-d", DATABASE]);
    program::ok(amcheck.args(["--heapallindexed", "--rootdescend"]));
}

/// Production's pid file, logs and configuration show nothing of the private server.
#[track_caller]
fn assert_untouched(cluster: &TestCluster, logs: &Path, before: &BTreeMap<PathBuf, Vec<u8>>) {
    assert_eq!(&configuration(cluster), before, "the configuration is not today's");
    for entry in fs::read_dir(logs).unwrap().flatten() {
        let text = String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
        assert!(!text.contains("archive recovery") && !text.contains("point-in-time recovery"), "{}: {text}", entry.path().display());
    }
    if cluster.layout == Layout::Debian {
        let pid_file = format!("/var/run/postgresql/15-{}.pid", cluster.debian_name());
        let pid = fs::read_to_string(&pid_file).unwrap_or_else(|e| panic!("{pid_file}: {e}"));
        assert_eq!(pid.trim().parse().ok(), cluster.postmaster_pid(), "{pid_file}");
    }
}

/// Every configuration file of the cluster with its content.
fn configuration(cluster: &TestCluster) -> BTreeMap<PathBuf, Vec<u8>> {
    let own = ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"].map(|name| match cluster.layout {
        Layout::Plain => cluster.data.join(name),
        Layout::Debian => Path::new("/etc/postgresql/15").join(cluster.debian_name()).join(name),
    });
    let auto = cluster.data.join("postgresql.auto.conf");
    own.into_iter().chain([auto, cluster.conf_file.clone()]).map(|path| (path.clone(), fs::read(&path).unwrap_or_default())).collect()
}

fn hba_file(cluster: &TestCluster) -> PathBuf {
    PathBuf::from(cluster.sql("postgres", "SHOW hba_file"))
}

fn append_as_owner(path: &Path, text: &str) {
    let mut content = fs::read_to_string(path).unwrap();
    content.push_str(text);
    fs::write(path, content).unwrap();
}

/// A postmaster whose working directory is a staging directory.
fn private_postmaster(parent: &Path) -> Option<i32> {
    let staging = format!("cwd {}/.pitr-", parent.display());
    let servers = process::holders(parent).into_iter().filter(|holder| holder.holds.starts_with(&staging));
    servers.filter(|holder| holder.exe.ends_with("bin/postgres") && holder.command.contains(" -c ")).map(|holder| holder.pid).min()
}

/// The runbook's checks are what a person would configure; they hold before 123 and fail after it.
#[test]
fn the_runbooks_checks_pass_before_the_migration_and_fail_after_it() {
    let scratch = Scratch::new("runbook");
    let mut ground = Ground::new(&scratch);
    let checks = scratch.file("checks/mazevault.sql", CHECKS, 0o644);
    ground.pitr.set("checks", vec![checks.to_str().unwrap()]);

    ground.fails(6, |pitr, _| pitr.json_code(6, &["restore", "--yes", "--to-latest"]));
    ground.pitr.json_code(3, &["restore", "--yes", "--before-time", &ground.target.time]);
    assert_eq!(ground.pitr.json(&["undo", "--yes"])["outcome"], "undone");
    let restored = ground.pitr.json(&["restore", "--yes", "--before-time", &ground.target.time]);

    assert_eq!(restored["outcome"], "switched", "{restored}");
    let checks = restored["checks"].as_array().unwrap();
    assert!(checks.len() >= 3 && checks.iter().all(|check| check["passed"] == true), "{restored}");
    assert_eq!(story::facts(&ground.cluster, DATABASE), ground.target.facts);
}
