//! What the tests stand on: real PostgreSQL clusters, backups as people make them, the built `pitr`, and the data of
//! a story whose rows are known at every point.

// Not every part is used by every state of the test suite.
#![allow(dead_code)]

pub mod backup;
pub mod busy;
pub mod by_hand;
pub mod cluster;
pub mod held;
pub mod majors;
pub mod pitr;
pub mod process;
pub mod program;
pub mod psql;
pub mod scratch;
pub mod server;
pub mod stand;
pub mod standby;
pub mod story;
pub mod strace;
pub mod terminal;
pub mod tools;
pub mod tree;

pub use by_hand::recover_by_hand;
pub use cluster::TestCluster;
pub use pitr::Pitr;
pub use scratch::Scratch;
pub use story::Story;

use std::time::{Duration, Instant};

/// Calls `ready` until it is true; panics with `what` after `seconds`.
pub fn wait_until(seconds: u64, what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !ready() {
        assert!(Instant::now() < deadline, "waited {seconds} s in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
