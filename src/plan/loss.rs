//! What a recovery discards, with the names of relations where a server could be asked.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::wal_facts::timestamp;
use crate::pg::Lsn;
use crate::wal::RelationFile;
use crate::wal::called::{CalledRelation, is_own};
use crate::wal::inquiry::Lost;
use crate::wal::resolve::Ended;

/// A transaction at the border between what is kept and what is discarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Border {
    /// Full id.
    #[serde(with = "crate::pg::decimal")]
    pub xid: u64,
    /// When it committed.
    pub time: Option<Timestamp>,
    /// Start of its commit record.
    pub lsn: Lsn,
}

impl From<Ended> for Border {
    fn from(ended: Ended) -> Border {
        Border { xid: ended.xid, time: timestamp(ended.time), lsn: ended.lsn }
    }
}

/// Committed work that is not there afterwards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Transactions.
    pub transactions: u64,
    /// Commit time of the first.
    pub from: Option<Timestamp>,
    /// Commit time of the last.
    pub to: Option<Timestamp>,
    /// Rows of tables, most first.
    pub relations: Vec<LostRows>,
    /// Rows of catalogs and TOAST tables.
    pub system_rows: u64,
}

/// Changes of one relation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRows {
    /// Database, by name or else by OID.
    pub database: String,
    /// `schema.name`, or `file NUMBER` where nobody could be asked or the file was replaced since.
    pub name: String,
    /// The partitioned table that it is a partition of, where a server said so.
    #[serde(default)]
    pub part_of: Option<String>,
    /// Rows inserted.
    pub inserted: u64,
    /// Rows updated.
    pub updated: u64,
    /// Rows deleted.
    pub deleted: u64,
}

/// Names as the serving catalogs have them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// OID and name. Lists: the journal's JSON has no keys that are numbers.
    pub databases: Vec<(u32, String)>,
    /// Relations.
    pub relations: Vec<Named>,
    /// Schemas: database OID, OID, name.
    #[serde(default)]
    pub schemas: Vec<(u32, u32, String)>,
    /// Who is connected to read the WAL: application and address.
    #[serde(default)]
    pub readers: Vec<(String, String)>,
}

/// A relation that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Database OID; 0 for what all share.
    pub database: u32,
    /// `relfilenode`.
    pub file: u32,
    /// `pg_class.oid`.
    pub oid: u32,
    /// `schema.name`.
    pub name: String,
    /// A catalog, a TOAST table or another thing that users do not write themselves.
    pub system: bool,
    /// The partitioned table that it is a partition of, at whatever depth.
    #[serde(default)]
    pub part_of: Option<String>,
}

impl Names {
    /// A database's name, or its OID.
    pub fn database(&self, oid: u32) -> String {
        self.databases.iter().find(|(known, _)| *known == oid).map_or_else(|| oid.to_string(), |(_, name)| name.clone())
    }

    /// The relation that has this file now.
    pub fn relation(&self, file: RelationFile) -> Option<&Named> {
        self.relations.iter().find(|named| named.database == file.database && named.file == file.number)
    }
}

impl Names {
    /// A schema's name, or its OID. Three have the same OID in every database (catalog/pg_namespace.dat).
    fn schema(&self, database: u32, oid: u32) -> String {
        let known = self.schemas.iter().find(|(place, known, _)| (*place, *known) == (database, oid));
        match (known, oid) {
            (Some((_, _, name)), _) => identifier(name),
            (None, 11) => "pg_catalog".into(),
            (None, 99) => "pg_toast".into(),
            (None, 2200) => "public".into(),
            (None, _) => format!("schema {oid}"),
        }
    }

    /// The name of a relation that the WAL tells of.
    pub fn called(&self, called: &CalledRelation) -> String {
        format!("{}.{}", self.schema(called.database, called.relation.schema), identifier(&called.name))
    }

    /// Adds what the WAL tells of a file that the catalogs have no longer.
    pub fn add(&mut self, called: &CalledRelation) {
        let file = RelationFile { tablespace: 0, database: called.database, number: called.relation.file };
        if self.relation(file).is_none() {
            let CalledRelation { database, oid, .. } = *called;
            let system = !is_own(called.relation.kind) || matches!(called.relation.schema, 11 | 99);
            let name = self.called(called);
            self.relations.push(Named { database, file: file.number, oid, name, system, part_of: None });
        }
    }

    /// A relation's name, or its file's number.
    pub fn words(&self, file: RelationFile) -> String {
        self.relation(file).map_or_else(|| format!("file {}", file.number), |named| named.name.clone())
    }
}

