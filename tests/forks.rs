//! Targets where the archive forks, and where it ends in the middle of a record.

use std::fs;

use crate::resolve::{DATABASE, Ground, word};
use crate::support::{Scratch, TestCluster};

/// After a recovery ids are used again: one that is two transactions is refused with the choices, and each choice is
/// carried out. One that only the other branch knows is not found, and the branch is named.
#[test]
fn an_id_on_two_timelines_is_refused_with_the_choices() {
    let scratch = Scratch::new("forks");
    let ground = Ground::with(&scratch, TestCluster::builder(&scratch, "main"));
    let border = ground.write("border");
    let old: Vec<String> = (0..12).map(|n| ground.write(&format!("old {n}"))).collect();
    ground.cluster.switch_wal();
    ground.cluster.archive_caught_up();
    let restored = ground.pitr.json(&["restore", "--yes", "--to-xid", &border]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    let new: Vec<String> = (0..6).map(|n| ground.write(&format!("new {n}"))).collect();
    ground.cluster.switch_wal();
    ground.cluster.archive_caught_up();
    let shared: Vec<&String> = new.iter().filter(|xid| old.contains(xid)).collect();
    let [.., before, both] = shared.as_slice() else { panic!("{old:?} {new:?}") };
    let only_old = old.iter().find(|xid| !new.contains(xid)).unwrap();

    for flag in ["--before-xid", "--to-xid"] {
        let words = ground.refused(&[flag, both], "xid-ambiguous");
        assert!(words.contains("--timeline 1 ") && words.contains("--timeline 2 "), "{words}");
    }
    let words = ground.refused(&["--to-xid", only_old], "target-not-found");
    assert!(words.contains("--timeline 1 ") && !words.contains("--timeline 2 "), "{words}");

    let place =
        |timeline: &str| word(&ground.pitr.json(&["plan", "--timeline", timeline, "--before-xid", both])["target"]["discards"]["lsn"]);
    assert_ne!(place("1"), place("2"));
    let note = |xid: &str| ground.cluster.sql(DATABASE, &format!("SELECT note FROM journal WHERE xid = {xid}"));
    let restored = ground.pitr.json(&["restore", "--yes", "--timeline", "2", "--before-xid", both]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert!(note(before).starts_with("new ") && note(both).is_empty(), "{} {}", note(before), note(both));

    ground.cluster.switch_wal();
    ground.cluster.archive_caught_up();
    let restored = ground.pitr.json(&["restore", "--yes", "--timeline", "1", "--to-xid", both]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert!(note(both).starts_with("old ") && note(old.last().unwrap()).is_empty(), "{}", note(both));
}

/// What is left ends within a record of several segments: everything before that record can be reached, and nothing is
/// taken for whole that is not.
#[test]
fn an_archive_that_ends_within_a_record() {
    let scratch = Scratch::new("torn");
    let ground = Ground::with(&scratch, TestCluster::builder(&scratch, "main").segment_mib(1));
    let early = ground.write("early");
    ground.cluster.sql(DATABASE, "SELECT pg_logical_emit_message(true, 'long', repeat('a long message ', 400000))");
    let late = ground.write("late");
    ground.cluster.switch_wal();
    ground.cluster.archive_caught_up();
    ground.cluster.stop();
    // The message has six segments: the last ones of them, and what follows, are gone everywhere.
    let segments = ground.segments();
    let gone = &segments[segments.len() - 4..];
    for path in gone {
        let _ = fs::remove_file(ground.cluster.data.join("pg_wal").join(path.file_name().unwrap()));
        fs::remove_file(path).unwrap();
    }
    let archive = ground.archive().to_str().unwrap();
    let proof = ground.pitr.json_code(0, &["verify", "wal", "--wal", archive]);
    let to = word(&proof["windows"][0]["to_lsn"]);
    let number = |lsn: &str| {
        let (high, low) = lsn.split_once('/').unwrap();
        u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
    };
    let begins = |path: &std::path::Path| u64::from_str_radix(&path.file_name().unwrap().to_str().unwrap()[16..], 16).unwrap() << 20;
    assert!(number(&to) < begins(&gone[0]) - (1 << 20), "the record that is not whole is not counted: {to}");

    let words = ground.refused(&["--to-xid", &late], "wal-gap");
    assert!(words.contains("--to-lsn "), "{words}");
    let furthest = words.split("--to-lsn ").nth(1).unwrap().split(' ').next().unwrap().to_string();
    assert!(number(&furthest) < number(&to), "{furthest} {to}");
    let restored = ground.pitr.json(&["restore", "--yes", "--to-lsn", &furthest]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert!(ground.has(&early) && !ground.has(&late));
}

/// Two copies of a segment whose records are all good, and which are not the same: no checksum covers what follows a
/// segment switch.
#[test]
fn copies_that_differ_are_named() {
    let scratch = Scratch::new("copies");
    let ground = Ground::with(&scratch, TestCluster::builder(&scratch, "main").segment_mib(1));
    ground.write("a row");
    let name = ground.cluster.switch_wal();
    ground.cluster.archive_caught_up();
    let archive = ground.archive().to_str().unwrap();
    let second = scratch.dir("second", "postgres", "postgres", 0o700);
    let mut bytes = fs::read(ground.archive().join(&name)).unwrap();
    let keep = |bytes: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, bytes).unwrap();
        let path = scratch.file(format!("second/{name}.gz"), packed.finish().unwrap(), 0o644);
        crate::support::scratch::give(&path, "postgres", "postgres", 0o644);
    };
    keep(&bytes);
    let both = ["verify", "wal", "--wal", archive, "--wal", second.to_str().unwrap()];
    ground.pitr.json(&both);
    *bytes.last_mut().unwrap() ^= 1;
    keep(&bytes);
    let told = ground.pitr.json_code(6, &both);
    assert_eq!(told["holes"].as_array().map(Vec::len), Some(0), "{told}");
    let problem = word(&told["problems"][0]);
    assert!(problem.contains(&format!("{archive}/{name} and ")) && problem.contains(&format!("{name}.gz")), "{told}");
}

/// The checkpoint that a backup starts from is looked for where its label says.
#[test]
fn a_label_that_names_no_checkpoint_is_refused() {
    let scratch = Scratch::new("label");
    let ground = Ground::with(&scratch, TestCluster::builder(&scratch, "main"));
    let backup = ground.cluster.basebackup_plain("plain");
    let xid = ground.write("after it");
    ground.pitr.json(&["plan", "--to-xid", &xid, "--backup", "plain"]);
    let label = fs::read_to_string(backup.join("backup_label")).unwrap();
    let place = label.lines().find_map(|line| line.strip_prefix("CHECKPOINT LOCATION: ")).unwrap();
    let edited = label.replace(place, &ground.cluster.wal_lsn());
    ground.write("the WAL goes on");
    fs::write(backup.join("backup_label"), edited).unwrap();
    let words = ground.refused(&["--to-xid", &ground.write("the last"), "--backup", "plain"], "no-checkpoint");
    assert!(words.contains("plain"), "{words}");
}
