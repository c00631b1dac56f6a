//! What each step does. Every one looks at the host first and does only what is left, so that a step that was
//! interrupted is simply applied again.

use std::path::{Path, PathBuf};

use crate::error::{At, Error, Kind, Result};
use crate::observe::postmaster;
use crate::pg::label::parse_tablespace_map;
use crate::pg::segment::history_name;
use crate::pg::{ControlFile, SegmentName, Timeline};
use crate::plan::chain;
use crate::plan::facts::{Remains, WalKind};
use crate::plan::ledger::Fact;
use crate::plan::loss::Loss;
use crate::plan::place::{Holds, Place, Tablespace};
use crate::plan::readiness::BLOCK;
use crate::plan::step::Step;
use crate::plan::target::TargetRequest;
pub use crate::run::beside::give;
use crate::run::beside::{self, seal, unseal};
use crate::run::configure::ConfigureRequest;
use crate::run::exchange::switch_over;
pub use crate::run::exchange::{stage, switch_back};
use crate::run::executor::Run;
use crate::run::libraries::{self, Libraries};
use crate::run::owner::Task;
use crate::run::promote;
use crate::run::reading;
use crate::run::replay;
use crate::run::sources::{self, Directories};
use crate::run::staging::ExtractRequest;
use crate::run::switch::Stage;
use crate::run::tail::CopyRequest;
use crate::run::tidy::TidyRequest;
use crate::run::{absent, control, dump, hooks, marks, moveold, purge, register, validate};
use crate::store::extract::{ExtractOptions, Extracted};
use crate::store::layout::required_directories;
use crate::sys::dir::Dir;
use crate::sys::label;

/// Applies one step.
pub fn apply(run: &mut Run, step: &Step) -> Result<()> {
    let configured = run.recovery().site.hooks.clone();
    match step {
        Step::HookBefore => hooks::run_hooks(run, "before", &configured.before, true),
        Step::Register => register::register(run),
        Step::Placeholder => absent::make_placeholder(run),
        Step::StopUnits => hooks::stop_units(run),
        Step::HookBeforeStop => hooks::run_hooks(run, "before_stop", &configured.before_stop, true),
        Step::Dump => dump::dump_before(run),
        Step::Stop => stop(run),
        Step::CopyTail => copy_tail(run),
        Step::Extract => extract(run),
        Step::Configure => configure(run),
        Step::Replay => replay::ensure_at_target(run, Libraries::Configured),
        Step::Check => validate::check_private(run),
        Step::Unload => libraries::unload(run),
        Step::Promote => promote::promote(run),
        Step::Tidy => tidy(run),
        Step::Switch => switch_over(run),
        Step::Seal => seal(run),
        Step::Start => start(run),
        Step::HookAfterStart => hooks::run_hooks(run, "after_start", &configured.after_start, false),
        Step::CheckServing => validate::check_public(run),
        Step::StartUnits => hooks::start_units(run),
        Step::HookDone => hooks::run_hooks(run, "done", &configured.done, false),
        Step::EndPrivate => {
            run.end_private();
            Ok(())
        }
        Step::StartOld => start_old(run),
        Step::HookFailed => hooks::run_hooks(run, "failed", &configured.failed, false),
        Step::StopRecovered => stop_recovered(run),
        Step::Unseal => unseal(run),
        Step::MoveOld => moveold::move_old(run),
        Step::SwitchBack => switch_back(run),
        Step::RemoveStaging => remove_beside(run),
        Step::KeepWal => purge::keep_wal(run),
        Step::RemoveAside => purge::remove_aside(run),
    }
}

