//! `log`: what committed when, and what it changed, from archive and pg_wal, whether or not a backup reaches it.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;

use crate::cli::LogArgs;
use crate::config::duration::parse_duration;
use crate::error::{Error, Kind, Result};
use crate::host::Owner;
use crate::observe::discover::{self, owner_of};
use crate::observe::host::{Observed, Where, observe};
use crate::observe::names::Door;
use crate::pg::Timeline;
use crate::pg::history::History;
use crate::plan::aim;
use crate::plan::chain;
use crate::plan::facts::{Server, WalKind, WalSource};
use crate::plan::loss::Names;
use crate::plan::recovery::Trusted;
use crate::plan::target::TimelineRequest;
use crate::plan::time::parse_time;
use crate::report::log::{self as page, Reading};
use crate::report::terminal::Out;
use crate::run::owner::{self, Task};
use crate::run::reading::{ChainRequest, Segment};
use crate::run::segments::Indexed;
use crate::run::sources::Directories;
use crate::run::tail::WalIdentity;
use crate::run::vault::Vault;
use crate::run::wal_log::{LogRequest, Logged};
use crate::store::index::Index;
use crate::verb::Context;
use crate::wal::PgTime;
use crate::wal::called::Wanted;
use crate::wal::log::{Filter, Relations};

/// Around a time.
const AROUND: SignedDuration = SignedDuration::from_mins(5);

/// Where WAL is read.
pub struct Ground {
    /// Who reads it.
    pub owner: Owner,
    /// Whose WAL it is.
    pub identity: WalIdentity,
    /// What there is.
    pub wal: Vec<WalSource>,
    directories: Directories,
    /// What root opens for the reader.
    pub trusted: Trusted,
    current: Option<Timeline>,
    /// A full transaction id near the WAL.
    pub next_xid: u64,
    /// Data directory and bootstrap role of a cluster that serves.
    serving: Option<(PathBuf, String)>,
    /// The cluster, if there is one.
    pub observed: Option<Observed>,
}

impl Ground {
    /// The cluster's archive and pg_wal, or these directories alone.
    pub fn find(context: &Context, directories: &[PathBuf]) -> Result<Ground> {
        if directories.is_empty() { of_cluster(context) } else { of_directories(directories) }
    }

    /// The path under which the reader opens a directory of WAL.
    pub fn open_path(&self, directory: &Path) -> PathBuf {
        self.directories.open_path(directory)
    }

    /// One copy of every segment on the history.
    pub fn segments(&self, history: &History) -> Vec<Segment> {
        let size = self.identity.segment_size;
        let copies = chain::readable(&self.wal);
        let of_history = copies.iter().filter(|(name, _)| history.timeline_of_segment(name.number, size) == name.timeline);
        let mut list: Vec<Segment> = of_history
            .filter_map(|(name, copies)| copies.first().map(|c| (*name, self.directories.open_path(&c.directory), c.file.clone())))
            .collect();
        list.sort_by_key(|(name, _, _)| name.number);
        list
    }
}

impl Ground {
    /// Has the owner's child read WAL, and keeps what it finds out about segments; without an index where none can be.
    pub fn read<T: DeserializeOwned>(&self, context: &Context, task: impl Fn(Option<Indexed>) -> Task) -> Result<T> {
        let index =
            Index::open(&context.config.state_directory, &self.owner).inspect_err(|e| log::info!("nothing is kept of the WAL: {e}"));
        let Ok(index) = index else { return owner::call_trusting(&self.owner, None, &self.trusted, task(None)) };
        let vault = Vault::of(&self.trusted).with_index(Some(index.clone()));
        let listed = self.listed();
        owner::call_keeping(&self.owner, vault, task(Some(self.indexed())), &mut |kept| {
            if listed.contains(&(kept.directory.as_path(), kept.file.as_str()))
                && let Err(error) = index.keep(kept.entry, &kept.directory, &kept.file, &kept.bytes)
            {
                log::info!("not kept: {error}");
            }
        })
        .inspect(|_| self.forget(&index))
    }

    /// Directories that the reader opens under another name than the one they are listed under: WAL of earlier runs.
    fn indexed(&self) -> Indexed {
        let named = |source: &WalSource| (self.open_path(&source.directory), source.directory.clone());
        self.wal.iter().map(named).filter(|(open, listed)| open != listed).collect()
    }

