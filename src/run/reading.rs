//! Reads a chain of WAL with every checksum, as the owner, and answers one question about it.
//!
//! Some segments are read at a time; memory is bounded by them and by what was in flight.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::pg::{ControlFile, History, Lsn, SegmentName, SegmentSize};
use crate::plan::facts::WalSource;
use crate::plan::wal_facts::question;
use crate::plan::{aim, chain, discards};
use crate::run::executor::Run;
use crate::run::owner::{Task, open_directory};
use crate::run::replay;
use crate::run::segments::{Stream, chained, is_large, summary, walked};
use crate::run::sources::{self, Directories};
use crate::run::tail::WalIdentity;
use crate::wal::chain::{Chain, Joined};
use crate::wal::inquiry::{Answer, BackupStart, Inquiry, Lost, Question, Stop};
use crate::wal::page::Major;
use crate::wal::{Identity, SegmentSource, Walk};

/// A segment, the directory by the path to open, and the file in it.
pub type Segment = (SegmentName, PathBuf, String);

/// What to read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChainRequest {
    /// Segments in the order of the chain.
    pub segments: Vec<Segment>,
    /// History that is followed.
    pub history: History,
    /// Whose WAL.
    pub identity: WalIdentity,
}

/// What to read and what to look for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadRequest {
    /// What to read.
    pub chain: ChainRequest,
    /// What is looked for.
    pub question: Question,
    /// Start of the backup whose end is looked for.
    pub backup: Option<BackupStart>,
    /// The full id of a transaction near these.
    #[serde(with = "crate::pg::decimal")]
    pub next_xid: u64,
}

/// Reads the chain to its end.
pub fn read(request: &ReadRequest) -> Result<Answer> {
    let located = match request.question {
        Question::Lsn { lsn, inclusive } => locate(&request.chain, lsn, inclusive)?,
        _ => None,
    };
    let mut inquiry = Inquiry::new(request.question.clone(), request.chain.history.clone(), request.backup, request.next_xid, located);
    let chain = follow(&request.chain, &request.chain.segments, |joined| inquiry.joined(joined))?;
    Ok(inquiry.finish(&chain))
}

/// Reads `segments` of `wanted`, which follow each other, until they end or are broken.
pub fn follow(wanted: &ChainRequest, segments: &[Segment], mut each: impl FnMut(Joined)) -> Result<Chain> {
    if is_large(wanted) {
        return walked(wanted, segments, &mut each);
    }
    chained(wanted, segments, &|segment, buffer| summary(wanted, segment, buffer), &mut |chain, summary| {
        if let Ok(joined) = chain.push(summary) {
            each(joined);
        }
        Ok(())
    })
}

/// Whose WAL the chain is of.
pub fn identity(request: &ChainRequest) -> Identity {
    Identity { system_identifier: request.identity.system_identifier, major: Major(request.identity.major) }
}

/// The first record that starts at `wanted` or later: the one that PostgreSQL would stop at.
fn locate(request: &ChainRequest, wanted: Lsn, inclusive: bool) -> Result<Option<Stop>> {
    let size = request.identity.segment_size;
    let files = request.segments.iter().map(|(name, directory, file)| (*name, (directory.clone(), file.clone()))).collect();
    let source = Files(files, size);
    let mut walk = Walk::from_segment(source, size, request.history.clone(), Some(identity(request)), size.number(wanted));
    while let Some(record) = walk.next()? {
        if record.lsn >= wanted {
            return Ok(Some(Stop { lsn: record.lsn, end: record.end, inclusive }));
        }
    }
    Ok(None)
}

/// Segments of one size by name, read when they are asked for: directory and file of each.
pub(super) struct Files(pub(super) BTreeMap<SegmentName, (PathBuf, String)>, pub(super) SegmentSize);

impl SegmentSource for Files {
    type Stream = Stream;

