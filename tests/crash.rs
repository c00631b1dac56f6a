//! The coordinator dies, or fails, between any two effects: what stands at PGDATA then, and the ways on.
//!
//! Needs a `pitr` with the feature `crash-points` (`scripts/test` builds it). A usual run plays a part of each matrix;
//! `PITR_FULL_MATRIX=1` plays every point, with PGDATA's parent both the owner's and root's.

use std::time::Duration;

use crate::support::program::{self, Output};
use crate::support::stand::{Serves, Stand, full_matrix, matrix};
use crate::support::{Scratch, TestCluster, process, wait_until};

/// A point of a matrix: its number, counted from 1, and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    number: usize,
    name: String,
}

/// The first effect after which the recovered cluster can be started at PGDATA: the last rename of the switch.
const COMMIT: &str = "after effect of the switch";

fn places(names: Vec<String>) -> Vec<Place> {
    names.into_iter().enumerate().map(|(index, name)| Place { number: index + 1, name }).collect()
}

fn inside_the_switch(place: &Place) -> bool {
    place.name.contains("of the switch") || place.name.contains("exchange")
}

/// The number of the point at which the switch is complete.
fn commit(places: &[Place]) -> usize {
    places.iter().filter(|p| p.name == COMMIT).map(|p| p.number).next_back().expect("a switch")
}

fn counted(stand: &Stand, args: &[&str]) -> Vec<Place> {
    let places = places(stand.pitr.crash_points(args));
    eprintln!("{} points: {:?}", places.len(), places.iter().map(|p| p.name.as_str()).collect::<Vec<_>>());
    places
}

/// Counts the points of `pitr ARGS` on the ground that `prepare` makes of a new one, and plays those that `pick` wants
/// (or all, or the one of `PITR_MATRIX_POINT`), each on such a ground.
fn play(stand: &Stand, args: &[&str], prepare: impl Fn(), pick: impl Fn(&[Place], &Place) -> bool, each: impl Fn(&[Place], &Place)) {
    stand.reset();
    prepare();
    let all = counted(stand, args);
    let points = chosen(&all, |point| pick(&all, point));
    assert!(!points.is_empty(), "nothing to play: {all:?}");
    matrix(stand, &points, |point| {
        prepare();
        each(&all, point);
    });
}

/// The number of the only point of this name, of a recovery from the beginning.
fn number_of(stand: &Stand, name: &str) -> usize {
    stand.reset();
    counted(stand, &stand.restore()).iter().find(|p| p.name == name).unwrap_or_else(|| panic!("no point {name}")).number
}

/// The points that are played.
fn chosen(places: &[Place], pick: impl Fn(&Place) -> bool) -> Vec<Place> {
    let only = std::env::var("PITR_MATRIX_POINT").ok().map(|n| n.parse::<usize>().expect("a number"));
    places.iter().filter(|p| only.map_or_else(|| full_matrix() || pick(p), |n| n == p.number)).cloned().collect()
}

fn stand(scratch: &Scratch, root_owned_parent: bool) -> Stand {
    let builder = TestCluster::builder(scratch, "main");
    Stand::new(scratch, if root_owned_parent { builder.root_owned_parent() } else { builder })
}

/// `kill -9` in each step and between any two effects of the switch; then `resume` (even points) or `undo` (odd).
#[test]
fn a_restore_killed_anywhere_goes_on_or_back() {
    let scratch = Scratch::new("crash");
    let stand = stand(&scratch, false);
    let pick = |all: &[Place], point: &Place| {
        assert!(all.iter().filter(|p| inside_the_switch(p)).count() >= 6, "{all:?}");
        inside_the_switch(point) || point.name.starts_with("applied ")
    };
    play(&stand, &stand.restore(), || (), pick, |all, point| killed(&stand, point, commit(all)));
}

/// The same inside the switch where PGDATA's parent is root's: the coordinator itself exchanges.
#[test]
fn a_restore_killed_in_the_switch_below_a_root_owned_parent() {
    let scratch = Scratch::new("crash-root");
    let stand = stand(&scratch, true);
    let pick = |_: &[Place], point: &Place| point.name.contains("exchange");
    play(&stand, &stand.restore(), || (), pick, |all, point| killed(&stand, point, commit(all)));
}

