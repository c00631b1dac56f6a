//! Signals to a run: SIGTERM and SIGINT stop it at the next safe point and the old cluster serves again; from the switch on
//! they wait for the end; SIGHUP changes nothing. A run is held at the place in question by what it waits for.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::pitr::Running;
use crate::support::stand::{Serves, Stand};
use crate::support::{Scratch, TestCluster, wait_until};

/// A stand on which a run can be held by a file.
struct Held {
    stand: Stand,
    flag: PathBuf,
}

/// Long enough for a signal that is not put off to be acted upon.
const A_WHILE: Duration = Duration::from_millis(1500);

impl Held {
    /// While the file `held` exists, the archiver does not come to its end, and with it a stop of the server.
    fn in_the_stop(scratch: &Scratch) -> Held {
        let flag = scratch.path().join("held");
        let archive = scratch.path().join("main/archive");
        let command = format!("while test -e {0}; do sleep 0.1; done; test ! -f {1}/%f && cp %p {1}/%f", flag.display(), archive.display());
        let builder = TestCluster::builder(scratch, "main").conf(&format!("archive_command = '{command}'"));
        Held { stand: Stand::new(scratch, builder), flag }
    }

    /// While the file exists, a hook does not end.
    fn in_a_hook(scratch: &Scratch, name: &str) -> Held {
        let mut stand = Stand::new(scratch, TestCluster::builder(scratch, "main"));
        let flag = scratch.path().join("held");
        let script = format!("while test -e {}; do sleep 0.1; done", flag.display());
        let hook = toml::Value::from(vec!["/bin/sh", "-c", &script]);
        stand.pitr.set("hooks", toml::Table::from_iter([(name.to_string(), toml::Value::from(vec![hook]))]));
        Held { stand, flag }
    }

    /// Starts the recovery and returns when its journal has `word` as its last step or fact.
    fn until(&self, word: &str) -> Running {
        self.stand.reset();
        fs::write(&self.flag, "").unwrap();
        let mut running = self.stand.pitr.spawn(&self.stand.restore());
        wait_until(60, &format!("'{word}' in the journal"), || {
            assert!(!running.ended(), "the run ended: {}", running.stderr());
            self.journal().lines().next_back().is_some_and(|line| line.contains(&format!("\"{word}\"")))
        });
        running
    }

    fn journal(&self) -> String {
        let runs = fs::read_dir(self.stand.pitr.state.join("runs")).into_iter().flatten().flatten();
        runs.filter_map(|run| fs::read_to_string(run.path().join("journal")).ok()).collect()
    }

    /// Sends `signal`, and makes sure that the run still goes on some time after.
    #[track_caller]
    fn waits_in_spite_of(&self, running: &mut Running, signal: Signal) {
        running.signal(signal);
        std::thread::sleep(A_WHILE);
        assert!(!running.ended(), "{signal} ended it at once: {}", running.stderr());
    }

    fn let_go(&self) {
        fs::remove_file(&self.flag).unwrap();
    }
}

/// Told to stop, the server stops: a signal waits for that, and then the old cluster is started again.
#[test]
fn sigterm_during_the_stop_brings_the_old_cluster_back() {
    let scratch = Scratch::new("term");
    let held = Held::in_the_stop(&scratch);
    let mut running = held.until("stopping");
    let pid = held.stand.cluster.postmaster_pid();
    held.waits_in_spite_of(&mut running, Signal::SIGTERM);
    held.let_go();

    let document = running.wait().expect_code(143).json();
    assert_eq!(document["outcome"], "interrupted", "{document}");
    held.stand.assert_serves(Serves::Old);
    assert_ne!(held.stand.cluster.postmaster_pid(), pid, "it was stopped and started again");
    held.stand.assert_open();
    // The work was kept, and goes on.
    let resumed = held.stand.pitr.json(&["resume", "--yes"]);
    assert_eq!(resumed["outcome"], "switched", "{resumed}");
    held.stand.assert_serves(Serves::New);
    held.stand.halt();
}

/// From the switch on stopping would leave nothing serving: SIGTERM, SIGINT and SIGHUP wait for the end.
#[test]
fn signals_after_the_switch_wait_for_the_end() {
    let scratch = Scratch::new("late-term");
    let held = Held::in_a_hook(&scratch, "after_start");
    let mut running = held.until("hook-after-start");
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        held.waits_in_spite_of(&mut running, signal);
    }
    held.let_go();

    let document = running.wait().expect_code(0).json();
    assert_eq!(document["outcome"], "switched", "{document}");
    held.stand.assert_serves(Serves::New);
    held.stand.assert_closed();
    held.stand.halt();
}

/// A lost connection changes nothing, whatever the run is doing.
#[test]
fn sighup_changes_nothing() {
    let scratch = Scratch::new("hup");
    let held = Held::in_the_stop(&scratch);
    let mut running = held.until("stopping");
    held.waits_in_spite_of(&mut running, Signal::SIGHUP);
    held.let_go();
    wait_until(60, "the end", || {
        running.signal(Signal::SIGHUP);
        running.ended()
    });
    let document = running.wait().expect_code(0).json();
    assert_eq!(document["outcome"], "switched", "{document}");
    held.stand.assert_serves(Serves::New);
    held.stand.halt();
}

/// Off a terminal nobody can be asked: SIGINT stops like SIGTERM, also in the middle of a check on the private server.
#[test]
fn sigint_off_a_terminal_keeps_the_work() {
    let scratch = Scratch::new("int");
    let mut held = Held::in_a_hook(&scratch, "done");
    let slow = scratch.file("checks/slow.sql", "-- check: slow\nSELECT pg_sleep(120);\n", 0o644);
    held.stand.pitr.set("checks", vec![slow.to_str().unwrap()]);
    let running = held.until("check");
    running.signal(Signal::SIGINT);

    let document = running.wait().expect_code(130).json();
    assert_eq!(document["outcome"], "interrupted", "{document}");
    assert!(document["error"]["hint"].as_str().is_some_and(|hint| hint.contains("pitr resume")), "{document}");
    held.stand.assert_serves(Serves::Old);
    held.stand.assert_open();
    let undone = held.stand.pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{undone}");
    held.stand.assert_serves(Serves::Old);
    held.stand.halt();
}
