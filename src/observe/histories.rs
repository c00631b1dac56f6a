//! History tables of migration tools, found in the catalogs of every database of the serving cluster.
//!
//! What a table holds is read with the rights of the bootstrap role, and whoever owns the table may be hostile: see
//! [`after::queries`] for what is not done. Columns of types that users made are not read.

use serde::Deserialize;

use crate::error::{Error, Kind, Result};
use crate::migrations::signature::{Facts, Recognised, may_be, recognise};
use crate::migrations::{Tool, after, tools};
use crate::observe::names::Door;
use crate::wal::RelationFile;
use crate::wal::acts::Watched;
use crate::wal::tuple::{Column, Kind as ValueKind, Row, Value};

/// A recognised history table.
#[derive(Debug, Clone)]
pub struct HistoryTable {
    /// Whose it is.
    pub tool: &'static Tool,
    /// It has one of the tool's default names.
    pub named: bool,
    /// Database.
    pub database: String,
    /// Schema.
    pub schema: String,
    /// Name.
    pub table: String,
    /// What the WAL knows it by.
    pub watched: Watched,
    /// Columns that every version of the tool has.
    pub always: Vec<Column>,
    /// Its rows now, in the columns of `watched`; `None` where they could not be read.
    pub live: Option<Vec<Row>>,
}

/// Which tables are wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of this tool.
    pub tool: Option<String>,
    /// Of this name, or `schema.name`.
    pub table: Option<String>,
    /// In this database.
    pub database: Option<String>,
}

/// First normal object: types below are PostgreSQL's own (access/transam.h).
const FIRST_NORMAL: u32 = 16384;

/// Those that somebody can connect to: not one whose DROP was interrupted (manual, "pg_database").
const DATABASES: &str = "SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY datname";

/// Every history table that is `wanted`.
pub fn history_tables(door: &Door<'_>, wanted: &Wanted) -> Result<Vec<HistoryTable>> {
    let all = ["postgres", "template1"].iter().find_map(|database| door.ask(database, vec![DATABASES.into()]));
    let replies = all.ok_or_else(|| {
        Error::new(Kind::Refused, "the server does not let pitr in: its catalogs tell where migrations are recorded")
            .hint("Set `user` to the cluster's bootstrap role, and let it in on the local socket (pg_hba.conf).")
            .id("no-catalog")
    })?;
    let names = replies.iter().flat_map(|reply| &reply.rows).filter_map(|row| row.first().cloned().flatten());
    let mut found = Vec::new();
    for database in names.filter(|name| wanted.database.as_ref().is_none_or(|only| only == name)) {
        let Some(replies) = door.ask(&database, vec![candidates()]) else {
            log::warn!("database {database} was not looked through");
            continue;
        };
        for row in replies.iter().flat_map(|reply| &reply.rows) {
            let Some(described) = row.first().and_then(|text| serde_json::from_str::<Described>(text.as_deref()?).ok()) else { continue };
            if let Some(table) = understand(described, &database, wanted) {
                found.push(with_rows(door, table));
            }
        }
    }
    Ok(found)
}

/// A table as the query below describes it.
#[derive(Debug, Deserialize)]
struct Described {
    database: u32,
    tablespace: u32,
    oid: u32,
    file: u32,
    schema: String,
    table: String,
    toast: Option<u32>,
    columns: Vec<Attribute>,
    /// Tables of the same schema.
    beside: Option<Vec<Beside>>,
}

/// A table beside it: name, file, file of its TOAST table.
type Beside = (String, Option<u32>, Option<u32>);

/// A column: name, type, `attlen`, `attalign`, dropped, type's OID.
type Attribute = (String, String, i16, String, bool, u32);

/// One JSON value for each table that has the columns of some tool.
fn candidates() -> String {
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let array = |list: Vec<&str>| format!("ARRAY[{}]::text[]", list.into_iter().map(literal).collect::<Vec<_>>().join(", "));
    let mut signatures: Vec<String> = tools().map(|tool| array(tool.required.iter().map(|(name, _)| *name).collect())).collect();
    signatures.dedup();
    let any = signatures.into_iter().map(|names| format!("names @> {names}")).collect::<Vec<_>>().join(" OR ");
    let mut companions: Vec<&str> = tools().flat_map(|tool| tool.companions).copied().filter(|name| !name.starts_with('*')).collect();
    companions.sort_unstable();
    companions.dedup();
    let companions = array(companions);
    let place = "(SELECT dattablespace FROM pg_database WHERE datname = current_database())";
    format!(
        "WITH tables AS (SELECT c.oid, c.relname, c.relnamespace, n.nspname, c.reltablespace, c.reltoastrelid, \
           array_agg(a.attname::text) AS names \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid \
         WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND a.attnum > 0 AND NOT a.attisdropped AND c.relnatts <= 64 \
           AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
         GROUP BY c.oid, c.relname, c.relnamespace, n.nspname, c.reltablespace, c.reltoastrelid) \
         SELECT json_build_object('database', (SELECT oid FROM pg_database WHERE datname = current_database())::bigint, \
           'tablespace', (CASE WHEN t.reltablespace = 0 THEN {place} ELSE t.reltablespace END)::bigint, \
           'oid', t.oid::bigint, 'file', pg_relation_filenode(t.oid)::bigint, 'schema', t.nspname, 'table', t.relname, \
           'toast', pg_relation_filenode(nullif(t.reltoastrelid, 0))::bigint, \
           'columns', (SELECT json_agg(json_build_array(a.attname, coalesce(format_type(a.atttypid, a.atttypmod), ''), a.attlen, a.attalign, \
             a.attisdropped, a.atttypid::bigint) ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0), \
           'beside', (SELECT json_agg(json_build_array(s.relname, pg_relation_filenode(s.oid)::bigint, \
             pg_relation_filenode(nullif(s.reltoastrelid, 0))::bigint)) FROM pg_class s WHERE s.relnamespace = t.relnamespace \
             AND s.relkind = 'r' AND (s.relname::text = ANY ({companions}) OR s.relname::text = t.relname::text || '_lock'))) \
         FROM tables t WHERE {any} ORDER BY t.nspname, t.relname LIMIT 1000"
    )
}

