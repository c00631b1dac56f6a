//! What a killed coordinator left at work ends before its run goes on (pitfalls F6), and nothing else does.
//!
//! # How it is found
//!
//! Every child is tied to the coordinator by the parent-death signal (`sys::identity`), but a signal takes a moment, and
//! for a server SIGQUIT is a request. So nothing relies on it:
//!
//! * A child that is this program (the owner's child, and a launch that has not yet become PostgreSQL) holds the run's
//!   lock. It receives the lock with its request, in one message over a socket: there is no work without the lock, not
//!   even when the coordinator dies between the two, for a descriptor in flight keeps the lock held. So **when the lock
//!   can be taken no such child is left, and no new process of the run can begin**, but from those below.
//! * Programs of others never get the lock: who has the descriptor could give it back for everybody, or keep it for
//!   ever, and the owner's libraries and extensions run in a server. They are known by another file. Whatever descends
//!   from a private server writes to its log, `runs/<id>/server.log`, a file of root's that nobody else can open: postmaster,
//!   backends, the shell of `restore_command`, `wal-get`. A dump has the file open that the journal names (`dumping`).
//!   Each is looked for until two looks in a row find none: a process may begin another while it is looked at, and end.
//! * Programs that only read (`postgres -C`, `postgres --version`) are not looked for: they end by themselves and change
//!   nothing.
//!
//! # Whom root may signal
//!
//! Having a file open is no proof: a descriptor can be handed on. A signal goes only to a process all of whose user ids are
//! the owner's by the journal and whose program is this one, the run's copy of it, or one in the journaled directory of
//! PostgreSQL's programs; so it never reaches anybody whom the owner could not have ended himself. A root process is signalled
//! only when it is this program under a hidden verb. Both are compared once more after a pidfd was opened, and the signal
//! goes through that: a process id that was used again is not hit. A stranger who holds the lock is named and left; one who
//! has the log open is nobody's concern, unless it is the owner's: then the run waits for its end and says so, for it may
//! have been begun by the killed server.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::cli::BEHIND;
use crate::error::{Error, Kind, Result};
use crate::plan::ledger::{Fact, Ledger};
use crate::run::paths::RunPaths;
use crate::sys::lock::Lock;
use crate::sys::proc::{self, Process, ProcessHandle};

/// How long a process may take to end once it was killed, or to end by itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a killed process may take to end, and then its parent to take note of it.
const REAPING: Duration = Duration::from_secs(5);
/// How long the lock may be held by nobody who can be seen, for a process that is ending shows no open file any more before
/// its lock is released; or by a stranger, who may be a child of another version of this program and ending.
const SETTLING: Duration = Duration::from_secs(5);

/// What a process of the run is known by.
#[derive(Debug)]
struct Ours {
    /// The owner; none before anything was planned.
    uid: Option<u32>,
    /// This program, and its copy for the run.
    own: Vec<PathBuf>,
    /// The directory of PostgreSQL's programs, as it was named and as it is.
    programs: Vec<PathBuf>,
}

/// What may be done about a process that has a file of the run open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is left over.
    End,
    /// A coordinator.
    AtWork,
    /// The owner's, but a program that this run does not run itself.
    Owners,
    /// Somebody's.
    Stranger,
}

/// The run's lock, once nothing of an earlier process of it is at work any more. `ledger` is read before the lock is held:
/// of it only what was journaled before any child began is used.
pub fn take_over(paths: &RunPaths, ledger: &Ledger) -> Result<Lock> {
    let ours = Ours::of(paths, ledger);
    let lock = take(paths, &ours)?;
    end_holders(paths, &[paths.server_log()], &ours, |_| true)?;
    // A reader of a dump is no writer of it.
    let dumps_it = |process: &Process| process.exe.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pg_dump"));
    end_holders(paths, &dumps(ledger), &ours, dumps_it)?;
    Ok(lock)
}

/// The process of a person's command that is at work on a run.
pub fn coordinator(paths: &RunPaths) -> Result<Option<i32>> {
    let holders = holders(&[paths.lock()])?;
    let at_work = holders.iter().find(|process| process.only_uid == Some(0) && is_a_persons(process));
    Ok(at_work.map(|process| process.identity.pid))
}

