//! What a `resume`, `undo` or `purge` would do: the page before it, and the document of its `--dry-run`.
//!
//! Guarantees: nothing below says that it was done. Runs that are left are named with the reason.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::layout::Sheet;
use super::purge::{Left, left_json};
use super::run::error_json;
use crate::error::Error;
use crate::plan::recovery::Recovery;
use crate::plan::step::Step;

/// What is ahead of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ahead {
    /// Its id.
    pub run: String,
    /// The cluster's name and data directory, where its journal tells.
    pub cluster: Option<(String, PathBuf)>,
    /// What a person has to know before they agree.
    pub notes: Vec<String>,
    /// Names and texts.
    pub steps: Vec<(String, String)>,
}

impl Ahead {
    /// Of run `id`.
    pub fn new(id: &str, recovery: &Recovery, steps: &[Step], notes: Vec<String>) -> Ahead {
        Ahead {
            run: id.to_string(),
            cluster: Some((recovery.cluster.name.clone(), recovery.cluster.data_directory.clone())),
            notes,
            steps: steps.iter().map(|step| (step.name().to_string(), step.describe(recovery))).collect(),
        }
    }

    /// The page: a heading, the cluster, the notes, the steps.
    pub fn text(&self, title: &str) -> String {
        /// Pages that the caller does not measure fit every terminal.
        const WIDTH: usize = 80;
        let mut sheet = Sheet::new(WIDTH);
        sheet.plain(title);
        if let Some((name, data_directory)) = &self.cluster {
            sheet.line("Cluster", &format!("{name}  {}", data_directory.display()));
        }
        sheet.list("Note", self.notes.iter().map(String::as_str));
        if self.steps.is_empty() {
            sheet.line("Steps", "none: there is nothing to do");
        }
        sheet.numbered("Steps", self.steps.iter().map(|(_, text)| text.clone()));
        sheet.finish()
    }
}

/// The document of `verb --dry-run` on `host`: every run that it would change.
pub fn json(verb: &str, host: &str, ahead: &[Ahead], left: &[Left], error: Option<&Error>) -> Value {
    let one = |ahead: &Ahead| {
        json!({
            "run": ahead.run,
            "cluster": ahead.cluster.as_ref().map(|(name, _)| name),
            "data_directory": ahead.cluster.as_ref().map(|(_, path)| path.display().to_string()),
            "notes": ahead.notes,
            "steps": ahead.steps.iter().map(|(name, text)| json!({"name": name, "text": text})).collect::<Vec<_>>(),
        })
    };
    json!({
        "schema": 1,
        "host": host,
        "verb": verb,
        "runs": ahead.iter().map(one).collect::<Vec<_>>(),
        "left": left.iter().map(left_json).collect::<Vec<_>>(),
        "error": error.map(error_json),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures::recovery;
    use crate::report::schema_check::assert_valid;

    #[test]
    fn the_page_before_an_undo() {
        let notes = vec!["12 transactions since the switch are lost".to_string()];
        let page = Ahead::new("r1", &recovery(), &[Step::StopRecovered, Step::SwitchBack], notes).text("Undo r1 on db-prod-03");
        assert_eq!(
            page,
            "\
Undo r1 on db-prod-03
Cluster   15-main  /var/lib/postgresql/15/main
Note      12 transactions since the switch are lost
Steps      1 stop the recovered cluster 15-main
           2 exchange it back with /var/lib/postgresql/15/main"
        );
        let nothing = Ahead::new("r1", &recovery(), &[], vec![]).text("t");
        assert!(nothing.ends_with("Steps     none: there is nothing to do"), "{nothing}");
    }

    #[test]
    fn the_document_follows_its_schema_and_the_page_says_the_same() {
        let schema = include_str!("../../docs/schema/dry-run.schema.json");
        let ahead = Ahead::new("20261121-210519", &recovery(), &[Step::Stop, Step::Switch], vec!["run 20261121-210519 is open".into()]);
        let bare = Ahead { run: "broken".into(), ..Ahead::default() };
        let left = Left { run: "c".into(), error: Error::usage("run c is open").hint("End it first.") };
        let document = json("purge", "db-prod-03", &[ahead.clone(), bare], &[left], Some(&Error::failed("no")));
        assert_valid(schema, &document);
        assert_valid(schema, &json("undo", "db-prod-03", &[], &[], None));
        let texts = document["runs"][0]["steps"].as_array().unwrap().iter().map(|step| step["text"].as_str().unwrap());
        let page = ahead.text("Undo 20261121-210519 on db-prod-03").split_whitespace().collect::<Vec<_>>().join(" ");
        for text in texts.chain(["run 20261121-210519 is open", "15-main"]) {
            assert!(page.contains(&text.split_whitespace().collect::<Vec<_>>().join(" ")), "{text}: {page}");
        }
    }
}
