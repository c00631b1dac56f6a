//! LZ4 frames one after the other (`lz4_Frame_format.md` of the LZ4 project, version 1.6), as hostile input.
//!
//! `lz4_flex` decodes and compares checksums, but takes an end of the file between two blocks for the end of the frame. So each frame
//! is followed here by its own lengths, and is complete only behind its end mark.

use std::io::{self, BufRead, Read};

use lz4_flex::frame::FrameDecoder;

use super::codec::{Coverage, at_end, cut, is_skippable, placed, skip_body};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// A stream of frames.
pub(super) struct Lz4<R: Read> {
    state: State<R>,
    /// Where the current frame begins.
    begin: u64,
    coverage: Coverage,
}

enum State<R: Read> {
    Between(R),
    Inside(FrameDecoder<Frame<R>>),
    Ended,
    /// An error was reported.
    Failed,
}

impl<R: BufRead> Lz4<R> {
    /// Reads from the magic of the first frame, which is `offset` bytes from the beginning of the file.
    pub(super) fn new(input: R, offset: u64, coverage: Coverage) -> Lz4<R> {
        Lz4 { state: State::Between(input), begin: offset, coverage }
    }

    /// The next frame after the skippable ones; `None` at the end of the stream.
    fn next_frame(&mut self, mut input: R) -> io::Result<Option<Frame<R>>> {
        loop {
            if at_end(&mut input)? {
                return Ok(None);
            }
            let mut magic = [0; 4];
            input.read_exact(&mut magic).map_err(|e| placed(e, "lz4", self.begin))?;
            if is_skippable(&magic) {
                self.begin += 8 + skip_body(&mut input, self.begin)?;
                continue;
            }
            if magic != MAGIC {
                let what = io::Error::new(io::ErrorKind::InvalidData, "what follows is no lz4 frame");
                return Err(placed(what, "lz4", self.begin));
            }
            let mut flags = [0];
            input.read_exact(&mut flags).map_err(|e| placed(e, "lz4", self.begin))?;
            let [flags] = flags;
            let frame = Frame::new(input, flags);
            self.coverage.frame(frame.content_checksum || frame.block_checksums);
            return Ok(Some(frame));
        }
    }
}

impl<R: BufRead> Read for Lz4<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match std::mem::replace(&mut self.state, State::Failed) {
                State::Between(input) => match self.next_frame(input)? {
                    // A decoder for each frame: its buffers fit one block size only.
                    Some(frame) => self.state = State::Inside(FrameDecoder::new(frame)),
                    None => {
                        self.state = State::Ended;
                        return Ok(0);
                    }
                },
                State::Inside(mut decoder) => {
                    let n = decoder.read(buffer);
                    let frame = decoder.get_ref();
                    match n {
                        Ok(0) if frame.is_complete() => {
                            self.begin += frame.offset;
                            self.state = State::Between(decoder.into_inner().input);
                        }
                        Ok(0) if frame.cut => return Err(cut("lz4", self.begin)),
                        // Without content: an empty block.
                        Ok(0) => self.state = State::Inside(decoder),
                        Ok(n) => {
                            self.state = State::Inside(decoder);
                            return Ok(n);
                        }
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                            self.state = State::Inside(decoder);
                            return Err(e);
                        }
                        Err(_) if frame.cut => return Err(cut("lz4", self.begin)),
                        Err(e) => return Err(placed(e, "lz4", self.begin)),
                    }
                }
                State::Ended => {
                    self.state = State::Ended;
                    return Ok(0);
                }
                State::Failed => return Err(io::Error::other("the lz4 stream is broken")),
            }
        }
    }
}

/// The bytes of one frame: ends with it, and knows whether all of it was there.
struct Frame<R: Read> {
    input: R,
    /// Magic and flags, which were read to recognise it.
    head: [u8; 5],
    part: Part,
    /// Bytes left of the part.
    left: u64,
    /// The block length as far as it was read.
    length: u32,
    /// Bytes read of the frame.
    offset: u64,
    block_checksums: bool,
    content_checksum: bool,
    /// The input ended inside.
    cut: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Header,
    Length,
    Block,
    Checksum,
    End,
}

/// A block that is stored uncompressed has this bit in its length.
const STORED: u32 = 1 << 31;

impl<R: Read> Frame<R> {
    fn new(input: R, flags: u8) -> Frame<R> {
        let has = |bit: u8| flags & bit != 0;
        let [a, b, c, d] = MAGIC;
        // Magic, flags, block descriptor, checksum of the header; content size and dictionary id where there are.
        let left = 7 + if has(0x08) { 8 } else { 0 } + if has(0x01) { 4 } else { 0 };
        let (block_checksums, content_checksum) = (has(0x10), has(0x04));
        let head = [a, b, c, d, flags];
        Frame { input, head, part: Part::Header, left, length: 0, offset: 0, block_checksums, content_checksum, cut: false }
    }

    fn is_complete(&self) -> bool {
        self.part == Part::End
    }

    /// Bytes of the current part were read.
    fn passed(&mut self, bytes: &[u8]) {
        if self.part == Part::Length {
            self.length = bytes.iter().fold(self.length, |length, byte| length >> 8 | u32::from(*byte) << 24);
        }
        self.offset += bytes.len() as u64;
        self.left = self.left.saturating_sub(bytes.len() as u64);
        // A stored block may have no bytes at all.
        while self.left == 0 && self.part != Part::End {
            (self.part, self.left) = self.next_part();
        }
    }

    fn next_part(&self) -> (Part, u64) {
        match self.part {
            Part::Length if self.length == 0 && self.content_checksum => (Part::Checksum, 4),
            Part::Length if self.length == 0 => (Part::End, 0),
            Part::Length => (Part::Block, u64::from(self.length & !STORED) + if self.block_checksums { 4 } else { 0 }),
            Part::Header | Part::Block => (Part::Length, 4),
            Part::Checksum | Part::End => (Part::End, 0),
        }
    }
}

impl<R: Read> Read for Frame<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(part) = buffer.get_mut(..most).filter(|part| !part.is_empty()) else { return Ok(0) };
        let head = usize::try_from(self.offset).ok().and_then(|at| self.head.get(at..)).unwrap_or_default();
        let n = if head.is_empty() { self.input.read(part)? } else { (&mut &*head).read(part)? };
        self.cut |= n == 0;
        let bytes = part.get(..n).unwrap_or_default();
        self.passed(bytes);
        Ok(n)
    }
}
