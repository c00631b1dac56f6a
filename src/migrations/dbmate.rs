//! dbmate: the row in the transaction of the work.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "dbmate",
    name: "dbmate",
    tables: &["schema_migrations"],
    by_name: true,
    required: &[("version", Is::Text)],
    optional: &[],
    class: Class::Same,
    typed: Typed::Number,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    Some(Mark::done(row.text("version")?))
}
