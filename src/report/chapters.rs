//! A report as chapters, rendered as a page for a terminal, as Markdown and as one HTML file.
//!
//! Guarantees: every text is escaped for where it stands, so that no name out of a database, a command line or an error
//! can become markup; the HTML refers to nothing outside itself and forbids scripts.

use std::fmt::Write as _;

use super::layout::Sheet;
use super::terminal::escape;

/// A heading and what stands below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chapter {
    /// The heading.
    pub title: &'static str,
    /// The content.
    pub block: Block,
}

/// The content of a chapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// Names and values.
    Facts(Vec<(&'static str, String)>),
    /// Columns with headings.
    Table {
        /// Headings.
        head: Vec<&'static str>,
        /// Cells.
        rows: Vec<Vec<String>>,
    },
    /// Sentences.
    List(Vec<String>),
}

impl Block {
    /// Nothing to say.
    pub fn is_empty(&self) -> bool {
        match self {
            Block::Facts(facts) => facts.is_empty(),
            Block::Table { rows, .. } => rows.is_empty(),
            Block::List(items) => items.is_empty(),
        }
    }
}

/// The page for a terminal.
pub fn text(title: &str, chapters: &[Chapter], width: usize) -> String {
    let mut sheet = Sheet::new(width);
    sheet.plain(title);
    for chapter in chapters.iter().filter(|c| !c.block.is_empty()) {
        sheet.gap();
        sheet.plain(chapter.title);
        match &chapter.block {
            Block::Facts(facts) => facts.iter().for_each(|(name, value)| sheet.line(name, value)),
            Block::Table { head, rows } => columns(&mut sheet, head, rows),
            Block::List(items) => items.iter().for_each(|item| sheet.plain(&format!("  {item}"))),
        }
    }
    sheet.finish()
}

/// Columns below their headings; numbers stand right. What is longer than most pushes the rest of its row on.
fn columns(sheet: &mut Sheet, head: &[&str], rows: &[Vec<String>]) {
    const WIDEST: usize = 32;
    let full = || rows.iter().filter(|row| row.iter().all(|cell| !cell.is_empty()));
    let width = |at: usize| {
        let cells = full().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain(head.get(at).map(|cell| cell.len())).max().unwrap_or(0).min(WIDEST)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let last = head.len().saturating_sub(1);
    let numbers: Vec<bool> =
        (0..head.len()).map(|at| full().count() > 0 && full().all(|row| row.get(at).is_some_and(|cell| is_number(cell)))).collect();
    let mut line = |row: &mut dyn Iterator<Item = &str>| {
        let cells = row.zip(&widths).zip(&numbers).enumerate().map(|(at, ((cell, width), number))| match (number, at == last) {
            (true, _) => format!("{cell:>width$}"),
            (false, true) => cell.to_string(),
            (false, false) => format!("{cell:<width$}"),
        });
        let cells: Vec<String> = cells.collect();
        sheet.plain(&format!("  {}", cells.join("  ").trim_end()));
    };
    line(&mut head.iter().copied());
    rows.iter().for_each(|row| line(&mut row.iter().map(String::as_str)));
}

fn is_number(cell: &str) -> bool {
    !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit())
}

/// Markdown (GitHub's tables).
pub fn markdown(title: &str, chapters: &[Chapter]) -> String {
    let mut out = format!("# {}\n", marked(title));
    for chapter in chapters.iter().filter(|c| !c.block.is_empty()) {
        let _ = writeln!(out, "\n## {}\n", marked(chapter.title));
        match &chapter.block {
            Block::Facts(facts) => {
                let rows: Vec<Vec<String>> = facts.iter().map(|(name, value)| vec![(*name).to_string(), value.clone()]).collect();
                table(&mut out, &["", ""], &rows);
            }
            Block::Table { head, rows } => table(&mut out, head, rows),
            Block::List(items) => {
                for item in items {
                    let _ = writeln!(out, "* {}", marked(item));
                }
            }
        }
    }
    out.trim_end().to_string()
}

fn table(out: &mut String, head: &[&str], rows: &[Vec<String>]) {
    let line = |cells: &mut dyn Iterator<Item = String>| format!("| {} |", cells.collect::<Vec<_>>().join(" | "));
    let _ = writeln!(out, "{}", line(&mut head.iter().map(|cell| marked(cell))));
    let _ = writeln!(out, "{}", line(&mut head.iter().map(|_| "---".to_string())));
    for row in rows {
        let _ = writeln!(out, "{}", line(&mut row.iter().map(|cell| marked(cell))));
    }
}

/// Text in which nothing is Markdown or HTML. Each mark of punctuation may be escaped by a backslash (CommonMark, 2.4).
fn marked(text: &str) -> String {
    let safe = escape(text);
    let mut out = String::with_capacity(safe.len());
    for c in safe.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '+' | '!' | '|' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#1a1a1a;background:#fff}\
h1{font-size:1.4em}h2{font-size:1.1em;margin:1.6em 0 .4em}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;vertical-align:top;padding:.25em .8em .25em 0;border-bottom:1px solid #ddd;overflow-wrap:anywhere}\
th{font-weight:600}td:first-child{white-space:nowrap}ul{padding-left:1.2em}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}td,th{border-color:#333}}";

/// One HTML file that needs nothing else.
pub fn html(title: &str, chapters: &[Chapter]) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{0}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{0}</h1>\n",
        quoted(title)
    );
    for chapter in chapters.iter().filter(|c| !c.block.is_empty()) {
        let _ = writeln!(out, "<h2>{}</h2>", quoted(chapter.title));
        match &chapter.block {
            Block::Facts(facts) => {
                out.push_str("<table>\n");
                for (name, value) in facts {
                    let _ = writeln!(out, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", quoted(name), quoted(value));
                }
                out.push_str("</table>\n");
            }
            Block::Table { head, rows } => {
                let cells =
                    |tag: &str, row: &mut dyn Iterator<Item = String>| row.map(|c| format!("<{tag}>{c}</{tag}>")).collect::<String>();
                let _ = writeln!(out, "<table>\n<tr>{}</tr>", cells("th", &mut head.iter().map(|c| quoted(c))));
                for row in rows {
                    let _ = writeln!(out, "<tr>{}</tr>", cells("td", &mut row.iter().map(|c| quoted(c))));
                }
                out.push_str("</table>\n");
            }
            Block::List(items) => {
                let items: String = items.iter().map(|item| format!("<li>{}</li>\n", quoted(item))).collect();
                let _ = writeln!(out, "<ul>\n{items}</ul>");
            }
        }
    }
    out.push_str("</body>\n</html>");
    out
}

/// Text that is no markup, in an element or in a quoted attribute.
fn quoted(text: &str) -> String {
    let safe = escape(text);
    let mut out = String::with_capacity(safe.len());
    for c in safe.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "<script>alert(1)</script>\u{202e}\" onload='x' | `rm` [a](javascript:b) \\";

    fn chapters() -> Vec<Chapter> {
        vec![
            Chapter { title: "Facts", block: Block::Facts(vec![("Name", HOSTILE.into())]) },
            Chapter { title: "Empty", block: Block::List(vec![]) },
            Chapter { title: "Table", block: Block::Table { head: vec!["a", "b"], rows: vec![vec!["1".into(), HOSTILE.into()]] } },
            Chapter { title: "List", block: Block::List(vec![HOSTILE.into(), "two\nlines".into()]) },
        ]
    }

    #[test]
    fn a_hostile_name_is_only_text() {
        let page = html(HOSTILE, &chapters());
        assert!(!page.contains("<script") && !page.contains('\u{202e}') && !page.contains("' onload"), "{page}");
        // Outside of tags there is no quote and no angle bracket that came from the name.
        assert_eq!(page.matches("&lt;script&gt;").count(), 5);
        assert!(page.contains("two\\nlines") && !page.contains("Empty"));
        let page = markdown(HOSTILE, &chapters());
        assert!(!page.contains("<script") && !page.contains("](javascript") && !page.contains(" `rm`"), "{page}");
        let row = page.lines().find(|line| line.starts_with("| 1")).unwrap();
        let bars = row.char_indices().filter(|(at, c)| *c == '|' && !row[..*at].ends_with('\\')).count();
        assert_eq!(bars, 3, "the table keeps its columns: {row}");
    }

    #[test]
    fn the_page_for_a_terminal() {
        let chapters = [Chapter { title: "Asked", block: Block::Facts(vec![("Target", "--to-latest".into()), ("By", "root".into())]) }];
        assert_eq!(text("Run 1", &chapters, 80), "Run 1\n\nAsked\nTarget    --to-latest\nBy        root");
    }
}
