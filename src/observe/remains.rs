//! What stands at PGDATA, and which cluster is to be recovered where that does not say it.
//!
//! A missing, empty or destroyed data directory is the reason for many recoveries (pitfalls B15). Then the archive
//! tells whose WAL it keeps, and the newest backup of that cluster brings the rest.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::config::Config;
use crate::error::{At, Error, Kind, Result};
use crate::host::Owner;
use crate::observe::discover::Found;
use crate::observe::host::Where;
use crate::observe::runs;
use crate::observe::survey::{Origins, OriginsRequest};
use crate::observe::whose::{self, Place};
use crate::pg::control::{ClusterState, WalLevel};
use crate::pg::{ControlFile, Lsn, Timeline};
use crate::plan::chain;
use crate::plan::facts::{Remains, RunFact, WalKind, WalSource};
use crate::run::owner::{self, Task};
use crate::run::tail::WalIdentity;

/// The place of a cluster.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Who owns it, or will.
    pub owner: Owner,
    /// Inode of the data directory; 0 where there is none.
    pub inode: u64,
    /// What stands there.
    pub remains: Remains,
    /// pg_control of the cluster that is to be recovered, or what stands for it.
    pub control: ControlFile,
}

/// Looks at the place of `found`.
pub fn look(config: &Config, found: &Found, places: &Where) -> Result<Ground> {
    let path = &found.data_directory;
    let place = whose::place(path)?;
    let Some(stat) = place.there else {
        let owner = Owner::lookup(future_owner(&place)?).map_err(refused)?;
        return unidentified(found, places, owner, 0, Remains::Missing);
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(Error::new(Kind::Refused, format!("{} is not a directory", path.display())));
    }
    let owner = Owner::lookup(place.uid).map_err(refused)?;
    let inode = stat.st_ino;
    match owner::call::<ControlFile>(&owner, None, Task::ReadControl { data_directory: path.clone(), hidden: None }) {
        Ok(control) if places.fresh => {
            let other = Remains::Other { system_identifier: control.system_identifier };
            let ground = unidentified(found, places, owner, inode, other)?;
            let same = ground.control.system_identifier == control.system_identifier;
            Ok(if same { Ground { remains: Remains::Whole, control, ..ground } } else { ground })
        }
        Ok(control) => Ok(Ground { owner, inode, remains: Remains::Whole, control }),
        // In the middle of a switch pg_control is hidden: the run that did it comes first.
        Err(error) if in_a_switch(config, path)? => Err(refused(error)),
        Err(error) => {
            let empty = std::fs::read_dir(path).at("list", path)?.next().is_none();
            let remains = if empty { Remains::Empty } else { Remains::Damaged { why: error.to_string() } };
            unidentified(found, places, owner, inode, remains)
        }
    }
}

fn refused(error: Error) -> Error {
    error.with_kind(Kind::Refused)
}

/// Who will own a data directory that is not there: whoever owns the directory above it, PostgreSQL's usual user where
/// that is root.
fn future_owner(place: &Place) -> Result<u32> {
    if place.uid != 0 {
        return Ok(place.uid);
    }
    let user = nix::unistd::User::from_name("postgres").ok().flatten();
    user.map(|user| user.uid.as_raw()).ok_or_else(|| {
        Error::new(Kind::Refused, format!("{} does not exist, and there is no user postgres to own it", place.path.display()))
            .hint("Make it, empty, and give it to the user that PostgreSQL runs as.")
    })
}

fn in_a_switch(config: &Config, path: &Path) -> Result<bool> {
    let open = |known: &runs::Known| {
        known.ledger.as_ref().is_ok_and(|l| l.is_open() && l.recovery.as_ref().is_some_and(|r| r.cluster.data_directory == *path))
    };
    Ok(runs::all(&config.state_directory)?.iter().any(open))
}

/// The cluster by what backups and archive say.
fn unidentified(found: &Found, places: &Where, owner: Owner, inode: u64, remains: Remains) -> Result<Ground> {
    let choose = |given: &[PathBuf], configured: &[PathBuf]| if given.is_empty() { configured.to_vec() } else { given.to_vec() };
    let request = OriginsRequest {
        backups: choose(&places.backups, &found.config.backups),
        wal: choose(&places.wal, &found.config.wal_archive),
        identify: places.identify.clone(),
        standing: if let Remains::Other { system_identifier } = &remains { Some(*system_identifier) } else { None },
    };
    let origins: Origins = owner::call(&owner, None, Task::Origins(Box::new(request))).map_err(refused)?;
    let control = identity(&origins, places.identify.as_ref().and_then(|i| i.name.as_deref())).ok_or_else(|| {
        let place = found.data_directory.display();
        Error::new(Kind::Refused, format!("{place} does not say which cluster it was, and neither backups nor archive do"))
            .hint("Name both: --backups DIR --wal DIR, or `backups` and `wal_archive` in /etc/pitr/pitr.toml.")
            .id("unknown-cluster")
    })?;
    Ok(Ground { owner, inode, remains, control })
}

