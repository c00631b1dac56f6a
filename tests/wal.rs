//! The WAL reader against `pg_waldump`, on the WAL of a server that did a bit of everything, and the damage tests.

mod cluster;
mod damage;
mod fixtures;
mod forge;
mod fuzz;
mod memory;
mod oracle;
mod packed;
