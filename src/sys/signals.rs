//! Signals as flags, read between effects.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};

use crate::error::{Error, Kind, Result};

/// What a person or a service manager asked for.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    asked: Arc<AtomicUsize>,
}

impl Signals {
    /// Catches SIGINT and SIGTERM, ignores SIGHUP (a lost connection changes nothing) and SIGPIPE.
    pub fn catch() -> Result<Signals> {
        let signals = Signals::default();
        let failed = |e: std::io::Error| Error::failed("install signal handlers").cause(e);
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_usize(signal, Arc::clone(&signals.asked), usize::try_from(signal).unwrap_or(0)).map_err(failed)?;
        }
        let ignored = Arc::new(std::sync::atomic::AtomicBool::new(false));
        for signal in [SIGHUP, SIGPIPE] {
            signal_hook::flag::register(signal, Arc::clone(&ignored)).map_err(failed)?;
        }
        Ok(signals)
    }

    /// An error of the right exit code once a stop was asked for.
    pub fn check(&self) -> Result<()> {
        match i32::try_from(self.asked.load(Ordering::SeqCst)) {
            Ok(SIGINT) => Err(Error::new(Kind::Interrupted, "interrupted")),
            Ok(SIGTERM) => Err(Error::new(Kind::Terminated, "terminated")),
            _ => Ok(()),
        }
    }

    /// Forgets what was asked, so that putting the old cluster back is not itself interrupted.
    pub fn forget(&self) {
        self.asked.store(0, Ordering::SeqCst);
    }
}
