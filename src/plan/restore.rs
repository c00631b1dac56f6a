//! The planner of a recovery: from facts and a request to a decision or every reason against it. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::aim;
use super::backup::{self, Choice};
use super::chain;
use super::consequence;
use super::discards;
use super::facts::{Host, Remains, Server};
use super::guard::Guard;
use super::loss::Names;
use super::migration::Aim;
use super::planned::{BackupLine, ClusterLine, Estimate, Planned, Reason, SpaceLine, TargetLine, WalLine};
use super::preloaded::Preloaded;
use super::readiness::cluster_reasons;
use super::recovery::{Chain, ClusterFacts, Dump, OtherWal, Recovery, Site, Target};
use super::spaces::{self, Spaces};
use super::step::Step;
use super::target::{TargetRequest, TimelineRequest};
use super::wal_facts::{Meaning, WalFindings};
use crate::pg::{Lsn, version};

/// What is asked, with what the configuration adds.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where to stop.
    pub target: TargetRequest,
    /// On which timeline.
    pub timeline: TimelineRequest,
    /// `--backup`.
    pub backup: Option<String>,
    /// `--accept`.
    pub accept: Vec<String>,
    /// `--dump-before`.
    pub dump: Option<Dump>,
    /// `--config-from backup`.
    pub config_from_backup: bool,
    /// `--reason`.
    pub reason: Option<String>,
    /// A reason is demanded.
    pub reason_required: bool,
    /// What the configuration adds.
    pub site: Site,
    /// A service manager runs here.
    pub service_manager: bool,
    /// WAL of earlier runs.
    pub other_wal: Vec<OtherWal>,
    /// Backup directories were given or configured.
    pub backups_known: bool,
    /// Backups that reading the WAL ruled out: path and why.
    pub ruled_out: Vec<(PathBuf, String)>,
    /// What reading the chain's records showed, when that was done.
    pub findings: Option<WalFindings>,
    /// What the WAL of the serving timeline shows, where the target is on another: what is lost is there.
    pub serving: Option<WalFindings>,
    /// Limits of the configuration.
    pub guard: Guard,
    /// Names of databases and relations, where a server could be asked.
    pub names: Names,
    /// The migration that is aimed at.
    pub migration: Option<Aim>,
}

/// Decides.
pub fn plan(host: &Host, request: &Request) -> Planned {
    let mut reasons = Vec::new();
    cluster_reasons(host, request, &mut reasons);
    let mut target = aim::decide(host, request, &mut reasons);
    let choice = target.as_ref().map(|t| backup::choose(host, request, t));
    let chosen = choice.as_ref().and_then(|c| c.chosen.as_ref());
    if let (Some(target), Some(chosen)) = (&mut target, chosen) {
        settle(host, request, chosen, target, &mut reasons);
    }
    let mut planned = skeleton(host, request, target.as_ref());
    if let Some(choice) = &choice {
        reasons.extend(choice.reasons.iter().cloned());
        planned.passed_over = choice.passed_over.clone();
        planned.alternatives = choice.alternatives.clone();
    }
    let mut spaces = Spaces::default();
    let built = match (&target, chosen) {
        (Some(target), Some(chosen)) => build_chain(host, request, target, chosen, &mut reasons),
        _ => None,
    };
    if let Some(chosen) = chosen {
        planned.backup = Some(backup_line(chosen, findings_for(request, chosen)));
    }
    if let (Some(chosen), Some(target)) = (chosen, &target) {
        let wal_bytes = built.as_ref().map_or(0, |(chain, _)| chain.segments) * host.cluster.control_file.segment_size.bytes();
        let created = findings_for(request, chosen).map_or(&[][..], |f| f.answer.tablespaces.as_slice());
        spaces = spaces::decide(host, chosen, created, &mut reasons);
        (planned.space, planned.other_space) = space(host, chosen, &spaces, wal_bytes, &mut reasons);
        planned.estimate = estimate(host, planned.space.needed.saturating_sub(wal_bytes), wal_bytes);
        planned.wal = built.as_ref().map(|(chain, gaps)| wal_line(host, target, chain, gaps));
        planned.consequences = consequence::list(host, request);
        if let Some(findings) = findings_for(request, chosen) {
            consequence::extensions(&findings.answer.extensions, host, from_backup(host, request), &mut planned, &mut reasons);
            discards::tell(host, request, target, findings, &mut planned, &mut reasons);
        }
    } else {
        planned.consequences = consequence::list(host, request);
    }
    if let Some(migration) = &request.migration {
        reasons.extend(migration.reasons.iter().cloned());
        planned.consequences.splice(0..0, migration.consequences.iter().cloned());
        planned.alternatives.extend(migration.alternatives.iter().cloned());
    }
    let (kept, accepted) = judge(reasons, &request.accept);
    planned.refusals = kept;
    if let (true, Some(target), Some(chosen), Some((chain, _))) = (planned.refusals.is_empty(), target, chosen, built) {
        planned.recovery = Some(recovery(host, request, target, chosen, (chain, spaces), accepted, &planned));
    }
    planned
}

