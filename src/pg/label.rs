//! `backup_label`, `tablespace_map` and the backup history file `SEGMENT.OFFSET.backup` (access/transam/xlogbackup.c and
//! its readers in xlogrecovery.c): where a backup begins, and what its links were.
//!
//! The label decides where replay starts, so its first lines must be exactly as a server writes them. Texts of people
//! (label, times) are shown, never computed with.

use serde::{Deserialize, Serialize};

use super::{Lsn, Malformed, SegmentName, SegmentSize, Timeline};

/// `backup_label` of a base backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupLabel {
    /// Redo LSN of the backup's checkpoint: the first WAL that is needed.
    pub start_lsn: Lsn,
    /// File name of the segment with `start_lsn`, 24 digits; whether it fits the LSN depends on the segment size.
    pub start_segment: String,
    /// Timeline on which the backup was taken.
    pub timeline: Timeline,
    /// LSN of the checkpoint record.
    pub checkpoint: Lsn,
    /// Taken while the server ran, through the backup functions or `pg_basebackup`: consistent only after its end record.
    /// False for exclusive backups of majors 13 and 14 and for what `pg_rewind` writes.
    pub streamed: bool,
    /// Taken from a standby: consistent at `min_recovery_point` of its pg_control.
    pub from_standby: bool,
    /// As written, in the source's `log_timezone`; for people only.
    pub start_time: Option<String>,
    /// First line of the label that the backup was given.
    pub label: Option<String>,
    /// An incremental backup (17 on): the start of the backup it builds on. Never startable by itself.
    pub incremental_from: Option<Lsn>,
}

/// A backup history file: the label's content, and where and when the backup ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHistory {
    /// Redo LSN of the backup's checkpoint.
    pub start_lsn: Lsn,
    /// LSN after the backup's last needed byte.
    pub stop_lsn: Lsn,
    /// Timeline on which the backup began.
    pub timeline: Timeline,
    /// Timeline on which it ended.
    pub stop_timeline: Option<Timeline>,
    /// As written, e.g. `2026-11-21 21:07:33 UTC`, in the source's `log_timezone`.
    pub start_time: String,
    /// As written.
    pub stop_time: String,
    /// First line of the label that the backup was given.
    pub label: String,
}

impl BackupLabel {
    /// Parses the file's bytes; the label itself may be in any encoding and is shown as far as it is UTF-8.
    pub fn parse(bytes: &[u8]) -> Result<BackupLabel, Malformed> {
        let lines = Lines::of(bytes)?;
        let start = Location::parse(lines.expect(0, "START WAL LOCATION")?).ok_or_else(|| bad_line(0))?;
        let checkpoint = lines.expect(1, "CHECKPOINT LOCATION")?.parse()?;
        if !start.lsn.is_valid() || checkpoint < start.lsn {
            return Err(Malformed::new(format!("the checkpoint at {checkpoint} cannot belong to a backup from {}", start.lsn)));
        }
        if lines.last("STOP WAL LOCATION").is_some() {
            return Err(Malformed::new("this is a backup history file, not a backup_label"));
        }
        Ok(BackupLabel {
            start_lsn: start.lsn,
            timeline: start.timeline_agreed(&lines)?,
            start_segment: start.segment,
            checkpoint,
            streamed: lines.last("BACKUP METHOD") == Some("streamed"),
            from_standby: from_standby(&lines)?,
            start_time: lines.last("START TIME").map(str::to_owned),
            label: lines.label().map(str::to_owned),
            incremental_from: lines.last("INCREMENTAL FROM LSN").map(str::parse).transpose()?,
        })
    }
}

impl BackupHistory {
    /// Parses the file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<BackupHistory, Malformed> {
        let lines = Lines::of(bytes)?;
        let start = Location::parse(lines.expect(0, "START WAL LOCATION")?).ok_or_else(|| bad_line(0))?;
        let stop = Location::parse(lines.expect(1, "STOP WAL LOCATION")?).ok_or_else(|| bad_line(1))?;
        if !start.lsn.is_valid() || stop.lsn < start.lsn {
            return Err(Malformed::new(format!("a backup cannot begin at {} and end at {}", start.lsn, stop.lsn)));
        }
        let text =
            |value: Option<&str>| value.map(str::to_owned).ok_or_else(|| Malformed::new("a line with a time or the label is missing"));
        Ok(BackupHistory {
            start_lsn: start.lsn,
            stop_lsn: stop.lsn,
            timeline: start.timeline_agreed(&lines)?,
            stop_timeline: lines.last("STOP TIMELINE").map(timeline).transpose()?,
            start_time: text(lines.last("START TIME"))?,
            stop_time: text(lines.last("STOP TIME"))?,
            label: text(lines.label())?,
        })
    }
}

