//! The host as facts for the planner: one cluster, its backups and WAL, and what the host can do.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::host::Owner;
use crate::observe::backups::Identify;
use crate::observe::discover::{Found, programs};
use crate::observe::places::{self, Needed};
use crate::observe::remains::{self, Ground};
use crate::observe::service::{self, Start};
use crate::observe::survey::{Survey, SurveyRequest};
use crate::observe::{runs, trust};
use crate::pg::ClusterState;
use crate::plan::chain;
use crate::plan::facts::{Capability, Cluster, Configuration, Host, Remains, RunFact, Server, WalKind, own_environment, with_configured};
use crate::plan::place::{Exchange, version_directory};
use crate::plan::recovery::{OtherWal, Trusted};
use crate::plan::spaces;
use crate::run::owner::{self, Task};
use crate::run::paths::{RunPaths, SOCKET_LIMIT};
use crate::run::sources::Directories;
use crate::run::switch;
use crate::store::index::Index;
use crate::sys::dir::Dir;
use crate::sys::{namespace, proc};

/// Where to look besides the configuration.
#[derive(Debug, Clone, Default)]
pub struct Where {
    /// `--backups`; empty: the configuration's.
    pub backups: Vec<PathBuf>,
    /// `--wal`; empty: the configuration's, else guessed from `archive_command`.
    pub wal: Vec<PathBuf>,
    /// `--tablespace`: OID and location.
    pub tablespaces: Vec<(u32, PathBuf)>,
    /// Tarballs to look through.
    pub identify: Option<Identify>,
    /// `--as`: what stands at PGDATA may be another cluster, and gives way.
    pub fresh: bool,
}

/// Everything about one cluster.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Facts for the planner.
    pub host: Host,
    /// Archive directories in use.
    pub archives: Vec<PathBuf>,
    /// They were guessed from `archive_command`.
    pub guessed: bool,
    /// WAL of earlier runs.
    pub other_wal: Vec<OtherWal>,
    /// What root opens for the owner.
    pub trusted: Trusted,
    /// What no place may hide.
    pub needed: Needed,
    /// Backup directories that cannot be read.
    pub backup_problems: Vec<String>,
}

impl Observed {
    /// Looks at every place that the cluster, its backups or `created`, tablespaces of the WAL, name.
    pub fn look_at_places(&mut self, created: &[(u32, String)]) -> Result<()> {
        let cluster = &self.host.cluster;
        let name = version_directory(cluster.major, cluster.control_file.catalog_version);
        self.host.locations =
            places::locations(&cluster.owner, &spaces::texts(&self.host, created), &name, &self.needed).map_err(refused)?;
        Ok(())
    }
}

fn needed(config: &Config, found: &Found, programs: &Path, backups: &[PathBuf], archives: &[PathBuf]) -> Needed {
    let named = backups.iter().chain(archives).map(|p| std::fs::canonicalize(p).unwrap_or_else(|_| p.clone()));
    let own = [programs.to_path_buf(), config.state_directory.clone()];
    Needed { data_directory: found.data_directory.clone(), others: named.chain(own).collect() }
}

