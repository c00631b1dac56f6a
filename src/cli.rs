//! The command line. The doc comments of these structs are the help.
//!
//! Guarantees: a value that leaves here is well formed (digits are numbers, names have their length), paths are
//! absolute. Times are read by [`TargetFlags::request`], which knows the clock and the zone of its caller.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use jiff::{Timestamp, tz::TimeZone};

use crate::config::{cluster_name, duration::parse_duration};
use crate::error::Result;
use crate::pg::{Lsn, Malformed};
use crate::plan::target::{TargetRequest, TimelineRequest, parse_lsn, parse_name, parse_xid};
use crate::plan::time::parse_time;

const AFTER_HELP: &str = "\
Examples:
  pitr status
      What each cluster is doing and how far back it can be taken
  pitr plan --to-time '2026-11-21 21:05:19+00'
      Show what a recovery to that time would do; change nothing
  pitr restore --before-xid 208245
      Keep everything committed before transaction 208245
  pitr restore --to-name before-deploy --yes -o json
      For scripts: no question, one JSON document on standard output
  pitr undo
      Put the old cluster back

Exit status:
  0    done, or nothing to do
  1    failed before the switch; the old cluster is as it was
  2    usage or configuration
  3    refused before anything was touched
  4    hands are needed; the message gives the exact next command
  5    another run holds the lock
  6    a check or verification failed; nothing was switched
  130  interrupted (SIGINT); the old cluster is as it was, the work is kept
  143  terminated (SIGTERM); the old cluster is as it was, the work is kept";

/// Take a self-hosted PostgreSQL cluster back to an exact point in time.
///
/// The recovered cluster is built beside the old one, proved in private, and exchanged with it in one step.
/// The old data stays until `pitr purge`; `pitr undo` puts it back.
#[derive(Debug, Parser)]
#[command(name = "pitr", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// Flags that every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags that every verb takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml
    #[arg(long, value_name = "FILE", global = true, value_parser = absolute)]
    pub config: Option<PathBuf>,
    /// Act on this cluster; not needed where there is one
    #[arg(long, value_name = "NAME", global = true, value_parser = cluster_name)]
    pub cluster: Option<String>,
    /// Print the result as text or as one JSON document
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t, global = true)]
    pub output: Output,
    /// Show no progress
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Print only the result and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more on standard error; twice for every detail
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
}

/// The form of the result on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For people; may change between versions
    #[default]
    Text,
    /// One document with a schema number
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show each cluster, how far back it can be taken, and what to type next
    Status(StatusArgs),
    /// List the base backups and say which of them can be used
    Backups,
    /// List transactions of the WAL, oldest first, and what each changed
    Log(LogArgs),
    /// Prove that what recoveries need is whole
    #[command(subcommand)]
    Verify(VerifyVerb),
    /// Show what a recovery would do, and prove that it can be done; change nothing
    #[command(override_usage = "pitr plan [OPTIONS] <TARGET>")]
    Plan(PlanArgs),
    /// Take the cluster back to the target
    #[command(override_usage = "pitr restore [OPTIONS] <TARGET>")]
    Restore(RestoreArgs),
    /// Continue a run that was interrupted
    Resume(ReturnArgs),
    /// Put the old cluster back, before or after the switch
    Undo(ReturnArgs),
    /// Delete what a run kept; after this it cannot be undone
    #[command(override_usage = "pitr purge [OPTIONS] <RUN|--all>")]
    Purge(PurgeArgs),
    /// Answer the private server's restore_command.
    #[command(hide = true)]
    WalGet(WalGetArgs),
    /// Act as the owner of a data directory; the request comes on standard input.
    #[command(name = "__owner", hide = true)]
    Owner,
    /// Start the private server; the request comes on standard input.
    #[command(name = "__launch", hide = true)]
    Launch,
    /// Runs a program in a session of its own.
    #[command(name = "__session", hide = true)]
    Session(SessionArgs),
}

/// Arguments of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Show it again every few seconds until interrupted
    #[arg(long)]
    pub watch: bool,
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

/// What is proved.
#[derive(Debug, Clone, Subcommand)]
pub enum VerifyVerb {
    /// Read every record of the WAL; say what can be reached on each timeline, and every hole (exit 6)
    Wal(VerifyWalArgs),
}

/// Arguments of `verify wal`.
#[derive(Debug, Clone, Args)]
pub struct VerifyWalArgs {
    /// Read this directory instead of the cluster's archive and pg_wal; needs no cluster; may be repeated
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    pub wal: Vec<PathBuf>,
}

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
    /// Discard the WAL record at this position and all after it
    #[arg(long, value_name = "LSN", value_parser = parse_lsn)]
    pub before_lsn: Option<Lsn>,
}

