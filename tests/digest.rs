//! The digest of a plan: the same twice over and while only time goes by; another one for another decision, and `restore
//! --plan` carries out only the plan that it names.

use std::fs;

use serde_json::Value;

use crate::support::story::{self, CHECK_USER, DATABASE};
use crate::support::{Pitr, Scratch, Story, TestCluster};

fn digest(pitr: &Pitr, words: &[&str]) -> String {
    let plan = pitr.json(&[&["plan"], words].concat());
    plan["digest"].as_str().unwrap_or_else(|| panic!("{plan:#}")).to_string()
}

/// Something that is changed on the host.
type Change<'a> = &'a dyn Fn(&mut Pitr);

#[test]
fn a_plan_is_named_by_what_it_decides() {
    let scratch = Scratch::new("digest");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    let older = cluster.cron_tarball("base-20261120.tar.gz", None);
    story.work(1);
    cluster.switch_wal();
    let backup = cluster.cron_tarball("base-20261121.tar.gz", None);
    let target = story.work(3);
    let other = story.work(3);
    let last = story.work(1);
    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.set("database", DATABASE);
    pitr.set("check_user", CHECK_USER);
    let archive = cluster.archive.clone().unwrap().to_str().unwrap().to_string();
    let words = ["--before-lsn", target.lsn.as_str()];
    let (own, latest) = (digest(&pitr, &words), digest(&pitr, &["--to-latest"]));
    assert_eq!((digest(&pitr, &words), digest(&pitr, &["--to-latest"])), (own.clone(), latest.clone()), "twice over the same");

    // Time goes by: more is written, segments move into the archive, a later backup is taken, the index is gone.
    story.bulk(2);
    cluster.archive_caught_up();
    cluster.sql("postgres", "CHECKPOINT");
    assert_eq!((digest(&pitr, &words), digest(&pitr, &["--to-latest"])), (own.clone(), latest.clone()), "more was written");
    let _ = fs::remove_dir_all(pitr.state.join("index"));
    assert_eq!(digest(&pitr, &words), own, "the index is only a cache");
    cluster.cron_tarball("base-20261122.tar.gz", None);
    assert_eq!(digest(&pitr, &words), own, "a later backup is none for this target");
    assert_ne!(digest(&pitr, &["--to-latest"]), latest, "for latest it is another one");

    // Other words: other decisions.
    let mirror = scratch.dir("mirror", "postgres", "postgres", 0o700);
    let mut seen = vec![own.clone(), latest];
    let more: [&[&str]; 7] = [
        &["--before-lsn", &other.lsn],
        &["--to-lsn", &target.lsn],
        &["--before-lsn", &target.lsn, "--backup", "base-20261120.tar.gz"],
        &["--before-lsn", &target.lsn, "--config-from", "backup"],
        &["--before-lsn", &target.lsn, "--dump-before", mirror.to_str().unwrap()],
        &["--before-lsn", &target.lsn, "--wal", &archive, "--wal", mirror.to_str().unwrap()],
        &["--before-xid", &other.xid],
    ];
    let first = fs::read_dir(&archive).unwrap().flatten().map(|entry| entry.path()).min().unwrap();
    fs::copy(&first, mirror.join(first.file_name().unwrap())).unwrap();
    for words in more {
        let other = digest(&pitr, words);
        assert!(!seen.contains(&other), "{words:?} is not in the digest");
        seen.push(other);
    }

    // The host changes between plan and restore: refused, and nothing is touched.
    let one = scratch.file("checks/one.sql", "-- check: one\nSELECT 1;\n", 0o644).to_str().unwrap().to_string();
    let rewritten = "-- check: one\n-- expect: count(*) = 1\nSELECT 1;\n";
    let hooks = |text: &str| toml::from_str::<toml::Table>(text).unwrap();
    let unset = |key: &'static str| move |pitr: &mut Pitr| pitr.unset(key);
    let changes: [(&str, Change, Change); 8] = [
        ("a check", &|pitr| pitr.set("checks", vec![one.clone()]), &|_| {}),
        ("the text of a check", &|_| fs::write(&one, rewritten).unwrap(), &unset("checks")),
        ("the role of checks", &unset("check_user"), &|pitr| pitr.set("check_user", CHECK_USER)),
        ("the database", &unset("database"), &|pitr| pitr.set("database", DATABASE)),
        ("a hook", &|pitr| pitr.set("hooks", hooks("before = [[\"/bin/true\"]]")), &unset("hooks")),
        ("the archives", &|pitr| pitr.set("wal_archive", vec![archive.clone(), mirror.to_str().unwrap().into()]), &|pitr| {
            pitr.set("wal_archive", vec![archive.clone()]);
        }),
        (
            "a tablespace",
            &|_| {
                let location = scratch.dir("space", "postgres", "postgres", 0o700);
                cluster.sql("postgres", &format!("CREATE TABLESPACE space LOCATION '{}'", location.display()));
            },
            &|_| {
                cluster.sql("postgres", "DROP TABLESPACE space");
            },
        ),
        ("the backup", &|_| fs::rename(&backup, backup.with_file_name("away")).unwrap(), &|_| {
            fs::rename(backup.with_file_name("away"), &backup).unwrap();
        }),
    ];
    let pid = cluster.postmaster_pid();
    let now = story.facts();
    for (what, change, back) in changes {
        let before = digest(&pitr, &words);
        change(&mut pitr);
        let changed = digest(&pitr, &words);
        assert_ne!(changed, before, "{what}");
        let refused = pitr.json_code(3, &[&["restore", "--yes", "--plan", &before], &words[..]].concat());
        assert_eq!(
            (&refused["refusals"][0]["id"], &refused["changed"]),
            (&"plan-changed".into(), &Value::Bool(false)),
            "{what}: {refused}"
        );
        assert!(refused["refusals"][0]["what"].as_str().unwrap().contains(&changed), "{what}: {refused}");
        assert_eq!(cluster.postmaster_pid(), pid, "{what}: it was stopped");
        back(&mut pitr);
    }
    assert_eq!(story.facts(), now);
    assert_eq!(digest(&pitr, &words), own, "all as it was");
    assert!(now != last.facts && older.exists());
    let restored = pitr.json(&[&["restore", "--yes", "--plan", &own], &words[..]].concat());
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(story::facts(&cluster, DATABASE), target.facts);
}
