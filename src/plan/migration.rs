//! From a version that a person typed to the commit that a recovery has to exclude, and what is to be said of it. Pure.

use std::collections::BTreeSet;

use super::loss::Names;
use super::planned::Reason;
use super::recovery::Consequence;
use super::target::MigrationTarget;
use super::time::render_time;
use super::wal_facts::timestamp;
use crate::error::{Error, Kind};
use crate::migrations::after::Goal;
use crate::migrations::files::Planned;
use crate::migrations::history::{Applied, How, Standing, Told};
use crate::migrations::reading::Mark;
use crate::migrations::{Tool, version};
use crate::pg::Lsn;
use crate::wal::acts::Brief;
use crate::wal::tuple::Column;

/// A history table and what is known of it.
#[derive(Debug, Clone)]
pub struct Known {
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
    /// Columns that every version of the tool has.
    pub columns: Vec<Column>,
    /// Its migrations.
    pub told: Told,
    /// What the tool's directory holds, where one was given.
    pub planned: Option<Vec<Planned>>,
}

impl Known {
    /// `schema.table`.
    pub fn place(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// What the tool's directory says of a row.
    pub fn planned_of(&self, mark: &Mark) -> Option<&Planned> {
        self.planned.iter().flatten().find(|planned| planned.is(self.tool, mark))
    }

    /// A migration's version as its users call it: what the directory calls it, where a row tells only a time.
    pub fn version_of(&self, mark: &Mark) -> String {
        match self.planned_of(mark) {
            Some(planned) if self.tool.id == "drizzle" => planned.name.clone(),
            _ => mark.version.clone(),
        }
    }

    /// Rows with the words that the directory has for them.
    fn marks(&self) -> Vec<Mark> {
        let with = |applied: &Applied| {
            let mut mark = applied.mark.clone();
            if let Some(planned) = self.planned_of(&mark) {
                mark.aliases.extend(planned.words.iter().cloned());
                mark.aliases.push(planned.name.clone());
            }
            mark
        };
        self.told.applied.iter().map(with).collect()
    }
}

/// Where a recovery aims, with what follows from its being a migration.
#[derive(Debug, Clone, PartialEq)]
pub struct Aim {
    /// The target.
    pub target: MigrationTarget,
    /// What must be found afterwards.
    pub goal: Goal,
    /// What a person should know.
    pub consequences: Vec<Consequence>,
    /// Other ways.
    pub alternatives: Vec<String>,
    /// What speaks against it.
    pub reasons: Vec<Reason>,
    /// How many commits it consists of, as far as the WAL tells them apart from others'.
    pub commits: u64,
    /// Those that did its work, not only wrote the tool's row.
    pub work: Vec<Brief>,
}

/// The migration that `typed` means.
///
/// # Errors
/// A refusal where it means none, more than one, or one whose beginning the WAL does not tell.
pub fn aim(known: &[Known], typed: &str, names: &Names) -> Result<Aim, Error> {
    let (table, index) = choose(known, typed)?;
    let applied = table.told.applied.get(index).ok_or_else(|| not_found(known, typed))?;
    let label = format!("{} {}", table.tool.name, table.version_of(&applied.mark));
    let begin = match (&applied.how, &applied.begin) {
        (How::Undecided(candidates), _) => return Err(undecided(&label, candidates, names)),
        (_, Some(begin)) => begin.clone(),
        (_, None) => {
            return Err(refused("migration-not-in-wal", format!("migration {label} was applied before the WAL that is there"))
                .hint("Add older WAL: --wal DIR. pitr migrations shows which migrations can be gone back to."));
        }
    };
    let target = MigrationTarget {
        version: typed.to_string(),
        tool: table.tool.name.into(),
        database: table.database.clone(),
        table: table.place(),
        lsn: begin.lsn,
    };
    let discarded = discarded(table, begin.lsn, &applied.mark);
    let goal = Goal {
        tool: table.tool.id.into(),
        database: table.database.clone(),
        schema: table.schema.clone(),
        table: table.table.clone(),
        columns: table.columns.clone(),
        version: table.version_of(&applied.mark),
        keys: discarded.iter().map(|mark| mark.key.clone()).collect(),
        pending: discarded.iter().map(|mark| table.version_of(mark)).collect(),
    };
    let consequences = consequences(table, applied, &goal);
    let (commits, work) = (commits(applied), work(applied));
    let mut aim = Aim { target, consequences, alternatives: Vec::new(), reasons: Vec::new(), goal, commits, work };
    aim.alternatives.extend(way_back(table, applied));
    aim.alternatives.extend(earlier(table, index, names));
    if let How::WithoutWork(why) = &applied.how {
        aim.reasons.push(Reason::judgement(
            "migration-without-work",
            format!("no work of migration {label} is in the WAL: {why}"),
            "If its work was done at another time, find it: pitr log --ddl. To go to before its row all the same: --accept migration-without-work.",
        ));
    }
    Ok(aim)
}

/// From the commit that began it to the one that recorded it, each once.
fn commits(applied: &Applied) -> u64 {
    let own = applied.begin.iter().chain(&applied.belongs).chain(&applied.recorded);
    own.map(|brief| brief.lsn).collect::<BTreeSet<_>>().len() as u64
}

fn work(applied: &Applied) -> Vec<Brief> {
    applied.begin.iter().filter(|_| applied.how == How::Together).chain(&applied.belongs).cloned().collect()
}

/// The table and the newest application of the one migration that `typed` means.
fn choose<'a>(known: &'a [Known], typed: &str) -> Result<(&'a Known, usize), Error> {
    if known.is_empty() {
        return Err(refused("no-history-table", "no history table of a known migration tool is in any database".to_string())
            .hint("If the tool was told to use another table: --tool TOOL --history-table schema.table. pitr log --ddl shows what changed definitions."));
    }
    let mut fits: Vec<(&Known, Vec<usize>)> = Vec::new();
    for table in known {
        let marks = table.marks();
        let found = version::find(table.tool, typed, marks.iter());
        if !found.is_empty() {
            fits.push((table, found));
        }
    }
    let (table, found) = match fits.as_slice() {
        [] => return Err(not_found(known, typed)),
        [(table, found)] => (*table, found),
        several => {
            let places: Vec<String> = several.iter().map(|(table, _)| words_of_table(table)).collect();
            return Err(refused(
                "migration-ambiguous",
                format!("migration {typed} is in more than one history table: {}", places.join("; ")),
            )
            .hint("Say which one: --tool TOOL, --history-table schema.table (and `database` in the configuration)."));
        }
    };
    let mut keys: Vec<&str> =
        found.iter().filter_map(|index| table.told.applied.get(*index)).map(|applied| applied.mark.version.as_str()).collect();
    keys.dedup();
    if keys.iter().any(|key| Some(key) != keys.first()) {
        keys.sort_unstable();
        keys.dedup();
        return Err(refused("migration-ambiguous", format!("{typed} is the beginning of more than one migration of {}", table.tool.name))
            .hint(format!("Write one of them in full: {}.", keys.join(", "))));
    }
    let newest = found.iter().copied().max().ok_or_else(|| not_found(known, typed))?;
    Ok((table, newest))
}

