//! `restore_command`: asks the broker, copies one file, checks every page on the way.
//!
//! Exit codes are PostgreSQL's protocol (manual, "Archive Recovery Settings"): 0 delivered, 1 absent by right,
//! 200 anything that must stop recovery. A damaged copy is passed over for the next one and named.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::error::{At, Error, Result};
use crate::pg::page::{PageVerdict, SegmentExpectation, check_segment_page};
use crate::run::broker::{Answer, Request};
use crate::store::codec;
use crate::store::layout::is_partial;
use crate::sys::passing::receive_line;

const PAGE: usize = 8192;
/// Delivered.
const DELIVERED: u8 = 0;
/// Absent, and rightly so.
const ABSENT: u8 = 1;
/// Above 125: PostgreSQL stops recovery.
const STOP: u8 = 200;

/// Runs one request and returns its exit code; complaints go to standard error, the private server's log.
pub fn main(socket: &Path, file: &str, destination: &Path) -> u8 {
    match get(socket, file, destination) {
        Ok(true) => DELIVERED,
        Ok(false) => ABSENT,
        Err(error) => {
            log::error!("wal-get {file}: {error}");
            let _ = writeln!(std::io::stderr(), "pitr wal-get {file}: {error}");
            STOP
        }
    }
}

fn get(socket: &Path, file: &str, destination: &Path) -> Result<bool> {
    let stream = UnixStream::connect(socket).at("reach the run at", socket)?;
    let (answer, _) = ask(&stream, &Request::Want { file: file.to_string() })?;
    match answer {
        Answer::Absent | Answer::Passed => Ok(false),
        Answer::Refused { why } => Err(Error::failed(why)),
        Answer::History { text } => {
            deliver(destination, |to| to.write_all(text.as_bytes()).at("write", destination))?;
            Ok(true)
        }
        Answer::Segment { paths, expect, last } => {
            let (path, rejected) = first_good(&Copies { stream: &stream, file }, &paths, &expect, last, destination)?;
            say(&stream, &Request::Delivered { file: file.to_string(), path, rejected })?;
            Ok(true)
        }
    }
}

/// One question, one answer, and the file that came with it.
fn ask(stream: &UnixStream, question: &Request) -> Result<(Answer, Option<OwnedFd>)> {
    say(stream, question)?;
    let received = receive_line(stream).map_err(|e| Error::failed("hear the run").cause(e))?;
    let (line, file) = received.ok_or_else(|| Error::failed("hear the run").cause("it is gone"))?;
    Ok((serde_json::from_str(&line).map_err(|e| Error::failed("understand the run's answer").cause(e))?, file))
}

/// Copies of the file that PostgreSQL asks for.
struct Copies<'a> {
    stream: &'a UnixStream,
    file: &'a str,
}

impl Copies<'_> {
    /// Opens a copy as the owner; where the owner may not, root is asked.
    fn open(&self, path: &Path) -> Result<File> {
        let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
        let opened = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => self.ask(path)?,
            other => other.at("open", path)?,
        };
        if opened.metadata().at("look at", path)?.is_file() {
            return Ok(opened);
        }
        Err(Error::failed(format!("{} is not a regular file", path.display())))
    }

    fn ask(&self, path: &Path) -> Result<File> {
        match ask(self.stream, &Request::Open { file: self.file.to_string(), path: path.to_path_buf() })? {
            (Answer::Passed, Some(file)) => Ok(File::from(file)),
            (Answer::Refused { why }, _) => Err(Error::failed(why)),
            _ => Err(Error::failed(format!("open {}", path.display())).cause("the run did not pass it")),
        }
    }
}

fn first_good(
    copies: &Copies<'_>,
    paths: &[PathBuf],
    expect: &SegmentExpectation,
    last: bool,
    destination: &Path,
) -> Result<(PathBuf, Vec<String>)> {
    let mut rejected = Vec::new();
    for path in paths {
        match deliver(destination, |to| copy_checked(copies.open(path)?, path, expect, last, to)) {
            Ok(()) => return Ok((path.clone(), rejected)),
            Err(error) => rejected.push(error.to_string()),
        }
    }
    Err(Error::failed("no usable copy").cause(rejected.join("; ")))
}

/// Writes beside the destination and renames: PostgreSQL never sees half a file.
fn deliver(destination: &Path, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let mut name = destination.as_os_str().to_os_string();
    name.push(".pitr");
    let fresh = PathBuf::from(name);
    let _ = std::fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).at("create", &fresh)?;
    let filled = fill(&mut file);
    if let Err(error) = filled {
        let _ = std::fs::remove_file(&fresh);
        return Err(error);
    }
    std::fs::rename(&fresh, destination).at("rename", destination)
}

/// Copies a segment while checking each page. All but the last segment must be valid throughout, where zero
/// pages may follow a switch to the end; the last one must begin validly, what follows its end is old content. What a
/// partial one lacks, or what of it cannot be decompressed, is delivered as zeros: PostgreSQL takes whole segments only.
fn copy_checked(source: File, path: &Path, expect: &SegmentExpectation, last: bool, to: &mut File) -> Result<()> {
    let (_, mut reader) = codec::decoder(source).at("read", path)?;
    let size = expect.segment_size.bytes();
    let partial = path.file_name().and_then(|name| name.to_str()).is_some_and(is_partial);
    let (mut offset, mut checking, mut zeros) = (0u64, true, false);
    let mut page = Vec::with_capacity(PAGE);
    while offset < size {
        page.clear();
        match reader.by_ref().take(PAGE as u64).read_to_end(&mut page) {
            Err(e) if partial && is_cut(&e) => {}
            read => drop(read.at("read", path)?),
        }
        if page.len() < PAGE && partial && offset > 0 {
            page.resize(PAGE, 0);
        }
        if page.len() < PAGE {
            return Err(Error::failed(format!("{} ends at {} of {size} bytes", path.display(), offset + page.len() as u64)));
        }
        if checking {
            let damaged = |cause: String| Error::failed(format!("{} is damaged at offset {offset}", path.display())).cause(cause);
            match check_segment_page(expect, offset, &page) {
                PageVerdict::Valid if !zeros => {}
                PageVerdict::Zero if offset > 0 => zeros = true,
                _ if (last || partial) && offset > 0 => checking = false,
                PageVerdict::Valid => return Err(damaged("a page follows empty ones".into())),
                PageVerdict::Zero => return Err(damaged("its first page is empty".into())),
                PageVerdict::Invalid(cause) => return Err(damaged(cause.to_string())),
            }
        }
        to.write_all(&page).at("write copy of", path)?;
        offset += PAGE as u64;
    }
    page.clear();
    if !partial && reader.take(1).read_to_end(&mut page).at("read", path)? > 0 {
        return Err(Error::failed(format!("{} is longer than {size} bytes", path.display())));
    }
    Ok(())
}

/// A compressed stream that was still being written.
fn is_cut(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    error.raw_os_error().is_none() && matches!(error.kind(), UnexpectedEof | InvalidData | InvalidInput | Other)
}

fn say(mut stream: &UnixStream, request: &Request) -> Result<()> {
    let mut text = serde_json::to_string(request).map_err(|e| Error::failed("describe request").cause(e))?;
    text.push('\n');
    stream.write_all(text.as_bytes()).map_err(|e| Error::failed("speak to the run").cause(e))
}
