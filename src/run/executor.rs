//! The executor: one section of steps against the journal.
//!
//! For each step: the old cluster is compared with the journal, `begin` is made durable, the step applies its
//! effects, `done` is made durable, signals are looked at. A step that was begun and not done is applied again:
//! every step looks at the host first and does only what is left. Nothing else about a crash is special.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::plan::ledger::{By, Entry, Event, Fact, Ledger, Outcome, Purpose, Section};
use crate::plan::place::Place;
use crate::plan::recovery::Recovery;
use crate::plan::step::Step;
use crate::run::broker::Broker;
use crate::run::journal::Journal;
use crate::run::leftovers;
use crate::run::owner::{self, Progress, Task};
use crate::run::paths::RunPaths;
use crate::run::private::Private;
use crate::run::record;
use crate::run::{steps, watch};
use crate::sys::crash;
use crate::sys::lock::Lock;
use crate::sys::service;
use crate::sys::signals::Signals;

/// Version of the journal's format.
pub const FORMAT: u32 = 1;

/// Who is told what happens; `report` implements it.
pub trait Narrator {
    /// The work of run `id` begins: from here on it does not depend on whoever asked for it.
    fn begins(&mut self, _id: &str) {}
    /// Whether a stop that is asked for now is heeded.
    fn stoppable(&mut self, _yes: bool) {}
    /// A step begins: its number from 1, how many there are, its description.
    fn step(&mut self, number: usize, of: usize, text: &str);
    /// Progress of the step in bytes.
    fn progress(&mut self, progress: Progress);
    /// Something a person should know now.
    fn remark(&mut self, text: &str);
}

/// A run in this process: its journal open, its lock held.
pub struct Run<'a> {
    /// State directory.
    pub state: PathBuf,
    /// Paths of the run.
    pub paths: RunPaths,
    /// Held by this process and every child that is this program.
    pub lock: Lock,
    /// Asked to stop?
    pub signals: Signals,
    /// Told what happens.
    pub narrator: &'a mut dyn Narrator,
    /// Answers `wal-get` while a private server runs.
    pub broker: Option<Broker>,
    /// The private server, while there is one.
    pub server: Option<Private>,
    /// Judgements accepted on this command line.
    pub accepted: Vec<String>,
    /// Start of the time without a server.
    pub down_since: Option<Instant>,
    journal: Journal,
    ledger: Ledger,
    recovery: Recovery,
}

