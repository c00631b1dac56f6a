//! The broker: answers `wal-get` from the coordinator, so that what PostgreSQL may be told is decided in one place.
//!
//! A segment of the plan's list is answered with where its copies stand, never with "absent"; any other segment
//! is absent. A history is answered from the texts the plan knows; above the target's timeline a placeholder
//! makes the server choose the number we want (pitfalls A6, F7). A copy that only root may read is passed as a
//! descriptor, if the vault may open it. The socket accepts only the cluster's owner.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};
use crate::pg::Timeline;
use crate::pg::page::SegmentExpectation;
use crate::pg::segment::parse_history_name;
use crate::run::vault::Vault;
use crate::sys::passing::send_line;

/// Longest request; a file name is far shorter.
const REQUEST_LIMIT: u64 = 4096;

/// What `wal-get` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Request {
    /// PostgreSQL wants this file.
    Want {
        /// `%f`.
        file: String,
    },
    /// It may not read this copy of the file itself.
    Open {
        /// `%f`.
        file: String,
        /// The copy, as it was offered.
        path: PathBuf,
    },
    /// It was delivered from this path.
    Delivered {
        /// The file.
        file: String,
        /// The copy.
        path: PathBuf,
        /// Copies that were damaged, with why.
        rejected: Vec<String>,
    },
}

/// What the broker answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// Copies of a segment, best first.
    Segment {
        /// Paths.
        paths: Vec<PathBuf>,
        /// What its pages must say.
        expect: SegmentExpectation,
        /// The last segment of the plan: it may end in the middle, followed by old content.
        last: bool,
    },
    /// A history file's text.
    History {
        /// The text.
        text: String,
    },
    /// The open file comes beside this.
    Passed,
    /// There is no such file, and there should not be.
    Absent,
    /// It must not go on.
    Refused {
        /// Why.
        why: String,
    },
}

/// What may be handed out.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// Segments of the plan by file name.
    pub segments: HashMap<String, (Vec<PathBuf>, SegmentExpectation)>,
    /// File name of the last one.
    pub last: String,
    /// Known histories.
    pub histories: HashMap<Timeline, String>,
    /// Timelines whose history exists for the server whether or not we have it.
    pub placeholders: Option<std::ops::Range<u32>>,
    /// What root opens where the owner may not.
    pub vault: Vault,
}

/// What was handed out so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Distinct segments.
    pub segments: u64,
    /// The last one.
    pub last: String,
    /// Damaged copies that were passed over.
    pub rejected: Vec<String>,
}

#[derive(Debug, Default)]
struct Shared {
    offer: Offer,
    delivered: Delivered,
    seen: std::collections::HashSet<String>,
}

/// A listening broker; it ends when dropped.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Mutex<Shared>>,
    socket: PathBuf,
}

impl Broker {
    /// Listens at `socket` for the user `uid`.
    pub fn listen(socket: &Path, uid: u32, offer: Offer) -> Result<Broker> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).at("listen at", socket)?;
        // Everyone may connect, only the owner is answered: see `peer_is`.
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666)).at("set mode of", socket)?;
        let shared = Arc::new(Mutex::new(Shared { offer, ..Shared::default() }));
        let answering = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // The broker was dropped: only this thread still holds it.
                if Arc::strong_count(&answering) == 1 {
                    return;
                }
                if peer_is(&stream, uid)
                    && let Err(e) = converse(&stream, &answering)
                {
                    log::warn!("wal-get: {e}");
                }
            }
        });
        Ok(Broker { shared, socket: socket.to_path_buf() })
    }

    /// From now on these histories are answered with a placeholder if unknown.
    pub fn reserve(&self, placeholders: std::ops::Range<u32>) {
        self.lock().offer.placeholders = Some(placeholders);
    }

    /// What was handed out so far.
    pub fn delivered(&self) -> Delivered {
        self.lock().delivered.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shared = Arc::default();
        // Wakes the thread, which then sees that it is alone.
        let _ = UnixStream::connect(&self.socket);
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn peer_is(stream: &UnixStream, uid: u32) -> bool {
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid.as_raw() == uid)
}

