//! A row of a history table by the names of its columns, whether it comes from the WAL or from a server.

use serde::{Deserialize, Serialize};

use crate::wal::tuple::{Column, Row, Value};

/// A row.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    columns: &'a [Column],
    row: &'a Row,
}

impl<'a> Fields<'a> {
    /// The row of a table of these columns.
    pub fn new(columns: &'a [Column], row: &'a Row) -> Fields<'a> {
        Fields { columns, row }
    }

    /// The value of a column; `None` where the table has no such column.
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        let index = self.columns.iter().position(|column| column.name == name)?;
        self.row.get(index)
    }

    /// A text; `None` for NULL and for what was not read.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        match self.value(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An integer.
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.value(name)? {
            Value::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// A boolean.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.value(name)? {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The column is there and NULL.
    pub fn is_null(&self, name: &str) -> bool {
        self.value(name) == Some(&Value::Null)
    }

    /// Both columns hold the same value.
    pub fn same(&self, one: &str, other: &str) -> bool {
        self.value(one).is_some() && self.value(one) == self.value(other)
    }
}

/// What a row says of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// What makes it this migration and no other; stable over updates of the row.
    pub key: String,
    /// As its users type it.
    pub version: String,
    /// Its name, where that is another thing.
    pub name: Option<String>,
    /// Other words that mean it.
    pub aliases: Vec<String>,
    /// How far it is.
    pub state: State,
}

/// What a row says of its migration's course.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is done.
    Done,
    /// It was begun and is not done: dirty, unfinished.
    Begun,
    /// It failed.
    Failed,
    /// The row was written without the migration being run: baseline, mark ran, resolve --applied.
    WithoutWork,
    /// The row says that it was taken back.
    Reverted,
    /// No migration: what the tool writes when it makes its table.
    Setup,
}

impl Mark {
    /// A done migration whose version is its key.
    pub fn done(version: impl Into<String>) -> Mark {
        let version = version.into();
        Mark { key: version.clone(), version, name: None, aliases: Vec::new(), state: State::Done }
    }

    /// With a name.
    #[must_use]
    pub fn named(mut self, name: Option<&str>) -> Mark {
        self.name = name.map(str::to_string).filter(|name| !name.is_empty());
        self
    }

    /// With another word for it.
    #[must_use]
    pub fn also(mut self, alias: impl Into<String>) -> Mark {
        self.aliases.push(alias.into());
        self
    }

    /// In this state.
    #[must_use]
    pub fn in_state(mut self, state: State) -> Mark {
        self.state = state;
        self
    }
}

/// A value as a server prints it, of a column of `column`'s kind.
pub fn from_text(column: &Column, text: Option<&str>) -> Value {
    use crate::wal::tuple::Kind;
    let Some(text) = text else { return Value::Null };
    match column.kind {
        Kind::Bool => Value::Bool(text == "t"),
        Kind::Integer => text.parse().map_or(Value::Unread, Value::Integer),
        Kind::Text => Value::Text(text.to_string()),
        // As it is printed: compared with nothing but another of the same row.
        Kind::Time => Value::Text(text.to_string()),
        Kind::Other => text.parse().map_or(Value::Unread, Value::Integer),
    }
}
