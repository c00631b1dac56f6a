//! Which steps a `resume`, an `undo` or a `purge` consists of: plans too, computed from the journal alone.

use super::facts::{Control, Remains};
use super::ledger::{Fact, Ledger, Outcome, Purpose};
use super::recovery::Recovery;
use super::step::Step;
use super::target::TargetRequest;
use crate::error::{Error, Kind, Result};

/// A way on: what for, in which steps, to which end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// What for.
    pub purpose: Purpose,
    /// In this order.
    pub steps: Vec<Step>,
    /// How the run stands then.
    pub outcome: Outcome,
}

/// How an interrupted or kept run goes on.
///
/// `at_pgdata`: the recovered cluster was seen at PGDATA. The journal says what was meant, the host what is.
pub fn resume(id: &str, ledger: &Ledger, recovery: &Recovery, at_pgdata: bool) -> Result<Course> {
    match (ledger.outcome, ledger.section.as_ref().map(|s| s.purpose)) {
        (Some(Outcome::Switched | Outcome::Undone | Outcome::Removed), _) => {
            Err(Error::new(Kind::Refused, format!("run {id} is over: {}", ledger.state())).hint("There is nothing to resume."))
        }
        (None, Some(Purpose::Undo)) => Ok(undo(ledger, recovery, at_pgdata)),
        (None, Some(Purpose::Purge)) => Ok(purge(ledger)),
        _ => Ok(Course { purpose: Purpose::Restore, steps: remaining(ledger, recovery, at_pgdata), outcome: Outcome::Switched }),
    }
}

/// Steps of a recovery that are still to do. What the old cluster's running again made void is done again; what
/// is cheap and was not made final by the promotion is done again too.
fn remaining(ledger: &Ledger, recovery: &Recovery, at_pgdata: bool) -> Vec<Step> {
    let ran_again = old_ran_again(ledger);
    let promoted = ledger.promoted();
    let switched = at_pgdata || ledger.switch_begun();
    // A promoted staging cannot replay what was written since: latest begins again from the backup.
    let afresh = ran_again && promoted && matches!(recovery.target.request, TargetRequest::ToLatest) && !switched;
    let again = |step: &Step| match step {
        Step::StopUnits | Step::HookBeforeStop | Step::Dump | Step::Stop | Step::CopyTail => ran_again && !switched,
        Step::Register | Step::Placeholder => !switched,
        Step::Extract | Step::Promote => afresh,
        Step::Configure | Step::Replay | Step::Check | Step::Unload => (!promoted || afresh) && !switched,
        Step::Tidy => !switched,
        _ => false,
    };
    recovery.steps.iter().filter(|step| !ledger.done.contains(step) || again(step)).cloned().collect()
}

/// The old cluster was started, or found running, since it was last stopped.
fn old_ran_again(ledger: &Ledger) -> bool {
    ledger.facts.iter().rev().find_map(|fact| match fact {
        Fact::OldStopped { .. } | Fact::OldAbsent | Fact::Stopping => Some(false),
        Fact::OldStarted => Some(true),
        _ => None,
    }) == Some(true)
}

/// Back to the old cluster, from wherever the run stands.
pub fn undo(ledger: &Ledger, recovery: &Recovery, at_pgdata: bool) -> Course {
    let mut steps = vec![Step::EndPrivate];
    let mut units = !recovery.site.quiesce.is_empty();
    if at_pgdata || ledger.switch_begun() {
        // What systemd stops along with the cluster's unit today need not be what it stopped then.
        units |= matches!(recovery.cluster.control, Control::Systemd { .. });
        if units {
            steps.push(Step::StopUnits);
        }
        steps.extend([Step::StopRecovered, Step::Unseal]);
        if may_have_archived(ledger, recovery) {
            steps.push(Step::MoveOld);
        }
        steps.extend([Step::SwitchBack, Step::Seal]);
    } else if ledger.facts.iter().any(|f| matches!(f, Fact::SwitchedBack)) {
        // An undo that was interrupted after the exchange back: the recovered cluster stays aside.
        steps.push(Step::Seal);
    } else {
        steps.push(Step::RemoveStaging);
    }
    steps.push(Step::StartOld);
    if units || ledger.stopped_units().is_some() {
        steps.push(Step::StartUnits);
    }
    Course { purpose: Purpose::Undo, steps, outcome: Outcome::Undone }
}

