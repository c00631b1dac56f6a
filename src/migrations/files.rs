//! What the tool's own directory says: names, what is pending, and whether a migration has a way back of its own.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Tool;
use super::reading::Mark;
use super::version::{Fit, fit};
use crate::plan::sql::{TokenKind, tokens};

/// A directory as it was read: paths beneath it and, of SQL files and journals, the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Path with `/` between its parts, and text where it was read.
    pub files: Vec<(String, Option<String>)>,
}

/// A migration that the directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What people call it.
    pub name: String,
    /// Words that its row may have.
    pub words: Vec<String>,
    /// It has a way back of its own; `None` where that cannot be told.
    pub way_back: Option<bool>,
}

impl Planned {
    /// Whether `mark` is this migration's row.
    pub fn is(&self, tool: &Tool, mark: &Mark) -> bool {
        self.words.iter().any(|word| fit(tool, word, mark) == Some(Fit::Same))
    }
}

/// The migrations of a directory, in the tool's order.
pub fn planned(tool: &Tool, listing: &Listing) -> Vec<Planned> {
    match tool.id {
        "drizzle" => drizzle(listing),
        "flyway" => flyway(listing),
        "prisma" | "diesel" => folders(tool.id, listing),
        "goose" => marked(listing, "-- +goose Down"),
        "dbmate" => marked(listing, "-- migrate:down"),
        "tern" => marked(listing, "---- create above / drop below ----"),
        _ => pairs(listing),
    }
}

/// `meta/_journal.json` (drizzle-kit 0.x), or folders with a `migration.sql` (1.0).
fn drizzle(listing: &Listing) -> Vec<Planned> {
    #[derive(Deserialize)]
    struct Journal {
        entries: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        idx: u32,
        when: i64,
        tag: String,
    }
    let journal = listing.files.iter().find(|(path, _)| path.ends_with("meta/_journal.json") || path == "_journal.json");
    let read = journal.and_then(|(_, text)| serde_json::from_str::<Journal>(text.as_deref()?).ok());
    match read {
        Some(journal) => journal
            .entries
            .into_iter()
            .map(|entry| Planned {
                words: vec![entry.when.to_string(), entry.tag.clone(), entry.idx.to_string(), format!("{:04}", entry.idx)],
                name: entry.tag,
                way_back: Some(false),
            })
            .collect(),
        None => folders("drizzle", listing),
    }
}

/// A folder for each migration.
fn folders(id: &str, listing: &Listing) -> Vec<Planned> {
    let mut found: BTreeMap<&str, Option<bool>> = BTreeMap::new();
    for (path, text) in &listing.files {
        let Some((folder, file)) = path.rsplit_once('/') else { continue };
        let folder = folder.rsplit('/').next().unwrap_or(folder);
        match (id, file) {
            ("diesel", "up.sql") => {
                found.entry(folder).or_insert(Some(false));
            }
            ("diesel", "down.sql") => {
                found.insert(folder, text.as_deref().and_then(does_something));
            }
            (_, "migration.sql") => {
                found.insert(folder, Some(false));
            }
            _ => {}
        }
    }
    let one = |(folder, way_back): (&str, Option<bool>)| {
        let prefix = folder.split('_').next().unwrap_or(folder).replace('-', "");
        let words = if id == "diesel" { vec![prefix, folder.to_string()] } else { vec![folder.to_string()] };
        Planned { name: folder.to_string(), words, way_back }
    };
    found.into_iter().map(one).collect()
}

/// `V1.2__name.sql`, undone by `U1.2__name.sql`.
fn flyway(listing: &Listing) -> Vec<Planned> {
    let split = |path: &str, letter: char| -> Option<(String, String)> {
        let (version, name) = file_name(path).strip_prefix(letter)?.split_once("__")?;
        Some((version.replace('_', "."), name.strip_suffix(".sql")?.to_string()))
    };
    let undo = |version: &str| {
        let found = listing.files.iter().find(|(path, _)| split(path, 'U').is_some_and(|(undone, _)| undone == version));
        found.map_or(Some(false), |(_, text)| text.as_deref().and_then(does_something))
    };
    let mut all: Vec<(Vec<u128>, Planned)> = listing
        .files
        .iter()
        .filter_map(|(path, _)| split(path, 'V'))
        .map(|(version, name)| {
            let order = version.split('.').map(|part| part.parse().unwrap_or(u128::MAX)).collect();
            (order, Planned { way_back: undo(&version), words: vec![version], name })
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all.into_iter().map(|(_, planned)| planned).collect()
}

/// One file for both ways, with `mark` between them.
fn marked(listing: &Listing, mark: &str) -> Vec<Planned> {
    let mut all: Vec<(u128, Planned)> = Vec::new();
    for (path, text) in &listing.files {
        let Some((number, name)) = numbered(file_name(path)) else { continue };
        let down = text.as_deref().map(|text| text.split_once(mark).map(|(_, down)| down));
        let way_back = match down {
            Some(Some(down)) => does_something(down),
            Some(None) => Some(false),
            None => None,
        };
        let stem = file_name(path).rsplit_once('.').map_or(name, |(stem, _)| stem).to_string();
        all.push((number, Planned { name: stem, words: vec![number.to_string()], way_back }));
    }
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, planned)| planned).collect()
}

