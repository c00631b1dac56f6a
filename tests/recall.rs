//! What is kept of tarballs that were looked through: it spares reading, and a file that changed is read again.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::program::{self, program};
use crate::support::{Pitr, Scratch, TestCluster};

fn words(pitr: &Pitr) -> String {
    pitr.json(&["backups"])["backups"][0].to_string()
}

/// Of files that changed just now nothing is kept: they could change again unseen.
fn settle() {
    std::thread::sleep(Duration::from_millis(3500));
}

fn change(path: &Path, with: impl FnOnce(&mut Value)) {
    let mut kept: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    with(&mut kept);
    fs::write(path, serde_json::to_vec(&kept).unwrap()).unwrap();
}

#[test]
fn a_tarball_is_looked_through_once_and_again_when_it_changed() {
    let scratch = Scratch::new("recall");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let tarball = cluster.cron_tarball("base-20261121.tar.gz", None);
    let pitr = Pitr::for_cluster(&scratch, &cluster);
    let fresh = words(&pitr);
    let kept = pitr.state.join("index").join(fs::metadata(&cluster.data).unwrap().uid().to_string()).join("tarballs.json");
    if kept.exists() {
        // One that was written just now may change unseen: nothing is kept of it.
        change(&kept, |kept| assert_eq!(kept["tarballs"], json!([]), "{kept}"));
    }
    settle();
    assert_eq!(words(&pitr), fresh);
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);

    // Told by what is kept, and so by nothing that was read.
    let told = json!([{"id": "unreadable", "what": "told by what was kept", "hint": "Nothing."}]);
    change(&kept, |kept| kept["tarballs"][0]["entry"]["problems"] = told.clone());
    assert!(words(&pitr).contains("told by what was kept"));
    // What proves a backup reads it.
    let verified = pitr.run(&["verify", "backups"]).expect_code(0);
    assert!(!verified.stdout.contains("told by what was kept"), "{}", verified.stdout);

    // Another content under the same size and the same time of change, as far as a user can set it.
    let modified = fs::metadata(&tarball).unwrap().modified().unwrap();
    let mut bytes = fs::read(&tarball).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&tarball, &bytes).unwrap();
    fs::File::options().write(true).open(&tarball).unwrap().set_modified(modified).unwrap();
    let damaged = words(&pitr);
    assert!(!damaged.contains("told by what was kept") && damaged.contains("truncated"), "{damaged}");
    bytes[middle] ^= 0xff;
    fs::write(&tarball, &bytes).unwrap();
    fs::File::options().write(true).open(&tarball).unwrap().set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    let again = words(&pitr);
    assert!(again.contains("\"usable\":true"), "{again}");

    // Garbage is no help and no harm; of files that are gone nothing is kept.
    fs::write(&kept, "{\"version\": 1, \"tarballs\": [{}]}").unwrap();
    assert_eq!(words(&pitr), again);
    let other = tarball.with_file_name("base-20261122.tar.gz");
    program::ok(program("mv").arg(&tarball).arg(&other));
    settle();
    assert!(words(&pitr).contains("base-20261122"));
    change(&kept, |kept| {
        let paths: Vec<&str> = kept["tarballs"].as_array().unwrap().iter().map(|t| t["key"]["path"].as_str().unwrap()).collect();
        assert_eq!(paths, [other.to_str().unwrap()]);
    });
    fs::remove_file(&kept).unwrap();
    assert!(words(&pitr).contains("\"usable\":true"));
}
