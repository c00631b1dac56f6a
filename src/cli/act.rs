//! The flags of the verbs that act, and of the plan that precedes them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::{Timestamp, tz::TimeZone};

use super::look::PlaceFlags;
use super::words::{MaxLoss, absolute, digest, max_loss, migration_version, refusal_id, run_id, tablespace, tool_id};
use crate::error::Result;
use crate::pg::Lsn;
use crate::plan::target::{MigrationTarget, TargetRequest, TimelineRequest, parse_lsn, parse_name, parse_xid};
use crate::plan::time::parse_time;

/// Arguments of `plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// Where to stop.
    #[command(flatten)]
    pub target: TargetFlags,
    /// What to recover from.
    #[command(flatten)]
    pub source: SourceFlags,
}

/// Arguments of `restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// Where to stop.
    #[command(flatten)]
    pub target: TargetFlags,
    /// What to recover from.
    #[command(flatten)]
    pub source: SourceFlags,
    /// Run only the plan with this digest, as `pitr plan` printed it
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    pub plan: Option<String>,
    /// Refuse to discard more than this: a duration (1h, 5min) or a number of transactions
    #[arg(long, value_name = "AMOUNT", value_parser = max_loss)]
    pub max_loss: Option<MaxLoss>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Only show the plan, like `pitr plan`
    #[arg(long)]
    pub dry_run: bool,
}

/// Where to stop: exactly one of these. `to` keeps the named transaction, `before` discards it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Target, exactly one (`to` keeps the named transaction, `before` discards it)")]
#[group(id = "target", required = true, multiple = false)]
pub struct TargetFlags {
    /// Keep what was committed up to this time, with its zone: '2026-11-21 21:05:19+00'
    #[arg(long, value_name = "TIME")]
    pub to_time: Option<String>,
    /// Keep this transaction and what was committed before it
    #[arg(long, value_name = "XID", value_parser = parse_xid)]
    pub to_xid: Option<u64>,
    /// Keep the WAL record at this position
    #[arg(long, value_name = "LSN", value_parser = parse_lsn)]
    pub to_lsn: Option<Lsn>,
    /// Stop at this restore point (pg_create_restore_point)
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub to_name: Option<String>,
    /// Keep everything there is
    #[arg(long)]
    pub to_latest: bool,
    /// Stop as soon as the backup is consistent
    #[arg(long, visible_alias = "to-immediate")]
    pub to_consistent: bool,
    /// Keep what was committed before this time, with its zone
    #[arg(long, value_name = "TIME")]
    pub before_time: Option<String>,
    /// Keep what was committed before this transaction
    #[arg(long, value_name = "XID", value_parser = parse_xid)]
    pub before_xid: Option<u64>,
    /// Keep what was committed before this migration, named as its tool's users name it: 123, 0004_audit, shop.0007
    #[arg(long, value_name = "VERSION", value_parser = migration_version)]
    pub before_migration: Option<String>,
    /// Discard the WAL record at this position and all after it
    #[arg(long, value_name = "LSN", value_parser = parse_lsn)]
    pub before_lsn: Option<Lsn>,
}

