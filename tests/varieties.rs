//! Clusters as they are made elsewhere: the largest segments, another bootstrap role, another language, ICU, an archive library,
//! huge pages, sockets anywhere; and pages of a size that pitr does not read.

use std::fs;
use std::path::PathBuf;

use crate::support::cluster::Builder;
use crate::support::majors;
use crate::support::program::{self, program};
use crate::support::scratch::give;
use crate::support::story::{self, DATABASE};
use crate::support::{Pitr, Scratch, Story, TestCluster};

majors::on_each_major! {
    a_cluster_of_another_country => |major| super::run(major, super::a_cluster_of_another_country),
}

fn run(major: u32, case: fn(&Scratch, Builder<'_>)) {
    majors::play("kind", major, case);
}

/// A German locale below the scratch directory: the server finds it by `LOCPATH`, and says everything in German where its
/// programs come with translations.
fn german(scratch: &Scratch) -> PathBuf {
    let place = scratch.dir("locales", "root", "root", 0o755);
    let mut command = program("localedef");
    program::ok(command.args(["--no-archive", "-i", "de_DE", "-f", "UTF-8"]).arg(place.join("de_DE.UTF-8")));
    place
}

/// Nothing in it is called `postgres`, nothing is said in English, and what production insists upon a second server cannot have.
fn a_cluster_of_another_country(scratch: &Scratch, builder: Builder<'_>) {
    let locales = german(scratch);
    let second = scratch.dir("second socket", "postgres", "postgres", 0o755);
    let programs = majors::programs(major_of(&builder));
    let mut builder = builder
        .bootstrap_role("Ümit the admin")
        .environment("LOCPATH", locales.to_str().unwrap())
        .conf("lc_messages = 'de_DE.UTF-8'")
        .conf("lc_time = 'de_DE.UTF-8'")
        .conf("log_timezone = 'Europe/Berlin'");
    // ICU as provider of a cluster is 15's, and not in every source of programs; an archive library likewise.
    let icu = programs.major == 15;
    if icu {
        builder = builder.initdb_option("--locale-provider=icu").initdb_option("--icu-locale=de-DE");
    }
    let library = [15, 17, 18].contains(&programs.major);
    let archive = scratch.path().join("main/archive");
    if library {
        let place = format!("basic_archive.archive_directory = '{}'", archive.display());
        builder = builder.conf("archive_command = ''").conf("archive_library = 'basic_archive'").conf(&place);
    }
    let cluster = builder.create();
    let more = format!(
        "data_directory = '{}'\nunix_socket_directories = '{}, \"{}\"'\nhuge_pages = on\n",
        cluster.data.display(),
        cluster.socket.dir.display(),
        second.display()
    );
    let conf = fs::read_to_string(&cluster.conf_file).unwrap();
    fs::write(&cluster.conf_file, format!("{conf}\n{more}")).unwrap();
    // Where there are none the server starts by an option that beats the file; no other server knows that option.
    cluster.start_with(&["-c huge_pages=try"]);
    let story = Story::begin(&cluster);
    cluster.basebackup_tar("nightly", true);
    let target = story.work(10);
    let last = story.migrate(123).after;
    cluster.archive_caught_up();
    let mut pitr = Pitr::for_runbook(scratch, &cluster);
    pitr.set("user", cluster.user.as_str());
    let german = || fs::read_to_string(&cluster.log).unwrap().contains("Datenbanksystem ist bereit");
    assert!(german() || programs.major != 15, "{}", cluster.log_tail());
    let restored = pitr.json(&["restore", "--yes", "--before-time", &target.time]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert!(restored["checks"].as_array().unwrap().len() >= 3, "{restored}");
    assert_eq!(story::facts(&cluster, DATABASE), target.facts);
    assert_eq!(cluster.sql("postgres", "SHOW lc_messages"), "de_DE.UTF-8");
    assert_eq!(cluster.sql("postgres", "SHOW huge_pages"), "try");
    if icu {
        let provider = "SELECT datlocprovider FROM pg_database WHERE datname = current_database()";
        assert_eq!(cluster.sql(DATABASE, provider), "i");
    }
    cluster.archive_caught_up();
    let undone = pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{undone}");
    assert_eq!(story::facts(&cluster, DATABASE), last.facts);
    cluster.archive_caught_up();
    pitr.assert_nothing_left();
}

fn major_of(builder: &Builder<'_>) -> u32 {
    builder.programs().major
}

/// Little data in the largest segments there are. Every switch to another writes a gibibyte.
#[test]
#[ignore = "scripts/test-majors"]
fn segments_of_a_gibibyte() {
    let scratch = &Scratch::new("gibibyte");
    let builder = TestCluster::builder(scratch, "main").segment_mib(1024);
    let cluster = builder.conf("wal_init_zero = off").conf("wal_recycle = off").conf("max_wal_size = 2GB").start();
    let story = Story::begin(&cluster);
    cluster.pg_basebackup("nightly", &["-Ft", "-z", "-X", "none"]);
    let target = story.work(10);
    let last = story.migrate(123).after;
    let pitr = Pitr::for_cluster(scratch, &cluster);
    let restored = pitr.json(&["restore", "--yes", "--before-time", &target.time]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(story::facts(&cluster, DATABASE), target.facts);
    let undone = pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{undone}");
    assert_eq!(story::facts(&cluster, DATABASE), last.facts);
}

/// What a server with pages of another size would have written: told by pg_control, with its checksum right.
#[test]
fn pages_of_another_size_are_refused() {
    let scratch = Scratch::new("pages");
    let cluster = TestCluster::builder(&scratch, "main").start();
    let story = Story::begin(&cluster);
    let backup = cluster.pg_basebackup("nightly", &["-Fp", "--no-manifest"]);
    let target = story.work(3);
    story.work(1);
    cluster.archive_caught_up();
    cluster.stop();
    let pitr = Pitr::for_cluster(&scratch, &cluster);
    let plan = ["plan", "--before-lsn", &target.lsn, "--accept", "no-manifest"];
    let ids = |code: i32| {
        let plan = pitr.json_code(code, &plan);
        plan["refusals"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(0), [] as [String; 0]);
    let own = cluster.data.join("global/pg_control");
    let whole = fs::read(&own).unwrap();
    for (offset, size) in [(216, 16384_u32), (216, 32768), (224, 4096), (224, 65536)] {
        fs::write(&own, forged(&whole, offset, size)).unwrap();
        assert!(ids(3).contains(&"block-size".to_string()), "{offset}: {size}");
    }
    fs::write(&own, &whole).unwrap();
    let theirs = backup.join("global/pg_control");
    fs::write(&theirs, forged(&fs::read(&theirs).unwrap(), 216, 16384)).unwrap();
    give(&theirs, "postgres", "postgres", 0o600);
    assert_eq!(ids(3), ["no-usable-backup"]);
}

/// pg_control of 13 to 17 with another number at `offset` (`ControlFileData`: `blcksz` 216, `xlog_blcksz` 224).
fn forged(control: &[u8], offset: usize, value: u32) -> Vec<u8> {
    let mut bytes = control.to_vec();
    bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..288]);
    bytes[288..292].copy_from_slice(&crc.to_le_bytes());
    bytes
}
