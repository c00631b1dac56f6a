//! Ctrl-C on a terminal asks what it means; a terminal that goes away means nothing.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::held::Held;
use crate::support::stand::Serves;
use crate::support::terminal::{CTRL_C, Terminal};
use crate::support::{Scratch, process, wait_until};

const QUESTION: &str = "What now? [b, s, u] ";

/// Ctrl-C is typed and the question is there.
fn interrupted(terminal: &mut Terminal, question: &str) {
    terminal.keys(CTRL_C);
    terminal.shows(question, 1);
}

/// The process that works for `held`, when nobody waits for it any more.
fn worker(held: &Held) -> i32 {
    let holders = process::holders(&held.stand.pitr.state);
    holders.iter().find(|h| h.command.starts_with("pitr __behind restore")).unwrap_or_else(|| panic!("{holders:?}")).pid
}

fn wait_for_the_end(held: &Held, outcome: &str) {
    wait_until(60, "the end of the run", || {
        held.journal().lines().next_back().is_some_and(|line| line.contains(&format!("\"outcome\":\"{outcome}\"")))
    });
}

/// Enter goes on, and so does an answer that is none; left alone, the run comes to its end without a word more.
#[test]
fn a_run_goes_on_in_the_background() {
    let scratch = Scratch::new("back");
    let held = Held::in_the_stop(&scratch);
    let mut terminal = held.typed_until("stopping");
    interrupted(&mut terminal, QUESTION);
    terminal.keys("\n");
    terminal.shows("It goes on.", 1);
    terminal.keys(CTRL_C);
    terminal.shows(QUESTION, 2);
    terminal.keys("x\n");
    terminal.shows("One of b, s, u, or Enter: ", 1);
    terminal.keys("b\n");

    assert_eq!(terminal.code(), 130, "{}", terminal.screen());
    let pid = worker(&held);
    let shown = terminal.screen();
    assert!(shown.contains(&format!("goes on in the background, process {pid}.")), "{shown}");
    let run = &held.stand.pitr.json(&["status"])["clusters"][0]["run"];
    assert_eq!((&run["process"], &run["next"]), (&json!(pid), &json!([format!("kill {pid}")])), "{run}");
    assert!(run["state"].as_str().unwrap().starts_with(&format!("at work in process {pid}: recovery is at 'stop'")), "{run}");
    held.let_go();
    wait_for_the_end(&held, "switched");
    held.stand.assert_serves(Serves::New);
    held.stand.assert_closed();
    assert_eq!(terminal.screen(), shown, "it goes on talking on a terminal that is not its own any more");
    held.stand.halt();
}

/// Left alone, it can still be stopped.
#[test]
fn a_run_in_the_background_is_stopped_by_sigterm() {
    let scratch = Scratch::new("back-term");
    let held = Held::in_the_stop(&scratch);
    let mut terminal = held.typed_until("stopping");
    interrupted(&mut terminal, QUESTION);
    terminal.keys("b\n");
    assert_eq!(terminal.code(), 130, "{}", terminal.screen());
    process::send(worker(&held), Signal::SIGTERM);
    held.let_go();
    wait_for_the_end(&held, "kept");
    held.stand.assert_serves(Serves::Old);
    held.stand.assert_open();
    held.stand.halt();
}

/// So can one that is watched, by a signal to the process that watches.
#[test]
fn sigterm_to_the_process_in_front_stops_the_run() {
    let scratch = Scratch::new("front-term");
    let held = Held::in_the_stop(&scratch);
    let mut terminal = held.typed_until("stopping");
    process::send(terminal.pid(), Signal::SIGTERM);
    // Its wish is passed on at once when it is no end of the session; let go before, the stop would be over.
    terminal.shows("SIGTERM", 1);
    held.let_go();
    assert_eq!(terminal.code(), 143, "{}", terminal.screen());
    held.stand.assert_serves(Serves::Old);
    held.stand.assert_open();
    held.stand.halt();
}

