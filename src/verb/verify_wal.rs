//! `verify wal`: reads every record there is, timeline by timeline, and says what can be reached and what is missing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::error::Result;
use crate::pg::history::History;
use crate::pg::{Lsn, SegmentSize, Timeline};
use crate::plan::chain::Copy;
use crate::plan::facts::WalKind;
use crate::plan::wal_facts::timestamp;
use crate::plan::{aim, chain, window};
use crate::report::verify_wal::{Hole, Proof, WalWindow};
use crate::run::copies::{CompareRequest, How, Odd};
use crate::run::owner::Task;
use crate::run::reading::ChainRequest;
use crate::run::wal_log::{Verified, VerifyRequest};
use crate::store::catalogue::Label;
use crate::verb::Context;
use crate::verb::log::Ground;
use crate::wal::Reason;

/// How often, and how long after each other, it is looked whether a segment that is being archived is there.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// Reads the cluster's WAL, or that of `directories`.
pub fn prove(context: &Context, directories: &[PathBuf]) -> Result<Proof> {
    let ground = settled(context, directories)?;
    let mut proof = Proof::default();
    for timeline in chain::numbers(&ground.wal) {
        match aim::history(&ground.wal, timeline) {
            Ok(history) => one(context, &ground, history, &mut proof)?,
            Err(why) => proof.problems.push(format!("the history of timeline {timeline} is not known: {why}")),
        }
    }
    proof.problems.extend(odd_copies(context, &ground)?);
    for source in ground.wal.iter().filter(|source| source.kind == WalKind::Archive) {
        let path = source.directory.display();
        proof.problems.extend(source.problem.iter().map(|why| format!("{path} cannot be read: {why}")));
        let bad = source.segments.iter().filter_map(|s| s.problem.as_ref().map(|why| (s, why)));
        proof.problems.extend(bad.map(|(segment, why)| format!("{path}/{}: {why}", segment.file)));
    }
    Ok(proof)
}

/// The WAL once nothing is being archived: what an archive command is writing just now is no damage. A command that fails for
/// ever is not waited for that long.
fn settled(context: &Context, directories: &[PathBuf]) -> Result<Ground> {
    let mut ground = Ground::find(context, directories)?;
    for _ in 0..LOOKS {
        if !is_archiving(&ground) {
            break;
        }
        std::thread::sleep(BETWEEN_LOOKS);
        ground = Ground::find(context, directories)?;
    }
    Ok(ground)
}

/// A segment is in an archive for which the server still waits that it is archived (`archive_status/SEGMENT.ready`).
fn is_archiving(ground: &Ground) -> bool {
    let size = ground.identity.segment_size;
    let live = ground.wal.iter().filter(|source| source.kind == WalKind::Live);
    let ready: BTreeSet<&str> = live.flat_map(|source| &source.marks).filter_map(|mark| mark.strip_suffix(".ready")).collect();
    let archives = ground.wal.iter().filter(|source| source.kind == WalKind::Archive);
    archives.flat_map(|source| &source.segments).any(|segment| ready.contains(segment.name.file_name(size).as_str()))
}

/// Where a segment is archived more than once: copies that do not have the same bytes. Which of them a recovery reads is
/// chance. Those in pg_wal go away by themselves.
fn odd_copies(context: &Context, ground: &Ground) -> Result<Vec<String>> {
    let archived = |list: Vec<Copy>| list.into_iter().filter(|copy| copy.archived).collect::<Vec<_>>();
    let groups: Vec<Vec<Copy>> = chain::copies(&ground.wal).into_values().map(archived).filter(|list| list.len() > 1).collect();
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let open = |copy: &Copy| (ground.open_path(&copy.directory), copy.file.clone());
    let asked: Vec<Vec<_>> = groups.iter().map(|list| list.iter().map(open).collect()).collect();
    let segment = ground.identity.segment_size.bytes();
    let odd: Vec<Odd> =
        ground.read(context, |index| Task::CompareCopies(Box::new(CompareRequest { groups: asked.clone(), segment, index })))?;
    let words = |odd: Odd| {
        let list = groups.get(odd.group)?;
        let path = |at: usize| list.get(at).map(|copy| copy.directory.join(&copy.file).display().to_string());
        let this = path(odd.copy)?;
        Some(match odd.how {
            How::Unreadable(why) => format!("{this} cannot be read to its end: {why}"),
            How::Unlike(other) => format!("{} and {this} do not have the same content", path(other)?),
        })
    };
    Ok(odd.into_iter().filter_map(words).collect())
}

