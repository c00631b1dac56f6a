//! The chain of WAL segments along a history: which file is needed for each position, and where it breaks.
//!
//! The segment that holds a switch point is the child's: its head is a copy of the parent's up to the switch.
//! The parent's own copy of it is never taken (recovery-rules: PostgreSQL would replay past the fork).
//!
//! A `.partial` ends a chain: what a promotion or `pg_receivewal` left of a segment of which no whole copy is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::pg::history::History;
use crate::pg::{Lsn, SegmentName, SegmentSize, Timeline};
use crate::plan::facts::{WalKind, WalSource};

/// Where a segment can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Directory.
    pub directory: PathBuf,
    /// File.
    pub file: String,
    /// Bytes of that file.
    pub size: u64,
    /// It is in an archive.
    pub archived: bool,
}

/// A break in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The first segment that is not there.
    pub missing: SegmentName,
    /// Copies of it that cannot be used, and why.
    pub damaged: Vec<String>,
    /// A later segment of the same history is there: this is a hole, not the end.
    pub hole: bool,
    /// Everything before this position is there.
    pub reachable: Lsn,
}

/// Segments in order and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    /// Present without a break.
    pub segments: Vec<SegmentName>,
    /// What follows the last one; `None` when `until` was reached.
    pub end: Option<Gap>,
}

/// Usable whole copies of every segment, archives first, in the order of the sources.
pub fn copies(sources: &[WalSource]) -> BTreeMap<SegmentName, Vec<Copy>> {
    of_kind(sources, false)
}

/// The same with what there is in part of segments of which no whole copy is there.
pub fn readable(sources: &[WalSource]) -> BTreeMap<SegmentName, Vec<Copy>> {
    let mut found = of_kind(sources, true);
    found.extend(copies(sources));
    found
}

fn of_kind(sources: &[WalSource], partial: bool) -> BTreeMap<SegmentName, Vec<Copy>> {
    let mut found: BTreeMap<SegmentName, Vec<Copy>> = BTreeMap::new();
    for source in sources {
        for segment in source.segments.iter().filter(|s| s.problem.is_none() && s.partial == partial) {
            let archived = source.kind == WalKind::Archive;
            let copy = Copy { directory: source.directory.clone(), file: segment.file.clone(), size: segment.size, archived };
            found.entry(segment.name).or_default().push(copy);
        }
    }
    found
}

/// Follows `history` from segment `first` to the segment `until`, or as far as there is WAL.
pub fn follow(history: &History, first: u64, until: Option<u64>, sources: &[WalSource], size: SegmentSize) -> Links {
    let (copies, parts) = (copies(sources), of_kind(sources, true));
    let named = |number| SegmentName { timeline: history.timeline_of_segment(number, size), number };
    let later = |number| copies.keys().any(|other| other.number > number && *other == named(other.number));
    let mut segments = Vec::new();
    let mut number = first;
    loop {
        if until.is_some_and(|last| number > last) {
            return Links { segments, end: None };
        }
        let name = named(number);
        if copies.contains_key(&name) {
            segments.push(name);
            number += 1;
            continue;
        }
        let hole = later(number);
        let gap = |missing, damaged, reachable| Some(Gap { missing, damaged, hole, reachable: size.start(reachable) });
        let Some(part) = parts.get(&name) else {
            return Links { segments, end: gap(name, damaged(sources, name), number) };
        };
        segments.push(name);
        let end = match until {
            Some(last) if last == number => None,
            // What comes behind it cannot be reached: it is this segment that is not whole.
            Some(_) => gap(name, part.iter().map(incomplete).collect(), number),
            None if hole => gap(name, part.iter().map(incomplete).collect(), number),
            None => gap(named(number + 1), vec![], number + 1),
        };
        return Links { segments, end };
    }
}

fn incomplete(copy: &Copy) -> String {
    format!("{} is not complete", copy.directory.join(&copy.file).display())
}

fn damaged(sources: &[WalSource], name: SegmentName) -> Vec<String> {
    let of = |source: &WalSource| {
        let words =
            |s: &crate::plan::facts::SegmentCopy| s.problem.as_ref().map(|p| format!("{}: {p}", source.directory.join(&s.file).display()));
        source.segments.iter().filter(|s| s.name == name).filter_map(words).collect::<Vec<_>>()
    };
    sources.iter().filter(|s| s.kind == WalKind::Archive).flat_map(of).collect()
}

