//! Earlier runs, read from their journals.

use std::path::{Path, PathBuf};

use crate::error::{At, Result};
use crate::plan::facts::{Control, RunFact};
use crate::plan::ledger::{Fact, Ledger};
use crate::run::journal::Journal;
use crate::run::paths::{RunPaths, is_run_id};

/// A run's journal, folded, or why it cannot be read.
#[derive(Debug)]
pub struct Known {
    /// Its id.
    pub id: String,
    /// What its journal tells.
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
    let read = |id: String| {
        let ledger = Journal::read(&RunPaths::new(state, &id).journal()).map(|entries| Ledger::fold(&entries)).map_err(|e| e.to_string());
        Known { id, ledger }
    };
    Ok(ids.into_iter().map(read).collect())
}

/// Runs whose journal is there and cannot be read; one that was never written began nothing.
pub fn damaged(state: &Path) -> Result<Vec<String>> {
    let unread = |k: Known| k.ledger.err().filter(|_| RunPaths::new(state, &k.id).journal().exists()).map(|why| format!("{}: {why}", k.id));
    Ok(all(state)?.into_iter().filter_map(unread).collect())
}

/// The runs of one cluster, by system identifier and data directory, oldest first.
pub fn list(state: &Path, system_identifier: u64, data_directory: &Path) -> Result<Vec<RunFact>> {
    Ok(of_cluster(state, system_identifier, data_directory)?.iter().map(|(id, ledger)| fact(id, ledger)).collect())
}

/// What a postmaster was started with: the file of its messages and its environment, `KEY=VALUE` bytes.
pub type Start = (Option<PathBuf>, Vec<Vec<u8>>);

/// How the server of a cluster had been started when the newest run that saw it running began. Nothing else tells that
/// once it is stopped.
pub fn last_seen_running(state: &Path, system_identifier: u64, data_directory: &Path) -> Result<Option<Start>> {
    let controls = of_cluster(state, system_identifier, data_directory)?;
    Ok(controls.into_iter().rev().find_map(|(_, ledger)| match ledger.recovery?.cluster.control {
        Control::PgCtl { log, environment, .. } if !environment.is_empty() => Some((log, environment)),
        Control::PgCtl { .. } | Control::PgCtlCluster { .. } => None,
    }))
}

fn of_cluster(state: &Path, system_identifier: u64, data_directory: &Path) -> Result<Vec<(String, Ledger)>> {
    let readable = all(state)?.into_iter().filter_map(|known| Some((known.id, known.ledger.ok()?)));
    let ours = |ledger: &Ledger| {
        ledger
            .recovery
            .as_ref()
            .is_some_and(|r| r.cluster.system_identifier == system_identifier && r.cluster.data_directory == data_directory)
    };
    Ok(readable.filter(|(_, ledger)| ours(ledger)).collect())
}

fn fact(id: &str, ledger: &Ledger) -> RunFact {
    let directory: Option<PathBuf> = ledger.recovery.as_ref().map(|r| r.beside(id)).filter(|p| p.is_dir());
    // Only a number that a public cluster had is taken: one that never left a staging is free again.
    let public = ledger.public_start();
    RunFact {
        id: id.to_string(),
        open: ledger.is_open(),
        state: ledger.state(),
        number: ledger.number().filter(|_| public),
        moved_to: ledger.last(|f| match f {
            Fact::MoveTo { timeline } | Fact::Moved { timeline } => Some(*timeline),
            _ => None,
        }),
        wal: ledger.recovery.as_ref().map(|r| r.staged_wal(id)).filter(|_| directory.is_some()),
        directory,
        switched: ledger.outcome == Some(crate::plan::ledger::Outcome::Switched),
        stands: ledger.exchanged(),
        rates: ledger.rates(),
    }
}
