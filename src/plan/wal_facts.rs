//! What reading the records of a chain showed, as far as it decides a plan.

use super::backup::Choice;
use super::planned::Reason;
use super::recovery::Target;
use crate::pg::{Lsn, SegmentSize};

/// Findings of one read of the chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalFindings {
    /// Tablespaces created on the way: OID and location.
    pub tablespaces: Vec<(u32, String)>,
    /// Start of the last valid record.
    pub last_record: Option<Lsn>,
    /// Where reading stopped, and why, when that is damage and not the end.
    pub damage: Option<(Lsn, String)>,
    /// Highest values of settings that hot standby needs, as [`crate::pg::version::FLOORS`] names them.
    pub floors: Option<[i64; 5]>,
}

impl WalFindings {
    /// Reasons that follow for `target`.
    pub fn reasons(&self, target: &Target, chosen: &Choice, size: SegmentSize, reasons: &mut Vec<Reason>) {
        for (oid, location) in &self.tablespaces {
            reasons.push(Reason::fact(
                "tablespace",
                format!("WAL creates tablespace {oid} at {location}"),
                "Replaying that would touch the live directory; tablespaces are not supported yet.",
            ));
        }
        if let Some((lsn, why)) = &self.damage {
            let needed = target.lsn.is_none_or(|target| target >= *lsn);
            if needed {
                let name = size.number(*lsn);
                reasons.push(Reason::fact(
                    "wal-damaged",
                    format!("WAL cannot be read at {lsn} (segment number {name}): {why}"),
                    format!("It is good up to there: --before-lsn {lsn}, if that is after the end of backup {}.", chosen.entry.name),
                ));
            }
        }
    }
}
