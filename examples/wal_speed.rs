//! How fast WAL is read, to compare with `time pg_waldump --quiet`: `wal_speed DIRECTORY FIRST-SEGMENT [THREADS]`.
//!
//! Every segment from the first on is summarised, several at a time, and the summaries are joined in order: page
//! headers, lengths, prev-links and checksums of all records, rows per transaction and relation. Prints records per
//! resource manager, what committed, and where WAL ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use pitr::error::{At, Error, Result};
use pitr::pg::{History, SegmentName, SegmentSize};
use pitr::wal::EndOfWal;
use pitr::wal::chain::Chain;
use pitr::wal::ledger::{Entry, Ledger};
use pitr::wal::scan::Checks;
use pitr::wal::summary::{SegmentSummary, summarise_stream};

type Summary = std::result::Result<SegmentSummary, EndOfWal>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(first)) = (arguments.next(), arguments.next()) else {
        return Err(Error::usage("arguments: directory, first segment, threads"));
    };
    let threads = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(2);
    let directory = PathBuf::from(directory);
    let bytes = std::fs::metadata(directory.join(&first)).at("stat", &first)?.len();
    let size = SegmentSize::new(bytes as u32).map_err(|e| Error::usage(e.to_string()))?;
    let first = SegmentName::parse(&first, size).ok_or_else(|| Error::usage("not a segment name"))?;
    let begin = Instant::now();
    let end = join(&directory, first, size, threads);
    println!("{end:?}\n{:.3} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Each thread takes the next segment; the summaries wait for their turn, a few at most.
fn join(directory: &Path, first: SegmentName, size: SegmentSize, threads: u64) -> EndOfWal {
    let next = AtomicU64::new(first.number);
    let (sender, receiver) = sync_channel(threads as usize);
    let (mut chain, mut ledger) = (Chain::new(size, History::root(first.timeline), None), Ledger::new(0));
    let (mut waiting, mut turn) = (BTreeMap::new(), first.number);
    let (mut records, mut commits, mut rows) = (BTreeMap::new(), 0u64, 0u64);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let sender = sender.clone();
            scope.spawn(|| read(directory, first, size, &next, sender));
        }
        drop(sender);
        for (number, summary) in receiver {
            waiting.insert(number, summary);
            while let Some(summary) = waiting.remove(&turn) {
                turn += 1;
                let joined = match summary {
                    None => chain.missing(),
                    Some(Err(end)) => chain.unreadable(end),
                    Some(Ok(summary)) => match chain.push(summary) {
                        Err(end) => end,
                        Ok(joined) => {
                            for effects in joined.parts() {
                                for (rmgr, tally) in &effects.records {
                                    *records.entry(*rmgr).or_insert(0u64) += tally.records;
                                }
                                ledger.apply(effects, &mut |entry| {
                                    if let Entry::Committed(transaction) = entry {
                                        commits += 1;
                                        rows += transaction.rows.iter().map(|(_, r)| r.net_inserted() + r.updated + r.deleted).sum::<u64>();
                                    }
                                });
                            }
                            continue;
                        }
                    },
                };
                chain.unreadable(joined);
            }
        }
    });
    for (rmgr, count) in &records {
        println!("{:20} {count}", rmgr.to_string());
    }
    println!("{commits} commits, {rows} rows");
    chain.missing()
}

/// One window per thread, until a segment is missing.
fn read(directory: &Path, first: SegmentName, size: SegmentSize, next: &AtomicU64, sender: SyncSender<(u64, Option<Summary>)>) {
    let mut buffer = Vec::new();
    loop {
        let name = SegmentName { number: next.fetch_add(1, Ordering::Relaxed), ..first };
        let file = std::fs::File::open(directory.join(name.file_name(size)));
        let summary = file.and_then(|file| summarise_stream(file, &mut buffer, name, size, Checks::default())).ok();
        let last = summary.is_none();
        if sender.send((name.number, summary)).is_err() || last {
            return;
        }
    }
}
