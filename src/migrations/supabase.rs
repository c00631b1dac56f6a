//! Supabase CLI: statements and row in one batch, which is one transaction.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "supabase",
    name: "Supabase CLI",
    tables: &["schema_migrations"],
    by_name: false,
    required: &[("version", Is::Text), ("statements", Is::Any), ("name", Is::Text)],
    optional: &[],
    class: Class::Same,
    typed: Typed::Text,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    Some(Mark::done(row.text("version")?).named(row.text("name")))
}
