//! What a recovery to before a migration must find in the tool's table.

use serde::{Deserialize, Serialize};

use super::reading::{Fields, Mark, State, from_text};
use super::{Class, Tool};
use crate::wal::tuple::{Column, Row};

/// Rows that are asked for at a time, and how often.
pub const PAGE: usize = 1000;
const PAGES: usize = 20;

/// What must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goal {
    /// Id of the tool.
    pub tool: String,
    /// The database.
    pub database: String,
    /// Schema of the history table.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// Columns to read.
    pub columns: Vec<Column>,
    /// As it was typed.
    pub version: String,
    /// Keys of the migrations that are discarded.
    pub keys: Vec<String>,
    /// Their versions, the first of them first: what the tool will call pending.
    pub pending: Vec<String>,
}

/// Statements that read the columns of a table, newest rows first, [`PAGE`] rows each.
///
/// `TABLESAMPLE` refuses views and foreign tables, which would run code of those who made them with the rights of the
/// one who asks; nothing is cast and no operator is used, for the same reason.
pub fn queries(schema: &str, table: &str, columns: &[Column]) -> Vec<String> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let list: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    let from = format!("FROM ONLY {}.{} TABLESAMPLE pg_catalog.system (100)", quoted(schema), quoted(table));
    (0..PAGES).map(|page| format!("SELECT {} {from} ORDER BY ctid DESC LIMIT {PAGE} OFFSET {}", list.join(", "), page * PAGE)).collect()
}

/// Rows as a server prints them.
pub fn rows(columns: &[Column], printed: &[Vec<Option<String>>]) -> Vec<Row> {
    let row =
        |values: &Vec<Option<String>>| columns.iter().zip(values).map(|(column, value)| from_text(column, value.as_deref())).collect();
    printed.iter().map(row).collect()
}

/// Whether the table is as it must be: what it shows, or what is wrong with it.
///
/// # Errors
/// The words of the complaint.
pub fn verdict(tool: &Tool, goal: &Goal, printed: &[Vec<Option<String>>]) -> Result<String, String> {
    let rows = rows(&goal.columns, printed);
    let marks: Vec<Mark> = rows.iter().filter_map(|row| (tool.read)(&Fields::new(&goal.columns, row))).collect();
    if let Some(there) = marks.iter().find(|mark| goal.keys.contains(&mark.key) && mark.state != State::Reverted) {
        return Err(format!("{} still has {}", tool.name, there.version));
    }
    if tool.class == Class::OneRowBracket
        && let Some(dirty) = marks.iter().find(|mark| mark.state == State::Begun)
    {
        return Err(format!("{} would find version {} dirty", tool.name, dirty.version));
    }
    let standing = marks.iter().filter(|mark| mark.state == State::Done).count();
    Ok(match marks.as_slice() {
        [only] if matches!(tool.class, Class::OneRow | Class::OneRowBracket) => format!("{} is at {}", tool.name, only.version),
        _ => format!("{} has {standing} applied, and not {}", tool.name, goal.version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrations::tool;
    use crate::wal::tuple::Kind;

    fn goal(keys: &[&str]) -> Goal {
        let column = |name: &str, kind| Column { name: name.into(), kind, length: 8, align: 8 };
        Goal {
            tool: "golang-migrate".into(),
            database: "shop".into(),
            schema: "public".into(),
            table: "odd\"name".into(),
            columns: vec![column("version", Kind::Integer), column("dirty", Kind::Bool)],
            version: "123".into(),
            keys: keys.iter().map(|key| key.to_string()).collect(),
            pending: vec!["123".into()],
        }
    }

    #[test]
    fn what_is_left_must_be_clean_and_without_the_migration() {
        let tool = tool("golang-migrate").unwrap();
        let judge = |version: &str, dirty: &str| verdict(tool, &goal(&["123", "124"]), &[vec![Some(version.into()), Some(dirty.into())]]);
        assert_eq!(judge("122", "f").unwrap(), "golang-migrate is at 122");
        assert!(judge("122", "t").unwrap_err().contains("dirty"));
        assert!(judge("123", "f").unwrap_err().contains("still has 123"));
        assert!(judge("124", "t").is_err());
        assert!(verdict(tool, &goal(&["123"]), &[]).is_ok(), "nothing was ever applied");
    }

    #[test]
    fn names_are_quoted() {
        let text = queries("public", &goal(&[]).table, &goal(&[]).columns).remove(1);
        assert!(text.starts_with(r#"SELECT "version", "dirty" FROM ONLY "public"."odd""name" TABLESAMPLE"#), "{text}");
        assert!(text.ends_with("LIMIT 1000 OFFSET 1000"), "{text}");
    }
}
