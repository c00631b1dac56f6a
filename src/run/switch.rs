//! The switch: staging and PGDATA change places, pg_control last.
//!
//! Three effects, each durable before the next: staging's `global/pg_control` is hidden under a name PostgreSQL
//! does not know; the two directories are exchanged in one rename; pg_control comes back as the commit point.
//! In every intermediate state PGDATA is the whole old cluster or one that refuses to start. An interrupted
//! switch is settled by [`look`] alone: the run's marker file says which directory is which.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::pg::control::ControlFile;
use crate::pg::pidfile::PostmasterPid;
use crate::sys::dir::Dir;

/// The two directories that change places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// PGDATA's parent.
    pub parent: PathBuf,
    /// PGDATA's name in it.
    pub name: String,
    /// The run's directory in the same parent; the other one is `data` in it.
    pub run_directory: String,
    /// The run's marker file, in the recovered cluster.
    pub marker: String,
    /// The run's id, for the hidden name.
    pub run: String,
}

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// `global/pg_control` takes a hidden name.
    Hide {
        /// Of this data directory.
        data_directory: PathBuf,
        /// Run id.
        run: String,
    },
    /// It comes back.
    Reveal {
        /// In this data directory.
        data_directory: PathBuf,
        /// Run id.
        run: String,
    },
    /// The directories change places.
    Exchange(Places),
}

/// How far the switch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Old cluster in place, staging startable.
    Staged,
    /// Old cluster in place, staging hidden.
    Hidden,
    /// Recovered cluster in place, still hidden.
    Exchanged,
    /// Recovered cluster in place and startable.
    Switched,
    /// There is no cluster of this run.
    Nothing,
    /// The run's directory is root's and closed to the owner: only root can say what stands in it.
    Sealed,
    /// A cluster stands in the run's directory that does not carry the run's marker, and PGDATA does not either.
    Foreign,
}

/// The hidden name of pg_control in `global/`.
pub fn hidden_name(run: &str) -> String {
    format!("pitr-{run}.pg_control")
}

/// Looks where the run's cluster is and whether it could start.
pub fn look(places: &Places) -> Result<Stage> {
    let parent = Dir::open(&places.parent)?;
    let here = open_if_ours(&parent, &places.name, &places.marker)?;
    // Sealed, the run's directory is root's and closed to us.
    let sealed = parent.metadata_if_exists(&places.run_directory)?.is_some_and(|m| m.uid == 0);
    if sealed && here.is_none() {
        return Ok(Stage::Sealed);
    }
    let beside = match if sealed { None } else { open_optional(&parent, &places.run_directory)? } {
        Some(run) => open_if_ours(&run, "data", &places.marker)?,
        None => None,
    };
    let hidden = |dir: &Dir| -> Result<bool> {
        let visible = dir.metadata_if_exists("global/pg_control")?.is_some();
        let hidden = dir.metadata_if_exists(Path::new("global").join(hidden_name(&places.run)))?.is_some();
        match (visible, hidden) {
            (true, false) => Ok(false),
            (false, true) => Ok(true),
            (visible, _) => {
                Err(Error::failed(format!("{} has {} pg_control", dir.path().display(), if visible { "more than one" } else { "no" }))
                    .hint("Something else changed this directory. Nothing was done; look at it before going on."))
            }
        }
    };
    match (here, beside) {
        (Some(dir), None) => Ok(if hidden(&dir)? { Stage::Exchanged } else { Stage::Switched }),
        (None, Some(dir)) => Ok(if hidden(&dir)? { Stage::Hidden } else { Stage::Staged }),
        (None, None) => Ok(Stage::Nothing),
        (Some(here), Some(beside)) => {
            Err(Error::failed(format!("both {} and {} carry this run's marker", here.path().display(), beside.path().display()))
                .hint("A directory was copied by hand. Remove the copy's marker file, then try again."))
        }
    }
}

