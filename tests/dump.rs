//! `--dump-before`: what is dumped can be restored, is nobody else's to read, and a dump that fails stops nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::support::program;
use crate::support::story::{self, CHECK_USER, DATABASE, Facts, Point};
use crate::support::{Pitr, Scratch, Story, TestCluster, wait_until};

struct Ground {
    cluster: TestCluster,
    pitr: Pitr,
    target: Point,
    now: Facts,
}

impl Ground {
    fn new(scratch: &Scratch) -> Ground {
        let cluster = TestCluster::builder(scratch, "main").start();
        let story = Story::begin(&cluster);
        cluster.cron_tarball("base-20261121.tar.gz", None);
        let target = story.work(5);
        story.migrate(123);
        let now = story.facts();
        let mut pitr = Pitr::for_cluster(scratch, &cluster);
        pitr.set("database", DATABASE);
        pitr.set("check_user", CHECK_USER);
        Ground { cluster, pitr, target, now }
    }

    fn restore<'a>(&'a self, dir: &'a Path) -> Vec<&'a str> {
        vec!["restore", "--yes", "--before-lsn", &self.target.lsn, "--dump-before", dir.to_str().unwrap(), "-o", "json"]
    }

    #[track_caller]
    fn assert_untouched(&self, postmaster: Option<i32>) {
        assert_eq!(story::facts(&self.cluster, DATABASE), self.now);
        assert_eq!(self.cluster.postmaster_pid(), postmaster, "the server is another one");
        self.pitr.assert_nothing_left();
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().flatten().map(|e| e.path()).collect();
    files.sort();
    files
}

/// Into root's directory and into the owner's: every row that the recovery discards can be had back from the dump.
#[test]
fn what_is_dumped_can_be_restored() {
    let scratch = Scratch::new("dump");
    let ground = Ground::new(&scratch);
    ground.cluster.sql("postgres", "CREATE DATABASE \"host=/tmp o'b\\x\"");
    let (roots, owners) = (scratch.dir("dumps", "root", "root", 0o700), scratch.dir("owners", "postgres", "postgres", 0o700));
    let restored = ground.pitr.run(&ground.restore(&roots)).expect_code(0).json();
    assert_eq!(restored["outcome"], "switched", "{restored:#}");
    let dumps = files(&roots);
    let names: Vec<&str> = dumps.iter().map(|p| p.file_name().unwrap().to_str().unwrap().rsplit('-').next().unwrap()).collect();
    assert_eq!((dumps.len(), names.contains(&"globals.sql")), (4, true), "{dumps:?}");
    for dump in &dumps {
        let metadata = fs::metadata(dump).unwrap();
        assert_eq!((metadata.uid(), metadata.permissions().mode() & 0o7777), (0, 0o600));
        assert!(metadata.len() > 100, "{}", dump.display());
    }
    assert!(restored["remarks"].to_string().contains("dumped before the stop"), "{restored:#}");
    assert!(fs::read_to_string(dumps.iter().find(|p| p.extension().unwrap() == "sql").unwrap()).unwrap().contains(CHECK_USER));
    // The rows of before, in a database of their own beside the recovered one.
    let dump = dumps.iter().find(|p| p.to_str().unwrap().ends_with(&format!("{DATABASE}.dump"))).unwrap();
    ground.cluster.sql("postgres", "CREATE DATABASE again");
    let socket = &ground.cluster.socket;
    let mut command = program::program(ground.cluster.programs.bin.join("pg_restore"));
    command.arg("-h").arg(&socket.dir).args(["-p", &socket.port.to_string(), "-U", "postgres", "-d", "again"]).arg(dump);
    program::ok(&mut command);
    assert_eq!(story::facts(&ground.cluster, "again"), ground.now);
    assert_eq!(story::facts(&ground.cluster, DATABASE), ground.target.facts);
    ground.pitr.json(&["undo", "--yes"]);

    let one = [ground.restore(&owners).as_slice(), &["--dump-database", DATABASE]].concat();
    ground.pitr.run(&one).expect_code(0);
    let dumps = files(&owners);
    assert_eq!(dumps.len(), 2, "{dumps:?}");
    assert!(dumps.iter().all(|p| fs::metadata(p).unwrap().mode() & 0o7777 == 0o600 && fs::metadata(p).unwrap().uid() != 0));
}

/// A directory that others can write, a database that is not there, no room, a view that fails to dump: the cluster
/// serves as before, by the same server.
#[test]
fn a_dump_that_fails_stops_nothing() {
    let scratch = Scratch::new("nodump");
    let ground = Ground::new(&scratch);
    let postmaster = ground.cluster.postmaster_pid();
    let (good, open) = (scratch.dir("dumps", "root", "root", 0o700), scratch.dir("open", "root", "root", 0o777));
    let small = scratch.dir("small", "root", "root", 0o700);
    scratch.mount_tmpfs(&small, 1);
    let missing = scratch.path().join("missing");
    for dir in [&open, &small, &missing] {
        let said = ground.pitr.run(&ground.restore(dir)).expect_code(1);
        assert!(said.stderr.contains(dir.to_str().unwrap()), "{}", said.stderr);
        ground.assert_untouched(postmaster);
        ground.pitr.json(&["undo", "--yes"]);
    }
    let unknown = [ground.restore(&good).as_slice(), &["--dump-database", "no_such"]].concat();
    assert!(ground.pitr.run(&unknown).expect_code(1).stderr.contains("no_such"));
    ground.assert_untouched(postmaster);
    assert_eq!(files(&good), Vec::<PathBuf>::new());
    // The run that was kept goes on once the database is there; what it began is made anew.
    ground.cluster.sql("postgres", "CREATE DATABASE no_such");
    let resumed = ground.pitr.json(&["resume", "--yes"]);
    assert_eq!(resumed["outcome"], "switched", "{resumed:#}");
    assert_eq!(files(&good).len(), 2);
    ground.pitr.json(&["undo", "--yes"]);
    // A cluster that does not serve cannot be dumped: refused before anything is done.
    ground.cluster.stop();
    let refused = ground.pitr.run(&ground.restore(&good)).expect_code(3).json();
    assert!(refused["refusals"].to_string().contains("dump-not-serving"), "{refused:#}");
}

/// Processes of the dump program that work for this cluster.
fn dumping(ground: &Ground) -> usize {
    let port = ground.cluster.socket.port.to_string();
    let of = |pid: &str| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        words.contains("pg_dump") && words.contains(&port)
    };
    fs::read_dir("/proc").unwrap().flatten().filter(|e| of(&e.file_name().to_string_lossy())).count()
}

