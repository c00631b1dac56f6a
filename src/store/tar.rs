//! Members of a tar stream, as hostile input: ustar, GNU long names, pax (POSIX.1-2008, GNU tar's `tar.h`).
//!
//! Unlike `tar::Archive` this reader takes nothing for granted: a stream without its end marker, with data behind it, with a wrong
//! header checksum or with sparse members is an error and never a shorter archive. Nothing is written here, and a path is bytes.

use std::io::{self, Read};

use tar::Header;

const BLOCK: usize = 512;

/// A longer name or link target does not exist on Linux (`PATH_MAX` is 4096).
const LONGEST_NAME: u64 = 16 << 10;

/// A larger pax header carries something else than names and times.
const LARGEST_PAX: u64 = 1 << 20;

/// Zeros after the end marker: tar pads to its blocking factor, which is 10 KiB, rarely 1 MiB.
const LONGEST_PADDING: u64 = 64 << 20;

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Link(Vec<u8>),
    /// A second name of an earlier member.
    HardLink,
    /// A device, fifo or something unknown: its type flag.
    Other(u8),
}

/// One member's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The path as stored: may be absolute or contain `..`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Bytes of content.
    pub size: u64,
}

/// Where a tar stream comes from.
pub trait Input: Read {
    /// Moves on by `bytes`, or to the end where there are fewer; says by how many.
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        io::copy(&mut <&mut Self as Read>::take(self, bytes), &mut io::sink())
    }
}

impl<T: AsRef<[u8]>> Input for io::Cursor<T> {}

impl<I: Input + ?Sized> Input for Box<I> {
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        (**self).skip(bytes)
    }
}

/// Reads members one after the other; [`Read`] gives the content of the current one.
pub struct Members<R> {
    input: R,
    offset: u64,
    content: u64,
    padding: u64,
    ended: bool,
}

impl<R: Input> Members<R> {
    /// Reads from the first byte of a tar stream.
    pub fn new(input: R) -> Members<R> {
        Members { input, offset: 0, content: 0, padding: 0, ended: false }
    }

    /// Bytes of the (unpacked) stream consumed so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next member; `None` only after a complete end marker with nothing but zeros behind it. What was not read of the current
    /// content is skipped.
    pub fn next_member(&mut self) -> io::Result<Option<Member>> {
        let (mut long_path, mut long_target) = (None, None);
        let mut pax = Pax::default();
        while !self.ended {
            self.skip_content()?;
            let Some(header) = self.header()? else { break };
            let flag = type_flag(&header);
            let mut size = header.entry_size()?;
            if !matches!(flag, b'L' | b'K' | b'x' | b'g') {
                size = pax.size.unwrap_or(size);
            }
            self.content = size;
            self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
            match flag {
                b'L' => long_path = Some(self.long_name()?),
                b'K' => long_target = Some(self.long_name()?),
                b'x' => pax = Pax::parse(&self.whole_content(LARGEST_PAX)?)?,
                b'g' => Pax::parse(&self.whole_content(LARGEST_PAX)?)?.refuse_global()?,
                b'S' => return Err(sparse()),
                _ => {
                    let path = pax.path.or(long_path).unwrap_or_else(|| header.path_bytes().into_owned());
                    let target = pax.target.or(long_target).or_else(|| header.link_name_bytes().map(Into::into)).unwrap_or_default();
                    return member(flag, path, target, size).map(Some);
                }
            }
        }
        if long_path.is_some() || long_target.is_some() || pax.size.is_some() || pax.path.is_some() {
            return Err(invalid("the archive ends after a header that announces a member"));
        }
        Ok(None)
    }

