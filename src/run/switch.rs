//! The switch: staging and PGDATA change places, pg_control last.
//!
//! Each effect is durable before the next: staging's `global/pg_control` is hidden under a name PostgreSQL does not
//! know; PGDATA is exchanged first, then every tablespace's directory and an external pg_wal; pg_control comes back as
//! the commit point. Back it goes in the reverse order. In every intermediate state PGDATA is the whole old cluster, the
//! whole new one, or one that refuses to start: while places are mixed no pg_control stands at PGDATA (pitfalls A2).
//!
//! An interrupted switch is settled by looking: the run's marker file says which directory is PGDATA's
//! ([`look`]), journaled inodes say the rest ([`towards`]).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::pg::control::ControlFile;
use crate::pg::pidfile::PostmasterPid;
use crate::plan::place::{Exchange, INSIDE};
use crate::sys::dir::Dir;

/// Where to look for the run's cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// PGDATA.
    pub data_directory: PathBuf,
    /// The run's directory beside it (or in it); the other cluster is `data` in it.
    pub run_directory: PathBuf,
    /// The run's marker file, in the recovered cluster.
    pub marker: String,
    /// The run's id, for the hidden name.
    pub run: String,
    /// PGDATA is a mount point, whose entries change places one by one: the first of them, once journaled, tells whose
    /// they are.
    pub first: Option<Exchange>,
}

/// Which cluster's directories are to stand at their live names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The old one's.
    Old,
    /// The recovered one's.
    New,
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
    /// The next rename of one exchange, if there is one left.
    Exchange {
        /// Of these names.
        exchange: Exchange,
        /// So that these stand at the live name.
        side: Side,
    },
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

/// The name that a directory has between two renames, where a filesystem cannot exchange.
pub fn between(name: &str) -> String {
    format!("{name}.between")
}

/// Looks where the run's cluster is and whether it could start.
pub fn look(places: &Places) -> Result<Stage> {
    let parent = Dir::open(places.data_directory.parent().unwrap_or(Path::new("/")))?;
    let name = places.data_directory.file_name().unwrap_or_default();
    let here = match &places.first {
        // What is mounted at PGDATA stays: its entries tell.
        Some(first) => inode(&Dir::open(&first.live)?, &first.name)?.filter(|i| Some(*i) == first.new).map(|_| parent.open_beneath(name)),
        None => open_if_ours(&parent, Path::new(name), &places.marker)?.map(Ok),
    };
    let here = here.transpose()?;
    let above = places.run_directory.parent().unwrap_or(Path::new("/"));
    let run_name = places.run_directory.file_name().unwrap_or_default();
    let above = if above.exists() { Some(Dir::open(above)?) } else { None };
    // Sealed, the run's directory is root's and closed to us.
    let seen = above.as_ref().map(|a| a.metadata_if_exists(run_name)).transpose()?.flatten();
    let sealed = seen.as_ref().is_some_and(|m| m.uid == 0);
    if sealed && here.is_none() {
        return Ok(Stage::Sealed);
    }
    let beside = match above.filter(|_| seen.is_some() && !sealed) {
        Some(above) => beside(&above.open_beneath(run_name)?, places)?,
        None => None,
    };
    match (here, beside) {
        (Some(dir), None) => Ok(if is_hidden(&dir, &places.run)? { Stage::Exchanged } else { Stage::Switched }),
        (None, Some(dir)) => Ok(if is_hidden(&dir, &places.run)? { Stage::Hidden } else { Stage::Staged }),
        (None, None) => Ok(Stage::Nothing),
        (Some(here), Some(beside)) => {
            Err(Error::failed(format!("both {} and {} carry this run's marker", here.path().display(), beside.path().display()))
                .hint("A directory was copied by hand. Remove the copy's marker file, then try again."))
        }
    }
}

/// Whether a cluster stands in a run's directory, whichever, also in the middle of an exchange.
pub fn holds_a_cluster(run: &Dir) -> Result<bool> {
    Ok(run.metadata_if_exists("data")?.is_some() || run.metadata_if_exists(between("data"))?.is_some())
}

