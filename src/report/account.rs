//! `pitr report`: a run told for those who were not there, in four forms.

use serde_json::{Value, json};

use super::chapters::{self, Block, Chapter};
use super::layout::{counted, moment};
use super::plan::loss_json;
use super::run::{error_json, milliseconds, phases, remark, seconds_words};
use crate::plan::account::{Account, SectionAccount, outcome_word, purpose_word};
use crate::plan::ledger::By;
use crate::plan::loss::Loss;
use crate::plan::recovery::Recovery;
use crate::plan::time::rfc3339;
use crate::store::catalogue::Label;

/// The page for a terminal.
pub fn text(account: &Account, width: usize) -> String {
    chapters::text(&title(account), &chapters(account), width)
}

/// Markdown.
pub fn markdown(account: &Account) -> String {
    chapters::markdown(&title(account), &chapters(account))
}

/// One HTML file.
pub fn html(account: &Account) -> String {
    chapters::html(&title(account), &chapters(account))
}

fn title(account: &Account) -> String {
    format!("Recovery of {}, run {}", account.recovery.cluster.name, account.id)
}

fn chapters(account: &Account) -> Vec<Chapter> {
    let consequences = account.recovery.consequences.iter().map(|c| c.text.clone()).collect();
    vec![
        Chapter { title: "What was asked", block: Block::Facts(asked(account)) },
        Chapter { title: "What it was recovered from", block: Block::Facts(sources(account)) },
        Chapter { title: "What became of it", block: Block::Facts(became(account)) },
        Chapter { title: "Phases", block: phase_table(account) },
        Chapter { title: "Checks", block: check_table(account) },
        Chapter { title: "What was discarded", block: loss_block(account.loss.as_ref()) },
        Chapter { title: "What is different afterwards", block: Block::List(consequences) },
        Chapter { title: "Remarks", block: Block::List(account.facts.iter().filter_map(remark).collect()) },
        Chapter { title: "What was done, by whom", block: section_table(account) },
    ]
}

fn asked(account: &Account) -> Vec<(&'static str, String)> {
    let cluster = &account.recovery.cluster;
    let mut facts = vec![
        ("Cluster", format!("{}  {}", cluster.name, cluster.data_directory.display())),
        ("Server", format!("PostgreSQL {}, system identifier {}", cluster.major, cluster.system_identifier)),
        ("Target", format!("{} on timeline {}", account.recovery.target.request, account.recovery.target.timeline)),
        ("By", account.by.user.clone()),
        ("Command", command(&account.by)),
    ];
    facts.extend(account.by.reason.iter().map(|reason| ("Reason", reason.clone())));
    if !account.recovery.accepted.is_empty() {
        facts.push(("Accepted", account.recovery.accepted.join(", ")));
    }
    facts.push(("Plan", account.recovery.digest.clone()));
    facts
}

fn command(by: &By) -> String {
    by.command.iter().map(|word| crate::plan::target::shell_word(word)).collect::<Vec<_>>().join(" ")
}

fn sources(account: &Account) -> Vec<(&'static str, String)> {
    let recovery = &account.recovery;
    let size = recovery.cluster.segment_size;
    let verified = match account.verified {
        Some(true) => ", every file compared with its manifest",
        Some(false) => ", without a manifest to compare its files with",
        None => ", not unpacked",
    };
    let chain = &recovery.chain;
    let (first, last) = (chain.first.file_name(size), chain.last.file_name(size));
    let outside = if chain.outside_archive > 0 { format!(", {} of them not in the archive", chain.outside_archive) } else { String::new() };
    let mut facts = vec![
        ("Backup", format!("{}{verified}", recovery.backup.path.display())),
        ("WAL", format!("{} from {first} to {last}{outside}", counted(chain.segments, "segment", "segments"))),
    ];
    let archives: Vec<String> = recovery.site.archives.iter().map(|path| path.display().to_string()).collect();
    if !archives.is_empty() {
        facts.push(("Archive", archives.join(", ")));
    }
    facts
}

fn became(account: &Account) -> Vec<(&'static str, String)> {
    let mut facts = vec![("State", account.state.clone()), ("Began", moment(account.begun)), ("Last line", moment(account.last))];
    if let Some((lsn, words)) = &account.reached {
        facts.push(("Stopped", if lsn.0 == 0 { words.clone() } else { format!("{lsn}  {words}") }));
    }
    if let Some((timeline, fork)) = account.timeline {
        facts.push(("Timeline", format!("{timeline}, from {fork}")));
    }
    if let Some(seconds) = account.downtime() {
        facts.push(("Down for", seconds_words(seconds)));
    }
    if let Some(error) = account.error() {
        facts.push(("Error", error.to_string()));
        facts.extend(error.hint.iter().map(|hint| ("Hint", hint.clone())));
    }
    facts
}

fn phase_table(account: &Account) -> Block {
    let rows = phases(&account.recovery_seconds()).into_iter().map(|(name, seconds)| vec![name, seconds_words(seconds)]);
    Block::Table { head: vec!["Phase", "Took"], rows: rows.collect() }
}

fn check_table(account: &Account) -> Block {
    let row = |(check, public): &(crate::plan::ledger::CheckResult, bool)| {
        let rows: Vec<String> = check.rows.iter().map(|row| row.join(", ")).collect();
        let place = if *public { "serving" } else { "before the switch" };
        let verdict = if check.passed { "passed" } else { "FAILED" };
        let words = check.words.iter().cloned().chain(rows).collect::<Vec<_>>().join("; ");
        vec![verdict.to_string(), check.name.clone(), place.to_string(), words]
    };
    Block::Table { head: vec!["Result", "Check", "When", "Rows"], rows: account.checks.iter().map(row).collect() }
}

