//! What is accepted, what is refused, and that the help says what the design promises.

use super::*;
use crate::pg::Lsn;
use crate::plan::target::{MigrationTarget, TargetRequest, TimelineRequest};
use clap::CommandFactory;
use jiff::{Timestamp, tz::TimeZone};

fn cli(line: &str) -> std::result::Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("pitr").chain(line.split_whitespace()))
}

fn message(line: &str) -> String {
    let error = cli(line).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{line}");
    error.to_string()
}

fn restore(line: &str) -> RestoreArgs {
    match cli(line).unwrap().verb {
        Verb::Restore(args) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_structs_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn plan_and_restore_want_exactly_one_target() {
    for verb in ["plan", "restore"] {
        let text = message(verb);
        for flag in ["--to-time", "--to-xid", "--to-lsn", "--to-name", "--to-latest", "--to-consistent", "--before-time"] {
            assert!(text.contains(flag), "{text}");
        }
        assert!(message(&format!("{verb} --to-latest --to-xid 7")).contains("cannot be used with"));
        assert!(message(&format!("{verb} --to-xid 7 --to-xid 8")).contains("cannot be used multiple times"));
    }
}

#[test]
fn targets_become_requests() {
    let now: Timestamp = "2026-11-21T22:00:00Z".parse().unwrap();
    let request = |line: &str| restore(line).target.request(now, &TimeZone::UTC);
    let time: Timestamp = "2026-11-21T21:05:19Z".parse().unwrap();
    for (line, expected) in [
        ("restore --to-time 2026-11-21T21:05:19Z", TargetRequest::ToTime(time)),
        ("restore --before-time 2026-11-21T21:05:19Z", TargetRequest::BeforeTime(time)),
        ("restore --to-xid 7", TargetRequest::ToXid(7)),
        ("restore --before-xid 7", TargetRequest::BeforeXid(7)),
        ("restore --to-lsn 0/28", TargetRequest::ToLsn(Lsn(0x28))),
        ("restore --before-lsn 0/28", TargetRequest::BeforeLsn(Lsn(0x28))),
        (
            "restore --before-migration 000123 --tool golang-migrate --history-table public.schema_migrations --dir /srv/migrations",
            TargetRequest::BeforeMigration(MigrationTarget { version: "000123".into(), ..MigrationTarget::default() }),
        ),
        ("restore --to-name deploy", TargetRequest::ToName("deploy".into())),
        ("restore --to-name=--yes", TargetRequest::ToName("--yes".into())),
        ("restore --to-latest", TargetRequest::ToLatest),
        ("restore --to-consistent", TargetRequest::ToConsistent),
        ("restore --to-immediate", TargetRequest::ToConsistent),
    ] {
        assert_eq!(request(line).unwrap(), expected, "{line}");
    }
    let error = request("restore --before-time 2026-11-21T21:05:19").unwrap_err();
    assert!(error.hint.unwrap().contains("--before-time '2026-11-21 21:05:19+00'"));
}

#[test]
fn every_printed_target_is_accepted_again() {
    let now: Timestamp = "2026-11-21T22:00:00Z".parse().unwrap();
    for target in [TargetRequest::BeforeTime(now), TargetRequest::ToXid(99), TargetRequest::ToName("--a b".into()), TargetRequest::ToLatest]
    {
        let (flag, value) = target.arguments();
        let word = value.map_or(flag.to_string(), |v| format!("{flag}={v}"));
        match Cli::try_parse_from(["pitr", "plan", &word]).unwrap().verb {
            Verb::Plan(plan) => assert_eq!(plan.target.request(now, &TimeZone::UTC).unwrap(), target),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn restore_takes_what_the_design_lists() {
    let args = restore(
        "restore --to-latest --timeline 3 --backup base-1.tar.gz --backups /b --backups c --wal /w --accept no-manifest \
         --accept protected:public.audit_events --config-from backup --checks /c.sql --reason why --plan 0AbC --max-loss 1h --yes --dry-run",
    );
    assert_eq!(args.source.timeline.to_string(), "3");
    let [first, second] = args.source.places.backups.as_slice() else { panic!() };
    assert_eq!(first, &PathBuf::from("/b"));
    assert!(second.is_absolute() && second.ends_with("c"), "a relative path is made absolute at once");
    assert_eq!(args.source.accept, ["no-manifest", "protected:public.audit_events"]);
    assert_eq!(args.source.config_from, ConfigFrom::Backup);
    assert_eq!((args.plan.as_deref(), args.max_loss), (Some("0abc"), Some(MaxLoss::Seconds(3600))));
    assert!(args.yes && args.dry_run);
    assert_eq!(restore("restore --to-latest --max-loss 500").max_loss, Some(MaxLoss::Transactions(500)));
    assert_eq!(restore("restore --to-latest").source.timeline, TimelineRequest::Current);
}

#[test]
fn purge_takes_one_run_or_all() {
    for (line, run, all) in
        [("purge 20261121-210519 --yes --dry-run", Some("20261121-210519"), false), ("purge --yes --dry-run --all", None, true)]
    {
        let Verb::Purge(args) = cli(line).unwrap().verb else { panic!("{line}") };
        assert_eq!((args.run.as_deref(), args.all, args.yes, args.dry_run), (run, all, true, true), "{line}");
    }
    assert!(message("purge").contains("<RUN>"));
}

#[test]
fn resume_and_undo_take_the_same() {
    for verb in ["resume", "undo"] {
        let (Verb::Resume(args) | Verb::Undo(args)) =
            cli(&format!("{verb} r-1 --accept old-cluster-ran --reason x --yes --dry-run")).unwrap().verb
        else {
            panic!("{verb}")
        };
        assert_eq!(
            (args.run.as_deref(), args.accept.as_slice(), args.reason.as_deref()),
            (Some("r-1"), &["old-cluster-ran".to_string()][..], Some("x"))
        );
        assert!(args.yes && args.dry_run);
        let (Verb::Resume(args) | Verb::Undo(args)) = cli(verb).unwrap().verb else { panic!("{verb}") };
        assert!(args.run.is_none() && !args.yes && !args.dry_run);
    }
}

#[test]
fn bad_values_exit_2() {
    for line in [
        "",
        "reboot",
        "restore --to-xid 2",
        "restore --to-lsn 0/0",
        "restore --to-lsn xyz",
        "restore --to-latest --timeline 0",
        "restore --to-latest --max-loss 1parsec",
        "restore --to-latest --accept NO",
        "restore --to-latest --accept ../x",
        "restore --to-latest --plan xyz",
        "plan --to-latest --yes",
        "plan --to-latest --plan abc",
        "undo ../../etc",
        "resume a/b",
        "purge",
        "purge 20261121 --all",
        "restore --before-migration= --yes",
        "migrations --tool golang-migrat",
        "status -q -v",
        "status -o xml",
        "status --cluster ../x",
        "wal-get 000000010000000000000001 pg_wal/x",
        "__owner x",
    ] {
        assert_eq!(cli(line).unwrap_err().exit_code(), 2, "{line}");
    }
    assert!(parse(["pitr", "reboot"].map(OsString::from)).is_err());
}

#[test]
fn global_flags_stand_before_and_after_the_verb() {
    for line in ["-o json --cluster 15/main -vv status --watch", "status --watch -vv --cluster 15-main --output json"] {
        let cli = cli(line).unwrap();
        assert_eq!((cli.global.output, cli.global.verbose), (Output::Json, 2));
        assert_eq!(cli.global.cluster.as_deref(), Some("15-main"));
        assert!(matches!(cli.verb, Verb::Status(StatusArgs { watch: true, .. })));
    }
    assert!(cli("--config x.toml backups").unwrap().global.config.unwrap().is_absolute());
}

#[test]
fn plumbing_works_and_is_hidden() {
    let Verb::WalGet(args) = cli("wal-get --socket /run/s 000000010000000000000001 pg_wal/RECOVERYXLOG").unwrap().verb else { panic!() };
    assert_eq!((args.file.as_str(), args.dest), ("000000010000000000000001", PathBuf::from("pg_wal/RECOVERYXLOG")));
    assert!(matches!(cli("__owner").unwrap().verb, Verb::Owner) && matches!(cli("__launch").unwrap().verb, Verb::Launch));
    let help = Cli::command().render_long_help().to_string();
    assert!(!help.contains("__") && !help.contains("wal-get"), "{help}");
    for line in ["Exit status:", "Examples:", "pitr undo", "restore", "purge", "143"] {
        assert!(help.contains(line), "{line} in {help}");
    }
}
