//! `global/pg_control` (catalog/pg_control.h): the cluster's identity, state and last checkpoint.
//!
//! A value of [`ControlFile`] comes only from bytes whose CRC-32C was right, written on a little-endian host by a
//! server of major 13 to 18. The file of a running server can be read torn: on a checksum error, read again.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bytes::{i32_at, i64_at, u8_at, u32_at, u64_at};
use super::{Lsn, Malformed, SegmentSize, Timeline, decimal};

/// The fields of `ControlFileData` and its `CheckPoint` copy that a recovery needs. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlFile {
    /// Identity of the cluster since `initdb`; a decimal string in JSON.
    #[serde(with = "decimal")]
    pub system_identifier: u64,
    /// `PG_CONTROL_VERSION`: 1300 (13 to 16), 1700 or 1800.
    pub control_version: u32,
    /// `CATALOG_VERSION_NO`; one per major, see [`ControlFile::major`].
    pub catalog_version: u32,
    /// What the server was doing when it last wrote the file; a crashed one still says "in production".
    pub state: ClusterState,
    /// When the file was last written.
    pub time: i64,
    /// Start of the last checkpoint record.
    pub checkpoint: Lsn,
    /// Where a replay from that checkpoint begins.
    pub redo: Lsn,
    /// Timeline of the checkpoint.
    pub timeline: Timeline,
    /// Timeline before it; differs only on the record that begins a timeline.
    pub prev_timeline: Timeline,
    /// Next transaction id with its epoch in the upper half; a decimal string in JSON.
    #[serde(with = "decimal")]
    pub next_xid: u64,
    /// Next free OID at the checkpoint.
    pub next_oid: u32,
    /// When the checkpoint began.
    pub checkpoint_time: i64,
    /// Replay must pass this before the cluster is consistent; zero outside of archive recovery.
    pub min_recovery_point: Lsn,
    /// Timeline of `min_recovery_point`; zero with it.
    pub min_recovery_timeline: u32,
    /// Non-zero: a recovery from an online backup has not reached consistency yet.
    pub backup_start_point: Lsn,
    /// End of the backup, for one taken from a standby.
    pub backup_end_point: Lsn,
    /// Whether replay must still meet the backup's end record.
    pub backup_end_required: bool,
    /// `wal_level` of the last run.
    pub wal_level: WalLevel,
    /// `max_connections` of the last run; a hot standby needs at least as many.
    pub max_connections: i32,
    /// `max_worker_processes` of the last run.
    pub max_worker_processes: i32,
    /// `max_wal_senders` of the last run.
    pub max_wal_senders: i32,
    /// `max_prepared_transactions` of the last run.
    pub max_prepared_xacts: i32,
    /// `max_locks_per_transaction` of the last run.
    pub max_locks_per_xact: i32,
    /// Bytes of a data page (`BLCKSZ`).
    pub block_size: u32,
    /// Bytes of a WAL page (`XLOG_BLCKSZ`).
    pub wal_block_size: u32,
    /// Bytes of a WAL segment.
    pub segment_size: SegmentSize,
    /// 0: no page checksums; 1: the checksum of majors 9.3 to 18.
    pub data_checksum_version: u32,
}

/// `DBState` (catalog/pg_control.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterState {
    /// `DB_STARTUP`.
    StartingUp,
    /// `DB_SHUTDOWNED`: stopped cleanly.
    ShutDown,
    /// `DB_SHUTDOWNED_IN_RECOVERY`: a standby or a recovery, stopped cleanly.
    ShutDownInRecovery,
    /// `DB_SHUTDOWNING`.
    ShuttingDown,
    /// `DB_IN_CRASH_RECOVERY`.
    InCrashRecovery,
    /// `DB_IN_ARCHIVE_RECOVERY`.
    InArchiveRecovery,
    /// `DB_IN_PRODUCTION`: running, or crashed, or the copy in a base backup.
    InProduction,
}

/// `WalLevel` (access/xlog.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalLevel {
    /// Not enough for an archive recovery.
    Minimal,
    /// Archiving and replication.
    Replica,
    /// Also logical decoding.
    Logical,
}

