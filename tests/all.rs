//! One integration binary: real clusters, real files.
//!
//! Needs root, PostgreSQL 15 under `/usr/lib/postgresql/15` and the user `postgres`; `scripts/test` installs what is
//! missing. `PITR_KEEP=1` keeps the scratch directories, `PITR_KEEP=failed` those of failed tests, `PITR_SCRATCH=DIR` puts them elsewhere than `/var/tmp`.

// The lints on panics guard the program; a test speaks by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod after_purge;
mod bad_input;
mod chroot;
mod consequences;
#[cfg(feature = "crash-points")]
mod crash;
mod damage;
mod demands;
mod digest;
mod docs;
mod documents;
mod dump;
mod forks;
mod fresh;
mod goes_on;
mod harness;
mod help;
mod histories;
mod hosts;
mod index;
mod labels;
mod large;
#[cfg(feature = "crash-points")]
mod leftovers;
mod lint;
mod log;
mod lost;
mod majors;
mod mark;
mod marks;
mod meant;
mod migrations;
mod packed;
mod places;
mod planned;
mod postmaster;
mod preloaded;
mod private;
mod privileges;
mod promoted_meanwhile;
mod recall;
mod records;
mod resolve;
mod restore;
mod root_only;
mod settings;
mod signals;
mod store;
mod store_forms;
mod store_plain;
mod store_real;
mod support;
mod tablespaces;
mod terminal;
mod timelines;
mod varieties;
mod verbs;
mod verify;
mod wal;
