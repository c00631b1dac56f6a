//! Other branches of the cluster's history, where the transaction that is asked for may be too. Pure.
//!
//! After a recovery the new timeline uses transaction ids again that the old one had used: an id that a person read
//! somewhere may be two transactions.

use super::aim;
use super::chain;
use super::discards::fork;
use super::facts::Host;
use super::restore::Request;
use super::target::{TargetRequest, TimelineRequest};
use super::time::render_time;
use super::wal_facts::timestamp;
use crate::pg::history::History;
use crate::pg::{Lsn, Timeline};
use crate::wal::resolve::Found;

/// The end of a transaction on another branch than the one that a recovery follows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Elsewhere {
    /// A timeline that leads there: what `--timeline` takes.
    pub timeline: Timeline,
    /// Start of the record.
    pub lsn: Lsn,
    /// When.
    pub time: Option<jiff::Timestamp>,
}

impl Elsewhere {
    /// The same of an end on the history that was read.
    pub(super) fn here(timeline: Timeline, found: &Found) -> Option<Elsewhere> {
        match found {
            Found::Commit(ended) | Found::Abort(ended) | Found::Subtransaction(ended) => {
                Some(Elsewhere { timeline, lsn: ended.lsn, time: timestamp(ended.time) })
            }
            Found::Prepared { .. } => None,
        }
    }

    /// The flag that leads there.
    pub(super) fn words(&self) -> String {
        let time = self.time.map(|time| format!(", {}", render_time(time))).unwrap_or_default();
        format!("--timeline {} (at {}{time})", self.timeline, self.lsn)
    }
}

/// The id that is asked for, and where else to look for it: other histories, each with the place where it leaves the one
/// that is followed. Nowhere when the request says which timeline it means. What an undone run wrote is no choice.
pub fn branches(host: &Host, request: &Request) -> Option<(u64, Vec<(History, Lsn)>)> {
    let (TargetRequest::ToXid(xid) | TargetRequest::BeforeXid(xid)) = request.target else { return None };
    if matches!(request.timeline, TimelineRequest::Number(_)) {
        return None;
    }
    let followed = aim::decide(host, request, &mut Vec::new())?.history;
    let undone = aim::undone_timelines(host);
    let others = chain::numbers(&host.wal).into_iter().filter(|timeline| *timeline != followed.timeline && !undone.contains(timeline));
    let histories = others.filter_map(|timeline| aim::history(&host.wal, timeline).ok());
    Some((xid, histories.map(|other| (other.clone(), fork(&other, &followed))).collect()))
}
