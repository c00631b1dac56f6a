//! Diesel: the row in the transaction of the work. `00000000000000` is its own set-up.

use super::reading::{Fields, Mark, State};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "diesel",
    name: "Diesel",
    tables: &["__diesel_schema_migrations"],
    by_name: false,
    required: &[("version", Is::Text), ("run_on", Is::Timestamp)],
    optional: &[],
    class: Class::Same,
    typed: Typed::Text,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let version = row.text("version")?;
    let state = if version.bytes().all(|b| b == b'0') { State::Setup } else { State::Done };
    Some(Mark::done(version).in_state(state))
}
