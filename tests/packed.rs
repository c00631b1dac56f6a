//! Backups and WAL that were packed in several members or frames, as parallel packers write them: restored from each.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::Stdio;

use crate::support::program::program;
use crate::support::scratch::give;
use crate::support::story::{self, DATABASE};
use crate::support::{Pitr, Scratch, Story, TestCluster};

const PACKERS: [(&str, &[&str]); 3] = [("gz", &["gzip", "-c"]), ("zst", &["zstd", "-q", "-c"]), ("lz4", &["lz4", "-q", "-c"])];

/// Each 3 MB a member of its own, the last one shorter.
fn pack(from: &std::path::Path, to: &std::path::Path, command: &[&str]) -> usize {
    let mut whole = Vec::new();
    File::open(from).unwrap().read_to_end(&mut whole).unwrap();
    let mut out = File::create(to).unwrap();
    let parts: Vec<&[u8]> = whole.chunks(3_000_000).collect();
    for part in &parts {
        let file = to.with_extension("part");
        fs::write(&file, part).unwrap();
        let packed = program(command[0]).args(&command[1..]).stdin(File::open(&file).unwrap()).stderr(Stdio::inherit()).output().unwrap();
        assert!(packed.status.success(), "{command:?}");
        out.write_all(&packed.stdout).unwrap();
        fs::remove_file(&file).unwrap();
    }
    give(to, "postgres", "postgres", 0o600);
    parts.len()
}

#[test]
fn tarballs_of_several_members_are_restored() {
    let scratch = Scratch::new("members");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    let plain = cluster.cron_tarball("monday.tar", None);
    let target = story.work(5);
    let last = story.migrate(123).after;
    cluster.archive_caught_up();
    let aside = scratch.path().join("monday.tar");
    fs::rename(&plain, &aside).unwrap();
    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.set("database", DATABASE);
    for (suffix, command) in PACKERS {
        let tarball = cluster.backups.join(format!("monday.tar.{suffix}"));
        assert!(pack(&aside, &tarball, command) > 3, "{suffix}");
        // Its label is the last of its members: not near the beginning.
        let name = tarball.file_name().unwrap().to_str().unwrap();
        let restored = pitr.json(&["restore", "--yes", "--before-lsn", &target.lsn, "--backup", name]);
        assert_eq!(restored["outcome"], "switched", "{suffix}: {restored}");
        assert_eq!(story::facts(&cluster, DATABASE), target.facts, "{suffix}");
        assert_eq!(pitr.json(&["undo", "--yes"])["outcome"], "undone", "{suffix}");
        assert_eq!(story::facts(&cluster, DATABASE), last.facts, "{suffix}");
        // A member that lacks its end is found before anything is touched.
        let length = fs::metadata(&tarball).unwrap().len();
        File::options().write(true).open(&tarball).unwrap().set_len(length - 100).unwrap();
        let refused = pitr.json_code(3, &["plan", "--before-lsn", &target.lsn, "--backup", name]);
        assert!(refused["refusals"][0]["what"].as_str().unwrap().contains("truncated"), "{suffix}: {refused}");
        fs::remove_file(&tarball).unwrap();
    }
}
