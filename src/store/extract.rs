//! Streams a base backup into staging, every file compared with the manifest on the way.
//!
//! One pass over each archive or directory, with bounded memory (the manifest and a checksum per file). Only regular files and
//! directories are made, with modes of a data directory; links are reported, everything else is refused. [`extract`] returns `Ok`
//! only when every archive was complete, every file was as the manifest says, and all of it is on disk. [`verify`] is the same
//! pass without writing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::layout::required_directories;
use super::pass::Pass;
use super::source::Source;
use super::staging::Staging;
use crate::error::Result;
use crate::pg::ControlFile;
use crate::pg::label::BackupLabel;
use crate::sys::dir::Dir;

/// Where an extraction writes besides staging, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtractOptions {
    /// The cluster lets its group read (`initdb --allow-group-access`): modes 0640 and 0750 instead of 0600 and 0700.
    #[serde(default)]
    pub group_access: bool,
    /// An existing directory for WAL that came with the backup; without it that WAL is left out.
    #[serde(default)]
    pub wal_into: Option<PathBuf>,
    /// An existing directory for the content of each tablespace, by OID.
    #[serde(default)]
    pub tablespaces: BTreeMap<u32, PathBuf>,
}

/// How far an extraction is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractProgress {
    /// Bytes of the archive files read, as they lie on disk.
    pub read: u64,
    /// Their sizes together.
    pub total: u64,
    /// Bytes unpacked to files.
    pub written: u64,
}

/// What an extraction brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Extracted {
    /// Files written below staging and the tablespaces.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Major version by `PG_VERSION`.
    pub major: u32,
    /// `backup_label`, which also stands in staging; `None` for a copy of a cluster that was shut down.
    pub label: Option<BackupLabel>,
    /// `tablespace_map` as it is in the backup.
    pub tablespace_map: Option<Vec<u8>>,
    /// Symbolic links of the backup: path below the data directory and target. None of them was made.
    pub links: Vec<(String, String)>,
    /// `global/pg_control`.
    pub control: ControlFile,
    /// The manifest vouches for the content of every file.
    pub verified: bool,
    /// Checksums of the compressed streams cover every archive but that of WAL, and were right. False where one is plain.
    #[serde(default)]
    pub checksummed: bool,
    /// WAL files put into [`ExtractOptions::wal_into`].
    pub wal: Vec<String>,
    /// What was left out, by path in the archive; the first thousand.
    pub dropped: Vec<String>,
    /// How much was left out in all.
    pub dropped_count: u64,
}

/// Called while bytes flow; `false` stops the extraction.
pub type OnProgress<'a> = dyn FnMut(ExtractProgress) -> bool + 'a;

/// Writes the backup to `staging`, which must not hold any of its files yet.
pub fn extract(source: &Source, staging: &Dir, options: &ExtractOptions, progress: &mut OnProgress<'_>) -> Result<Extracted> {
    let mut pass = Pass::new(source, Some(Staging::open(staging, options)?), progress)?;
    pass.everything()?;
    let facts = pass.conclude()?;
    if let Some(staging) = &mut pass.staging {
        for directory in required_directories(facts.major) {
            staging.make_directory(Path::new(directory))?;
        }
        staging.sync()?;
    }
    Ok(facts)
}

/// Proves the backup whole without writing anything. A manifest inside an archive that lists other checksums than were taken on
/// the way (`--manifest-checksums=SHA256`) costs a second pass, in which they are.
pub fn verify(source: &Source, progress: &mut OnProgress<'_>) -> Result<Extracted> {
    let mut pass = Pass::new(source, None, progress)?;
    pass.everything()?;
    let Some(ledger) = pass.ledger_of_inner_manifest() else { return pass.conclude() };
    let mut pass = Pass::new(source, None, progress)?;
    pass.ledger = ledger;
    pass.everything()?;
    pass.conclude()
}
