//! The question before something is done: type the cluster's name.
//!
//! Guarantees: only the cluster's own name counts as yes (`15/main` is `15-main`); end of input is no; without a
//! terminal nothing is asked and nothing is done unless `--yes` was given; a signal ends the waiting.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::terminal::escape;
use crate::config::cluster_name;
use crate::error::{At, Error, Kind, Result};

/// Between two looks at what could interrupt the waiting.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A longer answer is no name.
const LONGEST: usize = 4096;

pub(super) const TERMINAL: &str = "/dev/tty";

/// Who is asked about what. The plan has been shown before.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The host's name: the wrong window is the commonest mistake at night.
    pub host: &'a str,
    /// The cluster's name, which is the answer.
    pub cluster: &'a str,
    /// The verb: `restore`.
    pub verb: &'a str,
}

impl Question<'_> {
    /// Asks, unless `yes` (`--yes`). `typed`: what is typed on a terminal comes to this program. `interrupted` is looked at while nobody answers; its error is returned.
    ///
    /// # Errors
    /// [`Kind::Usage`] where there is no terminal to ask on, [`Kind::Refused`] for any other answer than the name.
    pub fn ask(&self, yes: bool, typed: bool, interrupted: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        if yes {
            return Ok(());
        }
        // Input that comes from a pipe or a file was not typed by somebody who read the plan.
        if !typed {
            return Err(self.nobody_to_ask());
        }
        let Ok(mut terminal) = OpenOptions::new().read(true).write(true).open(TERMINAL) else {
            return Err(self.nobody_to_ask());
        };
        terminal.write_all(self.words().as_bytes()).at("write to", TERMINAL)?;
        let answer = read_line(&mut terminal, interrupted).map(Option::unwrap_or_default);
        if answer.as_ref().map_or(true, String::is_empty) {
            // Perhaps nobody pressed Enter: what is said next begins on a line of its own.
            terminal.write_all(b"\n").at("write to", TERMINAL)?;
        }
        self.judge(&answer?)
    }

    fn nobody_to_ask(&self) -> Error {
        Error::usage(format!("{} asks before it acts, and there is no terminal to ask on", self.verb))
            .hint(format!("Look at the plan, then give `--yes`: `pitr {} … --yes`.", self.verb))
    }

    fn words(&self) -> String {
        let (host, cluster) = (escape(self.host), escape(self.cluster));
        format!("{} on {host}. Type the cluster's name ({cluster}) to go on: ", self.verb)
    }

    /// What counts as yes.
    fn judge(&self, answer: &str) -> Result<()> {
        let answer = answer.trim();
        if cluster_name(answer).is_ok_and(|name| name == self.cluster) {
            return Ok(());
        }
        let what = match answer {
            "" => "not confirmed: nothing was typed".to_string(),
            other => format!("not confirmed: {} is not the cluster's name, {}", escape(other), escape(self.cluster)),
        };
        Err(Error::new(Kind::Refused, what).hint("Nothing has been changed. Ask again when you are sure."))
    }
}

/// One line of what is typed, without its end; none where input ends before it does. A signal handler that restarts
/// system calls would leave a plain read waiting, so the terminal is polled.
pub(super) fn read_line(terminal: &mut File, interrupted: &mut dyn FnMut() -> Result<()>) -> Result<Option<String>> {
    let mut line: Vec<u8> = Vec::new();
    while line.len() < LONGEST {
        wait(terminal, interrupted)?;
        let mut byte = [0];
        match terminal.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) if byte == *b"\n" => break,
            Ok(_) => line.extend(byte),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).at("read from", TERMINAL),
        }
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// Until there is something to read.
fn wait(terminal: &File, interrupted: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(LOOK_EVERY.subsec_nanos()) };
    loop {
        interrupted()?;
        let mut watched = [PollFd::new(terminal, PollFlags::IN)];
        match poll(&mut watched, Some(&pause)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(e) => return Err(e).at("wait for", TERMINAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    const QUESTION: Question<'_> = Question { host: "db-prod-03", cluster: "15-main", verb: "restore" };

    #[test]
    fn only_the_name_is_yes() {
        for yes in ["15-main", " 15-main \r\n", "15/main"] {
            assert_eq!(QUESTION.judge(yes), Ok(()), "{yes:?}");
        }
        for no in ["", "y", "yes", "15-MAIN", "main", "15-main2", "15-main 15-main", "\x1b[A"] {
            assert_eq!(QUESTION.judge(no).unwrap_err().kind, Kind::Refused, "{no:?}");
        }
        assert_eq!(QUESTION.judge("a\x1b").unwrap_err().what, "not confirmed: a\\x1b is not the cluster's name, 15-main");
    }

    #[test]
    fn the_host_is_named_and_so_is_the_flag() {
        assert_eq!(QUESTION.words(), "restore on db-prod-03. Type the cluster's name (15-main) to go on: ");
        let error = QUESTION.nobody_to_ask();
        assert_eq!(error.kind, Kind::Usage);
        assert!(error.hint.unwrap().contains("`--yes`"));
        assert_eq!(QUESTION.ask(true, false, &mut || panic!("nothing is waited for")), Ok(()));
    }

    #[test]
    fn a_line_is_read_from_whatever_stands_for_the_terminal() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut terminal = File::from(OwnedFd::from(reader));
        writer.write_all(b"15-main\nmore\xff").unwrap();
        assert_eq!(read_line(&mut terminal, &mut || Ok(())).unwrap().as_deref(), Some("15-main"));
        drop(writer);
        assert_eq!(read_line(&mut terminal, &mut || Ok(())).unwrap(), None, "a name that was not finished by Enter is none");
    }

    #[test]
    fn a_signal_ends_the_waiting() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let mut terminal = File::from(OwnedFd::from(reader));
        let mut looks = 0;
        let interrupted = &mut || {
            looks += 1;
            if looks > 2 { Err(Error::new(Kind::Interrupted, "interrupted")) } else { Ok(()) }
        };
        assert_eq!(read_line(&mut terminal, interrupted).unwrap_err().kind, Kind::Interrupted);
    }
}
