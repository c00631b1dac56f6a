//! Checks: on the private server while nobody sees it, and again on the public one.
//!
//! While replay is paused in front of a commit, that transaction still holds its locks: a check that reads a table
//! which the discarded migration altered would wait for ever. Such checks are put off until the private promotion
//! has ended the transaction; nobody sees the cluster before they pass.
//!
//! They connect as a role without superuser (pitfalls C1): a view of an application role runs that role's code,
//! and a superuser's read-only transaction would still let it start programs.

use crate::error::{Error, Kind, Result};
use crate::observe::postmaster;
use crate::pg::{ClusterState, ControlFile};
use crate::plan::checks::{Check, passed, wrapped_sql};
use crate::plan::ledger::{CheckResult, Fact};
use crate::run::control;
use crate::run::executor::Run;
use crate::run::libraries::Libraries;
use crate::run::owner::Task;
use crate::run::private::PORT;
use crate::run::promote;
use crate::run::replay;
use crate::run::sql::{LOCK_NOT_AVAILABLE, Limits, Reply, SqlRequest, Statement};
use crate::run::validate_migration::{self, Asked};

/// Longest a check may run, and while paused longest it may wait for a lock: only a transaction that replay has
/// not finished holds one there, and it will not be finished.
const PAUSED: Limits = Limits { statement: 300_000, lock: 500 };
/// On a server that is not paused.
pub const OPEN: Limits = Limits { statement: 300_000, lock: 0 };
/// Rows of a result that are kept for the report.
const SHOWN: usize = 10;

/// Runs the checks on the private server as it stands at the target; all must pass, but for those that wait for a
/// lock, which are put off until [`check_promoted`].
pub fn check_private(run: &mut Run) -> Result<()> {
    replay::ensure_at_target(run, Libraries::Configured)?;
    let checks = run.recovery().site.checks.clone();
    let migration = validate_migration::ask_private(run, PAUSED)?;
    if checks.is_empty() && migration.is_none() {
        return run.fact(Fact::Checked { checks: vec![], public: false });
    }
    let replies = if checks.is_empty() { Vec::new() } else { ask_private(run, &checks, PAUSED)? };
    let blocked = |pair: &[Reply]| pair.iter().any(|r| r.code.as_deref() == Some(LOCK_NOT_AVAILABLE));
    let (put_off, ready): (Vec<_>, Vec<_>) =
        checks.iter().cloned().zip(replies.chunks(2).map(<[Reply]>::to_vec)).partition(|(_, pair)| blocked(pair));
    let (waiting, judged) = split(migration);
    if !put_off.is_empty() || waiting.is_some() {
        run.fact(Fact::ChecksPutOff { checks: put_off.iter().map(|(c, _)| c.name.clone()).chain(waiting).collect() })?;
    }
    let (checks, replies): (Vec<Check>, Vec<Vec<Reply>>) = ready.into_iter().unzip();
    settle(run, &checks, &replies.concat(), judged, false)
}

/// A check that is put off, by name, and one that was judged.
fn split(migration: Option<Asked>) -> (Option<String>, Option<CheckResult>) {
    match migration {
        Some(Asked::PutOff(name)) => (Some(name), None),
        Some(Asked::Judged(result)) => (None, Some(result)),
        None => (None, None),
    }
}

/// A check that has to be judged now.
fn judged(migration: Option<Asked>) -> Result<Option<CheckResult>> {
    match split(migration) {
        (Some(name), _) => Err(Error::new(Kind::Check, format!("check '{name}' failed")).cause("its table is locked")),
        (None, result) => Ok(result),
    }
}

/// Runs all checks on the promoted private server if some were put off.
pub fn check_promoted(run: &mut Run) -> Result<()> {
    let checks = run.recovery().site.checks.clone();
    let put_off = run.ledger().facts.iter().any(|f| matches!(f, Fact::ChecksPutOff { .. }));
    if !put_off {
        return Ok(());
    }
    let migration = judged(validate_migration::ask_private(run, OPEN)?)?;
    let replies = if checks.is_empty() { Vec::new() } else { ask_private(run, &checks, OPEN)? };
    settle(run, &checks, &replies, migration, false)
}

fn ask_private(run: &mut Run, checks: &[Check], limits: Limits) -> Result<Vec<Reply>> {
    let role = role(run)?;
    let request = SqlRequest {
        socket: run.paths.door(),
        port: PORT,
        user: role,
        database: run.recovery().site.database.clone(),
        statements: statements(checks, limits),
    };
    run.owner(Task::Sql(request))
}

/// Proves that the public server is the recovered cluster, then runs the checks there as far as the role can log in.
pub fn check_public(run: &mut Run) -> Result<()> {
    let asked = control::query(run, "postgres", "SELECT pg_is_in_recovery(), (SELECT timeline_id FROM pg_control_checkpoint())");
    let reply = match asked {
        Ok(reply) => reply,
        Err(error) => return prove_by_control_file(run, &error),
    };
    let row = reply.first_row();
    let number = run.ledger().number().map(|n| n.to_string()).unwrap_or_default();
    if row != ["f".to_string(), number.clone()] {
        return Err(Error::failed("the server that was started is not the recovered cluster")
            .cause(format!("expected timeline {number}, it says {row:?} {}", reply.error.unwrap_or_default())));
    }
    let checks = run.recovery().site.checks.clone();
    let migration = match validate_migration::ask_public(run, OPEN).and_then(judged) {
        Ok(migration) => migration,
        Err(error) if error.kind == Kind::Check => return Err(error),
        Err(error) => {
            run.remark(format!("the history of migrations was checked privately and not again on the public server ({error})"))?;
            None
        }
    };
    if checks.is_empty() {
        return settle(run, &[], &[], migration, true);
    }
    let (role, database) = (public_role(run)?, run.recovery().site.database.clone());
    match control::query_as(run, &role, &database, statements(&checks, OPEN)) {
        Ok(replies) => settle(run, &checks, &replies, migration, true),
        Err(error) => run.remark(format!(
            "the checks passed privately and were not repeated on the public server: role {role} cannot log in there ({})",
            error.cause.unwrap_or(error.what)
        )),
    }
}

