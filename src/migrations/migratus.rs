//! Migratus: the row in the transaction of the work; a row -1 stands there while it runs.

use super::reading::{Fields, Mark, State};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "migratus",
    name: "Migratus",
    tables: &["schema_migrations"],
    by_name: false,
    required: &[("id", Is::Int8), ("applied", Is::Timestamp), ("description", Is::Text)],
    optional: &[],
    class: Class::Same,
    typed: Typed::Number,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let id = row.integer("id")?;
    let state = if id < 0 { State::Setup } else { State::Done };
    Some(Mark::done(id.to_string()).named(row.text("description")).in_state(state))
}
