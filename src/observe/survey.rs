//! What the owner's child sees: the data directory, its configuration, backups and archives.
//!
//! Everything is read as the owner. What cannot be read is said in the result, not an error, unless
//! it is the cluster itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};
use crate::observe::backups::{Identify, KnownBackups, known_backups};
use crate::pg::ControlFile;
use crate::pg::conf::parse_opts;
use crate::pg::version;
use crate::plan::facts::{WalKind, WalSource};
use crate::plan::place::INSIDE;
use crate::run::control::start_arguments;
use crate::run::paths::parse_marker;
use crate::run::switch::{ServerStatus, read_control, server_status};
use crate::run::tail::{self, ListRequest, WalIdentity};
use crate::run::wal_log;
use crate::store::catalogue::CatalogueEntry;
use crate::store::recall::Looked;
use crate::sys::dir::{Dir, Entry, Kind};

/// What to look at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SurveyRequest {
    /// Real path of the data directory.
    pub data_directory: PathBuf,
    /// Directory of the server's programs.
    pub programs: PathBuf,
    /// Configuration file, where it is known not to be in PGDATA.
    pub config_file: Option<PathBuf>,
    /// Library path and the like that the server's programs need.
    pub environment: Vec<Vec<u8>>,
    /// Arguments of the running server, or of its last start: settings given there beat every file.
    pub arguments: Vec<String>,
    /// What stands for pg_control, where the one in the data directory is missing, damaged or another cluster's.
    pub control: Option<ControlFile>,
    /// Backup directories.
    pub backups: Vec<PathBuf>,
    /// WAL directories beside pg_wal: name, kind, path to open.
    pub wal: Vec<(PathBuf, WalKind, PathBuf)>,
    /// Tarballs whose label does not stand at their beginning are looked through to the end: the named one, or the
    /// newest that was written before this time (unix seconds).
    pub identify: Option<Identify>,
    /// What earlier looks through tarballs told.
    pub looked: Vec<Looked>,
}

/// What was seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Survey {
    /// `PG_VERSION`.
    pub major: u32,
    /// `postgres --version`.
    pub version: String,
    /// pg_control.
    pub control_file: ControlFile,
    /// `postmaster.pid`.
    pub status: ServerStatus,
    /// Settings by name, as the server would read them now.
    pub settings: BTreeMap<String, String>,
    /// Arguments in `postmaster.opts`, without the program.
    pub options: Vec<String>,
    /// `standby.signal` or `recovery.signal`.
    pub signal_files: Vec<String>,
    /// Files of a failover manager in it.
    pub manager_files: Vec<String>,
    /// Tablespace links.
    pub tablespaces: Vec<(u32, PathBuf)>,
    /// `pg_wal` is a link to here.
    pub wal_link: Option<PathBuf>,
    /// Bytes without pg_wal.
    pub bytes: u64,
    /// Runs whose markers stand in it.
    pub markers: Vec<String>,
    /// Names of replication slots.
    pub slots: Vec<String>,
    /// Mode of the directory.
    pub mode: u32,
    /// Backups.
    pub backups: Vec<CatalogueEntry>,
    /// Backup directories that cannot be read.
    pub backup_problems: Vec<String>,
    /// What looks through tarballs told, earlier and now.
    pub looked: Vec<Looked>,
    /// WAL, pg_wal last.
    pub wal: Vec<WalSource>,
}

/// Looks at everything.
pub fn survey(request: &SurveyRequest) -> Result<Survey> {
    let data = Ground::open(&request.data_directory)?;
    let (major, control_file) = match &request.control {
        Some(control) => (control.major().unwrap_or(0), control.clone()),
        None => (data.major()?, read_control(data.directory()?, None)?),
    };
    let options = data.options();
    let arguments = if request.arguments.is_empty() { options.clone() } else { request.arguments.clone() };
    let postgres = Postgres { request, arguments, program: request.programs.join("postgres") };
    let top = data.entries()?;
    let names: Vec<&str> = top.iter().filter_map(|e| e.name_str()).collect();
    let present = |list: &[&str]| list.iter().filter(|n| names.contains(*n)).map(|n| n.to_string()).collect::<Vec<_>>();
    let KnownBackups { backups, problems: backup_problems, looked } =
        known_backups(&request.backups, request.identify.as_ref(), &request.looked);
    Ok(Survey {
        major,
        version: if version::is_supported(major) { postgres.version(major)? } else { major.to_string() },
        status: data.status()?,
        // The programs of another major cannot read it; the plan says so.
        settings: if version::is_supported(major) { postgres.settings_that_are_there(major)? } else { BTreeMap::new() },
        options,
        signal_files: present(&["standby.signal", "recovery.signal", "recovery.conf"]),
        manager_files: present(&["patroni.dynamic.json", "stolon-keeper.lock", "pg_auto_failover", "repmgr.conf"]),
        tablespaces: data.of(tablespaces)?,
        wal_link: data.of(wal_link)?,
        bytes: data.of(|data| tree_bytes(data, 0))?,
        markers: names.iter().filter_map(|n| parse_marker(n)).map(str::to_string).collect(),
        slots: data.of(slots).unwrap_or_default(),
        mode: data.of(|data| Ok(data.own_metadata()?.mode))?,
        backups,
        backup_problems,
        looked,
        wal: wal(request, major, &control_file)?,
        control_file,
    })
}

