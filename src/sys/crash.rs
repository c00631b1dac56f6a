//! Points at which a test may kill the coordinator.
//!
//! In a build without the feature `crash-points` [`point`] is nothing at all: a root tool has no knobs in its
//! environment. With it, `PITR_CRASH_COUNT=FILE` appends each point's name to FILE and `PITR_CRASH_AT=N` sends
//! SIGKILL to the process at the N-th point (1-based); `PITR_FAIL_AT=N` makes that point return an error instead. In
//! place of a number stands the name of a point: every one of that name.

use crate::error::Result;

/// A place between two effects.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_name: &str) -> Result<()> {
    Ok(())
}

/// A place between two effects, counted; see the module's words.
#[cfg(feature = "crash-points")]
pub fn point(name: &str) -> Result<()> {
    use std::io::Write;
    use std::sync::atomic::{AtomicU64, Ordering};
    static REACHED: AtomicU64 = AtomicU64::new(0);

    let number = REACHED.fetch_add(1, Ordering::SeqCst) + 1;
    if let Some(file) = std::env::var_os("PITR_CRASH_COUNT")
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(file)
    {
        let _ = writeln!(file, "{number} {name}");
    }
    let wanted = |variable: &str| std::env::var(variable).is_ok_and(|wish| wish == number.to_string() || wish == name);
    if wanted("PITR_CRASH_AT") {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::thread::sleep(std::time::Duration::from_secs(60));
    }
    if wanted("PITR_FAIL_AT") {
        return Err(crate::error::Error::failed(format!("test failure at point {number} ({name})")));
    }
    Ok(())
}
