//! A decided recovery: what the executor, `resume`, `undo` and `purge` work from. Written into the journal once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::checks::Check;
use super::facts::{Configuration, Control, Remains, own_environment};
use super::loss::Names;
use super::place::{Holds, Place, Tablespace};
use super::preloaded::Preloaded;
use super::step::Step;
use super::target::TargetRequest;
use crate::config::Hooks;
use crate::host::Owner;
use crate::migrations::after::Goal;
use crate::pg::history::History;
use crate::pg::{Lsn, SegmentName, SegmentSize, Timeline};
use crate::store::catalogue::CatalogueEntry;
use crate::wal::inquiry::Stop;

/// What will be done, to what, with what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// The cluster as it was when the plan was made.
    pub cluster: ClusterFacts,
    /// Where it stops.
    pub target: Target,
    /// The backup it starts from.
    pub backup: CatalogueEntry,
    /// Where the backup becomes consistent, if known before replay.
    pub backup_end: Option<Lsn>,
    /// The WAL it needs.
    pub chain: Chain,
    /// What the configuration added.
    pub site: Site,
    /// pg_wal of asides and WAL kept by purges, with the run each belongs to.
    pub other_wal: Vec<OtherWal>,
    /// Take the configuration of the backup, not today's.
    pub config_from_backup: bool,
    /// Databases to dump before the stop.
    #[serde(default)]
    pub dump: Option<Dump>,
    /// Values that the private server needs at least.
    pub floors: BTreeMap<String, i64>,
    /// Preloaded libraries that stay and that go where a private server opens.
    #[serde(default)]
    pub preloaded: Preloaded,
    /// Judgements that were accepted.
    pub accepted: Vec<String>,
    /// Bytes that must stay free on the filesystem of PGDATA.
    pub reserve: u64,
    /// Places besides PGDATA that change places with it, or must not be reached by replay: tablespaces, then pg_wal.
    #[serde(default)]
    pub places: Vec<Place>,
    /// Tablespaces of the backup.
    #[serde(default)]
    pub tablespaces: Vec<Tablespace>,
    /// Links in the cluster's `pg_tblspc` when the plan was made: OID and text.
    #[serde(default)]
    pub live_tablespaces: Vec<(u32, PathBuf)>,
    /// Some tablespace lies in `pg_tblspc` itself (`allow_in_place_tablespaces`).
    #[serde(default)]
    pub in_place: bool,
    /// Steps.
    pub steps: Vec<Step>,
    /// Digest of the decisions.
    pub digest: String,
    /// Names for the report, as the catalogs had them.
    #[serde(default)]
    pub names: Names,
    /// The migration before which it stops, and what its tool must find.
    #[serde(default)]
    pub migration: Option<Goal>,
    /// What a person was told would be different afterwards.
    pub consequences: Vec<Consequence>,
    /// Copies of segments that are damaged and of which another copy is used.
    #[serde(default)]
    pub damaged_wal: Vec<PathBuf>,
}

/// What the configuration of a cluster adds to a request: where WAL is archived, what is run and asked around it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Archive directories, in order.
    pub archives: Vec<PathBuf>,
    /// Checks in order.
    pub checks: Vec<Check>,
    /// Database for checks.
    pub database: String,
    /// Bootstrap role.
    pub user: String,
    /// Role for checks, if configured.
    pub check_user: Option<String>,
    /// Units to stop, in this order.
    pub quiesce: Vec<String>,
    /// Hooks.
    pub hooks: Hooks,
    /// What root may open for the owner.
    #[serde(default)]
    pub trusted: Trusted,
}

/// What `--dump-before` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// Where the files go.
    pub directory: PathBuf,
    /// Only these databases; all without any.
    pub databases: Vec<String>,
}

impl Dump {
    /// What the step will do.
    pub fn words(&self) -> String {
        let what = if self.databases.is_empty() { "every database".to_string() } else { self.databases.join(", ") };
        format!("dump {what}, and the roles, into {}", self.directory.display())
    }
}

/// Places that the configuration names, and that root may therefore open for the cluster's owner where only root can
/// read them; whether they are root's alone is looked at each time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusted {
    /// Directories of WAL.
    pub wal: Vec<PathBuf>,
    /// Directories of backups, and backups.
    pub backups: Vec<PathBuf>,
}

/// Something that will be different, by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consequence {
    /// Stable id.
    pub id: String,
    /// Words.
    pub text: String,
}

/// What later steps need to know of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterFacts {
    /// Name.
    pub name: String,
    /// Real path.
    pub data_directory: PathBuf,
    /// Its inode before the switch.
    pub inode: u64,
    /// Owner.
    pub owner: Owner,
    /// Major version.
    pub major: u32,
    /// Directory of `postgres` and `pg_ctl`.
    pub programs: PathBuf,
    /// How it is stopped and started.
    pub control: Control,
    /// System identifier.
    #[serde(with = "crate::pg::decimal")]
    pub system_identifier: u64,
    /// The timeline it was on.
    pub timeline: Timeline,
    /// Segment size.
    pub segment_size: SegmentSize,
    /// It served when the plan was made.
    pub serving: bool,
    /// What stood at PGDATA.
    #[serde(default)]
    pub remains: Remains,
    /// Its configuration.
    pub configuration: Configuration,
    /// The parent directory belongs to the owner, not to root.
    pub parent_is_owners: bool,
    /// Its group may read it.
    pub group_access: bool,
    /// PGDATA is a mount point.
    #[serde(default)]
    pub mounted: bool,
    /// Two names in PGDATA's parent (or in PGDATA, mounted) can change places in one step.
    #[serde(default = "yes")]
    pub one_step: bool,
}

