//! Durations as people write them: `4h`, `5min`, `90s`, `1h30min`.

use crate::pg::Malformed;

/// Seconds in each unit. `m` is left out: it is a month to some and a minute to others.
const UNITS: [(&str, u64); 4] = [("s", 1), ("min", 60), ("h", 3600), ("d", 86400)];

/// Reads whole numbers with a unit each (`s`, `min`, `h`, `d`), spaces allowed between; the result is in seconds.
pub fn parse_duration(text: &str) -> Result<u64, Malformed> {
    let bad = || Malformed::new(format!("not a duration: {text:?} (expected a form like 90s, 5min, 4h, 2d or 1h30min)"));
    let mut rest = text.trim();
    let mut seconds = None;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(bad)?;
        let tail = tail.trim_start();
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(letters).ok_or_else(bad)?;
        let each = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, each)| *each).ok_or_else(bad)?;
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(each)).ok_or_else(bad)?;
        seconds = Some(part.checked_add(seconds.unwrap_or(0)).ok_or_else(bad)?);
        rest = tail.trim_start();
    }
    seconds.ok_or_else(bad)
}

/// Seconds as [`parse_duration`] reads them.
pub fn in_words(seconds: u64) -> String {
    let mut rest = seconds;
    let mut words = String::new();
    for (name, each) in UNITS.iter().rev() {
        if rest >= *each {
            words.push_str(&format!("{}{name}", rest / each));
            rest %= each;
        }
    }
    if words.is_empty() { "0s".into() } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_its_parts() {
        for (text, seconds) in
            [("90s", 90), ("5min", 300), ("4h", 14400), ("2d", 172_800), ("1h30min", 5400), (" 1 h 30 s ", 3630), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(seconds), "{text}");
            assert_eq!(parse_duration(&in_words(seconds)), Ok(seconds));
        }
    }

    #[test]
    fn refuses_what_is_unclear() {
        for text in ["", " ", "5", "5m", "m", "h", "-5s", "5.5h", "5 parsec", "5hh", "99999999999999999999s", "18446744073709551615d", "5é"]
        {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }
}
