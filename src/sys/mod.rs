//! Every effect on the host: descriptors, durable writes, processes, namespaces, locks, signals.
//!
//! Only `observe` and `run` call into here. Nothing here decides; each function does one thing and says in its
//! doc comment what it guarantees. `unsafe` is denied: all system calls go through safe wrappers.

pub mod crash;
pub mod descendant;
pub mod dir;
pub mod front;
pub mod identity;
pub mod label;
pub mod lock;
pub mod namespace;
pub mod passing;
pub mod proc;
pub mod reflink;
pub mod service;
pub mod signals;
pub mod syslog;
pub mod vault;
pub mod way;
