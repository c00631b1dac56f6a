//! `status`: what each cluster is doing, what can be got back, what is open and what to type.

use std::path::Path;

use crate::cli::{PlaceFlags, StatusArgs};
use crate::error::Result;
use crate::observe::discover::{self, Found};
use crate::observe::host::{Observed, host_name, observe};
use crate::observe::meant::means;
use crate::observe::runs;
use crate::plan::aim;
use crate::plan::chain;
use crate::plan::facts::{Control, RunFact, Server, WalKind};
use crate::plan::ledger::{Ledger, Purpose};
use crate::plan::wal_facts::timestamp;
use crate::plan::window::{self, Window};
use crate::report::backups::other_cluster;
use crate::report::status::{self, Aside, BackupStatus, ClusterStatus, OpenRun, StatusDocument};
use crate::run::owner::Task;
use crate::run::reading::ChainRequest;
use crate::run::wal_log::{Verified, VerifyRequest};
use crate::sys::service;
use crate::verb::log::Ground;
use crate::verb::{Context, act, asked};

/// `pitr status`.
pub fn run(context: &Context, args: &StatusArgs) -> Result<u8> {
    loop {
        let document = document(context, &args.places)?;
        if context.json() {
            act::print_json(&status::json(&document))?;
        } else {
            act::print_text(&status::text(&document, context.width()))?;
        }
        if !args.watch {
            return Ok(0);
        }
        std::thread::sleep(std::time::Duration::from_secs(2));
    }
}

fn document(context: &Context, places: &PlaceFlags) -> Result<StatusDocument> {
    let named = context.global.cluster.as_deref();
    let clusters = discover::clusters(&context.config)?;
    let mut shown: Vec<ClusterStatus> = clusters
        .iter()
        .filter(|f| named.is_none_or(|n| means(n, &f.name, &f.data_directory)))
        .map(|found| cluster(context, found, places))
        .collect();
    shown.extend(
        nowhere_else(context, &clusters)?.into_iter().filter(|c| named.is_none_or(|n| means(n, &c.name, Path::new(&c.data_directory)))),
    );
    if shown.is_empty() && named.is_some() {
        discover::choose(&context.config, named)?;
    }
    Ok(StatusDocument { host: host_name(), clusters: shown })
}

/// Clusters that only the journal of an open run tells of: between two renames nothing stands at PGDATA, and no configuration
/// need name it.
fn nowhere_else(context: &Context, known: &[Found]) -> Result<Vec<ClusterStatus>> {
    let mut open: Vec<ClusterStatus> = Vec::new();
    for run in runs::all(&context.config.state_directory)? {
        let Some(ledger) = run.ledger.ok().filter(|ledger| ledger.is_open()) else { continue };
        let Some(cluster) = ledger.recovery.as_ref().map(|recovery| &recovery.cluster) else { continue };
        let (name, data_directory) = (&cluster.name, cluster.data_directory.display().to_string());
        if known.iter().any(|found| found.data_directory == cluster.data_directory) {
            continue;
        }
        let next = open_run(context, &run.id, &ledger);
        let nothing = blank(name.clone(), data_directory, "known by its open run only".into(), Some(next));
        open.retain(|other| other.data_directory != nothing.data_directory);
        open.push(nothing);
    }
    Ok(open)
}

fn cluster(context: &Context, found: &Found, places: &PlaceFlags) -> ClusterStatus {
    match observe(&context.config, found, &asked::at(places)) {
        Ok(observed) => observed_cluster(context, found, &observed, places),
        Err(error) => {
            // In the middle of a switch PGDATA refuses to be looked at: what the journals say still helps.
            let earlier = runs::all(&context.config.state_directory).unwrap_or_default();
            let of_place = earlier.iter().filter_map(|k| k.ledger.as_ref().ok().map(|l| (k.id.clone(), l)));
            let mut here = of_place.filter(|(_, l)| l.recovery.as_ref().is_some_and(|r| r.cluster.data_directory == found.data_directory));
            let open = here.rfind(|(_, l)| l.is_open()).map(|(id, l)| open_run(context, &id, l));
            let damaged = earlier.iter().filter_map(|k| k.ledger.as_ref().err().map(|why| format!("{}: {why}", k.id)));
            ClusterStatus {
                problems: damaged.map(journal_problem).collect(),
                ..of_found(found, format!("cannot be looked at: {error}"), open)
            }
        }
    }
}

fn of_found(found: &Found, state: String, run: Option<OpenRun>) -> ClusterStatus {
    blank(found.name.clone(), found.data_directory.display().to_string(), state, run)
}

fn blank(name: String, data_directory: String, state: String, run: Option<OpenRun>) -> ClusterStatus {
    ClusterStatus {
        name,
        data_directory,
        state,
        server: String::new(),
        backups: vec![],
        windows: vec![],
        gaps: vec![],
        run,
        asides: vec![],
        problems: vec![],
    }
}

