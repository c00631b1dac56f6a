//! Atlas: the row is written before, after each statement and at the end, by default all in the file's transaction; with
//! `txmode none` each by itself (sql/migrate/migrate.go).

use super::reading::{Fields, Mark, State};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "atlas",
    name: "Atlas",
    tables: &["atlas_schema_revisions"],
    by_name: false,
    required: &[
        ("version", Is::Text),
        ("description", Is::Text),
        ("type", Is::Int8),
        ("applied", Is::Int8),
        ("total", Is::Int8),
        ("executed_at", Is::TimestampTz),
        ("execution_time", Is::Int8),
        ("error", Is::Text),
        ("hash", Is::Text),
        ("partial_hashes", Is::Any),
        ("operator_version", Is::Text),
    ],
    optional: &[("error_stmt", Is::Text)],
    class: Class::Bracket,
    typed: Typed::Text,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let version = row.text("version")?;
    if version.starts_with('.') {
        return None;
    }
    let (applied, total, kind) = (row.integer("applied")?, row.integer("total")?, row.integer("type").unwrap_or(2));
    let state = match (kind & 1 == 1, kind & 2 == 2, applied < total) {
        (true, false, _) => State::WithoutWork,
        (_, _, true) => State::Begun,
        _ => State::Done,
    };
    Some(Mark::done(version).named(row.text("description")).in_state(state))
}
