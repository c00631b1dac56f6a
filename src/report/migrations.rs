//! `pitr migrations`: each migration with the commit that begins it, for people and for programs.
//!
//! Guarantees: what the WAL does not tell is said to be unknown; every history table that was found is named.

use serde_json::{Value, json};

use super::layout::Sheet;
use super::log::changes_json;
use crate::migrations::history::{Applied, How, Standing};
use crate::pg::History;
use crate::plan::loss::Names;
use crate::plan::migration::{Known, words};
use crate::plan::time::{render_time, rfc3339};
use crate::plan::wal_facts::timestamp;
use crate::run::wal_log::Stretch;
use crate::wal::acts::Brief;

/// Transactions that are shown of one migration.
const SHOWN: usize = 6;

/// Everything that is listed.
#[derive(Debug, Clone)]
pub struct Document {
    /// What was read, for standard error.
    pub notes: Vec<String>,
    /// The history tables.
    pub known: Vec<Known>,
    /// Their migrations.
    pub listed: Vec<Listed>,
    /// Names of relations.
    pub names: Names,
}

/// One application of a migration.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Which of the tables.
    pub table: usize,
    /// What is known.
    pub applied: Applied,
    /// The backup from which a recovery to before it would start.
    pub backup: Option<String>,
}

/// What was read, and what of it says nothing.
pub fn notes(stretches: &[Stretch], history: &History, known: &[Known]) -> Vec<String> {
    let mut notes = Vec::new();
    if let (Some(first), Some(last)) = (stretches.first(), stretches.last()) {
        notes.push(format!("timeline {}, WAL from {} to {}", history.timeline, first.from, last.to));
    }
    for pair in stretches.windows(2) {
        if let [before, after] = pair {
            notes.push(format!("WAL from {} to {} is missing: what was migrated there is not told", before.to, after.from));
        }
    }
    for table in known.iter().filter(|table| table.told.unread > 0) {
        notes.push(format!(
            "{} changes of {} could not be read: their earlier versions are not in the WAL",
            table.told.unread,
            table.place()
        ));
    }
    notes
}

/// The page.
pub fn text(document: &Document, width: usize) -> String {
    let mut sheet = Sheet::new(width);
    if document.known.is_empty() {
        sheet.plain("No history table of a known migration tool is in any database.");
        return sheet.finish();
    }
    for (index, known) in document.known.iter().enumerate() {
        if index > 0 {
            sheet.gap();
        }
        let renamed = if known.named { "" } else { "  (known by its columns; not a name that the tool gives by itself)" };
        sheet.plain(&format!("{}  {}  database {}  {}{renamed}", known.tool.name, known.place(), known.database, known.tool.class.word()));
        for listed in document.listed.iter().filter(|listed| listed.table == index) {
            migration(&mut sheet, known, listed, &document.names);
        }
        if known.told.applied.is_empty() {
            sheet.plain("  nothing applied");
        }
    }
    sheet.finish()
}

fn migration(sheet: &mut Sheet, known: &Known, listed: &Listed, names: &Names) {
    let applied = &listed.applied;
    let name = applied.mark.name.as_ref().map(|name| format!("  {name}")).unwrap_or_default();
    let planned = known.planned_of(&applied.mark);
    let name = planned.filter(|_| applied.mark.name.is_none()).map_or(name, |planned| format!("  {}", planned.name));
    let standing = match applied.standing {
        Standing::Applied => "",
        Standing::Reverted => "  (taken back since)",
        Standing::Unfinished => "  (begun and not finished)",
        Standing::Failed => "  (failed)",
    };
    sheet.line("", &format!("{}{name}{standing}", applied.mark.version));
    if let Some(begin) = &applied.begin {
        let time = timestamp(begin.time).map_or_else(|| "at an unknown time".into(), render_time);
        sheet.more(2, &format!("begins with xid {}  {time}  {}", begin.xid, begin.lsn));
    }
    match &applied.how {
        How::Unseen => sheet.more(2, "applied before the WAL that is there"),
        How::WithoutWork(why) => sheet.more(2, &format!("no work behind it: {why}")),
        How::Undecided(candidates) => {
            sheet.more(2, "the WAL does not tell where it begins; one of these may be it:");
            for brief in candidates.iter().rev().take(SHOWN).rev() {
                sheet.more(4, &format!("xid {}  {}", brief.xid, words(brief, names)));
            }
        }
        How::Mark | How::Before | How::Together => {}
    }
    if !applied.with.is_empty() {
        sheet.more(2, &format!("in one transaction with {}", applied.with.join(", ")));
    }
    let own = applied.begin.iter().filter(|_| applied.how == How::Together);
    for brief in own.chain(applied.belongs.iter().filter(|_| applied.how != How::Together)).take(SHOWN) {
        sheet.more(4, &format!("xid {}  {}", brief.xid, words(brief, names)));
    }
    if applied.belongs.len() > SHOWN {
        sheet.more(4, &format!("and {} more", applied.belongs.len() - SHOWN));
    }
    match (&listed.backup, &applied.begin) {
        (Some(backup), _) => sheet.more(2, &format!("recovery before it: from backup {backup}")),
        (None, Some(_)) => sheet.more(2, "recovery before it: no backup reaches it"),
        (None, None) => {}
    }
    match planned.and_then(|planned| planned.way_back) {
        Some(true) => sheet.more(2, "has a way back of its own"),
        Some(false) => sheet.more(2, "irreversible: it has no way back of its own"),
        None => {}
    }
}

