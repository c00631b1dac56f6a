//! `check --sql`: a check file against a server, as a recovery would run it.
//!
//! The server is reached by `--url`, else the cluster's socket as its owner, else `DIRECT_DATABASE_URL`, else
//! `DATABASE_URL`; whichever answers must have the system identifier of the cluster on this host.

use crate::cli::CheckArgs;
use crate::error::{Error, Kind, Result};
use crate::host::Owner;
use crate::observe::discover::{self, Found, owner_of};
use crate::pg::ControlFile;
use crate::plan::checks::Check;
use crate::report::check::{self as page, SqlCheck};
use crate::run::owner::{self, Task};
use crate::run::sql::{Reply, SqlRequest, Statement};
use crate::run::switch::ServerStatus;
use crate::run::validate::{OPEN, judge, owner_query, statements};
use crate::verb::{Context, act, asked};

/// `pitr check --sql FILE…`: exit 6 where a check fails.
pub fn run(context: &Context, args: &CheckArgs) -> Result<u8> {
    let checks = asked::read_checks(args.sql.iter())?;
    let found = match discover::choose(&context.config, context.global.cluster.as_deref()) {
        Ok(found) => Some(found),
        // A URL may lead to a server elsewhere, from a host without any.
        Err(_) if args.url.is_some() && context.config.clusters.is_empty() && context.global.cluster.is_none() => None,
        Err(error) => return Err(error),
    };
    let here = found.as_ref().map(Here::of).transpose()?;
    let check = ask(args, here.as_ref(), &checks)?;
    if context.json() {
        act::print_json(&page::sql_json(&check))?;
    } else {
        act::print_text(&page::sql_text(&check, context.width()))?;
    }
    Ok(if check.passed() { 0 } else { Kind::Check.exit_code() })
}

/// The cluster on this host.
struct Here {
    owner: Owner,
    identifier: u64,
    status: ServerStatus,
    user: String,
    check_user: Option<String>,
    database: String,
}

impl Here {
    fn of(found: &Found) -> Result<Here> {
        let owner = Owner::lookup(owner_of(&found.data_directory)?.0)?;
        let data_directory = found.data_directory.clone();
        let control: ControlFile = owner::call(&owner, None, Task::ReadControl { data_directory: data_directory.clone(), hidden: None })?;
        Ok(Here {
            identifier: control.system_identifier,
            status: owner::call(&owner, None, Task::ServerStatus { data_directory })?,
            owner,
            user: found.config.bootstrap_role(),
            check_user: found.config.check_user.clone(),
            database: found.config.database.clone().unwrap_or_else(|| "postgres".into()),
        })
    }

    fn socket(&self, user: &str, database: &str, statements: Vec<Statement>) -> Result<Vec<Reply>> {
        let (Some(socket), Some(port)) = (self.status.socket.clone(), self.status.port) else {
            return Err(Error::failed("the cluster has no server with a Unix socket"));
        };
        let request = SqlRequest { socket, port, user: user.into(), database: database.into(), statements };
        owner::call(&self.owner, None, Task::Sql(request))
    }
}

fn ask(args: &CheckArgs, here: Option<&Here>, checks: &[Check]) -> Result<SqlCheck> {
    if let Some(url) = &args.url {
        return by_url("--url", url, here, checks);
    }
    let Some(here) = here else { return Err(Error::usage("there is no cluster on this host").hint("Give --url URL.")) };
    let refused = match by_socket(here, checks) {
        Ok(check) => return Ok(check),
        Err(error) => error,
    };
    for name in ["DIRECT_DATABASE_URL", "DATABASE_URL"] {
        if let Some(url) = std::env::var(name).ok().filter(|url| !url.is_empty()) {
            log::info!("the local socket does not serve: {refused}");
            return by_url(name, &url, Some(here), checks);
        }
    }
    Err(refused.hint("Start the server, set check_user to a role that its owner may log in as, or give --url URL."))
}

