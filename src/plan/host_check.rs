//! Is this host ready for a recovery? Each question a line: ok, a warning, or a failure with what to do. Pure.
//!
//! The planner's own reasons against a recovery to the latest point are the ground; the archiver, the ages and the
//! administrator's limits come beside them.

use jiff::Timestamp;

use super::facts::{Host, Server, WalKind};
use super::planned::{Planned, Reason};
use super::window;

/// Files that may wait for the archiver without a word.
const WAITING: usize = 2;
/// A backup that is older is worth a word, in seconds: a week.
const OLD_BACKUP: u64 = 7 * 86_400;
/// Bytes at the beginning of a segment that an idle server writes by itself: nothing of value waits there.
const IDLE_BYTES: u64 = 4096;

/// How a question was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Good.
    Ok,
    /// Worth a look.
    Warn,
    /// A recovery would fail, or lose more than was allowed.
    Fail,
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Stable id.
    pub id: String,
    /// The answer.
    pub answer: Answer,
    /// In words.
    pub what: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Line {
    fn ok(id: &str, what: impl Into<String>) -> Line {
        Line { id: id.into(), answer: Answer::Ok, what: what.into(), hint: None }
    }

    fn warn(id: &str, what: impl Into<String>, hint: impl Into<String>) -> Line {
        Line { id: id.into(), answer: Answer::Warn, what: what.into(), hint: Some(hint.into()) }
    }

    fn fail(id: &str, what: impl Into<String>, hint: impl Into<String>) -> Line {
        Line { id: id.into(), answer: Answer::Fail, what: what.into(), hint: Some(hint.into()) }
    }
}

/// What `pg_stat_archiver` says; ages in seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archiver {
    /// The last file that was archived, and how long ago.
    pub archived: Option<(String, u64)>,
    /// The last failure, where nothing was archived since.
    pub failing: Option<(String, u64)>,
    /// `archive_timeout` in seconds; 0 is off.
    pub timeout: u64,
    /// Bytes in the segment that is being written.
    pub pending: u64,
}

/// What the administrator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    /// The file that defines the cluster, if one does.
    pub file: Option<String>,
    /// How many checks are configured, or why they cannot be read.
    pub checks: std::result::Result<usize, String>,
    /// Largest loss, in seconds.
    pub rpo: Option<u64>,
    /// Longest recovery, in seconds.
    pub rto: Option<u64>,
    /// Oldest age of the newest backup, in seconds.
    pub backup_age: Option<u64>,
}

/// Answers every question. `planned` is the plan of a recovery to the latest point.
pub fn lines(host: &Host, planned: &Planned, archiver: Option<&Archiver>, wishes: &Wishes) -> Vec<Line> {
    let mut left: Vec<Reason> = planned.refusals.clone();
    let mut lines = vec![configuration(wishes), checks(wishes), server(host)];
    lines.extend(capabilities(&mut left));
    lines.push(archiving(host));
    lines.extend(archiver.map(archiver_line));
    lines.push(waiting(host));
    lines.extend(judged(&mut left, &["no-archive", "archive-unreadable", "archive-empty"], || archive(host)));
    lines.push(backup(host, wishes));
    lines.extend(wal(host));
    lines.extend(wishes.rpo.map(|rpo| rpo_line(rpo, archiver)));
    lines.extend(judged(&mut left, &["no-space"], || room(planned)));
    lines.extend(wishes.rto.and_then(|rto| rto_line(rto, planned)));
    left.retain(|reason| reason.id != "wal-gap" && !reason.id.starts_with("no-backup"));
    lines.extend(left.iter().map(of_reason));
    lines
}

fn of_reason(reason: &Reason) -> Line {
    let hint = reason.hint.clone();
    if reason.judgement { Line::warn(&reason.id, &reason.what, hint) } else { Line::fail(&reason.id, &reason.what, hint) }
}

/// The reasons among `ids`, or where there is none the line that says so.
fn judged(left: &mut Vec<Reason>, ids: &[&str], good: impl FnOnce() -> Line) -> Vec<Line> {
    let (ours, others): (Vec<Reason>, Vec<Reason>) = left.drain(..).partition(|r| ids.contains(&r.id.as_str()));
    *left = others;
    if ours.is_empty() { vec![good()] } else { ours.iter().map(of_reason).collect() }
}

fn configuration(wishes: &Wishes) -> Line {
    match &wishes.file {
        Some(file) => Line::ok("configuration", format!("{file} defines this cluster")),
        None => Line::warn(
            "configuration",
            "no configuration names this cluster: what can be guessed is guessed",
            "Name it in /etc/pitr/pitr.toml, with `backups` and `wal_archive`.",
        ),
    }
}

fn checks(wishes: &Wishes) -> Line {
    match &wishes.checks {
        Ok(0) => {
            Line::warn("checks", "no checks are configured: a recovery is proved by its target only", "Write a few queries: `checks`.")
        }
        Ok(count) => Line::ok("checks", format!("{count} checks can be read")),
        Err(why) => Line::fail("checks", why, "Correct the file: no recovery begins with it."),
    }
}

