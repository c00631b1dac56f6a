//! sqlx: from 0.6.2 on the row is inserted in the transaction of the work and its `execution_time` updated in another
//! (sqlx-postgres/src/migrate.rs): the row's `xmin` is the later one.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "sqlx",
    name: "sqlx",
    tables: &["_sqlx_migrations"],
    by_name: false,
    required: &[
        ("version", Is::Int8),
        ("description", Is::Text),
        ("installed_on", Is::TimestampTz),
        ("success", Is::Bool),
        ("checksum", Is::Any),
        ("execution_time", Is::Int8),
    ],
    optional: &[],
    class: Class::Same,
    typed: Typed::Number,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    Some(Mark::done(row.integer("version")?.to_string()).named(row.text("description")))
}
