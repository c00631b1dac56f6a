//! The service manager, systemd: asked and told through its own programs, by absolute path and without a shell.
//!
//! Units are only ever named after `--`, with the name that systemd itself gave (`Id`) or that the configuration was
//! checked for. What is written goes to `/run/systemd/system` and is gone after a reboot.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::descendant::{ending, run_program};
use crate::error::{At, Error, Result};

const SYSTEMCTL: &str = "/usr/bin/systemctl";
const BUSCTL: &str = "/usr/bin/busctl";
/// Where units are changed until the next boot (systemd.unit(5)).
const RUNTIME_UNITS: &str = "/run/systemd/system";
/// Name of our drop-in: late, so that nothing resets it.
const DROP_IN: &str = "zz-pitr.conf";
/// An answer takes no longer; a start or a stop may.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// What systemd says of a unit (`systemctl show`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// Its own name, where it was asked for by an alias.
    pub id: String,
    /// It has a file that could be read, and is not made up for one run of a program: it can be started again.
    pub loaded: bool,
    /// It runs, or is about to.
    pub active: bool,
    /// Its main process.
    pub main_pid: Option<i32>,
    /// Units that are stopped when this one is (`Requires=`, `Requisite=`, `BindsTo=`, `PartOf=` of theirs).
    pub stopped_along: Vec<String>,
    /// Files that change it.
    pub drop_ins: Vec<PathBuf>,
}

/// Whether this host was booted by systemd (sd_booted(3)).
pub fn runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Looks at one unit; one that does not exist is not loaded.
pub fn unit(name: &str) -> Result<Unit> {
    const PROPERTIES: &str =
        "--property=Id,LoadState,ActiveState,MainPID,Transient,RequiredBy,RequisiteOf,BoundBy,ConsistsOf,PropagatesStopTo,DropInPaths";
    let (status, words) = run_program(Path::new(SYSTEMCTL), &["show", PROPERTIES, "--", name], ANSWER_LIMIT, b"")?;
    if !status.success() {
        return Err(Error::failed(format!("ask systemd about {name}")).cause(format!("{} {words}", ending(status)).trim()));
    }
    Ok(understand(&words))
}

fn understand(words: &str) -> Unit {
    let mut unit = Unit::default();
    let (mut read, mut transient) = (false, false);
    for (key, value) in words.lines().filter_map(|line| line.split_once('=')) {
        match key {
            "Id" => unit.id = value.to_string(),
            "LoadState" => read = value == "loaded",
            "Transient" => transient = value == "yes",
            "ActiveState" => unit.active = matches!(value, "active" | "activating" | "reloading" | "deactivating"),
            "MainPID" => unit.main_pid = value.parse().ok().filter(|pid| *pid > 0),
            "RequiredBy" | "RequisiteOf" | "BoundBy" | "ConsistsOf" | "PropagatesStopTo" => {
                unit.stopped_along.extend(value.split_whitespace().map(str::to_string));
            }
            "DropInPaths" => unit.drop_ins = value.split_whitespace().map(PathBuf::from).collect(),
            _ => {}
        }
    }
    unit.loaded = read && !transient;
    unit.stopped_along.sort();
    unit.stopped_along.dedup();
    unit
}

/// Active units that systemd stops when it stops `name`, directly or through each other, those first that need the
/// others.
pub fn stopped_along(name: &str) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    let mut ask = vec![name.to_string()];
    while let Some(asked) = ask.pop() {
        for other in unit(&asked)?.stopped_along {
            if other != name && !found.contains(&other) && unit(&other)?.active {
                found.push(other.clone());
                ask.push(other);
            }
        }
    }
    found.reverse();
    Ok(found)
}

/// `systemctl start`, waited for. A limit of earlier failures does not count.
pub fn start(name: &str, limit: Duration) -> Result<()> {
    let _ = run_program(Path::new(SYSTEMCTL), &["reset-failed", "--", name], ANSWER_LIMIT, b"");
    tell("start", name, limit)
}

/// `systemctl stop`, waited for. That it returns well proves nothing (pitfalls, design "Stop is proved").
pub fn stop(name: &str, limit: Duration) -> Result<()> {
    tell("stop", name, limit)
}

fn tell(verb: &str, name: &str, limit: Duration) -> Result<()> {
    let (status, words) = run_program(Path::new(SYSTEMCTL), &[verb, "--", name], limit, b"")?;
    if status.success() { Ok(()) } else { Err(Error::failed(format!("{verb} {name}")).cause(format!("{} {words}", ending(status)).trim())) }
}

fn reload() -> Result<()> {
    let (status, words) = run_program(Path::new(SYSTEMCTL), &["daemon-reload"], ANSWER_LIMIT, b"")?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::failed("let systemd read its units again").cause(format!("{} {words}", ending(status)).trim()))
    }
}

