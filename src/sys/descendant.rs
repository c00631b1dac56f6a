//! Children that are this program again under a hidden verb.
//!
//! A child gets its request as one JSON document on standard input and answers in JSON lines on standard
//! output. It is executed from `/proc/self/exe`, so that a package upgrade in the middle changes nothing, with
//! an empty environment, and gets exactly the descriptors named here. The run's lock comes with the request, over the
//! socket, and is closed on exec: the child holds it as long as it is this program, and no program of others ever does.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel, sync_channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::identity::{Leash, Owner};
use super::lock::Lock;
use super::namespace::Bind;
use super::passing;
use crate::error::{At, Error, Result};

/// Bytes that a child can say before it is heard; Linux lets every user have as many.
const PIPE: i32 = 1 << 20;
/// Longest line, and most bytes behind one, that a child may send; more is a broken child.
const LIMIT: u64 = 256 << 20;

/// A running child and what it says.
#[derive(Debug)]
pub struct Descendant {
    child: Child,
    /// Our end of its standard input.
    socket: Option<UnixStream>,
    said: Receiver<std::io::Result<Said>>,
    complaints: std::thread::JoinHandle<String>,
}

/// One thing that a child says: a line, and bytes that belong to it. On its standard output those follow the line, and
/// `#` with their number and a blank stands before it.
#[derive(Debug, Default)]
pub struct Said {
    /// The line, without what stands before it.
    pub line: String,
    /// The bytes; mostly none.
    pub bytes: Vec<u8>,
}

impl Said {
    /// Writes a line that bytes belong to.
    pub fn write(out: &mut impl Write, line: &str, bytes: &[u8]) -> std::io::Result<()> {
        if !bytes.is_empty() {
            write!(out, "#{} ", bytes.len())?;
        }
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
        out.write_all(bytes)?;
        out.flush()
    }

