//! Damaged copies of a segment that has another copy: passed over by name, so that plan, replay and archive marks agree on
//! which one counts. Pure.
//!
//! A record's checksum tells that it is damaged, not in which of the segments that it runs through: the one where it
//! starts is blamed first, then the next.

use std::path::PathBuf;

use super::chain;
use super::facts::WalSource;
use super::recovery::Consequence;
use super::wal_facts::WalFindings;
use crate::pg::{SegmentName, SegmentSize};

/// A copy that is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedCopy {
    /// The file.
    pub path: PathBuf,
    /// The copy that is used instead.
    pub instead: PathBuf,
    /// Where and how it is damaged.
    pub why: String,
}

impl DamagedCopy {
    /// What the plan says of it.
    pub fn consequence(&self) -> Consequence {
        let text = format!("{} is damaged {}: {} is used instead", self.path.display(), self.why, self.instead.display());
        Consequence { id: "wal-copy-damaged".into(), text }
    }
}

/// The copy to pass over next, where the chain broke in a segment that has another one.
pub fn next(wal: &[WalSource], findings: &WalFindings, size: SegmentSize) -> Option<DamagedCopy> {
    let end = findings.damage(size)?;
    let copies = chain::copies(wal);
    let begun = size.number(end.at);
    let of = |number: u64| findings.segments.iter().find(|segment| segment.number == number);
    let named = |name: &SegmentName| match copies.get(name)?.as_slice() {
        [used, other, ..] => Some((used.directory.join(&used.file), other.directory.join(&other.file))),
        _ => None,
    };
    let (path, instead) = [begun, begun.saturating_add(1)].into_iter().filter_map(of).find_map(named)?;
    Some(DamagedCopy { path, instead, why: format!("at {} ({})", end.at, end.reason) })
}

/// Marks the copies at `paths` as damaged: [`chain::copies`] leaves them out.
pub fn mark<'a>(wal: &mut [WalSource], paths: impl IntoIterator<Item = &'a PathBuf> + Clone) {
    for source in wal {
        for segment in &mut source.segments {
            let file = source.directory.join(&segment.file);
            if segment.problem.is_none() && paths.clone().into_iter().any(|path| *path == file) {
                segment.problem = Some("its records are damaged".into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::Timeline;
    use crate::plan::facts::{SegmentCopy, WalKind};

    #[test]
    fn a_marked_copy_is_left_out_and_the_other_is_taken() {
        let size = SegmentSize::new(16 << 20).unwrap();
        let name = SegmentName { timeline: Timeline(1), number: 5 };
        let copy = SegmentCopy { name, file: name.file_name(size), size: size.bytes(), problem: None, partial: false };
        let source = |directory: &str| WalSource {
            directory: directory.into(),
            kind: WalKind::Archive,
            segments: vec![copy.clone()],
            histories: vec![],
            backups: vec![],
            marks: vec![],
            problem: None,
        };
        let mut wal = [source("/a"), source("/b")];
        let bad = PathBuf::from("/a").join(&copy.file);
        mark(&mut wal, [&bad]);
        let left = chain::copies(&wal).remove(&name).unwrap();
        assert_eq!(left.iter().map(|c| c.directory.clone()).collect::<Vec<_>>(), [PathBuf::from("/b")]);
    }
}
