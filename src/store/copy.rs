//! A backup in plain form (`pg_basebackup -Fp`, or a copied data directory), file by file.
//!
//! Read through descriptors from the directory down, no link followed; the content of a tablespace is read from the directory that
//! [`Form::Plain`] names and from nowhere else. Two names of one file become two files.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::conclude::parse_major;
use super::layout::{Treatment, treatment};
use super::pass::{Content, Pass};
use super::source::Form;
use crate::error::{At, Error, Kind, Result};
use crate::pg::ControlFile;
use crate::sys::dir::{self, Dir};
use crate::sys::reflink::reflink;

/// Levels below a data directory; PostgreSQL needs five.
pub(super) const DEEPEST: usize = 64;

impl Pass<'_> {
    /// Reads the data directory, then its tablespaces.
    pub(super) fn directories(&mut self) -> Result<()> {
        let Form::Plain { directory, tablespaces, .. } = &self.source.form else { return Ok(()) };
        // Nothing but a manifest vouches for files that are not compressed.
        self.covered = false;
        let root = Dir::open(directory)?;
        let spaces = tablespaces.iter().map(|t| Ok((t.oid, Dir::open(&t.directory)?))).collect::<Result<Vec<_>>>()?;
        for dir in std::iter::once(&root).chain(spaces.iter().map(|(_, dir)| dir)) {
            self.so_far.total = self.so_far.total.saturating_add(weigh(dir, DEEPEST)?);
        }
        self.tree(&root, Path::new(""), DEEPEST)?;
        for (oid, dir) in &spaces {
            // Other versions' directories may lie beside this one (`TABLESPACE_VERSION_DIRECTORY`).
            let name = self.version_directory()?;
            let rel = Path::new("pg_tblspc").join(oid.to_string()).join(&name);
            self.directory(&rel)?;
            self.tree(&dir.open_beneath(&name)?, &rel, DEEPEST)?;
        }
        Ok(())
    }

    fn version_directory(&self) -> Result<String> {
        let major = self.required("PG_VERSION", parse_major)?;
        let control = self.required("global/pg_control", ControlFile::parse)?;
        Ok(format!("PG_{major}_{}", control.catalog_version))
    }

    fn tree(&mut self, dir: &Dir, above: &Path, depth: usize) -> Result<()> {
        let refuse = |path: &Path, why: &str| Error::new(Kind::Check, format!("{} is refused", path.display())).cause(why);
        let deeper = depth.checked_sub(1).ok_or_else(|| refuse(dir.path(), "nested too deeply for a data directory"))?;
        for entry in dir.entries()? {
            let rel = above.join(&entry.name);
            self.count(&rel)?;
            match entry.kind() {
                dir::Kind::File => {
                    let mut file = Opened::new(dir, &entry, self.so_far.read)?;
                    self.file(&mut file, &rel, 0)?;
                    // An empty file is progress too: the owner of the pass may want to stop it.
                    self.report(file.bytes_read())?;
                }
                dir::Kind::Directory => {
                    self.directory(&rel)?;
                    self.tree(&dir.open_beneath(&entry.name)?, &rel, deeper)?;
                }
                dir::Kind::Link => {
                    let target = dir.read_link(&entry.name)?;
                    self.link(&rel, target.as_os_str().as_bytes()).map_err(|why| refuse(&dir.join(&entry.name), why))?;
                }
                dir::Kind::Other if treatment(&rel) == Treatment::Drop => self.drop(&rel),
                dir::Kind::Other => return Err(refuse(&dir.join(&entry.name), "a special file")),
            }
        }
        Ok(())
    }
}

/// Bytes of the files below `dir`.
pub(super) fn weigh(dir: &Dir, depth: usize) -> Result<u64> {
    let mut bytes: u64 = 0;
    for entry in dir.entries()? {
        let below = match (entry.kind(), depth.checked_sub(1)) {
            (dir::Kind::File, _) => entry.metadata.size,
            (dir::Kind::Directory, Some(deeper)) => weigh(&dir.open_beneath(&entry.name)?, deeper)?,
            _ => 0,
        };
        bytes = bytes.saturating_add(below);
    }
    Ok(bytes)
}

/// Bytes of the files below any directory, links not followed.
pub fn weigh_directory(dir: &Dir) -> Result<u64> {
    weigh(dir, DEEPEST)
}

/// An open file of the backup, or the new file that shares its blocks.
struct Opened {
    file: File,
    path: PathBuf,
    size: u64,
    left: u64,
    before: u64,
}

impl Opened {
    fn new(dir: &Dir, entry: &dir::Entry, before: u64) -> Result<Opened> {
        let path = dir.join(&entry.name);
        let file = dir.open_file(&entry.name)?;
        let size = file.metadata().at("examine", &path)?.len();
        Ok(Opened { file, path, size, left: size, before })
    }
}

impl Content for Opened {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = loop {
            match self.file.read(buffer) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.at("read", &self.path)?,
            }
        };
        match self.left.checked_sub(n as u64) {
            Some(left) if n > 0 || left == 0 => self.left = left,
            _ => {
                return Err(Error::new(Kind::Check, format!("{} changed while it was read", self.path.display()))
                    .cause("a backup does not change; is it still being made, or a live data directory?"));
            }
        }
        Ok(n)
    }

    fn bytes_read(&self) -> u64 {
        self.before.saturating_add(self.size.saturating_sub(self.left))
    }

    /// The checksum is then taken of what stands in staging.
    fn share_with(&mut self, out: &File) -> bool {
        let shared = reflink(&self.file, out) && out.metadata().is_ok_and(|m| m.len() == self.size);
        match out.try_clone() {
            Ok(copy) if shared => self.file = copy,
            // Without a second descriptor what is read comes from the source, which is the same.
            _ => {}
        }
        shared
    }
}
