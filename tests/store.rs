//! Hostile and damaged backups, made in memory: what the extraction refuses, leaves out and reports.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use pitr::error::{Error, Kind, Result};
use pitr::store::{ExtractOptions, Extracted, Form, Label, Source, TablespaceTar, catalogue, extract, verify};
use pitr::sys::dir::Dir;
use sha2::Digest;

const CONTROL: &[u8] = include_bytes!("fixtures/pg/pg_control");
const LABEL: &[u8] = include_bytes!("fixtures/pg/backup_label");

/// A tar in the making.
#[derive(Clone, Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn raw(mut self, path: &[u8], flag: u8, target: &[u8], content: &[u8]) -> Tar {
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path);
        old.linkname[..target.len()].copy_from_slice(target);
        header.set_size(content.len() as u64);
        header.set_mode(0o7777);
        header.set_entry_type(tar::EntryType::new(flag));
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, content: &[u8]) -> Tar {
        self.raw(path.as_bytes(), b'0', b"", content)
    }

    fn dir(self, path: &str) -> Tar {
        self.raw(path.as_bytes(), b'5', b"", b"")
    }

    fn link(self, path: &str, target: &str) -> Tar {
        self.raw(path.as_bytes(), b'2', target.as_bytes(), b"")
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// The least that is a backup, below `root`.
fn minimal(root: &str) -> Tar {
    Tar::default()
        .file(&format!("{root}backup_label"), LABEL)
        .file(&format!("{root}PG_VERSION"), b"15\n")
        .dir(&format!("{root}base/1/"))
        .file(&format!("{root}base/1/1259"), &[7; 8192])
        .file(&format!("{root}global/pg_control"), CONTROL)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A manifest as the server writes it, for the fixture's label.
fn manifest(files: &[(&str, &[u8])]) -> Vec<u8> {
    let entry = |(path, content): &(&str, &[u8])| {
        let crc = hex::encode(crc32c::crc32c(content).to_le_bytes());
        let (size, modified) = (content.len(), "2026-11-21 23:03:32 GMT");
        format!(
            "{{ \"Path\": \"{path}\", \"Size\": {size}, \"Last-Modified\": \"{modified}\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"{crc}\" }}"
        )
    };
    let files = files.iter().map(entry).collect::<Vec<_>>().join(",\n");
    let ranges = "{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }";
    let body = format!("{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{files}\n],\n\"WAL-Ranges\": [\n{ranges}\n],\n");
    let digest = hex::encode(sha2::Sha256::digest(body.as_bytes()));
    format!("{body}\"Manifest-Checksum\": \"{digest}\"}}\n").into_bytes()
}

struct Bench {
    held: tempfile::TempDir,
    options: ExtractOptions,
}

impl Bench {
    fn new() -> Bench {
        let held = tempfile::tempdir().unwrap();
        for directory in ["backups", "staging", "wal", "ts"] {
            std::fs::create_dir(held.path().join(directory)).unwrap();
        }
        std::fs::write(held.path().join("outside"), "untouched").unwrap();
        Bench { held, options: ExtractOptions::default() }
    }

    fn path(&self, rel: &str) -> PathBuf {
        self.held.path().canonicalize().unwrap().join(rel)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::create_dir_all(self.path("backups").join(name).parent().unwrap()).unwrap();
        std::fs::write(self.path("backups").join(name), bytes).unwrap();
    }

    fn extract(&self, source: &Source) -> Result<Extracted> {
        std::fs::remove_dir_all(self.path("staging")).unwrap();
        std::fs::create_dir(self.path("staging")).unwrap();
        let extracted = extract(source, &Dir::open(self.path("staging")).unwrap(), &self.options, &mut |_| true);
        assert_eq!(std::fs::read(self.path("outside")).unwrap(), b"untouched");
        let verified = verify(source, &mut |_| true);
        match (&extracted, &verified) {
            (Ok(a), Ok(b)) => assert_eq!((a.files, a.verified, &a.label), (b.files, b.verified, &b.label)),
            // What is written nowhere can also not collide or lack a place.
            (Err(a), Err(b)) => assert_eq!(a.kind, b.kind),
            (Err(e), Ok(_)) => assert_eq!(e.kind, Kind::Failed, "{e}"),
            (Ok(_), Err(e)) => panic!("extracted what does not verify: {e}"),
        }
        extracted
    }

    fn tarball(&self, bytes: &[u8]) -> Result<Extracted> {
        self.put("t.tar", bytes);
        self.extract(&tarball(&self.path("backups/t.tar")))
    }

    fn staged(&self, rel: &str) -> Vec<u8> {
        std::fs::read(self.path("staging").join(rel)).unwrap()
    }

    fn has(&self, rel: &str) -> bool {
        self.path("staging").join(rel).symlink_metadata().is_ok()
    }
}

fn tarball(file: &Path) -> Source {
    Source { name: "t.tar".into(), form: Form::Tarball { file: file.into(), from_server: false } }
}

fn words(error: &Error) -> String {
    format!("{} / {}", error.what, error.cause.as_deref().unwrap_or(""))
}

#[test]
fn a_tarball_is_extracted_with_or_without_a_leading_directory() {
    let bench = Bench::new();
    for root in ["", "./", "main/", "data/", "var/lib/postgresql/15/main/", "base/"] {
        for bytes in [minimal(root).end(), gzip(&minimal(root).end())] {
            let extracted = bench.tarball(&bytes).unwrap();
            assert_eq!((extracted.files, extracted.major, extracted.verified), (4, 15, false), "{root}");
            assert_eq!(extracted.label.unwrap().start_lsn, pitr::pg::Lsn(0x2000028));
            assert_eq!(bench.staged("base/1/1259"), [7; 8192]);
            for directory in ["pg_wal/archive_status", "pg_replslot", "pg_notify", "pg_tblspc", "pg_twophase", "pg_commit_ts"] {
                assert!(bench.path("staging").join(directory).is_dir(), "{directory}");
            }
            assert!(!bench.has("pg_wal/summaries"));
        }
    }
}

#[test]
fn modes_are_those_of_a_data_directory_whatever_the_archive_says() {
    use std::os::unix::fs::PermissionsExt;
    let mut bench = Bench::new();
    for (group, file, directory) in [(false, 0o600, 0o700), (true, 0o640, 0o750)] {
        bench.options.group_access = group;
        bench.tarball(&minimal("").end()).unwrap();
        let mode = |rel: &str| std::fs::metadata(bench.path("staging").join(rel)).unwrap().permissions().mode() & 0o7777;
        assert_eq!([mode("base/1/1259"), mode("global/pg_control")], [file; 2]);
        assert_eq!([mode(""), mode("base"), mode("base/1"), mode("pg_wal/archive_status")], [directory; 4]);
    }
}

#[test]
fn nothing_leads_out_of_staging() {
    let bench = Bench::new();
    for (why, tar) in [
        ("..", minimal("").file("../outside", b"x")),
        ("..", minimal("").file("base/../../outside", b"x")),
        ("absolute", minimal("").file(bench.path("outside").to_str().unwrap(), b"x")),
        ("hard link", minimal("").raw(b"base/h", b'1', b"../../outside", b"")),
        ("special file", minimal("").raw(b"base/dev", b'3', b"", b"")),
        ("special file", minimal("").raw(b"base/fifo", b'6', b"", b"")),
        ("special file", minimal("").raw(b"base/odd", b'Z', b"", b"")),
        ("second data directory", minimal("a/").file("b/global/pg_control", CONTROL)),
        ("twice", minimal("").file("base/1/1259", b"x")),
        ("twice", minimal("").file("./base//1/1259", b"x")),
        ("without a name", minimal("").file(".", b"x")),
        ("sparse", minimal("").raw(b"base/s", b'S', b"", b"")),
    ] {
        let error = bench.tarball(&tar.end()).unwrap_err();
        assert!(words(&error).contains(why) || error.kind == Kind::Failed, "{why}: {}", words(&error));
    }
}

#[test]
fn links_are_reported_and_writing_through_them_is_impossible() {
    let bench = Bench::new();
    let target = bench.path("");
    let tar = minimal("").link("log", target.to_str().unwrap()).file("log/outside", b"x").link("pg_wal", "/mnt/wal").end();
    let extracted = bench.tarball(&tar).unwrap();
    assert_eq!(extracted.links, [("log".to_string(), target.to_str().unwrap().to_string()), ("pg_wal".into(), "/mnt/wal".into())]);
    assert_eq!(bench.staged("log/outside"), b"x");
    assert!(bench.path("staging/pg_wal/archive_status").is_dir());
}

#[test]
fn what_belongs_to_the_old_server_stays_out() {
    let mut bench = Bench::new();
    bench.options.wal_into = Some(bench.path("wal"));
    let dropped = [
        "postmaster.pid",
        "postmaster.opts",
        "pg_replslot/slot/state",
        "pg_stat_tmp/x.stat",
        "pg_wal/000000010000000000000001",
        "pg_wal/archive_status/000000010000000000000001.done",
        "base/1/pg_internal.init",
        "base/pgsql_tmp/pgsql_tmp1.0",
        "standby.signal",
        "recovery.signal",
        "pitr-20260426.run",
        "current_logfiles",
    ];
    let tar = dropped.iter().fold(minimal("main/"), |tar, name| tar.file(&format!("main/{name}"), b"x")).file("etc/fstab", b"x");
    let extracted = bench.tarball(&tar.dir("main/pg_replslot/slot").end()).unwrap();
    for name in dropped {
        assert!(!bench.has(name), "{name}");
    }
    assert!(!bench.has("pg_replslot/slot") && !bench.has("base/pgsql_tmp") && !bench.has("etc") && !bench.has("main"));
    assert_eq!(extracted.dropped_count, dropped.len() as u64 + 1);
    assert_eq!(std::fs::read_dir(bench.path("wal")).unwrap().count(), 0, "WAL of a copied directory proves nothing");
}

#[test]
fn a_directory_of_tars_is_extracted_and_verified() {
    let mut bench = Bench::new();
    bench.options.wal_into = Some(bench.path("wal"));
    bench.options.tablespaces = BTreeMap::from([(16384, bench.path("ts"))]);
    let map = format!("16384 {}\n", bench.path("elsewhere").display());
    // In the server's order: label and map first.
    let start = Tar::default().file("backup_label", LABEL).file("tablespace_map", map.as_bytes());
    let rest = minimal("").0.split_off(2 * 512);
    let base = Tar([start.0, rest].concat()).file("postmaster.pid", b"1\n").file("postgresql.auto.conf", b"edited");
    let space = Tar::default().dir("PG_15_202209061").file("PG_15_202209061/1/16385", b"rows");
    let wal = Tar::default().file("000000010000000000000002", b"wal").file("./archive_status/000000010000000000000002.done", b"");
    let relation = [7; 8192];
    let listed = [
        ("backup_label", LABEL),
        ("PG_VERSION", b"15\n"),
        ("base/1/1259", &relation),
        ("global/pg_control", CONTROL),
        ("tablespace_map", map.as_bytes()),
        ("pg_tblspc/16384/PG_15_202209061/1/16385", b"rows"),
        ("postgresql.auto.conf", b"before -R"),
    ];
    bench.put("b/base.tar.gz", &gzip(&base.clone().end()));
    bench.put("b/16384.tar", &space.clone().end());
    bench.put("b/pg_wal.tar", &wal.end());
    bench.put("b/backup_manifest", &manifest(&listed));

    let found = catalogue(&[bench.path("backups")]).unwrap();
    let [entry] = found.as_slice() else { panic!("{found:?}") };
    assert!(entry.is_usable(), "{:?}", entry.problems);
    assert!(entry.has_manifest && matches!(entry.label, Label::Found(_)));
    assert_eq!((entry.major, entry.end_lsn(), entry.unpacked_bytes.is_some()), (Some(15), Some(pitr::pg::Lsn(0x2000100)), true));
    assert_eq!(entry.tablespaces, [(16384, bench.path("elsewhere").to_str().unwrap().to_string())]);

    let json = serde_json::to_string(&entry.source).unwrap();
    let source: Source = serde_json::from_str(&json).unwrap();
    let extracted = bench.extract(&source).unwrap();
    assert!(extracted.verified);
    assert_eq!(extracted.wal, ["000000010000000000000002"]);
    assert_eq!(std::fs::read(bench.path("ts/PG_15_202209061/1/16385")).unwrap(), b"rows");
    assert!(!bench.has("pg_tblspc/16384") && !bench.has("postmaster.pid"));
    assert_eq!(std::fs::read(bench.path("wal/000000010000000000000002")).unwrap(), b"wal");

    let damaged: [(&str, Vec<u8>); 4] = [
        (
            "pg_tblspc/16384/PG_15_202209061/1/16385: 4 bytes instead of 5",
            manifest(&with(&listed, "pg_tblspc/16384/PG_15_202209061/1/16385", b"rows+")),
        ),
        ("PG_VERSION: changed (CRC32C differs)", manifest(&with(&listed, "PG_VERSION", b"16\n"))),
        ("base/1/1259: not in the manifest", manifest(&listed.iter().copied().filter(|f| f.0 != "base/1/1259").collect::<Vec<_>>())),
        ("base/1/2: missing", manifest(&[&listed[..], &[("base/1/2", b"")]].concat())),
    ];
    for (problem, manifest) in damaged {
        bench.put("b/backup_manifest", &manifest);
        let error = verify(&source, &mut |_| true).unwrap_err();
        assert_eq!(error.kind, Kind::Check);
        assert!(words(&error).contains(problem), "{problem}: {}", words(&error));
    }

    bench.options.tablespaces.clear();
    let error = bench.extract(&source_without_manifest(&bench)).unwrap_err();
    assert!(words(&error).contains("tablespace 16384"), "{}", words(&error));
    std::fs::remove_file(bench.path("backups/b/16384.tar")).unwrap();
    let entry = catalogue(&[bench.path("backups")]).unwrap().remove(0);
    assert!(entry.problems.iter().any(|p| p.id == "incomplete"), "{:?}", entry.problems);
}

fn with<'a>(files: &[(&'a str, &'a [u8])], name: &str, content: &'a [u8]) -> Vec<(&'a str, &'a [u8])> {
    files.iter().map(|(path, old)| (*path, if *path == name { content } else { old })).collect()
}

fn source_without_manifest(bench: &Bench) -> Source {
    Source {
        name: "b".into(),
        form: Form::TarDirectory {
            directory: bench.path("backups/b"),
            base: "base.tar.gz".into(),
            tablespaces: vec![TablespaceTar { oid: 16384, file: "16384.tar".into() }],
            wal: None,
            manifest: false,
        },
    }
}

#[test]
fn what_the_server_sent_as_one_stream_brings_its_wal_and_manifest() {
    let mut bench = Bench::new();
    bench.options.wal_into = Some(bench.path("wal"));
    let relation = [7; 8192];
    let listed = [("backup_label", LABEL), ("PG_VERSION", b"15\n"), ("base/1/1259", &relation), ("global/pg_control", CONTROL)];
    let bytes = minimal("").file("pg_wal/000000010000000000000002", b"wal").file("backup_manifest", &manifest(&listed)).end();
    bench.put("b.tar", &bytes);
    let entry = catalogue(&[bench.path("backups")]).unwrap().remove(0);
    assert_eq!(entry.source.form, Form::Tarball { file: bench.path("backups/b.tar"), from_server: true });
    let extracted = bench.extract(&entry.source).unwrap();
    assert!(extracted.verified && !bench.has("backup_manifest") && !bench.has("pg_wal/000000010000000000000002"));
    assert_eq!(extracted.wal, ["000000010000000000000002"]);

    let wrong = minimal("").file("backup_manifest", &manifest(&with(&listed, "base/1/1259", &[8; 8192]))).end();
    let error = bench.tarball(&wrong).unwrap_err();
    assert!(words(&error).contains("base/1/1259: changed"), "{}", words(&error));
}

#[test]
fn a_copy_without_label_needs_a_cluster_that_was_shut_down() {
    let bench = Bench::new();
    let copy = |control: &[u8]| Tar::default().file("PG_VERSION", b"15\n").dir("base/1").file("global/pg_control", control).end();
    let with_state = |state: u32| {
        let mut control = CONTROL.to_vec();
        control[16..20].copy_from_slice(&state.to_le_bytes());
        let crc = crc32c::crc32c(&control[..288]);
        control[288..292].copy_from_slice(&crc.to_le_bytes());
        control
    };
    let cold = bench.tarball(&copy(&with_state(1))).unwrap();
    assert_eq!((cold.label, cold.control.state), (None, pitr::pg::ClusterState::ShutDown));
    for state in [3, 5, 6] {
        let error = bench.tarball(&copy(&with_state(state))).unwrap_err();
        assert!(words(&error).contains("no-backup-label"), "{}", words(&error));
    }
    let ids = |bytes: &[u8]| {
        bench.put("t.tar", bytes);
        catalogue(&[bench.path("backups")]).unwrap().remove(0).problems.into_iter().map(|p| p.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&copy(&with_state(6))), ["no-backup-label"]);
    assert!(ids(&copy(&with_state(1))).is_empty());
}

#[test]
fn incremental_backups_are_named_and_refused() {
    let bench = Bench::new();
    let mut label = LABEL.to_vec();
    label.extend(b"INCREMENTAL FROM LSN: 0/1000028\nINCREMENTAL FROM TLI: 1\n");
    for tar in [
        Tar::default().file("backup_label", &label).file("PG_VERSION", b"15\n").file("global/pg_control", CONTROL),
        minimal("").file("base/1/INCREMENTAL.1260", b"x"),
    ] {
        bench.put("t.tar", &tar.end());
        let entry = catalogue(&[bench.path("backups")]).unwrap().remove(0);
        assert!(entry.problems.iter().any(|p| p.id == "incremental-backup"));
        let error = bench.extract(&entry.source).unwrap_err();
        assert!(error.kind == Kind::Refused && words(&error).contains("incremental-backup"));
    }
}

#[test]
fn a_lost_tablespace_is_an_error() {
    let bench = Bench::new();
    let error = bench.tarball(&minimal("").link("pg_tblspc/16384", "/mnt/ts").end()).unwrap_err();
    assert!(words(&error).contains("lacks the content of tablespace 16384"));
}

#[test]
fn an_archive_cut_or_flipped_anywhere_is_never_taken_for_whole() {
    let bench = Bench::new();
    let relation = [7; 8192];
    let listed = [("backup_label", LABEL), ("PG_VERSION", b"15\n"), ("base/1/1259", &relation), ("global/pg_control", CONTROL)];
    let plain = minimal("").end();
    bench.put("b/backup_manifest", &manifest(&listed));
    let source = |base: &str| Source {
        name: "b".into(),
        form: Form::TarDirectory { directory: bench.path("backups/b"), base: base.into(), tablespaces: vec![], wal: None, manifest: true },
    };
    bench.put("b/whole.tar", &plain);
    let whole = verify(&source("whole.tar"), &mut |_| true).unwrap();
    for bytes in [plain.clone(), gzip(&plain)] {
        for length in (0..bytes.len()).step_by(if bytes.len() > 5000 { 191 } else { 7 }) {
            bench.put("b/cut.tar", &bytes[..length]);
            let error = verify(&source("cut.tar"), &mut |_| true).unwrap_err();
            assert_eq!(error.kind, Kind::Check, "cut at {length}: {}", words(&error));
            assert!(words(&error).contains("cut.tar") && words(&error).contains("at byte") || length < 20, "{}", words(&error));
        }
        for at in (0..bytes.len()).step_by(if bytes.len() > 5000 { 37 } else { 3 }) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            bench.put("b/flipped.tar", &flipped);
            // A flip in what no reader uses (owner names, padding, gzip's time) changes nothing that is extracted.
            if let Ok(read) = verify(&source("flipped.tar"), &mut |_| true) {
                assert_eq!(read, whole, "byte {at}");
            }
        }
    }
}

