//! The only part that prints.
//!
//! * [`plan`], [`run`], [`status`], [`backups`] turn values into a page for people and a document for programs.
//! * [`narrator`] tells a run's steps while they happen; [`confirm`] asks before them.
//! * [`layout`], [`terminal`], [`progress`], [`logging`] are what all of them are printed with.

pub mod layout;
pub mod plan;
pub mod progress;
pub mod run;
pub mod status;
pub mod terminal;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod schema_check;

pub use progress::{Progress, ProgressMode, Unit};
pub use terminal::Out;
