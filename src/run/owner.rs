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
use crate::plan::recovery::Trusted;
pub use crate::run::task::Task;
use crate::run::vault::Vault;
use crate::store::index::Entry;
use crate::sys::descendant::{Descendant, Heard, Said, ending};
use crate::sys::dir::Dir;
use crate::sys::identity::{Leash, Owner, become_owner};
use crate::sys::lock::Lock;
use crate::sys::passing::receive_with;
use crate::sys::vault;

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
    let value = request.task.perform(passed, &mut say_progress)?;
    say(&Message::Result(value));
    Ok(())
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
