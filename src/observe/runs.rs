//! Earlier runs, read from their journals.

use std::path::{Path, PathBuf};

use crate::error::{At, Result};
use crate::plan::facts::RunFact;
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

/// The runs of one cluster, by system identifier and data directory.
pub fn list(state: &Path, system_identifier: u64, data_directory: &Path) -> Result<Vec<RunFact>> {
    let of_cluster = |known: &Known| match &known.ledger {
        Ok(ledger) => ledger
            .recovery
            .as_ref()
            .is_some_and(|r| r.cluster.system_identifier == system_identifier && r.cluster.data_directory == data_directory),
        Err(_) => false,
    };
    Ok(all(state)?.iter().filter(|k| of_cluster(k)).filter_map(|k| k.ledger.as_ref().ok().map(|l| fact(&k.id, l))).collect())
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
        directory,
        switched: ledger.outcome == Some(crate::plan::ledger::Outcome::Switched),
        stands: ledger.exchanged(),
        rates: ledger.rates(),
    }
}