/// Observes `found`.
pub fn observe(config: &Config, found: &Found, asked: &Where) -> Result<Observed> {
    let data_directory = found.data_directory.clone();
    let Ground { owner, inode, remains, control: early } = remains::look(config, found, asked)?;
    let major = early.major().ok_or_else(|| {
        Error::new(Kind::Refused, format!("{} is of an unknown PostgreSQL version", data_directory.display()))
            .cause(format!("catalog version {}", early.catalog_version))
    })?;
    let programs = programs(found, major)?;
    let trusted = found.config.trusted();
    let (log, environment) = match &found.process {
        Some(process) => (log_of(process), proc::environment(process.identity.pid)),
        None => runs::last_seen_running(&config.state_directory, early.system_identifier, &data_directory)?.unwrap_or_default(),
    };
    let environment = with_configured(environment, &found.config.environment, || owner.environment_entries());
    let earlier = runs::list(&config.state_directory, early.system_identifier, &data_directory)?;
    let other_wal = other_wal(&config.state_directory, &earlier);
    let mut archives = if asked.wal.is_empty() { found.config.wal_archive.clone() } else { asked.wal.clone() };
    let config_file =
        found.debian.as_ref().map(|(version, name)| PathBuf::from(format!("/etc/postgresql/{version}/{name}/postgresql.conf")));
    let library: Vec<Vec<u8>> = own_environment(&environment).cloned().collect();
    let backups = if asked.backups.is_empty() { found.config.backups.clone() } else { asked.backups.clone() };
    let mut request = SurveyRequest {
        data_directory: data_directory.clone(),
        programs: programs.clone(),
        arguments: found.process.as_ref().map(|p| p.arguments.iter().skip(1).cloned().collect()).unwrap_or_default(),
        config_file: config_file.clone().filter(|_| !found.unregistered),
        environment: library,
        control: (remains != Remains::Whole).then(|| early.clone()),
        backups,
        wal: vec![],
        identify: asked.identify.clone(),
        looked: vec![],
    };
    // What is remembered of tarballs: only time is lost where that cannot be.
    let index = Index::open(&config.state_directory, &owner).inspect_err(|e| log::info!("nothing is kept of the backups: {e}")).ok();
    request.looked = index.as_ref().map(|index| index.tarballs(&request.backups)).unwrap_or_default();
    let mut survey: Survey = owner::call_trusting(&owner, None, &trusted, Task::Survey(Box::new(request.clone()))).map_err(refused)?;
    let keep = |index: Index| index.keep_tarballs(&request.backups, std::mem::take(&mut survey.looked));
    if let Some(Err(error)) = index.map(keep) {
        log::info!("nothing is kept of the backups: {error}");
    }
    let guessed = archives.is_empty();
    if guessed {
        archives = guess_archive(survey.settings.get("archive_command").map_or("", String::as_str)).into_iter().collect();
    }
    let directories = archives.iter().fold(Directories::default(), |all, path| all.with(path, WalKind::Archive)).with_others(&other_wal);
    let identity = crate::run::tail::WalIdentity { major, system_identifier: early.system_identifier, segment_size: early.segment_size };
    let mut wal = directories.list(&owner, None, &trusted, identity)?;
    wal.append(&mut survey.wal);
    survey.wal = wal;
    let mut timeline_known = true;
    if remains != Remains::Whole {
        let timeline = remains::timeline(&survey.wal, &earlier);
        timeline_known = timeline.is_some();
        survey.control_file.timeline = timeline.or_else(|| chain::numbers(&survey.wal).into_iter().max()).unwrap_or(early.timeline);
    }
    request.wal.clear();
    let mounts = places::mounts()?;
    let mounted = mounts.contains(&data_directory);
    let above = data_directory.parent().unwrap_or(Path::new("/"));
    let parent = if mounted { data_directory.clone() } else { above.to_path_buf() };
    let needed = needed(config, found, &programs, &request.backups, &archives);
    let look = |link: &Path| places::wal(&owner, link, &needed, |above| changes_in(&owner, above));
    let wal_location = survey.wal_link.as_deref().map(look).transpose()?;
    let host = Host {
        name: host_name(),
        now: Timestamp::now(),
        space: places::space(&parent)?,
        locations: vec![],
        said_locations: asked.tablespaces.clone(),
        wal_location,
        capability: capability(config, &owner, &parent, mounted),
        runs: earlier,
        damaged_runs: runs::damaged(&config.state_directory)?,
        backups: std::mem::take(&mut survey.backups),
        wal: std::mem::take(&mut survey.wal),
        cluster: Cluster {
            mounts: mounts.into_iter().filter(|m| *m != data_directory && m.starts_with(&data_directory)).collect(),
            mounted,
            timeline_known,
            ..cluster(found, owner, (inode, remains), programs, (log, environment), &mut survey)?
        },
    };
    Ok(Observed { host, archives, guessed, other_wal, trusted, needed, backup_problems: survey.backup_problems })
}

fn refused(error: Error) -> Error {
    error.with_kind(Kind::Refused)
}

