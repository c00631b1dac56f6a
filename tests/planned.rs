//! What a plan finds out before anything is stopped.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::Value;

use crate::support::program::{self, program};
use crate::support::story::DATABASE;
use crate::support::{Pitr, Scratch, Story, TestCluster, wait_until};

fn refusal<'a>(document: &'a Value, id: &str) -> &'a Value {
    let found = document["refusals"].as_array().and_then(|list| list.iter().find(|reason| reason["id"] == id));
    found.unwrap_or_else(|| panic!("no refusal {id}: {document}"))
}

/// PGDATA's parent is root's and the owner may only walk through it: said by the plan, with what to do.
#[test]
fn a_parent_directory_that_the_owner_cannot_list_is_refused() {
    let scratch = Scratch::new("parent");
    let cluster = TestCluster::builder(&scratch, "main").root_owned_parent().start();
    cluster.cron_tarball("base-20261121.tar.gz", None);
    Story::begin(&cluster).work(1);
    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.set("database", DATABASE);
    let pid = cluster.postmaster_pid();
    for mode in [0o711, 0o777] {
        fs::set_permissions(cluster.parent(), fs::Permissions::from_mode(mode)).unwrap();
        for words in [&["plan", "--to-latest"][..], &["restore", "--yes", "--to-latest"]] {
            let document = pitr.json_code(3, words);
            let reason = refusal(&document, "parent-directory");
            assert!(reason["hint"].as_str().unwrap().contains("chmod 755"), "{mode:o}: {document}");
        }
    }
    fs::set_permissions(cluster.parent(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(pitr.json(&["plan", "--to-latest"])["refusals"], serde_json::json!([]));
    assert_eq!(cluster.postmaster_pid(), pid);
}

/// A terminal on which a person is asked: `script` makes one, and what it reads is typed.
struct Terminal {
    child: std::process::Child,
    said: std::path::PathBuf,
}

impl Terminal {
    fn open(scratch: &Scratch, pitr: &Pitr, words: &[&str]) -> Terminal {
        let said = scratch.path().join("terminal");
        let line = [&[env!("CARGO_BIN_EXE_pitr")], words, &["--config", pitr.config.to_str().unwrap()]].concat().join(" ");
        let mut command = program("script");
        command.args(["--quiet", "--return", "--flush", "--command"]).arg(line).arg(&said);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        Terminal { child, said }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.said).unwrap_or_default()).into_owned()
    }

    /// Types a line and waits for the end.
    fn answer(mut self, line: &str) -> (i32, String) {
        let mut keys = self.child.stdin.take().unwrap();
        writeln!(keys, "{line}").unwrap();
        let status = self.child.wait().unwrap();
        (status.code().unwrap(), self.text())
    }
}

/// Something done to the host.
type Act<'a> = &'a dyn Fn();

/// While a person reads the plan the host changes: the backup has another name, or the archive is away. What was confirmed is not what would be done: refused, and nothing is touched.
#[test]
fn a_plan_that_changed_while_it_was_read_is_refused() {
    let scratch = Scratch::new("changed");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    let backup = cluster.cron_tarball("base-20261121.tar.gz", None);
    let target = story.work(3);
    let last = story.work(3);
    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.set("database", DATABASE);
    let words = ["restore", "--before-lsn", &target.lsn];
    let elsewhere = backup.with_file_name("base-20261120.tar.gz");
    let archive = cluster.archive.clone().unwrap();
    let away = archive.with_file_name("away");
    let changes: [(&str, Act, Act); 2] = [
        ("it would be another one now", &|| fs::rename(&backup, &elsewhere).unwrap(), &|| fs::rename(&elsewhere, &backup).unwrap()),
        ("cannot be read", &|| fs::rename(&archive, &away).unwrap(), &|| fs::rename(&away, &archive).unwrap()),
    ];
    for (reason, change, back) in changes {
        let pid = cluster.postmaster_pid();
        let terminal = Terminal::open(&scratch, &pitr, &words);
        wait_until(60, "the question", || terminal.text().contains("Type the cluster's name"));
        change();
        let (code, said) = terminal.answer("main");
        back();
        assert_eq!(code, 3, "{said}");
        assert!(said.contains(reason), "{said}");
        assert_eq!((cluster.postmaster_pid(), story.facts()), (pid, last.facts.clone()), "it was not left alone");
    }
    // Unchanged, the same answer carries it out.
    let terminal = Terminal::open(&scratch, &pitr, &words);
    wait_until(60, "the question", || terminal.text().contains("Type the cluster's name"));
    let (code, said) = terminal.answer("main");
    assert_eq!(code, 0, "{said}");
    story.assert_at(&target);
}

