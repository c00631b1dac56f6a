//! node-pg-migrate: all pending migrations in one transaction unless told otherwise (migration.ts).

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "node-pg-migrate",
    name: "node-pg-migrate",
    tables: &["pgmigrations", "migrations"],
    by_name: false,
    required: &[("id", Is::Int4), ("name", Is::Text), ("run_on", Is::Timestamp)],
    optional: &[],
    class: Class::Batch,
    typed: Typed::Text,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    Some(Mark::done(row.text("name")?))
}
