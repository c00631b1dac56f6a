//! What will be different afterwards and nobody would be told otherwise.

use super::facts::{Control, Host, Remains, Server};
use super::planned::{Planned, Reason};
use super::preloaded::Preloaded;
use super::recovery::Consequence;
use super::restore::Request;
use crate::wal::Rmgr;

/// The list, by id.
pub fn list(host: &Host, request: &Request) -> Vec<Consequence> {
    let configuration = &host.cluster.configuration;
    let mut all = Vec::new();
    let mut add = |id: &str, text: String| all.push(Consequence { id: id.into(), text });
    if let Some(text) = remains(host) {
        add("remains", text);
    }
    if !host.cluster.slots.is_empty() {
        add("slots", format!("replication slots are gone ({}); what reads from them must be rebuilt", host.cluster.slots.join(", ")));
    }
    add("standbys", standbys(&request.names.readers));
    add("unlogged", "unlogged tables will be empty".into());
    add("subscriptions", "enabled subscriptions will be disabled and named: resynchronise before enabling them".into());
    if host.cluster.unregistered {
        let file = configuration.config_file.display();
        add(
            "configuration",
            format!("{file} is made anew, with Debian's settings: put yours there before applications connect; undo leaves it"),
        );
    } else if request.config_from_backup || configuration.settings.is_empty() {
        add("configuration", "configuration comes from the backup, as it was then".into());
    } else if configuration.in_data_directory {
        add("configuration", "configuration files in PGDATA stay as they are today".into());
    } else {
        add("configuration", format!("configuration in {} stays as it is today", configuration.config_file.display()));
    }
    let preloaded = Preloaded::of(configuration.get("shared_preload_libraries"));
    if !preloaded.go.is_empty() {
        add(
            "preloaded-libraries",
            format!("{} is not loaded while the cluster is promoted privately: it acts from the public start on", preloaded.names()),
        );
    }
    if !configuration.get("synchronous_standby_names").is_empty() {
        add(
            "synchronous",
            format!(
                "commits wait for synchronous_standby_names = '{}', whose standbys must be rebuilt",
                configuration.get("synchronous_standby_names")
            ),
        );
    }
    if !matches!(host.cluster.control, Control::Systemd { .. }) {
        add("start-by-hand", "a start by hand while the cluster must be down is noticed, it cannot be prevented".into());
    }
    if !matches!(configuration.get("archive_mode"), "on" | "always") {
        add("archive-off", "archive_mode is off: nothing after the recovery can be recovered until a new base backup is taken".into());
    }
    all
}

fn standbys(readers: &[(String, String)]) -> String {
    let text = "standbys of this cluster must be rebuilt, archives of pg_receivewal begun anew";
    match readers {
        [] => text.into(),
        readers => {
            let named: Vec<String> = readers.iter().map(|(application, address)| format!("{application} ({address})")).collect();
            format!("{text}; connected now: {}", named.join(", "))
        }
    }
}

/// Resource managers of extensions that the WAL up to the target needs; it names them by number alone.
pub fn extensions(needed: &[Rmgr], host: &Host, unknown: bool, planned: &mut Planned, reasons: &mut Vec<Reason>) {
    if needed.is_empty() {
        return;
    }
    let numbers = needed.iter().map(|rmgr| rmgr.0.to_string()).collect::<Vec<_>>().join(", ");
    let what = format!("the WAL holds records of resource managers of extensions (number {numbers})");
    let libraries = host.cluster.configuration.get("shared_preload_libraries");
    if libraries.trim().is_empty() && !unknown {
        reasons.push(Reason::fact(
            "no-resource-manager",
            format!("{what}, and no library is preloaded that could replay them"),
            "Put the extension's library into shared_preload_libraries.",
        ));
        return;
    }
    let text = format!("{what}: replay needs the library that brings each, of those that are preloaded");
    planned.consequences.push(Consequence { id: "resource-managers".into(), text });
}

/// What becomes of what stands at PGDATA, where that is not the cluster itself, whole.
fn remains(host: &Host) -> Option<String> {
    let pgdata = host.cluster.data_directory.display();
    match &host.cluster.remains {
        Remains::Whole if host.cluster.server == Server::Crashed => {
            Some("the cluster had crashed: undo puts it back as it is, not running, and does not move it to a timeline of its own".into())
        }
        Remains::Whole => None,
        Remains::Damaged { why } => Some(format!("what is left at {pgdata} is kept aside as it is ({why})")),
        Remains::Empty => Some(format!("{pgdata} is empty; undo makes it empty again")),
        Remains::Missing => Some(format!("{pgdata} does not exist; undo removes it again")),
        Remains::Other { system_identifier } => {
            Some(format!("the other cluster at {pgdata}, system identifier {system_identifier}, is kept aside; undo puts it back"))
        }
    }
}
