//! Zstandard frames one after the other (RFC 8878), as hostile input.
//!
//! What a frame asks for is read before libzstd sees it: a window above [`LARGEST_WINDOW`] costs an error and no memory. Whether
//! a frame carries a checksum is said while it is decoded; libzstd compares it.

use std::io::{self, BufRead, Read};

use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::codec::{Coverage, LARGEST_WINDOW, at_end, cut, is_skippable, placed, skip_body};

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// `ZSTD_MAGICNUMBER`, frame header descriptor, window descriptor, dictionary id, frame content size at their longest.
const LONGEST_HEADER: usize = 4 + 1 + 1 + 4 + 8;

/// A stream of frames.
pub(super) struct Zstd<R> {
    input: R,
    decoder: Decoder<'static>,
    /// Header of the current frame, and how much of it the decoder has taken.
    header: Vec<u8>,
    taken: usize,
    inside: bool,
    /// Where the current frame begins, and how far the input was read.
    begin: u64,
    offset: u64,
    coverage: Coverage,
}

impl<R: BufRead> Zstd<R> {
    /// Reads from the magic of the first frame, which is `offset` bytes from the beginning of the file.
    pub(super) fn new(input: R, offset: u64, coverage: Coverage) -> io::Result<Zstd<R>> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(LARGEST_WINDOW.ilog2()))?;
        let header = Vec::with_capacity(LONGEST_HEADER);
        Ok(Zstd { input, decoder, header, taken: 0, inside: false, begin: offset, offset, coverage })
    }

    /// Reads the next frame's header; `false` at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            self.begin = self.offset;
            self.header.clear();
            self.taken = 0;
            if at_end(&mut self.input)? {
                return Ok(false);
            }
            self.extend_header(4)?;
            if !is_skippable(&self.header) {
                break;
            }
            self.offset += 4 + skip_body(&mut self.input, self.begin)? + 4;
        }
        if self.header != MAGIC {
            return Err(self.wrong(io::ErrorKind::InvalidData, "what follows is no zstd frame"));
        }
        self.extend_header(1)?;
        let descriptor = self.header.last().copied().unwrap_or(0);
        self.check_window(descriptor)?;
        self.coverage.frame(descriptor & 0b100 != 0);
        self.decoder.reinit()?;
        self.inside = true;
        Ok(true)
    }

    /// RFC 8878, 3.1.1.1: the window is given by its descriptor, or is the whole content of a frame that is one segment.
    fn check_window(&mut self, descriptor: u8) -> io::Result<()> {
        let window = if descriptor & 0b10_0000 == 0 {
            let byte = self.extend_header(1)?.first().copied().unwrap_or(0);
            let base = 1_u64 << (10 + (byte >> 3));
            base + base / 8 * u64::from(byte & 7)
        } else {
            self.extend_header([0, 1, 2, 4].get(usize::from(descriptor & 3)).copied().unwrap_or(0))?;
            let size = self.extend_header([1, 2, 4, 8].get(usize::from(descriptor >> 6)).copied().unwrap_or(0))?;
            size.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        if window > LARGEST_WINDOW {
            let what = format!("it needs a window of {window} bytes, and no more than {LARGEST_WINDOW} are given (zstd --long)");
            return Err(self.wrong(io::ErrorKind::Unsupported, what));
        }
        Ok(())
    }

    fn extend_header(&mut self, bytes: usize) -> io::Result<&[u8]> {
        let before = self.header.len();
        let n = self.input.by_ref().take(bytes as u64).read_to_end(&mut self.header)?;
        self.offset += n as u64;
        if n < bytes {
            return Err(cut("zstd", self.begin));
        }
        Ok(self.header.get(before..).unwrap_or_default())
    }

    fn wrong(&self, kind: io::ErrorKind, what: impl Into<String>) -> io::Error {
        placed(io::Error::new(kind, what.into()), "zstd", self.begin)
    }

    /// One step of the decoder; bytes written to `buffer`.
    fn step(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let header = self.header.get(self.taken..).unwrap_or_default();
        let from_header = !header.is_empty();
        let source = if from_header { header } else { self.input.fill_buf()? };
        let at_end = source.is_empty();
        let status = self.decoder.run_on_buffers(source, buffer).map_err(|e| placed(e, "zstd", self.begin))?;
        if from_header {
            self.taken += status.bytes_read;
        } else {
            self.input.consume(status.bytes_read);
            self.offset += status.bytes_read as u64;
        }
        self.inside = status.remaining != 0;
        if self.inside && status.bytes_read == 0 && status.bytes_written == 0 {
            return Err(if at_end { cut("zstd", self.begin) } else { self.wrong(io::ErrorKind::InvalidData, "no progress") });
        }
        Ok(status.bytes_written)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside && !self.next_frame()? {
                return Ok(0);
            }
            let n = self.step(buffer)?;
            if n > 0 {
                return Ok(n);
            }
        }
    }
}