/// The run's cluster in the run's directory.
pub fn beside(run: &Dir, places: &Places) -> Result<Option<Dir>> {
    if let Some(first) = &places.first {
        let Some(data) = open_optional(run, Path::new("data"))? else { return Ok(None) };
        let ours = [first.aside_name.clone(), between(&first.aside_name)].iter().find_map(|n| inode(&data, n).transpose()).transpose()?;
        return Ok(Some(data).filter(|_| ours.is_some() && ours == first.new));
    }
    match open_if_ours(run, Path::new("data"), &places.marker)? {
        Some(data) => Ok(Some(data)),
        None => open_if_ours(run, Path::new(&between("data")), &places.marker),
    }
}

fn is_hidden(dir: &Dir, run: &str) -> Result<bool> {
    let visible = dir.metadata_if_exists("global/pg_control")?.is_some();
    let hidden = dir.metadata_if_exists(Path::new("global").join(hidden_name(run)))?.is_some();
    match (visible, hidden) {
        (true, false) => Ok(false),
        (false, true) => Ok(true),
        (visible, _) => {
            Err(Error::failed(format!("{} has {} pg_control", dir.path().display(), if visible { "more than one" } else { "no" }))
                .hint("Something else changed this directory. Nothing was done; look at it before going on."))
        }
    }
}

/// Performs one effect and makes it durable. Says whether anything was done.
pub fn perform(effect: &Effect) -> Result<bool> {
    match effect {
        Effect::Hide { data_directory, run } => rename_control(data_directory, "pg_control", &hidden_name(run)).map(|()| true),
        Effect::Reveal { data_directory, run } => rename_control(data_directory, &hidden_name(run), "pg_control").map(|()| true),
        Effect::Exchange { exchange, side } => towards(exchange, *side),
    }
}

/// One rename, made durable, towards the state in which `side` stands at the live name and the other one aside; `false`
/// when it is reached. Whatever was interrupted goes on from what stands there.
fn towards(exchange: &Exchange, side: Side) -> Result<bool> {
    let (live, aside) = (Dir::open(&exchange.live)?, Dir::open(&exchange.aside)?);
    let middle = between(&exchange.aside_name);
    let (name, other) = (exchange.name.as_str(), exchange.aside_name.as_str());
    let (stands, waits, held) = (inode(&live, name)?, inode(&aside, other)?, inode(&aside, &middle)?);
    let wanted = if side == Side::New { exchange.new } else { exchange.old };
    match (wanted, stands, waits, held) {
        _ if stands == wanted => match (waits, held) {
            (None, Some(_)) => aside.rename_noreplace(&middle, &aside, other)?,
            _ => return Ok(false),
        },
        // Nothing is to stand here: what does moves aside.
        (None, Some(_), None, _) => live.rename_noreplace(name, &aside, other)?,
        (Some(_), None, waiting, _) if waiting == wanted => aside.rename_noreplace(other, &live, name)?,
        (Some(_), None, _, held) if held == wanted => aside.rename_noreplace(&middle, &live, name)?,
        (Some(_), Some(_), waiting, _) if waiting == wanted && exchange.one_step => live.exchange(name, &aside, other)?,
        (Some(_), Some(_), waiting, None) if waiting == wanted => live.rename_noreplace(name, &aside, &middle)?,
        (Some(_), Some(_), None, held) if held == wanted => live.rename_noreplace(name, &aside, other)?,
        _ => return Err(astray(exchange, &live, &aside)),
    }
    aside.sync()?;
    live.sync()?;
    Ok(true)
}

/// Whether nothing is left to do; only looked at, so that a server may run meanwhile.
pub fn is_settled(exchange: &Exchange, side: Side) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: PathBuf| std::fs::symlink_metadata(path).ok().map(|m| m.ino());
    let wanted = if side == Side::New { exchange.new } else { exchange.old };
    inode(exchange.live.join(&exchange.name)) == wanted && inode(exchange.aside.join(between(&exchange.aside_name))).is_none()
}

fn astray(exchange: &Exchange, live: &Dir, aside: &Dir) -> Error {
    let (here, there) = (live.join(&exchange.name), aside.join(&exchange.aside_name));
    Error::new(Kind::Hands, format!("neither {} nor {} is what this run journaled", here.display(), there.display()))
        .cause(format!("inodes {:?} (old) and {:?} (new) were expected", exchange.old, exchange.new))
        .hint("Somebody moved directories. Nothing more was moved: look at both before anything else.")
}

