//! What would help where a recovery is refused for WAL or for a backup: looked for in what the host was seen to hold, and
//! said behind the reason's own hint. Pure.
//!
//! Guarantees: a flag that is named here was tried against the same facts. Pg_wal and asides need no naming: they are
//! looked through by themselves.

use super::backup::{self, Choice};
use super::chain;
use super::discards::fork;
use super::facts::Host;
use super::planned::Reason;
use super::recovery::Target;
use super::restore::Request;
use super::target::TargetRequest;
use super::time::render_time;
use super::wal_facts::question;
use crate::pg::{History, Lsn, SegmentName, Timeline};
use crate::store::catalogue::CatalogueEntry;
use crate::store::source::Form;
use crate::wal::inquiry::Question;

/// Adds to each reason what would help against it.
pub(super) fn complete(host: &Host, request: &Request, target: &Target, chosen: Option<&Choice>, reasons: &mut [Reason]) {
    let help = Help { host, request, target };
    for reason in reasons {
        let sentences = match (reason.id.as_str(), chosen) {
            ("wal-gap" | "wal-damaged" | "backup-incomplete", Some(chosen)) => help.against_lack(&reason.id, chosen),
            ("target-behind-wal", Some(chosen)) => help.against_end(chosen),
            ("target-not-found" | "target-behind-wal", _) => help.timelines().into_iter().collect(),
            ("target-before-backup" | "no-usable-backup", _) => help.earliest().into_iter().collect(),
            ("backup-unusable", _) => help.better().into_iter().collect(),
            _ => vec![],
        };
        for sentence in sentences {
            reason.hint.push(' ');
            reason.hint += &sentence;
        }
    }
}

struct Help<'a> {
    host: &'a Host,
    request: &'a Request,
    target: &'a Target,
}

