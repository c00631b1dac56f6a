//! A segment seen through windows: only some of its pages are in memory at a time, whatever its size.
//!
//! Guarantees: every window begins at a page boundary of any block size that PostgreSQL can have, and every window but
//! the last ends at one.

use std::io::{self, ErrorKind, Read};

/// Bytes of a window: a multiple of the largest block size (64 KiB), and little enough to stay in a processor's cache
/// between being read and being looked at.
pub const WINDOW: usize = 256 << 10;

/// Some bytes of a segment.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// Offset of the first byte in the segment.
    start: usize,
    bytes: &'a [u8],
    /// The segment's bytes end with these.
    last: bool,
}

impl<'a> Window<'a> {
    /// A segment that is in memory as a whole.
    pub fn whole(bytes: &'a [u8]) -> Window<'a> {
        Window { start: 0, bytes, last: true }
    }

    /// From offset `at` of the segment to the end of the window; empty where that is not in it.
    pub fn from(&self, at: usize) -> &'a [u8] {
        at.checked_sub(self.start).and_then(|at| self.bytes.get(at..)).unwrap_or_default()
    }

    /// `length` bytes at offset `at` of the segment.
    pub fn get(&self, at: usize, length: usize) -> Option<&'a [u8]> {
        self.from(at).get(..length)
    }

    /// Offset behind the last byte; of the last window, the length of the whole.
    pub fn end(&self) -> usize {
        self.start + self.bytes.len()
    }

    /// What lies at offset `at` comes in a later window.
    pub fn is_before(&self, at: usize) -> bool {
        at >= self.end() && !self.last
    }
}

/// Windows of a stream, one after the other, in one buffer.
#[derive(Debug)]
pub struct Windows<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    length: usize,
    last: bool,
}

impl<R: Read> Windows<R> {
    /// The first window of `source`, in `buffer`, which is [`WINDOW`] bytes from then on.
    ///
    /// # Errors
    /// Those of the source.
    pub fn open(source: R, mut buffer: Vec<u8>) -> io::Result<Windows<R>> {
        buffer.resize(WINDOW, 0);
        let mut windows = Windows { source, buffer, start: 0, length: 0, last: false };
        windows.fill()?;
        Ok(windows)
    }

    /// Goes to the next window; the last one stays.
    ///
    /// # Errors
    /// Those of the source.
    pub fn advance(&mut self) -> io::Result<()> {
        if self.last {
            return Ok(());
        }
        self.start += self.length;
        self.length = 0;
        self.fill()
    }

    /// The window.
    pub fn window(&self) -> Window<'_> {
        Window { start: self.start, bytes: self.buffer.get(..self.length).unwrap_or_default(), last: self.last }
    }

    /// Gives the buffer back.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    fn fill(&mut self) -> io::Result<()> {
        while let Some(room) = self.buffer.get_mut(self.length..).filter(|room| !room.is_empty()) {
            match self.source.read(room) {
                Ok(0) => {
                    self.last = true;
                    return Ok(());
                }
                Ok(read) => self.length += read,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let few = buffer.len().min(70_001);
            self.0.read(&mut buffer[..few])
        }
    }

    #[test]
    fn windows_follow_each_other_and_the_last_one_stays() {
        let bytes: Vec<u8> = (0..2 * WINDOW + 5).map(|n| (n / 7) as u8).collect();
        for length in [0, 5, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 2 * WINDOW + 5] {
            let mut windows = Windows::open(Drops(&bytes[..length]), Vec::new()).unwrap();
            let mut seen = Vec::new();
            while windows.window().is_before(windows.window().end()) {
                assert_eq!(windows.window().from(seen.len()).len(), WINDOW);
                assert!(windows.window().from(seen.len() + WINDOW).is_empty() && windows.window().get(seen.len(), WINDOW + 1).is_none());
                seen.extend_from_slice(windows.window().from(seen.len()));
                windows.advance().unwrap();
            }
            assert_eq!(windows.window().end(), length);
            windows.advance().unwrap();
            seen.extend_from_slice(windows.window().from(seen.len()));
            assert_eq!(seen, &bytes[..length], "{length}");
        }
    }
}
