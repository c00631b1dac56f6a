use serde_json::Value;

use super::super::{fixtures, schema_check};
use super::*;
use crate::pg::Lsn;

const COMMAND: &str = "pitr restore --before-xid 208245";

#[test]
fn a_plan_that_can_be_carried_out() {
    let plan = fixtures::planned();
    assert_eq!(
        text(&plan, 100, COMMAND),
        "\
Host      db-prod-03
Cluster   15-main  /var/lib/postgresql/15/main  PostgreSQL 15.18  serving  3.4 GiB
Target    before transaction 208245
          timeline 1; records were not read
Backup    base-20261121.tar.gz  taken 2026-11-21 21:03:14+00  695 MiB (3.4 GiB unpacked)
          without a manifest: damage within its files is not found before the checks
          not base-20261122.tar.gz: it ended after the target
WAL       timeline 1, 143 segments from 0/DE to 1/FC, no gap; 2 of them only in pg_wal, not archived
Discards  not known
Also      unlogged tables will be empty
Instead   a copy can be restored by hand
Needs     3.5 GiB on /var/lib/postgresql, 63 GiB free, 1.0 GiB of it kept in reserve
Takes     not known: nothing was measured on this host yet; PostgreSQL is down from step 1 on
Accepted  no-manifest
Steps      1 stop 15-main by pg_ctlcluster 15 main, prove it
           2 unpack base-20261121.tar.gz beside /var/lib/postgresql/15/main, verify every file
           3 exchange it with /var/lib/postgresql/15/main
Digest    5f1d0c
Nothing has been changed. To do it:  pitr restore --before-xid 208245"
    );
}

#[test]
fn a_refused_plan_names_every_reason_and_how_to_override_a_judgement() {
    let mut plan = fixtures::planned();
    (plan.recovery, plan.backup, plan.wal, plan.passed_over) = (None, None, None, Vec::new());
    plan.refusals = vec![
        Reason::fact("no-backup", "no usable backup", "Name one: `pitr plan --backup NAME`."),
        Reason::judgement("no-manifest", "no manifest", "Take backups with pg_basebackup."),
    ];
    let page = text(&plan, 80, COMMAND);
    let (_, end) = page.split_once("by hand\n").unwrap();
    assert_eq!(
        end,
        "\
refused [no-backup]: no usable backup
hint: Name one: `pitr plan --backup NAME`.
refused [no-manifest]: no manifest
hint: Take backups with pg_basebackup.
to override this judgement: `--accept no-manifest`
Nothing has been changed."
    );
    assert!(page.contains("\nBackup    none can serve this target\nDiscards"), "{page}");

    plan.refusals[1].hint = "To use it all the same: --accept no-manifest.".into();
    assert_eq!(text(&plan, 80, COMMAND).matches("--accept").count(), 1);

    plan.refusals.remove(0);
    let page = text(&plan, 80, COMMAND);
    assert!(page.ends_with("To do it nevertheless:\n  pitr restore --before-xid 208245 --accept no-manifest"), "{page}");
    assert!(text(&plan, 80, "").ends_with("--accept no-manifest."));
}

#[test]
fn gaps_known_targets_and_estimates() {
    let mut plan = fixtures::planned();
    plan.target.lsn = Some(Lsn(0x1_FCAF_9C10));
    plan.wal.as_mut().unwrap().gaps = (0..7).map(|n| format!("00000001000000000000000{n}")).collect();
    plan.estimate = Some(Estimate { total_seconds: 254, downtime_seconds: 40 });
    let page = text(&plan, 80, "");
    assert!(page.contains("timeline 1; stops before the record at 1/FCAF9C10\n"), "{page}");
    assert!(page.contains("7 segments missing"), "{page}");
    assert!(page.contains("            missing 000000010000000000000004\n            and 2 more\n"), "{page}");
    assert!(page.contains("Takes     about 4 min 14 s, PostgreSQL is down for about 40 s of it\n"), "{page}");
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
}

#[test]
fn names_from_outside_are_escaped() {
    let mut plan = fixtures::planned();
    plan.cluster.data_directory = "/srv/\x1b[2J".into();
    plan.refusals = vec![Reason::fact("gap", "a\nrefused [none]: nothing", "b\u{202e}c")];
    let page = text(&plan, 80, "");
    assert!(page.contains(r"/srv/\x1b[2J") && page.contains(r"refused [gap]: a\nrefused") && page.contains(r"hint: b\u{202e}c"));
}

/// The keys of the design's table.
#[test]
fn the_document_has_every_key() {
    let document = json(&fixtures::planned());
    let keys = |value: &Value, expected: &str| {
        for key in expected.split(' ') {
            assert!(value.get(key).is_some(), "{key} is missing in {value}");
        }
    };
    let top = "schema host digest cluster target backup wal loss consequences alternatives space estimate steps refusals";
    keys(&document, top);
    keys(&document["target"], "timeline lsn inclusive keeps discards");
    keys(&document["backup"], "name path start_lsn end_lsn time");
    keys(&document["wal"], "segments first last only_in_pg_wal gaps");
    keys(&document["space"], "needed free reserve");
    keys(&document["consequences"][0], "id text");
    keys(&document["steps"][0], "name text");
    assert_eq!(document["schema"], 1);
    assert_eq!(document["cluster"], "15-main");
    assert_eq!(document["target"]["timeline"], 1);
    assert_eq!(document["backup"]["start_lsn"], "0/DE000028");
    assert_eq!(document["backup"]["time"], "2026-11-21T21:03:14.000000+00:00");
    assert_eq!(document["steps"][2]["name"], "switch");
    assert!(document["loss"].is_null() && document["target"]["lsn"].is_null());
}

#[test]
fn the_document_follows_its_schema() {
    let schema = include_str!("../../docs/schema/plan.schema.json");
    let mut plan = fixtures::planned();
    plan.estimate = Some(Estimate { total_seconds: 40, downtime_seconds: 40 });
    plan.target.lsn = Some(Lsn(5));
    schema_check::assert_valid(schema, &json(&plan));
    (plan.recovery, plan.backup, plan.wal, plan.estimate) = (None, None, None, None);
    plan.target.timeline = None;
    plan.refusals = vec![Reason::judgement("no-manifest", "w", "h")];
    let document = json(&plan);
    schema_check::assert_valid(schema, &document);
    for key in ["id", "what", "hint"] {
        assert!(document["refusals"][0][key].is_string(), "{key}");
    }
    assert!(document["digest"].is_null() && document["steps"].as_array().unwrap().is_empty());
}
