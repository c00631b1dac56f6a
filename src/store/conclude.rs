//! The end of a pass: is it a backup, and is it whole?

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use super::extract::Extracted;
use super::layout::{Treatment, treatment};
use super::pass::{CHUNK, Pass, incremental};
use super::source::Form;
use super::staging::tablespace_of;
use super::verify::{Ledger, as_path, proves_content};
use crate::error::{At, Error, Kind, Result};
use crate::pg::label::{BackupLabel, parse_tablespace_map};
use crate::pg::{Algorithm, ClusterState, ControlFile, Hasher, Manifest};

impl Pass<'_> {
    /// Judges what the pass saw.
    pub(super) fn conclude(&mut self) -> Result<Extracted> {
        let label = self.parse_captured("backup_label", BackupLabel::parse)?;
        if label.as_ref().is_some_and(|l| l.incremental_from.is_some()) {
            return Err(incremental(&self.source.name));
        }
        let control = self.required("global/pg_control", ControlFile::parse)?;
        let major = self.required("PG_VERSION", parse_major)?;
        if control.major().is_some_and(|m| m != major) {
            return Err(self.broken("its PG_VERSION and pg_control are of different majors"));
        }
        if label.is_none() && !matches!(control.state, ClusterState::ShutDown | ClusterState::ShutDownInRecovery) {
            return Err(no_label(&self.source.name, control.state));
        }
        self.check_tablespaces()?;
        let verified = self.check_manifest(label.as_ref(), &control)?;
        Ok(Extracted {
            files: self.files,
            bytes: self.so_far.written,
            major,
            label,
            tablespace_map: self.captured.remove("tablespace_map"),
            links: std::mem::take(&mut self.links),
            control,
            verified,
            checksummed: self.covered,
            wal: std::mem::take(&mut self.wal),
            dropped: std::mem::take(&mut self.dropped),
            dropped_count: self.dropped_count,
        })
    }

    /// A link or a map entry without the content it stands for is a lost tablespace.
    fn check_tablespaces(&self) -> Result<()> {
        let map = self.parse_captured("tablespace_map", parse_tablespace_map)?.unwrap_or_default();
        let linked = self.links.iter().filter_map(|(path, _)| tablespace_of(Path::new(path)));
        let tars = match &self.source.form {
            Form::TarDirectory { tablespaces, .. } => tablespaces.iter().map(|t| t.oid).collect(),
            _ => BTreeSet::new(),
        };
        match map.iter().map(|(oid, _)| *oid).chain(linked).find(|oid| !self.spaces.contains(oid) && !tars.contains(oid)) {
            None => Ok(()),
            Some(oid) => Err(Error::new(Kind::Check, format!("backup {} lacks the content of tablespace {oid}", self.source.name))
                .cause("the backup has only the link to it")
                .hint("Take backups with pg_basebackup, which includes tablespaces.")),
        }
    }

    fn check_manifest(&mut self, label: Option<&BackupLabel>, control: &ControlFile) -> Result<bool> {
        let inside = self.parse_captured("backup_manifest", Manifest::parse)?;
        let own = self.manifest.is_some() || matches!(self.source.form, Form::Tarball { from_server: true, .. });
        let Some(manifest) = self.manifest.take().or(inside) else { return Ok(false) };
        // A data directory keeps the manifest of the backup it was once restored from, and a copy of a standby may begin where that
        // one began. pg_basebackup leaves out what only a started server leaves.
        if self.served {
            return Ok(false);
        }
        let start = manifest.wal_ranges.first().map(|range| range.start);
        if start != label.map(|l| l.start_lsn) || manifest.system_identifier.is_some_and(|id| id != control.system_identifier) {
            return if own { Err(self.broken("its backup_manifest belongs to another backup")) } else { Ok(false) };
        }
        let staging = self.staging.as_ref();
        let problems = self.ledger.compare(&manifest, |path, algorithm| {
            let path = as_path(path);
            match staging {
                Some(staging) if treatment(path) == Treatment::Keep => {
                    hash_file(staging.reopen(path)?, Hasher::new(algorithm), path).map(Some)
                }
                _ => Ok(None),
            }
        })?;
        problems.into_result(&self.source.name)?;
        Ok(proves_content(&manifest))
    }

    /// A ledger for another pass, where the manifest that came with the archive lists checksums that this one did not take.
    pub(super) fn ledger_of_inner_manifest(&self) -> Option<Ledger> {
        let manifest = self.captured.get("backup_manifest").filter(|_| self.manifest.is_none())?;
        // One that cannot be read is an error of the conclusion.
        let manifest = Manifest::parse(manifest).ok()?;
        let other = manifest.files.iter().filter_map(|f| f.checksum.as_ref()).any(|c| c.algorithm != Algorithm::Crc32c);
        other.then(|| Ledger::new(Some(&manifest)))
    }

    fn parse_captured<T>(&self, name: &str, parse: impl Fn(&[u8]) -> std::result::Result<T, crate::pg::Malformed>) -> Result<Option<T>> {
        let parsed = self.captured.get(name).map(|bytes| parse(bytes)).transpose();
        parsed.map_err(|e| self.broken(&format!("{name}: {e}")))
    }

    pub(super) fn required<T>(&self, name: &str, parse: impl Fn(&[u8]) -> std::result::Result<T, crate::pg::Malformed>) -> Result<T> {
        self.parse_captured(name, parse)?.ok_or_else(|| self.broken(&format!("it has no {name}")))
    }

    fn broken(&self, why: &str) -> Error {
        Error::new(Kind::Check, format!("backup {} cannot be used", self.source.name))
            .cause(why)
            .hint("Choose another backup with --backup; `pitr backups` lists them.")
    }
}

/// `PG_VERSION` is the major and a newline.
pub(super) fn parse_major(bytes: &[u8]) -> std::result::Result<u32, crate::pg::Malformed> {
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim_end();
    match text.parse() {
        Ok(major @ 13..=18) => Ok(major),
        _ => Err(crate::pg::Malformed::new(format!("version {} is not one of PostgreSQL 13 to 18", text.escape_debug()))),
    }
}

fn hash_file(file: File, mut hasher: Hasher, path: &Path) -> Result<Vec<u8>> {
    let mut reader = std::io::BufReader::with_capacity(CHUNK, file);
    loop {
        let bytes = std::io::BufRead::fill_buf(&mut reader).at("read", path)?;
        if bytes.is_empty() {
            return Ok(hasher.finish());
        }
        hasher.update(bytes);
        let n = bytes.len();
        std::io::BufRead::consume(&mut reader, n);
    }
}

fn no_label(name: &str, state: ClusterState) -> Error {
    Error::new(Kind::Check, format!("backup {name} has no backup_label (no-backup-label)"))
        .cause(format!("the cluster was {} when the files were copied, so they fit no single moment", state.name()))
        .hint("Take backups with pg_basebackup; a copy made while the server runs needs pg_backup_start and pg_backup_stop.")
}
