//! The log: what committed, one line a transaction, by filters. Pure; takes what a chain proved, in the order of the WAL.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::block::RelationFile;
use super::called::{Called, Definition, Wanted};
use super::heap::Rows;
use super::ledger::{Entry, Transaction};
use super::names::Sighting;
use super::packed::Digest;
use super::transaction::PgTime;
use crate::pg::{History, Lsn, Timeline};

/// What is wanted; everything that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Not before this time.
    pub since: Option<PgTime>,
    /// Not after this time.
    pub until: Option<PgTime>,
    /// This transaction, also when it was rolled back; a subtransaction's id finds its transaction.
    pub xid: Option<u64>,
    /// In this database.
    pub database: Option<u32>,
    /// A transaction that changed, emptied or redefined one of these.
    pub relations: Option<Relations>,
    /// Only those that changed definitions.
    pub ddl: bool,
    /// Only those that deleted or truncated.
    pub deletes: bool,
    /// Only restore points of this name.
    pub point: Option<String>,
    /// At most so many: the newest.
    pub limit: usize,
}

impl Filter {
    /// Whether a line could come of the transactions that a digest tells of. `replaced` is what an earlier pass found.
    pub fn may_match(&self, digest: &Digest, replaced: &BTreeMap<RelationFile, RelationFile>) -> bool {
        let in_time =
            |(from, to): (PgTime, PgTime)| self.since.is_none_or(|since| to >= since) && self.until.is_none_or(|until| from <= until);
        let of = |relations: &Relations| {
            let mut files = digest.rows.iter().chain(&digest.files).map(|file| newest(replaced, *file));
            files.any(|file| relations.files.contains(&(file.database, file.number)))
                || digest.oids.iter().any(|oid| relations.oids.contains(oid))
        };
        self.point.is_none()
            && digest.times.is_some_and(in_time)
            && self.database.is_none_or(|database| digest.databases.contains(&database))
            && (!self.ddl || digest.ddl)
            && (!self.deletes || digest.deletes)
            && self.relations.as_ref().is_none_or(of)
            && self.xid.is_none_or(|wanted| digest.xids().any(|xid| xid == wanted as u32))
    }
}

/// Relations by every number they are known by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relations {
    /// Files that they have at the end of the WAL: database and file number.
    pub files: BTreeSet<(u32, u32)>,
    /// Database and `pg_class` OID.
    pub oids: BTreeSet<(u32, u32)>,
    /// A name that the WAL may know more relations by.
    #[serde(default)]
    pub called: Option<Wanted>,
}

impl Relations {
    /// Adds what the WAL knows by the name. `replaced` is what a pass over the same WAL found.
    pub fn look_up(&mut self, called: &Called, replaced: &BTreeMap<RelationFile, RelationFile>) {
        let Some(wanted) = self.called.take() else { return };
        for (database, oid) in called.find(&wanted) {
            self.oids.insert((database, oid));
            self.files.extend(called.files(database, oid));
        }
        let later = replaced.keys().filter(|file| self.files.contains(&(file.database, file.number)));
        let later: Vec<_> = later.map(|file| newest(replaced, *file)).map(|file| (file.database, file.number)).collect();
        self.files.extend(later);
    }

    /// Nothing could match.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.oids.is_empty()
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What happened.
    pub kind: Kind,
    /// Full id; 0 where there is none.
    #[serde(with = "crate::pg::decimal")]
    pub xid: u64,
    /// When, by the server's clock; `None` for a timeline's beginning.
    pub time: Option<PgTime>,
    /// Start of the record: what `--to-lsn` takes.
    pub lsn: Lsn,
    /// Timeline.
    pub timeline: Timeline,
    /// Database OID, 0 where nothing tells.
    pub database: u32,
    /// Definitions changed.
    pub ddl: bool,
    /// Bytes of WAL.
    pub bytes: u64,
    /// Relations by the file that they have at the end of the WAL.
    pub relations: Vec<Change>,
    /// Relations that it made or dropped.
    pub definitions: Vec<Definition>,
    /// Name of a restore point or a prepared transaction.
    pub name: Option<String>,
    /// It began before what was read: its rows may be more.
    pub incomplete: bool,
}

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A commit.
    Committed,
    /// A rollback.
    Aborted,
    /// PREPARE TRANSACTION.
    Prepared,
    /// A restore point.
    RestorePoint,
    /// A timeline begins.
    Timeline,
}

