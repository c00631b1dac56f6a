//! Which commit a recovery has to exclude, for a row that was written by this transaction.
//!
//! The WAL decides, not the tool's usual way: a row in a transaction that also did the work is in class A or B, whatever
//! the tool; one that was written by itself is of class C, or has no work behind it.

use super::{Class, Tool};
use crate::pg::Lsn;
use crate::wal::PgTime;
use crate::wal::acts::{Act, Brief};

/// Work that ended longer before its row, in microseconds, is not taken for the row's.
const NEAR: i64 = 10 * 60 * 1_000_000;
/// Candidates that are shown.
const SHOWN: usize = 20;

/// Which commit begins a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// The row's own transaction did the work.
    Together,
    /// This one, which committed before the row did; with the others that may belong to it.
    Before(Brief, Vec<Brief>),
    /// The WAL cannot tell: one of these, or another.
    Undecided(Vec<Brief>),
    /// There is no work behind the row, as far as the WAL shows; why it seems so.
    WithoutWork(&'static str),
}

/// Decides for `rows` new rows of one act, the first of them written at `first`; `many`: as COPY writes.
pub fn begin(tool: &Tool, act: &Act, rows: usize, first: Lsn, many: bool) -> Begin {
    let alone = act.by.relations.is_empty() && !act.by.ddl;
    if !alone {
        return Begin::Together;
    }
    if tool.class == Class::Around {
        let within: Vec<Brief> = all(act).into_iter().filter(|brief| brief.lsn > first).collect();
        if let Some(earliest) = within.first() {
            return Begin::Before(earliest.clone(), within);
        }
    }
    if many || (rows > 1 && tool.class != Class::Batch) {
        return Begin::WithoutWork("several versions were written at once and nothing else with them: a dump or a schema was loaded");
    }
    window(tool, act)
}

/// The row was written by itself: what changed definitions shortly before it, and since the row before.
fn window(tool: &Tool, act: &Act) -> Begin {
    let since = &act.since;
    let after = matches!(tool.class, Class::After | Class::Around);
    let near = |brief: &&Brief| act.by.time.0.saturating_sub(brief.time.0) <= NEAR;
    let candidates: Vec<Brief> = since.ddl.iter().filter(near).cloned().collect();
    let far = since.ddl.len() > candidates.len() || since.left_out.0 > 0;
    match candidates.first() {
        Some(_) if far || since.hole => Begin::Undecided(newest(all(act))),
        Some(earliest) => Begin::Before(earliest.clone(), candidates.clone()),
        None if after && (far || since.hole || !since.plain.is_empty()) => Begin::Undecided(newest(all(act))),
        None => Begin::WithoutWork("its row was written by itself, and nothing else changed a definition shortly before"),
    }
}

fn all(act: &Act) -> Vec<Brief> {
    let mut all: Vec<Brief> = act.since.ddl.iter().chain(&act.since.plain).cloned().collect();
    all.sort_by_key(|brief| brief.lsn);
    all
}

fn newest(mut all: Vec<Brief>) -> Vec<Brief> {
    let definitions = all.iter().filter(|brief| brief.ddl).count();
    if definitions > 0 && all.len() > SHOWN {
        all.retain(|brief| brief.ddl);
    }
    all.split_off(all.len().saturating_sub(SHOWN))
}

/// Time between a brief's commit and another's, in microseconds.
pub fn apart(earlier: PgTime, later: PgTime) -> i64 {
    later.0.saturating_sub(earlier.0)
}