/// The document.
pub fn json(document: &Document) -> Value {
    let listed =
        document.listed.iter().filter_map(|listed| Some(migration_json(document.known.get(listed.table)?, listed, &document.names)));
    json!({
        "schema": 1,
        "tables": document.known.iter().map(table_json).collect::<Vec<_>>(),
        "migrations": listed.collect::<Vec<_>>(),
    })
}

fn table_json(known: &Known) -> Value {
    let pending = known.planned.as_ref().map(|planned| {
        let applied = |planned: &&crate::migrations::files::Planned| {
            !known.told.applied.iter().any(|applied| applied.standing == Standing::Applied && planned.is(known.tool, &applied.mark))
        };
        planned.iter().filter(applied).map(|planned| planned.name.clone()).collect::<Vec<_>>()
    });
    json!({
        "tool": known.tool.id,
        "database": known.database,
        "table": known.place(),
        "class": known.tool.class.word(),
        "named": known.named,
        "pending": pending,
    })
}

fn migration_json(known: &Known, listed: &Listed, names: &Names) -> Value {
    let applied = &listed.applied;
    let begin = applied.begin.as_ref();
    let planned = known.planned_of(&applied.mark);
    let (how, why) = match &applied.how {
        How::Together => ("together", None),
        How::Mark => ("mark", None),
        How::Before => ("before-row", None),
        How::Undecided(_) => ("undecided", None),
        How::WithoutWork(why) => ("without-work", Some(why.clone())),
        How::Unseen => ("not-in-wal", None),
    };
    let candidates = match &applied.how {
        How::Undecided(candidates) => candidates.as_slice(),
        _ => &[],
    };
    let belongs: Vec<&Brief> = begin.filter(|_| applied.how == How::Together).into_iter().chain(&applied.belongs).collect();
    json!({
        "tool": known.tool.id,
        "database": known.database,
        "table": known.place(),
        "version": known.version_of(&applied.mark),
        "name": applied.mark.name.clone().or_else(|| planned.map(|planned| planned.name.clone())),
        "xid": begin.map(|brief| brief.xid.to_string()),
        "lsn": begin.map(|brief| brief.lsn),
        "time": begin.and_then(|brief| timestamp(brief.time)).map(rfc3339),
        "class": known.tool.class.word(),
        "how": how,
        "why": why,
        "standing": match applied.standing {
            Standing::Applied => "applied",
            Standing::Reverted => "reverted",
            Standing::Unfinished => "unfinished",
            Standing::Failed => "failed",
        },
        "with": applied.with,
        "recorded": applied.recorded.as_ref().map(|brief| brief_json(brief, names)),
        "transactions": belongs.into_iter().map(|brief| brief_json(brief, names)).collect::<Vec<_>>(),
        "candidates": candidates.iter().map(|brief| brief_json(brief, names)).collect::<Vec<_>>(),
        "recoverable": listed.backup.is_some(),
        "backup": listed.backup,
        "reversible": planned.and_then(|planned| planned.way_back),
    })
}

fn brief_json(brief: &Brief, names: &Names) -> Value {
    json!({
        "xid": brief.xid.to_string(),
        "lsn": brief.lsn,
        "time": timestamp(brief.time).map(rfc3339),
        "ddl": brief.ddl,
        "relations": changes_json(&brief.relations, names),
    })
}

#[cfg(test)]
#[path = "migrations_tests.rs"]
mod tests;