/// What a transaction did to one relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The relation.
    pub file: RelationFile,
    /// Rows.
    pub rows: Rows,
    /// It was emptied.
    pub truncated: bool,
}

/// The pass.
#[derive(Debug)]
pub struct Log {
    filter: Filter,
    history: History,
    replaced: BTreeMap<RelationFile, RelationFile>,
    seen: BTreeSet<RelationFile>,
    called: Called,
    lines: VecDeque<Line>,
    left_out: u64,
}

/// What a pass found.
#[derive(Debug, Default)]
pub struct Found {
    /// Oldest first.
    pub lines: Vec<Line>,
    /// Older ones that the limit left out.
    pub left_out: u64,
    /// What is known of names.
    pub called: Called,
}

impl Log {
    /// A pass along `history`. `replaced` is what an earlier pass over the same WAL found, where relations are asked for:
    /// only then it is known which file a relation had before.
    pub fn new(filter: Filter, history: History, replaced: BTreeMap<RelationFile, RelationFile>) -> Log {
        Log { filter, history, replaced, seen: BTreeSet::new(), called: Called::default(), lines: VecDeque::new(), left_out: 0 }
    }

    /// Takes names that rows of catalogs tell, before the entries of the same records.
    pub fn names(&mut self, sightings: Vec<Sighting>) {
        self.called.add(sightings);
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        let mut definitions = Vec::new();
        if let Entry::Committed(transaction) = entry {
            definitions = self.called.definitions(transaction);
            self.seen.extend(transaction.rows.iter().map(|(file, _)| *file));
            let pairs = transaction.replaced(|file| self.seen.contains(file));
            self.replaced.extend(pairs);
        }
        let Some(line) = self.line(entry) else { return };
        let line = Line { definitions, ..line };
        if self.lines.len() >= self.filter.limit {
            self.lines.pop_front();
            self.left_out += 1;
        }
        if self.filter.limit > 0 {
            self.lines.push_back(line);
        }
    }

    /// Takes note of transactions that could not match and were left out.
    pub fn left_out(&mut self, digest: &Digest) {
        self.seen.extend(&digest.rows);
    }

    /// Files that were replaced, and what is known of names, so far.
    pub fn into_known(self) -> (BTreeMap<RelationFile, RelationFile>, Called) {
        (self.replaced, self.called)
    }

    /// The lines.
    pub fn finish(mut self) -> Found {
        let lines = std::mem::take(&mut self.lines);
        let lines = lines.into_iter().map(|line| Line { relations: self.settle(line.relations), ..line });
        Found { lines: lines.collect(), left_out: self.left_out, called: self.called }
    }

    /// Relations by the file that they have in the end, each once.
    fn settle(&self, changes: Vec<Change>) -> Vec<Change> {
        let mut sums: BTreeMap<RelationFile, (Rows, bool)> = BTreeMap::new();
        for change in changes {
            let sum = sums.entry(newest(&self.replaced, change.file)).or_default();
            sum.0.add(change.rows);
            sum.1 |= change.truncated;
        }
        sums.into_iter().map(|(file, (rows, truncated))| Change { file, rows, truncated }).collect()
    }

    fn line(&self, entry: &Entry) -> Option<Line> {
        if let Some(wanted) = &self.filter.point
            && !matches!(entry, Entry::RestorePoint { name, .. } if name == wanted)
        {
            return None;
        }
        let line = match entry {
            Entry::Committed(transaction) => self.transaction(transaction)?,
            Entry::Aborted { lsn, xid, time, .. } if self.filter.xid.is_some_and(|wanted| same(wanted, *xid)) => {
                Line { xid: *xid, time: Some(*time), ..self.blank(Kind::Aborted, *lsn) }
            }
            Entry::Aborted { .. } => return None,
            Entry::Prepared { lsn, xid, prepared, .. } => {
                let same = self.filter.xid.is_none_or(|wanted| same(wanted, *xid));
                let here = self.filter.database.is_none_or(|database| database == prepared.database);
                if !same || !here || self.only_changes() {
                    return None;
                }
                let name = Some(prepared.gid.clone());
                Line { xid: *xid, time: Some(prepared.time), database: prepared.database, name, ..self.blank(Kind::Prepared, *lsn) }
            }
            Entry::RestorePoint { lsn, name, time, .. } if self.unspecific() => {
                Line { time: Some(*time), name: Some(name.clone()), ..self.blank(Kind::RestorePoint, *lsn) }
            }
            Entry::Timeline { lsn, .. } if self.unspecific() => self.blank(Kind::Timeline, *lsn),
            Entry::RestorePoint { .. } | Entry::Timeline { .. } => return None,
        };
        let in_time = match line.time {
            Some(time) => self.filter.since.is_none_or(|since| time >= since) && self.filter.until.is_none_or(|until| time <= until),
            None => self.filter.since.is_none() && self.filter.until.is_none(),
        };
        in_time.then_some(line)
    }

