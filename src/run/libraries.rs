//! Preloaded libraries of a private server: all that are configured while it replays and is asked, the fewest where it
//! may open (pitfalls B7). The step `unload` lies between the two.

use crate::error::{Error, Result};
use crate::plan::ledger::Fact;
use crate::plan::preloaded::{Preloaded, Search};
use crate::run::executor::Run;
use crate::run::replay;

/// Which libraries a private server loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Libraries {
    /// Those that are configured.
    Configured,
    /// Those that do not act, and those that the WAL needs.
    Fewest,
}

impl Libraries {
    /// `shared_preload_libraries`; `None` leaves it as it is configured.
    pub fn setting(self, run: &Run) -> Option<String> {
        (self == Libraries::Fewest).then(|| [configured(run).stay, needed(run)].concat().join(", "))
    }
}

/// The paused server is stopped and started again without the libraries that would act, to the same pause. Where
/// staging stands on the very end of the WAL a start cannot pause there once more: the promotion starts it then.
pub fn unload(run: &mut Run) -> Result<()> {
    replay::stop_loaded(run)?;
    if run.server.is_none() && replay::stands_at_the_end(run)? {
        return Ok(());
    }
    replay::ensure_at_target(run, Libraries::Fewest)
}

/// Runs `attempt`, which starts a server with the fewest libraries. Where replay stops at a resource manager that none
/// of them brings, the libraries that were left out are tried until it goes on.
pub fn with_the_needed<T>(run: &mut Run, attempt: impl Fn(&mut Run) -> Result<T>) -> Result<T> {
    let mut search = Search::new(&configured(run).go, needed(run));
    loop {
        let error = match attempt(run) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let Some(id) = manager_missing(&error) else { return Err(error) };
        run.end_private();
        let Some(libraries) = search.next(id) else {
            return Err(error.hint("The library that brings this resource manager must stand in shared_preload_libraries."));
        };
        log::info!("the WAL needs resource manager {id}: trying with {}", libraries.join(", "));
        run.fact(Fact::Needed { libraries })?;
    }
}

/// What the recovered cluster is configured to preload.
fn configured(run: &Run) -> Preloaded {
    Preloaded::of(&run.ledger().setting(run.recovery(), "shared_preload_libraries"))
}

/// Libraries that replay was found to need.
fn needed(run: &Run) -> Vec<String> {
    run.ledger().last(|f| if let Fact::Needed { libraries } = f { Some(libraries.clone()) } else { None }).unwrap_or_default()
}

/// `resource manager with ID 128 not registered` (`RmgrNotFound`, src/backend/access/transam/rmgr.c, 15 and later).
fn manager_missing(error: &Error) -> Option<u8> {
    let words = error.cause.as_deref()?;
    let (_, rest) = words.split_once("resource manager with ID ")?;
    rest.split_once(" not registered")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_resource_manager_is_recognised() {
        let said = |cause: &str| manager_missing(&Error::failed("the private server stopped").cause(cause));
        assert_eq!(said("resource manager with ID 128 not registered"), Some(128));
        assert_eq!(said("resource manager with ID 12800 not registered"), None);
        assert_eq!(said("recovery ended before configured recovery target was reached"), None);
    }
}
