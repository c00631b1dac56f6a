//! What `observe` found on the host, as plain data: the planner's whole world.
//!
//! Equal facts and an equal request give an equal plan. Nothing here is a decision.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::host::Owner;
use crate::host::ProcessIdentity;
use crate::pg::control::ControlFile;
use crate::pg::{SegmentName, Timeline};
use crate::store::archive::ArchivedBackupHistory;
use crate::store::catalogue::CatalogueEntry;

/// The host at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its clock.
    pub now: Timestamp,
    /// The cluster in question.
    pub cluster: Cluster,
    /// Every thing in the backup directories, usable or not.
    pub backups: Vec<CatalogueEntry>,
    /// Every place WAL can come from, in the order in which it is asked.
    pub wal: Vec<WalSource>,
    /// Earlier runs of this cluster, oldest first.
    pub runs: Vec<RunFact>,
    /// Runs whose journal cannot be read: id and why.
    pub damaged_runs: Vec<String>,
    /// Room on the filesystem of PGDATA's parent.
    pub space: Space,
    /// What the host can do.
    pub capability: Capability,
    /// Every tablespace location that the cluster, its backups and its WAL name.
    #[serde(default)]
    pub locations: Vec<Location>,
    /// Tablespaces whose place was said on the command line: OID and location.
    #[serde(default)]
    pub said_locations: Vec<(u32, PathBuf)>,
    /// The external pg_wal.
    #[serde(default)]
    pub wal_location: Option<Location>,
}

/// One cluster: a data directory, its service, its owner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cluster {
    /// Name in the configuration or the one `pitr` gave it.
    pub name: String,
    /// Real path of the data directory.
    pub data_directory: PathBuf,
    /// Inode of the data directory.
    pub inode: u64,
    /// Its user.
    pub owner: Owner,
    /// Major version (PG_VERSION).
    pub major: u32,
    /// Full version text of the binaries (`postgres --version`).
    pub version: String,
    /// Where `postgres`, `pg_ctl` live: root's directory.
    pub programs: PathBuf,
    /// How it is stopped and started.
    pub control: Control,
    /// What the service manager adds to that.
    pub service: Service,
    /// Major version of the place in `/etc/postgresql` that it has, as Debian writes it.
    #[serde(default)]
    pub debian_version: Option<String>,
    /// Its place in `/etc/postgresql` is yet to be made.
    #[serde(default)]
    pub unregistered: bool,
    /// pg_control; where there is none that could be read, what backups and archive say of the cluster.
    pub control_file: ControlFile,
    /// What stands at PGDATA.
    pub remains: Remains,
    /// The timeline in `control_file` is the one that it was on; otherwise it is the highest of several.
    pub timeline_known: bool,
    /// What runs on it.
    pub server: Server,
    /// Where its configuration is.
    pub configuration: Configuration,
    /// Signs of a standby or of a manager that would interfere, in words.
    pub managed_by: Vec<String>,
    /// `standby.signal` or `recovery.signal` stands in it.
    pub standby: bool,
    /// Tablespaces: OID and the link's text; `pg_tblspc/OID` for one that lies there itself.
    pub tablespaces: Vec<(u32, PathBuf)>,
    /// `pg_wal` is a link to here.
    pub wal_link: Option<PathBuf>,
    /// PGDATA itself is a mount point.
    #[serde(default)]
    pub mounted: bool,
    /// Mount points below PGDATA.
    pub mounts: Vec<PathBuf>,
    /// Bytes below PGDATA, links not followed, without pg_wal.
    pub bytes: u64,
    /// Name of the marker files of earlier runs that stand in it.
    pub markers: Vec<String>,
    /// Names of its replication slots.
    pub slots: Vec<String>,
    /// Its group may read it (0750).
    pub group_access: bool,
}

/// How a cluster is stopped and started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Control {
    /// `pg_ctl` as the owner. Options and log are those of the running server.
    PgCtl {
        /// Arguments of the postmaster beside `-D`, as `pg_ctl -o` takes them.
        options: Vec<String>,
        /// The file its messages went to.
        log: Option<PathBuf>,
        /// Its environment, `KEY=VALUE` bytes.
        environment: Vec<Vec<u8>>,
    },
    /// Debian's `pg_ctlcluster VERSION NAME`.
    PgCtlCluster {
        /// Major version as Debian writes it.
        version: String,
        /// Cluster's name.
        name: String,
    },
    /// The service manager: a unit whose main process the postmaster is.
    Systemd {
        /// The unit's own name.
        unit: String,
        /// Arguments of the postmaster that its configuration does not say, for the private server.
        options: Vec<String>,
        /// The postmaster's environment, `KEY=VALUE` bytes, for the private server.
        environment: Vec<Vec<u8>>,
    },
}

