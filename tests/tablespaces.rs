//! Tablespaces outside PGDATA: on filesystems of their own, made and dropped between backup, target and now, from each
//! form of backup; restored and undone, the old cluster's files byte for byte as they were.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::support::cluster::Builder;
use crate::support::majors;
use crate::support::program;
use crate::support::scratch::give;
use crate::support::story::{DATABASE, Point};
use crate::support::tree::{Tree, diff, snapshot_tree};
use crate::support::{Pitr, Scratch, Story, TestCluster};

/// A form of backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `pg_basebackup -Ft -z`.
    Packed,
    /// `pg_basebackup -Ft`.
    Tar,
    /// `pg_basebackup -Fp --tablespace-mapping`.
    Mapped,
    /// A cron job's `tar -h`: what the links lead to is packed below `pg_tblspc`.
    Followed,
}

/// Tablespaces that there are when the backup is taken; not `lost` where it is a plain one.
const BACKED_UP: [&str; 5] = ["one", "two", "doomed", "hollow", "lost"];

/// One module a major: `scripts/test` plays 15, `scripts/test-majors` all.
macro_rules! majors {
    ($($name:ident $major:literal $($slow:literal)?;)*) => {$(
        mod $name {
            #[test]
            $(#[ignore = $slow])?
            fn from_a_packed_base_backup() {
                super::run($major, super::Form::Packed);
            }

            #[test]
            $(#[ignore = $slow])?
            fn from_a_plain_backup_with_mappings() {
                super::run($major, super::Form::Mapped);
            }

            #[test]
            #[ignore = "scripts/test-majors"]
            fn from_a_tar_directory() {
                super::run($major, super::Form::Tar);
            }

            #[test]
            #[ignore = "scripts/test-majors"]
            fn from_a_tarball_that_followed_links() {
                super::run($major, super::Form::Followed);
            }
        }
    )*};
}
majors! {
    pg13 13 "scripts/test-majors"; pg14 14 "scripts/test-majors"; pg15 15;
    pg16 16 "scripts/test-majors"; pg17 17 "scripts/test-majors"; pg18 18 "scripts/test-majors";
}

fn run(major: u32, form: Form) {
    if majors::available(major).is_none() {
        return;
    }
    let scratch = Scratch::new(&format!("ts{major}"));
    there_and_back(&scratch, TestCluster::builder(&scratch, "main").major(major), form);
}

/// What the tables in the tablespaces hold, and which databases and tablespaces there are.
type Rows = BTreeMap<String, String>;

/// A cluster with tablespaces of every fate.
pub struct Ground {
    /// It serves.
    pub cluster: TestCluster,
    /// Configured for it.
    pub pitr: Pitr,
    /// Name and location of each tablespace there ever was.
    pub locations: BTreeMap<String, PathBuf>,
    /// Where the recovery goes.
    pub target: Point,
    at_target: Rows,
    at_end: Rows,
    /// The one that is dropped after the target, as `--tablespace` names it.
    lost: Option<String>,
}

impl Ground {
    fn new(scratch: &Scratch, builder: Builder<'_>, form: Form) -> Ground {
        let cluster = builder.start();
        let story = Story::begin(&cluster);
        let volume = scratch.dir("volume ä", "root", "root", 0o755);
        scratch.mount_image("ext4", &volume, 600);
        let memory = scratch.dir("memory", "root", "root", 0o755);
        scratch.mount_tmpfs(&memory, 500);
        // A location that is a mount point itself, one in a directory of the owner on PGDATA's filesystem, one below root's.
        give(&volume, "postgres", "postgres", 0o700);
        let beside = scratch.dir("beside", "postgres", "postgres", 0o700);
        let place = |dir: &Path, name: &str| {
            let path = dir.join(name);
            fs::create_dir(&path).unwrap();
            give(&path, "postgres", "postgres", 0o700);
            path
        };
        let locations: BTreeMap<String, PathBuf> = [
            ("one", volume),
            ("two", place(&beside, "täble space 2")),
            ("three", place(&memory, "three")),
            ("doomed", place(&memory, "doomed")),
            ("hollow", place(&beside, "hollow")),
            ("lost", place(&beside, "lost")),
            ("late", place(&memory, "late \"quoted\" % \\")),
        ]
        .map(|(name, path)| (name.to_string(), path))
        .into();
        let mut ground = Ground {
            pitr: Pitr::for_cluster(scratch, &cluster),
            locations,
            target: story.work(1),
            at_target: Rows::new(),
            at_end: Rows::new(),
            lost: None,
            cluster,
        };
        ground.pitr.set("database", DATABASE);
        let story = Story::on(&ground.cluster);
        // Where a dropped tablespace was, a plain backup does not tell.
        let told = form != Form::Mapped;
        for name in BACKED_UP.iter().filter(|name| told || **name != "lost") {
            ground.create(name);
        }
        ground.cluster.sql(DATABASE, "DROP TABLE in_hollow");
        ground.cluster.sql("postgres", "CREATE DATABASE elsewhere TABLESPACE two");
        ground.back_up(scratch, form);
        ground.cluster.sql(DATABASE, "INSERT INTO in_one SELECT i, 'more' FROM generate_series(1, 500) i");
        ground.drop("doomed");
        ground.create("three");
        ground.cluster.sql("postgres", "CREATE DATABASE inner_three TABLESPACE three");
        let target = story.work(3);
        let at_target = ground.rows();
        for name in ["one", "two", "three"] {
            ground
                .cluster
                .sql(DATABASE, &format!("UPDATE in_{name} SET note = note || ' changed'; DELETE FROM in_{name} WHERE id % 7 = 0"));
        }
        ground.cluster.sql("inner_three", "CREATE TABLE after_the_target AS SELECT generate_series(1, 1000) AS id");
        if told {
            let oid = ground.cluster.sql("postgres", "SELECT oid FROM pg_tablespace WHERE spcname = 'lost'");
            ground.lost = Some(format!("{oid}={}", ground.locations["lost"].display()));
            ground.drop("lost");
        }
        ground.create("late");
        story.work(2);
        let at_end = ground.rows();
        (ground.target, ground.at_target, ground.at_end) = (target, at_target, at_end);
        ground
    }

    fn create(&self, name: &str) {
        let location = self.locations[name].display();
        self.cluster.sql("postgres", &format!("CREATE TABLESPACE {name} LOCATION '{location}'"));
        self.cluster.sql(
            DATABASE,
            &format!("CREATE TABLE in_{name} (id int, note text) TABLESPACE {name}; INSERT INTO in_{name} SELECT i, md5(i::text) FROM generate_series(1, 2000) i"),
        );
    }

    fn drop(&self, name: &str) {
        self.cluster.sql(DATABASE, &format!("DROP TABLE in_{name}"));
        self.cluster.sql("postgres", &format!("DROP TABLESPACE {name}"));
    }

    fn back_up(&self, scratch: &Scratch, form: Form) {
        match form {
            Form::Packed => drop(self.cluster.pg_basebackup("nightly", &["-Ft", "-z"])),
            Form::Tar => drop(self.cluster.pg_basebackup("nightly", &["-Ft"])),
            Form::Followed => drop(self.cluster.cron_tarball_with("base-20261121.tar.gz", None, &["-h"])),
            Form::Mapped => {
                let above =
                    scratch.dir(self.cluster.backups.strip_prefix(scratch.path()).unwrap().join("spaces"), "postgres", "postgres", 0o700);
                let escape = |path: &Path| path.display().to_string().replace('=', "\\=");
                let there = self.locations.iter().filter(|(name, _)| BACKED_UP.contains(&name.as_str()));
                let pairs = there.map(|(name, from)| format!("{}={}", escape(from), escape(&above.join(name))));
                let options: Vec<String> = pairs.flat_map(|pair| ["-T".to_string(), pair]).chain(["-Fp".to_string()]).collect();
                self.cluster.pg_basebackup("nightly", &options.iter().map(String::as_str).collect::<Vec<_>>());
            }
        }
    }

    /// Every row of every tablespace.
    pub fn rows(&self) -> Rows {
        let mut rows = Rows::new();
        for table in self.cluster.psql_rows(DATABASE, "SELECT tablename, tablespace FROM pg_tables WHERE tablename LIKE 'in\\_%'") {
            let all = format!("SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM {} t", table[0]);
            rows.insert(table.join(" in "), self.cluster.sql(DATABASE, &all));
        }
        for space in self.cluster.psql_rows("postgres", "SELECT spcname, pg_tablespace_location(oid) FROM pg_tablespace") {
            rows.insert(format!("tablespace {}", space[0]), space[1].clone());
        }
        for database in self.cluster.psql_rows("postgres", "SELECT datname FROM pg_database WHERE datallowconn") {
            rows.insert(format!("database {}", database[0]), self.cluster.sql(&database[0], "SELECT count(*) FROM pg_class"));
        }
        rows
    }

    /// The arguments of the recovery.
    pub fn restore(&self) -> [&str; 6] {
        ["restore", "--yes", "--before-lsn", &self.target.lsn, "-o", "json"]
    }

    /// What PostgreSQL takes for a tablespace in place, and `pg_basebackup` of majors before 16 leaves out, is none of ours.
    fn links_only(&self) {
        let mut found: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(self.cluster.data.join("pg_tblspc")).unwrap().flatten() {
            found.push(fs::read_link(entry.path()).unwrap_or_else(|e| panic!("{}: {e}", entry.path().display())));
        }
        found.sort();
        let mut wanted: Vec<PathBuf> =
            self.at_target.iter().filter(|(name, _)| name.starts_with("tablespace ")).map(|(_, at)| at.into()).collect();
        wanted.retain(|place| place.is_absolute());
        wanted.sort();
        assert_eq!(found, wanted);
    }

    /// The files of every tablespace at its live place: no run's directories.
    fn files(&self) -> BTreeMap<String, Tree> {
        let tree = |path: &PathBuf| {
            let mut tree = snapshot_tree(path);
            tree.retain(|path, _| !path.starts_with("lost+found") && !path.to_string_lossy().starts_with(".pitr-"));
            tree
        };
        self.locations.iter().map(|(name, path)| (name.clone(), tree(path))).collect()
    }

    /// The files of every tablespace that stand aside.
    fn aside(&self) -> BTreeMap<String, Tree> {
        let tree = |path: &PathBuf| match run_directory(path) {
            Some(run) => {
                let metadata = fs::metadata(&run).unwrap();
                assert_eq!((metadata.uid(), metadata.permissions().mode() & 0o7777), (0, 0o700), "{} can be reached", run.display());
                let mut tree = snapshot_tree(&run.join("space"));
                // Packed by a tar that followed the link to a whole filesystem.
                tree.retain(|path, _| !path.starts_with("lost+found"));
                tree
            }
            None => Tree::new(),
        };
        self.locations.iter().map(|(name, path)| (name.clone(), tree(path))).collect()
    }
}

fn run_directory(location: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(location).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().starts_with(".pitr-"));
    names.map(|e| e.path()).next()
}

#[track_caller]
fn assert_same(before: &BTreeMap<String, Tree>, after: &BTreeMap<String, Tree>) {
    for (name, tree) in before {
        // A server makes its caches anew at each start.
        let mut changes = diff(tree, &after[name]);
        changes.retain(|line| !line.contains("pg_internal.init"));
        assert_eq!(changes, [] as [String; 0], "files of tablespace {name}");
    }
}

fn there_and_back(scratch: &Scratch, builder: Builder<'_>, form: Form) {
    let mut ground = Ground::new(scratch, builder, form);
    // Stopped, its files stand still.
    ground.pitr.tell_environment(&ground.cluster);
    ground.cluster.stop();
    let before = ground.files();
    // Where a link led that tar followed, nothing tells once the tablespace is gone.
    let said = ground.lost.as_deref().filter(|_| form == Form::Followed).map(|lost| ["--tablespace", lost]);
    let args = [&ground.restore()[..4], said.as_ref().map_or(&[][..], |said| said.as_slice())].concat();
    if said.is_some() {
        let refused = ground.pitr.json_code(3, &["plan", "--before-lsn", &ground.target.lsn]);
        let why = refused["refusals"][0]["what"].as_str().unwrap();
        let oid = ground.lost.as_deref().unwrap().split('=').next().unwrap();
        assert!(why.contains(&format!("--tablespace {oid}=DIR")) && why.contains("does not tell where that was"), "{refused}");
    }
    let restored = ground.pitr.json(&args);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(ground.rows(), ground.at_target);
    ground.links_only();
    assert_same(&before, &ground.aside());
    // What was made after the target can be made again, which the undo takes back as well.
    ground.create("late");
    if form != Form::Mapped {
        ground.drop("lost");
    }
    let undone = ground.pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{undone}");
    assert_same(&before, &ground.files());
    ground.cluster.start();
    assert_eq!(ground.rows(), ground.at_end);
    let run = undone["run"].as_str().unwrap();
    ground.pitr.run(&["purge", run, "--yes"]).expect_code(0);
    for location in ground.locations.values().map(PathBuf::as_path).chain([ground.cluster.parent()]) {
        assert_eq!(run_directory(location), None);
    }
    assert_eq!(ground.rows(), ground.at_end);
    ground.cluster.stop();
    if !ground.cluster.programs.has("pg_checksums") {
        // Another major's would look for that one's directories.
        return;
    }
    program::ok(ground.cluster.tool("pg_checksums").arg("--check").arg("-D").arg(&ground.cluster.data));
}

/// The cluster is lost, and its tarball followed the links: only `--tablespace` tells where the tablespaces were. One that
/// is said to lie in `pg_tblspc` stays there.
#[test]
fn a_lost_cluster_whose_tarball_followed_links() {
    let scratch = Scratch::new("ts-lost");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    let place = scratch.dir("beside", "postgres", "postgres", 0o700);
    cluster.sql("postgres", &format!("CREATE TABLESPACE one LOCATION '{}'", place.display()));
    cluster.script("postgres", "SET allow_in_place_tablespaces = on;\nCREATE TABLESPACE inside LOCATION '';\n");
    for name in ["one", "inside"] {
        cluster.sql(DATABASE, &format!("CREATE TABLE in_{name} TABLESPACE {name} AS SELECT generate_series(1, 300) AS id"));
    }
    cluster.cron_tarball_with("base-20261121.tar.gz", None, &["-h"]);
    let oids = cluster.psql_rows("postgres", "SELECT oid FROM pg_tablespace WHERE spcname IN ('one', 'inside') ORDER BY spcname DESC");
    let target = story.work(2);
    cluster.archive_caught_up();
    let pitr = Pitr::for_cluster(&scratch, &cluster);
    cluster.crash();
    fs::remove_dir_all(&cluster.data).unwrap();
    for entry in fs::read_dir(&place).unwrap().flatten() {
        fs::remove_dir_all(entry.path()).unwrap();
    }

    let (one, inside) = (format!("{}={}", oids[0][0], place.display()), format!("{0}=pg_tblspc/{0}", oids[1][0]));
    let target = ["--before-lsn", target.lsn.as_str()];
    for said in [&[][..], &["--tablespace", &one], &["--tablespace", &inside]] {
        let refused = pitr.json_code(3, &[&["plan"], target.as_slice(), said].concat());
        assert!(refused["refusals"][0]["what"].as_str().unwrap().contains("does not tell where that was"), "{said:?}: {refused}");
    }
    let restored = pitr.json(&[&["restore", "--yes"], target.as_slice(), &["--tablespace", &one, "--tablespace", &inside]].concat());
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(cluster.sql(DATABASE, "SELECT (SELECT count(*) FROM in_one) + (SELECT count(*) FROM in_inside)"), "600");
    let places = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE oid > 16383 ORDER BY spcname DESC";
    assert_eq!(cluster.psql_rows("postgres", places), [[place.to_str().unwrap().to_string()], [format!("pg_tblspc/{}", oids[1][0])]]);
    assert_eq!(pitr.json(&["undo", "--yes"])["outcome"], "undone");
    assert!(!cluster.data.exists());
    assert_eq!(fs::read_dir(&place).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().starts_with("PG_")).count(), 0);
}

