//! Liquibase: each changeset commits, then its row (ChangeSet.execute, UpdateVisitor). The lock table is updated when a run
//! starts and ends.

use super::reading::{Fields, Mark, State};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "liquibase",
    name: "Liquibase",
    tables: &["databasechangelog"],
    by_name: false,
    required: &[
        ("id", Is::Text),
        ("author", Is::Text),
        ("filename", Is::Text),
        ("dateexecuted", Is::Time),
        ("orderexecuted", Is::Int4),
        ("exectype", Is::Text),
        ("md5sum", Is::Text),
    ],
    optional: &[
        ("description", Is::Text),
        ("comments", Is::Text),
        ("tag", Is::Text),
        ("liquibase", Is::Text),
        ("contexts", Is::Text),
        ("labels", Is::Text),
        ("deployment_id", Is::Text),
    ],
    class: Class::After,
    typed: Typed::Text,
    companions: &["databasechangeloglock"],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let (id, author, file) = (row.text("id")?, row.text("author")?, row.text("filename")?);
    let state = match row.text("exectype").unwrap_or_default() {
        "MARK_RAN" => State::WithoutWork,
        "FAILED" => State::Failed,
        _ => State::Done,
    };
    let mark = Mark { key: format!("{file}::{id}::{author}"), ..Mark::done(id) };
    let mark = mark.named(Some(file)).also(format!("{file}::{id}::{author}")).also(format!("{id}::{author}")).in_state(state);
    Some(match row.text("tag") {
        Some(tag) => mark.also(tag),
        None => mark,
    })
}
