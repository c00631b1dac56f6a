//! Hostile text, closed pipes, widths and numbers.

use super::*;
use std::sync::{Arc, Mutex};

/// A sink that keeps what it gets, and fails from the `ends`th write on.
#[derive(Clone, Default)]
struct Kept {
    bytes: Arc<Mutex<Vec<u8>>>,
    ends: Option<(usize, io::ErrorKind)>,
    writes: usize,
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes += 1;
        match self.ends {
            Some((at, kind)) if self.writes >= at => Err(kind.into()),
            _ => {
                self.bytes.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
    }
}

fn out(kept: &Kept, colour: bool) -> Out {
    Out::new(Box::new(kept.clone()), "standard output", colour)
}

#[test]
fn hostile_text_is_shown_and_does_not_act() {
    assert_eq!(escape("public.events"), "public.events");
    assert_eq!(escape("Straße 東京 👍"), "Straße 東京 👍");
    assert_eq!(escape("a\x1b[2Jb\n\r\t\0\x7f"), "a\\x1b[2Jb\\n\\r\\t\\x00\\x7f");
    assert_eq!(escape("\u{9b}31m"), "\\x9b31m", "the one-character CSI");
    assert_eq!(escape("a\u{202e}b\u{2066}\u{200b}\u{2028}\u{feff}\u{e0041}"), "a\\u{202e}b\\u{2066}\\u{200b}\\u{2028}\\u{feff}\\u{e0041}");
    assert_eq!(escape_bytes(b"ok \xff\xfe\x1b \xc3\xa9 \xe2\x80"), "ok \\xff\\xfe\\x1b é \\xe2\\x80");
    assert_eq!(escape_bytes(b"\xed\xa0\x80"), "\\xed\\xa0\\x80", "a surrogate is no character");
}

#[test]
fn nothing_that_acts_survives() {
    for c in ('\0'..='\u{ffff}').chain('\u{e0000}'..='\u{e00ff}') {
        let text = c.to_string();
        let safe = escape(&text);
        assert!(!safe.chars().any(acts), "{c:?}");
        assert!(!safe.chars().any(char::is_control), "{c:?}");
    }
}

#[test]
fn an_error_is_three_lines_that_nobody_can_forge() {
    let kept = Kept::default();
    let error = Error::usage("open /x\nhint: run this").cause("no\nhint: rm -rf /").hint("Try\nagain.");
    out(&kept, false).error(&error);
    assert_eq!(kept.text(), "error: open /x\\nhint: run this\ncause: no\n       hint: rm -rf /\nhint: Try\n      again.\n");
    let kept = Kept::default();
    out(&kept, true).error(&Error::failed("\x1b[2J"));
    assert_eq!(kept.text(), "\x1b[31merror:\x1b[0m \\x1b[2J\n");
}

#[test]
fn an_error_as_json() {
    let kept = Kept::default();
    let error = Error::usage("no target").hint("Give one.");
    out(&kept, true).json(&ErrorDocument::from(&error)).unwrap();
    let document = r#"{"schema":1,"exit":2,"error":{"kind":"usage","what":"no target","cause":null,"hint":"Give one."}}"#;
    assert_eq!(kept.text(), format!("{document}\n"));
}

#[test]
fn a_closed_pipe_is_a_quiet_success() {
    let kept = Kept { ends: Some((2, io::ErrorKind::BrokenPipe)), ..Kept::default() };
    let mut out = out(&kept, false);
    for _ in 0..5 {
        out.line("x");
    }
    assert_eq!(kept.text(), "x\n");
    out.finish().unwrap();
}

#[test]
fn a_full_disk_is_not() {
    let kept = Kept { ends: Some((1, io::ErrorKind::StorageFull)), ..Kept::default() };
    let mut out = out(&kept, false);
    out.line("x");
    out.line("y");
    let error = out.finish().unwrap_err();
    assert_eq!((error.kind, error.what.as_str()), (Kind::Failed, "write to standard output"));
}

#[test]
fn colour_is_for_terminals() {
    let (yes, empty, dumb) = (Some(OsStr::new("1")), Some(OsStr::new("")), Some(OsStr::new("dumb")));
    let xterm = Some(OsStr::new("xterm"));
    assert!(wants_colour(true, None, xterm) && wants_colour(true, empty, xterm));
    assert!(!wants_colour(false, None, xterm) && !wants_colour(true, yes, xterm));
    assert!(!wants_colour(true, None, dumb) && !wants_colour(true, None, None));
    assert_eq!(out(&Kept::default(), false).paint(Paint::Red, "x"), "x");
    assert_eq!(out(&Kept::default(), true).paint(Paint::Dim, "x"), "\x1b[2mx\x1b[0m");
}

#[test]
fn the_first_variable_that_is_set_decides() {
    let locale = |all: &str, ctype: &str, lang: &str| utf8_locale([all.into(), ctype.into(), lang.into()]);
    assert!(locale("", "", "de_DE.UTF-8") && locale("C.utf8", "", "C") && locale("", "en_US.UTF-8", "C"));
    assert!(!locale("", "", "") && !locale("C", "", "de_DE.UTF-8") && !locale("", "", "de_DE.ISO-8859-1"));
}

#[test]
fn columns_are_counted_not_bytes() {
    assert_eq!((width("é"), width("東京"), width("e\u{301}"), width("")), (1, 4, 1, 0));
    assert_eq!((pad("é", 3).as_str(), pad("long", 3).as_str(), pad_left("東", 4).as_str()), ("é  ", "long", "  東"));
    for columns in 0..8 {
        for text in ["", "a", "abcdefgh", "東京東京", "e\u{301}e\u{301}e\u{301}e\u{301}", "éééééééé"] {
            assert!(width(&cut(text, columns)) <= columns, "{text} {columns}");
        }
    }
    assert_eq!((cut("abcdef", 5).as_ref(), cut("東京東", 5).as_ref(), cut("abc", 3).as_ref()), ("abc..", "東..", "abc"));
}

#[test]
fn bytes_for_people() {
    for (bytes, text) in [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (10 * 1024, "10 KiB"),
        (1024 * 1024 - 1, "1.0 MiB"),
        (695 << 20, "695 MiB"),
        (3_650_722_201, "3.4 GiB"),
        (u64::MAX, "16 EiB"),
    ] {
        assert_eq!(human_bytes(bytes), text, "{bytes}");
    }
}

#[test]
fn counts_and_durations_for_people() {
    for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (31_402, "31,402"), (2_000_000, "2,000,000")] {
        assert_eq!(human_count(count), text);
    }
    assert_eq!(human_count(u64::MAX), "18,446,744,073,709,551,615");
    for (millis, text) in [
        (0, "0 s"),
        (99, "0 s"),
        (400, "0.4 s"),
        (9_990, "9.9 s"),
        (40_900, "40 s"),
        (60_000, "1 min"),
        (254_000, "4 min 14 s"),
        (7_500_000, "2 h 5 min"),
        (86_400_000, "1 d"),
        (273_600_000, "3 d 4 h"),
    ] {
        assert_eq!(human_duration(Duration::from_millis(millis)), text);
    }
}
