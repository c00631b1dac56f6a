//! Rails: the row in the transaction of the work (migration.rb). `db:schema:load` writes many without work. Without its
//! `ar_internal_metadata` beside it the table looks like dbmate's, whose rules are the same.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "rails",
    name: "Rails",
    tables: &["schema_migrations"],
    by_name: true,
    required: &[("version", Is::Text)],
    optional: &[],
    class: Class::Same,
    typed: Typed::Number,
    companions: &["ar_internal_metadata"],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    Some(Mark::done(row.text("version")?))
}