    /// Directories and files of which something may be kept: what the owner's child says of others is not.
    fn listed(&self) -> HashSet<(&Path, &str)> {
        let files = |source: &WalSource| source.segments.len();
        let mut listed = HashSet::with_capacity(self.wal.iter().map(files).sum());
        for source in &self.wal {
            listed.extend(source.segments.iter().map(|segment| (source.directory.as_path(), segment.file.as_str())));
        }
        listed
    }

    /// Summaries of files that are gone are not kept.
    fn forget(&self, index: &Index) {
        for source in self.wal.iter().filter(|source| source.problem.is_none()) {
            let there: BTreeSet<&str> = source.segments.iter().map(|segment| segment.file.as_str()).collect();
            if let Err(error) = index.prune(&source.directory, |file| there.contains(file)) {
                log::info!("index of {}: {error}", source.directory.display());
            }
        }
    }
}

/// `pitr log`.
pub fn run(context: &Context, args: &LogArgs) -> Result<u8> {
    let (since, until) = span(args, Timestamp::now(), &TimeZone::system())?;
    let ground = Ground::find(context, &args.wal)?;
    let door = ground.door().and_then(Result::ok);
    let mut names = door.as_ref().map(|door| door.names(&BTreeSet::new())).unwrap_or_default();
    let database = args.database.as_deref().map(|name| database_of(name, &names)).transpose()?;
    let relations = args.relation.as_deref().map(|name| relation_of(name, database, door.as_ref(), &names)).transpose()?;
    let micros = |time: Timestamp| PgTime::from_unix_micros(time.as_microsecond());
    let filter = Filter {
        since: since.map(micros),
        until: until.map(micros),
        xid: args.xid,
        database,
        relations,
        ddl: args.ddl,
        deletes: args.deletes,
        point: None,
        limit: args.limit,
    };
    let history = history(&ground, args.timeline)?;
    let segments = ground.segments(&history);
    let reading = Reading { timeline: history.timeline, since, until };
    let chain = ChainRequest { segments, history, identity: ground.identity };
    let logged: Logged = ground.read(context, |index| {
        Task::LogWal(Box::new(LogRequest { chain: chain.clone(), next_xid: ground.next_xid, filter: filter.clone(), index }))
    })?;
    if let Some(name) = args.relation.as_deref().filter(|_| logged.unknown) {
        return Err(Error::usage(format!("no relation {name} is in the catalogs now, and the WAL tells of none"))
            .hint("Give its number: pitr log --ddl shows what was defined, then -t OID or file number."));
    }
    complete(&mut names, &logged, door.as_ref());
    let mut notes = Out::stderr();
    for note in page::notes(&logged, &reading) {
        if !context.global.quiet {
            notes.line(&note);
        }
    }
    let mut out = Out::stdout();
    for line in &logged.lines {
        if context.json() {
            out.json(&page::json(line, &names))?;
        } else {
            out.line(&page::text(line, &names));
        }
    }
    out.finish()?;
    Ok(0)
}

/// Names of the relations that are shown: of the catalogs, and of the WAL for what these have no longer.
fn complete(names: &mut Names, logged: &Logged, door: Option<&Door<'_>>) {
    let defined = || logged.lines.iter().flat_map(|line| &line.definitions).filter_map(|definition| definition.what.as_ref().ok());
    if let Some(door) = door {
        let files = logged.lines.iter().flat_map(|line| &line.relations).map(|change| change.file);
        *names = door.names(&files.filter(|file| !file.is_catalog()).collect());
        let databases = logged.named.iter().chain(defined()).map(|called| called.database).collect();
        names.schemas = door.schemas(&databases, names);
    }
    let of_wal =
        logged.schemas.iter().filter(|(database, oid, _)| !names.schemas.iter().any(|known| (known.0, known.1) == (*database, *oid)));
    let of_wal: Vec<_> = of_wal.cloned().collect();
    names.schemas.extend(of_wal);
    for called in &logged.named {
        names.add(called);
    }
}

fn of_cluster(context: &Context) -> Result<Ground> {
    let found = discover::choose(&context.config, context.global.cluster.as_deref())?;
    let observed = observe(&context.config, &found, &Where::default())?;
    let user = found.config.bootstrap_role();
    Ok(Ground::of(observed, user))
}

