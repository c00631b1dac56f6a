//! Places outside PGDATA that links name: what stands there, whose it is, what its filesystem can do.
//!
//! Everything is opened by the owner first. A link's text, a backup's `tablespace_map` and a record of WAL are hostile:
//! a place that is not a directory of the owner, or that would hide something of the host from the private server, is
//! a problem that the plan refuses by (pitfalls F2).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};
use crate::host::Owner;
use crate::plan::facts::{Location, Space};
use crate::run::owner::{self, Task};
use crate::run::switch;
use crate::store::weigh;
use crate::sys::dir::{Dir, Kind};

/// Nothing at or below these is a place for data; nor is anything that holds one of them.
const SYSTEM: [&str; 16] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/dpkg",
    "/var/lib/rpm",
];

/// What to look at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExamineRequest {
    /// Whose the places must be.
    pub uid: u32,
    /// Tablespace locations as links name them.
    pub locations: Vec<PathBuf>,
    /// `PG_15_202209061`.
    pub version_directory: String,
}

/// What the private server must still find beside the places: none of them may hold one of these.
#[derive(Debug, Clone)]
pub struct Needed {
    /// PGDATA.
    pub data_directory: PathBuf,
    /// Programs, state directory, archives, backups, the public server's configuration.
    pub others: Vec<PathBuf>,
}

/// Looks at tablespace locations, each once.
pub fn locations(owner: &Owner, texts: &[PathBuf], version_directory: &str, needed: &Needed) -> Result<Vec<Location>> {
    let mut wanted = texts.to_vec();
    wanted.sort();
    wanted.dedup();
    if wanted.is_empty() {
        return Ok(vec![]);
    }
    let request = ExamineRequest { uid: owner.uid, locations: wanted, version_directory: version_directory.to_string() };
    let mut found: Vec<Location> = owner::call(owner, None, Task::ExaminePlaces(Box::new(request)))?;
    let mounts = mounts()?;
    for location in &mut found {
        let inner = location.real.join(version_directory);
        if let Some(mount) = mounts.iter().find(|m| m.starts_with(&inner)) {
            location.trouble(format!("{} is a mount point", mount.display()));
        }
        if let Some(why) = hides(&location.real, needed) {
            location.trouble(why);
        }
    }
    let reals: Vec<PathBuf> = found.iter().map(|l| l.real.clone()).collect();
    for location in &mut found {
        if let Some(other) = reals.iter().find(|r| **r != location.real && r.starts_with(&location.real)) {
            location.trouble(format!("another location lies in it, {}", other.display()));
        }
    }
    Ok(found)
}

/// Whether names can change places in a directory: whose it is, and whether in one step.
pub type Changes = (std::result::Result<u32, String>, std::result::Result<bool, String>);

/// Looks at an external pg_wal; `changes` tries its parent, once nothing speaks against the place.
pub fn wal(owner: &Owner, link: &Path, needed: &Needed, changes: impl Fn(&Path) -> Changes) -> Result<Location> {
    use std::os::unix::fs::MetadataExt;
    let named = needed.data_directory.join("pg_wal");
    let real = match std::fs::canonicalize(&named) {
        Ok(real) => real,
        Err(error) => return Ok(unfollowed(link, &error)),
    };
    let above = real.parent().unwrap_or(Path::new("/")).to_path_buf();
    let mut location = measured(link, &real, &above)?;
    let metadata = std::fs::symlink_metadata(&real).at("look at", &real)?;
    if !metadata.is_dir() || metadata.uid() != owner.uid {
        location.trouble("it is not a directory of the cluster's owner");
    }
    if let Some(why) = hides(&real, needed) {
        location.trouble(why);
    }
    if let Some(mount) = mounts()?.iter().find(|m| m.starts_with(&real)) {
        location.trouble(format!("{} is a mount point; put pg_wal into a directory on it", mount.display()));
    }
    if location.problem.is_some() {
        return Ok(location);
    }
    let (parent, tried) = changes(&above);
    match parent {
        Ok(uid) => location.parent_uid = uid,
        Err(why) => location.trouble(format!("the directory above it is not safe: {why}")),
    }
    match tried {
        Ok(one_step) => location.one_step = one_step,
        Err(why) => location.trouble(why),
    }
    Ok(location)
}

/// An external pg_wal that the link does not lead to: said by the plan, with everything else that it refuses by.
fn unfollowed(link: &Path, error: &std::io::Error) -> Location {
    let why = match error.kind() {
        std::io::ErrorKind::NotFound => format!("{} does not exist", link.display()),
        _ => format!("{} cannot be followed: {error}", link.display()),
    };
    Location { text: link.to_path_buf(), real: link.to_path_buf(), problem: Some(why), ..Location::default() }
}

