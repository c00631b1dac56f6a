//! `pitr verify`: backups of every form read whole; what was cut, flipped or left out is found.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::Value;

use crate::support::program::{self, program};
use crate::support::{Pitr, Scratch, Story, TestCluster, wait_until};

fn of<'a>(document: &'a Value, name: &str) -> &'a Value {
    let backups = document["backups"].as_array().unwrap();
    backups.iter().find(|b| b["name"] == name).unwrap_or_else(|| panic!("no {name} in {document:#}"))
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

/// Whole backups of four forms, then each damaged in a way of its own; by the configuration and by directory alone.
#[test]
fn every_form_is_proved_and_every_damage_is_found() {
    let scratch = Scratch::new("verify");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    story.work(10);
    cluster.basebackup_tar("tars", true);
    cluster.basebackup_plain("plain");
    cluster.cron_tarball("cron.tar.gz", None);
    cluster.cron_tarball("bare.tar", None);
    cluster.pg_basebackup("sha", &["-Fp", "--manifest-checksums=SHA256", "-X", "none"]);
    program::ok(program("tar").arg("-cf").arg(cluster.backups.join("sha.tar")).arg("-C").arg(cluster.backups.join("sha")).arg("."));
    fs::remove_dir_all(cluster.backups.join("sha")).unwrap();
    cluster.archive_caught_up();
    let pitr = Pitr::for_cluster(&scratch, &cluster);

    let whole = pitr.json(&["verify", "backups"]);
    assert_eq!(whole["whole"], true, "{whole:#}");
    for (name, proof) in [
        ("tars", "manifest"),
        ("plain", "manifest"),
        ("cron.tar.gz", "stream-checksum"),
        ("bare.tar", "structure"),
        ("sha.tar", "manifest"),
    ] {
        let backup = of(&whole, name);
        assert_eq!(backup["state"], "whole", "{backup:#}");
        assert!(ids(&backup["proved"]).contains(&proof), "{backup:#}");
        assert!(backup["files"].as_u64().unwrap() > 900 && backup["read"].as_u64().unwrap() > 1 << 20, "{backup:#}");
    }
    assert!(ids(&of(&whole, "bare.tar")["unproved"]).contains(&"content"));
    assert_eq!(pitr.json(&["verify", "backups", "plain"])["backups"].as_array().unwrap().len(), 1);
    pitr.run(&["verify", "backups", "no-such"]).expect_code(2);

    let both = pitr.json(&["verify"]);
    assert_eq!((&both["backups"]["whole"], both["wal"]["holes"].as_array().map(Vec::len)), (&Value::Bool(true), Some(0)), "{both:#}");

    damage(&cluster.backups);
    let broken = pitr.json_code(6, &["verify", "backups"]);
    for name in ["tars", "plain", "cron.tar.gz", "sha.tar"] {
        assert_eq!(of(&broken, name)["state"], "damaged", "{:#}", of(&broken, name));
        assert!(of(&broken, name)["error"]["what"].is_string());
    }
    assert_eq!(of(&broken, "bare.tar")["state"], "whole");
    pitr.run(&["verify", "backups", "bare.tar"]).expect_code(0);
    let text = pitr.run(&["verify", "backups"]).expect_code(6).stdout;
    assert!(text.contains("4 backups are damaged, 1 whole"), "{text}");

    // Neither a cluster nor a configuration is needed.
    cluster.stop();
    fs::write(&pitr.config, format!("state_directory = \"{}\"\n", pitr.state.display())).unwrap();
    fs::remove_dir_all(&cluster.data).unwrap();
    let alone = pitr.json_code(6, &["verify", "backups", "--backups", cluster.backups.to_str().unwrap()]);
    assert_eq!(alone["backups"].as_array().unwrap().len(), 5);
    let empty = scratch.dir("empty", "postgres", "postgres", 0o755);
    pitr.run(&["verify", "backups", "--backups", empty.to_str().unwrap()]).expect_code(6);
}

/// A member is cut off, a page is changed, a byte of a compressed stream flips, a byte below a SHA-256 manifest flips.
fn damage(backups: &Path) {
    let tar = fs::OpenOptions::new().write(true).open(backups.join("tars/base.tar.gz")).unwrap();
    tar.set_len(tar.metadata().unwrap().len() * 2 / 3).unwrap();
    flip(&backups.join("plain/global/1262"), 100);
    let cron = backups.join("cron.tar.gz");
    flip(&cron, fs::metadata(&cron).unwrap().len() / 2);
    let sha = backups.join("sha.tar");
    let list = program::ok(program("tar").args(["--list", "--block-number", "--file"]).arg(&sha));
    // `block 15: ./base/1/1259`: the member's header; its content begins one block later.
    let line = list.lines().find(|line| line.ends_with("./base/1/1259")).unwrap();
    let block: u64 = line.trim_start_matches("block ").split(':').next().unwrap().parse().unwrap();
    flip(&sha, (block + 1) * 512 + 100);
}

fn flip(file: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

/// An archive command such as a plain `cp` writes under the segment's own name: half of it is no damage while it works, and
/// is where it gave up.
#[test]
fn a_segment_that_is_being_archived_is_no_damage() {
    let scratch = Scratch::new("archiving");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    cluster.basebackup_tar("base", true);
    story.work(5);
    cluster.archive_caught_up();
    let pitr = Pitr::for_cluster(&scratch, &cluster);
    let archive = cluster.archive.clone().unwrap();
    let half_and = |then: &str| {
        let command = format!("head -c 300000 %p > {0}/%f; {then}", archive.display()).replace("DIR", archive.to_str().unwrap());
        cluster.sql("postgres", &format!("ALTER SYSTEM SET archive_command = '{command}'"));
        cluster.sql("postgres", "SELECT pg_reload_conf()");
        let file = archive.join(cluster.switch_wal());
        wait_until(30, "half of a segment", || fs::metadata(&file).is_ok_and(|metadata| metadata.len() == 300_000));
        file
    };
    let file = half_and("sleep 2; cp %p DIR/%f");
    let proof = pitr.json(&["verify", "wal"]);
    assert_eq!((&proof["problems"], proof["holes"].as_array().map(Vec::len)), (&Value::Array(vec![]), Some(0)), "{proof:#}");
    assert_eq!(fs::metadata(&file).unwrap().len(), 1 << 20, "it was waited for");
    let file = half_and("false");
    let proof = pitr.json_code(6, &["verify", "wal"]);
    assert!(proof["problems"].to_string().contains(file.to_str().unwrap()), "{proof:#}");
}
