//! The WAL of one recovery: which segments it needs, which of them are missing, and whether its archives tell anything. Pure.

use super::backup::Choice;
use super::chain;
use super::facts::{Host, WalKind};
use super::planned::Reason;
use super::recovery::{Chain, Target};
use super::restore::Request;
use super::target::TargetRequest;
use super::wal_facts::WalFindings;
use crate::pg::Lsn;

/// The chain and the names of segments that are missing in it.
pub(super) fn chain(
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
            let furthest = request.findings_for(chosen).and_then(WalFindings::furthest);
            let hint = if let (true, Some(flag)) = (reachable, furthest) {
                format!("WAL is there up to {}: {flag} reaches that point.", gap.reachable)
            } else {
                format!("Backup {} cannot be used without it.", chosen.entry.name)
            };
            reasons.push(Reason::fact("wal-gap", format!("WAL segment {name} is missing{damaged}"), hint));
        }
    }
    if let Some(findings) = request.findings_for(chosen) {
        findings.reasons(chosen, reasons);
    }
    let last = *links.segments.last()?;
    let copies = chain::readable(&host.wal);
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
