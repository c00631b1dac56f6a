//! Names that the WAL itself tells: rows of `pg_class` and `pg_namespace` in records and page images.
//!
//! The catalogs of today do not know what was dropped. Guarantees: a name is only told where a row of the catalog was
//! read with a good checksum; nothing here knows which transactions committed. Temporary relations, composite types and
//! what `initdb` made are left out. A catalog that VACUUM FULL gave another file is not recognised.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::block::{Fork, RelationFile};
use super::image;
use super::page::Major;
use super::record::Record;
use super::rows::{Happened, Watch, versions};
use super::tuple::{Column, Kind, Row, Value};
use crate::pg::Lsn;

/// `pg_class` and `pg_namespace`: OID and, until they are rewritten, file number.
const CATALOGS: [u32; 2] = [1259, 2615];
/// `FirstNormalObjectId` (access/transam.h).
const FIRST_USER: u32 = 16384;
/// Bytes of catalog rows that are kept at a time.
const MOST: usize = 8 << 20;

/// What became of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was there.
    Seen,
    /// CREATE.
    Made,
    /// DROP.
    Gone,
}

/// A row of `pg_class` or `pg_namespace`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// Start of the record.
    #[serde(rename = "a")]
    pub lsn: Lsn,
    /// (Sub)transaction of the record; for a row that was only seen, nobody's.
    #[serde(rename = "x")]
    pub xid: u32,
    /// What became of it.
    #[serde(rename = "f")]
    pub fate: Fate,
    /// Database OID.
    #[serde(rename = "d")]
    pub database: u32,
    /// OID.
    #[serde(rename = "o")]
    pub oid: u32,
    /// `relname` or `nspname`.
    #[serde(rename = "n")]
    pub name: String,
    /// Of a relation; a schema has none.
    #[serde(rename = "r", default)]
    pub relation: Option<SeenRelation>,
}

/// What else a row of `pg_class` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeenRelation {
    /// `relnamespace`.
    #[serde(rename = "s")]
    pub schema: u32,
    /// `relfilenode`; 0 where it has none.
    #[serde(rename = "f")]
    pub file: u32,
    /// `relkind`.
    #[serde(rename = "k")]
    pub kind: char,
}

/// Looks for names in records.
#[derive(Debug, Default)]
pub struct NameReader {
    watch: Option<Box<Watch>>,
    /// What was told last of each database and OID, and whether that is a schema's.
    last: BTreeMap<(u32, u32, bool), (String, Option<SeenRelation>)>,
    found: Vec<Sighting>,
}

impl NameReader {
    /// Takes the next record.
    #[inline]
    pub fn record(&mut self, record: &Record<'_>) {
        if let Some((file, Fork::Main)) = record.layout.first
            && let Some(catalog) = CATALOGS.iter().position(|number| *number == file.number)
        {
            self.read(record, file, catalog);
        }
    }

    /// What was found, in the order of the WAL.
    pub fn finish(self) -> Vec<Sighting> {
        self.found
    }

    fn read(&mut self, record: &Record<'_>, file: RelationFile, catalog: usize) {
        let columns = [class_columns(record.major), namespace_columns()];
        for (block, bytes, _) in record.blocks().filter(|(block, _, _)| (block.relation, block.fork) == (file, Fork::Main)) {
            let Some(page) = block.image.and_then(|picture| image::restore(&picture, bytes)) else { continue };
            for version in versions(&page, block.number) {
                let row = columns.get(catalog).and_then(|columns| version.tuple().decode(columns));
                self.sight(record, Fate::Seen, file, catalog, row);
            }
        }
        let watch = self.watch.get_or_insert_with(|| Box::new(Watch::bounded(columns.to_vec(), MOST)));
        watch.follow(file, catalog);
        watch.record(record);
        for change in watch.take_changes() {
            match change.happened {
                Happened::Inserted { row, .. } => self.sight(record, Fate::Made, file, catalog, row),
                Happened::Updated { old, new } => {
                    self.sight(record, Fate::Seen, file, catalog, old);
                    self.sight(record, Fate::Seen, file, catalog, new);
                }
                Happened::Deleted { row } => self.sight(record, Fate::Gone, file, catalog, row),
                Happened::Emptied => {}
            }
        }
    }

