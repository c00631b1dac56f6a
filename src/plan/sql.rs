//! SQL text to tokens, as far as it takes to see where a statement ends and what is comment.
//!
//! Guarantees: quotes, dollar quotes, comments and parentheses are seen as PostgreSQL's scanner sees them
//! (parser/scan.l, with `standard_conforming_strings` on); everything else is left to the server. Every byte of the
//! text belongs to exactly one token.

use std::ops::Range;

/// A piece of SQL text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Its bytes in the text.
    pub range: Range<usize>,
    /// The line it begins on, from 1.
    pub line: u32,
}

/// What a piece of SQL text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// White space.
    Space,
    /// `-- …` without its line end.
    LineComment,
    /// `/* … */`, nested ones included.
    BlockComment,
    /// A string, a quoted identifier or a dollar quote, with its quotes.
    Quoted,
    /// A key word, identifier or number.
    Word,
    /// `;`
    Semicolon,
    /// `(` or `[`
    Open,
    /// `)` or `]`
    Close,
    /// `\` outside of quotes: no SQL, but a command to psql.
    Backslash,
    /// Any other single character.
    Other,
}

/// A quote or comment without end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unterminated {
    /// The line where it begins, from 1.
    pub line: u32,
    /// What it is, for a `cause:`.
    pub what: &'static str,
}

/// Splits `sql` into tokens.
pub fn tokens(sql: &str) -> Result<Vec<Token>, Unterminated> {
    let mut scanner = Scanner { sql, at: 0 };
    let mut tokens = Vec::new();
    let mut line = 1;
    while scanner.at < sql.len() {
        let start = scanner.at;
        let kind = scanner.next().map_err(|what| Unterminated { line, what })?;
        // A token of no length would never end.
        scanner.at = scanner.at.max(start + 1);
        let text = sql.as_bytes().get(start..scanner.at).unwrap_or_default();
        tokens.push(Token { kind, range: start..scanner.at, line });
        line += u32::try_from(text.iter().filter(|b| **b == b'\n').count()).unwrap_or(0);
    }
    Ok(tokens)
}

struct Scanner<'t> {
    sql: &'t str,
    at: usize,
}

impl Scanner<'_> {
    fn next(&mut self) -> Result<TokenKind, &'static str> {
        let Some(byte) = self.peek(0) else { return Ok(TokenKind::Space) };
        match byte {
            b if is_space(b) => Ok(self.run(TokenKind::Space, is_space)),
            b'-' if self.peek(1) == Some(b'-') => Ok(self.run(TokenKind::LineComment, |b| b != b'\n' && b != b'\r')),
            b'/' if self.peek(1) == Some(b'*') => self.block_comment(),
            b'\'' => self.quoted(b'\'', "a string is not closed"),
            b'"' => self.quoted(b'"', "a quoted identifier is not closed"),
            b'e' | b'E' if self.peek(1) == Some(b'\'') => self.escape_string(),
            b'$' => self.dollar_quote(),
            // A dollar quote may follow a number at once, a name never.
            b if b.is_ascii_digit() => Ok(self.run(TokenKind::Word, is_word)),
            b if is_word(b) => Ok(self.run(TokenKind::Word, |b| is_word(b) || b == b'$')),
            b';' => Ok(self.single(TokenKind::Semicolon)),
            b'(' | b'[' => Ok(self.single(TokenKind::Open)),
            b')' | b']' => Ok(self.single(TokenKind::Close)),
            b'\\' => Ok(self.single(TokenKind::Backslash)),
            _ => Ok(self.single(TokenKind::Other)),
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.sql.as_bytes().get(self.at + ahead).copied()
    }

    fn single(&mut self, kind: TokenKind) -> TokenKind {
        self.at += 1;
        kind
    }

    fn run(&mut self, kind: TokenKind, belongs: fn(u8) -> bool) -> TokenKind {
        while self.peek(0).is_some_and(belongs) {
            self.at += 1;
        }
        kind
    }

    fn block_comment(&mut self) -> Result<TokenKind, &'static str> {
        let mut depth = 0;
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'/', Some(b'*')) => (depth, self.at) = (depth + 1, self.at + 2),
                (b'*', Some(b'/')) => (depth, self.at) = (depth - 1, self.at + 2),
                _ => self.at += 1,
            }
            if depth == 0 {
                return Ok(TokenKind::BlockComment);
            }
        }
        Err("a comment is not closed")
    }

    /// A doubled quote stands for itself; it needs no rule: the next string begins where this one ends.
    fn quoted(&mut self, quote: u8, complaint: &'static str) -> Result<TokenKind, &'static str> {
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            if byte == quote {
                return Ok(TokenKind::Quoted);
            }
        }
        Err(complaint)
    }

    /// `E'…'`: a backslash takes the next byte with it, and a continuation on a later line is of the same kind.
    fn escape_string(&mut self) -> Result<TokenKind, &'static str> {
        self.at += 2;
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            match byte {
                b'\\' => self.at += 1,
                b'\'' if self.peek(0) == Some(b'\'') => self.at += 1,
                b'\'' => match self.continuation() {
                    Some(next) => self.at = next,
                    None => return Ok(TokenKind::Quoted),
                },
                _ => {}
            }
        }
        Err("a string is not closed")
    }

    /// Behind the quote that continues a string (`quotecontinue`): white space with a line end, then a quote.
    fn continuation(&self) -> Option<usize> {
        let mut ahead = Scanner { sql: self.sql, at: self.at };
        let mut line_end = false;
        while let Some(byte) = ahead.peek(0) {
            match byte {
                b'\n' | b'\r' => (line_end, ahead.at) = (true, ahead.at + 1),
                b if is_space(b) => ahead.at += 1,
                b'-' if ahead.peek(1) == Some(b'-') => {
                    ahead.run(TokenKind::LineComment, |b| b != b'\n' && b != b'\r');
                }
                b'\'' if line_end => return Some(ahead.at + 1),
                _ => return None,
            }
        }
        None
    }

    /// `$tag$…$tag$`; a lone `$` or a parameter is no quote.
    fn dollar_quote(&mut self) -> Result<TokenKind, &'static str> {
        let rest = self.sql.get(self.at..).unwrap_or_default();
        let length = rest.bytes().skip(1).take_while(|b| is_word(*b)).count() + 2;
        let Some(tag) = rest.get(..length).filter(|t| t.ends_with('$') && !t.as_bytes().get(1).is_some_and(u8::is_ascii_digit)) else {
            return Ok(self.single(TokenKind::Other));
        };
        let body = rest.get(length..).unwrap_or_default();
        let end = body.find(tag).ok_or("a dollar quote is not closed")?;
        self.at += length + end + length;
        Ok(TokenKind::Quoted)
    }
}

