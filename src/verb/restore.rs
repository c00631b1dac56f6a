//! `plan` and `restore`: one value, printed by the one, carried out by the other.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::{ConfigFrom, MaxLoss, RestoreArgs, SourceFlags, TargetFlags};
use crate::config::{ClusterConfig, Requirement, files};
use crate::error::{Error, Kind, Result};
use crate::observe::discover::{self, Found};
use crate::observe::host::{Observed, Where, observe};
use crate::observe::names::Door;
use crate::observe::survey::Identify;
use crate::plan::aim;
use crate::plan::checks::{Check, parse_checks};
use crate::plan::course::Course;
use crate::plan::facts::Server;
use crate::plan::ledger::{Outcome, Purpose};
use crate::plan::loss::{Loss, Names};
use crate::plan::planned::{Planned, Reason};
use crate::plan::recovery::{Recovery, Site};
use crate::plan::restore::{Request, plan};
use crate::plan::target::TargetRequest;
use crate::plan::wal_facts::{Meaning, WalFindings};
use crate::report::confirm::Question;
use crate::report::narrator::StepNarrator;
use crate::report::run::{Mark, RunResult};
use crate::run::executor::Run;
use crate::run::owner::{self, Task};
use crate::run::paths::new_run_id;
use crate::run::reading::{ChainRequest, ReadRequest};
use crate::run::sources::Directories;
use crate::run::tail::WalIdentity;
use crate::sys::service;
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
        Some(open) => Err(Error::new(Kind::Refused, format!("run {} is {}", open.id, open.state)).hint(open.ways_on())),
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
    if let Some(most) = args.max_loss {
        planned.refusals.extend(too_much(most, planned.loss.as_ref()));
    }
}

/// What `--max-loss` says against a loss.
fn too_much(most: MaxLoss, loss: Option<&Loss>) -> Option<Reason> {
    let Some(loss) = loss else {
        return Some(Reason::fact("loss-unknown", "what would be lost is not known, so --max-loss cannot be held", "Leave it out."));
    };
    let what = match most {
        MaxLoss::Transactions(most) if loss.transactions > most => format!("{} transactions would be lost, not {most}", loss.transactions),
        MaxLoss::Seconds(most) if loss.seconds() > most => format!("{} s of commits would be lost, not {most} s", loss.seconds()),
        _ => return None,
    };
    Some(Reason::fact("max-loss", what, "Look at what it is: pitr plan. A later target or a higher --max-loss lets it through."))
}

/// The command that carries this plan out, as a person would type it.
fn command(planned: &Planned, source: &SourceFlags) -> String {
    let backup = source.backup.as_ref().map(|b| format!(" --backup {}", crate::plan::target::shell_word(b))).unwrap_or_default();
    let accept: String = source.accept.iter().map(|id| format!(" --accept {id}")).collect();
    let place = source.as_cluster.as_ref().map(|name| format!(" --as {}", crate::plan::target::shell_word(name))).unwrap_or_default();
    format!("pitr restore {}{place}{backup}{accept}", planned.target.argument)
}

/// Observes, reads the chain's records, and plans with what they show.
fn make_plan(context: &Context, target: &TargetFlags, source: &SourceFlags) -> Result<Planned> {
    let request_target = target.request(Timestamp::now(), &TimeZone::system())?;
    let found = discover::choose(&context.config, source.as_cluster.as_deref().or(context.global.cluster.as_deref()))?;
    let checks = read_checks(found.config.checks.iter().chain(&source.checks))?;
    let places = Where {
        backups: source.backups.clone(),
        wal: source.wal.clone(),
        identify: Some(identify(&request_target, source)),
        fresh: source.as_cluster.is_some(),
    };
    let observed = observe(&context.config, &found, &places)?;
    let mut request = request(&found, source, request_target, checks, &observed);
    read_wal(&observed, &mut request)?;
    let mut planned = plan(&observed.host, &request);
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

/// A recovery to the latest point, as it could be asked for now: what `check` looks at.
pub fn to_latest(found: &Found, observed: &Observed) -> Request {
    let source = SourceFlags { reason: Some("check".into()), ..SourceFlags::default() };
    request(found, &source, TargetRequest::ToLatest, Vec::new(), observed)
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
        site: site(config, checks, observed),
        service_manager: service::runs(),
        other_wal: observed.other_wal.clone(),
        backups_known: !(config.backups.is_empty() && source.backups.is_empty()),
        ruled_out: vec![],
        findings: None,
        names: Names::default(),
    }
}

