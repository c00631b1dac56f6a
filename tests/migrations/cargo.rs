//! sqlx; with `scripts/test-migrations` also Diesel, refinery and SeaORM: crates.

use std::fs;

use super::{Ground, SHOP};
use crate::support::{Scratch, program, tools};

#[test]
fn sqlx() {
    let scratch = Scratch::new("mig-sqlx");
    let Some(root) = tools::part("cargo") else { return };
    let dir = scratch.dir("migrations", "root", "root", 0o755);
    let ground = Ground::new(&scratch);
    fs::write(dir.join("1_index.sql"), "CREATE INDEX environments_slug ON environments (slug);").unwrap();
    fs::write(dir.join("2_flatten.sql"), "UPDATE environments SET slug = lower(slug);").unwrap();
    fs::write(dir.join("3_note.sql"), "ALTER TABLE environments ADD COLUMN note text;").unwrap();
    let url = tools::url("postgres", &ground.cluster, SHOP);
    let sqlx = |arguments: &[&str]| {
        let mut command = program::program(root.join("bin/sqlx"));
        program::ok(command.args(["migrate"]).args(arguments).arg("--source").arg(&dir).args(["--database-url", &url]))
    };
    ground.busily(&mut [
        &mut || drop(sqlx(&["run", "--target-version", "1"])),
        &mut || drop(sqlx(&["run", "--target-version", "2"])),
        &mut || drop(sqlx(&["run", "--target-version", "3"])),
    ]);

    let migration = ground.back_to_before("2", &["--dir", dir.to_str().unwrap()]);

    // The row's own xmin is that of a later transaction.
    assert_eq!((&migration["how"], &migration["name"], &migration["reversible"]), (&"together".into(), &"flatten".into(), &false.into()));
    let said = sqlx(&["info"]);
    assert!(said.contains("1/installed index") && said.contains("2/pending flatten") && said.contains("3/pending note"), "{said}");
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
    sqlx(&["run"]);
}

/// `version` is the directory's digits without dashes: as its users type it, and as they read it in the directory's name.
#[test]
#[ignore = "scripts/test-migrations"]
fn diesel() {
    let scratch = Scratch::new("mig-diesel");
    let Some(root) = tools::part("cargo_more") else { return };
    let dir = scratch.dir("migrations", "root", "root", 0o755);
    let ground = Ground::new(&scratch);
    let file = |name: &str, up: &str| {
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("up.sql"), up).unwrap();
        fs::write(dir.join(name).join("down.sql"), "SELECT 1;").unwrap();
    };
    file("2026-01-01-000001_index", "CREATE INDEX environments_slug ON environments (slug);");
    let url = tools::url("postgres", &ground.cluster, SHOP);
    let diesel = |arguments: &[&str]| {
        let mut command = program::program(root.join("bin/diesel"));
        command.current_dir(scratch.path()).args(["migration"]).args(arguments).arg("--migration-dir").arg(&dir);
        program::ok(command.args(["--database-url", &url]))
    };
    ground.busily(&mut [
        &mut || drop(diesel(&["run"])),
        &mut || {
            file("2026-01-01-000002_flatten", "UPDATE environments SET slug = lower(slug);");
            diesel(&["run"]);
        },
        &mut || {
            file("2026-01-01-000003_note", "ALTER TABLE environments ADD COLUMN note text;");
            diesel(&["run"]);
        },
    ]);

    let migration = ground.back_to_before("20260101000002", &[]);

    assert_eq!((&migration["tool"], &migration["how"]), (&"diesel".into(), &"together".into()));
    let said = diesel(&["list"]);
    let state = |mark: &str, name: &str| assert!(said.contains(&format!("[{mark}] {name}")), "{said}");
    state("X", "2026-01-01-000001_index");
    state(" ", "2026-01-01-000002_flatten");
    state(" ", "2026-01-01-000003_note");
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
    diesel(&["run"]);
}

/// Its program works through the synchronous driver: the work commits, then the row does.
#[test]
#[ignore = "scripts/test-migrations"]
fn refinery() {
    let scratch = Scratch::new("mig-refinery");
    let Some(root) = tools::part("cargo_more") else { return };
    let dir = scratch.dir("migrations", "root", "root", 0o755);
    let ground = Ground::new(&scratch);
    fs::write(dir.join("V1__index.sql"), "CREATE INDEX environments_slug ON environments (slug);").unwrap();
    let flatten = "UPDATE environments SET slug = lower(slug); CREATE INDEX environments_id ON environments (id, slug);";
    fs::write(dir.join("V2__flatten.sql"), flatten).unwrap();
    fs::write(dir.join("V3__note.sql"), "ALTER TABLE environments ADD COLUMN note text;").unwrap();
    let socket = &ground.cluster.socket;
    let host = socket.dir.to_str().unwrap().replace('/', "%2F");
    let url = format!("postgres://postgres@{host}:{}/{SHOP}", socket.port);
    let refinery = |arguments: &[&str]| {
        let mut command = program::program(root.join("bin/refinery"));
        command.args(["migrate", "-e", "DATABASE_URL", "-p"]).arg(&dir).args(arguments);
        program::ok(command.env("DATABASE_URL", &url))
    };
    ground.busily(&mut [&mut || drop(refinery(&["-t", "1"])), &mut || drop(refinery(&["-t", "2"])), &mut || drop(refinery(&["-t", "3"]))]);

    let migration = ground.back_to_before("2", &[]);

    assert_eq!((&migration["tool"], &migration["how"]), (&"refinery".into(), &"before-row".into()));
    assert_eq!(ground.cluster.sql(SHOP, "SELECT string_agg(version || name, ' ') FROM refinery_schema_history"), "1index");
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
    // It has no word for the state: it applies what is pending, and nothing is in its way.
    refinery(&[]);
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM refinery_schema_history"), "3");
}

#[test]
#[ignore = "scripts/test-migrations"]
fn sea_orm() {
    let scratch = Scratch::new("mig-seaorm");
    let Some(root) = tools::part("cargo_more") else { return };
    let ground = Ground::new(&scratch);
    let url = tools::url("postgres", &ground.cluster, SHOP);
    let migrator = |arguments: &[&str]| program::ok(program::program(root.join("bin/pitr-test-sea-orm")).arg(&url).args(arguments));
    let mut up = || drop(migrator(&["up", "1"]));
    let (mut second, mut third) = (up, up);
    ground.busily(&mut [&mut up, &mut second, &mut third]);

    let migration = ground.back_to_before("m20260101_000002_flatten", &[]);

    assert_eq!((&migration["tool"], &migration["how"]), (&"sea-orm".into(), &"together".into()));
    let said = migrator(&["status"]);
    assert_eq!(said.trim(), "m20260101_000001_index Applied\nm20260101_000002_flatten Pending\nm20260101_000003_note Pending");
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
    migrator(&["up"]);
}
