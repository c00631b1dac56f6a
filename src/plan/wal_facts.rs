//! What reading the records of a chain showed, and what a target means in the light of it. Pure.
//!
//! Guarantees: a target is given to PostgreSQL only as the start of a record that was read with its checksum, behind
//! the end of the backup; everything else is refused with the choices there are.

use super::backup::Choice;
use super::elsewhere::Elsewhere;
use super::planned::Reason;
use super::recovery::Target;
use super::target::{MigrationTarget, TargetRequest};
use super::time::render_time;
use crate::pg::{Lsn, SegmentName, SegmentSize};
use crate::store::catalogue::Label;
use crate::wal::inquiry::{Answer, Question, Stop};
use crate::wal::resolve::{Ended, Found, RestorePoint};
use crate::wal::{EndOfWal, PgTime};

/// Findings of one read of the chain from one backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalFindings {
    /// Path of that backup.
    pub backup: std::path::PathBuf,
    /// What the records say.
    pub answer: Answer,
    /// The segments that were there to be read, in order.
    pub segments: Vec<SegmentName>,
    /// The last of them is complete: it stands in an archive.
    pub last_is_archived: bool,
    /// Behind it a segment is missing, not only yet to be written.
    pub hole: bool,
    /// Ends of transactions of the id that was asked for which are not on the history that was read.
    pub elsewhere: Vec<Elsewhere>,
}

/// What a target comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// This record.
    Record(Stop),
    /// The last record there is: what was asked for lies behind it, and nothing that it would discard was written.
    NewestRecord(Stop),
    /// What PostgreSQL finds by itself: the end after the stop, or the end of a backup that has no record of it.
    Unresolved,
    /// A record before the backup is consistent: an older one is needed.
    BeforeBackup(String),
    /// It is not in what was read.
    NotFound(Reason),
    /// It cannot be done.
    Refused(Reason),
}

/// The question that a target asks of the WAL.
pub fn question(request: &TargetRequest) -> Question {
    let time = |time: &jiff::Timestamp| PgTime::from_unix_micros(time.as_microsecond());
    match request {
        TargetRequest::ToTime(t) => Question::Time { time: time(t), inclusive: true },
        TargetRequest::BeforeTime(t) => Question::Time { time: time(t), inclusive: false },
        TargetRequest::ToXid(xid) => Question::Xid { xid: *xid, inclusive: true },
        TargetRequest::BeforeXid(xid) => Question::Xid { xid: *xid, inclusive: false },
        TargetRequest::ToLsn(lsn) => Question::Lsn { lsn: *lsn, inclusive: true },
        TargetRequest::BeforeLsn(lsn) => Question::Lsn { lsn: *lsn, inclusive: false },
        TargetRequest::BeforeMigration(migration) => Question::Lsn { lsn: migration.lsn, inclusive: false },
        TargetRequest::ToName(name) => Question::Name(name.clone()),
        TargetRequest::ToLatest => Question::Latest,
        TargetRequest::ToConsistent => Question::Consistent,
    }
}

impl WalFindings {
    /// What `target` means from the backup `chosen`.
    pub fn meaning(&self, target: &Target, chosen: &Choice, size: SegmentSize) -> Meaning {
        let meaning = self.place(target, size);
        if meaning == Meaning::Unresolved && self.has_no_end(chosen) {
            return Meaning::Refused(self.incomplete(chosen, size));
        }
        let (Meaning::Record(stop) | Meaning::NewestRecord(stop)) = &meaning else { return meaning };
        if let Some(unread) = self.last_record().filter(|last| stop.lsn > *last) {
            return Meaning::NotFound(self.broken(size).unwrap_or_else(|| behind_the_end(stop.lsn, unread)));
        }
        match self.consistent(*stop, chosen) {
            Consistent::Yes => meaning,
            Consistent::Before(end) => Meaning::BeforeBackup(format!("it ended after the target, at {end}")),
            Consistent::Unknown => Meaning::Refused(self.incomplete(chosen, size)),
        }
    }

