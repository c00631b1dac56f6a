//! Decisions as values: what a person asked for, and what follows from it.
//!
//! Nothing here touches the host or reads the clock; the time, the zone and the text come in as arguments.

pub mod checks;
pub mod sql;
pub mod target;
pub mod time;

pub use checks::Check;
pub use target::{TargetRequest, TimelineRequest};
