//! Finds base backups in the configured directories and tells what each is, cheaply.
//!
//! Only the beginning of a compressed archive is read; the extraction reads the rest. Whatever looks like a backup and cannot be
//! used is an entry with the reason; only what is clearly something else is left out.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::codec::{Compression, begins_covered};
use super::extract::{LARGEST_MANIFEST, parse_major};
use super::layout::is_wal_file;
use super::skim::{Skimmed, skim, skim_whole};
use super::source::{Form, Source, TablespaceTar};
use super::verify::proves_content;
use crate::error::{At, Result};
use crate::pg::label::{BackupLabel, parse_tablespace_map};
use crate::pg::{ClusterState, ControlFile, Lsn, Manifest, WalRange};
use crate::sys::dir::{Dir, Entry, Kind, Stamp};

/// A backup that was found, usable or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CatalogueEntry {
    /// Its file or directory name.
    pub name: String,
    /// Its real path.
    pub path: PathBuf,
    /// What the extraction needs to know.
    pub source: Source,
    /// Of its main archive.
    pub compression: Compression,
    /// Whether its archives begin with a frame or member that carries a checksum of its content (gzip always does, zstd and lz4 may,
    /// a plain file never). Of an archive of several frames only the end tells: [`super::Extracted::checksummed`].
    #[serde(default)]
    pub checksummed: bool,
    /// `backup_label`.
    pub label: Label,
    /// Whether a `backup_manifest` beside it can prove its content. A backup without one is a judgement, not a defect.
    pub has_manifest: bool,
    /// From the manifest (17 and later) or pg_control, where either was within reach.
    pub system_identifier: Option<u64>,
    /// Major version, where `PG_VERSION` or pg_control was within reach.
    pub major: Option<u32>,
    /// WAL that makes it consistent, from the manifest.
    pub wal_ranges: Vec<WalRange>,
    /// For a copy of a cluster that was shut down: its pg_control.
    pub control: Option<ControlFile>,
    /// Newest change of its files: it ended at or before this time (as long as nobody touched them later).
    pub stop_time_bound: Option<Stamp>,
    /// Bytes of its files.
    pub compressed_bytes: u64,
    /// Bytes of its content, from the manifest or an archive that is not compressed.
    pub unpacked_bytes: Option<u64>,
    /// OID and location of each tablespace.
    pub tablespaces: Vec<(u32, String)>,
    /// Whether these are all. In a compressed tarball of copied files a link may come later than was looked.
    pub tablespaces_known: bool,
    /// Why it cannot be used; empty for a usable one.
    pub problems: Vec<Problem>,
}

/// What is known of a backup's label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// There it is.
    Found(BackupLabel),
    /// The whole archive was looked through and has none.
    Absent,
    /// Not in the part of the archive that was looked at; the extraction finds it.
    Unknown,
}

/// A reason not to use a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable name, such as `incremental-backup`.
    pub id: String,
    /// What is wrong, lower case.
    pub what: String,
    /// What to do, a sentence.
    pub hint: String,
}

impl CatalogueEntry {
    /// Whether nothing speaks against it so far.
    pub fn is_usable(&self) -> bool {
        self.problems.is_empty()
    }

    /// End of the WAL that makes it consistent, where the manifest tells.
    pub fn end_lsn(&self) -> Option<Lsn> {
        self.wal_ranges.last().map(|range| range.end)
    }

    fn new(source: Source) -> CatalogueEntry {
        CatalogueEntry {
            name: source.name.clone(),
            path: source.path().to_path_buf(),
            source,
            compression: Compression::Plain,
            checksummed: false,
            label: Label::Unknown,
            has_manifest: false,
            system_identifier: None,
            major: None,
            wal_ranges: Vec::new(),
            control: None,
            stop_time_bound: None,
            compressed_bytes: 0,
            unpacked_bytes: None,
            tablespaces: Vec::new(),
            tablespaces_known: false,
            problems: Vec::new(),
        }
    }

    fn problem(&mut self, id: &str, what: impl Into<String>, hint: &str) {
        self.problems.push(Problem { id: id.into(), what: what.into(), hint: hint.into() });
    }

    fn count(&mut self, entry: &Entry) {
        self.compressed_bytes = self.compressed_bytes.saturating_add(entry.metadata.size);
        self.stop_time_bound = self.stop_time_bound.max(Some(entry.metadata.modified));
    }
}

const ANOTHER: &str = "Choose another backup with --backup.";

