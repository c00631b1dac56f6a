//! Knex: the whole batch with its lock in one transaction, unless one of its files opts out; then all of them run loose
//! (migrations/migrate/Migrator.js).

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "knex",
    name: "Knex",
    tables: &["knex_migrations"],
    by_name: false,
    required: &[("id", Is::Int4), ("name", Is::Text), ("batch", Is::Int4), ("migration_time", Is::TimestampTz)],
    optional: &[],
    class: Class::Batch,
    typed: Typed::Text,
    companions: &["*_lock"],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let file = row.text("name")?;
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    Some(Mark::done(file).also(stem))
}
