//! The checksums of files in a backup manifest (common/checksum_helper.c), bytes in the manifest's order.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::Malformed;

/// The algorithms of `--manifest-checksums` except `NONE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// The default; guards against accidents only.
    Crc32c,
    /// SHA-2, 28 bytes.
    Sha224,
    /// SHA-2, 32 bytes.
    Sha256,
    /// SHA-2, 48 bytes.
    Sha384,
    /// SHA-2, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// Bytes of a result.
    pub fn length(self) -> usize {
        match self {
            Algorithm::Crc32c => 4,
            Algorithm::Sha224 => 28,
            Algorithm::Sha256 => 32,
            Algorithm::Sha384 => 48,
            Algorithm::Sha512 => 64,
        }
    }

    /// The manifest's word.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32c => "CRC32C",
            Algorithm::Sha224 => "SHA224",
            Algorithm::Sha256 => "SHA256",
            Algorithm::Sha384 => "SHA384",
            Algorithm::Sha512 => "SHA512",
        }
    }

    fn from_name(name: &str) -> Option<Algorithm> {
        let all = [Algorithm::Crc32c, Algorithm::Sha224, Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];
        // pg_checksum_parse_type compares without case.
        all.into_iter().find(|a| a.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A file's expected checksum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// How it was made.
    pub algorithm: Algorithm,
    /// As many bytes as the algorithm has; for CRC-32C in little-endian order.
    pub bytes: Vec<u8>,
}

impl Checksum {
    /// From a manifest's `Checksum-Algorithm` and hexadecimal `Checksum`.
    pub(super) fn parse(algorithm: &str, digits: &str) -> Result<Checksum, Malformed> {
        let known = Algorithm::from_name(algorithm);
        let algorithm = known.ok_or_else(|| Malformed::new(format!("unknown checksum algorithm {algorithm:?}")))?;
        match hex::decode(digits) {
            Ok(bytes) if bytes.len() == algorithm.length() => Ok(Checksum { algorithm, bytes }),
            _ => Err(Malformed::new(format!("not a {algorithm} checksum: {digits:?}"))),
        }
    }
}

/// A checksum in the making.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Crc32c(u32),
    Sha224(Sha224),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    /// Starts with no bytes.
    pub fn new(algorithm: Algorithm) -> Hasher {
        Hasher(match algorithm {
            Algorithm::Crc32c => State::Crc32c(0),
            Algorithm::Sha224 => State::Sha224(Sha224::new()),
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha384 => State::Sha384(Sha384::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Adds the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Crc32c(crc) => *crc = crc32c::crc32c_append(*crc, bytes),
            State::Sha224(sha) => sha.update(bytes),
            State::Sha256(sha) => sha.update(bytes),
            State::Sha384(sha) => sha.update(bytes),
            State::Sha512(sha) => sha.update(bytes),
        }
    }

    /// The result, comparable with [`Checksum::bytes`].
    pub fn finish(self) -> Vec<u8> {
        match self.0 {
            // The manifest shows the value as it lies in memory.
            State::Crc32c(crc) => crc.to_le_bytes().to_vec(),
            State::Sha224(sha) => sha.finalize().to_vec(),
            State::Sha256(sha) => sha.finalize().to_vec(),
            State::Sha384(sha) => sha.finalize().to_vec(),
            State::Sha512(sha) => sha.finalize().to_vec(),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Crc32c(_) => "Hasher(CRC32C)",
            State::Sha224(_) => "Hasher(SHA224)",
            State::Sha256(_) => "Hasher(SHA256)",
            State::Sha384(_) => "Hasher(SHA384)",
            State::Sha512(_) => "Hasher(SHA512)",
        })
    }
}
