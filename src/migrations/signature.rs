//! Whose table it is, by its columns and their types; names break ties.

use super::{Is, Tool, tool, tools};

/// A table as the catalogs have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its name.
    pub table: String,
    /// Names and types (`format_type`) of its columns, in order.
    pub columns: Vec<(String, String)>,
    /// `ar_internal_metadata` stands in the same schema.
    pub rails: bool,
}

/// A recognised table.
#[derive(Debug, Clone, Copy)]
pub struct Recognised {
    /// The tool.
    pub tool: &'static Tool,
    /// It has a name that the tool gives it by default.
    pub named: bool,
}

/// Columns that nothing else has are tolerated from so many required ones on: forks and later versions add some.
const TELLING: usize = 5;

/// The tool that such a table is of; one whose default name fits before one whose does not.
pub fn recognise(facts: &Facts) -> Option<Recognised> {
    let fitting: Vec<Recognised> =
        tools().filter(|tool| fits(tool, facts)).map(|tool| Recognised { tool, named: named(tool, &facts.table) }).collect();
    fitting.iter().find(|found| found.named).or_else(|| fitting.iter().find(|found| !found.tool.by_name)).copied()
}

/// Whether a person may say that the table is of this tool.
pub fn may_be(id: &str, facts: &Facts) -> Option<Recognised> {
    let tool = tools().find(|tool| tool.id == id && columns_fit(tool, facts)).or_else(|| tool(id).filter(|t| columns_fit(t, facts)))?;
    Some(Recognised { tool, named: named(tool, &facts.table) })
}

fn named(tool: &Tool, table: &str) -> bool {
    tool.tables.contains(&table)
}

fn fits(tool: &Tool, facts: &Facts) -> bool {
    // Rails and dbmate differ in what stands beside their tables.
    let beside = match tool.id {
        "rails" => facts.rails,
        "dbmate" => !facts.rails,
        _ => true,
    };
    beside && columns_fit(tool, facts)
}

fn columns_fit(tool: &Tool, facts: &Facts) -> bool {
    let column = |name: &str| facts.columns.iter().find(|(known, _)| known == name);
    let there = |(name, is): &(&str, Is)| column(name).is_some_and(|(_, type_name)| is.fits(type_name));
    let known = |(name, type_name): &(String, String)| {
        let mut all = tool.required.iter().chain(tool.optional);
        all.any(|(wanted, is)| wanted == name && is.fits(type_name))
    };
    tool.required.iter().all(there) && (tool.required.len() >= TELLING || facts.columns.iter().all(known))
}

impl Is {
    /// Whether `format_type` calls it so.
    pub fn fits(self, type_name: &str) -> bool {
        let text = type_name == "text" || type_name.starts_with("character varying") || type_name.starts_with("character(");
        let timestamp = type_name.starts_with("timestamp") && type_name.ends_with("without time zone");
        let with_zone = type_name.starts_with("timestamp") && type_name.ends_with("with time zone");
        match self {
            Is::Bool => type_name == "boolean",
            Is::Int4 => matches!(type_name, "integer" | "smallint"),
            Is::Int8 => type_name == "bigint",
            Is::Integer => matches!(type_name, "integer" | "smallint" | "bigint") || type_name.starts_with("numeric"),
            Is::Text => text,
            Is::Timestamp => timestamp,
            Is::TimestampTz => with_zone,
            Is::Time => timestamp || with_zone,
            Is::Any => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A type that each word of a signature stands for.
    fn example(is: Is) -> &'static str {
        match is {
            Is::Bool => "boolean",
            Is::Int4 => "integer",
            Is::Int8 | Is::Integer => "bigint",
            Is::Text => "character varying(255)",
            Is::Timestamp | Is::Time => "timestamp without time zone",
            Is::TimestampTz => "timestamp(6) with time zone",
            Is::Any => "jsonb",
        }
    }

    fn facts(tool: &Tool, table: &str) -> Facts {
        let columns = tool.required.iter().chain(tool.optional).map(|(name, is)| (name.to_string(), example(*is).to_string()));
        Facts { table: table.into(), columns: columns.collect(), rails: tool.id == "rails" }
    }

    #[test]
    fn every_tool_is_recognised_by_its_own_table() {
        for tool in tools() {
            for table in tool.tables {
                let found = recognise(&facts(tool, table)).unwrap();
                assert!(found.named && found.tool.id == tool.id, "{} in {table} is taken for {}", tool.id, found.tool.id);
            }
        }
    }

    #[test]
    fn renamed_tables_are_known_by_their_columns_where_these_say_enough() {
        for tool in tools() {
            let found = recognise(&facts(tool, "renamed"));
            match tool.by_name {
                true => assert!(found.is_none_or(|found| found.tool.id != tool.id), "{}", tool.id),
                false => assert!(found.is_some_and(|found| !found.named && found.tool.id == tool.id), "{}: {found:?}", tool.id),
            }
        }
    }

    #[test]
    fn one_name_of_many_tools() {
        let of = |columns: &[(&str, &str)], rails| {
            let columns = columns.iter().map(|(name, is)| (name.to_string(), is.to_string())).collect();
            recognise(&Facts { table: "schema_migrations".into(), columns, rails }).map(|found| found.tool.id)
        };
        assert_eq!(of(&[("version", "bigint"), ("dirty", "boolean")], false), Some("golang-migrate"));
        assert_eq!(of(&[("version", "bigint"), ("inserted_at", "timestamp(0) without time zone")], false), Some("ecto"));
        assert_eq!(of(&[("version", "character varying")], true), Some("rails"));
        assert_eq!(of(&[("version", "character varying(128)")], false), Some("dbmate"));
        assert_eq!(of(&[("filename", "text")], false), Some("sequel"));
        assert_eq!(of(&[("version", "bigint"), ("dirty", "boolean"), ("applied_at", "date")], false), None, "a fork's");
        assert_eq!(of(&[("version", "bigint")], false), None);
    }
}
