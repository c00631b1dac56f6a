//! The process at the terminal and the one behind it that does the work.
//!
//! Ctrl-C goes to every process of the terminal's foreground group, and a shell waits for the one that it started. So a
//! verb that acts, typed on a terminal, starts itself once more: the process in front keeps the terminal and asks what an
//! interruption means; the one behind asks for confirmation, and once its work begins it leaves the session (setsid(2)),
//! where no key and no hang-up reaches it or its children. They speak over a socket, which is the standard input of the
//! one behind: lines to the front, single bytes back.
//!
//! Guarantees: the work never waits for a front that is gone; after that, or after [`Front::leave`], nothing more is
//! written to the terminal.

use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use super::passing;
use crate::error::{At, Result};

/// Longest line of the one behind.
const LONGEST: usize = 4096;

/// What the front says, a byte each.
mod word {
    /// Be quiet: somebody is asked something.
    pub(super) const HUSH: u8 = b'h';
    /// Speak again.
    pub(super) const TALK: u8 = b't';
    /// The terminal is not yours any more.
    pub(super) const ALONE: u8 = b'a';
}

/// What the one behind tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Its work has begun, in this run.
    Run(String),
    /// Whether a stop would be heeded now.
    Stoppable(bool),
    /// It keeps quiet, as it was told to.
    Quiet,
}

/// Whether a person sits in front of this process: its standard input is the terminal that it is in the foreground of.
pub fn at_a_terminal() -> bool {
    let Ok(terminal) = std::fs::File::open("/dev/tty") else { return false };
    let foreground = rustix::termios::tcgetpgrp(&terminal).is_ok_and(|group| group == rustix::process::getpgrp());
    foreground && std::io::stdin().is_terminal()
}

/// The end of the process in front.
#[derive(Debug)]
pub struct Front {
    child: Child,
    socket: UnixStream,
    unread: Vec<u8>,
}

impl Front {
    /// Starts this program again with `words`, behind this process. It has the same terminal, output and environment.
    pub fn start(words: &[OsString]) -> Result<Front> {
        let (socket, theirs) = passing::pair().at("prepare", "the process behind")?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("pitr").args(words).stdin(Stdio::from(OwnedFd::from(theirs)));
        let child = command.spawn().at("start", "the process behind")?;
        Ok(Front { child, socket, unread: Vec::new() })
    }

    /// What it told, waited for at most `limit`.
    pub fn listen(&mut self, limit: Duration) -> Vec<Told> {
        if !readable(&self.socket, limit) {
            return Vec::new();
        }
        let mut buffer = [0; 1024];
        match (&self.socket).read(&mut buffer) {
            Ok(read) if read > 0 => self.unread.extend(buffer.get(..read).unwrap_or_default()),
            // It has ended, or is about to.
            _ => std::thread::sleep(limit.min(Duration::from_millis(10))),
        }
        let mut told = Vec::new();
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            told.extend(understand(&String::from_utf8_lossy(&line)));
        }
        self.unread.truncate(LONGEST);
        told
    }

    /// Its exit code, once it has ended; of a signal as a shell says it.
    pub fn ended(&mut self) -> Result<Option<u8>> {
        let status = self.child.try_wait().at("wait for", "the process behind")?;
        let code = |status: std::process::ExitStatus| status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1);
        Ok(status.map(|status| u8::try_from(code(status)).unwrap_or(1)))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it be quiet, or not.
    pub fn hush(&mut self, quiet: bool) {
        self.say(if quiet { word::HUSH } else { word::TALK });
    }

    /// Asks it to stop at the next safe point, and to remove what it built where `undo`.
    pub fn stop(&mut self, undo: bool) {
        self.signal(if undo { Signal::USR1 } else { Signal::INT });
    }

    /// Passes a request to end on.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Leaves it alone: it goes on without a terminal.
    pub fn leave(mut self) {
        self.say(word::ALONE);
    }

    /// One that is gone hears nothing, and that is found out by [`Front::ended`].
    fn say(&mut self, word: u8) {
        let _ = (&self.socket).write_all(&[word]);
    }

    fn signal(&mut self, signal: Signal) {
        // Not waited for yet: the id is still this child's.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }
}

fn understand(line: &str) -> Option<Told> {
    match line.trim_end().split_once(' ') {
        Some(("run", id)) => Some(Told::Run(id.to_string())),
        Some(("stoppable", yes)) => Some(Told::Stoppable(yes == "yes")),
        None if line.trim_end() == "quiet" => Some(Told::Quiet),
        _ => None,
    }
}

