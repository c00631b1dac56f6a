//! Private promotion on a number of our choice (pitfalls A6), and what is done while nobody else can see it.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::pg::history::History;
use crate::pg::segment::history_name;
use crate::pg::{Lsn, Timeline};
use crate::plan::chain;
use crate::plan::facts::WalKind;
use crate::plan::ledger::Fact;
use crate::run::aftermath;
use crate::run::executor::Run;
use crate::run::libraries::Libraries;
use crate::run::owner::Task;
use crate::run::private::{PORT, Private, Said};
use crate::run::replay;
use crate::run::sources::{self, Directories};
use crate::run::sql::{Reply, SqlRequest, Statement, quote_identifier};
use crate::run::validate;

/// Promotes the paused server, which must have the fewest libraries, disables subscriptions, stops it.
pub fn promote(run: &mut Run) -> Result<()> {
    replay::ensure_at_target(run, Libraries::Fewest)?;
    if query(run, "postgres", "SELECT pg_is_in_recovery()")?.single() == Some("t") {
        let number = decide_number(run)?;
        reserve(run, number);
        let promoted = query(run, "postgres", "SELECT pg_promote(true, 86400)")?;
        if promoted.single() != Some("t") {
            return Err(Error::failed("promote the private server").cause(promoted.error.unwrap_or_else(|| "it refused".into())));
        }
    }
    validate::check_promoted(run)?;
    finish(run)
}

/// Starts a staging that cannot pause: it promotes at the target by itself, on our number.
pub fn replay_and_promote(run: &mut Run) -> Result<()> {
    let number = decide_number(run)?;
    replay::start(run, "promote", Libraries::Fewest)?;
    reserve(run, number);
    let mut words = String::new();
    let mut asked = Asking::default();
    loop {
        for said in replay::tick(run)? {
            match said {
                Said::Stopping(text) => words = text,
                Said::Opened => return opened_at_target(run, words),
                Said::Fatal(text) => return Err(Error::failed("replay did not reach the target").cause(text)),
                _ => {}
            }
        }
        if asked.state(run)? == Some(State::Open) {
            return opened_at_target(run, words);
        }
    }
}

fn opened_at_target(run: &mut Run, words: String) -> Result<()> {
    let consistent = matches!(run.recovery().target.request, crate::plan::target::TargetRequest::ToConsistent);
    if words.is_empty() && !consistent && replay::target_lsn(run).is_none() {
        return Err(Error::failed("the private server opened without a word about the target"));
    }
    run.fact(Fact::Reached { lsn: Lsn(0), words })
}

/// Starts a staging that was promoted before an interruption, without recovery settings.
pub fn start_promoted(run: &mut Run) -> Result<()> {
    let staging = run.staging();
    run.server = Some(Private::start(run, &staging, None, Libraries::Fewest)?);
    wait_open(run)
}

/// Starts a staging that stands on the very last record of the WAL: with that record as its target it would say that
/// redo is not required and end without having reached it (pitfalls F1). Without one it finds no more and opens.
pub fn open_at_the_end(run: &mut Run) -> Result<()> {
    let number = decide_number(run)?;
    replay::start_to_the_end(run)?;
    reserve(run, number);
    wait_open(run)
}

/// Waits until the private server takes connections outside recovery: by its words, or by SQL where they are lost.
pub fn wait_open(run: &mut Run) -> Result<()> {
    let begun = Instant::now();
    let mut asked = Asking::default();
    loop {
        for said in replay::tick(run)? {
            match said {
                Said::Opened => return Ok(()),
                Said::Fatal(words) => return Err(Error::failed("the private server does not open").cause(words)),
                _ => {}
            }
        }
        if asked.state(run)? == Some(State::Open) {
            return Ok(());
        }
        if begun.elapsed() > OPEN_LIMIT {
            return Err(Error::failed("the private server does not open")
                .cause(format!("it takes no connections after {} hours", OPEN_LIMIT.as_secs() / 3600))
                .hint(format!("Its log is {}.", run.paths.server_log().display())));
        }
    }
}