/// Findings that were made from this backup.
fn findings_for<'a>(request: &'a Request, chosen: &Choice) -> Option<&'a WalFindings> {
    request.findings.as_ref().filter(|findings| findings.backup == chosen.entry.path)
}

/// The target as a record, where the WAL was read.
fn settle(host: &Host, request: &Request, chosen: &Choice, target: &mut Target, reasons: &mut Vec<Reason>) {
    let Some(findings) = findings_for(request, chosen) else { return };
    match findings.meaning(target, chosen, host.cluster.control_file.segment_size) {
        Meaning::Record(stop) => target.aim_at(stop),
        Meaning::NewestRecord(stop) => {
            target.aim_at(stop);
            target.moving = true;
        }
        Meaning::Unresolved => {}
        Meaning::BeforeBackup(why) => reasons.push(Reason::fact(
            "target-before-backup",
            format!("backup {} cannot serve this target: {why}", chosen.entry.name),
            "Choose a later target, or an older backup: pitr backups.",
        )),
        Meaning::NotFound(reason) => {
            target.lsn = None;
            // Where a segment is missing, that is the reason, and is told as such.
            if !findings.hole || findings.damage(host.cluster.control_file.segment_size).is_some() {
                reasons.push(reason);
            }
        }
        Meaning::Refused(reason) => reasons.push(reason),
    }
}

/// Judgements that were accepted by name do not refuse.
fn judge(reasons: Vec<Reason>, accept: &[String]) -> (Vec<Reason>, Vec<String>) {
    let (accepted, kept): (Vec<Reason>, Vec<Reason>) = reasons.into_iter().partition(|r| r.judgement && accept.contains(&r.id));
    (kept, accepted.into_iter().map(|r| r.id).collect())
}

/// The chain and the names of segments that are missing in it.
fn build_chain(
    host: &Host,
    request: &Request,
    target: &Target,
    chosen: &Choice,
    reasons: &mut Vec<Reason>,
) -> Option<(Chain, Vec<String>)> {
    let size = host.cluster.control_file.segment_size;
    let first = size.number(chosen.start);
    let consistent = matches!(target.request, TargetRequest::ToConsistent);
    let until = target
        .last_byte()
        .map(|lsn| size.number(lsn))
        .or_else(|| chosen.end.filter(|_| consistent).map(|end| size.number(Lsn(end.0.saturating_sub(1)))));
    archive_reasons(host, request, reasons);
    let links = chain::follow(&target.history, first, until, &host.wal, size);
    let mut gaps = Vec::new();
    if let Some(gap) = &links.end {
        let name = gap.missing.file_name(size);
        let damaged = if gap.damaged.is_empty() { String::new() } else { format!(" ({})", gap.damaged.join("; ")) };
        if gap.hole || until.is_some() || links.segments.is_empty() {
            gaps.push(name.clone());
            let reachable = chosen.end.is_none_or(|end| gap.reachable > end) && !links.segments.is_empty();
            let furthest = findings_for(request, chosen).and_then(WalFindings::furthest);
            let hint = if let (true, Some(flag)) = (reachable, furthest) {
                format!(
                    "WAL is there up to {}: {flag} reaches that point. Look for {name} in other copies of the archive (--wal DIR).",
                    gap.reachable
                )
            } else {
                format!(
                    "Backup {} cannot be used without it. Look for {name} in other copies of the archive (--wal DIR), or choose another backup.",
                    chosen.entry.name
                )
            };
            reasons.push(Reason::fact("wal-gap", format!("WAL segment {name} is missing{damaged}"), hint));
        }
    }
    if let Some(findings) = findings_for(request, chosen) {
        findings.reasons(chosen, reasons);
    }
    let last = *links.segments.last()?;
    let copies = chain::copies(&host.wal);
    let outside = links.segments.iter().filter(|n| copies.get(n).is_none_or(|list| list.iter().all(|c| !c.archived))).count();
    let chain = Chain {
        first: *links.segments.first()?,
        last,
        segments: links.segments.len() as u64,
        outside_archive: outside as u64,
        open: until.is_none(),
    };
    Some((chain, gaps))
}

