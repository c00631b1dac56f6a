//! Migration tools: which table is whose, what its rows mean, and which commit begins a migration. Pure.
//!
//! One file a tool says what it is: columns, default names, class, and how a row is read. The rules that follow from the
//! class stand in [`history`] (what became of each version) and [`begin`] (which commit has to be excluded), the rest
//! of the work in [`signature`] (whose table), [`version`] (what a person typed), [`files`] (what the tool's own
//! directory says) and [`after`] (what a recovery must find).
//!
//! Guarantees: a tool is known by the columns of its table, not by the table's name alone; nothing that the WAL leaves
//! open is guessed: it is [`history::How::Undecided`], with what there is to choose from.

pub mod after;
pub mod begin;
pub mod files;
pub mod history;
pub mod reading;
pub mod signature;
pub mod version;

mod alembic;
mod atlas;
mod dbmate;
mod diesel;
mod django;
mod doctrine;
mod drizzle;
mod ecto;
mod ef_core;
mod flyway;
mod golang_migrate;
mod goose;
mod gorp;
mod graphile;
mod knex;
mod kysely;
mod laravel;
mod liquibase;
mod migratus;
mod mikro_orm;
mod node_pg_migrate;
mod postgres_migrations;
mod prisma;
mod rails;
mod refinery;
mod sea_orm;
mod sequel;
mod sequelize;
mod sqitch;
mod sqlx;
mod supabase;
mod tern;
mod typeorm;

use reading::{Fields, Mark};

/// A migration tool, as far as its history table tells.
#[derive(Debug)]
pub struct Tool {
    /// What `--tool` takes.
    pub id: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// Names that its table has unless it was configured otherwise.
    pub tables: &'static [&'static str],
    /// The columns say too little: only a table of such a name is taken for this tool's.
    pub by_name: bool,
    /// Columns that are there.
    pub required: &'static [(&'static str, Is)],
    /// Columns that may be there.
    pub optional: &'static [(&'static str, Is)],
    /// How rows and work are committed.
    pub class: Class,
    /// How its users type a version.
    pub typed: Typed,
    /// Tables of the same schema that it writes beside this one; `*` stands for the table's own name.
    pub companions: &'static [&'static str],
    /// What a row means.
    pub read: fn(&Fields<'_>) -> Option<Mark>,
}

/// Type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// `boolean`.
    Bool,
    /// `smallint` or `integer`.
    Int4,
    /// `bigint`.
    Int8,
    /// Any of the three, or `numeric`.
    Integer,
    /// `text`, `varchar` of any length.
    Text,
    /// `timestamp`.
    Timestamp,
    /// `timestamptz`.
    TimestampTz,
    /// Either.
    Time,
    /// Anything.
    Any,
}

/// How a tool commits its rows and the work of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A: the row is written in the migration's own transaction.
    Same,
    /// B: all pending migrations and their rows in one transaction.
    Batch,
    /// C: the work commits first, then the row in a transaction of its own.
    After,
    /// C with two connections (Flyway): the work commits between the row's INSERT and the row's commit.
    Around,
    /// D: a row that says "begun" commits before the work, and is finished after it.
    Bracket,
    /// D in a table of one row that every version replaces (golang-migrate).
    OneRowBracket,
    /// A or B in a table of one row for each head, which is updated (Alembic, tern).
    OneRow,
}

impl Class {
    /// The letter and word of the documentation.
    pub fn word(self) -> &'static str {
        match self {
            Class::Same => "same-transaction",
            Class::Batch => "batch",
            Class::After | Class::Around => "row-after-work",
            Class::Bracket | Class::OneRowBracket => "bracket",
            Class::OneRow => "one-row",
        }
    }
}

/// How a version is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typed {
    /// A number; leading zeros mean nothing.
    Number,
    /// Numbers with dots between them.
    Dotted,
    /// A text, or the beginning of one that no other has.
    Text,
    /// `app.0007_name`, or the beginning of the name behind `app.`.
    App,
}

/// Every tool, in the order in which their signatures are tried.
pub fn tools() -> impl Iterator<Item = &'static Tool> {
    ALL.iter().copied()
}

/// The tool of this id.
pub fn tool(id: &str) -> Option<&'static Tool> {
    tools().find(|tool| tool.id == id)
}

/// The most telling signatures first; a later one may fit tables of an earlier one.
static ALL: [&Tool; 35] = [
    &flyway::TOOL,
    &liquibase::TOOL,
    &prisma::TOOL,
    &graphile::TOOL,
    &atlas::TOOL,
    &sqitch::TOOL,
    &sqlx::TOOL,
    &drizzle::TOOL,
    &goose::TOOL,
    &golang_migrate::TOOL,
    &ecto::TOOL,
    &migratus::TOOL,
    &supabase::TOOL,
    &alembic::TOOL,
    &diesel::TOOL,
    &sea_orm::TOOL,
    &refinery::TOOL,
    &doctrine::TOOL,
    &ef_core::TOOL,
    &ef_core::SNAKE_CASE,
    &django::TOOL,
    &knex::TOOL,
    &laravel::TOOL,
    &typeorm::TOOL,
    &node_pg_migrate::TOOL,
    &postgres_migrations::TOOL,
    &mikro_orm::TOOL,
    &kysely::TOOL,
    &gorp::TOOL,
    &rails::TOOL,
    &dbmate::TOOL,
    &sequel::TOOL,
    &sequel::INTEGER,
    &tern::TOOL,
    &sequelize::TOOL,
];
