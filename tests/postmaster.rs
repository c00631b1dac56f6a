//! How the server was started is how it is started again, and what it was started with counts in the plan; and no process
//! but the cluster's own postmaster is ever taken for it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command};

use crate::support::program::{self, as_postgres, program};
use crate::support::scratch::give;
use crate::support::story::{self, DATABASE, Point};
use crate::support::{Pitr, Scratch, Story, TestCluster, process, wait_until};

/// A cluster with a target and a lost migration behind it.
struct Ground {
    cluster: TestCluster,
    pitr: Pitr,
    target: Point,
    last: Point,
}

impl Ground {
    /// `start` starts the server for the first time, its own way.
    fn new(scratch: &Scratch, conf: &[&str], start: impl Fn(&TestCluster)) -> Ground {
        let builder = conf.iter().fold(TestCluster::builder(scratch, "main"), |builder, line| builder.conf(line));
        let cluster = builder.create();
        start(&cluster);
        assert!(cluster.running(), "{}", cluster.log_tail());
        let story = Story::begin(&cluster);
        cluster.cron_tarball("base-20261121.tar.gz", None);
        let target = story.work(5);
        story.migrate(123);
        let last = story.work(3);
        let mut pitr = Pitr::for_cluster(scratch, &cluster);
        pitr.set("database", DATABASE);
        Ground { cluster, pitr, target, last }
    }

    #[track_caller]
    fn restore(&self) {
        let restored = self.pitr.json(&["restore", "--yes", "--before-lsn", &self.target.lsn]);
        assert_eq!(restored["outcome"], "switched", "{restored}");
        assert_eq!(story::facts(&self.cluster, DATABASE), self.target.facts);
    }

    #[track_caller]
    fn undo(&self) {
        let undone = self.pitr.json(&["undo", "--yes"]);
        assert_eq!(undone["outcome"], "undone", "{undone}");
        assert_eq!(story::facts(&self.cluster, DATABASE), self.last.facts);
    }

    fn show(&self, name: &str) -> String {
        self.cluster.sql("postgres", &format!("SHOW {name}"))
    }

    fn timeline(&self) -> String {
        self.cluster.sql("postgres", "SELECT timeline_id FROM pg_control_checkpoint()")
    }
}

/// `pg_ctl` with options for the server.
fn with_options(cluster: &TestCluster, options: &str) {
    let mut command = cluster.tool("pg_ctl");
    command.arg("-D").arg(&cluster.data).arg("-l").arg(&cluster.log).args(["-o", options, "-w", "start"]);
    program::ok(&mut command);
}

/// `archive_mode` and more stand on the command line only, against the files: the plan heeds them, every later start has
/// them, and so has a start after a stop.
#[test]
fn settings_of_the_command_line_are_heeded_and_kept() {
    let scratch = Scratch::new("options");
    let options = "-c archive_mode=on -c work_mem=7777kB -c listen_addresses='' -h ''";
    let ground = Ground::new(&scratch, &["archive_mode = off", "work_mem = '1MB'"], |cluster| with_options(cluster, options));
    let kept = || assert_eq!((ground.show("archive_mode"), ground.show("work_mem")), ("on".into(), "7777kB".into()));
    kept();

    ground.restore();
    kept();
    // It archives, so that the recovery put up what the archive lacked, and its undo takes a number of its own.
    ground.cluster.archive_caught_up();
    let archive = ground.cluster.archive.clone().unwrap();
    assert!(archive.join("00000002.history").exists());
    ground.undo();
    kept();
    assert_eq!(ground.timeline(), "3", "a cluster that archives does not go on under the number that others follow");

    // Down, only its postmaster.opts tells how it ran.
    ground.cluster.stop();
    ground.restore();
    kept();
}

