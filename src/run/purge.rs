//! Purge: the only verb that deletes what was somebody's cluster. WAL that exists nowhere else is kept first.

use std::path::PathBuf;

use crate::error::{Error, Kind, Result};
use crate::pg::Timeline;
use crate::pg::segment::history_name;
use crate::plan::chain;
use crate::plan::facts::{WalKind, WalSource};
use crate::plan::ledger::Fact;
use crate::run::beside;
use crate::run::exchange;
use crate::run::executor::Run;
use crate::run::marks;
use crate::run::owner::Task;
use crate::run::sources::{self, Directories};
use crate::run::steps;
use crate::run::switch::Stage;
use crate::sys::crash;

/// Copies every valid segment and history of the aside into `runs/<id>/wal` of which no archive holds the same bytes.
/// The live pg_wal is no evidence: the server recycles it.
pub fn keep_wal(run: &mut Run) -> Result<()> {
    let own = run.staged_wal();
    if std::fs::symlink_metadata(&own).is_err() {
        return Ok(());
    }
    let aside = Directories::default().with(&own, WalKind::Kept(run.paths.id.clone()));
    let lone = sources::list(run, &aside)?;
    let archives = sources::list(run, &sources::archives(run))?;
    if let Some((source, problem)) = lone.iter().chain(&archives).find_map(|s| s.problem.as_ref().map(|p| (s, p))) {
        return Err(Error::new(Kind::Refused, format!("cannot tell what WAL would be lost: {}", source.directory.display()))
            .cause(problem)
            .hint("Make it readable, then purge again."));
    }
    let files = without_equal(run, &lone, &archives)?;
    let segments: Vec<String> = files.iter().map(|(_, file, _)| file.clone()).collect();
    if !files.is_empty() {
        marks::keep(run, files)?;
    }
    run.fact(Fact::WalKept { segments })
}

/// Files of the aside that no archive holds byte for byte.
fn without_equal(run: &mut Run, lone: &[WalSource], archives: &[WalSource]) -> Result<Vec<(PathBuf, String, u64)>> {
    let archived = chain::copies(archives);
    let (mut files, mut pairs) = (Vec::new(), Vec::new());
    for (name, list) in chain::copies(lone) {
        let Some(own) = list.first() else { continue };
        match archived.get(&name).and_then(|copies| copies.first()) {
            Some(copy) => pairs.push((own.directory.clone(), own.file.clone(), copy.directory.clone(), copy.file.clone(), own.size)),
            None => files.push((own.directory.clone(), own.file.clone(), own.size)),
        }
    }
    let compared = pairs.iter().map(|(d, f, ad, af, _)| (d.clone(), f.clone(), ad.clone(), af.clone())).collect();
    let different: Vec<usize> = run.owner(Task::CompareWal { pairs: compared })?;
    files.extend(different.into_iter().filter_map(|at| pairs.get(at)).map(|(d, f, _, _, size)| (d.clone(), f.clone(), *size)));
    let known =
        |t: &Timeline, text: &str| archives.iter().any(|s| s.histories.iter().any(|(other, content)| other == t && content == text));
    for source in lone {
        files.extend(
            source
                .histories
                .iter()
                .filter(|(t, text)| !known(t, text))
                .map(|(t, text)| (source.directory.clone(), history_name(*t), text.len() as u64)),
        );
    }
    Ok(files)
}

/// What is deleted must be what the journal says: after an undo the recovered cluster, which carries the marker; after
/// a switch the old one, which does not.
fn right_one(run: &mut Run) -> Result<()> {
    let marker = run.staging().join(run.paths.marker());
    let data = run.staging();
    if run.ledger().removing() || std::fs::symlink_metadata(&data).is_err() {
        return Ok(());
    }
    let recovered = std::fs::symlink_metadata(marker).is_ok();
    if recovered == run.ledger().exchanged() {
        let is = if recovered { "the recovered cluster" } else { "not the cluster that this run recovered" };
        return Err(Error::new(Kind::Hands, format!("{} is {is}, against the journal", data.display()))
            .hint("Somebody exchanged directories. Nothing was deleted: look at PGDATA and at it."));
    }
    exchange::asides_are_in_place(run)
}

/// A half-deleted cluster must never start: its pg_control goes first.
fn never_startable(run: &mut Run) -> Result<()> {
    let global = run.staging().join("global");
    if std::fs::symlink_metadata(&global).is_err() {
        return Ok(());
    }
    for name in ["pg_control".to_string(), crate::run::switch::hidden_name(&run.paths.id)] {
        run.owner::<()>(Task::RemoveFile { parent: global.clone(), name })?;
    }
    Ok(())
}

/// Deletes the run's directory beside PGDATA and the run's marker in PGDATA.
pub fn remove_aside(run: &mut Run) -> Result<()> {
    let data_directory = run.recovery().cluster.data_directory.clone();
    // Once deleting was begun there is no whole cluster left to look at.
    let seen = if run.ledger().removing() { Stage::Nothing } else { steps::stage(run)? };
    match seen {
        Stage::Exchanged => return Err(Error::new(Kind::Hands, "a switch is open").hint("End it: pitr resume, or pitr undo.")),
        Stage::Switched | Stage::Staged | Stage::Hidden | Stage::Nothing | Stage::Foreign | Stage::Sealed => {}
    }
    right_one(run)?;
    run.fact(Fact::Removing)?;
    crash::point("before a deletion")?;
    never_startable(run)?;
    beside::delete_all(run)?;
    // After the undo of a run for a lost cluster nothing is there again.
    if std::fs::symlink_metadata(&data_directory).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Ok(());
    }
    run.owner(Task::RemoveFile { parent: data_directory, name: run.paths.marker() })
}