    /// The next one; `None` at the end.
    fn read(from: &mut impl BufRead) -> std::io::Result<Option<Said>> {
        let mut said = Said::default();
        if from.by_ref().take(LIMIT).read_line(&mut said.line)? == 0 {
            return Ok(None);
        }
        let Some((number, line)) = said.line.strip_prefix('#').and_then(|line| line.split_once(' ')) else { return Ok(Some(said)) };
        let broken = || std::io::Error::new(std::io::ErrorKind::InvalidData, "a line with an impossible number of bytes");
        let number = number.parse::<u64>().ok().filter(|number| *number <= LIMIT).ok_or_else(broken)?;
        said.line = line.to_owned();
        let read = from.take(number).read_to_end(&mut said.bytes)?;
        if read as u64 == number { Ok(Some(said)) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// What was heard from a child within a time limit.
#[derive(Debug)]
pub enum Heard {
    /// Something on its standard output.
    Said(Said),
    /// Nothing yet.
    Silence,
    /// It closed its output: its status and the end of its standard error.
    Ended(ExitStatus, String),
}

impl Descendant {
    /// Starts `verb` with `request`, a line, on its standard input, which is a socket: the child may ask back.
    /// The open file `passed` comes with it. The child holds `lock` as long as it lives.
    pub fn spawn(verb: &str, request: &str, passed: Option<&OwnedFd>, lock: Option<&Lock>) -> Result<Descendant> {
        let (socket, theirs) = passing::pair().at("prepare child", verb)?;
        let input = Stdio::from(OwnedFd::from(theirs));
        let mut child = itself(verb).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().at("start child", verb)?;
        let files: Vec<BorrowedFd<'_>> = lock.map(Lock::as_fd).into_iter().chain(passed.map(OwnedFd::as_fd)).collect();
        passing::send_with(&socket, request, &files).at("write to", "child")?;
        // A child that says more than is listened to waits.
        let (sender, said) = sync_channel(4);
        if let Some(output) = child.stdout.take() {
            // What may be kept of a segment comes at once. Where the kernel does not allow so much, it comes in pieces.
            let _ = nix::fcntl::fcntl(&output, nix::fcntl::FcntlArg::F_SETPIPE_SZ(PIPE));
            std::thread::spawn(move || {
                let mut reader = BufReader::new(output);
                while let Some(said) = Said::read(&mut reader).transpose() {
                    let last = said.is_err();
                    if sender.send(said).is_err() || last {
                        return;
                    }
                }
            });
        }
        let errors = child.stderr.take();
        let complaints = std::thread::spawn(move || errors.map(tail).unwrap_or_default());
        Ok(Descendant { child, socket: Some(socket), said, complaints })
    }

    /// Our end of the child's standard input, once: for whoever answers its questions. While nobody has it the child
    /// reads the end of its input only when it is dropped.
    pub fn take_socket(&mut self) -> Option<UnixStream> {
        self.socket.take()
    }

    /// Waits at most `limit` for something that it says.
    pub fn listen(mut self, limit: Duration) -> Result<(Heard, Option<Descendant>)> {
        match self.said.recv_timeout(limit) {
            Ok(Ok(said)) => Ok((Heard::Said(said), Some(self))),
            Ok(Err(e)) => Err(Error::failed("read from the owner's child").cause(e)),
            Err(RecvTimeoutError::Timeout) => Ok((Heard::Silence, Some(self))),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().at("wait for", "the owner's child")?;
                let words = self.complaints.join().unwrap_or_default();
                Ok((Heard::Ended(status, words), None))
            }
        }
    }

    /// Kills the child and waits for its end.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program to run as the owner, in place of the child that prepares itself for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Launch {
    /// Whom to become.
    pub owner: Owner,
    /// Tied to the coordinator, or free.
    pub leash: Leash,
    /// The coordinator's process id.
    pub parent: i32,
    /// Leave the host's namespaces first, with these binds.
    pub isolate: Option<Vec<Bind>>,
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment, as bytes in `KEY=VALUE` form.
    pub environment: Vec<Vec<u8>>,
    /// Working directory.
    pub directory: PathBuf,
    /// File for both outputs, opened for appending by the owner; without one they go where root decided.
    pub log: Option<PathBuf>,
}

/// The hidden verb behind [`launch`]: reads the request, becomes the owner, becomes the program. Returns only
/// when that failed.
pub fn launch_entry() -> Error {
    match launch_request() {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn launch_request() -> Result<std::convert::Infallible> {
    let received = passing::receive_with(std::io::stdin()).at("read", "launch request")?;
    // The run's lock is held until the program takes this one's place.
    let (line, _lock) = received.ok_or_else(|| Error::failed("read launch request").cause("there is none"))?;
    let request: Launch = serde_json::from_str(&line).map_err(|e| Error::failed("understand launch request").cause(e))?;
    let nothing = std::fs::File::open("/dev/null").at("open", "/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing).at("close", "standard input")?;
    let binds = request.isolate.as_deref();
    let staged = binds.map(|binds| super::namespace::isolate(binds, request.owner.uid)).transpose()?.unwrap_or_default();
    super::identity::become_owner(&request.owner, request.leash, request.parent)?;
    super::namespace::prove(binds.unwrap_or_default(), &staged)?;
    // A log that the owner cannot open (its directory is gone, or root's) must not keep a database from starting: what
    // root opened for it stays.
    if let Some(log) = &request.log {
        use std::os::unix::fs::OpenOptionsExt;
        let opened = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW).open(log);
        if let Ok(file) = opened {
            rustix::stdio::dup2_stdout(&file).at("redirect to", log)?;
            rustix::stdio::dup2_stderr(&file).at("redirect to", log)?;
        }
    }
    use std::os::unix::ffi::OsStringExt;
    let environment = request.environment.into_iter().filter_map(|mut entry| {
        let value = entry.split_off(entry.iter().position(|b| *b == b'=')? + 1);
        entry.pop();
        Some((std::ffi::OsString::from_vec(entry), std::ffi::OsString::from_vec(value)))
    });
    let error =
        Command::new(&request.program).args(&request.arguments).env_clear().envs(environment).current_dir(&request.directory).exec();
    Err(error).at("execute", &request.program)
}

/// The hidden verb behind [`run_program`]: a session of its own, without the terminal of whoever typed the command,
/// then the program. Returns only when that failed.
pub fn session_entry(words: &[std::ffi::OsString]) -> Error {
    let _ = rustix::process::setsid();
    let Some((program, arguments)) = words.split_first() else { return Error::failed("no program") };
    let error = Command::new(program).args(arguments).exec();
    Error::failed(format!("run {}", Path::new(program).display())).cause(error)
}

/// Starts `launch` through a child of ours; both outputs go to `output`, which everything that descends from it has
/// open. The child holds `lock` until the program begins.
pub fn launch(launch: &Launch, output: &std::fs::File, lock: Option<&Lock>) -> Result<Child> {
    let copy = |act| output.try_clone().at(act, "the server's log");
    launch_apart(launch, copy("duplicate")?.into(), copy("duplicate")?.into(), lock)
}

/// The same with what it writes and what it complains of apart; a child that holds the lock itself passes none on.
pub fn launch_apart(launch: &Launch, output: Stdio, errors: Stdio, lock: Option<&Lock>) -> Result<Child> {
    let request = serde_json::to_string(launch).map_err(|e| Error::failed("describe launch").cause(e))?;
    let (socket, theirs) = passing::pair().at("prepare child", &launch.program)?;
    let input = Stdio::from(OwnedFd::from(theirs));
    let child = itself("__launch").stdin(input).stdout(output).stderr(errors).spawn().at("start", &launch.program)?;
    let files: Vec<BorrowedFd<'_>> = lock.map(Lock::as_fd).into_iter().collect();
    passing::send_with(&socket, &request, &files).at("write to", "child")?;
    Ok(child)
}

/// Runs a program of the host as root or as it is installed to run, to its end, with nothing inherited.
/// Returns its status and the last part of what it said.
pub fn run_program(program: &Path, arguments: &[&str], limit: Duration, input: &[u8]) -> Result<(ExitStatus, String)> {
    let mut child = itself("__session")
        .arg(program)
        .args(arguments)
        .env_clear()
        .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C"), ("HOME", "/")])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .at("run", program)?;
    // A program that does not read its input must not stop us; its broken pipe is its own choice.
    let _ = hand_over(&mut child, input);
    let out = child.stdout.take();
    let errors = child.stderr.take();
    let (sender, said) = channel();
    for pipe in
        [out.map(|p| Box::new(p) as Box<dyn Read + Send>), errors.map(|p| Box::new(p) as Box<dyn Read + Send>)].into_iter().flatten()
    {
        let sender = sender.clone();
        std::thread::spawn(move || sender.send(tail(pipe)));
    }
    drop(sender);
    let end = std::time::Instant::now() + limit;
    let status = loop {
        match child.try_wait().at("wait for", program)? {
            Some(status) => break status,
            None if std::time::Instant::now() > end => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::failed(format!("run {}", program.display())).cause(format!("no end after {} s", limit.as_secs())));
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    // A daemon left behind may keep the pipe open: what it said so far is enough.
    let mut words = String::new();
    while let Ok(part) = said.recv_timeout(Duration::from_millis(200)) {
        words.push_str(&part);
    }
    Ok((status, words.trim().to_string()))
}

/// In words, how a child ended.
pub fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "unknown end".into(),
    }
}

/// A path under which a child reaches the inherited descriptor, even where it could not walk to it.
pub fn inherited_path(descriptor: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

/// Duplicates a descriptor without close-on-exec, for one spawn.
pub fn inheritable(descriptor: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::io::dup(descriptor).map_err(|e| Error::failed("duplicate descriptor").cause(e))
}

fn itself(verb: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("pitr").arg(verb).env_clear().current_dir("/");
    #[cfg(feature = "crash-points")]
    command.envs(std::env::vars_os().filter(|(k, _)| k.to_string_lossy().starts_with("PITR_CHILD_")));
    command
}

fn hand_over(child: &mut Child, request: &[u8]) -> Result<()> {
    let Some(mut input) = child.stdin.take() else { return Ok(()) };
    input.write_all(request).at("write to", "child")
}

/// The last 4 KiB of what a pipe says; the rest is read and dropped so that the writer never blocks.
pub fn tail(mut pipe: impl Read) -> String {
    const KEPT: usize = 4096;
    let mut kept: Vec<u8> = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read) = pipe.read(&mut buffer) {
        if read == 0 {
            break;
        }
        kept.extend(buffer.get(..read).unwrap_or_default());
        let excess = kept.len().saturating_sub(KEPT);
        kept.drain(..excess);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_with_its_bytes() {
        let mut written = Vec::new();
        for (line, bytes) in [("one", &b""[..]), ("two", b"\n#9 \0\n"), ("three", b"")] {
            Said::write(&mut written, line, bytes).unwrap();
        }
        let read = |mut from: &[u8]| {
            let mut all = Vec::new();
            while let Some(said) = Said::read(&mut from)? {
                all.push((said.line.trim_end().to_owned(), said.bytes));
            }
            Ok::<_, std::io::Error>(all)
        };
        let all = read(&written).unwrap();
        assert_eq!(all.iter().map(|(line, _)| line.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
        assert_eq!(all[1].1, b"\n#9 \0\n");
        let cut = written.len() - "three\n".len() - 2;
        assert!(read(&written[..cut]).is_err(), "bytes are missing");
        assert!(read(b"#99999999999 two\n").is_err());
    }
}
