//! SQL through `psql` as the operating system user `postgres`: one statement list at a time, or one held session.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::program::{self, Output, as_postgres};

/// Where a server listens.
#[derive(Debug, Clone)]
pub struct Socket {
    /// Directory of the Unix socket.
    pub dir: PathBuf,
    /// Port, part of the socket's name.
    pub port: u16,
}

impl Socket {
    /// `psql` without start-up file, unaligned, tuples only, that stops at the first error.
    pub fn psql(&self, bin: &Path, database: &str, user: &str) -> Command {
        let mut command = as_postgres(bin.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        command.arg("-h").arg(&self.dir).arg("-p").arg(self.port.to_string()).args(["-U", user, "-d", database]);
        command
    }
}

/// Runs `sql` (several statements are allowed) and returns stdout without the last line end.
#[track_caller]
pub fn sql(mut psql: Command, sql: &str) -> String {
    program::ok(psql.args(["-c", sql])).trim_end_matches('\n').to_string()
}

/// Runs `sql` from stdin, each statement its own transaction; for scripts of thousands of statements.
#[track_caller]
pub fn script(mut psql: Command, text: &str) -> String {
    let mut child = psql.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = text.to_string();
    // Both pipes are served: psql answers while it reads.
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let ended = child.wait_with_output().unwrap();
    let _ = writer.join();
    assert!(ended.status.success(), "psql script: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap().trim_end_matches('\n').to_string()
}

/// Like [`sql`] but hands back whatever happened.
pub fn try_sql(mut psql: Command, sql: &str) -> Output {
    program::output(psql.args(["-c", sql]))
}

/// Rows of `sql`, columns split (the separator is a unit separator, which no test datum holds).
#[track_caller]
pub fn rows(mut psql: Command, sql: &str) -> Vec<Vec<String>> {
    let text = program::ok(psql.args(["-F", "\u{1f}", "-c", sql]));
    text.lines().map(|line| line.split('\u{1f}').map(str::to_string).collect()).collect()
}

/// One session that stays open, as a backup started with `pg_backup_start` needs it.
#[derive(Debug)]
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Session {
    /// Opens the session.
    pub fn open(mut psql: Command) -> Session {
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Session { child, stdin, stdout }
    }

    /// Runs `sql` and returns everything it printed, line ends included.
    #[track_caller]
    pub fn sql(&mut self, sql: &str) -> String {
        const END: &str = "--end-of-answer--";
        writeln!(self.stdin, "{sql};\n\\echo {END}").unwrap();
        self.stdin.flush().unwrap();
        let mut answer = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "the session ended during: {sql}");
            if line.trim_end() == END {
                return answer;
            }
            answer.push_str(&line);
        }
    }

    /// Ends the session.
    pub fn close(self) {
        let Session { mut child, stdin, stdout: _stdout } = self;
        drop(stdin);
        assert!(child.wait().unwrap().success());
    }
}
