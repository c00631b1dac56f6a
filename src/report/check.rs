//! `pitr check`: a line for each question about the host; with `--sql`, for each check.

use serde_json::{Value, json};

use super::layout::Sheet;
use super::run::{check_json, put_check};
use crate::plan::host_check::{Answer, Line};
use crate::plan::ledger::CheckResult;

/// A cluster and what was asked about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterCheck {
    /// Its name.
    pub name: String,
    /// The answers.
    pub lines: Vec<Line>,
}

/// No line says that a recovery would fail.
pub fn is_ready(clusters: &[ClusterCheck]) -> bool {
    !clusters.is_empty() && clusters.iter().flat_map(|c| &c.lines).all(|line| line.answer != Answer::Fail)
}

fn word(answer: Answer) -> &'static str {
    match answer {
        Answer::Ok => "ok",
        Answer::Warn => "warn",
        Answer::Fail => "fail",
    }
}

/// The page.
pub fn text(host: &str, clusters: &[ClusterCheck], width: usize) -> String {
    let mut sheet = Sheet::new(width);
    sheet.line("Host", host);
    for cluster in clusters {
        sheet.gap();
        sheet.line("Cluster", &cluster.name);
        for line in &cluster.lines {
            sheet.line(word(line.answer), &line.what);
            line.hint.iter().for_each(|hint| sheet.more(2, hint));
        }
    }
    if clusters.is_empty() {
        sheet.line("fail", "no cluster was found; name one in /etc/pitr/pitr.toml");
    }
    sheet.gap();
    sheet.line("Result", if is_ready(clusters) { "ready for a recovery" } else { "not ready for a recovery" });
    sheet.finish()
}

/// The document.
pub fn json(host: &str, clusters: &[ClusterCheck]) -> Value {
    let lines = |c: &ClusterCheck| {
        let line = |l: &Line| json!({"id": l.id, "state": word(l.answer), "what": l.what, "hint": l.hint});
        c.lines.iter().map(line).collect::<Vec<_>>()
    };
    let clusters_json: Vec<Value> = clusters.iter().map(|c| json!({"name": c.name, "lines": lines(c)})).collect();
    json!({"schema": 1, "host": host, "ready": is_ready(clusters), "clusters": clusters_json})
}

/// Checks that ran against a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlCheck {
    /// Where: words without a password.
    pub server: String,
    /// Role and database.
    pub user: String,
    /// The database.
    pub database: String,
    /// Whose cluster it is was compared.
    pub compared: bool,
    /// Results in order.
    pub results: Vec<CheckResult>,
    /// What a person should know.
    pub remarks: Vec<String>,
}

impl SqlCheck {
    /// Every check passed.
    pub fn passed(&self) -> bool {
        self.results.iter().all(|r| r.passed)
    }
}

/// The page of `check --sql`.
pub fn sql_text(check: &SqlCheck, width: usize) -> String {
    let mut sheet = Sheet::new(width);
    sheet.line("Server", &format!("{}, database {} as {}", check.server, check.database, check.user));
    for (number, result) in check.results.iter().enumerate() {
        put_check(&mut sheet, if number == 0 { "Checks" } else { "" }, result);
    }
    sheet.list("Note", check.remarks.iter().map(String::as_str));
    sheet.finish()
}

/// The document of `check --sql`.
pub fn sql_json(check: &SqlCheck) -> Value {
    json!({
        "schema": 1,
        "server": check.server,
        "database": check.database,
        "user": check.user,
        "compared": check.compared,
        "passed": check.passed(),
        "checks": check.results.iter().map(check_json).collect::<Vec<_>>(),
        "remarks": check.remarks,
    })
}

#[cfg(test)]
mod tests {
    use super::super::schema_check;
    use super::*;

    fn clusters() -> Vec<ClusterCheck> {
        let line =
            |id: &str, answer, hint: Option<&str>| Line { id: id.into(), answer, what: format!("{id}\u{1b}"), hint: hint.map(Into::into) };
        vec![ClusterCheck {
            name: "15-main".into(),
            lines: vec![line("server", Answer::Ok, None), line("backup", Answer::Fail, Some("Take one."))],
        }]
    }

    #[test]
    fn a_page_and_a_document() {
        assert_eq!(
            text("db", &clusters(), 80),
            "Host      db\n\nCluster   15-main\nok        server\\x1b\nfail      backup\\x1b\n            Take one.\n\nResult    not ready for a recovery"
        );
        schema_check::assert_valid(include_str!("../../docs/schema/check.schema.json"), &json("db", &clusters()));
        assert!(!is_ready(&[]) && !is_ready(&clusters()));
    }

    #[test]
    fn checks_against_a_server() {
        let result = |passed| CheckResult { name: "a".into(), passed, words: None, rows: vec![vec!["1".into()]] };
        let mut check = SqlCheck {
            server: "the local socket".into(),
            user: "app".into(),
            database: "mazevault".into(),
            compared: true,
            results: vec![result(true)],
            remarks: vec![],
        };
        schema_check::assert_valid(include_str!("../../docs/schema/check-sql.schema.json"), &sql_json(&check));
        assert!(check.passed());
        check.results.push(result(false));
        assert!(!check.passed() && sql_text(&check, 80).contains("FAILED  a"));
    }
}
