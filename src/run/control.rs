//! The public server: stopped with proof, started as it ran before.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::observe::postmaster;
use crate::pg::{ClusterState, ControlFile};
use crate::plan::facts::Control;
use crate::run::executor::Run;
use crate::run::owner::Task;
use crate::run::private::without_directory;
use crate::run::sql::{Reply, SqlRequest, Statement};
use crate::run::switch::ServerStatus;
use crate::sys::descendant::{Launch, ending, launch, run_program};
use crate::sys::identity::Leash;
use crate::sys::proc::ProcessHandle;
use crate::sys::{crash, service};

/// Debian's cluster control.
const PG_CTLCLUSTER: &str = "/usr/bin/pg_ctlcluster";
/// How long a server may take to accept connections; crash recovery of a large one takes its time.
const START_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Stops what serves on PGDATA and proves it: the postmaster gone, no process left on the directory, pg_control
/// read after that. Returns pg_control and whether the cluster had crashed.
pub fn stop(run: &mut Run) -> Result<(ControlFile, bool)> {
    let data_directory = run.recovery().cluster.data_directory.clone();
    keep_down(run)?;
    if let Some(found) = postmaster::find(&data_directory)? {
        // Most of a shutdown checkpoint's work, done while the server still serves. Its failure changes nothing.
        if let Err(error) = query(run, "postgres", "CHECKPOINT") {
            log::debug!("checkpoint before the stop: {error}");
        }
        let handle = ProcessHandle::open(&found.identity)?;
        run.down_since.get_or_insert_with(Instant::now);
        match run.recovery().cluster.control.clone() {
            Control::PgCtl { .. } => {
                if let Some(handle) = &handle {
                    // What `pg_ctl stop -m fast` sends, to a process that was compared, not to a number in a file.
                    handle.signal(rustix::process::Signal::INT)?;
                }
            }
            Control::PgCtlCluster { version, name } => {
                let (status, words) =
                    run_program(Path::new(PG_CTLCLUSTER), &[&version, &name, "stop", "-m", "fast"], Duration::from_secs(3600), b"")?;
                if !status.success() {
                    log::warn!("pg_ctlcluster stop: {} {words}", ending(status));
                }
            }
            Control::Systemd { unit, .. } => {
                let by_hand = service::unit(&unit)?.main_pid != Some(found.identity.pid);
                if let Err(error) = service::stop(&unit, Duration::from_secs(3600)) {
                    log::warn!("{error}");
                }
                if let Some(handle) = handle.as_ref().filter(|_| by_hand) {
                    // Started by somebody past its unit: the unit's stop is not about this server.
                    handle.signal(rustix::process::Signal::INT)?;
                }
            }
        }
        wait_gone(handle.as_ref(), &data_directory)?;
    }
    run.down_since.get_or_insert_with(Instant::now);
    let control: ControlFile =
        run.owner_unwatched(Task::ReadControl { data_directory: data_directory.clone(), hidden: Some(run.paths.id.clone()) })?;
    match control.state {
        ClusterState::ShutDown => Ok((control, false)),
        ClusterState::InProduction | ClusterState::InCrashRecovery | ClusterState::ShuttingDown => Ok((control, true)),
        other => Err(Error::failed(format!("{} is {} after the stop", data_directory.display(), other.name()))),
    }
}

/// Any start of the cluster's unit fails loudly from here on, until [`let_start`] (pitfalls A8). What is there already is
/// left. It does not survive a reboot: then the old cluster serves again, and the comparison with the journal says so.
/// Without systemd a start can only be noticed.
pub fn keep_down(run: &Run) -> Result<()> {
    let Control::Systemd { unit, .. } = &run.recovery().cluster.control else { return Ok(()) };
    crash::point("before keeping the unit down")?;
    service::keep_down(unit, &run.paths.id)?;
    crash::point("after keeping the unit down")
}

/// The cluster's unit may be started again.
pub fn let_start(run: &Run) -> Result<()> {
    let Control::Systemd { unit, .. } = &run.recovery().cluster.control else { return Ok(()) };
    crash::point("before letting the unit start")?;
    service::let_start(unit)?;
    crash::point("after letting the unit start")
}