    /// Only transactions that changed something certain are wanted.
    fn only_changes(&self) -> bool {
        self.filter.relations.is_some() || self.filter.ddl || self.filter.deletes
    }

    /// Not only transactions are wanted.
    fn unspecific(&self) -> bool {
        self.filter.xid.is_none() && self.filter.database.is_none() && !self.only_changes()
    }

    fn blank(&self, kind: Kind, lsn: Lsn) -> Line {
        Line {
            kind,
            xid: 0,
            time: None,
            lsn,
            timeline: self.history.timeline_at(lsn),
            database: 0,
            ddl: false,
            bytes: 0,
            relations: Vec::new(),
            definitions: Vec::new(),
            name: None,
            incomplete: false,
        }
    }

    fn transaction(&self, t: &Transaction) -> Option<Line> {
        let filter = &self.filter;
        let ids = || std::iter::once(t.xid).chain(t.subxids.iter().map(|sub| u64::from(*sub)));
        let wanted = filter.xid.is_none_or(|wanted| ids().any(|id| same(wanted, id) || u64::from(wanted as u32) == id))
            && filter.database.is_none_or(|database| database == t.database)
            && (!filter.ddl || t.is_ddl());
        if !wanted {
            return None;
        }
        let truncated = t.truncated();
        let emptied = !truncated.is_empty() || !t.marks.truncated.is_empty();
        if filter.deletes && !emptied && !t.rows.iter().any(|(file, rows)| !file.is_catalog() && rows.deleted > 0) {
            return None;
        }
        if filter.relations.as_ref().is_some_and(|relations| !self.touches(t, relations)) {
            return None;
        }
        let rows = t.rows.iter().map(|(file, rows)| Change { file: *file, rows: *rows, truncated: false });
        let emptied = truncated.into_iter().map(|file| Change { file, rows: Rows::default(), truncated: true });
        let line = Line {
            xid: t.xid,
            time: Some(t.time),
            database: t.database,
            ddl: t.is_ddl(),
            bytes: t.wal.bytes,
            relations: rows.filter(|change| !change.file.is_catalog()).chain(emptied).collect(),
            name: t.gid.clone(),
            incomplete: t.incomplete,
            ..self.blank(Kind::Committed, t.lsn)
        };
        Some(line)
    }

    fn touches(&self, t: &Transaction, relations: &Relations) -> bool {
        let files = t.rows.iter().map(|(file, _)| file).chain(&t.marks.created).chain(&t.marks.cut).chain(&t.dropped);
        let mut newest_files = files.map(|file| newest(&self.replaced, *file));
        let oids = t.relcache.iter().chain(&t.marks.locked).chain(&t.marks.truncated);
        newest_files.any(|file| relations.files.contains(&(file.database, file.number)))
            || oids.into_iter().any(|oid| relations.oids.contains(oid))
    }
}

/// `wanted` as a person gives it: below 2^32 the epoch is not compared.
fn same(wanted: u64, xid: u64) -> bool {
    if wanted >> 32 == 0 { wanted == u64::from(xid as u32) } else { wanted == xid }
}

/// The file that a relation has in the end. Each step leads to a file that was made later.
pub(crate) fn newest(replaced: &BTreeMap<RelationFile, RelationFile>, file: RelationFile) -> RelationFile {
    let mut file = file;
    for _ in 0..replaced.len() {
        match replaced.get(&file) {
            Some(next) => file = *next,
            None => break,
        }
    }
    file
}
