//! Configuration text to values. Pure.
//!
//! Guarantees: an unknown, repeated or malformed key is a usage error with file and line, never ignored.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::duration::parse_duration;
use super::{Argv, ClusterConfig, Control, Hooks, Requirement, cluster_name};
use crate::error::{Error, Result};
use crate::plan::facts::{OWN_ENVIRONMENT, own_environment};

/// What one file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The file.
    pub file: PathBuf,
    /// `state_directory`, if it is there.
    pub state_directory: Option<PathBuf>,
    /// Its `[cluster.NAME]` tables.
    pub clusters: BTreeMap<String, ClusterConfig>,
}

/// Reads one file's text. Errors are [`crate::error::Kind::Usage`].
pub fn parse(text: &str, file: &Path) -> Result<Part> {
    let source = Source { text, file };
    let root = DeTable::parse(text).map_err(|e| source.error(e.span().map_or(0, |s| s.start), e.message()))?;
    let mut table = Table { source, name: String::new(), table: root.get_ref() };
    table.only(&["state_directory", "cluster"])?;
    let mut part = Part { file: file.into(), state_directory: table.read("state_directory", path)?, clusters: BTreeMap::new() };
    let Some(clusters) = table.sub("cluster", "cluster")? else { return Ok(part) };
    for (key, value) in clusters.table {
        let name = cluster_name(key.get_ref()).map_err(|e| source.error(key.span().start, e))?;
        let table = source.table(&format!("cluster.{name}"), value)?;
        if part.clusters.insert(name.clone(), cluster(table)?).is_some() {
            return Err(source.error(key.span().start, format!("cluster {name} is defined twice")));
        }
    }
    Ok(part)
}

const CLUSTER_KEYS: [&str; 17] = [
    "data_directory",
    "service",
    "control",
    "backups",
    "wal_archive",
    "database",
    "user",
    "check_user",
    "checks",
    "quiesce",
    "protected",
    "require",
    "rto",
    "rpo",
    "hooks",
    "pg_bindir",
    "environment",
];
const HOOK_KEYS: [&str; 6] = ["before", "before_stop", "after_start", "held", "failed", "done"];

fn cluster(mut table: Table) -> Result<ClusterConfig> {
    table.only(&CLUSTER_KEYS)?;
    Ok(ClusterConfig {
        file: table.source.file.into(),
        data_directory: table.read("data_directory", path)?,
        service: table.read("service", unit)?,
        control: table.read("control", control)?,
        backups: table.list("backups", path)?,
        wal_archive: table.list("wal_archive", path)?,
        database: table.read("database", identifier)?,
        user: table.read("user", identifier)?,
        check_user: table.read("check_user", identifier)?,
        checks: table.list("checks", path)?,
        quiesce: table.list("quiesce", unit)?,
        protected: table.list("protected", relation)?,
        require: table.list("require", requirement)?,
        rto: table.read("rto", seconds)?,
        rpo: table.read("rpo", seconds)?,
        hooks: hooks(&mut table)?,
        pg_bindir: table.read("pg_bindir", path)?,
        environment: table.list("environment", variable)?,
    })
}

fn hooks(cluster: &mut Table) -> Result<Hooks> {
    let name = format!("{}.hooks", cluster.name);
    let Some(mut table) = cluster.sub("hooks", &name)? else { return Ok(Hooks::default()) };
    table.only(&HOOK_KEYS)?;
    Ok(Hooks {
        before: table.list("before", argv)?,
        before_stop: table.list("before_stop", argv)?,
        after_start: table.list("after_start", argv)?,
        held: table.list("held", argv)?,
        failed: table.list("failed", argv)?,
        done: table.list("done", argv)?,
    })
}

/// A file's text, to turn positions into lines.
#[derive(Clone, Copy)]
struct Source<'t> {
    text: &'t str,
    file: &'t Path,
}

impl<'t> Source<'t> {
    fn error(&self, position: usize, cause: impl std::fmt::Display) -> Error {
        let line = 1 + self.text.bytes().take(position).filter(|b| *b == b'\n').count();
        Error::usage(format!("configuration {}:{line}", self.file.display())).cause(cause).hint("Correct that line and try again.")
    }

    fn table<'v>(self, name: &str, value: &'v Spanned<DeValue<'t>>) -> Result<Table<'t, 'v>> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(Table { source: self, name: name.into(), table }),
            other => Err(self.error(value.span().start, format!("{name} is a table, not a {}", other.type_str()))),
        }
    }
}

/// A table on its way into a struct.
struct Table<'t, 'v> {
    source: Source<'t>,
    /// With its parents, as in `[cluster.15-main]`; empty for the whole file.
    name: String,
    table: &'v DeTable<'t>,
}