fn understand(described: Described, database: &str, wanted: &Wanted) -> Option<HistoryTable> {
    let Described { schema, table, .. } = &described;
    let whole = format!("{schema}.{table}");
    if wanted.table.as_ref().is_some_and(|wanted| wanted != table && *wanted != whole) {
        return None;
    }
    let beside = described.beside.as_deref().unwrap_or_default();
    let standing = described.columns.iter().filter(|column| !column.4);
    let facts = Facts {
        table: table.clone(),
        columns: standing.map(|column| (column.0.clone(), column.1.clone())).collect(),
        rails: beside.iter().any(|(name, _, _)| name == "ar_internal_metadata"),
    };
    // A table and a tool that a person names need not have the name of that tool.
    let said = wanted.tool.as_ref().filter(|_| wanted.table.is_some()).and_then(|id| may_be(id, &facts));
    let Recognised { tool, named } = said.or_else(|| recognise(&facts))?;
    if wanted.tool.as_ref().is_some_and(|id| id != tool.id) {
        return None;
    }
    let file = |number: u32| RelationFile { tablespace: described.tablespace, database: described.database, number };
    let is_companion = |name: &str| tool.companions.iter().any(|pattern| name == pattern.replace('*', table));
    let companions = beside.iter().filter(|(name, _, _)| is_companion(name)).flat_map(|(_, heap, toast)| [*heap, *toast]);
    let companions = companions.chain([described.toast]).flatten().map(file).collect();
    let columns: Vec<Column> = described.columns.iter().map(column).collect();
    let always = columns.iter().filter(|c| c.kind != ValueKind::Other && tool.required.iter().any(|(name, _)| *name == c.name));
    Some(HistoryTable {
        tool,
        named,
        database: database.to_string(),
        schema: schema.clone(),
        table: table.clone(),
        always: always.cloned().collect(),
        watched: Watched { database: described.database, oid: described.oid, file: file(described.file), companions, columns },
        live: None,
    })
}

fn column((name, type_name, length, align, dropped, type_oid): &Attribute) -> Column {
    let text = ["text", "character varying", "character(", "json"].iter().any(|start| type_name.starts_with(start)) && type_name != "jsonb";
    let kind = match type_name.as_str() {
        _ if *dropped || *type_oid >= FIRST_NORMAL || type_name.ends_with("[]") => ValueKind::Other,
        "boolean" => ValueKind::Bool,
        "smallint" | "integer" | "bigint" => ValueKind::Integer,
        _ if text => ValueKind::Text,
        name if name.starts_with("timestamp") => ValueKind::Time,
        _ => ValueKind::Other,
    };
    let align = match align.as_str() {
        "s" => 2,
        "i" => 4,
        "d" => 8,
        _ => 1,
    };
    // The name of a dropped column is none that a tool asks for.
    Column { name: name.clone(), kind, length: *length, align }
}

/// The table with its rows: further pages are asked for only where the first is full.
fn with_rows(door: &Door<'_>, table: HistoryTable) -> HistoryTable {
    let readable: Vec<Column> = table.watched.columns.iter().filter(|column| column.kind != ValueKind::Other).cloned().collect();
    let mut queries = after::queries(&table.schema, &table.table, &readable);
    let rest = queries.split_off(1);
    let ask = |queries: Vec<String>| {
        let replies = door.ask(&table.database, queries)?;
        if let Some(error) = replies.iter().find_map(|reply| reply.error.as_ref()) {
            log::warn!("{}.{} of database {} was not read: {error}", table.schema, table.table, table.database);
            return None;
        }
        Some(replies.into_iter().flat_map(|reply| reply.rows).collect::<Vec<_>>())
    };
    let printed = ask(queries).and_then(|first| {
        let more = if first.len() < after::PAGE { Vec::new() } else { ask(rest)? };
        Some([first, more].concat())
    });
    let spread = |row: Row| -> Row {
        let mut values = row.into_iter();
        let place = |column: &Column| if column.kind == ValueKind::Other { Value::Unread } else { values.next().unwrap_or(Value::Null) };
        table.watched.columns.iter().map(place).collect()
    };
    let live = printed.map(|printed| after::rows(&readable, &printed).into_iter().map(spread).collect());
    HistoryTable { live, ..table }
}
