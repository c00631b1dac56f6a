//! What is kept of WAL that was read: it changes no answer, spares reading, and tells nobody what he may not read himself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::program::{self, program};
use crate::support::scratch::give;
use crate::support::{Pitr, Scratch, TestCluster};

fn entries(state: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![state.join("index")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() { open.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found.sort();
    found
}

/// Files that changed just now are not kept: they could change again unseen.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(3500));
}

/// Runs `pitr ARGS`: its exit code, and which of `files` were read beyond the first pages, by which a listing knows whose
/// they are.
fn files_read(scratch: &Scratch, pitr: &mut Pitr, files: &[PathBuf], args: &[&str]) -> (i32, BTreeSet<PathBuf>) {
    const LOOK: u64 = 64 << 10;
    let trace = scratch.path().join("reads");
    let strace = ["strace", "-D", "-f", "-y", "-qq", "-s", "0", "-e", "trace=read,pread64,readv,preadv,sendfile,copy_file_range", "-o"];
    let words = strace.iter().copied().chain([trace.to_str().unwrap(), "--"]);
    pitr.within(words.map(str::to_string).collect());
    let code = pitr.run(args).code;
    pitr.within(vec![]);
    let mut bytes: BTreeMap<PathBuf, u64> = BTreeMap::new();
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    let text = String::from_utf8_lossy(&fs::read(&trace).unwrap()).into_owned();
    for (thread, call) in text.lines().filter_map(|line| line.split_once(' ')) {
        // `7 read(5</path>, ""..., 8192) = 8192`, in one line or two.
        if call.contains("<unfinished") {
            begun.insert(thread, call);
            continue;
        }
        let start = if call.contains(" resumed>") { begun.remove(thread).unwrap() } else { call };
        let Some((_, path)) = start.split_once('<') else { continue };
        let read: u64 = call.rsplit_once("= ").and_then(|(_, number)| number.parse().ok()).unwrap_or(0);
        *bytes.entry(PathBuf::from(path.split_once('>').unwrap().0)).or_default() += read;
    }
    (code, files.iter().filter(|file| bytes.get(*file).is_some_and(|read| *read > LOOK)).cloned().collect())
}

fn in_directory(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// Two archives, one of which only root may read. What was read and did not change since is not read again, by `log` and by
/// `verify wal`, which compares the copies; a copy that changed is, and no time that was put back hides that.
#[test]
fn what_did_not_change_is_not_read_again() {
    let scratch = Scratch::new("incremental");
    let cluster = TestCluster::builder(&scratch, "main").segment_mib(1).archiver_switch().start();
    cluster.basebackup_plain("plain");
    for n in 0..4 {
        cluster.sql("postgres", &format!("CREATE TABLE t{n} AS SELECT generate_series(1, 500) AS id"));
        cluster.switch_wal();
    }
    cluster.archive_caught_up();
    cluster.stop();
    let first = cluster.archive.clone().unwrap();
    let second = scratch.dir("vault/wal", "root", "root", 0o700);
    let is_segment = |path: &PathBuf| path.file_name().unwrap().len() == 24;
    for path in in_directory(&first).into_iter().filter(is_segment) {
        let copy = second.join(path.file_name().unwrap());
        fs::copy(&path, &copy).unwrap();
        give(&copy, "root", "root", 0o600);
    }
    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    pitr.set("wal_archive", vec![first.to_str().unwrap(), second.to_str().unwrap()]);
    let copies: Vec<PathBuf> = in_directory(&second);
    let files: Vec<PathBuf> = in_directory(&first).into_iter().filter(is_segment).chain(copies.clone()).collect();
    assert!(copies.len() >= 5, "{copies:?}");
    settle();
    let verify: &[&str] = &["verify", "wal"];
    let (code, read) = files_read(&scratch, &mut pitr, &files, verify);
    assert_eq!((code, read.len()), (0, files.len()), "{read:?}");
    for args in [verify, &["log"], &["log", "-t", "t1"]] {
        let (code, read) = files_read(&scratch, &mut pitr, &files, args);
        assert_eq!((code, read), (0, BTreeSet::new()), "{args:?}");
    }

    // Behind the segment switch, where no checksum looks.
    let victim = &copies[2];
    let before = fs::metadata(victim).unwrap();
    let file = fs::OpenOptions::new().write(true).open(victim).unwrap();
    file.write_all_at(&[0x55], before.len() - 1).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    drop(file);
    let now = fs::metadata(victim).unwrap();
    assert_eq!((now.mtime(), now.mtime_nsec(), now.len(), now.ino()), (before.mtime(), before.mtime_nsec(), before.len(), before.ino()));
    let (code, read) = files_read(&scratch, &mut pitr, &files, verify);
    assert_eq!((code, read), (6, BTreeSet::from([victim.clone()])));
    settle();
    let told = pitr.json_code(6, verify);
    let problems: Vec<&str> = told["problems"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
    let original = first.join(victim.file_name().unwrap());
    let words = format!("{} and {} do not have the same content", original.display(), victim.display());
    assert_eq!((problems, told["holes"].as_array().map(Vec::len)), (vec![words.as_str()], Some(0)), "{told}");
    // What differs is still told when nothing is read any more.
    let (code, read) = files_read(&scratch, &mut pitr, &files, verify);
    assert_eq!((code, read), (6, BTreeSet::new()));

    // A copy that is gone is compared with nothing, and one that cannot be read to its end is named.
    fs::remove_file(victim).unwrap();
    assert_eq!(files_read(&scratch, &mut pitr, &files, verify), (0, BTreeSet::new()));
    let packed = program("gzip").arg("-c").arg(&original).output().unwrap().stdout;
    let torn = PathBuf::from(format!("{}.gz", victim.display()));
    fs::write(&torn, &packed[..packed.len() / 2]).unwrap();
    let told = pitr.json_code(6, verify);
    assert!(told["problems"][0].as_str().unwrap().contains(&format!("{} cannot be read to its end", torn.display())), "{told}");
    fs::write(&torn, &packed).unwrap();
    assert_eq!(pitr.json(verify)["whole"], Value::Bool(true));
    nobody_else_reads(&pitr.state);
}

/// WAL of the directory that a recovery put aside, which is root's, is found in the index too.
#[test]
fn wal_of_an_aside_is_not_read_again() {
    let scratch = Scratch::new("aside-index");
    let cluster = TestCluster::builder(&scratch, "main").segment_mib(1).archiver_switch().start();
    cluster.basebackup_plain("plain");
    cluster.sql("postgres", "CREATE TABLE kept AS SELECT 1 AS id");
    let target = cluster.wal_lsn();
    cluster.fail_archiving(true);
    for n in 0..3 {
        cluster.sql("postgres", &format!("CREATE TABLE lost{n} AS SELECT 1 AS id"));
        cluster.switch_wal();
    }
    let mut pitr = Pitr::for_cluster(&scratch, &cluster);
    let restored = pitr.json(&["restore", "--yes", "--before-lsn", &target]);
    assert_eq!(restored["outcome"], "switched", "{restored}");
    let run = cluster.parent().join(format!(".pitr-{}", restored["run"].as_str().unwrap()));
    let aside = in_directory(&run).into_iter().map(|path| path.join("pg_wal")).find(|path| path.is_dir()).unwrap();
    let files: Vec<PathBuf> = in_directory(&aside).into_iter().filter(|path| path.file_name().unwrap().len() == 24).collect();
    settle();
    let log: &[&str] = &["log", "--timeline", "1", "-o", "json"];
    let (code, read) = files_read(&scratch, &mut pitr, &files, log);
    assert!(code == 0 && read.len() >= 3, "{read:?}");
    let told = pitr.run(log).expect_code(0).stdout;
    assert!(told.contains("lost2"), "{told}");
    let (code, again) = files_read(&scratch, &mut pitr, &files, log);
    // The end of WAL is in a segment that nothing is kept of.
    assert!(code == 0 && again.len() <= 1, "{again:?} of {read:?}");
    assert_eq!(pitr.run(log).expect_code(0).stdout, told);
    nobody_else_reads(&pitr.state);
}

fn nobody_else_reads(state: &Path) {
    let entries = entries(state);
    assert!(entries.iter().any(|path| path.to_str().unwrap().contains("/index/")), "{entries:?}");
    for path in &entries {
        let shown = program::output(program::as_postgres("cat").arg(path));
        assert_ne!(shown.code, 0, "{}", path.display());
    }
}

/// What was read is kept, and used; damaged, outdated and deleted entries change no answer, nor does what a later
/// program would keep; nobody but root reads or writes there.
#[test]
fn what_is_kept_of_the_wal_never_changes_an_answer() {
    let scratch = Scratch::new("index");
    let cluster = TestCluster::builder(&scratch, "main").conf("autovacuum = off").archiver_switch().start();
    cluster.sql("postgres", "CREATE TABLE t AS SELECT 1 AS id");
    let pitr = Pitr::for_cluster(&scratch, &cluster);
    for n in 0..6 {
        cluster.sql("postgres", &format!("CREATE TABLE t{n} AS SELECT generate_series(1, 500) AS id; DELETE FROM t WHERE id = {n}"));
        cluster.sql("postgres", &format!("INSERT INTO t VALUES ({n}); UPDATE t{n} SET id = 0"));
        cluster.sql("postgres", "VACUUM FULL t");
        cluster.sql("postgres", &format!("TRUNCATE t{n}"));
        cluster.switch_wal();
    }
    cluster.archive_caught_up();
    settle();
    let archive = cluster.archive.as_ref().unwrap().to_str().unwrap().to_string();
    let questions: [&[&str]; 6] = [
        &["log", "-o", "json", "--wal", &archive],
        &["log", "-o", "json", "--wal", &archive, "--deletes"],
        &["log", "-o", "json", "--wal", &archive, "--ddl"],
        &["log", "-o", "json", "-t", "t"],
        &["log", "-o", "json", "-t", "t3"],
        &["verify", "wal", "--wal", &archive, "-o", "json"],
    ];
    let ask = || -> Vec<String> { questions.iter().map(|question| pitr.run(question).expect_code(0).stdout).collect() };
    let first = ask();
    assert!(first[3].lines().count() >= 12, "{}", first[3]);
    let kept = entries(&pitr.state);
    assert!(kept.len() >= 6, "{kept:?}");
    for path in &kept {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(path).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o777), (0, 0o600), "{}", path.display());
    }
    assert_eq!(ask(), first, "from the index");

    for (n, path) in kept.iter().enumerate() {
        let mut bytes = fs::read(path).unwrap();
        match n % 4 {
            0 => bytes.truncate(bytes.len() / 2),
            1 => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            2 => bytes[8] ^= 0x40,
            _ => bytes.clear(),
        }
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(ask(), first, "damaged entries are made anew");
    assert_eq!(ask(), first);
    // One entry under another's name: it is of another file.
    fs::copy(&kept[0], &kept[1]).unwrap();
    assert_eq!(ask(), first);
    fs::remove_dir_all(pitr.state.join("index")).unwrap();
    assert_eq!(ask(), first, "deleting loses nothing");

    // A segment that changes is read again.
    let victim = PathBuf::from(&archive).join(kept[2].file_name().unwrap());
    let mut bytes = fs::read(&victim).unwrap();
    bytes[20_000] ^= 1;
    fs::write(&victim, bytes).unwrap();
    let broken = pitr.run(&["verify", "wal", "--wal", &archive, "-o", "json"]).expect_code(6);
    assert!(broken.stdout.contains("is damaged at"), "{}", broken.stdout);
    fs::remove_file(&victim).unwrap();
    pitr.run(&["verify", "wal", "--wal", &archive, "-o", "json"]).expect_code(6);
    let left = entries(&pitr.state);
    assert!(!left.iter().any(|path| path.file_name() == victim.file_name()), "an entry of a file that is gone: {left:?}");
}
