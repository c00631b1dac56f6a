//! The private server: PostgreSQL on staging, in namespaces of its own, seen by nobody else.
//!
//! Everything that could reach production is overridden on its command line, which beats every configuration
//! file: Debian's `data_directory` beats `-D`, but not `-c`. The recovery settings are given there too, the
//! empty targets first and the one target last, so nothing has to be written into a configuration file
//! and nothing to be taken out of it before the public start. Its first proof is where it runs.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::error::{At, Error, Result};
use crate::pg::version::private_settings;
use crate::plan::facts::Control;
use crate::plan::place::Place;
use crate::run::executor::Run;
use crate::run::libraries::Libraries;
use crate::sys::descendant::{Launch, ending, launch};
use crate::sys::identity::Leash;
use crate::sys::namespace::Bind;
use crate::sys::proc;

/// Port of the private server: only part of its socket's name.
pub const PORT: u16 = 5432;

/// How replay is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoverySettings {
    /// `recovery_target_*` name and value; `None` replays what is offered and promotes.
    pub target: Option<(&'static str, String)>,
    /// `recovery_target_inclusive`.
    pub inclusive: bool,
    /// Timeline as a number, or `current`.
    pub timeline: String,
    /// `pause` or `promote`.
    pub action: &'static str,
}

/// A running private server.
#[derive(Debug)]
pub struct Private {
    child: Child,
    data_directory: PathBuf,
    /// Where it was started.
    begins: PathBuf,
    proved: bool,
    libraries: Libraries,
    log: Log,
}

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Replay stands at the target, by its words.
    Paused,
    /// "recovery stopping before/after …".
    Stopping(String),
    /// It left recovery.
    Opened,
    /// It took this timeline.
    NewTimeline(u32),
    /// Replay began.
    RedoStarts,
    /// The end of the backup was replayed.
    Consistent,
    /// FATAL or PANIC.
    Fatal(String),
    /// Parameters are too low: a pause that is not the target.
    TooLow(String),
    /// Anything else.
    Other(String),
}

impl Private {
    /// Starts a server on `data_directory`. It holds the run's lock and dies with the coordinator.
    pub fn start(run: &Run, data_directory: &Path, settings: Option<&RecoverySettings>, libraries: Libraries) -> Result<Private> {
        let cluster = &run.recovery().cluster;
        let log_path = run.paths.server_log();
        let log = File::options()
            .append(true)
            .read(true)
            .create(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&log_path)
            .at("open", &log_path)?;
        let position = log.metadata().at("look at", &log_path)?.len();
        let request = Launch {
            owner: cluster.owner.clone(),
            leash: Leash::Tied(nix::libc::SIGQUIT),
            parent: rustix::process::getpid().as_raw_nonzero().get(),
            isolate: Some(binds(run)),
            program: cluster.programs.join("postgres"),
            arguments: arguments(run, data_directory, settings, libraries)?,
            environment: cluster.program_environment(),
            directory: PathBuf::from("/"),
            log: None,
        };
        let child = launch(&request, &log, Some(&run.lock))?;
        let mut reader = File::open(&log_path).at("open", &log_path)?;
        reader.seek(SeekFrom::Start(position)).at("seek in", &log_path)?;
        Ok(Private {
            child,
            data_directory: data_directory.to_path_buf(),
            begins: request.directory,
            proved: false,
            libraries,
            log: Log { reader, rest: Vec::new(), tail: Vec::new() },
        })
    }

    /// New lines of the server's log. Proves on the way that the server runs on the directory it was
    /// started for; an end of the process is an error with its last words.
    pub fn listen(&mut self) -> Result<Vec<Said>> {
        let said = self.log.lines()?;
        self.prove_place()?;
        if let Some(status) = self.child.try_wait().at("wait for", "the private server")? {
            let mut said = said;
            said.extend(self.log.lines()?);
            if let Some(fatal) =
                said.iter().chain(&self.log.tail).find_map(|s| if let Said::Fatal(words) = s { Some(words.clone()) } else { None })
            {
                return Err(Error::failed("the private server stopped").cause(fatal));
            }
            return Err(Error::failed("the private server stopped").cause(format!("{}; {}", ending(status), self.log.last_words())));
        }
        Ok(said)
    }

    /// Whether the server's place was proved: SQL before that would speak to who knows whom.
    pub fn is_proved(&self) -> bool {
        self.proved
    }

    /// Which preloaded libraries it was started with.
    pub fn libraries(&self) -> Libraries {
        self.libraries
    }

