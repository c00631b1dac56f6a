//! WAL positions and timelines.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Malformed;

/// A position in WAL, in bytes from its beginning; printed `%X/%X` (`LSN_FORMAT_ARGS`, access/xlogdefs.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// `InvalidXLogRecPtr`: zero never addresses a record.
    pub fn is_valid(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = Malformed;

    /// Accepts `1/FCAF9C10` and the padded form of newer majors.
    fn from_str(text: &str) -> Result<Lsn, Malformed> {
        let bad = || Malformed::new(format!("not an LSN: {text:?} (expected a form like 1/FCAF9C10)"));
        let (high, low) = text.split_once('/').ok_or_else(bad)?;
        let part = |s: &str| match s.len() {
            1..=8 if s.bytes().all(|b| b.is_ascii_hexdigit()) => u64::from_str_radix(s, 16).map_err(|_| bad()),
            _ => Err(bad()),
        };
        Ok(Lsn(part(high)? << 32 | part(low)?))
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_u64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lsn, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Lsn);
        }
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A timeline number (`TimeLineID`); 0 is never a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(pub u32);

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_reads_both_forms() {
        let lsn = Lsn(0x1_FCAF_9C10);
        assert_eq!(lsn.to_string(), "1/FCAF9C10");
        assert_eq!("1/FCAF9C10".parse(), Ok(lsn));
        assert_eq!("0/5".parse(), Ok(Lsn(5)));
        assert_eq!("0/00000005".parse(), Ok(Lsn(5)));
    }

    #[test]
    fn refuses_what_is_no_lsn() {
        for text in ["", "/", "1/", "/1", "1/G", "1/123456789", "+1/1", "1/1/1", "1 /1"] {
            assert!(text.parse::<Lsn>().is_err(), "{text:?}");
        }
    }
}
