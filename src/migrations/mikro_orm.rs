//! MikroORM: the batch in one transaction, a savepoint for each migration: the row belongs to a subtransaction.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "mikro-orm",
    name: "MikroORM",
    tables: &["mikro_orm_migrations"],
    by_name: false,
    required: &[("id", Is::Int4), ("name", Is::Text), ("executed_at", Is::TimestampTz)],
    optional: &[],
    class: Class::Batch,
    typed: Typed::Text,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    Some(Mark::done(row.text("name")?))
}
