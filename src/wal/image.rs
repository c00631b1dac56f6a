//! Page images put back together, and PostgreSQL's own compression (common/pg_lzcompress.c), on hostile bytes.

use super::block::{Compression, Image};

/// Bytes of a page.
const PAGE: usize = 8192;

/// The page that `bytes` are the image of; `None` where they are not what the header says.
pub fn restore(image: &Image, bytes: &[u8]) -> Option<Vec<u8>> {
    let hole = usize::from(image.hole_length);
    let offset = usize::from(image.hole_offset);
    let wanted = PAGE.checked_sub(hole)?;
    let packed = bytes.get(..usize::from(image.length))?;
    let data = match image.compression {
        Compression::None => packed.to_vec(),
        Compression::Pglz => pglz(packed, wanted)?,
        Compression::Lz4 => lz4(packed, wanted)?,
        Compression::Zstd => zstd::bulk::decompress(packed, wanted).ok()?,
    };
    if data.len() != wanted {
        return None;
    }
    let (before, after) = data.split_at_checked(offset)?;
    let mut page = Vec::with_capacity(PAGE);
    page.extend_from_slice(before);
    page.resize(offset.checked_add(hole)?, 0);
    page.extend_from_slice(after);
    Some(page)
}

/// A raw LZ4 block of exactly `wanted` bytes.
pub fn lz4(packed: &[u8], wanted: usize) -> Option<Vec<u8>> {
    let data = lz4_flex::block::decompress(packed, wanted).ok()?;
    (data.len() == wanted).then_some(data)
}

/// `pglz_decompress`: a control byte, lowest bit first, tells of eight items whether each is a byte or a match; a match
/// has its length less 3 in the low and bits 8 to 11 of its distance in the high half of its first byte.
pub fn pglz(packed: &[u8], wanted: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(wanted.min(packed.len().saturating_mul(273)));
    let mut input = packed.iter().copied();
    while out.len() < wanted {
        let control = input.next()?;
        for bit in 0..8 {
            if out.len() >= wanted {
                break;
            }
            if control & (1 << bit) == 0 {
                out.push(input.next()?);
                continue;
            }
            let (first, second) = (usize::from(input.next()?), usize::from(input.next()?));
            let mut length = (first & 0x0F) + 3;
            let distance = ((first & 0xF0) << 4) | second;
            if length == 18 {
                length += usize::from(input.next()?);
            }
            let start = out.len().checked_sub(distance).filter(|_| distance > 0)?;
            // The match may reach into what it writes itself.
            for at in start..start + length.min(wanted - out.len()) {
                let byte = *out.get(at)?;
                out.push(byte);
            }
        }
    }
    input.next().is_none().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_may_overlap_what_they_write() {
        // "ab", then a match of 6 at distance 2, then "c".
        let packed = [0b0000_0100, b'a', b'b', 0x03, 2, b'c'];
        assert_eq!(pglz(&packed, 9).unwrap(), b"ababababc");
        let long = [0b0000_0010, b'x', 0x0F, 1, 40];
        assert_eq!(pglz(&long, 1 + 18 + 40).unwrap(), vec![b'x'; 59]);
    }

    #[test]
    fn broken_compression_is_none_and_never_more_than_was_announced() {
        let packed = [0b0000_0100, b'a', b'b', 0x03, 2, b'c'];
        for cut in 0..packed.len() {
            assert_eq!(pglz(&packed[..cut], 9), None, "{cut}");
        }
        assert_eq!(pglz(&[1, 0x00, 0], 3), None, "a distance of zero");
        assert_eq!(pglz(&[1, 0x00, 9], 3), None, "a distance before the beginning");
        for at in 0..packed.len() {
            for bit in 0..8 {
                let mut flipped = packed;
                flipped[at] ^= 1 << bit;
                assert!(pglz(&flipped, 9).is_none_or(|data| data.len() == 9));
            }
        }
    }

    #[test]
    fn an_image_is_restored_around_its_hole() {
        let image = Image { length: 8188, hole_offset: 10, hole_length: 4, compression: Compression::None, apply: true };
        let mut bytes = vec![1; 8188];
        bytes[10] = 2;
        let page = restore(&image, &bytes).unwrap();
        assert_eq!((page.len(), &page[8..16]), (8192, [1, 1, 0, 0, 0, 0, 2, 1].as_slice()));
        assert_eq!(restore(&image, &bytes[..8187]), None);
        assert_eq!(restore(&Image { hole_offset: 8189, ..image }, &bytes), None);
        for compression in [Compression::Pglz, Compression::Lz4, Compression::Zstd] {
            assert_eq!(restore(&Image { compression, ..image }, &bytes), None);
        }
    }
}