/// Whether anything of the recovered cluster's timeline may be in the archive, so that readers of `latest` would
/// follow it rather than what serves after the undo. Where nothing could serve, nothing can be followed;
/// what had crashed is not started to be moved, for it may not start, and it comes back as it was.
fn may_have_archived(ledger: &Ledger, recovery: &Recovery) -> bool {
    let crashed = ledger.last(|f| if let Fact::OldStopped { crashed, .. } = f { Some(*crashed) } else { None }) == Some(true);
    ledger.public_start() && recovery.cluster.remains == Remains::Whole && !crashed && ledger.archives(recovery)
}

/// The old cluster serves again and the work is kept.
pub fn stand_back(recovery: &Recovery) -> Course {
    let mut steps = vec![Step::EndPrivate, Step::StartOld];
    if !recovery.site.quiesce.is_empty() {
        steps.push(Step::StartUnits);
    }
    if !recovery.site.hooks.failed.is_empty() {
        steps.push(Step::HookFailed);
    }
    Course { purpose: Purpose::StandBack, steps, outcome: Outcome::Kept }
}

/// What is left is deleted, but for WAL that exists nowhere else.
pub fn purge(ledger: &Ledger) -> Course {
    // Once deleting was begun there is no WAL left to look at: it was kept before.
    let steps =
        if ledger.removing() { vec![Step::Unseal, Step::RemoveAside] } else { vec![Step::Unseal, Step::KeepWal, Step::RemoveAside] };
    Course { purpose: Purpose::Purge, steps, outcome: Outcome::Removed }
}

/// Why a run cannot be purged, if so.
pub fn purge_refusal(id: &str, ledger: &Ledger) -> Option<Error> {
    let purging = ledger.section.as_ref().is_some_and(|s| s.purpose == Purpose::Purge);
    if ledger.is_open() && !purging {
        return Some(
            Error::new(Kind::Refused, format!("run {id} is open: {}", ledger.state()))
                .hint(format!("End it first: pitr resume {id}, or pitr undo {id}.")),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    /// Applications whose units need the cluster's go down with it: also those that the recovery did not find running.
    #[test]
    fn an_undo_stops_and_starts_the_units_that_need_the_clusters() {
        let mut recovery = fixtures::recovery();
        assert!(recovery.site.quiesce.is_empty());
        let mut ledger = Ledger { facts: vec![Fact::Switched], ..Ledger::default() };
        let units = |ledger: &Ledger, recovery: &Recovery, at_pgdata| {
            let steps = undo(ledger, recovery, at_pgdata).steps;
            (steps.first().cloned(), steps.contains(&Step::StopUnits), steps.last() == Some(&Step::StartUnits))
        };
        let begin = Some(Step::EndPrivate);
        assert_eq!(units(&ledger, &recovery, true), (begin.clone(), false, false));
        recovery.cluster.control = Control::Systemd { unit: "postgresql@15-main.service".into(), options: vec![], environment: vec![] };
        assert_eq!(units(&ledger, &recovery, true), (begin.clone(), true, true));
        // Before the switch nothing has to be stopped; what the recovery stopped is started again.
        ledger.facts.clear();
        assert_eq!(units(&ledger, &recovery, false), (begin.clone(), false, false));
        ledger.facts.push(Fact::UnitsStopped { units: vec!["app.service".into()] });
        assert_eq!(units(&ledger, &recovery, false), (begin.clone(), false, true));
        ledger.facts.push(Fact::UnitsStarted);
        assert_eq!((units(&ledger, &recovery, false), ledger.stopped_units()), ((begin, false, false), None));
    }
}