/// While root renames in its own directory, the run's directory beside it is root's alone, and the owner's again when the
/// way back is done: the owner cannot put something else there meanwhile, and the run goes on or back from each point.
#[test]
fn the_owner_cannot_reach_what_root_renames() {
    let scratch = Scratch::new("root-renames");
    let stand = stand(&scratch, true);
    let points = ["taken for the exchange", "before exchange", "after exchange"];
    matrix(&stand, &points, |point| {
        stand.pitr.crash_at(point, &stand.restore());
        assert_eq!(owner_of_the_run(&stand), (0, 0o700));
        go_on(&stand, false);
        stand.assert_serves(Serves::New);
        assert_eq!(owner_of_the_run(&stand), (0, 0o700));
        stand.pitr.crash_at(point, &["undo", "--yes"]);
        assert_eq!(owner_of_the_run(&stand), (0, 0o700));
        undo(&stand);
        stand.assert_serves(Serves::Old);
        stand.assert_closed();
    });
    // After an automatic way back the owner can work there again.
    let first = number_of(&stand, "after exchange");
    stand.reset();
    failed(stand.pitr.fail_at(first, &stand.restore()), 1);
    assert_eq!(owner_of_the_run(&stand), (postgres(), 0o700));
    stand.assert_serves(Serves::Old);
    go_on(&stand, false);
    stand.assert_serves(Serves::New);
    stand.halt();
}

/// What the owner put there before root took the directory is seen: nothing is moved, and the run goes on without it.
#[test]
fn a_link_of_the_owners_is_not_renamed_by_root() {
    let scratch = Scratch::new("root-link");
    let stand = stand(&scratch, true);
    stand.reset();
    stand.pitr.crash_at("before effect of the switch", &stand.restore());
    assert_eq!(owner_of_the_run(&stand), (postgres(), 0o700));
    let link = stand.cluster.parent().join(&beside(&stand)[0]).join("data.between");
    program::ok(program::as_postgres("ln").args(["-s", "/etc"]).arg(&link));
    let inode = |path: &std::path::Path| std::os::unix::fs::MetadataExt::ino(&std::fs::symlink_metadata(path).unwrap());
    let before = inode(&stand.cluster.data);
    let said = stand.pitr.json_code(4, &["resume", "--yes"]);
    assert!(said["error"].to_string().contains("data.between is not a directory"), "{said}");
    assert_eq!(inode(&stand.cluster.data), before, "something was moved");
    std::fs::remove_file(&link).unwrap();
    go_on(&stand, false);
    stand.assert_serves(Serves::New);
    stand.halt();
}

/// Owner and mode of the only run's directory beside PGDATA.
fn owner_of_the_run(stand: &Stand) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(stand.cluster.parent().join(&beside(stand)[0])).unwrap();
    (metadata.uid(), metadata.mode() & 0o7777)
}

fn postgres() -> u32 {
    nix::unistd::User::from_name("postgres").unwrap().unwrap().uid.as_raw()
}

/// The recovery failed in the switch, the old cluster stood at PGDATA again, and the run was killed before it started it:
/// somebody else did. What it wrote is not discarded unseen.
#[test]
fn an_old_cluster_that_ran_after_the_way_back_is_noticed() {
    let scratch = Scratch::new("ran-after-back");
    let mut stand = stand(&scratch, false);
    for (fails, goes_on) in [("after exchange", true), ("after effect of the switch", false)] {
        let fails = number_of(&stand, fails);
        stand.reset();
        stand.pitr.env("PITR_FAIL_AT", &fails.to_string());
        stand.pitr.crash_at("begun start-old", &stand.restore());
        stand.pitr.env("PITR_FAIL_AT", "0");
        assert!(!stand.cluster.running());
        stand.cluster.start();
        stand.cluster.stop();
        if goes_on {
            go_on(&stand, true);
            stand.assert_serves(Serves::New);
        } else {
            stand.pitr.run(&["resume", "--yes"]).expect_code(3);
            undo(&stand);
            stand.assert_serves(Serves::Old);
        }
    }
    stand.halt();
}

