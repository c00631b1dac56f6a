//! Compares what was read with the backup's manifest, as `pg_verifybackup` does.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::layout::{Treatment, treatment};
use crate::error::{Error, Kind, Result};
use crate::pg::{Algorithm, Checksum, Hasher, Manifest, is_exempt};

/// Problems that are named one by one; the rest is counted.
const NAMED: usize = 20;

/// Files that are not what the manifest says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyProblems {
    /// The first ones, each in words.
    pub named: Vec<String>,
    /// All of them.
    pub count: u64,
}

impl VerifyProblems {
    fn add(&mut self, path: &[u8], what: impl std::fmt::Display) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(format!("{}: {what}", path.escape_ascii()));
        }
    }

    /// The error where there is any.
    pub fn into_result(self, backup: &str) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let more = self.count.saturating_sub(self.named.len() as u64);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        Err(Error::new(Kind::Check, format!("backup {backup} is damaged: {} files are not as its manifest says", self.count))
            .cause(format!("{}{more}", self.named.join("; ")))
            .hint("Choose another backup with --backup; `pitr verify backups` shows which are whole."))
    }
}

/// Size and checksum of each file that an archive held, by its path below the data directory.
#[derive(Default)]
pub(super) struct Ledger {
    seen: HashMap<Box<[u8]>, Seen>,
    algorithms: HashMap<Box<[u8]>, Algorithm>,
}

struct Seen {
    size: u64,
    checksum: Checksum,
}

impl Ledger {
    /// A ledger that knows the manifest from the beginning takes each file's checksum by the algorithm that is listed; one that
    /// finds it later took CRC-32C, the manifest's default.
    pub(super) fn new(manifest: Option<&Manifest>) -> Ledger {
        let other = |c: &Checksum| c.algorithm != Algorithm::Crc32c;
        let files = manifest.into_iter().flat_map(|m| &m.files);
        let algorithms = files
            .filter_map(|f| f.checksum.as_ref().filter(|c| other(c)).map(|c| (f.path.clone().into_boxed_slice(), c.algorithm)))
            .collect();
        Ledger { seen: HashMap::new(), algorithms }
    }

    /// A hasher for the file at `path`.
    pub(super) fn hasher(&self, path: &[u8]) -> (Algorithm, Hasher) {
        let algorithm = self.algorithms.get(path).copied().unwrap_or(Algorithm::Crc32c);
        (algorithm, Hasher::new(algorithm))
    }

    /// Whether there was a file at `path` already.
    pub(super) fn has(&self, path: &[u8]) -> bool {
        self.seen.contains_key(path)
    }

    /// Enters a file that was read.
    pub(super) fn enter(&mut self, path: &[u8], size: u64, algorithm: Algorithm, hasher: Hasher) {
        self.seen.insert(path.into(), Seen { size, checksum: Checksum { algorithm, bytes: hasher.finish() } });
    }

    /// Compares everything. `reread` gives the checksum of a file by another algorithm than it was taken with, where the file still
    /// exists; a file that was left out is then compared by size alone.
    pub(super) fn compare(
        &self,
        manifest: &Manifest,
        mut reread: impl FnMut(&[u8], Algorithm) -> Result<Option<Vec<u8>>>,
    ) -> Result<VerifyProblems> {
        let mut problems = VerifyProblems::default();
        let mut listed = HashSet::with_capacity(manifest.files.len());
        for file in &manifest.files {
            listed.insert(file.path.as_slice());
            if is_exempt(&file.path) {
                continue;
            }
            let Some(seen) = self.seen.get(file.path.as_slice()) else {
                problems.add(&file.path, "missing");
                continue;
            };
            if seen.size != file.size {
                problems.add(&file.path, format!("{} bytes instead of {}", seen.size, file.size));
                continue;
            }
            let Some(expected) = &file.checksum else { continue };
            let found = if expected.algorithm == seen.checksum.algorithm {
                Some(seen.checksum.bytes.clone())
            } else {
                reread(&file.path, expected.algorithm)?
            };
            if found.is_some_and(|found| found != expected.bytes) {
                problems.add(&file.path, format!("changed ({} differs)", expected.algorithm));
            }
        }
        let extra = |path: &[u8]| !listed.contains(path) && !is_exempt(path) && treatment(as_path(path)) == Treatment::Keep;
        let mut extras: Vec<&[u8]> = self.seen.keys().map(|path| &**path).filter(|path| extra(path)).collect();
        extras.sort_unstable();
        for path in extras {
            problems.add(path, "not in the manifest");
        }
        Ok(problems)
    }
}

/// Whether every file that the manifest lists can be proved by it (`--manifest-checksums=NONE` cannot).
pub(super) fn proves_content(manifest: &Manifest) -> bool {
    manifest.files.iter().all(|f| f.checksum.is_some() || is_exempt(&f.path))
}

pub(super) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