    fn segment(&mut self, name: SegmentName) -> Result<Option<Stream>> {
        let Some((directory, file)) = self.0.get(&name) else { return Ok(None) };
        Stream::open(&open_directory(directory)?, file, self.1.bytes()).map(Some)
    }
}

/// The answer for this run's target from the WAL as it stands after the stop: archives and copied tail.
pub fn after_stop(run: &mut Run) -> Result<Answer> {
    let recovery = run.recovery();
    let question = match (recovery.target.lsn, &recovery.target.request) {
        (Some(lsn), _) => Question::Lsn { lsn, inclusive: recovery.target.inclusive },
        (None, request) => question(request),
    };
    let history = recovery.target.history.clone();
    let next_xid = recovery.backup.control.as_ref().map_or(0, |control| control.next_xid);
    let (first, sources) = (recovery.chain.first.number, sources::serving(run));
    let listed = sources::list(run, &sources)?;
    read_stopped(run, (&sources, &listed), Wanted { history, first, question, next_xid })
}

/// What committed on the timeline that served until the stop, and is not there after the recovery.
#[derive(Debug)]
pub struct Discarded {
    /// All of it that was read.
    pub lost: Lost,
    /// WAL could be read to where the stopped cluster had come.
    pub whole: bool,
}

/// Counts what is discarded of the cluster that was stopped with `old`: behind the target, or where the target is on another
/// branch behind the place where both part.
pub fn discarded(run: &mut Run, old: &ControlFile) -> Result<Discarded> {
    let recovery = run.recovery();
    let target = &recovery.target;
    let answer = if old.timeline == target.timeline {
        after_stop(run)?
    } else {
        let sources = sources::everything(run);
        let listed = sources::list(run, &sources)?;
        let recovery = run.recovery();
        let unknown = |why: String| Error::failed(format!("the history of timeline {} is not known", old.timeline)).cause(why);
        let serving = aim::history(&listed, old.timeline).map_err(unknown)?;
        let parts = discards::fork(&recovery.target.history, &serving);
        // The record at the target is kept where both have it.
        let (lsn, inclusive) = match replay::target_lsn(run) {
            Some(lsn) if lsn < parts => (lsn, recovery.target.inclusive),
            _ => (parts, false),
        };
        // From the backup's start where that is on the way, so that what was running at the fork is counted whole.
        let first = recovery.chain.first.number.min(recovery.cluster.segment_size.number(lsn));
        let question = Question::Lsn { lsn, inclusive };
        read_stopped(run, (&sources, &listed), Wanted { history: serving, first, question, next_xid: old.next_xid })?
    };
    let whole = answer.last.is_some_and(|(start, _)| start >= old.checkpoint);
    Ok(Discarded { lost: answer.lost, whole })
}

struct Wanted {
    history: History,
    /// Number of the first segment.
    first: u64,
    question: Question,
    next_xid: u64,
}

fn read_stopped(run: &mut Run, (sources, listed): (&Directories, &[WalSource]), wanted: Wanted) -> Result<Answer> {
    let size = run.recovery().cluster.segment_size;
    let links = chain::follow(&wanted.history, wanted.first, None, listed, size);
    let copies = chain::readable(listed);
    let copy = |name: &SegmentName| copies.get(name).and_then(|list| list.first());
    let segments = links.segments.iter().filter_map(|n| copy(n).map(|c| (*n, sources.open_path(&c.directory), c.file.clone())));
    let Wanted { history, question, next_xid, .. } = wanted;
    let chain = ChainRequest { segments: segments.collect(), history, identity: sources::identity(run) };
    run.owner(Task::ReadWal(Box::new(ReadRequest { chain, question, backup: None, next_xid })))
}

/// The last valid record, for latest of a cluster that crashed.
pub fn last_record(answer: &Answer) -> Result<Lsn> {
    answer.last.map(|(start, _)| start).ok_or_else(|| {
        Error::failed("there is no valid WAL record after the backup's start")
            .cause(answer.end.map(|e| e.reason.to_string()).unwrap_or_default())
    })
}
