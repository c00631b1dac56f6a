//! What can be reached: from each backup's end as far as WAL goes on the serving timeline.

use jiff::Timestamp;

use super::chain;
use super::facts::Host;
use crate::pg::history::History;
use crate::pg::{Lsn, Timeline};
use crate::store::catalogue::{CatalogueEntry, Label};

/// A stretch of time every moment of which can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// On this timeline.
    pub timeline: Timeline,
    /// The earliest backup's end.
    pub from: Option<Timestamp>,
    /// The newest WAL's time; `None` where its records were not read.
    pub to: Option<Timestamp>,
    /// There is WAL up to here.
    pub until: Lsn,
}

/// Windows on the serving timeline and what interrupts them.
pub fn windows(host: &Host) -> (Vec<Window>, Vec<String>) {
    let timeline = host.cluster.control_file.timeline;
    let size = host.cluster.control_file.segment_size;
    let Some(history) = history(host, timeline) else { return (vec![], vec![format!("the history of timeline {timeline} is not known")]) };
    let own = host.cluster.control_file.system_identifier;
    let usable = host.backups.iter().filter(|b| b.is_usable() && b.foreign_to(own).is_none());
    let mut starts: Vec<_> =
        usable.filter_map(|b| place(b).filter(|(t, _)| history.end_of(*t).is_some()).map(|(_, start)| (start, ended(host, b)))).collect();
    starts.sort();
    let (mut windows, mut gaps) = (Vec::new(), Vec::new());
    let mut covered = None;
    for (start, from) in starts {
        if covered.is_some_and(|until| start.0 < until) {
            continue;
        }
        let links = chain::follow(&history, size.number(start), None, &host.wal, size);
        let Some(end) = links.end else { continue };
        covered = Some(end.reachable.0);
        if links.segments.is_empty() {
            gaps.push(format!("{} is missing: a backup that needs it cannot be used", end.missing.file_name(size)));
            continue;
        }
        windows.push(Window { timeline, from, to: None, until: end.reachable });
        if end.hole {
            gaps.push(format!(
                "{} is missing: from {} on nothing older can be carried further",
                end.missing.file_name(size),
                end.reachable
            ));
        }
    }
    (windows, gaps)
}

/// When a backup had ended, at the latest.
pub fn ended(host: &Host, entry: &CatalogueEntry) -> Option<Timestamp> {
    super::backup::place(host, entry).ok().and_then(|choice| choice.ended).or_else(|| {
        let stamp = entry.stop_time_bound?;
        Timestamp::new(stamp.seconds, i32::try_from(stamp.nanos).ok()?).ok()
    })
}

fn place(entry: &CatalogueEntry) -> Option<(Timeline, crate::pg::Lsn)> {
    match (&entry.label, &entry.control) {
        (Label::Found(label), _) => Some((label.timeline, label.start_lsn)),
        (Label::Absent, Some(control)) => Some((control.timeline, control.redo)),
        _ => None,
    }
}

fn history(host: &Host, timeline: Timeline) -> Option<History> {
    if timeline == Timeline(1) {
        return Some(History::root(timeline));
    }
    let text = chain::histories(&host.wal).remove(&timeline)?;
    History::parse(timeline, text.as_bytes()).ok()
}