/// Makes every start of `name` fail until [`let_start`]: by a drop-in with an assertion that cannot hold and names the
/// run. A running service is not touched. Proved: systemd has read it. Does nothing when that is so already.
pub fn keep_down(name: &str, run: &str) -> Result<()> {
    let path = drop_in(name);
    let text = format!(
        "# Run {run} of pitr recovers this cluster: until it ends (pitr resume, pitr undo) nothing may start it.\n\
         [Unit]\nAssertPathExists={}\n",
        over(run)
    );
    if std::fs::read_to_string(&path).is_ok_and(|found| found == text) && unit(name)?.drop_ins.contains(&path) {
        return Ok(());
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory).at("make", directory)?;
    std::fs::write(&path, text).at("write", &path)?;
    reload()?;
    if unit(name)?.drop_ins.contains(&path) {
        return Ok(());
    }
    Err(Error::failed(format!("keep {name} down")).cause(format!("systemd does not read {}", path.display())))
}

/// Takes back [`keep_down`]; nothing to take back is fine.
pub fn let_start(name: &str) -> Result<()> {
    let path = drop_in(name);
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && unit(name)?.drop_ins.contains(&path) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).at("remove", &path),
    }
    // Only an empty one goes: others may have drop-ins of theirs.
    let _ = path.parent().map(std::fs::remove_dir);
    reload()
}

/// The file by which [`keep_down`] keeps `name` down at present.
pub fn kept_down(name: &str) -> Option<PathBuf> {
    Some(drop_in(name)).filter(|path| path.exists())
}

/// Our drop-ins by which run `run` keeps units down.
pub fn kept_down_by(run: &str) -> Result<Vec<PathBuf>> {
    kept_down_in(Path::new(RUNTIME_UNITS), run)
}

fn kept_down_in(units: &Path, run: &str) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(units) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(e).at("list", units),
    };
    let drop_ins = entries.flatten().filter(|e| e.file_name().as_encoded_bytes().ends_with(b".d")).map(|e| e.path().join(DROP_IN));
    let over = over(run);
    Ok(drop_ins.filter(|path| std::fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line.ends_with(&over)))).collect())
}

/// What never exists while the run is open.
fn over(run: &str) -> String {
    format!("/run/pitr-{run}-is-over")
}

fn drop_in(name: &str) -> PathBuf {
    Path::new(RUNTIME_UNITS).join(format!("{name}.d")).join(DROP_IN)
}

/// Moves this process into a scope of its own under system.slice: a run, and the private server with it, outlives the
/// session it was typed in, whatever that session's end kills (`KillUserProcesses=`, logind.conf(5)).
pub fn own_scope(run: &str) -> Result<()> {
    let pid = std::process::id().to_string();
    let name = format!("pitr-{run}-{pid}.scope");
    let call = [
        "call",
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "StartTransientUnit",
        "ssa(sv)a(sa(sv))",
    ];
    let properties = ["3", "PIDs", "au", "1", &pid, "Slice", "s", "system.slice", "CollectMode", "s", "inactive-or-failed", "0"];
    let arguments = [&call[..], &[&name, "fail"], &properties[..]].concat();
    let failed = |why: String| Error::failed(format!("move to {name}")).cause(why);
    let (status, words) = run_program(Path::new(BUSCTL), &arguments, ANSWER_LIMIT, b"")?;
    if !status.success() {
        return Err(failed(format!("{} {words}", ending(status)).trim().to_string()));
    }
    // The answer comes before the move.
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if std::fs::read_to_string("/proc/self/cgroup").is_ok_and(|groups| groups.contains(&name)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(failed("systemd took the request and did not do it".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_says_whose_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let write = |unit: &str, name: &str, run: &str| {
            let path = directory.path().join(format!("{unit}.d")).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, format!("[Unit]\nAssertPathExists={}\n", over(run))).unwrap();
            path
        };
        let (one, two) = ("20261121T231500Z-4f2a", "20261121T231500Z-4f2b");
        let ours = write("postgresql@15-main.service", DROP_IN, one);
        write("postgresql@15-other.service", DROP_IN, two);
        write("app.service", "override.conf", one);
        std::fs::write(directory.path().join("file.d"), "").unwrap();
        assert_eq!(kept_down_in(directory.path(), one).unwrap(), [ours]);
        assert_eq!(kept_down_in(&directory.path().join("none"), one).unwrap(), [] as [PathBuf; 0]);
    }

    #[test]
    fn what_systemctl_shows_is_understood() {
        let running = understand(
            "Id=postgresql@15-main.service\nRequiredBy=app.service\nBoundBy=app.service other.service\nConsistsOf=\nLoadState=loaded\n\
             ActiveState=active\nMainPID=4711\nTransient=no\nDropInPaths=/run/systemd/system/postgresql@15-main.service.d/zz-pitr.conf",
        );
        assert_eq!((running.id.as_str(), running.main_pid), ("postgresql@15-main.service", Some(4711)));
        assert_eq!(running.stopped_along, ["app.service", "other.service"]);
        assert!(running.loaded && running.active && running.drop_ins == [drop_in("postgresql@15-main.service")]);

        let absent = understand("Id=no.service\nLoadState=not-found\nActiveState=inactive\nMainPID=0\nTransient=no");
        assert!(!absent.loaded && !absent.active && absent.main_pid.is_none());
        assert!(!understand("LoadState=loaded\nTransient=yes").loaded, "a unit that is gone once it is stopped");
    }
}
