//! A look at the beginning of a backup archive: enough to tell what it is.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::codec::Compression;
use super::layout::{clean, is_wal_file, root_of};
use super::staging::tablespace_of;
use super::stream::ArchiveStream;
use super::tar::MemberKind;
use crate::error::{Kind, Result};
use crate::pg::page::PageHeader;

/// Bytes unpacked (or, of a plain archive, read) before looking ends. `backup_label` comes first in what the server sends; a
/// tarball of files may have it anywhere, and then the extraction finds it.
const FAR_ENOUGH: u64 = 16 << 20;

/// The largest file that is looked into.
const SMALL: u64 = 4 << 20;

/// A backup of days still has fewer segments.
const MOST_WAL: usize = 1_000_000;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Skimmed {
    pub(super) compression: Compression,
    /// A checksum covers what was looked at.
    pub(super) covered: bool,
    /// Members read; none: not a tar.
    pub(super) members: u64,
    /// The leading directory.
    pub(super) root: Option<PathBuf>,
    /// The first member was `backup_label`.
    pub(super) from_server: bool,
    pub(super) label: Option<Vec<u8>>,
    pub(super) tablespace_map: Option<Vec<u8>>,
    pub(super) control: Option<Vec<u8>>,
    pub(super) major: Option<u32>,
    pub(super) incremental: bool,
    /// Tablespaces with a directory or files below `pg_tblspc`.
    pub(super) spaces: BTreeSet<u32>,
    /// Links in `pg_tblspc`.
    pub(super) links: Vec<(u32, Vec<u8>)>,
    /// WAL files in `pg_wal`, by name.
    pub(super) wal: Vec<String>,
    /// Bytes of the members seen.
    pub(super) content: u64,
    /// The whole archive was seen.
    pub(super) complete: bool,
    /// Why it could not be read on.
    pub(super) damage: Option<String>,
}

/// Looks at an archive. An archive that is broken near its beginning is a result, one that cannot be opened is an error.
pub(super) fn skim(path: &Path) -> Result<Skimmed> {
    skim_to(path, FAR_ENOUGH)
}

/// Looks at the whole archive: its label wherever it stands, and whether it can be read to its end.
pub(super) fn skim_whole(path: &Path) -> Result<Skimmed> {
    skim_to(path, u64::MAX)
}

fn skim_to(path: &Path, limit: u64) -> Result<Skimmed> {
    let mut stream = ArchiveStream::skim(path)?;
    let mut seen = Skimmed { compression: stream.compression(), ..Skimmed::default() };
    let looked = look(&mut stream, &mut seen, limit);
    seen.covered = stream.is_covered();
    match looked {
        Ok(()) => Ok(seen),
        Err(e) if e.kind == Kind::Check => {
            seen.damage = Some(e.to_string());
            Ok(seen)
        }
        Err(e) => Err(e),
    }
}

fn look(stream: &mut ArchiveStream, seen: &mut Skimmed, limit: u64) -> Result<()> {
    while stream.cost() < limit && (limit == u64::MAX || !seen.enough()) {
        let Some(member) = stream.next_member()? else {
            seen.complete = true;
            return Ok(());
        };
        let Ok(path) = clean(&member.path) else { continue };
        seen.members += 1;
        if seen.members == 1 {
            seen.from_server = path == Path::new("backup_label");
        }
        if seen.root.is_none() {
            seen.root = root_of(&path);
        }
        let rel = seen.root.as_ref().and_then(|root| path.strip_prefix(root).ok()).unwrap_or(&path);
        match &member.kind {
            MemberKind::Link(target) if seen.links.len() < 1000 => seen.links.extend(tablespace_of(rel).map(|oid| (oid, target.clone()))),
            // The content of a link that was followed; a tablespace may be empty.
            MemberKind::Directory if seen.spaces.len() < 1000 => seen.spaces.extend(tablespace_of(rel)),
            MemberKind::File => {
                if seen.spaces.len() < 1000 && rel.iter().count() > 2 {
                    seen.spaces.extend(tablespace_of(rel));
                }
                if seen.wal.len() < MOST_WAL && rel.parent() == Some(Path::new("pg_wal")) {
                    let name = rel.file_name().filter(|name| is_wal_file(name.as_bytes()));
                    seen.wal.extend(name.map(|name| name.to_string_lossy().into_owned()));
                }
                seen.content = seen.content.saturating_add(member.size);
                seen.file(stream, rel, member.size)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whose WAL the archive holds, by the first page of its first segment: what `pg_wal.tar` of a `pg_basebackup -X stream`
/// begins with. Before 17 no manifest tells, and pg_control comes last in the other archive.
pub(super) fn system_identifier(path: &Path) -> Option<u64> {
    let mut stream = ArchiveStream::skim(path).ok()?;
    while stream.cost() < FAR_ENOUGH {
        let member = stream.next_member().ok()??;
        let name = clean(&member.path).ok()?;
        if member.kind != MemberKind::File || !name.file_name().is_some_and(|name| is_wal_file(name.as_bytes())) {
            continue;
        }
        let mut page = [0; 8192];
        let mut filled = 0;
        while let Some(rest @ [_, ..]) = page.get_mut(filled..) {
            match stream.read(rest).ok()? {
                0 => break,
                n => filled += n,
            }
        }
        let header = PageHeader::parse(page.get(..filled)?).ok();
        if let Some(long) = header.and_then(|header| header.long) {
            return Some(long.system_identifier);
        }
    }
    None
}

impl Skimmed {
    /// The server sends `backup_label` and `tablespace_map` first. Copied files are in any order, and a plain archive is cheap to
    /// walk to its end, which shows a truncation.
    fn enough(&self) -> bool {
        self.compression != Compression::Plain && self.from_server && self.members > 2 && self.major.is_some()
    }

    fn file(&mut self, stream: &mut ArchiveStream, rel: &Path, size: u64) -> Result<()> {
        self.incremental |= rel.file_name().is_some_and(|name| name.to_string_lossy().starts_with("INCREMENTAL."));
        if size > SMALL {
            return Ok(());
        }
        match rel.to_str() {
            Some("backup_label") => self.label = Some(content(stream)?),
            Some("tablespace_map") => self.tablespace_map = Some(content(stream)?),
            Some("global/pg_control") => self.control = Some(content(stream)?),
            Some("PG_VERSION") => self.major = super::conclude::parse_major(&content(stream)?).ok(),
            _ => {}
        }
        Ok(())
    }
}

/// The current member, which is small.
fn content(stream: &mut ArchiveStream) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let n = stream.read(&mut buffer)?;
        match buffer.get(..n) {
            Some(bytes) if !bytes.is_empty() => all.extend_from_slice(bytes),
            _ => return Ok(all),
        }
    }
}