/// `space` of scan.l; PostgreSQL 16 added the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c' | b'\x0b')
}

/// A byte of an identifier or number; every byte beyond ASCII is one (`ident_start`).
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of the tokens, without white space.
    fn split(sql: &str) -> Vec<&str> {
        let tokens = tokens(sql).unwrap();
        tokens.iter().filter(|t| t.kind != TokenKind::Space).map(|t| &sql[t.range.clone()]).collect()
    }

    #[test]
    fn quotes_hide_what_is_in_them() {
        assert_eq!(split("';' \";\" $$;$$ $a$;$$;$a$ ;"), ["';'", "\";\"", "$$;$$", "$a$;$$;$a$", ";"]);
        assert_eq!(split(r"'\' ;"), [r"'\'", ";"], "a plain string knows no escapes");
        assert_eq!(split(r"E'\';' e'\\' ;"), [r"E'\';'", r"e'\\'", ";"]);
        assert_eq!(split("'a'';'"), ["'a'", "';'"]);
        assert_eq!(split("E'a'';'"), ["E'a'';'"]);
        assert_eq!(split(r"typE'\' ;"), ["typE", r"'\'", ";"], "the letter of a longer word is no prefix");
        assert_eq!(split("E'a' -- c\n '\\';' ;"), ["E'a' -- c\n '\\';'", ";"], "a continued string keeps its kind");
        assert_eq!(split("E'a' '\\' ;"), ["E'a'", "'\\'", ";"], "not continued on the same line");
    }

    #[test]
    fn dollars() {
        assert_eq!(split("$1;$2"), ["$", "1", ";", "$", "2"]);
        assert_eq!(split("a$b$ ; c$b$"), ["a$b$", ";", "c$b$"], "a dollar inside a name is no quote");
        assert_eq!(split("$é$;$é$"), ["$é$;$é$"]);
        assert_eq!(split("$ ;"), ["$", ";"]);
        assert_eq!(split("1$a$;$a$"), ["1", "$a$;$a$"]);
    }

    #[test]
    fn comments() {
        assert_eq!(split("-- ; '\n;"), ["-- ; '", ";"]);
        assert_eq!(split("/* ; /* ' */ ; */ ;"), ["/* ; /* ' */ ; */", ";"]);
        assert_eq!(split("a--b"), ["a", "--b"]);
        assert_eq!(split("'--' \"/*\""), ["'--'", "\"/*\""]);
        assert_eq!(split("/*/ ; */ ;"), ["/*/ ; */", ";"]);
    }

    #[test]
    fn lines_are_counted_from_one() {
        let found: Vec<_> = tokens("a\n/*\n*/ 'x\n'\n;").unwrap().iter().filter(|t| t.kind != TokenKind::Space).map(|t| t.line).collect();
        assert_eq!(found, [1, 2, 3, 5]);
    }

    #[test]
    fn what_is_not_closed_is_named_with_its_line() {
        for (sql, what) in [("'", "string"), ("E'\\'", "string"), ("\"", "identifier"), ("$a$ $b$", "dollar"), ("/* /* */", "comment")] {
            let error = tokens(&format!("a\n{sql}")).unwrap_err();
            assert!(error.line == 2 && error.what.contains(what), "{sql}: {error:?}");
        }
    }

    #[test]
    fn every_byte_belongs_to_one_token_and_nothing_panics() {
        let sql = "-- é\nSELECT E'\\'é', $é$é$é$, \"é\", ü, 'a'/*é*/;";
        for cut in (0..=sql.len()).filter(|cut| sql.is_char_boundary(*cut)) {
            for tail in ["", "'", "\\", "$", "/*", "é", "E'\\"] {
                let text = format!("{}{tail}", &sql[..cut]);
                let Ok(tokens) = tokens(&text) else { continue };
                let mut end = 0;
                for token in tokens {
                    assert_eq!(token.range.start, end);
                    assert!(text.get(token.range.clone()).is_some(), "cut inside a character");
                    end = token.range.end;
                }
                assert_eq!(end, text.len());
            }
        }
    }
}