impl ControlFile {
    /// Parses the file's bytes: 8192 on disk, of which only the part up to the CRC is read.
    pub fn parse(bytes: &[u8]) -> Result<ControlFile, Malformed> {
        verify_crc(bytes)?;
        verify_architecture(bytes)?;
        Ok(ControlFile {
            system_identifier: u64_at(bytes, 0)?,
            control_version: u32_at(bytes, 8)?,
            catalog_version: u32_at(bytes, 12)?,
            state: ClusterState::from_number(u32_at(bytes, 16)?)?,
            time: i64_at(bytes, 24)?,
            checkpoint: lsn_at(bytes, 32)?,
            redo: lsn_at(bytes, 40)?,
            timeline: timeline_at(bytes, 48)?,
            prev_timeline: timeline_at(bytes, 52)?,
            next_xid: u64_at(bytes, 64)?,
            next_oid: u32_at(bytes, 72)?,
            checkpoint_time: i64_at(bytes, 104)?,
            min_recovery_point: lsn_at(bytes, 136)?,
            min_recovery_timeline: u32_at(bytes, 144)?,
            backup_start_point: lsn_at(bytes, 152)?,
            backup_end_point: lsn_at(bytes, 160)?,
            backup_end_required: u8_at(bytes, 168)? != 0,
            wal_level: WalLevel::from_number(i32_at(bytes, 172)?)?,
            max_connections: i32_at(bytes, 180)?,
            max_worker_processes: i32_at(bytes, 184)?,
            max_wal_senders: i32_at(bytes, 188)?,
            max_prepared_xacts: i32_at(bytes, 192)?,
            max_locks_per_xact: i32_at(bytes, 196)?,
            block_size: block_size_at(bytes, 216)?,
            wal_block_size: block_size_at(bytes, 224)?,
            segment_size: SegmentSize::new(u32_at(bytes, 228)?)?,
            data_checksum_version: u32_at(bytes, 252)?,
        })
    }

    /// Values that hot standby demands at least, in the order of [`super::version::FLOORS`].
    pub fn floors(&self) -> [i64; 5] {
        [self.max_connections, self.max_worker_processes, self.max_wal_senders, self.max_prepared_xacts, self.max_locks_per_xact]
            .map(i64::from)
    }

    /// The major version, from the catalog version of its releases; `None` for betas and forks, where only
    /// `PG_VERSION` tells. The control version alone cannot: 13 to 16 share 1300.
    pub fn major(&self) -> Option<u32> {
        CATALOG_VERSIONS.iter().find(|(_, version)| *version == self.catalog_version).map(|(major, _)| *major)
    }
}

/// The catalog version of each major's releases (catalog/catversion.h).
const CATALOG_VERSIONS: &[(u32, u32)] =
    &[(13, 202007201), (14, 202107181), (15, 202209061), (16, 202307071), (17, 202406281), (18, 202506291)];

/// The catalog version of a major's releases.
pub fn catalog_version_of(major: u32) -> Option<u32> {
    CATALOG_VERSIONS.iter().find(|(known, _)| *known == major).map(|(_, version)| *version)
}

/// The CRC covers everything before it; its place depends on the version, which therefore is looked at first.
fn verify_crc(bytes: &[u8]) -> Result<(), Malformed> {
    let crc_at = match u32_at(bytes, 8)? {
        1300 | 1700 => 288,
        1800 => 292,
        other if matches!(other.swap_bytes(), 1..=9999) => {
            return Err(Malformed::new(
                "pg_control was written on a host of the other byte order (big-endian); such a cluster cannot run here",
            ));
        }
        other => return Err(Malformed::new(format!("pg_control version {other} is not one of PostgreSQL 13 to 18"))),
    };
    let covered = bytes.get(..crc_at).ok_or_else(|| Malformed::new(format!("pg_control has only {} bytes", bytes.len())))?;
    if crc32c::crc32c(covered) == u32_at(bytes, crc_at)? { Ok(()) } else { Err(Malformed::new("pg_control's checksum is wrong")) }
}

/// `maxAlign` and `floatFormat` tell an architecture whose layout we would misread.
fn verify_architecture(bytes: &[u8]) -> Result<(), Malformed> {
    if u32_at(bytes, 204)? == 8 && u64_at(bytes, 208)? == 1234567.0_f64.to_bits() {
        Ok(())
    } else {
        Err(Malformed::new("pg_control was written on a host of another architecture (alignment or floating-point format)"))
    }
}

