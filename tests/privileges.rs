//! What the owner of PGDATA cannot get out of a run of root's: no write of root's below PGDATA, nothing of a file that
//! only root can read.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::cluster::Archive;
use crate::support::program::{self, program};
use crate::support::scratch::give;
use crate::support::story::{self, DATABASE, Facts, Point};
use crate::support::strace::{Change, Trace};
use crate::support::{Pitr, Scratch, Story, TestCluster, wait_until};

/// What no run may show.
const SECRET: &str = "only_root_may_read_this_8c1f";

struct Ground {
    cluster: TestCluster,
    pitr: Pitr,
    target: Point,
    now: Facts,
    postmaster: Option<i32>,
}

impl Ground {
    fn new(scratch: &Scratch, cluster: TestCluster, tarball: &str) -> Ground {
        let story = Story::begin(&cluster);
        cluster.cron_tarball(tarball, None);
        story.work(5);
        for _ in 0..3 {
            cluster.switch_wal();
            story.work(2);
        }
        let target = story.work(5);
        story.migrate(123);
        cluster.archive_caught_up();
        let now = story.facts();
        let mut pitr = Pitr::for_cluster(scratch, &cluster);
        pitr.set("database", DATABASE);
        let postmaster = cluster.postmaster_pid();
        Ground { cluster, pitr, target, now, postmaster }
    }

    fn restore(&self) -> [&str; 6] {
        ["restore", "--yes", "--before-lsn", &self.target.lsn, "-o", "json"]
    }

    /// The old cluster serves its rows, nothing is left running, and the secret is nowhere that anyone could look.
    #[track_caller]
    fn assert_kept_quiet(&self) {
        assert_eq!(story::facts(&self.cluster, DATABASE), self.now);
        self.pitr.assert_nothing_left();
        for dir in [&self.pitr.state, &self.pitr.said, &self.cluster.log] {
            if dir.exists() {
                let found = program::output(program("grep").args(["-rlaF", "-e", SECRET, "--"]).arg(dir));
                assert_eq!((found.code, found.stdout.as_str()), (1, ""), "the secret is shown: {}", found.stderr);
            }
        }
    }

    /// It was refused before anything was touched: the same server serves.
    #[track_caller]
    fn assert_untouched(&self) {
        self.assert_kept_quiet();
        assert_eq!(self.cluster.postmaster_pid(), self.postmaster, "the server is another one");
    }
}

/// A whole restore and its undo: nothing below PGDATA or staging is written, made, renamed, removed or given away by root.
#[test]
fn root_writes_nothing_below_pgdata() {
    let scratch = Scratch::new("strace");
    let cluster = TestCluster::builder(&scratch, "main").start();
    traced(&scratch, cluster, 0);
}

/// Where PGDATA's parent is root's, root exchanges the two directories and makes and gives away its own; nothing else.
#[test]
fn root_only_exchanges_below_its_own_parent() {
    let scratch = Scratch::new("strace-root");
    let cluster = TestCluster::builder(&scratch, "main").root_owned_parent().start();
    traced(&scratch, cluster, 1);
}

fn traced(scratch: &Scratch, cluster: TestCluster, exchanges: usize) {
    let ground = Ground::new(scratch, cluster, "base-20261121.tar.gz");
    for (name, args) in [("restore", ground.restore().as_slice()), ("undo", &["undo", "--yes", "-o", "json"])] {
        let output = scratch.path().join(format!("{name}.strace"));
        ground.pitr.traced(&output, args).wait().expect_code(0);
        // strace ends with the server that it still traces.
        ground.cluster.stop();
        wait_until(20, "the end of strace", || {
            crate::support::process::running(Path::new("/usr/bin/strace")).iter().all(|p| !p.command.contains(output.to_str().unwrap()))
        });
        ground.cluster.start();
        let trace = Trace::read(&output);
        let below: Vec<&Change> =
            trace.changes.iter().filter(|change| change.paths.iter().any(|path| guarded(&ground.cluster, path))).collect();
        let (root, owner): (Vec<&Change>, Vec<&Change>) = below.into_iter().partition(|change| change.uid == 0);
        assert!(owner.len() > 20, "{name}: the trace shows hardly any work: {owner:#?}");
        assert_eq!(root.len(), exchanges, "{name}: changes by root: {root:#?}");
        for change in root {
            assert!(change.call == "renameat2" && change.line.contains("RENAME_EXCHANGE"), "{name}: {change:#?}");
        }
    }
    assert_eq!(story::facts(&ground.cluster, DATABASE), ground.now);
}

/// PGDATA, or the data directory of a run, or anything below.
fn guarded(cluster: &TestCluster, path: &Path) -> bool {
    let Ok(inside) = path.strip_prefix(cluster.parent()) else { return false };
    let mut parts = inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    match parts.next() {
        Some(first) if first.starts_with(".pitr-") => parts.next().is_some_and(|second| second == "data"),
        Some(first) => first == "data",
        None => false,
    }
}

