//! refinery: with an asynchronous driver the row is written in the transaction of the work, with a synchronous one after it
//! (refinery_core/src/traits): what the WAL shows decides.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "refinery",
    name: "refinery",
    tables: &["refinery_schema_history"],
    by_name: false,
    required: &[("version", Is::Integer), ("name", Is::Text), ("applied_on", Is::Text), ("checksum", Is::Text)],
    optional: &[],
    class: Class::After,
    typed: Typed::Number,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let version = row.integer("version")?.to_string();
    let name = row.text("name");
    let mark = Mark::done(version.clone()).named(name);
    Some(match name {
        Some(name) => mark.also(format!("V{version}__{name}")),
        None => mark,
    })
}
