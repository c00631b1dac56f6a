//! Graphile Migrate: the row in the transaction of the work.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "graphile-migrate",
    name: "Graphile Migrate",
    tables: &["migrations"],
    by_name: false,
    required: &[("hash", Is::Text), ("previous_hash", Is::Text), ("filename", Is::Text), ("date", Is::TimestampTz)],
    optional: &[],
    class: Class::Same,
    typed: Typed::Text,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    Some(Mark::done(row.text("filename")?).also(row.text("hash")?))
}
