//! `plan` and `restore`: one value, printed by the one, carried out by the other.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::{Global, MaxLoss, RestoreArgs, SourceFlags, TargetFlags};
use crate::error::{Error, Kind, Result};
use crate::observe::discover::{self, Found};
use crate::observe::host::{Observed, observe};
use crate::observe::names::Door;
use crate::plan::course::Course;
use crate::plan::damaged::{self, DamagedCopy};
use crate::plan::facts::{Remains, Server};
use crate::plan::ledger::{Outcome, Purpose};
use crate::plan::loss::Loss;
use crate::plan::planned::{Planned, Reason};
use crate::plan::recovery::{Consequence, Recovery, Site};
use crate::plan::restore::{Request, plan};
use crate::plan::target::TargetRequest;
use crate::report::confirm::Question;
use crate::report::run::{Mark, RunResult};
use crate::run::executor::Run;
use crate::run::paths::new_run_id;
use crate::sys::signals::Signals;
use crate::verb::asked::{guessed, places, read_checks, request};
use crate::verb::reading::read_wal;
use crate::verb::{Context, act, elsewhere, migrations};

/// `pitr plan`, and `restore --dry-run`.
pub fn plan_only(context: &Context, target: &TargetFlags, source: &SourceFlags) -> Result<u8> {
    let Drawn { planned, .. } = make_plan(context, target, source)?;
    if context.json() {
        act::print_json(&crate::report::plan::json(&planned))?;
    } else {
        act::print_text(&crate::report::plan::text(&planned, context.width(), &command(&planned, source, &context.global)))?;
    }
    Ok(if planned.refusals.is_empty() { 0 } else { Kind::Refused.exit_code() })
}

/// `pitr restore`.
pub fn run(context: &Context, args: &RestoreArgs, signals: Signals) -> Result<u8> {
    let mut drawn = make_plan(context, &args.target, &args.source)?;
    demands(&mut drawn.planned, args);
    let planned = &drawn.planned;
    let Some(recovery) = planned.recovery.clone().filter(|_| planned.refusals.is_empty()) else {
        return refuse(context, planned);
    };
    if context.shows(args.yes) {
        act::print_text(&crate::report::plan::text(planned, context.width(), ""))?;
    }
    let question = Question { host: &planned.host, cluster: &planned.cluster.name, verb: "restore" };
    question.ask(args.yes, context.is_typed(), &mut || signals.check())?;
    carry_out(context, &drawn, &recovery, args, signals)
}

fn carry_out(context: &Context, drawn: &Drawn, shown: &Recovery, args: &RestoreArgs, signals: Signals) -> Result<u8> {
    let _lock = act::lock_cluster(&context.config, shown)?;
    let planned = again(context, drawn, args)?;
    let Some(recovery) = planned.recovery.clone().filter(|_| planned.refusals.is_empty()) else {
        return refuse(context, &planned);
    };
    signals.check()?;
    let id = new_run_id(Timestamp::now());
    let by = act::by(context, args.source.reason.clone());
    let course = Course { purpose: Purpose::Restore, steps: recovery.steps.clone(), outcome: Outcome::Switched };
    let mut narrator = context.narrator();
    let mut run = Run::begin(&context.config.state_directory, &id, recovery, by.clone(), signals, &mut narrator)?;
    let (outcome, error) = act::carry_out(&mut run, course, by);
    let ledger = run.ledger().clone();
    drop(run);
    narrator.finish();
    act::finish(context, &id, &ledger, Mark::default(), outcome, error)
}

