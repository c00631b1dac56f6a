//! The parts of a record's body (`DecodeXLogRecord`, xlogreader.c; access/xlogrecord.h): block references
//! with page images and data, replication origin, top-level transaction, main data.
//!
//! Blocks are told apart by their fork and relation, never by how many a kind of record "has": minor releases
//! have added some.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bytes::{chunk, u16, u32};
use super::page::Major;
use super::record::{HEADER, Header};

const BLOCK_SIZE: u32 = 8192;
const MAX_BLOCK_ID: u8 = 32;
const TOPLEVEL_XID: u8 = 252;
const ORIGIN: u8 = 253;
const LONG_DATA: u8 = 254;
const SHORT_DATA: u8 = 255;

const HAS_IMAGE: u8 = 0x10;
const HAS_DATA: u8 = 0x20;
const WILL_INIT: u8 = 0x40;
const SAME_RELATION: u8 = 0x80;
const IMAGE_HAS_HOLE: u8 = 0x01;

/// A relation's file (`RelFileNode`, from 16 on `RelFileLocator`): WAL knows relations only so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct RelationFile {
    /// OID of the tablespace; 1663 is `pg_default`, 1664 `pg_global`.
    pub tablespace: u32,
    /// OID of the database, 0 for shared catalogs.
    pub database: u32,
    /// File number (`relfilenode`).
    pub number: u32,
}

impl RelationFile {
    /// Reads the 12 bytes at `at`.
    pub(crate) fn parse(bytes: &[u8], at: usize) -> Option<RelationFile> {
        Some(RelationFile { tablespace: u32(bytes, at)?, database: u32(bytes, at + 4)?, number: u32(bytes, at + 8)? })
    }

    /// Made by `initdb`: below `FirstNormalObjectId` (access/transam.h). A catalog that was rewritten since has
    /// a higher number.
    pub fn is_catalog(self) -> bool {
        self.number < 16384
    }
}

impl fmt::Display for RelationFile {
    /// As `pg_waldump` prints it: `1663/5/16384`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tablespace, self.database, self.number)
    }
}

/// Fork of a relation (common/relpath.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fork {
    /// The rows.
    Main,
    /// Free space map.
    FreeSpace,
    /// Visibility map.
    Visibility,
    /// What an unlogged relation is reset to.
    Init,
}

impl Fork {
    /// The fork of this number.
    pub fn of(number: u32) -> Option<Fork> {
        Some(match number {
            0 => Fork::Main,
            1 => Fork::FreeSpace,
            2 => Fork::Visibility,
            3 => Fork::Init,
            _ => return None,
        })
    }
}

/// How a page image is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// PostgreSQL's own LZ.
    Pglz,
    /// A raw LZ4 block (15 and later).
    Lz4,
    /// A zstd frame (15 and later).
    Zstd,
}

/// A page as it was after the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Stored bytes.
    pub length: u16,
    /// Where the zeros that were left out begin.
    pub hole_offset: u16,
    /// How many zeros were left out.
    pub hole_length: u16,
    /// How the rest is stored.
    pub compression: Compression,
    /// Replay restores it; otherwise it is there for `wal_consistency_checking`.
    pub apply: bool,
}

/// One block reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// 0..=32, ascending within a record.
    pub id: u8,
    /// Fork.
    pub fork: Fork,
    /// Relation.
    pub relation: RelationFile,
    /// Number of the block in its fork.
    pub number: u32,
    /// Replay builds the page anew from this record.
    pub will_init: bool,
    /// The page image, if any.
    pub image: Option<Image>,
    /// Bytes of block data.
    pub data_length: u16,
}

/// Where the parts of a body lie; all sums were checked against the body's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Layout {
    /// Relation and fork of the first block reference, for a heap record of the page that is changed.
    pub first: Option<(RelationFile, Fork)>,
    /// Number of block references.
    pub blocks: u8,
    /// Bytes of page images.
    pub image_bytes: u32,
    /// Replication origin.
    pub origin: Option<u16>,
    /// Top-level transaction of the record's subtransaction (14 and later, wal_level logical).
    pub toplevel_xid: Option<u32>,
    /// Where images and block data begin.
    payload: u32,
    /// Where the main data begins; it ends with the body.
    main: u32,
}

impl Layout {
    /// Finds the parts of `body`, which follows a record's header. `None` when they do not add up to it.
    pub fn parse(body: &[u8], major: Major) -> Option<Layout> {
        let mut layout = Layout::default();
        layout.read(body, major).map(|()| layout)
    }

    /// The same in place: so that a layout that is made for every record is not copied.
    #[inline]
    pub(super) fn read(&mut self, body: &[u8], major: Major) -> Option<()> {
        *self = Layout::default();
        let mut headers = Headers { body, major, at: 0, relation: None, next_id: 0 };
        let (mut payload, mut main_length) = (0, 0);
        // The main data's header is the last one, and absent when there is none.
        while headers.at + payload < body.len() {
            let id = headers.byte()?;
            if id <= MAX_BLOCK_ID {
                let (image, data) = headers.pass_block(id, &mut self.first)?;
                self.blocks += 1;
                self.image_bytes += image;
                payload += image as usize + data;
                continue;
            }
            match id {
                SHORT_DATA => main_length = usize::from(headers.byte()?),
                LONG_DATA => main_length = headers.u32()? as usize,
                ORIGIN => self.origin = Some(headers.u16()?),
                TOPLEVEL_XID if major >= Major(14) => self.toplevel_xid = Some(headers.u32()?),
                _ => return None,
            }
            if id >= LONG_DATA {
                break;
            }
        }
        self.payload = u32::try_from(headers.at).ok()?;
        self.main = u32::try_from(headers.at + payload).ok()?;
        (headers.at + payload + main_length == body.len()).then_some(())
    }