/// Why nothing may stand in the place of `real` while the private server runs.
fn hides(real: &Path, needed: &Needed) -> Option<String> {
    if let Some(system) = SYSTEM.iter().find(|s| real.starts_with(s) || Path::new(s).starts_with(real)) {
        return Some(format!("{system} is the system's"));
    }
    if real.starts_with(&needed.data_directory) {
        return Some(format!("it lies in {}", needed.data_directory.display()));
    }
    let covered = std::iter::once(&needed.data_directory).chain(&needed.others).find(|path| path.starts_with(real));
    covered.map(|path| format!("{} lies in it", path.display()))
}

/// As the owner: what stands at each location, tried and not guessed.
pub fn examine(request: &ExamineRequest) -> Vec<Location> {
    let blank = |text: &Path, why: String| Location {
        text: text.to_path_buf(),
        real: text.to_path_buf(),
        problem: Some(why),
        ..Location::default()
    };
    let one = |text: &PathBuf| examine_one(text, request).unwrap_or_else(|error| blank(text, error.to_string()));
    request.locations.iter().map(one).collect()
}

fn examine_one(text: &Path, request: &ExamineRequest) -> Result<Location> {
    if !text.is_absolute() || text.components().any(|c| c == std::path::Component::ParentDir) {
        return Err(Error::failed(format!("{} is not an absolute path", text.display())));
    }
    let real = std::fs::canonicalize(text).at("open", text)?;
    if real.to_str().is_none() {
        return Err(Error::failed(format!("{} is not UTF-8", real.display())));
    }
    let directory = Dir::open_real(&real)?;
    let metadata = directory.own_metadata()?;
    if metadata.uid != request.uid {
        return Err(Error::failed(format!("{} does not belong to the cluster's owner", real.display())));
    }
    let mut location = measured(text, &real, &real)?;
    location.parent_uid = metadata.uid;
    match switch::probe_exchange(&directory) {
        Ok(one_step) => location.one_step = one_step,
        Err(error) => location.trouble(error.to_string()),
    }
    if directory.metadata_if_exists(&request.version_directory)?.is_some_and(|m| m.kind == Kind::Directory) {
        location.live = true;
        location.bytes = weigh(&directory.open_beneath(&request.version_directory)?)?;
    }
    Ok(location)
}

fn measured(text: &Path, real: &Path, at: &Path) -> Result<Location> {
    Ok(Location { text: text.to_path_buf(), real: real.to_path_buf(), space: space(at)?, ..Location::default() })
}

/// Room on the filesystem of `at`.
pub fn space(at: &Path) -> Result<Space> {
    use std::os::unix::fs::MetadataExt;
    let stat = rustix::fs::statvfs(at).at("measure", at)?;
    let device = std::fs::metadata(at).at("look at", at)?.dev();
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Space { at: at.to_path_buf(), free: bytes(stat.f_bavail), total: bytes(stat.f_blocks), device })
}

/// Every mount point, from mountinfo (proc(5)); octal escapes are undone.
pub fn mounts() -> Result<Vec<PathBuf>> {
    let file = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(file).at("read", file)?;
    Ok(text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect())
}

fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfos_escapes_are_undone() {
        assert_eq!(unescape("/mnt/a\\040b"), PathBuf::from("/mnt/a b"));
        assert_eq!(unescape("/mnt/\\9"), PathBuf::from("/mnt/\\9"));
    }

    #[test]
    fn a_dangling_pg_wal_is_a_problem_and_not_the_end() {
        let location = unfollowed(Path::new("/mnt/wal/main"), &std::io::ErrorKind::NotFound.into());
        assert_eq!(location.problem.as_deref(), Some("/mnt/wal/main does not exist"));
    }

    #[test]
    fn nothing_that_the_server_needs_is_hidden() {
        let needed = Needed { data_directory: "/srv/pg/main".into(), others: vec!["/mnt/archive".into(), "/srv/state".into()] };
        for (place, refused) in [
            ("/", true),
            ("/etc", true),
            ("/etc/postgresql", true),
            ("/var/lib", true),
            ("/srv", true),
            ("/srv/pg", true),
            ("/srv/pg/main", true),
            ("/srv/pg/main/ts", true),
            ("/mnt", true),
            ("/mnt/archive", true),
            ("/mnt/archives", false),
            ("/mnt/archive/ts", false),
            ("/srv/pg/ts", false),
            ("/var/lib/postgresql/ts", false),
        ] {
            assert_eq!(hides(Path::new(place), &needed).is_some(), refused, "{place}");
        }
    }
}
