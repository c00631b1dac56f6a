//! Signals to a run: SIGTERM and SIGINT stop it at the next safe point and the old cluster serves again; from the switch on
//! they wait for the end; SIGHUP changes nothing. A run is held at the place in question by what it waits for.

use nix::sys::signal::Signal;

use crate::support::held::Held;
use crate::support::stand::Serves;
use crate::support::{Scratch, wait_until};

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
