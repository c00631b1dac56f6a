//! Decisions: pure functions from facts to plans. Nothing here touches the host.

pub mod account;
pub mod aim;
pub mod backup;
pub mod chain;
pub mod checks;
pub mod consequence;
pub mod continuity;
pub mod course;
pub mod damaged;
pub mod decision;
pub mod discards;
pub mod elsewhere;
pub mod entry;
pub mod facts;
pub mod guard;
pub mod help;
pub mod host_check;
pub mod ledger;
pub mod lines;
pub mod loss;
pub mod migration;
pub mod place;
pub mod planned;
pub mod preloaded;
pub mod readiness;
pub mod recovery;
pub mod restore;
pub mod spaces;
pub mod sql;
pub mod step;
pub mod target;
pub mod time;
pub mod wal_facts;
pub mod window;

pub use target::{TargetRequest, TimelineRequest};
