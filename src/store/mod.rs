//! Where backups and WAL come from: base backups are found and streamed into staging, archives are listed.
//!
//! Runs as the unprivileged owner of PGDATA. Every name and byte in a backup or archive is hostile input all the same: it may cost
//! an error, never a file outside the directory that was given, unbounded memory, or a panic.

pub mod archive;
pub mod catalogue;
pub mod codec;
mod conclude;
mod copy;
mod entry;
pub mod extract;
pub mod index;
pub mod layout;
mod lz4;
mod pass;
mod plain;
mod readahead;
pub mod recall;
mod skim;
pub mod source;
mod staging;
mod stream;
pub mod tar;
mod unpack;
pub mod verify;
mod zstd;

pub use archive::{ArchiveListing, ArchivedSegment, list_archive};
pub use catalogue::{CatalogueEntry, Label, Problem, catalogue};
pub use copy::weigh_directory as weigh;
pub use extract::{ExtractOptions, ExtractProgress, Extracted, extract, verify};
pub use source::{Form, Source, TablespaceDirectory, TablespaceTar};
pub use verify::VerifyProblems;
