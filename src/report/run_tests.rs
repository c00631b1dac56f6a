use super::super::schema_check;
use super::*;
use crate::error::Kind;
use crate::pg::{Lsn, Timeline};

const ID: &str = "20261121T210520Z-4f2a";

fn check(name: &str, passed: bool, words: Option<&str>) -> CheckResult {
    let rows = if passed { vec![vec!["123".into(), "f".into()]] } else { Vec::new() };
    CheckResult { name: name.into(), passed, words: words.map(str::to_string), rows }
}

/// A recovery that was stopped once and resumed.
fn ledger() -> Ledger {
    Ledger {
        facts: vec![
            Fact::Extracted { files: 1203, bytes: 5, verified: false, control: None },
            Fact::Checked { checks: vec![check("old", false, None)], public: false },
            Fact::Promoted {
                timeline: Timeline(3),
                fork: Lsn(0x1_FCAF_9DE0),
                next_xid: 208_246,
                subscriptions: vec!["mazevault.feed".into()],
            },
            Fact::Switched,
            Fact::Downtime { seconds: 41.2 },
            Fact::Checked { checks: vec![check("history", true, None), check("slug", false, Some("no row"))], public: true },
            Fact::Remark { text: "hook /usr/local/sbin/notify failed".into() },
        ],
        seconds: vec![(Step::Stop, 1.5), (Step::CopyTail, 0.75), (Step::Extract, 20.0), (Step::Start, 1.0), (Step::Switch, 0.1)],
        ..Ledger::default()
    }
}

#[test]
fn a_recovery_that_switched() {
    let result = RunResult::of(ID, &ledger(), Mark::default(), ResultOutcome::Switched);
    assert_eq!(
        text(&result, 110),
        "\
Result    run 20261121T210520Z-4f2a: the recovered cluster stands at PGDATA, the old one is kept aside
Down for  41 s
Phases    stop 2.2 s, extract 20 s, switch 0.1 s, start 1 s
Checks    passed  history
                  123 | f
          FAILED  slug: no row
Note      1,203 files of the backup had no manifest to be verified against
          the recovered cluster is on timeline 3, which begins at 1/FCAF9DE0; subscriptions that are disabled
          now: mazevault.feed
          hook /usr/local/sbin/notify failed
Next      pitr undo 20261121T210520Z-4f2a  puts the old cluster back
          pitr purge 20261121T210520Z-4f2a  deletes it for good"
    );
}

#[test]
fn an_undo_reports_only_what_it_did() {
    let mut ledger = ledger();
    let mark = Mark::end_of(&ledger);
    let nothing = RunResult::of(ID, &ledger, mark, ResultOutcome::Undone);
    assert!(!nothing.changed && nothing.phases.is_empty() && nothing.remarks.is_empty());
    ledger.facts.extend([Fact::SwitchedBack, Fact::Moved { timeline: Timeline(4) }]);
    ledger.seconds.push((Step::SwitchBack, 0.25));
    let result = RunResult::of(ID, &ledger, mark, ResultOutcome::Undone);
    assert_eq!(
        text(&result, 80),
        "\
Result    run 20261121T210520Z-4f2a: the old cluster is back
Phases    switch 0.2 s
Note      the old cluster is on timeline 4 now
Next      pitr purge 20261121T210520Z-4f2a  deletes what is left of the run"
    );
    assert!(result.changed && result.checks.is_empty() && result.downtime_seconds.is_none());
}

#[test]
fn refusals_and_nothing_to_do() {
    let reasons = vec![Reason::judgement("no-manifest", "no \x1b manifest", "Take another.")];
    let refused = RunResult::refused(reasons, None);
    assert_eq!(
        text(&refused, 80),
        "\
Result    refused before anything was touched
refused [no-manifest]: no \\x1b manifest
hint: Take another.
to override this judgement: `--accept no-manifest`"
    );
    let nothing = RunResult::nothing("no run keeps anything");
    assert_eq!(text(&nothing, 80), "Result    there was nothing to do\nNote      no run keeps anything");
    assert!(!refused.changed && !nothing.changed);
}

#[test]
fn outcomes_are_the_documented_words() {
    use ResultOutcome::*;
    let all = [Switched, Held, Undone, Kept, Removed, Refused, Interrupted, Nothing, Failed].map(ResultOutcome::word);
    assert_eq!(all, ["switched", "held", "undone", "kept", "removed", "refused", "interrupted", "nothing", "failed"]);
    let schema: Value = serde_json::from_str(include_str!("../../docs/schema/run.schema.json")).unwrap();
    assert_eq!(schema["properties"]["outcome"]["enum"], json!(all));
    assert_eq!(schema["properties"]["phases"]["items"]["properties"]["name"]["enum"], json!(PHASES));
}

/// The keys of the design's table, and the schema.
#[test]
fn the_document_has_every_key_and_follows_its_schema() {
    let schema = include_str!("../../docs/schema/run.schema.json");
    let error = Error::new(Kind::Check, "check slug failed").cause("no row").hint("Look at it: `pitr undo`.");
    let result = RunResult::of(ID, &ledger(), Mark::default(), ResultOutcome::Failed).with_error(error);
    let document = json(&result);
    schema_check::assert_valid(schema, &document);
    for key in "schema run changed outcome downtime_seconds phases checks loss refusals error".split(' ') {
        assert!(document.get(key).is_some(), "{key}");
    }
    assert_eq!(document["phases"][0], json!({"name": "stop", "seconds": 2.25}));
    assert_eq!(document["checks"][1], json!({"name": "slug", "passed": false, "rows": [], "words": "no row"}));
    assert_eq!(
        document["error"],
        json!({"kind": "check", "what": "check slug failed", "cause": "no row", "hint": "Look at it: `pitr undo`."})
    );
    assert_eq!(document["downtime_seconds"], 41.2);
    for other in
        [RunResult::nothing("n"), RunResult::refused(vec![Reason::fact("a", "b", "c")], None), RunResult::failed(Error::failed("x"))]
    {
        schema_check::assert_valid(schema, &json(&other));
    }
}

#[test]
fn a_failure_names_the_way_on_unless_its_hint_is_the_only_one() {
    let failed = RunResult::of(ID, &ledger(), Mark::default(), ResultOutcome::Failed).with_error(Error::failed("x"));
    assert!(text(&failed, 80).contains("pitr resume 20261121T210520Z-4f2a  continues"));
    let hands = failed.with_error(Error::new(Kind::Hands, "x").hint("Run `pg_ctl start`."));
    assert!(!text(&hands, 80).contains("Next"));
}

#[test]
fn every_phase_of_every_step_is_in_the_document() {
    for step in [Step::HookBefore, Step::EndPrivate, Step::MoveOld, Step::Unseal, Step::HookFailed, Step::CheckServing] {
        assert_eq!(phases(&[(step.clone(), 1.0), (step.clone(), 0.5)]), [(step.phase().to_string(), 1.5)]);
    }
}
