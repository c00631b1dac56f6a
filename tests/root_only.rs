//! Archives and backups that only root may read, or only a group; archives in several places and forms.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::User;

use crate::support::cluster::Archive;
use crate::support::program::{self, program};
use crate::support::scratch::give;
use crate::support::story::{self, CHECK_USER, DATABASE, Facts, Point};
use crate::support::{Pitr, Scratch, Story, TestCluster};

const SECRET: &str = "only_root_may_read_this_77aa";

/// A cluster whose archived WAL before the target is not in pg_wal any more.
struct Ground {
    cluster: TestCluster,
    pitr: Pitr,
    target: Point,
    now: Facts,
    /// Root's copy of the archive, and the segments of it that pg_wal does not have.
    wal: PathBuf,
    needed: Vec<String>,
}

impl Ground {
    fn new(scratch: &Scratch) -> Ground {
        let cluster = TestCluster::builder(scratch, "main").archive(Archive::OwnerOwned).start();
        let story = Story::begin(&cluster);
        cluster.cron_tarball("base-20261121.tar.gz", None);
        cluster.basebackup_tar("tars", true);
        cluster.basebackup_plain("plain");
        for _ in 0..6 {
            story.work(3);
            cluster.switch_wal();
        }
        let target = story.work(5);
        story.migrate(123);
        cluster.archive_caught_up();
        let now = story.facts();
        let wal = scratch.dir("vault/wal", "root", "root", 0o700);
        let mut needed = Vec::new();
        for entry in fs::read_dir(cluster.archive.as_ref().unwrap()).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            fs::copy(entry.path(), wal.join(&name)).unwrap();
            fs::set_permissions(wal.join(&name), fs::Permissions::from_mode(0o600)).unwrap();
            if name.len() == 24 {
                let _ = fs::remove_file(cluster.data.join("pg_wal").join(&name));
                needed.push(name);
            }
        }
        needed.sort();
        let mut pitr = Pitr::for_cluster(scratch, &cluster);
        pitr.set("database", DATABASE);
        pitr.set("check_user", CHECK_USER);
        pitr.set("wal_archive", vec![wal.to_str().unwrap()]);
        Ground { cluster, pitr, target, now, wal, needed }
    }

    fn restore(&self) -> [&str; 6] {
        ["restore", "--yes", "--before-lsn", &self.target.lsn, "-o", "json"]
    }

    /// Backups become root's too.
    fn close_backups(&self) {
        program::ok(program("chown").args(["-R", "root:root"]).arg(&self.cluster.backups));
        program::ok(program("chmod").args(["-R", "go="]).arg(&self.cluster.backups));
    }

    #[track_caller]
    fn there_and_back(&self, extra: &[&str]) {
        let restored = self.pitr.json(&[&["restore", "--yes", "--before-lsn", &self.target.lsn], extra].concat());
        assert_eq!(restored["outcome"], "switched", "{restored:#}");
        assert_eq!(story::facts(&self.cluster, DATABASE), self.target.facts);
        self.pitr.json(&["undo", "--yes"]);
        assert_eq!(story::facts(&self.cluster, DATABASE), self.now);
        self.pitr.assert_nothing_left();
    }

    /// The segment before the target's: a recovery needs it.
    fn middle(&self) -> PathBuf {
        self.wal.join(&self.needed[self.needed.len() - 4])
    }
}

/// Neither the archive nor the backups can be read, or even walked to, by the owner: everything works all the same.
#[test]
fn what_only_root_may_read_is_recovered_from() {
    let scratch = Scratch::new("rootonly");
    let ground = Ground::new(&scratch);
    ground.close_backups();
    let ls = program::output(program::as_postgres("ls").arg(&ground.wal));
    assert_ne!(ls.code, 0, "the owner must not be able to read the archive for this test");

    let plan = ground.pitr.json(&["plan", "--before-lsn", &ground.target.lsn]);
    assert_eq!(plan["refusals"].as_array().map(Vec::len), Some(0), "{plan:#}");
    assert!(plan["target"]["keeps"]["xid"].is_string(), "the records were read: {plan:#}");
    let proof = ground.pitr.json(&["verify"]);
    assert!(proof["backups"]["backups"].as_array().unwrap().iter().all(|b| b["state"] == "whole"), "{proof:#}");
    assert!(!ground.pitr.run(&["log"]).expect_code(0).stdout.is_empty());
    assert_eq!(proof["backups"]["backups"].as_array().map(Vec::len), Some(3), "{proof:#}");
    ground.there_and_back(&["--backup", "plain"]);
    ground.there_and_back(&["--backup", "base-20261121.tar.gz"]);
    ground.pitr.json(&["plan", "--before-lsn", &ground.target.lsn, "--backup", "tars"]);
    // Without its name in the configuration nothing is opened.
    let mut pitr = ground.pitr;
    let named = ground.wal.to_str().unwrap();
    pitr.unset("wal_archive");
    let refused = pitr.json_code(3, &["plan", "--before-lsn", &ground.target.lsn, "--wal", named]);
    assert!(refused["refusals"].to_string().contains("archive-unreadable"), "{refused:#}");
}

