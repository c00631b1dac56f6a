//! What a verb that acts does on a terminal: one process in front that watches and asks, the work behind it.

use std::ffi::OsString;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cli::{BEHIND, Cli, Verb};
use crate::error::{Error, Kind, Result};
use crate::report::interrupt::{Choice, Interruption, say_left};
use crate::report::narrator::StepNarrator;
use crate::report::progress::beside;
use crate::run::executor::Narrator;
use crate::run::owner::Progress;
use crate::sys::front::{Behind, Front, Told, at_a_terminal};
use crate::sys::signals::Caught;

/// How long the one behind may take to fall silent before the question is asked all the same.
const SILENCE: Duration = Duration::from_millis(500);

/// A session that ends sends SIGTERM and at once SIGHUP (systemd.kill(5), `SendSIGHUP=`): the one without the other is
/// somebody's wish to stop the run.
const END_OF_SESSION: Duration = Duration::from_secs(1);

/// Exit code of the process in front when the terminal went away: 128 and SIGHUP's number.
const HUNG_UP: u8 = 129;

/// Carries the verb out behind this process, if it acts and a person can be asked. Returns its exit code.
pub fn in_front(cli: &Cli, typed: &[OsString]) -> Option<u8> {
    if !acts(&cli.verb) || !at_a_terminal() {
        return None;
    }
    let caught = Caught::install().ok()?;
    let (program, arguments) = typed.split_first()?;
    let _ = program;
    let words: Vec<OsString> = std::iter::once(BEHIND.into()).chain(arguments.iter().cloned()).collect();
    let front = Front::start(&words).inspect_err(|error| log::warn!("Ctrl-C stops this run: {error}")).ok()?;
    Some(watch(front, &caught))
}

fn acts(verb: &Verb) -> bool {
    match verb {
        Verb::Restore(args) => !args.dry_run,
        Verb::Resume(args) | Verb::Undo(args) => !args.dry_run,
        Verb::Purge(args) => !args.dry_run,
        _ => false,
    }
}

fn watch(mut front: Front, caught: &Caught) -> u8 {
    let (mut run, mut stoppable) = (None, false);
    loop {
        for told in front.listen(Duration::from_millis(100)) {
            match told {
                Told::Run(id) => run = Some(id),
                Told::Stoppable(yes) => stoppable = yes,
                Told::Quiet => {}
            }
        }
        match front.ended() {
            Ok(Some(code)) => return code,
            Ok(None) => {}
            Err(_) => return Kind::Failed.exit_code(),
        }
        // Without a run there is nothing that could outlive the session.
        if caught.take_terminate() && (run.is_none() || !hung_up_within(caught, END_OF_SESSION)) {
            log::warn!("SIGTERM: the run is told to stop");
            front.terminate();
        }
        // Before its work begins the one behind hears every key itself.
        let Some(id) = &run else { continue };
        if caught.is_hung_up() {
            front.leave();
            return HUNG_UP;
        }
        if !caught.take_interrupt() {
            continue;
        }
        match ask(&mut front, caught, &Interruption { run: id, stoppable }) {
            Choice::GoOn => {}
            Choice::Background => {
                say_left(id, front.pid());
                front.leave();
                return Kind::Interrupted.exit_code();
            }
            Choice::Stop => front.stop(false),
            Choice::Undo => front.stop(true),
        }
        front.hush(false);
    }
}

/// Whether the terminal goes away within this time; that is not taken, only seen.
fn hung_up_within(caught: &Caught, limit: Duration) -> bool {
    let begun = Instant::now();
    while !caught.is_hung_up() && begun.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(20));
    }
    caught.is_hung_up()
}

fn ask(front: &mut Front, caught: &Caught, interruption: &Interruption<'_>) -> Choice {
    front.hush(true);
    let begun = Instant::now();
    // In the middle of a long wait it says nothing anyhow, and does not answer.
    while begun.elapsed() < SILENCE && !front.listen(Duration::from_millis(50)).contains(&Told::Quiet) {}
    interruption.ask(&mut || {
        if caught.take_terminate() && !hung_up_within(caught, END_OF_SESSION) {
            front.terminate();
        }
        match caught.take_interrupt() {
            true => Err(Error::new(Kind::Interrupted, "interrupted")),
            false => Ok(()),
        }
    })
}

/// The process in front, for the one behind it; without one nothing is told and nobody is waited for.
#[derive(Debug, Default)]
pub struct Link(Option<Mutex<Behind>>);

impl Link {
    /// Of a process that was started behind another.
    pub fn behind() -> Result<Link> {
        Ok(Link(Some(Mutex::new(Behind::of_standard_input()?))))
    }

    /// Whether there is a process in front, at a terminal.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    fn front(&self) -> Option<MutexGuard<'_, Behind>> {
        self.0.as_ref().map(|front| front.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits while a person is asked something, with the bar taken away.
    pub fn give_way(&self) {
        if let Some(mut front) = self.front()
            && front.is_hushed()
        {
            beside(|| front.wait());
        }
    }
}

/// The narrator of a run that somebody may be watching from in front.
pub struct Attended<'a> {
    narrator: StepNarrator,
    link: &'a Link,
}

impl<'a> Attended<'a> {
    /// `narrator`, silent while the front asks.
    pub fn new(narrator: StepNarrator, link: &'a Link) -> Attended<'a> {
        Attended { narrator, link }
    }

    /// The last step ended.
    pub fn finish(&mut self) {
        self.link.give_way();
        self.narrator.finish();
    }
}

impl Narrator for Attended<'_> {
    fn begins(&mut self, id: &str) {
        if let Some(mut front) = self.link.front() {
            front.detach(id);
        }
    }

    fn stoppable(&mut self, yes: bool) {
        if let Some(mut front) = self.link.front() {
            front.stoppable(yes);
        }
    }

    fn step(&mut self, number: usize, of: usize, text: &str) {
        self.link.give_way();
        self.narrator.step(number, of, text);
    }

    fn progress(&mut self, progress: Progress) {
        self.link.give_way();
        self.narrator.progress(progress);
    }

    fn remark(&mut self, text: &str) {
        self.link.give_way();
        self.narrator.remark(text);
    }
}