    /// The parts of a checked record; those of one that was not kept whole are not looked for. `false` when they do not add up.
    #[inline]
    pub(super) fn read_checked(&mut self, header: &Header, body: &[u8], major: Major) -> bool {
        if body.len() + HEADER == header.total_length as usize {
            return self.read(body, major).is_some();
        }
        *self = Layout::default();
        true
    }

    /// The main data.
    pub fn main<'a>(&self, body: &'a [u8]) -> &'a [u8] {
        body.get(self.main as usize..).unwrap_or_default()
    }

    /// The block references in order, each with its image bytes and its data.
    pub fn blocks<'a>(&self, body: &'a [u8], major: Major) -> impl Iterator<Item = (Block, &'a [u8], &'a [u8])> {
        let mut headers = Headers { body, major, at: 0, relation: None, next_id: 0 };
        let mut at = self.payload as usize;
        (0..self.blocks).map_while(move |_| {
            let id = headers.byte()?;
            let block = headers.block(id)?;
            let image_end = at + block.image.map_or(0, |image| usize::from(image.length));
            let data_end = image_end + usize::from(block.data_length);
            let parts = (block, body.get(at..image_end)?, body.get(image_end..data_end)?);
            at = data_end;
            Some(parts)
        })
    }
}

/// Reads the headers at the body's beginning; none of them is aligned.
struct Headers<'a> {
    body: &'a [u8],
    major: Major,
    at: usize,
    relation: Option<RelationFile>,
    next_id: u8,
}

impl Headers<'_> {
    /// Checks a block header and goes behind it: bytes of its image and of its data. Every record comes here, so that
    /// only what is asked of each is read.
    #[inline]
    fn pass_block(&mut self, id: u8, first: &mut Option<(RelationFile, Fork)>) -> Option<(u32, usize)> {
        let [flags, low, high] = *chunk::<3>(self.body, self.at)?;
        self.at += 3;
        let data = usize::from(u16::from_le_bytes([low, high]));
        if id < self.next_id || (flags & HAS_DATA != 0) != (data != 0) || flags & 0x0F > 3 {
            return None;
        }
        self.next_id = id + 1;
        let image = if flags & HAS_IMAGE != 0 { u32::from(self.image()?.length) } else { 0 };
        match first {
            None => {
                let relation = RelationFile::parse(self.body, self.at).filter(|_| flags & SAME_RELATION == 0)?;
                *first = Some((relation, Fork::of(u32::from(flags & 0x0F))?));
                self.at += 16;
            }
            // The relation of an earlier block, or one that is read when it is asked for.
            Some(_) => self.at += if flags & SAME_RELATION != 0 { 4 } else { 16 },
        }
        Some((image, data))
    }

    fn block(&mut self, id: u8) -> Option<Block> {
        if id < self.next_id {
            return None;
        }
        self.next_id = id + 1;
        let flags = self.byte()?;
        let data_length = self.u16()?;
        if (flags & HAS_DATA != 0) != (data_length != 0) {
            return None;
        }
        let image = if flags & HAS_IMAGE != 0 { Some(self.image()?) } else { None };
        if flags & SAME_RELATION == 0 {
            self.relation = Some(RelationFile::parse(self.body, self.at)?);
            self.at += 12;
        }
        Some(Block {
            id,
            fork: Fork::of(u32::from(flags & 0x0F))?,
            relation: self.relation?,
            number: self.u32()?,
            will_init: flags & WILL_INIT != 0,
            image,
            data_length,
        })
    }

    /// The flag bits were renumbered in 15, where other compressions came.
    fn image(&mut self) -> Option<Image> {
        let (length, hole_offset, info) = (self.u16()?, self.u16()?, self.byte()?);
        let (apply, compression) = if self.major >= Major(15) {
            let compression = match info & 0x1C {
                0x00 => Compression::None,
                0x04 => Compression::Pglz,
                0x08 => Compression::Lz4,
                0x10 => Compression::Zstd,
                _ => return None,
            };
            (info & 0x02 != 0, compression)
        } else {
            (info & 0x04 != 0, if info & 0x02 != 0 { Compression::Pglz } else { Compression::None })
        };
        let has_hole = info & IMAGE_HAS_HOLE != 0;
        let hole_length = match (has_hole, compression) {
            (true, Compression::None) => u16::try_from(BLOCK_SIZE.checked_sub(u32::from(length))?).ok()?,
            (true, _) => self.u16()?,
            (false, _) => 0,
        };
        let fits = u32::from(length) <= BLOCK_SIZE && u32::from(hole_offset) + u32::from(hole_length) <= BLOCK_SIZE;
        fits.then_some(Image { length, hole_offset, hole_length, compression, apply })
    }

    fn byte(&mut self) -> Option<u8> {
        let value = *self.body.get(self.at)?;
        self.at += 1;
        Some(value)
    }

    fn u16(&mut self) -> Option<u16> {
        let value = u16(self.body, self.at)?;
        self.at += 2;
        Some(value)
    }

    fn u32(&mut self) -> Option<u32> {
        let value = u32(self.body, self.at)?;
        self.at += 4;
        Some(value)
    }
}
