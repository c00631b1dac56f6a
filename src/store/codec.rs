//! Compressed streams, told apart by their first bytes, never by their names.
//!
//! Every decoder here takes several members or frames after each other, reports a stream that ends early as
//! [`io::ErrorKind::UnexpectedEof`], and needs no more memory than [`LARGEST_WINDOW`] and some buffers, whatever the stream asks for.
//! A new format is one arm in [`open`].

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use super::lz4::Lz4;
use super::zstd::Zstd;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not compressed, or nothing that is known here.
    #[default]
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// LZ4 frame format.
    Lz4,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

/// First bytes of each format.
const MAGIC: [(&[u8], Compression); 5] = [
    (&[0x1f, 0x8b], Compression::Gzip),
    (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
    (&[0x04, 0x22, 0x4d, 0x18], Compression::Lz4),
    (b"BZh", Compression::Bzip2),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
];

const LONGEST_MAGIC: u64 = 6;

/// File name suffixes; only for listings, content decides.
const SUFFIXES: [(&str, Compression); 6] = [
    (".gz", Compression::Gzip),
    (".zst", Compression::Zstd),
    (".zstd", Compression::Zstd),
    (".lz4", Compression::Lz4),
    (".bz2", Compression::Bzip2),
    (".xz", Compression::Xz),
];

impl Compression {
    /// The format of a stream that starts with `head`.
    pub fn of_bytes(head: &[u8]) -> Compression {
        MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map_or(Compression::Plain, |(_, format)| *format)
    }

    /// The format a file name claims, and the name without that suffix.
    pub fn of_name(name: &str) -> (Compression, &str) {
        SUFFIXES
            .iter()
            .find_map(|(suffix, format)| name.strip_suffix(suffix).map(|stem| (*format, stem)))
            .unwrap_or((Compression::Plain, name))
    }

    /// Whether [`decoder`] reads it.
    pub fn is_readable(self) -> bool {
        matches!(self, Compression::Plain | Compression::Gzip | Compression::Zstd | Compression::Lz4)
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Compression::Plain => "plain",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Lz4 => "lz4",
            Compression::Bzip2 => "bzip2",
            Compression::Xz => "xz",
        })
    }
}

/// A stream of decompressed bytes.
pub type Decoded = Box<dyn Read + Send>;

/// A stream that was recognised.
pub struct Stream {
    /// Its format.
    pub compression: Compression,
    /// Its content.
    pub content: Decoded,
    /// Whether checksums cover the content.
    pub coverage: Coverage,
}

/// Whether checksums cover a stream's content, as far as it was read. The flag is a frame's own, and each frame may have another:
/// only at the end of the stream is the answer final. The decoders compare every checksum that is there.
#[derive(Debug, Clone, Default)]
pub struct Coverage(Arc<AtomicU8>);

const COVERED: u8 = 1;
const BARE: u8 = 2;

impl Coverage {
    /// At least one frame or member was begun, and each one carries a checksum.
    pub fn is_whole(&self) -> bool {
        self.0.load(Ordering::Acquire) == COVERED
    }

    /// A frame begins, with a checksum or without.
    pub(super) fn frame(&self, checksum: bool) {
        self.0.fetch_or(if checksum { COVERED } else { BARE }, Ordering::Release);
    }
}

/// Decompresses `input` by its first bytes; [`open`] without what is said about checksums.
pub fn decoder(input: impl Read + Send + 'static) -> io::Result<(Compression, Decoded)> {
    open(input).map(|stream| (stream.compression, stream.content))
}

