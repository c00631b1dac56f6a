//! The host, read once into plain data. Looks at everything, changes nothing.

pub mod discover;
pub mod host;
pub mod names;
pub mod postmaster;
pub mod remains;
pub mod runs;
pub mod service;
pub mod survey;
pub mod trust;