    fn sight(&mut self, record: &Record<'_>, fate: Fate, file: RelationFile, catalog: usize, row: Option<Row>) {
        let told = row.and_then(|row| if catalog == 0 { relation(&row, record.major) } else { schema(&row) });
        let Some((oid, name, relation)) = told.filter(|(oid, ..)| *oid >= FIRST_USER) else { return };
        let told = (name.clone(), relation);
        let before = self.last.insert((file.database, oid, relation.is_none()), told.clone());
        if fate != Fate::Seen || before != Some(told) {
            let xid = if fate == Fate::Seen { 0 } else { record.header.xid };
            self.found.push(Sighting { lsn: record.lsn, xid, fate, database: file.database, oid, name, relation });
        }
    }
}

/// OID, name and the rest of a row of `pg_class`. Temporary relations come and go; a composite type is none; and what a
/// rewrite calls by the name of the relation that it rewrites (`make_new_heap`, cluster.c) is gone when it is done.
fn relation(row: &Row, major: Major) -> Option<(u32, String, Option<SeenRelation>)> {
    // From 18 on `relallfrozen` stands before them.
    let shift = usize::from(major >= Major(18));
    let letter = |at: usize| integer(row, at).and_then(|value| u8::try_from(value).ok()).map(char::from);
    let (persistence, kind) = (letter(15 + shift)?, letter(16 + shift)?);
    let name = text(row, 1)?;
    if persistence == 't' || kind == 'c' || name.starts_with("pg_temp_") {
        return None;
    }
    Some((number(row, 0)?, name, Some(SeenRelation { schema: number(row, 2)?, file: number(row, 7)?, kind })))
}

fn schema(row: &Row) -> Option<(u32, String, Option<SeenRelation>)> {
    let name = text(row, 1).filter(|name| !name.starts_with("pg_temp_") && !name.starts_with("pg_toast_temp_"))?;
    Some((number(row, 0)?, name, None))
}

fn integer(row: &Row, at: usize) -> Option<i64> {
    match row.get(at)? {
        Value::Integer(value) => Some(*value),
        _ => None,
    }
}

/// An OID, of which [`Value`] knows only the bits.
fn number(row: &Row, at: usize) -> Option<u32> {
    integer(row, at).and_then(|value| i32::try_from(value).ok()).map(i32::cast_unsigned)
}

fn text(row: &Row, at: usize) -> Option<String> {
    match row.get(at)? {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

/// Columns by kind, length and alignment.
fn columns(list: &[(Kind, i16, u8)]) -> Vec<Column> {
    list.iter().map(|(kind, length, align)| Column { name: String::new(), kind: *kind, length: *length, align: *align }).collect()
}

/// `pg_namespace`: oid, nspname, nspowner, nspacl (catalog/pg_namespace.h).
fn namespace_columns() -> Vec<Column> {
    columns(&[(Kind::Integer, 4, 4), (Kind::Text, 64, 1), (Kind::Other, 4, 4), (Kind::Other, -1, 4)])
}

/// `pg_class` (catalog/pg_class.h): 33 columns, from 18 on 34.
fn class_columns(major: Major) -> Vec<Column> {
    let oid = (Kind::Integer, 4, 4);
    let letter = (Kind::Integer, 1, 1);
    let numbers = if major >= Major(18) { 12 } else { 11 };
    let mut all = vec![oid, (Kind::Text, 64, 1)];
    // From relnamespace to reltoastrelid.
    all.extend(std::iter::repeat_n(oid, numbers));
    // relhasindex, relisshared, relpersistence, relkind; relnatts, relchecks; six flags, relreplident, relispartition.
    all.extend([letter; 4]);
    all.extend([(Kind::Other, 2, 2); 2]);
    all.extend([letter; 8]);
    // relrewrite, relfrozenxid, relminmxid; relacl, reloptions, relpartbound.
    all.extend([oid; 3]);
    all.extend([(Kind::Other, -1, 4); 3]);
    columns(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_has_as_many_columns_as_each_major_says() {
        assert_eq!([13, 17, 18].map(|major| class_columns(Major(major)).len()), [33, 33, 34]);
        assert_eq!(namespace_columns().len(), 4);
    }
}