/// Decompresses `input` by its first bytes. A format that is not read is [`io::ErrorKind::Unsupported`] and named, as is a stream
/// that asks for more memory than is given.
pub fn open(mut input: impl Read + Send + 'static) -> io::Result<Stream> {
    let mut head = Vec::new();
    input.by_ref().take(LONGEST_MAGIC).read_to_end(&mut head)?;
    let mut offset = 0;
    // pzstd puts such a frame first; it is part of both formats, so what follows decides.
    while is_skippable(&head) {
        offset = skip_frame(&mut input, &mut head, offset)?;
    }
    let compression = Compression::of_bytes(&head);
    let whole = Cursor::new(head).chain(input);
    let coverage = Coverage::default();
    let content: Decoded = match compression {
        Compression::Plain if offset > 0 => return Err(no_frame(offset)),
        Compression::Plain => Box::new(whole),
        Compression::Gzip => {
            // Every member ends with a CRC-32 of its content.
            coverage.frame(true);
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(CHUNK, whole)))
        }
        Compression::Zstd => Box::new(Zstd::new(BufReader::with_capacity(CHUNK, whole), offset, coverage.clone())?),
        Compression::Lz4 => Box::new(Lz4::new(BufReader::with_capacity(CHUNK, whole), offset, coverage.clone())),
        other => return Err(io::Error::new(io::ErrorKind::Unsupported, format!("compressed with {other}, which cannot be read yet"))),
    };
    Ok(Stream { compression, content, coverage })
}

/// Whether checksums cover the beginning of `input`: the flag of its first frame.
pub fn begins_covered(input: impl Read + Send + 'static) -> io::Result<bool> {
    let mut stream = open(input)?;
    let _ = stream.content.read(&mut [0])?;
    Ok(stream.coverage.is_whole())
}

/// The most memory that a stream may ask for to look back into, in bytes: what `zstd` itself grants without `--long` or `--memory`.
pub const LARGEST_WINDOW: u64 = 128 << 20;

/// Bytes of one buffer; large enough that handing it over costs nothing beside filling it.
pub(super) const CHUNK: usize = 256 << 10;

/// The sixteen magics of skippable frames (RFC 8878, 3.1.2; the LZ4 frame format has the same).
pub(super) fn is_skippable(magic: &[u8]) -> bool {
    matches!(magic, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// Passes over a skippable frame at `offset`, whose first bytes are `head`; afterwards `head` are those of the next frame. Returns
/// where that one begins.
fn skip_frame(input: &mut impl Read, head: &mut Vec<u8>, offset: u64) -> io::Result<u64> {
    let header = head.split_off(head.len().min(4));
    let mut rest = Cursor::new(header).chain(input);
    let size = skip_body(&mut rest, offset)?;
    head.clear();
    rest.take(LONGEST_MAGIC).read_to_end(head)?;
    let next = offset + 8 + size;
    if head.is_empty() { Err(no_frame(next)) } else { Ok(next) }
}

/// Passes over what follows the magic of a skippable frame that begins at `offset`: four bytes of size, and as many bytes.
pub(super) fn skip_body(input: &mut impl Read, offset: u64) -> io::Result<u64> {
    let mut size = [0; 4];
    input.read_exact(&mut size).map_err(|e| placed(e, "skippable", offset))?;
    let size = u64::from(u32::from_le_bytes(size));
    match io::copy(&mut input.take(size), &mut io::sink())? {
        skipped if skipped < size => Err(cut("skippable", offset)),
        _ => Ok(size),
    }
}

/// Whether nothing follows.
pub(super) fn at_end(input: &mut impl BufRead) -> io::Result<bool> {
    loop {
        match input.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(<[u8]>::is_empty),
        }
    }
}

/// A frame that ends too early.
pub(super) fn cut(format: &str, offset: u64) -> io::Error {
    placed(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is truncated"), format, offset)
}

/// The error of a decoder, with the place. What the system could not do stays as it is.
pub(super) fn placed(e: io::Error, format: &str, offset: u64) -> io::Error {
    if e.raw_os_error().is_some() || e.kind() == io::ErrorKind::Interrupted {
        return e;
    }
    let kind = match e.kind() {
        kind @ (io::ErrorKind::UnexpectedEof | io::ErrorKind::Unsupported) => kind,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, format!("{e}, in the {format} frame that begins at byte {offset} of the file"))
}

fn no_frame(offset: u64) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("only skippable frames, and nothing known at byte {offset} of the file"))
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
