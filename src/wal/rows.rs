//! The rows of a few small tables, followed through the WAL: every insertion, update and deletion with its values.
//!
//! Pages are kept as far as records and page images tell of them, because an update may hold only the bytes that differ
//! (`log_heap_update`, heapam.c), and a record that carries an image of its page holds no row at all. A row whose
//! earlier version was not seen is [`Happened`] without values. Nothing here knows which transactions committed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::block::{Block, Fork, RelationFile};
use super::bytes::{u16, u32};
use super::image;
use super::record::{Record, Rmgr};
use super::storage::Storage;
use super::tuple::{Column, Row, TUPLE_HEADER, Tuple};
use crate::pg::Lsn;

/// Bytes of rows that are kept at a time; then all are forgotten, and later updates may be without values.
const MOST_KEPT: usize = 64 << 20;

/// What happened to a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// A row came; `many`: with others in one record, as COPY writes them.
    Inserted {
        /// Its values, where they could be read.
        row: Option<Row>,
        /// Written with others.
        many: bool,
    },
    /// A row was replaced.
    Updated {
        /// Before.
        old: Option<Row>,
        /// After.
        new: Option<Row>,
    },
    /// A row went.
    Deleted {
        /// Its values, where they are known.
        row: Option<Row>,
    },
    /// The table got a new, empty file (TRUNCATE, or a rewrite that copies the rows), or was cut to nothing.
    Emptied,
}

/// A change of a row by a (sub)transaction, whatever became of that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowChange {
    /// Which of the watched tables.
    pub table: usize,
    /// 32-bit id.
    pub xid: u32,
    /// Start of the record.
    pub lsn: Lsn,
    /// What happened.
    pub happened: Happened,
}

/// A row version.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    infomask2: u16,
    infomask: u16,
    hoff: u8,
    /// Of a version from a page: block and number of the version that replaced it, or its own (`t_ctid`).
    next: (u32, u16),
    rest: Vec<u8>,
}

impl Kept {
    pub(super) fn tuple(&self) -> Tuple<'_> {
        Tuple { infomask2: self.infomask2, infomask: self.infomask, hoff: self.hoff, rest: &self.rest }
    }

    fn bytes(&self) -> usize {
        self.rest.len() + 64
    }

    /// `xl_heap_header`, then the tuple from offset 23 on.
    fn parse(bytes: &[u8]) -> Option<Kept> {
        Some(Kept {
            infomask2: u16(bytes, 0)?,
            infomask: u16(bytes, 2)?,
            hoff: *bytes.get(4)?,
            next: (0, 0),
            rest: bytes.get(5..)?.to_vec(),
        })
    }
}

/// Follows tables.
#[derive(Debug)]
pub struct Watch {
    columns: Vec<Vec<Column>>,
    files: BTreeMap<RelationFile, usize>,
    pages: BTreeMap<(RelationFile, u32), BTreeMap<u16, Kept>>,
    bytes: usize,
    /// How many bytes are kept at most.
    most: usize,
    changes: Vec<RowChange>,
}

const PREFIX_FROM_OLD: u8 = 0x20;
const SUFFIX_FROM_OLD: u8 = 0x40;
const INIT_PAGE: u8 = 0x80;

impl Watch {
    /// Watches tables of these columns; `files` are all the files that each has or had.
    pub fn new(columns: Vec<Vec<Column>>, files: BTreeMap<RelationFile, usize>) -> Watch {
        Watch { files, ..Watch::bounded(columns, MOST_KEPT) }
    }

    /// Watches none of these tables yet, and keeps at most so many bytes of rows.
    pub(super) fn bounded(columns: Vec<Vec<Column>>, most: usize) -> Watch {
        Watch { columns, files: BTreeMap::new(), pages: BTreeMap::new(), bytes: 0, most, changes: Vec::new() }
    }

    /// Watches `file` too.
    pub(super) fn follow(&mut self, file: RelationFile, table: usize) {
        self.files.insert(file, table);
    }

    /// What happened since this was asked last.
    pub(super) fn take_changes(&mut self) -> Vec<RowChange> {
        std::mem::take(&mut self.changes)
    }

    /// What happened, in the order of the WAL.
    pub fn finish(self) -> Vec<RowChange> {
        self.changes
    }

    /// Forgets every page: what follows does not follow what was read.
    pub fn break_off(&mut self) {
        self.pages.clear();
        self.bytes = 0;
    }

