//! A journal that was damaged, emptied or lost: every verb says so and touches nothing. A torn last line is what a power cut
//! leaves: it is cut off, and the run goes on.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::scratch::make_dir;
use crate::support::stand::{Serves, Stand};
use crate::support::tree::{diff, snapshot_tree};
use crate::support::{Pitr, Scratch, Story, TestCluster};

/// The journal of a run.
fn journal(stand: &Stand, run: &str) -> PathBuf {
    stand.pitr.state.join("runs").join(run).join("journal")
}

fn switched(stand: &Stand) -> String {
    let restored = stand.pitr.json(&stand.restore()[..4]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    restored["run"].as_str().unwrap().to_string()
}

/// Damage of a journal's bytes; `None`: the file goes.
type Damage = fn(Vec<u8>) -> Option<Vec<u8>>;

fn flipped(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x01;
    Some(bytes)
}

/// The third line loses its second half, with its end.
fn cut_in_the_third_line(bytes: Vec<u8>) -> Option<Vec<u8>> {
    let ends: Vec<usize> = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at).take(3).collect();
    let from = (ends[1] + ends[2]) / 2;
    Some([&bytes[..from], &bytes[ends[2] + 1..]].concat())
}

/// A line in the middle is gone: each of the others is whole.
fn without_the_fourth_line(bytes: Vec<u8>) -> Option<Vec<u8>> {
    let ends: Vec<usize> = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at).take(4).collect();
    Some([&bytes[..=ends[2]], &bytes[ends[3] + 1..]].concat())
}

fn emptied(_: Vec<u8>) -> Option<Vec<u8>> {
    Some(vec![])
}

fn removed(_: Vec<u8>) -> Option<Vec<u8>> {
    None
}

/// After a switch: nobody can say what the run did, so nothing is done, by any verb, and the file stays as it was found.
#[test]
fn a_journal_that_tells_nothing_stops_every_verb() {
    let scratch = Scratch::new("journal");
    let stand = Stand::new(&scratch, TestCluster::builder(&scratch, "main"));
    stand.reset();
    let run = switched(&stand);
    let journal = journal(&stand, &run);
    let whole = fs::read(&journal).unwrap();
    let damages: [(&str, Damage); 5] = [
        ("a flipped bit", flipped),
        ("cut in the third line", cut_in_the_third_line),
        ("without the fourth line", without_the_fourth_line),
        ("empty", emptied),
        ("missing", removed),
    ];
    for (what, damage) in damages {
        let damaged = damage(whole.clone());
        match &damaged {
            Some(bytes) => fs::write(&journal, bytes).unwrap(),
            None => fs::remove_file(&journal).unwrap(),
        }
        eprintln!("journal: {what}");
        everything_stops(&stand, &run, matches!(what, "a flipped bit" | "missing"));
        assert_eq!(fs::read(&journal).ok(), damaged, "the damaged journal was changed");
        fs::write(&journal, &whole).unwrap();
    }
    // Nothing was touched: with the journal as it was the way back is open.
    assert_eq!(stand.pitr.json(&["undo", "--yes"])["outcome"], "undone");
    stand.assert_serves(Serves::Old);
    stand.halt();
}

