//! The owner's child: this program again, as the user who owns PGDATA, for one task.
//!
//! Everything below PGDATA, its parent where that is the owner's, backups and archives is opened here first.
//! The child becomes the owner before it looks at its task, has no terminal, no inherited environment, no
//! capabilities, cannot gain any (no_new_privs), dies with the coordinator and holds the run's lock.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::observe::backups;
use crate::observe::places;
use crate::observe::survey::{self, SurveyRequest};
use crate::plan::recovery::Trusted;
use crate::run::vault::Vault;
use crate::run::{configure, copies, dump, reading, sql, staging, switch, tail, tidy, unlogged, wal_log, wal_rows};
use crate::store::index::Entry;
use crate::store::{self, Source};
use crate::sys::descendant::{Descendant, Heard, Said, ending};
use crate::sys::dir::Dir;
use crate::sys::identity::{Leash, Owner, become_owner};
use crate::sys::lock::Lock;
use crate::sys::passing::receive_with;
use crate::sys::vault;

/// What the child is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Task {
    /// Look at cluster, backups and archives.
    Survey(Box<SurveyRequest>),
    /// Which cluster backups and archives are of.
    Origins(Box<survey::OriginsRequest>),
    /// Read settings as a start would.
    Settings(Box<SurveyRequest>),
    /// Read `global/pg_control` (or the name it hides under).
    ReadControl {
        /// Data directory.
        data_directory: PathBuf,
        /// Hidden name of a run, tried when the usual one is absent.
        hidden: Option<String>,
    },
    /// The status line of `postmaster.pid`, empty without one.
    ServerStatus {
        /// Data directory.
        data_directory: PathBuf,
    },
    /// Run the copy of this program as the owner does, to see that it can.
    TryProgram {
        /// Its path.
        program: PathBuf,
    },
    /// Try an exchange of two directories in a parent that is the owner's.
    ProbeExchange {
        /// The parent.
        parent: PathBuf,
    },
    /// Make the run's directory in a parent that is the owner's.
    MakeRunDirectory {
        /// Its path.
        path: PathBuf,
    },
    /// Find the backups in these directories.
    Catalogue {
        /// The directories.
        directories: Vec<PathBuf>,
    },
    /// Dump a database, or what belongs to none.
    Dump(Box<dump::DumpRequest>),
    /// Read a backup whole and say what is proved of it.
    VerifyBackup(Box<Source>),
    /// Unpack a backup.
    Extract(Box<staging::ExtractRequest>),
    /// Take over configuration, write the signal.
    Configure(Box<configure::ConfigureRequest>),
    /// Copy WAL.
    CopyWal(Box<tail::CopyRequest>),
    /// List WAL directories.
    ListWal(Box<tail::ListRequest>),
    /// Read every record of a chain and answer a question about it.
    ReadWal(Box<reading::ReadRequest>),
    /// Read every record there is and list transactions.
    LogWal(Box<wal_log::LogRequest>),
    /// Read every record there is and tell what happened to the rows of some tables.
    WalRows(Box<wal_rows::RowsRequest>),
    /// Read every record there is and say which stretches are whole.
    VerifyWal(Box<wal_log::VerifyRequest>),
    /// The first page of some segment in a directory: whose WAL it is.
    ProbeWal {
        /// The directory.
        directory: PathBuf,
    },
    /// Take init forks out of sight, or give them their names back.
    RenameInitForks(unlogged::Files),
    /// Offer WAL to the archive.
    Tidy(Box<tidy::TidyRequest>),
    /// Mark as archived what the archive has.
    SettleMarks(Box<tidy::SettleRequest>),
    /// One effect of the switch.
    Switch(switch::Effect),
    /// Where the switch stands.
    LookAtSwitch(switch::Places),
    /// What will change places, with inodes.
    ListExchanges(switch::ListRequest),
    /// Look at places that links name.
    ExaminePlaces(Box<places::ExamineRequest>),
    /// Links in `pg_tblspc`.
    ListTablespaces {
        /// Data directory.
        data_directory: PathBuf,
    },
    /// Remove a directory if it is empty.
    RemoveEmpty {
        /// It.
        path: PathBuf,
    },
    /// Which of these pairs of WAL files differ, or cannot be compared.
    CompareWal {
        /// Directory and file of the one, directory and file of the other.
        pairs: Vec<(PathBuf, String, PathBuf, String)>,
    },
    /// Which of these groups of WAL files do not all have the same content.
    CompareCopies(Box<copies::CompareRequest>),
    /// Remove a directory with everything in it.
    RemoveTree {
        /// Directory that holds it.
        parent: PathBuf,
        /// The name.
        name: String,
    },
    /// Remove an empty directory if it is there; whether it is gone.
    RemovePlaceholder {
        /// Directory that holds it.
        parent: PathBuf,
        /// The name.
        name: String,
    },
    /// Remove one file of a directory if it is there.
    RemoveFile {
        /// The directory.
        parent: PathBuf,
        /// The name, beneath it.
        name: String,
    },
    /// Make an empty file durable in a directory.
    TouchFile {
        /// The directory.
        parent: PathBuf,
        /// The name, beneath it.
        name: String,
    },
    /// SQL on a server's socket.
    Sql(sql::SqlRequest),
    /// SQL on a server that a URL leads to.
    SqlAt {
        /// The URL; it may hold a password and is never shown.
        url: String,
        /// Statements.
        statements: Vec<sql::Statement>,
    },
}

