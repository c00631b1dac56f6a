//! Little-endian fields of a byte slice; out of range is an error value, never a panic.

use super::Malformed;

/// The `N` bytes at `at`.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    let end = at.checked_add(N);
    end.and_then(|end| bytes.get(at..end))
        .and_then(|field| field.try_into().ok())
        .ok_or_else(|| Malformed::new(format!("{} bytes are too short for a field of {N} bytes at offset {at}", bytes.len())))
}

/// The byte at `at`.
pub(crate) fn u8_at(bytes: &[u8], at: usize) -> Result<u8, Malformed> {
    array_at(bytes, at).map(u8::from_le_bytes)
}

/// `uint16` at `at`.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

/// `uint32` at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

/// `int32` at `at`.
pub(crate) fn i32_at(bytes: &[u8], at: usize) -> Result<i32, Malformed> {
    array_at(bytes, at).map(i32::from_le_bytes)
}

/// `uint64` at `at`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Malformed> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

/// `int64` at `at`.
pub(crate) fn i64_at(bytes: &[u8], at: usize) -> Result<i64, Malformed> {
    array_at(bytes, at).map(i64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_beyond_the_end_is_an_error() {
        assert_eq!(u16_at(&[1, 2, 3], 1), Ok(0x0302));
        assert!(u16_at(&[1, 2, 3], 2).is_err());
        assert!(u64_at(&[0; 8], usize::MAX).is_err());
    }
}
