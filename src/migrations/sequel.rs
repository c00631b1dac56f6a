//! Sequel (Ruby): a row for each file, or one number, in the transaction of the work.

use super::reading::{Fields, Mark, State};
use super::{Class, Is, Tool, Typed};

/// The migrator of time stamps.
pub static TOOL: Tool = Tool {
    id: "sequel",
    name: "Sequel",
    tables: &["schema_migrations"],
    by_name: true,
    required: &[("filename", Is::Text)],
    optional: &[],
    class: Class::Same,
    typed: Typed::Text,
    companions: &[],
    read,
};

/// The migrator of numbers.
pub static INTEGER: Tool = Tool {
    id: "sequel-integer",
    name: "Sequel (integer)",
    tables: &["schema_info"],
    by_name: true,
    required: &[("version", Is::Int4)],
    optional: &[],
    class: Class::OneRow,
    typed: Typed::Number,
    companions: &[],
    read: read_number,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    Some(Mark::done(row.text("filename")?))
}

fn read_number(row: &Fields<'_>) -> Option<Mark> {
    let version = row.integer("version")?;
    let state = if version == 0 { State::Setup } else { State::Done };
    Some(Mark::done(version.to_string()).in_state(state))
}
