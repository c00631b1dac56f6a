//! Sqitch: the script runs in a psql of its own, then the row is inserted (Engine.pm, Engine/pg.pm).

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "sqitch",
    name: "Sqitch",
    tables: &["changes"],
    by_name: false,
    required: &[
        ("change_id", Is::Text),
        ("script_hash", Is::Text),
        ("change", Is::Text),
        ("project", Is::Text),
        ("note", Is::Text),
        ("committed_at", Is::TimestampTz),
        ("planned_at", Is::TimestampTz),
        ("planner_email", Is::Text),
    ],
    optional: &[("committer_name", Is::Text), ("committer_email", Is::Text), ("planner_name", Is::Text)],
    class: Class::After,
    typed: Typed::Text,
    companions: &["events", "tags", "dependencies", "projects"],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let (id, change) = (row.text("change_id")?, row.text("change")?);
    Some(Mark { key: id.to_string(), ..Mark::done(change) }.named(row.text("project")).also(id))
}
