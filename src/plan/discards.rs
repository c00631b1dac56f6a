//! What a plan says of what it discards: the border, the loss, and whether a smaller repair would do. Pure.

use super::facts::Host;
use super::loss::{Border, Loss, LostRows};
use super::migration::Aim;
use super::planned::{Planned, Reason};
use super::recovery::Target;
use super::restore::Request;
use super::target::TargetRequest;
use super::wal_facts::WalFindings;
use crate::pg::Lsn;
use crate::pg::history::{History, TimelineEnd};
use crate::wal::RelationFile;
use crate::wal::heap::Rows;
use crate::wal::inquiry::{FirstLost, Lost};

/// A transaction that changed no more relations may be repaired by hand.
const FEW: usize = 3;

/// The last transaction kept, the first discarded, and all that is lost with it; then what the guard says to that.
pub(super) fn tell(
    host: &Host,
    request: &Request,
    target: &Target,
    findings: &WalFindings,
    planned: &mut Planned,
    reasons: &mut Vec<Reason>,
) {
    let latest = matches!(target.request, TargetRequest::ToLatest);
    if target.lsn.is_none() && !latest {
        reasons.extend(request.guard.reasons(None, true));
        return;
    }
    let answer = &findings.answer;
    planned.target.keeps = answer.kept.map(Border::from);
    planned.target.discards = answer.discarded.map(Border::from);
    let mut partial = false;
    if target.timeline == host.cluster.control_file.timeline {
        planned.loss = Some(Loss::of(&answer.lost, &request.names));
        partial = findings.hole || findings.broken(host.cluster.control_file.segment_size).is_some();
    } else if let Some(serving) = &request.serving {
        planned.loss = Some(Loss::of(&serving.answer.lost, &request.names));
        partial = serving.hole || serving.broken(host.cluster.control_file.segment_size).is_some();
    } else {
        planned.target.note = Some(format!(
            "what the serving timeline {} has and timeline {} has not is not counted",
            host.cluster.control_file.timeline, target.timeline
        ));
    }
    if partial && reasons.is_empty() {
        planned.target.note = Some("WAL behind the target is damaged or missing: more may be discarded than is counted here".into());
    }
    if target.moving {
        planned.target.note = Some("no later transaction is in the WAL: this is the latest that is known".into());
    } else if latest {
        planned.target.note = Some("everything there is; the last record is known after the stop".into());
    }
    planned.alternatives.extend(instead(request, findings, planned.loss.as_ref()));
    if !latest {
        reasons.extend(request.guard.reasons(planned.loss.as_ref(), partial));
    }
    planned.consequences.extend(request.guard.warnings(planned.loss.as_ref(), planned.estimate.map(|estimate| estimate.total_seconds)));
}

/// What stands right behind the target, and that it may be repaired alone where it touched few relations: one would go
/// back before it only for its sake.
fn instead(request: &Request, findings: &WalFindings, loss: Option<&Loss>) -> Option<String> {
    let act = match &request.target {
        TargetRequest::BeforeXid(_) | TargetRequest::BeforeLsn(_) => transaction(findings.answer.first_lost.as_ref()?),
        TargetRequest::BeforeMigration(_) => migration(request.migration.as_ref()?),
        _ => return None,
    };
    let others = loss?.transactions.checked_sub(act.commits).filter(|others| *others > 0)?;
    let changed = Loss::of(&Lost { relations: act.relations, ..Lost::default() }, &request.names);
    // With a table its indexes are emptied.
    let tables = act.truncated.iter().filter(|file| !request.names.relation(**file).is_some_and(|named| named.system));
    let emptied: Vec<String> = tables.map(|file| format!("{} (emptied)", request.names.words(*file))).collect();
    let words: Vec<String> = changed.relations.iter().map(rows_words).chain(emptied).collect();
    let what = match (words.len(), act.ddl) {
        (0, true) if act.dropped => "dropped relations".to_string(),
        (0, true) => "changed only definitions".to_string(),
        (1..=FEW, ddl) => {
            let definitions = if act.dropped { ", and dropped relations" } else { ", and definitions" };
            format!("changed {}{}", words.join(", "), if ddl { definitions } else { "" })
        }
        _ => return None,
    };
    let removed = act.dropped || !act.truncated.is_empty() || changed.relations.iter().any(|rows| rows.deleted > 0);
    let repair = if removed {
        "what is gone can be taken from a copy that is recovered elsewhere, without this recovery"
    } else {
        "it may be repaired without a recovery"
    };
    let rest = if others == 1 { "1 other transaction".to_string() } else { format!("{others} other transactions") };
    Some(format!("{} {what}: {repair}, which would discard {rest} as well", act.what))
}

/// What one goes back before.
struct Act {
    what: String,
    commits: u64,
    relations: Vec<(RelationFile, Rows)>,
    truncated: Vec<RelationFile>,
    ddl: bool,
    dropped: bool,
}

fn transaction(first: &FirstLost) -> Act {
    Act {
        what: format!("transaction {}", first.xid),
        commits: 1,
        relations: first.relations.clone(),
        truncated: first.truncated.clone(),
        ddl: first.ddl,
        dropped: first.dropped,
    }
}

/// All of its commits together; the tool's own table is not in them.
fn migration(aim: &Aim) -> Act {
    let changes = || aim.work.iter().flat_map(|brief| &brief.relations);
    Act {
        what: format!("migration {}", aim.goal.version),
        commits: aim.commits,
        relations: changes().map(|change| (change.file, change.rows)).collect(),
        truncated: changes().filter(|change| change.truncated).map(|change| change.file).collect(),
        ddl: aim.work.iter().any(|brief| brief.ddl),
        // What a migration drops is told with its class.
        dropped: false,
    }
}

fn rows_words(rows: &LostRows) -> String {
    let counts = [(rows.inserted, "inserted"), (rows.updated, "updated"), (rows.deleted, "deleted")];
    let counts: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    format!("{} ({})", rows.name, counts.join(", "))
}

/// The first LSN that two histories do not share.
pub fn fork(one: &History, other: &History) -> Lsn {
    let end = |history: &History, timeline| match history.end_of(timeline) {
        Some(TimelineEnd::At(lsn)) => Some(lsn),
        Some(TimelineEnd::Open) => Some(Lsn(u64::MAX)),
        None => None,
    };
    let timelines = one.ancestors.iter().map(|ancestor| ancestor.timeline).chain([one.timeline]);
    let mut shared = Lsn(0);
    for timeline in timelines {
        let (Some(here), Some(there)) = (end(one, timeline), end(other, timeline)) else { return shared };
        shared = here.min(there);
        if here != there {
            return shared;
        }
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::Timeline;

    #[test]
    fn histories_part_where_the_first_of_them_leaves() {
        let parse = |timeline, text: &str| History::parse(Timeline(timeline), text.as_bytes()).unwrap();
        let root = History::root(Timeline(1));
        let (two, three) = (parse(2, "1\t0/500\tx\n"), parse(3, "1\t0/700\tx\n"));
        let four = parse(4, "1\t0/500\tx\n2\t0/900\tx\n");
        for (a, b, expected) in [(&root, &two, 0x500), (&two, &three, 0x500), (&two, &four, 0x900), (&three, &four, 0x500)] {
            assert_eq!(fork(a, b), Lsn(expected));
            assert_eq!(fork(b, a), Lsn(expected));
        }
        assert_eq!(fork(&four, &four), Lsn(u64::MAX));
    }
}
