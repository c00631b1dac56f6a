//! Plain words about the host that every layer may use: who owns a cluster, which process is meant.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The operating system user who owns a data directory, with every group that `initgroups` would give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Login name.
    pub name: String,
    /// User id; never 0.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All groups, the primary one among them.
    pub groups: Vec<u32>,
    /// Home directory, for `HOME` of children.
    pub home: PathBuf,
}

impl Owner {
    /// Environment of a child of this user: nothing inherited, only these.
    pub fn environment(&self) -> Vec<(String, String)> {
        vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("LC_ALL".into(), "C".into()),
            ("HOME".into(), self.home.display().to_string()),
            ("USER".into(), self.name.clone()),
            ("LOGNAME".into(), self.name.clone()),
        ]
    }

    /// The same, each `NAME=VALUE`.
    pub fn environment_entries(&self) -> Vec<Vec<u8>> {
        self.environment().into_iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect()
    }
}

/// A process by what cannot be reused: id, start time and boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot (proc(5), stat field 22).
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

/// A file time as the filesystem keeps it: seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}