fn killed(stand: &Stand, point: &Place, commit: usize) {
    stand.pitr.crash_at(point.number, &stand.restore());
    stand.pitr.assert_nothing_left();
    // Every third time nobody tries the server by hand.
    let by_hand = !point.number.is_multiple_of(3) && start_by_hand(stand, point, commit);
    stand.assert_open();
    if point.number.is_multiple_of(2) {
        go_on(stand, by_hand);
        stand.assert_serves(Serves::New);
        stand.assert_closed();
        if point.number.is_multiple_of(4) {
            undo(stand);
            stand.assert_serves(Serves::Old);
        }
    } else {
        undo(stand);
        stand.assert_serves(Serves::Old);
        stand.assert_closed();
        let again = stand.pitr.json(&["undo", "--yes"]);
        assert_eq!(again["outcome"], "nothing", "{again}");
    }
}

/// Starts the server as an administrator would: whole old, whole new, or a refusal. Says whether the old cluster ran.
#[track_caller]
fn start_by_hand(stand: &Stand, point: &Place, commit: usize) -> bool {
    if stand.cluster.running() {
        stand.who();
        return false;
    }
    let hidden = inside_the_switch(point) && stand.cluster.try_start().code != 0;
    if hidden {
        assert!(!stand.cluster.running());
        assert!(point.number < commit, "after its last rename the cluster must start: {}", stand.cluster.log_tail());
        return false;
    }
    if !stand.cluster.running() {
        stand.cluster.start();
    }
    let who = stand.who();
    assert_eq!(who == Serves::New, point.number >= commit, "{who:?}");
    // Half of them are left running.
    if point.number % 5 < 3 {
        stand.cluster.stop();
    }
    who == Serves::Old
}

/// `resume`; where the old cluster ran meanwhile it is refused until that is accepted by name.
#[track_caller]
fn go_on(stand: &Stand, old_ran: bool) {
    if old_ran {
        let refused = stand.pitr.run(&["resume", "--yes", "-o", "json"]).expect_code(3);
        assert!(refused.stderr.contains("--accept old-cluster-ran"), "{}", refused.stderr);
        let resumed = stand.pitr.json(&["resume", "--yes", "--accept", "old-cluster-ran"]);
        assert_eq!(resumed["outcome"], "switched", "{resumed}");
    } else {
        let resumed = stand.pitr.json(&["resume", "--yes"]);
        assert_eq!(resumed["outcome"], "switched", "{resumed}");
    }
}

#[track_caller]
fn undo(stand: &Stand) {
    let undone = stand.pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{undone}");
}

/// A `resume` that dies as well.
#[test]
fn a_resume_killed_anywhere_goes_on_or_back() {
    let scratch = Scratch::new("crash-resume");
    let stand = stand(&scratch, false);
    let begin = number_of(&stand, "applied extract");
    let prepare = || drop(stand.pitr.crash_at(begin, &stand.restore()));
    let pick = |_: &[Place], p: &Place| p.name.contains("exchange") || p.name == "applied promote" || p.name == "applied start";
    play(&stand, &["resume", "--yes"], prepare, pick, |_, point| {
        stand.pitr.crash_at(point.number, &["resume", "--yes"]);
        stand.pitr.assert_nothing_left();
        stand.assert_open();
        let expected = if point.number.is_multiple_of(2) { Serves::New } else { Serves::Old };
        if expected == Serves::New {
            go_on(&stand, false)
        } else {
            undo(&stand)
        }
        stand.assert_serves(expected);
    });
}

/// An `undo` after success that dies: PGDATA is whole or refuses, and `resume` ends the undo.
#[test]
fn an_undo_killed_anywhere_is_ended_by_resume() {
    let scratch = Scratch::new("crash-undo");
    let stand = stand(&scratch, false);
    let prepare = || drop(stand.pitr.json(&stand.restore()[..4]));
    let pick = |all: &[Place], point: &Place| {
        assert!(all.iter().any(|p| p.name == "applied move-old"), "{all:?}");
        inside_the_switch(point) || point.name.starts_with("applied ")
    };
    play(&stand, &["undo", "--yes"], prepare, pick, |_, point| {
        stand.pitr.crash_at(point.number, &["undo", "--yes"]);
        stand.pitr.assert_nothing_left();
        stand.assert_open();
        if point.number.is_multiple_of(2) && !stand.cluster.running() && stand.cluster.try_start().code == 0 {
            stand.who();
            stand.cluster.stop();
        }
        let verb = if point.number.is_multiple_of(3) { "undo" } else { "resume" };
        let undone = stand.pitr.json(&[verb, "--yes"]);
        assert_eq!(undone["outcome"], "undone", "{undone}");
        stand.assert_serves(Serves::Old);
        stand.assert_closed();
    });
}

