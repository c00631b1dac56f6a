//! `pitr status`: what can be got back, from when to when; what is open and what to type.
//!
//! Guarantees: a cluster that cannot be taken back to any time says so in its first lines; an open run is named with
//! the commands that end it.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::layout::{Sheet, moment};
use super::plan::server;
use crate::plan::time::{render_time, rfc3339};
pub use crate::plan::window::Window;

/// The host and its clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusDocument {
    /// Its name.
    pub host: String,
    /// Every cluster that was found or is configured.
    pub clusters: Vec<ClusterStatus>,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Name.
    pub name: String,
    /// PGDATA.
    pub data_directory: String,
    /// `serving`, `stopped`, `crashed`, or why it could not be looked at.
    pub state: String,
    /// Version text of its binaries.
    pub server: String,
    /// Every backup that was found.
    pub backups: Vec<BackupStatus>,
    /// What can be reached.
    pub windows: Vec<Window>,
    /// What interrupts the WAL, in words.
    pub gaps: Vec<String>,
    /// The run that is open.
    pub run: Option<OpenRun>,
    /// Old clusters and kept work beside PGDATA.
    pub asides: Vec<Aside>,
    /// What a person should know, in words.
    pub problems: Vec<String>,
}

/// A backup in short; `pitr backups` tells more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupStatus {
    /// Name.
    pub name: String,
    /// Can be used.
    pub usable: bool,
    /// Why not.
    pub why: Option<String>,
    /// When it ended, at the latest.
    pub time: Option<Timestamp>,
}

/// A run that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// Id.
    pub id: String,
    /// In words.
    pub state: String,
    /// Commands that end it.
    pub next: Vec<String>,
    /// The process that is at work on it.
    pub process: Option<i32>,
    /// The file that keeps the cluster's unit from being started until it ends.
    pub kept_down_by: Option<String>,
}

/// What a run left beside PGDATA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// The run.
    pub run: String,
    /// Where.
    pub path: String,
    /// In words.
    pub state: String,
    /// It was replaced by a recovery that can be undone.
    pub comes_back: bool,
}

/// The page, `width` columns wide.
pub fn text(status: &StatusDocument, width: usize) -> String {
    let mut sheet = Sheet::new(width);
    sheet.line("Host", &status.host);
    if status.clusters.is_empty() {
        sheet.line("Cluster", "none was found; name one in /etc/pitr/pitr.toml");
    }
    for cluster in &status.clusters {
        sheet.gap();
        put_cluster(&mut sheet, cluster);
    }
    sheet.finish()
}

fn put_cluster(sheet: &mut Sheet, cluster: &ClusterStatus) {
    let version = server(&cluster.server);
    // Where it could not be looked at, no version is known.
    let facts = [&cluster.name, &cluster.data_directory, &version, &cluster.state].map(String::as_str);
    sheet.line("Cluster", &facts.into_iter().filter(|fact| !fact.is_empty()).collect::<Vec<_>>().join("  "));
    if let Some(run) = &cluster.run {
        sheet.line("Run", &format!("{}  {}", run.id, run.state));
        for command in &run.next {
            sheet.more(2, &format!("`{command}`"));
        }
        if let Some(file) = &run.kept_down_by {
            sheet.more(2, &format!("until it ends, {file} keeps the cluster from being started"));
        }
    }
    let windows: Vec<String> = cluster.windows.iter().map(window_words).collect();
    match windows.is_empty() {
        true => sheet.line("Back to", "nothing: no backup can be used with the WAL that is there"),
        false => sheet.list("Back to", windows.iter().map(String::as_str)),
    }
    put_backups(sheet, &cluster.backups);
    sheet.list("Gaps", cluster.gaps.iter().map(String::as_str));
    for (number, aside) in cluster.asides.iter().enumerate() {
        sheet.line(if number == 0 { "Aside" } else { "" }, &format!("run {}  {}  {}", aside.run, aside.path, aside.state));
        if aside.comes_back {
            sheet.more(2, &format!("`pitr undo {}` puts it back", aside.run));
        }
        sheet.more(2, &format!("`pitr purge {}` deletes it", aside.run));
    }
    sheet.list("Problem", cluster.problems.iter().map(String::as_str));
}

fn window_words(window: &Window) -> String {
    // In full: a rounded beginning would lie before the window.
    let from = window.from.map_or_else(|| "the end of the oldest backup".to_string(), render_time);
    if window.from.is_some() && window.from == window.to {
        return format!("the end of the backup, {from}, timeline {}: no later commit is in the WAL", window.timeline);
    }
    let to = window.to.map_or_else(|| "the newest WAL".to_string(), render_time);
    format!("any moment from {from} to {to}, timeline {}", window.timeline)
}

fn put_backups(sheet: &mut Sheet, backups: &[BackupStatus]) {
    let usable = backups.iter().filter(|b| b.usable).count();
    let newest = backups.iter().filter(|b| b.usable).filter_map(|b| Some((b.time?, &b.name))).max();
    let newest = newest.map(|(time, name)| format!(", the newest {name} taken {}", moment(time))).unwrap_or_default();
    match backups.len() {
        0 => sheet.line("Backups", "none was found"),
        all => sheet.line("Backups", &format!("{usable} of {all} can be used{newest}")),
    }
    for backup in backups.iter().filter(|b| !b.usable) {
        let why = backup.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        sheet.more(2, &format!("not {}{why}", backup.name));
    }
}

