//! Which backups there are. Of a tarball the beginning tells what it is; of a small one, and of the one that matters, all of it
//! is read, once.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::store::catalogue::{CatalogueEntry, Label, catalogue};
use crate::store::recall::{Looked, look_through, recall};
use crate::store::source::Form;

/// Tarballs up to this many bytes are always looked through: it takes about a second.
const SMALL: u64 = 128 << 20;

/// Which tarball to look through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identify {
    /// The one of this name.
    pub name: Option<String>,
    /// Otherwise the newest not written after this time.
    pub before: Option<i64>,
}

/// Backups, what could not be read, and what looks through whole tarballs told.
pub struct KnownBackups {
    /// Backups.
    pub backups: Vec<CatalogueEntry>,
    /// Directories that cannot be read.
    pub problems: Vec<String>,
    /// What looks through tarballs told, earlier and now.
    pub looked: Vec<Looked>,
}

/// Looks at what lies in `directories`; what is in `known` and has not changed is not read again.
pub fn known_backups(directories: &[PathBuf], wanted: Option<&Identify>, known: &[Looked]) -> KnownBackups {
    let (mut backups, problems) = backups(directories);
    let mut looked = Vec::new();
    for entry in backups.iter_mut().filter(|b| b.problems.is_empty() && matches!(b.source.form, Form::Tarball { .. })) {
        match recall(entry, known, &mut looked) {
            Some(recalled) => *entry = recalled,
            None if entry.compressed_bytes <= SMALL => *entry = look_through(entry, &mut looked),
            None => {}
        }
    }
    let wanted = wanted.and_then(|wanted| to_identify(&mut backups, wanted));
    if let Some(entry) = wanted.filter(|entry| looked.iter().all(|seen| seen.key.path != entry.path)) {
        *entry = look_through(entry, &mut looked);
    }
    KnownBackups { backups, problems, looked }
}

/// The backups in `directories`, and those of them that cannot be read.
pub fn backups(directories: &[PathBuf]) -> (Vec<CatalogueEntry>, Vec<String>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for directory in directories {
        match catalogue(std::slice::from_ref(directory)) {
            Ok(entries) => found.extend(entries),
            Err(error) => problems.push(error.to_string()),
        }
    }
    (found, problems)
}

/// Looking through a compressed tarball costs reading all of it: only the one that matters.
fn to_identify<'a>(backups: &'a mut [CatalogueEntry], wanted: &Identify) -> Option<&'a mut CatalogueEntry> {
    // Where a standby's backup is consistent, only its pg_control tells.
    let open = |b: &CatalogueEntry| match &b.label {
        Label::Unknown => true,
        Label::Found(label) => label.from_standby && b.control.is_none() && b.wal_ranges.is_empty(),
        Label::Absent => false,
    };
    let unknown = |b: &&mut CatalogueEntry| open(b) && b.problems.is_empty();
    let fits = |b: &&mut CatalogueEntry| match (&wanted.name, wanted.before) {
        (Some(name), _) => b.name == *name,
        (None, Some(before)) => b.stop_time_bound.is_some_and(|s| s.seconds <= before),
        (None, None) => true,
    };
    backups.iter_mut().filter(unknown).filter(fits).max_by_key(|b| b.stop_time_bound)
}