impl Ground {
    /// What was observed of a cluster whose bootstrap role is `user`.
    pub fn of(observed: Observed, user: String) -> Ground {
        let cluster = &observed.host.cluster;
        let control = &cluster.control_file;
        Ground {
            owner: cluster.owner.clone(),
            identity: WalIdentity {
                major: cluster.major,
                system_identifier: control.system_identifier,
                segment_size: control.segment_size,
            },
            directories: Directories::default().with_others(&observed.other_wal),
            trusted: observed.trusted.clone(),
            wal: observed.host.wal.clone(),
            current: Some(control.timeline),
            next_xid: control.next_xid,
            serving: matches!(cluster.server, Server::Serving { .. }).then(|| (cluster.data_directory.clone(), user)),
            observed: Some(observed),
        }
    }

    /// The door of the server, where one serves.
    pub fn door(&self) -> Option<Result<Door<'_>>> {
        let (data, user) = self.serving.as_ref()?;
        Some(Door::find(&self.owner, data, user, self.identity.system_identifier))
    }
}

/// Directories alone: read as the user who owns the first of them, or where that is root as PostgreSQL's.
fn of_directories(named: &[PathBuf]) -> Result<Ground> {
    let refused = |error: Error| error.with_kind(Kind::Refused);
    let first = named.first().map(PathBuf::as_path).unwrap_or(Path::new("/"));
    let owner = reader_of(first)?;
    let identity: WalIdentity = owner::call(&owner, None, Task::ProbeWal { directory: first.to_path_buf() }).map_err(refused)?;
    let directories = named.iter().fold(Directories::default(), |all, path| all.with(path, WalKind::Archive));
    let wal = directories.list(&owner, None, &Trusted::default(), identity)?;
    if let Some(problem) = wal.iter().find_map(|source| source.problem.as_ref()) {
        return Err(Error::new(Kind::Refused, "read WAL").cause(problem).hint("Name a directory that holds WAL segments."));
    }
    Ok(Ground { owner, identity, wal, directories, trusted: Trusted::default(), current: None, next_xid: 0, serving: None, observed: None })
}

/// The user who reads `directory`, which no cluster is known for.
pub fn reader_of(directory: &Path) -> Result<Owner> {
    let uid = match owner_of(directory)?.0 {
        0 => nix::unistd::User::from_name("postgres").ok().flatten().map_or(0, |user| user.uid.as_raw()),
        uid => uid,
    };
    Owner::lookup(uid).map_err(|_| {
        Error::new(Kind::Refused, format!("{} belongs to root, and there is no user postgres to read it as", directory.display()))
            .hint("Backups and WAL are never read as root: give the directory to another user.")
    })
}

/// The history of the timeline that is wanted; by default the cluster's own, without one the highest.
pub fn history(ground: &Ground, wanted: Option<TimelineRequest>) -> Result<History> {
    let highest = chain::numbers(&ground.wal).into_iter().max();
    let timeline = match (wanted.unwrap_or_default(), ground.current) {
        (TimelineRequest::Number(number), _) => number,
        (TimelineRequest::Current, Some(current)) => current,
        (_, current) => highest.or(current).ok_or_else(|| Error::new(Kind::Refused, "there is no WAL").hint("Name it: --wal DIR."))?,
    };
    aim::history(&ground.wal, timeline).map_err(|why| {
        Error::new(Kind::Refused, format!("the history of timeline {timeline} is not known"))
            .cause(why)
            .hint("Put its .history file beside the segments, or choose another one: --timeline N.")
    })
}

fn database_of(name: &str, names: &Names) -> Result<u32> {
    let known = names.databases.iter().find(|(_, known)| known == name).map(|(oid, _)| *oid);
    known.or_else(|| name.parse().ok()).ok_or_else(|| {
        let all: Vec<&str> = names.databases.iter().map(|(_, name)| name.as_str()).collect();
        let hint = if all.is_empty() { "No server answers: give its OID.".to_string() } else { format!("There are: {}.", all.join(", ")) };
        Error::usage(format!("there is no database {name}")).hint(hint)
    })
}