/// Where nobody lets us log in, pg_control and the running postmaster say what serves.
fn prove_by_control_file(run: &mut Run, refused: &Error) -> Result<()> {
    let data_directory = run.recovery().cluster.data_directory.clone();
    let control: ControlFile = run.owner_unwatched(Task::ReadControl { data_directory: data_directory.clone(), hidden: None })?;
    let serves = control.state == ClusterState::InProduction && postmaster::find(&data_directory)?.is_some();
    if Some(control.timeline) != run.ledger().number() || !serves {
        return Err(Error::failed("the server that was started is not the recovered cluster").cause(refused));
    }
    run.remark(format!("the recovered cluster serves, by its pg_control; the checks passed privately and were not repeated, for nobody let us log in ({refused})"))
}

/// Each check as two statements: its query, and its expectation over the result.
pub fn statements(checks: &[Check], limits: Limits) -> Vec<Statement> {
    let guarded = |sql: String| Statement::limited(sql, limits);
    checks.iter().flat_map(|c| [guarded(c.query.clone()), guarded(wrapped_sql(c))]).collect()
}

fn settle(run: &mut Run, checks: &[Check], replies: &[Reply], migration: Option<CheckResult>, public: bool) -> Result<()> {
    let mut results: Vec<CheckResult> = checks.iter().zip(replies.chunks(2)).map(|(check, pair)| judge(check, pair)).collect();
    if results.len() != checks.len() {
        return Err(Error::new(Kind::Check, "not every check was answered"));
    }
    results.extend(migration);
    run.fact(Fact::Checked { checks: results.clone(), public })?;
    let failed: Vec<&CheckResult> = results.iter().filter(|r| !r.passed).collect();
    let Some(first) = failed.first() else { return Ok(()) };
    let cause = first.words.clone().unwrap_or_else(|| "its expectation is false".into());
    let more = if failed.len() > 1 { format!(" ({} of {} checks failed)", failed.len(), results.len()) } else { String::new() };
    Err(Error::new(Kind::Check, format!("check '{}' failed{more}", first.name)).cause(cause))
}

/// What the two replies to a check mean.
pub fn judge(check: &Check, pair: &[Reply]) -> CheckResult {
    let (rows, verdict) = (pair.first(), pair.get(1));
    let shown = rows
        .map(|r| &r.rows)
        .into_iter()
        .flatten()
        .take(SHOWN)
        .map(|r| r.iter().map(|v| v.clone().unwrap_or_else(|| "NULL".into())).collect())
        .collect();
    let error = rows.and_then(|r| r.error.clone()).or_else(|| verdict.and_then(|v| v.error.clone()));
    let held = match (check.expect.is_some(), verdict) {
        (true, Some(reply)) => {
            let values: Vec<Option<bool>> = reply.rows.iter().map(|r| r.first().and_then(|v| v.as_deref()).map(|v| v == "t")).collect();
            passed(&values)
        }
        (false, _) => true,
        (true, None) => false,
    };
    let words = error.clone().or_else(|| (!held).then(|| format!("not true: {}", check.expect.clone().unwrap_or_default())));
    CheckResult { name: check.name.clone(), passed: held && error.is_none(), words, rows: shown }
}

/// `check_user`, else the database's owner if that is no superuser, else the bootstrap role with a warning.
fn role(run: &mut Run) -> Result<String> {
    if let Some(role) = run.recovery().site.check_user.clone() {
        return Ok(role);
    }
    let reply = promote::query(run, "postgres", &owner_query(&run.recovery().site.database.clone()))?;
    choose_role(run, &reply)
}

fn public_role(run: &mut Run) -> Result<String> {
    if let Some(role) = run.recovery().site.check_user.clone() {
        return Ok(role);
    }
    let sql = owner_query(&run.recovery().site.database.clone());
    let reply = control::query(run, "postgres", &sql)?;
    choose_role(run, &reply)
}

/// The owner of a database, and whether it is unfit to run checks.
pub fn owner_query(database: &str) -> String {
    format!(
        "SELECT rolname, rolsuper OR NOT rolcanlogin FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba WHERE datname = '{}'",
        database.replace('\'', "''")
    )
}

fn choose_role(run: &mut Run, reply: &Reply) -> Result<String> {
    let row = reply.first_row();
    match row.as_slice() {
        [role, unfit] if unfit == "f" => Ok(role.clone()),
        [_, _] => {
            run.remark("checks run as a superuser: set check_user to a role without that")?;
            Ok(run.recovery().site.user.clone())
        }
        _ => Err(Error::new(Kind::Check, format!("database {} does not exist in the recovered cluster", run.recovery().site.database))
            .cause(reply.error.clone().unwrap_or_else(|| "no row".into()))),
    }
}