fn stop(run: &mut Run) -> Result<()> {
    run.fact(Fact::Stopping)?;
    if !run.recovery().cluster.remains.could_run() {
        return absent::prove(run);
    }
    let (control, crashed) = control::stop(run)?;
    let cluster = &run.recovery().cluster;
    let (identifier, timeline) = match cluster.remains {
        Remains::Other { system_identifier } => (system_identifier, control.timeline),
        _ => (cluster.system_identifier, cluster.timeline),
    };
    if control.system_identifier != identifier || control.timeline != timeline {
        return Err(Error::failed(format!("{} is another cluster than the plan was made for", cluster.data_directory.display()))
            .cause(format!("timeline {} now, {} in the plan", control.timeline, cluster.timeline))
            .hint("End this run by `pitr undo` and plan again."));
    }
    let whole = run.recovery().cluster.remains == Remains::Whole;
    let latest = matches!(run.recovery().target.request, TargetRequest::ToLatest) && whole;
    let checkpoint = control.checkpoint;
    run.fact(Fact::OldStopped { control: Box::new(control), crashed })?;
    if latest && !crashed {
        // The last record of a clean stop is its shutdown checkpoint.
        run.fact(Fact::Target { lsn: checkpoint })?;
    }
    Ok(())
}

/// Every segment and history of the chain that the archive lacks, while nothing can recycle it.
fn copy_tail(run: &mut Run) -> Result<()> {
    beside::make_all(run)?;
    // An earlier stop's copy is stale where the cluster ran again: its last segment went on under the same name.
    run.owner::<()>(Task::RemoveTree { parent: run.beside(), name: "tail".into() })?;
    let all = sources::archives(run).with(&run.recovery().live_wal(), WalKind::Live).with_others(&run.recovery().other_wal.clone());
    let listed = sources::list(run, &all)?;
    let recovery = run.recovery();
    let first = recovery.chain.first.number;
    let known = chain::readable(&listed);
    let wanted = known.iter().filter(|(name, _)| name.number >= first).filter_map(|(_, list)| {
        let elsewhere = list.iter().all(|c| !c.archived);
        list.first().filter(|_| elsewhere).map(|c| (all.open_path(&c.directory), c.file.clone(), c.size))
    });
    let files: Vec<(PathBuf, String, u64)> = wanted.chain(lone_histories(&all, &listed)).collect();
    same_tablespaces(run)?;
    let to = run.tail();
    let _copied: u64 = run.owner(Task::CopyWal(Box::new(CopyRequest { files, to })))?;
    read_tail(run)
}

/// A tablespace made after the plan would not be bound: replay could reach it.
fn same_tablespaces(run: &mut Run) -> Result<()> {
    let data_directory = run.recovery().cluster.data_directory.clone();
    let found: Vec<(u32, PathBuf)> = run.owner(Task::ListTablespaces { data_directory })?;
    let planned = &run.recovery().live_tablespaces;
    match found.iter().find(|(oid, text)| !planned.iter().any(|(o, t)| o == oid && t == text)) {
        None => Ok(()),
        Some((oid, text)) => Err(Error::failed(format!("tablespace {oid} at {} was made after the plan", text.display()))
            .hint("End this run by `pitr undo` and plan again.")),
    }
}

fn lone_histories<'a>(
    all: &'a Directories,
    listed: &'a [crate::plan::facts::WalSource],
) -> impl Iterator<Item = (PathBuf, String, u64)> + 'a {
    let archived = |t: &Timeline| listed.iter().any(|s| s.kind == WalKind::Archive && s.histories.iter().any(|(other, _)| other == t));
    listed.iter().filter(|s| s.kind != WalKind::Archive).flat_map(move |s| {
        s.histories
            .iter()
            .filter(move |(t, _)| !archived(t))
            .map(|(t, text)| (all.open_path(&s.directory), history_name(*t), text.len() as u64))
    })
}

