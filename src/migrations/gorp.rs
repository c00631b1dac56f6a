//! sql-migrate: the row in the transaction of the work.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "sql-migrate",
    name: "sql-migrate",
    tables: &["gorp_migrations"],
    by_name: false,
    required: &[("id", Is::Text), ("applied_at", Is::TimestampTz)],
    optional: &[("checksum", Is::Text)],
    class: Class::Same,
    typed: Typed::Text,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    Some(Mark::done(row.text("id")?))
}