    /// PostgreSQL changes into its data directory before anything else: that is where it runs. Directories are compared
    /// by device and inode: their names are others where a chroot or a container begins.
    ///
    /// Where it stands before is not where it runs: it begins where we started it, and while it looks for its own
    /// program it goes along the links to it and back (`resolve_symlinks`, src/common/exec.c). So standing elsewhere is
    /// believed only of a server that has already said something: that is later (`PostmasterMain`), and the only words that
    /// come before the change are complaints about its configuration.
    fn prove_place(&mut self) -> Result<()> {
        if self.proved {
            return Ok(());
        }
        let pid = i32::try_from(self.child.id()).unwrap_or(0);
        let Some(process) = proc::process(pid, "") else { return Ok(()) };
        if process.exe.file_name() != Some("postgres".as_ref()) {
            return Ok(());
        }
        let here = identity(&self.data_directory).at("look at", &self.data_directory)?;
        if process.cwd_identity == here {
            self.proved = true;
            return Ok(());
        }
        let starting = identity(&self.begins).is_ok_and(|begins| begins == process.cwd_identity);
        if starting || !self.log.has_spoken() {
            return Ok(());
        }
        let _ = self.child.kill();
        Err(Error::failed(format!("the private server runs on {}, not on {}", process.cwd.display(), self.data_directory.display())))
    }

    /// Fast shutdown, waited for. A shutdown checkpoint may take as long as it takes.
    pub fn stop(mut self) -> Result<()> {
        self.signal(rustix::process::Signal::INT)?;
        let status = self.child.wait().at("wait for", "the private server")?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::failed("stop the private server").cause(format!("{}; {}", ending(status), self.log.last_words())))
        }
    }

    /// Ends it at once: nothing of it is needed.
    pub fn abandon(mut self) {
        let _ = self.signal(rustix::process::Signal::QUIT);
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        // Not waited for yet: the id is still this child's.
        match rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(Error::failed("signal the private server").cause(e)),
        }
    }
}

/// Every tablespace location, and an external pg_wal, is the staged directory there, or the one that stands aside: the
/// private server never sees what serves (pitfalls A1).
fn binds(run: &Run) -> Vec<Bind> {
    let bind = |place: &Place| Bind { from: place.staged(&run.paths.id), to: place.at(), called: place.called.clone() };
    run.recovery().places.iter().map(bind).collect()
}

/// Device and inode of a directory.
fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|m| (m.dev(), m.ino()))
}

fn arguments(run: &Run, data_directory: &Path, settings: Option<&RecoverySettings>, libraries: Libraries) -> Result<Vec<String>> {
    let recovery = run.recovery();
    let cluster = &recovery.cluster;
    let config_file = if cluster.configuration.in_data_directory {
        data_directory.join("postgresql.conf")
    } else {
        cluster.configuration.config_file.clone()
    };
    let text =
        |path: &Path| path.to_str().map(str::to_string).ok_or_else(|| Error::failed(format!("path {} is not UTF-8", path.display())));
    let mut list: Vec<(String, String)> = vec![
        ("data_directory".into(), text(data_directory)?),
        ("config_file".into(), text(&config_file)?),
        ("hba_file".into(), text(&run.paths.access_file())?),
        ("ident_file".into(), text(&run.paths.ident_file())?),
        ("unix_socket_directories".into(), format!("\"{}\"", text(&run.paths.door())?.replace('"', "\"\""))),
        ("port".into(), PORT.to_string()),
        ("cluster_name".into(), format!("pitr-{}", run.paths.id)),
    ];
    list.extend(private_settings(cluster.major).into_iter().map(|(n, v)| (n.to_string(), v.to_string())));
    let archives = run.ledger().archives(recovery);
    list.push(("archive_mode".into(), if archives { "on" } else { "off" }.into()));
    list.extend(libraries.setting(run).map(|value| ("shared_preload_libraries".to_string(), value)));
    list.extend(run.ledger().floors(recovery).into_iter().map(|(name, floor)| (name, floor.to_string())));
    if recovery.in_place {
        // Without it the end of a backup is a PANIC where a directory stands in pg_tblspc (CheckTablespaceDirectory).
        list.push(("allow_in_place_tablespaces".into(), "on".into()));
    }
    list.extend(recovery_settings(run, settings)?);
    // Settings that the server was started with beat every file; ours come after them and win.
    let own = match &cluster.control {
        Control::PgCtl { options, .. } | Control::Systemd { options, .. } => without_directory(options),
        Control::PgCtlCluster { .. } => Vec::new(),
    };
    let ours = list.into_iter().flat_map(|(name, value)| ["-c".to_string(), format!("{name}={value}")]);
    Ok(own.into_iter().chain(ours).collect())
}

/// Server arguments without `-D` and its value.
pub fn without_directory(options: &[String]) -> Vec<String> {
    let mut words = options.iter();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-D" => {
                words.next();
            }
            _ if word.starts_with("-D") => {}
            _ => kept.push(word.clone()),
        }
    }
    kept
}

/// At most one target may be non-empty at any moment while the list is applied in order: empties first.
fn recovery_settings(run: &Run, settings: Option<&RecoverySettings>) -> Result<Vec<(String, String)>> {
    const TARGETS: [&str; 5] =
        ["recovery_target", "recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_xid"];
    let mut list: Vec<(String, String)> = TARGETS.iter().map(|t| (t.to_string(), String::new())).collect();
    let Some(settings) = settings else {
        list.push(("restore_command".into(), String::new()));
        return Ok(list);
    };
    list.push(("recovery_target_timeline".into(), settings.timeline.clone()));
    list.push(("recovery_target_inclusive".into(), if settings.inclusive { "on" } else { "off" }.into()));
    list.push(("recovery_target_action".into(), settings.action.into()));
    list.push(("restore_command".into(), restore_command(run)?));
    if let Some((name, value)) = &settings.target {
        list.push((name.to_string(), value.clone()));
    }
    Ok(list)
}