/// Reads the WAL once more now that nothing is added to it: for latest of a crashed cluster it tells the last valid
/// record, for every target what is really discarded.
fn read_tail(run: &mut Run) -> Result<()> {
    let latest = matches!(run.recovery().target.request, TargetRequest::ToLatest);
    if latest && replay::target_lsn(run).is_none() {
        let answer = reading::after_stop(run)?;
        let lsn = reading::last_record(&answer)?;
        run.fact(Fact::Target { lsn })?;
    }
    let Some(old) = run.ledger().old_control() else { return Ok(()) };
    if latest {
        // Nothing is behind the last record; another timeline has no latest. What a lost pg_wal held nobody knows.
        let whole = run.recovery().cluster.remains == Remains::Whole;
        return if whole { run.fact(Fact::Discarded { loss: Box::default() }) } else { Ok(()) };
    }
    if replay::target_lsn(run).is_none() {
        return Ok(());
    }
    match reading::discarded(run, &old) {
        Ok(discarded) => {
            let loss = Loss::of(&discarded.lost, &run.recovery().names);
            run.fact(Fact::Discarded { loss: Box::new(loss) })?;
            if discarded.whole {
                return Ok(());
            }
            run.remark("WAL of the old cluster is damaged or missing: more may be discarded than was counted")
        }
        // The recovery does not depend on it.
        Err(error) => run.remark(format!("what is discarded could not be counted again: {error}")),
    }
}

fn extract(run: &mut Run) -> Result<()> {
    beside::make_all(run)?;
    run.fact(Fact::Extracting)?;
    let request = extraction(run);
    let extracted: Extracted = run.owner(Task::Extract(Box::new(request)))?;
    agree(run, &extracted)?;
    let control = Some(Box::new(extracted.control));
    run.fact(Fact::Extracted { files: extracted.files, bytes: extracted.bytes, verified: extracted.verified, control })
}

fn extraction(run: &Run) -> ExtractRequest {
    let (recovery, id) = (run.recovery(), run.paths.id.as_str());
    let staged = |real: &Path| recovery.places.iter().find(|p| p.holds == Holds::Tablespace && p.parent == real).map(|p| p.staged(id));
    let of = |t: &Tablespace| t.real.as_deref().and_then(staged).zip(t.location.clone());
    // A relative link would lead elsewhere from staging.
    let text = |place: &Place| place.called.first().cloned().unwrap_or_else(|| place.at());
    ExtractRequest {
        source: recovery.backup.source.clone(),
        beside: run.beside(),
        marker: run.paths.marker(),
        options: ExtractOptions { group_access: recovery.cluster.group_access, ..ExtractOptions::default() },
        spaces: recovery.places.iter().filter(|p| p.holds == Holds::Tablespace).map(|p| p.staged(id)).collect(),
        tablespaces: recovery.tablespaces.iter().map(|t| (t.oid, of(t))).collect(),
        wal: recovery.wal_place().map(|place| (place.staged(id), text(place))),
    }
}

/// What could not be known before the whole archive was read must agree with the plan.
fn agree(run: &Run, extracted: &Extracted) -> Result<()> {
    let recovery = run.recovery();
    let cluster = &recovery.cluster;
    let disagree = |what: String| {
        Err(Error::failed(format!("backup {} does not fit: {what}", recovery.backup_name())).hint("Choose another one: pitr backups."))
    };
    if extracted.control.system_identifier != cluster.system_identifier {
        return disagree(format!(
            "it is of system identifier {}, the cluster of {}",
            extracted.control.system_identifier, cluster.system_identifier
        ));
    }
    if extracted.major != cluster.major {
        return disagree(format!("it is of PostgreSQL {}", extracted.major));
    }
    if extracted.control.block_size != BLOCK || extracted.control.wal_block_size != BLOCK {
        return disagree(format!("its pages have {} bytes, its WAL's {}", extracted.control.block_size, extracted.control.wal_block_size));
    }
    let start = extracted.label.as_ref().map_or(extracted.control.redo, |l| l.start_lsn);
    let size = cluster.segment_size;
    if size.number(start) != recovery.chain.first.number {
        return disagree(format!("it begins at {start}, not in segment {}", recovery.chain.first.file_name(size)));
    }
    let known = |oid: u32| recovery.tablespaces.iter().any(|t| t.oid == oid);
    let strange = |path: &str| match path.strip_prefix("pg_tblspc/") {
        Some(oid) => !oid.parse().is_ok_and(known),
        // pg_wal is made as the cluster has it; a link among the settings is taken over from there.
        None => path != "pg_wal" && (path.contains('/') || required_directories(extracted.major).any(|name| name == path)),
    };
    if let Some((path, target)) = extracted.links.iter().find(|(path, _)| strange(path)) {
        return disagree(format!("it holds a link {path} to {target}, which nothing names"));
    }
    let map = parse_tablespace_map(extracted.tablespace_map.as_deref().unwrap_or_default());
    match map.map(|map| map.into_iter().find(|(oid, _)| !known(*oid))) {
        Ok(None) => Ok(()),
        Ok(Some((oid, _))) => disagree(format!("its map names tablespace {oid}, which was not seen when the plan was made")),
        Err(cause) => disagree(format!("its tablespace_map: {cause}")),
    }
}