/// The segment and byte offset of a name such as `000000010000000000000002.00000028.backup` (`BackupHistoryFileName`).
pub fn parse_backup_history_name(name: &str, size: SegmentSize) -> Option<(SegmentName, u32)> {
    let (segment, offset) = name.strip_suffix(".backup")?.split_once('.')?;
    let digits = offset.len() == 8 && offset.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    let offset = if digits { u32::from_str_radix(offset, 16).ok()? } else { return None };
    (u64::from(offset) < size.bytes()).then_some((SegmentName::parse(segment, size)?, offset))
}

/// OID and link text of each tablespace. Newline, carriage return and backslash are escaped by a backslash in the file; paths
/// are bytes, and whether one is a sane place is not judged here.
pub fn parse_tablespace_map(bytes: &[u8]) -> Result<Vec<(u32, Vec<u8>)>, Malformed> {
    let mut entries: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut line = Vec::new();
    let mut escaped = false;
    for byte in bytes.iter().copied() {
        match byte {
            b'\n' | b'\r' if !escaped => {
                if !line.is_empty() {
                    entries.push(map_entry(&std::mem::take(&mut line), &entries)?);
                }
            }
            b'\\' if !escaped => escaped = true,
            _ => {
                line.push(byte);
                escaped = false;
            }
        }
    }
    if line.is_empty() && !escaped { Ok(entries) } else { Err(Malformed::new("the last line of the tablespace map is cut off")) }
}

fn map_entry(line: &[u8], before: &[(u32, Vec<u8>)]) -> Result<(u32, Vec<u8>), Malformed> {
    let bad = || Malformed::new(format!("entry {} of the tablespace map is not an OID and a path", before.len() + 1));
    let space = line.iter().position(|b| *b == b' ').ok_or_else(bad)?;
    let (digits, path) = line.split_at_checked(space).ok_or_else(bad)?;
    let path = path.get(1..).filter(|path| !path.is_empty() && !path.contains(&0)).ok_or_else(bad)?;
    let oid = std::str::from_utf8(digits).ok().and_then(decimal).filter(|oid| *oid != 0).ok_or_else(bad)?;
    if before.iter().any(|(other, _)| *other == oid) {
        return Err(Malformed::new(format!("tablespace {oid} occurs twice in the tablespace map")));
    }
    Ok((oid, path.to_vec()))
}

/// `KEY: value` lines.
struct Lines(Vec<(String, String)>);

impl Lines {
    fn of(bytes: &[u8]) -> Result<Lines, Malformed> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_suffix('\n').ok_or_else(|| Malformed::new("the file is empty or its last line is cut off"))?;
        let split = |line: &str| line.split_once(": ").map(|(key, value)| (key.to_owned(), value.to_owned()));
        Ok(Lines(text.split('\n').map(|line| split(line).unwrap_or_default()).collect()))
    }

    /// The value of line `index`, which the server too demands at this place.
    fn expect(&self, index: usize, key: &str) -> Result<&str, Malformed> {
        self.0.get(index).filter(|(k, _)| k == key).map(|(_, value)| value.as_str()).ok_or_else(|| bad_line(index))
    }

    /// The last value of `key`: a label with newlines in it can imitate the lines that follow, but those come later.
    fn last(&self, key: &str) -> Option<&str> {
        self.0.iter().rfind(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// The first line of the label; what it could imitate comes after it.
    fn label(&self) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == "LABEL").map(|(_, value)| value.as_str())
    }
}

/// No content in the words: the file may be a link to one that the reader must not see.
fn bad_line(index: usize) -> Malformed {
    Malformed::new(format!("line {} is not what a server writes there", index + 1))
}

/// `0/2000028 (file 000000010000000000000002)`.
struct Location {
    lsn: Lsn,
    segment: String,
    timeline: Timeline,
}

impl Location {
    fn parse(value: &str) -> Option<Location> {
        let (lsn, file) = value.split_once(" (file ")?;
        let segment = file.strip_suffix(')')?;
        let upper = segment.len() == 24 && segment.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
        let number = u32::from_str_radix(segment.get(..8).filter(|_| upper)?, 16).ok().filter(|n| *n != 0)?;
        Some(Location { lsn: lsn.parse().ok()?, segment: segment.to_owned(), timeline: Timeline(number) })
    }