fn lsn_at(bytes: &[u8], at: usize) -> Result<Lsn, Malformed> {
    u64_at(bytes, at).map(Lsn)
}

fn timeline_at(bytes: &[u8], at: usize) -> Result<Timeline, Malformed> {
    match u32_at(bytes, at)? {
        0 => Err(Malformed::new("pg_control names timeline 0")),
        number => Ok(Timeline(number)),
    }
}

/// 1 to 64 KiB: the widest range that `configure` ever accepted for either kind of page.
fn block_size_at(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    let size = u32_at(bytes, at)?;
    if size.is_power_of_two() && (1 << 10..=1 << 16).contains(&size) {
        Ok(size)
    } else {
        Err(Malformed::new(format!("pg_control names a page size of {size} bytes")))
    }
}

impl ClusterState {
    fn from_number(number: u32) -> Result<ClusterState, Malformed> {
        Ok(match number {
            0 => ClusterState::StartingUp,
            1 => ClusterState::ShutDown,
            2 => ClusterState::ShutDownInRecovery,
            3 => ClusterState::ShuttingDown,
            4 => ClusterState::InCrashRecovery,
            5 => ClusterState::InArchiveRecovery,
            6 => ClusterState::InProduction,
            _ => return Err(Malformed::new(format!("pg_control names an unknown cluster state {number}"))),
        })
    }

    /// The words of `pg_controldata`.
    pub fn name(self) -> &'static str {
        match self {
            ClusterState::StartingUp => "starting up",
            ClusterState::ShutDown => "shut down",
            ClusterState::ShutDownInRecovery => "shut down in recovery",
            ClusterState::ShuttingDown => "shutting down",
            ClusterState::InCrashRecovery => "in crash recovery",
            ClusterState::InArchiveRecovery => "in archive recovery",
            ClusterState::InProduction => "in production",
        }
    }
}

impl fmt::Display for ClusterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl WalLevel {
    /// From the number in pg_control, checkpoint and parameter-change records.
    pub fn from_number(number: i32) -> Result<WalLevel, Malformed> {
        match number {
            0 => Ok(WalLevel::Minimal),
            1 => Ok(WalLevel::Replica),
            2 => Ok(WalLevel::Logical),
            _ => Err(Malformed::new(format!("unknown wal_level {number}"))),
        }
    }