fn observed_cluster(context: &Context, found: &Found, observed: &Observed, places: &PlaceFlags) -> ClusterStatus {
    let host = &observed.host;
    let own = host.cluster.control_file.system_identifier;
    let state = match host.cluster.server {
        Server::Serving { .. } => "serving",
        Server::Stopped => "stopped",
        Server::Crashed => "crashed",
        Server::Absent => host.cluster.remains.word().unwrap_or("absent"),
    };
    let open = host.runs.iter().rev().find(|r| r.open).and_then(|r| {
        let known = runs::all(&context.config.state_directory).ok()?.into_iter().find(|known| known.id == r.id)?;
        known.ledger.ok().map(|ledger| open_run(context, &r.id, &ledger))
    });
    let (mut windows, gaps) = window::windows(host);
    newest(context, found, observed, &mut windows);
    let mut problems = observed.backup_problems.clone();
    if host.backups.is_empty() && problems.is_empty() {
        problems.push(format!("no backup was found: without one nothing can be recovered. {}", looked_for(found, places)));
    }
    problems.extend(
        host.wal
            .iter()
            .filter(|s| s.kind == WalKind::Archive)
            .filter_map(|s| s.problem.as_ref().map(|p| format!("archive {}: {p}", s.directory.display()))),
    );
    if observed.archives.is_empty() {
        problems.push("no WAL archive is known. Name it as `wal_archive` in /etc/pitr/pitr.toml; to try: pitr status --wal DIR".into());
    }
    problems.extend(asked::guessed(observed));
    problems.extend(host.damaged_runs.iter().cloned().map(journal_problem));
    problems.extend(waiting(observed));
    ClusterStatus {
        server: host.cluster.version.clone(),
        backups: host
            .backups
            .iter()
            .map(|b| BackupStatus {
                name: b.name.clone(),
                usable: b.is_usable() && b.foreign_to(own).is_none(),
                why: b.problems.first().map(|p| p.what.clone()).or_else(|| Some(other_cluster(b.foreign_to(own)?))),
                time: window::ended(host, b),
            })
            .collect(),
        windows,
        gaps,
        asides: host.runs.iter().filter_map(aside).collect(),
        problems,
        ..of_found(found, state.into(), open)
    }
}

/// What to do where no backup was found.
fn looked_for(found: &Found, places: &PlaceFlags) -> String {
    let directories = if places.backups.is_empty() { &found.config.backups } else { &places.backups };
    if directories.is_empty() {
        return "Name their directory as `backups` in /etc/pitr/pitr.toml; to try: pitr status --backups DIR".to_string();
    }
    let looked = directories.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    format!("There is none in {looked}: take one with pg_basebackup -Ft -z")
}

/// Reads the last segments of each window for the newest transaction in them; where that fails the time stays unknown.
fn newest(context: &Context, found: &Found, observed: &Observed, windows: &mut [Window]) {
    const LAST: u64 = 4;
    let ground = Ground::of(observed.clone(), found.config.bootstrap_role());
    let size = ground.identity.segment_size;
    for window in windows {
        let Ok(history) = aim::history(&ground.wal, window.timeline) else { continue };
        let end = size.number(window.until);
        let mut segments = ground.segments(&history);
        segments.retain(|(name, _, _)| (end.saturating_sub(LAST)..end).contains(&name.number));
        let chain = ChainRequest { segments, history, identity: ground.identity };
        let read: Result<Vec<Verified>> =
            ground.read(context, |index| Task::VerifyWal(Box::new(VerifyRequest { chain: chain.clone(), index })));
        match read {
            // Where nothing was committed behind the backup, its end is the newest moment too.
            Ok(verified) => {
                let newest = verified.iter().rev().find_map(|stretch| stretch.newest).and_then(timestamp);
                window.to = newest.map(|newest| window.from.map_or(newest, |from| newest.max(from)));
            }
            Err(error) => log::info!("the newest transaction is not known: {error}"),
        }
    }
}

/// Segments that still wait for the archiver: a long queue is a failing archive.
fn waiting(observed: &Observed) -> Option<String> {
    let ready =
        observed.host.wal.iter().filter(|s| s.kind == WalKind::Live).flat_map(|s| &s.marks).filter(|m| m.ends_with(".ready")).count();
    let archived = chain::copies(&observed.host.wal).values().any(|list| list.iter().any(|c| c.archived));
    (ready > 2).then(|| format!("{ready} files wait to be archived{}", if archived { "" } else { ", and the archive is empty" }))
}

fn journal_problem(damaged: String) -> String {
    format!("the journal of run {damaged}")
}

fn open_run(context: &Context, id: &str, ledger: &Ledger) -> OpenRun {
    let process = runs::at_work(&context.config.state_directory, id);
    let kept_down_by = ledger.recovery.as_ref().and_then(|r| match &r.cluster.control {
        Control::Systemd { unit, .. } => service::kept_down(unit),
        Control::PgCtl { .. } | Control::PgCtlCluster { .. } => None,
    });
    let purpose = ledger.section.as_ref().map(|s| s.purpose);
    let purging = purpose == Some(Purpose::Purge);
    let next = if let Some(pid) = process {
        // Anything but a recovery, and that from its switch on, goes to its end.
        let stops = purpose == Some(Purpose::Restore) && !ledger.switch_begun();
        vec![if stops { format!("kill {pid}") } else { "pitr status --watch".into() }]
    } else if ledger.removing() {
        // What is being deleted cannot come back.
        vec![format!("pitr purge {id}")]
    } else if purging {
        vec![format!("pitr purge {id}"), format!("pitr undo {id}")]
    } else {
        vec![format!("pitr resume {id}"), format!("pitr undo {id}")]
    };
    let state = process.map_or_else(|| ledger.state(), |pid| ledger.at_work(pid));
    OpenRun { id: id.to_string(), state, next, process, kept_down_by: kept_down_by.map(|path| path.display().to_string()) }
}

fn aside(run: &RunFact) -> Option<Aside> {
    let aside = |path: &std::path::PathBuf| Aside {
        run: run.id.clone(),
        path: path.display().to_string(),
        state: run.state.clone(),
        comes_back: run.switched && !run.removing,
    };
    run.directory.as_ref().map(aside)
}
