//! `pitr verify backups`: of each backup what was proved, and what could not be.

use serde_json::{Value, json};

use super::layout::{Sheet, counted};
use super::terminal::{escape, human_bytes, human_duration};
use crate::error::Error;
use crate::store::Extracted;

/// How it stands with a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    /// Read to its end; nothing speaks against it.
    #[default]
    Whole,
    /// Damaged, incomplete, or not readable.
    Damaged,
    /// Not a backup that could be proved by itself; not counted against the result.
    Skipped,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Whole => "whole",
            Verdict::Damaged => "damaged",
            Verdict::Skipped => "skipped",
        }
    }
}

/// What reading one backup showed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BackupProof {
    /// Name.
    pub name: String,
    /// Path.
    pub path: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Files of the data directory in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes read from the disk.
    pub read: u64,
    /// Seconds it took.
    pub seconds: f64,
    /// What is proved: id and words.
    pub proved: Vec<(&'static str, &'static str)>,
    /// What is not.
    pub unproved: Vec<(&'static str, &'static str)>,
    /// Why it is not whole.
    pub error: Option<Error>,
}

impl BackupProof {
    /// Takes over what reading it to the end brought.
    pub fn take(&mut self, read: &Extracted) {
        (self.files, self.bytes) = (read.files, read.bytes);
        self.proved.push(("structure", "it can be read to its end and is a data directory with its pg_control"));
        if read.verified {
            self.proved.push(("manifest", "every file has the size and checksum of the manifest"));
        } else if read.checksummed {
            self.proved.push(("stream-checksum", "the checksums of its compression cover every byte and are right"));
            self.unproved.push(("manifest", "that no file is missing: there is no manifest with checksums"));
        } else {
            self.unproved.push(("content", "the content of its files: there is neither a manifest nor a checksum"));
        }
        self.unproved.push(("wal", "the WAL it needs: `pitr verify wal`"));
        self.unproved.push(("pages", "what PostgreSQL had written into its pages: a drill or pg_amcheck shows that"));
    }
}

/// What reading all of them showed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Proofs {
    /// One for each backup.
    pub backups: Vec<BackupProof>,
    /// Directories that cannot be read.
    pub problems: Vec<String>,
}

impl Proofs {
    /// There is a backup, and none is damaged.
    pub fn are_whole(&self) -> bool {
        let any = self.backups.iter().any(|b| b.verdict == Verdict::Whole);
        any && self.problems.is_empty() && self.backups.iter().all(|b| b.verdict != Verdict::Damaged)
    }
}

/// The page.
pub fn text(proofs: &Proofs, width: usize) -> String {
    let mut sheet = Sheet::new(width);
    for backup in &proofs.backups {
        sheet.unwrapped(&format!("{}  {}", escape(&backup.name), summary(backup)));
        let proved = backup.proved.iter().map(|(_, words)| format!("proved: {words}"));
        for line in proved.chain(backup.unproved.iter().map(|(_, words)| format!("not proved: {words}"))) {
            sheet.plain(&format!("  {line}"));
        }
        if let Some(error) = &backup.error {
            sheet.plain(&format!("  {error}"));
            error.hint.iter().for_each(|hint| sheet.plain(&format!("  {hint}")));
        }
    }
    sheet.list("Problems", proofs.problems.iter().map(String::as_str));
    let of = |verdict| proofs.backups.iter().filter(|b| b.verdict == verdict).count() as u64;
    let (whole, damaged, skipped) = (of(Verdict::Whole), of(Verdict::Damaged), of(Verdict::Skipped));
    let mut result = match (whole, damaged) {
        (0, 0) => "no backup was found that could be proved".to_string(),
        (whole, 0) => format!("{} whole", counted(whole, "backup is", "backups are")),
        (whole, damaged) => format!("{} damaged, {whole} whole", counted(damaged, "backup is", "backups are")),
    };
    if skipped > 0 {
        result += &format!(", {skipped} not looked at");
    }
    sheet.line("Result", &result);
    sheet.finish()
}