/// The plan once more under the cluster's lock, from the host as it is now: while the first one was read, shown and
/// confirmed, another run may have come and gone, a backup may be away, or the server may have been started otherwise. Only
/// the WAL is not read twice: what is in a segment does not change. Any other decision than the one that was shown is a
/// refusal.
fn again(context: &Context, drawn: &Drawn, args: &RestoreArgs) -> Result<Planned> {
    let found = chosen(context, &args.source)?;
    let mut observed = observe(&context.config, &found, &places(&drawn.request.target, &args.source))?;
    damaged::mark(&mut observed.host.wal, drawn.damaged.iter().map(|copy| &copy.path));
    let first = &drawn.request;
    let checks = read_checks(found.config.checks.iter().chain(&args.source.checks))?;
    let request = Request {
        findings: first.findings.clone(),
        serving: first.serving.clone(),
        guard: first.guard.clone(),
        names: first.names.clone(),
        migration: first.migration.clone(),
        ruled_out: first.ruled_out.clone(),
        ..request(&found, &args.source, first.target.clone(), checks, &observed)
    };
    let mut planned = plan_around(&mut observed, &request, &drawn.damaged)?;
    let digest = |planned: &Planned| planned.recovery.as_ref().map(|r| r.digest.clone());
    if planned.refusals.is_empty() && digest(&planned) != digest(&drawn.planned) {
        planned.refusals.push(Reason::fact(
            "plan-changed",
            "something changed since the plan was made: it would be another one now",
            "Nothing was touched. Look at it again: pitr plan.",
        ));
    }
    Ok(planned)
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
fn command(planned: &Planned, source: &SourceFlags, global: &Global) -> String {
    format!("pitr restore {}{}", planned.target.argument, source.typed(global))
}

/// A plan and what it was made from.
struct Drawn {
    planned: Planned,
    request: Request,
    damaged: Vec<DamagedCopy>,
}

/// Tried now, while it can still be mended: logins that the recovered cluster's public checks will need.
fn not_let_in(observed: &Observed, site: &Site) -> Vec<Consequence> {
    let cluster = &observed.host.cluster;
    // What serves on a fresh host is another cluster: its logins say nothing.
    if cluster.remains != Remains::Whole || !matches!(cluster.server, Server::Serving { .. }) {
        return vec![];
    }
    let bootstrap = Some((&site.user, "postgres"));
    let checking = site.check_user.as_ref().filter(|_| !site.checks.is_empty()).map(|user| (user, site.database.as_str()));
    let tried = bootstrap.into_iter().chain(checking).filter(|(user, database)| {
        let door = Door::find(&cluster.owner, &cluster.data_directory, user, cluster.control_file.system_identifier);
        !door.is_ok_and(|door| door.admits(database))
    });
    let said = tried.map(|(user, database)| Consequence {
        id: "no-login".into(),
        text: format!("role {user} is not let in to database {database} on the cluster's own socket: after the public start nothing is checked once more as that role"),
    });
    said.collect()
}

/// The plan, made when every place that the WAL names was looked at too, with what is said and kept of damaged copies.
fn plan_around(observed: &mut Observed, request: &Request, damaged: &[DamagedCopy]) -> Result<Planned> {
    observed.look_at_places(request.findings.as_ref().map_or(&[], |f| &f.answer.tablespaces))?;
    let mut planned = plan(&observed.host, request);
    planned.consequences.extend(damaged.iter().map(DamagedCopy::consequence));
    if let Some(recovery) = &mut planned.recovery {
        recovery.consequences = planned.consequences.clone();
        recovery.damaged_wal = damaged.iter().map(|copy| copy.path.clone()).collect();
    }
    Ok(planned)
}

/// Observes, reads the chain's records, and plans with what they show.
fn make_plan(context: &Context, target: &TargetFlags, source: &SourceFlags) -> Result<Drawn> {
    let request_target = target.request(Timestamp::now(), &TimeZone::system())?;
    let found = chosen(context, source)?;
    plan_from(context, &found, request_target, source)
}

/// The cluster in question: the place of a fresh host comes before the flag of every verb.
fn chosen(context: &Context, source: &SourceFlags) -> Result<Found> {
    let Some(name) = source.as_cluster.as_deref() else {
        return discover::choose(&context.config, context.global.cluster.as_deref());
    };
    discover::choose(&context.config, Some(name)).or_else(|error| {
        discover::unregistered(name).ok_or_else(|| {
            error.hint(
                "Where Debian's packages of that major are installed, its data directory must be missing and the directory above it there.",
            )
        })
    })
}

/// The plan to `target` as it would be without any other flag.
pub fn plan_to(context: &Context, found: &Found, target: TargetRequest) -> Result<Planned> {
    let source = SourceFlags { reason: Some("a mark".into()), ..SourceFlags::default() };
    plan_from(context, found, target, &source).map(|drawn| drawn.planned)
}

fn plan_from(context: &Context, found: &Found, request_target: TargetRequest, source: &SourceFlags) -> Result<Drawn> {
    let checks = read_checks(found.config.checks.iter().chain(&source.checks))?;
    let mut observed = observe(&context.config, found, &places(&request_target, source))?;
    let aim = match &request_target {
        TargetRequest::BeforeMigration(migration) => {
            let user = found.config.bootstrap_role();
            let (flags, database) = (&source.migrations, found.config.database.clone());
            Some(migrations::aim_before(context, &observed, user, &migration.version, flags, database, source.timeline)?)
        }
        _ => None,
    };
    let request_target = aim.as_ref().map_or(request_target, |aim| TargetRequest::BeforeMigration(aim.target.clone()));
    let mut request = Request { migration: aim, ..request(found, source, request_target, checks, &observed) };
    let damaged = read_wal(&mut observed, &mut request)?;
    let elsewhere = elsewhere::find(context, &observed, &request);
    if let Some(findings) = &mut request.findings {
        findings.elsewhere = elsewhere;
    }
    let mut planned = plan_around(&mut observed, &request, &damaged)?;
    planned.consequences.extend(not_let_in(&observed, &request.site));
    planned.consequences.extend(guessed(&observed).map(|text| Consequence { id: "archive-guessed".into(), text }));
    if !observed.host.backups.is_empty() {
        planned.passed_over.extend(observed.backup_problems.iter().map(|p| ("all of a directory".to_string(), p.clone())));
    }
    Ok(Drawn { planned, request, damaged })
}
