//! Timeline history files (`NNNNNNNN.history`, access/transam/timeline.c): from where a timeline descends.
//!
//! Answers which timelines belong to a history, where each ends in it, and whose file of a segment is the right one.
//! A switch point is not always above the one before it: a recovery along timeline 2 that stops before 2 began writes
//! `1 X`, `2 Y` with Y < X. Every answer here takes that into account.

use serde::{Deserialize, Serialize};

use super::{Lsn, Malformed, SegmentSize, Timeline};

/// A timeline and its ancestors, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The timeline this is the history of.
    pub timeline: Timeline,
    /// Its ancestors, with increasing numbers.
    pub ancestors: Vec<Ancestor>,
}

/// One line of a history file: an ancestor and where the next timeline left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// The ancestor.
    pub timeline: Timeline,
    /// First LSN that is no longer on it.
    pub switch: Lsn,
    /// The server's words for why; for people only.
    pub reason: String,
}

/// Where a timeline ends within a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimelineEnd {
    /// It is the history's own timeline: no end is known.
    Open,
    /// An ancestor: WAL from this LSN on is another branch.
    At(Lsn),
}

impl History {
    /// The history of a timeline without ancestors: 1, or one whose file is absent by right.
    pub fn root(timeline: Timeline) -> History {
        History { timeline, ancestors: Vec::new() }
    }

    /// Parses the history file of `timeline` by the server's rules (`readTimeLineHistory`), and refuses a file without
    /// any ancestor, which only a damaged or half-written one has.
    pub fn parse(timeline: Timeline, bytes: &[u8]) -> Result<History, Malformed> {
        let mut ancestors: Vec<Ancestor> = Vec::new();
        for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let ancestor = parse_line(line).map_err(|e| Malformed::new(format!("line {}: {e}", index + 1)))?;
            if ancestors.last().is_some_and(|last| ancestor.timeline <= last.timeline) {
                return Err(Malformed::new(format!("line {}: timelines do not increase", index + 1)));
            }
            ancestors.push(ancestor);
        }
        match ancestors.last() {
            None => Err(Malformed::new("the history names no ancestor")),
            Some(last) if last.timeline >= timeline => {
                Err(Malformed::new(format!("ancestor {} is not below timeline {timeline}", last.timeline)))
            }
            Some(_) => Ok(History { timeline, ancestors }),
        }
    }

    /// Where `timeline` ends in this history; `None` if it is not part of it.
    pub fn end_of(&self, timeline: Timeline) -> Option<TimelineEnd> {
        if timeline == self.timeline {
            return Some(TimelineEnd::Open);
        }
        let index = self.ancestors.iter().position(|a| a.timeline == timeline)?;
        self.ancestors.iter().skip(index).map(|a| a.switch).min().map(TimelineEnd::At)
    }

    /// Where `timeline` begins in this history: zero for the oldest, `None` if it is not part of it.
    pub fn begin_of(&self, timeline: Timeline) -> Option<Lsn> {
        self.branches().find(|(t, _)| *t == timeline).map(|(_, begin)| begin)
    }

    /// Whether WAL of `timeline` up to `end` (the LSN after its last byte) is on this history: what a backup that ends
    /// there must fulfil.
    pub fn holds(&self, timeline: Timeline, end: Lsn) -> bool {
        match self.end_of(timeline) {
            None => false,
            Some(TimelineEnd::Open) => true,
            Some(TimelineEnd::At(switch)) => end <= switch,
        }
    }

    /// The timeline that the byte at `lsn` is on (`tliOfPointInHistory`).
    pub fn timeline_at(&self, lsn: Lsn) -> Timeline {
        self.newest_begun(|begin| begin <= lsn)
    }

    /// The timeline whose file of segment `number` is read: the newest whose first segment is not after it. A segment with
    /// a switch point is the child's, which begins with a copy of the parent's.
    pub fn timeline_of_segment(&self, number: u64, size: SegmentSize) -> Timeline {
        self.newest_begun(|begin| size.number(begin) <= number)
    }

    /// The file as PostgreSQL writes it, with a blank line before each added ancestor.
    pub fn to_text(&self) -> String {
        let lines = self.ancestors.iter().map(|a| format!("{}\t{}\t{}\n", a.timeline, a.switch, a.reason));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Every timeline with its begin, oldest first.
    fn branches(&self) -> impl DoubleEndedIterator<Item = (Timeline, Lsn)> {
        let begins = std::iter::once(Lsn(0)).chain(self.ancestors.iter().map(|a| a.switch));
        let timelines = self.ancestors.iter().map(|a| a.timeline).chain([self.timeline]);
        timelines.zip(begins).collect::<Vec<_>>().into_iter()
    }

    fn newest_begun(&self, begun: impl Fn(Lsn) -> bool) -> Timeline {
        self.branches().rev().find(|(_, begin)| begun(*begin)).map_or(self.timeline, |(timeline, _)| timeline)
    }
}