/// The named backup, else the archive, else the newest backup says which cluster it is; the newest backup of that one
/// brings what else is known.
fn identity(origins: &Origins, named: Option<&str>) -> Option<ControlFile> {
    let mut controls: Vec<_> = origins.backups.iter().filter_map(|b| b.control.as_ref().map(|control| (b, control))).collect();
    controls.sort_by_key(|(backup, _)| backup.stop_time_bound);
    let chosen = named.and_then(|name| controls.iter().find(|(backup, _)| backup.name == name));
    let wanted = chosen.map(|(_, c)| c.system_identifier).or(origins.archive.as_ref().map(|a| a.system_identifier));
    let newest = controls.iter().rev().find(|(_, c)| wanted.is_none_or(|id| c.system_identifier == id));
    let known = newest.map(|(_, control)| (*control).clone());
    known
        .or_else(|| origins.archive.as_ref().and_then(of_archive))
        .map(|control| ControlFile { state: ClusterState::InProduction, ..control })
}

/// Where no backup shows its pg_control (it is the last file of a large tar), the WAL's first page says what has to be
/// known; everything else is zero, which demands nothing.
fn of_archive(archive: &WalIdentity) -> Option<ControlFile> {
    let size = archive.segment_size;
    Some(ControlFile {
        system_identifier: archive.system_identifier,
        control_version: 0,
        catalog_version: crate::pg::control::catalog_version_of(archive.major)?,
        state: ClusterState::InProduction,
        time: 0,
        checkpoint: Lsn(0),
        redo: Lsn(0),
        timeline: Timeline(1),
        prev_timeline: Timeline(1),
        next_xid: 0,
        next_oid: 0,
        checkpoint_time: 0,
        min_recovery_point: Lsn(0),
        min_recovery_timeline: 0,
        backup_start_point: Lsn(0),
        backup_end_point: Lsn(0),
        backup_end_required: false,
        wal_level: WalLevel::Replica,
        max_connections: 0,
        max_worker_processes: 0,
        max_wal_senders: 0,
        max_prepared_xacts: 0,
        max_locks_per_xact: 0,
        block_size: 8192,
        wal_block_size: 8192,
        segment_size: size,
        data_checksum_version: 0,
    })
}

/// The timeline that the cluster was on, where its pg_control does not say it: its own WAL does, else the last run that
/// put a cluster here, else the archive where that has only one.
pub fn timeline(wal: &[WalSource], runs: &[RunFact]) -> Option<Timeline> {
    let of = |wanted: fn(&WalKind) -> bool| {
        let sources: Vec<WalSource> = wal.iter().filter(|s| wanted(&s.kind)).map(without_strangers).collect();
        chain::numbers(&sources)
    };
    let own = of(|kind| *kind == WalKind::Live).into_iter().max();
    let run = || runs.iter().rev().find(|r| r.stands).and_then(|r| r.number);
    let archived = || {
        let mut numbers = of(|kind| *kind == WalKind::Archive);
        // Branches of runs that were taken back are dead.
        numbers.retain(|number| !runs.iter().any(|run| !run.stands && run.number == Some(*number)));
        (numbers.len() == 1).then(|| numbers.into_iter().next()).flatten()
    };
    own.or_else(run).or_else(archived)
}

/// Segments whose first page is another cluster's, or is not what the name says, tell of no timeline.
fn without_strangers(source: &WalSource) -> WalSource {
    let mut source = source.clone();
    source.segments.retain(|segment| segment.problem.is_none());
    source
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::{SegmentName, SegmentSize};
    use crate::plan::facts::SegmentCopy;

    fn source(kind: WalKind, timelines: &[u32], problem: Option<&str>) -> WalSource {
        let segments = timelines.iter().map(|t| SegmentCopy {
            name: SegmentName { timeline: Timeline(*t), number: 1 },
            file: String::new(),
            size: 0,
            problem: problem.map(str::to_string),
            partial: false,
        });
        let segments = segments.collect();
        WalSource { directory: PathBuf::new(), kind, segments, histories: vec![], backups: vec![], marks: vec![], problem: None }
    }

    #[test]
    fn the_timeline_is_not_guessed() {
        let archive = |timelines: &[u32]| source(WalKind::Archive, timelines, None);
        assert_eq!(timeline(&[archive(&[1])], &[]), Some(Timeline(1)));
        assert_eq!(timeline(&[archive(&[1, 2])], &[]), None);
        assert_eq!(timeline(&[archive(&[1, 2]), source(WalKind::Live, &[2], None)], &[]), Some(Timeline(2)));
        // The WAL of an empty cluster that a package made is not this cluster's.
        assert_eq!(timeline(&[archive(&[3]), source(WalKind::Live, &[1], Some("of another cluster"))], &[]), Some(Timeline(3)));
        assert_eq!(timeline(&[], &[]), None);
    }

    #[test]
    fn an_archive_alone_says_whose_it_is() {
        let archive = WalIdentity { major: 15, system_identifier: 7, segment_size: SegmentSize::new(1 << 20).unwrap() };
        let control = identity(&Origins { backups: vec![], archive: Some(archive) }, None).unwrap();
        assert_eq!((control.system_identifier, control.major(), control.segment_size.bytes()), (7, Some(15), 1 << 20));
        assert_eq!(identity(&Origins { backups: vec![], archive: None }, None), None);
    }
}
