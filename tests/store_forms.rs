//! Backups and segments as PostgreSQL 15 and the command line tools compress them, and `pg_basebackup -Fp`.

use std::io::Read;
use std::os::unix::fs::symlink;
use std::process::Command;

use pitr::error::Kind;
use pitr::store::codec::{Compression, Coverage, decoder, open};
use pitr::store::{CatalogueEntry, Form, Label, catalogue, verify};

use crate::store_real::{BIN, Cluster, run};

#[test]
fn every_form_that_postgresql_and_cron_jobs_write_is_extracted() {
    let cluster = Cluster::start();
    cluster.shell("psql -qc 'CREATE TABLE t AS SELECT generate_series(1, 20000) AS n'");
    plain_directory_without_tablespace(&cluster);
    cluster.shell(
        "psql -qc \"CREATE TABLESPACE s LOCATION '$PWD/space'\" -c 'CREATE TABLE ts TABLESPACE s AS SELECT generate_series(1, 5000) AS n'",
    );
    for (name, options, compression) in [
        ("zstd", "--compress=server-zstd", Compression::Zstd),
        ("lz4", "--compress=server-lz4", Compression::Lz4),
        ("gzip", "--compress=client-gzip", Compression::Gzip),
        ("client-zstd", "--compress=client-zstd", Compression::Zstd),
    ] {
        tars_are_what_pg_verifybackup_says(&cluster, name, options, compression);
    }
    plain_directory_with_tablespace(&cluster);
    segments_read_back(&cluster);
    cluster.shell(&format!("{BIN}/pg_ctl -D main -m fast -w stop"));
    cron_tarballs(&cluster);
}

fn tars_are_what_pg_verifybackup_says(cluster: &Cluster, name: &str, options: &str, compression: Compression) {
    cluster.shell(&format!("{BIN}/pg_basebackup -Ft -c fast {options} -D backups/{name}"));
    let entry = cluster.entry(name);
    assert!(entry.is_usable() && entry.has_manifest && entry.compression == compression, "{entry:?}");
    // PostgreSQL asks neither library for a checksum.
    assert_eq!((entry.checksummed, entry.wal.is_none()), (compression == Compression::Gzip, true));
    let extracted = cluster.extract(&entry.source, &format!("{name}-out")).unwrap();
    assert!(extracted.verified && extracted.wal.len() == 1 && extracted.checksummed == entry.checksummed, "{extracted:?}");
    verified_by_postgresql(cluster, &entry, &format!("{name}-out"));

    let Form::TarDirectory { directory, base, .. } = &entry.source.form else { panic!("{entry:?}") };
    let path = directory.join(base);
    let whole = std::fs::read(&path).unwrap();
    for part in [0.01, 0.5, 0.9999] {
        std::fs::write(&path, &whole[..(whole.len() as f64 * part) as usize]).unwrap();
        let error = verify(&entry.source, &mut |_| true).unwrap_err();
        assert!(error.kind == Kind::Check && error.cause.as_deref().is_some_and(|c| c.contains("at byte")), "{error:?}");
    }
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    std::fs::write(&path, &flipped).unwrap();
    assert_eq!(verify(&entry.source, &mut |_| true).unwrap_err().kind, Kind::Check);
    std::fs::write(&path, &whole).unwrap();
}

fn verified_by_postgresql(cluster: &Cluster, entry: &CatalogueEntry, target: &str) {
    if let [(oid, _)] = entry.tablespaces.as_slice() {
        let link = cluster.path(target).join(format!("pg_tblspc/{oid}"));
        symlink(cluster.path(&format!("{target}-space")), link).unwrap();
    }
    let manifest = cluster.path(&format!("backups/{}/backup_manifest", entry.name));
    run(Command::new(format!("{BIN}/pg_verifybackup")).arg("-n").arg("-m").arg(manifest).arg(cluster.path(target)));
}

fn plain_directory_without_tablespace(cluster: &Cluster) {
    cluster.shell(&format!("{BIN}/pg_basebackup -Fp -c fast -D backups/plain"));
    let entry = cluster.entry("plain");
    assert!(entry.is_usable() && entry.has_manifest && matches!(entry.label, Label::Found(_)), "{entry:?}");
    assert!(matches!(entry.source.form, Form::Plain { from_server: true, manifest: true, .. }));
    assert_eq!((entry.wal.as_ref().map(Vec::len), entry.tablespaces.len()), (Some(1), 0));
    let extracted = cluster.extract(&entry.source, "plain-out").unwrap();
    assert!(extracted.verified && Some(&extracted.wal) == entry.wal.as_ref() && extracted.links.is_empty(), "{extracted:?}");
    verified_by_postgresql(cluster, &entry, "plain-out");
    run(Command::new("diff")
        .args(["-r", "-x", "pg_wal", "-x", "backup_manifest", "backups/plain", "plain-out"])
        .current_dir(cluster.path("")));
    run(Command::new("diff").args(["-r", "-x", "archive_status", "backups/plain/pg_wal", "plain-out-wal"]).current_dir(cluster.path("")));
    let live = catalogue(&[cluster.path("main")]).unwrap();
    assert_eq!(live.iter().flat_map(|e| &e.problems).map(|p| p.id.as_str()).collect::<Vec<_>>(), ["live-data-directory"]);
}

