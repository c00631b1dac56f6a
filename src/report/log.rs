//! `pitr log`: one line a transaction, for people and for programs.
//!
//! Guarantees: what has no name is shown by number; what could not be read is said on standard error.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::layout::counted;
use super::terminal::{escape, human_bytes};
use crate::pg::{Lsn, Timeline};
use crate::plan::loss::Names;
use crate::plan::time::{render_time, rfc3339};
use crate::plan::wal_facts::timestamp;
use crate::run::wal_log::Logged;
use crate::wal::called::Definition;
use crate::wal::log::{Change, Kind, Line};
use crate::wal::{PgTime, Reason};

/// How the question was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Timeline.
    pub timeline: Timeline,
    /// From.
    pub since: Option<Timestamp>,
    /// To.
    pub until: Option<Timestamp>,
}

/// What stands above the lines: how times were understood, what was read, what is missing or left out.
pub fn notes(logged: &Logged, reading: &Reading) -> Vec<String> {
    let mut notes = Vec::new();
    let span: Vec<String> = [("from", reading.since), ("to", reading.until)]
        .into_iter()
        .filter_map(|(word, time)| time.map(|time| format!("{word} {}", render_time(time))))
        .collect();
    let ends = |f: fn(&crate::run::wal_log::Stretch) -> Lsn, last: bool| {
        if last { logged.stretches.last().map(f) } else { logged.stretches.first().map(f) }
    };
    match (ends(|s| s.from, false), ends(|s| s.to, true)) {
        (Some(from), Some(to)) => {
            let span = if span.is_empty() { String::new() } else { format!(", {}", span.join(" ")) };
            notes.push(format!("timeline {}, WAL from {from} to {to}{span}", reading.timeline));
        }
        _ => notes.push(format!("timeline {}: there is no WAL", reading.timeline)),
    }
    for pair in logged.stretches.windows(2) {
        if let [before, after] = pair {
            let why = match before.end.map(|end| end.reason) {
                Some(Reason::MissingSegment) | None => "missing".to_string(),
                Some(reason) => format!("not readable ({reason})"),
            };
            notes.push(format!("WAL from {} to {} is {why}: what committed there is not listed", before.to, after.from));
        }
    }
    if logged.left_out > 0 {
        notes.push(format!("{} left out by --limit", counted(logged.left_out, "older line was", "older lines were")));
    }
    notes
}

/// The line for people: time, xid, LSN, database, what changed, bytes.
pub fn text(line: &Line, names: &Names) -> String {
    let time = line.time.and_then(timestamp).map_or_else(|| " ".repeat(29), render_time);
    let xid = if line.xid == 0 { String::new() } else { line.xid.to_string() };
    let database = if line.database == 0 { String::new() } else { names.database(line.database) };
    let name = line.name.as_deref().unwrap_or_default();
    let what = match line.kind {
        Kind::Committed => committed(line, names),
        Kind::Aborted => "rolled back".into(),
        Kind::Prepared => format!("prepared as {name:?}"),
        Kind::RestorePoint => format!("restore point {name:?}"),
        Kind::Timeline => format!("timeline {} begins", line.timeline),
    };
    let text = format!("{time}  {xid:>9}  {:>12}  {database:<12}  {what}", line.lsn.to_string());
    escape(text.trim_end()).into_owned()
}

fn committed(line: &Line, names: &Names) -> String {
    let mut words: Vec<String> = Vec::new();
    if line.ddl {
        words.push("DDL".into());
    }
    words.extend(line.definitions.iter().map(|definition| defined(definition, names)));
    words.extend(line.relations.iter().filter_map(|change| changed(change, names)));
    if words.is_empty() {
        // Such as ANALYZE, which writes statistics.
        words.push("no table's rows".into());
    }
    if let Some(gid) = &line.name {
        words.push(format!("was prepared as {gid:?}"));
    }
    if line.incomplete {
        words.push("began before the WAL that was read".into());
    }
    words.push(human_bytes(line.bytes));
    words.join("; ")
}

fn defined(definition: &Definition, names: &Names) -> String {
    let what = if definition.dropped { "dropped" } else { "created" };
    format!("{what} {}", definition_name(definition, names))
}

