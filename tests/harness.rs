//! The tests' own ground: clusters, backups and the oracle do what the other tests take for granted.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::cluster::Archive;
use crate::support::program::{self, as_postgres, program};
use crate::support::scratch::make_dir;
use crate::support::story::{self, DATABASE};
use crate::support::tree::{diff, snapshot_tree};
use crate::support::{Pitr, Scratch, Story, TestCluster, process, recover_by_hand};

#[test]
fn a_cluster_archives_into_a_root_owned_directory() {
    let scratch = Scratch::new("archive");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let archive = cluster.archive.clone().unwrap();
    assert_eq!(fs::metadata(&archive).unwrap().uid(), 0);

    let first = cluster.switch_wal();
    cluster.archive_caught_up();

    assert!(archive.join(&first).is_file(), "{first} was archived");
    assert_eq!(fs::metadata(archive.join(&first)).unwrap().len(), 1 << 20);
    let control = cluster.pg_controldata();
    assert_eq!(control["Database cluster state"], "in production");
    assert_eq!(control["Data page checksum version"], "1");
    assert_eq!(control["Bytes per WAL segment"], "1048576");
}

#[test]
fn options_reach_the_cluster() {
    let scratch = Scratch::new("options");
    let builder = TestCluster::builder(&scratch, "main").checksums(false).segment_mib(2).archive(Archive::OwnerOwned).root_owned_parent();
    let cluster = builder.conf("work_mem = '7MB'").start();

    assert_eq!(cluster.sql("postgres", "SHOW data_checksums"), "off");
    assert_eq!(cluster.sql("postgres", "SHOW work_mem"), "7MB");
    assert_eq!(cluster.pg_controldata()["Bytes per WAL segment"], "2097152");
    assert_eq!(fs::metadata(cluster.parent()).unwrap().uid(), 0);
    assert_ne!(fs::metadata(cluster.archive.as_ref().unwrap()).unwrap().uid(), 0);
}

#[test]
fn a_server_stops_starts_and_crashes() {
    let scratch = Scratch::new("server");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    let point = story.work(5);

    cluster.crash();
    assert!(!cluster.running());
    assert_eq!(cluster.pg_controldata()["Database cluster state"], "in production");
    cluster.start();
    story.assert_at(&point);

    cluster.stop();
    assert_eq!(cluster.pg_controldata()["Database cluster state"], "shut down");
    assert!(cluster.processes().is_empty());
    assert_ne!(cluster.try_sql("postgres", "SELECT 1").code, 0);
}

#[test]
fn an_archiver_that_fails_keeps_its_segments_and_recovers() {
    let scratch = Scratch::new("archiver");
    let cluster = TestCluster::builder(&scratch, "main").archiver_switch().start();
    cluster.archive_caught_up();

    cluster.fail_archiving(true);
    let held = cluster.switch_wal();
    cluster.switch_wal();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let archive = cluster.archive.clone().unwrap();
    assert!(!archive.join(&held).exists());
    assert!(cluster.data.join(format!("pg_wal/archive_status/{held}.ready")).exists());

    cluster.fail_archiving(false);
    cluster.archive_caught_up();
    assert!(archive.join(&held).exists());
}

#[test]
fn debians_layout_comes_and_goes_without_a_trace() {
    let scratch = Scratch::new("debian");
    let cluster = TestCluster::builder(&scratch, "main").debian().start();
    let conf = Path::new("/etc/postgresql/15").join(cluster.debian_name());
    let pid_file = format!("/var/run/postgresql/15-{}.pid", cluster.debian_name());
    assert_eq!(cluster.sql("postgres", "SHOW config_file"), conf.join("postgresql.conf").display().to_string());
    assert_eq!(cluster.sql("postgres", "SHOW data_directory"), cluster.data.display().to_string());
    assert!(Path::new(&pid_file).exists());
    assert!(!cluster.data.join("postgresql.conf").exists());

    let story = Story::begin(&cluster);
    let point = story.work(3);
    cluster.archive_caught_up();
    cluster.stop();
    cluster.start();
    cluster.crash();
    cluster.start();
    story.assert_at(&point);

    drop(cluster);
    assert!(!conf.exists());
    assert!(!Path::new(&pid_file).exists());
}

