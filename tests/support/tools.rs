//! Migration tools as `scripts/lib-migration-tools` installed them; where one is not there, its test says so and passes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::TestCluster;
use super::program::program;
use super::scratch::Scratch;

/// What is installed: the directory of a part, once its mark is there.
pub fn part(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("PITR_MIGRATION_TOOLS").map_or_else(|| PathBuf::from("/var/cache/pitr-migration-tools"), PathBuf::from);
    if root.join(format!("{name}.source")).exists() {
        return Some(root.join(name.trim_end_matches("_more")));
    }
    eprintln!("NOT TESTED: no migration tools '{name}' in {} (scripts/lib-migration-tools)", root.display());
    None
}

/// A directory in which programs of Node find what is installed.
pub fn node(scratch: &Scratch, name: &str, part_name: &str) -> Option<PathBuf> {
    let modules = part(part_name)?.join("node_modules");
    let dir = scratch.dir(name, "root", "root", 0o755);
    symlink(modules, dir.join("node_modules")).unwrap();
    Some(dir)
}

/// `node_modules/.bin/NAME` in `dir`.
pub fn node_program(dir: &Path, name: &str) -> Command {
    let mut command = program("node");
    command.arg(fs::canonicalize(dir.join("node_modules/.bin").join(name)).unwrap()).current_dir(dir).env("HOME", dir);
    command
}

/// `python/bin/NAME` in `dir`.
pub fn python_program(dir: &Path, name: &str) -> Command {
    let mut command = program(part("python").unwrap().join("bin").join(name));
    command.current_dir(dir).env("HOME", dir).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// `SCHEME///DATABASE?host=…&port=…&user=postgres`: through the socket.
pub fn url(scheme: &str, cluster: &TestCluster, database: &str) -> String {
    format!("{scheme}:///{database}?host={}&port={}&user=postgres", cluster.socket.dir.display(), cluster.socket.port)
}
