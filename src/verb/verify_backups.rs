//! `verify backups`: reads each backup to its last byte and says what that proves. Nothing is written.

use std::path::PathBuf;
use std::time::Instant;

use crate::error::{Error, Kind, Result};
use crate::host::Owner;
use crate::observe::discover::{self, owner_of};
use crate::report::progress::{Progress, ProgressMode, Unit};
use crate::report::verify_backups::{BackupProof, Proofs, Verdict};
use crate::run::owner::{self, Task};
use crate::store::{CatalogueEntry, Extracted};
use crate::verb::Context;
use crate::verb::log::reader_of;

/// Problems that are no damage: what is there is not a backup that could be proved by itself.
const NO_DAMAGE: [&str; 4] = ["incremental-backup", "live-data-directory", "symbolic-link", "tablespace-elsewhere"];

/// Proves the backups of the chosen cluster, or those in `directories`; only the one called `name`, if given.
pub fn prove(context: &Context, name: Option<&str>, directories: &[PathBuf]) -> Result<Proofs> {
    let (owner, directories) = ground(context, directories)?;
    let (mut entries, problems): (Vec<CatalogueEntry>, Vec<String>) = owner::call(&owner, None, Task::Catalogue { directories })?;
    if let Some(name) = name {
        let known: Vec<String> = entries.iter().map(|e| e.name.clone()).collect();
        entries.retain(|e| e.name == name);
        if entries.is_empty() {
            let hint = if known.is_empty() { "There is none at all.".to_string() } else { format!("There are: {}.", known.join(", ")) };
            return Err(Error::usage(format!("there is no backup {name}")).hint(hint));
        }
    }
    let mut progress = Progress::new(ProgressMode::detect(context.global.quiet || context.global.no_progress));
    let backups = entries.iter().map(|entry| one(&owner, entry, &mut progress)).collect::<Result<Vec<BackupProof>>>()?;
    // With one backup named, what is wrong elsewhere is not asked.
    Ok(Proofs { backups, problems: if name.is_some() { vec![] } else { problems } })
}

fn ground(context: &Context, directories: &[PathBuf]) -> Result<(Owner, Vec<PathBuf>)> {
    if let Some(first) = directories.first() {
        let real = std::fs::canonicalize(first).unwrap_or_else(|_| first.clone());
        let place = if real.is_file() { real.parent().unwrap_or(&real).to_path_buf() } else { real };
        return Ok((reader_of(&place)?, directories.to_vec()));
    }
    let found = discover::choose(&context.config, context.global.cluster.as_deref())?;
    if found.config.backups.is_empty() {
        return Err(Error::usage(format!("no directory of backups is known for {}", found.name))
            .hint("Set `backups` in /etc/pitr/pitr.toml, or give --backups DIR."));
    }
    let owner = Owner::lookup(owner_of(&found.data_directory)?.0)?;
    Ok((owner, found.config.backups))
}

fn one(owner: &Owner, entry: &CatalogueEntry, progress: &mut Progress) -> Result<BackupProof> {
    let mut proof = BackupProof { name: entry.name.clone(), path: entry.path.display().to_string(), ..BackupProof::default() };
    if let Some(problem) = entry.problems.first() {
        let harmless = entry.problems.iter().all(|p| NO_DAMAGE.contains(&p.id.as_str()));
        proof.verdict = if harmless { Verdict::Skipped } else { Verdict::Damaged };
        proof.error = Some(Error::new(Kind::Check, problem.what.clone()).hint(problem.hint.clone()).id(&problem.id));
        return Ok(proof);
    }
    let begun = Instant::now();
    let mut shown: Option<Option<u64>> = None;
    let read = owner::call_watched::<Extracted>(owner, None, Task::VerifyBackup(Box::new(entry.source.clone())), &mut |heard| {
        if let Some(heard) = heard {
            if shown != Some(heard.total) {
                shown = Some(heard.total);
                progress.start(&entry.name, heard.total, Unit::Bytes);
            }
            progress.update(heard.done, "");
            proof.read = proof.read.max(heard.done);
        }
        Ok(())
    });
    progress.finish();
    proof.seconds = begun.elapsed().as_secs_f64();
    match read {
        Ok(read) => proof.take(&read),
        // What the system refused says nothing about the backup's content, but it is not proved either.
        Err(error) => {
            proof.verdict = if error.kind == Kind::Refused { Verdict::Skipped } else { Verdict::Damaged };
            proof.error = Some(error);
        }
    }
    Ok(proof)
}
