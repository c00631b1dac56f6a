//! Marks in `archive_status` that an archiver would stop at for good.
//!
//! An archive command that refuses to overwrite never takes a file of which the archive has one already. Guarantees: what
//! the archive holds byte for byte becomes `.done`; so does a segment of which the archive holds only a damaged or another
//! copy, after ours was kept in the run's own directory and a person was told which file to replace.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::pg::SegmentName;
use crate::pg::segment::parse_history_name;
use crate::plan::chain;
use crate::plan::facts::{WalKind, WalSource};
use crate::run::executor::Run;
use crate::run::owner::Task;
use crate::run::sources::{self, Directories};
use crate::run::tail::CopyRequest;
use crate::run::tidy::SettleRequest;

/// A file marked `.ready` and the archive's file of that name: directory and file there.
type Pair = (String, PathBuf, String);

/// Settles the marks of the pg_wal whose real path is `wal`.
pub fn settle(run: &mut Run, wal: &Path) -> Result<()> {
    let own = sources::list(run, &Directories::default().with(wal, WalKind::Live))?;
    let archives = sources::list(run, &sources::archives(run))?;
    let ready: Vec<String> = own.iter().flat_map(|s| &s.marks).filter_map(|m| m.strip_suffix(".ready").map(str::to_string)).collect();
    let archived: Vec<Pair> = ready.iter().filter_map(|name| usable(run, &archives, name)).collect();
    let different: Vec<String> = if archived.is_empty() { vec![] } else { ask(run, wal, archived.clone(), vec![])? };
    let (mut lone, mut others) = (Vec::new(), Vec::new());
    for (name, directory, file) in archived.into_iter().filter(|(name, ..)| different.contains(name)) {
        match SegmentName::parse(&name, run.recovery().cluster.segment_size) {
            Some(_) => lone.push((name, directory.join(file), "has other bytes, or cannot be read to its end".to_string())),
            None => others.push(name),
        }
    }
    lone.extend(ready.iter().filter(|name| !different.contains(name)).filter_map(|name| damaged(run, &archives, name)));
    for name in others {
        run.remark(format!("the archive holds another {name} than this cluster: its archiver may stop there"))?;
    }
    give_up(run, wal, &own, lone)
}

/// The archive's copy of `name` as far as its first page tells.
fn usable(run: &Run, archives: &[WalSource], name: &str) -> Option<Pair> {
    if let Some(segment) = SegmentName::parse(name, run.recovery().cluster.segment_size) {
        let copy = chain::copies(archives).remove(&segment)?.into_iter().next()?;
        return Some((name.to_string(), copy.directory, copy.file));
    }
    let timeline = parse_history_name(name)?;
    let holder = archives.iter().find(|s| s.histories.iter().any(|(t, _)| *t == timeline))?;
    Some((name.to_string(), holder.directory.clone(), name.to_string()))
}

/// The archive's damaged copy of segment `name`, where it has no other: its path and what is wrong with it.
fn damaged(run: &Run, archives: &[WalSource], name: &str) -> Option<(String, PathBuf, String)> {
    let segment = SegmentName::parse(name, run.recovery().cluster.segment_size)?;
    let copies = || archives.iter().flat_map(|s| s.segments.iter().map(move |c| (s, c))).filter(|(_, c)| c.name == segment && !c.partial);
    if copies().any(|(_, copy)| copy.problem.is_none()) {
        return None;
    }
    let (source, copy) = copies().next()?;
    let why = copy.problem.clone().unwrap_or_default();
    Some((name.to_string(), source.directory.join(&copy.file), format!("is damaged: {why}")))
}

/// Ours is kept and named before its mark goes: from then on the server may recycle it.
fn give_up(run: &mut Run, wal: &Path, own: &[WalSource], lone: Vec<(String, PathBuf, String)>) -> Result<()> {
    if lone.is_empty() {
        return Ok(());
    }
    let size = |name: &String| own.iter().flat_map(|s| &s.segments).find(|c| c.file == *name).map_or(0, |c| c.size);
    let kept = keep(run, lone.iter().map(|(name, ..)| (wal.to_path_buf(), name.clone(), size(name))).collect())?;
    for (name, archived, why) in &lone {
        let good = kept.join(name);
        let (bad, good) = (archived.display(), good.display());
        let mend = match archived.ends_with(name) {
            true => format!("mend the archive by it: cp {good} {bad}"),
            false => format!("mend the archive by {good}, packed as the others are"),
        };
        let text = format!(
            "{bad} {why}. An archive command that does not overwrite would stop there for good, so {name} is not offered again. The good copy is kept; {mend}"
        );
        run.remark(text)?;
    }
    let names = lone.into_iter().map(|(name, ..)| name).collect();
    ask(run, wal, vec![], names).map(drop)
}

fn ask(run: &mut Run, wal: &Path, archived: Vec<Pair>, given_up: Vec<String>) -> Result<Vec<String>> {
    run.owner(Task::SettleMarks(Box::new(SettleRequest { wal: wal.to_path_buf(), archived, given_up })))
}

/// Copies files (directory, name, bytes) into `runs/<id>/wal`, which outlives the purge and is a source of later
/// recoveries. Returns that directory.
pub fn keep(run: &mut Run, files: Vec<(PathBuf, String, u64)>) -> Result<PathBuf> {
    let to = run.paths.kept_wal();
    run.paths.make_owned(&to, &run.recovery().cluster.owner)?;
    let _copied: u64 = run.owner(Task::CopyWal(Box::new(CopyRequest { files, to: to.clone() })))?;
    Ok(to)
}
