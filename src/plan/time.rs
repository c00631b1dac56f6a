//! Times as people type them and as `pitr` prints them.
//!
//! Guarantees: a text is read as one instant or refused; nothing is guessed from the host's zone, and what
//! [`render_time`] and [`rfc3339()`] print is read back as the same instant. PostgreSQL's clock has microseconds
//! (`TimestampTz`, datatype/timestamp.h), so finer input is refused and finer instants are printed rounded down.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use crate::error::{Error, Result};
use crate::plan::target::shell_word;

/// Reads `text`, the value of `flag` (such as `--to-time`), as one instant.
///
/// The form is `YYYY-MM-DD HH:MM[:SS[.ffffff]]` (or with `T`) followed by an offset (`+00`, `+0530`, `+00:00`),
/// `Z`, or, after a space, `UTC` or an IANA name such as `Europe/Paris`. Short zone names (`CET`, `EST`) are
/// refused: PostgreSQL and the zone database disagree about them in summer.
///
/// Errors are [`crate::error::Kind::Usage`]. For a time without zone the hint gives its readings in UTC and in
/// `zone`, the host's; a reading after `now` is marked.
pub fn parse_time(flag: &str, text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp> {
    let (local, rest) = civil(text.trim()).ok_or_else(|| not_a_time(flag, text))?;
    let local = local.map_err(|cause| not_a_time(flag, text).cause(cause))?;
    match stated_zone(rest) {
        Stated::Nothing => Err(without_zone(flag, text, local, now, zone)),
        Stated::Offset(offset) => offset.to_timestamp(local).map_err(|e| not_a_time(flag, text).cause(e)),
        Stated::Zone(zone) => in_zone(flag, text, local, &zone),
        Stated::Unknown(words) => Err(not_a_time(flag, text).cause(format!("{words:?} is neither an offset nor a zone name"))),
        Stated::Unclear(name) => Err(not_a_time(flag, text).cause(format!("the zone {name:?} is read differently by different programs"))),
    }
}

/// `2026-11-21 21:05:19.998811+00`: always UTC, always six digits.
pub fn render_time(time: Timestamp) -> String {
    whole_microseconds(time).strftime("%Y-%m-%d %H:%M:%S.%6f+00").to_string()
}

/// `2026-11-21T21:05:19.998811+00:00`, the form of every time in JSON.
pub fn rfc3339(time: Timestamp) -> String {
    whole_microseconds(time).strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string()
}

/// Serde's view of a time: [`rfc3339()`] as a string. For `#[serde(with = "plan::time::text")]`.
pub mod text {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes RFC 3339 with microseconds and offset.
    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::rfc3339(*time))
    }

    /// Reads RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What stands behind the time of day.
enum Stated {
    Nothing,
    Offset(Offset),
    Zone(TimeZone),
    /// A zone whose name has two meanings in the field.
    Unclear(String),
    Unknown(String),
}

fn whole_microseconds(time: Timestamp) -> Timestamp {
    let micros = time.as_nanosecond().div_euclid(1000);
    i64::try_from(micros).ok().and_then(|m| Timestamp::from_microsecond(m).ok()).unwrap_or(time)
}

/// Splits date and time of day from what follows. `None`: not of the form; inner error: no such date or time.
fn civil(text: &str) -> Option<(std::result::Result<DateTime, String>, &str)> {
    let (year, rest) = digits(text, 4, 4)?;
    let (month, rest) = digits(rest.strip_prefix('-')?, 2, 2)?;
    let (day, rest) = digits(rest.strip_prefix('-')?, 2, 2)?;
    let rest = rest.strip_prefix([' ', 'T', 't'])?;
    let (hour, rest) = digits(rest, 2, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(':')?, 2, 2)?;
    let (second, rest) = match rest.strip_prefix(':') {
        Some(rest) => digits(rest, 2, 2)?,
        None => ("0", rest),
    };
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest, 1, usize::MAX)?,
        None => ("", rest),
    };
    Some((numbers(year, [month, day, hour, minute, second], fraction), rest))
}

/// Between `least` and `most` leading digits (greedy) and the rest.
fn digits(text: &str, least: usize, most: usize) -> Option<(&str, &str)> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count().min(most);
    if count < least { None } else { text.split_at_checked(count) }
}

