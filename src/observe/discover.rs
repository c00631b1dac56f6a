//! Which clusters this host has: configured ones, Debian's `/etc/postgresql/*/*`, those of units as Red Hat's packages name
//! them, running postmasters.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::config::{ClusterConfig, Config, Control as ConfiguredControl, name_for};
use crate::error::{At, Error, Kind, Result};
use crate::observe::meant::means;
use crate::observe::{postmaster, trust, whose};
use crate::pg::conf::{Directive, parse_conf};
use crate::pg::version;
use crate::sys::dir::Dir;
use crate::sys::proc::Process;
use crate::sys::service;

/// A cluster by what tells it from others.
#[derive(Debug, Clone)]
pub struct Found {
    /// Name.
    pub name: String,
    /// Real path of the data directory.
    pub data_directory: PathBuf,
    /// Its configuration.
    pub config: ClusterConfig,
    /// Debian's version and name, if it is one of Debian's.
    pub debian: Option<(String, String)>,
    /// The unit whose `PGDATA` it is, as Red Hat's packages have it.
    pub unit: Option<String>,
    /// Its postmaster.
    pub process: Option<Process>,
    /// Debian does not know it yet: the recovery makes its place in `/etc/postgresql`.
    pub unregistered: bool,
}

/// A cluster of Debian's that is to be: `15-main`, where the packages of that major are and nothing of that name is.
pub fn unregistered(name: &str) -> Option<Found> {
    let (version, short) = name.split_once('-')?;
    let tool = Path::new(PG_CREATECLUSTER).is_file() && Path::new("/usr/lib/postgresql").join(version).join("bin/postgres").is_file();
    let plain = |word: &str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') && !word.is_empty();
    let number = version.bytes().all(|b| b.is_ascii_digit());
    if !tool || !number || !plain(short) || Path::new("/etc/postgresql").join(version).join(short).exists() {
        return None;
    }
    // Where pg_createcluster makes them unless its configuration says otherwise (createcluster.conf(5)).
    let place = whose::place(&Path::new("/var/lib/postgresql").join(version).join(short)).ok()?;
    place.there.is_none().then(|| Found {
        name: name.to_string(),
        data_directory: place.path,
        config: ClusterConfig::default(),
        debian: Some((version.to_string(), short.to_string())),
        unit: None,
        process: None,
        unregistered: true,
    })
}

/// Debian's maker of clusters.
pub const PG_CREATECLUSTER: &str = "/usr/bin/pg_createcluster";

/// Every cluster: those of the configuration first, then what was found besides.
pub fn clusters(config: &Config) -> Result<Vec<Found>> {
    let debian = debian_clusters();
    let units = units();
    let mut found: Vec<Found> = Vec::new();
    for (name, cluster) in &config.clusters {
        let configured = configured(name, cluster, &debian, &units)?;
        found.push(configured);
    }
    for (version, name, data_directory) in &debian {
        if !found.iter().any(|f| f.data_directory == *data_directory) {
            found.push(Found {
                name: format!("{version}-{name}"),
                data_directory: data_directory.clone(),
                config: ClusterConfig::default(),
                debian: Some((version.clone(), name.clone())),
                unit: None,
                process: None,
                unregistered: false,
            });
        }
    }
    for (unit, data_directory) in units {
        if !found.iter().any(|f| f.data_directory == data_directory) {
            let name = unit.trim_end_matches(".service").to_string();
            found.push(Found {
                name,
                data_directory,
                config: ClusterConfig::default(),
                debian: None,
                unit: Some(unit),
                process: None,
                unregistered: false,
            });
        }
    }
    // Told by what the directory is, not by its name: a server in a chroot has another name for it.
    for cluster in &mut found {
        cluster.process = postmaster::find(&cluster.data_directory)?;
    }
    for process in postmaster::all()? {
        let known = found.iter().any(|f| f.process.as_ref().is_some_and(|p| p.identity == process.identity));
        // A private server of ours runs in a run's directory: it is no cluster of the host.
        if known || is_private(&process.cwd) {
            continue;
        }
        let name = name_for(&process.cwd);
        let data_directory = process.cwd.clone();
        found.push(Found {
            name,
            data_directory,
            config: ClusterConfig::default(),
            debian: None,
            unit: None,
            process: Some(process),
            unregistered: false,
        });
    }
    Ok(found)
}

/// The one cluster that is meant: by name or data directory, or the only one.
///
/// Names that are made of a directory's are not unique: the cluster whose name stands in the configuration is meant before
/// them, and among others none is taken.
pub fn choose(config: &Config, wanted: Option<&str>) -> Result<Found> {
    let all = clusters(config)?;
    let known = list(&all);
    let (mut meant, none) = match wanted {
        Some(wanted) => {
            let mut meant: Vec<Found> = all.into_iter().filter(|f| means(wanted, &f.name, &f.data_directory)).collect();
            if config.clusters.contains_key(wanted) {
                meant.truncate(1);
            }
            (meant, format!("there is no cluster {wanted}"))
        }
        // With a configuration, what is not in it is not meant unless named.
        None if config.clusters.len() == 1 => (all.into_iter().take(1).collect(), String::new()),
        None => (all, "no PostgreSQL cluster was found on this host".to_string()),
    };
    match (meant.pop(), meant.is_empty()) {
        (Some(found), true) => Ok(found),
        (None, _) if known.is_empty() => {
            Err(Error::usage(none).hint("Name one in /etc/pitr/pitr.toml: [cluster.NAME] data_directory = \"…\"."))
        }
        (None, _) => Err(Error::usage(none).hint(format!("There are: {known}."))),
        (Some(last), false) => {
            meant.push(last);
            let what = match wanted {
                Some(name) => format!("{} clusters are called {name}", meant.len()),
                None => "there is more than one cluster".to_string(),
            };
            Err(Error::usage(what).hint(format!("Say which one: --cluster with one of {}.", list(&meant))))
        }
    }
}

