//! `plan` and `restore`: one value, printed by the one, carried out by the other.

use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::{ConfigFrom, RestoreArgs, SourceFlags, TargetFlags};
use crate::config::{ClusterConfig, Requirement, files};
use crate::error::{Error, Kind, Result};
use crate::observe::discover::{self, Found};
use crate::observe::host::{Observed, Where, observe};
use crate::observe::survey::Identify;
use crate::plan::chain;
use crate::plan::checks::{Check, parse_checks};
use crate::plan::course::Course;
use crate::plan::facts::WalKind;
use crate::plan::ledger::{Outcome, Purpose};
use crate::plan::planned::{Planned, Reason};
use crate::plan::recovery::Recovery;
use crate::plan::restore::{Request, plan};
use crate::plan::target::TargetRequest;
use crate::plan::wal_facts::WalFindings;
use crate::report::confirm::Question;
use crate::report::narrator::StepNarrator;
use crate::report::run::{Mark, RunResult};
use crate::run::endofwal::{WalkRequest, walk_as};
use crate::run::executor::Run;
use crate::run::paths::new_run_id;
use crate::run::tail::WalIdentity;
use crate::sys::signals::Signals;
use crate::verb::{Context, act};

/// `pitr plan`, and `restore --dry-run`.
pub fn plan_only(context: &Context, target: &TargetFlags, source: &SourceFlags) -> Result<u8> {
    let planned = make_plan(context, target, source)?;
    if context.json() {
        act::print_json(&crate::report::plan::json(&planned))?;
    } else {
        act::print_text(&crate::report::plan::text(&planned, context.width(), &command(&planned, source)))?;
    }
    Ok(if planned.refusals.is_empty() { 0 } else { Kind::Refused.exit_code() })
}

/// `pitr restore`.
pub fn run(context: &Context, args: &RestoreArgs, signals: Signals) -> Result<u8> {
    let mut planned = make_plan(context, &args.target, &args.source)?;
    demands(&mut planned, args);
    let Some(recovery) = planned.recovery.clone().filter(|_| planned.refusals.is_empty()) else {
        return refuse(context, &planned);
    };
    if !context.json() {
        act::print_text(&crate::report::plan::text(&planned, context.width(), ""))?;
    }
    let question = Question { host: &planned.host, cluster: &planned.cluster.name, verb: "restore" };
    question.ask(args.yes, &mut || signals.check())?;
    carry_out(context, recovery, args, signals)
}

fn carry_out(context: &Context, recovery: Recovery, args: &RestoreArgs, signals: Signals) -> Result<u8> {
    let _lock = act::lock_cluster(&context.config, &recovery)?;
    nothing_open(context, &recovery)?;
    let id = new_run_id(Timestamp::now());
    let by = act::by(context, args.source.reason.clone());
    let course = Course { purpose: Purpose::Restore, steps: recovery.steps.clone(), outcome: Outcome::Switched };
    let mut narrator = StepNarrator::new(context.global.quiet, context.global.no_progress);
    let mut run = Run::begin(&context.config.state_directory, &id, recovery, by.clone(), signals, &mut narrator)?;
    let (outcome, error) = act::carry_out(&mut run, course, by);
    let ledger = run.ledger().clone();
    drop(run);
    narrator.finish();
    act::finish(context, &id, &ledger, Mark::default(), outcome, error)
}

/// Asked again under the cluster's lock: another run may have begun and ended open while the plan was read.
fn nothing_open(context: &Context, recovery: &Recovery) -> Result<()> {
    let cluster = &recovery.cluster;
    let runs = crate::observe::runs::list(&context.config.state_directory, cluster.system_identifier, &cluster.data_directory)?;
    match runs.iter().find(|r| r.open) {
        Some(open) => Err(Error::new(Kind::Refused, format!("run {} is {}", open.id, open.state))
            .hint(format!("End it first: pitr resume {0}, or pitr undo {0}.", open.id))),
        None => Ok(()),
    }
}

fn refuse(context: &Context, planned: &Planned) -> Result<u8> {
    let error = planned.refusal().unwrap_or_else(|| Error::new(Kind::Refused, "refused"));
    if context.json() {
        act::print_json(&crate::report::run::json(&RunResult::refused(planned.refusals.clone(), Some(error.clone()))))?;
    } else {
        act::print_text(&crate::report::plan::text(planned, context.width(), ""))?;
    }
    crate::report::terminal::Out::stderr().error(&error);
    Ok(Kind::Refused.exit_code())
}

/// What the command line demands of the plan beyond what planning looks at.
fn demands(planned: &mut Planned, args: &RestoreArgs) {
    let digest = planned.recovery.as_ref().map(|r| r.digest.clone());
    if let (Some(wanted), Some(found)) = (&args.plan, &digest)
        && wanted != found
    {
        planned.refusals.push(Reason::fact(
            "plan-changed",
            format!("the plan is now {found}, not {wanted}"),
            "Look at it again: pitr plan.",
        ));
    }
    if args.max_loss.is_some() {
        planned.refusals.push(Reason::fact(
            "loss-unknown",
            "what would be lost is not known before WAL records are resolved, so --max-loss cannot be held",
            "Leave it out.",
        ));
    }
}

