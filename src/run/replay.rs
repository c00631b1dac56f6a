//! Replay to the target, proved by the server's log line, its pause state and its replay LSN.
//!
//! PostgreSQL's `pause` can promote by itself when hot standby is not ready at the target; such a staging is
//! never switched to: it is extracted once more and promoted privately without a pause, with the checks after.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::pg::{ClusterState, ControlFile, Lsn};
use crate::plan::chain;
use crate::plan::ledger::Fact;
use crate::plan::step::Step;
use crate::plan::target::TargetRequest;
use crate::plan::time::render_time;
use crate::run::broker::{Broker, Offer};
use crate::run::executor::Run;
use crate::run::libraries::{self, Libraries};
use crate::run::owner::{Progress, Task};
use crate::run::private::{Private, RecoverySettings, Said};
use crate::run::promote::{self, Asking, State};
use crate::run::vault::Vault;
use crate::run::{sources, steps};

/// Between two looks at the server.
const TICK: Duration = Duration::from_millis(50);

/// Makes sure that a private server stands at the target, paused, or, where pausing is impossible, promoted. With
/// [`Libraries::Fewest`] it is one that may open.
pub fn ensure_at_target(run: &mut Run, libraries: Libraries) -> Result<()> {
    if !unloads(run) {
        return bring_to_target(run, Libraries::Configured);
    }
    if libraries == Libraries::Fewest {
        stop_loaded(run)?;
    }
    libraries::with_the_needed(run, |run| bring_to_target(run, libraries))
}

/// The plan has a second private start.
fn unloads(run: &Run) -> bool {
    run.recovery().steps.contains(&Step::Unload)
}

/// Stops a paused server that has libraries which would act when it opens. Its shutdown writes everything out, so
/// that the next start replays only what lies behind the last checkpoint record (pitfalls F10).
pub fn stop_loaded(run: &mut Run) -> Result<()> {
    let loaded = run.server.as_ref().is_some_and(|server| server.libraries() == Libraries::Configured);
    if let Some(server) = run.server.take_if(|_| loaded) {
        server.stop()?;
        run.broker = None;
    }
    Ok(())
}

fn bring_to_target(run: &mut Run, libraries: Libraries) -> Result<()> {
    if run.server.is_some() {
        return Ok(());
    }
    let staged = staged_control(run)?;
    if run.ledger().number().is_some_and(|number| number == staged.timeline) && staged.timeline != run.recovery().target.timeline {
        return promote::start_promoted(run);
    }
    if run.ledger().promotion_begun() {
        run.remark("a promotion was interrupted: staging is extracted once more")?;
        steps::extract_again(run)?;
    } else if libraries == Libraries::Fewest && ends_on_its_target(run, &staged) {
        return promote::open_at_the_end(run);
    } else if stands_on_its_target(run, &staged) {
        // Started again, it would find "redo is not required" and end without reaching the target.
        run.remark("staging stands on the target record itself: it is extracted once more")?;
        steps::extract_again(run)?;
    }
    if run.ledger().facts.contains(&Fact::PausedNot) {
        return promote::replay_and_promote(run);
    }
    match replay_to_pause(run, libraries)? {
        Ending::Paused { lsn, words } => run.fact(Fact::Reached { lsn, words }),
        Ending::Opened => {
            run.end_private();
            run.fact(Fact::PausedNot)?;
            run.remark("PostgreSQL opened instead of pausing at the target (hot standby was not ready there): staging is extracted once more, checks follow a private promotion")?;
            steps::extract_again(run)?;
            promote::replay_and_promote(run)
        }
    }
}

enum Ending {
    Paused { lsn: Lsn, words: String },
    Opened,
}

fn replay_to_pause(run: &mut Run, libraries: Libraries) -> Result<Ending> {
    start(run, "pause", libraries)?;
    let mut stopping = String::new();
    let mut asked = Asking::default();
    let mut silent = false;
    loop {
        for said in tick(run)? {
            match said {
                Said::Stopping(words) => stopping = words,
                Said::Paused => return prove_pause(run, stopping).map(|(lsn, words)| Ending::Paused { lsn, words }),
                Said::Opened | Said::NewTimeline(_) => return Ok(Ending::Opened),
                Said::TooLow(words) => return Err(Error::failed("replay paused before the target").cause(words)),
                Said::Fatal(words) => return Err(fatal(run, &words)),
                Said::RedoStarts | Said::Consistent | Said::Other(_) => {}
            }
        }
        // A line of the log may be lost. Asked twice: between two answers the log is listened to once more.
        match asked.state(run)? {
            Some(State::Paused) if silent => return paused_in_silence(run, stopping),
            Some(State::Paused) => silent = true,
            Some(State::Open) => return Ok(Ending::Opened),
            Some(State::Replaying) | None => {}
        }
    }
}

