//! What looking through a whole tarball told, kept in the index as long as the file is what it was: every verb would read a
//! month of nightly tarballs again, for a minute. Nothing is lost with it, and what proves a backup never asks it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::catalogue::{CatalogueEntry, identify};
use super::index::{Index, Key};
use super::source::Form;
use crate::error::Result;
use crate::sys::dir::Dir;

/// Format of what is kept, and what [`identify`] looks for: another one is no help.
const VERSION: u32 = 1;
/// Largest file of it that is read, in bytes.
const LARGEST: u64 = 64 << 20;
const FILE: &str = "tarballs.json";

/// What a tarball is, and the file of which that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Looked {
    /// The file.
    pub key: Key,
    /// What it is.
    pub entry: CatalogueEntry,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    tarballs: Vec<Looked>,
}

/// What is known of `entry` from an earlier look, where its file has not changed; it is added to `looked`.
pub fn recall(entry: &CatalogueEntry, known: &[Looked], looked: &mut Vec<Looked>) -> Option<CatalogueEntry> {
    let key = key(entry)?;
    let found = known.iter().find(|found| found.key == key)?;
    looked.push(found.clone());
    Some(found.entry.clone())
}

/// [`identify`]; what it told is added to `looked`, unless the file may have changed meanwhile.
pub fn look_through(entry: &CatalogueEntry, looked: &mut Vec<Looked>) -> CatalogueEntry {
    let before = key(entry).filter(Key::is_settled);
    let identified = identify(entry);
    if let Some(key) = before.filter(|before| key(entry).as_ref() == Some(before)) {
        looked.push(Looked { key, entry: identified.clone() });
    }
    identified
}

fn key(entry: &CatalogueEntry) -> Option<Key> {
    let Form::Tarball { file, .. } = &entry.source.form else { return None };
    let directory = Dir::open(file.parent()?).ok()?;
    let opened = directory.open_file(file.file_name().unwrap_or(OsStr::new(""))).ok()?;
    let stat = rustix::fs::fstat(&opened).ok()?;
    Some(Key::new(file.clone(), &(&stat).into()))
}

impl Index {
    /// What is kept of the tarballs in `directories`; nothing where it cannot be read.
    pub fn tarballs(&self, directories: &[PathBuf]) -> Vec<Looked> {
        let mut kept = self.all_tarballs();
        kept.retain(|looked| is_in(looked, directories));
        kept
    }

    /// From now on `looked` is what is kept of the tarballs in `directories`.
    pub fn keep_tarballs(&self, directories: &[PathBuf], looked: Vec<Looked>) -> Result<()> {
        let mut kept = self.all_tarballs();
        let before = kept.clone();
        kept.retain(|looked| !is_in(looked, directories));
        kept.extend(looked);
        kept.sort_by(|a, b| a.key.path.cmp(&b.key.path));
        if kept == before {
            return Ok(());
        }
        let text = serde_json::to_vec(&Kept { version: VERSION, tarballs: kept }).unwrap_or_default();
        Dir::open(self.root())?.write_durable(FILE, &text, 0o600)
    }

    fn all_tarballs(&self) -> Vec<Looked> {
        let read = Dir::open(self.root()).and_then(|dir| dir.read_file(FILE, LARGEST)).unwrap_or_default();
        let kept = serde_json::from_slice(&read).ok().filter(|kept: &Kept| kept.version == VERSION);
        kept.map(|kept| kept.tarballs).unwrap_or_default()
    }
}

/// The catalogue looks at what lies in a directory, and at a `base.tar` one below.
fn is_in(looked: &Looked, directories: &[PathBuf]) -> bool {
    looked.key.path.ancestors().skip(1).take(2).any(|above: &Path| directories.iter().any(|directory| directory == above))
}
