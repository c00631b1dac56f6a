//! Reads WAL for `log` and `verify wal`, as the owner: every stretch that is without a hole, with every checksum.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};
use crate::pg::Lsn;
use crate::run::owner::open_directory;
use crate::run::reading::{ChainRequest, Segment};
use crate::run::segments::{Indexed, Reader, Summaries};
use crate::run::tail::WalIdentity;
use crate::wal::block::RelationFile;
use crate::wal::called::CalledRelation;
use crate::wal::chain::Joined;
use crate::wal::effects::{Event, What};
use crate::wal::ledger::Ledger;
use crate::wal::log::{Filter, Found as Lines, Line, Log};
use crate::wal::packed::Digest;
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
    /// The index of summaries, where it is used.
    pub index: Option<Indexed>,
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
    /// Relations of the lines as the WAL names them, by the files that they have there.
    pub named: Vec<CalledRelation>,
    /// Schemas that the WAL names: database, OID, name.
    pub schemas: Vec<(u32, u32, String)>,
    /// No relation has the name that was asked for, or had it.
    pub unknown: bool,
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

/// Lists. Where relations are asked for there are two passes: only at the end it is known which files and names they had
/// before. The second takes the summaries of the first.
pub fn log(request: &LogRequest) -> Result<Logged> {
    let mut filter = request.filter.clone();
    let summaries = Summaries::new(request.index.as_ref(), filter.relations.is_some());
    let mut replaced = BTreeMap::new();
    if let Some(relations) = &mut filter.relations {
        let nothing = Filter { limit: 0, ..Filter::default() };
        let known = pass(&summaries, request, nothing, BTreeMap::new(), &|digest| digest.replaces)?.0.into_known();
        replaced = known.0;
        relations.look_up(&known.1, &replaced);
    }
    let wants = |digest: &Digest| digest.replaces || filter.may_match(digest, &replaced);
    let (log, stretches) = pass(&summaries, request, filter.clone(), replaced.clone(), &wants)?;
    let Lines { lines, left_out, called } = log.finish();
    let files: BTreeSet<RelationFile> = lines.iter().flat_map(|line| &line.relations).map(|change| change.file).collect();
    let named = files.into_iter().filter_map(|file| called.relation(file)).collect();
    let schemas = called.schemas().map(|(database, oid, name)| (database, oid, name.to_owned())).collect();
    let unknown = filter.relations.is_some_and(|relations| relations.is_empty());
    Ok(Logged { lines, left_out, stretches, named, schemas, unknown })
}

fn pass(
    summaries: &Summaries,
    request: &LogRequest,
    filter: Filter,
    replaced: BTreeMap<RelationFile, RelationFile>,
    wants: &(dyn Fn(&Digest) -> bool + Sync),
) -> Result<(Log, Vec<Stretch>)> {
    let mut pass = Pass { log: Log::new(filter, request.chain.history.clone(), replaced), ledger: Ledger::default() };
    let begin = |pass: &mut Pass| pass.ledger = Ledger::new(request.next_xid);
    let stretches = read_stretches(summaries, &request.chain, wants, &mut pass, begin, |_, _| {})?;
    Ok((pass.log, stretches))
}

struct Pass {
    log: Log,
    /// Of the stretch at hand.
    ledger: Ledger,
}

impl Reader for Pass {
    fn needs(&self, digest: &Digest) -> bool {
        self.ledger.has_open(digest.xids())
    }

    fn joined(&mut self, joined: Joined, left_out: Option<&Digest>) {
        for mut part in joined.parts() {
            self.log.names(std::mem::take(&mut part.names));
            self.ledger.apply(part, &mut |entry| self.log.entry(&entry));
        }
        if let Some(digest) = left_out {
            self.log.left_out(digest);
        }
    }
}

/// Reads every stretch without a hole, and all of it; each stretch begins with a value of its own.
pub fn stretches<T>(
    summaries: &Summaries,
    wanted: &ChainRequest,
    begin: impl Fn() -> T,
    each: impl FnMut(&mut T, Joined),
) -> Result<Vec<(Stretch, T)>> {
    let mut found = Vec::new();
    let mut reader = Everything { value: begin(), each };
    let renew = |reader: &mut Everything<_, _>| reader.value = begin();
    read_stretches(summaries, wanted, &|_| true, &mut reader, renew, |reader, stretch| {
        found.push((stretch, std::mem::replace(&mut reader.value, begin())));
    })?;
    Ok(found)
}

/// Takes all that is read.
struct Everything<T, F> {
    value: T,
    each: F,
}

impl<T, F: FnMut(&mut T, Joined)> Reader for Everything<T, F> {
    fn needs(&self, _: &Digest) -> bool {
        true
    }

    fn joined(&mut self, joined: Joined, _: Option<&Digest>) {
        (self.each)(&mut self.value, joined);
    }
}

/// Reads every stretch without a hole; behind damage the next segment begins anew.
fn read_stretches<R: Reader>(
    summaries: &Summaries,
    wanted: &ChainRequest,
    wants: &(dyn Fn(&Digest) -> bool + Sync),
    reader: &mut R,
    begin: impl Fn(&mut R),
    mut ended: impl FnMut(&mut R, Stretch),
) -> Result<Vec<Stretch>> {
    let size = wanted.identity.segment_size;
    let mut found = Vec::new();
    for run in wanted.segments.chunk_by(|a, b| a.0.number + 1 == b.0.number) {
        let mut rest: &[Segment] = run;
        while let Some((first, _, _)) = rest.first() {
            begin(reader);
            let chain = summaries.follow(wanted, rest, wants, reader)?;
            let start = size.start(first.number);
            let (from, to) = (chain.first().unwrap_or(start), chain.last().map_or(start, |(_, end)| end));
            let stretch = Stretch { from, to, end: chain.end() };
            ended(reader, stretch);
            found.push(stretch);
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

/// What to verify.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerifyRequest {
    /// Segments in order; between some of them others may be missing.
    pub chain: ChainRequest,
    /// The index of summaries, where it is used.
    pub index: Option<Indexed>,
}

/// Reads everything and says which stretches are whole.
pub fn verify(request: &VerifyRequest) -> Result<Vec<Verified>> {
    let summaries = Summaries::new(request.index.as_ref(), false);
    let mut verified = Vec::new();
    let begin = |found: &mut Found| *found = Found::default();
    read_stretches(&summaries, &request.chain, &|_| false, &mut Found::default(), begin, |found, stretch| {
        verified.push(Verified { stretch, newest: found.newest, backups: std::mem::take(&mut found.backups) });
    })?;
    Ok(verified)
}

#[derive(Default)]
struct Found {
    newest: Option<PgTime>,
    backups: Vec<(Lsn, Lsn)>,
}

impl Reader for Found {
    fn needs(&self, _: &Digest) -> bool {
        false
    }

    fn joined(&mut self, joined: Joined, left_out: Option<&Digest>) {
        for part in joined.parts() {
            part.events.iter().for_each(|event| self.event(event));
        }
        self.newest = left_out.and_then(|digest| digest.newest).or(self.newest);
    }
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
    probe_other(directory, None)
}

/// The same of another cluster than the one with this system identifier.
pub fn probe_other(directory: &Path, than: Option<u64>) -> Result<WalIdentity> {
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
        if than == Some(long.system_identifier) {
            continue;
        }
        return Ok(WalIdentity { major: major.0, system_identifier: long.system_identifier, segment_size: long.segment_size });
    }
    Err(Error::failed(format!("{} holds no WAL segment", directory.display()))
        .hint("Name the directory that segments such as 000000010000000000000005 are in."))
}
