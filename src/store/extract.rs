//! Streams a base backup into staging, every file compared with the manifest on the way.
//!
//! One pass over each archive, with bounded memory (the manifest and a checksum per file). Only regular files and directories are
//! made, with modes of a data directory; links are reported, everything else is refused. [`extract`] returns `Ok` only when
//! every archive was complete, every file was as the manifest says, and all of it is on disk. [`verify`] is the same pass
//! without writing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::layout::{Treatment, clean, keeps_directory, required_directories, root_of, treatment};
use super::source::{Form, Source};
use super::staging::{Staging, tablespace_of};
use super::stream::ArchiveStream;
use super::tar::{Member, MemberKind};
use super::verify::{Ledger, as_path, proves_content};
use crate::error::{At, Error, Kind, Result};
use crate::pg::label::{BackupLabel, parse_tablespace_map};
use crate::pg::{ClusterState, ControlFile, Hasher, Manifest};
use crate::sys::dir::Dir;

/// Where an extraction writes besides staging, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtractOptions {
    /// The cluster lets its group read (`initdb --allow-group-access`): modes 0640 and 0750 instead of 0600 and 0700.
    #[serde(default)]
    pub group_access: bool,
    /// An existing directory for WAL that came with the backup; without it that WAL is left out.
    #[serde(default)]
    pub wal_into: Option<PathBuf>,
    /// An existing directory for the content of each tablespace, by OID.
    #[serde(default)]
    pub tablespaces: BTreeMap<u32, PathBuf>,
}

/// How far an extraction is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractProgress {
    /// Bytes of the archive files read, as they lie on disk.
    pub read: u64,
    /// Their sizes together.
    pub total: u64,
    /// Bytes unpacked to files.
    pub written: u64,
}

/// What an extraction brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Extracted {
    /// Files written below staging and the tablespaces.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Major version by `PG_VERSION`.
    pub major: u32,
    /// `backup_label`, which also stands in staging; `None` for a copy of a cluster that was shut down.
    pub label: Option<BackupLabel>,
    /// `tablespace_map` as it is in the backup.
    pub tablespace_map: Option<Vec<u8>>,
    /// Symbolic links of the backup: path below the data directory and target. None of them was made.
    pub links: Vec<(String, String)>,
    /// `global/pg_control`.
    pub control: ControlFile,
    /// The manifest vouches for the content of every file.
    pub verified: bool,
    /// Checksums of the compressed streams cover every archive but that of WAL, and were right. False where one is plain.
    #[serde(default)]
    pub checksummed: bool,
    /// WAL files put into [`ExtractOptions::wal_into`].
    pub wal: Vec<String>,
    /// What was left out, by path in the archive; the first thousand.
    pub dropped: Vec<String>,
    /// How much was left out in all.
    pub dropped_count: u64,
}

/// Called while bytes flow; `false` stops the extraction.
pub type OnProgress<'a> = dyn FnMut(ExtractProgress) -> bool + 'a;

/// Writes the backup to `staging`, which must not hold any of its files yet.
pub fn extract(source: &Source, staging: &Dir, options: &ExtractOptions, progress: &mut OnProgress<'_>) -> Result<Extracted> {
    let mut pass = Pass::new(source, Some(Staging::open(staging, options)?), progress)?;
    pass.archives()?;
    let facts = pass.conclude()?;
    if let Some(staging) = &mut pass.staging {
        for directory in required_directories(facts.major) {
            staging.make_directory(Path::new(directory))?;
        }
        staging.sync()?;
    }
    Ok(facts)
}

/// Proves the backup whole without writing anything.
pub fn verify(source: &Source, progress: &mut OnProgress<'_>) -> Result<Extracted> {
    let mut pass = Pass::new(source, None, progress)?;
    pass.archives()?;
    pass.conclude()
}

/// Bytes handled at a time.
const CHUNK: usize = 256 << 10;

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

