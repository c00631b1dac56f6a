//! Where recovery shall stop, as it was asked for.
//!
//! Guarantees: a value of [`TargetRequest`] is well formed by itself (a name PostgreSQL can store, an xid that a
//! transaction can have). Whether the target exists is found out later.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::pg::{Lsn, Malformed, Timeline};
use crate::plan::time::{self, render_time};

/// The one target flag. `to` keeps the named transaction, `before` discards it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetRequest {
    /// The last transaction committed at or before this time is kept.
    ToTime(#[serde(with = "time::text")] Timestamp),
    /// The last transaction committed before this time is kept.
    BeforeTime(#[serde(with = "time::text")] Timestamp),
    /// This transaction is kept, whatever committed after it is not.
    ToXid(#[serde(with = "decimal")] u64),
    /// This transaction and all that committed after it are discarded.
    BeforeXid(#[serde(with = "decimal")] u64),
    /// The record that starts at this position is kept.
    ToLsn(Lsn),
    /// The record that starts at this position is discarded.
    BeforeLsn(Lsn),
    /// The first commit of this migration and all that committed after it are discarded.
    BeforeMigration(MigrationTarget),
    /// The restore point of this name (`pg_create_restore_point`), at most 63 bytes.
    ToName(String),
    /// The last record there is.
    ToLatest,
    /// The end of the backup: as little replay as makes it consistent.
    ToConsistent,
}

/// A migration by its tool's table, with the commit that begins it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MigrationTarget {
    /// As it was typed.
    pub version: String,
    /// The tool.
    pub tool: String,
    /// The database.
    pub database: String,
    /// `schema.table` of the history.
    pub table: String,
    /// Start of the commit record that is discarded; 0/0 until it is known.
    pub lsn: Lsn,
}

/// The timeline to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimelineRequest {
    /// This number.
    Number(Timeline),
    /// The serving cluster's own history (PostgreSQL's `current` is the backup's).
    #[default]
    Current,
    /// The highest number in the archive.
    Latest,
}

impl FromStr for TimelineRequest {
    type Err = Malformed;

    /// Accepts `current`, `latest` or a decimal number from 1.
    fn from_str(text: &str) -> Result<TimelineRequest, Malformed> {
        match text {
            "current" => Ok(TimelineRequest::Current),
            "latest" => Ok(TimelineRequest::Latest),
            _ => match decimal_digits(text).and_then(|t| t.parse().ok()) {
                Some(0) | None => Err(Malformed::new("expected current, latest or a timeline number from 1, in decimal")),
                Some(number) => Ok(TimelineRequest::Number(Timeline(number))),
            },
        }
    }
}

impl fmt::Display for TimelineRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimelineRequest::Number(number) => number.fmt(f),
            TimelineRequest::Current => f.write_str("current"),
            TimelineRequest::Latest => f.write_str("latest"),
        }
    }
}

/// Reads an xid: 32 bits, or 64 with the epoch as `pg_current_xact_id()` prints it. The three special xids
/// (invalid, bootstrap, frozen: access/transam.h) never commit and are refused in every epoch.
pub fn parse_xid(text: &str) -> Result<u64, Malformed> {
    let xid: u64 = decimal_digits(text)
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| Malformed::new("expected a transaction id in decimal, such as 208244"))?;
    if xid & 0xFFFF_FFFF < 3 {
        return Err(Malformed::new("no transaction has this id: 0, 1 and 2 are reserved in every epoch"));
    }
    Ok(xid)
}

/// Reads a position in WAL; zero is `InvalidXLogRecPtr`.
pub fn parse_lsn(text: &str) -> Result<Lsn, Malformed> {
    let lsn: Lsn = text.parse()?;
    if lsn.is_valid() { Ok(lsn) } else { Err(Malformed::new("0/0 is no position in WAL")) }
}

/// Reads the name of a restore point: 1 to 63 bytes (`MAXFNAMELEN` - 1, access/xlog_internal.h), one line.
pub fn parse_name(text: &str) -> Result<String, Malformed> {
    match text.len() {
        0 => Err(Malformed::new("the name of a restore point is not empty")),
        1..=63 if !text.chars().any(char::is_control) => Ok(text.to_string()),
        1..=63 => Err(Malformed::new("control characters are not accepted in the name of a restore point")),
        long => Err(Malformed::new(format!("{long} bytes; the name of a restore point has at most 63"))),
    }
}

