//! Runs a program to its end and keeps what it said.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

/// The search path of every program that a test starts.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How a program ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code; 128 + signal where a signal ended it, as a shell says it.
    pub code: i32,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Output {
    /// Panics with everything that was said unless the exit code is `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Output {
        assert_eq!(self.code, code, "exit code\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Stdout as one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("stdout is not one JSON document: {e}\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr))
    }
}

/// The exit code of `status`, 128 + signal for a killed process.
pub fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// `program` with a clean environment, as root.
pub fn program(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8").current_dir("/").stdin(Stdio::null());
    command
}

/// `name` as the operating system user `postgres`, with that user's groups.
pub fn as_postgres(name: impl AsRef<OsStr>) -> Command {
    let mut command = program("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(name);
    command
}

/// Runs to the end, whatever the exit code.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    let ended = command.output().unwrap_or_else(|e| panic!("start {command:?}: {e}"));
    Output {
        code: code_of(ended.status),
        stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
    }
}

/// Runs to the end and returns stdout; panics unless the exit code is 0.
#[track_caller]
pub fn ok(command: &mut Command) -> String {
    let said = output(command);
    assert_eq!(said.code, 0, "{command:?}\n--- stdout\n{}\n--- stderr\n{}", said.stdout, said.stderr);
    said.stdout
}
