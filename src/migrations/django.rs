//! Django: from 3.2 on the row is written in the migration's transaction unless statements were deferred
//! (db/migrations/executor.py); then, and whenever it is taken back, in one of its own.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "django",
    name: "Django",
    tables: &["django_migrations"],
    by_name: false,
    required: &[("id", Is::Integer), ("app", Is::Text), ("name", Is::Text), ("applied", Is::TimestampTz)],
    optional: &[],
    class: Class::Same,
    typed: Typed::App,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let (app, name) = (row.text("app")?, row.text("name")?);
    Some(Mark::done(format!("{app}.{name}")).also(format!("{app}/{name}")).also(format!("{app} {name}")))
}