/// The texts of all histories, archives first.
pub fn histories(sources: &[WalSource]) -> BTreeMap<Timeline, String> {
    let mut found = BTreeMap::new();
    for (timeline, text) in sources.iter().flat_map(|s| &s.histories) {
        found.entry(*timeline).or_insert_with(|| text.clone());
    }
    found
}

/// Every timeline number that any file of the sources carries in its name.
pub fn numbers(sources: &[WalSource]) -> BTreeSet<Timeline> {
    let segments = sources.iter().flat_map(|s| s.segments.iter().map(|s| s.name.timeline));
    let histories = sources.iter().flat_map(|s| s.histories.iter().map(|(t, _)| *t));
    segments.chain(histories).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::facts::SegmentCopy;

    fn size() -> SegmentSize {
        SegmentSize::new(16 << 20).unwrap()
    }

    fn source(names: &[(u32, u64)]) -> WalSource {
        let copy = |(timeline, number): &(u32, u64)| {
            let name = SegmentName { timeline: Timeline(*timeline), number: *number };
            SegmentCopy { name, file: name.file_name(size()), size: 16 << 20, problem: None, partial: false }
        };
        WalSource {
            directory: "/wal".into(),
            kind: WalKind::Archive,
            segments: names.iter().map(copy).collect(),
            histories: vec![],
            backups: vec![],
            marks: vec![],
            problem: None,
        }
    }

    #[test]
    fn a_missing_segment_is_a_hole_only_when_a_later_one_is_there() {
        let root = History::root(Timeline(1));
        let links = follow(&root, 3, None, &[source(&[(1, 3), (1, 4), (1, 6)])], size());
        assert_eq!(links.segments.len(), 2);
        let gap = links.end.unwrap();
        assert!(gap.hole && gap.missing.number == 5 && gap.reachable == Lsn(5 * (16 << 20)));
        assert!(!follow(&root, 3, None, &[source(&[(1, 3), (1, 4)])], size()).end.unwrap().hole);
        assert_eq!(follow(&root, 3, Some(4), &[source(&[(1, 3), (1, 4)])], size()).end, None);
    }

    #[test]
    fn the_switch_segment_must_be_the_childs() {
        let history = History::parse(Timeline(2), b"1\t0/5000100\tbefore\n").unwrap();
        let parents_only = source(&[(1, 4), (1, 5), (1, 6)]);
        let links = follow(&history, 4, None, &[parents_only], size());
        assert_eq!(links.segments, [SegmentName { timeline: Timeline(1), number: 4 }]);
        assert_eq!(links.end.unwrap().missing, SegmentName { timeline: Timeline(2), number: 5 });
        let both = source(&[(1, 4), (1, 5), (2, 5), (2, 6)]);
        assert_eq!(follow(&history, 4, None, &[both], size()).segments.len(), 3);
    }

    /// What a receiver had of the segment when the cluster died: the end of the chain, wherever more is there.
    #[test]
    fn a_partial_segment_is_the_last() {
        let root = History::root(Timeline(1));
        let mut partial = source(&[(1, 3), (1, 4)]);
        partial.segments[1].partial = true;
        partial.segments[1].file = "000000010000000000000004.partial".into();
        let links = follow(&root, 3, None, std::slice::from_ref(&partial), size());
        assert_eq!((links.segments.len(), links.end.unwrap().missing.number), (2, 5));
        assert_eq!(follow(&root, 3, Some(4), std::slice::from_ref(&partial), size()).end, None);
        let gap = follow(&root, 3, Some(5), std::slice::from_ref(&partial), size()).end.unwrap();
        assert_eq!(
            (gap.missing.number, gap.damaged.as_slice()),
            (4, &["/wal/000000010000000000000004.partial is not complete".into()][..])
        );
        let behind = [partial.clone(), source(&[(1, 5)])];
        assert!(follow(&root, 3, None, &behind, size()).end.unwrap().hole);
        // Beside a whole copy it is nothing.
        let whole = [partial, source(&[(1, 4), (1, 5)])];
        assert_eq!(follow(&root, 3, Some(5), &whole, size()).end, None);
        let name = SegmentName { timeline: Timeline(1), number: 4 };
        assert_eq!(readable(&whole)[&name].len(), 1);
        assert!(!copies(&whole[..1]).contains_key(&name) && readable(&whole[..1]).contains_key(&name));
    }

    #[test]
    fn another_branchs_later_segment_makes_no_hole() {
        let root = History::root(Timeline(1));
        assert!(!follow(&root, 3, None, &[source(&[(1, 3), (2, 9)])], size()).end.unwrap().hole);
    }
}
