//! `mark`: a restore point, archived, and proved to be one that a recovery can come back to. The gate before a migration.

use std::time::{Duration, Instant};

use crate::cli::MarkArgs;
use crate::error::{Error, Kind, Result};
use crate::host::Owner;
use crate::observe::discover::{self, Found};
use crate::observe::host::{Observed, Where, observe};
use crate::observe::names::Door;
use crate::pg::{Lsn, SegmentName, Timeline};
use crate::plan::facts::{Server, WalKind};
use crate::plan::planned::{Planned, Reason};
use crate::plan::target::TargetRequest;
use crate::report::mark::{self as page, Marked, Proved};
use crate::run::owner::{self, Task};
use crate::run::reading::ChainRequest;
use crate::run::sources::Directories;
use crate::run::sql::{Reply, Statement, literal};
use crate::run::tail::WalIdentity;
use crate::run::wal_log::{LogRequest, Logged};
use crate::sys::signals::Signals;
use crate::verb::log::{Ground, history};
use crate::verb::{Context, act, restore};
use crate::wal::log::Filter;

/// Between two looks at the archive.
const PAUSE: Duration = Duration::from_millis(200);

/// `pitr mark`: exit 6 when the point stands and it is not proved that one can come back to it.
pub fn run(context: &Context, args: &MarkArgs, signals: &Signals) -> Result<u8> {
    let found = discover::choose(&context.config, context.global.cluster.as_deref())?;
    let observed = observe(&context.config, &found, &Where::default())?;
    fit(&observed)?;
    unused(context, &args.name)?;
    let cluster = &observed.host.cluster;
    let user = found.config.bootstrap_role();
    let way = match &args.url {
        Some(url) => Way::Url(&cluster.owner, url),
        None => Way::Socket(Door::find(&cluster.owner, &cluster.data_directory, &user, cluster.control_file.system_identifier)?),
    };
    let begun = Instant::now();
    let mut marked = make(&way, &observed, &args.name)?;
    if args.wait {
        let until = begun + Duration::from_secs(args.timeout);
        let archived = wait(&observed, &marked, until, signals)?;
        marked.proof = Some(prove(context, &found, &observed, &way, &marked, archived, begun)?);
    }
    if context.json() {
        act::print_json(&page::json(&marked))?;
    } else {
        act::print_text(&page::text(&marked, context.width()))?;
    }
    Ok(if args.wait && !marked.is_recoverable() { Kind::Check.exit_code() } else { 0 })
}

/// What makes a restore point useless is said before one is made.
fn fit(observed: &Observed) -> Result<()> {
    let cluster = &observed.host.cluster;
    let refused = |what: String, hint: &str| Err(Error::new(Kind::Refused, what).hint(hint));
    if !matches!(cluster.server, Server::Serving { .. }) {
        return refused(
            format!("no server runs on {}", cluster.data_directory.display()),
            "Start it: only a serving cluster can be marked.",
        );
    }
    if cluster.standby {
        return refused(format!("{} is a standby", cluster.name), "Mark its primary: the restore point comes by replication.");
    }
    if observed.archives.is_empty() {
        return refused("no WAL archive is known".into(), "Set `wal_archive` in /etc/pitr/pitr.toml.");
    }
    Ok(())
}

/// Recovery stops at the first restore point of a name, so that a second one could not be meant.
fn unused(context: &Context, name: &str) -> Result<()> {
    let ground = Ground::find(context, &[])?;
    let history = history(&ground, None)?;
    let chain = ChainRequest { segments: ground.segments(&history), history, identity: ground.identity };
    let filter = Filter { point: Some(name.to_string()), limit: 1, ..Filter::default() };
    let logged: Logged = ground
        .read(context, |index| Task::LogWal(Box::new(LogRequest { chain: chain.clone(), next_xid: 0, filter: filter.clone(), index })))?;
    match logged.lines.first() {
        Some(line) => Err(Error::new(Kind::Refused, format!("there is a restore point {name:?} already, at {}", line.lsn))
            .hint("Choose another name: recovery stops at the first.")),
        None => Ok(()),
    }
}

/// How the server is reached.
enum Way<'a> {
    Socket(Door<'a>),
    /// Asked for as this user, who has no privileges of root.
    Url(&'a Owner, &'a str),
}

impl Way<'_> {
    fn run(&self, statements: Vec<Statement>) -> Result<Vec<Reply>> {
        match self {
            Way::Socket(door) => door.run("postgres", statements),
            Way::Url(owner, url) => owner::call(owner, None, Task::SqlAt { url: (*url).to_string(), statements }),
        }
    }
}

