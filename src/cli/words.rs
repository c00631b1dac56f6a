//! Words that a person types, read: a value that leaves here is well formed.

use std::path::{Path, PathBuf};

use crate::config::cluster_name;
use crate::config::duration::parse_duration;
use crate::pg::Malformed;

/// The bound of `--max-loss`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxLoss {
    /// Seconds between the target and the last commit.
    Seconds(u64),
    /// Transactions discarded.
    Transactions(u64),
}

/// Digits alone count transactions; with units they are a duration.
pub fn max_loss(text: &str) -> std::result::Result<MaxLoss, Malformed> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map(MaxLoss::Transactions).map_err(|_| Malformed::new("too large a number"));
    }
    parse_duration(text).map(MaxLoss::Seconds)
}

/// Lines of the log are held until the last is known.
pub fn limit(text: &str) -> std::result::Result<usize, Malformed> {
    const MOST: usize = 500_000;
    let number = text.parse().ok().filter(|number| (1..=MOST).contains(number));
    number.ok_or_else(|| Malformed::new(format!("expected a number from 1 to {MOST}; --since and --until narrow the log")))
}

/// An absolute path: a run's working directory may differ from the caller's.
pub fn absolute(text: &str) -> std::io::Result<PathBuf> {
    std::path::absolute(text)
}

/// A cluster's name, or the absolute path of its data directory.
pub fn cluster_word(text: &str) -> std::result::Result<String, Malformed> {
    if text.starts_with('/') { Ok(text.to_string()) } else { cluster_name(text) }
}

/// `16384=/srv/space`: a tablespace by its OID, and an absolute path without dots; `16384=pg_tblspc/16384`, as
/// `pg_tablespace_location` names it, for one that is a directory there.
pub fn tablespace(text: &str) -> std::result::Result<(u32, PathBuf), Malformed> {
    let (oid, place) = text.split_once('=').ok_or_else(|| Malformed::new("expected OID=DIR, such as 16384=/srv/space"))?;
    let digits = oid.bytes().all(|b| b.is_ascii_digit());
    let oid = oid.parse().ok().filter(|oid: &u32| digits && *oid != 0);
    let oid = oid.ok_or_else(|| Malformed::new("a tablespace is named by its OID, as the refusal prints it"))?;
    let place = PathBuf::from(place);
    let plain = |part: std::path::Component| matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir);
    if place == Path::new("pg_tblspc").join(oid.to_string()) {
        return Ok((oid, place));
    }
    if !place.is_absolute() || !place.components().all(plain) || text.chars().any(char::is_control) {
        return Err(Malformed::new("a tablespace's directory is an absolute path"));
    }
    Ok((oid, place))
}

/// A run's id names a directory: letters, digits and hyphens only.
pub fn run_id(text: &str) -> std::result::Result<String, Malformed> {
    word(text, |b| b.is_ascii_alphanumeric() || b == b'-', "a run's id has letters, digits and hyphens, as pitr status prints it")
}

/// Ids of refusals are lower case words with hyphens; `protected` ones carry the relation's name after a colon.
pub fn refusal_id(text: &str) -> std::result::Result<String, Malformed> {
    let (id, name) = text.split_once(':').map_or((text, None), |(id, name)| (id, Some(name)));
    let complaint = "a refusal's id looks like no-manifest, as pitr plan prints it";
    word(id, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-', complaint)?;
    if name.is_some_and(str::is_empty) { Err(Malformed::new(complaint)) } else { Ok(text.to_string()) }
}

/// Digests are hexadecimal; the beginning is not enough.
pub fn digest(text: &str) -> std::result::Result<String, Malformed> {
    word(text, |b| b.is_ascii_hexdigit(), "a plan's digest is hexadecimal, as pitr plan prints it").map(|t| t.to_ascii_lowercase())
}

/// A version, as its tool's users write it: one line, no control characters.
pub fn migration_version(text: &str) -> std::result::Result<String, Malformed> {
    let text = text.trim();
    if text.is_empty() || text.len() > 1024 || text.chars().any(char::is_control) {
        return Err(Malformed::new("expected a version as the migration tool writes it: pitr migrations lists them"));
    }
    Ok(text.to_string())
}

/// The id of a tool.
pub fn tool_id(text: &str) -> std::result::Result<String, Malformed> {
    match crate::migrations::tool(text) {
        Some(tool) => Ok(tool.id.to_string()),
        None => {
            let near = crate::migrations::tools().min_by_key(|tool| strsim::damerau_levenshtein(tool.id, text)).map_or("", |tool| tool.id);
            let all: Vec<&str> = crate::migrations::tools().map(|tool| tool.id).collect();
            Err(Malformed::new(format!("not a tool that is known; did you mean {near}? There are: {}", all.join(", "))))
        }
    }
}

fn word(text: &str, allowed: fn(u8) -> bool, complaint: &str) -> std::result::Result<String, Malformed> {
    let good = (1..=128).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(allowed);
    if good { Ok(text.to_string()) } else { Err(Malformed::new(complaint)) }
}
