//! Looks for the transaction that is asked for on the timelines that a recovery would not follow.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::observe::host::Observed;
use crate::pg::Lsn;
use crate::pg::history::History;
use crate::plan::elsewhere::{Elsewhere, branches};
use crate::plan::restore::Request;
use crate::plan::wal_facts::timestamp;
use crate::run::owner::Task;
use crate::run::reading::ChainRequest;
use crate::run::wal_log::{LogRequest, Logged};
use crate::verb::Context;
use crate::verb::log::Ground;
use crate::wal::log::{Filter, Kind, Line};

/// More ends of transactions with one id than anybody would choose from.
const MOST: usize = 8;

/// Ends of the transaction on other branches. WAL there that cannot be read says nothing: it is none of what is recovered.
pub fn find(context: &Context, observed: &Observed, request: &Request) -> Vec<Elsewhere> {
    let Some((xid, others)) = branches(&observed.host, request).filter(|(_, others)| !others.is_empty()) else { return Vec::new() };
    let ground = Ground::of(observed.clone(), request.site.user.clone());
    let mut found: BTreeMap<Lsn, Elsewhere> = BTreeMap::new();
    for (history, fork) in others {
        let timeline = history.timeline;
        let lines = ends(context, &ground, history, fork, xid).unwrap_or_else(|error| {
            log::warn!("timeline {timeline} was not looked at for transaction {xid}: {error}");
            Vec::new()
        });
        for line in lines {
            let end = Elsewhere { timeline, lsn: line.lsn, time: line.time.and_then(timestamp) };
            found.entry(line.lsn).or_insert(end);
        }
    }
    found.into_values().take(MOST).collect()
}

fn ends(context: &Context, ground: &Ground, history: History, fork: Lsn, xid: u64) -> Result<Vec<Line>> {
    let first = ground.identity.segment_size.number(fork);
    let mut segments = ground.segments(&history);
    segments.retain(|(name, _, _)| name.number >= first);
    if segments.is_empty() {
        return Ok(Vec::new());
    }
    let chain = ChainRequest { segments, history, identity: ground.identity };
    let filter = Filter { xid: Some(xid), limit: 2 * MOST, ..Filter::default() };
    let task = |index| {
        let (chain, filter) = (chain.clone(), filter.clone());
        Task::LogWal(Box::new(LogRequest { chain, next_xid: ground.next_xid, filter, index }))
    };
    let mut logged: Logged = ground.read(context, task)?;
    logged.lines.retain(|line| line.lsn >= fork && matches!(line.kind, Kind::Committed | Kind::Aborted));
    Ok(logged.lines)
}