/// Files of root's under the names of segments, by hard link, by link, as a fifo: none is read, none is shown.
#[test]
fn another_file_of_roots_is_never_handed_out() {
    let scratch = Scratch::new("deputy");
    let ground = Ground::new(&scratch);
    let (segment, kept) = (ground.middle(), ground.wal.join("kept"));
    fs::rename(&segment, &kept).unwrap();
    let secret = scratch.file("secret/file", format!("{SECRET}\n").repeat((1 << 20) / (SECRET.len() + 1)), 0o600);
    let disguises: [(&str, &dyn Fn()); 4] = [
        ("hard link", &|| fs::hard_link(&secret, &segment).unwrap()),
        ("link", &|| std::os::unix::fs::symlink(&secret, &segment).unwrap()),
        ("link to its own segment", &|| std::os::unix::fs::symlink(&kept, &segment).unwrap()),
        ("fifo", &|| drop(program::ok(program("mkfifo").arg(&segment)))),
    ];
    for (name, disguise) in disguises {
        disguise();
        let said = ground.pitr.run(&ground.restore()).expect_code(3);
        assert!(said.stdout.contains(segment.file_name().unwrap().to_str().unwrap()), "{name}: {}", said.stdout);
        fs::remove_file(&segment).unwrap();
    }
    // The owner could put anything there: then nothing is opened by root, whatever stands there.
    fs::rename(&kept, &segment).unwrap();
    give(&ground.wal, "root", "postgres", 0o770);
    ground.pitr.run(&ground.restore()).expect_code(3);
    give(&ground.wal, "root", "root", 0o700);
    // A segment that becomes a link after the plan was made.
    let mut pitr = ground.pitr;
    let swap: Vec<String> = ["/bin/ln", "-sf", secret.to_str().unwrap(), segment.to_str().unwrap()].map(str::to_string).to_vec();
    let hooks = toml::Table::from_iter([("before_stop".to_string(), toml::Value::from(vec![toml::Value::from(swap)]))]);
    pitr.set("hooks", hooks);
    pitr.run(&["restore", "--yes", "--before-lsn", &ground.target.lsn]).expect_code(1);
    assert!(segment.is_symlink() && story::facts(&ground.cluster, DATABASE) == ground.now);
    for place in [&pitr.state, &pitr.said, &ground.cluster.log] {
        let found = program::output(program("grep").args(["-rlaF", "-e", SECRET, "--"]).arg(place));
        assert_eq!((found.code, found.stdout.as_str()), (1, ""), "the secret is shown: {}", found.stderr);
    }
    pitr.assert_nothing_left();
}

/// Readable only by a group that the owner is in, not as its first.
#[test]
fn a_groups_archive_is_read_by_the_owner() {
    let scratch = Scratch::new("group");
    let ground = Ground::new(&scratch);
    let user = User::from_name("postgres").unwrap().unwrap();
    let groups = nix::unistd::getgrouplist(&std::ffi::CString::new("postgres").unwrap(), user.gid).unwrap();
    let group = groups.iter().find(|gid| **gid != user.gid).expect("postgres is in ssl-cert, as Debian makes it");
    // Group-writable: root opens nothing there, so that it is the group that lets the owner in.
    chown(&ground.wal, Some(0), Some(group.as_raw())).unwrap();
    fs::set_permissions(&ground.wal, fs::Permissions::from_mode(0o770)).unwrap();
    for entry in fs::read_dir(&ground.wal).unwrap().flatten() {
        chown(entry.path(), Some(0), Some(group.as_raw())).unwrap();
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o640)).unwrap();
    }
    ground.there_and_back(&[]);
}

/// Two archive directories, one on a filesystem that is mounted read-only; plain, gzip, zstd and lz4 side by side.
#[test]
fn an_archive_in_several_places_and_forms() {
    let scratch = Scratch::new("forms");
    let ground = Ground::new(&scratch);
    let second = scratch.dir("second", "postgres", "postgres", 0o755);
    scratch.mount_tmpfs(&second, 64);
    for (number, name) in ground.needed.iter().enumerate() {
        let from = ground.wal.join(name);
        let to = |suffix: &str| second.join(format!("{name}{suffix}"));
        match number % 4 {
            0 => continue,
            1 => pack(program("gzip").arg("-c").arg(&from), &to(".gz")),
            2 => pack(program("zstd").args(["-q", "-c"]).arg(&from), &to(".zst")),
            _ => pack(program("lz4").args(["-q", "-c"]).arg(&from), &to(".lz4")),
        }
        fs::remove_file(&from).unwrap();
    }
    program::ok(program("mount").args(["-o", "remount,ro"]).arg(&second));
    let mut pitr = Pitr::for_cluster(&scratch, &ground.cluster);
    pitr.set("database", DATABASE);
    pitr.set("wal_archive", vec![ground.wal.to_str().unwrap(), second.to_str().unwrap()]);
    let ground = Ground { pitr, ..ground };
    ground.there_and_back(&[]);
}

fn pack(command: &mut std::process::Command, to: &Path) {
    let ended = command.stdout(fs::File::create(to).unwrap()).status().unwrap();
    assert!(ended.success(), "{command:?}");
    fs::set_permissions(to, fs::Permissions::from_mode(0o644)).unwrap();
}

/// Where the WAL that tells of a migration is in an archive that only root may read.
#[test]
fn a_migration_is_found_in_an_archive_of_roots() {
    let scratch = Scratch::new("root-migration");
    let ground = Ground::new(&scratch);
    ground.cluster.switch_wal();
    ground.cluster.archive_caught_up();
    for entry in fs::read_dir(ground.cluster.archive.as_ref().unwrap()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let copy = ground.wal.join(&name);
        fs::copy(entry.path(), &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
        if name.len() == 24 {
            let _ = fs::remove_file(ground.cluster.data.join("pg_wal").join(&name));
        }
    }

    let listed = ground.pitr.json(&["migrations"]);
    let last = listed["migrations"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["version"], &last["how"], &last["recoverable"]), (&"123".into(), &"mark".into(), &true.into()), "{listed:#}");
    // The second time the segments are not read again; nothing is told differently.
    assert_eq!(ground.pitr.json(&["migrations"]), listed);
    let plan = ground.pitr.json(&["plan", "--before-migration", "123"]);
    assert_eq!(plan["target"]["lsn"], last["lsn"], "{plan:#}");
}