    /// The setting's word.
    pub fn name(self) -> &'static str {
        match self {
            WalLevel::Minimal => "minimal",
            WalLevel::Replica => "replica",
            WalLevel::Logical => "logical",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const FILE: &[u8] = include_bytes!("../../tests/fixtures/pg/pg_control");
    const CONTROLDATA: &str = include_str!("../../tests/fixtures/pg/pg_controldata.txt");

    /// The fixture under other versions, with its CRC made right again.
    fn sealed(edit: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = FILE.to_vec();
        edit(&mut bytes);
        let crc_at = if u32_at(&bytes, 8) == Ok(1800) { 292 } else { 288 };
        let crc = crc32c::crc32c(&bytes[..crc_at]);
        bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn put(bytes: &mut [u8], at: usize, value: u32) {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    #[test]
    fn agrees_with_pg_controldata() {
        let said: HashMap<&str, &str> =
            CONTROLDATA.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key, value.trim())).collect();
        let file = ControlFile::parse(FILE).unwrap();
        assert_eq!(file.major(), Some(15));
        for (key, value) in [
            ("pg_control version number", file.control_version.to_string()),
            ("Catalog version number", file.catalog_version.to_string()),
            ("Database system identifier", file.system_identifier.to_string()),
            ("Database cluster state", file.state.name().to_owned()),
            ("Latest checkpoint location", file.checkpoint.to_string()),
            ("Latest checkpoint's REDO location", file.redo.to_string()),
            ("Latest checkpoint's TimeLineID", file.timeline.to_string()),
            ("Latest checkpoint's PrevTimeLineID", file.prev_timeline.to_string()),
            ("Latest checkpoint's NextXID", format!("{}:{}", file.next_xid >> 32, file.next_xid & 0xFFFF_FFFF)),
            ("Latest checkpoint's NextOID", file.next_oid.to_string()),
            ("Minimum recovery ending location", file.min_recovery_point.to_string()),
            ("Min recovery ending loc's timeline", file.min_recovery_timeline.to_string()),
            ("Backup start location", file.backup_start_point.to_string()),
            ("Backup end location", file.backup_end_point.to_string()),
            ("End-of-backup record required", if file.backup_end_required { "yes" } else { "no" }.to_owned()),
            ("wal_level setting", file.wal_level.name().to_owned()),
            ("max_connections setting", file.max_connections.to_string()),
            ("max_worker_processes setting", file.max_worker_processes.to_string()),
            ("max_wal_senders setting", file.max_wal_senders.to_string()),
            ("max_prepared_xacts setting", file.max_prepared_xacts.to_string()),
            ("max_locks_per_xact setting", file.max_locks_per_xact.to_string()),
            ("Database block size", file.block_size.to_string()),
            ("WAL block size", file.wal_block_size.to_string()),
            ("Bytes per WAL segment", file.segment_size.bytes().to_string()),
            ("Data page checksum version", file.data_checksum_version.to_string()),
        ] {
            assert_eq!(said.get(key), Some(&value.as_str()), "{key}");
        }
        for (key, seconds) in [("pg_control last modified", file.time), ("Time of latest checkpoint", file.checkpoint_time)] {
            let time = jiff::Timestamp::from_second(seconds).unwrap();
            assert_eq!(said.get(key).copied(), Some(time.strftime("%a %b %e %H:%M:%S %Y").to_string().as_str()), "{key}");
        }
    }

    #[test]
    fn reads_every_major() {
        for (major, control, catalog) in [
            (13, 1300, 202007201),
            (14, 1300, 202107181),
            (15, 1300, 202209061),
            (16, 1300, 202307071),
            (17, 1700, 202406281),
            (18, 1800, 202506291),
        ] {
            let bytes = sealed(|bytes| {
                put(bytes, 8, control);
                put(bytes, 12, catalog);
                if major == 18 {
                    bytes.copy_within(256..288, 257);
                    bytes[256] = 1;
                }
            });
            let file = ControlFile::parse(&bytes).unwrap();
            assert_eq!(file.major(), Some(major));
            assert_eq!(file.redo, ControlFile::parse(FILE).unwrap().redo);
        }
        assert_eq!(ControlFile::parse(&sealed(|b| put(b, 12, 202209062))).unwrap().major(), None);
    }

    #[test]
    fn every_flip_and_every_truncation_is_refused() {
        for at in 0..292 {
            let mut bytes = FILE.to_vec();
            bytes[at] ^= 0x20;
            assert!(ControlFile::parse(&bytes).is_err(), "flip at {at}");
            assert!(ControlFile::parse(&FILE[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(ControlFile::parse(&FILE[..292]), ControlFile::parse(FILE));
    }

    #[test]
    fn fields_out_of_range_are_refused_in_words() {
        for (at, value, words) in [
            (16, 7, "cluster state 7"),
            (48, 0, "timeline 0"),
            (172, 3, "wal_level 3"),
            (204, 4, "architecture"),
            (212, 0, "architecture"),
            (216, 8191, "page size of 8191"),
            (224, 0, "page size of 0"),
            (228, 3 << 20, "segment size"),
        ] {
            let error = ControlFile::parse(&sealed(|b| put(b, at, value))).unwrap_err();
            assert!(error.0.contains(words), "{at}: {error}");
        }
        let swapped = ControlFile::parse(&sealed(|b| put(b, 8, 1300_u32.swap_bytes()))).unwrap_err();
        assert!(swapped.0.contains("byte order"), "{swapped}");
        assert!(ControlFile::parse(&sealed(|b| put(b, 8, 1201))).unwrap_err().0.contains("version 1201"));
    }

    #[test]
    fn survives_json_with_exact_identifiers() {
        let file = ControlFile::parse(FILE).unwrap();
        let json = serde_json::to_value(&file).unwrap();
        assert_eq!(json["system_identifier"], file.system_identifier.to_string());
        assert_eq!(serde_json::from_value::<ControlFile>(json).unwrap(), file);
    }
}