/// A backup whose `tablespace_map` names `/etc` (F2): refused; `/etc` is as it was.
#[test]
fn a_hostile_tablespace_map_is_refused() {
    let scratch = Scratch::new("map");
    let ground = Ground::new(&scratch, TestCluster::builder(&scratch, "main").start(), "base-20261121.tar");
    let backup = ground.cluster.backups.join("base-20261121.tar");
    ground.cluster.add_to_tar(&backup, "tablespace_map", b"16384 /etc\n", None);
    program::ok(program("gzip").arg("-1").arg(&backup));
    let etc = fs::metadata("/etc").map(|m| (m.uid(), m.gid(), m.mode(), m.ino())).unwrap();

    let said = ground.pitr.run(&ground.restore()).expect_code(3);

    assert!(said.stdout.contains("tablespace"), "{}", said.stdout);
    assert_eq!(fs::metadata("/etc").map(|m| (m.uid(), m.gid(), m.mode(), m.ino())).unwrap(), etc);
    assert!(!Path::new("/etc/PG_15_202209061").exists());
    ground.assert_untouched();
}

/// A segment of an archive that the owner can write is a link to a file of root's (F3): no such segment.
#[test]
fn a_linked_segment_is_not_read() {
    let scratch = Scratch::new("link");
    let ground = Ground::new(&scratch, TestCluster::builder(&scratch, "main").archive(Archive::OwnerOwned).start(), "base-20261121.tar.gz");
    let (segment, secret) = (needed_segment(&ground), secret_file(&scratch));
    fs::remove_file(&segment).unwrap();
    symlink(&secret, &segment).unwrap();

    let said = ground.pitr.run(&ground.restore()).expect_code(3);

    assert!(said.stdout.contains(segment.file_name().unwrap().to_str().unwrap()), "{}", said.stdout);
    ground.assert_untouched();
}

/// The same, but the link takes the segment's place after the plan was made: replay stops there, the old cluster serves.
#[test]
fn a_segment_that_becomes_a_link_is_not_read() {
    let scratch = Scratch::new("swap");
    let mut ground =
        Ground::new(&scratch, TestCluster::builder(&scratch, "main").archive(Archive::OwnerOwned).start(), "base-20261121.tar.gz");
    let (segment, secret) = (needed_segment(&ground), secret_file(&scratch));
    let swap: Vec<String> = ["/bin/ln", "-sf", secret.to_str().unwrap(), segment.to_str().unwrap()].map(str::to_string).to_vec();
    let hooks = toml::Table::from_iter([("before_stop".to_string(), toml::Value::from(vec![toml::Value::from(swap)]))]);
    ground.pitr.set("hooks", hooks);

    ground.pitr.run(&ground.restore()).expect_code(1);

    assert!(segment.is_symlink(), "the hook ran");
    ground.assert_kept_quiet();
}

/// `include` of a file that only root can read, in the owner's configuration (F3): refused, not echoed in an error.
#[test]
fn an_included_file_of_roots_is_not_shown() {
    let scratch = Scratch::new("include");
    let ground = Ground::new(&scratch, TestCluster::builder(&scratch, "main").start(), "base-20261121.tar.gz");
    let secret = secret_file(&scratch);
    let conf = fs::read_to_string(&ground.cluster.conf_file).unwrap();
    let included = |directive: &str| format!("{conf}\n{directive} '{}'\n", secret.display());
    let plan = ["plan", "--before-lsn", &ground.target.lsn];
    fs::write(&ground.cluster.conf_file, included("include")).unwrap();
    for args in [ground.restore().as_slice(), &plan, &["restore", "-v", "--yes", "--to-latest"]] {
        ground.pitr.run(args).expect_code(3);
        ground.assert_untouched();
    }
    ground.pitr.run(&["status"]);
    ground.assert_untouched();
    // PostgreSQL passes over what it cannot read here, and so does the plan.
    fs::write(&ground.cluster.conf_file, included("include_if_exists")).unwrap();
    ground.pitr.run(&plan).expect_code(0);
    ground.assert_untouched();
}

/// A state directory that others can write is not used.
#[test]
fn a_state_directory_of_others_is_refused() {
    let scratch = Scratch::new("state");
    let ground = Ground::new(&scratch, TestCluster::builder(&scratch, "main").start(), "base-20261121.tar.gz");
    fs::create_dir(&ground.pitr.state).unwrap();
    for (owner, mode) in [("root", 0o777), ("postgres", 0o700)] {
        give(&ground.pitr.state, owner, owner, mode);
        let said = ground.pitr.run(&ground.restore()).expect_code(2);
        assert!(said.stderr.contains(ground.pitr.state.to_str().unwrap()), "{}", said.stderr);
        assert_eq!(fs::metadata(&ground.pitr.state).unwrap().permissions().mode() & 0o7777, mode, "it was changed");
        ground.assert_untouched();
    }
    fs::remove_dir_all(&ground.pitr.state).unwrap();
    symlink(scratch.path(), &ground.pitr.state).unwrap();
    ground.pitr.run(&ground.restore()).expect_code(2);
    ground.assert_untouched();
}

/// A segment after the backup and before the target that only the archive has.
fn needed_segment(ground: &Ground) -> PathBuf {
    let archive = ground.cluster.archive.as_ref().unwrap();
    let mut names: Vec<String> = fs::read_dir(archive).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.len() == 24);
    names.sort();
    let name = names[names.len() - 3].clone();
    let _ = fs::remove_file(ground.cluster.data.join("pg_wal").join(&name));
    archive.join(name)
}

/// As large as a segment, so that its size gives nothing away, and a line of settings, for an error to quote.
fn secret_file(scratch: &Scratch) -> PathBuf {
    let mut text = format!("{SECRET} = '{SECRET}'\n{SECRET}\n");
    text.push_str(&"#".repeat((1 << 20) - text.len()));
    scratch.file("secret/file", text, 0o600)
}
