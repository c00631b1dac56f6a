//! One archive file as a stream of members, with errors that name the file and the place.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::codec::{Compression, Coverage, Decoded, open};
use super::readahead::ReadAhead;
use super::tar::{Input, Member, Members};
use crate::error::{At, Error, Kind, Result};
use crate::sys::dir::Dir;

/// An archive that is being read.
pub(super) struct ArchiveStream {
    members: Members<Box<dyn Input + Send>>,
    path: PathBuf,
    read: Arc<AtomicU64>,
    size: u64,
    compression: Compression,
    coverage: Coverage,
}

impl ArchiveStream {
    /// Opens the archive to read all of it: reading and decompressing go on in a second thread, one bounded step ahead.
    pub(super) fn open(path: &Path) -> Result<ArchiveStream> {
        ArchiveStream::start(path, |_, decoded| Ok(Box::new(Streamed(Box::new(ReadAhead::new(decoded)?)))))
    }

    /// Opens the archive to look at some members: an archive that is not compressed is seeked through.
    pub(super) fn skim(path: &Path) -> Result<ArchiveStream> {
        ArchiveStream::start(path, |(file, read), decoded| match file {
            Some(mut file) => {
                file.rewind()?;
                Ok(Box::new(Seeked { left: file.metadata()?.len(), input: BufReader::new(Counted { input: file, read }) }))
            }
            None => Ok(Box::new(Streamed(decoded))),
        })
    }

    fn start(path: &Path, input: impl FnOnce(Seekable, Decoded) -> io::Result<Box<dyn Input + Send>>) -> Result<ArchiveStream> {
        let dir = Dir::open(path.parent().unwrap_or(Path::new("/")))?;
        let file = dir.open_file(path.file_name().unwrap_or(OsStr::new("")))?;
        let size = file.metadata().at("examine", path)?.len();
        let read = Arc::new(AtomicU64::new(0));
        let again = file.try_clone().at("duplicate the descriptor of", path)?;
        let counted = Counted { input: file, read: Arc::clone(&read) };
        let stream = open(counted).map_err(|e| damage(path, &e, String::new()))?;
        let (compression, coverage) = (stream.compression, stream.coverage);
        // Both descriptors share one position: whoever uses the second leaves the decoder alone.
        let again = (compression == Compression::Plain).then_some(again);
        let input = input((again, Arc::clone(&read)), stream.content).at("read", path)?;
        Ok(ArchiveStream { members: Members::new(input), path: path.to_path_buf(), read, size, compression, coverage })
    }

    /// The next member; `None` only where the archive is complete.
    pub(super) fn next_member(&mut self) -> Result<Option<Member>> {
        self.members.next_member().map_err(|e| self.damaged(&e))
    }

    /// Content of the current member; 0 at its end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.members.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(|e| self.damaged(&e)),
            }
        }
    }

    /// Bytes of the file read so far.
    pub(super) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes of the unpacked stream consumed so far.
    pub(super) fn unpacked(&self) -> u64 {
        self.members.offset()
    }

    /// What looking has cost so far: bytes read, or unpacked where it is compressed.
    pub(super) fn cost(&self) -> u64 {
        if self.compression == Compression::Plain { self.bytes_read() } else { self.unpacked() }
    }

    /// How the file is compressed.
    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// Whether checksums cover the content, as far as it was read.
    pub(super) fn is_covered(&self) -> bool {
        self.coverage.is_whole()
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// An error about the current place in the archive.
    pub(super) fn damaged(&self, e: &io::Error) -> Error {
        let place = format!(", at byte {} unpacked, {} of {} bytes of the file read", self.unpacked(), self.bytes_read(), self.size);
        damage(&self.path, e, place)
    }
}

/// What the system could not do has a number; everything else is the archive's own fault.
fn damage(path: &Path, e: &io::Error, place: String) -> Error {
    let path = path.display();
    if e.raw_os_error().is_some() {
        Error::failed(format!("read {path}")).cause(e)
    } else if e.kind() == io::ErrorKind::Unsupported {
        Error::new(Kind::Refused, format!("{path} cannot be used as a backup")).cause(e)
    } else {
        Error::new(Kind::Check, format!("{path} is damaged"))
            .cause(format!("{e}{place}"))
            .hint("Choose another backup with --backup; `pitr verify backups` shows which are whole.")
    }
}

/// A second descriptor of a file that is not compressed, and the counter of what is read.
type Seekable = (Option<File>, Arc<AtomicU64>);

struct Streamed(Decoded);

impl Read for Streamed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Input for Streamed {}

struct Seeked {
    input: BufReader<Counted<File>>,
    left: u64,
}

impl Read for Seeked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}

impl Input for Seeked {
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        let bytes = bytes.min(self.left);
        self.input.seek_relative(i64::try_from(bytes).map_err(io::Error::other)?)?;
        self.left -= bytes;
        Ok(bytes)
    }
}

struct Counted<R> {
    input: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.input.seek(to)
    }
}
