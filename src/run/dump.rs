//! `--dump-before`: logical dumps of the cluster as it is, taken after writers were stopped and before it is.
//!
//! One custom-format file for each database, and one of what belongs to no database: roles and tablespaces. The programs
//! are the cluster's own and run as its owner over its socket. In a directory of root's the files are made by root and
//! handed to the owner as an open descriptor; in the owner's own directory the owner makes them. Nothing is overwritten.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Kind, Result};
use crate::host::Owner;
use crate::observe::trust;
use crate::plan::ledger::Fact;
use crate::run::control;
use crate::run::executor::{Run, free_bytes};
use crate::run::owner::{Progress, Task};
use crate::run::switch::ServerStatus;
use crate::sys::descendant::{Launch, launch_apart};
use crate::sys::dir::Dir;
use crate::sys::identity::Leash;

/// Room that a dump needs is not known: as much as the databases take, without indexes and in compressed form, is less.
const SQL_SIZES: &str = "SELECT datname, pg_database_size(oid) FROM pg_database WHERE datallowconn AND datconnlimit <> -2 AND NOT datistemplate ORDER BY datname";

/// One file to write.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DumpRequest {
    /// Whom it runs as.
    pub owner: Owner,
    /// `pg_dump` or `pg_dumpall`, with its path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment, `NAME=VALUE` bytes.
    pub environment: Vec<Vec<u8>>,
    /// Where the file goes; with `passed` it is open already.
    pub directory: PathBuf,
    /// Its name.
    pub file: String,
    /// Root opened it: the descriptor comes over standard input.
    pub passed: bool,
}

/// Dumps what the plan says; files of an earlier attempt of this run are made anew.
pub fn dump_before(run: &mut Run) -> Result<()> {
    let Some(dump) = run.recovery().dump.clone() else { return Ok(()) };
    let sizes = sizes(run)?;
    let wanted: Vec<(String, u64)> = if dump.databases.is_empty() { sizes } else { named(&sizes, &dump.databases)? };
    room(&dump.directory, wanted.iter().map(|(_, bytes)| *bytes).sum())?;
    let mut files: Vec<(String, Option<String>)> = vec![(file_name(&run.paths.id, "globals", "sql"), None)];
    for (index, (database, _)) in wanted.iter().enumerate() {
        files.push((file_name(&run.paths.id, &format!("{index:02}-{}", plain(database)), "dump"), Some(database.clone())));
    }
    let forget: Vec<String> = run.ledger().facts.iter().filter_map(begun).collect();
    for (file, database) in &files {
        // Only what this run itself began may be replaced.
        if forget.contains(file) {
            remove(run, &dump.directory, file)?;
        }
        run.fact(Fact::Dumping { file: file.clone(), database: database.clone() })?;
        let written = one(run, &dump.directory, file, database.as_deref());
        if written.is_err() {
            // A part of a dump is of no use, and its room may be what is wanted.
            drop_part(run, &dump.directory, file);
        }
        written?;
    }
    let names: Vec<&str> = files.iter().map(|(file, _)| file.as_str()).collect();
    run.remark(format!("dumped before the stop, in {}: {}", dump.directory.display(), names.join(", ")))
}

fn begun(fact: &Fact) -> Option<String> {
    match fact {
        Fact::Dumping { file, .. } => Some(file.clone()),
        _ => None,
    }
}

fn file_name(run: &str, what: &str, suffix: &str) -> String {
    format!("pitr-{run}-{what}.{suffix}")
}

/// A database's name as far as it may stand in a file's name; the number before it tells two apart.
fn plain(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    name.chars().take(63).map(safe).collect()
}

fn sizes(run: &mut Run) -> Result<Vec<(String, u64)>> {
    let reply = control::query(run, "postgres", SQL_SIZES)?;
    if let Some(error) = reply.error {
        return Err(Error::failed("list the databases to dump").cause(error));
    }
    let row = |row: &Vec<Option<String>>| Some((row.first()?.clone()?, row.get(1)?.as_ref()?.parse().ok()?));
    Ok(reply.rows.iter().filter_map(row).collect())
}

