//! Drizzle: all pending files and their rows in one transaction (pg-core/dialect.ts). `created_at` is when the file was
//! made, not when it ran; 1.0 added the name. The tag of an older row stands in `meta/_journal.json` alone.

use super::reading::{Fields, Mark};
use super::{Class, Is, Tool, Typed};

/// The tool.
pub static TOOL: Tool = Tool {
    id: "drizzle",
    name: "Drizzle",
    tables: &["__drizzle_migrations"],
    by_name: false,
    required: &[("id", Is::Int4), ("hash", Is::Text), ("created_at", Is::Integer)],
    optional: &[("name", Is::Text), ("applied_at", Is::TimestampTz)],
    class: Class::Batch,
    typed: Typed::Text,
    companions: &[],
    read,
};

fn read(row: &Fields<'_>) -> Option<Mark> {
    let created = row.integer("created_at");
    let key = row.text("hash")?;
    let version = row.text("name").map(str::to_string).or_else(|| created.map(|ms| ms.to_string())).unwrap_or_else(|| key.to_string());
    let mark = Mark { key: key.to_string(), ..Mark::done(version) }.also(key);
    Some(match created {
        Some(ms) => mark.also(ms.to_string()),
        None => mark,
    })
}