fn summary(backup: &BackupProof) -> String {
    let verdict = backup.verdict.word();
    if backup.verdict != Verdict::Whole {
        return verdict.to_string();
    }
    let took = std::time::Duration::try_from_secs_f64(backup.seconds).map(human_duration).unwrap_or_default();
    let (files, bytes) = (counted(backup.files, "file", "files"), human_bytes(backup.bytes));
    format!("{verdict}: {files}, {bytes} unpacked; {} read in {took}", human_bytes(backup.read))
}

/// The document.
pub fn json(proofs: &Proofs) -> Value {
    json!({
        "schema": 1,
        "whole": proofs.are_whole(),
        "backups": proofs.backups.iter().map(backup_json).collect::<Vec<_>>(),
        "problems": proofs.problems,
    })
}

fn backup_json(backup: &BackupProof) -> Value {
    let list = |items: &[(&str, &str)]| items.iter().map(|(id, text)| json!({"id": id, "text": text})).collect::<Vec<_>>();
    json!({
        "name": backup.name,
        "path": backup.path,
        "state": backup.verdict.word(),
        "files": backup.files,
        "bytes": backup.bytes,
        "read": backup.read,
        "seconds": (backup.seconds * 1000.0).round() / 1000.0,
        "proved": list(&backup.proved),
        "unproved": list(&backup.unproved),
        "reason": backup.error.as_ref().and_then(|e| e.id.clone()),
        "error": backup.error.as_ref().map(|e| json!({"what": e.what, "cause": e.cause, "hint": e.hint})),
    })
}

#[cfg(test)]
mod tests {
    use super::super::schema_check;
    use super::*;
    use crate::error::Kind;

    fn proofs() -> Proofs {
        let proved = vec![("structure", "read to its end")];
        let whole = BackupProof {
            name: "base.tar.gz".into(),
            path: "/b/base.tar.gz".into(),
            files: 1203,
            bytes: 3 << 30,
            read: 695 << 20,
            seconds: 12.34,
            proved,
            unproved: vec![("wal", "its WAL: `pitr verify wal`")],
            ..BackupProof::default()
        };
        let error = Error::new(Kind::Check, "cut\u{1b} is damaged").cause("it ends within a member").hint("Choose another.");
        let cut = BackupProof { name: "cut\u{1b}".into(), verdict: Verdict::Damaged, error: Some(error), ..BackupProof::default() };
        let error = Error::new(Kind::Check, "incremental").id("incremental-backup");
        let skipped = BackupProof { name: "inc".into(), verdict: Verdict::Skipped, error: Some(error), ..BackupProof::default() };
        Proofs { backups: vec![whole, cut, skipped], problems: vec![] }
    }

    #[test]
    fn a_page_says_what_is_proved_and_what_is_not() {
        assert_eq!(
            text(&proofs(), 100),
            "\
base.tar.gz  whole: 1,203 files, 3.0 GiB unpacked; 695 MiB read in 12 s
  proved: read to its end
  not proved: its WAL: `pitr verify wal`
cut\\x1b  damaged
  cut\\x1b is damaged: it ends within a member
  Choose another.
inc  skipped
  incremental
Result    1 backup is damaged, 1 whole, 1 not looked at"
        );
    }

    #[test]
    fn one_damaged_backup_or_none_at_all_is_no_proof() {
        let mut proofs = proofs();
        assert!(!proofs.are_whole());
        proofs.backups.remove(1);
        assert!(proofs.are_whole());
        proofs.problems.push("/b cannot be read".into());
        assert!(!proofs.are_whole() && !Proofs::default().are_whole());
    }

    #[test]
    fn the_document_follows_its_schema() {
        let document = json(&proofs());
        schema_check::assert_valid(include_str!("../../docs/schema/verify-backups.schema.json"), &document);
        assert_eq!((&document["backups"][0]["state"], &document["backups"][2]["reason"]), (&json!("whole"), &json!("incremental-backup")));
    }
}