fn take(paths: &RunPaths, ours: &Ours) -> Result<Lock> {
    let begun = Instant::now();
    let mut settling = begun;
    loop {
        let busy = match Lock::take(&paths.lock()) {
            Err(error) if error.kind == Kind::Locked => error,
            taken => return taken,
        };
        let holders = holders(&[paths.lock()])?;
        if let Some(process) = holders.iter().find(|process| ours.judge(process) == Verdict::AtWork) {
            return Err(Error::new(Kind::Locked, format!("run {} is at work in process {}", paths.id, process.identity.pid))
                .hint("Wait for it, or stop it by SIGTERM."));
        }
        for process in holders.iter().filter(|process| ours.judge(process) == Verdict::End) {
            end(process, ours, &paths.id)?;
            settling = Instant::now();
        }
        if settling.elapsed() > SETTLING || begun.elapsed() > PATIENCE {
            return Err(holders.first().map_or(busy, |process| held(paths, process)));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn held(paths: &RunPaths, process: &Process) -> Error {
    Error::new(Kind::Locked, format!("{} holds the lock of run {}", describe(process), paths.id))
        .cause("it is not known as a process of this run, and was left alone")
        .hint(format!("Look at it: ps -fp {}. Once it has ended, try again.", process.identity.pid))
}

/// Ends whatever has one of `files` open and is the run's, until nothing is left that `counts`.
fn end_holders(paths: &RunPaths, files: &[PathBuf], ours: &Ours, counts: fn(&Process) -> bool) -> Result<()> {
    let begun = Instant::now();
    let mut quiet = 0;
    while quiet < 2 {
        let mut left = holders(files)?;
        left.retain(|process| matches!(ours.judge(process), Verdict::End | Verdict::Owners) && counts(process));
        quiet = if left.is_empty() { quiet + 1 } else { 0 };
        for process in left.iter().filter(|process| ours.judge(process) == Verdict::End) {
            end(process, ours, &paths.id)?;
        }
        if let Some(process) = left.first().filter(|_| begun.elapsed() > PATIENCE) {
            return Err(Error::new(Kind::Hands, format!("{} does not end, and may be of run {}", describe(process), paths.id)).hint(
                format!("Look at it: ps -fp {}. It has a file of the run open; once it has ended, try again.", process.identity.pid),
            ));
        }
        if !left.is_empty() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// By pidfd; what the process was judged by is compared once more when the id cannot be another's any more.
fn end(process: &Process, ours: &Ours, run: &str) -> Result<()> {
    let Some(handle) = ProcessHandle::open(&process.identity)? else { return Ok(()) };
    let Some(now) = proc::process(process.identity.pid, &process.identity.boot_id) else { return Ok(()) };
    if now.identity != process.identity || ours.judge(&now) != Verdict::End {
        return Ok(());
    }
    log::info!("ending {}, left over by run {run}", describe(process));
    handle.signal(Signal::KILL)?;
    handle.wait_gone(REAPING)?;
    // Until its new parent has taken note of its end, PostgreSQL believes a `postmaster.pid` with its number
    // (`CreateLockFile`, utils/init/miscinit.c).
    let begun = Instant::now();
    while proc::is_there(&process.identity) && begun.elapsed() < REAPING {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn describe(process: &Process) -> String {
    format!("process {} ({}, user id {})", process.identity.pid, process.exe.display(), process.uid)
}

impl Ours {
    fn of(paths: &RunPaths, ledger: &Ledger) -> Ours {
        let cluster = ledger.recovery.as_ref().map(|recovery| &recovery.cluster);
        let named = cluster.map(|cluster| cluster.programs.clone());
        let real = named.as_ref().and_then(|programs| programs.canonicalize().ok());
        let own = proc::own_program().into_iter().chain([paths.program()]);
        Ours { uid: cluster.map(|cluster| cluster.owner.uid), own: own.collect(), programs: named.into_iter().chain(real).collect() }
    }

    fn judge(&self, process: &Process) -> Verdict {
        let own = self.own.contains(&process.exe);
        match process.only_uid {
            Some(0) if own && is_a_persons(process) => Verdict::AtWork,
            Some(0) if own => Verdict::End,
            Some(uid) if uid != 0 && Some(uid) == self.uid && (own || self.is_postgresqls(&process.exe)) => Verdict::End,
            Some(uid) if uid != 0 && Some(uid) == self.uid => Verdict::Owners,
            _ => Verdict::Stranger,
        }
    }

    /// In PostgreSQL's directory, or what a link there leads to.
    fn is_postgresqls(&self, exe: &Path) -> bool {
        let linked = |programs: &PathBuf| exe.file_name().and_then(|name| programs.join(name).canonicalize().ok());
        self.programs.iter().any(|programs| exe.parent() == Some(programs) || linked(programs).as_deref() == Some(exe))
    }
}

/// A command that a person typed, also the part of it that works behind the terminal; not one that it started for itself.
fn is_a_persons(process: &Process) -> bool {
    process.arguments.get(1).is_none_or(|verb| verb == BEHIND || !verb.starts_with("__"))
}

/// Processes, other than this one, that have one of these files open. Files that are not there have no holders.
fn holders(files: &[PathBuf]) -> Result<Vec<Process>> {
    let identity = |path: &PathBuf| std::fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()));
    let identities: Vec<(u64, u64)> = files.iter().filter_map(identity).collect();
    if identities.is_empty() {
        return Ok(vec![]);
    }
    let boot = proc::boot_id()?;
    Ok(proc::holders(&identities)?.into_iter().filter_map(|pid| proc::process(pid, &boot)).collect())
}

/// Files of dumps that this run began.
fn dumps(ledger: &Ledger) -> Vec<PathBuf> {
    let Some(dump) = ledger.recovery.as_ref().and_then(|recovery| recovery.dump.as_ref()) else { return vec![] };
    let begun = |fact: &Fact| if let Fact::Dumping { file, .. } = fact { Some(dump.directory.join(file)) } else { None };
    ledger.facts.iter().filter_map(begun).collect()
}
