//! The text of `postgresql.conf` (guc-file.l, manual section "Parameter Interaction via the Configuration File") and of
//! `postmaster.opts`.
//!
//! What [`parse_conf`] accepts, PostgreSQL reads the same way; what PostgreSQL refuses is refused, except that nothing is
//! known here of names and values. Errors give the number of a line and never its content: an `include` can name a file
//! that the reader must not see.

use serde::{Deserialize, Serialize};

use super::Malformed;

/// One line that says something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfEntry {
    /// Its number in the file, from 1.
    pub line: u32,
    /// What it says.
    pub directive: Directive,
}

/// A setting or an inclusion, in file order; of equal names the last one counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Directive {
    /// `name = value`.
    Setting {
        /// In lower case: PostgreSQL compares names without case (ASCII).
        name: String,
        /// Without quotes and escapes.
        value: String,
    },
    /// `include 'file'`, relative to the including file's directory.
    Include(String),
    /// `include_if_exists 'file'`.
    IncludeIfExists(String),
    /// `include_dir 'directory'`: its `*.conf` files without leading dot, in C order.
    IncludeDir(String),
}

/// Parses the text of a configuration file.
pub fn parse_conf(text: &str) -> Result<Vec<ConfEntry>, Malformed> {
    let entry = |(index, line): (usize, &str)| {
        let line_number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        match parse_line(line) {
            Ok(directive) => directive.map(|directive| Ok(ConfEntry { line: line_number, directive })),
            Err(why) => Some(Err(Malformed::new(format!("{why} in line {line_number}")))),
        }
    };
    text.split('\n').enumerate().filter_map(entry).collect()
}

/// `value` as one quoted word that PostgreSQL, and [`parse_conf`], read back as it was, on one line. A NUL, which no
/// setting can hold, makes PostgreSQL's reading end there.
pub fn quote_value(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('\'');
    for c in value.chars() {
        match c {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\0' => quoted.push_str("\\000"),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// The program and its arguments in `postmaster.opts` (`CreateOptsFile`): one line, each argument in double quotes and
/// nothing escaped. An argument that itself holds a double quote cannot be told from two and is refused.
pub fn parse_opts(text: &str) -> Result<Vec<String>, Malformed> {
    let bad = || Malformed::new("line 1 is not a program and arguments in double quotes");
    let line = text.strip_suffix('\n').filter(|line| !line.contains(['\n', '\0'])).ok_or_else(bad)?;
    let (program, arguments) = match line.split_once(" \"") {
        None => (line, Vec::new()),
        Some((program, rest)) => (program, rest.strip_suffix('"').ok_or_else(bad)?.split("\" \"").collect()),
    };
    if program.is_empty() || program.contains('"') || arguments.iter().any(|a| a.contains('"')) {
        return Err(bad());
    }
    Ok(std::iter::once(program).chain(arguments).map(str::to_owned).collect())
}

/// `name [=] value [# comment]`, or nothing.
fn parse_line(line: &str) -> Result<Option<Directive>, &'static str> {
    let mut rest = skip_blank(line);
    if rest.is_empty() {
        return Ok(None);
    }
    let name = take(&mut rest, name_length).ok_or(SYNTAX)?;
    rest = skip_blank(rest);
    rest = skip_blank(rest.strip_prefix('=').unwrap_or(rest));
    let value = take(&mut rest, value_length).ok_or(SYNTAX)?;
    if !skip_blank(rest).is_empty() {
        return Err(SYNTAX);
    }
    let value = if value.starts_with('\'') { unquote(value)? } else { value.to_owned() };
    let name = name.to_ascii_lowercase();
    Ok(Some(match name.as_str() {
        "include" => Directive::Include(value),
        "include_if_exists" => Directive::IncludeIfExists(value),
        "include_dir" => Directive::IncludeDir(value),
        _ => Directive::Setting { name, value },
    }))
}

const SYNTAX: &str = "syntax error";

/// Without leading white space; a comment counts as the end of the line.
fn skip_blank(text: &str) -> &str {
    let text = text.trim_start_matches([' ', '\t', '\r']);
    if text.starts_with('#') { "" } else { text }
}

/// Cuts the token of `length` bytes off the front of `rest`.
fn take<'a>(rest: &mut &'a str, length: impl Fn(&str) -> usize) -> Option<&'a str> {
    let (token, after) = rest.split_at_checked(length(rest))?;
    *rest = after;
    (!token.is_empty()).then_some(token)
}

/// Bytes above 127 are letters to the scanner.
fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_word(c: char) -> bool {
    is_letter(c) || c.is_ascii_digit()
}

/// Length of the longest prefix of characters that fit.
fn run(text: &str, fits: impl Fn(char) -> bool) -> usize {
    text.find(|c| !fits(c)).unwrap_or(text.len())
}

/// `{ID}`: a letter, then letters and digits.
fn id_length(text: &str) -> usize {
    if text.starts_with(is_letter) { run(text, is_word) } else { 0 }
}

