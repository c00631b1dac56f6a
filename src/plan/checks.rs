//! Check files: plain SQL that psql also runs, with the expectation in comments.
//!
//! ```sql
//! -- check: a mixed-case slug is back
//! -- expect: count(*) > 0
//! SELECT slug FROM environments WHERE slug ~ '[A-Z]' LIMIT 5;
//! ```
//!
//! Guarantees: what is not understood is an error, so that no expectation is skipped in silence; a [`Check`] holds
//! exactly one query, and neither query nor expectation can leave the parentheses that [`wrapped_sql`] puts around them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::plan::sql::{Token, TokenKind, tokens};

/// One query with its expectation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// From `-- check:`; unique in its file.
    pub name: String,
    /// From `-- expect:`: SQL over the result. Without it the query must only succeed.
    pub expect: Option<String>,
    /// The query, without its semicolon.
    pub query: String,
    /// The file it comes from.
    pub file: String,
    /// The line of `-- check:`, from 1.
    pub line: u32,
}

/// First words of a query whose result can be looked at from outside (`SelectStmt`, parser/gram.y).
const QUERIES: [&str; 4] = ["SELECT", "WITH", "VALUES", "TABLE"];
/// First words of what besides only reads; it cannot stand in a FROM clause.
const LOOKS: [&str; 2] = ["SHOW", "EXPLAIN"];

/// Reads a check file. Errors are [`crate::error::Kind::Usage`] with `file:line`.
pub fn parse_checks(text: &str, file: &Path) -> Result<Vec<Check>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { text, file, open: None, done: Vec::new() };
    let found = tokens(text).map_err(|e| reader.error(e.line, e.what, "Close it."))?;
    for token in &found {
        reader.take(token)?;
    }
    reader.end_of_file()
}

/// The query that evaluates the expectation over the result: one column `passed`, boolean or an error.
///
/// Everything stands on lines of its own, so that a trailing comment ends with its line. `AND true` makes the server
/// refuse an expectation that is not boolean and keeps NULL apart from false. Without expectation: the query itself.
pub fn wrapped_sql(check: &Check) -> String {
    match &check.expect {
        Some(expect) => format!("SELECT (\n{expect}\n) AND true AS passed FROM (\n{}\n) AS result", check.query),
        None => check.query.clone(),
    }
}

/// Whether the rows of [`wrapped_sql`] mean that the expectation holds: there is a row, and every one is true.
pub fn passed(rows: &[Option<bool>]) -> bool {
    !rows.is_empty() && rows.iter().all(|row| *row == Some(true))
}

/// A check whose statement has not ended yet.
struct Open {
    check: Check,
    /// Where its statement begins, once it has.
    start: Option<usize>,
    /// Behind the last token that is neither space nor comment.
    end: usize,
    /// Parentheses that are open.
    depth: u32,
}

struct Reader<'t> {
    text: &'t str,
    file: &'t Path,
    open: Option<Open>,
    done: Vec<Check>,
}

