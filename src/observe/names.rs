//! Names of databases and relations, asked of the serving cluster on its own socket, as its owner.
//!
//! Best effort: where nobody answers, numbers are shown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::error::{Error, Result};
use crate::host::Owner;
use crate::plan::loss::{Named, Names};
use crate::run::owner::{self, Task};
use crate::run::sql::{Limits, Reply, SqlRequest, Statement, literal};
use crate::run::switch::ServerStatus;
use crate::wal::RelationFile;

/// A catalog query that takes longer is given up.
const LIMITS: Limits = Limits { statement: 10_000, lock: 1_000 };
/// File numbers in one statement, which returns no more rows than that.
const AT_ONCE: usize = 500;

/// The serving cluster's door.
#[derive(Debug)]
pub struct Door<'a> {
    owner: &'a Owner,
    user: &'a str,
    identifier: u64,
    status: ServerStatus,
}

impl<'a> Door<'a> {
    /// The door of the server on `data_directory`; `identifier` is the system identifier that it must have.
    pub fn find(owner: &'a Owner, data_directory: &Path, user: &'a str, identifier: u64) -> Result<Door<'a>> {
        let status = owner::call(owner, None, Task::ServerStatus { data_directory: data_directory.to_path_buf() })?;
        Ok(Door { owner, user, identifier, status })
    }

    /// Whether the role is let in to `database` on the cluster's own socket, as a recovery will try after its public start.
    pub fn admits(&self, database: &str) -> bool {
        self.ask(database, vec![]).is_some()
    }

    /// Names of all databases and of the relations that have `files` now.
    pub fn names(&self, files: &BTreeSet<RelationFile>) -> Names {
        let mut names = Names::default();
        let Some(replies) = self.ask("postgres", vec!["SELECT oid, datname FROM pg_database".into()]) else { return names };
        names.databases = replies.iter().flat_map(|r| &r.rows).filter_map(|row| Some((number(row, 0)?, text(row, 1)?))).collect();
        let mut by_database: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for file in files.iter().filter(|file| file.database != 0) {
            by_database.entry(file.database).or_default().push(file.number);
        }
        for (database, numbers) in by_database {
            let Some((_, name)) = names.databases.iter().find(|(oid, _)| *oid == database).cloned() else { continue };
            let statements = numbers.chunks(AT_ONCE).map(relations).collect();
            let replies = self.ask(&name, statements).unwrap_or_default();
            names.relations.extend(replies.iter().flat_map(|r| &r.rows).filter_map(|row| named(database, row)));
        }
        names
    }

    /// Standbys and receivers that read the WAL now: application and address, `local` for a socket.
    pub fn readers(&self) -> Vec<(String, String)> {
        let replies = self.ask("postgres", vec![READERS.into()]).unwrap_or_default();
        replies.iter().flat_map(|r| &r.rows).filter_map(|row| Some((text(row, 0)?, text(row, 1)?))).collect()
    }

    /// Relations called `name` (`name` or `schema.name`, as it is written in the catalogs), in `database` or in all.
    pub fn called(&self, name: &str, database: Option<u32>, names: &Names) -> Vec<Named> {
        let (schema, relation) = name.split_once('.').map_or((None, name), |(schema, relation)| (Some(schema), relation));
        let in_schema = schema.map(|schema| format!(" AND n.nspname = {}", literal(schema))).unwrap_or_default();
        let sql = format!("{RELATIONS} WHERE c.relname = {}{in_schema}", literal(relation));
        let wanted = names.databases.iter().filter(|(oid, _)| database.is_none_or(|wanted| wanted == *oid));
        let found = wanted.filter_map(|(oid, place)| Some((*oid, self.ask(place, vec![sql.clone()])?)));
        found.flat_map(|(oid, replies)| replies.into_iter().flat_map(|r| r.rows).filter_map(move |row| named(oid, &row))).collect()
    }

    /// Schemas of these databases: database, OID, name.
    pub fn schemas(&self, databases: &BTreeSet<u32>, names: &Names) -> Vec<(u32, u32, String)> {
        let mut schemas = Vec::new();
        for (database, place) in names.databases.iter().filter(|(oid, _)| databases.contains(oid)) {
            let replies = self.ask(place, vec!["SELECT oid, nspname FROM pg_namespace".into()]).unwrap_or_default();
            let rows = replies.iter().flat_map(|r| &r.rows);
            schemas.extend(rows.filter_map(|row| Some((*database, number(row, 0)?, text(row, 1)?))));
        }
        schemas
    }

    /// Runs our own statements as they are; they must make sure themselves that they reach the right server.
    pub fn run(&self, database: &str, statements: Vec<Statement>) -> Result<Vec<Reply>> {
        let none = || Error::failed("the server has no local socket").hint("Look at unix_socket_directories.");
        let (socket, port) = (self.status.socket.clone().ok_or_else(none)?, self.status.port.ok_or_else(none)?);
        let request = SqlRequest { socket, port, user: self.user.into(), database: database.into(), statements };
        owner::call(self.owner, None, Task::Sql(request))
    }

    /// The replies to `statements` in `database`, each in a read-only transaction of its own that sees only pg_catalog; none
    /// where nobody answers, or another cluster does.
    pub fn ask(&self, database: &str, statements: Vec<String>) -> Option<Vec<Reply>> {
        let (socket, port) = (self.status.socket.clone()?, self.status.port?);
        let guarded = statements.into_iter().map(|sql| Statement::limited(sql, LIMITS));
        let statements = [Statement::identity(Some(self.identifier)), Statement::catalog_only()].into_iter().chain(guarded).collect();
        let request = SqlRequest { socket, port, user: self.user.into(), database: database.into(), statements };
        let replies: Result<Vec<Reply>> = owner::call(self.owner, None, Task::Sql(request));
        let replies = replies.inspect_err(|error| log::info!("names in {database} are not known: {error}")).ok()?;
        // Where it is another one there is no second reply.
        (replies.len() > 1).then(|| replies.into_iter().skip(2).collect())
    }
}

