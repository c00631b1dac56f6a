//! The archives of a backup, member by member.

use std::path::{Path, PathBuf};

use super::layout::{Treatment, clean, root_of, treatment};
use super::pass::{Content, Pass};
use super::source::Form;
use super::stream::ArchiveStream;
use super::tar::{Member, MemberKind};
use crate::error::{Error, Kind, Result};
use crate::sys::dir::Dir;

/// What lies in an archive.
#[derive(Clone)]
enum Place {
    /// A data directory below this leading directory.
    Data(PathBuf),
    /// A tablespace's directory.
    Tablespace(u32),
    /// `pg_wal`.
    Wal,
}

impl Pass<'_> {
    /// Reads every archive of the backup.
    pub(super) fn archives(&mut self) -> Result<()> {
        let archives = self.list()?;
        for (path, _) in &archives {
            let dir = Dir::open(path.parent().unwrap_or(Path::new("/")))?;
            self.so_far.total += dir.metadata(path.file_name().unwrap_or_default())?.size;
        }
        for (path, place) in archives {
            let mut stream = ArchiveStream::open(&path)?;
            let before = self.so_far.read;
            while let Some(member) = stream.next_member()? {
                self.member(&mut stream, &place, &member, before)?;
            }
            self.covered &= stream.is_covered() || matches!(place, Place::Wal);
            self.so_far.read = before + stream.bytes_read();
        }
        Ok(())
    }

    /// The archives in the order they are read.
    fn list(&self) -> Result<Vec<(PathBuf, Place)>> {
        match &self.source.form {
            Form::TarDirectory { directory, base, tablespaces, wal, .. } => {
                let mut list = vec![(directory.join(base), Place::Data(PathBuf::new()))];
                list.extend(tablespaces.iter().map(|t| (directory.join(&t.file), Place::Tablespace(t.oid))));
                list.extend(wal.iter().map(|w| (directory.join(w), Place::Wal)));
                Ok(list)
            }
            Form::Tarball { file, .. } => Ok(vec![(file.clone(), Place::Data(find_root(file)?))]),
            Form::Plain { .. } => Ok(Vec::new()),
        }
    }

    fn member(&mut self, stream: &mut ArchiveStream, place: &Place, member: &Member, before: u64) -> Result<()> {
        let refuse = |why: &str| {
            Error::new(Kind::Check, format!("{} holds \"{}\", which is refused", stream.path().display(), member.path.escape_ascii()))
                .cause(why)
        };
        let path = clean(&member.path).map_err(refuse)?;
        let Some(rel) = self.rel(place, &path).map_err(refuse)? else {
            // Beside the data directory: what else a script packed.
            self.count(Path::new(""))?;
            self.drop(&path);
            return self.report(before + stream.bytes_read());
        };
        self.count(&rel)?;
        match &member.kind {
            MemberKind::File if rel.as_os_str().is_empty() => Err(refuse("a file without a name")),
            MemberKind::File => self.file(&mut FileMember { stream, size: member.size }, &rel, before),
            MemberKind::Directory => self.directory(&rel),
            MemberKind::Link(target) => self.link(&rel, target).map_err(refuse),
            _ if treatment(&rel) == Treatment::Drop => {
                self.drop(&rel);
                Ok(())
            }
            MemberKind::HardLink => Err(refuse("a hard link; make the archive with tar's --hard-dereference")),
            MemberKind::Other(flag) => Err(refuse(&format!("a special file (type {})", flag.escape_ascii()))),
        }
    }

    /// The path below the data directory; `None` for what lies outside of it.
    fn rel(&self, place: &Place, path: &Path) -> std::result::Result<Option<PathBuf>, &'static str> {
        match place {
            Place::Tablespace(oid) => Ok(Some(Path::new("pg_tblspc").join(oid.to_string()).join(path))),
            Place::Wal => Ok(Some(Path::new("pg_wal").join(path))),
            Place::Data(root) => match path.strip_prefix(root) {
                Ok(rel) => Ok(Some(rel.to_path_buf())),
                // A script that appends the label it got from pg_backup_stop puts it at the top.
                Err(_) if path == Path::new("backup_label") || path == Path::new("tablespace_map") => Ok(Some(path.to_path_buf())),
                Err(_) if path.ends_with("global/pg_control") => Err("a second data directory in one archive"),
                Err(_) => Ok(None),
            },
        }
    }
}

/// A regular file in an archive.
struct FileMember<'s> {
    stream: &'s mut ArchiveStream,
    size: u64,
}

impl Content for FileMember<'_> {
    fn path(&self) -> &Path {
        self.stream.path()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.stream.read(buffer)
    }

    fn bytes_read(&self) -> u64 {
        self.stream.bytes_read()
    }
}

/// The leading directory of a tarball. Almost always one of the first members gives it away.
fn find_root(file: &Path) -> Result<PathBuf> {
    let mut stream = ArchiveStream::skim(file)?;
    while let Some(member) = stream.next_member()? {
        if let Some(root) = clean(&member.path).ok().and_then(|path| root_of(&path)) {
            return Ok(root);
        }
    }
    Err(Error::new(Kind::Check, format!("{} holds no PostgreSQL data directory", file.display())))
}
