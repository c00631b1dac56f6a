//! Backups of a real cluster.