fn numbers(year: &str, rest: [&str; 5], fraction: &str) -> std::result::Result<DateTime, String> {
    if fraction.len() > 6 {
        return Err("more than six digits behind the second; PostgreSQL keeps microseconds".into());
    }
    let year: i16 = year.parse().map_err(|_| "no such year".to_string())?;
    let [month, day, hour, minute, second] = rest.map(|t| t.parse::<i8>().unwrap_or(-1));
    let nanos: i32 = format!("{fraction:0<9}").parse().map_err(|_| "no such fraction".to_string())?;
    DateTime::new(year, month, day, hour, minute, second, nanos).map_err(|e| e.to_string())
}

fn stated_zone(rest: &str) -> Stated {
    let word = rest.trim_start();
    if word.is_empty() {
        return Stated::Nothing;
    }
    if let Some(offset) = offset(word) {
        return Stated::Offset(offset);
    }
    if word.eq_ignore_ascii_case("Z") {
        return Stated::Offset(Offset::UTC);
    }
    if word.len() == rest.len() {
        return Stated::Unknown(word.into());
    }
    named_zone(word)
}

/// `UTC`, `GMT`, or a name of the zone database with a region; the rest of that database is unclear
/// (`CET` keeps summer time there and not in PostgreSQL, `Etc/GMT+5` is west of Greenwich, `right/` counts leap seconds).
fn named_zone(name: &str) -> Stated {
    if ["UTC", "GMT", "Etc/UTC"].iter().any(|utc| name.eq_ignore_ascii_case(utc)) {
        return Stated::Offset(Offset::UTC);
    }
    let Ok(zone) = TimeZone::get(name) else { return Stated::Unknown(name.into()) };
    let region = name.split_once('/').map(|(region, _)| region.to_ascii_lowercase());
    match region.as_deref() {
        None | Some("etc" | "right" | "posix" | "systemv") => Stated::Unclear(name.into()),
        Some(_) => Stated::Zone(zone),
    }
}

/// `±HH`, `±HHMM`, `±HH:MM`, `±HH:MM:SS`, up to 15:59:59 as in PostgreSQL (`MAX_TZDISP_HOUR`, utils/datetime.h).
fn offset(text: &str) -> Option<Offset> {
    let (sign, text) = match text.strip_prefix('+') {
        Some(text) => (1, text),
        None => (-1, text.strip_prefix('-')?),
    };
    let (hours, rest) = digits(text, 2, 2)?;
    let (minutes, rest) = match rest.strip_prefix(':') {
        Some(rest) => digits(rest, 2, 2)?,
        None if rest.is_empty() => ("0", rest),
        None => digits(rest, 2, 2)?,
    };
    let (seconds, rest) = match rest.strip_prefix(':') {
        Some(rest) => digits(rest, 2, 2)?,
        None => ("0", rest),
    };
    let (hours, minutes, seconds): (i32, i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?, seconds.parse().ok()?);
    if !rest.is_empty() || hours > 15 || minutes > 59 || seconds > 59 {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60 + seconds)).ok()
}

fn in_zone(flag: &str, text: &str, local: DateTime, zone: &TimeZone) -> Result<Timestamp> {
    let (what, before, after) = match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => {
            return offset.to_timestamp(local).map_err(|e| not_a_time(flag, text).cause(e));
        }
        AmbiguousOffset::Gap { before, after } => ("does not exist: clocks were put forward over it", before, after),
        AmbiguousOffset::Fold { before, after } => ("exists twice: clocks were put back over it", before, after),
    };
    let (first, second) = (value(local, before), value(local, after));
    Err(Error::usage(format!("{flag}: {text:?} is not one instant")).cause(format!("this local time {what}")).hint(format!(
        "Say which one: {flag} {} (that is {}), or {flag} {} (that is {}).",
        shell_word(&first),
        utc(local, before),
        shell_word(&second),
        utc(local, after)
    )))
}

