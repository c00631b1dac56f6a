//! Unlogged relations of the old cluster, while an undo moves it to a timeline of its own.
//!
//! That is an archive recovery, which resets every relation that has an init fork, also after a clean shutdown
//! (`ResetUnloggedRelations`, reinit.c). Guarantees: while the init forks have names that are none of a relation's files,
//! nothing is reset; once they have their own again, everything is as it was. Whatever was interrupted, doing it again ends it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::sys::dir::{Dir, Entry, Kind};

/// Before a hidden name.
const HIDDEN: &str = "pitr-";

/// Where relation files are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The data directory.
    pub data: PathBuf,
    /// What its links in `pg_tblspc` mean: directories that hold one such as `PG_15_202209061` each. One may be missing.
    pub spaces: Vec<PathBuf>,
    /// Take them out of sight; otherwise give them their names back.
    pub hide: bool,
}

/// Renames every init fork. Returns how many.
pub fn rename(files: &Files) -> Result<u64> {
    let data = Dir::open(&files.data)?;
    let mut number = databases(&data.open_beneath("base")?, files.hide)?;
    let links = data.open_beneath("pg_tblspc")?;
    // Those that are directories themselves lie in place.
    for entry in directories(&links)? {
        number += versions(&links.open_beneath(&entry.name)?, files.hide)?;
    }
    // One that was made after the target has nothing of the old cluster's aside.
    for space in files.spaces.iter().filter(|space| std::fs::symlink_metadata(space).is_ok()) {
        number += versions(&Dir::open(space)?, files.hide)?;
    }
    Ok(number)
}

fn versions(space: &Dir, hide: bool) -> Result<u64> {
    let mut number = 0;
    for entry in directories(space)?.iter().filter(|entry| entry.name.to_string_lossy().starts_with("PG_")) {
        number += databases(&space.open_beneath(&entry.name)?, hide)?;
    }
    Ok(number)
}

fn databases(above: &Dir, hide: bool) -> Result<u64> {
    let mut number = 0;
    for entry in directories(above)? {
        number += database(&above.open_beneath(&entry.name)?, hide)?;
    }
    Ok(number)
}

fn database(directory: &Dir, hide: bool) -> Result<u64> {
    let mut number = 0;
    for entry in directory.entries()?.iter().filter(|entry| entry.kind() == Kind::File) {
        let Some(name) = entry.name_str() else { continue };
        match name.strip_prefix(HIDDEN) {
            None if hide && is_init_fork(name) => directory.rename_noreplace(name, directory, format!("{HIDDEN}{name}"))?,
            Some(own) if !hide && is_init_fork(own) => directory.rename_noreplace(name, directory, own)?,
            _ => continue,
        }
        number += 1;
    }
    if number > 0 {
        directory.sync()?;
    }
    Ok(number)
}

fn directories(above: &Dir) -> Result<Vec<Entry>> {
    Ok(above.entries()?.into_iter().filter(|entry| entry.kind() == Kind::Directory).collect())
}

/// `16400_init`, `16400_init.1`.
fn is_init_fork(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let Some((relation, rest)) = name.split_once("_init") else { return false };
    digits(relation) && (rest.is_empty() || rest.strip_prefix('.').is_some_and(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_init_forks() {
        for (name, is) in [
            ("16400_init", true),
            ("16400_init.1", true),
            ("16400", false),
            ("16400_fsm", false),
            ("_init", false),
            ("16400_init.", false),
            ("16400_init.x", false),
            ("t3_16400_init", false),
            ("pitr-16400_init", false),
        ] {
            assert_eq!(is_init_fork(name), is, "{name}");
        }
    }
}
