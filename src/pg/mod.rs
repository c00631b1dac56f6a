//! PostgreSQL's formats as values: pure functions over bytes and text, for majors 13 to 18.
//!
//! Nothing here touches the host. Every parser takes hostile input: it returns an error value, never panics.

pub(crate) mod bytes;
pub mod checksum;
pub mod conf;
pub mod control;
pub(crate) mod decimal;
pub mod history;
pub mod label;
pub mod lsn;
pub mod manifest;
pub mod page;
pub mod pidfile;
pub mod segment;
pub mod version;

pub use checksum::{Algorithm, Checksum, Hasher};
pub use conf::{ConfEntry, Directive, parse_conf, parse_opts, quote_value};
pub use control::{ClusterState, ControlFile, WalLevel};
pub use history::{Ancestor, History, TimelineEnd};
pub use label::{BackupHistory, BackupLabel, parse_backup_history_name, parse_tablespace_map};
pub use lsn::{Lsn, Timeline};
pub use manifest::{Manifest, ManifestFile, WalRange, is_exempt};
pub use page::{LongHeader, PageHeader, PageVerdict, SegmentExpectation, check_segment_page, magic_major};
pub use pidfile::PostmasterPid;
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