/// What to recover from, and by which rules.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Recovery")]
pub struct SourceFlags {
    /// Follow this timeline: a number, latest (the highest in the archive), or current (the cluster's own)
    #[arg(long, value_name = "N|current|latest", default_value_t)]
    pub timeline: TimelineRequest,
    /// Use this base backup instead of the one that suits best
    #[arg(long, value_name = "NAME")]
    pub backup: Option<String>,
    /// Look for base backups here instead of where the configuration says; may be repeated
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    pub backups: Vec<PathBuf>,
    /// Look for WAL here instead of where the configuration says; may be repeated
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    pub wal: Vec<PathBuf>,
    /// Override the refusal with this id; may be repeated
    #[arg(long, value_name = "ID", value_parser = refusal_id)]
    pub accept: Vec<String>,
    /// Take PostgreSQL's configuration from today's cluster or from the backup
    #[arg(long, value_name = "SOURCE", value_enum, default_value_t)]
    pub config_from: ConfigFrom,
    /// Run the checks of this SQL file too; may be repeated
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    pub checks: Vec<PathBuf>,
    /// Say why, for the report
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
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

/// Arguments of `__session`.
#[derive(Debug, Clone, Args)]
pub struct SessionArgs {
    /// Program and arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub words: Vec<OsString>,
}

/// Arguments of `wal-get`.
#[derive(Debug, Clone, Args)]
pub struct WalGetArgs {
    /// The socket of the run's broker
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// The file that the server asks for (%f)
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Where the server wants it (%p), relative to its data directory
    #[arg(value_name = "DEST")]
    pub dest: PathBuf,
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

/// The bound of `--max-loss`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxLoss {
    /// Seconds between the target and the last commit.
    Seconds(u64),
    /// Transactions discarded.
    Transactions(u64),
}

/// Reads the arguments of this process. `Err` carries the exit code after help, version or clap's message was printed.
pub fn parse() -> std::result::Result<Cli, ExitCode> {
    parse_from(std::env::args_os())
}

/// The same for given arguments, the program's name first.
fn parse_from(arguments: impl IntoIterator<Item = OsString>) -> std::result::Result<Cli, ExitCode> {
    Cli::try_parse_from(arguments).map_err(|message| {
        // A closed pipe behind `pitr --help | head` is no error; nothing else could be said anywhere.
        let _ = message.print();
        ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(2))
    })
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
            .or(self.to_name.clone().map(TargetRequest::ToName))
            .or(self.to_latest.then_some(TargetRequest::ToLatest))
            .or(self.to_consistent.then_some(TargetRequest::ToConsistent));
        request.ok_or_else(|| crate::error::Error::usage("no target").hint("Give one of the --to-… or --before-… flags."))
    }
}

/// Digits alone count transactions; with units they are a duration.
fn max_loss(text: &str) -> std::result::Result<MaxLoss, Malformed> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map(MaxLoss::Transactions).map_err(|_| Malformed::new("too large a number"));
    }
    parse_duration(text).map(MaxLoss::Seconds)
}

/// Lines of the log are held until the last is known.
fn limit(text: &str) -> std::result::Result<usize, Malformed> {
    const MOST: usize = 500_000;
    let number = text.parse().ok().filter(|number| (1..=MOST).contains(number));
    number.ok_or_else(|| Malformed::new(format!("expected a number from 1 to {MOST}; --since and --until narrow the log")))
}

/// A run's working directory may differ from the caller's.
fn absolute(text: &str) -> std::io::Result<PathBuf> {
    std::path::absolute(text)
}

/// A run's id names a directory: letters, digits and hyphens only.
fn run_id(text: &str) -> std::result::Result<String, Malformed> {
    word(text, |b| b.is_ascii_alphanumeric() || b == b'-', "a run's id has letters, digits and hyphens, as pitr status prints it")
}

/// Ids of refusals are lower case words with hyphens; `protected` ones carry the relation's name after a colon.
fn refusal_id(text: &str) -> std::result::Result<String, Malformed> {
    let (id, name) = text.split_once(':').map_or((text, None), |(id, name)| (id, Some(name)));
    let complaint = "a refusal's id looks like no-manifest, as pitr plan prints it";
    word(id, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-', complaint)?;
    if name.is_some_and(str::is_empty) { Err(Malformed::new(complaint)) } else { Ok(text.to_string()) }
}

/// Digests are hexadecimal; the beginning is not enough.
fn digest(text: &str) -> std::result::Result<String, Malformed> {
    word(text, |b| b.is_ascii_hexdigit(), "a plan's digest is hexadecimal, as pitr plan prints it").map(|t| t.to_ascii_lowercase())
}

fn word(text: &str, allowed: fn(u8) -> bool, complaint: &str) -> std::result::Result<String, Malformed> {
    let good = (1..=128).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(allowed);
    if good { Ok(text.to_string()) } else { Err(Malformed::new(complaint)) }
}

#[cfg(test)]
mod tests;