/// PostgreSQL gives this line to a shell after replacing `%f` and `%p`: paths are quoted, `%` doubled.
fn restore_command(run: &Run) -> Result<String> {
    let quoted = |path: &Path| {
        let text = path.to_str().ok_or_else(|| Error::failed(format!("path {} is not UTF-8", path.display())))?;
        Ok::<String, Error>(format!("'{}'", text.replace('\'', "'\\''").replace('%', "%%")))
    };
    Ok(format!("exec {} wal-get --socket {} %f \"%p\"", quoted(&run.paths.program())?, quoted(&run.paths.broker())?))
}

/// Bytes of the log that are read at a time: whoever runs in the server may write to it what he likes.
const AT_ONCE: u64 = 1 << 20;
/// Bytes of an unfinished line that are kept.
const LONGEST: usize = 64 << 10;

#[derive(Debug)]
struct Log {
    reader: File,
    rest: Vec<u8>,
    tail: Vec<Said>,
}

impl Log {
    fn lines(&mut self) -> Result<Vec<Said>> {
        self.reader.by_ref().take(AT_ONCE).read_to_end(&mut self.rest).at("read", "the private server's log")?;
        let whole = self.rest.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        let said: Vec<Said> =
            lines.split_inclusive(|b| *b == b'\n').map(|line| understand(String::from_utf8_lossy(line).trim_end())).collect();
        // A line that does not end is no message of PostgreSQL's.
        self.rest.truncate(LONGEST);
        self.tail.extend(said.iter().cloned());
        let excess = self.tail.len().saturating_sub(40);
        self.tail.drain(..excess);
        Ok(said)
    }

    fn has_spoken(&self) -> bool {
        !self.tail.is_empty()
    }

    fn last_words(&self) -> String {
        let words: Vec<&str> =
            self.tail.iter().filter_map(|s| if let Said::Other(w) | Said::Fatal(w) = s { Some(w.as_str()) } else { None }).collect();
        words.iter().rev().take(3).rev().copied().collect::<Vec<_>>().join(" | ")
    }
}

/// Wording of majors 13 to 18, loosely: what is decided on it is cross-checked by SQL and pg_control.
pub fn understand(line: &str) -> Said {
    let severity = |word: &str| line.split_once(word).map(|(_, rest)| rest.trim().to_string());
    if let Some(rest) = severity("FATAL:").or_else(|| severity("PANIC:")) {
        // Clients that come too early are told so with FATAL; that is no end.
        let about_a_client = ["the database system is", "role \"", "database \"", "terminating connection", "no pg_hba.conf entry"];
        if about_a_client.iter().any(|words| rest.starts_with(words)) {
            return Said::Other(line.to_string());
        }
        return Said::Fatal(rest);
    }
    let Some(message) = severity("LOG:").or_else(|| severity("WARNING:")) else { return Said::Other(line.to_string()) };
    if message.starts_with("pausing at the end of recovery") {
        Said::Paused
    } else if message.starts_with("recovery stopping") {
        Said::Stopping(message)
    } else if message.starts_with("hot standby is not possible because of insufficient parameter settings")
        || message.starts_with("recovery has paused") && !message.contains("end of recovery")
    {
        Said::TooLow(message)
    } else if message.starts_with("redo starts at") {
        Said::RedoStarts
    } else if message.starts_with("consistent recovery state reached") {
        Said::Consistent
    } else if let Some(number) = message.strip_prefix("selected new timeline ID:") {
        Said::NewTimeline(number.trim().parse().unwrap_or(0))
    } else if message.starts_with("database system is ready to accept connections") {
        Said::Opened
    } else {
        Said::Other(line.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_words_are_understood() {
        let stamped = |text: &str| understand(&format!("2026-11-21 21:05:20.001 UTC [4711] {text}"));
        assert_eq!(stamped("LOG:  pausing at the end of recovery"), Said::Paused);
        assert_eq!(stamped("LOG:  selected new timeline ID: 7"), Said::NewTimeline(7));
        assert_eq!(stamped("LOG:  database system is ready to accept connections"), Said::Opened);
        assert!(matches!(stamped("LOG:  database system is ready to accept read-only connections"), Said::Other(_)));
        assert!(matches!(stamped("FATAL:  the database system is not yet accepting connections"), Said::Other(_)));
        let fatal = stamped("FATAL:  recovery ended before configured recovery target was reached");
        assert_eq!(fatal, Said::Fatal("recovery ended before configured recovery target was reached".into()));
        let stopping = stamped("LOG:  recovery stopping before commit of transaction 733, time 2026-11-21 21:05:20.265848+00");
        assert!(matches!(stopping, Said::Stopping(words) if words.contains("733")));
    }
}
