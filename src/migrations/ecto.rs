//! Ecto: the row in the transaction of the work.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "ecto",
    name: "Ecto",
    tables: &["schema_migrations"],
    by_name: false,
    required: &[("version", Is::Int8), ("inserted_at", Is::Timestamp)],
    optional: &[],
    class: Class::Same,
    typed: Typed::Number,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    Some(Mark::done(row.integer("version")?.to_string()))
}
