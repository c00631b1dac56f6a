//! What the administrator said in `/etc/pitr`: which clusters there are and where their backups lie.
//!
//! Guarantees: only files are read that nobody but root can change ([`files`]); every key is known and well formed
//! ([`parse`]); a cluster is defined in one place. A host without configuration gets the default value.

pub mod duration;
pub mod files;
pub mod parse;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::pg::Malformed;
use crate::plan::recovery::Trusted;

pub use parse::parse;

/// Where the configuration is looked for when `--config` is absent.
pub const DEFAULT_FILE: &str = "/etc/pitr/pitr.toml";
/// Its `*.toml` files are read after [`DEFAULT_FILE`], by name.
pub const DEFAULT_DIRECTORY: &str = "/etc/pitr/conf.d";
/// Where runs are kept unless `state_directory` says otherwise.
pub const DEFAULT_STATE_DIRECTORY: &str = "/var/lib/pitr";

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Runs, journals, indexes; absolute.
    pub state_directory: PathBuf,
    /// By name; `15/main` is stored as `15-main`.
    pub clusters: BTreeMap<String, ClusterConfig>,
}

impl Default for Config {
    fn default() -> Config {
        Config { state_directory: DEFAULT_STATE_DIRECTORY.into(), clusters: BTreeMap::new() }
    }
}

/// One `[cluster.NAME]` table. Every key is optional: what is absent is found out on the host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterConfig {
    /// The file that defines it.
    pub file: PathBuf,
    /// PGDATA; absolute.
    pub data_directory: Option<PathBuf>,
    /// The systemd unit, with its type (`postgresql@15-main.service`).
    pub service: Option<String>,
    /// How it is started and stopped.
    pub control: Option<Control>,
    /// Directories of base backups; absolute.
    pub backups: Vec<PathBuf>,
    /// Directories of WAL; absolute.
    pub wal_archive: Vec<PathBuf>,
    /// Default database for checks.
    pub database: Option<String>,
    /// The bootstrap role.
    pub user: Option<String>,
    /// A role without superuser that runs the checks.
    pub check_user: Option<String>,
    /// Check files; absolute.
    pub checks: Vec<PathBuf>,
    /// Units of applications: stopped in this order; those that ran are started in this order.
    pub quiesce: Vec<String>,
    /// Relations (`schema.table`) whose vanishing rows must be accepted by name.
    pub protected: Vec<String>,
    /// What a recovery must be given.
    pub require: Vec<Requirement>,
    /// Longest recovery, in seconds.
    pub rto: Option<u64>,
    /// Largest loss, in seconds.
    pub rpo: Option<u64>,
    /// Programs to run on the way.
    pub hooks: Hooks,
    /// Directory of `postgres`, `pg_ctl` and the rest; absolute.
    pub pg_bindir: Option<PathBuf>,
    /// What those need in their environment, `NAME=VALUE` each; comes before what a running server has.
    pub environment: Vec<String>,
}

/// How a cluster is started and stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// `pg_ctl` as the owner.
    PgCtl,
    /// Debian's `pg_ctlcluster`.
    PgCtlcluster,
    /// The unit of `service`.
    Systemd,
}

/// A flag that the administrator made mandatory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// `--reason`.
    Reason,
}

/// A program and its arguments; the program is an absolute path. No shell is involved.
pub type Argv = Vec<String>;

/// Programs that are run on the way, each list in order, with facts as JSON on standard input.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// Before anything; a failure stops the run.
    pub before: Vec<Argv>,
    /// Before the old cluster is stopped.
    pub before_stop: Vec<Argv>,
    /// After the public start.
    pub after_start: Vec<Argv>,
    /// When the run waits for a person.
    pub held: Vec<Argv>,
    /// When the run failed.
    pub failed: Vec<Argv>,
    /// When the run succeeded.
    pub done: Vec<Argv>,
}

/// Reads the configuration: `file` alone if given (it must exist), else the default places as far as they exist.
///
/// # Errors
/// [`crate::error::Kind::Usage`] for what is written in it, [`crate::error::Kind::Refused`] for a file or directory
/// that others than root can change.
pub fn load(file: Option<&Path>) -> Result<Config> {
    match file {
        Some(file) => match files::read(file)? {
            Some(text) => merge(vec![parse(&text, file)?]),
            None => Err(Error::usage(format!("configuration file {} does not exist", file.display()))
                .hint("Give the path of an existing file to --config, or leave it out.")),
        },
        None => load_from(Path::new(DEFAULT_FILE), Path::new(DEFAULT_DIRECTORY)),
    }
}

/// Reads `file`, then every `*.toml` in `directory` by name; each may be missing.
pub fn load_from(file: &Path, directory: &Path) -> Result<Config> {
    let mut parts = Vec::new();
    for path in std::iter::once(file.to_path_buf()).chain(files::list(directory)?) {
        if let Some(text) = files::read(&path)? {
            parts.push(parse(&text, &path)?);
        }
    }
    merge(parts)
}

/// Joins the files; what is defined in two of them is an error that names both.
fn merge(parts: Vec<parse::Part>) -> Result<Config> {
    let mut config = Config::default();
    let mut state_from: Option<PathBuf> = None;
    for part in parts {
        if let Some(directory) = part.state_directory {
            if let Some(first) = &state_from {
                return Err(twice("state_directory", first, &part.file));
            }
            config.state_directory = directory;
            state_from = Some(part.file);
        }
        for (name, cluster) in part.clusters {
            if let Some(first) = config.clusters.get(&name) {
                return Err(twice(&format!("cluster {name}"), &first.file, &cluster.file));
            }
            config.clusters.insert(name, cluster);
        }
    }
    Ok(config)
}

fn twice(what: &str, first: &Path, second: &Path) -> Error {
    Error::usage(format!("{what} is defined in {} and in {}", first.display(), second.display()))
        .hint("Remove it from one of the two files.")
}

impl ClusterConfig {
    /// The role that `initdb` made: the one that recoveries and plans log in as.
    pub fn bootstrap_role(&self) -> String {
        self.user.clone().unwrap_or_else(|| "postgres".into())
    }

    /// The places that the administrator vouches for by naming them: sources that root may open for the cluster's
    /// owner, if besides every component of their path belongs to root.
    pub fn trusted(&self) -> Trusted {
        Trusted { wal: self.wal_archive.clone(), backups: self.backups.clone() }
    }
}

/// Bytes of a cluster's name.
const LONGEST_NAME: usize = 100;

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.-".contains(c)
}

/// Reads a cluster's name: letters, digits, `_`, `.` and `-`, at most 100; Debian's `15/main` becomes `15-main`.
/// The result is safe as a file name.
pub fn cluster_name(text: &str) -> std::result::Result<String, Malformed> {
    let name = match text.split_once('/') {
        Some((version, name)) if !version.is_empty() && !name.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{version}-{name}")
        }
        _ => text.to_string(),
    };
    let starts_well = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if starts_well && name.len() <= LONGEST_NAME && name.chars().all(is_of_a_name) {
        Ok(name)
    } else {
        Err(Malformed::new(format!("not a cluster's name: {text:?} (expected a form like 15-main or 15/main)")))
    }
}

/// A name for a cluster that nobody named: its directory's, with `_` for what no name may have.
pub fn name_for(data_directory: &Path) -> String {
    let own = data_directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let good: String = own.chars().map(|c| if is_of_a_name(c) { c } else { '_' }).take(LONGEST_NAME).collect();
    let name = good.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { "cluster".to_string() } else { name.to_string() }
}

#[cfg(test)]
mod tests;
