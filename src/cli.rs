//! The command line. The doc comments of these structs are the help.
//!
//! Guarantees: a value that leaves here is well formed (digits are numbers, names have their length), paths are
//! absolute. Times are read by [`TargetFlags::request`], which knows the clock and the zone of its caller.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub use act::{ConfigFrom, MigrationFlags, PlanArgs, PurgeArgs, RestoreArgs, ReturnArgs, SourceFlags, TargetFlags};
pub use look::{
    CheckArgs, LogArgs, MarkArgs, MigrationsArgs, PlaceFlags, ReportArgs, StatusArgs, VerifyArgs, VerifyBackupsArgs, VerifyVerb,
    VerifyWalArgs,
};
pub use words::MaxLoss;
use words::{absolute, cluster_word};

mod act;
mod look;
mod typed;
mod words;

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
  130  interrupted (SIGINT); the old cluster is as it was, the work is kept; at a terminal, what was chosen there
  143  terminated (SIGTERM); the old cluster is as it was, the work is kept";

/// Take a self-hosted PostgreSQL cluster back to an exact point in time.
///
/// The recovered cluster is built beside the old one, proved in private, and exchanged with it in one step.
/// The old data stays until `pitr purge`; `pitr undo` puts it back.
#[derive(Debug, Parser)]
#[command(name = "pitr", version, after_help = AFTER_HELP, max_term_width = 100, subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
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
    /// Act on this cluster, told by its name or its data directory; not needed where there is one
    #[arg(long, value_name = "NAME", global = true, value_parser = cluster_word)]
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
    /// One page that needs nothing else (only of `report`)
    Html,
    /// Markdown (only of `report`)
    Md,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show each cluster, how far back it can be taken, and what to type next
    Status(StatusArgs),
    /// List the base backups and say which of them can be used
    Backups(PlaceFlags),
    /// List transactions of the WAL, oldest first, and what each changed
    Log(LogArgs),
    /// List the migrations of every tool that left a history table, and the commit that begins each
    Migrations(MigrationsArgs),
    /// Prove that what recoveries need is whole: backups and WAL, or one of them
    Verify(VerifyArgs),
    /// Ask whether this host is ready for a recovery (exit 6 where it is not), or run checks against a server
    Check(CheckArgs),
    /// List every run, newest first: what it did and what it keeps
    Runs,
    /// Tell what a run did, from its journal alone
    Report(ReportArgs),
    /// Make a restore point, and prove that one can come back to it; for use before a migration
    Mark(MarkArgs),
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

/// First argument of the process that works behind the one at the terminal.
pub const BEHIND: &str = "__behind";

/// What was typed, the program's name first, and whether this process works behind another one that it was typed to.
pub fn typed() -> (Vec<OsString>, bool) {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let behind = words.get(1).is_some_and(|word| word == BEHIND);
    if behind {
        words.remove(1);
    }
    (words, behind)
}

/// Reads the arguments, the program's name first. `Err` carries the exit code after help, version or clap's message was
/// printed.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> std::result::Result<Cli, ExitCode> {
    Cli::try_parse_from(arguments).map_err(|message| {
        // A closed pipe behind `pitr --help | head` is no error; nothing else could be said anywhere.
        let _ = message.print();
        ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(2))
    })
}

#[cfg(test)]
mod tests;