/// An archive that cannot be read, or is empty because nothing is mounted there, proves nothing.
fn archive_reasons(host: &Host, request: &Request, reasons: &mut Vec<Reason>) {
    use super::facts::WalKind;
    if request.site.archives.is_empty() {
        reasons.push(Reason::judgement(
            "no-archive",
            "no WAL archive is known",
            "Set `wal_archive` in /etc/pitr/pitr.toml or give --wal DIR. With --accept no-archive only pg_wal is used.",
        ));
    }
    for source in host.wal.iter().filter(|s| s.kind == WalKind::Archive) {
        let path = source.directory.display();
        if let Some(problem) = &source.problem {
            reasons.push(Reason::fact(
                "archive-unreadable",
                format!("the WAL archive {path} cannot be read: {problem}"),
                "It must be readable by the cluster's owner.",
            ));
        } else if source.segments.is_empty() && source.histories.is_empty() {
            reasons.push(Reason::fact(
                "archive-empty",
                format!("the WAL archive {path} holds no WAL"),
                "Is it mounted? An empty directory cannot be told from an archive that is away.",
            ));
        }
    }
}

fn skeleton(host: &Host, request: &Request, target: Option<&Target>) -> Planned {
    let cluster = &host.cluster;
    let state = match &cluster.server {
        Server::Serving { .. } => "serving",
        Server::Stopped => "stopped",
        Server::Crashed => "crashed",
        Server::Absent => cluster.remains.word().unwrap_or("absent"),
    };
    let (flag, value) = request.target.arguments();
    let argument = value.as_ref().map_or_else(|| flag.to_string(), |v| format!("{flag} {}", super::target::shell_word(v)));
    Planned {
        host: host.name.clone(),
        cluster: ClusterLine {
            name: cluster.name.clone(),
            data_directory: cluster.data_directory.display().to_string(),
            version: cluster.version.clone(),
            state: state.into(),
            bytes: cluster.bytes,
        },
        target: TargetLine {
            text: aim::words(&request.target),
            argument,
            timeline: target.map(|t| t.timeline),
            lsn: target.and_then(|t| t.lsn),
            inclusive: target.is_none_or(|t| t.inclusive),
            keeps: None,
            discards: None,
            note: None,
        },
        loss: None,
        backup: None,
        passed_over: vec![],
        wal: None,
        consequences: vec![],
        alternatives: vec![],
        space: SpaceLine { at: host.space.at.display().to_string(), needed: 0, free: host.space.free, reserve: reserve(host) },
        other_space: vec![],
        estimate: None,
        refusals: vec![],
        recovery: None,
    }
}

fn backup_line(chosen: &Choice, findings: Option<&WalFindings>) -> BackupLine {
    BackupLine {
        name: chosen.entry.name.clone(),
        path: chosen.entry.path.display().to_string(),
        start_lsn: Some(chosen.start),
        end_lsn: findings.and_then(|f| f.answer.backup_end).map(|(_, end)| end).or(chosen.end),
        time: chosen.ended,
        bytes: chosen.entry.compressed_bytes,
        unpacked: chosen.entry.unpacked_bytes,
        manifest: chosen.entry.has_manifest,
    }
}

fn wal_line(host: &Host, target: &Target, chain: &Chain, gaps: &[String]) -> WalLine {
    let size = host.cluster.control_file.segment_size;
    WalLine {
        timeline: target.timeline,
        segments: chain.segments,
        first: chain.first.file_name(size),
        last: chain.last.file_name(size),
        only_in_pg_wal: chain.outside_archive,
        gaps: gaps.to_vec(),
    }
}

