//! What a plan says: the page that a person reads before confirming, and the document for programs.
//!
//! Guarantees: everything that speaks against a recovery is on the page with its id and hint; what is not known is
//! said to be unknown, never left out; equal plans give equal pages.

use serde_json::{Value, json};

use super::layout::{Sheet, counted, moment};
use super::terminal::{human_bytes, human_duration};
use crate::plan::loss::{Border, Loss, LostRows};
use crate::plan::planned::{BackupLine, Estimate, Planned, Reason, SpaceLine, WalLine};
use crate::plan::recovery::Consequence;
use crate::plan::step::Step;
use crate::plan::time::{render_time, rfc3339};

/// Why transactions are not named.
const UNREAD: &str = "records were not read";

/// Most relations of a loss that are shown on a page.
const RELATIONS: usize = 12;

/// The page, `width` columns wide. `command` is what carries it out (`pitr restore --to-…`); with an empty one the
/// closing line is left out, for a page that a question follows.
pub fn text(plan: &Planned, width: usize, command: &str) -> String {
    let mut sheet = Sheet::new(width);
    sheet.line("Host", &plan.host);
    let cluster = &plan.cluster;
    let version = server(&cluster.version);
    let bytes = human_bytes(cluster.bytes);
    sheet.line("Cluster", &format!("{}  {}  {version}  {}  {bytes}", cluster.name, cluster.data_directory, cluster.state));
    target(&mut sheet, plan);
    backup(&mut sheet, plan);
    if let Some(line) = &plan.wal {
        wal(&mut sheet, line);
    }
    match &plan.loss {
        Some(loss) => loss_lines(&mut sheet, loss),
        None => sheet.line("Discards", "not known"),
    }
    sheet.list("Also", plan.consequences.iter().map(|c| c.text.as_str()));
    sheet.list("Instead", plan.alternatives.iter().map(String::as_str));
    if plan.backup.is_some() {
        sheet.line("Needs", &space(&plan.space));
        plan.other_space.iter().for_each(|line| sheet.more(0, &space(line)));
    }
    if let Some(recovery) = &plan.recovery {
        sheet.line("Takes", &takes(plan.estimate, &recovery.steps));
    }
    decision(&mut sheet, plan);
    closing(&mut sheet, plan, command);
    sheet.finish()
}

/// The version as a person writes it: what the binaries print begins with `postgres (PostgreSQL) 15.18`.
pub fn server(version: &str) -> String {
    match version.strip_prefix("postgres (PostgreSQL) ") {
        Some(number) => format!("PostgreSQL {number}"),
        None if version.starts_with(|c: char| c.is_ascii_digit()) => format!("PostgreSQL {version}"),
        None => version.to_string(),
    }
}

fn target(sheet: &mut Sheet, plan: &Planned) {
    let target = &plan.target;
    sheet.line("Target", &target.text);
    let stop = match (target.lsn, target.inclusive) {
        (Some(lsn), true) => format!("stops after the record at {lsn}"),
        (Some(lsn), false) => format!("stops before the record at {lsn}"),
        (None, _) if plan.refusals.is_empty() => target.note.clone().unwrap_or_else(|| UNREAD.to_string()),
        (None, _) => target.note.clone().unwrap_or_else(|| "which record that is, is not settled: see why it is refused".to_string()),
    };
    match target.timeline {
        Some(timeline) => sheet.more(0, &format!("timeline {timeline}; {stop}")),
        None => sheet.more(0, &stop),
    }
    if let Some(note) = target.note.as_ref().filter(|_| target.lsn.is_some()) {
        sheet.more(0, note);
    }
    for (word, border) in [("keeps", &target.keeps), ("discards", &target.discards)] {
        if let Some(Border { xid, time, lsn }) = border {
            let time = time.map_or_else(|| "at an unknown time".to_string(), render_time);
            sheet.more(0, &format!("{word:<9} xid {xid}  {time}  {lsn}"));
        }
    }
}

/// What is discarded, the largest changes first.
pub fn loss_lines(sheet: &mut Sheet, loss: &Loss) {
    if loss.transactions == 0 {
        return sheet.line("Discards", "no committed transaction");
    }
    let span = match (loss.from, loss.to) {
        (Some(from), Some(to)) if loss.transactions > 1 => {
            let span = human_duration(std::time::Duration::from_secs(loss.seconds()));
            format!(" in {span}, from {} to {}", moment(from), moment(to))
        }
        (Some(from), _) => format!(", of {}", moment(from)),
        _ => String::new(),
    };
    sheet.line("Discards", &format!("{}{span}", counted(loss.transactions, "transaction", "transactions")));
    for rows in loss.relations.iter().take(RELATIONS) {
        let changes = [(rows.inserted, "inserted"), (rows.updated, "updated"), (rows.deleted, "deleted")];
        let changes: Vec<String> = changes.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{} {word}", grouped(*n))).collect();
        sheet.more(2, &format!("{}  {}  {}", rows.database, rows.name, changes.join(", ")));
    }
    if loss.relations.len() > RELATIONS {
        sheet.more(2, &format!("and {}", counted((loss.relations.len() - RELATIONS) as u64, "more relation", "more relations")));
    }
    if loss.system_rows > 0 {
        sheet.more(2, &format!("and {} of catalogs and TOAST tables", counted(loss.system_rows, "row", "rows")));
    }
}

