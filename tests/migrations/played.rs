//! Tools that no registry has: their statements, transaction by transaction.

use super::{Ground, SHOP};
use crate::support::Scratch;

/// golang-migrate: `migrate.go` (runMigrations) and `database/postgres/postgres.go` (SetVersion, Run): mark, work, mark.
#[test]
fn golang_migrate() {
    let scratch = Scratch::new("mig-golang");
    let ground = Ground::new(&scratch);
    let run = |text: &str| ground.cluster.sql(SHOP, text);
    run("CREATE TABLE IF NOT EXISTS \"public\".\"schema_migrations\" (version bigint not null primary key, dirty boolean not null)");
    let set = |version: i64, dirty: bool| {
        run(&format!(
            "BEGIN; TRUNCATE \"public\".\"schema_migrations\";
             INSERT INTO \"public\".\"schema_migrations\" (version, dirty) VALUES ({version}, {dirty}); COMMIT"
        ));
    };
    let up = |version: i64, work: &str| {
        set(version, true);
        run(work);
        set(version, false);
    };
    ground.busily(&mut [
        &mut || up(1, "CREATE INDEX environments_slug ON environments (slug)"),
        &mut || up(2, "UPDATE environments SET slug = lower(slug)"),
        &mut || up(3, "ALTER TABLE environments ADD COLUMN note text"),
    ]);

    let migration = ground.back_to_before("2", &[]);

    assert_eq!((&migration["how"], &migration["class"]), (&"mark".into(), &"bracket".into()));
    // `migrate version` prints the row, and fails where it is dirty.
    assert_eq!(run("SELECT version, dirty FROM schema_migrations"), "1|f");
    assert_eq!(run("SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
    set(1, false);
}

/// Flyway from 9.1.2 on: `PostgreSQLAdvisoryLockTemplate.java` and `JdbcTableSchemaHistory.java`: the row is inserted on
/// the connection that holds the lock before the script's commit on the other, and committed after it. The second
/// migration changes data alone.
#[test]
fn flyway() {
    let scratch = Scratch::new("mig-flyway");
    let ground = Ground::new(&scratch);
    let table = "CREATE TABLE flyway_schema_history (installed_rank INT NOT NULL, version VARCHAR(50), description VARCHAR(200) NOT NULL,
        type VARCHAR(20) NOT NULL, script VARCHAR(1000) NOT NULL, checksum INTEGER, installed_by VARCHAR(100) NOT NULL,
        installed_on TIMESTAMP NOT NULL DEFAULT now(), execution_time INTEGER NOT NULL, success BOOLEAN NOT NULL,
        CONSTRAINT flyway_schema_history_pk PRIMARY KEY (installed_rank))";
    ground.cluster.sql(SHOP, table);
    let up = |rank: i32, name: &str, work: &str| {
        let mut lock = ground.cluster.session(SHOP);
        let mut script = ground.cluster.session(SHOP);
        lock.sql("BEGIN");
        lock.sql("SELECT pg_try_advisory_xact_lock(77431708279161)");
        script.sql("BEGIN");
        script.sql(work);
        lock.sql(&format!(
            "INSERT INTO flyway_schema_history (installed_rank, version, description, type, script, checksum, installed_by, execution_time, success)
             VALUES ({rank}, '1.{rank}', '{name}', 'SQL', 'V1_{rank}__{name}.sql', 1, 'postgres', 5, true)"
        ));
        script.sql("COMMIT");
        lock.sql("COMMIT");
        lock.close();
        script.close();
    };
    ground.busily(&mut [
        &mut || up(1, "index", "CREATE INDEX environments_slug ON environments (slug)"),
        &mut || up(2, "flatten", "UPDATE environments SET slug = lower(slug)"),
        &mut || up(3, "note", "ALTER TABLE environments ADD COLUMN note text"),
    ]);

    let migration = ground.back_to_before("1.2", &[]);

    assert_eq!((&migration["how"], &migration["class"]), (&"before-row".into(), &"row-after-work".into()));
    // `flyway info` reads this.
    assert_eq!(ground.cluster.sql(SHOP, "SELECT string_agg(version || ' ' || success, ',') FROM flyway_schema_history"), "1.1 true");
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
}

/// Laravel: `Migrations/Migrator.php` (runUp, runMigration) and `DatabaseMigrationRepository.php` (log). Its third
/// migration changes data alone, which nothing in the WAL tells from what others do.
#[test]
fn laravel() {
    let scratch = Scratch::new("mig-laravel");
    let ground = Ground::new(&scratch);
    ground.cluster.sql(SHOP, "CREATE TABLE migrations (id serial PRIMARY KEY, migration varchar(255) NOT NULL, batch integer NOT NULL)");
    let up = |name: &str, work: &str| {
        ground.cluster.sql(SHOP, work);
        ground.cluster.sql(SHOP, &format!("INSERT INTO migrations (migration, batch) VALUES ('{name}', 1)"));
    };
    ground.busily(&mut [
        &mut || up("2026_01_01_000001_index", "CREATE INDEX environments_slug ON environments (slug)"),
        &mut || up("2026_01_01_000002_note", "UPDATE environments SET slug = lower(slug); ALTER TABLE environments ADD COLUMN note text"),
        &mut || up("2026_01_01_000003_data", "UPDATE environments SET note = slug"),
    ]);

    let undecided = ground.pitr.json_code(3, &["plan", "--before-migration", "2026_01_01_000003_data"]);
    assert_eq!(undecided["refusals"][0]["id"], "migration-undecided", "{undecided:#}");
    let hint = undecided["refusals"][0]["hint"].as_str().unwrap();
    assert!(hint.contains("--before-xid") && hint.contains("public.environments ~50"), "{hint}");

    let migration = ground.back_to_before("2026_01_01_000002_note", &[]);

    assert_eq!((&migration["how"], &migration["class"]), (&"before-row".into(), &"row-after-work".into()));
    assert_eq!(ground.cluster.sql(SHOP, "SELECT string_agg(migration, ',') FROM migrations"), "2026_01_01_000001_index");
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
}

/// Prisma: `sql_migration_persistence.rs` (record_migration_started, record_successful_step, record_migration_finished).
#[test]
fn prisma() {
    let scratch = Scratch::new("mig-prisma");
    let ground = Ground::new(&scratch);
    let run = |text: &str| ground.cluster.sql(SHOP, text);
    run("CREATE TABLE _prisma_migrations (id VARCHAR(36) PRIMARY KEY NOT NULL, checksum VARCHAR(64) NOT NULL, finished_at TIMESTAMPTZ,
         migration_name VARCHAR(255) NOT NULL, logs TEXT, rolled_back_at TIMESTAMPTZ, started_at TIMESTAMPTZ NOT NULL DEFAULT now(),
         applied_steps_count INTEGER NOT NULL DEFAULT 0)");
    let up = |name: &str, work: &str| {
        let id = run("SELECT gen_random_uuid()");
        run(&format!(
            "INSERT INTO _prisma_migrations (id, checksum, started_at, migration_name) VALUES ('{id}', repeat('a', 64), now(), '{name}')"
        ));
        run(work);
        run(&format!("UPDATE _prisma_migrations SET applied_steps_count = applied_steps_count + 1, logs = '' WHERE id = '{id}'"));
        run(&format!("UPDATE _prisma_migrations SET finished_at = now() WHERE id = '{id}'"));
    };
    ground.busily(&mut [
        &mut || up("20260101000001_index", "CREATE INDEX environments_slug ON environments (slug)"),
        &mut || up("20260101000002_flatten", "UPDATE environments SET slug = lower(slug)"),
        &mut || up("20260101000003_note", "ALTER TABLE environments ADD COLUMN note text"),
    ]);

    let migration = ground.back_to_before("20260101000002_flatten", &[]);

    assert_eq!((&migration["how"], &migration["class"]), (&"mark".into(), &"bracket".into()));
    // `prisma migrate deploy` refuses (P3009) where a row is not finished.
    assert_eq!(run("SELECT count(*), count(finished_at) FROM _prisma_migrations"), "1|1");
    assert_eq!(run("SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
}

/// Rails: `migration.rb` (execute_migration_in_transaction). Two tools in one database: which is meant is for the person
/// to say.
#[test]
fn rails_beside_golang_migrate() {
    let scratch = Scratch::new("mig-rails");
    let ground = Ground::new(&scratch);
    let run = |text: &str| ground.cluster.sql(SHOP, text);
    run(
        "CREATE TABLE schema_migrations (version varchar NOT NULL PRIMARY KEY); CREATE TABLE ar_internal_metadata (key varchar PRIMARY KEY, value varchar)",
    );
    run("CREATE SCHEMA billing; CREATE TABLE billing.schema_migrations (version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL)");
    let up = |version: i64, work: &str| drop(run(&format!("{work}; INSERT INTO schema_migrations VALUES ('{version}')")));
    ground.busily(&mut [
        &mut || up(1, "CREATE INDEX environments_slug ON environments (slug)"),
        &mut || up(2, "UPDATE environments SET slug = lower(slug)"),
        &mut || {
            run("BEGIN; TRUNCATE billing.schema_migrations; INSERT INTO billing.schema_migrations VALUES (2, true); COMMIT");
            run("BEGIN; TRUNCATE billing.schema_migrations; INSERT INTO billing.schema_migrations VALUES (2, false); COMMIT");
            up(3, "ALTER TABLE environments ADD COLUMN note text");
        },
    ]);

    let several = ground.pitr.json_code(3, &["plan", "--before-migration", "2"]);
    assert_eq!(several["refusals"][0]["id"], "migration-ambiguous", "{several:#}");
    assert!(several["refusals"][0]["what"].as_str().unwrap().contains("billing.schema_migrations"), "{several:#}");

    ground.back_to_before("2", &["--tool", "rails"]);

    assert_eq!(run("SELECT string_agg(version, ',') FROM schema_migrations"), "1");
    assert_eq!(run("SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
}