/// The backups in each of `directories` and one level below, each directory itself where it is one, and files named directly;
/// sorted by path. Links on the way to a configured path are followed, those below it are not. A path that cannot be read is an
/// error; a backup that cannot is an entry.
pub fn catalogue(directories: &[PathBuf]) -> Result<Vec<CatalogueEntry>> {
    let mut found: Vec<CatalogueEntry> = Vec::new();
    for configured in directories {
        let real = std::fs::canonicalize(configured).at("open backups", configured)?;
        if real.is_file() {
            found.extend(named_file(&real)?);
            continue;
        }
        let dir = Dir::open(&real)?;
        let entries = dir.entries()?;
        // `base.tar.gz` among other tarballs is one of them, not the beginning of a directory of tars.
        let itself = directory_backup(&dir, &entries).filter(|b| !matches!(b.source.form, Form::Tarball { .. }) || entries.len() == 1);
        let inside = |e: &&Entry| itself.is_none() || (e.kind() == Kind::Directory && !is_data_directory(&entries));
        found.extend(entries.iter().filter(inside).filter_map(|entry| look_at(&dir, entry)).collect::<Vec<_>>());
        found.extend(itself);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup_by(|a, b| a.path == b.path);
    Ok(found)
}

fn named_file(path: &Path) -> Result<Option<CatalogueEntry>> {
    let dir = Dir::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default();
    let metadata = dir.metadata(name)?;
    Ok(file_backup(&dir, &Entry { name: name.to_os_string(), metadata }))
}

fn is_data_directory(entries: &[Entry]) -> bool {
    let has = |name: &str| entries.iter().any(|e| e.name == name);
    has("PG_VERSION") && has("global")
}

fn look_at(dir: &Dir, entry: &Entry) -> Option<CatalogueEntry> {
    match entry.kind() {
        Kind::Directory => {
            let read = dir.open_beneath(&entry.name).and_then(|inner| Ok((inner.entries()?, inner)));
            match read {
                Ok((entries, inner)) => directory_backup(&inner, &entries),
                Err(e) => {
                    let mut backup = CatalogueEntry::new(plain(&dir.join(&entry.name)));
                    backup.problem("unreadable", e.to_string(), "Let the owner of the data directory read it.");
                    Some(backup)
                }
            }
        }
        Kind::File => file_backup(dir, entry),
        Kind::Link => link_to_backup(dir, entry),
        Kind::Other => None,
    }
}

/// A link such as `latest` beside what it points to says nothing new; any other one is named, for it is not followed.
fn link_to_backup(dir: &Dir, entry: &Entry) -> Option<CatalogueEntry> {
    let target = dir.read_link(&entry.name).ok()?;
    let beside = target.components().count() == 1 || target.parent() == Some(dir.path());
    if beside || !dir.path().join(&target).exists() {
        return None;
    }
    let mut backup = CatalogueEntry::new(plain(&dir.join(&entry.name)));
    backup.problem("symbolic-link", format!("a link to {}", target.display()), "Name the real directory in `backups`.");
    Some(backup)
}

fn plain(path: &Path) -> Source {
    Source { name: file_name(path), form: Form::Plain { directory: path.to_path_buf() } }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The backup that a directory is, by the names in it.
fn directory_backup(dir: &Dir, entries: &[Entry]) -> Option<CatalogueEntry> {
    if is_data_directory(entries) {
        return Some(plain_backup(dir, entries));
    }
    let tars: Vec<(&Entry, String)> = entries.iter().filter_map(|e| Some((e, tar_stem(e.name_str()?)?))).collect();
    let base = tars.iter().find(|(_, stem)| stem == "base");
    let tablespaces: Vec<TablespaceTar> = tars.iter().filter_map(|(e, stem)| tablespace_tar(e, stem)).collect();
    let wal = tars.iter().find(|(_, stem)| stem == "pg_wal").map(|(e, _)| file_name(Path::new(&e.name)));
    let manifest = entries.iter().any(|e| e.name == "backup_manifest");
    let Some((base, _)) = base else {
        // What an interrupted pg_basebackup or an incomplete copy leaves.
        return (manifest || wal.is_some()).then(|| {
            let mut backup = CatalogueEntry::new(plain(dir.path()));
            backup.problem(
                "incomplete",
                "parts of a backup without base.tar",
                "Copy the missing files, or choose another backup with --backup.",
            );
            backup
        });
    };
    let base = file_name(Path::new(&base.name));
    let skimmed = skim(&dir.join(&base));
    let from_server = skimmed.as_ref().is_ok_and(|s| s.from_server);
    let form = if manifest || wal.is_some() || !tablespaces.is_empty() || from_server {
        Form::TarDirectory { directory: dir.path().to_path_buf(), base, tablespaces, wal, manifest }
    } else {
        // A script's tar of the data directory that happens to have this name.
        Form::Tarball { file: dir.join(&base), from_server }
    };
    let mut backup = CatalogueEntry::new(Source { name: file_name(dir.path()), form });
    let parts = |e: &&Entry| e.name == "backup_manifest" || tars.iter().any(|(tar, _)| tar.name == e.name);
    entries.iter().filter(parts).for_each(|e| backup.count(e));
    if manifest {
        read_manifest(&mut backup, dir);
    }
    take(&mut backup, skimmed);
    check_tablespace_tars(&mut backup, dir);
    Some(backup)
}

/// `base` of `base.tar.gz`.
fn tar_stem(name: &str) -> Option<String> {
    let (_, plain) = Compression::of_name(name);
    plain.strip_suffix(".tar").or_else(|| plain.strip_suffix(".tgz")).map(str::to_owned)
}

fn tablespace_tar(entry: &Entry, stem: &str) -> Option<TablespaceTar> {
    let digits = stem.bytes().all(|b| b.is_ascii_digit());
    let oid = stem.parse().ok().filter(|oid| digits && *oid != 0)?;
    Some(TablespaceTar { oid, file: file_name(Path::new(&entry.name)) })
}

fn check_tablespace_tars(backup: &mut CatalogueEntry, dir: &Dir) {
    let Form::TarDirectory { tablespaces, .. } = &backup.source.form else { return };
    // One that cannot be read is an error when it is extracted; here it vouches for nothing.
    let covered = |t: &TablespaceTar| dir.open_file(&t.file).is_ok_and(|file| begins_covered(file).unwrap_or(false));
    backup.checksummed = backup.checksummed && tablespaces.iter().all(covered);
    let missing: Vec<u32> =
        backup.tablespaces.iter().map(|(oid, _)| *oid).filter(|oid| !tablespaces.iter().any(|t| t.oid == *oid)).collect();
    for oid in missing {
        backup.problem(
            "incomplete",
            format!("the archive of tablespace {oid} is missing"),
            "Copy the missing file, or choose another backup.",
        );
    }
}

fn read_manifest(backup: &mut CatalogueEntry, dir: &Dir) {
    let parsed = dir.read_file("backup_manifest", LARGEST_MANIFEST).map_err(|e| e.to_string());
    match parsed.and_then(|bytes| Manifest::parse(&bytes).map_err(|e| e.to_string())) {
        Ok(manifest) => {
            backup.has_manifest = proves_content(&manifest);
            backup.system_identifier = manifest.system_identifier;
            backup.unpacked_bytes = Some(manifest.files.iter().fold(0, |sum: u64, f| sum.saturating_add(f.size)));
            if manifest.files.iter().any(|f| is_incremental(&f.path)) {
                incremental(backup);
            }
            backup.wal_ranges = manifest.wal_ranges;
        }
        Err(e) => backup.problem("malformed-manifest", e, ANOTHER),
    }
}

fn is_incremental(path: &[u8]) -> bool {
    path.rsplit(|b| *b == b'/').next().is_some_and(|name| name.starts_with(b"INCREMENTAL."))
}

fn incremental(backup: &mut CatalogueEntry) {
    if backup.problems.iter().all(|p| p.id != "incremental-backup") {
        let hint = "Combine it with its predecessors by pg_combinebackup, or choose a full backup.";
        backup.problem("incremental-backup", "an incremental backup cannot be started by itself", hint);
    }
}

/// A data directory: recognised, and for now only named.
fn plain_backup(dir: &Dir, entries: &[Entry]) -> CatalogueEntry {
    let mut backup = CatalogueEntry::new(plain(dir.path()));
    entries
        .iter()
        .filter(|e| e.kind() == Kind::File)
        .for_each(|e| backup.stop_time_bound = backup.stop_time_bound.max(Some(e.metadata.modified)));
    let small = |name: &str| dir.read_file_if_exists(name, 1 << 20).ok().flatten();
    backup.label = match small("backup_label").map(|bytes| BackupLabel::parse(&bytes)) {
        None => Label::Absent,
        Some(Ok(label)) => Label::Found(label),
        Some(Err(_)) => Label::Unknown,
    };
    backup.major = small("PG_VERSION").and_then(|bytes| parse_major(&bytes).ok());
    backup.control = small("global/pg_control").and_then(|bytes| ControlFile::parse(&bytes).ok());
    backup.system_identifier = backup.control.as_ref().map(|c| c.system_identifier);
    if entries.iter().any(|e| e.name == "backup_manifest") {
        read_manifest(&mut backup, dir);
    }
    backup.problem(
        "unsupported-form",
        "a backup in plain form (pg_basebackup -Fp) cannot be used yet",
        "Take backups with `pg_basebackup -Ft`, or pack this one with tar.",
    );
    backup
}

/// A tarball of a data directory, recognised by content.
fn file_backup(dir: &Dir, entry: &Entry) -> Option<CatalogueEntry> {
    if is_wal_file(Compression::of_name(entry.name_str()?).1.as_bytes()) {
        return None;
    }
    let file = dir.join(&entry.name);
    let named_tar = tar_stem(entry.name_str()?).is_some() || entry.name_str()?.ends_with(".tgz");
    let skimmed = skim(&file);
    let from_server = skimmed.as_ref().is_ok_and(|s| s.from_server);
    let mut backup = CatalogueEntry::new(Source { name: file_name(&file), form: Form::Tarball { file, from_server } });
    backup.count(entry);
    match &skimmed {
        // Not a tar at all, or one that holds something else.
        Err(_) if !named_tar => return None,
        Ok(s) if s.root.is_none() && s.complete => return None,
        Ok(s) if s.members == 0 && !named_tar => return None,
        Ok(s) if s.root.is_none() && s.damage.is_none() => {
            backup.problem("no-data-directory", "no PostgreSQL data directory near its beginning", ANOTHER);
        }
        _ => {}
    }
    take(&mut backup, skimmed);
    Some(backup)
}

/// The same tarball, looked through to its end: its label can be anywhere in what a cron job packs, and a stream
/// that was cut or changed shows only at its end. Other forms come back as they are.
pub fn identify(entry: &CatalogueEntry) -> CatalogueEntry {
    let Form::Tarball { file, .. } = &entry.source.form else { return entry.clone() };
    if !entry.problems.is_empty() {
        return entry.clone();
    }
    let mut again = CatalogueEntry::new(entry.source.clone());
    again.compressed_bytes = entry.compressed_bytes;
    again.stop_time_bound = entry.stop_time_bound;
    take(&mut again, skim_whole(file));
    again
}

/// Takes over what the beginning of the main archive showed.
fn take(backup: &mut CatalogueEntry, skimmed: Result<Skimmed>) {
    let seen = match skimmed {
        Ok(seen) => seen,
        Err(e) => {
            let id = if e.kind == crate::error::Kind::Refused { "unsupported-compression" } else { "unreadable" };
            return backup.problem(id, e.to_string(), ANOTHER);
        }
    };
    backup.compression = seen.compression;
    backup.checksummed = seen.covered;
    backup.major = seen.major;
    backup.tablespaces_known = seen.complete || seen.from_server;
    if seen.complete {
        backup.unpacked_bytes = backup.unpacked_bytes.or(Some(seen.content));
    }
    if let Some(damage) = seen.damage {
        backup.problem("truncated", damage, ANOTHER);
    }
    if seen.incremental {
        incremental(backup);
    }
    match seen.label.map(|bytes| BackupLabel::parse(&bytes)) {
        Some(Ok(label)) => {
            if label.incremental_from.is_some() {
                incremental(backup);
            }
            if backup.wal_ranges.first().is_some_and(|range| range.start != label.start_lsn) {
                backup.problem("malformed-manifest", "its backup_manifest belongs to another backup", ANOTHER);
            }
            backup.label = Label::Found(label);
        }
        Some(Err(e)) => backup.problem("malformed-label", format!("backup_label: {e}"), ANOTHER),
        None if seen.complete => backup.label = Label::Absent,
        None => {}
    }
    match seen.tablespace_map.map(|bytes| parse_tablespace_map(&bytes)).unwrap_or(Ok(seen.links)) {
        Ok(map) => take_tablespaces(backup, map),
        Err(e) => backup.problem("malformed-label", format!("tablespace_map: {e}"), ANOTHER),
    }
    take_control(backup, seen.control.map(|bytes| ControlFile::parse(&bytes)), seen.complete);
}

fn take_tablespaces(backup: &mut CatalogueEntry, map: Vec<(u32, Vec<u8>)>) {
    for (oid, path) in map {
        match String::from_utf8(path) {
            Ok(path) => backup.tablespaces.push((oid, path)),
            Err(e) => {
                let what = format!("the location of tablespace {oid} is not UTF-8: {}", e.as_bytes().escape_ascii());
                backup.problem("tablespace-location", what, ANOTHER);
            }
        }
    }
}

fn take_control(backup: &mut CatalogueEntry, control: Option<std::result::Result<ControlFile, crate::pg::Malformed>>, complete: bool) {
    match control {
        Some(Ok(control)) => {
            backup.system_identifier = Some(control.system_identifier);
            backup.major = backup.major.or(control.major());
            let clean = matches!(control.state, ClusterState::ShutDown | ClusterState::ShutDownInRecovery);
            if backup.label == Label::Absent && !clean {
                let what = format!("no backup_label, and the cluster was {} when its files were copied", control.state.name());
                backup.problem("no-backup-label", what, "Take backups with pg_basebackup, or choose another backup.");
            }
            backup.control = Some(control);
        }
        Some(Err(e)) => backup.problem("malformed-control", format!("global/pg_control: {e}"), ANOTHER),
        None if complete => backup.problem("incomplete", "it has no global/pg_control", ANOTHER),
        None => {}
    }
}
