//! The question after Ctrl-C: what is to become of the run.
//!
//! Guarantees: nothing is done without one of the named letters; Enter, or Ctrl-C once more, goes on as if nothing had been
//! typed; a terminal that is gone leaves the run alone.

use std::fs::{File, OpenOptions};
use std::io::Write;

use super::confirm::{TERMINAL, read_line};
use super::terminal::{Out, escape};
use crate::error::Result;

/// What a person wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Nothing: it goes on, and is watched.
    GoOn,
    /// It goes on without being watched.
    Background,
    /// It stops, and its work is kept.
    Stop,
    /// It stops, and its work is removed.
    Undo,
}

impl Choice {
    /// What happens now: a stop may take a while.
    fn words(self) -> &'static str {
        match self {
            Choice::GoOn => "It goes on.\n",
            Choice::Background => "",
            Choice::Stop => "It stops at the next safe point, and the old cluster is started again.\n",
            Choice::Undo => "It stops at the next safe point, the old cluster is started again, and what was built is deleted.\n",
        }
    }
}

/// A run that is interrupted.
#[derive(Debug, Clone, Copy)]
pub struct Interruption<'a> {
    /// Its id.
    pub run: &'a str,
    /// It may still be stopped.
    pub stoppable: bool,
}

impl Interruption<'_> {
    /// Asks on the terminal until the answer is one. `again` is looked at while nobody answers: its error is an end of the
    /// question.
    pub fn ask(&self, again: &mut dyn FnMut() -> Result<()>) -> Choice {
        let Ok(mut terminal) = OpenOptions::new().read(true).write(true).open(TERMINAL) else { return Choice::Background };
        let mut words = self.words();
        loop {
            if terminal.write_all(words.as_bytes()).is_err() {
                return Choice::Background;
            }
            match self.answer(&mut terminal, again) {
                Some(choice) => {
                    let _ = terminal.write_all(choice.words().as_bytes());
                    return choice;
                }
                None => words = format!("One of {}, or Enter: ", self.letters()),
            }
        }
    }

    fn answer(&self, terminal: &mut File, again: &mut dyn FnMut() -> Result<()>) -> Option<Choice> {
        let mut interrupted = false;
        let line = read_line(terminal, &mut || again().inspect_err(|_| interrupted = true));
        match line {
            _ if interrupted => {
                let _ = terminal.write_all(b"\n");
                Some(Choice::GoOn)
            }
            Ok(Some(line)) => self.judge(&line),
            // End of input: nobody is there.
            Ok(None) | Err(_) => Some(Choice::Background),
        }
    }

    fn judge(&self, line: &str) -> Option<Choice> {
        match line.trim().to_ascii_lowercase().as_str() {
            "" => Some(Choice::GoOn),
            "b" => Some(Choice::Background),
            "s" if self.stoppable => Some(Choice::Stop),
            "u" if self.stoppable => Some(Choice::Undo),
            _ => None,
        }
    }

    fn letters(&self) -> &'static str {
        if self.stoppable { "b, s, u" } else { "b" }
    }

    fn words(&self) -> String {
        let run = escape(self.run);
        let choices = if self.stoppable {
            "  s  stop, start the old cluster again, keep the work for `pitr resume`\n  \
               u  stop, start the old cluster again, delete what was built\n"
        } else {
            "  It cannot be stopped any more: it goes to its end. `pitr undo` takes it back then.\n"
        };
        format!(
            "\nRun {run} goes on while you think.\n  b  leave it running in the background\n{choices}  Enter  watch it further\n\
             What now? [{}] ",
            self.letters()
        )
    }
}

/// Says where a run that was left alone is found again.
pub fn say_left(run: &str, pid: u32) {
    let mut out = Out::stderr();
    out.line(&format!(
        "Run {} goes on in the background, process {pid}. Look: pitr status --watch. What it did: pitr report {0}.",
        escape(run)
    ));
    out.line(&format!("To stop it at the next safe point: kill {pid}"));
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::error::{Error, Kind};

    const EARLY: Interruption<'_> = Interruption { run: "20261122T011820Z-69f2", stoppable: true };
    const LATE: Interruption<'_> = Interruption { stoppable: false, ..EARLY };

    #[test]
    fn only_a_letter_does_something() {
        let judged = ["", " \r\n", "b", "S", " u ", "y", "undo"].map(|line| EARLY.judge(line));
        let [go, back, stop, undo] = [Choice::GoOn, Choice::Background, Choice::Stop, Choice::Undo].map(Some);
        assert_eq!(judged, [go, go, back, stop, undo, None, None]);
        assert_eq!(["", "b", "s", "u"].map(|line| LATE.judge(line)), [go, back, None, None]);
    }

    #[test]
    fn what_can_be_chosen_is_said() {
        assert!(EARLY.words().ends_with("Enter  watch it further\nWhat now? [b, s, u] "), "{}", EARLY.words());
        assert!(LATE.words().contains("cannot be stopped any more") && LATE.words().ends_with("[b] "), "{}", LATE.words());
    }

    #[test]
    fn an_end_of_input_and_a_second_interruption() {
        let typed = |text: &[u8]| {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(text).unwrap();
            File::from(OwnedFd::from(reader))
        };
        let go_on = &mut || Ok(());
        assert_eq!(EARLY.answer(&mut typed(b"x\n"), go_on), None);
        assert_eq!(EARLY.answer(&mut typed(b"u\n"), go_on), Some(Choice::Undo));
        assert_eq!(EARLY.answer(&mut typed(b"s"), go_on), Some(Choice::Background), "not finished by Enter");
        assert_eq!(EARLY.answer(&mut typed(b""), go_on), Some(Choice::Background));
        let interrupt = &mut || Err(Error::new(Kind::Interrupted, "interrupted"));
        assert_eq!(EARLY.answer(&mut typed(b"u\n"), interrupt), Some(Choice::GoOn));
    }
}