/// `31,402`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn backup(sheet: &mut Sheet, plan: &Planned) {
    match &plan.backup {
        Some(backup) => sheet.line("Backup", &backup_words(backup)),
        None => sheet.line("Backup", "none can serve this target"),
    }
    if plan.backup.as_ref().is_some_and(|b| !b.manifest) {
        sheet.more(0, "without a manifest: damage within its files is not found before the checks");
    }
    for (name, reason) in &plan.passed_over {
        sheet.more(0, &format!("not {name}: {reason}"));
    }
}

fn backup_words(backup: &BackupLine) -> String {
    let taken = backup.time.map_or_else(|| "at an unknown time".to_string(), moment);
    let unpacked = backup.unpacked.map_or_else(|| "unpacked size not known".to_string(), |b| format!("{} unpacked", human_bytes(b)));
    format!("{}  taken {taken}  {} ({unpacked})", backup.name, human_bytes(backup.bytes))
}

fn wal(sheet: &mut Sheet, wal: &WalLine) {
    let gaps = match wal.gaps.len() {
        0 => "no gap".to_string(),
        1 => "1 segment missing".to_string(),
        n => format!("{n} segments missing"),
    };
    let range = format!("{} from {} to {}", counted(wal.segments, "segment", "segments"), position(&wal.first), position(&wal.last));
    let only = match wal.only_in_pg_wal {
        0 => String::new(),
        n => format!("; {n} of them only in pg_wal, not archived"),
    };
    sheet.line("WAL", &format!("timeline {}, {range}, {gaps}{only}", wal.timeline));
    const SHOWN: usize = 5;
    for name in wal.gaps.iter().take(SHOWN) {
        sheet.more(2, &format!("missing {name}"));
    }
    if wal.gaps.len() > SHOWN {
        sheet.more(2, &format!("and {} more", wal.gaps.len() - SHOWN));
    }
}

/// `0/DE` of a segment's file name, which is how its LSNs begin where segments have 16 MiB; the name itself where it
/// has another form.
fn position(file: &str) -> String {
    let field = |range: std::ops::Range<usize>| file.get(range).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    match (file.len(), field(8..16), field(16..24)) {
        (24, Some(high), Some(low)) => format!("{high:X}/{low:X}"),
        _ => file.to_string(),
    }
}

fn space(space: &SpaceLine) -> String {
    let SpaceLine { at, needed, free, reserve } = space;
    format!("{} on {at}, {} free, {} of it kept in reserve", human_bytes(*needed), human_bytes(*free), human_bytes(*reserve))
}

fn takes(estimate: Option<Estimate>, steps: &[Step]) -> String {
    let Some(Estimate { total_seconds, downtime_seconds }) = estimate else {
        let stop = steps.iter().position(|step| *step == Step::Stop);
        let down = stop.map(|index| format!("; PostgreSQL is down from step {} on", index + 1)).unwrap_or_default();
        return format!("not known: nothing was measured on this host yet{down}");
    };
    let words = |seconds| human_duration(std::time::Duration::from_secs(seconds));
    let down = if downtime_seconds >= total_seconds { "all of it".to_string() } else { format!("about {} of it", words(downtime_seconds)) };
    format!("about {}, PostgreSQL is down for {down}", words(total_seconds))
}

fn decision(sheet: &mut Sheet, plan: &Planned) {
    let Some(recovery) = &plan.recovery else { return };
    sheet.list("Accepted", recovery.accepted.iter().map(String::as_str));
    sheet.numbered("Steps", recovery.steps.iter().map(|step| step.describe(recovery)));
    sheet.line("Digest", &recovery.digest);
}

fn closing(sheet: &mut Sheet, plan: &Planned, command: &str) {
    reasons(sheet, &plan.refusals);
    if command.is_empty() {
        return;
    }
    if plan.refusals.is_empty() {
        return sheet.command("Nothing has been changed. To do it:", command);
    }
    if !plan.refusals.iter().all(|r| r.judgement) {
        return sheet.unwrapped("Nothing has been changed.");
    }
    let accept: String = plan.refusals.iter().map(|r| format!(" --accept {}", r.id)).collect();
    sheet.command("Nothing has been changed. To do it nevertheless:", &format!("{command}{accept}"));
}

