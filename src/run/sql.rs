//! SQL on a server's Unix socket, run by the owner's child: peer authentication sees its user.

use std::path::PathBuf;
use std::time::Duration;

use postgres::{Client, Config, NoTls, SimpleQueryMessage};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Most rows of one statement that are kept.
const ROW_LIMIT: usize = 1000;

/// Where to connect and what to run there, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SqlRequest {
    /// Directory of the socket.
    pub socket: PathBuf,
    /// Port, part of the socket's name.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// Statements.
    pub statements: Vec<Statement>,
}

/// One statement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Statement {
    /// Its text.
    pub sql: String,
    /// Run in a read-only transaction of its own under these limits, and refuse more than one command in it;
    /// otherwise as it is.
    pub guarded: Option<Limits>,
    /// Nothing behind it is run unless it answers true in its first column.
    #[serde(default)]
    pub gate: bool,
}

/// Limits of a guarded statement, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// `statement_timeout`.
    pub statement: u32,
    /// `lock_timeout`; 0 waits as long as the statement may take.
    pub lock: u32,
}

/// `lock_not_available` (manual, "PostgreSQL Error Codes").
pub const LOCK_NOT_AVAILABLE: &str = "55P03";

impl Statement {
    /// Our own SQL, run as it is.
    pub fn own(sql: impl Into<String>) -> Statement {
        Statement { sql: sql.into(), guarded: None, gate: false }
    }

    /// Somebody else's SQL, read only and under limits.
    pub fn limited(sql: impl Into<String>, limits: Limits) -> Statement {
        Statement { sql: sql.into(), guarded: Some(limits), gate: false }
    }

    /// Whose server it is must be known before anything else is asked of it: the server with this system identifier, or
    /// any where there is none to compare with. Its columns: true, identifier, database, role, whether it is a superuser.
    pub fn identity(expected: Option<u64>) -> Statement {
        let same = expected.map_or("true".into(), |expected| format!("system_identifier OPERATOR(pg_catalog.=) {expected}"));
        let sql = format!(
            "SELECT {same}, system_identifier, pg_catalog.current_database(), current_user, pg_catalog.current_setting('is_superuser') \
             FROM pg_catalog.pg_control_system()"
        );
        Statement { gate: true, ..Statement::own(sql) }
    }

    /// Names in the statements after it are the system's own: a database or a role may have a `search_path` that puts
    /// tables, functions and operators of its users before them, and ours run as the bootstrap role.
    pub fn catalog_only() -> Statement {
        Statement::own("SET search_path TO pg_catalog")
    }
}

/// Rows as text, or the server's complaint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Values as text; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// The complaint.
    pub error: Option<String>,
    /// Its SQLSTATE.
    #[serde(default)]
    pub code: Option<String>,
}

impl Reply {
    /// The values of the first row as text, NULL as the empty string; nothing without a row.
    pub fn first_row(&self) -> Vec<String> {
        self.rows.first().map(|row| row.iter().map(|value| value.clone().unwrap_or_default()).collect()).unwrap_or_default()
    }

    /// The first column, rows with NULL left out.
    pub fn first_column(&self) -> Vec<String> {
        self.rows.iter().filter_map(|row| row.first().cloned().flatten()).collect()
    }

    /// The single value of a reply of one row and one column.
    pub fn single(&self) -> Option<&str> {
        match self.rows.as_slice() {
            [row] => row.first().and_then(Option::as_deref),
            _ => None,
        }
    }
}

/// Connects by a URL and runs the statements, as [`run`] does. No message holds the URL: it may hold a password.
pub fn run_at(url: &str, statements: &[Statement]) -> Result<Vec<Reply>> {
    let failed = |what: &str, e: &postgres::Error| Error::failed(what).cause(words(e));
    let mut config: Config =
        url.parse().map_err(|_| Error::usage("the server's URL cannot be read").hint("postgres://USER@HOST/DATABASE"))?;
    config.application_name("pitr").connect_timeout(Duration::from_secs(10));
    let mut client = config.connect(NoTls).map_err(|e| {
        failed("connect by the given URL", &e)
            .hint("TLS is not spoken here: give a URL of this host, or leave it out for the local socket.")
    })?;
    Ok(all(&mut client, statements))
}

/// Connects and runs the statements; a failing statement does not stop those after it, a gate does.
pub fn run(request: &SqlRequest) -> Result<Vec<Reply>> {
    let mut client = connect(request)?;
    Ok(all(&mut client, &request.statements))
}

fn all(client: &mut Client, statements: &[Statement]) -> Vec<Reply> {
    let mut replies = Vec::new();
    for statement in statements {
        let reply = one(client, statement).unwrap_or_else(|e| complaint(&e));
        let shut = statement.gate && reply.first_row().first().is_none_or(|answer| answer != "t");
        replies.push(reply);
        if shut {
            break;
        }
    }
    replies
}

fn connect(request: &SqlRequest) -> Result<Client> {
    Config::new()
        .host_path(&request.socket)
        .port(request.port)
        .user(&request.user)
        .dbname(&request.database)
        .application_name("pitr")
        .connect_timeout(Duration::from_secs(10))
        .connect(NoTls)
        .map_err(|e| {
            Error::failed(format!(
                "connect to {} on {} port {} as {}",
                request.database,
                request.socket.display(),
                request.port,
                request.user
            ))
            .cause(words(&e))
        })
}

fn one(client: &mut Client, statement: &Statement) -> std::result::Result<Reply, postgres::Error> {
    let Some(limits) = statement.guarded else { return simple(client, &statement.sql) };
    client.batch_execute("BEGIN TRANSACTION READ ONLY")?;
    let guarded = (|| {
        client.batch_execute(&format!("SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}", limits.statement, limits.lock))?;
        // Preparing refuses several commands in one string, which would leave the transaction.
        client.prepare(&statement.sql)?;
        simple(client, &statement.sql)
    })();
    let ended = client.batch_execute("ROLLBACK");
    let reply = guarded?;
    ended.map(|()| reply)
}

fn simple(client: &mut Client, sql: &str) -> std::result::Result<Reply, postgres::Error> {
    let mut rows = Vec::new();
    for message in client.simple_query(sql)? {
        if let SimpleQueryMessage::Row(row) = message
            && rows.len() < ROW_LIMIT
        {
            rows.push((0..row.len()).map(|i| row.try_get(i).ok().flatten().map(str::to_string)).collect());
        }
    }
    Ok(Reply { rows, ..Reply::default() })
}

fn complaint(error: &postgres::Error) -> Reply {
    Reply { error: Some(words(error)), code: error.code().map(|c| c.code().to_string()), ..Reply::default() }
}

/// The server's own message where there is one.
fn words(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{}: {}", db.severity(), db.message()),
        None => {
            let mut text = error.to_string();
            if let Some(source) = std::error::Error::source(error) {
                text = format!("{text}: {source}");
            }
            text
        }
    }
}

/// Quotes an identifier.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string constant that means the same whatever `standard_conforming_strings` is.
pub fn literal(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{text}'")
}
