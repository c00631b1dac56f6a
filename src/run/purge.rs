//! Purge: the only verb that deletes what was somebody's cluster. WAL that exists nowhere else is kept first.

use std::path::PathBuf;

use crate::error::{Error, Kind, Result};
use crate::plan::chain;
use crate::plan::facts::WalKind;
use crate::plan::ledger::Fact;
use crate::run::executor::Run;
use crate::run::owner::Task;
use crate::run::sources::{self, Directories};
use crate::run::steps;
use crate::run::switch::Stage;
use crate::run::tail::CopyRequest;

/// Copies every valid segment of the aside that neither the archive nor PGDATA's pg_wal has into `runs/<id>/wal`.
pub fn keep_wal(run: &mut Run) -> Result<()> {
    let own = run.staging().join("pg_wal");
    if std::fs::symlink_metadata(run.beside()).is_err() {
        return Ok(());
    }
    let live = run.recovery().cluster.data_directory.join("pg_wal");
    let aside = Directories::default().with(&own, WalKind::Kept(run.paths.id.clone()));
    let elsewhere = sources::archives(run).with(&live, WalKind::Live);
    let lone = sources::list(run, &aside)?;
    let known = sources::list(run, &elsewhere)?;
    let mut problems = lone
        .iter()
        .chain(known.iter().filter(|s| s.kind == WalKind::Archive))
        .filter_map(|s| s.problem.as_ref().map(|p| (s.directory.clone(), p)));
    if let Some((directory, problem)) = problems.next() {
        return Err(Error::new(Kind::Refused, format!("cannot tell what WAL would be lost: {}", directory.display()))
            .cause(problem)
            .hint("Make it readable, then purge again."));
    }
    let have = chain::copies(&known);
    let files = chain::copies(&lone).into_iter().filter(|(name, _)| !have.contains_key(name));
    let files: Vec<(PathBuf, String, u64)> =
        files.filter_map(|(_, list)| list.first().map(|c| (c.directory.clone(), c.file.clone(), c.size))).collect();
    let segments: Vec<String> = files.iter().map(|(_, file, _)| file.clone()).collect();
    if !files.is_empty() {
        let to = run.paths.kept_wal();
        if !to.is_dir() {
            let owner = run.recovery().cluster.owner.clone();
            run.paths.make_owned(&to, &owner)?;
        }
        let _copied: u64 = run.owner(Task::CopyWal(Box::new(CopyRequest { files, to })))?;
    }
    run.fact(Fact::WalKept { segments })
}

/// Deletes the run's directory beside PGDATA and the run's marker in PGDATA.
pub fn remove_aside(run: &mut Run) -> Result<()> {
    let data_directory = run.recovery().cluster.data_directory.clone();
    match steps::stage(run)? {
        Stage::Exchanged => return Err(Error::new(Kind::Hands, "a switch is open").hint("End it: pitr resume, or pitr undo.")),
        Stage::Switched | Stage::Staged | Stage::Hidden | Stage::Nothing => {}
    }
    steps::delete_beside(run)?;
    run.owner(Task::RemoveFile { parent: data_directory, name: run.paths.marker() })
}
