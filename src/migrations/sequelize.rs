//! Sequelize CLI and Umzug: nothing is wrapped: each statement commits by itself, then the row.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "sequelize",
    name: "Sequelize",
    tables: &["SequelizeMeta"],
    by_name: true,
    required: &[("name", Is::Text)],
    optional: &[("createdAt", Is::TimestampTz), ("updatedAt", Is::TimestampTz)],
    class: Class::After,
    typed: Typed::Text,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let file = row.text("name")?;
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    Some(Mark::done(file).also(stem))
}