    /// Takes the next record.
    pub fn record(&mut self, record: &Record<'_>) {
        match record.header.rmgr {
            Rmgr::HEAP | Rmgr::HEAP2 | Rmgr::XLOG if record.layout.first.is_some() => self.blocks(record),
            Rmgr::STORAGE => self.storage(record),
            _ => {}
        }
    }

    fn storage(&mut self, record: &Record<'_>) {
        let file = match Storage::parse(record) {
            Ok(Storage::Created(file, Fork::Main) | Storage::Truncated(file, 0)) => file,
            _ => return,
        };
        if let Some(table) = self.files.get(&file).copied() {
            self.change(record, table, Happened::Emptied);
        }
    }

    fn blocks(&mut self, record: &Record<'_>) {
        let ours = |block: &Block| block.fork == Fork::Main && self.files.contains_key(&block.relation);
        let blocks: Vec<(Block, &[u8], &[u8])> = record.blocks().filter(|(block, _, _)| ours(block)).collect();
        for (block, bytes, _) in &blocks {
            let Some(picture) = &block.image else { continue };
            match image::restore(picture, bytes) {
                Some(page) => self.load(block, &page),
                None => self.forget(block),
            }
        }
        if self.bytes > self.most {
            self.break_off();
        }
        let Some((block, _, data)) = blocks.first().filter(|(block, _, _)| block.id == 0) else { return };
        let Some(table) = self.files.get(&block.relation).copied() else { return };
        let operation = record.header.info & 0x70;
        match (record.header.rmgr, operation) {
            (Rmgr::HEAP, 0x00) => self.inserted(record, table, block, data),
            (Rmgr::HEAP, 0x10) => self.deleted(record, table, block),
            (Rmgr::HEAP, 0x20 | 0x40) => {
                let old = blocks.get(1).map_or(*block, |(old, _, _)| if old.id == 1 { *old } else { *block });
                self.updated(record, table, block, &old, data);
            }
            (Rmgr::HEAP2, 0x50) => self.inserted_many(record, table, block, data),
            _ => {}
        }
    }

    fn inserted(&mut self, record: &Record<'_>, table: usize, block: &Block, data: &[u8]) {
        let Some(offset) = u16(record.main(), 0) else { return };
        self.begin_page(record, block);
        if let Some(kept) = Kept::parse(data) {
            self.keep(block, offset, kept);
        }
        let row = self.row(table, block, offset);
        self.change(record, table, Happened::Inserted { row, many: false });
    }

    /// `xl_heap_multi_insert`: offsets are left out where the page begins anew.
    fn inserted_many(&mut self, record: &Record<'_>, table: usize, block: &Block, data: &[u8]) {
        let main = record.main();
        let Some(count) = u16(main, 2) else { return };
        self.begin_page(record, block);
        let anew = record.header.info & INIT_PAGE != 0;
        let mut at = 0;
        for index in 0..count {
            let offset = if anew { Some(index + 1) } else { u16(main, 4 + 2 * usize::from(index)) };
            let Some(offset) = offset else { return };
            if !data.is_empty() {
                at = usize::next_multiple_of(at, 2);
                let Some(length) = u16(data, at) else { return };
                let Some(bytes) = data.get(at + 2..at + 7 + usize::from(length)) else { return };
                at += 7 + usize::from(length);
                if let Some(kept) = Kept::parse(bytes) {
                    self.keep(block, offset, kept);
                }
            }
            let row = self.row(table, block, offset);
            self.change(record, table, Happened::Inserted { row, many: true });
        }
    }

    fn deleted(&mut self, record: &Record<'_>, table: usize, block: &Block) {
        let Some(offset) = u16(record.main(), 4) else { return };
        let row = self.row(table, block, offset);
        self.change(record, table, Happened::Deleted { row });
    }

    fn updated(&mut self, record: &Record<'_>, table: usize, block: &Block, old_block: &Block, data: &[u8]) {
        let main = record.main();
        let (Some(old_offset), Some(flags), Some(offset)) = (u16(main, 4), main.get(7).copied(), u16(main, 12)) else { return };
        let before = self.pages.get(&(old_block.relation, old_block.number)).and_then(|page| page.get(&old_offset)).cloned();
        let old = before.as_ref().and_then(|kept| self.decode(table, kept));
        self.begin_page(record, block);
        if !data.is_empty() {
            match whole(flags, data, before.as_ref()) {
                Some(kept) => self.keep(block, offset, kept),
                // Not what stood there before.
                None => {
                    self.pages.get_mut(&(block.relation, block.number)).and_then(|page| page.remove(&offset));
                }
            }
        }
        let new = self.row(table, block, offset);
        self.change(record, table, Happened::Updated { old, new });
    }