/// Started from the parent directory with a relative data directory and an empty word among its arguments; its log was
/// deleted since.
#[test]
fn relative_and_empty_arguments_and_a_deleted_log() {
    let scratch = Scratch::new("relative");
    let ground = Ground::new(&scratch, &[], |cluster| {
        let mut command = as_postgres(cluster.programs.bin.join("pg_ctl"));
        command.current_dir(cluster.parent()).args(["-D", "data", "-l"]).arg(&cluster.log);
        program::ok(command.args(["-o", "-h '' -c work_mem=7777kB", "-w", "start"]));
    });
    let arguments = fs::read(format!("/proc/{}/cmdline", ground.cluster.postmaster_pid().unwrap())).unwrap();
    let words: Vec<&[u8]> = arguments.split(|b| *b == 0).collect();
    assert!(
        words.windows(2).any(|pair| pair == [b"-D", b"data".as_slice()]) && words.windows(2).any(|pair| pair == [b"-h", b"".as_slice()])
    );
    fs::remove_file(&ground.cluster.log).unwrap();

    ground.restore();

    assert_eq!((ground.show("work_mem"), ground.show("listen_addresses")), ("7777kB".into(), String::new()));
    let log = fs::metadata(&ground.cluster.log).expect("the log is written where it was");
    assert_eq!(log.uid(), fs::metadata(&ground.cluster.data).unwrap().uid());
    assert!(ground.cluster.log_tail().contains("ready to accept connections"), "{}", ground.cluster.log_tail());
    ground.undo();
    assert_eq!(ground.show("work_mem"), "7777kB");
}

/// A program called `postgres` that only sleeps.
struct Impostor {
    child: Child,
}

impl Impostor {
    /// Runs `script` as root in a mount namespace of its own; `$0` is a program called `postgres`, `$1` PGDATA, `$2` another
    /// directory. It must come to stand in PGDATA by that path's text.
    fn start(scratch: &Scratch, data: &Path, script: &str) -> Impostor {
        let other = scratch.dir("other/data", "postgres", "postgres", 0o700);
        let copy = scratch.dir("programs", "root", "root", 0o755).join("postgres");
        if !copy.exists() {
            fs::copy("/usr/bin/sleep", &copy).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command: Command = program("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(&copy).arg(data).arg(&other);
        let child = command.spawn().unwrap();
        let pid = child.id();
        wait_until(20, "the other postgres", || {
            let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).unwrap_or_default();
            link("exe").ends_with("postgres") && link("cwd") == data
        });
        Impostor { child }
    }

    /// Nobody ended it.
    #[track_caller]
    fn lives(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "the other postgres was signalled");
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a container: another directory has PGDATA's path, and the same user runs a `postgres` in it.
const IN_A_CONTAINER: &str =
    r#"mount --bind "$2" "$1" && cd "$1" && exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" 3600"#;
/// Another user's `postgres` that came to stand in PGDATA itself.
const ANOTHER_USERS: &str = r#"cd "$1" && exec setpriv --reuid=nobody --regid=nogroup --clear-groups "$0" 3600"#;

/// Neither is taken for the cluster's server, whether that runs or not, and neither is ever signalled.
#[test]
fn nobody_elses_postgres_is_taken_for_ours() {
    let scratch = Scratch::new("impostor");
    let ground = Ground::new(&scratch, &[], TestCluster::start);
    let mut impostors = [IN_A_CONTAINER, ANOTHER_USERS].map(|script| Impostor::start(&scratch, &ground.cluster.data, script));

    let state = || ground.pitr.json(&["status"])["clusters"][0]["state"].clone();
    assert_eq!(state(), "serving");
    ground.restore();
    ground.undo();
    ground.cluster.stop();
    assert_eq!(state(), "stopped");
    let restored = ground.pitr.json(&["restore", "--yes", "--before-lsn", &ground.target.lsn]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(story::facts(&ground.cluster, DATABASE), ground.target.facts);
    ground.pitr.json(&["undo", "--yes"]);

    impostors.iter_mut().for_each(Impostor::lives);
}

/// A stale pid file that names another live process of the owner: it is not the postmaster, and is not signalled.
#[test]
fn a_pid_file_that_names_another_process_is_not_believed() {
    let scratch = Scratch::new("pidfile");
    let ground = Ground::new(&scratch, &[], TestCluster::start);
    ground.cluster.crash();
    let mut other = as_postgres("sleep").arg("3600").spawn().unwrap();
    let pid_file = ground.cluster.data.join("postmaster.pid");
    let stale = fs::read_to_string(&pid_file).unwrap();
    let (_, rest) = stale.split_once('\n').unwrap();
    fs::write(&pid_file, format!("{}\n{rest}", other.id())).unwrap();
    give(&pid_file, "postgres", "postgres", 0o600);

    assert_eq!(ground.pitr.json(&["status"])["clusters"][0]["state"], "crashed");
    ground.restore();

    assert_eq!(other.try_wait().unwrap(), None, "a process that only a file names was signalled");
    assert!(process::exists(ground.cluster.postmaster_pid().unwrap()));
    other.kill().unwrap();
    other.wait().unwrap();
}
