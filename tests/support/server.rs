//! Starts, stops, crashes and removes a [`TestCluster`] with PostgreSQL's (or Debian's) own programs.

use std::collections::BTreeMap;
use std::fs;

use nix::sys::signal::Signal;

use super::cluster::{Layout, TestCluster};
use super::program::{self, Output, program};
use super::{process, wait_until};

/// How a server is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ends sessions, writes the shutdown checkpoint.
    Fast,
    /// Leaves at once; the next start is crash recovery.
    Immediate,
}

impl TestCluster {
    /// Starts the server and waits until it accepts connections.
    #[track_caller]
    pub fn start(&self) {
        let started = self.try_start();
        assert_eq!(started.code, 0, "start: {}{}\n--- log\n{}", started.stdout, started.stderr, self.log_tail());
    }

    /// Starts the server with more options of its own; plain layout only.
    #[track_caller]
    pub fn start_with(&self, options: &[&str]) {
        let mut command = self.pg_ctl();
        for option in options {
            command.args(["-o", option]);
        }
        let started = program::output(command.arg("-l").arg(&self.log).args(["-w", "-t", "120", "start"]));
        assert_eq!(started.code, 0, "start: {}{}\n--- log\n{}", started.stdout, started.stderr, self.log_tail());
    }

    /// Starts the server by hand, as an administrator would, and says how that went.
    pub fn try_start(&self) -> Output {
        program::output(&mut match self.layout {
            Layout::Plain => {
                let mut command = self.pg_ctl();
                command.arg("-l").arg(&self.log).args(["-w", "-t", "120", "start"]);
                command
            }
            Layout::Debian => self.pg_ctlcluster(&["start"]),
        })
    }

    /// Stops the server and waits for its end.
    #[track_caller]
    pub fn stop(&self) {
        self.stop_how(Stop::Fast);
    }

    /// Stops the server in the given way and waits for its end.
    #[track_caller]
    pub fn stop_how(&self, how: Stop) {
        let mode = if how == Stop::Fast { "fast" } else { "immediate" };
        program::ok(&mut match self.layout {
            Layout::Plain => {
                let mut command = self.pg_ctl();
                command.args(["-w", "-t", "120", "-m", mode, "stop"]);
                command
            }
            Layout::Debian => self.pg_ctlcluster(&["stop", "-m", mode]),
        });
    }

    /// `kill -9` of the postmaster; returns when its children are gone too.
    #[track_caller]
    pub fn crash(&self) {
        let postmaster = self.postmaster_pid().expect("the server runs");
        process::send(postmaster, Signal::SIGKILL);
        // As long as nobody has reaped it, its process id exists, and the next start finds its lock file valid.
        wait_until(60, "the crashed server to be gone", || self.processes().is_empty() && !process::exists(postmaster));
    }

    /// Whether a postmaster lives on this data directory.
    pub fn running(&self) -> bool {
        self.postmaster_pid().is_some()
    }

    /// The postmaster's process id, if it lives and stands in PGDATA.
    pub fn postmaster_pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        let pid: i32 = text.lines().next()?.trim().parse().ok()?;
        self.processes().contains(&pid).then_some(pid)
    }

    /// Every server process whose working directory is PGDATA.
    pub fn processes(&self) -> Vec<i32> {
        let here = format!("cwd {}", self.data.display());
        process::holders(&self.data).into_iter().filter(|holder| holder.holds == here).map(|holder| holder.pid).collect()
    }

    /// What `pg_controldata` says, by the words before the colon.
    #[track_caller]
    pub fn pg_controldata(&self) -> BTreeMap<String, String> {
        let mut command = self.tool("pg_controldata");
        let text = program::ok(command.env("LC_ALL", "C").arg("-D").arg(&self.data));
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.trim().to_string(), value.trim().to_string()))
            .collect()
    }

    /// The system identifier in pg_control.
    pub fn system_identifier(&self) -> String {
        self.pg_controldata()["Database system identifier"].clone()
    }

    /// The last 40 lines of the server's log.
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn pg_ctl(&self) -> std::process::Command {
        let mut command = self.tool("pg_ctl");
        command.arg("-D").arg(&self.data);
        command
    }

    fn pg_ctlcluster(&self, action: &[&str]) -> std::process::Command {
        let mut command = program("pg_ctlcluster");
        command.args(["--skip-systemctl-redirect", "15", self.debian_name(), action[0]]);
        command.args(&action[1..]);
        command
    }

    fn remove_debian(&self) {
        let removed = program::output(program("pg_dropcluster").args(["--stop", "15", self.debian_name()]));
        if removed.code != 0 {
            eprintln!("pg_dropcluster: {}", removed.stderr);
        }
        // It leaves files that it does not know, and everything where the data directory is not what it expects.
        assert!(self.debian_name().starts_with("pitrt"));
        let _ = fs::remove_dir_all(format!("/etc/postgresql/15/{}", self.debian_name()));
        let _ = fs::remove_file(format!("/var/run/postgresql/15-{}.pid", self.debian_name()));
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} server log, last lines\n{}", self.name, self.log_tail());
        }
        if let Some(postmaster) = self.postmaster_pid() {
            process::send(postmaster, Signal::SIGQUIT);
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while self.running() && std::time::Instant::now() < deadline {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
        let keep = std::env::var_os("PITR_KEEP").is_some_and(|v| v == "1");
        if self.layout == Layout::Debian && !keep {
            self.remove_debian();
        }
    }
}