impl Control {
    /// The postmaster's environment, as far as it is known.
    pub fn environment(&self) -> &[Vec<u8>] {
        match self {
            Control::PgCtl { environment, .. } | Control::Systemd { environment, .. } => environment,
            Control::PgCtlCluster { .. } => &[],
        }
    }
}

/// What the service manager adds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Running units that are stopped when the cluster's unit is, those first that need the others.
    pub stopped_along: Vec<String>,
    /// Why the unit that was asked for is not believed.
    pub problem: Option<String>,
    /// Debian's `start.conf` forbids to start the cluster.
    pub start_disabled: bool,
}

/// What stands at PGDATA, of the cluster that is to be recovered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stands", rename_all = "snake_case")]
pub enum Remains {
    /// A data directory with its pg_control.
    #[default]
    Whole,
    /// A data directory whose pg_control is missing or damaged: nothing can run on it.
    Damaged {
        /// What is wrong with it.
        why: String,
    },
    /// An empty directory.
    Empty,
    /// Nothing.
    Missing,
    /// A whole cluster, but another one: packages make an empty one when they are installed.
    Other {
        /// Its system identifier.
        #[serde(with = "crate::pg::decimal")]
        system_identifier: u64,
    },
}

impl Remains {
    /// There is a cluster that could run: it is stopped, compared and put back as such.
    pub fn could_run(&self) -> bool {
        matches!(self, Remains::Whole | Remains::Other { .. })
    }

    /// In a word, where it is not whole.
    pub fn word(&self) -> Option<&'static str> {
        match self {
            Remains::Whole => None,
            Remains::Damaged { .. } => Some("damaged"),
            Remains::Empty => Some("empty"),
            Remains::Missing => Some("missing"),
            Remains::Other { .. } => Some("another cluster"),
        }
    }
}

/// What runs on a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Server {
    /// A postmaster runs on it.
    Serving {
        /// The postmaster.
        process: ProcessIdentity,
        /// The systemd service in whose control group it runs, if its name says that it is PostgreSQL's.
        unit: Option<String>,
        /// Started with these arguments.
        arguments: Vec<String>,
    },
    /// Nothing runs and pg_control says a clean end.
    Stopped,
    /// Nothing runs and pg_control says it was in production.
    Crashed,
    /// Nothing runs and nothing could: see [`Remains`].
    Absent,
}

/// Where the configuration lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// The main file.
    pub config_file: PathBuf,
    /// Inside PGDATA: comes back with the data unless today's is kept.
    pub in_data_directory: bool,
    /// Effective values read by `postgres -C`, by name.
    pub settings: std::collections::BTreeMap<String, String>,
}

impl Configuration {
    /// A setting's value; empty when it is not known to this major.
    pub fn get(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    /// A setting as a number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.get(name).parse().ok()
    }
}

/// Where WAL comes from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WalSource {
    /// The directory.
    pub directory: PathBuf,
    /// What it is.
    pub kind: WalKind,
    /// Segments in it whose first page was looked at.
    pub segments: Vec<SegmentCopy>,
    /// History files: timeline and text.
    pub histories: Vec<(Timeline, String)>,
    /// Backup history files.
    pub backups: Vec<ArchivedBackupHistory>,
    /// Names in `archive_status`, for a pg_wal.
    pub marks: Vec<String>,
    /// It could not be read.
    pub problem: Option<String>,
}

/// What a source of WAL is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalKind {
    /// An archive directory.
    Archive,
    /// The cluster's own pg_wal.
    Live,
    /// pg_wal of the aside of this run.
    Aside(String),
    /// WAL that a purge of this run kept.
    Kept(String),
}

/// One file that claims to be a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentCopy {
    /// Which one.
    pub name: SegmentName,
    /// File name in its directory.
    pub file: String,
    /// Bytes of the file.
    pub size: u64,
    /// Why its first page cannot be what the name says, if so.
    pub problem: Option<String>,
    /// `.partial`: kept by a promotion or a receiver, not complete.
    pub partial: bool,
}