/// `s`: the old cluster serves and the work is kept.
#[test]
fn a_run_is_stopped_and_kept() {
    let scratch = Scratch::new("stop");
    let held = Held::in_the_stop(&scratch);
    let mut terminal = held.typed_until("stopping");
    interrupted(&mut terminal, QUESTION);
    terminal.keys("s\n");
    held.let_go();
    assert_eq!(terminal.code(), 130, "{}", terminal.screen());
    assert!(terminal.screen().contains("\"outcome\":\"interrupted\""), "{}", terminal.screen());
    held.stand.assert_serves(Serves::Old);
    held.stand.assert_open();
    let resumed = held.stand.pitr.json(&["resume", "--yes"]);
    assert_eq!(resumed["outcome"], "switched", "{resumed}");
    held.stand.assert_serves(Serves::New);
    held.stand.halt();
}

/// `u`: the old cluster serves and nothing is left, also from the middle of a check on the private server. No key reaches
/// the processes at work: what is asked for is done in order.
#[test]
fn a_run_is_stopped_and_undone() {
    let scratch = Scratch::new("undo-key");
    let mut held = Held::in_a_hook(&scratch, "done");
    let slow = scratch.file("checks/slow.sql", "-- check: slow\nSELECT pg_sleep(120);\n", 0o644);
    held.stand.pitr.set("checks", vec![slow.to_str().unwrap()]);
    let mut terminal = held.typed_until("check");
    interrupted(&mut terminal, QUESTION);
    terminal.keys("u\n");
    assert_eq!(terminal.code(), 130, "{}", terminal.screen());
    let shown = terminal.screen();
    assert!(shown.contains("\"outcome\":\"undone\"") && shown.contains("what was built is deleted"), "{shown}");
    held.stand.assert_serves(Serves::Old);
    held.stand.assert_closed();
    let left: Vec<_> = std::fs::read_dir(held.stand.cluster.parent()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".pitr-")), "{left:?}");
    held.stand.halt();
}

/// From the switch on there is nothing to choose but whether it is watched; Ctrl-C once more is no choice.
#[test]
fn after_the_switch_it_cannot_be_stopped() {
    let scratch = Scratch::new("late-key");
    let held = Held::in_a_hook(&scratch, "after_start");
    let mut terminal = held.typed_until("hook-after-start");
    interrupted(&mut terminal, "What now? [b] ");
    terminal.keys("s\n");
    terminal.shows("One of b, or Enter: ", 1);
    terminal.keys(CTRL_C);
    terminal.shows("It goes on.", 1);
    held.let_go();
    assert_eq!(terminal.code(), 0, "{}", terminal.screen());
    held.stand.assert_serves(Serves::New);
    held.stand.assert_closed();
    held.stand.halt();
}

/// A lost connection leaves the run alone, also in the middle of the question.
#[test]
fn a_terminal_that_goes_away_changes_nothing() {
    let scratch = Scratch::new("hang-up");
    let held = Held::in_the_stop(&scratch);
    for asked in [false, true] {
        let mut terminal = held.typed_until("stopping");
        if asked {
            interrupted(&mut terminal, QUESTION);
        }
        terminal.hang_up();
        held.let_go();
        wait_for_the_end(&held, "switched");
        held.stand.assert_serves(Serves::New);
        held.stand.assert_closed();
    }
    held.stand.halt();
}

/// The question before anything is done is asked by the process behind, and Ctrl-C there ends it: nothing has begun.
#[test]
fn ctrl_c_at_the_confirmation_changes_nothing() {
    let scratch = Scratch::new("confirm-key");
    let held = Held::in_the_stop(&scratch);
    held.stand.reset();
    let target = held.stand.target.time.clone();
    let mut terminal = held.stand.pitr.on_terminal(&["restore", "--before-time", &target]);
    terminal.shows("Type the cluster's name (main) to go on: ", 1);
    terminal.keys(CTRL_C);
    assert_eq!(terminal.code(), 130, "{}", terminal.screen());
    assert_eq!(held.journal(), "");
    held.stand.assert_serves(Serves::Old);

    let mut terminal = held.stand.pitr.on_terminal(&["restore", "--before-time", &target]);
    terminal.shows("Type the cluster's name (main) to go on: ", 1);
    terminal.keys("main\n");
    assert_eq!(terminal.code(), 0, "{}", terminal.screen());
    held.stand.assert_serves(Serves::New);
    let journal = held.journal();
    assert!(journal.contains("--before-time") && !journal.contains("__behind"), "the command as it was typed: {journal}");
    held.stand.halt();
}
