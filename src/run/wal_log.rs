//! Reads WAL for `log` and `verify wal`, as the owner: every stretch that is without a hole, with every checksum.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};
use crate::pg::Lsn;
use crate::run::owner::open_directory;
use crate::run::reading::{ChainRequest, Segment, follow};
use crate::run::tail::WalIdentity;
use crate::wal::block::RelationFile;
use crate::wal::chain::Joined;
use crate::wal::effects::{Event, What};
use crate::wal::ledger::Ledger;
use crate::wal::log::{Filter, Line, Log};
use crate::wal::page::Page;
use crate::wal::xlog::Xlog;
use crate::wal::{EndOfWal, PgTime};

/// What to read and what of it to list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogRequest {
    /// Segments in order; between some of them others may be missing.
    pub chain: ChainRequest,
    /// A full transaction id near them.
    #[serde(with = "crate::pg::decimal")]
    pub next_xid: u64,
    /// What is listed.
    pub filter: Filter,
}

/// The lines, and what could not be read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Logged {
    /// Oldest first.
    pub lines: Vec<Line>,
    /// Older ones that the limit left out.
    pub left_out: u64,
    /// Stretches that were read: first record, end, and why reading ended there.
    pub stretches: Vec<Stretch>,
}

/// A stretch of WAL without a hole.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Stretch {
    /// Start of the first record.
    pub from: Lsn,
    /// End of the last.
    pub to: Lsn,
    /// Where and why it ends.
    pub end: Option<EndOfWal>,
}

/// Lists. Where relations are asked for the WAL is read twice: only at its end it is known which files they had before.
pub fn log(request: &LogRequest) -> Result<Logged> {
    let mut replaced = BTreeMap::new();
    if request.filter.relations.is_some() {
        let nothing = Filter { limit: 0, ..Filter::default() };
        replaced = pass(request, nothing, BTreeMap::new())?.0.into_replaced();
    }
    let (log, stretches) = pass(request, request.filter.clone(), replaced)?;
    let (lines, left_out) = log.finish();
    Ok(Logged { lines, left_out, stretches })
}

fn pass(request: &LogRequest, filter: Filter, replaced: BTreeMap<RelationFile, RelationFile>) -> Result<(Log, Vec<Stretch>)> {
    let mut log = Log::new(filter, request.chain.history.clone(), replaced);
    let begin = || Ledger::new(request.next_xid);
    let found = stretches(&request.chain, begin, |ledger, joined| {
        for part in joined.parts() {
            ledger.apply(part, &mut |entry| log.entry(&entry));
        }
    })?;
    Ok((log, found.into_iter().map(|(stretch, _)| stretch).collect()))
}

/// Reads every stretch without a hole; each begins with a value of its own. Behind damage the next segment begins anew.
pub fn stretches<T>(wanted: &ChainRequest, begin: impl Fn() -> T, mut each: impl FnMut(&mut T, Joined)) -> Result<Vec<(Stretch, T)>> {
    let size = wanted.identity.segment_size;
    let mut found = Vec::new();
    for run in wanted.segments.chunk_by(|a, b| a.0.number + 1 == b.0.number) {
        let mut rest: &[Segment] = run;
        while let Some((first, _, _)) = rest.first() {
            let mut value = begin();
            let chain = follow(wanted, rest, |joined| each(&mut value, joined))?;
            let start = size.start(first.number);
            let (from, to) = (chain.first().unwrap_or(start), chain.last().map_or(start, |(_, end)| end));
            found.push((Stretch { from, to, end: chain.end() }, value));
            let broken = chain.end().map_or(u64::MAX, |end| size.number(end.at));
            let next = rest.iter().position(|(name, _, _)| name.number > broken.max(first.number));
            rest = next.and_then(|next| rest.get(next..)).unwrap_or_default();
        }
    }
    Ok(found)
}

/// A stretch with what a recovery could use in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Verified {
    /// The stretch.
    pub stretch: Stretch,
    /// The last commit or abort in it.
    pub newest: Option<PgTime>,
    /// Backups that end in it: redo point, and end of the record that ends them.
    pub backups: Vec<(Lsn, Lsn)>,
}

/// Reads everything and says which stretches are whole.
pub fn verify(wanted: &ChainRequest) -> Result<Vec<Verified>> {
    let found = stretches(wanted, Found::default, |found, joined| {
        for part in joined.parts() {
            part.events.iter().for_each(|event| found.event(event));
        }
    })?;
    Ok(found.into_iter().map(|(stretch, found)| Verified { stretch, newest: found.newest, backups: found.backups }).collect())
}

#[derive(Default)]
struct Found {
    newest: Option<PgTime>,
    backups: Vec<(Lsn, Lsn)>,
}

impl Found {
    fn event(&mut self, event: &Event) {
        match &event.what {
            What::Commit(finish) | What::Abort(finish) | What::CommitPrepared(finish) | What::AbortPrepared(finish) => {
                self.newest = Some(finish.time);
            }
            What::Xlog(xlog) => {
                if let Xlog::BackupEnd(redo) = xlog.as_ref() {
                    self.backups.push((*redo, event.end));
                }
            }
            _ => {}
        }
    }
}

/// Whose WAL stands in `directory`, by the first page of the first segment that has one.
pub fn probe(directory: &Path) -> Result<WalIdentity> {
    let opened = open_directory(directory)?;
    let mut names: Vec<String> = opened.entries()?.into_iter().filter_map(|e| e.name_str().map(str::to_string)).collect();
    names.sort();
    let is_segment = |name: &&String| name.len() >= 24 && name.bytes().take(24).all(|b| b.is_ascii_hexdigit()) && !name.contains(".backup");
    for name in names.iter().filter(is_segment) {
        let Ok((_, reader)) = opened.open_file(name).and_then(|file| crate::store::codec::decoder(file).at("read", opened.join(name)))
        else {
            continue;
        };
        let mut page = Vec::new();
        if reader.take(8192).read_to_end(&mut page).is_err() {
            continue;
        }
        let Some((major, long)) = Page::parse(&page).ok().and_then(|page| Some((page.major, page.long?))) else { continue };
        return Ok(WalIdentity { major: major.0, system_identifier: long.system_identifier, segment_size: long.segment_size });
    }
    Err(Error::failed(format!("{} holds no WAL segment", directory.display()))
        .hint("Name the directory that segments such as 000000010000000000000005 are in."))
}