/// `parentTLI switchLSN reason`; the server takes any white space between the fields.
fn parse_line(line: &[u8]) -> Result<Ancestor, Malformed> {
    let text = String::from_utf8_lossy(line);
    let split = |text: &str| text.split_once(|c: char| c.is_ascii_whitespace()).map(|(a, b)| (a.to_owned(), b.trim().to_owned()));
    let (number, rest) = split(&text).ok_or_else(|| Malformed::new("expected a timeline and its switch LSN"))?;
    let (lsn, reason) = split(&rest).unwrap_or((rest, String::new()));
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    match number.parse() {
        Ok(timeline) if digits && timeline > 0 => Ok(Ancestor { timeline: Timeline(timeline), switch: lsn.parse()?, reason }),
        _ => Err(Malformed::new("expected a numeric timeline")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = include_bytes!("../../tests/fixtures/pg/00000003.history");

    fn history(timeline: u32, ancestors: &[(u32, &str)]) -> History {
        let ancestor = |(t, lsn): &(u32, &str)| Ancestor { timeline: Timeline(*t), switch: lsn.parse().unwrap(), reason: "r".into() };
        History { timeline: Timeline(timeline), ancestors: ancestors.iter().map(ancestor).collect() }
    }

    fn at(lsn: &str) -> Option<TimelineEnd> {
        Some(TimelineEnd::At(lsn.parse().unwrap()))
    }

    #[test]
    fn reads_what_the_server_wrote() {
        let parsed = History::parse(Timeline(3), FILE).unwrap();
        let said: Vec<_> = parsed.ancestors.iter().map(|a| (a.timeline.0, a.switch.to_string(), a.reason.as_str())).collect();
        assert_eq!(said, [(1, "0/3000E60".to_owned(), "after LSN 0/3000E20"), (2, "0/40000A0".to_owned(), "no recovery target specified")]);
        assert_eq!(History::parse(Timeline(3), parsed.to_text().as_bytes()), Ok(parsed));
    }

    #[test]
    fn knows_ends_and_members() {
        let h = history(7, &[(1, "0/5000000"), (4, "0/9000028")]);
        assert_eq!(h.end_of(Timeline(1)), at("0/5000000"));
        assert_eq!(h.end_of(Timeline(4)), at("0/9000028"));
        assert_eq!(h.end_of(Timeline(7)), Some(TimelineEnd::Open));
        assert_eq!(h.end_of(Timeline(2)), None);
        assert_eq!(h.begin_of(Timeline(1)), Some(Lsn(0)));
        assert_eq!(h.begin_of(Timeline(7)), Some(Lsn(0x9000028)));
        assert!(h.holds(Timeline(1), Lsn(0x5000000)));
        assert!(!h.holds(Timeline(1), Lsn(0x5000001)));
        assert!(!h.holds(Timeline(3), Lsn(1)));
        assert_eq!(h.timeline_at(Lsn(0x4FFFFFF)), Timeline(1));
        assert_eq!(h.timeline_at(Lsn(0x5000000)), Timeline(4));
    }

    #[test]
    fn the_segment_of_a_switch_is_the_childs() {
        let size = SegmentSize::new(16 << 20).unwrap();
        let h = history(7, &[(1, "0/5000028"), (4, "0/5F00000")]);
        let read: Vec<_> = [0, 4, 5, 6, u64::MAX].map(|n| h.timeline_of_segment(n, size).0).to_vec();
        assert_eq!(read, [1, 1, 7, 7, 7]);
        assert_eq!(History::root(Timeline(1)).timeline_of_segment(9, size), Timeline(1));
    }

    /// Timeline 4 came from a recovery along timeline 3 that stopped before timeline 2 began.
    #[test]
    fn a_real_branch_with_a_switch_below_its_parents() {
        let h = History::parse(Timeline(4), include_bytes!("../../tests/fixtures/pg/00000004.history")).unwrap();
        assert_eq!(h.ancestors.iter().map(|a| a.switch.0).collect::<Vec<_>>(), [0x3000E60, 0x40000A0, 0x3000E60]);
        assert_eq!([1, 2, 3].map(|t| h.end_of(Timeline(t))), [at("0/3000E60"); 3]);
        assert_eq!(h.timeline_at(Lsn(0x3000E5F)), Timeline(1));
        assert_eq!(h.timeline_at(Lsn(0x40000A0)), Timeline(4));
    }

    #[test]
    fn a_branch_that_left_before_its_parent_began() {
        let size = SegmentSize::new(16 << 20).unwrap();
        let h = history(3, &[(1, "0/9000000"), (2, "0/5000028")]);
        assert_eq!(h.end_of(Timeline(1)), at("0/5000028"));
        assert_eq!(h.end_of(Timeline(2)), at("0/5000028"));
        assert_eq!(h.timeline_at(Lsn(0x5000027)), Timeline(1));
        assert_eq!(h.timeline_at(Lsn(0xA000000)), Timeline(3));
        assert_eq!([4, 5, 8, 9].map(|n| h.timeline_of_segment(n, size).0), [1, 3, 3, 3]);
    }

    #[test]
    fn refuses_what_the_server_refuses() {
        for (text, words) in [
            ("", "no ancestor"),
            ("# comment\n\n", "no ancestor"),
            ("one\t0/5\tx\n", "line 1: expected a numeric"),
            ("+1\t0/5\tx\n", "numeric"),
            ("0\t0/5\tx\n", "numeric"),
            ("1\n", "expected a timeline"),
            ("\n1\t05\tx\n", "line 2: not an LSN"),
            ("2\t0/5\tx\n1\t0/6\tx\n", "line 2: timelines do not increase"),
            ("1\t0/5\tx\n1\t0/6\tx\n", "do not increase"),
            ("3\t0/5\tx\n", "not below timeline 3"),
        ] {
            let error = History::parse(Timeline(3), text.as_bytes()).unwrap_err();
            assert!(error.0.contains(words), "{text:?}: {error}");
        }
        assert!(History::parse(Timeline(1), b"0\t0/5\tx\n").is_err());
        assert_eq!(History::parse(Timeline(3), b"  1 \t 0/5\n").unwrap(), {
            let mut expected = history(3, &[(1, "0/5")]);
            expected.ancestors[0].reason.clear();
            expected
        });
    }

    #[test]
    fn any_damage_is_survived() {
        for at in 0..FILE.len() {
            let _ = History::parse(Timeline(3), &FILE[..at]).map(|h| h.end_of(Timeline(1)));
            for bit in 0..8 {
                let mut bytes = FILE.to_vec();
                bytes[at] ^= 1 << bit;
                if let Ok(h) = History::parse(Timeline(3), &bytes) {
                    assert_eq!(History::parse(Timeline(3), h.to_text().as_bytes()), Ok(h), "flip at {at}");
                }
            }
        }
    }
}