fn server(host: &Host) -> Line {
    let version = &host.cluster.version;
    match host.cluster.server {
        Server::Serving { .. } => Line::ok("server", format!("PostgreSQL {version} serves")),
        Server::Stopped => Line::warn("server", format!("PostgreSQL {version} is stopped"), "Its archiver does not work while it is."),
        Server::Absent => {
            let word = host.cluster.remains.word().unwrap_or("absent");
            Line::fail("server", format!("the data directory is {word}"), "Recover it: pitr plan --to-latest.")
        }
        Server::Crashed => Line::fail("server", format!("PostgreSQL {version} is down and was not shut down"), "Start it, or recover it."),
    }
}

fn capabilities(left: &mut Vec<Reason>) -> Vec<Line> {
    let questions = [
        ("no-exchange", "exchange", "two directories beside PGDATA can be exchanged in one step"),
        ("no-namespaces", "namespaces", "the private server can have namespaces of its own"),
        ("no-program", "program", "the cluster's owner can reach and run pitr's copy"),
        ("parent-directory", "parent", "the directory above PGDATA is safe for a run's directory"),
    ];
    questions.into_iter().flat_map(|(reason, id, good)| judged(left, &[reason], || Line::ok(id, good))).collect()
}

fn archiving(host: &Host) -> Line {
    let configuration = &host.cluster.configuration;
    let mode = configuration.get("archive_mode");
    let set = |name: &str| !configuration.get(name).is_empty() && configuration.get(name) != "(disabled)";
    if !matches!(mode, "on" | "always") {
        let hint = "Set archive_mode and archive_command: without WAL only the moment of a backup can be had back.";
        return Line::fail("archiving", format!("archive_mode is {}", if mode.is_empty() { "unknown" } else { mode }), hint);
    }
    if !set("archive_command") && !set("archive_library") {
        return Line::fail("archiving", "archive_mode is on and archive_command is empty", "Set archive_command: WAL piles up in pg_wal.");
    }
    Line::ok("archiving", format!("archive_mode is {mode}"))
}

fn archiver_line(archiver: &Archiver) -> Line {
    match (&archiver.failing, &archiver.archived) {
        (Some((file, age)), _) => Line::fail(
            "archiver",
            format!("the archiver fails: {file}, last tried {} ago", age_words(*age)),
            "The server's log has the words of archive_command.",
        ),
        (None, Some((file, age))) => Line::ok("archiver", format!("{file} was archived {} ago", age_words(*age))),
        (None, None) => Line::warn("archiver", "nothing was archived since the statistics began", "Try it: SELECT pg_switch_wal()."),
    }
}

fn waiting(host: &Host) -> Line {
    let live = host.wal.iter().filter(|source| source.kind == WalKind::Live);
    let ready = live.flat_map(|source| &source.marks).filter(|mark| mark.ends_with(".ready")).count();
    match ready {
        0..=WAITING => Line::ok("ready-files", format!("{ready} files wait to be archived")),
        _ => Line::warn(
            "ready-files",
            format!("{ready} files wait to be archived: they exist only in pg_wal"),
            "Is the archiver slow, or does it fail?",
        ),
    }
}

fn archive(host: &Host) -> Line {
    let archives = host.wal.iter().filter(|source| source.kind == WalKind::Archive);
    let words = archives.map(|source| format!("{} ({} segments)", source.directory.display(), source.segments.len()));
    Line::ok("archive", words.collect::<Vec<_>>().join(", "))
}

fn backup(host: &Host, wishes: &Wishes) -> Line {
    let own = host.cluster.control_file.system_identifier;
    let usable = host.backups.iter().filter(|b| b.is_usable() && b.foreign_to(own).is_none());
    let Some((ended, newest)) = usable.map(|b| (window::ended(host, b), b)).max_by_key(|(ended, _)| *ended) else {
        return Line::fail(
            "backup",
            "no backup can be used",
            "pitr backups says what speaks against each. Take one: pg_basebackup -Ft -z.",
        );
    };
    let age = ended.map(|ended| seconds_between(ended, host.now));
    let Some(age) = age else {
        return Line::warn("backup", format!("the age of {} is not known", newest.name), "Look at it: pitr verify backups.");
    };
    let words = format!("the newest backup, {}, is {} old", newest.name, age_words(age));
    match wishes.backup_age {
        Some(most) if age > most => Line::fail("backup", words, "Take a new one."),
        None if age > OLD_BACKUP => Line::warn("backup", words, "A recovery replays all WAL since: take a new one."),
        _ => Line::ok("backup", words),
    }
}

