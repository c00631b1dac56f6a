//! Alembic: one row for each head, updated from revision to revision in the transaction of the work, by default one for all
//! (runtime/migration.py, HeadMaintainer). Revisions between stand in the WAL alone; `stamp` updates without work.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "alembic",
    name: "Alembic",
    tables: &["alembic_version"],
    by_name: false,
    required: &[("version_num", Is::Text)],
    optional: &[],
    class: Class::OneRow,
    typed: Typed::Text,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    Some(Mark::done(row.text("version_num")?))
}