/// The document of `pitr status`.
pub fn json(status: &StatusDocument) -> Value {
    json!({
        "schema": 1,
        "host": status.host,
        "clusters": status.clusters.iter().map(cluster_json).collect::<Vec<_>>(),
    })
}

fn run_json(run: &OpenRun) -> Value {
    json!({"id": run.id, "state": run.state, "next": run.next, "process": run.process, "kept_down_by": run.kept_down_by})
}

fn cluster_json(cluster: &ClusterStatus) -> Value {
    let backup = |b: &BackupStatus| json!({"name": b.name, "usable": b.usable, "why": b.why, "time": b.time.map(rfc3339)});
    let window = |w: &Window| json!({"timeline": w.timeline, "from": w.from.map(rfc3339), "to": w.to.map(rfc3339)});
    let aside = |a: &Aside| json!({"run": a.run, "path": a.path, "state": a.state});
    json!({
        "name": cluster.name,
        "data_directory": cluster.data_directory,
        "state": cluster.state,
        "server": cluster.server,
        "backups": cluster.backups.iter().map(backup).collect::<Vec<_>>(),
        "windows": cluster.windows.iter().map(window).collect::<Vec<_>>(),
        "gaps": cluster.gaps,
        "run": cluster.run.as_ref().map(run_json),
        "asides": cluster.asides.iter().map(aside).collect::<Vec<_>>(),
        "problems": cluster.problems,
    })
}

#[cfg(test)]
mod tests {
    use super::super::schema_check;
    use super::*;
    use crate::pg::{Lsn, Timeline};

    fn status() -> StatusDocument {
        let cluster = ClusterStatus {
            name: "15-main".into(),
            data_directory: "/var/lib/postgresql/15/main".into(),
            state: "stopped".into(),
            server: "postgres (PostgreSQL) 15.18".into(),
            backups: vec![
                BackupStatus { name: "old.tar".into(), usable: true, why: None, time: Some("2026-11-20T21:00:00Z".parse().unwrap()) },
                BackupStatus { name: "new.tar".into(), usable: true, why: None, time: Some("2026-11-21T21:03:14Z".parse().unwrap()) },
                BackupStatus { name: "cut\u{7}.tar".into(), usable: false, why: Some("it is truncated".into()), time: None },
            ],
            windows: vec![Window { timeline: Timeline(1), from: Some("2026-11-20T21:00:00Z".parse().unwrap()), to: None, until: Lsn(0) }],
            gaps: vec!["000000010000000000000007 is missing".into()],
            run: Some(OpenRun {
                id: "r2".into(),
                state: "open: recovery ended or was interrupted at 'extract'".into(),
                next: vec!["pitr resume r2".into(), "pitr undo r2".into()],
                process: None,
                kept_down_by: Some("/run/systemd/system/postgresql@15-main.service.d/zz-pitr.conf".into()),
            }),
            asides: vec![Aside {
                run: "r1".into(),
                path: "/var/lib/postgresql/15/.pitr-r1".into(),
                state: "the old cluster".into(),
                comes_back: true,
            }],
            problems: vec!["archive_mode is off".into()],
        };
        StatusDocument { host: "db-prod-03".into(), clusters: vec![cluster] }
    }

    #[test]
    fn what_can_be_got_back_and_what_is_open() {
        assert_eq!(
            text(&status(), 100),
            "\
Host      db-prod-03

Cluster   15-main  /var/lib/postgresql/15/main  PostgreSQL 15.18  stopped
Run       r2  open: recovery ended or was interrupted at 'extract'
            `pitr resume r2`
            `pitr undo r2`
            until it ends, /run/systemd/system/postgresql@15-main.service.d/zz-pitr.conf keeps the
            cluster from being started
Back to   any moment from 2026-11-20 21:00:00.000000+00 to the newest WAL, timeline 1
Backups   2 of 3 can be used, the newest new.tar taken 2026-11-21 21:03:14+00
            not cut\\x07.tar: it is truncated
Gaps      000000010000000000000007 is missing
Aside     run r1  /var/lib/postgresql/15/.pitr-r1  the old cluster
            `pitr undo r1` puts it back
            `pitr purge r1` deletes it
Problem   archive_mode is off"
        );
    }

    #[test]
    fn nothing_to_go_back_to() {
        let mut status = status();
        let cluster = status.clusters.first_mut().unwrap();
        (cluster.windows, cluster.backups, cluster.gaps, cluster.asides) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        (cluster.run, cluster.problems) = (None, Vec::new());
        assert_eq!(
            text(&status, 80),
            "\
Host      db-prod-03

Cluster   15-main  /var/lib/postgresql/15/main  PostgreSQL 15.18  stopped
Back to   nothing: no backup can be used with the WAL that is there
Backups   none was found"
        );
        status.clusters.clear();
        assert_eq!(text(&status, 80), "Host      db-prod-03\nCluster   none was found; name one in /etc/pitr/pitr.toml");
    }

    /// The keys of the design's table, and the schema.
    #[test]
    fn the_document_has_every_key_and_follows_its_schema() {
        let schema = include_str!("../../docs/schema/status.schema.json");
        let mut status = status();
        let document = json(&status);
        schema_check::assert_valid(schema, &document);
        for key in "name state server backups windows gaps run asides".split(' ') {
            assert!(document["clusters"][0].get(key).is_some(), "{key}");
        }
        assert_eq!(document["clusters"][0]["windows"][0], json!({"timeline": 1, "from": "2026-11-20T21:00:00.000000+00:00", "to": null}));
        status.clusters.first_mut().unwrap().run = None;
        schema_check::assert_valid(schema, &json(&status));
    }
}
