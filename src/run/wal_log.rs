//! Reads WAL for the log, as the owner: every stretch that is without a hole, with every checksum.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};
use crate::pg::Lsn;
use crate::run::owner::open_directory;
use crate::run::reading::{ChainRequest, Segment, follow};
use crate::run::tail::WalIdentity;
use crate::wal::EndOfWal;
use crate::wal::block::RelationFile;
use crate::wal::ledger::Ledger;
use crate::wal::log::{Filter, Line, Log};
use crate::wal::page::Page;

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
    let mut stretches = Vec::new();
    for run in request.chain.segments.chunk_by(|a, b| a.0.number + 1 == b.0.number) {
        let mut rest: &[Segment] = run;
        while let Some((first, _, _)) = rest.first() {
            let mut ledger = Ledger::new(request.next_xid);
            let chain = follow(&request.chain, rest, |joined| {
                for part in joined.parts() {
                    ledger.apply(part, &mut |entry| log.entry(&entry));
                }
            })?;
            let begin = request.chain.identity.segment_size.start(first.number);
            let (from, to) = (chain.first().unwrap_or(begin), chain.last().map_or(begin, |(_, end)| end));
            stretches.push(Stretch { from, to, end: chain.end() });
            // Behind damage the next segment begins anew.
            let broken = chain.end().map_or(u64::MAX, |end| request.chain.identity.segment_size.number(end.at));
            let next = rest.iter().position(|(name, _, _)| name.number > broken.max(first.number));
            rest = next.and_then(|next| rest.get(next..)).unwrap_or_default();
        }
    }
    Ok((log, stretches))
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