fn named(sizes: &[(String, u64)], names: &[String]) -> Result<Vec<(String, u64)>> {
    let find = |name: &String| {
        let found = sizes.iter().find(|(known, _)| known == name).cloned();
        found.ok_or_else(|| {
            let all: Vec<&str> = sizes.iter().map(|(known, _)| known.as_str()).collect();
            Error::failed(format!("there is no database {name} to dump")).hint(format!("There are: {}.", all.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

fn room(directory: &Path, needed: u64) -> Result<()> {
    let free = free_bytes(directory)?;
    if free >= needed {
        return Ok(());
    }
    let (needed, free) = (needed >> 20, free >> 20);
    Err(Error::failed(format!("{} has {free} MiB free, and the databases to dump take {needed} MiB", directory.display()))
        .hint("Make room, choose another --dump-before, or fewer databases with --dump-database."))
}

/// Root's directory, changed by nobody else, or the owner's.
fn is_roots(run: &Run, directory: &Path) -> Result<bool> {
    let metadata = std::fs::symlink_metadata(directory).at("look at", directory)?;
    let owner = run.recovery().cluster.owner.uid;
    if metadata.is_dir() && metadata.uid() == owner && metadata.mode() & 0o022 == 0 {
        return Ok(false);
    }
    trust::roots_alone(directory).map(|()| true).map_err(|e| {
        e.with_kind(Kind::Failed).hint("Give --dump-before a directory of root's or of the cluster's owner that nobody else can write.")
    })
}

fn remove(run: &mut Run, directory: &Path, file: &str) -> Result<()> {
    if !is_roots(run, directory)? {
        return run.owner(Task::RemoveFile { parent: directory.to_path_buf(), name: file.to_string() });
    }
    let opened = Dir::open(directory)?;
    opened.unlink_if_exists(file)?;
    opened.sync()
}

/// Removes what a failed dump left; where that fails too, a resume does it.
fn drop_part(run: &mut Run, directory: &Path, file: &str) {
    let removed = match is_roots(run, directory) {
        Ok(true) => Dir::open(directory).and_then(|opened| opened.unlink_if_exists(file).map(drop)),
        Ok(false) => run.owner_unwatched(Task::RemoveFile { parent: directory.to_path_buf(), name: file.to_string() }),
        Err(error) => Err(error),
    };
    if let Err(error) = removed {
        log::warn!("{} is left: {error}", directory.join(file).display());
    }
}

fn one(run: &mut Run, directory: &Path, file: &str, database: Option<&str>) -> Result<()> {
    let data_directory = run.recovery().cluster.data_directory.clone();
    let status: ServerStatus = run.owner_unwatched(Task::ServerStatus { data_directory })?;
    let (Some(socket), Some(port)) = (status.socket, status.port) else {
        return Err(Error::failed("the server to dump has no Unix socket"));
    };
    let passed = if is_roots(run, directory)? { Some(Dir::open(directory)?.create_file(file, 0o600)?) } else { None };
    let cluster = &run.recovery().cluster;
    let mut arguments = vec!["-h".into(), socket.display().to_string(), "-p".into(), port.to_string(), "-w".into()];
    arguments.extend(["-U".to_string(), run.recovery().site.user.clone()]);
    let program = match database {
        Some(name) => {
            arguments.extend(["-Fc".to_string(), "-d".into(), connection_string(name)]);
            cluster.programs.join("pg_dump")
        }
        None => {
            arguments.extend(["--globals-only".to_string(), "-l".into(), "postgres".into()]);
            cluster.programs.join("pg_dumpall")
        }
    };
    let request = DumpRequest {
        owner: cluster.owner.clone(),
        program,
        arguments,
        environment: cluster.program_environment(),
        directory: directory.to_path_buf(),
        file: file.to_string(),
        passed: passed.is_some(),
    };
    let passed_on = passed.as_ref().map(|file| file.try_clone().at("duplicate", directory)).transpose()?;
    let watch = run.watch().with(directory)?;
    run.owner_watching::<u64>(Task::Dump(Box::new(request)), passed_on.map(OwnedFd::from), &watch)?;
    if let Some(file) = passed {
        file.sync_all().at("sync", directory)?;
        Dir::open(directory)?.sync()?;
    }
    Ok(())
}

/// A name is a connection string when it looks like one: given as one, it is only a name.
fn connection_string(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// In the owner's child: runs the program with the file as its output; says how large it grows. A file whose dump failed
/// is removed where the owner made it. Returns its bytes.
pub fn dump(request: &DumpRequest, passed: Option<OwnedFd>, say: &mut dyn FnMut(Progress) -> bool) -> Result<u64> {
    let path = request.directory.join(&request.file);
    let file = match (request.passed, passed) {
        (true, Some(descriptor)) => File::from(descriptor),
        (true, None) => return Err(Error::failed(format!("write {}", path.display())).cause("it was not passed")),
        (false, _) => Dir::open(&request.directory)?.create_file(&request.file, 0o600)?,
    };
    let ran = run_dump(request, &file, &path, say);
    if ran.is_err() && !request.passed {
        Dir::open(&request.directory)?.unlink_if_exists(&request.file)?;
    }
    let bytes = ran?;
    file.sync_all().at("sync", &path)?;
    if !request.passed {
        Dir::open(&request.directory)?.sync()?;
    }
    Ok(bytes)
}

fn run_dump(request: &DumpRequest, file: &File, path: &Path, say: &mut dyn FnMut(Progress) -> bool) -> Result<u64> {
    let output = Stdio::from(file.try_clone().at("duplicate", path)?);
    let mut child = launch_apart(&tied(request), output, Stdio::piped(), None)?;
    let errors = child.stderr.take();
    let words = std::thread::spawn(move || errors.map(crate::sys::descendant::tail).unwrap_or_default());
    let size = || file.metadata().map_or(0, |m| m.len());
    let status = loop {
        if let Some(status) = child.try_wait().at("wait for", &request.program)? {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        say(Progress { done: size(), total: None });
    };
    let words = words.join().unwrap_or_default();
    if status.success() {
        return Ok(size());
    }
    let cause = format!("{} {}", crate::sys::descendant::ending(status), words.trim());
    Err(Error::failed(format!("write the dump {}", path.display())).cause(cause.trim()))
}

/// The program ends with this child, as this child does with the coordinator.
fn tied(request: &DumpRequest) -> Launch {
    Launch {
        owner: request.owner.clone(),
        leash: Leash::Tied(nix::libc::SIGKILL),
        parent: rustix::process::getpid().as_raw_nonzero().get(),
        isolate: None,
        program: request.program.clone(),
        arguments: request.arguments.clone(),
        environment: request.environment.clone(),
        directory: PathBuf::from("/"),
        log: None,
    }
}
