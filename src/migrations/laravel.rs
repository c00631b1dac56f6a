//! Laravel: the migration commits, then its row by itself (Migrations/Migrator.php).

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "laravel",
    name: "Laravel",
    tables: &["migrations"],
    by_name: false,
    required: &[("id", Is::Int4), ("migration", Is::Text), ("batch", Is::Int4)],
    optional: &[],
    class: Class::After,
    typed: Typed::Text,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    Some(Mark::done(row.text("migration")?))
}
