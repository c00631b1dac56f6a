//! WAL page headers (access/xlog_internal.h), as far as the copy of a segment must check them.
//!
//! A page is [`PageVerdict::Valid`] only if it belongs to exactly this place of this segment of this cluster. Preallocated
//! and recycled segments hold well-formed pages of other places; their address gives them away. Records are not looked at.

use serde::{Deserialize, Serialize};

use super::bytes::{u16_at, u32_at, u64_at};
use super::{Lsn, Malformed, SegmentName, SegmentSize, Timeline};

/// `XLP_FIRST_IS_CONTRECORD`: the page begins with the rest of a record.
pub const FIRST_IS_CONTRECORD: u16 = 0x0001;
/// `XLP_LONG_HEADER`: on the first page of each segment.
pub const LONG_HEADER: u16 = 0x0002;
/// `XLP_FIRST_IS_OVERWRITE_CONTRECORD`: the record that should go on here was given up after a crash.
pub const FIRST_IS_OVERWRITE_CONTRECORD: u16 = 0x0008;
/// `XLP_ALL_FLAGS` of majors 13 to 18.
const ALL_FLAGS: u16 = 0x000F;

/// `XLogPageHeaderData`, 24 bytes, and on a segment's first page `XLogLongPageHeaderData`, 40 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageHeader {
    /// `xlp_magic`, one per major; see [`magic_major`].
    pub magic: u16,
    /// `xlp_info`, flags.
    pub info: u16,
    /// Timeline of the first record on the page.
    pub timeline: Timeline,
    /// LSN of the page's first byte.
    pub address: Lsn,
    /// Bytes of a record continued from the page before, including those beyond this page.
    pub remaining: u32,
    /// The long header's own fields.
    pub long: Option<LongHeader>,
}

/// What the first page of a segment adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongHeader {
    /// The cluster's identity; a decimal string in JSON.
    #[serde(with = "super::decimal")]
    pub system_identifier: u64,
    /// Bytes of a segment.
    pub segment_size: SegmentSize,
    /// Bytes of a WAL page.
    pub block_size: u32,
}

/// What a segment's pages must say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentExpectation {
    /// Major version of the cluster.
    pub major: u32,
    /// The cluster's identity; a decimal string in JSON.
    #[serde(with = "super::decimal")]
    pub system_identifier: u64,
    /// Bytes of a segment.
    pub segment_size: SegmentSize,
    /// Timeline and number that the file's name claims.
    pub name: SegmentName,
}

/// The judgement of one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageVerdict {
    /// The header fits this place.
    Valid,
    /// All zero: the rest of a segment after `XLOG_SWITCH`, or not written yet. Only further zero pages may follow;
    /// whoever copies a segment must hold that.
    Zero,
    /// Not a page of this segment, with the reason.
    Invalid(Malformed),
}

/// The major version that writes pages with this `xlp_magic`.
pub fn magic_major(magic: u16) -> Option<u32> {
    match magic {
        0xD106 => Some(13),
        0xD10D => Some(14),
        0xD110 => Some(15),
        0xD113 => Some(16),
        0xD116 => Some(17),
        0xD118 => Some(18),
        _ => None,
    }
}

impl PageHeader {
    /// Parses the header at the beginning of a page; an unknown magic or flag is refused.
    pub fn parse(page: &[u8]) -> Result<PageHeader, Malformed> {
        let (magic, info) = (u16_at(page, 0)?, u16_at(page, 2)?);
        if magic_major(magic).is_none() {
            return Err(unknown_magic(magic));
        }
        if info & !ALL_FLAGS != 0 {
            return Err(Malformed::new(format!("unknown page flags {info:04X}")));
        }
        let long = if info & LONG_HEADER != 0 { Some(LongHeader::parse(page)?) } else { None };
        Ok(PageHeader {
            magic,
            info,
            timeline: Timeline(u32_at(page, 4)?),
            address: Lsn(u64_at(page, 8)?),
            remaining: u32_at(page, 16)?,
            long,
        })
    }

    /// Bytes of the header; the page's records begin after it.
    pub fn size(&self) -> u32 {
        if self.long.is_some() { 40 } else { 24 }
    }

    /// The major version that wrote the page.
    pub fn major(&self) -> Option<u32> {
        magic_major(self.magic)
    }
}

impl LongHeader {
    fn parse(page: &[u8]) -> Result<LongHeader, Malformed> {
        Ok(LongHeader {
            system_identifier: u64_at(page, 24)?,
            segment_size: SegmentSize::new(u32_at(page, 32)?)?,
            block_size: u32_at(page, 36)?,
        })
    }
}