    /// Reasons that follow from the WAL up to the target, wherever that is.
    pub fn reasons(&self, chosen: &Choice, reasons: &mut Vec<Reason>) {
        reasons.extend(self.misses_checkpoint(chosen));
        if let Some(lsn) = self.answer.difference {
            reasons.push(Reason::fact(
                "wal-other-branch",
                format!("at {lsn} the WAL and the timeline history do not tell of the same timeline"),
                "Segments of another branch were put into the archive, or the .history file is not theirs.",
            ));
        }
        if let Some(lsn) = self.answer.minimal {
            reasons.push(Reason::fact(
                "wal-minimal",
                format!("from {lsn} on WAL was written with wal_level = minimal: it does not hold every change"),
                format!("Choose a target before it, or a backup later than {}.", chosen.entry.name),
            ));
        }
    }

    /// Where the label says that the checkpoint of the backup is there is none: PostgreSQL would not start on it.
    fn misses_checkpoint(&self, chosen: &Choice) -> Option<Reason> {
        let Label::Found(label) = &chosen.entry.label else { return None };
        let read = self.last_record().is_some_and(|last| last > label.checkpoint);
        (read && self.answer.checkpoint != Some(label.start_lsn)).then(|| {
            Reason::fact(
                "no-checkpoint",
                format!(
                    "at {}, where the label of {} says, WAL has no checkpoint record with the redo point {}",
                    label.checkpoint, chosen.entry.name, label.start_lsn
                ),
                "The label or the WAL is of something else: choose another backup: pitr backups.",
            )
        })
    }

    /// Where WAL is damaged, when that is not simply its end.
    pub fn damage(&self, size: SegmentSize) -> Option<EndOfWal> {
        let last = self.segments.last()?.number;
        let end = self.answer.end?;
        // Complete segments have no end of WAL in them.
        let within = size.number(end.at) < last || (size.number(end.at) == last && self.last_is_archived);
        within.then_some(end)
    }

    /// Everything up to here can be reached: the flag that does it.
    pub fn furthest(&self) -> Option<String> {
        self.last_record().map(|lsn| format!("--to-lsn {lsn}"))
    }

    /// Start of the last good record.
    pub fn last_record(&self) -> Option<Lsn> {
        self.answer.last.map(|(start, _)| start)
    }

    /// Highest values of settings that hot standby needs, as [`crate::pg::version::FLOORS`] names them.
    pub fn floors(&self) -> Option<[i64; 5]> {
        let p = self.answer.parameters?;
        let list = [p.max_connections, p.max_worker_processes, p.max_wal_senders, p.max_prepared_transactions, p.max_locks_per_transaction];
        Some(list.map(i64::from))
    }

    /// Damage as a reason against whatever lies behind it.
    pub fn broken(&self, size: SegmentSize) -> Option<Reason> {
        let end = self.damage(size)?;
        let number = size.number(end.at);
        let name = self.segments.iter().find(|segment| segment.number == number).map(|segment| segment.file_name(size)).unwrap_or_default();
        let newest = self.answer.newest.map(|ended| format!(", with every transaction up to {}", when(&ended))).unwrap_or_default();
        let hint = match self.furthest() {
            Some(flag) => format!("It is good up to there{newest}: {flag} reaches that point."),
            None => format!("Backup {} cannot be used without it.", self.backup.file_name().unwrap_or_default().to_string_lossy()),
        };
        Some(Reason::fact("wal-damaged", format!("WAL segment {name} is damaged at {}: {}", end.at, end.reason), hint))
    }

