//! One pass over a backup, whatever its form: each file is checked, compared and written as it comes by.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::extract::{ExtractProgress, OnProgress};
use super::layout::{Treatment, keeps_directory, treatment};
use super::source::{Form, Source};
use super::staging::{Staging, tablespace_of};
use super::verify::Ledger;
use crate::error::{At, Error, Kind, Result};
use crate::pg::Manifest;
use crate::sys::dir::Dir;

/// Bytes handled at a time.
pub(super) const CHUNK: usize = 256 << 10;

/// Small files whose content the extraction itself reads, and the most it reads of each.
const CAPTURED: [(&str, u64); 5] = [
    ("PG_VERSION", 64),
    ("backup_label", 64 << 10),
    ("tablespace_map", 4 << 20),
    ("global/pg_control", 64 << 10),
    ("backup_manifest", LARGEST_MANIFEST),
];

/// A manifest has about 150 bytes for each file; this is more than three million files.
pub(super) const LARGEST_MANIFEST: u64 = 512 << 20;

const MOST_NAMES: usize = 1000;

/// A checksum is kept for each member. A cluster with more files than this is one of its kind; an archive is made in a minute.
const MOST_MEMBERS: u64 = 10_000_000;

/// A file of a backup as bytes that come one after the other.
pub(super) trait Content {
    /// The archive or file, for messages.
    fn path(&self) -> &Path;
    /// Bytes it has; an archive that ends within a member is an error of [`Content::read`].
    fn size(&self) -> u64;
    /// The next bytes; 0 at the end.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize>;
    /// Bytes of the backup read so far, as they lie on disk, since the archive or directory was opened.
    fn bytes_read(&self) -> u64;
    /// Lets the new file `out` have the same blocks, where the filesystem can. Then `out` is complete, and what [`Content::read`]
    /// gives comes from it.
    fn share_with(&mut self, _out: &File) -> bool {
        false
    }
}

/// A backup on its way to staging.
pub(super) struct Pass<'a> {
    pub(super) source: &'a Source,
    pub(super) staging: Option<Staging<'a>>,
    pub(super) progress: &'a mut OnProgress<'a>,
    pub(super) so_far: ExtractProgress,
    pub(super) manifest: Option<Manifest>,
    pub(super) ledger: Ledger,
    pub(super) captured: BTreeMap<&'static str, Vec<u8>>,
    pub(super) spaces: BTreeSet<u32>,
    pub(super) links: Vec<(String, String)>,
    pub(super) wal: Vec<String>,
    pub(super) dropped: Vec<String>,
    pub(super) dropped_count: u64,
    /// A server was started in the directory that was copied.
    pub(super) served: bool,
    /// Files kept.
    pub(super) files: u64,
    members: u64,
    /// A checksum covers each archive so far.
    pub(super) covered: bool,
    buffer: Vec<u8>,
}