/// Whom to become, and for what.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    owner: Owner,
    parent: i32,
    /// Somebody answers on standard input.
    vault: bool,
    /// The first of the files beside this is the run's lock.
    locked: bool,
    task: Task,
}

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    Progress(Progress),
    Keep(Kept),
    Result(Value),
    Error(Error),
}

/// What was found out about a file and may be kept for the next time: the bytes of an index entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What it tells.
    pub entry: Entry,
    /// The file's directory, by the name it is listed under.
    pub directory: PathBuf,
    /// Its name.
    pub file: String,
    /// The entry; it follows the line that tells of it.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// How far a long task got, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Done.
    pub done: u64,
    /// Of.
    pub total: Option<u64>,
}

/// Runs `task` as `owner` and returns its result. Files of `trusted` places that only root may read are opened for it
/// ([`Vault`]). `during` is called with progress, and about ten times a
/// second without: its error kills the child and is returned.
pub fn call_watched<T: DeserializeOwned>(
    owner: &Owner,
    lock: Option<&Lock>,
    trusted: &Trusted,
    task: Task,
    during: &mut dyn FnMut(Option<Progress>) -> Result<()>,
) -> Result<T> {
    converse((owner, lock, Vault::of(trusted)), (task, None), during, &mut |_| {})
}

/// The same with an open file for the task.
pub fn call_with<T: DeserializeOwned>(
    owner: &Owner,
    lock: Option<&Lock>,
    trusted: &Trusted,
    passing: (Task, Option<OwnedFd>),
    during: &mut dyn FnMut(Option<Progress>) -> Result<()>,
) -> Result<T> {
    converse((owner, lock, Vault::of(trusted)), passing, during, &mut |_| {})
}

/// The same for a task that is handed what `vault` holds, and finds out what may be kept.
pub fn call_keeping<T: DeserializeOwned>(owner: &Owner, vault: Vault, task: Task, kept: &mut dyn FnMut(Kept)) -> Result<T> {
    converse((owner, None, vault), (task, None), &mut |_| Ok(()), kept)
}