impl<'a> Run<'a> {
    /// Begins a new run: its directory, its lock, the first line of its journal.
    pub fn begin(state: &Path, id: &str, recovery: Recovery, by: By, signals: Signals, narrator: &'a mut dyn Narrator) -> Result<Run<'a>> {
        outlive_the_session(id);
        let paths = RunPaths::new(state, id);
        let made = paths
            .create(state, &recovery.cluster.owner)
            .and_then(|()| Ok((Lock::take(&paths.lock())?, Journal::create(&paths.journal())?)))
            .inspect_err(|_| {
                // Such as a full disk: nothing was begun, and a directory without a journal would stand in the way.
                let _ = paths.remove();
            });
        let (lock, journal) = made?;
        let mut run = Run::of(state, (paths, lock, journal), Ledger::default(), recovery.clone(), signals, narrator);
        let program = env!("CARGO_PKG_VERSION").to_string();
        if let Err(error) = run.write(Event::Run { format: FORMAT, program, recovery: Box::new(recovery), by }) {
            let _ = run.paths.remove();
            return Err(error);
        }
        Ok(run)
    }

    /// Opens an existing run, after everything of an earlier process of it is gone.
    pub fn open(state: &Path, id: &str, signals: Signals, narrator: &'a mut dyn Narrator) -> Result<Run<'a>> {
        outlive_the_session(id);
        let paths = RunPaths::new(state, id);
        let lock = leftovers::take_over(&paths, &Ledger::fold(&Journal::read(&paths.journal())?))?;
        let (journal, entries) = Journal::open(&paths.journal())?;
        let ledger = Ledger::fold(&entries);
        if ledger.format > FORMAT {
            return Err(Error::failed(format!("the journal of run {id} has format {}, this program knows {FORMAT}", ledger.format))
                .hint("Use the version of pitr that began the run, or a newer one."));
        }
        let recovery = ledger.recovery.clone().ok_or_else(|| {
            Error::failed(format!("run {id} has no plan in its journal")).hint("It did nothing: remove its directory by `pitr purge`.")
        })?;
        paths.renew(&recovery.cluster.owner)?;
        Ok(Run::of(state, (paths, lock, journal), ledger, recovery, signals, narrator))
    }

    fn of(
        state: &Path,
        (paths, lock, journal): (RunPaths, Lock, Journal),
        ledger: Ledger,
        recovery: Recovery,
        signals: Signals,
        narrator: &'a mut dyn Narrator,
    ) -> Run<'a> {
        Run {
            state: state.to_path_buf(),
            paths,
            lock,
            signals,
            narrator,
            broker: None,
            server: None,
            accepted: recovery.accepted.clone(),
            down_since: None,
            journal,
            ledger,
            recovery,
        }
    }

    /// The recovery of this run.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// What the journal tells.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Makes an event durable.
    pub fn write(&mut self, event: Event) -> Result<()> {
        let entry = Entry { time: Timestamp::now(), event: event.bounded() };
        self.journal.append(&entry)?;
        self.ledger.take(&entry);
        record::write(&self.paths.id, &self.recovery, &self.ledger, &entry.event);
        Ok(())
    }

    /// Makes a fact durable.
    pub fn fact(&mut self, fact: Fact) -> Result<()> {
        self.write(Event::Fact { fact })?;
        crash::point("fact")
    }

    /// Keeps a remark for the report and says it now.
    pub fn remark(&mut self, text: impl Into<String>) -> Result<()> {
        let text = text.into();
        self.narrator.remark(&text);
        self.write(Event::Fact { fact: Fact::Remark { text } })
    }

    /// Executes a section from its first step, or the rest of an interrupted one, to `outcome`.
    pub fn execute(&mut self, purpose: Purpose, steps: Vec<Step>, by: By, outcome: Outcome) -> Result<()> {
        self.write(Event::Section { purpose, steps: steps.clone(), by })?;
        self.narrator.begins(&self.paths.id);
        let total = steps.len();
        for (index, step) in steps.into_iter().enumerate() {
            self.narrator.step(index + 1, total, &step.describe(&self.recovery));
            if let Err(error) = self.one(index, &step) {
                self.write(Event::Failed { index, error: error.clone() })?;
                return Err(error);
            }
        }
        self.end_private();
        self.write(Event::End { outcome })?;
        if !self.ledger.is_open() {
            self.paths.forget_program();
        }
        Ok(())
    }

    fn one(&mut self, index: usize, step: &Step) -> Result<()> {
        let watch = self.ledger.section.as_ref().is_some_and(|s| s.purpose == Purpose::Restore);
        // From the switch on a stop would leave nothing serving: signals wait until the end.
        let early = watch && !self.ledger.switch_begun();
        self.narrator.stoppable(early && *step != Step::Switch);
        if early {
            self.signals.check()?;
        }
        if watch {
            watch::compare_old_cluster(self)?;
        }
        let begun = Instant::now();
        self.write(Event::Begin { index, step: step.clone() })?;
        crash::point(&format!("begun {}", step.name()))?;
        steps::apply(self, step)?;
        crash::point(&format!("applied {}", step.name()))?;
        self.write(Event::Done { index, seconds: begun.elapsed().as_secs_f64() })?;
        crash::point(&format!("done {}", step.name()))
    }

    /// Runs a task as the owner while signals and the reserve of disk space are watched.
    pub fn owner<T: serde::de::DeserializeOwned>(&mut self, task: Task) -> Result<T> {
        self.owner_with(task, None)
    }

    /// The same with an open file for the task.
    pub fn owner_with<T: serde::de::DeserializeOwned>(&mut self, task: Task, passed: Option<OwnedFd>) -> Result<T> {
        let watch = Watch::of(self);
        self.owner_watching(task, passed, &watch)
    }

    /// The same under another watch.
    pub fn owner_watching<T: serde::de::DeserializeOwned>(&mut self, task: Task, passed: Option<OwnedFd>, watch: &Watch) -> Result<T> {
        let owner = self.recovery.cluster.owner.clone();
        let narrator = &mut *self.narrator;
        let trusted = self.recovery.site.trusted.clone();
        owner::call_with(&owner, Some(&self.lock), &trusted, (task, passed), &mut |progress| {
            if let Some(progress) = progress {
                narrator.progress(progress);
            }
            watch.check()
        })
    }

    /// Runs a short task as the owner that nothing may interrupt.
    pub fn owner_unwatched<T: serde::de::DeserializeOwned>(&self, task: Task) -> Result<T> {
        owner::call(&self.recovery.cluster.owner, Some(&self.lock), task)
    }

    /// What [`Run::owner`] watches, for loops of our own.
    pub fn watch(&self) -> Watch {
        Watch::of(self)
    }

    /// Ends a private server that is not needed, and the broker with it.
    pub fn end_private(&mut self) {
        if let Some(server) = self.server.take() {
            server.abandon();
        }
        self.broker = None;
    }

    /// The run's directory beside PGDATA.
    pub fn beside(&self) -> PathBuf {
        self.recovery.beside(&self.paths.id)
    }

    /// Staging, and after the switch the cluster aside.
    pub fn staging(&self) -> PathBuf {
        self.beside().join("data")
    }

    /// PGDATA as a place.
    pub fn data_place(&self) -> Place {
        self.recovery.data_place()
    }

    /// Every place, PGDATA first.
    pub fn places(&self) -> Vec<Place> {
        self.recovery.all_places()
    }

    /// pg_wal of what is staged or stands aside.
    pub fn staged_wal(&self) -> PathBuf {
        self.recovery.staged_wal(&self.paths.id)
    }

    /// Copied WAL.
    pub fn tail(&self) -> PathBuf {
        self.beside().join("tail")
    }
}

/// What interrupts long work: a signal, or disk space below the reserve.
#[derive(Debug, Clone)]
pub struct Watch {
    signals: Option<Signals>,
    /// A directory on each filesystem and the bytes that must stay free there.
    reserves: Vec<(PathBuf, u64)>,
}

impl Watch {
    fn of(run: &Run<'_>) -> Watch {
        let restoring = run.ledger.section.as_ref().is_some_and(|s: &Section| s.purpose == Purpose::Restore);
        let building = restoring && !run.ledger.switch_begun();
        let reserves = run.places().into_iter().map(|place| (place.parent, place.reserve));
        Watch { signals: building.then(|| run.signals.clone()), reserves: if building { reserves.collect() } else { vec![] } }
    }