fn words_of_table(table: &Known) -> String {
    format!("{} in {} of database {}", table.tool.id, table.place(), table.database)
}

fn not_found(known: &[Known], typed: &str) -> Error {
    let all: Vec<Mark> = known.iter().flat_map(Known::marks).collect();
    let near = version::nearest(typed, all.iter(), 3);
    let places: Vec<String> = known.iter().map(words_of_table).collect();
    let near = if near.is_empty() { String::new() } else { format!("The nearest are: {}. ", near.join(", ")) };
    refused("migration-not-found", format!("no migration {typed} is recorded ({})", places.join("; ")))
        .hint(format!("{near}pitr migrations lists all; with --dir DIR also by the names of the tool's files."))
}

fn undecided(label: &str, candidates: &[Brief], names: &Names) -> Error {
    let list: Vec<String> =
        candidates.iter().rev().take(12).rev().map(|brief| format!("--before-xid {} ({})", brief.xid, words(brief, names))).collect();
    let hint = if list.is_empty() {
        "Look what committed before it: pitr log, then --before-xid.".to_string()
    } else {
        format!("One of these may be its beginning: {}.", list.join("; "))
    };
    refused(
        "migration-undecided",
        format!("the WAL does not tell which transactions belong to migration {label}: its row was written by itself, after the work"),
    )
    .hint(hint)
}

fn refused(id: &str, what: String) -> Error {
    Error::new(Kind::Refused, what).id(id)
}

/// What a transaction was, in a few words.
pub fn words(brief: &Brief, names: &Names) -> String {
    let time = timestamp(brief.time).map_or_else(|| "at an unknown time".into(), render_time);
    let mut parts = vec![time];
    if brief.ddl {
        parts.push("changed definitions".into());
    }
    parts.extend(brief.relations.iter().filter_map(|change| {
        let named = names.relation(change.file);
        if named.is_some_and(|named| named.system) {
            return None;
        }
        let name = named.map_or_else(|| format!("file {}", change.file.number), |named| named.name.clone());
        let rows = change.rows;
        let counts = [(rows.net_inserted(), '+'), (rows.updated, '~'), (rows.deleted, '-')];
        let counts: Vec<String> = counts.iter().filter(|(count, _)| *count > 0).map(|(count, sign)| format!("{sign}{count}")).collect();
        Some(format!("{name} {}", if change.truncated { "truncated".to_string() } else { counts.join(" ") }))
    }));
    parts.join(", ")
}

