//! Which backup serves a target: the newest whose end lies before it, on its timeline. Every other one is named
//! with the reason.

use jiff::Timestamp;

use super::chain;
use super::facts::Host;
use super::planned::Reason;
use super::recovery::Target;
use super::restore::Request;
use super::target::{MigrationTarget, TargetRequest};
use crate::pg::label::BackupHistory;
use crate::pg::{ClusterState, History, Lsn, Timeline};
use crate::store::catalogue::{CatalogueEntry, Label};

/// A backup that serves.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The backup.
    pub entry: CatalogueEntry,
    /// Redo point.
    pub start: Lsn,
    /// Its timeline.
    pub timeline: Timeline,
    /// The timeline of its end: a standby may follow its primary to another one meanwhile.
    pub end_timeline: Timeline,
    /// Where it becomes consistent, if known.
    pub end: Option<Lsn>,
    /// When it had ended, at the latest.
    pub ended: Option<Timestamp>,
}

/// The choice, or why there is none.
#[derive(Debug, Clone, Default)]
pub struct Chosen {
    /// The backup.
    pub chosen: Option<Choice>,
    /// The others: name and reason.
    pub passed_over: Vec<(String, String)>,
    /// Reasons against.
    pub reasons: Vec<Reason>,
    /// Other ways.
    pub alternatives: Vec<String>,
}

/// The newest backup that serves a recovery to before `lsn` on `history` without a gap in between.
pub fn before(host: &Host, history: &History, lsn: Lsn) -> Option<Choice> {
    let size = host.cluster.control_file.segment_size;
    let request = TargetRequest::BeforeLsn(lsn);
    let target = Target {
        request,
        timeline: history.timeline,
        history: history.clone(),
        lsn: Some(lsn),
        end: None,
        inclusive: false,
        moving: false,
    };
    let mut serving: Vec<Choice> = host.backups.iter().filter_map(|entry| judge(host, &target, entry).ok()).collect();
    serving.sort_by_key(|choice| choice.start);
    let whole = |choice: &Choice| {
        let links = chain::follow(history, size.number(choice.start), Some(size.number(lsn)), &host.wal, size);
        links.end.is_none()
    };
    serving.into_iter().rev().find(whole)
}

/// Chooses for `target`.
pub fn choose(host: &Host, request: &Request, target: &Target) -> Chosen {
    let mut result = Chosen::default();
    let mut serving = serving(host, request, target, &mut result.passed_over);
    match &request.backup {
        Some(name) => named(host, name, serving, &mut result),
        None => {
            result.chosen = serving.pop();
            result.passed_over.extend(serving.into_iter().map(|c| (c.entry.name, "older than the one chosen".to_string())));
            if result.chosen.is_none() && request.backups_known {
                result.reasons.push(none_serves(host, request, &result));
            }
        }
    }
    if let Some(choice) = &result.chosen {
        // A gzip stream carries a checksum of everything packed into it, zstd and lz4 frames may; a plain tar carries none.
        if !choice.entry.has_manifest && !choice.entry.checksummed {
            let what =
                format!("backup {} has neither manifest nor checksum: damage within its files would not be found", choice.entry.name);
            result.reasons.push(Reason::judgement("no-manifest", what, "To use it all the same: --accept no-manifest."));
        }
        let copied = matches!(&choice.entry.label, Label::Found(label) if label.from_standby) && choice.entry.wal_ranges.is_empty();
        if copied {
            let what = format!(
                "backup {} is a copy of a standby's files: it is consistent where its pg_control says only if that was copied last",
                choice.entry.name
            );
            let hint = "Take backups with pg_basebackup. If the job copies global/pg_control last: --accept standby-copy.";
            result.reasons.push(Reason::judgement("standby-copy", what, hint));
        }
    }
    result
}