/// `{ID}` or `{ID}.{ID}`, if the scanner finds no longer token there: `x-1` is one word and no name.
fn name_length(text: &str) -> usize {
    let first = id_length(text);
    let second = after(text, first).strip_prefix('.').map_or(0, id_length);
    let name = if second > 0 { first + 1 + second } else { first };
    if name == unquoted_length(text) { name } else { 0 }
}

/// `{UNQUOTED_STRING}`: a letter, then letters, digits and `-._:/`.
fn unquoted_length(text: &str) -> usize {
    if text.starts_with(is_letter) { run(text, |c| is_word(c) || "-._:/".contains(c)) } else { 0 }
}

/// The longest of the scanner's tokens that may be a value; 0 if the longest token is none.
fn value_length(text: &str) -> usize {
    if text.starts_with('\'') {
        return string_length(text);
    }
    if text.starts_with(is_letter) {
        // At equal length the scanner takes a qualified name, which is no value: `a.b` must be quoted.
        let qualified = name_length(text) > id_length(text);
        return if qualified { 0 } else { unquoted_length(text) };
    }
    integer_length(text).max(real_length(text))
}

/// `'…'` with `''` and `\x` inside, on one line.
fn string_length(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '\'' if chars.next_if(|(_, next)| *next == '\'').is_none() => return at + 1,
            _ => (),
        }
    }
    0
}

/// `[+-]digits` or `[+-]0xdigits`, then letters for a unit.
fn integer_length(text: &str) -> usize {
    let sign = text.starts_with(['+', '-']).into();
    let digits = after(text, sign);
    let hex = digits.strip_prefix("0x").map_or(0, |hex| run(hex, |c| c.is_ascii_hexdigit()));
    let number = if hex > 0 { 2 + hex } else { run(digits, |c| c.is_ascii_digit()) };
    if number == 0 { 0 } else { sign + number + run(after(digits, number), |c| c.is_ascii_alphabetic()) }
}

/// `[+-]digits.digits` with an optional exponent and no unit; either side of the point may be empty.
fn real_length(text: &str) -> usize {
    let digits = |text: &str| run(text, |c| c.is_ascii_digit());
    let sign: usize = text.starts_with(['+', '-']).into();
    let whole = sign + digits(after(text, sign));
    let Some(fraction) = after(text, whole).strip_prefix('.') else { return 0 };
    let mantissa = whole + 1 + digits(fraction);
    let Some(exponent) = after(text, mantissa).strip_prefix(['e', 'E']) else { return mantissa };
    let exponent_sign: usize = exponent.starts_with(['+', '-']).into();
    match digits(after(exponent, exponent_sign)) {
        0 => mantissa,
        length => mantissa + 1 + exponent_sign + length,
    }
}

fn after(text: &str, at: usize) -> &str {
    text.get(at..).unwrap_or_default()
}

