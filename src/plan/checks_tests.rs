//! The design's example, each kind of mistake with its line, and that nothing leaves its parentheses.

use super::*;
use crate::error::Kind;

const EXAMPLE: &str = "-- Runbook, section 4; see check 7
-- check: migration history rolled back
-- expect: max(version) < 123 and not bool_or(dirty)
SELECT version, dirty FROM schema_migrations ORDER BY version DESC LIMIT 5;

-- check: a mixed-case slug is back
-- expect: count(*) > 0
SELECT slug FROM environments -- one; of many
  WHERE slug ~ '[A-Z;]' AND note <> $$-- check: no$$ LIMIT 5 -- the end
;
-- check: rows to look at
TABLE gateways
-- nothing follows
";

fn read(text: &str) -> Result<Vec<Check>> {
    parse_checks(text, Path::new("/etc/pitr/checks/a.sql"))
}

#[test]
fn the_documented_example() {
    let checks = read(EXAMPLE).unwrap();
    let [history, slug, rows] = checks.as_slice() else { panic!("{checks:?}") };
    assert_eq!((history.name.as_str(), history.line), ("migration history rolled back", 2));
    assert_eq!(history.expect.as_deref(), Some("max(version) < 123 and not bool_or(dirty)"));
    assert_eq!(history.query, "SELECT version, dirty FROM schema_migrations ORDER BY version DESC LIMIT 5");
    assert_eq!(slug.query.lines().count(), 2);
    assert!(slug.query.ends_with("LIMIT 5"), "a comment at the end is left out: {}", slug.query);
    assert_eq!((rows.query.as_str(), rows.expect.as_deref(), rows.line), ("TABLE gateways", None, 11));
    assert_eq!(rows.file, "/etc/pitr/checks/a.sql");
}

#[test]
fn marks_in_other_spellings() {
    for text in ["--check:n\n--EXPECT:true\nselect 1;", "\u{feff}-- Check : n \r\n--  expect : true\r\n(SELECT 1);\r\n"] {
        let checks = read(text).unwrap();
        assert_eq!((checks[0].name.as_str(), checks[0].expect.as_deref()), ("n", Some("true")), "{text:?}");
    }
    assert_eq!(read("/* -- check: x */ -- check: y\nSELECT 1").unwrap().len(), 1);
}

