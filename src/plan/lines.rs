//! The lines of a plan that a person reads before anything is decided: cluster, target, backup, WAL, room and time. Pure.

use super::aim;
use super::backup::Choice;
use super::facts::{Host, Server};
use super::planned::{BackupLine, ClusterLine, Estimate, Planned, Reason, SpaceLine, TargetLine, WalLine};
use super::recovery::{Chain, Target};
use super::restore::Request;
use super::spaces::{self, Spaces};
use super::wal_facts::WalFindings;

/// What is known before a backup is chosen.
pub(super) fn skeleton(host: &Host, request: &Request, target: Option<&Target>) -> Planned {
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

/// The backup.
pub(super) fn backup(chosen: &Choice, findings: Option<&WalFindings>) -> BackupLine {
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

/// The WAL.
pub(super) fn wal(host: &Host, target: &Target, chain: &Chain, gaps: &[String]) -> WalLine {
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
pub(super) fn space(
    host: &Host,
    chosen: &Choice,
    spaces: &Spaces,
    wal_bytes: u64,
    reasons: &mut Vec<Reason>,
) -> (SpaceLine, Vec<SpaceLine>) {
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

/// From the rates of the newest earlier run that has them; nothing is guessed. Stop, promotion, checks and start
/// count for a few seconds.
pub(super) fn estimate(host: &Host, bytes: u64, wal_bytes: u64) -> Option<Estimate> {
    const FIXED: u64 = 4;
    let (unpack, replay) = host.runs.iter().rev().find_map(|r| r.rates)?;
    let downtime_seconds = wal_bytes.div_ceil(replay.max(1)) + FIXED;
    Some(Estimate { total_seconds: bytes.div_ceil(unpack.max(1)) + downtime_seconds, downtime_seconds })
}
