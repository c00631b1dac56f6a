//! Reads a chain of WAL with every checksum, as the owner, and answers one question about it.
//!
//! Some segments are read at a time; memory is bounded by them and by what was in flight.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::pg::{History, Lsn, SegmentName, SegmentSize};
use crate::plan::chain;
use crate::plan::wal_facts::question;
use crate::run::executor::Run;
use crate::run::owner::{Task, open_directory};
use crate::run::segments::{Stream, chained, summary};
use crate::run::sources;
use crate::run::tail::WalIdentity;
use crate::wal::chain::{Chain, Joined};
use crate::wal::inquiry::{Answer, BackupStart, Inquiry, Question, Stop};
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
    let listed = sources::list(run, &sources::serving(run))?;
    let recovery = run.recovery();
    let size = recovery.cluster.segment_size;
    let links = chain::follow(&recovery.target.history, recovery.chain.first.number, None, &listed, size);
    let copies = chain::readable(&listed);
    let segments = links.segments.iter();
    let segments = segments.filter_map(|n| copies.get(n).and_then(|l| l.first()).map(|c| (*n, c.directory.clone(), c.file.clone())));
    let question = match (recovery.target.lsn, &recovery.target.request) {
        (Some(lsn), _) => Question::Lsn { lsn, inclusive: recovery.target.inclusive },
        (None, request) => question(request),
    };
    let request = ReadRequest {
        chain: ChainRequest { segments: segments.collect(), history: recovery.target.history.clone(), identity: sources::identity(run) },
        question,
        backup: None,
        next_xid: recovery.backup.control.as_ref().map_or(0, |control| control.next_xid),
    };
    run.owner(Task::ReadWal(Box::new(request)))
}

/// The last valid record, for latest of a cluster that crashed.
pub fn last_record(answer: &Answer) -> Result<Lsn> {
    answer.last.map(|(start, _)| start).ok_or_else(|| {
        Error::failed("there is no valid WAL record after the backup's start")
            .cause(answer.end.map(|e| e.reason.to_string()).unwrap_or_default())
    })
}
