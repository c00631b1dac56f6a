//! Debian's place for a cluster that its host does not know yet: `/etc/postgresql/VERSION/NAME`.
//!
//! Made by Debian's own tool, which also makes an empty cluster: that one stands in the run's directory and goes at once.
//! What is in `/etc/postgresql` stays, also when the recovery is taken back: it names a data directory that is not there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{At, Error, Result};
use crate::observe::discover::PG_CREATECLUSTER;
use crate::run::executor::Run;
use crate::sys::crash;
use crate::sys::descendant::{ending, run_program};

/// Sets one setting in a cluster's configuration file.
const PG_CONFTOOL: &str = "/usr/bin/pg_conftool";
/// An initdb takes some seconds.
const LIMIT: Duration = Duration::from_secs(600);

/// Makes it, unless it is there: a step that was interrupted goes on.
pub fn register(run: &mut Run) -> Result<()> {
    let cluster = &run.recovery().cluster;
    let file = cluster.configuration.config_file.clone();
    let (version, name) = place(&file).ok_or_else(|| Error::failed(format!("{} is no place of Debian's", file.display())))?;
    let empty = run.paths.root.join("register");
    if !file.exists() {
        forget(&empty)?;
        crash::point("before registering")?;
        let directory = empty.display().to_string();
        // Whatever language this process has: initdb would take it over.
        let options = ["--locale", "C.UTF-8", "-e", "UTF8", "-d", &directory];
        tool(Path::new(PG_CREATECLUSTER), &[&[version.as_str(), &name], options.as_slice()].concat())?;
    }
    let pgdata = run.recovery().cluster.data_directory.display().to_string();
    tool(Path::new(PG_CONFTOOL), &[&version, &name, "set", "data_directory", &pgdata])?;
    forget(&empty)?;
    crash::point("after registering")
}

/// `VERSION` and `NAME` of `/etc/postgresql/VERSION/NAME/postgresql.conf`.
fn place(file: &Path) -> Option<(String, String)> {
    let parts: Vec<&str> = file.strip_prefix("/etc/postgresql").ok()?.iter().filter_map(|part| part.to_str()).collect();
    let [version, name, "postgresql.conf"] = parts.as_slice() else { return None };
    Some((version.to_string(), name.to_string()))
}

/// Deletes what this step had made, below a directory of root's.
fn forget(empty: &PathBuf) -> Result<()> {
    match std::fs::remove_dir_all(empty) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.at("delete", empty),
    }
}

fn tool(program: &Path, arguments: &[&str]) -> Result<()> {
    let (status, words) = run_program(program, arguments, LIMIT, b"")?;
    if status.success() {
        return Ok(());
    }
    let error = Error::failed(format!("{} {}", program.display(), arguments.join(" "))).cause(format!("{}: {words}", ending(status)));
    Err(error.hint("Make the cluster's place yourself (pg_createcluster), then plan again."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_debians_is_told_by_its_path() {
        let of = |path: &str| place(Path::new(path));
        assert_eq!(of("/etc/postgresql/15/main/postgresql.conf"), Some(("15".into(), "main".into())));
        for path in ["/etc/postgresql/15/postgresql.conf", "/etc/postgresql/15/main/conf.d/postgresql.conf", "/srv/15/main/postgresql.conf"]
        {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
