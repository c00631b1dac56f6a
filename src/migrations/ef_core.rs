//! Entity Framework Core (Npgsql): 8 and older and 10: a transaction for each migration; 9: one for all (Migrator.cs). Naming
//! conventions may have folded the columns.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "ef-core",
    name: "EF Core",
    tables: &["__EFMigrationsHistory"],
    by_name: false,
    required: &[("MigrationId", Is::Text), ("ProductVersion", Is::Text)],
    optional: &[],
    class: Class::Same,
    typed: Typed::Text,
    companions: &[],
    read,
};

/// The same where columns are in snake case.
pub static SNAKE_CASE: Tool = Tool {
    id: "ef-core",
    name: "EF Core",
    tables: &["__EFMigrationsHistory", "__ef_migrations_history"],
    by_name: false,
    required: &[("migration_id", Is::Text), ("product_version", Is::Text)],
    optional: &[],
    class: Class::Same,
    typed: Typed::Text,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let id = row.text("MigrationId").or_else(|| row.text("migration_id"))?;
    let mark = Mark::done(id);
    Some(match id.split_once('_') {
        Some((_, name)) => mark.also(name),
        None => mark,
    })
}
