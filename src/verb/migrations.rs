//! `migrations`: what each migration tool applied, and the commit that begins each; and the same for `--before-migration`.

use std::collections::BTreeSet;

use crate::cli::{MigrationFlags, MigrationsArgs};
use crate::error::{Error, Kind, Result};
use crate::migrations::files::{Listing, planned};
use crate::migrations::history::{How, trace};
use crate::observe::discover;
use crate::observe::histories::{HistoryTable, Wanted, history_tables};
use crate::observe::host::{Observed, Where, observe};
use crate::observe::migration_files;
use crate::pg::History;
use crate::plan::backup;
use crate::plan::loss::Names;
use crate::plan::migration::{Aim, Known, aim};
use crate::plan::target::TimelineRequest;
use crate::report::migrations::{self as page, Document, Listed};
use crate::report::terminal::Out;
use crate::run::owner::Task;
use crate::run::reading::ChainRequest;
use crate::run::wal_rows::{RowsFound, RowsRequest};
use crate::verb::log::{Ground, history};
use crate::verb::{Context, act};
use crate::wal::acts::{Act, Watched};

/// `pitr migrations`.
pub fn run(context: &Context, args: &MigrationsArgs) -> Result<u8> {
    let found = discover::choose(&context.config, context.global.cluster.as_deref())?;
    let observed = observe(&context.config, &found, &Where::default())?;
    let user = found.config.bootstrap_role();
    let wanted = wanted(&args.which, args.database.clone());
    let read = read(context, observed, user, &args.which, &wanted, args.timeline)?;
    let document = document(&read);
    for note in &document.notes {
        if !context.global.quiet {
            Out::stderr().line(note);
        }
    }
    if context.json() {
        act::print_json(&page::json(&document))?;
    } else {
        act::print_text(&page::text(&document, context.width()))?;
    }
    Ok(0)
}

/// The migration that `typed` means on this cluster; refused where that is not one, or not known.
pub fn aim_before(
    context: &Context,
    observed: &Observed,
    user: String,
    typed: &str,
    flags: &MigrationFlags,
    database: Option<String>,
    timeline: TimelineRequest,
) -> Result<Aim> {
    let everywhere = read(context, observed.clone(), user, flags, &wanted(flags, None), Some(timeline))?;
    let result = aim(&everywhere.known, typed, &everywhere.names);
    // The configured database is what is meant where others know such a version too.
    match (result, database) {
        (Err(error), Some(database)) if error.id.as_deref() == Some("migration-ambiguous") => {
            let here: Vec<Known> = everywhere.known.into_iter().filter(|known| known.database == database).collect();
            if here.is_empty() { Err(error) } else { aim(&here, typed, &everywhere.names) }
        }
        (result, _) => result,
    }
}

fn wanted(flags: &MigrationFlags, database: Option<String>) -> Wanted {
    Wanted { tool: flags.tool.clone(), table: flags.history_table.clone(), database }
}

/// Everything that is known of migrations.
struct Read {
    known: Vec<Known>,
    names: Names,
    ground: Ground,
    history: History,
    found: RowsFound,
}

fn read(
    context: &Context,
    observed: Observed,
    user: String,
    flags: &MigrationFlags,
    wanted: &Wanted,
    timeline: Option<TimelineRequest>,
) -> Result<Read> {
    let ground = Ground::of(observed, user);
    let Some(door) = ground.door() else {
        return Err(Error::new(Kind::Refused, "the cluster does not serve: its catalogs tell where migrations are recorded")
            .hint("Start it first. Without it: pitr log --ddl shows what changed definitions; then --before-xid or --before-lsn.")
            .id("no-catalog"));
    };
    let door = door?;
    let tables = history_tables(&door, wanted)?;
    let listing = flags.dir.as_deref().map(migration_files::listing).transpose()?;
    let history = history(&ground, timeline)?;
    let segments = ground.segments(&history);
    let chain = ChainRequest { segments, history: history.clone(), identity: ground.identity };
    let watched: Vec<Watched> = tables.iter().map(|table| table.watched.clone()).collect();
    let found: RowsFound = if tables.is_empty() {
        RowsFound { acts: Vec::new(), stretches: Vec::new() }
    } else {
        let task = |index| {
            let (chain, tables) = (chain.clone(), watched.clone());
            Task::WalRows(Box::new(RowsRequest { chain, next_xid: ground.next_xid, tables, index }))
        };
        ground.read(context, task).map_err(|error| error.with_kind(Kind::Refused))?
    };
    let known: Vec<Known> = tables
        .into_iter()
        .enumerate()
        .map(|(index, table)| told(table, found.acts.get(index).map_or(&[], Vec::as_slice), listing.as_ref()))
        .collect();
    let names = door.names(&files(&known));
    drop(door);
    Ok(Read { known, names, ground, history, found })
}

fn told(table: HistoryTable, acts: &[Act], listing: Option<&Listing>) -> Known {
    let told = trace(table.tool, &table.watched.columns, acts, table.live.as_deref());
    Known {
        planned: listing.map(|listing| planned(table.tool, listing)),
        tool: table.tool,
        named: table.named,
        database: table.database,
        schema: table.schema,
        table: table.table,
        columns: table.always,
        told,
    }
}

/// Files whose names are to be shown.
fn files(known: &[Known]) -> BTreeSet<crate::wal::RelationFile> {
    let applied = known.iter().flat_map(|known| &known.told.applied);
    let briefs = applied.flat_map(|applied| {
        let candidates = match &applied.how {
            How::Undecided(candidates) => candidates.as_slice(),
            _ => &[],
        };
        applied.begin.iter().chain(&applied.belongs).chain(candidates)
    });
    briefs.flat_map(|brief| &brief.relations).map(|change| change.file).collect()
}

fn document(read: &Read) -> Document {
    let host = read.ground.observed.as_ref().map(|observed| &observed.host);
    let backup = |lsn| host.and_then(|host| backup::before(host, &read.history, lsn)).map(|choice| choice.entry.name);
    let mut listed: Vec<Listed> = Vec::new();
    for (table, known) in read.known.iter().enumerate() {
        listed.extend(known.told.applied.iter().map(|applied| Listed {
            table,
            applied: applied.clone(),
            backup: applied.lsn().and_then(backup),
        }));
    }
    Document {
        notes: page::notes(&read.found.stretches, &read.history, &read.known),
        known: read.known.clone(),
        listed,
        names: read.names.clone(),
    }
}
