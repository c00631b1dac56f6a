//! The host, read once into plain data. Looks at everything, changes nothing.

pub mod backups;
pub mod discover;
pub mod histories;
pub mod host;
pub mod meant;
pub mod migration_files;
pub mod names;
pub mod places;
pub mod postmaster;
pub mod remains;
pub mod runs;
pub mod service;
pub mod survey;
pub mod traces;
pub mod trust;
pub mod whose;
