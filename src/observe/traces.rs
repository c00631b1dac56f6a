//! What is left on the host of a run whose journal tells nothing: looked for by name, at every place where a run puts
//! anything, and only named. As long as there is anything the run may have a cluster aside, or keep one down.
//!
//! The places are those of the clusters that are known today (beside PGDATA, in it where it is a mount point, at the
//! locations that its links name), those that this run's first entry names where that line is still whole, and
//! those of every other run's journal: a tablespace may have been dropped since, and a cluster taken out of the
//! configuration.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::observe::{runs, survey};
use crate::plan::ledger::{Event, Ledger};
use crate::plan::place::INSIDE;
use crate::plan::recovery::Recovery;
use crate::run::journal::Journal;
use crate::run::paths::RunPaths;
use crate::run::switch::hidden_name;
use crate::sys::dir::Dir;
use crate::sys::service;

/// Everything that carries the name of run `id`, in and beside `data_directories` and the places of all journals, with
/// the WAL that it kept and the units that it keeps down. A place that cannot be looked into is an error: what is there
/// is not known.
pub fn of(state: &Path, id: &str, data_directories: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let recoveries = recoveries(state, id)?;
    let mut named: Vec<PathBuf> = recoveries.iter().flat_map(Recovery::all_places).map(|place| place.run_directory(id)).collect();
    let known = recoveries.iter().map(|recovery| &recovery.cluster.data_directory);
    let mut clusters: Vec<&PathBuf> = data_directories.iter().chain(known).collect();
    clusters.sort();
    clusters.dedup();
    for data_directory in clusters {
        named.extend(around(data_directory, id)?);
    }
    named.push(RunPaths::new(state, id).kept_wal());
    let mut found: Vec<PathBuf> = named.into_iter().filter(|path| std::fs::symlink_metadata(path).is_ok()).collect();
    found.extend(service::kept_down_by(id)?);
    found.sort();
    found.dedup();
    Ok(found)
}

/// What this run's journal still says of where it worked, and what those of the others say.
fn recoveries(state: &Path, id: &str) -> Result<Vec<Recovery>> {
    let own = match Journal::first(&RunPaths::new(state, id).journal()).map(|entry| entry.event) {
        Some(Event::Run { recovery, .. }) => Some(*recovery),
        _ => None,
    };
    let of = |ledger: Ledger| ledger.recovery;
    let others = runs::all(state)?.into_iter().filter_map(|known| known.ledger.ok().and_then(of));
    Ok(own.into_iter().chain(others).collect())
}

/// Where run `id` would have put something of a cluster whose data directory this is.
fn around(data_directory: &Path, id: &str) -> Result<Vec<PathBuf>> {
    let run = format!(".pitr-{id}");
    let above = data_directory.parent().unwrap_or(Path::new("/"));
    let mut named = vec![
        above.join(&run),
        above.join(format!("{run}.placeholder")),
        data_directory.join(INSIDE).join(&run),
        data_directory.join(RunPaths::new(Path::new("/"), id).marker()),
        data_directory.join("global").join(hidden_name(id)),
    ];
    if std::fs::symlink_metadata(data_directory).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Ok(named);
    }
    let data = Dir::open(data_directory)?;
    let spaces = survey::tablespaces(&data)?.into_iter().map(|(_, text)| data_directory.join("pg_tblspc").join(text));
    named.extend(spaces.map(|location| location.join(&run)));
    let wal = survey::wal_link(&data)?.map(|text| data_directory.join(text));
    named.extend(wal.and_then(|wal| Some(wal.parent()?.join(&run))));
    Ok(named)
}
