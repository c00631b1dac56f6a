//! A stand on which a run can be held at a place of the test's choice.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::pitr::Running;
use super::stand::Stand;
use super::terminal::Terminal;
use super::{Scratch, TestCluster, wait_until};

/// A stand on which a run can be held by a file.
#[derive(Debug)]
pub struct Held {
    /// The stand.
    pub stand: Stand,
    flag: PathBuf,
}

/// Long enough for a signal that is not put off to be acted upon.
const A_WHILE: Duration = Duration::from_millis(1500);

impl Held {
    /// While the file `held` exists, the archiver does not come to its end, and with it a stop of the server.
    pub fn in_the_stop(scratch: &Scratch) -> Held {
        let flag = scratch.path().join("held");
        let archive = scratch.path().join("main/archive");
        let command = format!("while test -e {0}; do sleep 0.1; done; test ! -f {1}/%f && cp %p {1}/%f", flag.display(), archive.display());
        let builder = TestCluster::builder(scratch, "main").conf(&format!("archive_command = '{command}'"));
        Held { stand: Stand::new(scratch, builder), flag }
    }

    /// While the file exists, a hook does not end.
    pub fn in_a_hook(scratch: &Scratch, name: &str) -> Held {
        let mut stand = Stand::new(scratch, TestCluster::builder(scratch, "main"));
        let flag = scratch.path().join("held");
        let script = format!("while test -e {}; do sleep 0.1; done", flag.display());
        let hook = toml::Value::from(vec!["/bin/sh", "-c", &script]);
        stand.pitr.set("hooks", toml::Table::from_iter([(name.to_string(), toml::Value::from(vec![hook]))]));
        Held { stand, flag }
    }

    /// Starts the recovery and returns when its journal has `word` as its last step or fact.
    pub fn until(&self, word: &str) -> Running {
        self.reset();
        let mut running = self.stand.pitr.spawn(&self.stand.restore());
        self.wait_for(word, || assert!(!running.ended(), "the run ended: {}", running.stderr()));
        running
    }

    /// The same of a recovery that is typed on a terminal.
    pub fn typed_until(&self, word: &str) -> Terminal {
        self.reset();
        let mut terminal = self.stand.pitr.on_terminal(&self.stand.restore());
        self.wait_for(word, || assert!(!terminal.ended(), "the run ended: {}", terminal.screen()));
        terminal
    }

    fn reset(&self) {
        self.stand.reset();
        fs::write(&self.flag, "").unwrap();
    }

    fn wait_for(&self, word: &str, mut look: impl FnMut()) {
        wait_until(60, &format!("'{word}' in the journal"), || {
            look();
            self.journal().lines().next_back().is_some_and(|line| line.contains(&format!("\"{word}\"")))
        });
    }

    /// Every journal of the stand.
    pub fn journal(&self) -> String {
        let runs = fs::read_dir(self.stand.pitr.state.join("runs")).into_iter().flatten().flatten();
        runs.filter_map(|run| fs::read_to_string(run.path().join("journal")).ok()).collect()
    }

    /// Sends `signal`, and makes sure that the run still goes on some time after.
    #[track_caller]
    pub fn waits_in_spite_of(&self, running: &mut Running, signal: Signal) {
        running.signal(signal);
        std::thread::sleep(A_WHILE);
        assert!(!running.ended(), "{signal} ended it at once: {}", running.stderr());
    }

    /// Removes the file.
    pub fn let_go(&self) {
        fs::remove_file(&self.flag).unwrap();
    }
}