/// Kept free for the cluster itself: 5 % of the filesystem, at most 10 GiB, at least twice `max_wal_size`.
fn reserve(host: &Host) -> u64 {
    const MOST: u64 = 10 << 30;
    let max_wal_size = host.cluster.configuration.number("max_wal_size").and_then(|mib| u64::try_from(mib).ok()).unwrap_or(1024) << 20;
    (host.space.total / 20).min(MOST).max(max_wal_size.saturating_mul(2))
}

/// Room on PGDATA's filesystem, and on the others.
fn space(host: &Host, chosen: &Choice, spaces: &Spaces, wal_bytes: u64, reasons: &mut Vec<Reason>) -> (SpaceLine, Vec<SpaceLine>) {
    // A compressed tarball without a manifest does not tell its size: as large as the cluster is now, or
    // four times what is packed.
    let unpacked = chosen.entry.unpacked_bytes.unwrap_or_else(|| host.cluster.bytes.max(chosen.entry.compressed_bytes.saturating_mul(4)));
    let mut rooms = spaces::rooms(host, chosen, spaces, unpacked, wal_bytes, reserve(host));
    for room in rooms.iter().filter(|r| r.needed.saturating_add(r.reserve) > r.free) {
        let what = format!(
            "{} has {} MiB free; {} MiB are needed and {} MiB are kept in reserve",
            room.at,
            room.free >> 20,
            room.needed >> 20,
            room.reserve >> 20
        );
        reasons.push(Reason::fact("no-space", what, "Make room on that filesystem; pitr purge shows what earlier runs hold."));
    }
    (rooms.remove(0), rooms)
}

fn recovery(
    host: &Host,
    request: &Request,
    target: Target,
    chosen: &Choice,
    (chain, spaces): (Chain, Spaces),
    accepted: Vec<String>,
    planned: &Planned,
) -> Recovery {
    let cluster = &host.cluster;
    let preloaded = Preloaded::of(cluster.configuration.get("shared_preload_libraries"));
    let mut recovery = Recovery {
        cluster: ClusterFacts {
            name: cluster.name.clone(),
            data_directory: cluster.data_directory.clone(),
            inode: cluster.inode,
            owner: cluster.owner.clone(),
            major: cluster.major,
            programs: cluster.programs.clone(),
            control: cluster.control.clone(),
            system_identifier: cluster.control_file.system_identifier,
            timeline: cluster.control_file.timeline,
            segment_size: cluster.control_file.segment_size,
            serving: matches!(cluster.server, Server::Serving { .. }),
            remains: cluster.remains.clone(),
            configuration: cluster.configuration.clone(),
            parent_is_owners: host.capability.parent == Ok(cluster.owner.uid),
            group_access: cluster.group_access,
            mounted: cluster.mounted,
            one_step: host.capability.exchange == Ok(true),
        },
        target,
        backup: chosen.entry.clone(),
        backup_end: findings_for(request, chosen).and_then(|f| f.answer.backup_end).map(|(_, end)| end).or(chosen.end),
        names: request.names.clone(),
        migration: request.migration.as_ref().map(|aim| aim.goal.clone()),
        chain,
        site: request.site.clone(),
        other_wal: request.other_wal.clone(),
        config_from_backup: from_backup(host, request),
        dump: request.dump.clone(),
        floors: floors(host, chosen, request),
        accepted,
        reserve: planned.space.reserve,
        places: spaces.places,
        tablespaces: spaces.tablespaces,
        live_tablespaces: cluster.tablespaces.clone(),
        in_place: spaces.in_place,
        steps: steps(host, request, &preloaded),
        preloaded,
        digest: String::new(),
        consequences: planned.consequences.clone(),
        damaged_wal: vec![],
    };
    recovery.digest = digest(&recovery);
    recovery
}

/// Configuration comes from the backup: asked for, or there is no other.
fn from_backup(host: &Host, request: &Request) -> bool {
    request.config_from_backup || host.cluster.configuration.settings.is_empty()
}

