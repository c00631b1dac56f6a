//! The built `pitr`, run as root with a configuration and a state directory of its own.

use std::fmt::Display;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::cluster::{Layout, TestCluster};
use super::process::{self, Holder};
use super::program::{self, Output, program};
use super::scratch::Scratch;
use super::story::{CHECK_USER, CHECKS, DATABASE};
use super::terminal::Terminal;

/// Longer than any single run of `pitr` in these tests may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// `pitr` with its configuration file. Change settings with [`Pitr::set`]; every call writes the file anew.
#[derive(Debug)]
pub struct Pitr {
    /// The configuration file.
    pub config: PathBuf,
    /// `state_directory`.
    pub state: PathBuf,
    /// The cluster's name in the configuration.
    pub cluster: String,
    parent: PathBuf,
    /// Where everything that it says goes.
    pub said: PathBuf,
    settings: toml::Table,
    no_renameat2: bool,
    env: Vec<(String, String)>,
    within: Vec<String>,
}

/// A `pitr` that still runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Pitr {
    /// Configures `pitr` for `cluster`: data directory, control, backups and archive; nothing else.
    pub fn for_cluster(scratch: &Scratch, cluster: &TestCluster) -> Pitr {
        let home = cluster.home.strip_prefix(scratch.path()).expect("the cluster stands in this scratch directory");
        let mut pitr = Pitr {
            config: scratch.path().join(home).join("etc/pitr.toml"),
            state: scratch.path().join(home).join("state"),
            cluster: cluster.name.clone(),
            parent: cluster.parent().to_path_buf(),
            said: scratch.dir(home.join("said"), "root", "root", 0o700),
            settings: toml::Table::new(),
            no_renameat2: false,
            env: Vec::new(),
            within: Vec::new(),
        };
        scratch.dir(home.join("etc"), "root", "root", 0o755);
        pitr.set("data_directory", path(&cluster.data));
        if cluster.layout == Layout::Plain {
            pitr.set("control", "pg_ctl");
        }
        if cluster.programs.major != 15 {
            pitr.set("pg_bindir", path(&cluster.programs.bin));
        }
        pitr.set("backups", vec![path(&cluster.backups)]);
        if let Some(archive) = &cluster.archive {
            pitr.set("wal_archive", vec![path(archive)]);
        }
        pitr
    }

    /// The same with what the runbook's story wants: its database, and its checks by a user of theirs.
    pub fn for_runbook(scratch: &Scratch, cluster: &TestCluster) -> Pitr {
        let mut pitr = Pitr::for_cluster(scratch, cluster);
        let checks = scratch.file("checks/mazevault.sql", CHECKS, 0o644);
        pitr.set("checks", vec![path(&checks)]);
        pitr.set("database", DATABASE);
        pitr.set("check_user", CHECK_USER);
        pitr
    }

    /// Names by configuration what the cluster's programs need in their environment: nothing else tells that once it is lost,
    /// or stopped.
    pub fn tell_environment(&mut self, cluster: &TestCluster) {
        let entries: Vec<String> = cluster.programs.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.set("environment", entries);
    }

    /// Sets a key of the cluster in the configuration.
    pub fn set(&mut self, key: &str, value: impl Into<toml::Value>) {
        self.settings.insert(key.to_string(), value.into());
        self.write(&toml::to_string(&self.document()).unwrap());
    }

    /// Removes a key of the cluster from the configuration.
    pub fn unset(&mut self, key: &str) {
        self.settings.remove(key);
        self.write(&toml::to_string(&self.document()).unwrap());
    }

    /// Writes the configuration file literally, for tests of bad ones.
    pub fn write(&self, text: &str) {
        fs::write(&self.config, text).unwrap();
    }

    fn document(&self) -> toml::Table {
        let state = path(&self.state);
        let clusters = toml::Table::from_iter([(self.cluster.clone(), toml::Value::Table(self.settings.clone()))]);
        toml::Table::from_iter([("state_directory".to_string(), state.into()), ("cluster".to_string(), toml::Value::Table(clusters))])
    }

    /// An environment variable for every later run.
    pub fn env(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_string(), value.to_string()));
    }

    /// Words of a command that runs every later `pitr` somewhere else, such as in a chroot.
    pub fn within(&mut self, prefix: Vec<String>) {
        self.within = prefix;
    }

    /// Starts `pitr ARGS` under `strace`, which writes to `output`.
    pub fn traced(&self, output: &Path, args: &[&str]) -> Running {
        let inner = self.command(args);
        let mut command = program("strace");
        command.args(super::strace::options(output)).arg("--").arg(inner.get_program()).args(inner.get_args());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        self.start(command)
    }

    /// Runs `pitr ARGS` to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        self.spawn(args).wait()
    }

    /// Runs `pitr ARGS -o json`, which must exit with 0, and reads its document.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        self.json_code(0, args)
    }

    /// Runs `pitr ARGS -o json`, which must exit with `code`, and reads its document.
    #[track_caller]
    pub fn json_code(&self, code: i32, args: &[&str]) -> Value {
        self.run(&[args, &["-o", "json"]].concat()).expect_code(code).json()
    }

    /// Starts `pitr ARGS`.
    pub fn spawn(&self, args: &[&str]) -> Running {
        self.start(self.command(args))
    }

    /// Types `pitr ARGS` on a terminal.
    pub fn on_terminal(&self, args: &[&str]) -> Terminal {
        Terminal::start(&self.command(args))
    }

    /// Runs `pitr ARGS` (a build with the feature `crash-points`) and names the places where it could have been killed,
    /// in order: the first one is point 1. It must exit with 0.
    #[track_caller]
    pub fn crash_points(&self, args: &[&str]) -> Vec<String> {
        let file = self.said.join("crash-points");
        let _ = fs::remove_file(&file);
        let mut command = self.command(args);
        command.env("PITR_CRASH_COUNT", &file);
        self.start(command).wait().expect_code(0);
        let text = fs::read_to_string(&file).expect("the count of crash points: was pitr built with --features crash-points?");
        let names = text.lines().enumerate().map(|(index, line)| {
            let (number, name) = line.split_once(' ').expect("a number and a name");
            assert_eq!(number.parse(), Ok(index + 1), "the points of one process, in order:\n{text}");
            name.to_string()
        });
        names.collect()
    }

    /// Runs `pitr ARGS` and lets it die by SIGKILL at effect `point`, counted from 1, or of that name.
    #[track_caller]
    pub fn crash_at(&self, point: impl Display, args: &[&str]) -> Output {
        let mut command = self.command(args);
        command.env("PITR_CRASH_AT", point.to_string());
        self.start(command).wait().expect_code(128 + Signal::SIGKILL as i32)
    }

    /// Runs `pitr ARGS` and lets effect `point`, counted from 1, or of that name, fail.
    #[track_caller]
    pub fn fail_at(&self, point: impl Display, args: &[&str]) -> Output {
        let mut command = self.command(args);
        command.env("PITR_FAIL_AT", point.to_string());
        self.start(command).wait()
    }

    /// Processes that a run left behind: a `pitr`, or anything that stands in or holds a file of the state directory
    /// or of a `.pitr-*` directory beside PGDATA. The server that serves at PGDATA is none.
    pub fn leftovers(&self) -> Vec<Holder> {
        let mut left = process::holders(&self.state);
        // Where nobody knows where its messages went before, the public server's go there.
        left.retain(|holder| !holder.holds.ends_with("/server-public.log"));
        // A wal-get or an owner's child may hold nothing but the files that its output goes to.
        left.extend(process::holders(&self.said));
        let hidden = format!("{}/.pitr-", self.parent.display());
        left.extend(process::holders(&self.parent).into_iter().filter(|holder| holder.holds.contains(&hidden)));
        left
    }

    /// Panics unless every process of earlier runs is gone (they get a few seconds to notice).
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && !self.leftovers().is_empty() {
            std::thread::sleep(Duration::from_millis(50));
        }
        let left = self.leftovers();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }

    /// Later runs find a kernel (or filesystem) that knows no flag of renameat2: `strace` answers with EINVAL.
    pub fn without_renameat2(&mut self) {
        self.no_renameat2 = true;
    }

    fn command(&self, args: &[&str]) -> Command {
        let inject = "inject=renameat2:error=EINVAL";
        let strace = ["strace", "-D", "-f", "-qq", "-e", "trace=renameat2", "-e", inject, "-o", "/dev/null", "--"];
        let tracer = if self.no_renameat2 { &strace[..] } else { &[] };
        let mut words = tracer.iter().copied().chain(self.within.iter().map(String::as_str)).chain([env!("CARGO_BIN_EXE_pitr")]);
        let mut command = program(words.next().unwrap_or_default());
        command.args(words).args(args).arg("--config").arg(&self.config).arg("--no-progress");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Output goes to files: a server that inherits a pipe would let the test wait for ever instead of failing.
    fn start(&self, mut command: Command) -> Running {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let stdout = self.said.join(format!("{number}.out"));
        let stderr = self.said.join(format!("{number}.err"));
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        let child = command.spawn().unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        Running { child, stdout, stderr }
    }
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Whether it has ended by itself.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What it has said on stderr so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        process::send(self.pid(), signal);
    }

    /// `kill -9`, only of the coordinator: its children must notice by themselves.
    pub fn kill_9(self) -> Output {
        self.signal(Signal::SIGKILL);
        self.wait()
    }

    /// Waits for its end; kills it and panics when that takes too long.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let stdout = fs::read_to_string(&self.stdout).unwrap();
                return Output { code: program::code_of(status), stdout, stderr: self.stderr() };
            }
            if Instant::now() > deadline {
                let _ = self.child.kill();
                panic!("pitr does not end\n--- stderr\n{}", self.stderr());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn path(path: &Path) -> String {
    path.to_str().expect("a UTF-8 path").to_string()
}