impl<'a> Pass<'a> {
    /// A pass over `source`; without `staging` nothing is written.
    pub(super) fn new<'p: 'a>(source: &'a Source, staging: Option<Staging<'a>>, progress: &'a mut OnProgress<'p>) -> Result<Pass<'a>> {
        let manifest = match &source.form {
            Form::TarDirectory { directory, manifest: true, .. } | Form::Plain { directory, manifest: true, .. } => {
                Some(read_manifest(directory)?)
            }
            _ => None,
        };
        Ok(Pass {
            source,
            staging,
            progress,
            so_far: ExtractProgress::default(),
            ledger: Ledger::new(manifest.as_ref()),
            manifest,
            captured: BTreeMap::new(),
            spaces: BTreeSet::new(),
            links: Vec::new(),
            wal: Vec::new(),
            dropped: Vec::new(),
            dropped_count: 0,
            served: false,
            files: 0,
            members: 0,
            covered: true,
            buffer: vec![0; CHUNK],
        })
    }

    /// Reads all of the backup.
    pub(super) fn everything(&mut self) -> Result<()> {
        match &self.source.form {
            Form::Plain { .. } => self.directories(),
            Form::TarDirectory { .. } | Form::Tarball { .. } => self.archives(),
        }
    }

    /// One more member or directory entry, `name` at `rel` below the data directory.
    pub(super) fn count(&mut self, rel: &Path) -> Result<()> {
        self.members += 1;
        if self.members > MOST_MEMBERS {
            let what = format!("backup {} holds more files than any data directory", self.source.name);
            return Err(Error::new(Kind::Check, what).cause(format!("more than {MOST_MEMBERS}")));
        }
        if rel.file_name().is_some_and(|name| name.as_bytes().starts_with(b"INCREMENTAL.")) {
            return Err(incremental(&self.source.name));
        }
        Ok(())
    }

    /// A directory at `rel` below the data directory.
    pub(super) fn directory(&mut self, rel: &Path) -> Result<()> {
        self.spaces.extend(tablespace_of(rel));
        match &mut self.staging {
            Some(staging) if keeps_directory(rel) => staging.make_directory(rel),
            _ => Ok(()),
        }
    }

    /// A symbolic link, which is reported and not made; the reason where that is refused.
    pub(super) fn link(&mut self, rel: &Path, target: &[u8]) -> std::result::Result<(), &'static str> {
        if self.links.len() >= MOST_NAMES {
            return Err("more links than any data directory has");
        }
        self.links.push((rel.to_string_lossy().into_owned(), String::from_utf8_lossy(target).into_owned()));
        Ok(())
    }

    /// A regular file at `rel` below the data directory; `before` are the bytes of the backup read before its archive.
    pub(super) fn file(&mut self, content: &mut dyn Content, rel: &Path, before: u64) -> Result<()> {
        self.spaces.extend(tablespace_of(rel));
        let name = rel.as_os_str().as_bytes();
        if self.ledger.has(name) {
            let what = format!("{} holds \"{}\" twice", content.path().display(), rel.display());
            return Err(Error::new(Kind::Check, what).cause("no two copies of a file can both be right"));
        }
        let size = content.size();
        let out = self.open_output(rel)?;
        let captured = CAPTURED.iter().find(|(name, _)| Path::new(name) == rel);
        let mut copy = Vec::new();
        if let Some((name, most)) = captured
            && size > *most
        {
            return Err(Error::new(Kind::Check, format!("{} holds a {name} of {} bytes", content.path().display(), size))
                .cause(format!("more than {most} bytes cannot be one")));
        }
        let (algorithm, mut hasher) = self.ledger.hasher(name);
        let shared = out.as_ref().is_some_and(|out| content.share_with(out));
        loop {
            let n = content.read(&mut self.buffer)?;
            let bytes = self.buffer.get(..n).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            hasher.update(bytes);
            if let Some(mut file) = out.as_ref().filter(|_| !shared) {
                file.write_all(bytes).at("write", rel)?;
            }
            if out.is_some() || self.staging.is_none() {
                self.so_far.written += n as u64;
            }
            if captured.is_some() {
                copy.extend_from_slice(bytes);
            }
            self.report(before + content.bytes_read())?;
        }
        self.ledger.enter(name, size, algorithm, hasher);
        if let Some((name, _)) = captured {
            self.captured.insert(name, copy);
        }
        if let (Some(staging), Some(file)) = (&self.staging, &out) {
            staging.written(file, rel)?;
        }
        Ok(())
    }

    /// Where a file's bytes go; `None` for what is left out and when nothing is written.
    fn open_output(&mut self, rel: &Path) -> Result<Option<File>> {
        self.served |= rel == Path::new("postmaster.opts");
        let treatment = match treatment(rel) {
            // A copy of a running cluster's pg_wal has recycled and half-written segments.
            Treatment::Wal
                if matches!(&self.source.form, Form::Tarball { from_server: false, .. } | Form::Plain { from_server: false, .. }) =>
            {
                Treatment::Drop
            }
            other => other,
        };
        let Some(staging) = &mut self.staging else {
            self.files += u64::from(treatment == Treatment::Keep);
            return Ok(None);
        };
        let name = rel.file_name().unwrap_or_default();
        let out = match treatment {
            Treatment::Keep => Some(staging.create(rel)?),
            Treatment::Wal => staging.create_wal(name)?,
            Treatment::Drop => None,
        };
        match (&out, treatment) {
            (Some(_), Treatment::Wal) => self.wal.push(name.to_string_lossy().into_owned()),
            (Some(_), _) => self.files += 1,
            (None, _) => self.drop(rel),
        }
        Ok(out)
    }

    /// Something that is left out.
    pub(super) fn drop(&mut self, rel: &Path) {
        self.dropped_count += 1;
        if self.dropped.len() < MOST_NAMES {
            self.dropped.push(rel.to_string_lossy().into_owned());
        }
    }

    /// Says how far it is, with `read` bytes of the backup read.
    pub(super) fn report(&mut self, read: u64) -> Result<()> {
        self.so_far.read = read;
        if (self.progress)(self.so_far) {
            Ok(())
        } else {
            Err(Error::new(Kind::Interrupted, format!("reading backup {} was stopped", self.source.name)))
        }
    }
}

fn read_manifest(directory: &Path) -> Result<Manifest> {
    let bytes = Dir::open(directory)?.read_file("backup_manifest", LARGEST_MANIFEST)?;
    Manifest::parse(&bytes)
        .map_err(|e| Error::new(Kind::Check, format!("{} is damaged", directory.join("backup_manifest").display())).cause(e))
}

/// The refusal of an incremental backup.
pub(super) fn incremental(name: &str) -> Error {
    Error::new(Kind::Refused, format!("backup {name} is incremental (incremental-backup)"))
        .cause("an incremental backup cannot be started by itself")
        .hint("Combine it with its predecessors by pg_combinebackup, or choose a full backup with --backup.")
}
