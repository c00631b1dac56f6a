//! Hooks and units: what the administrator wants done around a recovery.

use std::path::Path;
use std::time::Duration;

use crate::config::Argv;
use crate::error::{Error, Result};
use crate::plan::facts::Control;
use crate::plan::ledger::Fact;
use crate::run::executor::Run;
use crate::sys::descendant::{ending, run_program};
use crate::sys::service;

/// A hook that takes longer is ended.
const HOOK_LIMIT: Duration = Duration::from_secs(600);
const UNIT_LIMIT: Duration = Duration::from_secs(3600);

/// Runs hooks in order with facts as JSON on standard input. `strict`: the first failure is an error;
/// otherwise failures are remarks.
pub fn run_hooks(run: &mut Run, name: &str, hooks: &[Argv], strict: bool) -> Result<()> {
    let recovery = run.recovery();
    let facts = serde_json::json!({
        "schema": 1, "event": name, "run": run.paths.id, "cluster": recovery.cluster.name,
        "data_directory": recovery.cluster.data_directory, "target": recovery.target.request.to_string(),
        "backup": recovery.backup_name(), "reason": run.ledger().by.reason,
    });
    let input = facts.to_string().into_bytes();
    for hook in hooks {
        let Some((program, arguments)) = hook.split_first() else { continue };
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let failure = match run_program(Path::new(program), &arguments, HOOK_LIMIT, &input) {
            Ok((status, _)) if status.success() => continue,
            Ok((status, words)) => Error::failed(format!("hook '{name}' {program}")).cause(format!("{} {words}", ending(status)).trim()),
            Err(error) => error,
        };
        if strict {
            return Err(failure);
        }
        run.remark(failure.to_string())?;
    }
    Ok(())
}

/// Stops those of `quiesce` that run, in order, then those that systemd would stop along with the cluster's unit and not start
/// again; remembers them before the first one is stopped.
pub fn stop_units(run: &mut Run) -> Result<()> {
    let quiesce = run.recovery().site.quiesce.clone();
    let stopped = match run.ledger().stopped_units() {
        Some(units) => units.to_vec(),
        None => {
            let mut running = Vec::new();
            for unit in &quiesce {
                if service::unit(unit)?.active {
                    running.push(unit.clone());
                }
            }
            if let Control::Systemd { unit, .. } = &run.recovery().cluster.control {
                running.extend(service::stopped_along(unit)?.into_iter().filter(|unit| !quiesce.contains(unit)));
            }
            run.fact(Fact::UnitsStopped { units: running.clone() })?;
            running
        }
    };
    // A unit that was started since it was looked at is stopped too.
    let others = stopped.into_iter().filter(|unit| !quiesce.contains(unit)).collect::<Vec<_>>();
    for unit in quiesce.iter().chain(&others) {
        service::stop(unit, UNIT_LIMIT)?;
    }
    Ok(())
}

/// Starts the units that ran before, in the order in which they were stopped.
pub fn start_units(run: &mut Run) -> Result<()> {
    let units = run.ledger().stopped_units().map(<[String]>::to_vec).unwrap_or_default();
    for unit in units {
        if let Err(error) = service::start(&unit, UNIT_LIMIT) {
            run.remark(format!("{unit} did not start: {error}"))?;
        }
    }
    run.fact(Fact::UnitsStarted)
}