impl Help<'_> {
    /// Against a segment that is missing or damaged: the nearest help first.
    fn against_lack(&self, id: &str, chosen: &Choice) -> Vec<String> {
        let Some(lack) = self.lack(id, chosen) else { return vec![] };
        let name = lack.file_name(self.size());
        let mut sentences = vec![];
        sentences.extend(self.other_timeline(chosen, lack));
        sentences.extend(self.other_backup(chosen, lack));
        sentences.extend(self.own_wal(chosen, lack, &name));
        sentences.push(format!("Look for {name} in other copies of the archive: {}.", self.with_wal("DIR")));
        sentences
    }

    /// Against an end of WAL before the target.
    fn against_end(&self, chosen: &Choice) -> Vec<String> {
        let Some(lack) = self.lack("", chosen) else { return vec![] };
        self.other_timeline(chosen, lack).or_else(|| self.timelines()).into_iter().collect()
    }

    fn size(&self) -> crate::pg::SegmentSize {
        self.host.cluster.control_file.segment_size
    }

    /// The segment that is missed.
    fn lack(&self, id: &str, chosen: &Choice) -> Option<SegmentName> {
        let size = self.size();
        if id == "wal-damaged" {
            let findings = self.request.findings_for(chosen)?;
            let number = size.number(findings.damage(size)?.at);
            return findings.segments.iter().find(|segment| segment.number == number).copied();
        }
        let links = chain::follow(&self.target.history, size.number(chosen.start), None, &self.host.wal, size);
        links.end.map(|gap| gap.missing)
    }

    /// Where the target is, found or not.
    fn wanted(&self) -> Option<Lsn> {
        match question(&self.target.request) {
            Question::Lsn { lsn, .. } => self.target.last_byte().or(Some(lsn)),
            _ => self.target.last_byte(),
        }
    }

    /// The last segment that a recovery from `choice` on `history` needs, where that is known.
    fn until(&self, choice: &Choice) -> Option<u64> {
        let last = match (&self.target.request, choice.end) {
            (TargetRequest::ToConsistent, end) => end.map(|end| Lsn(end.0.saturating_sub(1))),
            _ => self.wanted(),
        };
        last.map(|lsn| self.size().number(lsn))
    }

    fn whole(&self, history: &History, choice: &Choice, lack: SegmentName) -> bool {
        let Some(until) = self.until(choice) else { return false };
        let links = chain::follow(history, self.size().number(choice.start), Some(until), &self.host.wal, self.size());
        links.end.is_none() && !links.segments.contains(&lack)
    }

    /// A timeline that branches off behind the target has the same up to there, and the segment with the fork as its own.
    fn other_timeline(&self, chosen: &Choice, lack: SegmentName) -> Option<String> {
        let lsn = self.wanted().or(chosen.end)?;
        let texts = chain::histories(&self.host.wal);
        let of = |(timeline, text): (Timeline, String)| History::parse(timeline, text.as_bytes()).ok();
        let others = texts.into_iter().filter_map(of).filter(|history| history.timeline != self.target.timeline);
        let same = |history: &History| fork(&self.target.history, history) > lsn;
        let found = others.filter(same).find(|history| self.whole(history, chosen, lack))?;
        let timeline = found.timeline;
        Some(format!("Timeline {timeline} is the same up to the target, and its segments are all there: --timeline {timeline}."))
    }

    fn other_backup(&self, chosen: &Choice, lack: SegmentName) -> Option<String> {
        let candidates = backup::serving(self.host, self.request, self.target, &mut vec![]);
        let others = candidates.into_iter().rev().filter(|choice| choice.entry.path != chosen.entry.path);
        let found = others.into_iter().find(|choice| self.whole(&self.target.history, choice, lack))?;
        Some(format!("Backup {0} does not need it: --backup {0}.", found.entry.name))
    }

    /// `pg_basebackup` packs the WAL that makes a backup consistent along with it.
    fn own_wal(&self, chosen: &Choice, lack: SegmentName, name: &str) -> Option<String> {
        let listed = chosen.entry.wal.as_ref().map(|files| files.iter().any(|file| *file == name));
        Some(match &chosen.entry.source.form {
            _ if listed == Some(false) => return None,
            Form::Plain { directory, from_server: true, .. } if listed.is_some() => {
                format!("The backup brings it along: {}.", self.with_wal(&directory.join("pg_wal").display().to_string()))
            }
            // Of what is compressed the names are not known before it is unpacked.
            Form::TarDirectory { directory, wal: Some(wal), .. } if listed.is_some() || self.is_backups_own(chosen, lack) => {
                let file = directory.join(wal);
                format!(
                    "The backup brings it along: unpack {} into a directory of its own, then {}.",
                    file.display(),
                    self.with_wal("THAT_DIRECTORY")
                )
            }
            Form::Tarball { file, from_server: true } if listed.is_some() || self.is_backups_own(chosen, lack) => format!(
                "The backup brings it along: unpack pg_wal of {} into a directory of its own, then {}.",
                file.display(),
                self.with_wal("THAT_DIRECTORY")
            ),
            Form::TarDirectory { .. } | Form::Tarball { .. } | Form::Plain { .. } => return None,
        })
    }

    /// From its redo point to its end: what makes it consistent.
    fn is_backups_own(&self, chosen: &Choice, lack: SegmentName) -> bool {
        chosen.end.is_none_or(|end| lack.number <= self.size().number(Lsn(end.0.saturating_sub(1))))
    }

    /// `--wal` stands in place of the archive: that is named too.
    fn with_wal(&self, directory: &str) -> String {
        let archives = self.request.site.archives.iter().map(|archive| archive.display().to_string());
        archives.chain([directory.to_string()]).map(|path| format!("--wal {path}")).collect::<Vec<_>>().join(" ")
    }

    fn timelines(&self) -> Option<String> {
        let numbers = chain::numbers(&self.host.wal).into_iter().filter(|number| *number != self.target.timeline);
        let others: Vec<String> = numbers.map(|number| number.to_string()).collect();
        let (last, first) = others.split_last()?;
        Some(match first {
            [] => format!("There is WAL of timeline {last} too: --timeline {last} looks on it."),
            first => format!("There is WAL of timelines {} and {last} too: --timeline N looks on one of them.", first.join(", ")),
        })
    }

    /// Backups that serve some target on this timeline.
    fn of_timeline(&self) -> Vec<Choice> {
        let target = Target { request: TargetRequest::ToConsistent, ..self.target.clone() };
        let request = Request { ruled_out: vec![], ..self.request.clone() };
        backup::serving(self.host, &request, &target, &mut vec![])
    }

    fn earliest(&self) -> Option<String> {
        let first = self.of_timeline().into_iter().min_by_key(|choice| choice.start)?;
        let name = &first.entry.name;
        let at = match (first.end, first.ended) {
            (_, Some(time)) => format!(", {}", render_time(time)),
            (Some(lsn), None) => format!(", {lsn}"),
            (None, None) => String::new(),
        };
        Some(format!("The earliest point that can be reached is the end of {name}{at}: --to-consistent --backup {name}."))
    }

    fn better(&self) -> Option<String> {
        let found: CatalogueEntry = backup::serving(self.host, self.request, self.target, &mut vec![]).pop()?.entry;
        Some(format!("{0} serves this target: --backup {0}.", found.name))
    }
}
