use super::super::{fixtures, schema_check};
use super::*;
use crate::error::{Error, Kind};
use crate::pg::{Lsn, Timeline};
use crate::plan::ledger::{CheckResult, Entry, Event, Fact, Outcome, Purpose};
use crate::plan::loss::LostRows;
use crate::plan::step::Step;

const HOSTILE: &str = "<script>alert('x')</script>\u{1b}[2J";

fn by(user: &str, reason: Option<&str>) -> By {
    By { user: user.into(), command: vec!["pitr".into(), "restore".into(), HOSTILE.into()], reason: reason.map(str::to_string) }
}

/// A recovery that failed its checks once, was resumed, switched, and undone by another.
fn entries() -> Vec<Entry> {
    let mut recovery = fixtures::recovery();
    recovery.cluster.name = HOSTILE.into();
    let check = CheckResult { name: HOSTILE.into(), passed: true, words: None, rows: vec![vec![HOSTILE.into(), "2".into()]] };
    let rows = LostRows { database: HOSTILE.into(), name: "public.events".into(), updated: 2_000_000, ..LostRows::default() };
    let loss = Loss { transactions: 31_402, relations: vec![rows], ..Loss::default() };
    let section = |purpose, steps: &[Step], who: &str| Event::Section { purpose, steps: steps.to_vec(), by: by(who, Some("deploy")) };
    let fact = |fact| Event::Fact { fact };
    let begin = |index, step: Step| Event::Begin { index, step };
    let events = vec![
        Event::Run { format: 1, program: "0.1.0".into(), recovery: Box::new(recovery), by: by("anna", Some("a <b>wrong</b> migration")) },
        section(Purpose::Restore, &[Step::Extract, Step::Check], "anna"),
        begin(0, Step::Extract),
        fact(Fact::Extracted { files: 1203, bytes: 5, verified: true, control: None }),
        Event::Done { index: 0, seconds: 20.0 },
        begin(1, Step::Check),
        Event::Failed { index: 1, error: Error::new(Kind::Check, "check failed") },
        section(Purpose::StandBack, &[Step::StartOld], "anna"),
        begin(0, Step::StartOld),
        fact(Fact::Downtime { seconds: 5.5 }),
        Event::Done { index: 0, seconds: 1.0 },
        Event::End { outcome: Outcome::Kept },
        section(Purpose::Restore, &[Step::Check, Step::Start], "anna"),
        begin(0, Step::Check),
        fact(Fact::Reached { lsn: Lsn(0x1_FCAF_9DE0), words: "recovery stopping before commit".into() }),
        fact(Fact::Discarded { loss: Box::new(loss) }),
        fact(Fact::Checked { checks: vec![check], public: false }),
        Event::Done { index: 0, seconds: 0.5 },
        begin(1, Step::Start),
        fact(Fact::Promoted { timeline: Timeline(3), fork: Lsn(0x1_FCAF_9DE0), next_xid: 9, subscriptions: vec![] }),
        fact(Fact::Downtime { seconds: 4.25 }),
        Event::Done { index: 1, seconds: 2.0 },
        Event::End { outcome: Outcome::Switched },
        section(Purpose::Undo, &[Step::SwitchBack], "bert"),
        begin(0, Step::SwitchBack),
    ];
    let time = |number: usize| format!("2026-11-21T21:{number:02}:00Z").parse().unwrap();
    events.into_iter().enumerate().map(|(number, event)| Entry { time: time(number), event }).collect()
}

fn account() -> Account {
    Account::of("20261121T210000Z-4f2a", &entries()).unwrap()
}

#[test]
fn the_journal_is_retold_section_by_section() {
    let account = account();
    let ends: Vec<_> = account.sections.iter().map(|s| (s.purpose, s.outcome)).collect();
    assert_eq!(
        ends,
        [
            (Purpose::Restore, None),
            (Purpose::StandBack, Some(Outcome::Kept)),
            (Purpose::Restore, Some(Outcome::Switched)),
            (Purpose::Undo, None)
        ]
    );
    assert_eq!(account.downtime(), Some(9.75), "down twice, for both");
    assert_eq!(account.recovery_seconds(), [(Step::Extract, 20.0), (Step::Check, 0.5), (Step::Start, 2.0)]);
    assert!(account.open && account.sections[3].steps == [(Step::SwitchBack, None)]);
    // Cut anywhere, a journal is still told; without its plan there is nothing to tell.
    for length in 1..entries().len() {
        let some = Account::of("x", &entries()[..length]).unwrap();
        schema_check::assert_valid(include_str!("../../docs/schema/report.schema.json"), &json(&some));
        assert!(html(&some).ends_with("</html>"));
    }
    assert_eq!(Account::of("x", &entries()[1..]), None);
    assert_eq!(Account::of("x", &[]), None);
}

#[test]
fn no_name_becomes_markup() {
    let page = html(&account());
    assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains('\u{1b}'), "{page}");
    assert!(page.contains("31,402 transactions") && page.contains("bert") && page.contains("a &lt;b&gt;wrong"));
    let page = markdown(&account());
    assert!(!page.contains("<script") && !page.contains("<b>") && page.contains("## Phases"), "{page}");
    let page = text(&account(), 100);
    assert!(!page.contains('\u{1b}') && page.contains("Down for  9.7 s") && page.contains("1/FCAF9DE0"), "{page}");
}

#[test]
fn the_document_follows_its_schema() {
    let document = json(&account());
    schema_check::assert_valid(include_str!("../../docs/schema/report.schema.json"), &document);
    assert_eq!((&document["by"]["user"], &document["sections"][3]["by"]["user"]), (&json!("anna"), &json!("bert")));
    assert_eq!((&document["loss"]["transactions"], &document["downtime_seconds"]), (&json!(31402), &json!(9.75)));
    assert_eq!((&document["target"]["reached"], &document["timeline"]), (&json!("1/FCAF9DE0"), &json!(3)));
}