/// A promoted staging has at most crash recovery from its last checkpoint before it.
const OPEN_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// Between two questions to a server that has said nothing of its state.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What a private server says of itself when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It replays.
    Replaying,
    /// In recovery, paused.
    Paused,
    /// Out of recovery.
    Open,
}

/// Asks the private server now and then, so that a line of its log that never comes is not waited for.
#[derive(Debug)]
pub struct Asking {
    next: Instant,
}

impl Default for Asking {
    fn default() -> Asking {
        Asking { next: Instant::now() + ASK_EVERY }
    }
}

impl Asking {
    /// The state, when it was time to ask and the server answered. It does not take connections before it is consistent.
    pub fn state(&mut self, run: &mut Run) -> Result<Option<State>> {
        if Instant::now() < self.next || !run.server.as_ref().is_some_and(Private::is_proved) {
            return Ok(None);
        }
        self.next = Instant::now() + ASK_EVERY;
        let sql = format!("SELECT CASE WHEN NOT pg_is_in_recovery() THEN 'open' ELSE {} END", replay::pause_state(run));
        // Its end, or a signal to us, shows at the next tick.
        let reply = query(run, "postgres", &sql).ok();
        run.watch().check()?;
        Ok(reply.as_ref().and_then(Reply::single).map(|word| match word {
            "open" => State::Open,
            "paused" => State::Paused,
            _ => State::Replaying,
        }))
    }
}

fn finish(run: &mut Run) -> Result<()> {
    let number = run.ledger().number().ok_or_else(|| Error::failed("no timeline number was chosen"))?;
    // The first checkpoint after promotion writes the new timeline into pg_control.
    let checked = query(run, "postgres", "CHECKPOINT")?;
    if let Some(error) = checked.error {
        return Err(Error::failed("checkpoint of the private server").cause(error));
    }
    let stands = query(run, "postgres", "SELECT timeline_id, pg_is_in_recovery(), next_xid FROM pg_control_checkpoint()")?;
    let row = stands.first_row();
    let [timeline, in_recovery, next_xid] = row.as_slice() else {
        return Err(Error::failed("ask the private server for its timeline").cause(stands.error.unwrap_or_default()));
    };
    if *timeline != number.to_string() || in_recovery != "f" {
        return Err(Error::failed(format!("the private server is on timeline {timeline}, not on {number}")));
    }
    let subscriptions = disable_subscriptions(run)?;
    aftermath::tell(run)?;
    let next_xid = full_xid(next_xid);
    if let Some(server) = run.server.take() {
        server.stop()?;
    }
    run.broker = None;
    let fork = fork_point(run, number)?;
    prove_fork(run, fork)?;
    run.fact(Fact::Promoted { timeline: number, fork, next_xid, subscriptions })
}

/// One above every number that a file, a control file or a cluster that was ever public carries. A number that
/// never left a staging is free again (pitfalls F5).
pub fn decide_number(run: &mut Run) -> Result<Timeline> {
    let number = next_number(run)?;
    run.fact(Fact::Number { timeline: number })?;
    Ok(number)
}

/// The number that nobody has.
pub fn next_number(run: &mut Run) -> Result<Timeline> {
    let sources = sources::list(run, &sources::everything(run))?;
    for source in sources.iter().filter(|s| s.kind == WalKind::Archive) {
        // An archive that is away looks empty; what cannot be read may hold any number.
        let problem = source
            .problem
            .clone()
            .or_else(|| (source.segments.is_empty() && source.histories.is_empty()).then(|| "it holds no WAL".into()));
        if let Some(problem) = problem {
            return Err(Error::failed(format!("cannot tell which timeline numbers are taken: {}", source.directory.display()))
                .cause(problem)
                .hint("Is it mounted? Make it readable, then go on."));
        }
    }
    let runs = crate::observe::runs::list(&run.state, run.recovery().cluster.system_identifier, &run.recovery().cluster.data_directory)?;
    let of_runs =
        runs.iter().filter(|r| r.id != run.paths.id || run.ledger().public_start()).flat_map(|r| [r.number, r.moved_to]).flatten();
    let own = [run.recovery().target.timeline];
    let highest =
        chain::numbers(&sources).into_iter().chain(of_runs).chain(own).chain(run.ledger().old_control().map(|c| c.timeline)).max();
    let highest = highest.map_or(1, |t| t.0);
    highest.checked_add(1).map(Timeline).ok_or_else(|| Error::failed("there is no timeline number left"))
}

