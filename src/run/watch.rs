//! The old cluster while it must be down: it is as the journal left it, or the run does not go on.
//!
//! Without systemd nobody can be kept from starting it. What clients wrote meanwhile would be lost without a word.

use crate::error::{Error, Kind, Result};
use crate::observe::postmaster;
use crate::pg::ControlFile;
use crate::run::exchange::stage;
use crate::run::executor::Run;
use crate::run::owner::Task;
use crate::run::switch::Stage;
use crate::run::{absent, control};

/// Before every step of a recovery: while the old cluster must be down, it is as the journal left it, and its unit cannot be
/// started. After a reboot that is made so again.
pub fn compare_old_cluster(run: &mut Run) -> Result<()> {
    let Some(expected) = run.ledger().old_control() else { return absent::nothing_came(run) };
    if !matches!(stage(run)?, Stage::Nothing | Stage::Staged | Stage::Hidden) {
        return Ok(());
    }
    let data_directory = run.recovery().cluster.data_directory.clone();
    let gone = std::fs::symlink_metadata(data_directory.join("global")).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
    if gone && run.ledger().switch_begun() {
        // Between two renames nothing stands there that could run.
        return control::keep_down(run);
    }
    let running = postmaster::find(&data_directory)?.is_some();
    let found: ControlFile = run.owner(Task::ReadControl { data_directory: data_directory.clone(), hidden: None })?;
    if found == expected && !running {
        return control::keep_down(run);
    }
    let added = found.next_xid.saturating_sub(expected.next_xid);
    let cause = if running {
        "it runs again".to_string()
    } else if found.system_identifier != expected.system_identifier {
        format!("another cluster stands there, system identifier {}, not {}", found.system_identifier, expected.system_identifier)
    } else {
        let moved =
            |what: &ControlFile| format!("{} (redo {}, timeline {}, {})", what.checkpoint, what.redo, what.timeline, what.state.name());
        format!("its checkpoint moved from {} to {}", moved(&expected), moved(&found))
    };
    Err(Error::new(
        Kind::Refused,
        format!("the old cluster on {} ran after it was stopped; {added} transactions or more were added", data_directory.display()),
    )
    .cause(cause)
    .id("old-cluster-ran")
    .hint(format!(
        "To discard what was added: pitr resume {0} --accept old-cluster-ran. To keep it and end the recovery: pitr undo {0}.",
        run.paths.id
    )))
}