fn by_socket(here: &Here, checks: &[Check]) -> Result<SqlCheck> {
    let mut remarks = Vec::new();
    let user = match &here.check_user {
        Some(user) => user.clone(),
        None => {
            let asked = vec![Statement::identity(Some(here.identifier)), Statement::own(owner_query(&here.database))];
            let replies = here.socket(&here.user, "postgres", asked)?;
            same(replies.first(), Some(here))?;
            let reply = replies.into_iter().nth(1).ok_or_else(|| Error::failed("the server did not answer"))?;
            match reply.first_row().as_slice() {
                [role, unfit] if unfit == "f" => role.clone(),
                [_, _] => {
                    remarks.push("the checks ran as a superuser: set check_user to a role without that".to_string());
                    here.user.clone()
                }
                _ => {
                    let cause = reply.error.unwrap_or_else(|| "no such database".into());
                    return Err(Error::new(Kind::Check, format!("look for database {}", here.database)).cause(cause));
                }
            }
        }
    };
    let replies = here.socket(&user, &here.database, asked(Some(here), checks))?;
    let (results, compared) = settle(replies, Some(here), checks)?;
    Ok(SqlCheck { server: "the local socket".into(), user, database: here.database.clone(), compared, results, remarks })
}

fn by_url(name: &str, url: &str, here: Option<&Here>, checks: &[Check]) -> Result<SqlCheck> {
    let owner = match here {
        Some(here) => here.owner.clone(),
        None => nobody()?,
    };
    let replies: Vec<Reply> = owner::call(&owner, None, Task::SqlAt { url: url.to_string(), statements: asked(here, checks) })?;
    same(replies.first(), here)?;
    let whoami = replies.first().map(Reply::first_row).unwrap_or_default();
    let [_, _, database, user, superuser] = whoami.as_slice() else {
        let cause = replies.first().and_then(|r| r.error.clone()).unwrap_or_else(|| "no row".into());
        return Err(Error::failed("ask the server who it is").cause(cause));
    };
    let mut remarks = Vec::new();
    if superuser == "on" {
        remarks.push("the checks ran as a superuser: give a URL of a role without that".to_string());
    }
    let (database, user) = (database.clone(), user.clone());
    let (results, compared) = settle(replies, here, checks)?;
    if !compared {
        remarks.push("there is no cluster on this host to compare the server with".to_string());
    }
    Ok(SqlCheck { server: format!("by {name}"), user, database, compared, results, remarks })
}

/// Where no cluster names an owner the work is done by PostgreSQL's user, or by nobody.
fn nobody() -> Result<Owner> {
    let known = ["postgres", "nobody"].into_iter().find_map(|name| nix::unistd::User::from_name(name).ok().flatten());
    Owner::lookup(known.map_or(65_534, |user| user.uid.as_raw()))
}

/// Whose server it is; the checks only where it is the right one.
fn asked(here: Option<&Here>, checks: &[Check]) -> Vec<Statement> {
    std::iter::once(Statement::identity(here.map(|here| here.identifier))).chain(statements(checks, OPEN)).collect()
}

/// The answer to who the server is must be this host's cluster.
fn same(who: Option<&Reply>, here: Option<&Here>) -> Result<()> {
    let who = who.ok_or_else(|| Error::failed("the server did not answer"))?;
    let identifier = who.first_row().get(1).cloned().unwrap_or_default();
    match here.filter(|here| here.identifier.to_string() != identifier) {
        None => Ok(()),
        Some(here) => {
            let cause = who.error.clone().unwrap_or_else(|| format!("system identifier {identifier}, not {}", here.identifier));
            Err(Error::new(Kind::Refused, "the server that answers is not this host's cluster")
                .cause(cause)
                .id("other-server")
                .hint("Nothing was asked of it. Give the URL of this host's cluster, or name the right one: --cluster NAME."))
        }
    }
}

fn settle(replies: Vec<Reply>, here: Option<&Here>, checks: &[Check]) -> Result<(Vec<crate::plan::ledger::CheckResult>, bool)> {
    same(replies.first(), here)?;
    let answers = replies.get(1..).unwrap_or_default();
    let results: Vec<_> = checks.iter().zip(answers.chunks(2)).map(|(check, pair)| judge(check, pair)).collect();
    if results.len() != checks.len() {
        return Err(Error::new(Kind::Check, "not every check was answered"));
    }
    Ok((results, here.is_some()))
}