/// Backups and archives alone: what says which cluster is to be recovered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OriginsRequest {
    /// Backup directories.
    pub backups: Vec<PathBuf>,
    /// Archive directories.
    pub wal: Vec<PathBuf>,
    /// Tarballs to look through.
    pub identify: Option<Identify>,
}

/// What they say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Origins {
    /// Backups.
    pub backups: Vec<CatalogueEntry>,
    /// Whose WAL the first archive holds that has any.
    pub archive: Option<WalIdentity>,
}

/// Looks at backups and archives.
pub fn origins(request: &OriginsRequest) -> Origins {
    let backups = known_backups(&request.backups, request.identify.as_ref(), &[]).backups;
    Origins { backups, archive: request.wal.iter().find_map(|directory| wal_log::probe(directory).ok()) }
}

/// Settings of the data directory as a start would read them, for one that was configured just now.
pub fn settings(request: &SurveyRequest) -> Result<BTreeMap<String, String>> {
    let postgres = Postgres { request, arguments: request.arguments.clone(), program: request.programs.join("postgres") };
    postgres.settings(Ground::open(&request.data_directory)?.major()?)
}

/// A data directory that may be missing.
struct Ground(Option<Dir>);

impl Ground {
    fn open(path: &Path) -> Result<Ground> {
        let missing = std::fs::symlink_metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
        if missing { Ok(Ground(None)) } else { Dir::open(path).map(|dir| Ground(Some(dir))) }
    }

    fn directory(&self) -> Result<&Dir> {
        self.0.as_ref().ok_or_else(|| Error::failed("the data directory is missing"))
    }

    /// What `look` sees in it; of a missing one nothing.
    fn of<T: Default>(&self, look: impl Fn(&Dir) -> Result<T>) -> Result<T> {
        self.0.as_ref().map_or_else(|| Ok(T::default()), look)
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        self.of(Dir::entries)
    }

    fn status(&self) -> Result<ServerStatus> {
        self.of(server_status)
    }

    fn options(&self) -> Vec<String> {
        self.0.as_ref().map(options).unwrap_or_default()
    }

    fn major(&self) -> Result<u32> {
        let data = self.directory()?;
        let text = String::from_utf8_lossy(&data.read_file("PG_VERSION", 64)?).trim().to_string();
        text.parse().map_err(|_| {
            Error::failed(format!("{} does not name a major version", data.join("PG_VERSION").display())).cause(format!("{text:?}"))
        })
    }
}

struct Postgres<'a> {
    request: &'a SurveyRequest,
    arguments: Vec<String>,
    program: PathBuf,
}

