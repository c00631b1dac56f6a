//! Decisions: pure functions from facts to plans. Nothing here touches the host.

pub mod checks;
pub mod facts;
pub mod ledger;
pub mod recovery;
pub mod step;
pub mod target;
