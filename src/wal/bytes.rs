//! Little-endian integers in byte slices; `None` past the end. WAL is native-endian, and the magic of a page
//! proves that it was written little-endian.

use crate::pg::Malformed;

/// The complaint about a record whose checksum is right and whose payload is not what its operation has.
pub(crate) fn unfit() -> Malformed {
    Malformed::new("the record's payload does not fit its operation")
}

/// `N` bytes at `at`.
pub(crate) fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>()
}

/// `u16` at `at`.
pub(crate) fn u16(bytes: &[u8], at: usize) -> Option<u16> {
    chunk(bytes, at).map(|b| u16::from_le_bytes(*b))
}

/// `u32` at `at`.
pub(crate) fn u32(bytes: &[u8], at: usize) -> Option<u32> {
    chunk(bytes, at).map(|b| u32::from_le_bytes(*b))
}

/// `u64` at `at`.
pub(crate) fn u64(bytes: &[u8], at: usize) -> Option<u64> {
    chunk(bytes, at).map(|b| u64::from_le_bytes(*b))
}

/// The text before the first NUL; what is not UTF-8 is replaced.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// Fields one after the other, without padding.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields(bytes)
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }

    pub(crate) fn skip(&mut self, length: usize) -> Option<()> {
        self.take(length).map(|_| ())
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        u32(self.take(4)?, 0)
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.u32().map(|v| v as i32)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        u64(self.take(8)?, 0)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.u64().map(|v| v as i64)
    }

    /// An `int` that counts what follows.
    pub(crate) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.i32()?).ok()
    }

    /// `count` values; nothing is allocated for a count that the bytes do not hold.
    pub(crate) fn u32s(&mut self, count: usize) -> Option<Vec<u32>> {
        let bytes = self.take(count.checked_mul(4)?)?;
        Some(bytes.chunks_exact(4).filter_map(|b| u32(b, 0)).collect())
    }

    /// A count and that many items of `size` bytes.
    pub(crate) fn items(&mut self, size: usize) -> Option<&'a [u8]> {
        let count = self.count()?;
        self.take(count.checked_mul(size)?)
    }

    /// A text that ends with NUL.
    pub(crate) fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|b| *b == 0)?;
        let found = text(self.0);
        self.skip(end + 1)?;
        Some(found)
    }
}

/// Bytes as hexadecimal text: JSON would spend four characters on each.
pub(crate) mod as_hex {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.serialize_str(&hex::encode(bytes)) } else { serializer.serialize_bytes(bytes) }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        if !deserializer.is_human_readable() {
            return Vec::deserialize(deserializer);
        }
        hex::decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