/// Staging from the backup once more, ready for another start.
pub fn extract_again(run: &mut Run) -> Result<()> {
    run.end_private();
    extract(run)?;
    configure(run)
}

fn configure(run: &mut Run) -> Result<()> {
    let recovery = run.recovery();
    let configuration = &recovery.cluster.configuration;
    let tls = ["ssl_cert_file", "ssl_key_file", "ssl_ca_file", "ssl_crl_file", "ssl_dh_params_file", "hba_file", "ident_file"];
    let request = ConfigureRequest {
        from: recovery.cluster.data_directory.clone(),
        to: run.staging(),
        take_main: configuration.in_data_directory && !recovery.config_from_backup,
        // What ALTER SYSTEM set belongs to the data: that of another cluster is not taken.
        take_auto: !recovery.config_from_backup && !matches!(recovery.cluster.remains, Remains::Other { .. }),
        named: if recovery.config_from_backup {
            vec![]
        } else {
            tls.iter().map(|n| configuration.get(n).to_string()).filter(|v| !v.is_empty()).collect()
        },
    };
    if run.ledger().number().is_some() && is_promoted(run)? {
        return Ok(());
    }
    let _taken: Vec<String> = run.owner(Task::Configure(Box::new(request)))?;
    absent::read_settings(run)
}

/// Staging has left recovery on our number.
fn is_promoted(run: &mut Run) -> Result<bool> {
    let Some(number) = run.ledger().number() else { return Ok(false) };
    let (data_directory, hidden) = (run.staging(), Some(run.paths.id.clone()));
    let control: ControlFile = run.owner(Task::ReadControl { data_directory, hidden })?;
    Ok(control.timeline == number && number != run.recovery().target.timeline)
}

/// Offers the archive every segment of the chain before the fork and every lower history that it lacks; what the
/// archive has is marked so. Then proves that staging is a complete cluster, shut down, on its number.
fn tidy(run: &mut Run) -> Result<()> {
    let (number, fork) = run
        .ledger()
        .last(|f| if let Fact::Promoted { timeline, fork, .. } = f { Some((*timeline, *fork)) } else { None })
        .ok_or_else(|| Error::failed("staging was not promoted"))?;
    let listed = sources::list(run, &sources::everything(run))?;
    let recovery = run.recovery();
    let size = recovery.cluster.segment_size;
    let archived = chain::copies(&listed.iter().filter(|s| s.kind == WalKind::Archive).cloned().collect::<Vec<_>>());
    let (whole, readable) = (chain::copies(&listed), chain::readable(&listed));
    // What there is in part only, the last of the chain, is no segment to offer.
    let names = (recovery.chain.first.number..size.number(fork))
        .map(|n| SegmentName { timeline: recovery.target.history.timeline_of_segment(n, size), number: n })
        .filter(|n| whole.contains_key(n) || !readable.contains_key(n));
    let archiving = run.ledger().archives(recovery);
    let segments: Vec<(String, PathBuf)> =
        names.filter(|n| archiving && !archived.contains_key(n)).map(|n| (n.file_name(size), run.tail())).collect();
    let histories = if archiving { missing_histories(&listed, number) } else { vec![] };
    let request = TidyRequest { wal: run.staged_wal(), segments, histories };
    let offered: Vec<String> = run.owner(Task::Tidy(Box::new(request)))?;
    let wal = run.staged_wal();
    marks::settle(run, &wal)?;
    run.owner::<()>(Task::RemoveFile { parent: run.staging(), name: "recovery.signal".into() })?;
    let control = prove_staging(run, number)?;
    run.fact(Fact::Tidied { control: Box::new(control), offered })
}