/// Inode of a directory beneath `dir`, where there is one of that name; a link or file is somebody else's doing.
fn inode(dir: &Dir, name: &str) -> Result<Option<u64>> {
    Ok(dir.metadata_if_exists(name)?.map(|m| m.inode))
}

/// The exchanges of a switch, in its order, with the inodes that tell old from new. `pairs` are live directory, name,
/// directory aside, name there; a pair of which neither exists is none.
pub fn list(request: &ListRequest) -> Result<Vec<Exchange>> {
    let mut found = Vec::new();
    for pair in &request.pairs {
        let exchange = |live: &Dir, aside: &Dir, name: &str, aside_name: &str| -> Result<Exchange> {
            Ok(Exchange {
                old: inode(live, name)?,
                new: inode(aside, aside_name)?,
                live: pair.live.clone(),
                name: name.to_string(),
                aside: pair.aside.clone(),
                aside_name: aside_name.to_string(),
                by_owner: pair.by_owner,
                one_step: pair.one_step,
            })
        };
        let (live, aside) = (Dir::open(&pair.live)?, Dir::open(&pair.aside)?);
        match &pair.names {
            Some((name, aside_name)) => found.push(exchange(&live, &aside, name, aside_name)?),
            None => {
                for name in entries(&live, &aside)? {
                    found.push(exchange(&live, &aside, &name, &name)?);
                }
            }
        }
    }
    found.retain(|e| e.old.is_some() || e.new.is_some());
    Ok(found)
}

/// The entries of a mounted PGDATA and its staging that may change places, one by one and all in one line of the journal.
/// PostgreSQL itself makes about thirty.
const MOST_ENTRIES: usize = 4096;

/// Everything in a mounted PGDATA and in staging, `global` first: with it goes pg_control.
fn entries(live: &Dir, aside: &Dir) -> Result<Vec<String>> {
    let mut names = std::collections::BTreeSet::new();
    for entry in live.entries()?.into_iter().chain(aside.entries()?) {
        let name = entry.name.into_string().map_err(|name| {
            Error::failed(format!("{} is not UTF-8", live.join(&name).display())).hint("Rename it: PostgreSQL has no such file.")
        })?;
        names.insert(name);
    }
    for not_ours in [INSIDE, "lost+found", "global"] {
        names.remove(not_ours);
    }
    if names.len() > MOST_ENTRIES {
        return Err(Error::failed(format!("{} has {} entries, more than {MOST_ENTRIES}", live.path().display(), names.len()))
            .hint("Each of them would change places alone. Move away what is not PostgreSQL's."));
    }
    Ok(std::iter::once("global".to_string()).chain(names).collect())
}

/// What may change places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRequest {
    /// In the order of the switch.
    pub pairs: Vec<Pair>,
}

/// A live directory and one of a run, with an entry of each, or all of their entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The directory of the live name.
    pub live: PathBuf,
    /// The run's directory or one in it.
    pub aside: PathBuf,
    /// Live name and the other; `None`: all entries of both.
    pub names: Option<(String, String)>,
    /// The owner may rename there.
    pub by_owner: bool,
    /// In one step.
    pub one_step: bool,
}

/// Whether two directories in `parent` can change places in one step, tried with two of our own; `false` where it takes
/// renames, which were tried too.
pub fn probe_exchange(parent: &Dir) -> Result<bool> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let (one, two) = (format!(".pitr-probe-{pid}-a"), format!(".pitr-probe-{pid}-b"));
    let three = format!(".pitr-probe-{pid}-c");
    parent.make_dir(&one, 0o700)?;
    let tried = parent.make_dir(&two, 0o700).and_then(|_| match parent.try_exchange(&one, parent, &two)? {
        true => Ok(true),
        false => parent.rename_noreplace(&one, parent, &three).map(|()| false),
    });
    for name in [&one, &two, &three] {
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

fn open_optional(parent: &Dir, name: &Path) -> Result<Option<Dir>> {
    match parent.metadata_if_exists(name)? {
        Some(_) => parent.open_beneath(name).map(Some),
        None => Ok(None),
    }
}

fn open_if_ours(parent: &Dir, name: &Path, marker: &str) -> Result<Option<Dir>> {
    let Some(dir) = open_optional(parent, name)? else { return Ok(None) };
    Ok(dir.metadata_if_exists(marker)?.is_some().then_some(dir))
}
