//! The lint on layers finds what it is there for, and leaves the rest alone.

use std::path::Path;

use crate::support::Scratch;
use crate::support::program::{self, Output, program};

#[test]
fn the_source_tree_keeps_its_layers() {
    let said = lint(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{}", said.stderr);
}

#[test]
fn each_broken_layer_is_named_with_its_line() {
    let scratch = Scratch::new("lint");
    scratch.file("src/pg/a.rs", "use std::fs;\n\nfn a() -> rustix::io::Result<()> {}\n", 0o644);
    scratch.file("src/plan/b.rs", "use crate::{error, run};\nuse crate::run::Journal;\nlet now = SystemTime::now();\n", 0o644);
    scratch.file("src/wal/c.rs", "use crate::observe::Host;\n", 0o644);
    scratch.file("src/config/d.rs", "use crate::sys::Dir;\nuse super::sys;\nlet x = sys::open();\nuse crate::{error, sys};\n", 0o644);
    scratch.file("src/cli.rs", "println!(\"x\");\neprint!(\"y\");\n", 0o644);

    let said = lint(&scratch.path().join("src"));

    assert_ne!(said.code, 0);
    let prefix = format!("{}/src/", scratch.path().display());
    let places: Vec<&str> = said.stdout.lines().map(|line| place(line.strip_prefix(&prefix).unwrap())).collect();
    let config = ["config/d.rs:1", "config/d.rs:2", "config/d.rs:3", "config/d.rs:4"];
    let others = ["cli.rs:1", "cli.rs:2", "pg/a.rs:1", "pg/a.rs:3", "plan/b.rs:1", "plan/b.rs:2", "plan/b.rs:3"];
    let mut expected = [others.as_slice(), &config, &["wal/c.rs:1"]].concat();
    expected.sort_unstable();
    assert_eq!(places, expected);
}

#[test]
fn comments_tests_and_the_layers_with_effects_are_free() {
    let scratch = Scratch::new("lint-free");
    let tested = "//! Not std::fs.\n\n#[cfg(test)]\nmod tests {\n    use std::fs;\n    fn a() {\n        println!();\n    }\n}\n";
    scratch.file("src/pg/a.rs", tested, 0o644);
    scratch.file("src/pg/mod.rs", "#[cfg(test)]\nmod tests;\n", 0o644);
    scratch.file("src/pg/tests.rs", "use std::fs;\n", 0o644);
    scratch.file("src/run/b.rs", "use crate::sys::Dir;\nuse std::fs;\n", 0o644);
    scratch.file("src/observe/c.rs", "use crate::sys;\n", 0o644);
    scratch.file("src/sys/d.rs", "use nix::sys::signal;\nuse super::sys;\n", 0o644);
    scratch.file("src/report/e.rs", "println!(\"x\");\n", 0o644);
    scratch.file("src/config/f.rs", "use nix::sys::stat;\nlet subsys::x = 1;\n", 0o644);
    let said = lint(&scratch.path().join("src"));
    assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{}", said.stderr);
}

#[test]
fn what_follows_a_test_item_is_looked_at_again() {
    let scratch = Scratch::new("lint-again");
    scratch.file("src/pg/a.rs", "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\nuse std::fs;\n", 0o644);
    let said = lint(&scratch.path().join("src"));
    assert!(said.code != 0 && said.stdout.contains("pg/a.rs:5: ") && said.stdout.lines().count() == 1, "{}", said.stdout);
}

fn place(line: &str) -> &str {
    let end = line.match_indices(':').nth(1).unwrap().0;
    &line[..end]
}

fn lint(src: &Path) -> Output {
    program::output(program(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lint-layers")).arg(src))
}