impl TargetRequest {
    /// Flag and value, as they are typed; a flag without value has none.
    pub fn arguments(&self) -> (&'static str, Option<String>) {
        match self {
            TargetRequest::ToTime(time) => ("--to-time", Some(render_time(*time))),
            TargetRequest::BeforeTime(time) => ("--before-time", Some(render_time(*time))),
            TargetRequest::ToXid(xid) => ("--to-xid", Some(xid.to_string())),
            TargetRequest::BeforeXid(xid) => ("--before-xid", Some(xid.to_string())),
            TargetRequest::ToLsn(lsn) => ("--to-lsn", Some(lsn.to_string())),
            TargetRequest::BeforeLsn(lsn) => ("--before-lsn", Some(lsn.to_string())),
            TargetRequest::BeforeMigration(migration) => ("--before-migration", Some(migration.version.clone())),
            TargetRequest::ToName(name) => ("--to-name", Some(name.clone())),
            TargetRequest::ToLatest => ("--to-latest", None),
            TargetRequest::ToConsistent => ("--to-consistent", None),
        }
    }
}

impl fmt::Display for TargetRequest {
    /// The flag as it can be pasted into a shell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.arguments() {
            (flag, None) => f.write_str(flag),
            // A name that looks like a flag needs the sign.
            (flag, Some(value)) if value.starts_with('-') => write!(f, "{flag}={}", shell_word(&value)),
            (flag, Some(value)) => write!(f, "{flag} {}", shell_word(&value)),
        }
    }
}

/// `text` as one word of a POSIX shell command: as it is where nothing in it is special, else in single quotes.
pub fn shell_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_string();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// `text` if it is digits only: `u64::from_str` alone would take a sign.
fn decimal_digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
}

/// Serde's view of an xid: a decimal string, because 64 bits do not survive every JSON reader.
mod decimal {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        super::parse_xid(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xids_with_and_without_epoch() {
        assert_eq!(parse_xid("208244"), Ok(208_244));
        assert_eq!(parse_xid("4294967299"), Ok((1 << 32) + 3));
        assert_eq!(parse_xid("18446744073709551615"), Ok(u64::MAX));
        for text in ["", "0", "1", "2", "4294967296", "4294967298", "+5", "-5", "0x5", "5 ", "18446744073709551616"] {
            assert!(parse_xid(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_that_postgresql_can_store() {
        assert_eq!(parse_name("before the deploy").unwrap(), "before the deploy");
        assert!(parse_name(&"n".repeat(63)).is_ok());
        assert!(parse_name(&"n".repeat(64)).is_err());
        assert!(parse_name(&"é".repeat(32)).is_err(), "bytes, not characters");
        assert!(parse_name("").is_err() && parse_name("a\nb").is_err() && parse_name("a\u{1b}b").is_err());
        assert!(parse_lsn("0/0").is_err() && parse_lsn("0/28").is_ok());
    }

    #[test]
    fn timelines() {
        assert_eq!("7".parse(), Ok(TimelineRequest::Number(Timeline(7))));
        assert_eq!("current".parse(), Ok(TimelineRequest::Current));
        assert_eq!("latest".parse(), Ok(TimelineRequest::Latest));
        for text in ["", "0", "+7", "-1", "0x7", "Latest", "4294967296"] {
            assert!(text.parse::<TimelineRequest>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn printed_as_it_is_typed() {
        let time: Timestamp = "2026-11-21T21:05:19.998811Z".parse().unwrap();
        assert_eq!(TargetRequest::BeforeTime(time).to_string(), "--before-time '2026-11-21 21:05:19.998811+00'");
        assert_eq!(TargetRequest::ToLsn(Lsn(0x1_FCAF_9C10)).to_string(), "--to-lsn 1/FCAF9C10");
        assert_eq!(TargetRequest::ToName("it's; rm".into()).to_string(), r"--to-name 'it'\''s; rm'");
        assert_eq!(TargetRequest::ToName("--yes".into()).to_string(), "--to-name=--yes");
        assert_eq!(TargetRequest::ToLatest.to_string(), "--to-latest");
    }

    #[test]
    fn json_is_stable_and_read_back() {
        let time: Timestamp = "2026-11-21T21:05:19Z".parse().unwrap();
        for (request, json) in [
            (TargetRequest::ToTime(time), r#"{"to_time":"2026-11-21T21:05:19.000000+00:00"}"#),
            (TargetRequest::BeforeXid(208_245), r#"{"before_xid":"208245"}"#),
            (TargetRequest::BeforeLsn(Lsn(5)), r#"{"before_lsn":"0/5"}"#),
            (TargetRequest::ToName("n".into()), r#"{"to_name":"n"}"#),
            (TargetRequest::ToConsistent, r#""to_consistent""#),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), json);
            assert_eq!(serde_json::from_str::<TargetRequest>(json).unwrap(), request);
        }
        assert_eq!(serde_json::to_string(&TimelineRequest::Number(Timeline(3))).unwrap(), r#"{"number":3}"#);
        assert!(serde_json::from_str::<TargetRequest>(r#"{"to_xid":"2"}"#).is_err());
    }
}