    fn change(&mut self, record: &Record<'_>, table: usize, happened: Happened) {
        self.changes.push(RowChange { table, xid: record.header.xid, lsn: record.lsn, happened });
    }

    fn begin_page(&mut self, record: &Record<'_>, block: &Block) {
        if record.header.info & INIT_PAGE != 0 {
            self.forget(block);
        }
    }

    fn forget(&mut self, block: &Block) {
        let gone = self.pages.remove(&(block.relation, block.number)).unwrap_or_default();
        self.bytes = self.bytes.saturating_sub(gone.values().map(Kept::bytes).sum());
    }

    fn keep(&mut self, block: &Block, offset: u16, kept: Kept) {
        self.bytes += kept.bytes();
        let before = self.pages.entry((block.relation, block.number)).or_default().insert(offset, kept);
        self.bytes = self.bytes.saturating_sub(before.map_or(0, |kept| kept.bytes()));
    }

    fn row(&self, table: usize, block: &Block, offset: u16) -> Option<Row> {
        let kept = self.pages.get(&(block.relation, block.number))?.get(&offset)?;
        self.decode(table, kept)
    }

    fn decode(&self, table: usize, kept: &Kept) -> Option<Row> {
        kept.tuple().decode(self.columns.get(table)?)
    }

    fn load(&mut self, block: &Block, page: &[u8]) {
        self.forget(block);
        for (offset, kept) in numbered(page) {
            self.keep(block, offset, kept);
        }
    }
}

/// Every row version of a page, with its number (storage/bufpage.h: line pointers from byte 24 to `pd_lower`).
fn numbered(page: &[u8]) -> impl Iterator<Item = (u16, Kept)> {
    const POINTERS: usize = 24;
    let lower = u16(page, 12).map_or(0, usize::from);
    let count = (lower.saturating_sub(POINTERS) / 4).min(page.len() / 4);
    (0..count).filter_map(|index| {
        let pointer = u32(page, POINTERS + 4 * index)?;
        let (start, flags, length) = ((pointer & 0x7FFF) as usize, (pointer >> 15) & 3, (pointer >> 17) as usize);
        let tuple = page.get(start..start + length).filter(|_| flags == 1)?;
        let kept = Kept {
            infomask2: u16(tuple, 18)?,
            infomask: u16(tuple, 20)?,
            hoff: *tuple.get(22)?,
            next: (u32::from(u16(tuple, 12)?) << 16 | u32::from(u16(tuple, 14)?), u16(tuple, 16)?),
            rest: tuple.get(TUPLE_HEADER..)?.to_vec(),
        };
        Some((u16::try_from(index + 1).ok()?, kept))
    })
}

/// Every row version of page `number`: first those that another one replaced, then the others.
pub(super) fn versions(page: &[u8], number: u32) -> impl Iterator<Item = Kept> {
    let is_newest = |offset: u16, kept: &Kept| kept.next == (number, offset);
    let (newest, replaced): (Vec<_>, Vec<_>) = numbered(page).partition(|(offset, kept)| is_newest(*offset, kept));
    replaced.into_iter().chain(newest).map(|(_, kept)| kept)
}

/// The new version of an update from what the record holds and the old version: `prefix` and `suffix` count bytes of the
/// old one's data.
fn whole(flags: u8, data: &[u8], old: Option<&Kept>) -> Option<Kept> {
    let mut data = data;
    let mut length = |flag: u8| -> Option<usize> {
        if flags & flag == 0 {
            return Some(0);
        }
        let value = u16(data, 0)?;
        data = data.get(2..)?;
        Some(usize::from(value))
    };
    let (prefix, suffix) = (length(PREFIX_FROM_OLD)?, length(SUFFIX_FROM_OLD)?);
    let found = Kept::parse(data)?;
    if prefix == 0 && suffix == 0 {
        return Some(found);
    }
    let old_data = old?.tuple().data()?;
    let (bitmap, middle) = found.rest.split_at_checked(usize::from(found.hoff).checked_sub(TUPLE_HEADER)?)?;
    let rest = [bitmap, old_data.get(..prefix)?, middle, old_data.get(old_data.len().checked_sub(suffix)?..)?].concat();
    Some(Kept { rest, ..found })
}