struct Pass<'a> {
    source: &'a Source,
    staging: Option<Staging<'a>>,
    progress: &'a mut OnProgress<'a>,
    so_far: ExtractProgress,
    manifest: Option<Manifest>,
    ledger: Ledger,
    captured: BTreeMap<&'static str, Vec<u8>>,
    spaces: BTreeSet<u32>,
    links: Vec<(String, String)>,
    wal: Vec<String>,
    dropped: Vec<String>,
    dropped_count: u64,
    files: u64,
    members: u64,
    covered: bool,
    buffer: Vec<u8>,
}

// The pass.
impl<'a> Pass<'a> {
    fn new<'p: 'a>(source: &'a Source, staging: Option<Staging<'a>>, progress: &'a mut OnProgress<'p>) -> Result<Pass<'a>> {
        let manifest = match &source.form {
            Form::TarDirectory { directory, manifest: true, .. } => Some(read_manifest(directory)?),
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
            files: 0,
            members: 0,
            covered: true,
            buffer: vec![0; CHUNK],
        })
    }

    fn archives(&mut self) -> Result<()> {
        let archives = self.list()?;
        for (path, _) in &archives {
            self.so_far.total += std::fs::symlink_metadata(path).at("examine", path)?.len();
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
            Form::Plain { directory } => {
                Err(Error::new(Kind::Refused, format!("{} is a backup in plain form, which cannot be used yet", directory.display()))
                    .hint("Take backups with `pg_basebackup -Ft`, or choose another with --backup."))
            }
        }
    }

    fn member(&mut self, stream: &mut ArchiveStream, place: &Place, member: &Member, before: u64) -> Result<()> {
        let refuse = |why: &str| {
            Error::new(Kind::Check, format!("{} holds \"{}\", which is refused", stream.path().display(), member.path.escape_ascii()))
                .cause(why)
        };
        self.members += 1;
        if self.members > MOST_MEMBERS {
            return Err(refuse("more members than any data directory has files"));
        }
        let path = clean(&member.path).map_err(refuse)?;
        let Some(rel) = self.rel(place, &path).map_err(refuse)? else {
            // Beside the data directory: what else a script packed.
            self.drop(&path);
            return self.report(stream, before);
        };
        if rel.file_name().is_some_and(|name| name.as_bytes().starts_with(b"INCREMENTAL.")) {
            return Err(incremental(&self.source.name));
        }
        match &member.kind {
            MemberKind::File if rel.as_os_str().is_empty() => Err(refuse("a file without a name")),
            MemberKind::File => self.file(stream, member, &rel, before),
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

    fn directory(&mut self, rel: &Path) -> Result<()> {
        self.spaces.extend(tablespace_of(rel));
        match &mut self.staging {
            Some(staging) if keeps_directory(rel) => staging.make_directory(rel),
            _ => Ok(()),
        }
    }

    fn link(&mut self, rel: &Path, target: &[u8]) -> std::result::Result<(), &'static str> {
        if self.links.len() >= MOST_NAMES {
            return Err("more links than any data directory has");
        }
        self.links.push((rel.to_string_lossy().into_owned(), String::from_utf8_lossy(target).into_owned()));
        Ok(())
    }

    fn file(&mut self, stream: &mut ArchiveStream, member: &Member, rel: &Path, before: u64) -> Result<()> {
        self.spaces.extend(tablespace_of(rel));
        let name = rel.as_os_str().as_bytes();
        if self.ledger.has(name) {
            let what = format!("{} holds \"{}\" twice", stream.path().display(), rel.display());
            return Err(Error::new(Kind::Check, what).cause("no two copies of a file can both be right"));
        }
        let out = self.open_output(rel)?;
        let captured = CAPTURED.iter().find(|(name, _)| Path::new(name) == rel);
        let mut copy = Vec::new();
        if let Some((name, most)) = captured
            && member.size > *most
        {
            return Err(Error::new(Kind::Check, format!("{} holds a {name} of {} bytes", stream.path().display(), member.size))
                .cause(format!("more than {most} bytes cannot be one")));
        }
        let (algorithm, mut hasher) = self.ledger.hasher(name);
        loop {
            let n = stream.read(&mut self.buffer)?;
            let bytes = self.buffer.get(..n).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            hasher.update(bytes);
            if let Some(mut file) = out.as_ref() {
                file.write_all(bytes).at("write", rel)?;
            }
            if out.is_some() || self.staging.is_none() {
                self.so_far.written += n as u64;
            }
            if captured.is_some() {
                copy.extend_from_slice(bytes);
            }
            self.report(stream, before)?;
        }
        self.ledger.enter(name, member.size, algorithm, hasher);
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
        let treatment = match treatment(rel) {
            // A copy of a running cluster's pg_wal has recycled and half-written segments.
            Treatment::Wal if matches!(self.source.form, Form::Tarball { from_server: false, .. }) => Treatment::Drop,
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

    fn drop(&mut self, rel: &Path) {
        self.dropped_count += 1;
        if self.dropped.len() < MOST_NAMES {
            self.dropped.push(rel.to_string_lossy().into_owned());
        }
    }

    fn report(&mut self, stream: &ArchiveStream, before: u64) -> Result<()> {
        self.so_far.read = before + stream.bytes_read();
        if (self.progress)(self.so_far) {
            Ok(())
        } else {
            Err(Error::new(Kind::Interrupted, format!("reading backup {} was stopped", self.source.name)))
        }
    }
}

// The end of the pass: is it a backup, and is it whole?
impl Pass<'_> {
    fn conclude(&mut self) -> Result<Extracted> {
        let label = self.parse_captured("backup_label", BackupLabel::parse)?;
        if label.as_ref().is_some_and(|l| l.incremental_from.is_some()) {
            return Err(incremental(&self.source.name));
        }
        let control = self.required("global/pg_control", ControlFile::parse)?;
        let major = self.required("PG_VERSION", parse_major)?;
        if control.major().is_some_and(|m| m != major) {
            return Err(self.broken("its PG_VERSION and pg_control are of different majors"));
        }
        if label.is_none() && !matches!(control.state, ClusterState::ShutDown | ClusterState::ShutDownInRecovery) {
            return Err(no_label(&self.source.name, control.state));
        }
        self.check_tablespaces()?;
        let verified = self.check_manifest(label.as_ref(), &control)?;
        Ok(Extracted {
            files: self.files,
            bytes: self.so_far.written,
            major,
            label,
            tablespace_map: self.captured.remove("tablespace_map"),
            links: std::mem::take(&mut self.links),
            control,
            verified,
            checksummed: self.covered,
            wal: std::mem::take(&mut self.wal),
            dropped: std::mem::take(&mut self.dropped),
            dropped_count: self.dropped_count,
        })
    }

    /// A link or a map entry without the content it stands for is a lost tablespace.
    fn check_tablespaces(&self) -> Result<()> {
        let map = self.parse_captured("tablespace_map", parse_tablespace_map)?.unwrap_or_default();
        let linked = self.links.iter().filter_map(|(path, _)| tablespace_of(Path::new(path)));
        let tars = match &self.source.form {
            Form::TarDirectory { tablespaces, .. } => tablespaces.iter().map(|t| t.oid).collect(),
            _ => BTreeSet::new(),
        };
        match map.iter().map(|(oid, _)| *oid).chain(linked).find(|oid| !self.spaces.contains(oid) && !tars.contains(oid)) {
            None => Ok(()),
            Some(oid) => Err(Error::new(Kind::Check, format!("backup {} lacks the content of tablespace {oid}", self.source.name))
                .cause("the backup has only the link to it")
                .hint("Take backups with pg_basebackup, which includes tablespaces.")),
        }
    }

    fn check_manifest(&mut self, label: Option<&BackupLabel>, control: &ControlFile) -> Result<bool> {
        let inside = self.parse_captured("backup_manifest", Manifest::parse)?;
        let own = self.manifest.is_some() || matches!(self.source.form, Form::Tarball { from_server: true, .. });
        let Some(manifest) = self.manifest.take().or(inside) else { return Ok(false) };
        let start = manifest.wal_ranges.first().map(|range| range.start);
        if start != label.map(|l| l.start_lsn) || manifest.system_identifier.is_some_and(|id| id != control.system_identifier) {
            // A data directory keeps the manifest of the backup it was once restored from.
            return if own { Err(self.broken("its backup_manifest belongs to another backup")) } else { Ok(false) };
        }
        let staging = self.staging.as_ref();
        let problems = self.ledger.compare(&manifest, |path, algorithm| {
            let path = as_path(path);
            match staging {
                Some(staging) if treatment(path) == Treatment::Keep => {
                    hash_file(staging.reopen(path)?, Hasher::new(algorithm), path).map(Some)
                }
                _ => Ok(None),
            }
        })?;
        problems.into_result(&self.source.name)?;
        Ok(proves_content(&manifest))
    }

    fn parse_captured<T>(&self, name: &str, parse: impl Fn(&[u8]) -> std::result::Result<T, crate::pg::Malformed>) -> Result<Option<T>> {
        let parsed = self.captured.get(name).map(|bytes| parse(bytes)).transpose();
        parsed.map_err(|e| self.broken(&format!("{name}: {e}")))
    }

    fn required<T>(&self, name: &str, parse: impl Fn(&[u8]) -> std::result::Result<T, crate::pg::Malformed>) -> Result<T> {
        self.parse_captured(name, parse)?.ok_or_else(|| self.broken(&format!("it has no {name}")))
    }

    fn broken(&self, why: &str) -> Error {
        Error::new(Kind::Check, format!("backup {} cannot be used", self.source.name))
            .cause(why)
            .hint("Choose another backup with --backup; `pitr backups` lists them.")
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

fn read_manifest(directory: &Path) -> Result<Manifest> {
    let bytes = Dir::open(directory)?.read_file("backup_manifest", LARGEST_MANIFEST)?;
    Manifest::parse(&bytes)
        .map_err(|e| Error::new(Kind::Check, format!("{} is damaged", directory.join("backup_manifest").display())).cause(e))
}

/// `PG_VERSION` is the major and a newline.
pub(super) fn parse_major(bytes: &[u8]) -> std::result::Result<u32, crate::pg::Malformed> {
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim_end();
    match text.parse() {
        Ok(major @ 13..=18) => Ok(major),
        _ => Err(crate::pg::Malformed::new(format!("version {} is not one of PostgreSQL 13 to 18", text.escape_debug()))),
    }
}

fn hash_file(file: File, mut hasher: Hasher, path: &Path) -> Result<Vec<u8>> {
    let mut reader = std::io::BufReader::with_capacity(CHUNK, file);
    loop {
        let bytes = std::io::BufRead::fill_buf(&mut reader).at("read", path)?;
        if bytes.is_empty() {
            return Ok(hasher.finish());
        }
        hasher.update(bytes);
        let n = bytes.len();
        std::io::BufRead::consume(&mut reader, n);
    }
}

fn incremental(name: &str) -> Error {
    Error::new(Kind::Refused, format!("backup {name} is incremental (incremental-backup)"))
        .cause("an incremental backup cannot be started by itself")
        .hint("Combine it with its predecessors by pg_combinebackup, or choose a full backup with --backup.")
}

fn no_label(name: &str, state: ClusterState) -> Error {
    Error::new(Kind::Check, format!("backup {name} has no backup_label (no-backup-label)"))
        .cause(format!("the cluster was {} when the files were copied, so they fit no single moment", state.name()))
        .hint("Take backups with pg_basebackup; a copy made while the server runs needs pg_backup_start and pg_backup_stop.")
}