    fn place(&self, target: &Target, size: SegmentSize) -> Meaning {
        let answer = &self.answer;
        match &target.request {
            TargetRequest::ToXid(xid) | TargetRequest::BeforeXid(xid) => self.place_xid(*xid, target, size),
            TargetRequest::ToName(name) => self.place_name(name, size),
            TargetRequest::ToTime(_) | TargetRequest::BeforeTime(_) => match (answer.stop, self.newest_record()) {
                (Some(stop), _) => Meaning::Record(stop),
                (None, Some(stop)) if self.ends_well(size) => Meaning::NewestRecord(stop),
                (None, _) => self.not_found("no transaction ended after that time".into(), size),
            },
            TargetRequest::ToLsn(lsn) | TargetRequest::BeforeLsn(lsn) | TargetRequest::BeforeMigration(MigrationTarget { lsn, .. }) => {
                match (answer.stop, answer.last) {
                    (Some(stop), _) => Meaning::Record(stop),
                    // Exactly at the end, or behind the header of the page that would come: everything there is.
                    (None, Some((start, end))) if !target.inclusive && lsn.0 <= end.0.saturating_add(40) => {
                        Meaning::NewestRecord(Stop { lsn: start, end, inclusive: true })
                    }
                    (None, Some((start, _))) => Meaning::NotFound(self.broken(size).unwrap_or_else(|| behind_the_end(*lsn, start))),
                    (None, None) => self.not_found(format!("no record starts at {lsn} or later"), size),
                }
            }
            TargetRequest::ToConsistent => answer.stop.map_or(Meaning::Unresolved, Meaning::Record),
            TargetRequest::ToLatest => self.broken(size).map_or(Meaning::Unresolved, Meaning::Refused),
        }
    }

    fn place_xid(&self, xid: u64, target: &Target, size: SegmentSize) -> Meaning {
        let flag = target.request.arguments().0;
        let refused = |id: &str, what: String, hint: String| Meaning::Refused(Reason::fact(id, what, hint));
        let elsewhere = || self.elsewhere.iter().map(Elsewhere::words).collect::<Vec<_>>().join("; ");
        match self.answer.found.as_slice() {
            [found @ (Found::Commit(_) | Found::Abort(_) | Found::Subtransaction(_))] if !self.elsewhere.is_empty() => {
                let here = Elsewhere::here(target.timeline, found);
                refused(
                    "xid-ambiguous",
                    format!("{xid} is another transaction on another timeline: after a recovery ids are used again"),
                    format!("Say which one: {}; {}.", here.map(|here| here.words()).unwrap_or_default(), elsewhere()),
                )
            }
            [] if !self.answer.in_flight && !self.elsewhere.is_empty() && self.broken(size).is_none() => Meaning::NotFound(Reason::fact(
                "target-not-found",
                format!("transaction {xid} is not on timeline {}, but on another one", target.timeline),
                format!("To follow that one: {}.", elsewhere()),
            )),
            [Found::Commit(_) | Found::Abort(_)] => match self.answer.stop {
                Some(stop) => Meaning::Record(stop),
                None => self.not_found(format!("transaction {xid} does not end"), size),
            },
            [Found::Subtransaction(top)] => refused(
                "subtransaction",
                format!("{xid} is a subtransaction of {}, which committed at {}", top.xid, when(top)),
                format!("A target is a whole transaction: {flag} {}.", top.xid),
            ),
            [Found::Prepared { lsn }] => refused(
                "transaction-prepared",
                format!("transaction {xid} was prepared at {lsn}; it was neither committed nor rolled back since"),
                format!("To keep it prepared: --to-lsn {lsn}; without it: --before-lsn {lsn}."),
            ),
            [] if self.answer.in_flight => refused(
                "transaction-in-progress",
                format!("transaction {xid} has not ended in the WAL that there is"),
                "Nothing of it is committed: --to-latest does not hold it either.".into(),
            ),
            [] => self.not_found(format!("transaction {xid} neither committed nor rolled back"), size),
            several => {
                let choices: Vec<String> = several.iter().filter_map(xid_choice).collect();
                refused(
                    "xid-ambiguous",
                    format!("{xid} stands for more than one transaction"),
                    format!("Say which one: {}.", choices.join("; ")),
                )
            }
        }
    }

    fn place_name(&self, name: &str, size: SegmentSize) -> Meaning {
        match (self.answer.points.as_slice(), self.answer.stop) {
            ([_], Some(stop)) => Meaning::Record(stop),
            ([], _) | (_, None) => self.not_found(format!("there is no restore point {name:?}"), size),
            (several, Some(_)) => {
                let choices: Vec<String> = several.iter().map(|p| format!("--to-lsn {} (of {})", p.lsn, point_time(p))).collect();
                Meaning::Refused(Reason::fact(
                    "restore-point-ambiguous",
                    format!("{} restore points have the name {name:?}", several.len()),
                    format!("Say which one: {}.", choices.join(", or ")),
                ))
            }
        }
    }

