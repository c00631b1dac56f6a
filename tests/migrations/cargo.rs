//! sqlx, a crate.

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
