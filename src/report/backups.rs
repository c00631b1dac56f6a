//! `pitr backups`: every base backup that was found, and whether it can be used.
//!
//! Guarantees: nothing that was found is left out; what cannot be used says why, with the id of the reason; names are
//! never cut, because they are typed after `--backup`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::layout::{Sheet, moment};
use super::plan::reasons_json;
use super::terminal::{escape, human_bytes, pad, pad_left, width};
use crate::plan::planned::Reason;
use crate::plan::time::rfc3339;
use crate::store::catalogue::{CatalogueEntry, Label};
use crate::store::codec::Compression;
use crate::store::source::Form;

/// A backup, and what the caller found against it beyond [`CatalogueEntry::problems`].
#[derive(Debug, Clone, PartialEq)]
pub struct BackupRow {
    /// The backup.
    pub entry: CatalogueEntry,
    /// Reasons against it, such as missing WAL. Only facts make it unusable.
    pub reasons: Vec<Reason>,
}

/// What speaks against a backup of the cluster of this system identifier.
pub fn other_cluster(system_identifier: u64) -> String {
    format!("it is of another cluster, system identifier {system_identifier}")
}

impl BackupRow {
    /// Whether no fact speaks against it; a judgement can be overridden.
    pub fn is_usable(&self) -> bool {
        self.entry.is_usable() && self.reasons.iter().all(|r| r.judgement)
    }

    /// Everything against it: its own problems first.
    fn against(&self) -> Vec<Reason> {
        let own = self.entry.problems.iter().map(|p| Reason::fact(&p.id, p.what.as_str(), p.hint.as_str()));
        own.chain(self.reasons.iter().cloned()).collect()
    }

    fn verdict(&self) -> &'static str {
        match (self.is_usable(), self.against().is_empty()) {
            (true, true) => "usable",
            (true, false) => "usable if accepted",
            (false, _) => "not usable",
        }
    }

    /// When it ended, at the latest.
    fn time(&self) -> Option<Timestamp> {
        let stamp = self.entry.stop_time_bound?;
        Timestamp::new(stamp.seconds, i32::try_from(stamp.nanos).ok()?).ok()
    }
}

/// The table, `width` columns wide; reasons stand below their backup.
pub fn text(rows: &[BackupRow], columns: usize) -> String {
    let mut sheet = Sheet::new(columns);
    if rows.is_empty() {
        sheet.plain("No backup was found in the configured directories. Name them: `backups = [\"/path\"]` in /etc/pitr/pitr.toml.");
        return sheet.finish();
    }
    let heading = ["NAME", "FORM", "TAKEN", "SIZE", ""].map(str::to_string);
    let table: Vec<[String; 5]> = std::iter::once(heading).chain(rows.iter().map(cells)).collect();
    let widest = |column: usize| table.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(widest);
    for (number, row) in table.iter().enumerate() {
        sheet.unwrapped(&line(row, widths));
        let backup = number.checked_sub(1).and_then(|index| rows.get(index));
        for reason in backup.map(BackupRow::against).unwrap_or_default() {
            sheet.plain(&format!("  [{}] {}", reason.id, reason.what));
        }
    }
    sheet.finish()
}

fn cells(row: &BackupRow) -> [String; 5] {
    let entry = &row.entry;
    let taken = row.time().and_then(|t| t.round(jiff::Unit::Second).ok()).map_or_else(|| "unknown".to_string(), moment);
    let name = escape(&entry.name).into_owned();
    [name, form(entry), taken, human_bytes(entry.compressed_bytes), row.verdict().to_string()]
}

fn line(cells: &[String; 5], widths: [usize; 4]) -> String {
    let [name, form, taken, size, verdict] = cells;
    let [a, b, c, d] = widths;
    let text = format!("{}  {}  {}  {}  {verdict}", pad(name, a), pad(form, b), pad(taken, c), pad_left(size, d));
    text.trim_end().to_string()
}