#[test]
fn the_story_says_what_its_rows_are() {
    let scratch = Scratch::new("story");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    assert_eq!(story.mixed_case_slugs(), 300);

    let ten = story.work(10);
    assert!(ten.facts["audit_events"].starts_with("10 rows"), "{:?}", ten.facts);
    let lossy = story.migrate(123);

    assert_eq!(story.mixed_case_slugs(), 0);
    assert_eq!(cluster.psql_rows(DATABASE, "SELECT version, dirty FROM schema_migrations"), [["123", "f"]]);
    let [before, first, last] = [&lossy.before.xid, &lossy.first_xid, &lossy.after.xid].map(|xid| xid.parse::<u64>().unwrap());
    assert_eq!([first, last], [before + 1, before + 3], "announcement, migration, end");
    assert!(ten.time < lossy.before.time && lossy.before.time < lossy.after.time);
    assert_ne!(lossy.before.facts, lossy.after.facts);
    story.assert_at(&lossy.after);
}

/// The oracle: from every kind of backup, PostgreSQL alone gives exactly the rows of the asked point.
#[test]
fn every_backup_recovers_by_hand_to_the_asked_point() {
    let scratch = Scratch::new("by-hand");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    story.work(20);
    cluster.sql("postgres", "SELECT pg_create_physical_replication_slot('stale', true)");

    cluster.stop();
    let cold = cluster.cold_tarball("cold.tar", None);
    cluster.start();
    let backups = [
        cold,
        cluster.basebackup_tar("tar", false),
        cluster.basebackup_tar("tar-gz", true),
        cluster.basebackup_plain("plain"),
        cluster.cron_tarball("base-20261121.tar.gz", None),
        cluster.cron_tarball("base-20261122.tar", Some("var/lib/postgresql/15/main")),
        cluster.packed_basebackup("base-20261123.tgz", Some("main")),
    ];
    story.work(10);
    let lossy = story.migrate(123);
    story.bulk(3);
    cluster.archive_caught_up();
    let archive = cluster.archive.clone().unwrap();
    let read_only = snapshot_tree(&archive);

    for (number, backup) in backups.iter().enumerate() {
        let target = format!("recovery_target_xid = '{}'", lossy.before.xid);
        let settings = [target.as_str(), "recovery_target_timeline = '1'"];
        let recovered = recover_by_hand(&scratch, &format!("hand-{number}"), backup, &archive, &settings);
        assert_eq!(story::facts(&recovered, DATABASE), lossy.before.facts, "{}", backup.display());
        assert_eq!(recovered.system_identifier(), cluster.system_identifier());
    }
    assert_eq!(diff(&read_only, &snapshot_tree(&archive)), [] as [String; 0]);
}

#[test]
fn a_time_and_the_end_recover_by_hand() {
    let scratch = Scratch::new("time");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    let backup = cluster.basebackup_tar("base", true);
    let point = story.work(7);
    let last = story.work(9);
    cluster.archive_caught_up();
    let archive = cluster.archive.clone().unwrap();

    let at_time = recover_by_hand(&scratch, "hand-time", &backup, &archive, &[&format!("recovery_target_time = '{}'", point.time)]);
    assert_eq!(story::facts(&at_time, DATABASE), point.facts);
    let before_lsn = [format!("recovery_target_lsn = '{}'", point.lsn), "recovery_target_inclusive = off".to_string()];
    let before_lsn: Vec<&str> = before_lsn.iter().map(String::as_str).collect();
    let at_lsn = recover_by_hand(&scratch, "hand-lsn", &backup, &archive, &before_lsn);
    assert_eq!(story::facts(&at_lsn, DATABASE), point.facts);
    let at_end = recover_by_hand(&scratch, "hand-end", &backup, &archive, &[]);
    assert_eq!(story::facts(&at_end, DATABASE), last.facts);
}

#[test]
fn a_cron_tarball_brings_what_it_should_not() {
    let scratch = Scratch::new("cron");
    let cluster = TestCluster::builder(&scratch, "main").start();
    cluster.sql("postgres", "SELECT pg_create_physical_replication_slot('stale', true)");

    let plain = list(&cluster.cron_tarball("base-20261121.tar.gz", None));
    for entry in ["./backup_label", "./postmaster.pid", "./pg_replslot/stale/state", "./global/pg_control", "./PG_VERSION"] {
        assert!(plain.iter().any(|line| line == entry), "{entry} in {plain:?}");
    }
    assert!(plain.iter().any(|line| line.starts_with("./pg_wal/0000")));
    let led = list(&cluster.cron_tarball("base-20261122.tar", Some("main")));
    assert!(led.iter().all(|line| line.starts_with("main")), "{led:?}");
    assert!(led.contains(&"main/backup_label".to_string()));
    let label = program::ok(program("tar").arg("-xOf").arg(cluster.backups.join("base-20261122.tar")).arg("main/backup_label"));
    assert!(label.starts_with("START WAL LOCATION: ") && label.contains("\nLABEL: cron\n"), "{label}");
    assert!(!list(&cluster.live_tarball("torn.tar")).contains(&"./backup_label".to_string()));
}

