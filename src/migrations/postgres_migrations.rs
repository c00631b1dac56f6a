//! postgres-migrations: the row in the transaction of the work.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "postgres-migrations",
    name: "postgres-migrations",
    tables: &["migrations"],
    by_name: false,
    required: &[("id", Is::Int4), ("name", Is::Text), ("hash", Is::Text), ("executed_at", Is::Timestamp)],
    optional: &[],
    class: Class::Same,
    typed: Typed::Number,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    Some(Mark::done(row.integer("id")?.to_string()).named(row.text("name")))
}
