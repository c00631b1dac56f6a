//! What a person finds in the recovered cluster and must act upon (pitfalls B19): asked of the promoted private server,
//! told as remarks of the run. None of it is a reason to stop.

use crate::error::{Kind, Result};
use crate::run::executor::Run;
use crate::run::promote::query;
use crate::run::sql::Reply;

/// Names in a remark before it is cut short.
const SHOWN: usize = 5;

/// Tells of prepared transactions, and in the databases of unlogged tables and invalid indexes.
pub fn tell(run: &mut Run) -> Result<()> {
    let prepared = column(run, "postgres", "SELECT format('%s in %s', gid, database) FROM pg_prepared_xacts ORDER BY 1")?;
    if !prepared.is_empty() {
        run.remark(format!("prepared transactions hold their locks until they are ended: {}", some_of(&prepared)))?;
    }
    let (mut unlogged, mut invalid) = (Vec::new(), Vec::new());
    for database in column(run, "postgres", DATABASES)? {
        let in_database = |names: Vec<String>| names.into_iter().map(|name| format!("{database}.{name}")).collect::<Vec<_>>();
        unlogged.extend(in_database(column(run, &database, UNLOGGED)?));
        invalid.extend(in_database(column(run, &database, INVALID)?));
    }
    if !unlogged.is_empty() {
        run.remark(format!("unlogged tables are empty: {}", some_of(&unlogged)))?;
    }
    if !invalid.is_empty() {
        run.remark(format!("indexes were not finished at the target and are invalid: {}", some_of(&invalid)))?;
    }
    Ok(())
}

/// Nobody can connect to one whose DROP was interrupted (`datconnlimit` -2, manual, "pg_database").
const DATABASES: &str = "SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2 AND NOT datistemplate ORDER BY 1";
const UNLOGGED: &str = "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relpersistence = 'u' AND c.relkind = 'r' ORDER BY 1";
const INVALID: &str = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1";

fn column(run: &mut Run, database: &str, sql: &str) -> Result<Vec<String>> {
    match query(run, database, sql) {
        Ok(Reply { error: Some(error), .. }) => Ok(unknown(database, &error)),
        Ok(reply) => Ok(reply.first_column()),
        Err(stop) if matches!(stop.kind, Kind::Interrupted | Kind::Terminated) => Err(stop),
        Err(error) => Ok(unknown(database, &error.to_string())),
    }
}

/// What cannot be asked is not told; nothing depends on it.
fn unknown(database: &str, why: &str) -> Vec<String> {
    log::warn!("what is to be done in database {database} is not known: {why}");
    vec![]
}

fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_short() {
        let names = |n: usize| (1..=n).map(|i| i.to_string()).collect::<Vec<_>>();
        assert_eq!(some_of(&names(2)), "1, 2");
        assert_eq!(some_of(&names(7)), "1, 2, 3, 4, 5 and 2 more");
    }
}
