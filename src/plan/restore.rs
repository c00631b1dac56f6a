//! The planner of a recovery: from facts and a request to a decision or every reason against it. Pure.

use std::path::PathBuf;

use super::aim;
use super::backup::{self, Choice};
use super::consequence;
use super::continuity;
use super::decision;
use super::discards;
use super::facts::Host;
use super::guard::Guard;
use super::help;
use super::lines;
use super::loss::Names;
use super::migration::Aim;
use super::planned::{Planned, Reason};
use super::readiness::cluster_reasons;
use super::recovery::{Dump, OtherWal, Site, Target};
use super::spaces::{self, Spaces};
use super::target::{TargetRequest, TimelineRequest};
use super::wal_facts::{Meaning, WalFindings};
use crate::wal::inquiry::Answer;

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
    /// Those of them that cannot be read, and why.
    pub backups_unread: Vec<String>,
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
    let mut planned = lines::skeleton(host, request, target.as_ref());
    if let Some(choice) = &choice {
        reasons.extend(choice.reasons.iter().cloned());
        planned.passed_over = choice.passed_over.clone();
        planned.alternatives = choice.alternatives.clone();
    }
    let mut spaces = Spaces::default();
    let built = match (&target, chosen) {
        (Some(target), Some(chosen)) => continuity::chain(host, request, target, chosen, &mut reasons),
        _ => None,
    };
    if let Some(chosen) = chosen {
        planned.backup = Some(lines::backup(chosen, request.findings_for(chosen)));
    }
    if let (Some(chosen), Some(target)) = (chosen, &target) {
        let wal_bytes = built.as_ref().map_or(0, |(chain, _)| chain.segments) * host.cluster.control_file.segment_size.bytes();
        let nothing_read = Answer::default();
        let wal = request.findings_for(chosen).map_or(&nothing_read, |f| &f.answer);
        spaces = spaces::decide(host, chosen, wal, &mut reasons);
        (planned.space, planned.other_space) = lines::space(host, chosen, &spaces, wal_bytes, &mut reasons);
        planned.estimate = lines::estimate(host, planned.space.needed.saturating_sub(wal_bytes), wal_bytes);
        planned.wal = built.as_ref().map(|(chain, gaps)| lines::wal(host, target, chain, gaps));
        planned.consequences = consequence::list(host, request);
        if let Some(findings) = request.findings_for(chosen) {
            consequence::extensions(&findings.answer.extensions, host, decision::from_backup(host, request), &mut planned, &mut reasons);
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
    if let Some(target) = &target {
        help::complete(host, request, target, chosen, &mut reasons);
    }
    let (kept, accepted) = judge(reasons, &request.accept);
    planned.refusals = kept;
    if let (true, Some(target), Some(chosen), Some((chain, _))) = (planned.refusals.is_empty(), target, chosen, built) {
        planned.recovery = Some(decision::recovery(host, request, target, chosen, (chain, spaces), accepted, &planned));
    }
    planned
}

impl Request {
    /// Findings that were made from this backup.
    pub(super) fn findings_for(&self, chosen: &Choice) -> Option<&WalFindings> {
        self.findings.as_ref().filter(|findings| findings.backup == chosen.entry.path)
    }
}

/// The target as a record, where the WAL was read.
fn settle(host: &Host, request: &Request, chosen: &Choice, target: &mut Target, reasons: &mut Vec<Reason>) {
    let Some(findings) = request.findings_for(chosen) else { return };
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