    /// `at` is watched too, where nothing on its filesystem is: a twentieth of it stays free.
    pub fn with(mut self, at: &Path) -> Result<Watch> {
        let device = |path: &Path| std::fs::metadata(path).map(|m| m.dev()).ok();
        if !self.reserves.iter().any(|(watched, _)| device(watched) == device(at)) {
            self.reserves.push((at.to_path_buf(), filesystem_bytes(at)? / 20));
        }
        Ok(self)
    }

    /// An error when work must stop.
    pub fn check(&self) -> Result<()> {
        if let Some(signals) = &self.signals {
            signals.check()?;
        }
        for (at, reserve) in self.reserves.iter().filter(|(_, reserve)| *reserve > 0) {
            let free = free_bytes(at)?;
            if free < *reserve {
                return Err(Error::failed(format!("{} has only {free} bytes left", at.display()))
                    .cause(format!("{reserve} bytes are kept in reserve for the cluster itself"))
                    .hint("Make room, then `pitr resume`; or `pitr undo` to delete what was staged."));
            }
        }
        Ok(())
    }
}

/// Size of the filesystem of `path` in bytes.
fn filesystem_bytes(path: &Path) -> Result<u64> {
    use crate::error::At;
    let stat = rustix::fs::statvfs(path).at("measure", path)?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}

/// Bytes that an unprivileged user may still write on the filesystem of `path`.
pub fn free_bytes(path: &Path) -> Result<u64> {
    use crate::error::At;
    let stat = rustix::fs::statvfs(path).at("measure", path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// On a systemd host the run lives in a scope of its own (pitfalls B14). That it does not is no reason to stop: nothing
/// is lost by an end of the session that `resume` could not go on from.
fn outlive_the_session(id: &str) {
    if service::runs()
        && let Err(error) = service::own_scope(id)
    {
        log::warn!("this run ends with the session it was typed in: {error}");
    }
}
