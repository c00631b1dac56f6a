//! Writes the files of a backup below a staging directory: new files only, by descriptor, durable at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::extract::ExtractOptions;
use crate::error::{At, Error, Result};
use crate::sys::dir::Dir;

/// The directories that a backup is written to.
pub(super) struct Staging<'a> {
    root: &'a Dir,
    spaces: BTreeMap<u32, Dir>,
    wal: Option<Dir>,
    file_mode: u32,
    directory_mode: u32,
    /// The directory that the last file was created in: archives list a directory's files together.
    current: Option<(PathBuf, Dir)>,
    durability: Durability,
}

/// How written data reaches the disk before the extraction counts as done.
///
/// One `syncfs` at the end is the fast way: the filesystem writes in its own order and commits its journal once, where a sync for
/// each of a cluster's thousands of small files commits once per file (measured on ext4: two thirds of the time). It reports lost
/// writes since Linux 5.8, those since its descriptor was opened, which here is before the first file is created; on an older
/// kernel each file and directory is synced on its own.
enum Durability {
    Whole,
    Single(BTreeSet<PathBuf>),
}

impl<'a> Staging<'a> {
    /// Opens the other directories that `options` name.
    pub(super) fn open(root: &'a Dir, options: &ExtractOptions) -> Result<Staging<'a>> {
        let (file_mode, directory_mode) = if options.group_access { (0o640, 0o750) } else { (0o600, 0o700) };
        root.set_mode(directory_mode)?;
        let spaces = options.tablespaces.iter().map(|(oid, path)| Ok((*oid, Dir::open(path)?))).collect::<Result<_>>()?;
        let wal = options.wal_into.as_ref().map(Dir::open).transpose()?;
        let durability = if syncfs_reports_errors() { Durability::Whole } else { Durability::Single(BTreeSet::new()) };
        Ok(Staging { root, spaces, wal, file_mode, directory_mode, current: None, durability })
    }

    /// Makes the directory at `rel` below the data directory, unless it is there.
    pub(super) fn make_directory(&mut self, rel: &Path) -> Result<()> {
        self.enter(rel)?;
        Ok(())
    }

    /// Creates the file at `rel` below the data directory. Missing directories above it are made.
    pub(super) fn create(&mut self, rel: &Path) -> Result<File> {
        let mode = self.file_mode;
        let (parent, name) = (rel.parent().unwrap_or(Path::new("")), rel.file_name().unwrap_or(OsStr::new(".")));
        self.enter(parent)?.create_file(name, mode)
    }

    /// Creates a WAL file in the directory for WAL; `None` where none was asked for.
    pub(super) fn create_wal(&self, name: &OsStr) -> Result<Option<File>> {
        self.wal.as_ref().map(|dir| dir.create_file(name, self.file_mode)).transpose()
    }

    /// Opens a staged file again.
    pub(super) fn reopen(&self, rel: &Path) -> Result<File> {
        let (dir, rel) = self.base_of(rel)?;
        dir.open_file(rel)
    }

    /// A file is complete.
    pub(super) fn written(&self, file: &File, rel: &Path) -> Result<()> {
        match self.durability {
            Durability::Whole => Ok(()),
            Durability::Single(_) => file.sync_data().at("sync", self.root.join(rel)),
        }
    }

    /// Returns once everything is on disk.
    pub(super) fn sync(&self) -> Result<()> {
        let others = self.spaces.values().chain(&self.wal);
        match &self.durability {
            Durability::Whole => {
                let mut synced = BTreeSet::new();
                for dir in std::iter::once(self.root).chain(others) {
                    if synced.insert(dir.own_metadata()?.device) {
                        dir.sync_filesystem()?;
                    }
                }
                Ok(())
            }
            Durability::Single(directories) => {
                for rel in directories {
                    let (dir, rel) = self.base_of(rel)?;
                    dir.open_beneath(rel)?.sync()?;
                }
                std::iter::once(self.root).chain(others).try_for_each(Dir::sync)
            }
        }
    }

    fn enter(&mut self, rel: &Path) -> Result<&Dir> {
        if self.current.as_ref().is_none_or(|(path, _)| path != rel) {
            let (base, beneath) = self.base_of(rel)?;
            let dir = base.make_dirs(beneath, self.directory_mode)?;
            if let Durability::Single(directories) = &mut self.durability {
                directories.extend(rel.ancestors().map(Path::to_path_buf));
            }
            self.current = Some((rel.to_path_buf(), dir));
        }
        Ok(self.current.as_ref().map_or(self.root, |(_, dir)| dir))
    }

    /// The directory that a path lies in: a tablespace's own where it is below `pg_tblspc/OID`.
    fn base_of<'r>(&self, rel: &'r Path) -> Result<(&Dir, &'r Path)> {
        let Some(oid) = tablespace_of(rel) else { return Ok((self.root, rel)) };
        let dir = self.spaces.get(&oid).ok_or_else(|| {
            Error::failed(format!("the backup holds tablespace {oid}, and no place for it was given"))
                .cause(format!("{} is in the backup, behind what was looked at when the plan was made", rel.display()))
                .hint("Named by --backup NAME the archive is looked through first.")
        })?;
        Ok((dir, rel.strip_prefix("pg_tblspc").ok().and_then(|r| r.strip_prefix(oid.to_string()).ok()).unwrap_or(rel)))
    }
}

/// The tablespace that `pg_tblspc/OID` or a path below it belongs to.
pub(super) fn tablespace_of(rel: &Path) -> Option<u32> {
    let mut parts = rel.iter();
    let below = parts.next()? == "pg_tblspc";
    let oid = parts.next()?.to_str()?;
    // A name like 016384 is not how PostgreSQL writes an OID.
    oid.parse().ok().filter(|n: &u32| below && n.to_string() == oid)
}

/// Linux 5.8 and later.
fn syncfs_reports_errors() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(8))
}
