//! SeaORM: 0.12 and 1: the batch in one transaction; 2: one for each migration.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "sea-orm",
    name: "SeaORM",
    tables: &["seaql_migrations"],
    by_name: false,
    required: &[("version", Is::Text), ("applied_at", Is::Int8)],
    optional: &[],
    class: Class::Batch,
    typed: Typed::Text,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    Some(Mark::done(row.text("version")?))
}
