//! Compressed streams, told apart by their first bytes, never by their names.
//!
//! Every decoder here takes several members or frames after each other and reports a stream that ends early as
//! [`io::ErrorKind::UnexpectedEof`]. A new format is one arm in [`decoder`].

use std::io::{self, BufReader, Cursor, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};

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
const MAGIC: [(&[u8], Compression); 6] = [
    (&[0x1f, 0x8b], Compression::Gzip),
    (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
    (&[0x04, 0x22, 0x4d, 0x18], Compression::Lz4),
    (b"BZh", Compression::Bzip2),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
    // A zstd skippable frame, which pzstd writes first.
    (&[0x50, 0x2a, 0x4d, 0x18], Compression::Zstd),
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
        matches!(self, Compression::Plain | Compression::Gzip)
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

/// Decompresses `input` by its first bytes. A format that is not read yet is [`io::ErrorKind::Unsupported`] and named.
pub fn decoder(mut input: impl Read + Send + 'static) -> io::Result<(Compression, Decoded)> {
    let mut head = Vec::new();
    input.by_ref().take(LONGEST_MAGIC).read_to_end(&mut head)?;
    let compression = Compression::of_bytes(&head);
    let whole = Cursor::new(head).chain(input);
    let decoded: Decoded = match compression {
        Compression::Plain => Box::new(whole),
        Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(CHUNK, whole))),
        other => return Err(io::Error::new(io::ErrorKind::Unsupported, format!("compressed with {other}, which cannot be read yet"))),
    };
    Ok((compression, decoded))
}

/// Bytes of one buffer between two threads; large enough that handing it over costs nothing beside filling it.
const CHUNK: usize = 256 << 10;

/// Buffers in flight: with four neither side waits for the other's jitter.
const CHUNKS: usize = 4;

/// Reads `source` ahead on its own thread, so that decompression runs beside what the caller does with the bytes. At most
/// [`CHUNKS`] buffers exist. Dropping it ends the thread.
pub struct ReadAhead {
    full: Option<Receiver<io::Result<Vec<u8>>>>,
    spare: SyncSender<Vec<u8>>,
    current: Cursor<Vec<u8>>,
    ended: bool,
    thread: Option<JoinHandle<()>>,
}

impl ReadAhead {
    /// Starts reading.
    pub fn new(source: Decoded) -> io::Result<ReadAhead> {
        let (full_in, full) = sync_channel(CHUNKS);
        let (spare, spare_out) = sync_channel(CHUNKS + 1);
        let thread = std::thread::Builder::new().name("decompress".into()).spawn(move || fill(source, &full_in, &spare_out))?;
        Ok(ReadAhead { full: Some(full), spare, current: Cursor::new(Vec::new()), ended: false, thread: Some(thread) })
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        match self.full.as_ref().map(Receiver::recv) {
            Some(Ok(Ok(chunk))) => {
                let empty = std::mem::replace(&mut self.current, Cursor::new(chunk)).into_inner();
                // A spare buffer that finds no place is freed.
                let _ = self.spare.try_send(empty);
                Ok(())
            }
            Some(Ok(Err(e))) => {
                self.ended = true;
                Err(e)
            }
            _ => {
                self.ended = true;
                self.current = Cursor::new(Vec::new());
                Ok(())
            }
        }
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.current.read(buffer)?;
            if n > 0 || buffer.is_empty() || self.ended {
                return Ok(n);
            }
            self.next_chunk()?;
        }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        // Without a receiver the thread's next send fails and it ends.
        self.full = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was already seen here as the end of the stream.
            let _ = thread.join();
        }
    }
}

fn fill(mut source: Decoded, full: &SyncSender<io::Result<Vec<u8>>>, spare: &Receiver<Vec<u8>>) {
    loop {
        let mut chunk = spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        chunk.clear();
        let read = source.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
        // What came before an error is still handed over: the reader names the place where the stream broke.
        let at_end = chunk.is_empty();
        if (!at_end && full.send(Ok(chunk)).is_err()) || (at_end && read.is_ok()) {
            return;
        }
        if let Err(e) = read {
            // Nobody waits for the error where the receiver is gone.
            let _ = full.send(Err(e));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        ReadAhead::new(decoder(Cursor::new(bytes))?.1)?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn sample() -> Vec<u8> {
        (0..300_000_u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 20).to_le_bytes()).collect()
    }

    #[test]
    fn several_members_are_one_stream() {
        let sample = sample();
        let (first, second) = sample.split_at(400_000);
        assert_eq!(decode([gzip(first), gzip(second)].concat()).unwrap(), sample);
        assert_eq!(decode(sample.clone()).unwrap(), sample);
        assert_eq!(decode(Vec::new()).unwrap(), b"");
        assert_eq!(decode(b"ab".to_vec()).unwrap(), b"ab");
    }

    #[test]
    fn a_gzip_stream_cut_anywhere_is_an_error() {
        let whole = gzip(&sample()[..3000]);
        for length in 2..whole.len() {
            let error = decode(whole[..length].to_vec()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {length}: {error}");
        }
    }

    #[test]
    fn a_flipped_byte_never_changes_the_content_unnoticed() {
        let plain = &sample()[..3000];
        let whole = gzip(plain);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            // Flags, time and system in the header are not content; a broken magic makes it another (plain) stream.
            if let Ok(out) = decode(bytes) {
                assert!(at < 2 || (at < 10 && out == plain), "byte {at}");
            }
        }
    }

    #[test]
    fn formats_that_cannot_be_read_are_named() {
        for (magic, format) in MAGIC {
            if !format.is_readable() {
                let error = decoder(Cursor::new(magic.to_vec())).err().unwrap();
                assert!(error.to_string().contains(&format.to_string()));
            }
        }
        assert_eq!(Compression::of_name("base.tar.gz"), (Compression::Gzip, "base.tar"));
        assert_eq!(Compression::of_name("base.tar"), (Compression::Plain, "base.tar"));
    }

    #[test]
    fn a_reader_that_is_dropped_early_ends_its_thread() {
        let (_, endless) = decoder(io::repeat(7)).unwrap();
        let mut ahead = ReadAhead::new(endless).unwrap();
        ahead.read_exact(&mut [0; 1000]).unwrap();
        drop(ahead);
    }
}
