//! The host's own log: journald by its native protocol (systemd.journal-fields(7), "Native Journal Protocol"), syslog
//! (RFC 3164) where there is no journald, nothing where there is neither.
//!
//! Guarantees: it never fails and never takes longer than [`PATIENCE`]; a text cannot become a field or a line of its own.

use std::fmt::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A log that does not take a record by then does not get it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest value; a datagram has to fit into a socket's buffer.
const LONGEST: usize = 8 << 10;
/// LOG_DAEMON (syslog(3)).
const FACILITY: u8 = 3;

/// How much a record matters, as syslog counts (syslog(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Something failed.
    Error = 3,
    /// Something a person should know.
    Warning = 4,
    /// Something began or ended.
    Notice = 5,
    /// A step on the way.
    Info = 6,
}

/// What is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// For people.
    pub message: String,
    /// Which kind of record, for programs: 128 bits in lower-case hexadecimal.
    pub id: &'static str,
    /// How much it matters.
    pub priority: Priority,
    /// Further fields of journald: upper-case names.
    pub fields: Vec<(&'static str, String)>,
}

/// Where the log listens.
#[derive(Debug, Clone)]
pub struct Log {
    journald: PathBuf,
    syslog: PathBuf,
}

impl Log {
    /// The log of this host.
    pub fn of_this_host() -> Log {
        Log { journald: "/run/systemd/journal/socket".into(), syslog: "/dev/log".into() }
    }

    /// Writes a record to whichever log is there. That none is there is no matter.
    pub fn write(&self, record: &Record) {
        let sent = send(&self.journald, &for_journald(record));
        if !sent {
            send(&self.syslog, for_syslog(record, std::process::id()).as_bytes());
        }
    }
}

fn send(socket: &Path, bytes: &[u8]) -> bool {
    let sent = UnixDatagram::unbound().and_then(|own| {
        own.set_write_timeout(Some(PATIENCE))?;
        own.send_to(bytes, socket)
    });
    match sent {
        Ok(_) => true,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
        Err(e) => {
            log::debug!("{}: {e}", socket.display());
            false
        }
    }
}

/// `NAME=value` lines; a value with a line break by its length instead.
fn for_journald(record: &Record) -> Vec<u8> {
    let own = [
        ("MESSAGE", record.message.clone()),
        ("MESSAGE_ID", record.id.to_string()),
        ("PRIORITY", (record.priority as u8).to_string()),
        ("SYSLOG_FACILITY", FACILITY.to_string()),
        ("SYSLOG_IDENTIFIER", "pitr".to_string()),
    ];
    let mut bytes = Vec::new();
    for (name, value) in own.iter().chain(&record.fields) {
        let value = cut(value).as_bytes();
        bytes.extend(name.as_bytes());
        if value.contains(&b'\n') {
            bytes.push(b'\n');
            bytes.extend((value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend(value);
        bytes.push(b'\n');
    }
    bytes
}

/// One line, in which everything else than text is escaped.
fn for_syslog(record: &Record, pid: u32) -> String {
    let mut line = format!("<{}>pitr[{pid}]: ", FACILITY * 8 + record.priority as u8);
    for c in cut(&record.message).chars() {
        if c.is_control() {
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str) -> Record {
        let fields = vec![("PITR_RUN", "r1".to_string())];
        Record { message: message.into(), id: "0123456789abcdef0123456789abcdef", priority: Priority::Notice, fields }
    }

    /// Every field of a datagram.
    fn fields(mut bytes: &[u8]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let end = bytes.iter().position(|b| *b == b'\n').unwrap();
            let line = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let rest = &bytes[end + 1..];
            if let Some((name, value)) = line.split_once('=') {
                found.push((name.to_string(), value.to_string()));
                bytes = rest;
            } else {
                let length = usize::try_from(u64::from_le_bytes(rest[..8].try_into().unwrap())).unwrap();
                found.push((line, String::from_utf8(rest[8..8 + length].to_vec()).unwrap()));
                assert_eq!(rest[8 + length], b'\n');
                bytes = &rest[8 + length + 1..];
            }
        }
        found
    }

    #[test]
    fn a_text_is_no_field() {
        let found = fields(&for_journald(&record("stop\nPRIORITY=0\nforged")));
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_FACILITY", "SYSLOG_IDENTIFIER", "PITR_RUN"]);
        assert_eq!((found[0].1.as_str(), found[2].1.as_str()), ("stop\nPRIORITY=0\nforged", "5"));
        assert_eq!(for_syslog(&record("a\nb\x1b é"), 7), "<29>pitr[7]: a\\nb\\u{1b} é");
    }

    #[test]
    fn a_long_text_is_cut() {
        let long = "é".repeat(LONGEST);
        let found = fields(&for_journald(&record(&long)));
        assert_eq!(found[0].1.len(), LONGEST);
        assert_eq!(cut("short"), "short");
    }

    #[test]
    fn journald_before_syslog_and_neither_is_fine() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log { journald: directory.path().join("journald"), syslog: directory.path().join("syslog") };
        log.write(&record("nobody listens"));
        let syslog = UnixDatagram::bind(&log.syslog).unwrap();
        log.write(&record("to syslog"));
        let journald = UnixDatagram::bind(&log.journald).unwrap();
        log.write(&record("to journald"));
        let mut buffer = [0; 1024];
        let read = syslog.recv(&mut buffer).unwrap();
        assert!(buffer[..read].ends_with(b"]: to syslog"));
        let read = journald.recv(&mut buffer).unwrap();
        assert_eq!(fields(&buffer[..read])[0], ("MESSAGE".to_string(), "to journald".to_string()));
        syslog.set_nonblocking(true).unwrap();
        assert!(syslog.recv(&mut buffer).is_err(), "once is enough");
    }

    /// A log that takes nothing any more does not hold a recovery up.
    #[test]
    fn a_log_that_is_full_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log { journald: directory.path().join("journald"), syslog: directory.path().join("none") };
        let _full = UnixDatagram::bind(&log.journald).unwrap();
        let filling = UnixDatagram::unbound().unwrap();
        filling.set_nonblocking(true).unwrap();
        while filling.send_to(&[0; 8192], &log.journald).is_ok() {}
        log.write(&record("too much"));
    }
}
