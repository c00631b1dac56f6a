use std::collections::VecDeque;

use super::*;
use crate::migrations::tool;
use crate::pg::Timeline;
use crate::wal::PgTime;
use crate::wal::acts::Between;
use crate::wal::block::RelationFile;
use crate::wal::heap::Rows;
use crate::wal::log::Change;
use crate::wal::tuple::{Kind, Value};

const SECOND: i64 = 1_000_000;

/// Work of a transaction beside the history table.
#[derive(Clone, Copy)]
enum Work {
    None,
    Rows,
    Ddl,
}

fn brief(xid: u64, seconds: i64, work: Work) -> Brief {
    let file = RelationFile { tablespace: 1663, database: 5, number: 20000 };
    let change = Change { file, rows: Rows { updated: 1, ..Rows::default() }, truncated: false };
    Brief {
        xid,
        time: PgTime(seconds * SECOND),
        first: Lsn(xid * 100 - 50),
        lsn: Lsn(xid * 100),
        timeline: Timeline(1),
        ddl: matches!(work, Work::Ddl),
        bytes: 100,
        relations: if matches!(work, Work::Rows) { vec![change] } else { Vec::new() },
        incomplete: false,
    }
}

fn act(by: Brief, happened: Vec<Happened>, since: Vec<Brief>) -> Act {
    let (ddl, plain): (VecDeque<Brief>, VecDeque<Brief>) = since.into_iter().partition(|brief| brief.ddl);
    let lsn = Lsn(by.lsn.0 - 10);
    Act {
        by,
        rewritten: false,
        changes: happened.into_iter().map(|one| (lsn, one)).collect(),
        since: Between { ddl, plain, ..Between::default() },
    }
}

fn columns(id: &str) -> Vec<Column> {
    let column = |name: &&str| Column { name: name.to_string(), kind: Kind::Text, length: -1, align: 4 };
    tool(id).unwrap().required.iter().map(|(name, _)| column(name)).collect()
}

fn traced(id: &str, acts: &[Act]) -> Told {
    trace(tool(id).unwrap(), &columns(id), acts, None)
}

