//! Where backups and WAL come from: base backups are found and streamed into staging, archives are listed.
//!
//! Runs as the unprivileged owner of PGDATA. Every name and byte in a backup or archive is hostile input all the same: it may cost
//! an error, never a file outside the directory that was given, unbounded memory, or a panic.

pub mod codec;
pub mod layout;
pub mod tar;