fn yes() -> bool {
    true
}

impl ClusterFacts {
    /// The environment of a program of PostgreSQL's that is run for the owner, `NAME=VALUE` bytes: the owner's, and where
    /// libraries and locales are found.
    pub fn program_environment(&self) -> Vec<Vec<u8>> {
        let own = own_environment(self.control.environment()).cloned();
        self.owner.environment_entries().into_iter().chain(own).collect()
    }

    /// How it is controlled, in words.
    pub fn control_words(&self) -> String {
        match &self.control {
            Control::PgCtl { .. } => "pg_ctl".into(),
            Control::PgCtlCluster { version, name } => format!("pg_ctlcluster {version} {name}"),
            Control::Systemd { unit, .. } => unit.clone(),
        }
    }
}

/// Where recovery stops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// As it was asked.
    pub request: TargetRequest,
    /// The timeline whose history is followed.
    pub timeline: Timeline,
    /// That history.
    pub history: History,
    /// Known LSN of the record at which replay stops.
    pub lsn: Option<Lsn>,
    /// End of that record: it must be there as a whole, also when it is not kept.
    #[serde(default)]
    pub end: Option<Lsn>,
    /// That record is kept.
    pub inclusive: bool,
    /// It is only the newest record of a WAL that grows: another plan may name a later one.
    #[serde(default)]
    pub moving: bool,
}

impl Target {
    /// Stops at this record.
    pub fn aim_at(&mut self, stop: Stop) {
        (self.lsn, self.end, self.inclusive) = (Some(stop.lsn), Some(stop.end), stop.inclusive);
    }

    /// The last byte of WAL that is read.
    pub fn last_byte(&self) -> Option<Lsn> {
        let last = self.end.map(|end| Lsn(end.0.saturating_sub(1)));
        self.lsn.map(|lsn| last.map_or(lsn, |last| last.max(lsn)))
    }
}

/// WAL from the backup's redo point on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chain {
    /// First segment.
    pub first: SegmentName,
    /// Last segment: the target's, or the last that exists.
    pub last: SegmentName,
    /// How many.
    pub segments: u64,
    /// How many of them stand only outside the archive.
    pub outside_archive: u64,
    /// The last one may grow until the stop: it is looked for again then.
    pub open: bool,
}

/// WAL outside the archive and pg_wal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherWal {
    /// The run it belongs to.
    pub run: String,
    /// The directory.
    pub directory: PathBuf,
    /// Below a sealed directory: reached by a descriptor from root.
    pub sealed: bool,
}

impl Recovery {
    /// The backup's name for messages.
    pub fn backup_name(&self) -> &str {
        &self.backup.name
    }

    /// PGDATA as a place.
    pub fn data_place(&self) -> Place {
        let cluster = &self.cluster;
        let above = cluster.data_directory.parent().unwrap_or(std::path::Path::new("/"));
        let name = cluster.data_directory.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let (holds, parent, name) = match cluster.mounted {
            true => (Holds::MountedData, cluster.data_directory.as_path(), String::new()),
            false => (Holds::Data, above, name),
        };
        Place {
            holds,
            parent: parent.to_path_buf(),
            name,
            parent_is_owners: cluster.parent_is_owners || cluster.mounted,
            one_step: cluster.one_step,
            called: vec![],
            reserve: self.reserve,
        }
    }

    /// Every place, PGDATA first.
    pub fn all_places(&self) -> Vec<Place> {
        std::iter::once(self.data_place()).chain(self.places.iter().cloned()).collect()
    }

    /// The external pg_wal, if there is one.
    pub fn wal_place(&self) -> Option<&Place> {
        self.places.iter().find(|place| place.holds == Holds::Wal)
    }

    /// The directory of run `id` beside PGDATA, or in it where it is a mount point.
    pub fn beside(&self, id: &str) -> PathBuf {
        self.data_place().run_directory(id)
    }

    /// The serving cluster's pg_wal, by its real path.
    pub fn live_wal(&self) -> PathBuf {
        self.wal_place().map_or_else(|| self.cluster.data_directory.join("pg_wal"), Place::at)
    }

    /// The pg_wal of what run `id` staged, and of what stands aside after the switch: never through a link, which would
    /// lead to the serving cluster's (pitfalls A3).
    pub fn staged_wal(&self, id: &str) -> PathBuf {
        self.wal_place().map_or_else(|| self.data_place().staged(id).join("pg_wal"), |place| place.staged(id))
    }
}
