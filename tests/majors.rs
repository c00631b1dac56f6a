//! PostgreSQL 13 to 18: the private server's settings, and recoveries from both kinds of backup.
//!
//! A major whose programs are not there is skipped with a loud line. `scripts/test` runs one restore and one undo on
//! each, `scripts/test-majors` everything.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use pitr::pg::version::{FLOORS, OBSERVED, private_settings};

use crate::support::cluster::Builder;
use crate::support::majors::{self, Programs};
use crate::support::program;
use crate::support::story::{self, DATABASE, Migration, Point};
use crate::support::{Pitr, Scratch, Story, TestCluster};

/// One module a major: a filter such as `majors::pg17` runs what there is for it.
macro_rules! majors {
    ($($name:ident $major:literal $($slow:literal)?;)*) => {$(
        mod $name {
            /// In `scripts/test` too, but 15, which all other tests are about.
            #[test]
            $(#[ignore = $slow])?
            fn restored_from_a_cron_tarball_and_undone() {
                super::run($major, super::restored_from_a_cron_tarball_and_undone);
            }

            #[test]
            #[ignore = "scripts/test-majors"]
            fn every_target_from_pg_basebackup() {
                super::run($major, super::every_target_from_pg_basebackup);
            }

            #[test]
            #[ignore = "scripts/test-majors"]
            fn restored_while_stopped() {
                super::run($major, super::restored_while_stopped);
            }
        }
    )*};
}
majors! { pg13 13; pg14 14; pg15 15 "scripts/test-majors"; pg16 16; pg17 17; pg18 18; }

fn run(major: u32, case: fn(&Scratch, Builder<'_>)) {
    if majors::available(major).is_none() {
        return;
    }
    let scratch = Scratch::new(&format!("pg{major}"));
    case(&scratch, hostile(TestCluster::builder(&scratch, "main").major(major), major));
}

/// Settings of production that would blind, stop or mislead a private server that kept them.
fn hostile(builder: Builder<'_>, major: u32) -> Builder<'_> {
    let lines = [
        // Puts an SQLSTATE between "LOG:" and the words that replay is watched by.
        (13, "log_error_verbosity = verbose"),
        (13, "default_transaction_isolation = 'serializable'"),
        (13, "statement_timeout = '20s'"),
        (14, "idle_session_timeout = '20s'"),
        (17, "transaction_timeout = '20s'"),
        (17, "summarize_wal = on"),
    ];
    // A library that could act: every recovery has its second private start. 16's source brings no other.
    let builder = builder.conf(&format!("shared_preload_libraries = '{}'", if major == 16 { "vector" } else { "pg_prewarm" }));
    lines.iter().filter(|(since, _)| *since <= major).fold(builder, |builder, (_, line)| builder.conf(line))
}

/// The private server's settings exist on each major, and the rows that leave a major out do so with reason.
#[test]
fn every_override_is_one_that_the_major_knows() {
    let all: BTreeSet<&str> = majors::ALL.iter().flat_map(|major| private_settings(*major)).map(|(name, _)| name).collect();
    for programs in majors::ALL.into_iter().filter_map(majors::available) {
        let major = programs.major;
        let scratch = Scratch::new("overrides");
        let cluster = TestCluster::builder(&scratch, "main").major(major).create();
        let settings = private_settings(major);
        let asked = |name: &str| {
            let mut command = programs.tool("postgres");
            command.arg("-D").arg(&cluster.data).args(["-C", name]);
            for (name, value) in &settings {
                command.arg("-c").arg(format!("{name}={value}"));
            }
            program::output(&mut command)
        };
        for (name, value) in &settings {
            let said = asked(name);
            assert_eq!(said.code, 0, "{major}: {name}: {}", said.stderr);
            assert!(same_value(value, said.stdout.trim_end_matches('\n')), "{major}: {name}: {value}, {}", said.stdout);
        }
        for name in OBSERVED.iter().chain(FLOORS) {
            assert_eq!(asked(name).code, 0, "{major}: {name}: {}", asked(name).stderr);
        }
        for name in all.iter().filter(|name| !settings.iter().any(|(known, _)| known == *name)) {
            let said = asked(name);
            assert!(said.code != 0 && said.stderr.contains("unrecognized configuration parameter"), "{major} knows {name}: {said:?}");
        }
    }
}

/// `postgres -C` prints numbers in the setting's own unit; modes are octal, but on some majors decimal.
fn same_value(given: &str, said: &str) -> bool {
    let in_units = match given {
        "1s" => "1000",
        "0700" => "448",
        other => other,
    };
    said == given || said == in_units
}

fn restored_from_a_cron_tarball_and_undone(scratch: &Scratch, builder: Builder<'_>) {
    let ground = Ground::new(scratch, builder, |cluster| {
        cluster.cron_tarball("base-20261121.tar.gz", None);
    });
    ground.there_and_back(&["--before-time", &ground.lossy.before.time], &ground.lossy.before);
    ground.sound_files();
}

fn every_target_from_pg_basebackup(scratch: &Scratch, builder: Builder<'_>) {
    let ground = Ground::new(scratch, builder, |cluster| {
        let backup = cluster.basebackup_tar("nightly", true);
        assert!(backup.join("backup_manifest").is_file());
    });
    let dumps = scratch.dir("dumps", "root", "root", 0o700);
    let mut first = vec!["--to-time", ground.lossy.before.time.as_str()];
    if ground.cluster.programs.has("pg_dump") {
        first.extend(["--dump-before", dumps.to_str().unwrap(), "--dump-database", DATABASE]);
    }
    ground.there_and_back(&first, &ground.lossy.before);
    assert_eq!(fs::read_dir(&dumps).unwrap().count(), if first.len() > 2 { 2 } else { 0 }, "globals and one database");
    ground.there_and_back(&["--before-xid", &ground.lossy.first_xid], &ground.lossy.before);
    ground.there_and_back(&["--to-xid", &ground.lossy.before.xid], &ground.lossy.before);
    ground.there_and_back(&["--to-name", "before the migration"], &ground.named);
    ground.sound_files();
}

/// Nothing runs that could tell what the programs need: the configuration does, or the record of an earlier run, or it is
/// refused.
fn restored_while_stopped(scratch: &Scratch, builder: Builder<'_>) {
    let mut ground = Ground::new(scratch, builder, |cluster| {
        cluster.basebackup_tar("nightly", false);
    });
    let target = ["--before-time", ground.lossy.before.time.as_str()];
    if !ground.cluster.programs.environment.is_empty() {
        ground.cluster.stop();
        let refused = ground.pitr.json_code(3, &[&["plan"], target.as_slice()].concat());
        assert!(refused["error"]["hint"].as_str().unwrap().contains("Start the cluster"), "{refused}");
        ground.pitr.tell_environment(&ground.cluster);
        ground.restored(&target, &ground.lossy.before);
        assert_eq!(ground.pitr.json(&["undo", "--yes"])["outcome"], "undone");
        ground.pitr.unset("environment");
        ground.cluster.start();
        ground.serves(&ground.last);
    }
    ground.there_and_back(&target, &ground.lossy.before);
    ground.cluster.stop();
    ground.restored(&target, &ground.lossy.before);
    let undone = ground.pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{undone}");
    assert!(!ground.cluster.running(), "it did not run before the recovery");
    ground.cluster.start();
    ground.serves(&ground.last);
}

/// A cluster with a backup and a lossy migration after it.
struct Ground {
    cluster: TestCluster,
    pitr: Pitr,
    named: Point,
    lossy: Migration,
    last: Point,
}

impl Ground {
    fn new(scratch: &Scratch, builder: Builder<'_>, back_up: impl FnOnce(&TestCluster)) -> Ground {
        let cluster = builder.start();
        let story = Story::begin(&cluster);
        if cluster.programs.major >= 17 {
            cluster.sql(DATABASE, LOGIN_TRIGGER);
        }
        story.bulk(2);
        back_up(&cluster);
        // Without its pg_wal a backup is known to have ended by whole seconds only.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        story.work(10);
        let named = story.restore_point("before the migration");
        let lossy = story.migrate(123);
        let last = story.work(10);
        let pitr = Pitr::for_runbook(scratch, &cluster);
        Ground { cluster, pitr, named, lossy, last }
    }

    fn there_and_back(&self, target: &[&str], expected: &Point) {
        self.restored(target, expected);
        self.archives_on();
        self.undone();
        self.archives_on();
    }

    fn restored(&self, target: &[&str], expected: &Point) {
        let restored = self.pitr.json(&[&["restore", "--yes"], target].concat());
        assert_eq!(restored["outcome"], "switched", "{restored}");
        let checks = restored["checks"].as_array().unwrap();
        assert!(checks.len() >= 3 && checks.iter().all(|check| check["passed"] == true), "{restored}");
        self.serves(expected);
    }

    fn undone(&self) {
        let undone = self.pitr.json(&["undo", "--yes"]);
        assert_eq!(undone["outcome"], "undone", "{undone}");
        self.serves(&self.last);
    }

    fn serves(&self, expected: &Point) {
        assert_eq!(self.cluster.sql("postgres", "SELECT pg_is_in_recovery()"), "f");
        assert_eq!(story::facts(&self.cluster, DATABASE), expected.facts);
        assert_eq!(self.cluster.sql("postgres", "SHOW server_version_num")[..2], self.cluster.programs.major.to_string());
        assert_eq!(self.cluster.sql("postgres", "SHOW archive_command").matches("cp %p").count(), 1);
        self.pitr.assert_nothing_left();
    }

    /// What serves now archives its own timeline.
    fn archives_on(&self) {
        self.cluster.archive_caught_up();
        let timeline: u32 = self.cluster.sql("postgres", "SELECT timeline_id FROM pg_control_checkpoint()").parse().unwrap();
        let archive = self.cluster.archive.as_deref().unwrap();
        assert!(segments(archive, timeline) > 0, "no segment of timeline {timeline} in the archive");
    }

    /// Every page of the cluster has a right checksum.
    fn sound_files(&self) {
        self.cluster.stop();
        program::ok(self.cluster.tool("pg_checksums").arg("--check").arg("-D").arg(&self.cluster.data));
    }
}

/// Lets a login fail that cannot write: what a private server in recovery must not run into.
const LOGIN_TRIGGER: &str = "
CREATE TABLE logins (who text);
GRANT INSERT ON logins TO PUBLIC;
CREATE FUNCTION on_login() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.logins VALUES (session_user); END';
CREATE EVENT TRIGGER on_login ON login EXECUTE FUNCTION on_login();
ALTER EVENT TRIGGER on_login ENABLE ALWAYS;
";

fn segments(archive: &Path, timeline: u32) -> usize {
    let start = format!("{timeline:08X}");
    let names = fs::read_dir(archive).unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.len() == 24 && name.starts_with(&start)).count()
}

/// What the tests rely on: each major's programs say that they are of that major.
#[test]
fn the_programs_are_of_their_major() {
    for Programs { major, bin, environment } in majors::ALL.into_iter().filter_map(majors::available) {
        let said = program::ok(program::program(bin.join("postgres")).envs(environment).arg("--version"));
        assert!(said.starts_with(&format!("postgres (PostgreSQL) {major}.")), "{said}");
    }
}