/// Paused by its own answer, without the log's line. Without an LSN to compare it with, the log has to say why: replay
/// also pauses where the server's settings are too low.
fn paused_in_silence(run: &mut Run, stopping: String) -> Result<Ending> {
    if stopping.is_empty() && target_lsn(run).is_none() {
        return Err(Error::failed("the private server paused without a word about the target")
            .hint(format!("The server's log is {}.", run.paths.server_log().display())));
    }
    prove_pause(run, stopping).map(|(lsn, words)| Ending::Paused { lsn, words })
}

/// SQL that is `paused` on a server in recovery that paused.
pub fn pause_state(run: &Run) -> &'static str {
    // pg_get_wal_replay_pause_state is 14's (manual, "Recovery Control Functions").
    if run.recovery().cluster.major >= 14 {
        "pg_get_wal_replay_pause_state()"
    } else {
        "CASE WHEN pg_is_wal_replay_paused() THEN 'paused' ELSE 'not paused' END"
    }
}

/// Starts broker and server for a replay that ends by `action`.
pub fn start(run: &mut Run, action: &'static str, libraries: Libraries) -> Result<()> {
    let settings = settings(run, action)?;
    start_with(run, &settings, libraries)
}

/// Starts broker and server for what is left of the WAL, which is nothing.
pub fn start_to_the_end(run: &mut Run) -> Result<()> {
    let timeline = run.recovery().target.timeline.to_string();
    let settings = RecoverySettings { target: None, inclusive: true, timeline, action: "promote" };
    start_with(run, &settings, Libraries::Fewest)
}

fn start_with(run: &mut Run, settings: &RecoverySettings, libraries: Libraries) -> Result<()> {
    let offer = offer(run)?;
    run.broker = Some(Broker::listen(&run.paths.broker(), run.recovery().cluster.owner.uid, offer)?);
    let staging = run.staging();
    run.server = Some(Private::start(run, &staging, Some(settings), libraries)?);
    Ok(())
}

/// One look: what the server said, after signals, space and progress were seen to. Damaged copies that were
/// passed over are told once.
pub fn tick(run: &mut Run) -> Result<Vec<Said>> {
    run.watch().check()?;
    std::thread::sleep(TICK);
    if let Some(broker) = &run.broker {
        let delivered = broker.delivered();
        let size = run.recovery().cluster.segment_size.bytes();
        let total = run.recovery().chain.segments.saturating_mul(size);
        run.narrator.progress(Progress { done: delivered.segments.saturating_mul(size), total: Some(total) });
    }
    let server = run.server.as_mut().ok_or_else(|| Error::failed("there is no private server"))?;
    let said = server.listen();
    said.map_err(|error| with_hint(run, error))
}

fn with_hint(run: &Run, error: Error) -> Error {
    let cause = error.cause.clone().unwrap_or_default();
    if cause.starts_with("recovery ended before configured recovery target was reached") {
        return fatal(run, &cause);
    }
    let log = run.paths.server_log();
    if error.hint.is_some() { error } else { error.hint(format!("Its log is {}.", log.display())) }
}

fn fatal(run: &Run, words: &str) -> Error {
    let error = Error::failed("replay did not reach the target").cause(words);
    if words.starts_with("recovery ended before configured recovery target was reached") {
        let last = run.broker.as_ref().map(|b| b.delivered().last).unwrap_or_default();
        return error.hint(format!(
            "The target does not occur in the WAL that there is (replayed to segment {last}). For everything there is: --to-latest."
        ));
    }
    if words.starts_with("requested recovery stop point is before consistent recovery point") {
        return error.hint("The target lies before the end of the backup: choose an older one with --backup.");
    }
    error.hint(format!("The server's log is {}.", run.paths.server_log().display()))
}

/// Paused is believed when SQL says so too, on the right cluster, at the right place.
fn prove_pause(run: &mut Run, words: String) -> Result<(Lsn, String)> {
    let state = pause_state(run);
    let sql = format!(
        "SELECT pg_is_in_recovery(), {state}, pg_last_wal_replay_lsn(), (SELECT system_identifier FROM pg_control_system()), current_setting('data_directory')"
    );
    for _ in 0..200 {
        let reply = promote::query(run, "postgres", &sql)?;
        let row = reply.first_row();
        let [in_recovery, paused, lsn, identifier, place] = row.as_slice() else {
            return Err(Error::failed("ask the private server where it stands").cause(reply.error.unwrap_or_else(|| "no row".into())));
        };
        if *identifier != run.recovery().cluster.system_identifier.to_string() || *place != run.staging().display().to_string() {
            return Err(Error::failed(format!("the private server is not ours: it says {identifier} on {place}")));
        }
        if in_recovery == "t" && paused == "paused" {
            let lsn: Lsn = lsn.parse().map_err(|cause| Error::failed("read the replay position").cause(cause))?;
            if let Some(target) = target_lsn(run) {
                // Inclusive: the record at the target was replayed, the position is behind it. Exclusive: it was not.
                let reached = if run.recovery().target.inclusive { lsn > target } else { lsn <= target };
                if !reached {
                    return Err(Error::failed(format!("replay paused at {lsn}, not at the target {target}")));
                }
            }
            let words = if words.is_empty() { format!("paused at {lsn}") } else { words };
            return Ok((lsn, words));
        }
        std::thread::sleep(TICK);
    }
    Err(Error::failed("the private server said it pauses and does not"))
}