fn one(context: &Context, ground: &Ground, history: History, proof: &mut Proof) -> Result<()> {
    let timeline = history.timeline;
    let segments = ground.segments(&history);
    let Some((last, _, _)) = segments.last().cloned() else { return Ok(()) };
    let size = ground.identity.segment_size;
    let chain = ChainRequest { segments, history: history.clone(), identity: ground.identity };
    let verified: Vec<Verified> = ground.read(context, |index| Task::VerifyWal(Box::new(VerifyRequest { chain: chain.clone(), index })))?;
    let complete = is_archived(ground, last.number, last.timeline);
    for (index, stretch) in verified.iter().enumerate() {
        windows(ground, &history, stretch, proof);
        let next = verified.get(index + 1);
        if let Some(hole) = hole(timeline, stretch, next, complete, size) {
            // Ancestors' WAL is read for every timeline above them.
            if !proof.holes.iter().any(|known| (known.from, known.to) == (hole.from, hole.to)) {
                proof.holes.push(hole);
            }
        }
    }
    Ok(())
}

fn is_archived(ground: &Ground, number: u64, timeline: Timeline) -> bool {
    let archives = ground.wal.iter().filter(|source| source.kind == WalKind::Archive);
    archives
        .flat_map(|source| &source.segments)
        .any(|s| (s.name.number, s.name.timeline) == (number, timeline) && s.problem.is_none() && !s.partial)
}

/// What lies behind a stretch, unless that is simply the end of WAL.
fn hole(timeline: Timeline, before: &Verified, after: Option<&Verified>, complete: bool, size: SegmentSize) -> Option<Hole> {
    let end = before.stretch.end?;
    let missing = end.reason == Reason::MissingSegment;
    if after.is_none() && (missing || !complete) {
        return None;
    }
    let name = crate::pg::SegmentName { timeline, number: size.number(end.at) };
    let why = if missing { "is missing".to_string() } else { format!("is damaged at {}: {}", end.at, end.reason) };
    Some(Hole {
        timeline,
        from: before.stretch.to,
        to: after.map(|after| after.stretch.from),
        what: format!("segment {} {why}", name.file_name(size)),
    })
}

/// Each backup whose whole WAL is in the stretch begins a window; without a cluster the stretch itself is told.
fn windows(ground: &Ground, history: &History, verified: &Verified, proof: &mut Proof) {
    let timeline = history.timeline;
    let to = verified.newest.and_then(timestamp);
    let mut add = |backup: Option<String>, from: Option<Timestamp>, from_lsn| {
        // Where nothing was committed behind the backup, its end, which is known by whole seconds, is the newest moment too.
        let to = to.map(|to| from.map_or(to, |from| to.max(from)));
        proof.windows.push(WalWindow { timeline, backup, from, to, from_lsn, to_lsn: verified.stretch.to });
    };
    let Some(observed) = &ground.observed else { return add(None, None, verified.stretch.from) };
    for backup in observed.host.backups.iter().filter(|backup| backup.is_usable()) {
        let Label::Found(label) = &backup.label else { continue };
        let recorded = verified.backups.iter().find(|(redo, _)| *redo == label.start_lsn).map(|(_, end)| *end);
        // A standby writes no record of it.
        let told = || backup.end_lsn().or(backup.control.as_ref().map(|control| control.min_recovery_point));
        let read = |end: &Lsn| verified.stretch.from <= label.start_lsn && *end <= verified.stretch.to;
        let end = recorded.or_else(|| told().filter(|_| label.from_standby).filter(read));
        if let Some(end) = end.filter(|end| history.holds(label.timeline, *end)) {
            add(Some(backup.name.clone()), window::ended(&observed.host, backup), end);
        }
    }
}