/// The backups that serve `target`, the best one last; the others are added to `passed_over` with the reason.
pub(super) fn serving(host: &Host, request: &Request, target: &Target, passed_over: &mut Vec<(String, String)>) -> Vec<Choice> {
    let mut serving: Vec<Choice> = Vec::new();
    for entry in &host.backups {
        if let Some((_, why)) = request.ruled_out.iter().find(|(path, _)| *path == entry.path) {
            passed_over.push((entry.name.clone(), why.clone()));
            continue;
        }
        match judge(host, target, entry) {
            Ok(choice) => serving.push(choice),
            Err(why) => passed_over.push((entry.name.clone(), why)),
        }
    }
    serving.sort_by_key(|c| (c.start, c.ended, c.entry.path.clone()));
    serving
}

fn named(host: &Host, name: &str, mut serving: Vec<Choice>, result: &mut Chosen) {
    if let Some(at) = serving.iter().position(|c| c.entry.name == name) {
        result.chosen = Some(serving.swap_remove(at));
        return;
    }
    let why = result.passed_over.iter().find(|(n, _)| n == name).map(|(_, why)| why.clone());
    let names: Vec<&str> = host.backups.iter().map(|b| b.name.as_str()).collect();
    result.reasons.push(match why {
        Some(why) => Reason::fact("backup-unusable", format!("backup {name} cannot serve: {why}"), "Choose another one: pitr backups."),
        None => Reason::fact(
            "unknown-backup",
            format!("there is no backup {name}"),
            if names.is_empty() { "The backup directories hold none.".to_string() } else { format!("There are: {}.", names.join(", ")) },
        ),
    });
}

fn none_serves(host: &Host, request: &Request, result: &Chosen) -> Reason {
    if let (true, Some(why)) = (host.backups.is_empty(), request.backups_unread.first()) {
        return Reason::fact(
            "no-backup",
            format!("no backup is known: {why}"),
            "Is the place mounted, and may the cluster's owner read it? Correct `backups`, or --backups DIR.",
        );
    }
    if host.backups.is_empty() {
        return Reason::fact("no-backup", "the backup directories hold no backup", "Is the place mounted? Look there: pitr backups.");
    }
    let because: Vec<String> = result.passed_over.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    // When one reason holds for all of them, it is the reason.
    let too_late = result.passed_over.iter().any(|(_, why)| why.starts_with(ENDS_LATER));
    let id = if too_late { "target-before-backup" } else { "no-usable-backup" };
    Reason::fact(
        id,
        format!("no backup can serve this target: {}", because.join("; ")),
        "Choose a later target, or add an older backup: --backups DIR.",
    )
}

const ENDS_LATER: &str = "it ended after the target";

fn judge(host: &Host, target: &Target, entry: &CatalogueEntry) -> Result<Choice, String> {
    let cluster = &host.cluster;
    if let Some(problem) = entry.problems.first() {
        return Err(format!("{} [{}]", problem.what, problem.id));
    }
    if let Some(other) = entry.foreign_to(cluster.control_file.system_identifier) {
        return Err(format!("it is of another cluster, system identifier {other}, not {}", cluster.control_file.system_identifier));
    }
    if let Some(major) = entry.major.filter(|m| *m != cluster.major) {
        return Err(format!("it is of PostgreSQL {major}"));
    }
    if let Some(control) = entry.control.as_ref().filter(|control| control.block_size != cluster.control_file.block_size) {
        return Err(format!("its pages have {} bytes, not {}", control.block_size, cluster.control_file.block_size));
    }
    if let Some(control) = entry.control.as_ref().filter(|control| control.segment_size != cluster.control_file.segment_size) {
        return Err(format!("its WAL segments have {} bytes", control.segment_size.bytes()));
    }
    super::spaces::of_backup(host, entry)?;
    let choice = place(host, entry)?;
    let leads = match choice.end {
        Some(end) => target.history.holds(choice.timeline, choice.start) && target.history.holds(choice.end_timeline, end),
        None => target.history.holds(choice.timeline, choice.start),
    };
    if !leads {
        return Err(format!("it is of timeline {}, which does not lead to timeline {} at the target", choice.timeline, target.timeline));
    }
    before_target(target, &choice)?;
    Ok(choice)
}

