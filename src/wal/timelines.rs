//! Which timeline's WAL lies where, and which file holds it.

use crate::pg::{Lsn, SegmentName, SegmentSize, Timeline};

/// The ancestry of one timeline: ascending `(begin, timeline)`, the first from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timelines(Vec<(Lsn, Timeline)>);

impl Timelines {
    /// A timeline without ancestors.
    pub fn only(timeline: Timeline) -> Timelines {
        Timelines(vec![(Lsn(0), timeline)])
    }

    /// Ancestors, oldest first, each with its end (the switch LSN of the history file), then the timeline itself.
    pub fn new(ancestors: impl IntoIterator<Item = (Timeline, Lsn)>, timeline: Timeline) -> Timelines {
        let mut begin = Lsn(0);
        let mut list = Vec::new();
        for (ancestor, end) in ancestors {
            list.push((begin, ancestor));
            begin = end;
        }
        list.push((begin, timeline));
        Timelines(list)
    }

    /// The timeline on which the byte at `lsn` was written.
    pub fn at(&self, lsn: Lsn) -> Timeline {
        self.newest(|begin| begin <= lsn)
    }

    /// The file that must hold segment `number`: of the timelines that have begun by its end the newest, for
    /// a segment with a switch in it is copied to the child, and the parent's file leads past the fork.
    pub fn segment(&self, number: u64, size: SegmentSize) -> SegmentName {
        SegmentName { timeline: self.newest(|begin| size.number(begin) <= number), number }
    }

    /// Where the timelines after the first begin.
    pub fn switches(&self) -> impl Iterator<Item = (Lsn, Timeline)> {
        self.0.iter().skip(1).copied()
    }

    fn newest(&self, begun: impl Fn(Lsn) -> bool) -> Timeline {
        self.0.iter().rev().find(|(begin, _)| begun(*begin)).map_or(Timeline(0), |(_, timeline)| *timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_childs_file_holds_the_switch_segment_and_the_parents_pages_lead_to_it() {
        let size = SegmentSize::new(1 << 20).unwrap();
        let switch = Lsn(0x0035_0000);
        let timelines = Timelines::new([(Timeline(1), switch)], Timeline(3));
        assert_eq!(timelines.segment(2, size).timeline, Timeline(1));
        assert_eq!(timelines.segment(3, size).timeline, Timeline(3));
        assert_eq!(timelines.at(Lsn(0x0034_E000)), Timeline(1));
        assert_eq!(timelines.at(switch), Timeline(3));
        assert_eq!(timelines.switches().collect::<Vec<_>>(), [(switch, Timeline(3))]);
    }
}
