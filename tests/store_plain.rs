//! Backups in plain form, made by hand: what the catalogue says of them, and what the extraction copies and refuses.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use pitr::error::{Kind, Result};
use pitr::store::{CatalogueEntry, ExtractOptions, Extracted, Form, Label, Source, catalogue, extract, verify};
use pitr::sys::dir::Dir;
use sha2::Digest;

const CONTROL: &[u8] = include_bytes!("fixtures/pg/pg_control");
const LABEL: &[u8] = include_bytes!("fixtures/pg/backup_label");
const SPACE: &str = "PG_15_202209061/1/16385";

struct Bench {
    held: tempfile::TempDir,
    options: ExtractOptions,
}

impl Bench {
    /// The least that is a backup, in `backups/b`.
    fn new() -> Bench {
        let bench = Bench { held: tempfile::tempdir().unwrap(), options: ExtractOptions::default() };
        for directory in ["staging", "wal", "ts", "elsewhere"] {
            std::fs::create_dir(bench.path(directory)).unwrap();
        }
        for (name, content) in
            [("PG_VERSION", &b"15\n"[..]), ("backup_label", LABEL), ("base/1/1259", &[7; 8192]), ("global/pg_control", CONTROL)]
        {
            bench.put(name, content);
        }
        bench
    }

    fn path(&self, rel: &str) -> PathBuf {
        self.held.path().canonicalize().unwrap().join(rel)
    }

    fn at(&self, rel: &str) -> PathBuf {
        self.path("backups/b").join(rel)
    }

    fn put(&self, rel: &str, content: &[u8]) {
        std::fs::create_dir_all(self.at(rel).parent().unwrap()).unwrap();
        std::fs::write(self.at(rel), content).unwrap();
    }

    fn put_manifest(&self, files: &[(&str, &[u8])]) {
        let entry = |(path, content): &(&str, &[u8])| {
            let crc = hex::encode(crc32c::crc32c(content).to_le_bytes());
            let head = format!("{{ \"Path\": \"{path}\", \"Size\": {}, \"Last-Modified\": \"2026-11-21 23:03:32 GMT\", ", content.len());
            format!("{head}\"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"{crc}\" }}")
        };
        let minimal = [("PG_VERSION", &b"15\n"[..]), ("backup_label", LABEL), ("base/1/1259", &[7; 8192]), ("global/pg_control", CONTROL)];
        let files = minimal.iter().chain(files).map(entry).collect::<Vec<_>>().join(",\n");
        let ranges = "{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }";
        let body = format!("{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{files}\n],\n\"WAL-Ranges\": [\n{ranges}\n],\n");
        let digest = hex::encode(sha2::Sha256::digest(body.as_bytes()));
        self.put("backup_manifest", format!("{body}\"Manifest-Checksum\": \"{digest}\"}}\n").as_bytes());
    }