fn plain_directory_with_tablespace(cluster: &Cluster) {
    cluster.shell(&format!("{BIN}/pg_basebackup -Fp -c fast --tablespace-mapping=$PWD/space=$PWD/mapped -D backups/mapped"));
    let before =
        std::fs::read_link(std::fs::read_dir(cluster.path("backups/mapped/pg_tblspc")).unwrap().next().unwrap().unwrap().path()).unwrap();
    let entry = cluster.entry("mapped");
    assert!(entry.is_usable() && entry.tablespaces_known, "{entry:?}");
    assert_eq!(entry.tablespaces[0].1, before.display().to_string());
    let extracted = cluster.extract(&entry.source, "mapped-out").unwrap();
    assert!(extracted.verified && extracted.links.len() == 1, "{extracted:?}");
    assert!(std::fs::read_dir(cluster.path("mapped-out/pg_tblspc")).unwrap().next().is_none(), "no link is made");
    run(Command::new("diff").args(["-r", "mapped", "mapped-out-space"]).current_dir(cluster.path("")));
    verified_by_postgresql(cluster, &entry, "mapped-out");
    // The backup itself is as it was.
    run(Command::new(format!("{BIN}/pg_verifybackup")).arg("-n").arg(cluster.path("backups/mapped")));
}

fn cron_tarballs(cluster: &Cluster) {
    for (file, tool, checksummed) in [
        ("cold.tar.zst", "zstd -q1", true),
        ("cold-bare.tar.zst", "zstd -q1 --no-check", false),
        ("cold-long.tar.zst", "zstd -q1 --long=27", true),
        ("cold.tar.lz4", "lz4 -q1", true),
        ("cold-bare.tar.lz4", "lz4 -q1 --no-frame-crc -BD", false),
    ] {
        cluster.shell(&format!("tar chf - main | {tool} > backups/{file}"));
        let entry = cluster.entry(file);
        assert!(entry.is_usable() && entry.checksummed == checksummed && !entry.has_manifest, "{entry:?}");
        let source = entry.source.clone();
        let read = verify(&source, &mut |_| true).unwrap();
        assert_eq!((read.label, read.checksummed, read.major), (None, checksummed, 15), "{file}");
    }
    // More than is given without being asked.
    cluster.shell("tar chf - main | zstd -q1 --long=30 > backups/cold-window.tar.zst");
    let error = verify(&cluster.entry("cold.tar.zst").source, &mut |_| true).map(|_| ());
    assert!(error.is_ok());
    let entry = cluster.entry("cold-window.tar.zst");
    let words: Vec<_> = entry.problems.iter().map(|p| (p.id.as_str(), p.what.as_str())).collect();
    assert!(matches!(words.as_slice(), [("unsupported-compression", _)]), "{words:?}");
}

fn segments_read_back(cluster: &Cluster) {
    cluster.shell("mkdir segments; cp main/pg_wal/$(psql -Atc 'SELECT pg_walfile_name(pg_current_wal_lsn())') segments/plain");
    let whole = std::fs::read(cluster.path("segments/plain")).unwrap();
    for (tool, compression, checksum) in [
        ("gzip -1", Compression::Gzip, true),
        ("zstd -q1", Compression::Zstd, true),
        ("zstd -q1 --no-check", Compression::Zstd, false),
        ("lz4 -q1", Compression::Lz4, true),
        ("lz4 -q1 --no-frame-crc", Compression::Lz4, false),
    ] {
        // Under the bare name, as some tools archive: the content tells.
        cluster.shell(&format!("{tool} < segments/plain > segments/000000010000000000000001"));
        let file = || std::fs::File::open(cluster.path("segments/000000010000000000000001")).unwrap();
        let mut stream = open(file()).unwrap();
        let mut content = Vec::new();
        stream.content.read_to_end(&mut content).unwrap();
        let coverage: &Coverage = &stream.coverage;
        assert_eq!((stream.compression, coverage.is_whole(), content == whole), (compression, checksum, true), "{tool}");
        let size = file().metadata().unwrap().len();
        for length in [size / 7, size / 2, size - 5, size - 1] {
            let cut = decoder(file().take(length)).and_then(|(_, mut content)| std::io::copy(&mut content, &mut std::io::sink()));
            assert_eq!(cut.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof, "{tool} cut at {length}");
        }
    }
}