/// What to recover from, and by which rules.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Recovery")]
pub struct SourceFlags {
    /// Follow this timeline: a number, latest (the highest in the archive), or current (the cluster's own)
    #[arg(long, value_name = "N|current|latest", default_value_t)]
    pub timeline: TimelineRequest,
    /// Use this base backup instead of the one that suits best
    #[arg(long, value_name = "NAME")]
    pub backup: Option<String>,
    /// Where to look.
    #[command(flatten)]
    pub places: PlaceFlags,
    /// Recover into this cluster of a fresh host, whatever empty cluster it has: 16/main
    #[arg(long = "as", value_name = "CLUSTER", value_parser = crate::config::cluster_name)]
    pub as_cluster: Option<String>,
    /// Where a tablespace goes of which neither the backup nor the cluster tells; may be repeated
    #[arg(long = "tablespace", value_name = "OID=DIR", value_parser = tablespace)]
    pub tablespaces: Vec<(u32, PathBuf)>,
    /// Override the refusal with this id; may be repeated
    #[arg(long, value_name = "ID", value_parser = refusal_id)]
    pub accept: Vec<String>,
    /// Take PostgreSQL's configuration from today's cluster or from the backup
    #[arg(long, value_name = "SOURCE", value_enum, default_value_t)]
    pub config_from: ConfigFrom,
    /// Run the checks of this SQL file too; may be repeated
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    pub checks: Vec<PathBuf>,
    /// Dump the databases as they are now into this directory, before the cluster is stopped (pg_dump -Fc, and the roles)
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    pub dump_before: Option<PathBuf>,
    /// Dump only this database; may be repeated
    #[arg(long, value_name = "NAME", requires = "dump_before")]
    pub dump_database: Vec<String>,
    /// Say why, for the report
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Of which tool.
    #[command(flatten)]
    pub migrations: MigrationFlags,
}

/// Which migrations, where several tools left theirs.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Migrations")]
pub struct MigrationFlags {
    /// The tool's own directory: for names, what is pending, and whether a migration has a way back of its own
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    pub dir: Option<PathBuf>,
    /// Only migrations of this tool, as pitr migrations prints it
    #[arg(long, value_name = "TOOL", value_parser = tool_id)]
    pub tool: Option<String>,
    /// Only those in this history table: name, or schema.name
    #[arg(long, value_name = "TABLE")]
    pub history_table: Option<String>,
}

/// Arguments of `resume` and `undo`.
#[derive(Debug, Clone, Args)]
pub struct ReturnArgs {
    /// The run; by default the newest that can be
    #[arg(value_name = "RUN", value_parser = run_id)]
    pub run: Option<String>,
    /// Override the refusal with this id; may be repeated
    #[arg(long, value_name = "ID", value_parser = refusal_id)]
    pub accept: Vec<String>,
    /// Say why, for the report
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Only show what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `purge`.
#[derive(Debug, Clone, Args)]
pub struct PurgeArgs {
    /// The run whose kept data is deleted
    #[arg(value_name = "RUN", value_parser = run_id, required_unless_present = "all", conflicts_with = "all")]
    pub run: Option<String>,
    /// Delete what every finished run kept; what may not go is named
    #[arg(long)]
    pub all: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Only show what would be deleted
    #[arg(long)]
    pub dry_run: bool,
}

/// Whose PostgreSQL configuration the recovered cluster gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ConfigFrom {
    /// What the cluster uses now
    #[default]
    Current,
    /// What the backup contains
    Backup,
}

impl TargetFlags {
    /// The target that was asked for; a time is read at `now` on a host whose zone is `zone`.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] for a time that is none, or is not one instant.
    pub fn request(&self, now: Timestamp, zone: &TimeZone) -> Result<TargetRequest> {
        if let Some(text) = &self.to_time {
            return Ok(TargetRequest::ToTime(parse_time("--to-time", text, now, zone)?));
        }
        if let Some(text) = &self.before_time {
            return Ok(TargetRequest::BeforeTime(parse_time("--before-time", text, now, zone)?));
        }
        let request = None
            .or(self.to_xid.map(TargetRequest::ToXid))
            .or(self.before_xid.map(TargetRequest::BeforeXid))
            .or(self.to_lsn.map(TargetRequest::ToLsn))
            .or(self.before_lsn.map(TargetRequest::BeforeLsn))
            .or(self
                .before_migration
                .clone()
                .map(|version| TargetRequest::BeforeMigration(MigrationTarget { version, ..MigrationTarget::default() })))
            .or(self.to_name.clone().map(TargetRequest::ToName))
            .or(self.to_latest.then_some(TargetRequest::ToLatest))
            .or(self.to_consistent.then_some(TargetRequest::ToConsistent));
        request.ok_or_else(|| crate::error::Error::usage("no target").hint("Give one of the --to-… or --before-… flags."))
    }
}
