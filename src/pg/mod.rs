//! PostgreSQL's formats as values: pure functions over bytes and text, for majors 13 to 18.
//!
//! Nothing here touches the host. Every parser takes hostile input: it returns an error value, never panics.

pub mod lsn;
pub mod segment;

pub use lsn::{Lsn, Timeline};
pub use segment::{SegmentName, SegmentSize};

/// A parser's complaint, in words for a `cause:` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

impl Malformed {
    /// A complaint in these words.
    pub fn new(words: impl Into<String>) -> Malformed {
        Malformed(words.into())
    }
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}
