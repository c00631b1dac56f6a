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