/// Every reason against, with its hint; for a judgement also how it is overridden.
pub fn reasons(sheet: &mut Sheet, reasons: &[Reason]) {
    for reason in reasons {
        sheet.plain(&format!("refused [{}]: {}", reason.id, reason.what));
        sheet.plain(&format!("hint: {}", reason.hint));
        if reason.judgement && !reason.hint.contains(&format!("--accept {}", reason.id)) {
            sheet.plain(&format!("to override this judgement: `--accept {}`", reason.id));
        }
    }
}

/// The document of `pitr plan`. What only the WAL tells (`keeps`, `discards`, `loss`) is null where it was not read.
pub fn json(plan: &Planned) -> Value {
    let recovery = plan.recovery.as_ref();
    let steps: Vec<Value> =
        recovery.map_or_else(Vec::new, |r| r.steps.iter().map(|s| json!({"name": s.name(), "text": s.describe(r)})).collect());
    json!({
        "schema": 1,
        "host": plan.host,
        "digest": recovery.map(|r| &r.digest),
        "cluster": plan.cluster.name,
        "data_directory": plan.cluster.data_directory,
        "server": plan.cluster.version,
        "state": plan.cluster.state,
        "bytes": plan.cluster.bytes,
        "target": {
            "text": plan.target.text,
            "argument": plan.target.argument,
            "timeline": plan.target.timeline,
            "lsn": plan.target.lsn,
            "inclusive": plan.target.inclusive,
            "keeps": plan.target.keeps.as_ref().map(border_json),
            "discards": plan.target.discards.as_ref().map(border_json),
            "note": plan.target.note,
        },
        "backup": plan.backup.as_ref().map(backup_json),
        "passed_over": plan.passed_over.iter().map(|(name, reason)| json!({"name": name, "reason": reason})).collect::<Vec<_>>(),
        "wal": plan.wal.as_ref().map(wal_json),
        "loss": plan.loss.as_ref().map(loss_json),
        "consequences": consequences_json(&plan.consequences),
        "alternatives": plan.alternatives,
        "space": {"at": plan.space.at, "needed": plan.space.needed, "free": plan.space.free, "reserve": plan.space.reserve},
        "other_space": plan.other_space,
        "estimate": plan.estimate.map(|e| json!({"total_seconds": e.total_seconds, "downtime_seconds": e.downtime_seconds})),
        "accepted": recovery.map_or(&[] as &[String], |r| &r.accepted),
        "steps": steps,
        "refusals": reasons_json(&plan.refusals),
    })
}

fn border_json(border: &Border) -> Value {
    json!({"xid": border.xid.to_string(), "time": border.time.map_or_else(String::new, rfc3339), "lsn": border.lsn})
}

/// `loss` of every document.
pub fn loss_json(loss: &Loss) -> Value {
    json!({
        "transactions": loss.transactions,
        "from": loss.from.map(rfc3339),
        "to": loss.to.map(rfc3339),
        "relations": loss.relations.iter().map(rows_json).collect::<Vec<_>>(),
        "system_rows": loss.system_rows,
    })
}

fn rows_json(rows: &LostRows) -> Value {
    json!({
        "database": rows.database,
        "name": rows.name,
        "inserted": rows.inserted,
        "updated": rows.updated,
        "deleted": rows.deleted,
    })
}

fn backup_json(backup: &BackupLine) -> Value {
    json!({
        "name": backup.name,
        "path": backup.path,
        "start_lsn": backup.start_lsn,
        "end_lsn": backup.end_lsn,
        "time": backup.time.map(rfc3339),
        "bytes": backup.bytes,
        "unpacked": backup.unpacked,
        "manifest": backup.manifest,
    })
}

fn wal_json(wal: &WalLine) -> Value {
    json!({
        "timeline": wal.timeline,
        "segments": wal.segments,
        "first": wal.first,
        "last": wal.last,
        "only_in_pg_wal": wal.only_in_pg_wal,
        "gaps": wal.gaps,
    })
}

fn consequences_json(consequences: &[Consequence]) -> Vec<Value> {
    consequences.iter().map(|c| json!({"id": c.id, "text": c.text})).collect()
}

/// `refusals` of every document.
pub fn reasons_json(reasons: &[Reason]) -> Vec<Value> {
    reasons.iter().map(|r| json!({"id": r.id, "what": r.what, "hint": r.hint, "judgement": r.judgement})).collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
