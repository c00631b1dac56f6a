//! What a person can ask for, one file a verb. Each observes, plans, asks, runs and reports; none decides.

pub mod act;
mod asked;
pub mod attend;
mod backups;
pub mod check;
pub mod check_sql;
mod elsewhere;
pub mod log;
pub mod mark;
pub mod migrations;
pub mod purge;
pub mod reading;
pub mod report;
mod restore;
pub mod resume;
pub mod runs;
pub mod status;
pub mod undo;
pub mod verify;
pub mod verify_backups;
pub mod verify_wal;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::{Cli, Output, Verb};
use crate::config::{self, Config};
use crate::error::{Error, Kind, Result};
use crate::observe::meant::means;
use crate::plan::planned::Reason;
use crate::plan::recovery::ClusterFacts;
use crate::report::narrator::StepNarrator;
use crate::report::run::RunResult;
use crate::report::terminal::Out;
use crate::report::{logging, terminal};
use crate::run::{owner, wal_get};
use crate::sys::descendant;
use crate::sys::signals::Signals;

/// What every verb works with.
pub struct Context {
    /// Flags that stand everywhere.
    pub global: crate::cli::Global,
    /// The configuration.
    pub config: Config,
    /// The command line, for the journal.
    pub command: Vec<String>,
    /// The process in front of this one, if there is one.
    pub link: attend::Link,
}

impl Context {
    /// Whether one JSON document is wanted.
    pub fn json(&self) -> bool {
        self.global.output == Output::Json
    }

    /// Whether what will be done is shown first: always where a person is asked.
    pub fn shows(&self, unasked: bool) -> bool {
        !(self.json() || self.global.quiet && unasked)
    }

    /// Whether `--cluster`, where it is given, means this one.
    pub fn is_meant(&self, cluster: &ClusterFacts) -> bool {
        self.global.cluster.as_deref().is_none_or(|wanted| means(wanted, &cluster.name, &cluster.data_directory))
    }

    /// Columns of the terminal.
    pub fn width(&self) -> usize {
        terminal::columns()
    }

    /// Whether what is typed comes from a person.
    pub fn is_typed(&self) -> bool {
        use std::io::IsTerminal;
        self.link.is_some() || std::io::stdin().is_terminal()
    }

    /// Tells the steps of a run.
    pub fn narrator(&self) -> attend::Attended<'_> {
        attend::Attended::new(StepNarrator::new(self.global.quiet, self.global.no_progress), &self.link)
    }

    /// What a run is asked for by signals.
    pub fn signals(&self) -> Result<Signals> {
        if self.link.is_some() { Signals::catch_behind() } else { Signals::catch() }
    }
}

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    let (typed, behind) = crate::cli::typed();
    let cli = match crate::cli::parse(typed.clone()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match &cli.verb {
        // Children of a run: no configuration, no logging beyond their protocol.
        Verb::Owner => return ExitCode::from(owner::entry()),
        Verb::Session(args) => {
            Out::stderr().error(&descendant::session_entry(&args.words));
            return ExitCode::from(126);
        }
        Verb::Launch => {
            Out::stderr().error(&descendant::launch_entry());
            return ExitCode::from(1);
        }
        Verb::WalGet(args) => return ExitCode::from(wal_get::main(&args.socket, &args.file, &args.dest)),
        _ => {}
    }
    logging::start(cli.global.verbose, cli.global.quiet);
    if let Some(code) = (!behind).then(|| attend::in_front(&cli, &typed)).flatten() {
        return ExitCode::from(code);
    }
    let json = cli.global.output == Output::Json;
    match link(behind).and_then(|link| dispatch(cli, &typed, link)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = error.kind.exit_code();
            if json {
                let _ = act::print_json(&crate::report::run::json(&result_of(&error)));
            }
            Out::stderr().error(&error);
            ExitCode::from(code)
        }
    }
}

/// An error before any run began, as the document of the verbs that act.
fn result_of(error: &Error) -> RunResult {
    if error.kind != Kind::Refused {
        return RunResult::failed(error.clone());
    }
    let id = error.id.as_deref().unwrap_or("refused");
    RunResult::refused(vec![Reason::fact(id, error.to_string(), error.hint.clone().unwrap_or_default())], Some(error.clone()))
}

fn link(behind: bool) -> Result<attend::Link> {
    if behind { attend::Link::behind() } else { Ok(attend::Link::default()) }
}

fn dispatch(cli: Cli, typed: &[OsString], link: attend::Link) -> Result<u8> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::usage("pitr must be run as root").hint("Use sudo."));
    }
    let of_report = matches!(cli.global.output, Output::Html | Output::Md);
    if of_report && !matches!(cli.verb, Verb::Report(_)) {
        return Err(Error::usage("only report is written as HTML or Markdown").hint("Give -o text or -o json."));
    }
    let config = config::load(cli.global.config.as_deref())?;
    let command = typed.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let context = Context { global: cli.global, config, command, link };
    match cli.verb {
        Verb::Status(args) => status::run(&context, &args),
        Verb::Backups(places) => backups::run(&context, &places),
        Verb::Log(args) => log::run(&context, &args),
        Verb::Migrations(args) => migrations::run(&context, &args),
        Verb::Verify(args) => verify::run(&context, &args),
        Verb::Check(args) if !args.sql.is_empty() => check_sql::run(&context, &args),
        Verb::Check(args) => check::run(&context, &args),
        Verb::Runs => runs::run(&context),
        Verb::Report(args) => report::run(&context, &args),
        Verb::Mark(args) => mark::run(&context, &args, &Signals::catch()?),
        Verb::Plan(args) => restore::plan_only(&context, &args.target, &args.source),
        Verb::Restore(args) if args.dry_run => restore::plan_only(&context, &args.target, &args.source),
        Verb::Restore(args) => restore::run(&context, &args, context.signals()?),
        Verb::Resume(args) => resume::run(&context, &args, context.signals()?),
        Verb::Undo(args) => undo::run(&context, &args, context.signals()?),
        Verb::Purge(args) => purge::run(&context, &args, context.signals()?),
        Verb::WalGet(_) | Verb::Owner | Verb::Launch | Verb::Session(_) => Ok(0),
    }
}