/// Hot standby needs at least the values of the server that wrote the WAL.
fn floors(host: &Host, chosen: &Choice, request: &Request) -> BTreeMap<String, i64> {
    let cluster = &host.cluster;
    let present = cluster.control_file.floors();
    let backup = chosen.entry.control.as_ref().map_or(present, crate::pg::ControlFile::floors);
    let found = findings_for(request, chosen).and_then(WalFindings::floors).unwrap_or(present);
    let mut floors = BTreeMap::new();
    for (index, name) in version::FLOORS.iter().enumerate() {
        let at = |values: &[i64; 5]| values.get(index).copied().unwrap_or(0);
        let configured = cluster.configuration.number(name).unwrap_or(0);
        floors.insert(name.to_string(), at(&present).max(at(&backup)).max(at(&found)).max(configured));
    }
    floors
}

/// Offline: the backup is unpacked and verified while the cluster still serves, so that a damaged backup costs no
/// outage; everything after the stop needs the stop.
fn steps(host: &Host, request: &Request, preloaded: &Preloaded) -> Vec<Step> {
    let hooks = &request.site.hooks;
    // What the backup's own configuration preloads is not known before it is unpacked.
    let unload = !preloaded.go.is_empty() || from_backup(host, request);
    let wanted = [
        (!hooks.before.is_empty(), Step::HookBefore),
        (host.cluster.remains == Remains::Missing, Step::Placeholder),
        (true, Step::Extract),
        (!request.site.quiesce.is_empty(), Step::StopUnits),
        (!hooks.before_stop.is_empty(), Step::HookBeforeStop),
        (request.dump.is_some(), Step::Dump),
        (true, Step::Stop),
        (true, Step::CopyTail),
        (true, Step::Configure),
        (true, Step::Replay),
        (true, Step::Check),
        (unload, Step::Unload),
        (true, Step::Promote),
        (true, Step::Tidy),
        (true, Step::Switch),
        (true, Step::Seal),
        (true, Step::Start),
        (!hooks.after_start.is_empty(), Step::HookAfterStart),
        (true, Step::CheckServing),
        (!request.site.quiesce.is_empty(), Step::StartUnits),
        (!hooks.done.is_empty(), Step::HookDone),
    ];
    wanted.into_iter().filter(|(yes, _)| *yes).map(|(_, step)| step).collect()
}

/// Decisions only: not where a segment lies, nor what grows while one reads the plan.
fn digest(recovery: &Recovery) -> String {
    let settled = !recovery.chain.open && !recovery.target.moving;
    let last = settled.then_some(recovery.chain.last);
    let mut target = recovery.target.clone();
    if target.moving {
        (target.lsn, target.end) = (None, None);
    }
    let decisions = serde_json::json!({
        "cluster": [recovery.cluster.name, recovery.cluster.data_directory, recovery.cluster.system_identifier.to_string()],
        "target": target,
        "backup": [recovery.backup.name, recovery.backup.path],
        "chain": [recovery.chain.first, last],
        "steps": recovery.steps,
        "control": recovery.cluster.control_words(),
        "remains": recovery.cluster.remains,
        "preloaded": recovery.preloaded,
        "live_tablespaces": recovery.live_tablespaces,
        "dump": recovery.dump,
        "places": recovery.places.iter().map(|p| (&p.parent, &p.name)).collect::<Vec<_>>(),
        "tablespaces": recovery.tablespaces,
        "config": [recovery.config_from_backup, recovery.cluster.configuration.in_data_directory],
        "checks": recovery.site.checks,
        "database": [recovery.site.database, recovery.site.user, recovery.site.check_user],
        "quiesce": recovery.site.quiesce,
        "hooks": recovery.site.hooks,
        "archives": recovery.site.archives,
        "accepted": recovery.accepted,
        "migration": recovery.migration,
    });
    hex::encode(Sha256::digest(decisions.to_string().as_bytes())).chars().take(16).collect()
}

/// From the rates of the newest earlier run that has them; nothing is guessed. Stop, promotion, checks and start
/// count for a few seconds.
fn estimate(host: &Host, bytes: u64, wal_bytes: u64) -> Option<Estimate> {
    const FIXED: u64 = 4;
    let (unpack, replay) = host.runs.iter().rev().find_map(|r| r.rates)?;
    let downtime_seconds = wal_bytes.div_ceil(replay.max(1)) + FIXED;
    Some(Estimate { total_seconds: bytes.div_ceil(unpack.max(1)) + downtime_seconds, downtime_seconds })
}