fn wait_gone(handle: Option<&ProcessHandle>, data_directory: &Path) -> Result<()> {
    let begun = Instant::now();
    loop {
        let gone = match handle {
            Some(handle) => handle.wait_gone(Duration::from_millis(200))?,
            None => true,
        };
        if gone && postmaster::processes_on(data_directory)?.is_empty() {
            return Ok(());
        }
        // Told to stop, it will: no signal interrupts the waiting, or nobody would know how it ended.
        if begun.elapsed() > Duration::from_secs(3600) {
            return Err(Error::failed(format!("the server on {} does not stop", data_directory.display()))
                .hint("Something holds it: look at its log."));
        }
        if gone {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Starts the cluster at PGDATA publicly and waits until it accepts connections. One that serves already is left.
pub fn start(run: &mut Run) -> Result<()> {
    let cluster = run.recovery().cluster.clone();
    let mut said = String::new();
    let_start(run)?;
    if postmaster::find_staying(&cluster.data_directory)?.is_none() {
        match &cluster.control {
            Control::PgCtl { options, log, environment } => {
                let fallback = run.paths.root.join("server-public.log");
                let output = open_log(&fallback)?;
                let request = Launch {
                    owner: cluster.owner.clone(),
                    leash: Leash::Free,
                    parent: 0,
                    isolate: None,
                    program: cluster.programs.join("postgres"),
                    arguments: start_arguments(options, &cluster.data_directory),
                    environment: if environment.is_empty() { cluster.owner.environment_entries() } else { environment.clone() },
                    directory: "/".into(),
                    log: log.clone(),
                };
                let child = launch(&request, &output, None)?;
                return wait_ready(run, Some(child), &log.as_deref().unwrap_or(&fallback).display().to_string());
            }
            Control::PgCtlCluster { version, name } => {
                let (status, words) = run_program(Path::new(PG_CTLCLUSTER), &[version, name, "start"], START_LIMIT, b"")?;
                // Its word is not taken, neither yes nor no: what counts is a server that answers.
                if !status.success() {
                    log::warn!("pg_ctlcluster start: {} {words}", ending(status));
                    said = format!("pg_ctlcluster: {} {words}", ending(status));
                }
            }
            Control::Systemd { unit, .. } => {
                if let Err(error) = service::start(unit, START_LIMIT) {
                    log::warn!("{error}");
                    said = error.to_string();
                }
            }
        }
    }
    let log = match &cluster.control {
        Control::PgCtlCluster { version, name } => format!("/var/log/postgresql/postgresql-{version}-{name}.log"),
        Control::PgCtl { log, .. } => log.clone().unwrap_or_else(|| run.paths.root.join("server-public.log")).display().to_string(),
        Control::Systemd { unit, .. } => format!("journalctl -u {unit}"),
    };
    wait_ready(run, None, &log).map_err(|error| if said.is_empty() { error } else { error.cause(said) })?;
    in_its_unit(run)
}

/// A server that somebody started past its unit serves well, but systemd does not know it.
fn in_its_unit(run: &mut Run) -> Result<()> {
    let cluster = run.recovery().cluster.clone();
    let Control::Systemd { unit, .. } = &cluster.control else { return Ok(()) };
    let serving = postmaster::find(&cluster.data_directory)?.map(|process| process.identity.pid);
    if serving.is_some() && service::unit(unit)?.main_pid != serving {
        run.remark(format!("the server runs, but not as {unit}: somebody started it by hand. When it suits, stop it in the same way, then: systemctl start {unit}"))?;
    }
    Ok(())
}

fn wait_ready(run: &mut Run, mut child: Option<std::process::Child>, log: &str) -> Result<()> {
    let data_directory = run.recovery().cluster.data_directory.clone();
    let begun = Instant::now();
    let failed = |cause: String| {
        Err(Error::failed(format!("start the server on {}", data_directory.display())).cause(cause).hint(format!("Its log: {log}")))
    };
    loop {
        let status: ServerStatus = run.owner_unwatched(Task::ServerStatus { data_directory: data_directory.clone() })?;
        let process = postmaster::find(&data_directory)?;
        if let Some(process) = &process {
            // A pid file left by an earlier server says "ready" too: it must be this one's.
            if status.status == "ready" && status.pid == Some(process.identity.pid) {
                run.down_since
                    .take()
                    .map(|since| run.fact(crate::plan::ledger::Fact::Downtime { seconds: since.elapsed().as_secs_f64() }))
                    .transpose()?;
                return Ok(());
            }
        }
        if let Some(child) = &mut child {
            if let Ok(Some(ended)) = child.try_wait() {
                return failed(ending(ended));
            }
        } else if process.is_none() && begun.elapsed() > Duration::from_secs(30) {
            return failed("no postmaster appeared".into());
        }
        if begun.elapsed() > START_LIMIT {
            return failed("it does not accept connections".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// SQL on the serving cluster's own socket as the bootstrap role; it must have the right system identifier.
pub fn query(run: &mut Run, database: &str, sql: &str) -> Result<Reply> {
    let user = run.recovery().site.user.clone();
    let identity = Statement::own("SELECT system_identifier FROM pg_control_system()");
    let mut replies = query_as(run, &user, database, vec![Statement::catalog_only(), identity, Statement::own(sql)])?;
    let identity = replies.get(1).and_then(Reply::single).unwrap_or_default().to_string();
    if identity != run.recovery().cluster.system_identifier.to_string() {
        return Err(Error::failed(format!("the server that answers has system identifier {identity}")));
    }
    replies.pop().ok_or_else(|| Error::failed("no reply"))
}

/// SQL on the serving cluster's own socket as any role.
pub fn query_as(run: &mut Run, user: &str, database: &str, statements: Vec<Statement>) -> Result<Vec<Reply>> {
    let data_directory = run.recovery().cluster.data_directory.clone();
    let status: ServerStatus = run.owner_unwatched(Task::ServerStatus { data_directory })?;
    let (Some(socket), Some(port)) = (status.socket, status.port) else {
        return Err(Error::failed("the server has no Unix socket"));
    };
    run.owner(Task::Sql(SqlRequest { socket, port, user: user.to_string(), database: database.to_string(), statements }))
}

/// The arguments that the server ran with; a data directory that is missing or was relative to a directory that
/// nobody knows is put right.
pub fn start_arguments(options: &[String], data_directory: &Path) -> Vec<String> {
    let absolute = options.windows(2).any(|pair| matches!(pair, [flag, path] if flag == "-D" && path.starts_with('/')))
        || options.iter().any(|word| word.starts_with("-D/"));
    if absolute {
        return options.to_vec();
    }
    let mut kept = without_directory(options);
    kept.extend(["-D".to_string(), data_directory.display().to_string()]);
    kept
}

fn open_log(path: &Path) -> Result<std::fs::File> {
    use crate::error::At;
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::File::options().append(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW).open(path).at("open", path)
}

/// An error after the switch: nothing goes back by itself, the person decides.
pub fn hands(error: Error, run: &str) -> Error {
    let hint = error.hint.clone().unwrap_or_default();
    error.with_kind(Kind::Hands).hint(format!(
        "{hint}{}The recovered cluster stands at PGDATA. To go on: pitr resume {run}. To go back: pitr undo {run}.",
        if hint.is_empty() { "" } else { " " }
    ))
}