impl Reader<'_> {
    fn take(&mut self, token: &Token) -> Result<()> {
        match token.kind {
            TokenKind::Space | TokenKind::BlockComment => Ok(()),
            TokenKind::LineComment => match mark(self.slice(token)) {
                Mark::None => Ok(()),
                Mark::Check(name) => self.begin(name.to_string(), token.line),
                Mark::Expect(sql) => self.expect(sql.to_string(), token.line),
                Mark::Misspelt(word) => {
                    Err(self.error(token.line, format!("unknown mark {word:?}"), "Write -- check: or -- expect: (or reword the comment)."))
                }
            },
            TokenKind::Backslash => Err(self.error(token.line, "a psql command in a check file", "Leave it out: checks are plain SQL.")),
            TokenKind::Semicolon => self.semicolon(token),
            _ => self.statement(token),
        }
    }

    fn slice(&self, token: &Token) -> &str {
        self.text.get(token.range.clone()).unwrap_or_default()
    }

    fn begin(&mut self, name: String, line: u32) -> Result<()> {
        if let Some(open) = &self.open {
            return Err(self.unfinished(open));
        }
        if name.is_empty() {
            return Err(self.error(line, "a check without a name", "Say behind -- check: what it shows."));
        }
        if let Some(first) = self.done.iter().find(|check| check.name == name) {
            return Err(self.error(line, format!("check {name:?} is already on line {}", first.line), "Give it another name."));
        }
        let check = Check { name, expect: None, query: String::new(), file: self.file.display().to_string(), line };
        self.open = Some(Open { check, start: None, end: 0, depth: 0 });
        Ok(())
    }

    fn expect(&mut self, sql: String, line: u32) -> Result<()> {
        expression(&sql).map_err(|cause| self.error(line, cause, "An expectation is one SQL expression over the result."))?;
        let misplaced = match &mut self.open {
            None => "an expectation without a check",
            Some(open) if open.start.is_some() => "an expectation behind the beginning of its query",
            Some(open) if open.check.expect.is_some() => "a second expectation in one check",
            Some(open) => {
                open.check.expect = Some(sql);
                return Ok(());
            }
        };
        Err(self.error(line, misplaced, "Write -- check:, one -- expect:, then the query; join conditions with AND."))
    }

    fn statement(&mut self, token: &Token) -> Result<()> {
        let word = self.slice(token).to_uppercase();
        let Some(open) = &mut self.open else {
            let cause = if self.done.is_empty() { "a statement without a check" } else { "several statements in one check" };
            return Err(self.error(token.line, cause, "Write -- check: NAME on a line before it."));
        };
        if open.start.is_none() {
            open.start = Some(token.range.start);
            let looks = LOOKS.contains(&word.as_str()) && open.check.expect.is_none();
            if !looks && !QUERIES.contains(&word.as_str()) && token.kind != TokenKind::Open {
                let hint = format!("Begin with one of {} ({} only without -- expect:).", QUERIES.join(", "), LOOKS.join(", "));
                return Err(self.error(token.line, format!("{word:?} does not begin a query"), &hint));
            }
        }
        open.end = token.range.end;
        match token.kind {
            TokenKind::Open => open.depth += 1,
            TokenKind::Close if open.depth == 0 => return Err(self.error(token.line, "a parenthesis too many", "Remove it.")),
            TokenKind::Close => open.depth -= 1,
            _ => {}
        }
        Ok(())
    }

    fn semicolon(&mut self, token: &Token) -> Result<()> {
        match self.open.take() {
            None => Err(self.error(token.line, "an empty statement", "Remove the semicolon.")),
            Some(open) => self.finish(open),
        }
    }

    fn finish(&mut self, open: Open) -> Result<()> {
        let Some(query) = open.start.and_then(|start| self.text.get(start..open.end)) else {
            return Err(self.unfinished(&open));
        };
        if open.depth > 0 {
            return Err(self.error(open.check.line, "a parenthesis is not closed in the query of this check", "Close it."));
        }
        self.done.push(Check { query: query.to_string(), ..open.check });
        Ok(())
    }

    fn end_of_file(mut self) -> Result<Vec<Check>> {
        // psql too runs what stands at the end without a semicolon.
        if let Some(open) = self.open.take() {
            self.finish(open)?;
        }
        if self.done.is_empty() {
            return Err(self.error(1, "no check in this file", "Write -- check: NAME and a query, or leave the file out."));
        }
        Ok(self.done)
    }

    fn unfinished(&self, open: &Open) -> Error {
        let (cause, hint) = match open.start {
            None => ("a check without a query", "Write the query below -- check: and -- expect:."),
            Some(_) => ("the query of this check has no end", "End it with a semicolon."),
        };
        self.error(open.check.line, cause, hint)
    }

    fn error(&self, line: u32, cause: impl std::fmt::Display, hint: &str) -> Error {
        Error::usage(format!("check file {}:{line}", self.file.display())).cause(cause).hint(hint)
    }
}

/// What a line comment says to us.
enum Mark<'t> {
    None,
    Check(&'t str),
    Expect(&'t str),
    Misspelt(&'t str),
}

fn mark(comment: &str) -> Mark<'_> {
    let Some((word, rest)) = comment.trim_start_matches('-').split_once(':') else { return Mark::None };
    let (word, rest) = (word.trim(), rest.trim());
    match word.to_lowercase().as_str() {
        "check" => Mark::Check(rest),
        "expect" => Mark::Expect(rest),
        // Taking "expects:" for a remark would drop an expectation.
        near if strsim::levenshtein(near, "check") <= 1 || strsim::levenshtein(near, "expect") <= 2 => Mark::Misspelt(word),
        _ => Mark::None,
    }
}

/// Refuses what would not stay inside parentheses.
fn expression(sql: &str) -> std::result::Result<(), String> {
    let (mut depth, mut empty) = (0_u32, true);
    for token in tokens(sql).map_err(|e| e.what.to_string())? {
        match token.kind {
            TokenKind::Space | TokenKind::LineComment | TokenKind::BlockComment => continue,
            TokenKind::Semicolon => return Err("a semicolon in an expectation".into()),
            TokenKind::Backslash => return Err("a backslash in an expectation".into()),
            TokenKind::Open => depth += 1,
            TokenKind::Close => depth = depth.checked_sub(1).ok_or("a parenthesis too many in an expectation")?,
            _ => {}
        }
        empty = false;
    }
    match (empty, depth) {
        (true, _) => Err("an empty expectation".into()),
        (false, 0) => Ok(()),
        (false, _) => Err("a parenthesis is not closed in an expectation".into()),
    }
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
