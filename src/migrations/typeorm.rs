//! TypeORM: all pending migrations in one transaction by default (MigrationExecutor.ts); `each` has one for each, `none` none.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "typeorm",
    name: "TypeORM",
    tables: &["migrations"],
    by_name: false,
    required: &[("id", Is::Int4), ("timestamp", Is::Int8), ("name", Is::Text)],
    optional: &[],
    class: Class::Batch,
    typed: Typed::Text,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let name = row.text("name")?;
    Some(Mark::done(name).also(row.integer("timestamp")?.to_string()))
}
