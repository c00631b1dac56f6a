//! The flags of the verbs that look and prove; they change nothing.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::act::MigrationFlags;
use super::words::{absolute, limit, run_id};
use crate::config::duration::parse_duration;
use crate::plan::target::{TimelineRequest, parse_name, parse_xid};

/// Where to look.
#[derive(Debug, Clone, Default, Args)]
pub struct PlaceFlags {
    /// Look for base backups here instead of where the configuration says; may be repeated
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    pub backups: Vec<PathBuf>,
    /// Look for WAL here instead of where the configuration says; may be repeated
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    pub wal: Vec<PathBuf>,
}

/// Arguments of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Where to look.
    #[command(flatten)]
    pub places: PlaceFlags,
    /// Show it again every few seconds until interrupted
    #[arg(long)]
    pub watch: bool,
}

/// Arguments of `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Fail where the newest usable backup is older than this (2d, 36h)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "sql")]
    pub max_backup_age: Option<u64>,
    /// Run the checks of this SQL file against a server instead; may be repeated
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    pub sql: Vec<PathBuf>,
    /// Reach the server by this URL instead of the cluster's socket, DIRECT_DATABASE_URL or DATABASE_URL
    #[arg(long, value_name = "URL", requires = "sql")]
    pub url: Option<String>,
}

/// Arguments of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// The run; by default the newest
    #[arg(value_name = "RUN", value_parser = run_id)]
    pub run: Option<String>,
}

/// Arguments of `log`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which transactions")]
pub struct LogArgs {
    /// From this time on: '2026-11-21 21:05', 21:05 (today), or 2h (ago)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// From five minutes before this time to five minutes after it
    #[arg(long, value_name = "TIME", conflicts_with_all = ["since", "until"])]
    pub around: Option<String>,
    /// That changed this relation: name, schema.name, OID or file number
    #[arg(short = 't', long, value_name = "NAME")]
    pub relation: Option<String>,
    /// In this database: name or OID
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// This transaction, also when it was rolled back
    #[arg(long, value_name = "XID", value_parser = parse_xid)]
    pub xid: Option<u64>,
    /// That changed definitions
    #[arg(long)]
    pub ddl: bool,
    /// That deleted rows or emptied relations
    #[arg(long)]
    pub deletes: bool,
    /// The newest so many, at most 500000
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = limit)]
    pub limit: usize,
    /// Follow this timeline: a number, latest (the highest there is), or current (the cluster's own)
    #[arg(long, value_name = "N|current|latest")]
    pub timeline: Option<TimelineRequest>,
    /// Read this directory instead of the cluster's archive and pg_wal; needs no cluster; may be repeated
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    pub wal: Vec<PathBuf>,
}

/// Arguments of `migrations`.
#[derive(Debug, Clone, Args)]
pub struct MigrationsArgs {
    /// Of which tool.
    #[command(flatten)]
    pub which: MigrationFlags,
    /// In this database only
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// Follow this timeline: a number, latest (the highest there is), or current (the cluster's own)
    #[arg(long, value_name = "N|current|latest")]
    pub timeline: Option<TimelineRequest>,
}

/// Arguments of `verify`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct VerifyArgs {
    /// What is proved; both without it.
    #[command(subcommand)]
    pub verb: Option<VerifyVerb>,
}

/// What is proved.
#[derive(Debug, Clone, Subcommand)]
pub enum VerifyVerb {
    /// Read backups whole; say of each what was proved and what could not be (exit 6 when one is damaged)
    Backups(VerifyBackupsArgs),
    /// Read every record of the WAL; say what can be reached on each timeline, and every hole (exit 6)
    Wal(VerifyWalArgs),
}

/// Arguments of `verify backups`.
#[derive(Debug, Clone, Args)]
pub struct VerifyBackupsArgs {
    /// Only the backup of this name
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Look for backups here instead of where the configuration says; needs no cluster; may be repeated
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    pub backups: Vec<PathBuf>,
}

/// Arguments of `verify wal`.
#[derive(Debug, Clone, Args)]
pub struct VerifyWalArgs {
    /// Read this directory instead of the cluster's archive and pg_wal; needs no cluster; may be repeated
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    pub wal: Vec<PathBuf>,
}

/// Arguments of `mark`.
#[derive(Debug, Clone, Args)]
pub struct MarkArgs {
    /// Name of the restore point, which no other has
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub name: String,
    /// Wait until its WAL is archived, and prove that a recovery can come back to it (else exit 6)
    #[arg(long)]
    pub wait: bool,
    /// Wait at most so long for the archive
    #[arg(long, value_name = "DURATION", default_value = "10min", value_parser = parse_duration, requires = "wait")]
    pub timeout: u64,
    /// Reach the server by this URL instead of the cluster's socket, as a role that may make restore points
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}