    fn entry(&self) -> CatalogueEntry {
        let mut found = catalogue(&[self.path("backups")]).unwrap();
        found.retain(|e| e.name == "b");
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    fn problems(&self) -> Vec<String> {
        self.entry().problems.into_iter().map(|p| p.id).collect()
    }

    fn extract(&self, source: &Source) -> Result<Extracted> {
        for directory in ["staging", "wal", "ts"] {
            std::fs::remove_dir_all(self.path(directory)).unwrap();
            std::fs::create_dir(self.path(directory)).unwrap();
        }
        extract(source, &Dir::open(self.path("staging")).unwrap(), &self.options, &mut |_| true)
    }

    fn has(&self, rel: &str) -> bool {
        self.path("staging").join(rel).symlink_metadata().is_ok()
    }
}

#[test]
fn files_are_copied_links_are_not_and_the_manifest_decides() {
    let mut bench = Bench::new();
    bench.options.wal_into = Some(bench.path("wal"));
    bench.put("pg_wal/000000010000000000000002", b"wal");
    bench.put("pg_wal/archive_status/000000010000000000000002.done", b"");
    bench.put("pg_replslot/slot/state", b"old");
    std::fs::hard_link(bench.at("base/1/1259"), bench.at("base/1/1260")).unwrap();
    std::fs::write(bench.path("outside"), "secret").unwrap();
    symlink(bench.path("outside"), bench.at("base/1/1261")).unwrap();
    symlink(bench.path("elsewhere"), bench.at("log")).unwrap();
    bench.put_manifest(&[("base/1/1260", &[7; 8192]), ("pg_replslot/slot/state", b"old")]);

    let entry = bench.entry();
    assert!(entry.is_usable() && entry.has_manifest && !entry.checksummed && matches!(entry.label, Label::Found(_)), "{entry:?}");
    assert!(entry.system_identifier.is_some() && entry.stop_time_bound.is_some() && entry.tablespaces_known);
    assert_eq!(
        (entry.major, entry.end_lsn(), entry.wal.as_deref()),
        (Some(15), Some(pitr::pg::Lsn(0x2000100)), Some(&["000000010000000000000002".to_string()][..]))
    );
    let json = serde_json::to_string(&entry.source).unwrap();
    let source: Source = serde_json::from_str(&json).unwrap();
    let mut last = None;
    verify(&source, &mut |p| {
        last = Some(p);
        true
    })
    .unwrap();
    assert!(last.is_some_and(|p| p.read == p.total && p.total > 16_000), "{last:?}");

    let extracted = bench.extract(&source).unwrap();
    assert!(extracted.verified && !extracted.checksummed);
    let outside = bench.path("outside").display().to_string();
    assert_eq!(extracted.links, [("base/1/1261".to_string(), outside), ("log".into(), bench.path("elsewhere").display().to_string())]);
    assert!(!bench.has("base/1/1261") && !bench.has("log") && !bench.has("pg_replslot/slot") && !bench.has("backup_manifest"));
    assert!(bench.path("staging/pg_wal/archive_status").is_dir() && !bench.has("pg_wal/000000010000000000000002"));
    assert_eq!(
        (extracted.wal, std::fs::read(bench.path("wal/000000010000000000000002")).unwrap()),
        (vec!["000000010000000000000002".to_string()], b"wal".to_vec())
    );
    let copied = std::fs::metadata(bench.path("staging/base/1/1260")).unwrap();
    assert_eq!((copied.nlink(), copied.len(), copied.mode() & 0o7777), (1, 8192, 0o600));

    bench.put("base/1/1259", &[8; 8192]);
    let error = bench.extract(&source).unwrap_err();
    assert!(error.kind == Kind::Check && error.cause.as_deref().is_some_and(|c| c.contains("base/1/1259: changed")), "{error:?}");
}

#[test]
fn a_copied_data_directory_brings_its_label_but_not_its_wal() {
    let mut bench = Bench::new();
    bench.options.wal_into = Some(bench.path("wal"));
    bench.put("pg_wal/000000010000000000000002", b"whatever lay there");
    bench.put("postmaster.opts", b"/usr/lib/postgresql/15/bin/postgres\n");
    bench.put("postmaster.pid", b"1\n/var/lib/postgresql/15/main\n1700000000\n5432\n");
    // The manifest of the backup this cluster was once restored from.
    bench.put_manifest(&[("base/1/9999", b"long gone")]);
    let text = std::fs::read_to_string(bench.at("backup_manifest")).unwrap().replace("0/2000028", "0/1000028");
    let body = &text[..text.find("\"Manifest-Checksum\"").unwrap()];
    let digest = hex::encode(sha2::Sha256::digest(body.as_bytes()));
    bench.put("backup_manifest", format!("{body}\"Manifest-Checksum\": \"{digest}\"}}\n").as_bytes());

    let entry = bench.entry();
    assert!(entry.is_usable() && !entry.has_manifest, "{entry:?}");
    assert_eq!(entry.wal, Some(Vec::new()));
    assert!(matches!(entry.source.form, Form::Plain { from_server: false, manifest: false, .. }));
    let extracted = bench.extract(&entry.source).unwrap();
    assert!(!extracted.verified && extracted.wal.is_empty() && !bench.has("postmaster.pid"));
}

#[test]
fn a_live_data_directory_is_no_backup() {
    let bench = Bench::new();
    bench.put("postmaster.pid", b"1\n/var/lib/postgresql/15/main\n1700000000\n5432\n");
    assert!(bench.problems().is_empty(), "a copy with its label");
    // A label of an exclusive backup that is going on (13 and 14).
    bench.put("postmaster.pid", format!("1\n{}\n1700000000\n5432\n", bench.at("").display()).as_bytes());
    assert_eq!(bench.problems(), ["live-data-directory"]);
    std::fs::remove_file(bench.at("backup_label")).unwrap();
    bench.put("postmaster.pid", b"1\n/var/lib/postgresql/15/main\n1700000000\n5432\n");
    assert_eq!(bench.problems(), ["live-data-directory"]);
    std::fs::remove_file(bench.at("postmaster.pid")).unwrap();
    assert!(bench.problems().is_empty(), "a copy of a cluster that was shut down");
    let mut control = CONTROL.to_vec();
    control[16..20].copy_from_slice(&6_u32.to_le_bytes());
    let crc = crc32c::crc32c(&control[..288]);
    control[288..292].copy_from_slice(&crc.to_le_bytes());
    bench.put("global/pg_control", &control);
    assert_eq!(bench.problems(), ["no-backup-label"]);
    let error = bench.extract(&bench.entry().source).unwrap_err();
    assert!(error.what.contains("no-backup-label"), "{error}");
}

#[test]
fn a_tablespace_is_read_where_it_is_proved_or_beside_the_backup() {
    let mut bench = Bench::new();
    bench.options.tablespaces = BTreeMap::from([(16384, bench.path("ts"))]);
    let fill = |directory: &str| {
        let file = bench.path(directory).join(SPACE);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "rows").unwrap();
        std::fs::create_dir_all(bench.path(directory).join("PG_14_202107181/1")).unwrap();
    };
    let link = |target: &str| {
        std::fs::create_dir_all(bench.at("pg_tblspc")).unwrap();
        let _ = std::fs::remove_file(bench.at("pg_tblspc/16384"));
        symlink(bench.path(target), bench.at("pg_tblspc/16384")).unwrap();
    };
    fill("elsewhere");
    fill("backups/space");
    let copied = || std::fs::read(bench.path("ts").join(SPACE)).ok();

