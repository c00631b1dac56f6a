//! The decision as it is journaled: what is done to what, in which steps, and the digest that names it. Pure.
//!
//! Guarantees: two plans have the same digest where nothing that matters to a person's consent is different.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::backup::Choice;
use super::facts::{Host, Remains, Server};
use super::planned::Planned;
use super::preloaded::Preloaded;
use super::recovery::{Chain, ClusterFacts, Recovery, Target};
use super::restore::Request;
use super::spaces::Spaces;
use super::step::Step;
use super::wal_facts::WalFindings;
use crate::pg::version;

/// What is recorded of a plan against which nothing speaks.
pub(super) fn recovery(
    host: &Host,
    request: &Request,
    target: Target,
    chosen: &Choice,
    (chain, spaces): (Chain, Spaces),
    accepted: Vec<String>,
    planned: &Planned,
) -> Recovery {
    let cluster = &host.cluster;
    let preloaded = Preloaded::of(cluster.configuration.get("shared_preload_libraries"));
    let mut recovery = Recovery {
        cluster: ClusterFacts {
            name: cluster.name.clone(),
            data_directory: cluster.data_directory.clone(),
            inode: cluster.inode,
            owner: cluster.owner.clone(),
            major: cluster.major,
            programs: cluster.programs.clone(),
            control: cluster.control.clone(),
            system_identifier: cluster.control_file.system_identifier,
            timeline: cluster.control_file.timeline,
            segment_size: cluster.control_file.segment_size,
            serving: matches!(cluster.server, Server::Serving { .. }),
            remains: cluster.remains.clone(),
            configuration: cluster.configuration.clone(),
            parent_is_owners: host.capability.parent == Ok(cluster.owner.uid),
            group_access: cluster.group_access,
            mounted: cluster.mounted,
            one_step: host.capability.exchange == Ok(true),
        },
        target,
        backup: chosen.entry.clone(),
        backup_end: request.findings_for(chosen).and_then(|f| f.answer.backup_end).map(|(_, end)| end).or(chosen.end),
        names: request.names.clone(),
        migration: request.migration.as_ref().map(|aim| aim.goal.clone()),
        chain,
        site: request.site.clone(),
        other_wal: request.other_wal.clone(),
        config_from_backup: from_backup(host, request),
        dump: request.dump.clone(),
        floors: floors(host, chosen, request),
        accepted,
        reserve: planned.space.reserve,
        places: spaces.places,
        tablespaces: spaces.tablespaces,
        live_tablespaces: cluster.tablespaces.clone(),
        in_place: spaces.in_place,
        steps: steps(host, request, &preloaded),
        preloaded,
        digest: String::new(),
        consequences: planned.consequences.clone(),
        damaged_wal: vec![],
    };
    recovery.digest = digest(&recovery);
    recovery
}

/// Configuration comes from the backup: asked for, or there is no other.
fn from_backup(host: &Host, request: &Request) -> bool {
    request.config_from_backup || host.cluster.configuration.settings.is_empty()
}

/// Hot standby needs at least the values of the server that wrote the WAL.
fn floors(host: &Host, chosen: &Choice, request: &Request) -> BTreeMap<String, i64> {
    let cluster = &host.cluster;
    let present = cluster.control_file.floors();
    let backup = chosen.entry.control.as_ref().map_or(present, crate::pg::ControlFile::floors);
    let found = request.findings_for(chosen).and_then(WalFindings::floors).unwrap_or(present);
    let mut floors = BTreeMap::new();
    for (index, name) in version::FLOORS.iter().enumerate() {
        let at = |values: &[i64; 5]| values.get(index).copied().unwrap_or(0);
        let configured = cluster.configuration.number(name).unwrap_or(0);
        floors.insert(name.to_string(), at(&present).max(at(&backup)).max(at(&found)).max(configured));
    }
    floors
}

/// Offline: the backup is unpacked and verified while the cluster still serves, so that a damaged backup costs no
/// outage; everything after the stop needs the stop.
fn steps(host: &Host, request: &Request, preloaded: &Preloaded) -> Vec<Step> {
    let hooks = &request.site.hooks;
    // What the backup's own configuration preloads is not known before it is unpacked.
    let unload = !preloaded.go.is_empty() || from_backup(host, request);
    let wanted = [
        (!hooks.before.is_empty(), Step::HookBefore),
        (host.cluster.remains == Remains::Missing, Step::Placeholder),
        (true, Step::Extract),
        (!request.site.quiesce.is_empty(), Step::StopUnits),
        (!hooks.before_stop.is_empty(), Step::HookBeforeStop),
        (request.dump.is_some(), Step::Dump),
        (true, Step::Stop),
        (true, Step::CopyTail),
        (true, Step::Configure),
        (true, Step::Replay),
        (true, Step::Check),
        (unload, Step::Unload),
        (true, Step::Promote),
        (true, Step::Tidy),
        (true, Step::Switch),
        (true, Step::Seal),
        (true, Step::Start),
        (!hooks.after_start.is_empty(), Step::HookAfterStart),
        (true, Step::CheckServing),
        (!request.site.quiesce.is_empty(), Step::StartUnits),
        (!hooks.done.is_empty(), Step::HookDone),
    ];
    wanted.into_iter().filter(|(yes, _)| *yes).map(|(_, step)| step).collect()
}

/// Decisions only: not where a segment lies, nor what grows while one reads the plan.
fn digest(recovery: &Recovery) -> String {
    let settled = !recovery.chain.open && !recovery.target.moving;
    let last = settled.then_some(recovery.chain.last);
    let mut target = recovery.target.clone();
    if target.moving {
        (target.lsn, target.end) = (None, None);
    }
    let decisions = serde_json::json!({
        "cluster": [recovery.cluster.name, recovery.cluster.data_directory, recovery.cluster.system_identifier.to_string()],
        "target": target,
        "backup": [recovery.backup.name, recovery.backup.path],
        "chain": [recovery.chain.first, last],
        "steps": recovery.steps,
        "control": recovery.cluster.control_words(),
        "remains": recovery.cluster.remains,
        "preloaded": recovery.preloaded,
        "live_tablespaces": recovery.live_tablespaces,
        "dump": recovery.dump,
        "places": recovery.places.iter().map(|p| (&p.parent, &p.name)).collect::<Vec<_>>(),
        "tablespaces": recovery.tablespaces,
        "config": [recovery.config_from_backup, recovery.cluster.configuration.in_data_directory],
        "checks": recovery.site.checks,
        "database": [recovery.site.database, recovery.site.user, recovery.site.check_user],
        "quiesce": recovery.site.quiesce,
        "hooks": recovery.site.hooks,
        "archives": recovery.site.archives,
        "accepted": recovery.accepted,
        "migration": recovery.migration,
    });
    hex::encode(Sha256::digest(decisions.to_string().as_bytes())).chars().take(16).collect()
}
