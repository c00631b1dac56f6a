//! `pitr runs`: every run, newest first, with what it did and what it keeps.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::layout::{Sheet, moment};
use super::terminal::human_bytes;
use crate::plan::account::{Account, outcome_word};
use crate::plan::time::rfc3339;

/// A run, or a journal that cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// Id.
    pub id: String,
    /// What its journal tells, or why that is not known.
    pub account: Result<Account, String>,
    /// What it keeps on the host: path and bytes.
    pub keeps: Vec<(String, u64)>,
}

/// The page.
pub fn text(rows: &[RunRow], width: usize) -> String {
    let mut sheet = Sheet::new(width);
    if rows.is_empty() {
        sheet.plain("No run was ever begun here.");
    }
    for (number, row) in rows.iter().enumerate() {
        if number > 0 {
            sheet.gap();
        }
        sheet.line("Run", &row.id);
        match &row.account {
            Ok(account) => put(&mut sheet, account),
            Err(why) => sheet.line("Journal", &format!("cannot be read: {why}")),
        }
        let keeps: Vec<String> = row.keeps.iter().map(|(path, bytes)| format!("{path}  {}", human_bytes(*bytes))).collect();
        sheet.list("Keeps", keeps.iter().map(String::as_str));
        if row.account.as_ref().is_ok_and(|a| !a.open) && row.keeps.iter().any(|(path, _)| !is_wal(path)) {
            sheet.more(2, &format!("`pitr purge {}` deletes it", row.id));
        }
        if row.keeps.iter().any(|(path, _)| is_wal(path)) {
            sheet.more(2, "WAL that stands nowhere else: later recoveries read it, and no purge deletes it");
        }
    }
    sheet.finish()
}

/// `runs/<id>/wal`, not the directory beside PGDATA.
fn is_wal(path: &str) -> bool {
    path.ends_with("/wal")
}

fn put(sheet: &mut Sheet, account: &Account) {
    let cluster = &account.recovery.cluster;
    sheet.line("Cluster", &format!("{}  {}", cluster.name, cluster.data_directory.display()));
    sheet.line("Target", &account.recovery.target.request.to_string());
    sheet.line("State", &account.state);
    let reason = account.by.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    sheet.line("Asked", &format!("{} by {}{reason}", time(account.begun), account.by.user));
}

fn time(time: Timestamp) -> String {
    time.round(jiff::Unit::Second).map_or_else(|_| moment(time), moment)
}

/// The document.
pub fn json(host: &str, rows: &[RunRow]) -> Value {
    json!({"schema": 1, "host": host, "runs": rows.iter().map(row_json).collect::<Vec<_>>()})
}

fn row_json(row: &RunRow) -> Value {
    let account = row.account.as_ref().ok();
    let cluster = account.map(|a| &a.recovery.cluster);
    json!({
        "run": row.id,
        "cluster": cluster.map(|c| c.name.as_str()),
        "data_directory": cluster.map(|c| c.data_directory.display().to_string()),
        "target": account.map(|a| a.recovery.target.request.to_string()),
        "outcome": account.and_then(|a| a.outcome).map(outcome_word),
        "open": account.map(|a| a.open),
        "state": account.map(|a| a.state.as_str()),
        "user": account.map(|a| a.by.user.as_str()),
        "reason": account.and_then(|a| a.by.reason.as_deref()),
        "begun": account.map(|a| rfc3339(a.begun)),
        "last": account.map(|a| rfc3339(a.last)),
        "keeps": row.keeps.iter().map(|(path, bytes)| json!({"path": path, "bytes": bytes})).collect::<Vec<_>>(),
        "problem": row.account.as_ref().err(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{fixtures, schema_check};
    use super::*;
    use crate::plan::ledger::{By, Entry, Event};

    fn rows() -> Vec<RunRow> {
        let by = By { user: "anna".into(), command: vec![], reason: Some("deploy\u{1b}".into()) };
        let event = Event::Run { format: 1, program: "0.1.0".into(), recovery: Box::new(fixtures::recovery()), by };
        let entry = Entry { time: "2026-11-21T21:05:20.5Z".parse().unwrap(), event };
        let known = RunRow {
            id: "20261121T210520Z-4f2a".into(),
            account: Ok(Account::of("20261121T210520Z-4f2a", &[entry]).unwrap()),
            keeps: vec![("/srv/.pitr-20261121T210520Z-4f2a".into(), 3 << 30)],
        };
        let damaged = RunRow { id: "20261120T210520Z-0000".into(), account: Err("line 3".into()), keeps: vec![] };
        vec![known, damaged]
    }

    #[test]
    fn newest_first_with_what_it_keeps() {
        assert_eq!(
            text(&rows(), 100),
            "\
Run       20261121T210520Z-4f2a
Cluster   15-main  /var/lib/postgresql/15/main
Target    --before-xid 208245
State     open: planned, nothing done
Asked     2026-11-21 21:05:21+00 by anna: deploy\\x1b
Keeps     /srv/.pitr-20261121T210520Z-4f2a  3.0 GiB

Run       20261120T210520Z-0000
Journal   cannot be read: line 3"
        );
        assert_eq!(text(&[], 80), "No run was ever begun here.");
        let mut purged = rows();
        purged.truncate(1);
        purged[0].keeps = vec![("/var/lib/pitr/runs/20261121T210520Z-4f2a/wal".into(), 1 << 20)];
        let page = text(&purged, 120);
        assert!(page.ends_with("no purge deletes it") && !page.contains("pitr purge"), "{page}");
    }

    #[test]
    fn the_document_follows_its_schema() {
        schema_check::assert_valid(include_str!("../../docs/schema/runs.schema.json"), &json("db-prod-03", &rows()));
    }
}
