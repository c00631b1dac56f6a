//! Earlier runs, read from their journals.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{At, Result};
use crate::observe::survey::tree_bytes;
use crate::plan::facts::{Control, Remains, RunFact};
use crate::plan::ledger::{Entry, Fact, Ledger};
use crate::run::journal::Journal;
use crate::run::leftovers;
use crate::run::paths::{RunPaths, is_run_id};
use crate::sys::dir::Dir;

/// A run's journal, folded, or why it tells nothing.
#[derive(Debug)]
pub struct Known {
    /// Its id.
    pub id: String,
    /// What its journal tells: at least the recovery that it began with.
    pub ledger: std::result::Result<Ledger, String>,
}

/// Every run of the state directory, oldest first.
pub fn all(state: &Path) -> Result<Vec<Known>> {
    let directory = state.join("runs");
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(e).at("list", &directory),
    };
    let mut ids: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).filter(|n| is_run_id(n)).collect();
    ids.sort();
    let read = |id: String| Known { ledger: ledger(&RunPaths::new(state, &id).journal()), id };
    Ok(ids.into_iter().map(read).collect())
}

/// A journal without its first entry tells as little as one that is damaged: the run may have done nothing, or all.
fn ledger(journal: &Path) -> std::result::Result<Ledger, String> {
    if std::fs::symlink_metadata(journal).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Err("there is none".into());
    }
    let ledger = Ledger::fold(&Journal::read(journal).map_err(|e| e.to_string())?);
    if ledger.recovery.is_some() { Ok(ledger) } else { Err("it is empty".into()) }
}

/// Every entry of the journal of run `id`.
pub fn entries(state: &Path, id: &str) -> Result<Vec<Entry>> {
    Journal::read(&RunPaths::new(state, id).journal())
}

/// The process of a person's command that is at work on run `id`.
pub fn at_work(state: &Path, id: &str) -> Option<i32> {
    leftovers::coordinator(&RunPaths::new(state, id)).ok().flatten()
}

/// What a run still holds on the host: its directory beside PGDATA and WAL that a purge kept, each with its bytes.
/// Names and sizes are looked at, by descriptor and without following a link; nothing is opened.
pub fn held(state: &Path, id: &str, ledger: &Ledger) -> Vec<(PathBuf, u64)> {
    let beside = ledger.recovery.as_ref().map(|r| r.beside(id));
    let places = beside.into_iter().chain([RunPaths::new(state, id).kept_wal()]);
    places.filter_map(|path| Dir::open(&path).and_then(|dir| tree_bytes(&dir, 1)).ok().map(|bytes| (path, bytes))).collect()
}

/// Runs whose journal tells nothing: id and why.
pub fn damaged(state: &Path) -> Result<Vec<String>> {
    Ok(all(state)?.into_iter().filter_map(|k| k.ledger.err().map(|why| format!("{}: {why}", k.id))).collect())
}

/// The runs of one cluster, by system identifier and data directory, oldest first; those that recovered another one
/// to the same place while this one stood there; and those that are open at this place, whatever cluster they are of: two
/// would work on one directory.
pub fn list(state: &Path, system_identifier: u64, data_directory: &Path) -> Result<Vec<RunFact>> {
    let wanted = |ledger: &Ledger| is_of(ledger, system_identifier, data_directory) || ledger.is_open() && is_at(ledger, data_directory);
    Ok(readable(state)?.iter().filter(|(_, ledger)| wanted(ledger)).map(|(id, ledger)| fact(id, ledger, system_identifier)).collect())
}

/// What a postmaster was started with: the file of its messages and its environment, `KEY=VALUE` bytes.
pub type Start = (Option<PathBuf>, Vec<Vec<u8>>);

/// How the server of a cluster had been started when the newest run that saw it running began. Nothing else tells that
/// once it is stopped.
pub fn last_seen_running(state: &Path, system_identifier: u64, data_directory: &Path) -> Result<Option<Start>> {
    let mut controls = readable(state)?;
    controls.retain(|(_, ledger)| is_of(ledger, system_identifier, data_directory));
    Ok(controls.into_iter().rev().find_map(|(_, ledger)| match ledger.recovery?.cluster.control {
        Control::PgCtl { log, environment, .. } if !environment.is_empty() => Some((log, environment)),
        Control::Systemd { environment, .. } if !environment.is_empty() => Some((None, environment)),
        Control::PgCtl { .. } | Control::PgCtlCluster { .. } | Control::Systemd { .. } => None,
    }))
}

/// Runs whose journal tells something, oldest first.
fn readable(state: &Path) -> Result<Vec<(String, Ledger)>> {
    Ok(all(state)?.into_iter().filter_map(|known| Some((known.id, known.ledger.ok()?))).collect())
}

/// The journal of a fresh host's run carries the lost cluster's identifier, not that of the one that gave way.
fn is_of(ledger: &Ledger, system_identifier: u64, data_directory: &Path) -> bool {
    ledger.recovery.as_ref().map(|r| &r.cluster).is_some_and(|c| {
        c.data_directory == data_directory && (c.system_identifier == system_identifier || matches!(c.remains, Remains::Other { .. }))
    })
}

/// By its path, or by what the path of the run's plan leads to now: a bind mount gives one directory two paths.
fn is_at(ledger: &Ledger, data_directory: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    ledger.recovery.as_ref().map(|r| &r.cluster.data_directory).is_some_and(|planned| {
        planned == data_directory || identity(planned).is_some_and(|planned| identity(data_directory) == Some(planned))
    })
}

fn fact(id: &str, ledger: &Ledger, system_identifier: u64) -> RunFact {
    let foreign = ledger.recovery.as_ref().is_some_and(|r| r.cluster.system_identifier != system_identifier);
    let directory: Option<PathBuf> = ledger.recovery.as_ref().map(|r| r.beside(id)).filter(|p| p.is_dir());
    // Only a number that a public cluster had is taken: one that never left a staging is free again.
    let public = ledger.public_start();
    RunFact {
        id: id.to_string(),
        open: ledger.is_open(),
        state: ledger.state(),
        removing: ledger.removing(),
        number: ledger.number().filter(|_| public && !foreign),
        moved_to: ledger.last(|f| match f {
            _ if foreign => None,
            Fact::MoveTo { timeline } | Fact::Moved { timeline } => Some(*timeline),
            _ => None,
        }),
        wal: ledger.recovery.as_ref().map(|r| r.staged_wal(id)).filter(|_| directory.is_some() && !foreign),
        foreign,
        directory,
        switched: ledger.outcome == Some(crate::plan::ledger::Outcome::Switched),
        stands: ledger.exchanged(),
        rates: ledger.rates(),
    }
}
