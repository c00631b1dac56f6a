//! A data directory among the backups: what `pg_basebackup -Fp` wrote, a copy, or a live one, which is no backup.
//!
//! Nothing below the directory is reached through a link. The links in `pg_tblspc` are read as text; a directory they name is a
//! source of the extraction only where a manifest proves its content or where it lies beside the backup: `pg_basebackup -Fp`
//! leaves links to where it put the tablespaces, a copied data directory leaves links to the tablespaces of the live cluster.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::catalogue::plain;
use super::conclude::parse_major;
use super::copy::{DEEPEST, weigh};
use super::entry::{ANOTHER, CatalogueEntry, read_manifest, take};
use super::layout::is_wal_file;
use super::skim::Skimmed;
use super::source::{Form, TablespaceDirectory};
use super::staging::tablespace_of;
use crate::error::Result;
use crate::pg::PostmasterPid;
use crate::sys::dir::{Dir, Entry, Kind};

/// The entry of the data directory `dir`.
pub(super) fn plain_backup(dir: &Dir, entries: &[Entry]) -> CatalogueEntry {
    let mut backup = CatalogueEntry::new(plain(dir.path()));
    let has = |name: &str| entries.iter().any(|e| e.name == name);
    let seen = match look(dir, entries) {
        Ok(seen) => seen,
        Err(e) => {
            backup.problem("unreadable", e.to_string(), "Let the owner of the data directory read it.");
            return backup;
        }
    };
    if is_live(dir, entries, seen.label.is_some()) {
        let what = "a data directory with its postmaster.pid: a server runs in it, or was never shut down";
        backup.problem("live-data-directory", what, "Name only directories of backups in `backups`.");
        return backup;
    }
    let from_server = seen.from_server;
    let manifest = has("backup_manifest") && take_manifest(&mut backup, dir, from_server);
    let links: Vec<(u32, Vec<u8>)> = seen.links.iter().filter(|(oid, target)| *target != in_place(*oid)).cloned().collect();
    let known = seen.links.len();
    take(&mut backup, Ok(seen));
    backup.tablespaces_known = backup.tablespaces.len() >= known;
    let tablespaces = find_tablespaces(&mut backup, dir, &links);
    backup.source.form = Form::Plain { directory: dir.path().to_path_buf(), from_server, tablespaces, manifest };
    if let Err(e) = measure(&mut backup, dir, entries, from_server && manifest) {
        backup.problem("unreadable", e.to_string(), "Let the owner of the data directory read it.");
    }
    backup
}

/// What a look at an archive shows, of a directory.
fn look(dir: &Dir, entries: &[Entry]) -> Result<Skimmed> {
    let has = |name: &str| entries.iter().any(|e| e.name == name);
    let label = dir.read_file_if_exists("backup_label", 64 << 10)?;
    let from_server = label.is_some() && !has("postmaster.opts") && !has("postmaster.pid");
    let wal = if from_server { wal_files(dir, entries)? } else { Vec::new() };
    Ok(Skimmed {
        members: entries.len() as u64,
        from_server,
        label,
        tablespace_map: dir.read_file_if_exists("tablespace_map", 4 << 20)?,
        control: dir.read_file_if_exists("global/pg_control", 64 << 10)?,
        major: dir.read_file_if_exists("PG_VERSION", 64)?.and_then(|bytes| parse_major(&bytes).ok()),
        links: tablespace_links(dir, entries)?,
        wal,
        complete: true,
        ..Skimmed::default()
    })
}

fn is_directory(entries: &[Entry], name: &str) -> bool {
    entries.iter().any(|e| e.name == name && e.kind() == Kind::Directory)
}

fn wal_files(dir: &Dir, entries: &[Entry]) -> Result<Vec<String>> {
    if !is_directory(entries, "pg_wal") {
        return Ok(Vec::new());
    }
    let files = dir.open_beneath("pg_wal")?.entries()?.into_iter();
    let wal = files.filter(|e| e.kind() == Kind::File && is_wal_file(e.name.as_bytes()));
    Ok(wal.map(|e| e.name.to_string_lossy().into_owned()).collect())
}

/// OID and target of each link in `pg_tblspc`. A directory there is the tablespace itself, as `pg_tablespace_location` names it.
fn tablespace_links(dir: &Dir, entries: &[Entry]) -> Result<Vec<(u32, Vec<u8>)>> {
    if !is_directory(entries, "pg_tblspc") {
        return Ok(Vec::new());
    }
    let spaces = dir.open_beneath("pg_tblspc")?;
    let mut links = Vec::new();
    for entry in spaces.entries()? {
        let Some(oid) = tablespace_of(&Path::new("pg_tblspc").join(&entry.name)) else { continue };
        match entry.kind() {
            Kind::Link => links.push((oid, spaces.read_link(&entry.name)?.into_os_string().as_bytes().to_vec())),
            Kind::Directory => links.push((oid, in_place(oid))),
            Kind::File | Kind::Other => {}
        }
    }
    Ok(links)
}

