//! Whether the cluster and its host are fit for any recovery at all.

use super::facts::{Cluster, Control, Host, Remains, Server};
use super::planned::Reason;
use super::restore::Request;
use crate::pg::version;

/// Reasons that lie in the cluster and its host, whatever the target.
/// Bytes of a page, of data and of WAL, unless PostgreSQL was built otherwise (`--with-blocksize`, `--with-wal-blocksize`).
pub const BLOCK: u32 = 8192;

pub(super) fn cluster_reasons(host: &Host, request: &Request, reasons: &mut Vec<Reason>) {
    let cluster = &host.cluster;
    let pgdata = cluster.data_directory.display();
    for damaged in &host.damaged_runs {
        reasons.push(Reason::fact(
            "journal-damaged",
            format!("the journal of run {damaged}"),
            "What that run did is not known: look at its directory and at PGDATA before anything else. Where it left nothing, pitr purge removes it.",
        ));
    }
    reasons.extend(on_remains(&cluster.remains, &cluster.server, &pgdata.to_string()));
    if let Some(open) = host.runs.iter().rev().find(|r| r.open) {
        reasons.push(Reason::fact("open-run", format!("run {} is {}", open.id, open.state), open.ways_on()));
    }
    if !version::is_supported(cluster.major) {
        let list: Vec<String> = version::SUPPORTED.iter().map(u32::to_string).collect();
        reasons.push(Reason::fact(
            "unsupported-major",
            format!("PostgreSQL {} is not supported yet", cluster.major),
            format!("Supported: {}.", list.join(", ")),
        ));
    }
    for (what, size) in [("data", cluster.control_file.block_size), ("WAL", cluster.control_file.wal_block_size)] {
        if size != BLOCK {
            reasons.push(Reason::fact(
                "block-size",
                format!("pg_control of {pgdata} says that pages of {what} have {size} bytes; only pages of {BLOCK} are read"),
                "Recover it by PostgreSQL itself, with the programs that it was made with.",
            ));
        }
    }
    // Whoever starts it, Debian's tools or the unit that calls them: its place is of one major.
    if let Some(version) = &cluster.debian_version
        && *version != cluster.major.to_string()
    {
        reasons.push(Reason::fact(
            "other-major",
            format!("{} is a place for PostgreSQL {version}; what is to be recovered is of PostgreSQL {}", cluster.name, cluster.major),
            format!("Install that major and name a place of it: --as {}/main.", cluster.major),
        ));
    }
    let synchronous = cluster.configuration.get("synchronous_standby_names");
    if !synchronous.is_empty() {
        reasons.push(Reason::judgement(
            "synchronous-standbys",
            format!("every commit would wait for synchronous_standby_names = '{synchronous}', whose standbys must be rebuilt first"),
            "Empty it before the recovery: ALTER SYSTEM SET synchronous_standby_names = ''. To recover all the same: --accept synchronous-standbys.",
        ));
    }
    if cluster.standby {
        reasons.push(Reason::fact(
            "standby",
            format!("{pgdata} is a standby or in recovery"),
            "Recover the primary, then rebuild standbys: a recovered standby would be a second primary.",
        ));
    }
    if !cluster.managed_by.is_empty() {
        reasons.push(Reason::fact(
            "failover-manager",
            format!("a failover manager is in charge: {}", cluster.managed_by.join(", ")),
            "Pause it and take this member out first; it would fight the recovery.",
        ));
    }
    for mount in &cluster.mounts {
        // Exchanged with PGDATA, it would go aside with the old cluster, and the next boot would mount it over the new one.
        reasons.push(Reason::fact(
            "mount-point",
            format!("{} is a mount point below PGDATA", mount.display()),
            "A volume mounted within PGDATA cannot change places with it. Mount it outside, put the directory there and a link into PGDATA.",
        ));
    }
    if let Server::Serving { unit: Some(unit), .. } = &cluster.server
        && matches!(cluster.control, Control::PgCtl { .. })
    {
        reasons.push(Reason::judgement("systemd-unit", format!("{unit} runs this cluster and would not be driven by pitr"), format!("Name it by `service`. If it does not restart the server by itself: --accept systemd-unit. The cluster is then stopped and started without {unit}.")));
    }
    if let Some(problem) = &cluster.service.problem {
        reasons.push(Reason::fact(
            "service",
            format!("systemd is to control this cluster and cannot: {problem}"),
            "Correct `service` and `control` in the cluster's configuration, or leave both out.",
        ));
    }
    if cluster.service.start_disabled {
        reasons.push(Reason::fact(
            "start-disabled",
            format!("start.conf of {} says disabled: the recovered cluster could not be started", cluster.name),
            "Set it to auto or manual for the recovery.",
        ));
    }
    let capability = &host.capability;
    let exchange = capability.exchange.clone().map(|_| ());
    for (id, tried) in [("exchange", &exchange), ("namespaces", &capability.namespaces), ("program", &capability.program)] {
        if let Err(why) = tried {
            reasons.push(Reason::fact(&format!("no-{id}"), format!("this host cannot do the recovery: {why}"), capability_hint(id)));
        }
    }
    if let Err(why) = &host.capability.parent {
        reasons.push(Reason::fact(
            "parent-directory",
            format!("the directory above {pgdata} is not safe: {why}"),
            "It must belong to the cluster's owner, or to root with nobody else able to write it and the owner able to list it (chmod 755).",
        ));
    }
    if !request.site.quiesce.is_empty() && !request.service_manager {
        reasons.push(Reason::fact(
            "no-service-manager",
            "units are to be stopped and no systemd runs here",
            "Remove `quiesce`, or use hooks.",
        ));
    }
    if request.dump.is_some() && !serves(cluster) {
        reasons.push(Reason::fact(
            "dump-not-serving",
            "a dump was asked for, and the cluster that is to be recovered does not serve",
            "Start it, or leave --dump-before out: what stands at PGDATA is kept aside anyway.",
        ));
    }
    if request.reason_required && request.reason.as_deref().is_none_or(|r| r.trim().is_empty()) {
        reasons.push(Reason::fact("reason", "the configuration demands a reason", "Add --reason \"…\"."));
    }
    if !request.backups_known {
        reasons.push(Reason::fact(
            "no-backups-directory",
            "no directory with backups is known",
            "Set `backups` in /etc/pitr/pitr.toml, or give --backups DIR.",
        ));
    }
}

