//! What a killed coordinator leaves at work (pitfalls F6): it is ended before the run goes on, and nobody else is.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Child;

use nix::sys::signal::Signal;

use crate::support::program::{self, program};
use crate::support::stand::{Serves, Stand};
use crate::support::story::DATABASE;
use crate::support::{Scratch, TestCluster, process, wait_until};

fn stand(scratch: &Scratch) -> Stand {
    let stand = Stand::new(scratch, TestCluster::builder(scratch, "main"));
    stand.reset();
    stand
}

/// The directory of the only run.
fn run_directory(stand: &Stand) -> Option<PathBuf> {
    fs::read_dir(stand.pitr.state.join("runs")).ok()?.flatten().map(|e| e.path()).next()
}

/// Names of the programs that have `file` of the only run open, and their process ids.
fn holders(stand: &Stand, file: &str) -> Vec<(String, i32)> {
    let Some(path) = run_directory(stand).map(|run| run.join(file)) else { return vec![] };
    let holders = process::having_open(&path).into_iter();
    holders.map(|h| (h.exe.file_name().unwrap_or_default().to_string_lossy().into_owned(), h.pid)).collect()
}

fn staged_postmaster(stand: &Stand) -> Option<i32> {
    let mut staged = fs::read_dir(stand.cluster.parent()).unwrap().flatten().map(|e| e.path().join("data/postmaster.pid"));
    let file = staged.find(|path| path.to_string_lossy().contains("/.pitr-") && path.exists())?;
    fs::read_to_string(file).ok()?.lines().next()?.parse().ok()
}

fn go_on(stand: &Stand) {
    let resumed = stand.pitr.json(&["resume", "--yes"]);
    assert_eq!(resumed["outcome"], "switched", "{resumed}");
    stand.assert_serves(Serves::New);
}

/// Neither a server nor a dump, which run what is the owner's, ever holds the run's lock.
#[test]
fn the_lock_of_a_run_reaches_no_program_but_pitr() {
    let scratch = Scratch::new("lock");
    let stand = stand(&scratch);
    let dumps = scratch.dir("dumps", "root", "root", 0o700);
    let mut running = stand.pitr.spawn(&[&stand.restore()[..], &["--dump-before", dumps.to_str().unwrap()]].concat());
    let (mut looks, mut with_server, mut with_dump) = (0, 0, 0);
    while !running.ended() {
        let others = |name: &str| process::having_open(&dumps).iter().any(|h| h.exe.ends_with(name));
        with_dump += usize::from(others("pg_dump") || others("pg_dumpall"));
        let locked = holders(&stand, "lock");
        assert!(locked.iter().all(|(name, _)| name == "pitr"), "{locked:?}");
        with_server += usize::from(!locked.is_empty() && holders(&stand, "server.log").iter().any(|(name, _)| name == "postgres"));
        looks += usize::from(!locked.is_empty());
    }
    running.wait().expect_code(0);
    assert!(looks > 20 && with_server > 5 && with_dump > 0, "{looks} looks, {with_server} at a private server, {with_dump} at a dump");
    stand.assert_serves(Serves::New);
    stand.halt();
}

/// A private server that does not hear the signal that its coordinator's death sends.
#[test]
fn a_private_server_that_stays_is_ended() {
    let scratch = Scratch::new("stays");
    let stand = stand(&scratch);
    let mut running = stand.pitr.spawn(&stand.restore());
    wait_until(60, "a private server", || {
        assert!(!running.ended(), "the run is over already: {}", running.stderr());
        staged_postmaster(&stand).is_some()
    });
    let postmaster = staged_postmaster(&stand).unwrap();
    process::send(postmaster, Signal::SIGSTOP);
    running.kill_9();
    assert!(holders(&stand, "server.log").contains(&("postgres".into(), postmaster)), "it does not hold the log");
    assert_eq!(holders(&stand, "lock"), [], "the lock is free: only the log tells");
    go_on(&stand);
    assert!(!process::exists(postmaster), "it is still there");
    stand.halt();
}

/// A dump that goes on writing while the run would begin it anew.
#[test]
fn a_dump_that_stays_is_ended() {
    let scratch = Scratch::new("dump-stays");
    let stand = stand(&scratch);
    let dumps = scratch.dir("dumps", "root", "root", 0o700);
    let mut blocker = stand.cluster.session(DATABASE);
    blocker.sql("BEGIN; LOCK TABLE environments IN ACCESS EXCLUSIVE MODE;");
    let mut running = stand.pitr.spawn(&[&stand.restore()[..], &["--dump-before", dumps.to_str().unwrap()]].concat());
    let dump = || process::having_open(&dumps).into_iter().find(|h| h.exe.ends_with("pg_dump")).map(|h| h.pid);
    wait_until(60, "a dump that waits for the lock", || {
        assert!(!running.ended(), "the run is over already: {}", running.stderr());
        dump().is_some()
    });
    let dump = dump().unwrap();
    process::send(dump, Signal::SIGSTOP);
    running.kill_9();
    drop(blocker);
    assert!(process::exists(dump));
    go_on(&stand);
    assert!(!process::exists(dump), "it is still there");
    stand.halt();
}

/// A process of others with the lock or the log in its hands: named or passed over, never signalled.
#[test]
fn strangers_are_left_alone() {
    let scratch = Scratch::new("strangers");
    let stand = stand(&scratch);
    stand.pitr.crash_at("applied replay", &stand.restore());
    let run = run_directory(&stand).unwrap();
    wait_until(20, "the end of the killed run", || holders(&stand, "lock").is_empty());
    // Killed when its socket directory was just made, as it happens at the very beginning of a run.
    chown(run.join("door"), Some(0), Some(0)).unwrap();
    // As a leaked descriptor would be held: by the owner's own programs, and by anybody's.
    let mut reader = holding(&run.join("server.log"), "nobody", 60);
    for user in ["nobody", "postgres"] {
        let mut thief = holding(&run.join("lock"), user, 60);
        wait_until(20, "the thief", || !holders(&stand, "lock").is_empty());
        let said = stand.pitr.json_code(5, &["resume", "--yes"]);
        let what = said["error"]["what"].as_str().unwrap().to_string();
        assert!(what.contains(&format!("process {} (/usr/bin/sleep", thief.id())), "{said}");
        assert!(thief.try_wait().unwrap().is_none(), "a process of {user} was ended");
        thief.kill().unwrap();
        thief.wait().unwrap();
    }
    // The owner's, and unknown: it may have been begun by the killed server, and is waited for.
    let mut unknown = holding(&run.join("server.log"), "postgres", 2);
    assert_eq!(stand.pitr.json(&["resume", "--yes"])["outcome"], "switched");
    assert_eq!(unknown.try_wait().unwrap().map(program::code_of), Some(0), "it was not waited for, or was ended");
    assert!(reader.try_wait().unwrap().is_none(), "a reader of the log was ended");
    reader.kill().unwrap();
    reader.wait().unwrap();
    stand.assert_serves(Serves::New);
    stand.halt();
}

/// `sleep` as `user`, which has `file` open, with a shared lock.
fn holding(file: &Path, user: &str, seconds: u32) -> Child {
    assert_eq!(fs::metadata(file).unwrap().uid(), 0);
    let mut command = program("flock");
    command.args(["-n", "-s", "-F"]).arg(file);
    command.args(["setpriv", "--reuid", user, "--clear-groups", "/usr/bin/sleep", &seconds.to_string()]);
    command.spawn().unwrap()
}