/// Histories below `number` that no archive has, with their texts.
pub fn missing_histories(listed: &[crate::plan::facts::WalSource], number: Timeline) -> Vec<(String, String)> {
    let archived: Vec<Timeline> =
        listed.iter().filter(|s| s.kind == WalKind::Archive).flat_map(|s| s.histories.iter().map(|(t, _)| *t)).collect();
    chain::histories(listed)
        .into_iter()
        .filter(|(t, _)| *t < number && !archived.contains(t))
        .map(|(t, text)| (history_name(t), text))
        .collect()
}

fn prove_staging(run: &mut Run, number: Timeline) -> Result<ControlFile> {
    let (data_directory, hidden) = (run.staging(), Some(run.paths.id.clone()));
    let control: ControlFile = run.owner(Task::ReadControl { data_directory, hidden })?;
    let cluster = &run.recovery().cluster;
    if control.state != crate::pg::ClusterState::ShutDown
        || control.timeline != number
        || control.system_identifier != cluster.system_identifier
    {
        return Err(Error::failed(format!("staging is not ready: {} on timeline {}", control.state.name(), control.timeline)));
    }
    let top = std::fs::symlink_metadata(run.staging()).at("look at", run.staging())?;
    use std::os::unix::fs::MetadataExt;
    let mode = if cluster.group_access { 0o750 } else { 0o700 };
    if top.uid() != cluster.owner.uid || top.mode() & 0o7777 != mode {
        return Err(Error::failed(format!("{} has uid {} and mode {:o}", run.staging().display(), top.uid(), top.mode() & 0o7777)));
    }
    label::settle(&Dir::open(&cluster.data_directory)?, &Dir::open(run.staging())?)?;
    Ok(control)
}

fn start(run: &mut Run) -> Result<()> {
    run.fact(Fact::PublicStart)?;
    control::start(run)
}

/// The old cluster as it was before the run: one that did not serve is not started.
fn start_old(run: &mut Run) -> Result<()> {
    if !run.ledger().stop_begun() {
        return absent::remove_placeholder(run);
    }
    run.fact(Fact::OldStarted)?;
    if run.recovery().cluster.serving {
        control::start(run)
    } else {
        control::let_start(run)?;
        absent::remove_placeholder(run)
    }
}

/// The recovered cluster may have been started past this run, by the boot of the host or by a person, between its coming
/// into place and its public start: its pg_control tells. Its timeline counts as public then.
pub fn settle_public_start(run: &mut Run, seen: Stage) -> Result<()> {
    let tidied = run.ledger().last(|f| if let Fact::Tidied { control, .. } = f { Some((**control).clone()) } else { None });
    let (Some(tidied), Stage::Switched, false) = (tidied, seen, run.ledger().public_start()) else { return Ok(()) };
    let data_directory = run.recovery().cluster.data_directory.clone();
    let running = postmaster::find(&data_directory)?.is_some();
    let found: ControlFile = run.owner(Task::ReadControl { data_directory, hidden: None })?;
    if running || found != tidied { run.fact(Fact::PublicStart) } else { Ok(()) }
}

fn stop_recovered(run: &mut Run) -> Result<()> {
    match stage(run)? {
        Stage::Switched => control::stop(run).map(|_| ()),
        _ => Ok(()),
    }
}

/// Deletes the run's directory: only ever our own work, the old cluster stands at PGDATA.
fn remove_beside(run: &mut Run) -> Result<()> {
    if matches!(stage(run)?, Stage::Switched | Stage::Exchanged) {
        return Err(
            Error::new(Kind::Hands, "the recovered cluster stands at PGDATA: what is aside is the old one").hint("Nothing was deleted.")
        );
    }
    beside::delete_all(run)
}
