//! Rows of heap pages and heap records, decoded by the columns that the catalog names (access/htup_details.h,
//! access/tupmacs.h, varatt.h).
//!
//! Guarantees: no panic on any bytes; a value longer than [`LONGEST`] or kept outside the row (TOAST) is
//! [`Value::Unread`], never guessed.

use serde::{Deserialize, Serialize};

use super::bytes::{chunk, u32};
use super::image;
use super::transaction::PgTime;

/// Bytes of a tuple's header before its null bitmap (`SizeofHeapTupleHeader`).
pub const TUPLE_HEADER: usize = 23;
/// Longest value that is decoded, in bytes.
pub const LONGEST: usize = 1 << 20;
/// More attributes than this are none of a table that is read here (`MaxHeapAttributeNumber` is 1600).
const MOST_ATTRIBUTES: usize = 1600;

/// A column as `pg_attribute` describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// `attname`.
    pub name: String,
    /// What its bytes are.
    pub kind: Kind,
    /// `attlen`: bytes, -1 for variable length, -2 for text that ends with NUL.
    pub length: i16,
    /// Bytes of its alignment (`attalign`): 1, 2, 4 or 8.
    pub align: u8,
}

/// What a column's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `boolean`.
    Bool,
    /// `smallint`, `integer`, `bigint`.
    Integer,
    /// `text`, `varchar`, `json`; of fixed length, `name`.
    Text,
    /// `timestamp`, with or without zone.
    Time,
    /// Anything else: passed over.
    Other,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// NULL, or a column that was added after the row was written.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Integer(i64),
    /// A text; what is not UTF-8 is replaced.
    Text(String),
    /// A time.
    Time(PgTime),
    /// There is one and it was not read: of another type, too long, or kept outside the row.
    Unread,
}

/// The values of a row, in the order of the columns.
pub type Row = Vec<Value>;

/// A row version as pages and records hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    /// `t_infomask2`.
    pub infomask2: u16,
    /// `t_infomask`.
    pub infomask: u16,
    /// `t_hoff`: where the data begin, from the tuple's beginning.
    pub hoff: u8,
    /// Everything from offset 23 on: null bitmap, padding, data.
    pub rest: &'a [u8],
}

const HAS_NULLS: u16 = 0x0001;
const ATTRIBUTES: u16 = 0x07FF;

impl<'a> Tuple<'a> {
    /// The data, behind bitmap and padding.
    pub fn data(&self) -> Option<&'a [u8]> {
        self.rest.get(usize::from(self.hoff).checked_sub(TUPLE_HEADER)?..)
    }

    /// The values of `columns`; `None` where the bytes end before them.
    pub fn decode(&self, columns: &[Column]) -> Option<Row> {
        let attributes = usize::from(self.infomask2 & ATTRIBUTES);
        if attributes > columns.len() || attributes > MOST_ATTRIBUTES {
            return None;
        }
        let bitmap = if self.infomask & HAS_NULLS != 0 { Some(self.rest.get(..attributes.div_ceil(8))?) } else { None };
        let present = |index: usize| bitmap.is_none_or(|bits| bits.get(index / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0));
        let mut data = Data { bytes: self.data()?, at: 0 };
        let mut row = Vec::with_capacity(columns.len());
        for (index, column) in columns.iter().enumerate() {
            row.push(if index < attributes && present(index) { data.value(column)? } else { Value::Null });
        }
        Some(row)
    }
}

struct Data<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Data<'a> {
    fn value(&mut self, column: &Column) -> Option<Value> {
        match column.length {
            -1 => self.varlena(column),
            -2 => {
                let rest = self.bytes.get(self.at..)?;
                let length = rest.iter().position(|b| *b == 0)?;
                self.at += length + 1;
                Some(text(column.kind, rest.get(..length)?))
            }
            length => {
                self.align(column.align);
                let bytes = self.take(usize::try_from(length).ok()?)?;
                Some(if column.kind == Kind::Text { name(bytes) } else { fixed(column.kind, bytes) })
            }
        }
    }

    /// A first byte that is not zero stands unaligned: a short header, or a pointer.
    fn varlena(&mut self, column: &Column) -> Option<Value> {
        if *self.bytes.get(self.at)? == 0 {
            self.align(column.align);
        }
        let first = *self.bytes.get(self.at)?;
        if first == 0x01 {
            // `varattrib_1b_e`: a tag, then what it points with; only the tag of TOAST on disk is ever stored.
            let tag = *self.bytes.get(self.at + 1)?;
            self.take(if tag == 18 { 18 } else { return None })?;
            return Some(Value::Unread);
        }
        if first & 1 == 1 {
            let bytes = self.take(usize::from(first >> 1))?;
            return Some(text(column.kind, bytes.get(1..)?));
        }
        self.align(column.align);
        let header = u32(self.bytes, self.at)?;
        let bytes = self.take(usize::try_from(header >> 2).ok()?)?.get(4..)?;
        if header & 2 == 0 {
            return Some(text(column.kind, bytes));
        }
        if column.kind != Kind::Text {
            return Some(Value::Unread);
        }
        let (info, packed) = (u32(bytes, 0)?, bytes.get(4..)?);
        let raw = usize::try_from(info & 0x3FFF_FFFF).ok()?;
        if raw > LONGEST {
            return Some(Value::Unread);
        }
        let unpacked = match info >> 30 {
            0 => image::pglz(packed, raw)?,
            1 => image::lz4(packed, raw)?,
            _ => return None,
        };
        Some(text(column.kind, &unpacked))
    }

    fn align(&mut self, to: u8) {
        self.at = self.at.next_multiple_of(usize::from(to).max(1));
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let bytes = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(bytes)
    }
}

fn text(kind: Kind, bytes: &[u8]) -> Value {
    if kind != Kind::Text || bytes.len() > LONGEST {
        return Value::Unread;
    }
    Value::Text(String::from_utf8_lossy(bytes).into_owned())
}

/// `name`: 64 bytes, filled up with zeros.
fn name(bytes: &[u8]) -> Value {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    text(Kind::Text, bytes.get(..end).unwrap_or_default())
}

fn fixed(kind: Kind, bytes: &[u8]) -> Value {
    let integer = match bytes.len() {
        1 => bytes.first().map(|b| i64::from(b.cast_signed())),
        2 => chunk(bytes, 0).map(|b| i64::from(i16::from_le_bytes(*b))),
        4 => chunk(bytes, 0).map(|b| i64::from(i32::from_le_bytes(*b))),
        8 => chunk(bytes, 0).map(|b| i64::from_le_bytes(*b)),
        _ => None,
    };
    match (kind, integer) {
        (Kind::Bool, Some(value)) if bytes.len() == 1 => Value::Bool(value != 0),
        (Kind::Integer, Some(value)) => Value::Integer(value),
        (Kind::Time, Some(value)) if bytes.len() == 8 => Value::Time(PgTime(value)),
        _ => Value::Unread,
    }
}

#[cfg(test)]
#[path = "tuple_tests.rs"]
mod tests;