/// `DeescapeQuotedString`: doubled quotes, C escapes with up to three octal digits, otherwise the escaped character itself.
fn unquote(quoted: &str) -> Result<String, &'static str> {
    let inner = quoted.strip_prefix('\'').and_then(|q| q.strip_suffix('\'')).unwrap_or_default();
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.bytes().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b'\'' => {
                rest.next();
                bytes.push(b'\'');
            }
            b'\\' => match rest.next() {
                Some(b'b') => bytes.push(0x08),
                Some(b'f') => bytes.push(0x0C),
                Some(b'n') => bytes.push(b'\n'),
                Some(b'r') => bytes.push(b'\r'),
                Some(b't') => bytes.push(b'\t'),
                Some(first @ b'0'..=b'7') => {
                    let mut value = u32::from(first - b'0');
                    for _ in 0..2 {
                        let Some(digit) = rest.next_if(|b| (b'0'..=b'7').contains(b)) else { break };
                        value = value * 8 + u32::from(digit - b'0');
                    }
                    bytes.push((value & 0xFF) as u8);
                }
                Some(other) => bytes.push(other),
                None => return Err(SYNTAX),
            },
            other => bytes.push(other),
        }
    }
    if bytes.contains(&0) {
        return Err("a NUL byte in a value");
    }
    String::from_utf8(bytes).map_err(|_| "a value that is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(line: &str) -> Option<(String, String)> {
        match parse_conf(line).ok()?.pop()?.directive {
            Directive::Setting { name, value } => Some((name, value)),
            other => panic!("{other:?}"),
        }
    }

    fn value(text: &str) -> Option<String> {
        setting(&format!("x = {text}")).map(|(_, value)| value)
    }

    #[test]
    fn reads_the_usual_file() {
        let text = "# comment\n\nPort = 5432 # why\r\nwork_mem 5MB\nshared_preload_libraries='a,b'#x\nmy.Ext=on\n\
                    include_if_exists 'x.conf'\nInclude = y.conf\ninclude_dir 'conf.d'";
        let setting =
            |line, name: &str, value: &str| ConfEntry { line, directive: Directive::Setting { name: name.into(), value: value.into() } };
        let parsed = parse_conf(&text.replace("y.conf", "'y.conf'")).unwrap();
        assert_eq!(
            parsed,
            [
                setting(3, "port", "5432"),
                setting(4, "work_mem", "5MB"),
                setting(5, "shared_preload_libraries", "a,b"),
                setting(6, "my.ext", "on"),
                ConfEntry { line: 7, directive: Directive::IncludeIfExists("x.conf".into()) },
                ConfEntry { line: 8, directive: Directive::Include("y.conf".into()) },
                ConfEntry { line: 9, directive: Directive::IncludeDir("conf.d".into()) },
            ]
        );
        assert_eq!(parse_conf(""), Ok(vec![]));
    }

    /// Each agrees with `pg_file_settings` of a running server (15).
    #[test]
    fn values_as_the_server_reads_them() {
        for (text, expected) in VALUES {
            assert_eq!(value(text).as_deref(), *expected, "{text}");
        }
    }

    const VALUES: &[(&str, Option<&str>)] = &[
        ("5MB", Some("5MB")),
        ("-1", Some("-1")),
        ("0x1F", Some("0x1F")),
        ("0x", Some("0x")),
        ("1.5", Some("1.5")),
        (".5", Some(".5")),
        ("1.5e-3", Some("1.5e-3")),
        ("1.5GB", None),
        ("1e3", None),
        ("1 2", None),
        ("a-b_c:d/e", Some("a-b_c:d/e")),
        ("a.b", None),
        ("a.b.c", Some("a.b.c")),
        ("a.b/c", Some("a.b/c")),
        ("a.1", Some("a.1")),
        ("/tmp", None),
        ("''", Some("")),
        ("'a''b'", Some("a'b")),
        (r"'a\'b'", Some("a'b")),
        (r"'a\\'", Some(r"a\")),
        (r"'\t\x\101\1'", Some("\txA\u{1}")),
        ("'a", None),
        ("'a''", None),
        (r"'a\'", None),
        ("'a' 'b'", None),
        ("'a'b", None),
        ("'# no comment'", Some("# no comment")),
        ("\u{e9}t\u{e9}", Some("\u{e9}t\u{e9}")),
        ("", None),
        ("= a", None),
    ];

    #[test]
    fn refuses_in_numbers_not_words() {
        for text in
            ["x", "x =", "= 5", "5 = 5", "x = $secret", "root:$6$abc:19000:0:99999:7:::", "x.y.z = 1", "x. = 1", "x;1", "x-1", "x.5", "x."]
        {
            let error = parse_conf(&format!("a = 1\n{text}\n")).unwrap_err();
            assert_eq!(error.0, "syntax error in line 2", "{text}");
        }
        assert_eq!(parse_conf(r"x = '\377'").unwrap_err().0, "a value that is not UTF-8 in line 1");
        assert_eq!(parse_conf(r"x = 'a\0'").unwrap_err().0, "a NUL byte in a value in line 1");
    }

    #[test]
    fn quoting_survives_reading() {
        for text in ["", "a", "it's", "a\\b", "\\'", "''", "\n\r\t", "\u{e9} # x", "'; x = 1", "cp \"%p\" '/wal/%f'"] {
            let quoted = quote_value(text);
            assert!(!quoted.contains(['\n', '\r']));
            assert_eq!(value(&quoted).as_deref(), Some(text));
        }
    }

    #[test]
    fn reads_postmaster_opts() {
        let file = include_str!("../../tests/fixtures/pg/postmaster.opts");
        assert_eq!(parse_opts(file).unwrap(), ["/usr/lib/postgresql/15/bin/postgres", "-D", "p"]);
        assert_eq!(parse_opts("/p/postgres \"-c\" \"a=x  y\" \"\"\n").unwrap(), ["/p/postgres", "-c", "a=x  y", ""]);
        assert_eq!(parse_opts("/p/postgres\n").unwrap(), ["/p/postgres"]);
    }

    #[test]
    fn refuses_other_opts_without_echo() {
        for text in
            ["", "\n", "/p \"a\"", "/p \"a\n", "/p \"a\"b\"\n", "/p \"a\"\nroot\n", " \"root\"\n", "/p\"root\" \"a\"\n", "/p \"a\0\"\n"]
        {
            let error = parse_opts(text).unwrap_err();
            assert!(!error.0.contains("root"), "{text:?}");
        }
    }

    #[test]
    fn any_bytes_are_survived() {
        let text = VALUES.iter().map(|(text, _)| format!("x = {text} # \u{e9}\n")).collect::<String>();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            for replacement in [b'\'', b'\\', 0, b'\n', b'.'] {
                bytes[at] = replacement;
                let hostile = String::from_utf8_lossy(&bytes).into_owned();
                for line in hostile.split('\n').chain(text.get(at..)) {
                    if let Ok(entries) = parse_conf(line) {
                        assert!(entries.iter().all(|e| e.line > 0));
                    }
                }
            }
        }
    }
}
