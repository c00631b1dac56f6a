//! What a command line and the configuration ask for, as the planner wants it.

use std::path::PathBuf;

use crate::cli::{ConfigFrom, PlaceFlags, SourceFlags};
use crate::config::{ClusterConfig, Requirement, files};
use crate::error::{Error, Result};
use crate::observe::backups::Identify;
use crate::observe::discover::Found;
use crate::observe::host::{Observed, Where};
use crate::plan::checks::{Check, parse_checks};
use crate::plan::guard::Guard;
use crate::plan::loss::Names;
use crate::plan::recovery::{Dump, Site};
use crate::plan::restore::Request;
use crate::plan::target::TargetRequest;
use crate::sys::service;

/// Where to look for a recovery.
pub fn places(target: &TargetRequest, source: &SourceFlags) -> Where {
    Where {
        tablespaces: source.tablespaces.clone(),
        identify: Some(identify(target, source)),
        fresh: source.as_cluster.is_some(),
        ..at(&source.places)
    }
}

/// Where to look for backups and WAL.
pub fn at(places: &PlaceFlags) -> Where {
    Where { backups: places.backups.clone(), wal: places.wal.clone(), ..Where::default() }
}

/// That nobody named the archive, and which it seems to be.
pub fn guessed(observed: &Observed) -> Option<String> {
    let archives = observed.archives.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    (observed.guessed && !archives.is_empty()).then(|| format!("the archive was guessed from archive_command: {archives}"))
}

fn identify(target: &TargetRequest, source: &SourceFlags) -> Identify {
    let before = match target {
        TargetRequest::ToTime(time) | TargetRequest::BeforeTime(time) => Some(time.as_second()),
        _ => None,
    };
    Identify { name: source.backup.clone(), before }
}

/// A recovery to the latest point, as it could be asked for now: what `check` looks at.
pub fn to_latest(found: &Found, observed: &Observed) -> Request {
    let source = SourceFlags { reason: Some("check".into()), ..SourceFlags::default() };
    request(found, &source, TargetRequest::ToLatest, Vec::new(), observed)
}

/// The request for `target`.
pub fn request(found: &Found, source: &SourceFlags, target: TargetRequest, checks: Vec<Check>, observed: &Observed) -> Request {
    let config = &found.config;
    Request {
        target,
        timeline: source.timeline,
        backup: source.backup.clone(),
        accept: source.accept.clone(),
        dump: source.dump_before.clone().map(|directory| Dump { directory, databases: source.dump_database.clone() }),
        config_from_backup: source.config_from == ConfigFrom::Backup,
        reason: source.reason.clone(),
        reason_required: config.require.contains(&Requirement::Reason),
        site: site(config, checks, observed),
        service_manager: service::runs(),
        other_wal: observed.other_wal.clone(),
        backups_known: !(config.backups.is_empty() && source.places.backups.is_empty()),
        backups_unread: observed.backup_problems.clone(),
        ruled_out: vec![],
        findings: None,
        serving: None,
        guard: Guard { protected: config.protected.clone(), absent: vec![], rto: config.rto, rpo: config.rpo },
        names: Names::default(),
        migration: None,
    }
}

/// Units that are stopped along with the cluster's are treated like those of `quiesce`, after which they come: stopped in
/// order before it, and started again when it serves, which systemd would not do.
fn site(config: &ClusterConfig, checks: Vec<Check>, observed: &Observed) -> Site {
    let along = observed.host.cluster.service.stopped_along.iter().filter(|unit| !config.quiesce.contains(unit));
    Site {
        archives: observed.archives.clone(),
        checks,
        database: config.database.clone().unwrap_or_else(|| "postgres".into()),
        user: config.bootstrap_role(),
        check_user: config.check_user.clone(),
        quiesce: config.quiesce.iter().chain(along).cloned().collect(),
        hooks: config.hooks.clone(),
        trusted: config.trusted(),
    }
}

/// Check files are SQL that will run: read like the configuration, only where nobody but root can write.
pub fn read_checks<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for file in files {
        let text = files::read(file)?
            .ok_or_else(|| Error::usage(format!("check file {} does not exist", file.display())).hint("Correct `checks` or --checks."))?;
        checks.extend(parse_checks(&text, file)?);
    }
    Ok(checks)
}