#[test]
fn each_mistake_has_its_line() {
    for (text, line, cause) in [
        ("", 1, "no check in this file"),
        ("-- nothing here\n", 1, "no check in this file"),
        ("\nSELECT 1;", 2, "a statement without a check"),
        ("-- check: a\nSELECT 1;\nSELECT 2;", 3, "several statements in one check"),
        ("-- check: a\nSELECT 1\n-- check: b\nSELECT 2;", 1, "has no end"),
        ("-- check: a\n-- check: b\nSELECT 2;", 1, "without a query"),
        ("-- check: a\n-- expect: true\n", 1, "without a query"),
        ("-- check: a\n-- expect: true\n;", 1, "without a query"),
        ("-- check: a\nSELECT 1;;", 2, "an empty statement"),
        ("-- check:\nSELECT 1;", 1, "without a name"),
        ("-- check: a\nSELECT 1;\n-- check: a\nSELECT 2;", 3, "already on line 1"),
        ("-- expect: true\nSELECT 1;", 1, "an expectation without a check"),
        ("-- check: a\nSELECT 1; -- expect: true", 2, "an expectation without a check"),
        ("-- check: a\nSELECT 1\n-- expect: true\n;", 3, "behind the beginning"),
        ("-- check: a\n-- expect: true\n-- expect: false\nSELECT 1;", 3, "second expectation"),
        ("-- check: a\n-- expects: true\nSELECT 1;", 2, "unknown mark \"expects\""),
        ("-- chek: a\nSELECT 1;", 1, "unknown mark"),
        ("-- check: a\n\\copy t to x\n", 2, "psql command"),
        ("-- check: a\nSELECT 1 \\gexec", 2, "psql command"),
        ("-- check: a\nSELECT 'x;\n", 2, "string is not closed"),
        ("-- check: a\n/* SELECT 1;\n", 2, "comment is not closed"),
        ("-- check: a\nSELECT $x$ 1;\n", 2, "dollar quote"),
        ("-- check: a\nSELECT (1;", 1, "not closed"),
        ("-- check: a\nSELECT 1) FROM (SELECT 2;", 2, "a parenthesis too many"),
        ("-- check: a\nCOMMIT;", 2, "does not begin a query"),
        ("-- check: a\n-- expect: true\nSHOW port;", 3, "does not begin a query"),
        ("-- check: a\nDELETE FROM t;", 2, "does not begin a query"),
        ("-- check: a\n-- expect:\nSELECT 1;", 2, "empty expectation"),
        ("-- check: a\n-- expect: -- true\nSELECT 1;", 2, "empty expectation"),
        ("-- check: a\n-- expect: true; DROP TABLE t\nSELECT 1;", 2, "semicolon"),
        ("-- check: a\n-- expect: 1) = (1\nSELECT 1;", 2, "too many"),
        ("-- check: a\n-- expect: (1 = 1\nSELECT 1;", 2, "not closed"),
        ("-- check: a\n-- expect: x = 'y\nSELECT 1;", 2, "string is not closed"),
        ("-- check: a\n-- expect: true /* x\nSELECT 1;", 2, "comment is not closed"),
    ] {
        let error = read(text).unwrap_err();
        assert_eq!(error.kind, Kind::Usage, "{text:?}");
        assert_eq!(error.what, format!("check file /etc/pitr/checks/a.sql:{line}"), "{text:?}: {error:?}");
        assert!(error.cause.clone().unwrap().contains(cause), "{text:?}: {error:?}");
        assert!(error.hint.is_some());
    }
}

#[test]
fn looks_need_no_expectation() {
    assert_eq!(read("-- check: a\nSHOW server_version;\n-- check: b\nEXPLAIN SELECT 1;").unwrap().len(), 2);
}

#[test]
fn a_trailing_comment_hides_nothing() {
    let checks = read("-- check: a\n-- expect: x > 0 -- more than none\nSELECT 1 AS x -- one\n /* two */;").unwrap();
    assert_eq!(wrapped_sql(&checks[0]), "SELECT (\nx > 0 -- more than none\n) AND true AS passed FROM (\nSELECT 1 AS x\n) AS result");
    let check = Check { query: "SELECT 1 -- one".into(), ..checks[0].clone() };
    let again = crate::plan::sql::tokens(&wrapped_sql(&check)).unwrap();
    let comments = again.iter().filter(|t| t.kind == TokenKind::LineComment).count();
    let brackets = again.iter().filter(|t| matches!(t.kind, TokenKind::Open | TokenKind::Close)).count();
    assert_eq!((comments, brackets), (2, 4));
    assert_eq!(wrapped_sql(&Check { expect: None, ..check }), "SELECT 1 -- one");
}

#[test]
fn only_true_in_every_row_passes() {
    assert!(passed(&[Some(true)]) && passed(&[Some(true), Some(true)]));
    for rows in [&[] as &[_], &[None], &[Some(false)], &[Some(true), None], &[Some(true), Some(false)]] {
        assert!(!passed(rows), "{rows:?}");
    }
}

#[test]
fn no_text_makes_it_panic_or_leaves_its_parentheses() {
    for cut in (0..EXAMPLE.len()).filter(|cut| EXAMPLE.is_char_boundary(*cut)) {
        let _ = read(&EXAMPLE[..cut]);
        for byte in *b"'\"$;()\\-/*\n\0" {
            let mut bytes = EXAMPLE.as_bytes().to_vec();
            bytes[cut] = byte;
            for check in read(std::str::from_utf8(&bytes).unwrap()).unwrap_or_default() {
                let tokens = tokens(&wrapped_sql(&check)).unwrap();
                assert!(!tokens.iter().any(|t| t.kind == TokenKind::Semicolon));
            }
        }
    }
}