#[test]
fn a_snapshot_sees_every_kind_of_change() {
    let scratch = Scratch::new("tree");
    let dir = scratch.dir("tree/sub", "root", "root", 0o755);
    let tree = dir.parent().unwrap();
    scratch.file("tree/same", "1", 0o644);
    scratch.file("tree/content", "before", 0o644);
    scratch.file("tree/longer", "1", 0o644);
    scratch.file("tree/mode", "1", 0o644);
    scratch.file("tree/gone", "1", 0o644);
    std::os::unix::fs::symlink("same", tree.join("link")).unwrap();
    let before = snapshot_tree(tree);

    scratch.file("tree/content", "after!", 0o644);
    scratch.file("tree/longer", "12", 0o644);
    scratch.file("tree/mode", "1", 0o600);
    fs::remove_file(tree.join("gone")).unwrap();
    fs::remove_file(tree.join("link")).unwrap();
    std::os::unix::fs::symlink("gone", tree.join("link")).unwrap();
    scratch.file("tree/sub/new", "", 0o644);

    let changes =
        ["- gone", "+ sub/new", "~ content (content)", "~ link (target)", "~ longer (size 1 is now 2)", "~ mode (mode 644 is now 600)"];
    assert_eq!(diff(&before, &snapshot_tree(tree)), changes);
}

#[test]
fn a_scratch_directory_ends_what_stands_in_it() {
    let scratch = Scratch::new("ends");
    let dir = scratch.dir("stand", "postgres", "postgres", 0o755);
    let mut child = as_postgres("sleep").arg("600").current_dir(&dir).spawn().unwrap();
    let pid = child.id().cast_signed();
    crate::support::wait_until(10, "the child to stand in the directory", || scratch.holders().iter().any(|h| h.pid == pid));
    let path = scratch.path().to_path_buf();

    drop(scratch);

    assert!(!child.wait().unwrap().success());
    assert!(!process::exists(pid));
    assert!(!path.exists());
}

#[test]
fn the_configuration_of_pitr_is_what_was_set() {
    let scratch = Scratch::new("config");
    let cluster = TestCluster::builder(&scratch, "main").create();
    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.set("database", DATABASE);
    pitr.set("rto", "4h");
    pitr.unset("rto");

    let text: toml::Table = fs::read_to_string(&pitr.config).unwrap().parse().unwrap();
    let entry = &text["cluster"]["main"];
    assert_eq!(entry["data_directory"].as_str(), cluster.data.to_str());
    assert_eq!(entry["control"].as_str(), Some("pg_ctl"));
    assert_eq!(entry["database"].as_str(), Some(DATABASE));
    assert!(entry.get("rto").is_none());
    let mode = fs::metadata(&pitr.config).unwrap().mode();
    assert_eq!(mode & 0o022, 0, "others could write the configuration: {mode:o}");
    pitr.assert_nothing_left();
}

#[test]
fn what_a_run_left_behind_is_found() {
    let scratch = Scratch::new("left");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.assert_nothing_left();
    let staging = make_dir(&cluster.parent().join(".pitr-20261121T000000Z-1/data"), "postgres", "postgres", 0o700);
    let state = make_dir(&pitr.state.join("runs/x"), "root", "root", 0o755);
    let open = fs::File::create(state.join("journal")).unwrap();

    let mut server = as_postgres("sleep").arg("600").current_dir(&staging).spawn().unwrap();
    let mut child = program("sleep").arg("600").stdout(open.try_clone().unwrap()).spawn().unwrap();
    let pids = [server.id().cast_signed(), child.id().cast_signed()];
    crate::support::wait_until(10, "both to be found", || pids.iter().all(|pid| pitr.leftovers().iter().any(|h| h.pid == *pid)));
    assert_eq!(pitr.leftovers().len(), 2, "{:?}", pitr.leftovers());

    for child in [&mut server, &mut child] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    pitr.assert_nothing_left();
}

fn list(tarball: &Path) -> Vec<String> {
    program::ok(program("tar").arg("-tf").arg(tarball)).lines().map(str::to_string).collect()
}
