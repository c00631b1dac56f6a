//! `pitr` takes a self-hosted PostgreSQL cluster back to an exact point in time, on the host it runs on.
//!
//! ```text
//! request + config ─▶ observe ───────▶ plan ─▶ run ─────────────▶ report
//!                     host → plain data  pure    journaled steps    text, JSON
//! ```
//!
//! * [`pg`] and [`wal`] know PostgreSQL's formats, [`migrations`] the tools that change schemas; [`plan`] decides. All four are pure.
//! * [`sys`] holds every effect; [`observe`] and [`run`] use it, and [`store`], where backups and WAL come from.
//! * [`verb`] has one file for each thing a person can ask for.
//! * [`report`] is the only part that prints.
//! * [`cli`] and [`config`] are what a person types; a bad word ends there, with its line.

pub mod cli;
pub mod config;
pub mod error;
pub mod host;
pub mod migrations;
pub mod observe;
pub mod pg;
pub mod plan;
pub mod report;
pub mod run;
pub mod store;
pub mod sys;
pub mod verb;
pub mod wal;

use std::process::ExitCode;

/// The program: parses the command line, runs one verb, returns its exit code.
pub fn main() -> ExitCode {
    verb::main()
}