/// An `undo` before the switch that dies: `resume` ends it.
#[test]
fn an_undo_before_the_switch_killed_anywhere_is_ended_by_resume() {
    let scratch = Scratch::new("crash-early-undo");
    let stand = stand(&scratch, false);
    let begin = number_of(&stand, "applied replay");
    let prepare = || drop(stand.pitr.crash_at(begin, &stand.restore()));
    let pick = |_: &[Place], point: &Place| point.name.starts_with("applied ");
    play(&stand, &["undo", "--yes"], prepare, pick, |_, point| {
        stand.pitr.crash_at(point.number, &["undo", "--yes"]);
        stand.assert_open();
        let undone = stand.pitr.json(&["resume", "--yes"]);
        assert_eq!(undone["outcome"], "undone", "{undone}");
        stand.assert_serves(Serves::Old);
        assert_eq!(beside(&stand), [] as [String; 0], "staging is left");
    });
}

/// An effect that fails: before the switch is complete the old cluster serves again, after it a person decides.
#[test]
fn a_restore_that_fails_anywhere_leaves_one_whole_cluster() {
    let scratch = Scratch::new("fail");
    let stand = stand(&scratch, false);
    let some = ["begun stop", "applied stop", "applied extract", "applied promote", "applied start"];
    let pick = |_: &[Place], point: &Place| inside_the_switch(point) || some.contains(&point.name.as_str());
    play(
        &stand,
        &stand.restore(),
        || (),
        pick,
        |all, point| {
            let said = stand.pitr.fail_at(point.number, &stand.restore());
            if point.number < commit(all) {
                let document = failed(said, 1);
                assert_eq!(document["outcome"], "failed", "{document}");
                stand.assert_serves(Serves::Old);
                stand.assert_open();
                if point.number.is_multiple_of(2) {
                    go_on(&stand, false);
                    stand.assert_serves(Serves::New);
                }
            } else {
                let said = failed(said, 4);
                assert!(said["error"]["hint"].as_str().is_some_and(|hint| hint.contains("pitr undo")), "{said}");
                stand.assert_open();
            }
            undo(&stand);
            stand.assert_serves(Serves::Old);
            stand.assert_closed();
        },
    );
}

#[track_caller]
fn failed(said: Output, code: i32) -> serde_json::Value {
    let document = said.expect_code(code).json();
    assert!(document["error"]["what"].as_str().is_some_and(|what| what.contains("test failure")), "{document}");
    document
}

/// `kill -9` while the owner's child extracts and while the private server replays, and `resume` at once (F6).
#[test]
fn a_resume_does_not_race_the_children_of_the_killed_run() {
    let scratch = Scratch::new("race");
    let stand = stand(&scratch, false);
    for marker in [".pitr-owner-at-work", "postmaster.pid"] {
        stand.reset();
        let mut running = stand.pitr.spawn(&stand.restore());
        wait_until(60, "the child at work", || {
            assert!(!running.ended(), "the run is over already: {}", running.stderr());
            at_work(&stand, marker)
        });
        running.kill_9();
        let resumed = stand.pitr.json(&["resume", "--yes"]);
        assert_eq!(resumed["outcome"], "switched", "{resumed}");
        stand.assert_serves(Serves::New);
        undo(&stand);
        stand.assert_serves(Serves::Old);
    }
    stand.halt();
}

/// Something is staged by now: files of the backup, or the private server's pid file.
fn at_work(stand: &Stand, marker: &str) -> bool {
    let staged = beside(stand).into_iter().map(|name| stand.cluster.parent().join(name).join("data"));
    let mut seen = staged.filter(|data| if marker == "postmaster.pid" { data.join(marker).exists() } else { data.join("base").exists() });
    let found = seen.next().is_some();
    // Not at its very beginning.
    if found {
        std::thread::sleep(Duration::from_millis(30));
    }
    found && !process::holders(stand.cluster.parent()).is_empty()
}

/// Directories of runs beside PGDATA.
fn beside(stand: &Stand) -> Vec<String> {
    let names = std::fs::read_dir(stand.cluster.parent()).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(".pitr-")).collect()
}