fn definition_name(definition: &Definition, names: &Names) -> String {
    match &definition.what {
        Ok(called) => names.called(called),
        Err(file) => names.words(*file),
    }
}

fn changed(change: &Change, names: &Names) -> Option<String> {
    if system(change, names) {
        return None;
    }
    let rows = change.rows;
    let counts = [(rows.net_inserted(), '+'), (rows.updated, '~'), (rows.deleted, '-')];
    let mut words: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, sign)| format!("{sign}{n}")).collect();
    if change.truncated {
        words.insert(0, "truncated".into());
    }
    (!words.is_empty()).then(|| format!("{} {}", relation(change, names), words.join(" ")))
}

fn relation(change: &Change, names: &Names) -> String {
    names.relation(change.file).map_or_else(|| format!("file {}", change.file.number), |named| named.name.clone())
}

/// TOAST tables and indexes, which come with the tables that they belong to.
fn system(change: &Change, names: &Names) -> bool {
    names.relation(change.file).is_some_and(|named| named.system)
}

/// What a transaction did to relations of users, for programs.
pub fn changes_json(changes: &[Change], names: &Names) -> Vec<Value> {
    let one = |change: &Change| {
        json!({
            "name": relation(change, names),
            "inserted": change.rows.net_inserted(),
            "updated": change.rows.updated,
            "deleted": change.rows.deleted,
            "truncated": change.truncated,
        })
    };
    changes.iter().filter(|change| !system(change, names)).map(one).collect()
}

/// The line for programs.
pub fn json(line: &Line, names: &Names) -> Value {
    let time = |time: PgTime| timestamp(time).map(rfc3339);
    json!({
        "kind": line.kind,
        "xid": (line.xid != 0).then(|| line.xid.to_string()),
        "time": line.time.and_then(time),
        "lsn": line.lsn,
        "timeline": line.timeline,
        "database": (line.database != 0).then(|| names.database(line.database)),
        "ddl": line.ddl,
        "bytes": line.bytes,
        "relations": changes_json(&line.relations, names),
        "definitions": line.definitions.iter().map(|definition| json!({
            "name": definition_name(definition, names),
            "dropped": definition.dropped,
        })).collect::<Vec<_>>(),
        "name": line.name,
        "incomplete": line.incomplete,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schema_check::assert_valid;
    use crate::wal::RelationFile;
    use crate::wal::called::CalledRelation;
    use crate::wal::heap::Rows;
    use crate::wal::names::SeenRelation;

    fn dropped() -> CalledRelation {
        let relation = SeenRelation { schema: 2200, file: 20_001, kind: 'r' };
        CalledRelation { database: 5, oid: 20_001, name: "Orders".into(), relation }
    }

    #[test]
    fn the_document_is_as_its_schema_says() {
        let schema = include_str!("../../docs/schema/log.schema.json");
        let file = RelationFile { tablespace: 1663, database: 5, number: 20_000 };
        let change = Change { file, rows: Rows { inserted: 3, ..Rows::default() }, truncated: true };
        let line = |kind, xid, time| Line {
            kind,
            xid,
            time,
            lsn: Lsn(0x1_0000_0028),
            timeline: Timeline(2),
            database: if xid == 0 { 0 } else { 5 },
            ddl: false,
            bytes: 99,
            relations: vec![change.clone()],
            definitions: vec![Definition { dropped: true, what: Ok(dropped()) }, Definition { dropped: true, what: Err(file) }],
            name: Some("a name".into()),
            incomplete: false,
        };
        let time = Some(PgTime(0));
        for line in [
            line(Kind::Committed, 1 << 40, time),
            line(Kind::Aborted, 9, time),
            line(Kind::Prepared, 9, time),
            line(Kind::RestorePoint, 0, time),
            line(Kind::Timeline, 0, None),
        ] {
            let document = json(&line, &Names::default());
            assert_valid(schema, &document);
            assert_eq!(document["relations"][0]["name"], "file 20000");
            assert_eq!(document["definitions"][0]["name"], "public.\"Orders\"");
            assert_eq!(document["definitions"][1]["name"], "file 20000");
        }
    }
}
