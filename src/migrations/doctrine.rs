//! Doctrine Migrations 3: the row in the transaction of the work, or all in one (Version/DbalExecutor.php).

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "doctrine",
    name: "Doctrine Migrations",
    tables: &["doctrine_migration_versions"],
    by_name: false,
    required: &[("version", Is::Text), ("executed_at", Is::Timestamp), ("execution_time", Is::Int4)],
    optional: &[],
    class: Class::Same,
    typed: Typed::Text,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let version = row.text("version")?;
    let mark = Mark::done(version);
    Some(match version.rsplit_once('\\') {
        Some((_, tail)) => mark.also(tail).also(tail.trim_start_matches("Version")),
        None => mark,
    })
}
