//! Every document that the program prints follows its published schema, as real runs print it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::support::stand::{Serves, Stand};
use crate::support::story::CHECKS;
use crate::support::{Scratch, TestCluster};

#[path = "../src/report/schema_check.rs"]
mod schema_check;

/// Documents against the schemas of docs/schema.
struct Schemas<'a> {
    stand: &'a Stand,
    seen: BTreeSet<String>,
}

impl Schemas<'_> {
    /// Runs a verb, which must exit with `code`; each line of what it prints has to follow the schema `name`.
    #[track_caller]
    fn valid(&mut self, name: &str, code: i32, args: &[&str]) -> Value {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
        let schema = std::fs::read_to_string(directory.join(format!("{name}.schema.json"))).unwrap();
        let said = self.stand.pitr.run(&[args, &["-o", "json"]].concat()).expect_code(code);
        let documents: Vec<Value> = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(documents.len() == 1 || name == "log" && documents.len() > 1, "{args:?} prints {} lines", documents.len());
        for document in &documents {
            schema_check::assert_valid(&schema, document);
        }
        self.seen.insert(name.to_string());
        documents.into_iter().next_back().unwrap()
    }
}

#[test]
fn documents_of_a_whole_story_follow_their_schemas() {
    let scratch = Scratch::new("documents");
    let stand = Stand::new(&scratch, TestCluster::builder(&scratch, "main"));
    stand.reset();
    let checks = scratch.file("checks/again.sql", CHECKS, 0o644);
    let (checks, time) = (checks.to_str().unwrap(), stand.target.time.clone());
    let target = ["--before-time", time.as_str()];
    let mut schemas = Schemas { stand: &stand, seen: BTreeSet::new() };

    schemas.valid("status", 0, &["status"]);
    schemas.valid("backups", 0, &["backups"]);
    schemas.valid("log", 0, &["log"]);
    schemas.valid("migrations", 0, &["migrations"]);
    schemas.valid("runs", 0, &["runs"]);
    schemas.valid("verify", 0, &["verify"]);
    schemas.valid("verify-backups", 0, &["verify", "backups"]);
    schemas.valid("verify-wal", 0, &["verify", "wal"]);
    let ready = stand.pitr.run(&["check", "-o", "json"]).code;
    assert!([0, 6].contains(&ready), "{ready}");
    schemas.valid("check", ready, &["check"]);
    schemas.valid("check-sql", 6, &["check", "--sql", checks]);
    schemas.valid("mark", 0, &["mark", "before the migration", "--wait"]);
    let plan = schemas.valid("plan", 0, &[&["plan"], &target[..]].concat());
    schemas.valid("plan", 0, &[&["restore", "--dry-run"], &target[..]].concat());
    let refused = schemas.valid("plan", 3, &["plan", "--before-time", "2020-01-01 00:00:00+00"]);
    assert!(refused["refusals"].as_array().is_some_and(|list| !list.is_empty()), "{refused}");

    // What fails before there is a document of its own prints that of the verbs that act.
    let failed = schemas.valid("run", 2, &["plan", "--before-time", "2020-01-01 00:00:00"]);
    assert_eq!((&failed["outcome"], &failed["error"]["kind"]), (&"failed".into(), &"usage".into()), "{failed}");
    schemas.valid("run", 2, &["status", "--cluster", "nowhere"]);
    schemas.valid("run", 3, &["restore", "--yes", "--before-time", "2020-01-01 00:00:00+00"]);
    let changed = [&["restore", "--yes", "--plan", "0000000000000000"], &target[..]].concat();
    let refused = schemas.valid("run", 3, &changed);
    assert_eq!(refused["refusals"][0]["id"], "plan-changed", "{refused}");
    assert_eq!(schemas.valid("run", 0, &["undo", "--yes"])["outcome"], "nothing");
    assert_eq!(schemas.valid("dry-run", 0, &["undo", "--dry-run"])["runs"], serde_json::json!([]));

    let digest = plan["digest"].as_str().unwrap();
    let restored = schemas.valid("run", 0, &[&["restore", "--yes", "--plan", digest], &target[..]].concat());
    stand.assert_serves(Serves::New);
    let run = restored["run"].as_str().unwrap();
    assert_eq!(schemas.valid("status", 0, &["status"])["clusters"][0]["asides"][0]["run"], run);
    schemas.valid("runs", 0, &["runs"]);
    schemas.valid("report", 0, &["report"]);
    let undo = schemas.valid("dry-run", 0, &["undo", "--dry-run"]);
    assert_eq!((&undo["verb"], &undo["runs"][0]["run"]), (&"undo".into(), &run.into()), "{undo}");
    assert!(undo["runs"][0]["steps"].as_array().is_some_and(|steps| steps.len() > 3), "{undo}");
    stand.assert_serves(Serves::New);
    schemas.valid("dry-run", 0, &["resume", "--dry-run"]);
    assert_eq!(schemas.valid("run", 0, &["undo", "--yes"])["outcome"], "undone");
    for args in [["purge", "--dry-run", run], ["purge", "--dry-run", "--all"]] {
        let purge = schemas.valid("dry-run", 0, &args);
        assert_eq!((&purge["runs"][0]["run"], purge["runs"].as_array().map(Vec::len)), (&run.into(), Some(1)), "{purge}");
    }
    assert_eq!(schemas.valid("run", 0, &["purge", "--yes", run])["outcome"], "removed");
    assert_eq!(schemas.valid("dry-run", 0, &["purge", "--dry-run", run])["runs"], serde_json::json!([]));
    schemas.valid("report", 0, &["report", run]);
    stand.halt();

    let published: BTreeSet<String> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".schema.json", ""))
        .collect();
    assert_eq!(schemas.seen, published, "every schema is followed by something");
}