/// The end of the process behind.
#[derive(Debug)]
pub struct Behind {
    /// None once it is alone.
    socket: Option<UnixStream>,
    detached: bool,
    hushed: bool,
}

impl Behind {
    /// The front is at the other end of standard input.
    pub fn of_standard_input() -> Result<Behind> {
        let socket = std::io::stdin().as_fd().try_clone_to_owned().at("duplicate", "standard input")?;
        Ok(Behind { socket: Some(UnixStream::from(socket)), detached: false, hushed: false })
    }

    /// The work of run `id` begins: from here on no key reaches this process or its children.
    pub fn detach(&mut self, id: &str) {
        self.tell(&format!("run {id}"));
        if !self.detached {
            // It leads no group: the front started it in its own.
            if let Err(error) = rustix::process::setsid() {
                log::warn!("this run hears the keys of its terminal: {error}");
            }
            self.detached = true;
        }
    }

    /// Whether a stop that is asked for from now on would be heeded.
    pub fn stoppable(&mut self, yes: bool) {
        self.tell(if yes { "stoppable yes" } else { "stoppable no" });
    }

    /// Whether this process has to be quiet: then [`Behind::wait`] before anything is printed.
    pub fn is_hushed(&mut self) -> bool {
        while !self.hushed && self.hear(Duration::ZERO) {}
        self.hushed
    }

    /// Waits until it may speak.
    pub fn wait(&mut self) {
        if self.is_hushed() {
            self.tell("quiet");
        }
        while self.hushed {
            self.hear(Duration::from_millis(200));
        }
    }

    fn tell(&mut self, line: &str) {
        let gone = self.socket.as_ref().is_some_and(|socket| passing::send_line(socket, line, None).is_err());
        if gone {
            self.be_alone();
        }
    }

    /// Takes one word; whether there was one.
    fn hear(&mut self, limit: Duration) -> bool {
        let Some(mut socket) = self.socket.as_ref().filter(|socket| readable(socket, limit)) else { return false };
        let mut byte = [0];
        match (socket.read(&mut byte), byte) {
            (Ok(1), [word::HUSH]) => self.hushed = true,
            (Ok(1), [word::TALK]) => self.hushed = false,
            (Ok(1), [word::ALONE]) | (Ok(0) | Err(_), _) => self.be_alone(),
            (Ok(_), _) => {}
        }
        true
    }

    /// Nobody reads any more: a terminal gets nothing from here on, a file everything.
    fn be_alone(&mut self) {
        self.socket = None;
        self.hushed = false;
        let Ok(nothing) = std::fs::OpenOptions::new().write(true).open("/dev/null") else { return };
        if std::io::stdout().is_terminal() {
            let _ = rustix::stdio::dup2_stdout(&nothing);
        }
        if std::io::stderr().is_terminal() {
            let _ = rustix::stdio::dup2_stderr(&nothing);
        }
    }
}

/// A hang-up counts: then reading tells.
fn readable(socket: &UnixStream, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: i64::try_from(limit.as_secs()).unwrap_or(0), tv_nsec: i64::from(limit.subsec_nanos()) };
    let mut watched = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut watched, Some(&limit)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind() -> (Behind, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Behind { socket: Some(ours), detached: true, hushed: false }, theirs)
    }

    #[test]
    fn it_is_quiet_while_it_is_told_to_be() {
        let (mut behind, mut front) = behind();
        assert!(!behind.is_hushed());
        front.write_all(&[word::TALK, word::HUSH]).unwrap();
        assert!(behind.is_hushed());
        front.write_all(&[word::TALK]).unwrap();
        behind.wait();
        assert!(!behind.is_hushed() && behind.socket.is_some());
        let mut said = [0; 6];
        front.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"quiet\n");
    }

    #[test]
    fn a_front_that_is_gone_is_not_waited_for() {
        for last in [&[word::HUSH][..], &[word::HUSH, word::ALONE], &[]] {
            let (mut behind, mut front) = behind();
            front.write_all(last).unwrap();
            drop(front);
            behind.wait();
            behind.stoppable(true);
            assert!(!behind.is_hushed() && behind.socket.is_none());
        }
    }

    #[test]
    fn what_is_told_is_understood() {
        assert_eq!(understand("run 20261122T011820Z-69f2\n"), Some(Told::Run("20261122T011820Z-69f2".into())));
        assert_eq!(understand("stoppable no\n"), Some(Told::Stoppable(false)));
        assert_eq!(understand("quiet\n"), Some(Told::Quiet));
        assert_eq!(understand("else\n"), None);
    }
}
