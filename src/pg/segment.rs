//! Names and sizes of WAL segments and history files (access/xlog_internal.h).

use std::fmt;

use super::{Lsn, Malformed, Timeline};

/// Bytes of one WAL segment: a power of two from 1 MiB to 1 GiB (`IsValidWalSegSize`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// Checks that `bytes` is a size `initdb` accepts.
    pub fn new(bytes: u32) -> Result<SegmentSize, Malformed> {
        if bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes) {
            Ok(SegmentSize(bytes))
        } else {
            Err(Malformed::new(format!("not a WAL segment size: {bytes}")))
        }
    }

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// Number of the segment that holds the byte at `lsn`.
    pub fn number(self, lsn: Lsn) -> u64 {
        lsn.0 / self.bytes()
    }

    /// LSN of the first byte of segment `number`.
    pub fn start(self, number: u64) -> Lsn {
        Lsn(number.saturating_mul(self.bytes()))
    }

    /// Segments per 4 GiB of WAL (`XLogSegmentsPerXLogId`).
    fn per_id(self) -> u64 {
        0x1_0000_0000 / self.bytes()
    }
}

/// A WAL segment's identity: timeline and number; its file name needs the segment size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct SegmentName {
    /// Timeline of the name; pages inside may carry a lower one.
    pub timeline: Timeline,
    /// Position divided by segment size.
    pub number: u64,
}

impl SegmentName {
    /// Parses 24 upper-case hexadecimal digits; the third field must be below the segments per id.
    pub fn parse(name: &str, size: SegmentSize) -> Option<SegmentName> {
        if name.len() != 24 {
            return None;
        }
        let field = |range: std::ops::Range<usize>| name.get(range).and_then(upper_hex);
        let (timeline, high, low) = (field(0..8)?, field(8..16)?, field(16..24)?);
        if timeline == 0 || u64::from(low) >= size.per_id() {
            return None;
        }
        Some(SegmentName { timeline: Timeline(timeline), number: u64::from(high) * size.per_id() + u64::from(low) })
    }

    /// The 24-digit file name (`XLogFileName`).
    pub fn file_name(self, size: SegmentSize) -> String {
        SegmentFile(self, size).to_string()
    }
}

struct SegmentFile(SegmentName, SegmentSize);

impl fmt::Display for SegmentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SegmentFile(name, size) = self;
        write!(f, "{:08X}{:08X}{:08X}", name.timeline.0, name.number / size.per_id(), name.number % size.per_id())
    }
}

/// File name of a timeline's history (`TLHistoryFileName`).
pub fn history_name(timeline: Timeline) -> String {
    format!("{:08X}.history", timeline.0)
}

/// The timeline of a name such as `00000002.history`.
pub fn parse_history_name(name: &str) -> Option<Timeline> {
    let digits = name.strip_suffix(".history")?;
    (digits.len() == 8).then(|| upper_hex(digits)).flatten().filter(|t| *t != 0).map(Timeline)
}

/// PostgreSQL writes these names with upper-case digits only; anything else is another tool's file.
fn upper_hex(text: &str) -> Option<u32> {
    let upper = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    if text.bytes().all(upper) { u32::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_depend_on_the_segment_size() {
        let mib = |n: u32| SegmentSize::new(n << 20).unwrap();
        for (size, lsn, name) in [
            (mib(16), "1/FCAF9C10", "0000000100000001000000FC"),
            (mib(64), "1/FCAF9C10", "00000001000000010000003F"),
            (mib(1024), "1/FCAF9C10", "000000010000000100000003"),
            (mib(1), "1/FCAF9C10", "000000010000000100000FCA"),
        ] {
            let segment = SegmentName { timeline: Timeline(1), number: size.number(lsn.parse().unwrap()) };
            assert_eq!(segment.file_name(size), name);
            assert_eq!(SegmentName::parse(name, size), Some(segment));
        }
    }

    #[test]
    fn foreign_names_are_not_segments() {
        let size = SegmentSize::new(16 << 20).unwrap();
        for name in [
            "",
            "000000010000000100000100",
            "0000000100000001000000fc",
            "00000000000000010000000C",
            "0000000100000001000000FC.partial",
            "00000001000000010000\u{e9}FC",
        ] {
            assert_eq!(SegmentName::parse(name, size), None, "{name}");
        }
        assert_eq!(parse_history_name("0000000A.history"), Some(Timeline(10)));
        assert_eq!(parse_history_name("0000000a.history"), None);
        assert_eq!(parse_history_name("A.history"), None);
    }
}