/// `000123_name.up.sql` beside `000123_name.down.sql`; or one file for each, in any language.
fn pairs(listing: &Listing) -> Vec<Planned> {
    let mut found: BTreeMap<(u128, String), Planned> = BTreeMap::new();
    for (path, text) in &listing.files {
        let file = file_name(path);
        let Some((stem, _)) = file.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) else { continue };
        let (stem, way) = match stem.rsplit_once('.') {
            Some((stem, way @ ("up" | "down"))) => (stem, way),
            _ => (stem, ""),
        };
        let number = numbered(stem).map(|(number, _)| number);
        let mut words = vec![stem.to_string(), file.to_string()];
        words.extend(number.map(|number| number.to_string()));
        let entry = found.entry((number.unwrap_or(u128::MAX), stem.to_string()));
        let planned = entry.or_insert_with(|| Planned { name: stem.to_string(), words, way_back: None });
        match way {
            "down" => planned.way_back = text.as_deref().and_then(does_something),
            "up" => planned.way_back = planned.way_back.or(Some(false)),
            // A plain SQL file goes one way; a program may know both.
            _ if file.ends_with(".sql") => planned.way_back = Some(false),
            _ => {}
        }
    }
    found.into_values().collect()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Leading digits and what follows them.
fn numbered(name: &str) -> Option<(u128, &str)> {
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = name.split_at_checked(digits)?;
    Some((number.parse().ok()?, rest.trim_start_matches(['_', '-'])))
}

/// Whether a script does anything but begin, commit and select; `None` where it is not understood.
fn does_something(sql: &str) -> Option<bool> {
    let mut first = true;
    for token in tokens(sql).ok()? {
        match token.kind {
            TokenKind::Space | TokenKind::LineComment | TokenKind::BlockComment => {}
            TokenKind::Semicolon => first = true,
            _ if !first => {}
            _ => {
                first = false;
                let word = sql.get(token.range).unwrap_or_default().to_uppercase();
                if !matches!(word.as_str(), "BEGIN" | "COMMIT" | "END" | "START" | "SELECT" | "SET") {
                    return Some(true);
                }
            }
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrations::tool;

    fn listing(files: &[(&str, &str)]) -> Listing {
        Listing { files: files.iter().map(|(path, text)| (path.to_string(), Some(text.to_string()))).collect() }
    }

    fn told(id: &str, files: &[(&str, &str)]) -> Vec<(String, Option<bool>)> {
        planned(tool(id).unwrap(), &listing(files)).into_iter().map(|planned| (planned.name, planned.way_back)).collect()
    }

    #[test]
    fn a_way_back_that_does_nothing_is_none() {
        let files = [
            ("000123_flatten.up.sql", "UPDATE a SET b = 1"),
            ("000123_flatten.down.sql", "-- cannot be undone\nSELECT 1;"),
            ("000121_index.up.sql", "CREATE INDEX i ON a (b)"),
            ("000121_index.down.sql", "BEGIN; DROP INDEX i; COMMIT;"),
            ("000124_none.up.sql", "UPDATE a SET b = 2"),
        ];
        let expected = [("000121_index", true), ("000123_flatten", false), ("000124_none", false)];
        assert_eq!(told("golang-migrate", &files), expected.map(|(name, back)| (name.to_string(), Some(back))));
    }

    #[test]
    fn one_file_for_both_ways() {
        let files = [
            ("db/20260101_b.sql", "-- migrate:up\nCREATE TABLE b ();\n-- migrate:down\n"),
            ("db/1_a.sql", "-- migrate:up\nCREATE TABLE a ();\n-- migrate:down\nDROP TABLE a;"),
        ];
        assert_eq!(told("dbmate", &files), [("1_a".to_string(), Some(true)), ("20260101_b".to_string(), Some(false))]);
    }

    #[test]
    fn drizzles_journal_names_rows_by_their_time() {
        let journal = r#"{"version":"7","entries":[{"idx":4,"version":"7","when":1780000000000,"tag":"0004_audit","breakpoints":true}]}"#;
        let found = planned(tool("drizzle").unwrap(), &listing(&[("meta/_journal.json", journal)]));
        let mark = Mark::done("1780000000000");
        assert!(found[0].is(tool("drizzle").unwrap(), &mark) && found[0].name == "0004_audit");
        assert_eq!(told("drizzle", &[("meta/_journal.json", "{broken")]), []);
    }

    #[test]
    fn flyways_versions_and_folders() {
        let files = [("V1_10__b.sql", ""), ("V1_2__a.sql", ""), ("U1_2__a.sql", "DROP TABLE a"), ("R__view.sql", "")];
        assert_eq!(told("flyway", &files), [("a".to_string(), Some(true)), ("b".to_string(), Some(false))]);
        let files = [("2026-01-01-000000_a/up.sql", "x"), ("2026-01-01-000000_a/down.sql", "DROP TABLE a")];
        assert_eq!(told("diesel", &files), [("2026-01-01-000000_a".to_string(), Some(true))]);
    }
}
