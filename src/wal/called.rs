//! What relations are and were called, put together from [`super::names`] along the WAL, and what transactions defined.
//!
//! Takes sightings in the order of the WAL. Memory grows with the number of relations that the WAL tells of.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::block::RelationFile;
use super::effects::ByXid;
use super::ledger::Transaction;
use super::names::{Fate, SeenRelation, Sighting};
use crate::pg::Lsn;

/// OID of the schema `public` in every database (catalog/pg_namespace.dat).
const PUBLIC: u32 = 2200;

/// A name that is looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// `relname`.
    pub relation: String,
    /// `nspname`, where one is asked for.
    pub schema: Option<String>,
    /// Database and OID of schemas that are known to be called so.
    pub schemas: BTreeSet<(u32, u32)>,
    /// In this database only.
    pub database: Option<u32>,
}

/// A relation as the WAL names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalledRelation {
    /// Database OID.
    pub database: u32,
    /// `pg_class.oid`.
    pub oid: u32,
    /// `relname`.
    pub name: String,
    /// Schema, file and kind.
    pub relation: SeenRelation,
}

/// A relation that a transaction made or dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// It was dropped, not made.
    pub dropped: bool,
    /// The relation, or where no name is known its file.
    pub what: Result<CalledRelation, RelationFile>,
}

/// Everything that is known of names.
#[derive(Debug, Default)]
pub struct Called {
    /// By database and OID, each name and file once, the last one last.
    relations: BTreeMap<(u32, u32), Vec<(String, SeenRelation)>>,
    /// OID by database and file number.
    by_file: BTreeMap<(u32, u32), u32>,
    schemas: BTreeMap<(u32, u32), String>,
    /// Made and dropped by transactions that have not ended.
    open: ByXid<Vec<(Lsn, Fate, CalledRelation)>>,
}

impl Called {
    /// Takes what follows in the WAL.
    pub fn add(&mut self, sightings: Vec<Sighting>) {
        for Sighting { lsn, xid, fate, database, oid, name, relation } in sightings {
            let Some(relation) = relation else {
                self.schemas.insert((database, oid), name);
                continue;
            };
            if fate != Fate::Seen {
                let called = CalledRelation { database, oid, name: name.clone(), relation };
                self.open.entry(xid).or_default().push((lsn, fate, called));
            }
            if relation.file != 0 {
                self.by_file.insert((database, relation.file), oid);
            }
            let names = self.relations.entry((database, oid)).or_default();
            names.retain(|known| known.0 != name || known.1 != relation);
            names.push((name, relation));
        }
    }

    /// Database and OID of relations that ever had this name.
    pub fn find(&self, wanted: &Wanted) -> impl Iterator<Item = (u32, u32)> {
        let in_schema = |database: u32, schema: u32| match &wanted.schema {
            None => true,
            Some(name) => {
                let of_wal = || self.schemas.get(&(database, schema)).is_some_and(|known| known == name);
                (name == "public" && schema == PUBLIC) || wanted.schemas.contains(&(database, schema)) || of_wal()
            }
        };
        let here = |database: u32| wanted.database.is_none_or(|wanted| wanted == database);
        self.relations
            .iter()
            .filter(move |((database, _), names)| {
                here(*database) && names.iter().any(|(name, relation)| *name == wanted.relation && in_schema(*database, relation.schema))
            })
            .map(|(key, _)| *key)
    }

    /// Files that the relation had, as far as they were seen.
    pub fn files(&self, database: u32, oid: u32) -> impl Iterator<Item = (u32, u32)> {
        let names = self.relations.get(&(database, oid));
        names.into_iter().flatten().map(|(_, relation)| relation.file).filter(|file| *file != 0).map(move |file| (database, file))
    }

    /// The relation that had this file, by its last name.
    pub fn relation(&self, file: RelationFile) -> Option<CalledRelation> {
        let oid = *self.by_file.get(&(file.database, file.number))?;
        let (name, relation) = self.relations.get(&(file.database, oid))?.last()?;
        let relation = SeenRelation { file: file.number, ..*relation };
        Some(CalledRelation { database: file.database, oid, name: name.clone(), relation })
    }

    /// Schemas that the WAL names: database, OID, name.
    pub fn schemas(&self) -> impl Iterator<Item = (u32, u32, &str)> {
        self.schemas.iter().map(|((database, oid), name)| (*database, *oid, name.as_str()))
    }

    /// What a transaction that commits made and dropped, but for indexes and TOAST tables.
    pub fn definitions(&mut self, t: &Transaction) -> Vec<Definition> {
        let mut rows: Vec<(Lsn, Fate, CalledRelation)> = Vec::new();
        if !self.open.is_empty() {
            for xid in std::iter::once(t.xid as u32).chain(t.subxids.iter().copied()) {
                rows.extend(self.open.remove(&xid).into_iter().flatten().filter(|(lsn, ..)| (t.first..t.lsn).contains(lsn)));
            }
        }
        rows.sort_by_key(|(lsn, ..)| *lsn);
        // What it made and dropped itself was never there for anybody.
        let both: BTreeSet<u32> = rows.iter().filter(|(_, fate, _)| *fate == Fate::Made).map(|(.., called)| called.oid).collect();
        let gone: BTreeSet<u32> = rows.iter().filter(|(_, fate, _)| *fate == Fate::Gone).map(|(.., called)| called.oid).collect();
        let lasting = rows.into_iter().filter(|(.., called)| !(both.contains(&called.oid) && gone.contains(&called.oid)));
        let mut found: Vec<Definition> =
            lasting.map(|(_, fate, called)| Definition { dropped: fate == Fate::Gone, what: Ok(called) }).collect();
        if t.only_drops() {
            found.extend(self.dropped_files(t, &gone));
        }
        found.retain(|definition| definition.what.as_ref().map_or(true, |called| is_own(called.relation.kind)));
        found
    }

    /// Relations whose files went, and whose rows of the catalog are not among those that were seen to go.
    fn dropped_files(&self, t: &Transaction, known: &BTreeSet<u32>) -> Vec<Definition> {
        let called = |file: &RelationFile| self.relation(*file).ok_or(*file);
        let files = t.dropped.iter().map(called);
        let news = files.filter(|what| what.as_ref().map_or(known.is_empty(), |called| !known.contains(&called.oid)));
        news.map(|what| Definition { dropped: true, what }).collect()
    }
}

/// What people make and drop by name; indexes and TOAST tables come with it.
pub fn is_own(kind: char) -> bool {
    matches!(kind, 'r' | 'p' | 'm' | 'v' | 'f' | 'S')
}
