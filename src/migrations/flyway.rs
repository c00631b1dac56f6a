//! Flyway: since 9.1.2 the row is inserted on another connection before the script's COMMIT and committed after it
//! (PostgreSQLAdvisoryLockTemplate, JdbcTableSchemaHistory); with `postgresql.transactional.lock=false` both are one.

use super::reading::{Fields, Mark, State};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "flyway",
    name: "Flyway",
    tables: &["flyway_schema_history", "schema_version"],
    by_name: false,
    required: &[
        ("installed_rank", Is::Int4),
        ("version", Is::Text),
        ("description", Is::Text),
        ("type", Is::Text),
        ("script", Is::Text),
        ("checksum", Is::Int4),
        ("installed_by", Is::Text),
        ("installed_on", Is::Timestamp),
        ("execution_time", Is::Int4),
        ("success", Is::Bool),
    ],
    optional: &[],
    class: Class::Around,
    typed: Typed::Dotted,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let script = row.text("script")?;
    let rank = row.integer("installed_rank")?;
    let kind = row.text("type").unwrap_or_default();
    let state = match kind {
        "SCHEMA" => State::Setup,
        "BASELINE" | "SQL_BASELINE" | "JDBC_BASELINE" => State::WithoutWork,
        "DELETE" => State::Reverted,
        _ if kind.starts_with("UNDO_") => State::Reverted,
        _ if row.bool("success") == Some(false) => State::Failed,
        _ => State::Done,
    };
    // A repeatable migration has no version, and one may run again.
    let version = row.text("version").map_or_else(|| row.text("description").unwrap_or(script).to_string(), str::to_string);
    let key = if row.is_null("version") { format!("{script} {rank}") } else { version.clone() };
    Some(Mark { key, ..Mark::done(version) }.named(row.text("description")).also(script).in_state(state))
}