fn without_zone(flag: &str, text: &str, local: DateTime, now: Timestamp, zone: &TimeZone) -> Error {
    let mut readings = vec![reading(flag, local, Offset::UTC, "in UTC", now)];
    for offset in host_offsets(zone, local) {
        if offset != Offset::UTC {
            readings.push(reading(flag, local, offset, "in this host's zone", now));
        }
    }
    Error::usage(format!("{flag}: {text:?} has no time zone"))
        .cause("it would be another instant on another host")
        .hint(format!("Say which one: {}.", readings.join(", or ")))
}

fn host_offsets(zone: &TimeZone, local: DateTime) -> Vec<Offset> {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => vec![offset],
        AmbiguousOffset::Gap { before, after } | AmbiguousOffset::Fold { before, after } => vec![before, after],
    }
}

fn reading(flag: &str, local: DateTime, offset: Offset, whose: &str, now: Timestamp) -> String {
    let future = offset.to_timestamp(local).is_ok_and(|time| time > now);
    let note = if future { format!("{whose}, in the future") } else { whose.to_string() };
    format!("{flag} {} ({note})", shell_word(&value(local, offset)))
}

/// The local time with its offset, in a form that [`parse_time`] accepts.
fn value(local: DateTime, offset: Offset) -> String {
    let format = if local.subsec_nanosecond() == 0 { "%Y-%m-%d %H:%M:%S" } else { "%Y-%m-%d %H:%M:%S.%6f" };
    let seconds = offset.seconds();
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes, rest) = (seconds.abs() / 3600, seconds.abs() / 60 % 60, seconds.abs() % 60);
    let tail = match (minutes, rest) {
        (0, 0) => String::new(),
        (_, 0) => format!(":{minutes:02}"),
        _ => format!(":{minutes:02}:{rest:02}"),
    };
    format!("{}{sign}{hours:02}{tail}", local.strftime(format))
}

fn utc(local: DateTime, offset: Offset) -> String {
    offset.to_timestamp(local).map_or_else(|_| "out of range".into(), render_time)
}