    fn not_found(&self, what: String, size: SegmentSize) -> Meaning {
        Meaning::NotFound(self.broken(size).unwrap_or_else(|| {
            let (from, to) = (self.answer.first.unwrap_or_default(), self.answer.last.map_or(Lsn(0), |last| last.1));
            Reason::fact(
                "target-not-found",
                format!("{what} in the WAL from {from} to {to}"),
                "Look for it: pitr log. For everything there is: --to-latest.",
            )
        }))
    }

    /// The last good record, as a stop.
    pub fn newest_record(&self) -> Option<Stop> {
        self.answer.last.map(|(lsn, end)| Stop { lsn, end, inclusive: true })
    }

    /// Reading reached the end of WAL and not a break in it.
    fn ends_well(&self, size: SegmentSize) -> bool {
        !self.hole && self.damage(size).is_none()
    }

    /// A backup that streamed from a primary is consistent behind a record of its end, and only there.
    fn has_no_end(&self, chosen: &Choice) -> bool {
        let streamed = matches!(&chosen.entry.label, Label::Found(label) if label.streamed && !label.from_standby);
        streamed && self.answer.backup_end.is_none()
    }

    fn incomplete(&self, chosen: &Choice, size: SegmentSize) -> Reason {
        self.broken(size).unwrap_or_else(|| {
            let last = self.segments.last().map(|segment| segment.file_name(size)).unwrap_or_default();
            Reason::fact(
                "backup-incomplete",
                format!("WAL does not hold the end of backup {}: it would never become consistent", chosen.entry.name),
                format!("It was not finished, or WAL behind {last} is missing."),
            )
        })
    }

    fn consistent(&self, stop: Stop, chosen: &Choice) -> Consistent {
        let before = |record: Lsn| if stop.inclusive { stop.lsn < record } else { stop.lsn <= record };
        match (&chosen.entry.label, self.answer.backup_end) {
            (Label::Found(_), Some((start, end))) if before(start) => Consistent::Before(end),
            (Label::Found(_), Some(_)) => Consistent::Yes,
            // Consistent where pg_control says (a standby's), or where it was shut down (a cold copy).
            (Label::Found(_), None) if self.has_no_end(chosen) => Consistent::Unknown,
            _ => match chosen.end {
                Some(end) if before(end) => Consistent::Before(end),
                _ => Consistent::Yes,
            },
        }
    }
}

enum Consistent {
    Yes,
    Before(Lsn),
    Unknown,
}

fn behind_the_end(wanted: Lsn, last: Lsn) -> Reason {
    Reason::fact(
        "target-behind-wal",
        format!("{wanted} lies behind the end of WAL"),
        format!("The furthest point is the last record: --to-lsn {last}."),
    )
}

fn xid_choice(found: &Found) -> Option<String> {
    let (ended, word) = match found {
        Found::Commit(ended) => (ended, "committed"),
        Found::Subtransaction(ended) => (ended, "as a subtransaction of what committed"),
        Found::Abort(ended) => (ended, "rolled back"),
        Found::Prepared { lsn } => return Some(format!("--to-lsn {lsn} (prepared)")),
    };
    Some(format!("--to-lsn {} or --before-lsn {} ({word} {})", ended.lsn, ended.lsn, when(ended)))
}

fn when(ended: &Ended) -> String {
    timestamp(ended.time).map_or_else(|| ended.lsn.to_string(), render_time)
}

fn point_time(point: &RestorePoint) -> String {
    timestamp(point.time).map_or_else(|| "an unknown time".into(), render_time)
}

/// A time of the WAL; `None` where it is none that a calendar has.
pub fn timestamp(time: PgTime) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_microsecond(time.unix_micros()).ok()
}