/// As it is written in SQL, without knowing the key words.
fn identifier(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let bare = name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty();
    if bare { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

impl Loss {
    /// The sum of what was counted, in words of `names`.
    pub fn of(lost: &Lost, names: &Names) -> Loss {
        let mut tables: BTreeMap<(String, String), LostRows> = BTreeMap::new();
        let mut system_rows = 0;
        for (file, rows) in &lost.relations {
            let named = names.relation(*file);
            if file.is_catalog() || named.is_some_and(|named| named.system) {
                system_rows += rows.net_inserted() + rows.updated + rows.deleted;
                continue;
            }
            let name = names.words(*file);
            let database = names.database(file.database);
            let part_of = named.and_then(|named| named.part_of.clone());
            let key = (database.clone(), name.clone());
            let sum = tables.entry(key).or_insert_with(|| LostRows { database, name, part_of, ..LostRows::default() });
            sum.inserted += rows.net_inserted();
            sum.updated += rows.updated;
            sum.deleted += rows.deleted;
        }
        let mut relations: Vec<LostRows> = tables.into_values().filter(|rows| rows.total() > 0).collect();
        relations.sort_by_key(|rows| std::cmp::Reverse(rows.total()));
        Loss {
            transactions: lost.transactions,
            from: lost.first.and_then(|ended| timestamp(ended.time)),
            to: lost.last.and_then(|ended| timestamp(ended.time)),
            relations,
            system_rows,
        }
    }

    /// Seconds from the first commit that is lost to the last, rounded up; 0 when nothing is.
    pub fn seconds(&self) -> u64 {
        let (Some(from), Some(to)) = (self.from, self.to) else { return 0 };
        let nanos = to.as_nanosecond().saturating_sub(from.as_nanosecond()).max(0);
        u64::try_from((nanos + 999_999_999) / 1_000_000_000).unwrap_or(u64::MAX)
    }
}

impl LostRows {
    /// Nobody could say which relation it is.
    pub fn is_unnamed(&self) -> bool {
        self.name.strip_prefix("file ").is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
    }

    fn total(&self) -> u64 {
        self.inserted + self.updated + self.deleted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::PgTime;
    use crate::wal::heap::Rows;

    fn file(number: u32) -> RelationFile {
        RelationFile { tablespace: 1663, database: 5, number }
    }

    fn named(number: u32, name: &str, system: bool) -> Named {
        Named { database: 5, file: number, oid: number, name: name.into(), system, part_of: None }
    }

    #[test]
    fn rows_are_told_by_name_and_what_is_the_systems_apart() {
        let rows = |inserted, cancelled, deleted| Rows { inserted, cancelled, deleted, ..Rows::default() };
        let lost = Lost {
            transactions: 3,
            relations: vec![
                (file(1259), rows(4, 0, 1)),
                (file(20000), rows(7, 2, 0)),
                (file(20001), rows(9, 0, 0)),
                (file(20002), rows(0, 0, 6)),
                (file(20003), rows(1, 1, 0)),
            ],
            ..Lost::default()
        };
        let relations = vec![named(20000, "public.a", false), named(20001, "pg_toast.pg_toast_20000", true)];
        let loss = Loss::of(&lost, &Names { databases: vec![(5, "shop".into())], relations, ..Names::default() });
        let told: Vec<_> = loss.relations.iter().map(|r| (r.database.as_str(), r.name.as_str(), r.inserted, r.deleted)).collect();
        assert_eq!(told, [("shop", "file 20002", 0, 6), ("shop", "public.a", 5, 0)]);
        assert_eq!((loss.transactions, loss.system_rows, loss.seconds()), (3, 14, 0));
    }

    #[test]
    fn seconds_are_rounded_up() {
        let ended = |micros| Ended { xid: 9, time: PgTime(micros), lsn: Lsn(8), end: Lsn(16), committed: true };
        let lost = |last| Lost { first: Some(ended(0)), last: Some(ended(last)), ..Lost::default() };
        let seconds = |last| Loss::of(&lost(last), &Names::default()).seconds();
        assert_eq!([0, 1, 1_000_000, 1_000_001, -5].map(seconds), [0, 1, 1, 2, 0]);
    }

    /// The journal's entries are tagged within: a map whose keys are numbers would be written and not be read.
    #[test]
    fn names_are_read_back_from_the_journal() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "event", rename_all = "snake_case")]
        enum Tagged {
            Run { names: Names },
        }
        let names = Names { databases: vec![(5, "shop".into())], relations: vec![named(20000, "public.a", false)], ..Names::default() };
        let event = Tagged::Run { names };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Tagged>(&text).unwrap(), event);
    }
}
