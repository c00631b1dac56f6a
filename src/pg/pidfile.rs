//! `postmaster.pid` (miscadmin.h, `LOCK_FILE_LINE_*`): who says to be serving a data directory.
//!
//! Everything in it is a claim of whoever can write the directory; the pid may belong to anything by now.

use serde::{Deserialize, Serialize};

use super::Malformed;

/// The lines of `postmaster.pid`; those after the third appear while the server starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostmasterPid {
    /// The postmaster's pid; negative: a standalone backend with that pid.
    pub pid: i32,
    /// The data directory, as bytes of a path.
    pub data_directory: Vec<u8>,
    /// When the postmaster started, Unix seconds.
    pub start_time: i64,
    /// TCP port, also in the socket's name.
    pub port: Option<u16>,
    /// First Unix socket directory, if any.
    pub socket_directory: Option<String>,
    /// First listen address (`*` for all), if any.
    pub listen: Option<String>,
    /// System V shared memory, `key id`.
    pub shmem: Option<String>,
    /// `starting`, `ready`, `standby` or `stopping`.
    pub status: Option<String>,
}

impl PostmasterPid {
    /// Parses the file; the first three lines must be whole.
    pub fn parse(bytes: &[u8]) -> Result<PostmasterPid, Malformed> {
        let mut lines = bytes.split_inclusive(|b| *b == b'\n');
        let mut whole = || lines.next().and_then(|line| line.strip_suffix(b"\n"));
        let pid = whole().and_then(number).filter(|pid| *pid != 0 && *pid != i32::MIN).ok_or_else(|| bad(1, "a pid"))?;
        let data_directory = whole().filter(|line| line.starts_with(b"/")).ok_or_else(|| bad(2, "an absolute path"))?.to_vec();
        let start_time = whole().and_then(number).ok_or_else(|| bad(3, "a start time"))?;
        let port = whole().map(|line| number(line).ok_or_else(|| bad(4, "a port"))).transpose()?;
        let socket_directory = whole().and_then(text);
        let listen = whole().and_then(text);
        let shmem = whole().and_then(text).map(|text| key_and_id(&text)).transpose()?;
        let status = whole().and_then(text);
        Ok(PostmasterPid { pid, data_directory, start_time, port, socket_directory, listen, shmem, status })
    }

    /// Whether a standalone backend (`postgres --single`) wrote the file.
    pub fn is_standalone(&self) -> bool {
        self.pid < 0
    }
}

/// No content in the words: the file may be a link to one that the reader must not see.
fn bad(line: u32, expected: &str) -> Malformed {
    Malformed::new(format!("line {line} is not {expected}"))
}

fn number<T: std::str::FromStr>(line: &[u8]) -> Option<T> {
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

/// An empty line says "none".
fn text(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Written as `%9lu %9lu` (port/sysv_shmem.c).
fn key_and_id(text: &str) -> Result<String, Malformed> {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let numbers = fields.len() == 2 && fields.iter().all(|f| f.parse::<u64>().is_ok());
    if numbers { Ok(fields.join(" ")) } else { Err(bad(7, "a shared memory key and id")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = include_bytes!("../../tests/fixtures/pg/postmaster.pid");

    #[test]
    fn reads_what_the_server_wrote() {
        let file = PostmasterPid::parse(FILE).unwrap();
        assert_eq!(file.pid, 7199);
        assert_eq!(file.data_directory, b"/var/tmp/pitr-enUl/p");
        assert_eq!(file.start_time, 1795302253);
        assert_eq!(file.port, Some(6543));
        assert_eq!(file.socket_directory.as_deref(), Some("/var/tmp/pitr-enUl"));
        assert_eq!(file.listen, None);
        assert_eq!(file.shmem.as_deref(), Some("819201 6"));
        assert_eq!(file.status.as_deref(), Some("ready"));
        assert!(!file.is_standalone());
    }

    #[test]
    fn a_starting_server_has_written_less() {
        let file = PostmasterPid::parse(b"12\n/d\n5\n5432\n/run\n").unwrap();
        assert_eq!((file.port, file.listen, file.shmem, file.status), (Some(5432), None, None, None));
        let file = PostmasterPid::parse(b"-12\n/d\xFF\n5\n").unwrap();
        assert!(file.is_standalone());
        assert_eq!((file.data_directory.as_slice(), file.port), (b"/d\xFF".as_slice(), None));
    }

    #[test]
    fn refuses_half_files_without_echo() {
        for (text, line) in [
            ("", 1),
            ("12", 1),
            ("0\n/d\n5\n", 1),
            ("99999999999\n/d\n5\n", 1),
            ("12\n", 2),
            ("12\nd\n5\n", 2),
            ("12\n/d\nroot:x\n", 3),
            ("12\n/d\n5\n70000\n", 4),
            ("12\n/d\n5\n5432\n\n\nroot:x\n", 7),
        ] {
            let error = PostmasterPid::parse(text.as_bytes()).unwrap_err();
            assert!(error.0.starts_with(&format!("line {line} ")), "{text:?}: {error}");
            assert!(!error.0.contains("root"), "{error}");
        }
    }

    #[test]
    fn any_damage_is_survived() {
        for at in 0..FILE.len() {
            let mut bytes = FILE.to_vec();
            bytes[at] ^= 0x80;
            let _ = PostmasterPid::parse(&bytes);
            if let Ok(cut) = PostmasterPid::parse(&FILE[..at]) {
                assert_eq!(cut.pid, 7199);
            }
        }
    }
}
