//! Pages for people: a column of labels, and beside it words that are wrapped to the width of the terminal.
//!
//! Guarantees: everything that is put on a sheet is escaped; a line is longer than the width only where a single word,
//! a command between backquotes or an [`Sheet::unwrapped`] line is, so that what a person copies is in one piece.

use jiff::Timestamp;

use super::terminal::{escape, pad, width};
use crate::plan::time::render_time;

/// Columns of a label.
const LABEL: usize = 10;

/// Narrower terminals wrap by themselves.
const NARROWEST: usize = 60;

/// A page that grows downwards.
pub struct Sheet {
    width: usize,
    lines: Vec<String>,
}

impl Sheet {
    /// An empty page of `columns`.
    pub fn new(columns: usize) -> Sheet {
        Sheet { width: columns.max(NARROWEST), lines: Vec::new() }
    }

    /// A label and words beside it.
    pub fn line(&mut self, label: &str, words: &str) {
        self.put(&pad(label, LABEL), words);
    }

    /// More words under the same label, `deeper` columns to the right.
    pub fn more(&mut self, deeper: usize, words: &str) {
        self.put(&" ".repeat(LABEL + deeper), words);
    }

    /// The label once, each item on a line of its own; nothing without items.
    pub fn list<'a>(&mut self, label: &str, items: impl IntoIterator<Item = &'a str>) {
        for (number, words) in items.into_iter().enumerate() {
            if number == 0 { self.line(label, words) } else { self.more(0, words) }
        }
    }

    /// The label once, the items numbered from 1.
    pub fn numbered(&mut self, label: &str, items: impl IntoIterator<Item = String>) {
        for (index, words) in items.into_iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            self.put(&format!("{}{:>2} ", pad(label, LABEL), index + 1), &words);
        }
    }

    /// Words from the left margin; what follows the first line is indented.
    pub fn plain(&mut self, words: &str) {
        let mut lines = wrap(&escape(words), self.width, 2).into_iter();
        self.lines.extend(lines.next());
        self.lines.extend(lines.map(|line| format!("  {line}")));
    }

    /// One line as it is, whatever its length: a command to be copied.
    pub fn unwrapped(&mut self, words: &str) {
        self.lines.push(escape(words).into_owned());
    }

    /// Words and a command behind them; the command has a line of its own where both do not fit on one.
    pub fn command(&mut self, words: &str, command: &str) {
        let whole = format!("{words}  {command}");
        if width(&escape(&whole)) <= self.width {
            return self.unwrapped(&whole);
        }
        self.plain(words);
        self.unwrapped(&format!("  {command}"));
    }

    /// An empty line.
    pub fn gap(&mut self) {
        self.lines.push(String::new());
    }

    /// The page without a line break at its end.
    pub fn finish(self) -> String {
        self.lines.join("\n")
    }

    fn put(&mut self, lead: &str, words: &str) {
        let columns = width(lead);
        let room = self.width.saturating_sub(columns);
        for (number, line) in wrap(&escape(words), room, 0).into_iter().enumerate() {
            let lead = if number == 0 { lead.to_string() } else { " ".repeat(columns) };
            self.lines.push(format!("{lead}{line}").trim_end().to_string());
        }
    }
}

/// `text` in lines of at most `room` columns, all but the first shorter by `indent`. Spaces within a line stay.
fn wrap(text: &str, room: usize, indent: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for (spaces, word) in words(text) {
        let room = if lines.is_empty() { room } else { room.saturating_sub(indent) };
        if !line.is_empty() && width(&line) + spaces + width(&word) > room {
            lines.push(std::mem::take(&mut line));
        } else {
            line.push_str(&" ".repeat(spaces));
        }
        line.push_str(&word);
    }
    lines.push(line);
    lines
}

/// Words and how many spaces stand before each. What is between backquotes is one word, and so is a number with what it
/// counts (`0 s`, `16 MiB`), a date with its time, `timeline 3`.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut joined: Vec<(usize, String)> = Vec::new();
    let mut last = String::new();
    for (spaces, word) in split(text) {
        match joined.last_mut() {
            Some((_, before)) if spaces == 1 && belong_together(&last, &word) => {
                before.push(' ');
                before.push_str(&word);
            }
            _ => joined.push((spaces, word.clone())),
        }
        last = word;
    }
    joined
}

/// Whether a line may not end between these two. A path or a quoted command is never joined to anything: it may be long.
fn belong_together(left: &str, right: &str) -> bool {
    const NAMES: [&str; 3] = ["timeline", "xid", "PostgreSQL"];
    let number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    let short = right.len() <= 24 && !right.starts_with(['`', '/']);
    // After a comma or a bracket another thing begins.
    short && (number(left) && !left.ends_with([',', ';', ':', ')']) || NAMES.contains(&left) && number(right))
}