fn converse<T: DeserializeOwned>(
    (owner, lock, vault): (&Owner, Option<&Lock>, Vault),
    (task, passed): (Task, Option<OwnedFd>),
    during: &mut dyn FnMut(Option<Progress>) -> Result<()>,
    kept: &mut dyn FnMut(Kept),
) -> Result<T> {
    let parent = rustix::process::getpid().as_raw_nonzero().get();
    let request = Request { owner: owner.clone(), parent, vault: !vault.is_empty(), locked: lock.is_some(), task };
    let line = serde_json::to_string(&request).map_err(|e| Error::failed("describe task").cause(e))?;
    let mut child = Descendant::spawn("__owner", &line, passed.as_ref(), lock)?;
    if let Some(socket) = child.take_socket().filter(|_| !vault.is_empty()) {
        // It ends with the child, which holds the other end.
        std::thread::spawn(move || vault.serve(&socket));
    }
    let mut outcome: Option<Result<Value>> = None;
    loop {
        let (heard, still) = child.listen(Duration::from_millis(100))?;
        let mut progress = None;
        match heard {
            Heard::Said(Said { line, bytes }) => match serde_json::from_str(&line) {
                Ok(Message::Progress(p)) => progress = Some(p),
                Ok(Message::Keep(found)) => kept(Kept { bytes, ..found }),
                Ok(Message::Result(value)) => outcome = Some(Ok(value)),
                Ok(Message::Error(error)) => outcome = Some(Err(error)),
                Err(e) => outcome = Some(Err(Error::failed("understand the owner's child").cause(e))),
            },
            Heard::Silence => {}
            Heard::Ended(status, words) => {
                let silent = || {
                    let said = words.trim();
                    let cause = if said.is_empty() { ending(status) } else { format!("{} ({said})", ending(status)) };
                    Err(Error::failed(format!("the child that works as {} ended without a result", owner.name)).cause(cause))
                };
                let value = outcome.unwrap_or_else(silent)?;
                return serde_json::from_value(value).map_err(|e| Error::failed("understand the owner's child").cause(e));
            }
        }
        let Some(running) = still else { return Err(Error::failed("the owner's child is gone")) };
        if let Err(stop) = during(progress) {
            running.kill();
            return Err(stop);
        }
        child = running;
    }
}

/// Runs `task` as `owner`, to its end.
pub fn call<T: DeserializeOwned>(owner: &Owner, lock: Option<&Lock>, task: Task) -> Result<T> {
    call_trusting(owner, lock, &Trusted::default(), task)
}

/// Runs `task` as `owner`, to its end, with files of `trusted` places opened for it.
pub fn call_trusting<T: DeserializeOwned>(owner: &Owner, lock: Option<&Lock>, trusted: &Trusted, task: Task) -> Result<T> {
    call_watched(owner, lock, trusted, task, &mut |_| Ok(()))
}

/// The hidden verb: reads the request, becomes the owner, performs the task, says its result.
/// Returns the exit code.
pub fn entry() -> u8 {
    match perform_request() {
        Ok(()) => 0,
        Err(error) => {
            say(&Message::Error(error));
            1
        }
    }
}

fn perform_request() -> Result<()> {
    let received = receive_with(std::io::stdin()).map_err(|e| Error::failed("read task").cause(e))?;
    let (line, files) = received.ok_or_else(|| Error::failed("read task").cause("there is none"))?;
    let request: Request = serde_json::from_str(&line).map_err(|e| Error::failed("understand task").cause(e))?;
    let mut files = files.into_iter();
    // Held to the end of this process, and by no program that it runs.
    let _lock = if request.locked { files.next() } else { None };
    let passed = files.next();
    become_owner(&request.owner, Leash::Tied(nix::libc::SIGKILL), request.parent)?;
    if request.vault {
        vault::ask_from_now_on();
    }
    let value = perform(request.task, passed)?;
    say(&Message::Result(value));
    Ok(())
}

