//! What this process may not open itself, asked of the coordinator: root's side decides (`run::vault`), this side only asks.
//!
//! The owner's child has its coordinator on standard input. It opens everything itself first; only where that is refused
//! for lack of permission does [`super::dir`] ask here. A process that nobody told to ask behaves as if there was no vault.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::dir::Metadata;
use super::passing::{receive_line, send_line};

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// The real path of a directory or file that is named in the configuration.
    Real {
        /// As it is named.
        path: PathBuf,
    },
    /// A handle on a directory, which names it and opens nothing.
    Directory {
        /// Real path.
        path: PathBuf,
    },
    /// The names in a directory.
    List {
        /// Real path.
        path: PathBuf,
    },
    /// Where a link leads, as text.
    Link {
        /// Real path of the link.
        path: PathBuf,
    },
    /// A file to read.
    File {
        /// Real path.
        path: PathBuf,
    },
    /// An entry of the index.
    Kept {
        /// Its path in the index.
        path: PathBuf,
    },
}

/// What is answered; a descriptor comes beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Reply {
    /// The real path, and whether it is a regular file.
    Real {
        /// The path.
        path: PathBuf,
        /// A file, no directory.
        file: bool,
    },
    /// The text of a link.
    Target {
        /// The text.
        target: PathBuf,
    },
    /// The descriptor is what was asked for.
    Passed,
    /// Names that may be opened.
    Names {
        /// Each with its `lstat`.
        entries: Vec<(String, Metadata)>,
    },
    /// There is none, where it could be handed out.
    Missing,
    /// No.
    Refused {
        /// The reason, for the log of root's side and the message of this one.
        why: String,
    },
}

/// Whether somebody is there to be asked; one question at a time.
static OPEN: Mutex<bool> = Mutex::new(false);

/// From here on the coordinator on standard input is asked.
pub fn ask_from_now_on() {
    *OPEN.lock().unwrap_or_else(PoisonError::into_inner) = true;
}

/// Whether `error` is worth asking for: the permission is missing, not the file.
pub(super) fn is_worth_asking(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && *OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle on a directory (`O_PATH`).
pub(super) fn directory(path: &Path) -> io::Result<OwnedFd> {
    passed(&Ask::Directory { path: path.to_path_buf() })
}

/// A regular file, open for reading.
pub(super) fn file(path: &Path) -> io::Result<OwnedFd> {
    passed(&Ask::File { path: path.to_path_buf() })
}

/// An entry of the index of WAL, by its path there.
pub fn kept(path: &Path) -> io::Result<OwnedFd> {
    passed(&Ask::Kept { path: path.to_path_buf() })
}

/// Names in a directory that may be opened.
pub(super) fn list(path: &Path) -> io::Result<Vec<(String, Metadata)>> {
    match ask(&Ask::List { path: path.to_path_buf() })? {
        (Reply::Names { entries }, _) => Ok(entries),
        (other, _) => Err(refusal(&other)),
    }
}

/// The text of a link.
pub(super) fn link(path: &Path) -> io::Result<PathBuf> {
    match ask(&Ask::Link { path: path.to_path_buf() })? {
        (Reply::Target { target }, _) => Ok(target),
        (other, _) => Err(refusal(&other)),
    }
}

/// The real path of what the configuration names, and whether it is a file.
pub(super) fn real(path: &Path) -> io::Result<(PathBuf, bool)> {
    match ask(&Ask::Real { path: path.to_path_buf() })? {
        (Reply::Real { path, file }, _) => Ok((path, file)),
        (other, _) => Err(refusal(&other)),
    }
}

fn passed(question: &Ask) -> io::Result<OwnedFd> {
    match ask(question)? {
        (Reply::Passed, Some(descriptor)) => Ok(descriptor),
        (other, _) => Err(refusal(&other)),
    }
}

fn ask(question: &Ask) -> io::Result<(Reply, Option<OwnedFd>)> {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if !*open {
        return Err(Errno::ACCESS.into());
    }
    let coordinator = std::io::stdin();
    send_line(&coordinator, &serde_json::to_string(question)?, None)?;
    let (line, descriptor) = receive_line(&coordinator)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    drop(open);
    Ok((serde_json::from_str(&line)?, descriptor))
}

fn refusal(reply: &Reply) -> io::Error {
    if *reply == Reply::Missing {
        return Errno::NOENT.into();
    }
    let why = match reply {
        Reply::Refused { why } => why.clone(),
        other => format!("an answer that does not fit: {other:?}"),
    };
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}