fn unknown_magic(magic: u16) -> Malformed {
    if magic_major(magic.swap_bytes()).is_some() {
        Malformed::new("the page was written on a host of the other byte order (big-endian)")
    } else {
        Malformed::new(format!("unknown page magic {magic:04X}: not WAL of PostgreSQL 13 to 18"))
    }
}

/// Judges the page at `offset` of the segment; `page` is one whole WAL page.
pub fn check_segment_page(expected: &SegmentExpectation, offset: u64, page: &[u8]) -> PageVerdict {
    if offset != 0 && page.iter().all(|b| *b == 0) {
        return PageVerdict::Zero;
    }
    match check_header(expected, offset, page) {
        Ok(()) => PageVerdict::Valid,
        Err(reason) => PageVerdict::Invalid(reason),
    }
}

fn check_header(expected: &SegmentExpectation, offset: u64, page: &[u8]) -> Result<(), Malformed> {
    let place = place_of(expected, offset, page)?;
    if page.iter().all(|b| *b == 0) {
        return Err(Malformed::new("the segment begins with an empty page"));
    }
    let header = PageHeader::parse(page)?;
    if header.major() != Some(expected.major) {
        let major = header.major().unwrap_or_default();
        return Err(Malformed::new(format!("the page is WAL of PostgreSQL {major}, not {}", expected.major)));
    }
    if header.address != place {
        return Err(Malformed::new(format!("the page is that of {}, not {place}", header.address)));
    }
    // A child's first segment begins with a copy of its parent's pages, so a lower timeline is normal.
    if header.timeline.0 == 0 || header.timeline > expected.name.timeline {
        return Err(Malformed::new(format!(
            "the page is of timeline {}, the segment's name of {}",
            header.timeline, expected.name.timeline
        )));
    }
    match (header.long, offset) {
        (None, 0) => Err(Malformed::new("the segment's first page has no long header")),
        (None, _) => Ok(()),
        (Some(long), 0) => check_long(expected, &long, page.len()),
        (Some(_), _) => Err(Malformed::new("a long header in the middle of the segment")),
    }
}

/// The LSN that belongs to `offset`, if that is a page's place at all.
fn place_of(expected: &SegmentExpectation, offset: u64, page: &[u8]) -> Result<Lsn, Malformed> {
    let length = page.len() as u64;
    let whole = length.is_power_of_two() && (1 << 10..=1 << 16).contains(&length);
    let inside =
        whole && offset.is_multiple_of(length) && offset.checked_add(length).is_some_and(|end| end <= expected.segment_size.bytes());
    let start = expected.name.number.checked_mul(expected.segment_size.bytes());
    match start.and_then(|start| start.checked_add(offset)) {
        Some(lsn) if inside => Ok(Lsn(lsn)),
        _ => Err(Malformed::new(format!("{length} bytes at offset {offset} are not a page of this segment"))),
    }
}