#[track_caller]
fn everything_stops(stand: &Stand, run: &str, by_every_word: bool) {
    let pid = stand.cluster.postmaster_pid();
    let aside = stand.cluster.parent().join(format!(".pitr-{run}"));
    let (before, state) = (snapshot_tree(&aside), snapshot_tree(&stand.pitr.state));

    let status = stand.pitr.json(&["status"]);
    let problems = status["clusters"][0]["problems"].to_string();
    assert!(problems.contains(&format!("the journal of run {run}")), "{status}");
    let verbs: [&[&str]; 5] =
        [&["undo", "--yes"], &["purge", "--yes", run], &["resume", "--yes"], &["undo", "--yes", run], &["resume", "--yes", run]];
    for words in &verbs[..if by_every_word { 5 } else { 2 }] {
        let document = stand.pitr.json_code(4, words);
        let (what, hint) = (text(&document["error"]["what"]), text(&document["error"]["hint"]));
        assert!(what.contains(&format!("the journal of run {run}")) && !hint.is_empty(), "{words:?}: {document}");
        assert_eq!(document["changed"], false, "{words:?}: {document}");
    }
    let refused = stand.pitr.json_code(3, &["restore", "--yes", "--to-latest"]);
    assert!(refused["refusals"].as_array().unwrap().iter().any(|r| r["id"] == "journal-damaged"), "{refused}");
    if by_every_word {
        // All that may go goes: this may not.
        stand.pitr.run(&["purge", "--all", "--yes"]).expect_code(0);
    }

    assert_eq!((stand.cluster.postmaster_pid(), stand.who()), (pid, Serves::New), "the server was not left alone");
    assert_eq!(diff(&before, &snapshot_tree(&aside)), [] as [String; 0], "the cluster aside was touched");
    let touched = diff(&state, &snapshot_tree(&stand.pitr.state));
    // The index of WAL is a cache: status fills it.
    assert!(touched.iter().all(|line| line.contains("locks") || line.starts_with("+ index")), "{touched:?}");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A run that was begun and never wrote its first line: named, in the way until it is purged, and then gone.
#[test]
fn a_run_without_a_journal_that_left_nothing_is_purged() {
    let scratch = Scratch::new("unborn");
    let stand = Stand::new(&scratch, TestCluster::builder(&scratch, "main"));
    stand.reset();
    let run = "20261101T000000Z-0a0b";
    for journal in [None, Some("")] {
        let directory = make_dir(&stand.pitr.state.join("runs").join(run), "root", "root", 0o711);
        make_dir(&directory.join("door"), "postgres", "postgres", 0o700);
        if let Some(text) = journal {
            fs::write(directory.join("journal"), text).unwrap();
        }
        let refused = stand.pitr.json_code(3, &["restore", "--yes", "--to-latest"]);
        assert!(text(&refused["error"]["hint"]).contains("pitr purge"), "{refused}");
        let hands = stand.pitr.json_code(4, &["undo", "--yes"]);
        assert!(text(&hands["error"]["hint"]).contains(&format!("pitr purge {run}")), "{hands}");

        let words: &[&str] = if journal.is_none() { &["purge", run, "--yes"] } else { &["purge", "--all", "--yes"] };
        let purged = stand.pitr.json(words);
        assert_eq!((&purged["outcome"], &purged["changed"]), (&"removed".into(), &true.into()), "{purged}");
        assert!(!directory.exists());
    }
    switched(&stand);
    stand.assert_serves(Serves::New);
    stand.halt();
}

/// Whatever a run whose journal tells nothing left anywhere is named, and nothing is deleted: beside PGDATA and in it, at
/// tablespaces, also one that was dropped since, and beside an external pg_wal.
#[test]
fn what_an_unreadable_run_left_anywhere_is_named() {
    let scratch = Scratch::new("traces");
    let cluster = TestCluster::builder(&scratch, "main").create();
    let [space, wal] = ["space", "wal"].map(|name| scratch.dir(name, "postgres", "postgres", 0o700));
    fs::rename(cluster.data.join("pg_wal"), wal.join("pg_wal")).unwrap();
    std::os::unix::fs::symlink(wal.join("pg_wal"), cluster.data.join("pg_wal")).unwrap();
    cluster.start();
    cluster.sql("postgres", &format!("CREATE TABLESPACE one LOCATION '{}'", space.display()));
    cluster.pg_basebackup("nightly", &["-Ft"]);
    let story = Story::begin(&cluster);
    let target = story.work(1);
    story.work(1);
    let pitr = Pitr::for_cluster(&scratch, &cluster);
    let other = pitr.json(&["restore", "--yes", "--before-lsn", &target.lsn]);
    assert_eq!(other["outcome"], "switched", "{other}");

    // Another run's journal still names the location.
    cluster.sql("postgres", "DROP TABLESPACE one");
    let run = "20261101T000000Z-0a0b";
    let own = make_dir(&pitr.state.join("runs").join(run), "root", "root", 0o711);
    fs::write(own.join("journal"), "damaged\nfrom the beginning\n").unwrap();
    let name = format!(".pitr-{run}");
    let left = [
        cluster.parent().join(&name),
        cluster.data.join("pgsql_tmp.pitr").join(&name),
        cluster.data.join(format!("pitr-{run}.run")),
        space.join(&name),
        wal.join(&name),
        own.join("wal"),
    ];
    for path in &left {
        fs::create_dir_all(path).unwrap();
    }
    for number in 0..left.len() {
        let hands = pitr.json_code(4, &["purge", run, "--yes"]);
        for path in &left[number..] {
            assert!(text(&hands["error"]["what"]).contains(path.to_str().unwrap()), "{} is not named: {hands}", path.display());
            assert!(path.is_dir());
        }
        fs::remove_dir(&left[number]).unwrap();
    }
    assert_eq!(pitr.json(&["purge", run, "--yes"])["outcome"], "removed");
    assert!(!own.exists());
}

/// A power cut tears the last line at any place: the run goes on to its end, or back.
#[cfg(feature = "crash-points")]
#[test]
fn a_torn_last_line_is_cut_off_and_the_run_goes_on() {
    let scratch = Scratch::new("torn");
    let stand = Stand::new(&scratch, TestCluster::builder(&scratch, "main"));
    for (point, torn, verb, serves) in
        [("applied replay", 1, "resume", Serves::New), ("done promote", 40, "resume", Serves::New), ("done stop", 7, "undo", Serves::Old)]
    {
        stand.reset();
        stand.pitr.crash_at(point, &stand.restore());
        let run = stand.assert_open();
        let path = journal(&stand, &run);
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - torn);
        fs::write(&path, &bytes).unwrap();
        stand.assert_open();
        let ended = stand.pitr.json(&[verb, "--yes"]);
        assert_eq!(ended["outcome"], if serves == Serves::New { "switched" } else { "undone" }, "{ended}");
        stand.assert_serves(serves);
        stand.assert_closed();
    }
    stand.halt();
}
