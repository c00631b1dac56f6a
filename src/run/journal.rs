//! The journal of a run: append-only lines, numbered, checksummed, durable before they count.
//!
//! Format (version 1, docs/journal.md): `<number> <crc32c, 8 hex digits> <JSON>\n`, numbers from 1 without a gap,
//! the checksum over `<number> <JSON>`. A last line that is torn (no newline, or a checksum that does not match, with nothing
//! after it) is what a power cut leaves: it is cut off and was never believed. Damage anywhere else is an error.
//!
//! Space is preallocated, so that a full disk cannot stop an undo from being written. Nor can what a run said before: texts
//! that others wrote are cut where they enter (`Event::bounded`), a line is refused that its reader would not take, and
//! long lines are while there is still room for the short ones that an undo and a purge consist of.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use crate::error::{At, Error, Result};
use crate::plan::ledger::Entry;

/// Bytes reserved for a journal when its run begins.
const RESERVED: u64 = 1 << 20;
/// A journal larger than this is not ours.
const LIMIT: u64 = 256 << 20;
/// Longest line.
const LONGEST: u64 = 64 << 20;
/// A line that is longer is written only into the first half of a journal.
const SHORT: u64 = 256 << 10;

/// An open journal, positioned at its end.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    next: u64,
    broken: bool,
}

impl Journal {
    /// Makes a new journal and reserves its space; the directory is synced so that the name survives.
    pub fn create(path: &Path) -> Result<Journal> {
        let file = OpenOptions::new()
            .write(true)
            .read(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)
            .at("create journal", path)?;
        // Not every filesystem can; there the journal competes for space like any file.
        if let Err(e) = rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, RESERVED) {
            log::debug!("cannot reserve space for {}: {e}", path.display());
        }
        file.sync_all().at("sync", path)?;
        sync_parent(path)?;
        Ok(Journal { file, path: path.to_path_buf(), next: 1, broken: false })
    }

    /// Opens an existing journal, cuts off a torn last line, and returns what it tells.
    pub fn open(path: &Path) -> Result<(Journal, Vec<Entry>)> {
        let mut file = OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NOFOLLOW).open(path).at("open journal", path)?;
        let (entries, valid) = read_from(&mut file, path)?;
        let length = file.metadata().at("look at", path)?.len();
        if valid < length {
            file.set_len(valid).at("cut torn line of", path)?;
            file.sync_all().at("sync", path)?;
        }
        file.seek(SeekFrom::Start(valid)).at("seek in", path)?;
        let next = entries.len() as u64 + 1;
        Ok((Journal { file, path: path.to_path_buf(), next, broken: false }, entries))
    }

    /// Reads a journal without changing it.
    pub fn read(path: &Path) -> Result<Vec<Entry>> {
        let mut file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path).at("open journal", path)?;
        Ok(read_from(&mut file, path)?.0)
    }

    /// The first entry of a journal that may be damaged after it, if that line is whole.
    pub fn first(path: &Path) -> Option<Entry> {
        let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path).ok()?;
        let mut line = Vec::new();
        BufReader::new(file.take(LONGEST)).read_until(b'\n', &mut line).ok()?;
        parse_line(1, line.strip_suffix(b"\n")?).ok()
    }

    /// Appends one entry; it is on disk when this returns.
    pub fn append(&mut self, entry: &Entry) -> Result<()> {
        let json = serde_json::to_string(entry).map_err(|e| Error::failed("describe journal entry").cause(e))?;
        let line = render_line(self.next, &json);
        if self.broken {
            return Err(Error::failed(format!("write to journal {}", self.path.display())).cause("an earlier write to it failed"));
        }
        let before = self.file.metadata().at("look at", &self.path)?.len();
        if !fits(before, line.len() as u64) {
            return Err(Error::failed(format!("write {} bytes to journal {}", line.len(), self.path.display()))
                .cause(format!("it has {before} bytes and would grow too large to be read"))
                .hint("Nothing was written, and nothing that the line was for was done."));
        }
        if let Err(error) = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data()) {
            // Half a line must not stand between good ones; after a failed sync nothing of this file can be relied on.
            self.broken = true;
            let _ = self.file.set_len(before).and_then(|()| self.file.sync_all());
            return Err(error).at("write to journal", &self.path);
        }
        self.next += 1;
        Ok(())
    }
}

/// Whether a line may be added.
fn fits(before: u64, line: u64) -> bool {
    let limit = if line > SHORT { LIMIT / 2 } else { LIMIT };
    line <= LONGEST && before.saturating_add(line) <= limit
}

fn render_line(number: u64, json: &str) -> String {
    format!("{number} {:08x} {json}\n", checksum(number, json))
}

fn checksum(number: u64, json: &str) -> u32 {
    crc32c::crc32c(format!("{number} {json}").as_bytes())
}

fn read_from(file: &mut File, path: &Path) -> Result<(Vec<Entry>, u64)> {
    let mut bytes = Vec::new();
    let length = file.metadata().at("look at", path)?.len();
    if length > LIMIT {
        // Cut, its end would look torn, and what the run did last would be forgotten.
        return Err(Error::failed(format!("journal {} has {length} bytes, which no run of ours writes", path.display()))
            .hint("Nothing was changed. Keep the file and look at the host by `pitr status`."));
    }
    file.take(LIMIT).read_to_end(&mut bytes).at("read journal", path)?;
    parse(&bytes).map_err(|cause| {
        Error::failed(format!("journal {} is damaged", path.display()))
            .cause(cause)
            .hint("Nothing was changed. Keep the file and look at the host by `pitr status`.")
    })
}

