//! The only part that prints.
//!
//! * [`plan`], [`run`], [`status`], [`backups`] turn values into a page for people and a document for programs.
//! * [`confirm`] asks before a run, [`interrupt`] after Ctrl-C; [`narrator`] tells its steps while they happen.
//! * [`layout`], [`terminal`], [`progress`], [`logging`] are what all of them are printed with.

pub mod account;
pub mod ahead;
pub mod backups;
pub mod chapters;
pub mod check;
pub mod confirm;
pub mod interrupt;
pub mod layout;
pub mod log;
pub mod logging;
pub mod mark;
pub mod migrations;
pub mod narrator;
pub mod plan;
pub mod progress;
pub mod purge;
pub mod run;
pub mod runs;
pub mod status;
pub mod terminal;
pub mod verify_backups;
pub mod verify_wal;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod schema_check;

pub use progress::{Progress, ProgressMode, Unit};
pub use terminal::Out;