/// Makes the point and leaves its segment, so that it is archived at once. Another cluster's server is not touched.
fn make(way: &Way<'_>, observed: &Observed, name: &str) -> Result<Marked> {
    let control = &observed.host.cluster.control_file;
    let point =
        format!("SELECT pg_catalog.pg_create_restore_point({}), timeline_id FROM pg_catalog.pg_control_checkpoint()", literal(name));
    let identity = Statement::identity(Some(control.system_identifier));
    let replies = way.run(vec![identity, Statement::own(point), Statement::own("SELECT pg_catalog.pg_switch_wal()")])?;
    let first = replies.get(1).ok_or_else(|| {
        let cause = replies.first().and_then(|reply| reply.error.clone()).unwrap_or_else(|| "another cluster's server answers".into());
        Error::new(Kind::Refused, format!("no restore point {name:?} was made")).cause(cause)
    })?;
    let field = |at: usize| first.rows.first().and_then(|row| row.get(at).cloned().flatten());
    let (Some(lsn), Some(timeline)) =
        (field(0).and_then(|text| text.parse::<Lsn>().ok()), field(1).and_then(|text| text.parse().ok()).map(Timeline))
    else {
        return Err(Error::failed(format!("make restore point {name:?}")).cause(first.error.clone().unwrap_or_default()));
    };
    if let Some(error) = replies.get(2).and_then(|reply| reply.error.as_ref()) {
        return Err(Error::failed("leave the WAL segment of the restore point").cause(error));
    }
    let number = control.segment_size.number(Lsn(lsn.0.saturating_sub(1)));
    let segment = SegmentName { timeline, number }.file_name(control.segment_size);
    Ok(Marked { name: name.to_string(), lsn, timeline, segment, proof: None })
}

/// Looks at the archive until the segment stands in it, or until patience ends.
fn wait(observed: &Observed, marked: &Marked, until: Instant, signals: &Signals) -> Result<bool> {
    let cluster = &observed.host.cluster;
    let control = &cluster.control_file;
    let identity = WalIdentity { major: cluster.major, system_identifier: control.system_identifier, segment_size: control.segment_size };
    let wanted = SegmentName::parse(&marked.segment, control.segment_size);
    loop {
        let directories = observed.archives.iter().fold(Directories::default(), |all, path| all.with(path, WalKind::Archive));
        let sources = directories.list(&cluster.owner, None, &observed.trusted, identity)?;
        let mut copies = sources.iter().flat_map(|source| &source.segments);
        if copies.any(|copy| Some(copy.name) == wanted && copy.problem.is_none() && !copy.partial) {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        signals.check()?;
        std::thread::sleep(PAUSE);
    }
}

/// Plans a recovery to the point, as one would be planned later: every record from a backup to it is read.
fn prove(
    context: &Context,
    found: &Found,
    observed: &Observed,
    way: &Way<'_>,
    marked: &Marked,
    archived: bool,
    begun: Instant,
) -> Result<Proved> {
    let mut proof = Proved { archived, ..Proved::default() };
    if archived {
        let planned = restore::plan_to(context, found, TargetRequest::ToName(marked.name.clone()))?;
        proof.backup = planned.backup.as_ref().map(|backup| (backup.name.clone(), backup.time));
        proof.refusals = against(&planned);
    } else {
        let why = archiver(way).map(|why| format!(": {why}")).unwrap_or_default();
        let archives: Vec<String> = observed.archives.iter().map(|path| path.display().to_string()).collect();
        proof.refusals.push(Reason::fact(
            "not-archived",
            format!("{} did not come to {}{why}", marked.segment, archives.join(", ")),
            "Look at archive_command and the server's log; wait longer with --timeout.",
        ));
    }
    proof.seconds = begun.elapsed().as_secs();
    Ok(proof)
}

/// Everything against it; what is only in pg_wal is not there after the host is lost.
fn against(planned: &Planned) -> Vec<Reason> {
    // What would be lost by coming back now says nothing about whether one could.
    let loss = |reason: &&Reason| !reason.id.starts_with("protected:");
    let mut refusals: Vec<Reason> = planned.refusals.iter().filter(loss).cloned().collect();
    if let Some(wal) = planned.wal.as_ref().filter(|wal| wal.only_in_pg_wal > 0) {
        refusals.push(Reason::fact(
            "only-in-pg-wal",
            format!("{} segments between the backup and here are in pg_wal and not in the archive", wal.only_in_pg_wal),
            "Look at archive_command and the server's log.",
        ));
    }
    refusals
}

/// What the archiver says of its last failure, if that is newer than its last success.
fn archiver(way: &Way<'_>) -> Option<String> {
    let sql = "SELECT 'archiving ' || last_failed_wal || ' failed at ' || last_failed_time FROM pg_catalog.pg_stat_archiver \
        WHERE last_failed_time > coalesce(last_archived_time, '-infinity')";
    way.run(vec![Statement::own(sql)]).ok()?.first()?.single().map(str::to_string)
}
