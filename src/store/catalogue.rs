//! Finds base backups in the configured directories and tells what each is, cheaply.
//!
//! Only the beginning of a compressed archive is read; the extraction reads the rest. Whatever looks like a backup and cannot be
//! used is an entry with the reason; only what is clearly something else is left out.

use std::path::{Path, PathBuf};

use super::codec::{Compression, begins_covered};
use super::entry::{ANOTHER, read_manifest, take};
pub use super::entry::{CatalogueEntry, Label, Problem};
use super::layout::is_archived_wal_file;
use super::plain::plain_backup;
use super::skim::{self, skim, skim_whole};
use super::source::{Form, Source, TablespaceTar};
use crate::error::{At, Result};
use crate::sys::dir::{Dir, Entry, Kind, real_path};

/// The backups in each of `directories` and one level below, each directory itself where it is one, and files named directly;
/// sorted by path. Links on the way to a configured path are followed, those below it are not. A path that cannot be read is an
/// error; a backup that cannot is an entry.
pub fn catalogue(directories: &[PathBuf]) -> Result<Vec<CatalogueEntry>> {
    let mut found: Vec<CatalogueEntry> = Vec::new();
    for configured in directories {
        let (real, is_file) = real_path(configured).at("open backups", configured)?;
        if is_file {
            found.extend(named_file(&real)?);
            continue;
        }
        let dir = Dir::open(&real)?;
        let entries = dir.entries()?;
        // `base.tar.gz` among other tarballs is one of them, not the beginning of a directory of tars.
        let itself = directory_backup(&dir, &entries).filter(|b| !matches!(b.source.form, Form::Tarball { .. }) || entries.len() == 1);
        let inside = |e: &&Entry| itself.is_none() || (e.kind() == Kind::Directory && !is_data_directory(&entries));
        found.extend(entries.iter().filter(inside).filter_map(|entry| look_at(&dir, entry)).collect::<Vec<_>>());
        found.extend(itself);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup_by(|a, b| a.path == b.path);
    Ok(found)
}

fn named_file(path: &Path) -> Result<Option<CatalogueEntry>> {
    let dir = Dir::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default();
    let metadata = dir.metadata(name)?;
    Ok(file_backup(&dir, &Entry { name: name.to_os_string(), metadata }))
}

fn is_data_directory(entries: &[Entry]) -> bool {
    let has = |name: &str| entries.iter().any(|e| e.name == name);
    has("PG_VERSION") && has("global")
}

fn look_at(dir: &Dir, entry: &Entry) -> Option<CatalogueEntry> {
    match entry.kind() {
        Kind::Directory => {
            let read = dir.open_beneath(&entry.name).and_then(|inner| Ok((inner.entries()?, inner)));
            match read {
                Ok((entries, inner)) => directory_backup(&inner, &entries),
                Err(e) => {
                    let mut backup = CatalogueEntry::new(plain(&dir.join(&entry.name)));
                    backup.problem("unreadable", e.to_string(), "Let the owner of the data directory read it.");
                    Some(backup)
                }
            }
        }
        Kind::File => file_backup(dir, entry),
        Kind::Link => link_to_backup(dir, entry),
        Kind::Other => None,
    }
}

/// A link such as `latest` beside what it points to says nothing new; any other one is named, for it is not followed.
fn link_to_backup(dir: &Dir, entry: &Entry) -> Option<CatalogueEntry> {
    let target = dir.read_link(&entry.name).ok()?;
    let beside = target.components().count() == 1 || target.parent() == Some(dir.path());
    if beside || !dir.path().join(&target).exists() {
        return None;
    }
    let mut backup = CatalogueEntry::new(plain(&dir.join(&entry.name)));
    backup.problem("symbolic-link", format!("a link to {}", target.display()), "Name the real directory in `backups`.");
    Some(backup)
}

/// A directory as a source of which nothing is known.
pub(super) fn plain(path: &Path) -> Source {
    Source {
        name: file_name(path),
        form: Form::Plain { directory: path.to_path_buf(), from_server: false, tablespaces: Vec::new(), manifest: false },
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The backup that a directory is, by the names in it.
fn directory_backup(dir: &Dir, entries: &[Entry]) -> Option<CatalogueEntry> {
    if is_data_directory(entries) {
        return Some(plain_backup(dir, entries));
    }
    let tars: Vec<(&Entry, String)> = entries.iter().filter_map(|e| Some((e, tar_stem(e.name_str()?)?))).collect();
    let base = tars.iter().find(|(_, stem)| stem == "base");
    let tablespaces: Vec<TablespaceTar> = tars.iter().filter_map(|(e, stem)| tablespace_tar(e, stem)).collect();
    let wal = tars.iter().find(|(_, stem)| stem == "pg_wal").map(|(e, _)| file_name(Path::new(&e.name)));
    let manifest = entries.iter().any(|e| e.name == "backup_manifest");
    let Some((base, _)) = base else {
        // What an interrupted pg_basebackup or an incomplete copy leaves.
        return (manifest || wal.is_some()).then(|| {
            let mut backup = CatalogueEntry::new(plain(dir.path()));
            backup.problem(
                "incomplete",
                "parts of a backup without base.tar",
                "Copy the missing files, or choose another backup with --backup.",
            );
            backup
        });
    };
    let base = file_name(Path::new(&base.name));
    let skimmed = skim(&dir.join(&base));
    let from_server = skimmed.as_ref().is_ok_and(|s| s.from_server);
    let streamed = wal.clone();
    let form = if manifest || wal.is_some() || !tablespaces.is_empty() || from_server {
        Form::TarDirectory { directory: dir.path().to_path_buf(), base, tablespaces, wal, manifest }
    } else {
        // A script's tar of the data directory that happens to have this name.
        Form::Tarball { file: dir.join(&base), from_server }
    };
    let mut backup = CatalogueEntry::new(Source { name: file_name(dir.path()), form });
    let parts = |e: &&Entry| e.name == "backup_manifest" || tars.iter().any(|(tar, _)| tar.name == e.name);
    entries.iter().filter(parts).for_each(|e| backup.count(e));
    if manifest {
        read_manifest(&mut backup, dir);
    }
    backup.system_identifier = backup.system_identifier.or_else(|| skim::system_identifier(&dir.join(&streamed?)));
    take(&mut backup, skimmed);
    check_tablespace_tars(&mut backup, dir);
    Some(backup)
}

/// Whether a file of this name may belong to a backup in tar form: an archive by its suffix, or the manifest.
pub fn is_backup_file(name: &str) -> bool {
    name == "backup_manifest" || tar_stem(name).is_some_and(|stem| !stem.is_empty())
}

/// `base` of `base.tar.gz`.
fn tar_stem(name: &str) -> Option<String> {
    let (_, plain) = Compression::of_name(name);
    plain.strip_suffix(".tar").or_else(|| plain.strip_suffix(".tgz")).map(str::to_owned)
}

fn tablespace_tar(entry: &Entry, stem: &str) -> Option<TablespaceTar> {
    let digits = stem.bytes().all(|b| b.is_ascii_digit());
    let oid = stem.parse().ok().filter(|oid| digits && *oid != 0)?;
    Some(TablespaceTar { oid, file: file_name(Path::new(&entry.name)) })
}

fn check_tablespace_tars(backup: &mut CatalogueEntry, dir: &Dir) {
    let Form::TarDirectory { tablespaces, .. } = &backup.source.form else { return };
    // One that cannot be read is an error when it is extracted; here it vouches for nothing.
    let covered = |t: &TablespaceTar| dir.open_file(&t.file).is_ok_and(|file| begins_covered(file).unwrap_or(false));
    backup.checksummed = backup.checksummed && tablespaces.iter().all(covered);
    let missing: Vec<u32> =
        backup.tablespaces.iter().map(|(oid, _)| *oid).filter(|oid| !tablespaces.iter().any(|t| t.oid == *oid)).collect();
    for oid in missing {
        backup.problem(
            "incomplete",
            format!("the archive of tablespace {oid} is missing"),
            "Copy the missing file, or choose another backup.",
        );
    }
}

/// A tarball of a data directory, recognised by content.
fn file_backup(dir: &Dir, entry: &Entry) -> Option<CatalogueEntry> {
    if is_archived_wal_file(entry.name_str()?) {
        return None;
    }
    let file = dir.join(&entry.name);
    let named_tar = tar_stem(entry.name_str()?).is_some() || entry.name_str()?.ends_with(".tgz");
    let skimmed = skim(&file);
    let from_server = skimmed.as_ref().is_ok_and(|s| s.from_server);
    let mut backup = CatalogueEntry::new(Source { name: file_name(&file), form: Form::Tarball { file, from_server } });
    backup.count(entry);
    match &skimmed {
        // Not a tar at all, or one that holds something else.
        Err(_) if !named_tar => return None,
        Ok(s) if s.root.is_none() && s.complete => return None,
        Ok(s) if s.members == 0 && !named_tar => return None,
        Ok(s) if s.root.is_none() && s.damage.is_none() => {
            backup.problem("no-data-directory", "no PostgreSQL data directory near its beginning", ANOTHER);
        }
        _ => {}
    }
    take(&mut backup, skimmed);
    Some(backup)
}

/// The same tarball, looked through to its end: its label can be anywhere in what a cron job packs, and a stream
/// that was cut or changed shows only at its end. Other forms come back as they are.
pub fn identify(entry: &CatalogueEntry) -> CatalogueEntry {
    let Form::Tarball { file, .. } = &entry.source.form else { return entry.clone() };
    if !entry.problems.is_empty() {
        return entry.clone();
    }
    let mut again = CatalogueEntry::new(entry.source.clone());
    again.compressed_bytes = entry.compressed_bytes;
    again.stop_time_bound = entry.stop_time_bound;
    take(&mut again, skim_whole(file));
    again
}
