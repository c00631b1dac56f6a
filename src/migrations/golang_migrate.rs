//! golang-migrate 4: one row `(version, dirty)`, replaced by TRUNCATE and INSERT: `(v, true)` commits, then the work, then
//! `(v, false)` (migrate.go, database/postgres).

use super::reading::{Fields, Mark, State};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "golang-migrate",
    name: "golang-migrate",
    tables: &["schema_migrations"],
    by_name: false,
    required: &[("version", Is::Int8), ("dirty", Is::Bool)],
    optional: &[],
    class: Class::OneRowBracket,
    typed: Typed::Number,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let version = row.integer("version")?;
    let state = if row.bool("dirty")? { State::Begun } else { State::Done };
    Some(Mark::done(version.to_string()).in_state(state))
}