/// Performs one effect and makes it durable.
pub fn perform(effect: &Effect) -> Result<()> {
    match effect {
        Effect::Hide { data_directory, run } => rename_control(data_directory, "pg_control", &hidden_name(run)),
        Effect::Reveal { data_directory, run } => rename_control(data_directory, &hidden_name(run), "pg_control"),
        Effect::Exchange(places) => {
            let parent = Dir::open(&places.parent)?;
            let run = parent.open_beneath(&places.run_directory)?;
            parent.exchange(&places.name, &run, "data")?;
            run.sync()?;
            parent.sync()
        }
    }
}

/// Whether two directories in `parent` can change places: tried with two of our own.
pub fn probe_exchange(parent: &Dir) -> Result<()> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let (one, two) = (format!(".pitr-probe-{pid}-a"), format!(".pitr-probe-{pid}-b"));
    parent.make_dir(&one, 0o700)?;
    let tried = parent.make_dir(&two, 0o700).and_then(|_| parent.exchange(&one, parent, &two));
    for name in [&one, &two] {
        let _ = parent.remove_dir(name);
    }
    tried
}

/// pg_control of a data directory, also where a switch has hidden it.
pub fn read_control(directory: &Dir, hidden: Option<&str>) -> Result<ControlFile> {
    const LIMIT: u64 = 64 << 10;
    // A running server rewrites the file in place: a torn read is tried again.
    let mut last = None;
    for _ in 0..5 {
        let mut bytes = directory.read_file_if_exists("global/pg_control", LIMIT)?;
        if let (None, Some(run)) = (&bytes, hidden) {
            bytes = directory.read_file_if_exists(Path::new("global").join(hidden_name(run)), LIMIT)?;
        }
        let bytes = bytes.ok_or_else(|| Error::failed(format!("{} has no global/pg_control", directory.path().display())))?;
        match ControlFile::parse(&bytes) {
            Ok(control) => return Ok(control),
            Err(cause) => last = Some(cause),
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let cause = last.map(|c| c.to_string()).unwrap_or_default();
    Err(Error::failed(format!("read {}", directory.path().join("global/pg_control").display())).cause(cause))
}

/// What `postmaster.pid` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its process id.
    pub pid: Option<i32>,
    /// `ready`, `starting`, `standby`, `stopping`; empty without the file.
    pub status: String,
    /// Port.
    pub port: Option<u16>,
    /// Directory of its socket.
    pub socket: Option<PathBuf>,
}

/// Reads `postmaster.pid`; while it is being written it may be short, which counts as starting.
pub fn server_status(directory: &Dir) -> Result<ServerStatus> {
    let Some(bytes) = directory.read_file_if_exists("postmaster.pid", 8192)? else { return Ok(ServerStatus::default()) };
    match PostmasterPid::parse(&bytes) {
        Ok(file) => Ok(ServerStatus {
            pid: Some(file.pid),
            status: file.status.unwrap_or_default(),
            port: file.port,
            socket: file.socket_directory.filter(|s| !s.is_empty()).map(PathBuf::from),
        }),
        Err(_) => Ok(ServerStatus { status: "starting".into(), ..ServerStatus::default() }),
    }
}

fn rename_control(data_directory: &Path, from: &str, to: &str) -> Result<()> {
    let global = Dir::open(data_directory)?.open_beneath("global")?;
    global.rename_noreplace(from, &global, to)?;
    global.sync()
}

fn open_optional(parent: &Dir, name: &str) -> Result<Option<Dir>> {
    match parent.metadata_if_exists(name)? {
        Some(_) => parent.open_beneath(name).map(Some),
        None => Ok(None),
    }
}

fn open_if_ours(parent: &Dir, name: &str, marker: &str) -> Result<Option<Dir>> {
    let Some(dir) = open_optional(parent, name)? else { return Ok(None) };
    Ok(dir.metadata_if_exists(marker)?.is_some().then_some(dir))
}