fn cluster(
    found: &Found,
    owner: Owner,
    (inode, remains): (u64, Remains),
    programs: PathBuf,
    (log, environment): runs::Start,
    survey: &mut Survey,
) -> Result<Cluster> {
    let data_directory = found.data_directory.clone();
    let config_file = match &found.debian {
        Some((version, name)) if found.unregistered => PathBuf::from(format!("/etc/postgresql/{version}/{name}/postgresql.conf")),
        _ => survey.settings.get("config_file").map_or_else(|| data_directory.join("postgresql.conf"), PathBuf::from),
    };
    let server = server(found, survey, &remains);
    let options = found.process.as_ref().map_or_else(|| survey.options.clone(), |p| p.arguments.iter().skip(1).cloned().collect());
    let (control, service) = service::control(found, Start { options, log, environment })?;
    let mut managed_by = survey.manager_files.clone();
    managed_by.extend(manager_processes()?);
    Ok(Cluster {
        name: found.name.clone(),
        inode,
        owner,
        major: survey.major,
        version: std::mem::take(&mut survey.version),
        programs,
        control,
        service,
        unregistered: found.unregistered,
        debian_version: found.debian.as_ref().map(|(version, _)| version.clone()),
        server,
        configuration: Configuration {
            in_data_directory: config_file.starts_with(&data_directory),
            config_file,
            settings: std::mem::take(&mut survey.settings),
        },
        managed_by,
        standby: remains.could_run() && !survey.signal_files.is_empty()
            || remains == Remains::Whole
                && matches!(survey.control_file.state, ClusterState::InArchiveRecovery | ClusterState::ShutDownInRecovery),
        tablespaces: std::mem::take(&mut survey.tablespaces),
        wal_link: survey.wal_link.take(),
        mounted: false,
        mounts: vec![],
        bytes: survey.bytes,
        markers: std::mem::take(&mut survey.markers),
        slots: std::mem::take(&mut survey.slots),
        group_access: survey.mode & 0o070 != 0 && remains.could_run(),
        timeline_known: true,
        remains,
        control_file: survey.control_file.clone(),
        data_directory,
    })
}

/// The file that a server's messages went to when it was started. Under a log collector the postmaster's own
/// standard error is a pipe; the collector keeps the original.
fn log_of(postmaster: &proc::Process) -> Option<PathBuf> {
    let children = proc::processes().unwrap_or_default();
    let family = children.iter().filter(|p| p.parent == postmaster.identity.pid).map(|p| p.identity.pid);
    std::iter::once(postmaster.identity.pid).chain(family).find_map(|pid| proc::file_behind(pid, 2))
}

fn server(found: &Found, survey: &Survey, remains: &Remains) -> Server {
    match &found.process {
        Some(process) => {
            Server::Serving { process: process.identity.clone(), unit: unit_of(process.identity.pid), arguments: process.arguments.clone() }
        }
        None if !remains.could_run() => Server::Absent,
        None if survey.control_file.state == ClusterState::ShutDown || *remains != Remains::Whole => Server::Stopped,
        None => Server::Crashed,
    }
}

/// The systemd service in whose control group a process runs, if its name says that it is PostgreSQL's: one started by
/// cron runs in cron's.
fn unit_of(pid: i32) -> Option<String> {
    service::service_of(pid).filter(|unit| unit.starts_with("postgresql"))
}

/// Failover managers at work on this host: a recovery under one would be undone or split the cluster.
fn manager_processes() -> Result<Vec<String>> {
    const MANAGERS: [&str; 7] = ["patroni", "repmgrd", "stolon-keeper", "pg_autoctl", "pacemakerd", "corosync", "etcd-patroni"];
    let named = |p: &proc::Process| {
        let first = p.arguments.iter().take(2).filter_map(|a| Path::new(a).file_name()?.to_str().map(str::to_string));
        first.into_iter().find(|n| MANAGERS.contains(&n.as_str())).map(|n| format!("{n} (process {})", p.identity.pid))
    };
    Ok(proc::processes()?.iter().filter_map(named).collect())
}

/// Where an archive command such as `test ! -f /wal/%f && cp %p /wal/%f` puts files.
fn guess_archive(command: &str) -> Option<PathBuf> {
    let word = command.split([' ', '"', '\'', '=']).rev().find_map(|word| word.strip_suffix("/%f"))?;
    (word.starts_with('/') && word.len() > 1).then(|| PathBuf::from(word))
}

