//! The programs of each major: 15 is Debian's, the others are where `scripts/lib-majors` put them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cluster::Builder;
use super::program::as_postgres;
use super::{Scratch, TestCluster};

/// Tests of each major, `fn(u32)` each, in one module a major: `scripts/test` plays 15, `scripts/test-majors` all.
macro_rules! on_each_major {
    ($($name:ident => $case:expr),+ $(,)?) => {
        $crate::support::majors::on_each_major!(@later pg13 13 $($name => $case),+);
        $crate::support::majors::on_each_major!(@later pg14 14 $($name => $case),+);
        $crate::support::majors::on_each_major!(@always pg15 15 $($name => $case),+);
        $crate::support::majors::on_each_major!(@later pg16 16 $($name => $case),+);
        $crate::support::majors::on_each_major!(@later pg17 17 $($name => $case),+);
        $crate::support::majors::on_each_major!(@later pg18 18 $($name => $case),+);
    };
    (@always $module:ident $major:literal $($name:ident => $case:expr),+) => {
        mod $module {$(
            #[test]
            fn $name() {
                let case: fn(u32) = $case;
                case($major);
            }
        )+}
    };
    (@later $module:ident $major:literal $($name:ident => $case:expr),+) => {
        mod $module {$(
            #[test]
            #[ignore = "scripts/test-majors"]
            fn $name() {
                let case: fn(u32) = $case;
                case($major);
            }
        )+}
    };
}
pub(crate) use on_each_major;

/// Plays `case` with a cluster of `major`, where that is there.
pub fn play(topic: &str, major: u32, case: fn(&Scratch, Builder<'_>)) {
    if available(major).is_none() {
        return;
    }
    let scratch = Scratch::new(&format!("{topic}{major}"));
    case(&scratch, TestCluster::builder(&scratch, "main").major(major));
}

/// Every major that pitr supports.
pub const ALL: [u32; 6] = [13, 14, 15, 16, 17, 18];

/// One major's programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// The major.
    pub major: u32,
    /// Their directory.
    pub bin: PathBuf,
    /// What they need in their environment.
    pub environment: Vec<(String, String)>,
}

impl Programs {
    /// One of them as the operating system user `postgres`. Some sources have the server alone: then it is 15's, which
    /// talks to older servers.
    pub fn tool(&self, name: &str) -> Command {
        let own = self.bin.join(name);
        if own.exists() {
            let mut command = as_postgres(own);
            command.envs(self.environment.iter().map(|(key, value)| (key, value)));
            return command;
        }
        assert!(self.major <= 15, "PostgreSQL {} is here without {name}, and an older one will not do", self.major);
        as_postgres(programs(15).bin.join(name))
    }

    /// Whether the major's own program is there.
    pub fn has(&self, name: &str) -> bool {
        self.bin.join(name).exists()
    }
}

/// The programs of `major`, which must be there.
#[track_caller]
pub fn programs(major: u32) -> Programs {
    find(major).unwrap_or_else(|| panic!("no programs of PostgreSQL {major} in {}: scripts/test gets them", directory(major).display()))
}

/// The programs of `major`, or nothing but a loud line where they are not there.
pub fn available(major: u32) -> Option<Programs> {
    let found = find(major);
    if found.is_none() {
        // Not eprintln: the test harness keeps that to itself, and a test that did not run must not look like one that passed.
        let line =
            format!("\n!!! NOT TESTED: PostgreSQL {major}: no programs in {} (scripts/test gets them)\n", directory(major).display());
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    found
}

fn find(major: u32) -> Option<Programs> {
    if major == 15 {
        let bin = PathBuf::from("/usr/lib/postgresql/15/bin");
        return bin.join("postgres").is_file().then_some(Programs { major, bin, environment: Vec::new() });
    }
    let directory = directory(major);
    // Written last: without it the directory is half made.
    directory.join("source").is_file().then(|| Programs {
        major,
        bin: directory.join("bin").canonicalize().expect("a directory of programs"),
        environment: environment(&directory.join("environment")),
    })
}

fn directory(major: u32) -> PathBuf {
    let base = std::env::var_os("PITR_MAJORS").map_or_else(|| PathBuf::from("/var/cache/pitr-majors"), PathBuf::from);
    base.join(major.to_string())
}

fn environment(file: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.to_string(), value.to_string())).collect()
}