/// `allow_in_place_tablespaces`: directories in `pg_tblspc`, before and after the backup.
#[test]
fn in_place_tablespaces_come_with_pgdata() {
    let scratch = Scratch::new("ts-inside");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    let create = |name: &str| {
        cluster.script(
            DATABASE,
            &format!(
                "SET allow_in_place_tablespaces = on;\nCREATE TABLESPACE {name} LOCATION '';\n\
                 CREATE TABLE in_{name} TABLESPACE {name} AS SELECT generate_series(1, 300) AS id;\n"
            ),
        );
    };
    let counts = |names: &[&str]| -> Vec<String> {
        names.iter().map(|name| cluster.sql(DATABASE, &format!("SELECT count(*) FROM in_{name}"))).collect()
    };
    create("inside");
    // 15's own program leaves such tablespaces out.
    let lacking = cluster.pg_basebackup("nightly", &["-Ft", "-z"]);
    create("later");
    let target = story.work(2);
    let pitr = Pitr::for_cluster(&scratch, &cluster);
    let refused = pitr.json_code(3, &["plan", "--before-lsn", &target.lsn]);
    assert_eq!(refused["refusals"][0]["id"], "tablespace-in-place", "{refused}");
    fs::remove_dir_all(lacking).unwrap();

    cluster.sql(DATABASE, "DROP TABLE in_later");
    cluster.sql("postgres", "DROP TABLESPACE later");
    cluster.cron_tarball("base-20261121.tar.gz", None);
    create("later");
    let target = story.work(2);
    cluster.sql(DATABASE, "DELETE FROM in_inside WHERE id > 10; DELETE FROM in_later WHERE id > 20");
    let restored = pitr.json(&["restore", "--yes", "--before-lsn", &target.lsn]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(counts(&["inside", "later"]), ["300", "300"]);
    let undone = pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{undone}");
    assert_eq!(counts(&["inside", "later"]), ["10", "20"]);
}

/// Room is looked for on each filesystem. Where a tablespace that is gone was, a plain backup does not tell.
#[test]
fn no_room_and_no_place_for_a_tablespace_are_refused() {
    let scratch = Scratch::new("ts-room");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    let volume = scratch.dir("volume", "postgres", "postgres", 0o700);
    scratch.mount_tmpfs(&volume, 24);
    give(&volume, "postgres", "postgres", 0o700);
    cluster.sql("postgres", &format!("CREATE TABLESPACE one LOCATION '{}'", volume.display()));
    cluster.sql(DATABASE, "CREATE TABLE in_one TABLESPACE one AS SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 13000) i");
    let copies = scratch.dir("main/backups/copies", "postgres", "postgres", 0o700);
    let mapping = format!("{}={}", volume.display(), copies.join("one").display());
    cluster.pg_basebackup("nightly", &["-Fp", "-T", &mapping]);
    let target = story.work(2);
    story.work(1);
    let pitr = Pitr::for_cluster(&scratch, &cluster);
    let plan = ["plan", "--before-lsn", &target.lsn];
    let refused = pitr.json_code(3, &plan);
    let no_room = &refused["refusals"][0];
    assert_eq!(no_room["id"], "no-space", "{refused}");
    assert!(no_room["what"].as_str().unwrap().starts_with(volume.to_str().unwrap()), "{refused}");
    assert!(refused["other_space"][0]["needed"].as_u64().unwrap() > 12 << 20, "{refused}");

    cluster.sql(DATABASE, "DROP TABLE in_one");
    cluster.sql("postgres", "DROP TABLESPACE one");
    let refused = pitr.json_code(3, &plan);
    let why = refused["refusals"][0]["what"].as_str().unwrap();
    assert!(why.contains("does not tell where that was"), "{refused}");

    // Said by hand, it goes there: to another place than it ever was.
    let again = scratch.dir("again", "postgres", "postgres", 0o700);
    let oid = why.split("tablespace ").nth(1).unwrap().split(',').next().unwrap();
    let said = format!("{oid}={}", again.display());
    pitr.json_code(3, &[&plan, ["--tablespace", &format!("99999={}", again.display())].as_slice()].concat());
    let restored = pitr.json(&["restore", "--yes", "--before-lsn", &target.lsn, "--tablespace", &said]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(cluster.sql(DATABASE, "SELECT count(*) FROM in_one"), "13000");
    let place = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'one'";
    assert_eq!(cluster.sql("postgres", place), again.to_str().unwrap());
    let elsewhere = scratch.dir("elsewhere", "postgres", "postgres", 0o700);
    let moved = format!("{oid}={}", elsewhere.display());
    let refused = pitr.json_code(3, &["plan", "--before-lsn", &target.lsn, "--tablespace", &moved]);
    assert!(refused.to_string().contains("does not move it"), "{refused}");
    assert_eq!(pitr.json(&["undo", "--yes"])["outcome"], "undone");
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM pg_tablespace WHERE spcname = 'one'"), "0");
}

/// A cron job's tarball holds the links and nothing of what they lead to: refused, nothing touched.
#[test]
fn a_tarball_that_holds_only_links_is_refused() {
    let scratch = Scratch::new("ts-links");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    let location = scratch.dir("beside", "postgres", "postgres", 0o700);
    cluster.sql("postgres", &format!("CREATE TABLESPACE one LOCATION '{}'", location.display()));
    cluster.cron_tarball("base-20261121.tar.gz", None);
    let target = story.work(2);
    story.work(1);
    let pitr = Pitr::for_cluster(&scratch, &cluster);
    let postmaster = cluster.postmaster_pid();

    let refused = pitr.json_code(3, &["plan", "--before-lsn", &target.lsn]);

    let words = refused["refusals"][0]["what"].as_str().unwrap();
    assert!(words.contains("only the link to tablespace") && words.contains("tablespace-content"), "{refused}");
    assert_eq!((cluster.postmaster_pid(), run_directory(&location)), (postmaster, None));
}