/// The cluster that is to be recovered serves: what stands in its place on a fresh host does not count.
fn serves(cluster: &Cluster) -> bool {
    cluster.remains == Remains::Whole && matches!(cluster.server, Server::Serving { .. })
}

/// A server whose files were deleted under it runs on: it has open what a recovery would move aside, and its data may
/// still be had from it.
fn on_remains(remains: &Remains, server: &Server, pgdata: &str) -> Option<Reason> {
    let Server::Serving { process, .. } = server else { return None };
    (!remains.could_run()).then(|| {
        Reason::fact(
            "server-on-remains",
            format!("process {} still runs on what is left of {pgdata}", process.pid),
            "Save what it still answers for, if you can (pg_dump), then stop that server and ask again.",
        )
    })
}

fn capability_hint(id: &str) -> &'static str {
    match id {
        "exchange" => {
            "Directories beside PGDATA must be able to change places by renaming: not in an overlay's lower layer, not across filesystems."
        }
        "namespaces" => "The private server needs mount, network and IPC namespaces: in a container, CAP_SYS_ADMIN.",
        _ => "Set state_directory to a place that the cluster's owner can walk to and execute in.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::ProcessIdentity;

    #[test]
    fn a_server_on_remains_is_refused_and_one_on_a_cluster_is_not() {
        let process = ProcessIdentity { pid: 7, start_ticks: 1, boot_id: "boot".into() };
        let server = Server::Serving { process, unit: None, arguments: vec![] };
        let refused = |remains: &Remains, server: &Server| on_remains(remains, server, "/srv/main").map(|r| r.id);
        for remains in [Remains::Empty, Remains::Missing, Remains::Damaged { why: "no global/pg_control".into() }] {
            assert_eq!(refused(&remains, &server).as_deref(), Some("server-on-remains"), "{remains:?}");
            assert_eq!(refused(&remains, &Server::Absent), None);
        }
        for remains in [Remains::Whole, Remains::Other { system_identifier: 1 }] {
            assert_eq!(refused(&remains, &server), None, "{remains:?}");
        }
    }
}