fn check_long(expected: &SegmentExpectation, long: &LongHeader, page_size: usize) -> Result<(), Malformed> {
    if long.system_identifier != expected.system_identifier {
        return Err(Malformed::new(format!("the segment is of cluster {}, not {}", long.system_identifier, expected.system_identifier)));
    }
    if long.segment_size != expected.segment_size {
        return Err(Malformed::new(format!(
            "the segment says a segment has {} bytes, not {}",
            long.segment_size.bytes(),
            expected.segment_size.bytes()
        )));
    }
    if long.block_size as usize != page_size {
        return Err(Malformed::new(format!("the segment says a WAL page has {} bytes, not {page_size}", long.block_size)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &[u8] = include_bytes!("../../tests/fixtures/pg/000000010000000000000001.head");
    const CHILD: &[u8] = include_bytes!("../../tests/fixtures/pg/000000020000000000000003.head");
    const SYSTEM: u64 = 7710764288409467346;
    const PAGE: usize = 8192;

    fn expectation(name: &str) -> SegmentExpectation {
        let segment_size = SegmentSize::new(16 << 20).unwrap();
        let name = SegmentName::parse(name, segment_size).unwrap();
        SegmentExpectation { major: 15, system_identifier: SYSTEM, segment_size, name }
    }

    fn reason(verdict: PageVerdict) -> String {
        match verdict {
            PageVerdict::Invalid(reason) => reason.0,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pages_of_a_real_segment_are_valid() {
        let expected = expectation("000000010000000000000001");
        assert_eq!(check_segment_page(&expected, 0, &FIRST[..PAGE]), PageVerdict::Valid);
        assert_eq!(check_segment_page(&expected, 8192, &FIRST[PAGE..]), PageVerdict::Valid);
        let header = PageHeader::parse(FIRST).unwrap();
        assert_eq!((header.address, header.size(), header.major()), (Lsn(0x1000000), 40, Some(15)));
    }

    #[test]
    fn a_childs_segment_begins_with_its_parents_pages() {
        let expected = expectation("000000020000000000000003");
        let timelines = [0, PAGE].map(|at| PageHeader::parse(&CHILD[at..]).unwrap().timeline.0);
        assert_eq!(timelines, [1, 2]);
        assert_eq!(check_segment_page(&expected, 0, &CHILD[..PAGE]), PageVerdict::Valid);
        assert_eq!(check_segment_page(&expected, 8192, &CHILD[PAGE..]), PageVerdict::Valid);
        let wrong = check_segment_page(&expectation("000000010000000000000003"), 8192, &CHILD[PAGE..]);
        assert!(reason(wrong).contains("timeline 2"));
    }

    #[test]
    fn zero_pages_follow_but_never_begin() {
        let expected = expectation("000000010000000000000001");
        assert_eq!(check_segment_page(&expected, 8192, &[0; PAGE]), PageVerdict::Zero);
        assert!(reason(check_segment_page(&expected, 0, &[0; PAGE])).contains("empty"));
    }

    #[test]
    fn another_place_cluster_size_or_major_is_refused() {
        let good = expectation("000000010000000000000001");
        let size = SegmentSize::new(32 << 20).unwrap();
        for (expected, offset, words) in [
            (expectation("000000010000000000000002"), 0, "page is that of 0/1000000, not 0/2000000"),
            (good.clone(), 8192, "page is that of 0/1000000, not 0/1002000"),
            (SegmentExpectation { system_identifier: 5, ..good.clone() }, 0, "of cluster 7710764288409467346, not 5"),
            (SegmentExpectation { major: 16, ..good.clone() }, 0, "PostgreSQL 15, not 16"),
            (good.clone(), 16 << 20, "not a page"),
            (good.clone(), 100, "not a page"),
            (good.clone(), u64::MAX - 8191, "not a page"),
        ] {
            let verdict = check_segment_page(&expected, offset, &FIRST[..PAGE]);
            assert!(reason(verdict).contains(words), "{words}");
        }
        let mut longer = FIRST[..PAGE].to_vec();
        longer[8..16].copy_from_slice(&size.start(1).0.to_le_bytes());
        let expected = SegmentExpectation { segment_size: size, ..good.clone() };
        assert!(reason(check_segment_page(&expected, 0, &longer)).contains("has 16777216 bytes"));
        assert!(reason(check_segment_page(&good, 0, &FIRST[..4096])).contains("page has 8192 bytes"));
        assert!(reason(check_segment_page(&good, 0, &FIRST[..4000])).contains("not a page"));
    }

    #[test]
    fn every_bit_of_the_header_counts() {
        let expected = expectation("000000010000000000000001");
        // Flags that other pages may carry, the length of a continued record and padding are not this check's to know.
        let free = |at: usize, bit: u32| (at == 2 && bit != 1) || (16..24).contains(&at);
        for at in 0..40 {
            for bit in 0..8 {
                let mut page = FIRST[..PAGE].to_vec();
                page[at] ^= 1 << bit;
                let verdict = check_segment_page(&expected, 0, &page);
                if !free(at, bit) {
                    assert!(matches!(verdict, PageVerdict::Invalid(_)), "byte {at} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for length in 0..40 {
            assert!(PageHeader::parse(&FIRST[..length]).is_err(), "{length}");
        }
        assert!(PageHeader::parse(&FIRST[..40]).is_ok());
    }

    #[test]
    fn magics_of_all_majors_and_the_other_byte_order() {
        let majors: Vec<_> = [0xD106, 0xD10D, 0xD110, 0xD113, 0xD116, 0xD118, 0xD119].map(magic_major).to_vec();
        assert_eq!(majors, [Some(13), Some(14), Some(15), Some(16), Some(17), Some(18), None]);
        let mut page = FIRST[..PAGE].to_vec();
        page.swap(0, 1);
        assert!(PageHeader::parse(&page).unwrap_err().0.contains("byte order"));
    }
}