/// What `--cluster` can say of each: its name, or where others have the same, its data directory.
fn list(all: &[Found]) -> String {
    let unique = |f: &Found| all.iter().filter(|other| other.name == f.name).count() == 1;
    let word = |f: &Found| if unique(f) { f.name.clone() } else { f.data_directory.display().to_string() };
    all.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn configured(name: &str, cluster: &ClusterConfig, debian: &[(String, String, PathBuf)], units: &[(String, PathBuf)]) -> Result<Found> {
    let by_name = || debian.iter().find(|(v, n, _)| format!("{v}-{n}") == name).map(|(_, _, path)| path.clone());
    let by_unit = || cluster.service.as_deref().filter(|_| service::runs()).and_then(|unit| service::pgdata(&[unit]).pop());
    let path = match cluster.data_directory.clone().or_else(by_name).or_else(|| by_unit().map(|(_, path)| path)) {
        Some(path) => path,
        None => {
            return Err(Error::usage(format!("cluster {name} has no data_directory")).cause(cluster.file.display()).hint("Add it."));
        }
    };
    let data_directory = whose::place(&path)?.path;
    let of_debian = debian.iter().find(|(_, _, path)| *path == data_directory).map(|(v, n, _)| (v.clone(), n.clone()));
    let debian = match cluster.control {
        Some(ConfiguredControl::PgCtl) => None,
        Some(ConfiguredControl::PgCtlcluster | ConfiguredControl::Systemd) | None => of_debian,
    };
    if cluster.control == Some(ConfiguredControl::PgCtlcluster) && debian.is_none() {
        return Err(Error::usage(format!("cluster {name} is not one of Debian's"))
            .cause(format!("no /etc/postgresql/*/* names {}", data_directory.display()))
            .hint("Use control = \"pg_ctl\"."));
    }
    let unit = units.iter().find(|(_, path)| *path == data_directory).map(|(unit, _)| unit.clone());
    Ok(Found { name: name.to_string(), data_directory, config: cluster.clone(), debian, unit, process: None, unregistered: false })
}

/// Units as Red Hat's packages and PostgreSQL's own name them, whose `PGDATA` is a directory that somebody else than root
/// owns. What a unit says is root's word.
fn units() -> Vec<(String, PathBuf)> {
    if !service::runs() {
        return Vec::new();
    }
    let versioned = version::SUPPORTED.iter().map(|major| format!("postgresql-{major}.service"));
    let names: Vec<String> = std::iter::once("postgresql.service".to_string()).chain(versioned).collect();
    let known = service::pgdata(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let real = |(unit, path): (String, PathBuf)| {
        let place = whose::place(&path).ok()?;
        let directory = place.there.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        (directory && place.uid != 0).then_some((unit, place.path))
    };
    known.into_iter().filter_map(real).collect()
}

/// Version, name and data directory of each cluster in `/etc/postgresql`. The files are the owner's and hostile:
/// only one setting is taken from each, and the directory it names is judged by who owns it.
fn debian_clusters() -> Vec<(String, String, PathBuf)> {
    let mut found = Vec::new();
    let base = Path::new("/etc/postgresql");
    for version in names(base) {
        if version.parse::<u32>().is_err() {
            continue;
        }
        for name in names(&base.join(&version)) {
            if let Some(path) = debian_data_directory(&base.join(&version).join(&name)) {
                found.push((version.clone(), name, path));
            }
        }
    }
    found
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(directory).map(|d| d.flatten().filter_map(|e| e.file_name().into_string().ok()).collect()).unwrap_or_default();
    names.sort();
    names
}

fn debian_data_directory(directory: &Path) -> Option<PathBuf> {
    let directory = Dir::open(directory).ok()?;
    let bytes = directory.read_file("postgresql.conf", 16 << 20).ok()?;
    let entries = parse_conf(&String::from_utf8_lossy(&bytes)).ok()?;
    let value = entries.into_iter().rev().find_map(|e| match e.directive {
        Directive::Setting { name, value } if name == "data_directory" => Some(value),
        _ => None,
    })?;
    let place = whose::place(Path::new(&value)).ok()?;
    // An owner who names /etc here gains nothing: root's directories are no clusters, and none is made in one.
    let a_directory = place.there.is_none_or(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    if !a_directory || place.uid == 0 {
        return None;
    }
    // Nor one who names another user's: the run would work as that user.
    let writer = directory.own_metadata().ok()?.uid;
    if writer != 0 && writer != place.uid {
        log::warn!(
            "{}/postgresql.conf belongs to uid {writer}, and names {} of uid {}: not taken for a cluster (foreign-owner)",
            directory.path().display(),
            place.path.display(),
            place.uid
        );
        return None;
    }
    Some(place.path)
}

/// Directory of the server's programs: root's alone, whoever runs them.
pub fn programs(found: &Found, major: u32) -> Result<PathBuf> {
    let of_process = found.process.as_ref().and_then(|p| p.exe.parent().map(Path::to_path_buf));
    let usual = [
        PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")),
        PathBuf::from(format!("/usr/pgsql-{major}/bin")),
        PathBuf::from("/usr/bin"),
    ];
    let candidates = found.config.pg_bindir.clone().into_iter().chain(of_process).chain(usual);
    for candidate in candidates {
        let Ok(real) = std::fs::canonicalize(&candidate) else { continue };
        if real.join("postgres").is_file() {
            trust::roots_alone(&real)?;
            return Ok(real);
        }
    }
    Err(Error::new(Kind::Refused, format!("the programs of PostgreSQL {major} are not installed"))
        .hint("Install them, or set pg_bindir in the cluster's configuration."))
}

/// The owner of a data directory and its inode; always a directory.
pub fn owner_of(data_directory: &Path) -> Result<(u32, u64)> {
    let path = std::path::absolute(data_directory).at("resolve", data_directory)?;
    match whose::place(&path)?.there {
        Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Ok((stat.st_uid, stat.st_ino)),
        Some(_) => Err(Error::new(Kind::Refused, format!("{} is not a directory", data_directory.display()))),
        None => Err(Error::failed(format!("look at {}", data_directory.display())).cause("it does not exist")),
    }
}

fn is_private(cwd: &Path) -> bool {
    cwd.parent().and_then(Path::file_name).is_some_and(|n| n.to_string_lossy().starts_with(".pitr-"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, lchown, symlink};

    use super::*;
    use crate::observe::host::Where;
    use crate::observe::remains;

    /// Uids that need no user.
    const POSTGRES: u32 = 54_321;
    const ALICE: u32 = 54_322;

    #[test]
    fn a_postgresql_conf_names_only_what_its_owner_owns() {
        let held = tempfile::tempdir_in("/var/tmp").unwrap();
        let made = |name: &str, uid: u32| {
            fs::create_dir_all(held.path().join(name)).unwrap();
            chown(held.path().join(name), Some(uid), None).unwrap();
            held.path().join(name)
        };
        let (theirs, alices, roots) = (made("pg", POSTGRES), made("alice", ALICE), made("root", 0));
        let (own, foreign) = (made("pg/main", POSTGRES), made("alice/main", ALICE));
        let named = |writer: u32, path: &Path| {
            let conf = made("etc", writer);
            fs::write(conf.join("postgresql.conf"), format!("data_directory = '{}'\n", path.display())).unwrap();
            debian_data_directory(&conf)
        };
        assert_eq!(named(POSTGRES, &own), Some(own.clone()));
        assert_eq!(named(POSTGRES, &theirs.join("lost")), Some(theirs.join("lost")));
        assert_eq!(named(POSTGRES, &foreign), None);
        assert_eq!(named(POSTGRES, &alices.join("lost")), None);
        // What only root can have written is believed, but nothing makes a cluster of root's directories.
        assert_eq!(named(0, &foreign), Some(foreign.clone()));
        assert_eq!(named(0, &alices.join("lost")), Some(alices.join("lost")));
        for writer in [0, POSTGRES] {
            assert_eq!(named(writer, &roots), None);
            assert_eq!(named(writer, &roots.join("lost")), None);
        }
        symlink(&own, roots.join("link")).unwrap();
        assert_eq!(named(POSTGRES, &roots.join("link")), Some(own));
    }

    /// Found at discovery, and again when the link was made after it.
    #[test]
    fn a_configured_path_leads_to_no_other_users_directory() {
        let held = tempfile::tempdir_in("/var/tmp").unwrap();
        let (link, real) = (held.path().join("link"), held.path().join("alice"));
        fs::create_dir(&real).unwrap();
        chown(&real, Some(ALICE), None).unwrap();
        symlink(&real, &link).unwrap();
        let cluster = ClusterConfig { data_directory: Some(link.clone()), ..ClusterConfig::default() };
        let mut found = configured("main", &cluster, &[], &[]).unwrap();
        assert_eq!((found.data_directory.as_path(), owner_of(&link).unwrap().0), (real.as_path(), ALICE));
        lchown(&link, Some(POSTGRES), None).unwrap();
        found.data_directory = link.clone();
        let errors = [
            configured("main", &cluster, &[], &[]).unwrap_err(),
            remains::look(&Config::default(), &found, &Where::default()).unwrap_err(),
            owner_of(&link).unwrap_err(),
        ];
        for error in errors {
            assert_eq!((error.kind, error.id.as_deref()), (Kind::Refused, Some("foreign-owner")), "{error}");
        }
    }
}