fn wal(host: &Host) -> Vec<Line> {
    let (windows, gaps) = window::windows(host);
    let mut lines: Vec<Line> = gaps
        .iter()
        .map(|gap| Line::fail("wal-gap", gap, "Look for it in other copies of the archive, and take a new backup now: pg_basebackup."))
        .collect();
    match windows.last() {
        Some(window) => {
            let from = windows.first().unwrap_or(window).from.map_or_else(|| "its backup on".into(), super::time::render_time);
            lines.push(Line::ok("window", format!("any moment from {from} can be had back, on timeline {}", window.timeline)));
        }
        None => lines.push(Line::fail("window", "nothing can be recovered: no backup has its WAL", "Take a backup now: pg_basebackup.")),
    }
    lines
}

/// What would be lost with the host: commits whose segment was not archived within the limit.
fn rpo_line(rpo: u64, archiver: Option<&Archiver>) -> Line {
    let Some(archiver) = archiver else {
        return Line::warn("rpo", "whether rpo is held is not known: the server does not answer", "Start it, or let root's pitr log in.");
    };
    let waits = archiver.pending > IDLE_BYTES;
    match &archiver.archived {
        Some((_, age)) if waits && *age > rpo => Line::fail(
            "rpo",
            format!("what was committed in the last {} stands only in pg_wal; rpo is {}", age_words(*age), age_words(rpo)),
            "Set archive_timeout below rpo.",
        ),
        _ if archiver.timeout == 0 || archiver.timeout > rpo => Line::warn(
            "rpo",
            format!(
                "archive_timeout is {}: a quiet hour's commits stay out of the archive longer than rpo, {}",
                timeout_words(archiver.timeout),
                age_words(rpo)
            ),
            "Set archive_timeout below rpo.",
        ),
        _ => Line::ok("rpo", format!("nothing waits longer for the archive than rpo, {}", age_words(rpo))),
    }
}

fn timeout_words(seconds: u64) -> String {
    if seconds == 0 { "off".into() } else { age_words(seconds) }
}

fn room(planned: &Planned) -> Line {
    let space = &planned.space;
    let (needed, free) = (space.needed >> 20, space.free >> 20);
    if planned.backup.is_none() {
        return Line::warn(
            "room",
            format!("{free} MiB free on {}; what is needed is not known without a backup", space.at),
            "Take a backup.",
        );
    }
    Line::ok("room", format!("a recovery needs {needed} MiB on {}, {free} MiB are free", space.at))
}

fn rto_line(rto: u64, planned: &Planned) -> Option<Line> {
    let estimate = planned.estimate?;
    let words = format!("a recovery would take about {}; rto is {}", age_words(estimate.total_seconds), age_words(rto));
    Some(if estimate.total_seconds > rto {
        Line::warn("rto", words, "Take backups more often: less WAL is replayed then.")
    } else {
        Line::ok("rto", words)
    })
}

fn seconds_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_second().saturating_sub(from.as_second())).unwrap_or(0)
}

/// `40 s`, `5 min`, `3 h`, `2 d`: rounded down.
fn age_words(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archiver() -> Archiver {
        Archiver { archived: Some(("000000010000000000000005".into(), 40)), failing: None, timeout: 60, pending: 0 }
    }

    #[test]
    fn a_failing_archiver_fails() {
        assert_eq!(archiver_line(&archiver()).answer, Answer::Ok);
        let failing = Archiver { failing: Some(("000000010000000000000006".into(), 3)), ..archiver() };
        assert_eq!(archiver_line(&failing).answer, Answer::Fail);
        assert_eq!(archiver_line(&Archiver { archived: None, ..archiver() }).answer, Answer::Warn);
    }

    #[test]
    fn rpo_is_about_what_only_pg_wal_has() {
        let answer = |archiver: &Archiver| rpo_line(300, Some(archiver)).answer;
        let old = |age, pending, timeout| Archiver { archived: Some(("x".into(), age)), failing: None, timeout, pending };
        assert_eq!(answer(&archiver()), Answer::Ok);
        assert_eq!(answer(&old(301, 1 << 20, 60)), Answer::Fail);
        assert_eq!(answer(&old(3000, 40, 60)), Answer::Ok, "an idle server has nothing to lose");
        assert_eq!((answer(&old(3, 40, 0)), answer(&old(3, 40, 301))), (Answer::Warn, Answer::Warn));
        assert_eq!(rpo_line(300, None).answer, Answer::Warn);
    }

    #[test]
    fn reasons_become_lines_once() {
        let mut left = vec![Reason::fact("no-space", "full", "purge"), Reason::judgement("no-manifest", "bare", "take")];
        let lines = judged(&mut left, &["no-space"], || Line::ok("room", "enough"));
        assert_eq!((lines.len(), lines[0].answer, left.len()), (1, Answer::Fail, 1));
        assert_eq!(judged(&mut left, &["no-space"], || Line::ok("room", "enough"))[0].answer, Answer::Ok);
        assert_eq!(of_reason(&left[0]).answer, Answer::Warn);
        assert_eq!(
            (age_words(119), age_words(7199), age_words(90_000), age_words(900_000)),
            ("119 s".into(), "119 min".into(), "25 h".into(), "10 d".into())
        );
    }
}
