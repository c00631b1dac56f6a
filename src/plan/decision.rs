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
pub(super) fn from_backup(host: &Host, request: &Request) -> bool {
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
        (host.cluster.unregistered, Step::Register),
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
    let cold = recovery.backup.control.as_ref().map(|control| control.checkpoint);
    let decisions = serde_json::json!({
        "cluster": [recovery.cluster.name, recovery.cluster.data_directory, recovery.cluster.system_identifier.to_string()],
        // What serves on another timeline loses something else.
        "timeline": recovery.cluster.timeline,
        "target": target,
        // Another one may have been put in its place since.
        "backup": (&recovery.backup.name, &recovery.backup.path, &recovery.backup.label, cold),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pg::Lsn;
    use crate::plan::target::TargetRequest;
    use crate::report::fixtures;
    use crate::store::catalogue::Label;

    /// Facts of a recovery and another value for each, by JSON pointer.
    fn decisions() -> Vec<(&'static str, Value)> {
        vec![
            ("/cluster/name", json!("15-other")),
            ("/cluster/data_directory", json!("/srv/pg")),
            ("/cluster/system_identifier", json!("7300000000000000001")),
            ("/cluster/timeline", json!(2)),
            ("/cluster/control/name", json!("other")),
            ("/cluster/remains", json!(Remains::Missing)),
            ("/cluster/configuration/in_data_directory", json!(true)),
            ("/target/request", json!(TargetRequest::ToXid(208_245))),
            ("/target/timeline", json!(3)),
            ("/target/lsn", json!(Lsn(0xDE00_0028))),
            ("/target/inclusive", json!(true)),
            ("/backup/name", json!("other.tar.gz")),
            ("/backup/path", json!("/srv/other.tar.gz")),
            ("/backup/label", json!(Label::Absent)),
            ("/chain/first/number", json!(0xDD)),
            ("/chain/last/number", json!(0x1FD)),
            ("/site/archives", json!(["/mnt/wal"])),
            ("/site/database", json!("postgres")),
            ("/site/user", json!("admin")),
            ("/site/check_user", json!("checker")),
            ("/site/quiesce", json!(["app.service"])),
            ("/config_from_backup", json!(true)),
            ("/dump", json!({"directory": "/srv/dumps", "databases": []})),
            ("/accepted", json!([])),
            ("/live_tablespaces", json!([[16_384, "/srv/space"]])),
            ("/preloaded/go", json!(["pg_cron"])),
            ("/steps", json!([Step::Stop, Step::Extract])),
        ]
    }

    /// Facts that grow or differ while a person reads the plan, and what only says where something lies.
    fn others() -> Vec<(&'static str, Value)> {
        vec![
            ("/cluster/inode", json!(8)),
            ("/cluster/serving", json!(false)),
            ("/backup_end", json!(Lsn(0xDF00_0000))),
            ("/backup/compressed_bytes", json!(1)),
            ("/chain/segments", json!(7)),
            ("/chain/outside_archive", json!(0)),
            ("/other_wal", json!([{"run": "r", "directory": "/w", "sealed": true}])),
            ("/floors", json!({"max_connections": 500})),
            ("/reserve", json!(5)),
            ("/digest", json!("other")),
            ("/consequences", json!([{"id": "x", "text": "y"}])),
            ("/damaged_wal", json!(["/wal/x"])),
        ]
    }

    fn changed(pointer: &str, value: Value) -> Recovery {
        let mut document = serde_json::to_value(fixtures::recovery()).unwrap();
        let place = document.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is not there"));
        assert_ne!(*place, value, "{pointer}: the same value");
        *place = value;
        serde_json::from_value(document).unwrap_or_else(|e| panic!("{pointer}: {e}"))
    }

    #[test]
    fn the_digest_covers_decisions_and_nothing_else() {
        let own = digest(&fixtures::recovery());
        assert_eq!(own, digest(&fixtures::recovery()));
        let mut seen = vec![own.clone()];
        for (pointer, value) in decisions() {
            let other = digest(&changed(pointer, value));
            assert!(!seen.contains(&other), "{pointer} is not in the digest, or as little as another one is");
            seen.push(other);
        }
        for (pointer, value) in others() {
            assert_eq!(digest(&changed(pointer, value)), own, "{pointer} is in the digest");
        }
    }

    /// A new fact of a recovery must be put into one of the two lists, or be named here with where it is tried.
    #[test]
    fn every_fact_was_decided_upon() {
        // Their forms are many: places and tablespaces in tests/tablespaces.rs, hooks and checks in tests/digest.rs.
        const ELSEWHERE: [&str; 5] = ["places", "tablespaces", "in_place", "names", "migration"];
        let listed: Vec<&str> = decisions().into_iter().chain(others()).filter_map(|(pointer, _)| pointer.split('/').nth(1)).collect();
        let document = serde_json::to_value(fixtures::recovery()).unwrap();
        for field in document.as_object().unwrap().keys() {
            assert!(listed.contains(&field.as_str()) || ELSEWHERE.contains(&field.as_str()), "{field} is in no list");
        }
    }

    /// For latest it is that word and the timeline: the LSN is known after the stop.
    #[test]
    fn what_only_grows_changes_nothing_for_latest() {
        let mut recovery = fixtures::recovery();
        recovery.target.moving = true;
        let own = digest(&recovery);
        recovery.target.lsn = Some(Lsn(7));
        recovery.chain.last.number += 1;
        assert_eq!(digest(&recovery), own);
        recovery.chain.first.number -= 1;
        assert_ne!(digest(&recovery), own);
    }
}
