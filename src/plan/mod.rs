//! Decisions: pure functions from facts to plans. Nothing here touches the host.

pub mod chain;
pub mod checks;
pub mod facts;
pub mod ledger;
pub mod planned;
pub mod recovery;
pub mod step;
pub mod target;
//! Decisions as values: what a person asked for, and what follows from it.
//!
//! Nothing here touches the host or reads the clock; the time, the zone and the text come in as arguments.
pub mod time;

pub mod sql;

pub use checks::Check;
pub use target::{TargetRequest, TimelineRequest};