fn reserve(run: &Run, number: Timeline) {
    if let Some(broker) = &run.broker {
        broker.reserve(run.recovery().target.timeline.0.saturating_add(1)..number.0);
    }
}

/// Enabled subscriptions would go on from the publisher's position and leave a gap (pitfalls A7). Nobody can connect to a
/// database whose DROP was interrupted (`datconnlimit` -2, manual, "pg_database"), or that allows no connections, and no
/// apply worker can either: a subscription there is named and left.
fn disable_subscriptions(run: &mut Run) -> Result<Vec<String>> {
    let enabled = query(
        run,
        "postgres",
        "SELECT d.datname, s.subname, d.datallowconn AND d.datconnlimit <> -2 \
         FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE s.subenabled ORDER BY 1, 2",
    )?;
    if let Some(error) = enabled.error {
        return Err(Error::failed("look for subscriptions").cause(error));
    }
    let mut disabled = Vec::new();
    for row in enabled.rows {
        let [Some(database), Some(name), Some(open)] = row.as_slice() else { continue };
        if open != "t" {
            run.remark(format!("subscription {name} stays enabled: nobody can connect to its database {database}"))?;
            continue;
        }
        let done = query(run, database, &format!("ALTER SUBSCRIPTION {} DISABLE", quote_identifier(name)))?;
        if let Some(error) = done.error {
            return Err(Error::failed(format!("disable subscription {name} in {database}")).cause(error));
        }
        disabled.push(format!("{database}.{name}"));
    }
    Ok(disabled)
}

/// SQL on the private server as the bootstrap role.
pub fn query(run: &mut Run, database: &str, sql: &str) -> Result<Reply> {
    if !run.server.as_ref().is_some_and(Private::is_proved) {
        return Err(Error::failed("the private server has not shown where it runs"));
    }
    let request = SqlRequest {
        socket: run.paths.door(),
        port: PORT,
        user: run.recovery().site.user.clone(),
        database: database.to_string(),
        statements: vec![Statement::catalog_only(), Statement::own(sql)],
    };
    let mut replies: Vec<Reply> = run.owner(Task::Sql(request))?;
    replies.pop().ok_or_else(|| Error::failed("no reply from the private server"))
}

/// `next_xid` of `pg_control_checkpoint` is `epoch:xid`.
fn full_xid(text: &str) -> u64 {
    match text.split_once(':').map(|(e, x)| (e.parse::<u64>(), x.parse::<u64>())) {
        Some((Ok(epoch), Ok(xid))) => epoch << 32 | xid,
        _ => 0,
    }
}

/// The new timeline begins where the target says, whichever way the server came to open.
fn prove_fork(run: &Run, fork: Lsn) -> Result<()> {
    let Some(target) = replay::target_lsn(run) else { return Ok(()) };
    let reached = if run.recovery().target.inclusive { fork > target } else { fork <= target };
    if reached { Ok(()) } else { Err(Error::failed(format!("the promoted cluster begins at {fork}, which is not the target {target}"))) }
}

/// Where the new timeline left its parent, from its own history file.
fn fork_point(run: &mut Run, number: Timeline) -> Result<Lsn> {
    let staged = Directories::default().with(&run.staged_wal(), WalKind::Kept(run.paths.id.clone()));
    let sources = sources::list(run, &staged)?;
    let text =
        chain::histories(&sources).remove(&number).ok_or_else(|| Error::failed(format!("staging has no {}", history_name(number))))?;
    let history =
        History::parse(number, text.as_bytes()).map_err(|cause| Error::failed(format!("read {}", history_name(number))).cause(cause))?;
    history.ancestors.last().map(|a| a.switch).ok_or_else(|| Error::failed(format!("{} names no parent", history_name(number))))
}
