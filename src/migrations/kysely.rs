//! Kysely: all pending migrations and their rows in one transaction.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "kysely",
    name: "Kysely",
    tables: &["kysely_migration"],
    by_name: false,
    required: &[("name", Is::Text), ("timestamp", Is::Text)],
    optional: &[],
    class: Class::Batch,
    typed: Typed::Text,
    companions: &["*_lock"],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    Some(Mark::done(row.text("name")?))
}