fn relation_of(name: &str, database: Option<u32>, door: Option<&Door<'_>>, names: &Names) -> Result<Relations> {
    let mut relations = Relations::default();
    for named in door.map(|door| door.called(name, database, names)).unwrap_or_default() {
        relations.files.insert((named.database, named.file));
        relations.oids.insert((named.database, named.oid));
    }
    if let Ok(number) = name.parse::<u32>() {
        let all: Vec<u32> = database.map_or_else(|| names.databases.iter().map(|(oid, _)| *oid).collect(), |oid| vec![oid]);
        if all.is_empty() {
            return Err(Error::usage("a relation's number means nothing without its database").hint("Add --database OID."));
        }
        relations.files.extend(all.iter().map(|oid| (*oid, number)));
        relations.oids.extend(all.iter().map(|oid| (*oid, number)));
    }
    let (schema, relation) = name.split_once('.').map_or((None, name), |(schema, relation)| (Some(schema.to_owned()), relation));
    let mut schemas = BTreeSet::new();
    if let (Some(schema), Some(door)) = (&schema, door) {
        let databases = names.databases.iter().map(|(oid, _)| *oid).filter(|oid| database.is_none_or(|wanted| wanted == *oid)).collect();
        let known = door.schemas(&databases, names).into_iter().filter(|(.., name)| name == schema);
        schemas = known.map(|(database, oid, _)| (database, oid)).collect();
    }
    relations.called = Some(Wanted { relation: relation.to_owned(), schema, schemas, database });
    Ok(relations)
}

fn span(args: &LogArgs, now: Timestamp, zone: &TimeZone) -> Result<(Option<Timestamp>, Option<Timestamp>)> {
    let read = |flag: &str, text: &Option<String>| text.as_ref().map(|text| moment(flag, text, now, zone)).transpose();
    if let Some(middle) = read("--around", &args.around)? {
        let shift = |by: SignedDuration| middle.checked_add(by).unwrap_or(middle);
        return Ok((Some(shift(-AROUND)), Some(shift(AROUND))));
    }
    Ok((read("--since", &args.since)?, read("--until", &args.until)?))
}

/// A time with zone, without one (this host's), of today, or as an age.
fn moment(flag: &str, text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp> {
    if let Ok(seconds) = parse_duration(text) {
        let age = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        return now.checked_sub(age).map_err(|e| Error::usage(format!("{flag}: {text}")).cause(e).hint("Give a shorter age."));
    }
    let today = now.to_zoned(zone.clone()).date();
    let local: Option<DateTime> = text
        .trim()
        .parse::<Time>()
        .ok()
        .filter(|_| !text.contains('-'))
        .map(|time| today.to_datetime(time))
        .or_else(|| text.trim().replacen(' ', "T", 1).parse::<DateTime>().ok().filter(|_| is_naive(text)));
    match local {
        // Of an hour that exists twice the first is meant: the log shows more rather than less.
        Some(local) => zone
            .to_ambiguous_timestamp(local)
            .earlier()
            .map_err(|e| Error::usage(format!("{flag}: {text}")).cause(e).hint("Give it with its zone.")),
        None => parse_time(flag, text, now, zone),
    }
}

/// Nothing but digits and what stands between them: no zone. An offset would be a second sign behind the time of day.
fn is_naive(text: &str) -> bool {
    let behind_date = text.trim().get(10..).unwrap_or_default();
    behind_date.chars().skip(1).all(|c| c.is_ascii_digit() || c == ':' || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::time::render_time;

    #[test]
    fn times_of_the_log_may_be_local_or_relative() {
        let now: Timestamp = "2026-11-21T21:05:19Z".parse().unwrap();
        let zone = TimeZone::get("Europe/Paris").unwrap();
        let read = |text: &str| moment("--since", text, now, &zone).map(render_time);
        assert_eq!(read("2h").unwrap(), "2026-11-21 19:05:19.000000+00");
        assert_eq!(read("20:00").unwrap(), "2026-11-21 19:00:00.000000+00");
        assert_eq!(read("2026-11-20 20:00").unwrap(), "2026-11-20 19:00:00.000000+00");
        assert_eq!(read("2026-11-20").unwrap(), "2026-11-19 23:00:00.000000+00");
        assert_eq!(read("2026-11-20 20:00+00").unwrap(), "2026-11-20 20:00:00.000000+00");
        assert_eq!(read("2026-10-25 02:30").unwrap(), "2026-10-25 00:30:00.000000+00");
        assert!(read("yesterday-ish").is_err() && read("2026-11-20 25:00").is_err());
    }
}