/// Migrations that are not there before `lsn` and are applied after it, the asked one among them.
fn discarded(table: &Known, lsn: Lsn, asked: &Mark) -> Vec<Mark> {
    let place = |applied: &Applied| applied.lsn().or(applied.recorded.as_ref().map(|brief| brief.lsn));
    let mut found: Vec<Mark> = Vec::new();
    for applied in table.told.applied.iter().filter(|applied| place(applied).is_some_and(|place| place >= lsn)) {
        let before =
            table.told.applied.iter().any(|other| other.mark.key == applied.mark.key && place(other).is_none_or(|place| place < lsn));
        let is_asked = applied.mark.key == asked.key;
        if (is_asked || !before) && !found.iter().any(|mark| mark.key == applied.mark.key) {
            found.push(applied.mark.clone());
        }
    }
    found
}

fn consequences(table: &Known, applied: &Applied, goal: &Goal) -> Vec<Consequence> {
    let tool = table.tool.name;
    let mut all = Vec::new();
    let mut add = |id: &str, text: String| all.push(Consequence { id: id.into(), text });
    match &applied.how {
        How::Mark => add(
            "migration-begin",
            format!("stops before the commit in which {tool} marked the migration as begun: it will find a clean state"),
        ),
        How::Before => {
            let count = applied.belongs.len();
            let row = applied
                .recorded
                .as_ref()
                .and_then(|brief| timestamp(brief.time))
                .map_or_else(String::new, |time| format!(" ({})", render_time(time)));
            let text = format!(
                "{tool} commits its row{row} after the work: stops before the first of {count} commits that changed definitions since the row before it"
            );
            add("migration-begin", text);
        }
        _ => {}
    }
    if !applied.with.is_empty() {
        add("migration-batch", format!("{tool} committed it together with {}: these go with it", applied.with.join(", ")));
    }
    if applied.standing == Standing::Reverted {
        add("migration-reverted", format!("{tool} has taken this migration back since"));
    }
    let files = match table.planned.as_deref() {
        Some(planned) => not_there(table, planned, goal),
        None => goal.pending.clone(),
    };
    add(
        "migrations-pending",
        format!("{tool} will call {} pending; an application that migrates when it starts applies them again", listed(&files)),
    );
    if table.tool.id == "drizzle" {
        add(
            "migration-files",
            format!("meta/_journal.json of the application still lists {}: take them out, or migrate applies them again", listed(&files)),
        );
    }
    all
}

/// Migrations of the directory that are not applied after the recovery.
fn not_there(table: &Known, planned: &[Planned], goal: &Goal) -> Vec<String> {
    let stays = |planned: &&Planned| {
        let mut rows = table.told.applied.iter().filter(|applied| applied.standing == Standing::Applied);
        !rows.any(|applied| planned.is(table.tool, &applied.mark) && !goal.keys.contains(&applied.mark.key))
    };
    let one_row = goal.pending.clone();
    let found: Vec<String> = planned.iter().filter(stays).map(|planned| planned.name.clone()).collect();
    // A table of one row does not tell of those before it.
    if matches!(table.tool.class, crate::migrations::Class::OneRow | crate::migrations::Class::OneRowBracket) { one_row } else { found }
}

fn listed(list: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<&str> = list.iter().take(SHOWN).map(String::as_str).collect();
    let more = list.len().saturating_sub(SHOWN);
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

fn way_back(table: &Known, applied: &Applied) -> Option<String> {
    let planned = table.planned_of(&applied.mark)?;
    match planned.way_back? {
        true => Some(format!("{} has a way back of its own: this migration can be reverted without a recovery", planned.name)),
        false => Some(format!("{} has no way back of its own: without a recovery it is irreversible", planned.name)),
    }
}

/// Earlier applications of the same migration.
fn earlier(table: &Known, index: usize, names: &Names) -> Vec<String> {
    let Some(chosen) = table.told.applied.get(index) else { return Vec::new() };
    let others = table.told.applied.iter().take(index).filter(|applied| applied.mark.version == chosen.mark.version);
    let one = |applied: &Applied| {
        let begin = applied.begin.as_ref()?;
        Some(format!("it was applied before as well: --before-lsn {} ({})", begin.lsn, words(begin, names)))
    };
    others.filter_map(one).collect()
}