fn other_wal(state: &Path, runs: &[RunFact]) -> Vec<OtherWal> {
    let mut found = Vec::new();
    for run in runs.iter().rev().filter(|run| !run.foreign) {
        if let Some(wal) = run.wal.as_ref().filter(|_| !run.open) {
            found.push(OtherWal { run: run.id.clone(), directory: wal.clone(), sealed: true });
        }
        let kept = RunPaths::new(state, &run.id).kept_wal();
        if kept.is_dir() {
            found.push(OtherWal { run: run.id.clone(), directory: kept, sealed: false });
        }
    }
    found
}

fn capability(config: &Config, owner: &Owner, parent: &Path, mounted: bool) -> Capability {
    let data_directory = parent;
    let (parent, mut exchange) = changes_in(owner, parent);
    if mounted {
        exchange = exchange.and_then(|one_step| entries_can_change(owner, data_directory).map(|()| one_step));
    }
    Capability { exchange, namespaces: namespace::probe(), program: reachable(&config.state_directory, owner), parent }
}

/// Whether directories can change places in `parent`: whose it is, and whether in one step, tried by whoever would do it.
fn changes_in(owner: &Owner, parent: &Path) -> places::Changes {
    let uid = std::fs::symlink_metadata(parent).map_err(|e| e.to_string()).and_then(|m| {
        if m.uid() == owner.uid && m.mode() & 0o002 == 0 {
            return Ok(m.uid());
        }
        let group = owner.groups.contains(&m.gid());
        if m.mode() & if group { 0o050 } else { 0o005 } != if group { 0o050 } else { 0o005 } {
            return Err(format!("{} cannot list {}", owner.name, parent.display()));
        }
        trust::roots_alone(parent).map(|()| 0).map_err(|e| e.to_string())
    });
    let exchange = match &uid {
        Ok(0) => Dir::open(parent).and_then(|dir| switch::probe_exchange(&dir)).map_err(|e| e.to_string()),
        Ok(_) => owner::call(owner, None, Task::ProbeExchange { parent: parent.to_path_buf() }).map_err(|e| e.to_string()),
        Err(why) => Err(why.clone()),
    };
    (uid, exchange)
}

/// Whether the entries of a mounted PGDATA can change places one by one: listed as the switch will.
fn entries_can_change(owner: &Owner, data_directory: &Path) -> std::result::Result<(), String> {
    let (live, aside) = (data_directory.to_path_buf(), data_directory.to_path_buf());
    let pairs = vec![switch::Pair { live, aside, names: None, by_owner: true, one_step: true }];
    let listed: Result<Vec<Exchange>> = owner::call(owner, None, Task::ListExchanges(switch::ListRequest { pairs }));
    listed.map(|_| ()).map_err(|error| error.to_string())
}

/// Whether the owner will be able to walk to a run's directory and execute there.
fn reachable(state: &Path, owner: &Owner) -> std::result::Result<(), String> {
    let sample = RunPaths::new(state, "20000101T000000Z-0000").door().join(".s.PGSQL.5432");
    if sample.as_os_str().len() > SOCKET_LIMIT {
        return Err(format!("{} is too long for a socket's path; choose a shorter state_directory", state.display()));
    }
    for component in state.ancestors() {
        let Ok(metadata) = std::fs::metadata(component) else { continue };
        let bit = if metadata.uid() == owner.uid {
            0o100
        } else if owner.groups.contains(&metadata.gid()) {
            0o010
        } else {
            0o001
        };
        if metadata.mode() & bit == 0 {
            return Err(format!("{} cannot walk through {}", owner.name, component.display()));
        }
    }
    let existing = state.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/"));
    let mount = rustix::fs::statvfs(existing).map_err(|e| e.to_string())?;
    if mount.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
        return Err(format!("nothing can be executed in {} (mounted noexec)", existing.display()));
    }
    Ok(())
}

/// The host's name.
pub fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|n| n.into_string().ok()).unwrap_or_else(|| "localhost".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_guessed_from_common_commands() {
        for (command, expected) in [
            ("cp %p /wal/%f", Some("/wal")),
            ("test ! -f /mnt/a/%f && cp %p /mnt/a/%f", Some("/mnt/a")),
            ("gzip < %p > \"/b/%f\"", Some("/b")),
            ("pgbackrest archive-push %p", None),
            ("(disabled)", None),
            ("", None),
        ] {
            assert_eq!(guess_archive(command), expected.map(PathBuf::from), "{command}");
        }
    }
}