/// `tar directory, gzip`.
fn form(entry: &CatalogueEntry) -> String {
    let form = match entry.source.form {
        Form::TarDirectory { .. } => "tar directory",
        Form::Tarball { .. } => "tarball",
        Form::Plain { .. } => "plain directory",
    };
    match compression(entry.compression) {
        None => form.to_string(),
        Some(name) => format!("{form}, {name}"),
    }
}

fn compression(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::Plain => None,
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
        Compression::Lz4 => Some("lz4"),
        Compression::Bzip2 => Some("bzip2"),
        Compression::Xz => Some("xz"),
    }
}

/// The document of `pitr backups`; a backup has the keys that it has in a plan, and more.
pub fn json(host: &str, cluster: &str, rows: &[BackupRow]) -> Value {
    json!({
        "schema": 1,
        "host": host,
        "cluster": cluster,
        "backups": rows.iter().map(row_json).collect::<Vec<_>>(),
    })
}

fn row_json(row: &BackupRow) -> Value {
    let entry = &row.entry;
    let label = match &entry.label {
        Label::Found(label) => Some(label),
        Label::Absent | Label::Unknown => None,
    };
    json!({
        "name": entry.name,
        "path": entry.path.display().to_string(),
        "form": form(entry),
        "start_lsn": label.map(|l| l.start_lsn),
        "end_lsn": entry.end_lsn(),
        "time": row.time().map(rfc3339),
        "timeline": label.map(|l| l.timeline),
        "major": entry.major,
        "bytes": entry.compressed_bytes,
        "unpacked": entry.unpacked_bytes,
        "manifest": entry.has_manifest,
        "usable": row.is_usable(),
        "reasons": reasons_json(&row.against()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{fixtures, schema_check};
    use super::*;
    use crate::store::catalogue::Problem;

    fn rows() -> Vec<BackupRow> {
        let mut cut = fixtures::entry();
        cut.name = "cut\u{1b}.tar".into();
        cut.compression = Compression::Plain;
        (cut.stop_time_bound, cut.compressed_bytes) = (None, 12);
        cut.problems = vec![Problem { id: "truncated".into(), what: "it ends within a file".into(), hint: "Choose another.".into() }];
        let judged = Reason::judgement("no-manifest", "nothing vouches for its files", "Take backups with pg_basebackup.");
        vec![
            BackupRow { entry: fixtures::entry(), reasons: Vec::new() },
            BackupRow { entry: fixtures::entry(), reasons: vec![judged] },
            BackupRow { entry: cut, reasons: vec![Reason::fact("gap", "WAL is missing", "Copy it.")] },
        ]
    }

    #[test]
    fn a_table_with_reasons() {
        assert_eq!(
            text(&rows(), 80),
            "\
NAME                  FORM           TAKEN                       SIZE
base-20261121.tar.gz  tarball, gzip  2026-11-21 21:03:14+00   695 MiB  usable
base-20261121.tar.gz  tarball, gzip  2026-11-21 21:03:14+00   695 MiB  usable if accepted
  [no-manifest] nothing vouches for its files
cut\\x1b.tar           tarball        unknown                 12 bytes  not usable
  [truncated] it ends within a file
  [gap] WAL is missing"
        );
        assert!(text(&[], 80).starts_with("No backup was found"));
    }

    #[test]
    fn the_document_follows_its_schema() {
        let document = json("db-prod-03", "15-main", &rows());
        schema_check::assert_valid(include_str!("../../docs/schema/backups.schema.json"), &document);
        assert_eq!(document["backups"][0]["time"], "2026-11-21T21:03:14.000000+00:00");
        let usable: Vec<&Value> = document["backups"].as_array().unwrap().iter().map(|b| &b["usable"]).collect();
        assert_eq!(usable, [true, true, false]);
        assert_eq!(document["backups"][2]["reasons"][0]["id"], "truncated");
        assert_eq!(document["backups"][2]["name"], "cut\u{1b}.tar");
    }
}