fn loss_block(loss: Option<&Loss>) -> Block {
    let Some(loss) = loss else {
        return Block::List(vec!["It was not counted after the stop; what the plan said was shown before it was confirmed.".into()]);
    };
    if loss.transactions == 0 {
        return Block::List(vec!["No committed transaction.".into()]);
    }
    let time = |time: Option<jiff::Timestamp>| time.map_or_else(String::new, moment);
    let sum = vec![
        counted(loss.transactions, "transaction", "transactions"),
        format!("{} to {}", time(loss.from), time(loss.to)),
        String::new(),
        String::new(),
        String::new(),
    ];
    let rows = loss
        .relations
        .iter()
        .map(|r| vec![r.database.clone(), r.name.clone(), r.inserted.to_string(), r.updated.to_string(), r.deleted.to_string()]);
    let system = (loss.system_rows > 0)
        .then(|| vec![String::new(), "catalogs and TOAST tables".into(), loss.system_rows.to_string(), String::new(), String::new()]);
    let rows = std::iter::once(sum).chain(rows).chain(system).collect();
    Block::Table { head: vec!["Database", "Relation", "Inserted", "Updated", "Deleted"], rows }
}

fn section_table(account: &Account) -> Block {
    let rows = account.sections.iter().map(|section| {
        let reason = section.by.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        vec![
            purpose_word(section.purpose).to_string(),
            moment(section.begun),
            format!("{}{reason}", section.by.user),
            ended(section),
            section.steps.iter().map(step_words).collect::<Vec<_>>().join(", "),
        ]
    });
    Block::Table { head: vec!["What", "Began", "Who", "Ended", "Steps"], rows: rows.collect() }
}

fn ended(section: &SectionAccount) -> String {
    match (section.outcome, &section.error) {
        (Some(outcome), _) => outcome_word(outcome).to_string(),
        (None, Some(error)) => format!("failed: {error}"),
        (None, None) => "not ended".into(),
    }
}

fn step_words((step, seconds): &(crate::plan::step::Step, Option<f64>)) -> String {
    let took = seconds.map_or_else(|| "not ended".to_string(), seconds_words);
    format!("{} {took}", step.name())
}

/// The document.
pub fn json(account: &Account) -> Value {
    let checks = account.checks.iter().map(
        |(check, public)| json!({"name": check.name, "passed": check.passed, "rows": check.rows, "words": check.words, "public": public}),
    );
    let (recovery, cluster) = (&account.recovery, &account.recovery.cluster);
    json!({
        "schema": 1,
        "run": account.id,
        "program": account.program,
        "cluster": {
            "name": cluster.name,
            "data_directory": cluster.data_directory.display().to_string(),
            "major": cluster.major,
            "system_identifier": cluster.system_identifier.to_string(),
        },
        "state": account.state,
        "open": account.open,
        "outcome": account.outcome.map(outcome_word),
        "begun": rfc3339(account.begun),
        "last": rfc3339(account.last),
        "by": by_json(&account.by),
        "target": target_json(account),
        "backup": backup_json(recovery, account.verified),
        "wal": {
            "segments": recovery.chain.segments,
            "first": recovery.chain.first.file_name(cluster.segment_size),
            "last": recovery.chain.last.file_name(cluster.segment_size),
            "outside_archive": recovery.chain.outside_archive,
        },
        "digest": recovery.digest,
        "accepted": recovery.accepted,
        "consequences": recovery.consequences.iter().map(|c| json!({"id": c.id, "text": c.text})).collect::<Vec<_>>(),
        "timeline": account.timeline.map(|(timeline, _)| timeline),
        "fork": account.timeline.map(|(_, fork)| fork),
        "downtime_seconds": account.downtime().map(milliseconds),
        "phases": phases(&account.recovery_seconds()).iter().map(|(n, s)| json!({"name": n, "seconds": milliseconds(*s)})).collect::<Vec<_>>(),
        "checks": checks.collect::<Vec<_>>(),
        "loss": account.loss.as_ref().map(loss_json),
        "sections": account.sections.iter().map(section_json).collect::<Vec<_>>(),
        "error": account.error().map(error_json),
        "remarks": account.facts.iter().filter_map(remark).collect::<Vec<_>>(),
    })
}

fn by_json(by: &By) -> Value {
    json!({"user": by.user, "command": by.command, "reason": by.reason})
}

fn target_json(account: &Account) -> Value {
    let target = &account.recovery.target;
    json!({
        "argument": target.request.to_string(),
        "timeline": target.timeline,
        "lsn": target.lsn,
        "inclusive": target.inclusive,
        "reached": account.reached.as_ref().filter(|(lsn, _)| lsn.0 > 0).map(|(lsn, _)| lsn),
        "words": account.reached.as_ref().map(|(_, words)| words),
    })
}

fn backup_json(recovery: &Recovery, verified: Option<bool>) -> Value {
    let start = match &recovery.backup.label {
        Label::Found(label) => Some(label.start_lsn),
        Label::Absent | Label::Unknown => None,
    };
    json!({
        "name": recovery.backup.name,
        "path": recovery.backup.path.display().to_string(),
        "start_lsn": start,
        "end_lsn": recovery.backup_end,
        "verified": verified,
    })
}

fn section_json(section: &SectionAccount) -> Value {
    let steps = section.steps.iter().map(|(step, seconds)| json!({"name": step.name(), "seconds": seconds.map(milliseconds)}));
    json!({
        "purpose": purpose_word(section.purpose),
        "by": by_json(&section.by),
        "begun": rfc3339(section.begun),
        "last": rfc3339(section.last),
        "outcome": section.outcome.map(outcome_word),
        "downtime_seconds": section.downtime.map(milliseconds),
        "steps": steps.collect::<Vec<_>>(),
        "error": section.error.as_ref().map(error_json),
    })
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
