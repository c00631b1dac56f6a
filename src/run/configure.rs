//! Configuration of the recovered cluster, by the owner's child: today's files where they live in PGDATA.
//!
//! The backup brings `postgresql.conf`, `pg_hba.conf` and the rest as they were when it was taken: access that
//! was revoked since would be open again (pitfalls A9). Today's files, what they include and the TLS files they
//! name are taken from the old PGDATA before the private start, so that what is proved is what will run.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::pg::conf::{Directive, parse_conf};
use crate::sys::dir::{Dir, Kind};

/// Largest configuration file.
const LIMIT: u64 = 16 << 20;
/// Deepest nesting of includes (`CONF_FILE_MAX_DEPTH`, guc-file.l).
const DEPTH: usize = 10;

/// What to configure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConfigureRequest {
    /// The old cluster.
    pub from: PathBuf,
    /// Staging.
    pub to: PathBuf,
    /// Main configuration files live in PGDATA and are taken over.
    pub take_main: bool,
    /// `postgresql.auto.conf`, which always lives in PGDATA, is taken over.
    pub take_auto: bool,
    /// Further files named by settings, absolute or relative to PGDATA.
    pub named: Vec<String>,
}

/// Copies the files and writes `recovery.signal`. Returns the names taken over.
pub fn configure(request: &ConfigureRequest) -> Result<Vec<String>> {
    let from = Dir::open(&request.from)?;
    let to = Dir::open(&request.to)?;
    let mut taken = Vec::new();
    if request.take_auto {
        take(&from, &to, Path::new("postgresql.auto.conf"), &mut taken)?;
    }
    if request.take_main {
        take_conf(&from, &to, Path::new("postgresql.conf"), 0, &mut taken)?;
        for name in ["pg_hba.conf", "pg_ident.conf"] {
            take_access(&from, &to, Path::new(name), 0, &mut taken)?;
        }
    }
    for name in &request.named {
        if let Some(inside) = inside(Path::new(name), from.path()) {
            take(&from, &to, &inside, &mut taken)?;
        }
    }
    to.write_durable("recovery.signal", b"", 0o600)?;
    to.unlink_if_exists("standby.signal")?;
    to.sync()?;
    Ok(taken.into_iter().map(|p| p.display().to_string()).collect())
}

fn take_conf(from: &Dir, to: &Dir, path: &Path, depth: usize, taken: &mut Vec<PathBuf>) -> Result<()> {
    if taken.iter().any(|t| t == path) {
        return Ok(());
    }
    if depth > DEPTH {
        return Err(Error::failed(format!("{} includes too deeply", from.join(path).display())));
    }
    take(from, to, path, taken)?;
    let Some(bytes) = read(from, path)? else { return Ok(()) };
    let entries = parse_conf(&String::from_utf8_lossy(&bytes))
        .map_err(|cause| Error::failed(format!("read {}", from.join(path).display())).cause(cause))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for entry in entries {
        match entry.directive {
            Directive::Include(name) | Directive::IncludeIfExists(name) => {
                if let Some(file) = inside(&folder.join(name), from.path()) {
                    take_conf(from, to, &file, depth + 1, taken)?;
                }
            }
            Directive::IncludeDir(name) => {
                if let Some(directory) = inside(&folder.join(name), from.path()) {
                    take_directory(from, to, &directory, depth, taken)?;
                }
            }
            Directive::Setting { .. } => {}
        }
    }
    Ok(())
}

/// The staged directory gets exactly today's `*.conf`: a leftover of the backup would be read too.
fn take_directory(from: &Dir, to: &Dir, path: &Path, depth: usize, taken: &mut Vec<PathBuf>) -> Result<()> {
    if from.metadata_if_exists(path)?.is_none_or(|m| m.kind != Kind::Directory) {
        return Ok(());
    }
    let conf = |name: &str| name.ends_with(".conf") && !name.starts_with('.');
    let staged = to.make_dirs(path, 0o700)?;
    for entry in staged.entries()? {
        if entry.name_str().is_some_and(conf) && entry.kind() != Kind::Directory {
            staged.unlink(&entry.name)?;
        }
    }
    for entry in from.open_beneath(path)?.entries()? {
        if let Some(name) = entry.name_str().filter(|n| conf(n)) {
            take_conf(from, to, &path.join(name), depth + 1, taken)?;
        }
    }
    staged.sync()
}

/// `pg_hba.conf` and `pg_ident.conf` name further files by `@file` and, from 16 on, by include directives
/// (manual, "The pg_hba.conf File").
fn take_access(from: &Dir, to: &Dir, path: &Path, depth: usize, taken: &mut Vec<PathBuf>) -> Result<()> {
    if depth > DEPTH || taken.iter().any(|t| t == path) {
        return Ok(());
    }
    take(from, to, path, taken)?;
    let Some(bytes) = read(from, path)? else { return Ok(()) };
    let text = String::from_utf8_lossy(&bytes);
    let folder = path.parent().unwrap_or(Path::new(""));
    for line in text.lines().map(str::trim_start).filter(|l| !l.starts_with('#')) {
        let mut words = line.split([' ', '\t', ',']).filter(|w| !w.is_empty());
        let included = match words.clone().next() {
            Some("include" | "include_if_exists") => words.nth(1),
            _ => None,
        };
        let references = line.split([' ', '\t', ',']).filter_map(|w| w.strip_prefix('@'));
        for name in included.into_iter().chain(references) {
            if let Some(file) = inside(&folder.join(name.trim_matches(['"', '\''])), from.path()) {
                take_access(from, to, &file, depth + 1, taken)?;
            }
        }
    }
    Ok(())
}

/// Copies one file, or makes the same link: a TLS key is often a link to a place outside PGDATA.
fn take(from: &Dir, to: &Dir, path: &Path, taken: &mut Vec<PathBuf>) -> Result<()> {
    if taken.iter().any(|t| t == path) {
        return Ok(());
    }
    let Some(metadata) = from.metadata_if_exists(path)? else { return Ok(()) };
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        to.make_dirs(folder, 0o700)?;
    }
    match metadata.kind {
        Kind::File => {
            let bytes = from.read_file(path, LIMIT)?;
            to.write_durable(path, &bytes, metadata.mode & 0o640 | 0o600)?;
        }
        Kind::Link => {
            let target = from.read_link(path)?;
            to.unlink_if_exists(path)?;
            to.make_link(&target, path)?;
        }
        Kind::Directory | Kind::Other => {
            return Err(Error::failed(format!("{} is not a file", from.join(path).display())));
        }
    }
    taken.push(path.to_path_buf());
    Ok(())
}

fn read(from: &Dir, path: &Path) -> Result<Option<Vec<u8>>> {
    match from.metadata_if_exists(path)?.map(|m| m.kind) {
        Some(Kind::File) => from.read_file(path, LIMIT).map(Some),
        // A link leads out of PGDATA: PostgreSQL will follow it as itself, we need not.
        Some(_) | None => Ok(None),
    }
}

/// The path relative to PGDATA, if it is inside.
fn inside(path: &Path, data_directory: &Path) -> Option<PathBuf> {
    let relative = if path.is_absolute() { path.strip_prefix(data_directory).ok()? } else { path };
    let plain = relative.components().all(|c| matches!(c, std::path::Component::Normal(_) | std::path::Component::CurDir));
    (plain && relative.components().next().is_some())
        .then(|| relative.components().filter(|c| matches!(c, std::path::Component::Normal(_))).collect())
}