/// A base backup in progress is no reader.
const READERS: &str = "SELECT DISTINCT application_name, coalesce(host(client_addr), 'local') FROM pg_catalog.pg_stat_replication \
    WHERE state <> 'backup' ORDER BY 1, 2 LIMIT 50";

/// What is in a schema of the system's own, or is none that users write themselves, is marked.
const RELATIONS: &str = "SELECT coalesce(pg_catalog.pg_relation_filenode(c.oid), 0), c.oid, \
    pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), \
    (c.relkind NOT IN ('r', 'm', 'p', 'S') OR n.nspname IN ('pg_catalog', 'pg_toast', 'information_schema')), \
    (SELECT pg_catalog.quote_ident(rn.nspname) || '.' || pg_catalog.quote_ident(r.relname) FROM pg_catalog.pg_class r \
     JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace WHERE c.relispartition AND r.oid = pg_catalog.pg_partition_root(c.oid)) \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace";

/// Relations by file number.
fn relations(numbers: &[u32]) -> String {
    let list: Vec<String> = numbers.iter().map(u32::to_string).collect();
    format!("{RELATIONS} WHERE pg_catalog.pg_relation_filenode(c.oid) IN ({})", list.join(", "))
}

fn named(database: u32, row: &[Option<String>]) -> Option<Named> {
    let (file, oid) = (number(row, 0)?, number(row, 1)?);
    Some(Named { database, file, oid, name: text(row, 2)?, system: text(row, 3)? == "t", part_of: text(row, 4) })
}

fn text(row: &[Option<String>], at: usize) -> Option<String> {
    row.get(at).cloned().flatten()
}

fn number(row: &[Option<String>], at: usize) -> Option<u32> {
    text(row, at)?.parse().ok()
}