/// Two archive directories: a segment of the first is damaged inside, one is cut where it is packed. The other copies are
/// used, by the plan and by the recovery, and that is said; with the first archive alone it is refused.
#[test]
fn a_damaged_segment_is_read_from_the_other_archive() {
    let scratch = Scratch::new("second-copy");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    cluster.cron_tarball("base-20261121.tar.gz", None);
    story.work(3);
    let first = cluster.switch_wal();
    story.bulk(2);
    let second = cluster.switch_wal();
    let target = story.work(3);
    let last = story.work(3);
    cluster.archive_caught_up();
    // Then pg_wal has them no more.
    cluster.sql("postgres", "CHECKPOINT");
    let archive = cluster.archive.clone().unwrap();
    let mirror = scratch.dir("mirror", "postgres", "postgres", 0o700);
    for entry in fs::read_dir(&archive).unwrap().flatten() {
        fs::copy(entry.path(), mirror.join(entry.file_name())).unwrap();
    }
    program::ok(program("chown").args(["-R", "postgres:postgres"]).arg(&mirror));
    flip_in_the_middle_of_a_record(&mirror.join(&first));
    program::ok(program("gzip").arg("-1").arg(mirror.join(&second)));
    let packed = fs::OpenOptions::new().write(true).open(mirror.join(format!("{second}.gz"))).unwrap();
    packed.set_len(packed.metadata().unwrap().len() / 2).unwrap();

    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.set("database", DATABASE);
    let named = |path: &std::path::Path| path.to_str().unwrap().to_string();
    pitr.set("wal_archive", vec![named(&mirror)]);
    let words = ["--before-lsn", target.lsn.as_str()];
    for name in [&first, &second] {
        assert!(!cluster.data.join("pg_wal").join(name).exists(), "{name} is still in pg_wal");
    }
    let alone = pitr.json_code(3, &[&["plan"], &words[..]].concat());
    refusal(&alone, "wal-damaged");

    pitr.set("wal_archive", vec![named(&mirror), named(&archive)]);
    let planned = pitr.json(&[&["plan"], &words[..]].concat());
    let said: Vec<&str> = planned["consequences"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["id"] == "wal-copy-damaged")
        .map(|c| c["text"].as_str().unwrap())
        .collect();
    assert_eq!(said.len(), 2, "{planned}");
    assert!(said[0].contains(&named(&mirror.join(&first))) && said[0].contains(&named(&archive.join(&first))), "{said:?}");
    assert!(said[1].contains(&format!("{second}.gz")) && said[1].contains(&named(&archive.join(&second))), "{said:?}");
    let restored = pitr.json(&[&["restore", "--yes"], &words[..]].concat());
    assert_eq!(restored["outcome"], "switched", "{restored}");
    story.assert_at(&target);
    assert_eq!(pitr.json(&["undo", "--yes"])["outcome"], "undone");
    story.assert_at(&last);
}

/// A bit that only a record's checksum covers: the page headers stay what they are.
fn flip_in_the_middle_of_a_record(segment: &std::path::Path) {
    let mut bytes = fs::read(segment).unwrap();
    // Behind the first page's long header and what a record of the segment before left there.
    bytes[4096] ^= 0x10;
    fs::write(segment, bytes).unwrap();
}

/// Whom pg_hba.conf does not let in: known from the plan, before anything is stopped.
#[test]
fn a_login_that_is_refused_is_told_by_the_plan() {
    let scratch = Scratch::new("login");
    let cluster = TestCluster::builder(&scratch, "main").start();
    Story::begin(&cluster).work(1);
    cluster.cron_tarball("base-20261121.tar.gz", None);
    Story::on(&cluster).work(1);
    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.set("database", DATABASE);
    let said = |pitr: &Pitr| -> Vec<String> {
        let planned = pitr.json(&["plan", "--to-latest"]);
        let list = planned["consequences"].as_array().unwrap().iter().filter(|c| c["id"] == "no-login");
        list.map(|c| c["text"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(said(&pitr), [] as [String; 0]);
    // A session cannot rename its own role.
    cluster.sql("postgres", "CREATE ROLE helper SUPERUSER LOGIN");
    program::ok(
        cluster
            .tool("psql")
            .args(["-X", "-q", "-U", "helper", "-d", "postgres", "-c", "ALTER ROLE postgres RENAME TO admin", "-h"])
            .arg(&cluster.socket.dir)
            .arg("-p")
            .arg(cluster.socket.port.to_string()),
    );
    let told = said(&pitr);
    assert!(told.len() == 1 && told[0].contains("role postgres"), "{told:?}");
    pitr.set("user", "admin");
    assert_eq!(said(&pitr), [] as [String; 0]);
    pitr.set("check_user", "nobody_knows");
    let check = scratch.file("checks/one.sql", "-- check: one\nSELECT 1;\n", 0o644);
    pitr.set("checks", vec![check.to_str().unwrap()]);
    let told = said(&pitr);
    assert!(told.len() == 1 && told[0].contains("role nobody_knows") && told[0].contains(DATABASE), "{told:?}");
}