    /// A header block whose checksum is right; `None` at the end marker.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        if !self.fill(header.as_mut_bytes())? {
            return Err(truncated());
        }
        if header.as_bytes().iter().all(|b| *b == 0) {
            self.end()?;
            return Ok(None);
        }
        // The checksum counts its own eight bytes as spaces.
        let bytes = header.as_bytes().iter().enumerate();
        let sum: u32 = bytes.map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
        match header.cksum() {
            Ok(stored) if stored == sum => Ok(Some(header)),
            _ => Err(invalid("not a tar header (wrong checksum)")),
        }
    }

    /// After the first zero block: a second one, then zeros to the end of the stream. Reading to the end also lets a decompressor
    /// check its own checksum.
    fn end(&mut self) -> io::Result<()> {
        self.ended = true;
        let mut block = [0; BLOCK];
        if !self.fill(&mut block)? {
            return Err(truncated());
        }
        let mut buffer = vec![0; 64 << 10];
        let mut padding = 0;
        let mut part: &[u8] = &block;
        loop {
            if part.iter().any(|b| *b != 0) {
                return Err(invalid("data after the end marker of the archive"));
            }
            let n = self.input.read(&mut buffer)?;
            self.offset += n as u64;
            padding += n as u64;
            if n == 0 {
                return Ok(());
            }
            if padding > LONGEST_PADDING {
                return Err(invalid("endless padding after the end marker of the archive"));
            }
            part = buffer.get(..n).unwrap_or_default();
        }
    }

    /// Fills `block`; `false` when the stream ends inside or before it.
    fn fill(&mut self, mut block: &mut [u8]) -> io::Result<bool> {
        while !block.is_empty() {
            let n = self.input.read(block)?;
            if n == 0 {
                return Ok(false);
            }
            self.offset += n as u64;
            block = block.get_mut(n..).unwrap_or_default();
        }
        Ok(true)
    }

    fn skip_content(&mut self) -> io::Result<()> {
        let left = self.content.checked_add(self.padding).ok_or_else(|| invalid("a member larger than any file"))?;
        let skipped = self.input.skip(left)?;
        self.offset += skipped;
        (self.content, self.padding) = (0, 0);
        if skipped < left { Err(truncated()) } else { Ok(()) }
    }

    fn whole_content(&mut self, largest: u64) -> io::Result<Vec<u8>> {
        if self.content > largest {
            return Err(invalid("a header extension larger than any name"));
        }
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// GNU long names end with a zero byte.
    fn long_name(&mut self) -> io::Result<Vec<u8>> {
        let mut name = self.whole_content(LONGEST_NAME)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }
}

impl<R: Input> Read for Members<R> {
    /// Content of the current member; a stream that ends inside it is an error and not an end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
        let Some(part) = buffer.get_mut(..most).filter(|p| !p.is_empty()) else { return Ok(0) };
        let n = self.input.read(part)?;
        if n == 0 {
            return Err(truncated());
        }
        self.offset += n as u64;
        self.content -= n as u64;
        Ok(n)
    }
}

fn member(flag: u8, path: Vec<u8>, target: Vec<u8>, size: u64) -> io::Result<Member> {
    let kind = match flag {
        // Before ustar a directory was a file whose name ends with a slash.
        0 | b'0' | b'7' if path.ends_with(b"/") => MemberKind::Directory,
        0 | b'0' | b'7' => MemberKind::File,
        b'1' => MemberKind::HardLink,
        b'2' => MemberKind::Link(target),
        b'5' => MemberKind::Directory,
        other => MemberKind::Other(other),
    };
    if size > 0 && !matches!(kind, MemberKind::File | MemberKind::Other(_)) {
        // Readers disagree whether such content follows, so no two of them see the same archive.
        return Err(invalid("a link or directory with content"));
    }
    Ok(Member { path, kind, size })
}

fn type_flag(header: &Header) -> u8 {
    header.as_old().linkflag.first().copied().unwrap_or(0)
}

/// The records of a pax extended header that change what a member is.
#[derive(Debug, Default)]
struct Pax {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Pax {
    /// Records are `length key=value\n`; the length counts all of the record, so that a value may contain a newline.
    fn parse(mut bytes: &[u8]) -> io::Result<Pax> {
        let bad = || invalid("a malformed pax header");
        let mut pax = Pax::default();
        while !bytes.is_empty() {
            let space = bytes.iter().position(|b| *b == b' ').ok_or_else(bad)?;
            let length = bytes.get(..space).and_then(decimal).and_then(|n| usize::try_from(n).ok()).ok_or_else(bad)?;
            let record = bytes.get(space + 1..length).and_then(|r| r.strip_suffix(b"\n")).ok_or_else(bad)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
            let (key, value) = (record.get(..equals).unwrap_or_default(), record.get(equals + 1..).unwrap_or_default());
            match key {
                b"path" => pax.path = Some(value.to_vec()),
                b"linkpath" => pax.target = Some(value.to_vec()),
                b"size" => pax.size = Some(decimal(value).ok_or_else(bad)?),
                key if key.starts_with(b"GNU.sparse.") => return Err(sparse()),
                _ => {}
            }
            bytes = bytes.get(length..).unwrap_or_default();
        }
        Ok(pax)
    }

    /// A global header may carry a comment; one that renames or resizes every member is no backup.
    fn refuse_global(self) -> io::Result<()> {
        match self {
            Pax { path: None, target: None, size: None } => Ok(()),
            _ => Err(invalid("a global pax header that sets names or sizes")),
        }
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is truncated")
}

fn sparse() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "a sparse member, which is not supported: make the archive without tar's --sparse")
}

#[cfg(test)]
#[path = "tar_tests.rs"]
mod tests;
