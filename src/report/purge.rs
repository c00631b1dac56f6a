//! What became of `purge --all`: one document for every run that went, and for every one that was left.
//!
//! Guarantees: it is a document of a verb that acts, with the runs' own documents in it.

use serde_json::{Value, json};

use super::run::{self, ResultOutcome, RunResult};
use crate::error::Error;

/// A run that was not purged.
#[derive(Debug, Clone)]
pub struct Left {
    /// Its id.
    pub run: String,
    /// Why, and what to do.
    pub error: Error,
}

/// What `purge --all` did.
#[derive(Debug, Clone, Default)]
pub struct Purged {
    /// The runs that were purged, or whose purge failed.
    pub runs: Vec<RunResult>,
    /// The others.
    pub left: Vec<Left>,
    /// What ended it before it had looked at every run.
    pub error: Option<Error>,
}

pub(super) fn left_json(left: &Left) -> Value {
    json!({"run": left.run, "what": left.error.to_string(), "hint": left.error.hint})
}

/// The document.
pub fn json(purged: &Purged) -> Value {
    let failed = purged.error.clone().or_else(|| purged.runs.iter().find_map(|run| run.error.clone()));
    let outcome = match (&failed, purged.runs.is_empty()) {
        (Some(_), _) => ResultOutcome::Failed,
        (None, false) => ResultOutcome::Removed,
        (None, true) => ResultOutcome::Nothing,
    };
    let changed = purged.runs.iter().any(|run| run.changed);
    let whole = RunResult { changed, error: failed, ..RunResult::without_run(outcome) };
    let mut document = run::json(&whole);
    if let Some(object) = document.as_object_mut() {
        object.insert("runs".into(), purged.runs.iter().map(run::json).collect());
        object.insert("left".into(), purged.left.iter().map(left_json).collect());
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::report::schema_check::assert_valid;

    fn document(purged: &Purged) -> Value {
        let document = json(purged);
        assert_valid(include_str!("../../docs/schema/run.schema.json"), &document);
        document
    }

    #[test]
    fn every_run_is_in_one_document() {
        let removed = |id: &str| RunResult { changed: true, run: Some(id.into()), ..RunResult::without_run(ResultOutcome::Removed) };
        let left = Left { run: "c".into(), error: Error::new(Kind::Refused, "run c is open").hint("End it first.") };
        let mut purged = Purged { runs: vec![removed("a"), removed("b")], left: vec![left], error: None };
        let whole = document(&purged);
        assert_eq!((&whole["outcome"], &whole["changed"], &whole["run"]), (&"removed".into(), &true.into(), &Value::Null));
        assert_eq!((&whole["runs"][1]["run"], &whole["left"][0]["run"]), (&"b".into(), &"c".into()));
        purged.error = Some(Error::new(Kind::Locked, "another run is at work"));
        let broken = document(&purged);
        assert_eq!((&broken["outcome"], &broken["changed"]), (&"failed".into(), &true.into()));
        let nothing = document(&Purged::default());
        assert_eq!((&nothing["outcome"], &nothing["changed"]), (&"nothing".into(), &false.into()));
    }
}
