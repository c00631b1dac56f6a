//! Where PGDATA and its parts can stand: an external `pg_wal`, PGDATA as a link, PGDATA as a mount point, filesystems
//! that cannot exchange; each restored and undone. And `kill -9` between any two renames of a switch of many places.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::cluster::Builder;
use crate::support::majors;
use crate::support::program::{self, program};
use crate::support::scratch::give;
use crate::support::story::{DATABASE, Facts, Point};
use crate::support::tree::{diff, snapshot_tree};
use crate::support::{Pitr, Scratch, Story, TestCluster};

/// A cluster at some place, with a backup, a target and work after it.
struct Ground {
    cluster: TestCluster,
    pitr: Pitr,
    target: Point,
    at_end: Facts,
    /// Directories in which a run's directory stands.
    places: Vec<PathBuf>,
}

impl Ground {
    /// Of a cluster that serves; everything else lies in `spaces`, tablespaces of these names and places.
    fn new(scratch: &Scratch, cluster: TestCluster, spaces: &[(&str, PathBuf)], places: Vec<PathBuf>) -> Ground {
        let story = Story::begin(&cluster);
        for (name, location) in spaces {
            cluster.sql("postgres", &format!("CREATE TABLESPACE {name} LOCATION '{}'", location.display()));
            cluster.sql(DATABASE, &format!("CREATE TABLE in_{name} TABLESPACE {name} AS SELECT i AS id FROM generate_series(1, 500) i"));
        }
        cluster.pg_basebackup("nightly", &["-Ft", "-z"]);
        for (name, _) in spaces {
            cluster.sql(DATABASE, &format!("INSERT INTO in_{name} SELECT i FROM generate_series(501, 600) i"));
        }
        let mut target = story.work(5);
        let mut ground =
            Ground { pitr: Pitr::for_cluster(scratch, &cluster), target: target.clone(), at_end: Facts::new(), places, cluster };
        target.facts = ground.facts();
        for (name, _) in spaces {
            ground.cluster.sql(DATABASE, &format!("DELETE FROM in_{name} WHERE id % 3 = 0"));
        }
        let story = Story::on(&ground.cluster);
        story.migrate(123);
        story.bulk(3);
        (ground.target, ground.at_end) = (target, ground.facts());
        ground.pitr.set("database", DATABASE);
        ground
    }

    /// Rows of the story and of every table in a tablespace.
    fn facts(&self) -> Facts {
        let mut facts = crate::support::story::facts(&self.cluster, DATABASE);
        for table in self.cluster.psql_rows(DATABASE, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'in\\_%'") {
            let sum = self.cluster.sql(DATABASE, &format!("SELECT count(*), sum(id) FROM {}", table[0]));
            facts.insert(table[0].clone(), sum);
        }
        facts
    }

    fn restore(&self) -> [&str; 4] {
        ["restore", "--yes", "--before-lsn", &self.target.lsn]
    }

    fn restored(&self) {
        let restored = self.pitr.json(&self.restore());
        assert_eq!(restored["outcome"], "switched", "{restored}");
        self.serves_target();
    }

    #[track_caller]
    fn serves_target(&self) {
        assert_eq!(self.facts(), self.target.facts);
        self.cluster.archive_caught_up();
        for place in &self.places {
            let run = run_directories(place).pop().unwrap_or_else(|| panic!("no run's directory in {}", place.display()));
            let metadata = fs::metadata(&run).unwrap();
            assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (0, 0o700), "{} can be reached", run.display());
        }
    }

    fn undone(&self) {
        let undone = self.pitr.json(&["undo", "--yes"]);
        assert_eq!(undone["outcome"], "undone", "{undone}");
        if !self.cluster.running() {
            self.cluster.start();
        }
        self.serves_end();
    }

    #[track_caller]
    fn serves_end(&self) {
        assert_eq!(self.facts(), self.at_end);
        self.cluster.archive_caught_up();
    }

    fn purged(&self) {
        self.pitr.run(&["purge", "--all", "--yes"]).expect_code(0);
        for place in &self.places {
            assert_eq!(run_directories(place), [] as [PathBuf; 0]);
        }
    }

    fn there_and_back(&self) {
        self.restored();
        self.undone();
        self.restored();
        self.purged();
        assert_eq!(self.facts(), self.target.facts);
        self.cluster.stop();
        self.cluster.start();
        assert_eq!(self.facts(), self.target.facts);
    }
}