/// A dump that is at work ends with what ends the run: a signal, `kill -9` of the coordinator, a disk that fills up. No
/// part of a dump is left, but after `kill -9`, and the cluster serves as before.
#[test]
fn a_dump_ends_with_its_run() {
    let scratch = Scratch::new("enddump");
    let ground = Ground::new(&scratch);
    let postmaster = ground.cluster.postmaster_pid();
    let (roots, owners) = (scratch.dir("dumps", "root", "root", 0o700), scratch.dir("owners", "postgres", "postgres", 0o700));
    for dir in [&roots, &owners] {
        scratch.mount_tmpfs(dir, 64);
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    }
    program::ok(program::program("chown").arg("postgres:postgres").arg(&owners));
    for (dir, end) in [(&roots, "disk"), (&roots, "TERM"), (&owners, "disk"), (&roots, "KILL")] {
        eprintln!("{end} in {}", dir.display());
        // pg_dump waits for this lock for ever.
        let mut session = ground.cluster.session(DATABASE);
        session.sql("BEGIN; LOCK TABLE environments IN ACCESS EXCLUSIVE MODE");
        let running = ground.pitr.spawn(&[ground.restore(dir).as_slice(), &["--dump-database", DATABASE]].concat());
        wait_until(60, "the dump of the database", || files(dir).iter().any(|p| p.extension().is_some_and(|e| e == "dump")));
        wait_until(60, "pg_dump", || dumping(&ground) > 0);
        let filler = dir.join("filler");
        let said = match end {
            "disk" => {
                fs::write(&filler, vec![0; 62 << 20]).unwrap();
                running.wait().expect_code(1)
            }
            "TERM" => {
                running.signal(Signal::SIGTERM);
                running.wait().expect_code(143)
            }
            _ => running.kill_9(),
        };
        let _ = fs::remove_file(&filler);
        wait_until(20, "the end of pg_dump", || dumping(&ground) == 0);
        session.sql("ROLLBACK");
        session.close();
        if end == "disk" {
            assert!(said.stderr.contains(dir.to_str().unwrap()) && said.stderr.contains("bytes left"), "{}", said.stderr);
        }
        if end != "KILL" {
            assert!(!files(dir).iter().any(|p| p.extension().is_some_and(|e| e == "dump")), "{:?}", files(dir));
        }
        ground.assert_untouched(postmaster);
        assert_eq!(ground.pitr.json(&["undo", "--yes"])["outcome"], "undone");
        assert_eq!(ground.cluster.postmaster_pid(), postmaster);
    }
}