fn inserted(values: Vec<Value>) -> Happened {
    Happened::Inserted { row: Some(values), many: false }
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// `(version, dirty)` as golang-migrate writes it.
fn golang(xid: u64, version: i64, dirty: bool, since: Vec<Brief>) -> Act {
    let row = vec![Value::Integer(version), Value::Bool(dirty)];
    act(brief(xid, xid as i64, Work::Ddl), vec![Happened::Emptied, inserted(row)], since)
}

fn told(told: &Told) -> Vec<(&str, Option<u64>, Standing)> {
    told.applied.iter().map(|a| (a.mark.version.as_str(), a.begin.as_ref().map(|b| b.xid), a.standing)).collect()
}

#[test]
fn the_mark_before_the_work_begins_a_migration() {
    let acts = [
        golang(10, 122, true, vec![]),
        golang(12, 122, false, vec![]),
        golang(20, 123, true, vec![]),
        golang(22, 123, false, vec![brief(21, 21, Work::Rows)]),
    ];
    let found = traced("golang-migrate", &acts);
    assert_eq!(told(&found), [("122", Some(10), Standing::Applied), ("123", Some(20), Standing::Applied)]);
    let last = &found.applied[1];
    assert_eq!((last.how.clone(), last.recorded.as_ref().unwrap().xid, last.belongs[0].xid), (How::Mark, 22, 21));
}

#[test]
fn steps_down_retries_and_force() {
    let acts = [
        golang(10, 41, true, vec![]),
        golang(11, 41, false, vec![]),
        golang(12, 42, true, vec![]),
        golang(13, 42, true, vec![]),
        golang(14, 42, false, vec![]),
        golang(15, 41, true, vec![]),
        golang(16, 41, false, vec![]),
        golang(17, 42, true, vec![]),
        golang(18, 42, false, vec![]),
        golang(19, 43, false, vec![]),
        golang(20, 44, true, vec![]),
    ];
    let found = traced("golang-migrate", &acts);
    let expected = [
        ("41", Some(10), Standing::Applied),
        ("42", Some(12), Standing::Reverted),
        ("42", Some(17), Standing::Applied),
        ("43", Some(19), Standing::Applied),
        ("44", Some(20), Standing::Unfinished),
    ];
    assert_eq!(told(&found), expected);
    assert!(matches!(&found.applied[3].how, How::WithoutWork(why) if why.contains("force")));
}

#[test]
fn a_batch_goes_as_a_whole() {
    let row = |hash: &str, ms| inserted(vec![Value::Integer(1), text(hash), Value::Integer(ms)]);
    let acts = [act(brief(10, 10, Work::Ddl), vec![row("aa", 1), row("bb", 2)], vec![])];
    let found = traced("drizzle", &acts);
    assert_eq!(told(&found), [("1", Some(10), Standing::Applied), ("2", Some(10), Standing::Applied)]);
    assert_eq!((found.applied[0].with.clone(), found.applied[0].how.clone()), (vec!["2".to_string()], How::Together));
}

fn laravel(xid: u64, seconds: i64, name: &str, since: Vec<Brief>) -> Act {
    act(brief(xid, seconds, Work::None), vec![inserted(vec![Value::Integer(1), text(name), Value::Integer(1)])], since)
}

#[test]
fn a_row_after_its_work_is_too_late() {
    let first = laravel(10, 100, "a", vec![brief(9, 100, Work::Ddl)]);
    let works = vec![brief(11, 110, Work::Rows), brief(12, 120, Work::Ddl), brief(13, 120, Work::Rows), brief(14, 121, Work::Ddl)];
    let found = traced("laravel", &[first, laravel(15, 121, "b", works)]);
    assert_eq!(told(&found)[1], ("b", Some(12), Standing::Applied));
    assert_eq!((found.applied[1].how.clone(), found.applied[1].recorded.as_ref().unwrap().xid), (How::Before, 15));
}

#[test]
fn what_the_wal_leaves_open_is_not_guessed() {
    let undecided = |since: Vec<Brief>, hole| {
        let mut act = laravel(15, 2000, "b", since);
        act.since.hole = hole;
        let found = traced("laravel", &[act]);
        match found.applied[0].how.clone() {
            How::Undecided(candidates) => Some(candidates.iter().map(|brief| brief.xid).collect::<Vec<_>>()),
            _ => None,
        }
    };
    assert_eq!(undecided(vec![brief(11, 1990, Work::Rows)], false), Some(vec![11]), "a migration of data alone");
    let far = vec![brief(3, 10, Work::Ddl), brief(11, 1990, Work::Ddl)];
    assert_eq!(undecided(far, false), Some(vec![3, 11]), "somebody's definition an hour before");
    assert_eq!(undecided(vec![brief(11, 1990, Work::Ddl)], true), Some(vec![11]), "behind a hole");
    assert_eq!(undecided(vec![brief(11, 1990, Work::Ddl)], false), None);
    assert_eq!(undecided(vec![], false), None, "nothing at all: a row without work");
}

#[test]
fn flyways_work_commits_between_the_rows_insertion_and_its_commit() {
    let row = ["1", "2", "names", "SQL", "V2__names.sql", "1", "u", "t", "9"].map(text).to_vec();
    let row = row.into_iter().chain([Value::Bool(true)]).collect();
    let mut act = act(brief(20, 100, Work::None), vec![inserted(row)], vec![brief(15, 99, Work::Rows), brief(19, 100, Work::Rows)]);
    act.changes[0].0 = Lsn(1850);
    // The rank is an integer.
    let Happened::Inserted { row: Some(row), .. } = &mut act.changes[0].1 else { panic!() };
    row[0] = Value::Integer(2);
    let found = traced("flyway", &[act]);
    assert_eq!(told(&found), [("2", Some(19), Standing::Applied)]);
}

#[test]
fn rows_without_work_are_told() {
    let row = |app: &str, name: &str| inserted(vec![Value::Integer(1), text(app), text(name), text("t")]);
    let faked = act(brief(20, 5000, Work::None), vec![row("shop", "0002_b")], vec![brief(3, 10, Work::Ddl), brief(4, 4990, Work::Rows)]);
    let found = traced("django", &[faked]);
    assert!(matches!(found.applied[0].how, How::WithoutWork(_)) && found.applied[0].begin.is_some());
    let loaded = act(brief(20, 20, Work::None), vec![row("shop", "0001_a"), row("shop", "0002_b")], vec![brief(19, 20, Work::Ddl)]);
    assert!(traced("django", &[loaded]).applied.iter().all(|a| matches!(&a.how, How::WithoutWork(why) if why.contains("dump"))));
}

#[test]
fn alembics_row_moves_from_revision_to_revision() {
    let update = |old: &str, new: &str| Happened::Updated { old: Some(vec![text(old)]), new: Some(vec![text(new)]) };
    let acts = [
        act(brief(10, 10, Work::Ddl), vec![update("a", "b"), update("b", "c")], vec![]),
        act(brief(11, 11, Work::Ddl), vec![update("c", "b")], vec![]),
        act(brief(12, 12, Work::Ddl), vec![update("b", "c"), update("c", "d")], vec![]),
    ];
    let found = traced("alembic", &acts);
    let expected = [
        ("b", Some(10), Standing::Applied),
        ("c", Some(10), Standing::Reverted),
        ("c", Some(12), Standing::Applied),
        ("d", Some(12), Standing::Applied),
    ];
    assert_eq!(told(&found), expected);
    assert_eq!(found.applied[3].with, ["c"]);
}

#[test]
fn terns_number_moves_up_and_down() {
    let update = |old: i64, new: i64| Happened::Updated { old: Some(vec![Value::Integer(old)]), new: Some(vec![Value::Integer(new)]) };
    let acts = [
        act(brief(10, 10, Work::Rows), vec![update(4, 5)], vec![]),
        act(brief(11, 11, Work::Rows), vec![update(5, 4)], vec![]),
        act(brief(12, 12, Work::Rows), vec![update(4, 3)], vec![]),
        act(brief(13, 13, Work::Rows), vec![update(3, 4)], vec![]),
    ];
    let found = traced("tern", &acts);
    assert_eq!(told(&found), [("5", Some(10), Standing::Reverted), ("4", Some(13), Standing::Applied)]);
}

#[test]
fn an_update_of_the_row_moves_nothing() {
    let row = |time: i64| {
        let values = [Value::Integer(7), text("names"), text("t"), Value::Bool(true), Value::Unread, Value::Integer(time)];
        values.to_vec()
    };
    let acts = [
        act(brief(10, 10, Work::Ddl), vec![inserted(row(-1))], vec![]),
        act(brief(11, 11, Work::None), vec![Happened::Updated { old: Some(row(-1)), new: Some(row(99)) }], vec![]),
    ];
    assert_eq!(told(&traced("sqlx", &acts)), [("7", Some(10), Standing::Applied)]);
}

#[test]
fn prismas_row_is_finished_later() {
    let row = |finished: Value, steps: i64| {
        vec![text("id-1"), text("sum"), finished, text("20260101_names"), Value::Null, Value::Null, text("t"), Value::Integer(steps)]
    };
    let (begun, done) = (row(Value::Null, 0), row(text("t2"), 1));
    let acts = [
        act(brief(10, 10, Work::None), vec![inserted(begun.clone())], vec![]),
        act(brief(12, 12, Work::None), vec![Happened::Updated { old: Some(begun), new: Some(done) }], vec![brief(11, 11, Work::Ddl)]),
    ];
    let found = traced("prisma", &acts);
    assert_eq!(told(&found), [("20260101_names", Some(10), Standing::Applied)]);
    assert_eq!((found.applied[0].recorded.as_ref().unwrap().xid, found.applied[0].belongs[0].xid), (12, 11));
}

#[test]
fn a_rewritten_table_has_no_news_and_what_is_deleted_was_taken_back() {
    let row = |name: &str| inserted(vec![Value::Integer(1), text(name), Value::Integer(1), text("t")]);
    let mut rewritten = act(brief(11, 11, Work::Ddl), vec![Happened::Emptied, row("a.js"), row("b.js")], vec![]);
    rewritten.rewritten = true;
    let deleted = Happened::Deleted { row: Some(vec![Value::Integer(1), text("a.js"), Value::Integer(1), text("t")]) };
    let acts = [
        act(brief(10, 10, Work::Ddl), vec![row("a.js")], vec![]),
        rewritten,
        act(brief(12, 12, Work::Ddl), vec![deleted], vec![]),
        act(brief(13, 13, Work::Ddl), vec![row("a.js")], vec![]),
    ];
    let found = traced("knex", &acts);
    assert_eq!(told(&found), [("a.js", Some(10), Standing::Reverted), ("a.js", Some(13), Standing::Applied)]);
}
