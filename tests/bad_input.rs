//! What must be refused before anything is touched: exit 3 with every reason, 2 for usage and configuration, always
//! with a hint.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::scratch::{give, make_dir};
use crate::support::story::{DATABASE, Migration};
use crate::support::tree::{Tree, diff, snapshot_tree};
use crate::support::{Pitr, Scratch, Story, TestCluster};

/// A cluster with a good tarball and a lossy migration; each test spoils one thing.
struct Ground<'a> {
    scratch: &'a Scratch,
    cluster: TestCluster,
    pitr: Pitr,
    backup: PathBuf,
    lossy: Migration,
}

impl<'a> Ground<'a> {
    fn new(scratch: &'a Scratch) -> Ground<'a> {
        Ground::on(scratch, TestCluster::builder(scratch, "main").start())
    }

    fn on(scratch: &'a Scratch, cluster: TestCluster) -> Ground<'a> {
        let story = Story::begin(&cluster);
        let backup = cluster.packed_basebackup("base-20261121.tar.gz", None);
        story.work(10);
        let lossy = story.migrate(123);
        story.bulk(4);
        cluster.archive_caught_up();
        // Afterwards pg_wal has nothing more of all that: what the archive lacks is missing.
        cluster.sql("postgres", "CHECKPOINT");
        let mut pitr = Pitr::for_cluster(scratch, &cluster);
        pitr.set("database", DATABASE);
        Ground { scratch, cluster, pitr, backup, lossy }
    }

    fn archive(&self) -> &Path {
        self.cluster.archive.as_ref().unwrap()
    }

    /// A restore to just before the migration is refused: exit 3, `plan` gives the same reasons, nothing was touched.
    #[track_caller]
    fn refused(&self, more: &[&str]) -> Value {
        let target = ["--before-time", self.lossy.before.time.as_str()];
        self.refused_to(&[&target, more].concat())
    }

    #[track_caller]
    fn refused_to(&self, target: &[&str]) -> Value {
        let before = self.everything();
        let document = self.pitr.json_code(3, &[&["restore", "--yes"], target].concat());
        assert_eq!((&document["outcome"], &document["changed"]), (&"refused".into(), &false.into()), "{document}");
        let reasons = reasons(&document);
        assert!(!reasons.is_empty(), "refused without a reason: {document}");
        for reason in document["refusals"].as_array().unwrap() {
            assert!(reason["what"].as_str().is_some_and(|what| !what.is_empty()), "{reason}");
            assert!(reason["hint"].as_str().is_some_and(|hint| hint.ends_with('.') || hint.contains("pitr ")), "{reason}");
        }
        let plan = self.pitr.json_code(3, &[&["plan"], target].concat());
        assert_eq!(reasons, self::reasons(&plan), "plan and restore refuse for the same reasons");
        self.assert_as_before(&before);
        document
    }

    /// Usage or configuration: exit 2, an error with a hint on stderr, nothing was touched.
    #[track_caller]
    fn usage(&self, args: &[&str]) -> String {
        let before = self.everything();
        let said = self.pitr.run(args).expect_code(2);
        assert!(said.stdout.is_empty(), "{}", said.stdout);
        assert!(said.stderr.lines().any(|line| line.trim_start().starts_with("hint:")), "no hint: {}", said.stderr);
        self.assert_as_before(&before);
        said.stderr
    }

    /// Archive and backups byte for byte, and the life of the server at PGDATA.
    fn everything(&self) -> (Tree, Tree, Option<i32>) {
        (snapshot_tree(self.archive()), snapshot_tree(&self.cluster.backups), self.cluster.postmaster_pid())
    }

    #[track_caller]
    fn assert_as_before(&self, before: &(Tree, Tree, Option<i32>)) {
        assert_eq!(diff(&before.0, &snapshot_tree(self.archive())), [] as [String; 0], "the archive");
        assert_eq!(diff(&before.1, &snapshot_tree(&self.cluster.backups)), [] as [String; 0], "the backups");
        assert_eq!(before.2, self.cluster.postmaster_pid(), "the server is another one");
        let beside = fs::read_dir(self.cluster.parent()).unwrap().flatten().map(|entry| entry.file_name());
        let beside: Vec<_> = beside.filter(|name| name.to_string_lossy().starts_with(".pitr-")).collect();
        assert!(beside.is_empty(), "{beside:?}");
        self.pitr.assert_nothing_left();
    }

    /// Replaces the only backup by whatever `make` leaves in the backups directory.
    fn replace_backup(&self, make: impl FnOnce(&TestCluster)) {
        fs::remove_file(&self.backup).unwrap();
        make(&self.cluster);
        // The archiver must have nothing left to add when the first snapshot is taken.
        if self.cluster.running() {
            self.cluster.archive_caught_up();
        }
    }
}

fn reasons(document: &Value) -> Vec<String> {
    document["refusals"].as_array().unwrap().iter().map(|reason| reason["id"].as_str().unwrap().to_string()).collect()
}

#[test]
fn a_time_without_zone_gets_both_readings() {
    let scratch = Scratch::new("zone");
    let ground = Ground::new(&scratch);
    let naive = ground.lossy.before.time.trim_end_matches("+00");
    let said = ground.usage(&["restore", "--yes", "--before-time", naive]);
    assert!(said.contains(&format!("{naive}+00")) || said.contains(&format!("{naive}Z")), "{said}");
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let scratch = Scratch::new("key");
    let mut ground = Ground::new(&scratch);
    ground.pitr.set("data_directroy", "/nowhere");
    let said = ground.usage(&["restore", "--yes", "--to-latest"]);
    assert!(said.contains("data_directroy") && said.contains("data_directory"), "{said}");
}

#[test]
fn a_configuration_that_others_can_write_is_not_read() {
    let scratch = Scratch::new("writable");
    let ground = Ground::new(&scratch);
    fs::set_permissions(&ground.pitr.config, fs::Permissions::from_mode(0o666)).unwrap();
    let said = ground.pitr.run(&["restore", "--yes", "--to-latest"]).expect_code(3).stderr;
    assert!(said.contains(ground.pitr.config.to_str().unwrap()), "{said}");
    fs::set_permissions(&ground.pitr.config, fs::Permissions::from_mode(0o644)).unwrap();
    let dir = ground.pitr.config.parent().unwrap();
    give(dir, "postgres", "postgres", 0o755);
    ground.pitr.run(&["restore", "--yes", "--to-latest"]).expect_code(3);
}

#[test]
fn an_unknown_backup_is_refused() {
    let scratch = Scratch::new("unknown");
    let ground = Ground::new(&scratch);
    let document = ground.refused(&["--backup", "base-19990101.tar.gz"]);
    assert!(document.to_string().contains("base-20261121.tar.gz"), "the hint names what there is: {document}");
}

#[test]
fn another_clusters_backup_is_refused() {
    let scratch = Scratch::new("foreign");
    let ground = Ground::new(&scratch);
    let other = TestCluster::builder(&scratch, "other").start();
    let foreign = other.packed_basebackup("base-20261122.tar.gz", None);
    ground.replace_backup(|cluster| {
        fs::copy(&foreign, cluster.backups.join("base-20261122.tar.gz")).unwrap();
    });
    let document = ground.refused(&[]);
    assert!(document.to_string().contains(&other.system_identifier()), "{document}");
}

#[test]
fn an_unsupported_major_is_refused() {
    let scratch = Scratch::new("major");
    let ground = Ground::new(&scratch);
    ground.cluster.stop();
    fs::write(ground.cluster.data.join("PG_VERSION"), "12\n").unwrap();
    assert!(ground.refused(&[]).to_string().contains("12"));
}

#[test]
fn a_live_tarball_without_label_is_refused() {
    let scratch = Scratch::new("torn");
    let ground = Ground::new(&scratch);
    ground.replace_backup(|cluster| drop(cluster.live_tarball("base-20261122.tar.gz")));
    assert!(ground.refused(&[]).to_string().contains("backup_label"));
}

#[test]
fn an_incremental_backup_is_refused() {
    let scratch = Scratch::new("incremental");
    let ground = Ground::new(&scratch);
    ground.replace_backup(|cluster| {
        let dir = cluster.basebackup_plain("incremental");
        fs::write(dir.join("base/1/INCREMENTAL.1259"), [0xd3, 0xae, 0x1f, 0x0d, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        let mut label = OpenOptions::new().append(true).open(dir.join("backup_label")).unwrap();
        label.write_all(b"INCREMENTAL FROM LSN: 0/2000028\nINCREMENTAL FROM TLI: 1\n").unwrap();
    });
    assert!(ground.refused(&[]).to_string().contains("incremental"));
}

#[test]
fn a_disk_without_room_is_refused() {
    let scratch = Scratch::new("full");
    let parent = make_dir(&scratch.dir("main", "root", "root", 0o711).join("pg"), "postgres", "postgres", 0o755);
    scratch.mount_tmpfs(&parent, 110);
    give(&parent, "postgres", "postgres", 0o755);
    let ground = Ground::on(&scratch, TestCluster::builder(&scratch, "main").start());
    let filler = parent.join("filler");
    fs::write(&filler, vec![0; 30 << 20]).unwrap();
    ground.refused(&[]);
    let plan = ground.pitr.json_code(3, &["plan", "--before-time", &ground.lossy.before.time]);
    assert!(plan["space"]["free"].as_u64() < plan["space"]["needed"].as_u64().zip(plan["space"]["reserve"].as_u64()).map(|(n, r)| n + r));
}

#[test]
fn a_target_before_the_backups_end_is_refused() {
    let scratch = Scratch::new("early");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let early = cluster.now();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let ground = Ground::on(&scratch, cluster);
    ground.refused_to(&["--to-time", &early]);
    ground.refused_to(&["--to-lsn", "0/100028"]);
}

#[test]
fn a_target_in_the_future_is_refused() {
    let scratch = Scratch::new("future");
    let ground = Ground::new(&scratch);
    ground.refused_to(&["--to-time", "2199-01-01 00:00:00+00"]);
    ground.refused_to(&["--to-lsn", "FFFF/0"]);
}

#[test]
fn a_missing_segment_names_the_furthest_reachable_point() {
    let scratch = Scratch::new("gap");
    let ground = Ground::new(&scratch);
    let mut segments: Vec<PathBuf> = fs::read_dir(ground.archive()).unwrap().flatten().map(|entry| entry.path()).collect();
    segments.retain(|path| path.file_name().is_some_and(|name| name.len() == 24));
    segments.sort();
    // The middle of what was written after the backup: neither the backup nor pg_wal has it.
    let gap = segments[segments.len() - 3].clone();
    fs::remove_file(&gap).unwrap();
    let name = gap.file_name().unwrap().to_str().unwrap().to_string();
    let _ = fs::remove_file(ground.cluster.data.join("pg_wal").join(&name));

    let document = ground.refused_to(&["--to-latest"]);

    assert!(document.to_string().contains(&name), "{document}");
    let plan = ground.pitr.json_code(3, &["plan", "--to-latest"]);
    assert_eq!(plan["wal"]["gaps"].as_array().map(Vec::len), Some(1), "{plan}");
}

#[test]
fn an_empty_archive_is_refused() {
    let scratch = Scratch::new("unmounted");
    let mut ground = Ground::new(&scratch);
    let empty = scratch.dir("unmounted", "root", "postgres", 0o2770);
    ground.cluster.stop();
    ground.pitr.set("wal_archive", vec![empty.to_str().unwrap()]);
    ground.refused(&[]);
    ground.pitr.set("wal_archive", vec!["/nonexistent/wal"]);
    ground.refused(&[]);
}

#[test]
fn a_truncated_backup_is_refused() {
    let scratch = Scratch::new("truncated");
    let ground = Ground::new(&scratch);
    let length = fs::metadata(&ground.backup).unwrap().len();
    OpenOptions::new().write(true).open(&ground.backup).unwrap().set_len(length / 2).unwrap();
    ground.refused(&[]);
}

#[test]
fn a_flipped_bit_in_a_backup_is_refused() {
    let scratch = Scratch::new("flipped");
    let ground = Ground::new(&scratch);
    let mut file = OpenOptions::new().read(true).write(true).open(&ground.backup).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.seek(SeekFrom::Start(middle)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(middle)).unwrap();
    file.write_all(&[byte[0] ^ 0x10]).unwrap();
    ground.refused(&[]);
}

#[test]
fn a_failover_manager_in_charge_is_refused() {
    let scratch = Scratch::new("patroni");
    let ground = Ground::new(&scratch);
    let file = ground.cluster.data.join("patroni.dynamic.json");
    fs::write(&file, "{}").unwrap();
    give(&file, "postgres", "postgres", 0o600);
    assert!(ground.refused(&[]).to_string().to_lowercase().contains("patroni"));
}

#[test]
fn a_standby_is_refused() {
    let scratch = Scratch::new("standby");
    let ground = Ground::new(&scratch);
    ground.cluster.stop();
    let signal = ground.cluster.data.join("standby.signal");
    fs::write(&signal, "").unwrap();
    give(&signal, "postgres", "postgres", 0o600);
    ground.cluster.start();
    assert_eq!(ground.cluster.sql("postgres", "SELECT pg_is_in_recovery()"), "t");
    assert!(ground.refused(&[]).to_string().contains("standby"));
}

#[test]
fn a_mount_below_pgdata_is_refused() {
    let scratch = Scratch::new("mounted");
    let ground = Ground::new(&scratch);
    let inner = ground.cluster.data.join("pg_stat_tmp");
    ground.scratch.mount_tmpfs(&inner, 8);
    assert!(ground.refused(&[]).to_string().contains(inner.to_str().unwrap()));
}