#[test]
fn the_catalogue_names_what_cannot_be_used_and_omits_what_is_no_backup() {
    let bench = Bench::new();
    bench.put("base-20260426.tar.gz", &gzip(&minimal("main/").end()));
    bench.put("cut.tar", &minimal("").end()[..9000]);
    bench.put("cut.tar.gz", &gzip(&minimal("").end())[..200]);
    bench.put("new.tar.xz", &[0xfd, b'7', b'z', b'X', b'Z', 0, 0, 0]);
    bench.put("dump.sql.gz", &gzip(b"SELECT 1;"));
    bench.put("etc.tar", &Tar::default().file("etc/fstab", b"x").end());
    bench.put("notes.txt", b"text");
    bench.put("wal/000000010000000000000001", &[1; 1000]);
    bench.put("half/pg_wal.tar", &Tar::default().end());
    bench.put("plain/PG_VERSION", b"15\n");
    bench.put("plain/backup_label", LABEL);
    bench.put("plain/global/pg_control", CONTROL);
    std::fs::create_dir(bench.path("backups/empty")).unwrap();
    std::os::unix::fs::symlink("base-20260426.tar.gz", bench.path("backups/latest")).unwrap();
    std::os::unix::fs::symlink("/usr", bench.path("backups/elsewhere")).unwrap();

    let found = catalogue(&[bench.path("backups")]).unwrap();
    let ids: Vec<_> =
        found.iter().map(|e| (e.name.as_str(), e.problems.iter().map(|p| p.id.as_str()).collect::<Vec<_>>().join(" "))).collect();
    let expected = [
        ("base-20260426.tar.gz", ""),
        ("cut.tar", "truncated"),
        ("cut.tar.gz", "truncated"),
        ("elsewhere", "symbolic-link"),
        ("half", "incomplete"),
        ("new.tar.xz", "unsupported-compression"),
        ("plain", "unsupported-form"),
    ];
    assert_eq!(ids, expected.map(|(name, id)| (name, id.to_string())));
    bench.put("base.tar.gz", &gzip(&minimal("main/").end()));
    bench.put("daily/base.tar.gz", &gzip(&minimal("main/").end()));
    let found = catalogue(&[bench.path("backups")]).unwrap();
    assert_eq!(found.len(), expected.len() + 2, "base.tar.gz among others hides none of them");
    let daily = found.iter().find(|e| e.name == "daily").unwrap();
    assert_eq!(daily.source.form, Form::Tarball { file: bench.path("backups/daily/base.tar.gz"), from_server: false });
    assert_eq!(catalogue(&[bench.path("backups/base.tar.gz")]).unwrap().len(), 1, "a file named directly");
    let plain = catalogue(&[bench.path("backups/plain")]).unwrap();
    assert_eq!(plain.len(), 1, "a directory that is itself a backup");
    assert!(catalogue(&[bench.path("none")]).is_err());
}

#[test]
fn progress_counts_and_can_stop() {
    let bench = Bench::new();
    bench.put("t.tar", &minimal("").file("base/1/big", &vec![1; 3 << 20]).end());
    let source = tarball(&bench.path("backups/t.tar"));
    let mut last = None;
    let whole = verify(&source, &mut |p| {
        last = Some(p);
        true
    });
    assert!(whole.is_ok());
    assert!(last.is_some_and(|p| p.total > 3 << 20 && p.read <= p.total && p.written > 3 << 20));
    let mut calls = 0;
    let stopped = verify(&source, &mut |_| {
        calls += 1;
        calls < 3
    });
    assert_eq!((stopped.unwrap_err().kind, calls), (Kind::Interrupted, 3));
}
