//! Printing for people and programs.
//!
//! Guarantees: text that came from a file, a server or a name cannot move the cursor, hide or reverse what follows;
//! a reader that goes away (`pitr status | head`) is no error; colour only where a person sees it.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::error::{At, Error, Kind, Result};

/// One stream that `pitr` prints to. After the reader went away everything is dropped in silence; the first other
/// error is kept for [`Out::finish`].
pub struct Out {
    sink: Box<dyn Write + Send>,
    name: &'static str,
    colour: bool,
    ended: Option<io::Error>,
}

/// How a word stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Headings, names.
    Bold,
    /// Less important.
    Dim,
    /// Errors.
    Red,
    /// Done.
    Green,
    /// Warnings.
    Yellow,
}

impl Out {
    /// Standard output: results.
    pub fn stdout() -> Out {
        Out::new(Box::new(io::stdout()), "standard output", colour_here(io::stdout().is_terminal()))
    }

    /// Standard error: everything else.
    pub fn stderr() -> Out {
        Out::new(Box::new(io::stderr()), "standard error", colour_here(io::stderr().is_terminal()))
    }

    /// Any sink; `name` is used in error messages.
    pub fn new(sink: Box<dyn Write + Send>, name: &'static str, colour: bool) -> Out {
        Out { sink, name, colour, ended: None }
    }

    /// Prints one line. The text may be painted; parts of it that are not ours went through [`escape`].
    pub fn line(&mut self, text: &str) {
        self.write(format!("{text}\n").as_bytes());
    }

    /// Prints one JSON document on a line of its own.
    ///
    /// # Errors
    /// Only for a value that has no JSON form.
    pub fn json(&mut self, document: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(document).map_err(|e| Error::failed("write the result as JSON").cause(e))?;
        text.push('\n');
        self.write(text.as_bytes());
        Ok(())
    }

    /// Prints an error for a person: `error:`, `cause:`, `hint:`. A line break inside a cause or hint is indented, so
    /// that no text can pass for a line of ours.
    pub fn error(&mut self, error: &Error) {
        let mut text = format!("{} {}\n", self.paint(Paint::Red, "error:"), escape(&error.what));
        for (label, words) in [("cause:", &error.cause), ("hint:", &error.hint)] {
            for (number, line) in words.iter().flat_map(|words| words.lines()).enumerate() {
                let label = if number == 0 { self.paint(Paint::Bold, label) } else { " ".repeat(label.len()) };
                let _ = writeln!(text, "{label} {}", escape(line));
            }
        }
        self.write(text.as_bytes());
    }

    /// `text` standing out where colour is wanted.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            _ if !self.colour => return text.to_string(),
            Paint::Bold => 1,
            Paint::Dim => 2,
            Paint::Red => 31,
            Paint::Green => 32,
            Paint::Yellow => 33,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Flushes; says whether everything arrived. A reader that went away counts as having read all.
    pub fn finish(&mut self) -> Result<()> {
        if self.ended.is_none() {
            self.ended = self.sink.flush().err();
        }
        match self.ended.take() {
            Some(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e).at("write to", self.name),
            _ => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.ended.is_none() {
            self.ended = self.sink.write_all(bytes).err();
        }
    }
}

/// What `-o json` prints for an error that has no document of its own.
#[derive(Debug, Serialize)]
pub struct ErrorDocument<'e> {
    schema: u32,
    exit: u8,
    error: ErrorBody<'e>,
}

#[derive(Debug, Serialize)]
struct ErrorBody<'e> {
    kind: Kind,
    what: &'e str,
    cause: Option<&'e str>,
    hint: Option<&'e str>,
}

impl<'e> From<&'e Error> for ErrorDocument<'e> {
    fn from(error: &'e Error) -> ErrorDocument<'e> {
        let body = ErrorBody { kind: error.kind, what: &error.what, cause: error.cause.as_deref(), hint: error.hint.as_deref() };
        ErrorDocument { schema: 1, exit: error.kind.exit_code(), error: body }
    }
}

/// `text` without anything that acts on a terminal or misleads the eye: control characters, marks of direction,
/// invisible characters and line separators become `\n`, `\x1b`, `\u{202e}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            c if acts(c) && u32::from(c) < 0x100 => {
                let _ = write!(safe, "\\x{:02x}", u32::from(c));
            }
            c if acts(c) => {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// The same for bytes; what is not UTF-8 becomes `\xff`.
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut safe = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        safe.push_str(&escape(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(safe, "\\x{byte:02x}");
        }
    }
    safe
}

/// C0, C1 and DEL; Unicode's marks of direction, line and paragraph separators, characters without width of their
/// own that are not joined to a letter, and tags (general categories Cc, Cf, Zl, Zp as far as they are drawn).
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Columns that `text` takes on a terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

/// `text` filled with spaces to `columns`; longer text stays as it is.
pub fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// `text` with the spaces in front.
pub fn pad_left(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(width(text))))
}

/// At most `columns` of `text`; what was cut shows as `..`.
pub fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let room = columns.saturating_sub(2);
    let mut short = String::new();
    let mut taken = 0;
    for c in text.chars() {
        taken += c.width().unwrap_or(0);
        if taken > room {
            break;
        }
        short.push(c);
    }
    short.extend(std::iter::repeat_n('.', columns.min(2)));
    Cow::Owned(short)
}

/// `3.4 GiB`, `695 MiB`, `12 bytes`: three digits at most, in powers of 1024.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} byte{}", if bytes == 1 { "" } else { "s" });
    }
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = "";
    for next in UNITS {
        (tenths, unit) = ((tenths + 512) / 1024, next);
        if tenths < 10_235 {
            break;
        }
    }
    if tenths < 100 { format!("{}.{} {unit}", tenths / 10, tenths % 10) } else { format!("{} {unit}", (tenths + 5) / 10) }
}

/// `31,402`.
pub fn human_count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `0.4 s`, `40 s`, `4 min 14 s`, `2 h 5 min`, `3 d 4 h`: two units at most, rounded down.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big} {big_unit}"),
        _ => format!("{big} {big_unit} {small} {small_unit}"),
    };
    match seconds {
        0..10 if duration.subsec_millis() >= 100 => format!("{seconds}.{} s", duration.subsec_millis() / 100),
        0..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

fn colour_here(terminal: bool) -> bool {
    wants_colour(terminal, std::env::var_os("NO_COLOR").as_deref(), std::env::var_os("TERM").as_deref())
}

/// <https://no-color.org>: any value but the empty one means no colour.
fn wants_colour(terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty) && term.is_some_and(|term| term != "dumb" && !term.is_empty())
}

/// Whether the locale's characters are UTF-8 (the first of these variables that is not empty decides, locale(7)).
pub fn locale_is_utf8() -> bool {
    utf8_locale(["LC_ALL", "LC_CTYPE", "LANG"].map(|name| std::env::var_os(name).unwrap_or_default()))
}

fn utf8_locale(values: [std::ffi::OsString; 3]) -> bool {
    let deciding = values.into_iter().find(|value| !value.is_empty()).unwrap_or_default();
    let name = deciding.to_string_lossy().to_lowercase();
    name.contains("utf-8") || name.contains("utf8")
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;

/// Columns of the terminal behind standard output; 100 where there is none.
pub fn columns() -> usize {
    const NONE: usize = 100;
    rustix::termios::tcgetwinsize(std::io::stdout()).map_or(NONE, |size| usize::from(size.ws_col).max(40))
}