fn in_place(oid: u32) -> Vec<u8> {
    format!("pg_tblspc/{oid}").into_bytes()
}

/// A copy of a running cluster that has a label brings along the `postmaster.pid` of another directory.
fn is_live(dir: &Dir, entries: &[Entry], labelled: bool) -> bool {
    if !entries.iter().any(|e| e.name == "postmaster.pid") {
        return false;
    }
    let file = dir.read_file_if_exists("postmaster.pid", 64 << 10).ok().flatten();
    let pid = file.and_then(|bytes| PostmasterPid::parse(&bytes).ok());
    let here = |pid: PostmasterPid| std::fs::canonicalize(OsStr::from_bytes(&pid.data_directory)).is_ok_and(|path| path == dir.path());
    !labelled || pid.is_some_and(here)
}

/// Reads the manifest, unless a server was started in the directory that was copied: such a one keeps the manifest of the backup
/// that it was once restored from, and a copy of a standby may even begin where that one began.
fn take_manifest(backup: &mut CatalogueEntry, dir: &Dir, from_server: bool) -> bool {
    if from_server {
        read_manifest(backup, dir);
    }
    from_server
}

/// The directories that hold the tablespaces' content.
fn find_tablespaces(backup: &mut CatalogueEntry, dir: &Dir, links: &[(u32, Vec<u8>)]) -> Vec<TablespaceDirectory> {
    let mut found = Vec::new();
    for (oid, target) in links {
        // A relative target is relative to where the link stands.
        let target = dir.join("pg_tblspc").join(OsStr::from_bytes(target));
        match std::fs::canonicalize(&target) {
            Ok(directory) if !directory.is_dir() => lost(backup, *oid, &target, "which is no directory"),
            Ok(directory) if backup.has_manifest || is_beside(dir, &directory) => {
                found.push(TablespaceDirectory { oid: *oid, directory });
            }
            Ok(_) => {
                let what = format!("tablespace {oid} lies at {}, and nothing proves that this is of the backup", target.display());
                backup.problem("tablespace-elsewhere", what, "Take backups with pg_basebackup and its manifest, or with -Ft.");
            }
            Err(e) => lost(backup, *oid, &target, &e.to_string()),
        }
    }
    found
}

fn lost(backup: &mut CatalogueEntry, oid: u32, target: &Path, why: &str) {
    backup.problem("incomplete", format!("its tablespace {oid} lies at {}: {why}", target.display()), ANOTHER);
}

/// In the directory that the backup lies in, or in the backup itself.
fn is_beside(dir: &Dir, directory: &Path) -> bool {
    dir.path().parent().is_some_and(|parent| parent != Path::new("/") && directory.starts_with(parent))
}

/// Size and age. `pg_basebackup` writes each file anew, so that the newest change of a content is after the backup's end (its
/// manifest comes last); a copy may keep the times of the files it copied, and only the inode tells when it was made.
fn measure(backup: &mut CatalogueEntry, dir: &Dir, entries: &[Entry], written_anew: bool) -> Result<()> {
    let mut looked: Vec<Entry> = entries.to_vec();
    for name in ["global", "pg_wal"].into_iter().filter(|name| is_directory(entries, name)) {
        looked.extend(dir.open_beneath(name)?.entries()?);
    }
    let files = looked.iter().filter(|e| e.kind() == Kind::File).map(|e| &e.metadata);
    backup.stop_time_bound = files.map(|m| if written_anew { m.modified } else { m.modified.max(m.changed) }).max();
    let listed = backup.unpacked_bytes.filter(|_| backup.has_manifest);
    let bytes = match listed {
        Some(bytes) => bytes,
        None => directories(backup, dir).iter().try_fold(0, |sum: u64, path| Ok(sum.saturating_add(weigh(&Dir::open(path)?, DEEPEST)?)))?,
    };
    (backup.compressed_bytes, backup.unpacked_bytes) = (bytes, Some(bytes));
    Ok(())
}

fn directories(backup: &CatalogueEntry, dir: &Dir) -> Vec<PathBuf> {
    let Form::Plain { tablespaces, .. } = &backup.source.form else { return Vec::new() };
    std::iter::once(dir.path().to_path_buf()).chain(tablespaces.iter().map(|t| t.directory.clone())).collect()
}