/// Start, end and time of a backup.
pub(super) fn place(host: &Host, entry: &CatalogueEntry) -> Result<Choice, String> {
    let bound = entry.stop_time_bound.and_then(|s| Timestamp::new(s.seconds, i32::try_from(s.nanos).unwrap_or(0)).ok());
    match (&entry.label, &entry.control) {
        (Label::Found(label), _) => {
            let history = backup_history(host, label.start_lsn, label.timeline);
            let (end, end_timeline) = match entry.wal_ranges.last() {
                Some(range) => (Some(range.end), range.timeline),
                None if label.from_standby => standbys_end(entry)?,
                None => (history.map(|h| h.stop_lsn), label.timeline),
            };
            // The server's own word on when the backup ended beats the age of a file.
            let ended = history.and_then(stop_time).or(bound);
            Ok(Choice { entry: entry.clone(), start: label.start_lsn, timeline: label.timeline, end_timeline, end, ended })
        }
        (Label::Absent, Some(control)) => {
            // A cold copy: consistent where it was shut down.
            let ended = Timestamp::from_second(control.time).ok();
            let (start, timeline) = (control.redo, control.timeline);
            Ok(Choice { entry: entry.clone(), start, timeline, end_timeline: timeline, end: Some(control.checkpoint), ended })
        }
        (Label::Absent, None) => Err("it has neither backup_label nor pg_control".into()),
        (Label::Unknown, _) => Err(format!("its label is not near its beginning; to have it looked through: --backup {}", entry.name)),
    }
}

/// A standby writes no record where a backup of it ends: it is consistent where its pg_control, copied last, says
/// (`read_backup_label` and `CheckRecoveryConsistency` in xlogrecovery.c).
fn standbys_end(entry: &CatalogueEntry) -> Result<(Option<Lsn>, Timeline), String> {
    let Some(control) = &entry.control else {
        return Err(format!(
            "it was taken from a standby, and its pg_control is not near its beginning; to have it looked through: --backup {}",
            entry.name
        ));
    };
    if !matches!(control.state, ClusterState::InArchiveRecovery | ClusterState::ShutDownInRecovery) || control.min_recovery_point.0 == 0 {
        return Err(format!("it was taken from a standby, and its pg_control says {}: it does not fit its label", control.state.name()));
    }
    Ok((Some(control.min_recovery_point), Timeline(control.min_recovery_timeline)))
}

fn backup_history(host: &Host, start: Lsn, timeline: Timeline) -> Option<&BackupHistory> {
    host.wal.iter().flat_map(|s| &s.backups).map(|b| &b.history).find(|h| h.start_lsn == start && h.timeline == timeline)
}

/// `2026-11-21 21:07:33 UTC`, whole seconds cut off; other zones' abbreviations are ambiguous and not believed.
fn stop_time(history: &BackupHistory) -> Option<Timestamp> {
    let text = history.stop_time.strip_suffix(" UTC").or_else(|| history.stop_time.strip_suffix(" GMT"))?;
    let time: Timestamp = format!("{text}Z").parse().ok()?;
    time.checked_add(jiff::SignedDuration::from_secs(1)).ok()
}

/// A target before the backup's end is accepted by PostgreSQL without a word and gives the end of the backup
/// instead (recovery-rules 0.1).
fn before_target(target: &Target, choice: &Choice) -> Result<(), String> {
    match &target.request {
        TargetRequest::ToTime(time) | TargetRequest::BeforeTime(time) => match choice.ended {
            Some(ended) if ended <= *time => Ok(()),
            Some(ended) => Err(format!("{ENDS_LATER}, at {}", super::time::render_time(ended))),
            None => Err("it is not known when it ended".into()),
        },
        TargetRequest::ToLsn(lsn) | TargetRequest::BeforeLsn(lsn) | TargetRequest::BeforeMigration(MigrationTarget { lsn, .. }) => {
            match choice.end {
                Some(end) if end > *lsn => Err(format!("{ENDS_LATER}, at {end}")),
                None if choice.start >= *lsn => Err(format!("{ENDS_LATER}: it begins at {}", choice.start)),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}
