//! Prisma Migrate: the row is inserted and committed, then the script runs, then the row is finished
//! (apply_migrations.rs, sql_migration_persistence.rs). A retry has a row of its own.

use super::reading::{Fields, Mark, State};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "prisma",
    name: "Prisma",
    tables: &["_prisma_migrations"],
    by_name: false,
    required: &[
        ("id", Is::Text),
        ("checksum", Is::Text),
        ("finished_at", Is::TimestampTz),
        ("migration_name", Is::Text),
        ("logs", Is::Text),
        ("rolled_back_at", Is::TimestampTz),
        ("started_at", Is::TimestampTz),
        ("applied_steps_count", Is::Int4),
    ],
    optional: &[],
    class: Class::Bracket,
    typed: Typed::Text,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let (id, name) = (row.text("id")?, row.text("migration_name")?);
    let state = if row.value("rolled_back_at").is_some() && !row.is_null("rolled_back_at") {
        State::Reverted
    } else if row.is_null("finished_at") {
        State::Begun
    } else if row.integer("applied_steps_count") == Some(0) && row.same("started_at", "finished_at") {
        State::WithoutWork
    } else {
        State::Done
    };
    Some(Mark { key: id.to_string(), ..Mark::done(name) }.in_state(state))
}