fn run_directories(place: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for dir in [place.to_path_buf(), place.join("pgsql_tmp.pitr")] {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        found.extend(entries.flatten().map(|e| e.path()).filter(|p| p.file_name().unwrap().to_string_lossy().starts_with(".pitr-")));
    }
    found.sort();
    found
}

fn owned(path: &Path) -> PathBuf {
    fs::create_dir(path).unwrap();
    give(path, "postgres", "postgres", 0o700);
    path.to_path_buf()
}

majors::on_each_major! {
    an_external_pg_wal => |major| super::run(major, super::an_external_pg_wal),
    pgdata_as_a_mount_point => |major| super::run(major, super::pgdata_as_a_mount_point),
    a_filesystem_that_cannot_exchange => |major| super::run(major, super::a_filesystem_that_cannot_exchange),
}

fn run(major: u32, case: fn(&Scratch, Builder<'_>)) {
    majors::play("place", major, case);
}

/// `pg_wal` becomes a link to `place`, as `initdb --waldir` makes it.
fn move_wal(cluster: &TestCluster, place: &Path) {
    program::ok(program("cp").args(["-a", "--"]).arg(cluster.data.join("pg_wal")).arg(place));
    fs::remove_dir_all(cluster.data.join("pg_wal")).unwrap();
    symlink(place, cluster.data.join("pg_wal")).unwrap();
}

/// On a filesystem of its own, below a directory of root's.
fn an_external_pg_wal(scratch: &Scratch, builder: Builder<'_>) {
    let cluster = builder.create();
    let volume = scratch.dir("wal volume", "root", "root", 0o755);
    scratch.mount_image("ext4", &volume, 300);
    let wal = volume.join("pg_wäl");
    move_wal(&cluster, &wal);
    cluster.start();
    let mut ground = Ground::new(scratch, cluster, &[], vec![volume.clone()]);
    ground.pitr.tell_environment(&ground.cluster);
    ground.cluster.stop();
    let before = snapshot_tree(&wal);
    ground.restored();
    assert_eq!(fs::read_link(ground.cluster.data.join("pg_wal")).unwrap(), wal);
    let aside = run_directories(&volume).pop().unwrap().join("wal");
    assert_eq!(diff(&before, &snapshot_tree(&aside)), [] as [String; 0], "the old WAL");
    ground.undone();
    ground.there_and_back();
}

/// Its entries change places, `global` first there and last back.
fn pgdata_as_a_mount_point(scratch: &Scratch, builder: Builder<'_>) {
    scratch.dir("main", "root", "root", 0o711);
    scratch.dir("main/pg", "postgres", "postgres", 0o755);
    let data = scratch.dir("main/pg/data", "postgres", "postgres", 0o700);
    scratch.mount_tmpfs(&data, 700);
    give(&data, "postgres", "postgres", 0o700);
    let cluster = builder.start();
    let place = scratch.dir("space", "postgres", "postgres", 0o700);
    let ground = Ground::new(scratch, cluster, &[("one", place.clone())], vec![data.clone(), place]);
    let mounted = fs::metadata(&data).unwrap().dev();
    ground.restored();
    // A base backup of what serves leaves the old cluster out.
    let backup = ground.cluster.pg_basebackup("after", &["-Ft", "-X", "none"]);
    let names = program::ok(program("tar").arg("-tf").arg(backup.join("base.tar")));
    assert!(names.contains("global/pg_control") && !names.contains("pitr.run/") && !names.contains("pgsql_tmp.pitr"), "{names}");
    fs::remove_dir_all(backup).unwrap();
    ground.undone();
    ground.there_and_back();
    assert_eq!(fs::metadata(&data).unwrap().dev(), mounted, "PGDATA is another filesystem");
    assert!(!data.join("pgsql_tmp.pitr").exists());
}

/// `renameat2` knows no flag there: each exchange is three renames.
fn a_filesystem_that_cannot_exchange(scratch: &Scratch, builder: Builder<'_>) {
    let cluster = builder.create();
    let wal = scratch.dir("wal", "postgres", "postgres", 0o700);
    move_wal(&cluster, &wal.join("pg_wal"));
    cluster.start();
    let place = scratch.dir("space", "postgres", "postgres", 0o700);
    let mut ground = Ground::new(scratch, cluster, &[("one", place.clone())], vec![wal, place]);
    ground.pitr.without_renameat2();
    ground.there_and_back();
    let names = fs::read_dir(ground.cluster.parent()).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    assert_eq!(names.collect::<Vec<_>>(), ["data"]);
}

/// The configuration and the service name a link; what it leads to changes places, the link stays.
#[test]
fn pgdata_as_a_link() {
    let scratch = Scratch::new("link");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let link = scratch.path().join("main/current");
    symlink(&cluster.data, &link).unwrap();
    let places = vec![cluster.parent().to_path_buf()];
    let mut ground = Ground::new(&scratch, cluster, &[], places);
    ground.pitr.set("data_directory", link.to_str().unwrap());
    ground.there_and_back();
    assert_eq!(fs::read_link(&link).unwrap(), ground.cluster.data);
}

/// Exchanged with PGDATA, such a volume would go aside, and the next boot would mount it over the new cluster's.
#[test]
fn a_mount_below_pgdata_is_refused() {
    let scratch = Scratch::new("below");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let below = cluster.data.join("volume");
    owned(&below);
    scratch.mount_tmpfs(&below, 10);
    let ground = Ground::new(&scratch, cluster, &[], vec![]);
    let refused = ground.pitr.json_code(3, &["plan", "--before-lsn", &ground.target.lsn]);
    assert_eq!(refused["refusals"][0]["id"], "mount-point", "{refused}");
    assert!(refused["refusals"][0]["what"].as_str().unwrap().contains("volume"), "{refused}");
}

/// Each entry of a mounted PGDATA changes places alone: with more than a journal's line should hold, nothing is begun.
#[test]
fn a_mounted_pgdata_with_very_many_entries_is_refused() {
    let scratch = Scratch::new("entries");
    scratch.dir("main", "root", "root", 0o711);
    scratch.dir("main/pg", "postgres", "postgres", 0o755);
    let data = scratch.dir("main/pg/data", "postgres", "postgres", 0o700);
    scratch.mount_tmpfs(&data, 700);
    give(&data, "postgres", "postgres", 0o700);
    let ground = Ground::new(&scratch, TestCluster::builder(&scratch, "main").start(), &[], vec![]);
    for number in 0..4200 {
        fs::write(data.join(format!("core.{number}")), "").unwrap();
    }
    let refused = ground.pitr.json_code(3, &ground.restore());
    let reason = refused["refusals"].as_array().unwrap().iter().find(|r| r["id"] == "no-exchange").unwrap_or_else(|| panic!("{refused}"));
    assert!(reason["what"].as_str().unwrap().contains("entries"), "{refused}");
    ground.serves_end();
}

/// Places that a hostile map names (F2): the system's, one that holds what the private server needs, root's, a missing one.
#[test]
fn hostile_locations_are_refused() {
    let scratch = Scratch::new("hostile");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    let location = scratch.dir("space", "postgres", "postgres", 0o700);
    let roots = scratch.dir("roots", "root", "root", 0o755);
    cluster.sql("postgres", &format!("CREATE TABLESPACE one LOCATION '{}'", location.display()));
    let oid = cluster.sql("postgres", "SELECT oid FROM pg_tablespace WHERE spcname = 'one'");
    let backup = cluster.pg_basebackup("nightly", &["-Ft"]);
    let target = story.work(2);
    story.work(1);
    // The cluster has it no more: where it was, only the backup's map tells.
    cluster.sql("postgres", "DROP TABLESPACE one");
    let pitr = Pitr::for_cluster(&scratch, &cluster);
    let plan = ["plan", "--before-lsn", &target.lsn, "--accept", "no-manifest"];
    pitr.json(&plan);
    let missing = scratch.path().join("missing");
    for place in [Path::new("/etc"), Path::new("/"), Path::new("/usr/local"), cluster.parent(), &cluster.data, &roots, &missing] {
        let inner = scratch.dir("map", "postgres", "postgres", 0o700);
        fs::write(inner.join("tablespace_map"), format!("{oid} {}\n", place.display())).unwrap();
        program::ok(program("tar").arg("--delete").arg("-f").arg(backup.join("base.tar")).arg("tablespace_map"));
        program::ok(program("tar").arg("-rf").arg(backup.join("base.tar")).arg("-C").arg(&inner).arg("tablespace_map"));
        let refused = pitr.json_code(3, &plan);
        let reasons: BTreeMap<&str, &str> =
            refused["refusals"].as_array().unwrap().iter().map(|r| (r["id"].as_str().unwrap(), r["what"].as_str().unwrap())).collect();
        let why = reasons.get("tablespace-location").unwrap_or_else(|| panic!("{}: {refused}", place.display()));
        assert!(why.contains(&format!("{} cannot be used", place.display())), "{why}");
        assert!(run_directories(place).is_empty());
    }
}

/// `kill -9` between any two renames of a switch with two tablespaces and an external pg_wal: by hand the server is whole
/// old, whole new, or refuses to start; then `resume` or `undo`.
#[cfg(feature = "crash-points")]
#[test]
fn killed_between_two_renames_with_many_places() {
    killed("many", false);
}

/// Killed between the renames of an exchange nothing stands at PGDATA: `status` names the run and the ways on, also where no
/// configuration names the cluster and no server tells of it.
#[cfg(feature = "crash-points")]
#[test]
fn status_names_the_run_while_nothing_is_at_pgdata() {
    let scratch = Scratch::new("between");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let mut ground = Ground::new(&scratch, cluster, &[], vec![]);
    ground.pitr.without_renameat2();
    let configured = fs::read_to_string(&ground.pitr.config).unwrap();
    let bare = format!("state_directory = '{}'\n", ground.pitr.state.display());
    let mut missing = 0;
    // Each goes on by one rename and is killed again.
    for args in [ground.restore().as_slice(), &["resume", "--yes"], &["resume", "--yes"]] {
        ground.pitr.crash_at("after exchange", args);
        missing += usize::from(!ground.cluster.data.exists());
        for text in [&configured, &bare] {
            ground.pitr.write(text);
            let status = ground.pitr.json(&["status"]);
            let open: Vec<_> = status["clusters"].as_array().unwrap().iter().filter(|c| !c["run"].is_null()).collect();
            let [open] = open.as_slice() else { panic!("{args:?}: not one open run: {status}") };
            let id = open["run"]["id"].as_str().unwrap();
            assert_eq!(open["run"]["next"], serde_json::json!([format!("pitr resume {id}"), format!("pitr undo {id}")]), "{status}");
            assert!(ground.pitr.run(&["status"]).expect_code(0).stdout.contains(&format!("pitr resume {id}")), "{args:?}");
        }
        ground.pitr.write(&configured);
    }
    let done = ground.pitr.json(&["resume", "--yes"]);
    assert_eq!(done["outcome"], "switched", "{done}");
    ground.serves_target();
    assert!(missing > 0, "no rename leaves PGDATA missing");
}

/// The same where each exchange is three renames.
#[cfg(feature = "crash-points")]
#[test]
#[ignore = "PITR_FULL_MATRIX"]
fn killed_between_two_renames_without_exchange() {
    killed("slow", true);
}

#[cfg(feature = "crash-points")]
fn killed(topic: &str, without_renameat2: bool) {
    let scratch = Scratch::new(topic);
    let cluster = TestCluster::builder(&scratch, "main").create();
    let wal = scratch.dir("wal", "postgres", "postgres", 0o700);
    move_wal(&cluster, &wal.join("pg_wal"));
    cluster.start();
    let volume = scratch.dir("volume", "postgres", "postgres", 0o700);
    scratch.mount_tmpfs(&volume, 500);
    give(&volume, "postgres", "postgres", 0o700);
    let beside = scratch.dir("beside", "postgres", "postgres", 0o700);
    let spaces = [("one", volume.clone()), ("two", beside.clone())];
    let mut ground = Ground::new(&scratch, cluster, &spaces, vec![wal, volume, beside]);
    if without_renameat2 {
        ground.pitr.without_renameat2();
    }
    let there = ground.pitr.crash_points(&ground.restore());
    let back = ground.pitr.crash_points(&["undo", "--yes"]);
    ground.serves_end();
    let inside = |names: &[String]| -> Vec<usize> {
        let renames =
            names.iter().enumerate().filter(|(_, name)| name.as_str() == "after exchange" || name.as_str() == "after effect of the switch");
        renames.map(|(index, _)| index + 1).collect()
    };
    let (there, back) = (inside(&there), inside(&back));
    // pg_control hidden, four exchanges, pg_control back.
    assert!(there.len() >= 6 && back.len() >= 5, "{there:?} {back:?}");
    let full = crate::support::stand::full_matrix();
    let chosen = |points: &[usize]| -> Vec<usize> {
        let middle = points.len() / 2;
        points.iter().enumerate().filter(|(i, _)| full || *i == 1 || *i == middle).map(|(_, p)| *p).collect()
    };
    for point in chosen(&there) {
        ground.pitr.crash_at(point, &ground.restore());
        let last = Some(&point) == there.last();
        let started = whole_or_refused(&ground, last);
        let verb = if point.is_multiple_of(2) && !started { "resume" } else { "undo" };
        let done = ground.pitr.json(&[verb, "--yes"]);
        if verb == "resume" {
            assert_eq!(done["outcome"], "switched", "{point}: {done}");
            ground.serves_target();
            ground.undone();
        }
        if !ground.cluster.running() {
            ground.cluster.start();
        }
        ground.serves_end();
        ground.purged();
    }
    for point in chosen(&back) {
        ground.restored();
        ground.pitr.crash_at(point, &["undo", "--yes"]);
        whole_or_refused(&ground, Some(&point) == back.last());
        let done = ground.pitr.json(&[if point.is_multiple_of(2) { "resume" } else { "undo" }, "--yes"]);
        assert_eq!(done["outcome"], "undone", "{point}: {done}");
        ground.serves_end();
        ground.purged();
    }
}

/// Starts the server as an administrator would. Says whether one ran, which is stopped again; where `complete`, it must.
#[cfg(feature = "crash-points")]
#[track_caller]
fn whole_or_refused(ground: &Ground, complete: bool) -> bool {
    let started = ground.cluster.data.join("PG_VERSION").exists() && ground.cluster.try_start().code == 0;
    assert!(started || !complete, "after the last rename the cluster must start: {}", ground.cluster.log_tail());
    if started {
        let facts = ground.facts();
        assert!(facts == ground.at_end || facts == ground.target.facts, "neither the old cluster nor the new one: {facts:?}");
        ground.cluster.stop();
    }
    started
}
