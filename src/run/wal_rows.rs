//! Reads WAL for the rows of a few tables, as the owner, with every checksum.
//!
//! Three passes: which files the tables had and in which segments those were written; the records of these segments;
//! and the transactions that the changes belong to, with what committed between them. The first and the last take the
//! summaries of the index.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::pg::SegmentName;
use crate::run::reading::{ChainRequest, Files, identity};
use crate::run::segments::{Indexed, Summaries};
use crate::run::wal_log::{Stretch, stretches};
use crate::wal::acts::{Act, Acts, Watched};
use crate::wal::block::RelationFile;
use crate::wal::ledger::Ledger;
use crate::wal::log::{Filter, Log, newest};
use crate::wal::rows::{Happened, RowChange, Watch};
use crate::wal::{SegmentSource, Walk};

/// What to read and the tables in question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RowsRequest {
    /// Segments in order; between some of them others may be missing.
    pub chain: ChainRequest,
    /// A full transaction id near them.
    #[serde(with = "crate::pg::decimal")]
    pub next_xid: u64,
    /// The tables.
    pub tables: Vec<Watched>,
    /// The index of summaries, where it is used.
    pub index: Option<Indexed>,
}

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RowsFound {
    /// Per table, in the order of the WAL.
    pub acts: Vec<Vec<Act>>,
    /// Stretches of WAL that were read.
    pub stretches: Vec<Stretch>,
}

/// Reads.
pub fn rows(request: &RowsRequest) -> Result<RowsFound> {
    let summaries = Summaries::new(request.index.as_ref(), true);
    let files = find_files(request, &summaries)?;
    let wanted: Vec<SegmentName> = names(request).filter(|name| files.touched.contains(&name.number)).collect();
    let mut changes = read_rows(request, &files, &wanted)?;
    // An image of a page that was written for hint bits alone stands in a segment that no row change points to.
    let unread = |change: &RowChange| matches!(&change.happened, Happened::Updated { new: None, .. } | Happened::Deleted { row: None });
    if changes.iter().any(unread) {
        changes = read_rows(request, &files, &names(request).collect::<Vec<_>>())?;
    }
    let mut acts = Acts::new(request.tables.clone(), request.chain.history.clone(), files.replaced, changes);
    let begin = || (Ledger::new(request.next_xid), true);
    let found = stretches(&summaries, &request.chain, begin, |(ledger, fresh), joined| {
        if std::mem::take(fresh) {
            acts.hole();
        }
        for part in joined.parts() {
            ledger.apply(part, &mut |entry| acts.entry(&entry));
        }
    })?;
    Ok(RowsFound { acts: acts.finish(), stretches: found.into_iter().map(|(stretch, _)| stretch).collect() })
}

fn names(request: &RowsRequest) -> impl Iterator<Item = SegmentName> {
    request.chain.segments.iter().map(|(name, _, _)| *name)
}

/// Files that the tables had.
struct TableFiles {
    /// Every file and its table.
    of_tables: BTreeMap<RelationFile, usize>,
    /// Segments with rows of these.
    touched: BTreeSet<u64>,
    replaced: BTreeMap<RelationFile, RelationFile>,
}

fn find_files(request: &RowsRequest, summaries: &Summaries) -> Result<TableFiles> {
    let size = request.chain.identity.segment_size;
    let mut log = Log::new(Filter { limit: 0, ..Filter::default() }, request.chain.history.clone(), BTreeMap::new());
    let mut written: BTreeMap<RelationFile, BTreeSet<u64>> = BTreeMap::new();
    let begin = || Ledger::new(request.next_xid);
    stretches(summaries, &request.chain, begin, |ledger, joined| {
        for part in joined.parts() {
            for work in &part.work {
                let number = size.number(work.first);
                let made = work.marks.iter().flat_map(|marks| marks.created.iter().chain(&marks.cut));
                for file in work.rows.iter().map(|(file, _)| file).chain(made).filter(|file| !file.is_catalog()) {
                    written.entry(*file).or_default().insert(number);
                }
            }
            ledger.apply(part, &mut |entry| log.entry(&entry));
        }
    })?;
    let replaced = log.into_known().0;
    let table = |file: RelationFile| request.tables.iter().position(|table| table.file == newest(&replaced, file));
    let of_tables: BTreeMap<RelationFile, usize> = written.keys().filter_map(|file| Some((*file, table(*file)?))).collect();
    let touched = of_tables.keys().filter_map(|file| written.get(file)).flatten().copied().collect();
    Ok(TableFiles { of_tables, touched, replaced })
}

/// Records of the segments `wanted`; one that begins in the last of a run may end in the one after it.
fn read_rows(request: &RowsRequest, files: &TableFiles, wanted: &[SegmentName]) -> Result<Vec<RowChange>> {
    let columns = request.tables.iter().map(|table| table.columns.clone()).collect();
    let mut watch = Watch::new(columns, files.of_tables.clone());
    for run in wanted.chunk_by(|a, b| a.number + 1 == b.number) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let near = request.chain.segments.iter().filter(|(name, _, _)| (first.number..=last.number + 1).contains(&name.number));
        let paths = near.map(|(name, directory, file)| (*name, (directory.clone(), file.clone()))).collect();
        let mut rest = Some(Files(paths, request.chain.identity.segment_size));
        let mut number = first.number;
        // Behind damage the next segment begins anew, and nothing is known of the pages.
        while let Some(source) = rest.take() {
            let (source, broken) = read_run(request, source, number, last.number, &mut watch)?;
            if let Some(next) = broken.filter(|next| *next <= last.number) {
                watch.break_off();
                (rest, number) = (Some(source), next);
            }
        }
    }
    Ok(watch.finish())
}

/// Reads from segment `number` to `last`; where reading ended before, the segment to go on with.
fn read_run<S: SegmentSource>(request: &RowsRequest, source: S, number: u64, last: u64, watch: &mut Watch) -> Result<(S, Option<u64>)> {
    let size = request.chain.identity.segment_size;
    let behind = size.start(last + 1);
    let mut walk = Walk::from_segment(source, size, request.chain.history.clone(), Some(identity(&request.chain)), number);
    while let Some(record) = walk.next()? {
        if record.lsn >= behind {
            return Ok((walk.into_source(), None));
        }
        watch.record(&record);
    }
    let next = walk.end().map(|end| size.number(end.at).max(number) + 1);
    Ok((walk.into_source(), next))
}
