//! The run: journaled steps, executed one by one, each settled by looking at the host after a crash.
//!
//! * `executor` walks a section of steps against the `journal`; `steps` says what each does. `leftovers` ends what a killed
//!   run left at work, before it goes on.
//! * `owner` is the unprivileged child that touches everything below PGDATA; `staging`, `configure`, `tail`,
//!   `tidy`, `switch`, `sql` are what it does.
//! * `vault` opens for that child what only root may read and the configuration names.
//! * `private` launches the server nobody else sees; `broker` and `wal_get` feed it WAL; `replay` watches it.
//! * `control` stops and starts the public server. `reading` and `wal_log` answer questions
//!   about WAL, `copies` compares what should be the same of it.

pub mod absent;
pub mod aftermath;
pub mod beside;
pub mod broker;
pub mod configure;
pub mod control;
pub mod copies;
pub mod dump;
pub mod exchange;
pub mod executor;
pub mod hooks;
pub mod in_order;
pub mod journal;
pub mod leftovers;
pub mod libraries;
pub mod marks;
pub mod moveold;
pub mod owner;
pub mod paths;
pub mod private;
pub mod promote;
pub mod purge;
pub mod reading;
pub mod record;
pub mod register;
pub mod replay;
pub mod segments;
pub mod sources;
pub mod sql;
pub mod staging;
pub mod steps;
pub mod switch;
pub mod tail;
pub mod task;
pub mod tidy;
pub mod unlogged;
pub mod validate;
pub mod validate_migration;
pub mod vault;
pub mod wal_get;
pub mod wal_log;
pub mod wal_rows;
pub mod watch;