fn split(text: &str) -> Vec<(usize, String)> {
    let mut words: Vec<(usize, String)> = Vec::new();
    let (mut spaces, mut word, mut quoted) = (0, String::new(), false);
    let closes = text.matches('`').count().is_multiple_of(2);
    for c in text.chars() {
        quoted ^= closes && c == '`';
        if c == ' ' && !quoted {
            if !word.is_empty() {
                words.push((spaces, std::mem::take(&mut word)));
                spaces = 0;
            }
            spaces += 1;
        } else {
            word.push(c);
        }
    }
    if !word.is_empty() {
        words.push((spaces, word));
    }
    words
}

/// A time for people, without a fraction where it has none: it is accepted as input.
pub fn moment(time: Timestamp) -> String {
    let text = render_time(time);
    text.replace(".000000", "")
}

/// `1 segment`, `2 segments`.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", super::terminal::human_count(count), if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_under_their_label() {
        let mut sheet = Sheet::new(60);
        sheet.line("Also", "one standby must be rebuilt afterwards, and it is named here: 10.0.0.7");
        sheet.more(2, "deeper");
        sheet.list("Instead", ["one", "two"]);
        sheet.list("Nothing", []);
        sheet.numbered("Steps", (1..=2).map(|n| format!("step {n}")));
        assert_eq!(
            sheet.finish(),
            "\
Also      one standby must be rebuilt afterwards, and it is
          named here: 10.0.0.7
            deeper
Instead   one
          two
Steps      1 step 1
           2 step 2"
        );
    }

    #[test]
    fn a_number_keeps_its_unit_and_a_date_its_time() {
        let wrapped = |words: &str| wrap(words, 50, 0).join("\n");
        for before in 30..50 {
            let lead = "x".repeat(before);
            for whole in ["tidy 0 s, switch", "of 16 MiB", "to 2026-11-22 01:18:17.691492+00", "on timeline 3", "PostgreSQL 15.18"] {
                let (first, rest) = whole.split_once(' ').unwrap();
                let kept = if whole.starts_with("PostgreSQL") { whole } else { rest.split(", ").next().unwrap() };
                assert!(wrapped(&format!("{lead} {first} {rest}")).contains(kept), "{lead} {whole}");
            }
        }
        let path = format!("0/3 {}", "/x".repeat(30));
        assert_eq!(wrapped(&format!("a {path}")), format!("a 0/3\n{}", "/x".repeat(30)));
    }

    #[test]
    fn a_command_stays_in_one_piece() {
        let mut sheet = Sheet::new(60);
        sheet.plain("Ask for the furthest reachable point: `pitr restore --to-lsn 1/FCAF9C10 --timeline 2`.");
        sheet.unwrapped(&"x".repeat(80));
        sheet.plain("it's a lone ` quote");
        assert_eq!(
            sheet.finish(),
            format!(
                "Ask for the furthest reachable point:\n  `pitr restore --to-lsn 1/FCAF9C10 --timeline 2`.\n{}\nit's a lone ` quote",
                "x".repeat(80)
            )
        );
    }

    #[test]
    fn a_long_command_has_its_own_line() {
        let mut sheet = Sheet::new(60);
        sheet.command("To do it:", "pitr restore --to-latest");
        sheet.command("Nothing has been changed. To do it:", "pitr restore --before-time '2026-11-22 01:18:17+00'");
        let short = "To do it:  pitr restore --to-latest";
        assert_eq!(
            sheet.finish(),
            format!("{short}\nNothing has been changed. To do it:\n  pitr restore --before-time '2026-11-22 01:18:17+00'")
        );
    }

    #[test]
    fn columns_within_a_line_keep_their_spaces_and_hostile_text_is_escaped() {
        let mut sheet = Sheet::new(80);
        sheet.line("Cluster", "15-main  /srv/a\x1b[2J\nRefused  no  serving");
        sheet.line("Host", "");
        assert_eq!(sheet.finish(), "Cluster   15-main  /srv/a\\x1b[2J\\nRefused  no  serving\nHost");
    }

    #[test]
    fn times_and_counts() {
        assert_eq!(moment("2026-11-21T21:03:14Z".parse().unwrap()), "2026-11-21 21:03:14+00");
        assert_eq!(moment("2026-11-21T21:03:14.5Z".parse().unwrap()), "2026-11-21 21:03:14.500000+00");
        assert_eq!((counted(1, "segment", "segments"), counted(2000, "a", "b")), ("1 segment".into(), "2,000 b".into()));
    }
}