fn not_a_time(flag: &str, text: &str) -> Error {
    Error::usage(format!("{flag}: {text:?} is not a time"))
        .hint("Write it like '2026-11-21 21:05:19.998811+00', '2026-11-21T21:05:19Z' or '2026-11-21 22:05:19 Europe/Paris'.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn paris() -> TimeZone {
        TimeZone::get("Europe/Paris").unwrap()
    }

    fn read(text: &str) -> Result<Timestamp> {
        parse_time("--to-time", text, at("2026-11-21T22:00:00Z"), &paris())
    }

    #[test]
    fn every_documented_form_is_the_same_instant() {
        let expected = at("2026-11-21T21:05:19.998811Z");
        for text in [
            "2026-11-21 21:05:19.998811+00",
            "2026-11-21T21:05:19.998811+00:00",
            "2026-11-21t21:05:19.998811z",
            "2026-11-21 21:05:19.998811Z",
            "2026-11-21 21:05:19.998811 UTC",
            "2026-11-21 21:05:19.998811 utc",
            "2026-11-21 21:05:19.998811 +00",
            "2026-11-21 22:05:19.998811 Europe/Paris",
            "2026-11-22 02:35:19.998811+0530",
            "2026-11-22T02:35:19.998811+05:30",
            "2026-11-21 13:05:19.998811-08",
            "  2026-11-21 21:05:19.998811-00:00:00 ",
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        assert_eq!(read("2026-11-21 21:05+00").unwrap(), at("2026-11-21T21:05:00Z"));
        assert_eq!(read("2026-07-01 12:00:00.1 Europe/Paris").unwrap(), at("2026-07-01T10:00:00.1Z"));
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for text in ["2026-11-21T21:05:19.998811Z", "2026-11-21T21:05:19Z", "2026-02-28T23:59:59.000001Z", "1999-12-31T23:59:59.5Z"] {
            let time = at(text);
            assert_eq!(read(&render_time(time)).unwrap(), time);
            assert_eq!(read(&rfc3339(time)).unwrap(), time);
        }
        assert_eq!(render_time(at("2026-11-21T21:05:19.998811Z")), "2026-11-21 21:05:19.998811+00");
        assert_eq!(rfc3339(at("2026-11-21T21:05:19Z")), "2026-11-21T21:05:19.000000+00:00");
        assert_eq!(render_time(at("2026-11-21T21:05:19.9999999Z")), "2026-11-21 21:05:19.999999+00", "never rounded up");
    }

    #[test]
    fn what_is_no_time_is_a_usage_error() {
        for text in [
            "",
            "now",
            "2026-11-21",
            "21:05:19+00",
            "2026-11-21 21",
            "2026-13-21 21:05:19+00",
            "2026-02-30 21:05:19+00",
            "2026-11-21 24:00:00+00",
            "2026-11-21 21:05:60+00",
            "2026-11-21 21:05:19.+00",
            "2026-11-21 21:05:19.9988110+00",
            "2026-11-21 21:05:19,5+00",
            "2026-11-21  21:05:19+00",
            "26-11-21 21:05:19+00",
            "2026-11-21 21:05:19+0",
            "2026-11-21 21:05:19+000",
            "2026-11-21 21:05:19+16",
            "2026-11-21 21:05:19+01:60",
            "2026-11-21 21:05:19+01x",
            "2026-11-21 21:05:19UTC",
            "2026-11-21 21:05:19 CEST",
            "2026-11-21 21:05:19 Mars/Olympus",
            "2026-11-21 21:05:19 ../../etc/passwd",
            "2026-11-21 21:05:19é",
            "２０２６-11-21 21:05:19+00",
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind, Kind::Usage, "{text}");
            assert!(error.what.starts_with("--to-time: ") && error.hint.is_some(), "{text}: {error:?}");
        }
    }

    #[test]
    fn names_with_two_meanings_are_refused() {
        for name in ["CET", "EST", "Japan", "Etc/GMT+5", "right/Europe/Paris", "posix/Europe/Paris"] {
            assert!(read(&format!("2026-07-01 12:00:00 {name}")).is_err(), "{name}");
        }
    }

    #[test]
    fn a_time_without_zone_gets_both_readings_as_commands() {
        let error = read("2026-11-21 22:05:19").unwrap_err();
        assert_eq!(error.what, "--to-time: \"2026-11-21 22:05:19\" has no time zone");
        assert_eq!(
            error.hint.unwrap(),
            "Say which one: --to-time '2026-11-21 22:05:19+00' (in UTC, in the future), \
             or --to-time '2026-11-21 22:05:19+01' (in this host's zone)."
        );
        let error = parse_time("--before-time", "2026-11-21T20:00:00.5", at("2026-11-21T22:00:00Z"), &TimeZone::UTC).unwrap_err();
        assert_eq!(error.hint.unwrap(), "Say which one: --before-time '2026-11-21 20:00:00.500000+00' (in UTC).");
    }

    #[test]
    fn an_hour_that_exists_twice_or_never_gets_both_instants() {
        let error = read("2026-10-25 02:30:00 Europe/Paris").unwrap_err();
        let hint = error.hint.unwrap();
        assert!(error.cause.unwrap().contains("twice"));
        assert!(hint.contains("'2026-10-25 02:30:00+02' (that is 2026-10-25 00:30:00.000000+00)"), "{hint}");
        assert!(hint.contains("'2026-10-25 02:30:00+01' (that is 2026-10-25 01:30:00.000000+00)"), "{hint}");
        let error = read("2026-03-29 02:30:00 Europe/Paris").unwrap_err();
        let hint = error.hint.unwrap();
        assert!(error.cause.unwrap().contains("does not exist"));
        assert!(hint.contains("'2026-03-29 02:30:00+01'") && hint.contains("'2026-03-29 02:30:00+02'"), "{hint}");
        let hint = read("2026-10-25 02:30:00").unwrap_err().hint.unwrap();
        assert!(["+00'", "+02'", "+01'"].iter().all(|offset| hint.contains(offset)), "{hint}");
    }

    #[test]
    fn no_text_makes_it_panic() {
        let good = "2026-11-21 21:05:19.998811 Europe/Paris";
        for cut in 0..good.len() {
            let _ = read(&good[..cut]);
            for byte in 0..=127u8 {
                let mut bytes = good.as_bytes().to_vec();
                bytes[cut] = byte;
                if let Ok(time) = read(std::str::from_utf8(&bytes).unwrap()) {
                    assert_eq!(read(&render_time(time)).unwrap(), time);
                }
            }
        }
    }
}