/// Units that are stopped along with the cluster's are treated like those of `quiesce`, after which they come: stopped in
/// order before it, and started again when it serves, which systemd would not do.
fn site(config: &ClusterConfig, checks: Vec<Check>, observed: &Observed) -> Site {
    let along = observed.host.cluster.service.stopped_along.iter().filter(|unit| !config.quiesce.contains(unit));
    Site {
        archives: observed.archives.clone(),
        checks,
        database: config.database.clone().unwrap_or_else(|| "postgres".into()),
        user: config.user.clone().unwrap_or_else(|| "postgres".into()),
        check_user: config.check_user.clone(),
        quiesce: config.quiesce.iter().chain(along).cloned().collect(),
        hooks: config.hooks.clone(),
    }
}

/// Check files are SQL that will run: read like the configuration, only where nobody but root can write.
pub fn read_checks<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for file in files {
        let text = files::read(file)?
            .ok_or_else(|| Error::usage(format!("check file {} does not exist", file.display())).hint("Correct `checks` or --checks."))?;
        checks.extend(parse_checks(&text, file)?);
    }
    Ok(checks)
}

/// Reads what has to be read, from the newest backup that may serve; when that one turns out to end behind the
/// target, or the target is not behind it, from the one before.
fn read_wal(observed: &Observed, request: &mut Request) -> Result<()> {
    let mut first = None;
    while let Some(wanted) = aim::reading(&observed.host, request) {
        let findings = read_chain(observed, &wanted)?;
        let older = match aim::meaning(&observed.host, request, &findings) {
            Some(Meaning::BeforeBackup(why)) => Some((why, None)),
            Some(Meaning::NotFound(_)) => Some(("the target is not behind it".to_string(), Some(findings.clone()))),
            _ => None,
        };
        let Some((why, unfound)) = older.filter(|_| request.backup.is_none()) else {
            request.findings = Some(findings);
            break;
        };
        first = first.or(unfound);
        request.ruled_out.push((wanted.backup.1, why));
    }
    if let (None, Some(findings)) = (&request.findings, first) {
        // Nowhere: what the newest backup's WAL says is what there is to say.
        request.ruled_out.clear();
        request.findings = Some(findings);
    }
    request.names = names(observed, request);
    Ok(())
}

/// Reads every record of the chain with its checksum, as the owner; what is root's alone by a descriptor.
fn read_chain(observed: &Observed, wanted: &aim::Reading) -> Result<WalFindings> {
    let cluster = &observed.host.cluster;
    let others = Directories::default().with_others(&observed.other_wal);
    let segments = wanted.segments.iter().map(|(name, directory, file)| (*name, others.open_path(directory), file.clone()));
    let identity = WalIdentity {
        major: cluster.major,
        system_identifier: cluster.control_file.system_identifier,
        segment_size: cluster.control_file.segment_size,
    };
    let request = ReadRequest {
        chain: ChainRequest { segments: segments.collect(), history: wanted.history.clone(), identity },
        question: wanted.question.clone(),
        backup: wanted.redo,
        next_xid: wanted.next_xid,
    };
    let refused = |error: Error| error.with_kind(Kind::Refused);
    let answer = owner::call(&cluster.owner, None, Task::ReadWal(Box::new(request))).map_err(refused)?;
    Ok(WalFindings {
        backup: wanted.backup.1.clone(),
        answer,
        segments: wanted.segments.iter().map(|(name, _, _)| *name).collect(),
        last_is_archived: wanted.last_is_archived,
        hole: wanted.hole,
    })
}

/// Names of what is lost, where the cluster serves.
fn names(observed: &Observed, request: &Request) -> Names {
    let cluster = &observed.host.cluster;
    let lost = request.findings.iter().flat_map(|f| &f.answer.lost.relations).map(|(file, _)| *file);
    let files: BTreeSet<_> = lost.filter(|file| !file.is_catalog()).collect();
    if files.is_empty() || !matches!(cluster.server, Server::Serving { .. }) {
        return Names::default();
    }
    match Door::find(&cluster.owner, &cluster.data_directory, &request.site.user, cluster.control_file.system_identifier) {
        Ok(door) => door.names(&files),
        Err(error) => {
            log::info!("names of relations are not known: {error}");
            Names::default()
        }
    }
}