    /// The server refuses a label whose two mentions of the timeline differ.
    fn timeline_agreed(&self, lines: &Lines) -> Result<Timeline, Malformed> {
        match lines.last("START TIMELINE").map(timeline).transpose()? {
            Some(other) if other != self.timeline => {
                Err(Malformed::new(format!("START TIMELINE is {other}, but the start segment is of timeline {}", self.timeline)))
            }
            _ => Ok(self.timeline),
        }
    }
}

fn timeline(value: &str) -> Result<Timeline, Malformed> {
    decimal(value).filter(|n| *n != 0).map(Timeline).ok_or_else(|| Malformed::new("not a timeline number"))
}

fn decimal(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// A word other than the two is not guessed at: it decides where consistency is.
fn from_standby(lines: &Lines) -> Result<bool, Malformed> {
    match lines.last("BACKUP FROM") {
        Some("standby") => Ok(true),
        // xlog.c of 13 says master.
        Some("primary" | "master") | None => Ok(false),
        Some(_) => Err(Malformed::new("BACKUP FROM is neither primary nor standby")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &[u8] = include_bytes!("../../tests/fixtures/pg/backup_label");
    const STANDBY: &[u8] = include_bytes!("../../tests/fixtures/pg/backup_label.standby");
    const HISTORY: &[u8] = include_bytes!("../../tests/fixtures/pg/000000010000000000000002.00000028.backup");
    const MAP: &[u8] = include_bytes!("../../tests/fixtures/pg/tablespace_map");

    fn edited(from: &str, to: &str) -> Vec<u8> {
        let text = std::str::from_utf8(LABEL).unwrap();
        assert!(text.contains(from));
        text.replace(from, to).into_bytes()
    }

    #[test]
    fn reads_what_the_server_wrote() {
        let label = BackupLabel::parse(LABEL).unwrap();
        assert_eq!(
            label,
            BackupLabel {
                start_lsn: Lsn(0x2000028),
                start_segment: "000000010000000000000002".into(),
                timeline: Timeline(1),
                checkpoint: Lsn(0x2000060),
                streamed: true,
                from_standby: false,
                start_time: Some("2026-11-21 23:03:32 UTC".into()),
                label: Some("first base 'backup'".into()),
                incremental_from: None,
            }
        );
        let label = BackupLabel::parse(STANDBY).unwrap();
        assert!(label.from_standby && label.streamed);
        assert_eq!(label.label.as_deref(), Some("from a standby"));
    }

    #[test]
    fn reads_labels_of_other_kinds() {
        let exclusive = BackupLabel::parse(&edited("streamed", "pg_start_backup")).unwrap();
        assert!(!exclusive.streamed);
        let incremental = edited("START TIMELINE: 1\n", "START TIMELINE: 1\nINCREMENTAL FROM LSN: 0/1000028\nINCREMENTAL FROM TLI: 1\n");
        assert_eq!(BackupLabel::parse(&incremental).unwrap().incremental_from, Some(Lsn(0x1000028)));
        let mut foreign = edited("first", "f\u{fc}rst");
        let at = foreign.iter().position(|b| *b == 0xC3).unwrap();
        foreign.remove(at);
        assert_eq!(BackupLabel::parse(&foreign).unwrap().label.as_deref(), Some("f\u{fffd}rst base 'backup'"));
    }

    #[test]
    fn a_label_with_newlines_cannot_move_the_start() {
        let forged = edited("first base", "x\nSTART TIMELINE: 9\nSTART WAL LOCATION: 0/5 (file 000000090000000000000000)\nLABEL: y");
        let label = BackupLabel::parse(&forged).unwrap();
        assert_eq!((label.timeline, label.start_lsn, label.label.as_deref()), (Timeline(1), Lsn(0x2000028), Some("x")));
    }

    #[test]
    fn a_primary_of_13_calls_itself_master() {
        assert!(!BackupLabel::parse(&edited("FROM: primary", "FROM: master")).unwrap().from_standby);
    }

    #[test]
    fn refuses_what_no_server_writes() {
        for (from, to, words) in [
            ("START WAL", "STOP WAL", "line 1"),
            ("CHECKPOINT", "Checkpoint", "line 2"),
            ("CHECKPOINT", "LABEL: x\nCHECKPOINT", "line 2"),
            ("0/2000060", "0/200", "cannot belong"),
            ("START TIMELINE: 1", "START TIMELINE: 2", "timeline 1"),
            ("START TIMELINE: 1", "START TIMELINE: x", "not a timeline"),
            ("(file 000000010", "(file 000000000", "line 1"),
            ("0002)\n", "0002)\r\n", "line 1"),
            ("0002)", "000g)", "line 1"),
            ("FROM: primary", "FROM: somewhere", "neither"),
        ] {
            let error = BackupLabel::parse(&edited(from, to)).unwrap_err();
            assert!(error.0.contains(words), "{from} -> {to}: {error}");
        }
        assert!(BackupLabel::parse(HISTORY).is_err());
        assert!(BackupHistory::parse(LABEL).is_err());
    }

    #[test]
    fn reads_a_backup_history() {
        let history = BackupHistory::parse(HISTORY).unwrap();
        assert_eq!((history.start_lsn, history.stop_lsn), (Lsn(0x2000028), Lsn(0x2000100)));
        assert_eq!((history.timeline, history.stop_timeline), (Timeline(1), Some(Timeline(1))));
        assert_eq!((history.start_time.as_str(), history.stop_time.as_str()), ("2026-11-21 23:03:32 UTC", "2026-11-21 23:03:33 UTC"));
        assert_eq!(history.label, "first base 'backup'");
        let forged = String::from_utf8(HISTORY.to_vec()).unwrap().replace("first", "x\nSTOP TIME: 2001-01-01 00:00:00 UTC\n");
        assert_eq!(BackupHistory::parse(forged.as_bytes()).unwrap().stop_time, history.stop_time);
        let reversed = String::from_utf8(HISTORY.to_vec()).unwrap().replace("0/2000100", "0/2000000");
        assert!(BackupHistory::parse(reversed.as_bytes()).unwrap_err().0.contains("cannot begin"));
    }

    #[test]
    fn names_of_backup_histories() {
        let size = SegmentSize::new(16 << 20).unwrap();
        let segment = SegmentName::parse("000000010000000000000002", size).unwrap();
        assert_eq!(parse_backup_history_name("000000010000000000000002.00000028.backup", size), Some((segment, 0x28)));
        for name in [
            "000000010000000000000002.backup",
            "000000010000000000000002.0000028.backup",
            "000000010000000000000002.0000002a.backup",
            "000000010000000000000002.01000000.backup",
            "000000010000000000000002.00000028.backup.gz",
            "00000001000000000000000.00000028.backup",
        ] {
            assert_eq!(parse_backup_history_name(name, size), None, "{name}");
        }
    }

    #[test]
    fn tablespace_maps_unescape_and_keep_bytes() {
        assert_eq!(parse_tablespace_map(MAP), Ok(vec![(16384, b"/var/tmp/pitr-enUl/ts".to_vec())]));
        assert_eq!(parse_tablespace_map(b""), Ok(vec![]));
        let map = b"16384 /a b\\\nc\\\\d\xFF\r\n4294967295 /e\n";
        assert_eq!(parse_tablespace_map(map), Ok(vec![(16384, b"/a b\nc\\d\xFF".to_vec()), (u32::MAX, b"/e".to_vec())]));
    }

    #[test]
    fn broken_tablespace_maps_are_refused() {
        for map in [
            "16384 /a",
            "16384 /a\\\n",
            "16384\n",
            "16384 \n",
            " /a\n",
            "x /a\n",
            "+1 /a\n",
            "0 /a\n",
            "4294967296 /a\n",
            "1 /a\n1 /b\n",
            "1 /a\0b\n",
        ] {
            assert!(parse_tablespace_map(map.as_bytes()).is_err(), "{map:?}");
        }
    }

    #[test]
    fn any_damage_is_survived() {
        for at in 0..LABEL.len() {
            // A cut leaves no whole last line, or it takes whole lines from the end.
            if let Ok(cut) = BackupLabel::parse(&LABEL[..at]) {
                assert_eq!(LABEL[at - 1], b'\n');
                assert_eq!((cut.start_lsn, cut.timeline), (Lsn(0x2000028), Timeline(1)));
            }
            for bit in 0..8 {
                let mut bytes = LABEL.to_vec();
                bytes[at] ^= 1 << bit;
                if let Ok(label) = BackupLabel::parse(&bytes) {
                    assert_eq!(label.timeline, Timeline(1), "flip at {at}");
                }
            }
        }
        for at in 0..HISTORY.len() {
            let mut bytes = HISTORY.to_vec();
            bytes[at] ^= 0x80;
            assert!(BackupHistory::parse(&bytes).is_ok_and(|h| h.stop_lsn >= h.start_lsn) || bytes != HISTORY);
            assert!(BackupHistory::parse(&HISTORY[..at]).map_or(true, |h| h.stop_lsn == Lsn(0x2000100)));
        }
        for at in 0..MAP.len() {
            assert_eq!(parse_tablespace_map(&MAP[..at]).is_ok(), at == 0, "cut at {at}");
        }
    }
}
