//! Libraries with background workers: they act on what serves, never on what is being recovered (pitfalls B7).

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::cluster::Builder;
use crate::support::majors;
use crate::support::program::{self, program};
use crate::support::scratch::give;
use crate::support::stand::{Serves, Stand, matrix};
use crate::support::story::{self, DATABASE};
use crate::support::{Pitr, Scratch, Story, TestCluster, wait_until};

/// Debian's pg_cron with a job that runs at each start: a scheduler in the private promotion would run it there too.
fn with_cron(builder: Builder<'_>) -> Builder<'_> {
    builder.conf("shared_preload_libraries = 'pg_stat_statements, pg_cron'").conf("cron.use_background_workers = on")
}

const JOB: &str = "CREATE EXTENSION pg_cron; CREATE TABLE boots (at timestamptz);
    SELECT cron.schedule('@reboot', 'INSERT INTO boots VALUES (clock_timestamp())')";

fn boots(cluster: &TestCluster) -> u32 {
    cluster.sql("postgres", "SELECT count(*) FROM boots").parse().unwrap()
}

#[track_caller]
fn booted(cluster: &TestCluster, times: u32) {
    wait_until(30, "the job of the start", || boots(cluster) >= times);
    assert_eq!(boots(cluster), times);
}

/// What the private servers of the newest run said.
fn private_log(pitr: &Pitr) -> String {
    let mut runs: Vec<PathBuf> = fs::read_dir(pitr.state.join("runs")).unwrap().flatten().map(|e| e.path()).collect();
    runs.sort();
    fs::read_to_string(runs.last().unwrap().join("server.log")).unwrap()
}

/// In the log of every server in which the scheduler is at work.
const AT_WORK: &str = "pg_cron scheduler started";

#[test]
fn a_scheduler_runs_its_jobs_where_the_cluster_serves_and_nowhere_else() {
    let scratch = Scratch::new("cron");
    let cluster = with_cron(TestCluster::builder(&scratch, "main")).start();
    let story = Story::begin(&cluster);
    cluster.sql("postgres", JOB);
    cluster.stop();
    cluster.start();
    booted(&cluster, 1);
    assert!(fs::read_to_string(&cluster.log).unwrap().contains(AT_WORK));
    cluster.cron_tarball("base-20261121.tar.gz", None);
    let target = story.work(10);
    let last = story.migrate(123).after;
    let pitr = Pitr::for_cluster(&scratch, &cluster);
    let plan = pitr.json(&["plan", "--before-time", &target.time]);
    let texts = plan.to_string();
    assert!(texts.contains("start privately again without pg_cron, to the same pause"), "{texts}");
    let told = plan["consequences"].as_array().unwrap().iter().any(|c| c["id"] == "preloaded-libraries");
    assert!(told, "{texts}");

    for (target, expected) in [(["--before-time", target.time.as_str()].as_slice(), &target), (&["--to-latest"], &last)] {
        let old = boots(&cluster);
        let there = if expected == &last { old } else { 1 };
        let restored = pitr.json(&[&["restore", "--yes"], target].concat());
        assert_eq!(restored["outcome"], "switched", "{restored}");
        // The private servers had the job in their tables, and the library while they were paused; it began no work.
        assert!(!private_log(&pitr).contains(AT_WORK), "{}", private_log(&pitr));
        booted(&cluster, there + 1);
        assert_eq!(story::facts(&cluster, DATABASE), expected.facts);
        let undone = pitr.json(&["undo", "--yes"]);
        assert_eq!(undone["outcome"], "undone", "{undone}");
        assert!(!private_log(&pitr).contains(AT_WORK), "{}", private_log(&pitr));
        booted(&cluster, old + 1);
        assert_eq!(story::facts(&cluster, DATABASE), last.facts);
    }
}

/// Killed around the second private start, for a target in the middle and for latest, where that start cannot pause:
/// `resume` ends in the recovered cluster, `undo` in the old one.
#[test]
fn killed_around_the_second_private_start() {
    let scratch = Scratch::new("unload");
    let mut stand = Stand::new(&scratch, with_cron(TestCluster::builder(&scratch, "main")));
    // They are of the target in the middle.
    stand.pitr.unset("checks");
    let latest = ["restore", "--yes", "--to-latest", "-o", "json"];
    let places = [("begun unload", true), ("applied unload", false), ("done unload", true), ("applied promote", true)];
    let entries: Vec<(bool, &str, bool)> =
        places.iter().flat_map(|(at, goes_on)| [(false, *at, *goes_on), (true, *at, *goes_on)]).collect();
    matrix(&stand, &entries, |(to_latest, at, goes_on)| {
        let args = if *to_latest { latest.as_slice() } else { &stand.restore() };
        stand.pitr.crash_at(at, args);
        stand.pitr.assert_nothing_left();
        stand.assert_open();
        let (verb, outcome) = if *goes_on { ("resume", "switched") } else { ("undo", "undone") };
        let done = stand.pitr.json(&[verb, "--yes"]);
        assert_eq!(done["outcome"], outcome, "{done}");
        stand.assert_serves(if *goes_on && !*to_latest { Serves::New } else { Serves::Old });
        assert!(!private_log(&stand.pitr).contains(AT_WORK), "{}", private_log(&stand.pitr));
    });
}

/// WAL that only an extension can replay: its library stays where the others go.
#[test]
fn a_library_that_the_wal_needs_stays() {
    let tried: Vec<u32> = [16, 18].into_iter().filter(|major| with_own_libraries(*major)).collect();
    assert!(!tried.is_empty() || [16, 18].into_iter().all(|major| majors::available(major).is_none()), "no major was tried");
}

fn with_own_libraries(major: u32) -> bool {
    let Some(programs) = majors::available(major) else { return false };
    let scratch = Scratch::new("rmgr");
    let worker = compile(&scratch, &programs.bin, "worker");
    let manager = compile(&scratch, &programs.bin, "manager");
    let preloaded = format!("shared_preload_libraries = '{}, {}'", worker.display(), manager.display());
    let cluster = TestCluster::builder(&scratch, "main").major(major).conf(&preloaded).start();
    let story = Story::begin(&cluster);
    let log = |text: &str| cluster.sql("postgres", &format!("SELECT write_custom('{text}')"));
    let define = format!("CREATE FUNCTION write_custom(text) RETURNS pg_lsn LANGUAGE c STRICT AS '{}', 'write_custom'", manager.display());
    cluster.sql("postgres", &define);
    cluster.basebackup_tar("nightly", false);
    story.work(2);
    log("before the target");
    let target = story.work(5);
    story.migrate(123);
    let pitr = Pitr::for_cluster(&scratch, &cluster);
    let plan = pitr.json(&["plan", "--before-lsn", &target.lsn]);
    let needed = plan["consequences"].as_array().unwrap().iter().find(|c| c["id"] == "resource-managers");
    assert!(needed.is_some_and(|c| c["text"].as_str().unwrap().contains("number 128")), "{plan}");
    let settings = fs::read_to_string(&cluster.conf_file).unwrap();
    fs::write(&cluster.conf_file, format!("{settings}\nshared_preload_libraries = ''\n")).unwrap();
    let plan = pitr.json_code(3, &["plan", "--before-lsn", &target.lsn]);
    assert_eq!(plan["refusals"][0]["id"], "no-resource-manager", "{plan}");
    fs::write(&cluster.conf_file, settings).unwrap();
    let run = pitr.run(&["restore", "--yes", "--before-lsn", &target.lsn, "-o", "json"]);
    if run.code != 0 {
        // Once the old cluster's pg_control was another than after the stop: whatever shows who wrote it is wanted.
        let list = |path: &Path| program::output(program::program("ls").args(["-la", "--time-style=full-iso"]).arg(path)).stdout;
        let archive = cluster.archive.clone().unwrap();
        let places = [cluster.data.clone(), cluster.data.join("global"), cluster.data.join("pg_wal"), archive];
        places.iter().for_each(|place| eprintln!("--- {}\n{}", place.display(), list(place)));
        eprintln!("--- pg_control now\n{:#?}\n--- private servers\n{}", cluster.pg_controldata(), private_log(&pitr));
    }
    let restored = run.expect_code(0).json();
    assert_eq!(restored["outcome"], "switched", "{restored}");
    assert_eq!(story::facts(&cluster, DATABASE), target.facts);
    let said = private_log(&pitr);
    assert!(said.contains("resource manager with ID 128 not registered"), "the WAL does not need it: {said}");
    assert!(said.contains("custom record: before the target"), "it was not replayed: {said}");
    assert!(!said.contains("worker at work"), "{said}");
    assert!(fs::read_to_string(&cluster.log).unwrap().contains("worker at work"), "a worker that never works proves nothing");
    let undone = pitr.json(&["undo", "--yes"]);
    assert_eq!(undone["outcome"], "undone", "{undone}");
    true
}

/// Compiles `tests/fixtures/libraries/NAME.c` against the headers beside `bin`.
fn compile(scratch: &Scratch, bin: &Path, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/libraries/{name}.c"));
    let library = scratch.dir("libraries", "root", "root", 0o755).join(format!("{name}.so"));
    let base = bin.parent().unwrap().join("include");
    let headers = ["server", "postgresql/server"].map(|sub| base.join(sub)).into_iter().find(|dir| dir.join("postgres.h").is_file());
    let headers = headers.unwrap_or_else(|| panic!("no headers of the server below {}", base.display()));
    program::ok(
        program("gcc")
            .args(["-shared", "-fPIC", "-O1", "-I"])
            .arg(headers)
            .arg(format!("-DWORKER_LIBRARY=\"{}\"", library.display()))
            .arg("-o")
            .arg(&library)
            .arg(source),
    );
    give(&library, "root", "root", 0o755);
    library
}