impl Postgres<'_> {
    /// Programs of another major would not read the data directory, but only say so when the old server is down.
    fn version(&self, major: u32) -> Result<String> {
        let output = self.command().arg("--version").output().at("run", &self.program)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.trim().trim_start_matches("postgres (PostgreSQL) ").split(' ').next().unwrap_or_default().to_string();
        // `18.6`, `18beta1`. Without an answer the settings cannot be read either, which has more to say.
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        if digits != major.to_string() && output.status.success() {
            return Err(Error::failed(format!("{} is of PostgreSQL {digits}", self.program.display()))
                .cause(format!("the data directory is of PostgreSQL {major}"))
                .hint("Set pg_bindir in the cluster's configuration."));
        }
        Ok(version)
    }

    /// The settings, and none where nothing is left to read them from.
    fn settings_that_are_there(&self, major: u32) -> Result<BTreeMap<String, String>> {
        let present = self.request.config_file.is_some() || self.request.data_directory.join("postgresql.conf").is_file();
        match self.settings(major) {
            Ok(settings) => Ok(settings),
            Err(error) if self.request.control.is_some() && self.request.config_file.is_none() => {
                if present {
                    log::warn!("the configuration that stands there is of no use: {error}");
                }
                Ok(BTreeMap::new())
            }
            Err(error) => Err(error),
        }
    }

    /// `postgres -C` reads the configuration as a start would, without starting.
    fn settings(&self, major: u32) -> Result<BTreeMap<String, String>> {
        let library = version::knows_archive_library(major).then_some("archive_library");
        version::OBSERVED.iter().copied().chain(library).map(|name| Ok((name.to_string(), self.setting(name)?))).collect()
    }

    fn setting(&self, name: &str) -> Result<String> {
        let mut command = self.command();
        // Named, a directory must be there; a configuration file that names it itself needs none.
        if self.request.config_file.is_none() || self.request.data_directory.is_dir() {
            command.args(start_arguments(&self.arguments, &self.request.data_directory));
        }
        command.arg("-C").arg(name);
        if let Some(file) = &self.request.config_file {
            command.arg("-c").arg(format!("config_file={}", file.display()));
        }
        let output = command.output().at("run", &self.program)?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            // The server's own words may quote a line of a file that an include names: only the first line, shortened.
            let cause: String = words.lines().next().unwrap_or_default().chars().take(200).collect();
            let hint = if cause.contains("error while loading shared libraries") {
                "Its server was started with a library path that pitr cannot know while it is stopped. Start the cluster as it is always started, then try again; or name it by `environment` in the configuration."
            } else {
                "PostgreSQL itself cannot read it: mend it first."
            };
            let error = Error::failed(format!("read the configuration of {}", self.request.data_directory.display()));
            return Err(error.cause(cause).hint(hint));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_string())
    }

    fn command(&self) -> std::process::Command {
        use std::os::unix::ffi::OsStrExt;
        let mut command = std::process::Command::new(&self.program);
        command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").current_dir("/").stdin(std::process::Stdio::null());
        for entry in &self.request.environment {
            let mut parts = entry.splitn(2, |b| *b == b'=');
            if let (Some(key), Some(value)) = (parts.next(), parts.next()) {
                command.env(std::ffi::OsStr::from_bytes(key), std::ffi::OsStr::from_bytes(value));
            }
        }
        command
    }
}

fn options(data: &Dir) -> Vec<String> {
    let read = data.read_file_if_exists("postmaster.opts", 1 << 20).ok().flatten().unwrap_or_default();
    let mut words = parse_opts(&String::from_utf8_lossy(&read)).unwrap_or_default();
    if !words.is_empty() {
        words.remove(0);
    }
    words
}

/// What stands in `pg_tblspc`: OID and the link's text, or `pg_tblspc/OID` where it is no link.
pub fn tablespaces(data: &Dir) -> Result<Vec<(u32, PathBuf)>> {
    if data.metadata_if_exists("pg_tblspc")?.is_none_or(|m| m.kind != Kind::Directory) {
        return Ok(vec![]);
    }
    let directory = data.open_beneath("pg_tblspc")?;
    let mut found = Vec::new();
    for entry in directory.entries()? {
        let Some(oid) = entry.name_str().and_then(|n| n.parse().ok()) else { continue };
        match entry.kind() {
            Kind::Link => found.push((oid, directory.read_link(&entry.name)?)),
            Kind::Directory => found.push((oid, PathBuf::from(format!("pg_tblspc/{oid}")))),
            Kind::File | Kind::Other => {}
        }
    }
    Ok(found)
}

fn slots(data: &Dir) -> Result<Vec<String>> {
    let entries = data.open_beneath("pg_replslot")?.entries()?;
    Ok(entries.iter().filter(|e| e.kind() == Kind::Directory).filter_map(|e| e.name_str().map(str::to_string)).collect())
}

/// What the link `pg_wal` says, where it is one.
pub fn wal_link(data: &Dir) -> Result<Option<PathBuf>> {
    match data.metadata_if_exists("pg_wal")? {
        Some(m) if m.kind == Kind::Link => data.read_link("pg_wal").map(Some),
        _ => Ok(None),
    }
}

/// Bytes of regular files; at depth 0 without those in pg_wal. Files that vanish meanwhile do not count.
pub fn tree_bytes(directory: &Dir, depth: usize) -> Result<u64> {
    if depth > 16 {
        return Ok(0);
    }
    let mut bytes = 0;
    for entry in directory.entries()? {
        bytes += match entry.kind() {
            Kind::File => entry.metadata.size,
            Kind::Directory if depth == 0 && (entry.name == "pg_wal" || entry.name == INSIDE) => 0,
            Kind::Directory => directory.open_beneath(&entry.name).and_then(|d| tree_bytes(&d, depth + 1)).unwrap_or(0),
            Kind::Link | Kind::Other => 0,
        };
    }
    Ok(bytes)
}

fn wal(request: &SurveyRequest, major: u32, control: &ControlFile) -> Result<Vec<WalSource>> {
    let identity = WalIdentity { major, system_identifier: control.system_identifier, segment_size: control.segment_size };
    let live = request.data_directory.join("pg_wal");
    let live_open = std::fs::canonicalize(&live).unwrap_or_else(|_| live.clone());
    let directories = request.wal.iter().cloned().chain([(live_open.clone(), WalKind::Live, live_open)]).collect();
    tail::list(&ListRequest { directories, identity })
}
