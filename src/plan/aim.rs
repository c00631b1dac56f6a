//! Where a recovery aims: the target on its timeline, and what has to be read to know which record that is.

use super::backup;
use super::chain;
use super::discards;
use super::facts::{Host, WalKind, WalSource};
use super::planned::Reason;
use super::recovery::Target;
use super::restore::Request;
use super::target::{TargetRequest, TimelineRequest};
use super::time::render_time;
use super::wal_facts::{Meaning, WalFindings, question};
use crate::pg::history::History;
use crate::pg::{SegmentName, Timeline};
use crate::store::catalogue::Label;
use crate::wal::inquiry::{BackupStart, Question};

/// What is to be read before a plan can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The backup to start from: its name and path.
    pub backup: (String, std::path::PathBuf),
    /// Where it says that it starts, if its label does.
    pub start: Option<BackupStart>,
    /// The history to follow.
    pub history: History,
    /// Segments and one copy of each: directory and file.
    pub segments: Vec<(SegmentName, std::path::PathBuf, String)>,
    /// The last of them stands in an archive.
    pub last_is_archived: bool,
    /// Behind them one is missing and later ones are there.
    pub hole: bool,
    /// A full transaction id near them.
    pub next_xid: u64,
    /// What is looked for.
    pub question: Question,
}

/// What to read for `request`: from the newest backup that may serve to the end of what there is. `None` when the
/// request is refused without that.
pub fn reading(host: &Host, request: &Request) -> Option<Reading> {
    let target = decide(host, request, &mut Vec::new())?;
    let chosen = backup::choose(host, request, &target).chosen?;
    let size = host.cluster.control_file.segment_size;
    let links = chain::follow(&target.history, size.number(chosen.start), None, &host.wal, size);
    let copies = chain::readable(&host.wal);
    let first_copy = |name: &SegmentName| copies.get(name).and_then(|list| list.first());
    let segments = links.segments.iter().filter_map(|name| first_copy(name).map(|c| (*name, c.directory.clone(), c.file.clone())));
    let last = links.segments.last()?;
    let in_archive = |source: &WalSource| {
        source.kind == WalKind::Archive && source.segments.iter().any(|s| s.name == *last && s.problem.is_none() && !s.partial)
    };
    Some(Reading {
        backup: (chosen.entry.name.clone(), chosen.entry.path.clone()),
        start: match &chosen.entry.label {
            Label::Found(label) => Some(BackupStart { redo: label.start_lsn, checkpoint: label.checkpoint }),
            _ => None,
        },
        segments: segments.collect(),
        last_is_archived: host.wal.iter().any(in_archive),
        hole: links.end.is_some_and(|gap| gap.hole),
        next_xid: chosen.entry.control.as_ref().unwrap_or(&host.cluster.control_file).next_xid,
        question: question(&request.target),
        history: target.history,
    })
}

/// What to read for what is lost where the target is on another timeline than the one that serves: the serving history
/// from where both part, or from the target if that is before.
pub fn lost_reading(host: &Host, request: &Request) -> Option<Reading> {
    let control = &host.cluster.control_file;
    let target = decide(host, request, &mut Vec::new())?;
    let findings = request.findings.as_ref()?;
    let stop = findings.answer.stop.or_else(|| findings.newest_record())?;
    if target.timeline == control.timeline {
        return None;
    }
    let serving = history(&host.wal, control.timeline).ok()?;
    let parts = discards::fork(&target.history, &serving);
    // The record at the target is kept where both have it.
    let lsn = parts.min(if stop.inclusive { stop.end } else { stop.lsn });
    let size = control.segment_size;
    // From the backup's start where that is on the way, so that what was running at the fork is counted whole.
    let first = findings.segments.first().map_or(size.number(lsn), |segment| segment.number.min(size.number(lsn)));
    let links = chain::follow(&serving, first, None, &host.wal, size);
    let copies = chain::readable(&host.wal);
    let first_copy = |name: &SegmentName| copies.get(name).and_then(|list| list.first());
    let segments = links.segments.iter().filter_map(|name| first_copy(name).map(|c| (*name, c.directory.clone(), c.file.clone())));
    Some(Reading {
        backup: (String::new(), findings.backup.clone()),
        start: None,
        segments: segments.collect(),
        last_is_archived: false,
        hole: links.end.is_some_and(|gap| gap.hole),
        next_xid: control.next_xid,
        question: Question::Lsn { lsn, inclusive: false },
        history: serving,
    })
}

