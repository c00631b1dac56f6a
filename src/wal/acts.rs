//! Changes of watched tables as committed transactions made them, and what committed between those.
//!
//! One more pass over what [`super::rows`] found: the row changes of a transaction and its subtransactions are put
//! together at its commit; those of one that was rolled back never are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::block::RelationFile;
use super::effects::ByXid;
use super::heap::Rows;
use super::ledger::{Entry, Transaction};
use super::log::{Change, newest};
use super::rows::{Happened, RowChange};
use super::transaction::PgTime;
use crate::pg::{History, Lsn, Timeline};

/// Transactions between two acts that are kept: those with definitions, and those without.
const KEPT_DDL: usize = 200;
const KEPT_PLAIN: usize = 50;
/// Relations of one transaction that are kept.
const KEPT_RELATIONS: usize = 20;

/// A table whose rows are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Database OID.
    pub database: u32,
    /// `pg_class.oid`.
    pub oid: u32,
    /// The file that it has now.
    pub file: RelationFile,
    /// Files of what goes with it: its TOAST table, a table of locks. Their rows are nobody's work.
    pub companions: Vec<RelationFile>,
    /// Columns.
    pub columns: Vec<super::tuple::Column>,
}

/// A committed transaction in brief.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brief {
    /// Full id.
    #[serde(with = "crate::pg::decimal")]
    pub xid: u64,
    /// When it committed.
    pub time: PgTime,
    /// Its first record, as far as read.
    pub first: Lsn,
    /// Start of the commit record.
    pub lsn: Lsn,
    /// Timeline.
    pub timeline: Timeline,
    /// It changed definitions.
    pub ddl: bool,
    /// Bytes of WAL.
    pub bytes: u64,
    /// Rows of relations beside the watched table and its companions, by the files that they have in the end.
    pub relations: Vec<Change>,
    /// It began before what was read.
    pub incomplete: bool,
}

/// What a transaction did to a watched table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// The transaction.
    pub by: Brief,
    /// The table got a new file into which its old rows were copied: insertions are no news.
    pub rewritten: bool,
    /// Rows in order, each with the start of its record.
    pub changes: Vec<(Lsn, Happened)>,
    /// What committed in the same database since the act before this one.
    pub since: Between,
}

/// Transactions between two acts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Between {
    /// Those that changed definitions: the newest.
    pub ddl: VecDeque<Brief>,
    /// Those that only changed rows: the newest.
    pub plain: VecDeque<Brief>,
    /// How many older ones of both kinds are left out.
    pub left_out: (u64, u64),
    /// There is a hole in the WAL between the two acts, or none before this one was read.
    pub hole: bool,
}

/// The pass.
#[derive(Debug)]
pub struct Acts {
    tables: Vec<Watched>,
    history: History,
    replaced: BTreeMap<RelationFile, RelationFile>,
    changes: ByXid<Vec<RowChange>>,
    since: Vec<Between>,
    acts: Vec<Vec<Act>>,
}

impl Acts {
    /// A pass over the same WAL in which `changes` were found. `replaced` is what an earlier pass found.
    pub fn new(tables: Vec<Watched>, history: History, replaced: BTreeMap<RelationFile, RelationFile>, changes: Vec<RowChange>) -> Acts {
        let mut by_xid: ByXid<Vec<RowChange>> = ByXid::default();
        for change in changes {
            by_xid.entry(change.xid).or_default().push(change);
        }
        let begin = Between { hole: true, ..Between::default() };
        let (since, acts) = (vec![begin; tables.len()], vec![Vec::new(); tables.len()]);
        Acts { tables, history, replaced, changes: by_xid, since, acts }
    }

    /// WAL is missing here.
    pub fn hole(&mut self) {
        for since in &mut self.since {
            *since = Between { hole: true, ..Between::default() };
        }
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        let Entry::Committed(t) = entry else { return };
        let mut mine: Vec<RowChange> = Vec::new();
        for xid in std::iter::once(t.xid as u32).chain(t.subxids.iter().copied()) {
            if let Some(list) = self.changes.get_mut(&xid) {
                mine.extend(list.extract_if(.., |change| change.lsn < t.lsn && change.lsn >= t.first));
            }
        }
        mine.sort_by_key(|change| change.lsn);
        let tables: BTreeSet<usize> = mine.iter().map(|change| change.table).collect();
        for index in 0..self.tables.len() {
            if tables.contains(&index) {
                self.act(index, t, &mine);
            } else {
                self.between(index, t);
            }
        }
    }

    /// The acts of each table, in the order of the WAL.
    pub fn finish(self) -> Vec<Vec<Act>> {
        self.acts
    }

    fn act(&mut self, index: usize, t: &Transaction, mine: &[RowChange]) {
        let Some(by) = self.brief(index, t) else { return };
        let changes: Vec<(Lsn, Happened)> =
            mine.iter().filter(|change| change.table == index).map(|change| (change.lsn, change.happened.clone())).collect();
        let emptied = changes.iter().any(|(_, happened)| *happened == Happened::Emptied);
        let since = self.since.get_mut(index).map(std::mem::take).unwrap_or_default();
        let act = Act { by, rewritten: emptied && t.rewrites(), changes, since };
        if let Some(acts) = self.acts.get_mut(index) {
            acts.push(act);
        }
    }

    fn between(&mut self, index: usize, t: &Transaction) {
        let here = self.tables.get(index).is_some_and(|table| table.database == t.database);
        let Some(brief) = Some(t).filter(|_| here).and_then(|t| self.brief(index, t)) else { return };
        let Some(since) = self.since.get_mut(index) else { return };
        if brief.ddl {
            push(&mut since.ddl, brief, KEPT_DDL, &mut since.left_out.0);
        } else if !brief.relations.is_empty() {
            push(&mut since.plain, brief, KEPT_PLAIN, &mut since.left_out.1);
        }
    }

    fn brief(&self, index: usize, t: &Transaction) -> Option<Brief> {
        let table = self.tables.get(index)?;
        let mut sums: BTreeMap<RelationFile, (Rows, bool)> = BTreeMap::new();
        let rows = t.rows.iter().filter(|(file, _)| !file.is_catalog()).map(|(file, rows)| (*file, *rows, false));
        let emptied = t.truncated().into_iter().map(|file| (file, Rows::default(), true));
        for (file, rows, truncated) in rows.chain(emptied) {
            let file = newest(&self.replaced, file);
            if file == table.file || table.companions.contains(&file) {
                continue;
            }
            let sum = sums.entry(file).or_default();
            sum.0.add(rows);
            sum.1 |= truncated;
        }
        let relations = sums.into_iter().take(KEPT_RELATIONS).map(|(file, (rows, truncated))| Change { file, rows, truncated });
        Some(Brief {
            xid: t.xid,
            time: t.time,
            first: t.first,
            lsn: t.lsn,
            timeline: self.history.timeline_at(t.lsn),
            ddl: t.is_ddl(),
            bytes: t.wal.bytes,
            relations: relations.collect(),
            incomplete: t.incomplete,
        })
    }
}

fn push(list: &mut VecDeque<Brief>, brief: Brief, most: usize, left_out: &mut u64) {
    if list.len() >= most {
        list.pop_front();
        *left_out += 1;
    }
    list.push_back(brief);
}