/// Turns a value into what a key holds; the complaint is a `cause:`.
type Reading<T> = fn(&DeValue<'_>) -> std::result::Result<T, String>;

impl<'t, 'v> Table<'t, 'v> {
    /// Refuses every key but these.
    fn only(&self, known: &[&str]) -> Result<()> {
        let Some(key) = self.table.keys().find(|key| !known.contains(&key.get_ref().as_ref())) else { return Ok(()) };
        let place = if self.name.is_empty() { String::new() } else { format!(" in [{}]", self.name) };
        let error = self.source.error(key.span().start, format!("unknown key {:?}{place}", key.get_ref()));
        Err(match nearest(key.get_ref(), known) {
            Some(near) => error.hint(format!("Did you mean {near}?")),
            None => error.hint(format!("Known keys here: {}.", known.join(", "))),
        })
    }

    fn sub(&mut self, key: &str, name: &str) -> Result<Option<Table<'t, 'v>>> {
        self.table.get(key).map(|value| self.source.table(name, value)).transpose()
    }

    fn read<T>(&mut self, key: &str, reading: Reading<T>) -> Result<Option<T>> {
        self.table.get(key).map(|value| self.value(key, value, reading)).transpose()
    }

    fn list<T>(&mut self, key: &str, reading: Reading<T>) -> Result<Vec<T>> {
        let Some(value) = self.table.get(key) else { return Ok(Vec::new()) };
        let DeValue::Array(items) = value.get_ref() else {
            return Err(self.source.error(value.span().start, format!("{key} is a list: write it in [ ]")));
        };
        items.iter().map(|item| self.value(key, item, reading)).collect()
    }

    fn value<T>(&self, key: &str, value: &Spanned<DeValue<'t>>, reading: Reading<T>) -> Result<T> {
        reading(value.get_ref()).map_err(|complaint| self.source.error(value.span().start, format!("{key}: {complaint}")))
    }
}

/// The known key that `key` most likely was meant to be: at most a third of it differs, or it was cut short.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let key = key.to_lowercase().replace('-', "_");
    let distance = |k: &&str| strsim::damerau_levenshtein(&key, k);
    let near = known.iter().copied().min_by_key(distance).filter(|k| distance(k) <= (k.len() / 3).max(1));
    near.or_else(|| known.iter().copied().find(|k| key.len() >= 4 && k.starts_with(&key)))
}

fn text<'v>(value: &'v DeValue<'_>) -> std::result::Result<&'v str, String> {
    let text = value.as_str().ok_or_else(|| format!("expected a string in quotes, not a {}", value.type_str()))?;
    match text {
        "" => Err("is empty".into()),
        _ if text.chars().any(char::is_control) => Err("has a control character".into()),
        _ => Ok(text),
    }
}

fn path(value: &DeValue<'_>) -> std::result::Result<PathBuf, String> {
    let text = text(value)?;
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(format!("{text:?} is not an absolute path"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("{text:?} has a .. in it"));
    }
    Ok(path.components().collect())
}

/// A unit's name with its type (systemd.unit(5)); never something `systemctl` would read as an option or a pattern.
fn unit(value: &DeValue<'_>) -> std::result::Result<String, String> {
    let text = text(value)?;
    let good = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    let typed = [".service", ".socket", ".timer", ".target", ".path"].iter().any(|t| text.len() > t.len() && text.ends_with(t));
    if typed && text.len() < 256 && !text.starts_with('-') && text.bytes().all(good) {
        Ok(text.into())
    } else {
        Err(format!("{text:?} is not a unit's full name, such as postgresql@15-main.service"))
    }
}

fn control(value: &DeValue<'_>) -> std::result::Result<Control, String> {
    match text(value)? {
        "pg_ctl" => Ok(Control::PgCtl),
        "pg_ctlcluster" => Ok(Control::PgCtlcluster),
        "systemd" => Ok(Control::Systemd),
        other => Err(format!("{other:?} is none of pg_ctl, pg_ctlcluster, systemd")),
    }
}

fn requirement(value: &DeValue<'_>) -> std::result::Result<Requirement, String> {
    match text(value)? {
        "reason" => Ok(Requirement::Reason),
        other => Err(format!("{other:?} cannot be required; only \"reason\" can")),
    }
}

/// `LD_LIBRARY_PATH=/opt/pgsql/lib`: one of the variables that programs are given anyway when a running server has them.
fn variable(value: &DeValue<'_>) -> std::result::Result<String, String> {
    let text = text(value)?;
    match own_environment(&[text.as_bytes().to_vec()]).next() {
        Some(_) => Ok(text.into()),
        None => Err(format!("{text:?} is not NAME=VALUE with one of {}", OWN_ENVIRONMENT.join(", "))),
    }
}

/// A database or role: at most 63 bytes (`NAMEDATALEN` - 1), written without quotes.
fn identifier(value: &DeValue<'_>) -> std::result::Result<String, String> {
    let text = text(value)?;
    if text.len() > 63 { Err(format!("{text:?} is longer than 63 bytes")) } else { Ok(text.into()) }
}

fn relation(value: &DeValue<'_>) -> std::result::Result<String, String> {
    let text = text(value)?;
    match text.split_once('.') {
        Some((schema, table)) if !schema.is_empty() && !table.is_empty() => Ok(text.into()),
        _ => Err(format!("{text:?} is not of the form schema.table")),
    }
}

fn seconds(value: &DeValue<'_>) -> std::result::Result<u64, String> {
    match value {
        DeValue::Integer(number) => Err(format!("{number} has no unit: write \"{number}s\", \"{number}min\" or \"{number}h\"")),
        _ => parse_duration(text(value)?).map_err(|e| e.to_string()),
    }
}

fn argv(value: &DeValue<'_>) -> std::result::Result<Argv, String> {
    let complaint = "a hook is a list of strings: the program's absolute path, then its arguments";
    let DeValue::Array(items) = value else { return Err(complaint.into()) };
    let words: Vec<String> =
        items.iter().map(|item| item.get_ref().as_str().map(str::to_string)).collect::<Option<_>>().ok_or(complaint)?;
    match words.first() {
        None => Err(complaint.into()),
        Some(_) if words.iter().any(|word| word.contains('\0')) => Err("a NUL cannot be passed to a program".into()),
        Some(program) if !program.starts_with('/') || program.ends_with('/') || program.split('/').any(|p| p == "..") => {
            Err(format!("{program:?} is not the absolute path of a program"))
        }
        Some(_) => Ok(words),
    }
}