    link("elsewhere");
    assert_eq!(bench.problems(), ["tablespace-elsewhere"]);
    let source = bench.entry().source;
    let error = bench.extract(&source).unwrap_err();
    assert!(error.what.contains("lacks the content of tablespace 16384"), "{error}");
    link("backups/space");
    let entry = bench.entry();
    assert!(entry.is_usable(), "{entry:?}");
    assert_eq!(entry.tablespaces, [(16384, bench.path("backups/space").display().to_string())]);
    let extracted = bench.extract(&entry.source).unwrap();
    assert_eq!((extracted.links.len(), copied().as_deref()), (1, Some(&b"rows"[..])));
    assert!(!bench.path("ts/PG_14_202107181").exists() && !bench.has("pg_tblspc/16384"));

    bench.put_manifest(&[(&format!("pg_tblspc/16384/{SPACE}"), b"rows")]);
    link("elsewhere");
    let entry = bench.entry();
    assert!(entry.is_usable() && bench.extract(&entry.source).unwrap().verified, "{entry:?}");
    std::fs::write(bench.path("elsewhere").join(SPACE), "ROWS").unwrap();
    let error = bench.extract(&entry.source).unwrap_err();
    assert!(error.cause.as_deref().is_some_and(|c| c.contains("16385: changed")), "{error:?}");
    link("nowhere");
    assert_eq!(bench.problems(), ["incomplete"]);
}

#[test]
fn what_is_no_file_or_incremental_is_refused() {
    let bench = Bench::new();
    let source = bench.entry().source;
    std::fs::create_dir_all(bench.at("pg_notify")).unwrap();
    let _ignored = std::os::unix::net::UnixListener::bind(bench.at("pg_notify/s")).unwrap();
    bench.extract(&source).unwrap();
    let _refused = std::os::unix::net::UnixListener::bind(bench.at("base/s")).unwrap();
    let error = bench.extract(&source).unwrap_err();
    assert!(error.what.contains("base/s is refused"), "{error}");
    std::fs::remove_file(bench.at("base/s")).unwrap();
    bench.put("base/1/INCREMENTAL.1259", b"x");
    assert_eq!(bench.extract(&source).unwrap_err().kind, Kind::Refused);
    std::fs::remove_file(bench.at("base/1/INCREMENTAL.1259")).unwrap();
    std::fs::remove_file(bench.at("global/pg_control")).unwrap();
    assert_eq!(bench.problems(), ["incomplete"]);
    assert!(bench.extract(&source).is_err());
}