/// An earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFact {
    /// Its id.
    pub id: String,
    /// Still open: `resume` or `undo` has to end it.
    pub open: bool,
    /// In words, for `status`.
    pub state: String,
    /// Its cluster aside is being deleted: it cannot come back.
    pub removing: bool,
    /// The timeline number it promoted to, when a cluster with it was ever at PGDATA.
    pub number: Option<Timeline>,
    /// The number its undo moved the old cluster to.
    pub moved_to: Option<Timeline>,
    /// Its directory beside PGDATA still stands: the aside or the work of a kept run.
    pub directory: Option<PathBuf>,
    /// pg_wal of what stands in it.
    pub wal: Option<PathBuf>,
    /// It was switched and not undone, and can be.
    pub switched: bool,
    /// Its recovered cluster was put at PGDATA and not taken back, whether or not its aside was purged.
    pub stands: bool,
    /// It recovered a cluster of another system identifier to this data directory: its WAL and numbers are not this one's.
    #[serde(default)]
    pub foreign: bool,
    /// How fast it unpacked and replayed, bytes a second.
    pub rates: Option<(u64, u64)>,
}

/// A place outside PGDATA that a link names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The link's text.
    pub text: PathBuf,
    /// Its real path.
    pub real: PathBuf,
    /// Why it cannot be used.
    pub problem: Option<String>,
    /// Whose the directory is in which something changes places.
    pub parent_uid: u32,
    /// Two names in that directory can change places in one step.
    pub one_step: bool,
    /// Room on its filesystem.
    pub space: Space,
    /// A directory of the cluster's version stands in it.
    pub live: bool,
    /// Bytes in that.
    pub bytes: u64,
}

impl Location {
    /// Adds a reason why it cannot be used; the first one stays.
    pub fn trouble(&mut self, why: impl Into<String>) {
        self.problem.get_or_insert(why.into());
    }
}

impl RunFact {
    /// What ends an open run, as a sentence.
    pub fn ways_on(&self) -> String {
        match self.removing {
            true => format!("What it kept is being deleted. End that first: pitr purge {}.", self.id),
            false => format!("End it first: pitr resume {0}, or pitr undo {0}.", self.id),
        }
    }
}

/// What of a server's environment its programs need to run and to read its configuration: where they find libraries, locales
/// and time zones.
pub const OWN_ENVIRONMENT: [&str; 5] = ["LD_LIBRARY_PATH", "TZ", "LOCPATH", "LOCALE_ARCHIVE", "ICU_DATA"];

/// Those of [`OWN_ENVIRONMENT`]. Every entry is `KEY=VALUE`.
pub fn own_environment(entries: &[Vec<u8>]) -> impl Iterator<Item = &Vec<u8>> {
    entries.iter().filter(|entry| OWN_ENVIRONMENT.iter().any(|name| name_of(entry) == Some(name.as_bytes())))
}

/// A server's environment with the entries that the configuration names in place of its own; where nothing is known of it,
/// `plain` with them.
pub fn with_configured(seen: Vec<Vec<u8>>, configured: &[String], plain: impl FnOnce() -> Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if configured.is_empty() {
        return seen;
    }
    let mut all = if seen.is_empty() { plain() } else { seen };
    all.retain(|entry| configured.iter().all(|other| name_of(other.as_bytes()) != name_of(entry)));
    all.extend(configured.iter().map(|entry| entry.clone().into_bytes()));
    all
}

fn name_of(entry: &[u8]) -> Option<&[u8]> {
    entry.iter().position(|b| *b == b'=').and_then(|at| entry.get(..at))
}

/// Room on a filesystem, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// A directory on it.
    pub at: PathBuf,
    /// Free for the owner.
    pub free: u64,
    /// In all.
    pub total: u64,
    /// Tells filesystems apart while one plan is made.
    #[serde(default)]
    pub device: u64,
}

/// What the host can do, tried, not guessed. An error is its reason in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// Two directories beside PGDATA can change places; `true`: in one step.
    pub exchange: std::result::Result<bool, String>,
    /// Namespaces can be made.
    pub namespaces: std::result::Result<(), String>,
    /// The owner can reach and run the copy of this program.
    pub program: std::result::Result<(), String>,
    /// PGDATA's parent is fit for a run's directory: whose uid owns it.
    pub parent: std::result::Result<u32, String>,
}
