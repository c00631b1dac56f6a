//! `pitr mark`: the restore point, and whether one can come back to it.

use serde_json::{Value, json};

use super::layout::{Sheet, moment};
use crate::pg::{Lsn, Timeline};
use crate::plan::planned::Reason;
use crate::plan::target::shell_word;
use crate::plan::time::rfc3339;

/// A restore point that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// Its name.
    pub name: String,
    /// End of its record.
    pub lsn: Lsn,
    /// Timeline.
    pub timeline: Timeline,
    /// File name of the segment that its record ends in.
    pub segment: String,
    /// What waiting for it showed; `None` when nobody waited.
    pub proof: Option<Proved>,
}

/// What is known of the way back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proved {
    /// That segment stands whole in the archive.
    pub archived: bool,
    /// Seconds from the restore point to the end of the proof, or to the end of patience.
    pub seconds: u64,
    /// The backup that one comes back from, with the time at which it had ended.
    pub backup: Option<(String, Option<jiff::Timestamp>)>,
    /// Why a recovery to it would be refused.
    pub refusals: Vec<Reason>,
}

impl Marked {
    /// One can come back to it from a backup and the archive alone.
    pub fn is_recoverable(&self) -> bool {
        self.proof.as_ref().is_some_and(|proof| proof.archived && proof.refusals.is_empty() && proof.backup.is_some())
    }

    /// The command that comes back to it.
    pub fn command(&self) -> String {
        format!("pitr restore --to-name {}", shell_word(&self.name))
    }
}

/// The page.
pub fn text(marked: &Marked, width: usize) -> String {
    let mut sheet = Sheet::new(width);
    sheet.line("Marked", &format!("{} at {} on timeline {}", marked.name, marked.lsn, marked.timeline));
    if let Some(proof) = &marked.proof {
        let archived = if proof.archived { "is in the archive" } else { "is not in the archive" };
        sheet.line("WAL", &format!("{} {archived}", marked.segment));
        if let Some((name, ended)) = &proof.backup {
            let ended = ended.map(|time| format!(", which ended {}", moment(time))).unwrap_or_default();
            sheet.line("From", &format!("backup {name}{ended}"));
        }
        let reasons: Vec<String> = proof.refusals.iter().map(|reason| format!("{}: {}", reason.id, reason.what)).collect();
        sheet.list("Refused", reasons.iter().map(String::as_str));
    }
    let word = match &marked.proof {
        None => "nobody looked whether one can come back to it: pitr mark NAME --wait does",
        Some(_) if marked.is_recoverable() => "one can come back to it",
        Some(_) => "one cannot come back to it",
    };
    sheet.line("Result", word);
    if marked.is_recoverable() {
        sheet.line("To do it", &marked.command());
    }
    sheet.finish()
}

/// The document.
pub fn json(marked: &Marked) -> Value {
    let proof = marked.proof.as_ref();
    let backup = proof.and_then(|proof| proof.backup.as_ref());
    let refusals = proof.map(|proof| proof.refusals.as_slice()).unwrap_or_default();
    json!({
        "schema": 1,
        "changed": true,
        "name": marked.name,
        "lsn": marked.lsn,
        "timeline": marked.timeline,
        "segment": marked.segment,
        "waited": proof.is_some(),
        "archived": proof.map(|proof| proof.archived),
        "recoverable": proof.map(|_| marked.is_recoverable()),
        "seconds": proof.map(|proof| proof.seconds),
        "backup": backup.map(|(name, ended)| json!({"name": name, "ended": ended.map(rfc3339)})),
        "refusals": refusals.iter().map(|r| json!({"id": r.id, "what": r.what, "hint": r.hint})).collect::<Vec<_>>(),
        "command": marked.is_recoverable().then(|| marked.command()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schema_check::assert_valid;

    #[test]
    fn the_document_is_as_its_schema_says() {
        let schema = include_str!("../../docs/schema/mark.schema.json");
        let proof = Proved { archived: true, seconds: 3, backup: Some(("base.tar.gz".into(), None)), refusals: vec![] };
        let refused = Proved { refusals: vec![Reason::fact("wal-gap", "gone", "Look for it.")], ..proof.clone() };
        for (proof, recoverable) in [(None, false), (Some(proof), true), (Some(refused), false), (Some(Proved::default()), false)] {
            let marked =
                Marked { name: "before it".into(), lsn: Lsn(9), timeline: Timeline(2), segment: "000000020000000000000000".into(), proof };
            assert_eq!(marked.is_recoverable(), recoverable);
            assert_valid(schema, &json(&marked));
            assert_eq!(text(&marked, 80).contains("pitr restore --to-name 'before it'"), recoverable);
        }
    }
}
