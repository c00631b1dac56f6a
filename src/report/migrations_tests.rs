use super::super::schema_check;
use super::*;
use crate::migrations::history::Told;
use crate::migrations::reading::Mark;
use crate::migrations::tool;
use crate::pg::{Lsn, Timeline};
use crate::plan::loss::Named;
use crate::wal::RelationFile;
use crate::wal::heap::Rows;
use crate::wal::log::Change;
use crate::wal::{PgTime, acts};

fn brief(xid: u64, ddl: bool) -> Brief {
    let file = RelationFile { tablespace: 1663, database: 5, number: 20000 };
    let change = Change { file, rows: Rows { updated: 400, ..Rows::default() }, truncated: false };
    acts::Brief {
        xid,
        time: PgTime(0),
        first: Lsn(8),
        lsn: Lsn(xid),
        timeline: Timeline(1),
        ddl,
        bytes: 9,
        relations: vec![change],
        incomplete: false,
    }
}

fn applied(version: &str, how: How, begin: Option<Brief>) -> Applied {
    let standing = Standing::Applied;
    Applied { mark: Mark::done(version), recorded: begin.clone(), begin, how, with: vec![], belongs: vec![brief(9, false)], standing }
}

fn document() -> Document {
    let all = vec![
        applied("122", How::Unseen, None),
        applied("123", How::Mark, Some(brief(7, true))),
        applied("124", How::Undecided(vec![brief(8, false)]), None),
        applied("125\u{1b}", How::WithoutWork("forced".into()), Some(brief(10, false))),
    ];
    let named = Named { database: 5, file: 20000, oid: 20000, name: "public.environments".into(), system: false, part_of: None };
    let listed = all.iter().map(|applied| Listed { table: 0, applied: applied.clone(), backup: applied.lsn().map(|_| "base-1".into()) });
    Document {
        notes: vec![],
        listed: listed.collect(),
        known: vec![Known {
            tool: tool("golang-migrate").unwrap(),
            named: true,
            database: "shop".into(),
            schema: "public".into(),
            table: "schema_migrations".into(),
            columns: vec![],
            told: Told { applied: all, unread: 0 },
            planned: None,
        }],
        names: Names { databases: vec![(5, "shop".into())], relations: vec![named], ..Names::default() },
    }
}

#[test]
fn the_document_is_what_its_schema_says() {
    let json = json(&document());
    schema_check::assert_valid(include_str!("../../docs/schema/migrations.schema.json"), &json);
    assert_eq!(json["migrations"][1]["xid"], "7");
    assert_eq!(json["migrations"][2]["candidates"][0]["relations"][0]["name"], "public.environments");
    assert_eq!((&json["migrations"][0]["recoverable"], &json["migrations"][1]["recoverable"]), (&false.into(), &true.into()));
}

#[test]
fn the_page_says_what_is_not_known() {
    let page = text(&document(), 100);
    for words in [
        "golang-migrate  public.schema_migrations  database shop  bracket",
        "applied before the WAL that is there",
        "begins with xid 7  2000-01-01 00:00:00.000000+00  0/7",
        "public.environments ~400",
        "the WAL does not tell where it begins",
        "no work behind it: forced",
        "from backup base-1",
    ] {
        assert!(page.contains(words), "{words}:\n{page}");
    }
    assert!(!page.contains('\u{1b}'));
    assert!(text(&Document { known: vec![], ..document() }, 80).contains("No history table"));
}
