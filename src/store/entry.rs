//! What is known of a backup that was found, and how what was seen of it becomes that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::codec::Compression;
use super::pass::LARGEST_MANIFEST;
use super::skim::Skimmed;
use super::source::{Form, Source};
use super::staging::tablespace_of;
use super::verify::{as_path, proves_content};
use crate::error::Result;
use crate::pg::label::{BackupLabel, parse_tablespace_map};
use crate::pg::{ClusterState, ControlFile, Lsn, Manifest, WalRange};
use crate::sys::dir::{Dir, Entry, Stamp};

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
    /// Bytes of each tablespace's content, from the manifest.
    #[serde(default)]
    pub tablespace_bytes: Vec<(u32, u64)>,
    /// Whether these are all. In a compressed tarball of copied files a link may come later than was looked.
    pub tablespaces_known: bool,
    /// WAL files that come with it, by name, as the extraction puts them into [`super::ExtractOptions::wal_into`]; `None` where
    /// only reading all of an archive would tell.
    #[serde(default)]
    pub wal: Option<Vec<String>>,
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

    /// Whose it is, where that is another cluster than the one of this system identifier.
    pub fn foreign_to(&self, own: u64) -> Option<u64> {
        self.system_identifier.filter(|id| *id != own)
    }

    /// End of the WAL that makes it consistent, where the manifest tells.
    pub fn end_lsn(&self) -> Option<Lsn> {
        self.wal_ranges.last().map(|range| range.end)
    }

    /// A backup of which nothing is known yet.
    pub(super) fn new(source: Source) -> CatalogueEntry {
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
            tablespace_bytes: Vec::new(),
            tablespaces_known: false,
            wal: None,
            problems: Vec::new(),
        }
    }

    /// Adds a reason not to use it.
    pub(super) fn problem(&mut self, id: &str, what: impl Into<String>, hint: &str) {
        self.problems.push(Problem { id: id.into(), what: what.into(), hint: hint.into() });
    }

    /// Counts one of its files.
    pub(super) fn count(&mut self, entry: &Entry) {
        self.compressed_bytes = self.compressed_bytes.saturating_add(entry.metadata.size);
        self.stop_time_bound = self.stop_time_bound.max(Some(entry.metadata.modified));
    }
}

/// The hint where nothing better is known.
pub(super) const ANOTHER: &str = "Choose another backup with --backup.";

/// Takes over what the beginning of the main archive showed.
pub(super) fn take(backup: &mut CatalogueEntry, skimmed: Result<Skimmed>) {
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
    backup.wal = match &backup.source.form {
        Form::TarDirectory { wal: Some(_), .. } => None,
        Form::Tarball { from_server: false, .. } => Some(Vec::new()),
        _ => seen.complete.then_some(seen.wal),
    };
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
        Ok(map) => take_tablespaces(backup, map, &seen.spaces, seen.complete),
        Err(e) => backup.problem("malformed-label", format!("tablespace_map: {e}"), ANOTHER),
    }
    take_control(backup, seen.control.map(|bytes| ControlFile::parse(&bytes)), seen.complete);
}

/// `contents` are tablespaces of which a directory or files were seen below `pg_tblspc`.
fn take_tablespaces(backup: &mut CatalogueEntry, map: Vec<(u32, Vec<u8>)>, contents: &BTreeSet<u32>, complete: bool) {
    let named: BTreeSet<u32> = map.iter().map(|(oid, _)| *oid).collect();
    if matches!(backup.source.form, Form::Tarball { .. }) && complete {
        // tar packs a link as a link.
        for oid in named.difference(contents) {
            let what = format!("it has only the link to tablespace {oid}, not the content");
            backup.problem("tablespace-content", what, "Take backups with pg_basebackup, which includes tablespaces.");
        }
    }
    // Files without a link or an entry in the map: in place, or packed with the links followed.
    let bare = contents.difference(&named).map(|oid| (*oid, format!("pg_tblspc/{oid}")));
    backup.tablespaces.extend(bare);
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

/// Reads the `backup_manifest` in `dir`.
pub(super) fn read_manifest(backup: &mut CatalogueEntry, dir: &Dir) {
    let parsed = dir.read_file("backup_manifest", LARGEST_MANIFEST).map_err(|e| e.to_string());
    match parsed.and_then(|bytes| Manifest::parse(&bytes).map_err(|e| e.to_string())) {
        Ok(manifest) => {
            backup.has_manifest = proves_content(&manifest);
            backup.system_identifier = manifest.system_identifier;
            let mut spaces: BTreeMap<u32, u64> = BTreeMap::new();
            for file in &manifest.files {
                if let Some(oid) = tablespace_of(as_path(&file.path)) {
                    let bytes = spaces.entry(oid).or_default();
                    *bytes = bytes.saturating_add(file.size);
                }
            }
            backup.tablespace_bytes = spaces.into_iter().collect();
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

/// Names an incremental backup, once.
pub(super) fn incremental(backup: &mut CatalogueEntry) {
    if backup.problems.iter().all(|p| p.id != "incremental-backup") {
        let hint = "Combine it with its predecessors by pg_combinebackup, or choose a full backup.";
        backup.problem("incremental-backup", "an incremental backup cannot be started by itself", hint);
    }
}
