//! Signals as flags, read between effects.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGUSR1};

use crate::error::{Error, Kind, Result};

/// What a person or a service manager asked for.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    asked: Arc<AtomicUsize>,
}

impl Signals {
    /// Catches SIGINT and SIGTERM, ignores SIGHUP (a lost connection changes nothing) and SIGPIPE.
    pub fn catch() -> Result<Signals> {
        Signals::catch_all(&[SIGINT, SIGTERM])
    }

    /// The same behind a process at a terminal, which says by SIGUSR1 that what was built is to be removed as well.
    pub fn catch_behind() -> Result<Signals> {
        Signals::catch_all(&[SIGINT, SIGTERM, SIGUSR1])
    }

    fn catch_all(heeded: &[i32]) -> Result<Signals> {
        let signals = Signals::default();
        for signal in heeded {
            signal_hook::flag::register_usize(*signal, Arc::clone(&signals.asked), usize::try_from(*signal).unwrap_or(0))
                .map_err(not_installed)?;
        }
        let ignored = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGPIPE] {
            signal_hook::flag::register(signal, Arc::clone(&ignored)).map_err(not_installed)?;
        }
        Ok(signals)
    }

    /// An error of the right exit code once a stop was asked for.
    pub fn check(&self) -> Result<()> {
        match i32::try_from(self.asked.load(Ordering::SeqCst)) {
            Ok(SIGINT | SIGUSR1) => Err(Error::new(Kind::Interrupted, "interrupted")),
            Ok(SIGTERM) => Err(Error::new(Kind::Terminated, "terminated")),
            _ => Ok(()),
        }
    }

    /// Whether what was built is to be removed.
    pub fn undo_asked(&self) -> bool {
        i32::try_from(self.asked.load(Ordering::SeqCst)) == Ok(SIGUSR1)
    }

    /// Forgets what was asked, so that putting the old cluster back is not itself interrupted.
    pub fn forget(&self) {
        self.asked.store(0, Ordering::SeqCst);
    }
}

fn not_installed(cause: std::io::Error) -> Error {
    Error::failed("install signal handlers").cause(cause)
}

/// Signals to the process at a terminal, each to be taken once.
#[derive(Debug, Default)]
pub struct Caught {
    interrupt: Arc<AtomicBool>,
    terminate: Arc<AtomicBool>,
    hang_up: Arc<AtomicBool>,
}

impl Caught {
    /// Catches SIGINT, SIGTERM and SIGHUP; ignores SIGPIPE.
    pub fn install() -> Result<Caught> {
        let caught = Caught::default();
        let ignored = Arc::new(AtomicBool::new(false));
        let flags = [(SIGINT, &caught.interrupt), (SIGTERM, &caught.terminate), (SIGHUP, &caught.hang_up), (SIGPIPE, &ignored)];
        for (signal, flag) in flags {
            signal_hook::flag::register(signal, Arc::clone(flag)).map_err(not_installed)?;
        }
        Ok(caught)
    }

    /// Ctrl-C was typed since this was asked last.
    pub fn take_interrupt(&self) -> bool {
        self.interrupt.swap(false, Ordering::SeqCst)
    }

    /// The same of SIGTERM.
    pub fn take_terminate(&self) -> bool {
        self.terminate.swap(false, Ordering::SeqCst)
    }

    /// The connection was lost.
    pub fn is_hung_up(&self) -> bool {
        self.hang_up.load(Ordering::SeqCst)
    }
}