fn converse(stream: &UnixStream, shared: &Mutex<Shared>) -> Result<()> {
    let limit = Some(std::time::Duration::from_secs(600));
    stream
        .set_read_timeout(limit)
        .and_then(|()| stream.set_write_timeout(limit))
        .map_err(|e| Error::failed("prepare connection").cause(e))?;
    let mut lines = BufReader::new(stream.take(REQUEST_LIMIT));
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).map_err(|e| Error::failed("read request").cause(e))? == 0 {
            return Ok(());
        }
        let request: Request = serde_json::from_str(&line).map_err(|e| Error::failed("understand request").cause(e))?;
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            Request::Want { file } => {
                let answer = shared.offer.answer(&file);
                drop(shared);
                say(stream, &answer, None)?;
            }
            Request::Open { file, path } => {
                let opened = shared.offer.open(&file, &path);
                drop(shared);
                match opened {
                    Ok(file) => say(stream, &Answer::Passed, Some(file.as_fd()))?,
                    Err(error) => say(stream, &Answer::Refused { why: error.to_string() }, None)?,
                }
            }
            Request::Delivered { file, rejected, .. } => {
                if shared.seen.insert(file.clone()) {
                    shared.delivered.segments += 1;
                }
                shared.delivered.last = file;
                shared.delivered.rejected.extend(rejected);
            }
        }
    }
}

fn say(stream: &UnixStream, answer: &Answer, file: Option<BorrowedFd<'_>>) -> Result<()> {
    let text = serde_json::to_string(answer).map_err(|e| Error::failed("describe answer").cause(e))?;
    send_line(stream, &text, file).map_err(|e| Error::failed("answer").cause(e))
}

impl Offer {
    /// A copy of a planned segment that the owner may not read, opened by root where the configuration names its place.
    fn open(&self, file: &str, path: &Path) -> Result<File> {
        let offered = self.segments.get(file).is_some_and(|(paths, _)| paths.iter().any(|known| known == path));
        if offered { self.vault.file(path) } else { Err(Error::failed(format!("{} was not offered", path.display()))) }
    }

    /// The answer to a request for `file`.
    pub fn answer(&self, file: &str) -> Answer {
        if let Some(timeline) = parse_history_name(file) {
            return match self.histories.get(&timeline) {
                Some(text) => Answer::History { text: text.clone() },
                None if self.placeholders.as_ref().is_some_and(|r| r.contains(&timeline.0)) => {
                    // Only its existence is looked at: the server takes the next number.
                    Answer::History { text: "# placeholder: this number is taken\n".into() }
                }
                None => Answer::Absent,
            };
        }
        match self.segments.get(file) {
            Some((paths, _)) if paths.is_empty() => {
                Answer::Refused { why: format!("{file} belongs to the plan and is nowhere to be found") }
            }
            Some((paths, expect)) => Answer::Segment { paths: paths.clone(), expect: expect.clone(), last: file == self.last },
            None => Answer::Absent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_given_only_for_reserved_numbers() {
        let histories = HashMap::from([(Timeline(3), "1\t0/5000000\tx\n".to_string())]);
        let mut offer = Offer { histories, ..Offer::default() };
        assert_eq!(offer.answer("00000002.history"), Answer::Absent);
        offer.placeholders = Some(2..5);
        assert!(matches!(offer.answer("00000002.history"), Answer::History { text } if text.starts_with('#')));
        assert!(matches!(offer.answer("00000003.history"), Answer::History { text } if text.starts_with('1')));
        assert_eq!(offer.answer("00000005.history"), Answer::Absent);
        assert_eq!(offer.answer("00000001.history"), Answer::Absent);
    }

    #[test]
    fn a_planned_segment_is_never_absent() {
        let name = crate::pg::SegmentName { timeline: Timeline(1), number: 1 };
        let expect =
            SegmentExpectation { major: 15, system_identifier: 1, segment_size: crate::pg::SegmentSize::new(16 << 20).unwrap(), name };
        let segments = HashMap::from([("000000010000000000000001".to_string(), (vec![], expect))]);
        let offer = Offer { segments, ..Offer::default() };
        assert!(matches!(offer.answer("000000010000000000000001"), Answer::Refused { .. }));
        assert_eq!(offer.answer("000000010000000000000002"), Answer::Absent);
    }
}