fn perform(task: Task, passed: Option<OwnedFd>) -> Result<Value> {
    match task {
        Task::Survey(request) => answer(survey::survey(&request)?),
        Task::Origins(request) => answer(survey::origins(&request)),
        Task::Settings(request) => answer(survey::settings(&request)?),
        Task::ReadControl { data_directory, hidden } => answer(switch::read_control(&open_directory(&data_directory)?, hidden.as_deref())?),
        Task::ServerStatus { data_directory } => answer(switch::server_status(&open_directory(&data_directory)?)?),
        Task::TryProgram { program } => answer(staging::try_program(&program)?),
        Task::ProbeExchange { parent } => answer(switch::probe_exchange(&Dir::open(parent)?)?),
        Task::MakeRunDirectory { path } => answer(staging::make_run_directory(&path)?),
        Task::Catalogue { directories } => answer(backups::backups(&directories)),
        Task::Dump(request) => answer(dump::dump(&request, passed, &mut say_progress)?),
        Task::VerifyBackup(source) => {
            let say = &mut |p: store::ExtractProgress| say_progress(Progress { done: p.read, total: Some(p.total) });
            answer(store::verify(&source, say)?)
        }
        Task::Extract(request) => answer(staging::extract(&request, &mut say_progress)?),
        Task::Configure(request) => answer(configure::configure(&request)?),
        Task::CopyWal(request) => answer(tail::copy(&request, &mut say_progress)?),
        Task::ListWal(request) => answer(tail::list(&request)?),
        Task::ReadWal(request) => answer(reading::read(&request)?),
        Task::LogWal(request) => answer(wal_log::log(&request)?),
        Task::WalRows(request) => answer(wal_rows::rows(&request)?),
        Task::VerifyWal(request) => answer(wal_log::verify(&request)?),
        Task::ProbeWal { directory } => answer(wal_log::probe(&directory)?),
        Task::RenameInitForks(files) => answer(unlogged::rename(&files)?),
        Task::Tidy(request) => answer(tidy::tidy(&request)?),
        Task::SettleMarks(request) => answer(tidy::settle_marks(&request)?),
        Task::CompareWal { pairs } => answer(tidy::different(&pairs)),
        Task::CompareCopies(request) => answer(copies::different(&request)?),
        Task::Switch(effect) => answer(switch::perform(&effect)?),
        Task::LookAtSwitch(places) => answer(switch::look(&places)?),
        Task::ListExchanges(request) => answer(switch::list(&request)?),
        Task::ExaminePlaces(request) => answer(places::examine(&request)),
        Task::ListTablespaces { data_directory } => answer(survey::tablespaces(&Dir::open(data_directory)?)?),
        Task::RemoveEmpty { path } => answer(staging::remove_if_empty(&path)?),
        Task::RemoveTree { parent, name } => {
            let parent = Dir::open(parent)?;
            if parent.metadata_if_exists(&name)?.is_some() {
                parent.remove_tree(&name)?;
                parent.sync()?;
            }
            answer(())
        }
        Task::RemovePlaceholder { parent, name } => answer(crate::run::absent::remove_empty(&Dir::open(parent)?, &name)?),
        Task::RemoveFile { parent, name } => {
            let parent = open_directory(&parent)?;
            if parent.unlink_if_exists(&name)? {
                parent.sync()?;
            }
            answer(())
        }
        Task::TouchFile { parent, name } => answer(open_directory(&parent)?.write_durable(name, b"", 0o600)?),
        Task::Sql(request) => answer(sql::run(&request)?),
        Task::SqlAt { url, statements } => answer(sql::run_at(&url, &statements)?),
    }
}

/// Opens a directory by path, or one that was inherited from root and is named `/proc/self/fd/N`.
pub fn open_directory(path: &std::path::Path) -> Result<Dir> {
    use crate::error::At;
    if path.parent() == Some(std::path::Path::new("/proc/self/fd")) {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).at("open inherited directory", path)?;
        return Dir::from_fd(descriptor, path);
    }
    Dir::open(path)
}

fn answer<T: Serialize>(value: T) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::failed("describe result").cause(e))
}

/// Sends the coordinator what may be kept.
pub fn keep(mut kept: Kept) {
    let bytes = std::mem::take(&mut kept.bytes);
    say_with(&Message::Keep(kept), &bytes);
}

fn say_progress(progress: Progress) -> bool {
    say(&Message::Progress(progress));
    true
}

fn say(message: &Message) {
    say_with(message, &[]);
}

/// One line to the coordinator, and bytes that belong to it. If it cannot be said the coordinator is gone and we die with it.
fn say_with(message: &Message, bytes: &[u8]) {
    let Ok(line) = serde_json::to_string(message) else { return };
    let _ = Said::write(&mut std::io::stdout().lock(), &line, bytes);
}