fn settings(run: &Run, action: &'static str) -> Result<RecoverySettings> {
    let target = &run.recovery().target;
    let pair = match &target.request {
        _ if target_lsn(run).is_some() => ("recovery_target_lsn", target_lsn(run).unwrap_or_default().to_string()),
        TargetRequest::ToTime(time) | TargetRequest::BeforeTime(time) => ("recovery_target_time", render_time(*time)),
        TargetRequest::ToXid(xid) | TargetRequest::BeforeXid(xid) => ("recovery_target_xid", xid.to_string()),
        TargetRequest::BeforeMigration(migration) => ("recovery_target_lsn", migration.lsn.to_string()),
        TargetRequest::ToLsn(lsn) | TargetRequest::BeforeLsn(lsn) => ("recovery_target_lsn", lsn.to_string()),
        TargetRequest::ToName(name) => ("recovery_target_name", name.clone()),
        TargetRequest::ToConsistent => ("recovery_target", "immediate".to_string()),
        TargetRequest::ToLatest => return Err(Error::failed("the end of WAL is not known")),
    };
    Ok(RecoverySettings { target: Some(pair), inclusive: target.inclusive, timeline: target.timeline.to_string(), action })
}

/// The target's LSN: planned, or for latest found after the stop.
pub fn target_lsn(run: &Run) -> Option<Lsn> {
    run.recovery().target.lsn.or(run.ledger().found_target())
}

/// What `wal-get` may hand out: the chain as it stands now, in archives and tail.
fn offer(run: &mut Run) -> Result<Offer> {
    let sources = sources::list(run, &sources::serving(run))?;
    let recovery = run.recovery();
    let size = recovery.cluster.segment_size;
    let copies = chain::readable(&sources);
    let until = match target_lsn(run) {
        _ if !recovery.chain.open => Some(recovery.chain.last.number),
        found => found.map(|lsn| size.number(lsn)),
    };
    let links = chain::follow(&recovery.target.history, recovery.chain.first.number, until, &sources, size);
    let Some(last) = links.segments.last().copied() else {
        return Err(Error::failed(format!("segment {} is gone", recovery.chain.first.file_name(size))));
    };
    if let Some(gap) = links.end.filter(|gap| gap.hole || until.is_some()) {
        return Err(Error::failed(format!("segment {} is gone", gap.missing.file_name(size)))
            .hint(format!("WAL is there up to {}.", gap.reachable)));
    }
    let identity = sources::identity(run);
    // The target's record may go on in the next segment.
    let next =
        crate::pg::SegmentName { timeline: recovery.target.history.timeline_of_segment(last.number + 1, size), number: last.number + 1 };
    let (names, last) =
        if copies.contains_key(&next) { ([links.segments.clone(), vec![next]].concat(), next) } else { (links.segments.clone(), last) };
    let segments = names.iter().map(|name| {
        let paths = copies.get(name).map(|list| list.iter().map(|c| c.directory.join(&c.file)).collect()).unwrap_or_default();
        (name.file_name(size), (paths, identity.expect(*name)))
    });
    let histories = chain::histories(&sources).into_iter().filter(|(t, _)| *t <= recovery.target.timeline).collect();
    Ok(Offer {
        segments: segments.collect(),
        last: last.file_name(size),
        histories,
        placeholders: None,
        vault: Vault::of(&recovery.site.trusted),
    })
}

fn staged_control(run: &mut Run) -> Result<ControlFile> {
    let (data_directory, hidden) = (run.staging(), Some(run.paths.id.clone()));
    run.owner(Task::ReadControl { data_directory, hidden })
}

/// A stopped replay whose last restartpoint is the target record (pitfalls F1).
fn stands_on_its_target(run: &Run, staged: &ControlFile) -> bool {
    let recovering = matches!(staged.state, ClusterState::ShutDownInRecovery | ClusterState::InArchiveRecovery);
    recovering && target_lsn(run).is_some_and(|target| staged.checkpoint >= target)
}

/// Whether staging stands on the last record of all there is.
pub fn stands_at_the_end(run: &mut Run) -> Result<bool> {
    let staged = staged_control(run)?;
    Ok(ends_on_its_target(run, &staged))
}

/// Its checkpoint is the target of a recovery to latest and nothing was replayed behind it: nothing follows it in the
/// WAL, for the old cluster is down and its shutdown checkpoint, or where it crashed the last valid record, is this one.
fn ends_on_its_target(run: &Run, staged: &ControlFile) -> bool {
    let latest = matches!(run.recovery().target.request, TargetRequest::ToLatest);
    latest
        && stands_on_its_target(run, staged)
        && staged.redo == staged.checkpoint
        && run.ledger().found_target() == Some(staged.checkpoint)
}
