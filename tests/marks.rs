//! A damaged file in the archive, and a good copy elsewhere: it is used and kept, and the archiver, which overwrites nothing,
//! does not stop at it; neither after the recovery nor after its undo.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::story::DATABASE;
use crate::support::{Pitr, Scratch, Story, TestCluster};

fn flip_in_a_record(segment: &Path) {
    let mut bytes = fs::read(segment).unwrap();
    // Behind the first page, whose header stays what it is.
    bytes[8192 + 4096] ^= 0x10;
    fs::write(segment, bytes).unwrap();
}

fn cut(segment: &Path) {
    let file = fs::OpenOptions::new().write(true).open(segment).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

fn remark<'a>(document: &'a Value, path: &Path) -> &'a str {
    let remarks = document["remarks"].as_array().unwrap_or_else(|| panic!("no remarks: {document:#}"));
    let of = |text: &&str| text.starts_with(path.to_str().unwrap());
    remarks.iter().filter_map(Value::as_str).find(of).unwrap_or_else(|| panic!("nothing said of {}: {document:#}", path.display()))
}

/// The command at the end of a remark: what is copied to where.
fn mend(remark: &str) -> (PathBuf, PathBuf) {
    let command = remark.rsplit_once(" cp ").unwrap_or_else(|| panic!("no command: {remark}")).1;
    let (from, to) = command.split_once(' ').unwrap();
    (from.into(), to.into())
}

#[test]
fn the_archiver_does_not_stop_at_a_damaged_file_of_the_archive() {
    let scratch = Scratch::new("marks");
    let cluster = TestCluster::builder(&scratch, "main").start();
    cluster.sql("postgres", "ALTER SYSTEM SET wal_keep_size = '1GB'");
    cluster.sql("postgres", "SELECT pg_reload_conf()");
    let story = Story::begin(&cluster);
    cluster.cron_tarball("base-20261121.tar.gz", None);
    story.bulk(1);
    let flipped = cluster.switch_wal();
    story.bulk(1);
    let halved = cluster.switch_wal();
    let target = story.work(3);
    let last = story.work(3);
    cluster.archive_caught_up();
    let archive = cluster.archive.clone().unwrap();
    let good: Vec<Vec<u8>> = [&flipped, &halved].map(|name| fs::read(archive.join(name)).unwrap()).into();
    flip_in_a_record(&archive.join(&flipped));
    cut(&archive.join(&halved));
    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.set("database", DATABASE);

    let restored = pitr.json(&["restore", "--yes", "--before-lsn", &target.lsn]);
    assert_eq!(restored["outcome"], "switched", "{restored:#}");
    story.assert_at(&target);
    let mut mended = Vec::new();
    for (name, bytes) in [&flipped, &halved].into_iter().zip(&good) {
        let bad = archive.join(name);
        let (from, to) = mend(remark(&restored, &bad));
        assert_eq!((&to, &fs::read(&from).unwrap() == bytes), (&bad, true), "{}", from.display());
        assert_ne!(&fs::read(&bad).unwrap(), bytes, "pitr wrote into the archive");
        mended.push((from, to));
    }
    assert!(remark(&restored, &archive.join(&halved)).contains("bytes, not"), "{restored:#}");
    // The archiver of the recovered cluster is not stuck, and did not fail.
    story.work(1);
    cluster.archive_caught_up();
    assert_eq!(cluster.sql("postgres", "SELECT failed_count FROM pg_stat_archiver"), "0");

    // The same for the old cluster, which had none of these marked before.
    let undone = pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{undone:#}");
    story.assert_at(&last);
    cluster.archive_caught_up();
    remark(&undone, &archive.join(&flipped));

    // What the run keeps outlives its purge, and is enough where pg_wal has them no more.
    pitr.run(&["purge", "--all", "--yes"]).expect_code(0);
    cluster.sql("postgres", "ALTER SYSTEM RESET wal_keep_size");
    cluster.sql("postgres", "SELECT pg_reload_conf()");
    for _ in 0..3 {
        story.bulk(1);
        cluster.switch_wal();
        cluster.sql("postgres", "CHECKPOINT");
    }
    for name in [&flipped, &halved] {
        assert!(!cluster.data.join("pg_wal").join(name).exists(), "{name} is still in pg_wal");
    }
    let again = pitr.json(&["restore", "--yes", "--before-lsn", &target.lsn]);
    assert_eq!(again["outcome"], "switched", "{again:#}");
    story.assert_at(&target);
    // With the archive mended as it was said there is nothing left to be said of it.
    for (from, to) in &mended {
        fs::copy(from, to).unwrap();
    }
    let verified = pitr.json(&["verify", "wal"]);
    assert_eq!(verified["holes"], serde_json::json!([]), "{verified:#}");
}