/// The command that carries this plan out, as a person would type it.
fn command(planned: &Planned, source: &SourceFlags) -> String {
    let backup = source.backup.as_ref().map(|b| format!(" --backup {}", crate::plan::target::shell_word(b))).unwrap_or_default();
    let accept: String = source.accept.iter().map(|id| format!(" --accept {id}")).collect();
    format!("pitr restore {}{backup}{accept}", planned.target.argument)
}

/// Observes and plans; then reads the chain's records and plans again with what they show.
fn make_plan(context: &Context, target: &TargetFlags, source: &SourceFlags) -> Result<Planned> {
    let request_target = target.request(Timestamp::now(), &TimeZone::system())?;
    let found = discover::choose(&context.config, context.global.cluster.as_deref())?;
    let checks = read_checks(&found.config, source)?;
    let places = Where { backups: source.backups.clone(), wal: source.wal.clone(), identify: Some(identify(&request_target, source)) };
    let observed = observe(&context.config, &found, &places)?;
    let mut request = request(&found, source, request_target, checks, &observed);
    let mut planned = plan(&observed.host, &request);
    if let Some(recovery) = &planned.recovery {
        request.findings = Some(read_chain(&observed, recovery)?);
        planned = plan(&observed.host, &request);
    }
    if observed.guessed && !observed.archives.is_empty() {
        planned.alternatives.push(format!(
            "the archive was guessed from archive_command: {}",
            observed.archives.iter().map(|a| a.display().to_string()).collect::<Vec<_>>().join(", ")
        ));
    }
    planned.passed_over.extend(observed.backup_problems.iter().map(|p| ("backups".to_string(), p.clone())));
    Ok(planned)
}

fn identify(target: &TargetRequest, source: &SourceFlags) -> Identify {
    let before = match target {
        TargetRequest::ToTime(time) | TargetRequest::BeforeTime(time) => Some(time.as_second()),
        _ => None,
    };
    Identify { name: source.backup.clone(), before }
}

fn request(found: &Found, source: &SourceFlags, target: TargetRequest, checks: Vec<Check>, observed: &Observed) -> Request {
    let config = &found.config;
    Request {
        target,
        timeline: source.timeline,
        backup: source.backup.clone(),
        accept: source.accept.clone(),
        config_from_backup: source.config_from == ConfigFrom::Backup,
        reason: source.reason.clone(),
        reason_required: config.require.contains(&Requirement::Reason),
        checks,
        database: config.database.clone().unwrap_or_else(|| "postgres".into()),
        user: config.user.clone().unwrap_or_else(|| "postgres".into()),
        check_user: config.check_user.clone(),
        quiesce: config.quiesce.clone(),
        service_manager: Path::new("/run/systemd/system").is_dir(),
        hooks: config.hooks.clone(),
        archives: observed.archives.clone(),
        other_wal: observed.other_wal.clone(),
        backups_known: !(config.backups.is_empty() && source.backups.is_empty()),
        findings: None,
    }
}

/// Check files are SQL that will run: read like the configuration, only where nobody but root can write.
fn read_checks(config: &ClusterConfig, source: &SourceFlags) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for file in config.checks.iter().chain(&source.checks) {
        let text = files::read(file)?
            .ok_or_else(|| Error::usage(format!("check file {} does not exist", file.display())).hint("Correct `checks` or --checks."))?;
        checks.extend(parse_checks(&text, file)?);
    }
    Ok(checks)
}

/// Reads every record of the chain with its checksum, as the owner. Copies that only root can reach are left out:
/// reading ends before them, which is no damage.
fn read_chain(observed: &Observed, recovery: &Recovery) -> Result<WalFindings> {
    let size = recovery.cluster.segment_size;
    let reachable: Vec<_> = observed.host.wal.iter().filter(|s| !matches!(s.kind, WalKind::Aside(_))).cloned().collect();
    let until = (!recovery.chain.open).then_some(recovery.chain.last.number);
    let links = chain::follow(&recovery.target.history, recovery.chain.first.number, until, &reachable, size);
    let copies = chain::copies(&reachable);
    let segments: Vec<_> = links
        .segments
        .iter()
        .filter_map(|n| copies.get(n).and_then(|l| l.first()).map(|c| (*n, c.directory.clone(), c.file.clone())))
        .collect();
    let Some((last, _, _)) = segments.last().cloned() else { return Ok(WalFindings::default()) };
    let cluster = &recovery.cluster;
    let identity = WalIdentity { major: cluster.major, system_identifier: cluster.system_identifier, segment_size: size };
    let walked = walk_as(
        &cluster.owner,
        WalkRequest { segments, history: recovery.target.history.clone(), identity, from: size.start(recovery.chain.first.number) },
    )?;
    // Inside the last segment WAL may simply end; before it, an end is damage.
    let damage = walked.end.filter(|end| size.number(end.lsn) < last.number).map(|end| (end.lsn, end.reason.to_string()));
    Ok(WalFindings { tablespaces: walked.tablespaces, last_record: walked.last_record, damage, floors: None })
}
