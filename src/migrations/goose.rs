//! goose 3: the row in the transaction of the work, unless the file opts out. Version 0 is its set-up; before 2018-11 a row
//! with `is_applied` false took a version back (provider_run.go).

use super::reading::{Fields, Mark, State};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "goose",
    name: "goose",
    tables: &["goose_db_version"],
    by_name: false,
    required: &[("id", Is::Integer), ("version_id", Is::Int8), ("is_applied", Is::Bool), ("tstamp", Is::Timestamp)],
    optional: &[],
    class: Class::Same,
    typed: Typed::Number,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let version = row.integer("version_id")?;
    let state = match row.bool("is_applied")? {
        _ if version == 0 => State::Setup,
        true => State::Done,
        false => State::Reverted,
    };
    Some(Mark::done(version.to_string()).in_state(state))
}
