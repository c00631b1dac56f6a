//! The check that a recovery to before a migration adds by itself: what the tool finds in its table.
//!
//! It asks as the bootstrap role, which reads every table, and so only in the way that [`after::queries`] describes.

use crate::error::Result;
use crate::migrations::after::{self, Goal};
use crate::plan::ledger::CheckResult;
use crate::run::control;
use crate::run::executor::Run;
use crate::run::owner::Task;
use crate::run::private::PORT;
use crate::run::sql::{LOCK_NOT_AVAILABLE, Limits, Reply, SqlRequest, Statement};

/// `undefined_table`, `invalid_schema_name`: before the tool ran first there is nothing to look at.
const NOT_THERE: [&str; 2] = ["42P01", "3F000"];
/// Rows that the report shows.
const SHOWN: usize = 5;

/// What came of asking.
pub enum Asked {
    /// The discarded migration still holds the table: ask again after the promotion.
    PutOff(String),
    /// An answer.
    Judged(CheckResult),
}

/// Asks the private server; `None` where no migration is aimed at.
pub fn ask_private(run: &mut Run, limits: Limits) -> Result<Option<Asked>> {
    let Some(goal) = run.recovery().migration.clone() else { return Ok(None) };
    let mut ask = |statements: Vec<Statement>| {
        let request = SqlRequest {
            socket: run.paths.door(),
            port: PORT,
            user: run.recovery().site.user.clone(),
            database: goal.database.clone(),
            statements,
        };
        run.owner(Task::Sql(request))
    };
    let replies = pages(&goal, limits, &mut ask)?;
    Ok(Some(judge(&goal, &replies)))
}

/// Asks the public server.
pub fn ask_public(run: &mut Run, limits: Limits) -> Result<Option<Asked>> {
    let Some(goal) = run.recovery().migration.clone() else { return Ok(None) };
    let user = run.recovery().site.user.clone();
    let replies = pages(&goal, limits, &mut |statements| control::query_as(run, &user, &goal.database, statements))?;
    Ok(Some(judge(&goal, &replies)))
}

/// Further pages only where the first is full.
fn pages(goal: &Goal, limits: Limits, ask: &mut dyn FnMut(Vec<Statement>) -> Result<Vec<Reply>>) -> Result<Vec<Reply>> {
    let mut queries = after::queries(&goal.schema, &goal.table, &goal.columns);
    let rest = queries.split_off(1);
    let statements = |queries: Vec<String>| {
        let guarded = queries.into_iter().map(|sql| Statement::limited(sql, limits));
        std::iter::once(Statement::catalog_only()).chain(guarded).collect()
    };
    let mut replies = ask(statements(queries))?.split_off(1);
    if replies.iter().any(|reply| reply.rows.len() >= after::PAGE) {
        replies.extend(ask(statements(rest))?.into_iter().skip(1));
    }
    Ok(replies)
}

fn judge(goal: &Goal, replies: &[Reply]) -> Asked {
    let name = format!("migration {} is not applied", goal.version);
    let failed = replies.iter().find(|reply| reply.error.is_some());
    if failed.is_some_and(|reply| reply.code.as_deref() == Some(LOCK_NOT_AVAILABLE)) {
        return Asked::PutOff(name);
    }
    let result = |passed: bool, words: Option<String>, rows| Asked::Judged(CheckResult { name: name.clone(), passed, words, rows });
    if let Some(reply) = failed {
        return if reply.code.as_deref().is_some_and(|code| NOT_THERE.contains(&code)) {
            result(true, None, vec![vec![format!("{}.{} does not exist yet", goal.schema, goal.table)]])
        } else {
            result(false, reply.error.clone(), Vec::new())
        };
    }
    let rows: Vec<Vec<Option<String>>> = replies.iter().flat_map(|reply| reply.rows.iter().cloned()).collect();
    let Some(tool) = crate::migrations::tool(&goal.tool) else { return result(false, Some(format!("no tool {}", goal.tool)), Vec::new()) };
    match after::verdict(tool, goal, &rows) {
        Ok(words) => result(true, None, vec![vec![words]]),
        Err(words) => {
            let shown = rows.iter().take(SHOWN).map(|row| row.iter().map(|v| v.clone().unwrap_or_else(|| "NULL".into())).collect());
            result(false, Some(words), shown.collect())
        }
    }
}