/// What the target of `request` means in the light of findings.
pub fn meaning(host: &Host, request: &Request, findings: &WalFindings) -> Option<Meaning> {
    let target = decide(host, request, &mut Vec::new())?;
    let chosen = backup::choose(host, request, &target).chosen?;
    Some(findings.meaning(&target, &chosen, host.cluster.control_file.segment_size))
}

/// The target on its timeline, with that timeline's history.
pub(super) fn decide(host: &Host, request: &Request, reasons: &mut Vec<Reason>) -> Option<Target> {
    let sources = &host.wal;
    let current = host.cluster.control_file.timeline;
    if !host.cluster.timeline_known && request.timeline == TimelineRequest::Current {
        let all: Vec<String> = chain::numbers(sources).iter().map(ToString::to_string).collect();
        reasons.push(Reason::fact(
            "timeline-unknown",
            format!("nothing says which of the timelines {} the lost cluster was on", all.join(", ")),
            "Say which one to follow: --timeline N, or --timeline latest.",
        ));
        return None;
    }
    let timeline = match request.timeline {
        TimelineRequest::Current => current,
        TimelineRequest::Number(number) => number,
        TimelineRequest::Latest => latest_timeline(host).unwrap_or(current),
    };
    if let TargetRequest::ToTime(time) | TargetRequest::BeforeTime(time) = &request.target
        && *time > host.now
    {
        reasons.push(Reason::fact(
            "target-in-future",
            format!("{} is later than this host's clock", render_time(*time)),
            "For everything there is: --to-latest.",
        ));
    }
    let history = match history(sources, timeline) {
        Ok(history) => history,
        Err(why) => {
            reasons.push(Reason::fact(
                "no-history",
                format!("the history of timeline {timeline} is not known: {why}"),
                "Put its .history file into the archive.",
            ));
            return None;
        }
    };
    if matches!(request.target, TargetRequest::ToLatest) && timeline != current {
        reasons.push(Reason::fact(
            "latest-elsewhere",
            format!("--to-latest on timeline {timeline}, which does not serve"),
            "Give the position where that timeline ends, --to-lsn: pitr verify wal tells it.",
        ));
        return None;
    }
    let (lsn, inclusive) = match question(&request.target) {
        Question::Lsn { lsn, inclusive } => (Some(lsn), inclusive),
        Question::Time { inclusive, .. } | Question::Xid { inclusive, .. } => (None, inclusive),
        Question::Name(_) | Question::Latest | Question::Consistent => (None, true),
    };
    Some(Target { request: request.target.clone(), timeline, history, lsn, end: None, inclusive, moving: false })
}

/// The history of `timeline`, from the files there are.
pub fn history(sources: &[WalSource], timeline: Timeline) -> std::result::Result<History, String> {
    if timeline == Timeline(1) {
        return Ok(History::root(timeline));
    }
    let texts = chain::histories(sources);
    let text = texts.get(&timeline).ok_or("there is no such file in archive and pg_wal")?;
    History::parse(timeline, text.as_bytes()).map_err(|e| e.to_string())
}

/// Timelines whose cluster was taken back; what leads to the serving cluster never is one.
pub(super) fn undone_timelines(host: &Host) -> Vec<Timeline> {
    let serving = history(&host.wal, host.cluster.control_file.timeline).ok();
    let lives = |t: Timeline| serving.as_ref().is_some_and(|h| h.end_of(t).is_some());
    host.runs.iter().filter(|r| !r.stands).filter_map(|r| r.number).filter(|t| !lives(*t)).collect()
}

/// The highest timeline that is not the dead branch of an undone run.
fn latest_timeline(host: &Host) -> Option<Timeline> {
    let dead = undone_timelines(host);
    let known = chain::histories(&host.wal).into_keys().chain([host.cluster.control_file.timeline]);
    known.filter(|t| !dead.contains(t)).max()
}

pub(super) fn words(request: &TargetRequest) -> String {
    match request {
        TargetRequest::ToTime(t) => format!("time {}", render_time(*t)),
        TargetRequest::BeforeTime(t) => format!("before time {}", render_time(*t)),
        TargetRequest::ToXid(x) => format!("transaction {x}"),
        TargetRequest::BeforeXid(x) => format!("before transaction {x}"),
        TargetRequest::ToLsn(l) => format!("LSN {l}"),
        TargetRequest::BeforeLsn(l) => format!("before LSN {l}"),
        TargetRequest::BeforeMigration(m) => {
            format!("before migration {} ({}, database {}, table {})", m.version, m.tool, m.database, m.table)
        }
        TargetRequest::ToName(n) => format!("restore point {n}"),
        TargetRequest::ToLatest => "latest: everything there is".into(),
        TargetRequest::ToConsistent => "consistent: the end of the backup".into(),
    }
}