/// The entries of a journal's bytes and the length of what is valid.
pub fn parse(bytes: &[u8]) -> std::result::Result<(Vec<Entry>, u64), String> {
    let mut entries = Vec::new();
    let mut valid = 0u64;
    let mut rest = bytes;
    while !rest.is_empty() {
        let number = entries.len() as u64 + 1;
        let (line, after) = match rest.iter().position(|b| *b == b'\n') {
            Some(end) => (rest.get(..end).unwrap_or_default(), rest.get(end + 1..).unwrap_or_default()),
            None => return Ok((entries, valid)),
        };
        match parse_line(number, line) {
            Ok(entry) => entries.push(entry),
            Err(_) if after.is_empty() => return Ok((entries, valid)),
            Err(cause) => return Err(format!("line {number}: {cause}")),
        }
        valid += line.len() as u64 + 1;
        rest = after;
    }
    Ok((entries, valid))
}

fn parse_line(expected: u64, line: &[u8]) -> std::result::Result<Entry, String> {
    let text = std::str::from_utf8(line).map_err(|_| "not UTF-8")?;
    let mut parts = text.splitn(3, ' ');
    let (Some(number), Some(sum), Some(json)) = (parts.next(), parts.next(), parts.next()) else { return Err("not three fields".into()) };
    if number.parse() != Ok(expected) {
        return Err(format!("numbered {number}, expected {expected}"));
    }
    if sum != format!("{:08x}", checksum(expected, json)) {
        return Err("checksum does not match".into());
    }
    serde_json::from_str(json).map_err(|e| e.to_string())
}

fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent).at("open", parent)?.sync_all().at("sync", parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ledger::Event;

    fn entry(text: &str) -> Entry {
        Entry { time: "2026-11-21T21:00:00Z".parse().unwrap(), event: Event::Note { text: text.into() } }
    }

    fn journal_of(texts: &[&str]) -> Vec<u8> {
        texts
            .iter()
            .enumerate()
            .map(|(i, t)| render_line(i as u64 + 1, &serde_json::to_string(&entry(t)).unwrap()))
            .collect::<String>()
            .into_bytes()
    }

    #[test]
    fn what_was_appended_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = Journal::create(&path).unwrap();
        journal.append(&entry("one")).unwrap();
        journal.append(&entry("two")).unwrap();
        drop(journal);
        let (mut journal, entries) = Journal::open(&path).unwrap();
        assert_eq!(entries, [entry("one"), entry("two")]);
        assert_eq!(Journal::first(&path), Some(entry("one")));
        journal.append(&entry("three")).unwrap();
        assert_eq!(Journal::read(&path).unwrap().len(), 3);
    }

    #[test]
    fn a_torn_last_line_is_cut_at_every_length() {
        let whole = journal_of(&["one", "two", "three"]);
        let (_, valid) = parse(&whole).unwrap();
        assert_eq!(valid, whole.len() as u64);
        for length in 0..whole.len() {
            let (entries, valid) = parse(&whole[..length]).unwrap();
            assert!(entries.len() < 3);
            assert_eq!(parse(&whole[..usize::try_from(valid).unwrap()]).unwrap().0, entries);
        }
    }

    #[test]
    fn a_flipped_byte_is_never_believed() {
        let whole = journal_of(&["one", "two", "three"]);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let first_line = whole.iter().position(|b| *b == b'\n').unwrap();
        let expected = parse(&whole).unwrap().0;
        let last_line = whole[..whole.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x20;
            std::fs::write(&path, &flipped).unwrap();
            assert_eq!(Journal::first(&path), (at > first_line).then(|| entry("one")), "byte {at}");
            match parse(&flipped) {
                Err(_) => assert!(at < last_line),
                Ok((entries, _)) => assert!(at >= last_line - 1 && entries.len() < 3 && expected.starts_with(&entries), "byte {at}"),
            }
        }
    }

    #[test]
    fn a_line_too_long_is_refused_and_nothing_of_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = Journal::create(&path).unwrap();
        journal.append(&entry("one")).unwrap();
        let long = "x".repeat(usize::try_from(LONGEST).unwrap());
        assert!(journal.append(&entry(&long)).is_err());
        journal.append(&entry("two")).unwrap();
        assert_eq!(Journal::read(&path).unwrap(), [entry("one"), entry("two")]);
        assert!(fits(LIMIT / 2, SHORT) && !fits(LIMIT / 2, SHORT + 1) && fits(LIMIT / 2 - LONGEST, LONGEST) && !fits(LIMIT, 1));
    }

    #[test]
    fn a_torn_file_is_repaired_when_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut whole = journal_of(&["one", "two"]);
        whole.truncate(whole.len() - 5);
        std::fs::write(&path, &whole).unwrap();
        let (mut journal, entries) = Journal::open(&path).unwrap();
        assert_eq!(entries.len(), 1);
        journal.append(&entry("again")).unwrap();
        assert_eq!(Journal::read(&path).unwrap(), [entry("one"), entry("again")]);
    }
}
