//! tern: one row, updated in the transaction of the work (migrate/migrate.go).

use super::reading::{Fields, Mark, State};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "tern",
    name: "tern",
    tables: &["schema_version"],
    by_name: true,
    required: &[("version", Is::Int4)],
    optional: &[],
    class: Class::OneRow,
    typed: Typed::Number,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let version = row.integer("version")?;
    let state = if version == 0 { State::Setup } else { State::Done };
    Some(Mark::done(version.to_string()).in_state(state))
}
