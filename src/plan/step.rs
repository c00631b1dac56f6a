//! The steps a run is made of: a closed set, so that a new one does not compile without its words.

use serde::{Deserialize, Serialize};

use super::recovery::{Dump, Recovery};

/// One journaled step. What each does and how an interrupted one is settled is in `run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Hooks `before`: a failure stops the run.
    HookBefore,
    /// Debian's place for the cluster in `/etc/postgresql`, where there is none.
    Register,
    /// An empty directory at PGDATA, where there is nothing: the recovered cluster changes places with it.
    Placeholder,
    /// Stop the units of `quiesce`, those that run.
    StopUnits,
    /// Hooks `before_stop`.
    HookBeforeStop,
    /// Dump databases of the old cluster, which still serves.
    Dump,
    /// Stop the old cluster and prove it.
    Stop,
    /// Copy WAL that the archive lacks.
    CopyTail,
    /// Unpack the backup into staging, every file verified.
    Extract,
    /// Today's configuration and the recovery signal.
    Configure,
    /// Private start, replay, pause at the target.
    Replay,
    /// Checks while paused.
    Check,
    /// Second private start, without the preloaded libraries that would act once it opens, to the same pause.
    Unload,
    /// Private promotion on our number, then stop.
    Promote,
    /// WAL the archive lacks is offered to it, staging proved.
    Tidy,
    /// Staging and PGDATA change places, pg_control last.
    Switch,
    /// What stands aside becomes root's.
    Seal,
    /// Public start of the recovered cluster.
    Start,
    /// Hooks `after_start`.
    HookAfterStart,
    /// Checks on the serving cluster.
    CheckServing,
    /// Start the units that were stopped.
    StartUnits,
    /// Hooks `done`.
    HookDone,
    /// End a private server or child that is left over.
    EndPrivate,
    /// Start the old cluster as it ran before.
    StartOld,
    /// Hooks `failed`.
    HookFailed,
    /// Stop the recovered cluster.
    StopRecovered,
    /// What stands aside becomes the owner's again.
    Unseal,
    /// The old cluster leaves its timeline for a number above every other.
    MoveOld,
    /// The old cluster comes back into place, pg_control last.
    SwitchBack,
    /// Delete staging, which is ours.
    RemoveStaging,
    /// WAL of the aside that exists nowhere else moves to the run's own directory.
    KeepWal,
    /// Delete the aside.
    RemoveAside,
}

impl Step {
    /// Short name, the same in the journal, in JSON and in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Step::HookBefore => "hook-before",
            Step::Register => "register",
            Step::Placeholder => "placeholder",
            Step::StopUnits => "stop-units",
            Step::HookBeforeStop => "hook-before-stop",
            Step::Dump => "dump",
            Step::Stop => "stop",
            Step::CopyTail => "copy-tail",
            Step::Extract => "extract",
            Step::Configure => "configure",
            Step::Replay => "replay",
            Step::Check => "check",
            Step::Unload => "unload",
            Step::Promote => "promote",
            Step::Tidy => "tidy",
            Step::Switch => "switch",
            Step::Seal => "seal",
            Step::Start => "start",
            Step::HookAfterStart => "hook-after-start",
            Step::CheckServing => "check-serving",
            Step::StartUnits => "start-units",
            Step::HookDone => "hook-done",
            Step::EndPrivate => "end-private",
            Step::StartOld => "start-old",
            Step::HookFailed => "hook-failed",
            Step::StopRecovered => "stop-recovered",
            Step::Unseal => "unseal",
            Step::MoveOld => "move-old",
            Step::SwitchBack => "switch-back",
            Step::RemoveStaging => "remove-staging",
            Step::KeepWal => "keep-wal",
            Step::RemoveAside => "remove-aside",
        }
    }

    /// The phase of the JSON documents that its seconds count for.
    pub fn phase(&self) -> &'static str {
        match self {
            Step::HookBefore | Step::StopUnits | Step::HookBeforeStop | Step::Dump | Step::Stop | Step::CopyTail | Step::StopRecovered => {
                "stop"
            }
            Step::Register | Step::Placeholder | Step::Extract => "extract",
            Step::Configure => "configure",
            Step::Replay => "replay",
            Step::Check | Step::CheckServing => "check",
            Step::Unload | Step::Promote | Step::MoveOld => "promote",
            Step::Tidy | Step::EndPrivate | Step::RemoveStaging | Step::KeepWal | Step::RemoveAside => "tidy",
            Step::Switch | Step::Seal | Step::Unseal | Step::SwitchBack => "switch",
            Step::Start | Step::HookAfterStart | Step::StartUnits | Step::HookDone | Step::StartOld | Step::HookFailed => "start",
        }
    }

    /// What the step will do, for the plan.
    pub fn describe(&self, recovery: &Recovery) -> String {
        let cluster = &recovery.cluster;
        let pgdata = cluster.data_directory.display();
        match self {
            Step::HookBefore => format!("run hooks 'before' ({})", recovery.site.hooks.before.len()),
            Step::Register => format!("make {} by pg_createcluster, with Debian's settings", cluster.configuration.config_file.display()),
            Step::Placeholder => format!("make an empty directory at {pgdata}"),
            Step::StopUnits if recovery.site.quiesce.is_empty() => "stop the units that need the cluster's, those that run".into(),
            Step::StopUnits => format!("stop {}", recovery.site.quiesce.join(", ")),
            Step::HookBeforeStop => format!("run hooks 'before_stop' ({})", recovery.site.hooks.before_stop.len()),
            Step::Dump => recovery.dump.as_ref().map_or_else(String::new, Dump::words),
            Step::Stop if !cluster.remains.could_run() => format!("prove that nothing runs on {pgdata}"),
            Step::Stop => format!("stop {} by {}, prove it", cluster.name, cluster.control_words()),
            Step::CopyTail => "copy WAL that the archive lacks".into(),
            Step::Extract => format!("unpack {} beside {pgdata}, verify every file", recovery.backup_name()),
            Step::Configure if recovery.config_from_backup && cluster.configuration.in_data_directory => {
                "take the configuration of the backup".into()
            }
            Step::Configure if cluster.configuration.in_data_directory => "take over today's configuration".into(),
            Step::Configure => format!("keep the configuration in {}", cluster.configuration.config_file.display()),
            Step::Replay => "start privately, replay WAL to the target, pause".into(),
            Step::Check => match recovery.site.checks.len() + usize::from(recovery.migration.is_some()) {
                0 => "no checks are configured: only the target is proved".into(),
                1 => "run 1 check while paused".into(),
                n => format!("run {n} checks while paused"),
            },
            Step::Unload => match recovery.preloaded.names() {
                names if names.is_empty() => "start privately again without preloaded libraries, to the same pause".into(),
                names => format!("start privately again without {names}, to the same pause"),
            },
            Step::Promote => "promote privately to a new timeline, stop".into(),
            Step::Tidy => "offer the archive what it lacks, prove the result".into(),
            Step::Switch => format!("exchange it with {pgdata}"),
            Step::Seal => "put the replaced cluster out of reach".into(),
            Step::Start => format!("start {}", cluster.name),
            Step::HookAfterStart => format!("run hooks 'after_start' ({})", recovery.site.hooks.after_start.len()),
            Step::CheckServing => "check again on the serving cluster".into(),
            Step::StartUnits => "start the units that were stopped".into(),
            Step::HookDone => format!("run hooks 'done' ({})", recovery.site.hooks.done.len()),
            Step::EndPrivate => "end what is left of the private server".into(),
            Step::StartOld if !cluster.serving => format!("leave {pgdata} as it was, not running"),
            Step::StartOld => format!("start the old cluster {}", cluster.name),
            Step::HookFailed => format!("run hooks 'failed' ({})", recovery.site.hooks.failed.len()),
            Step::StopRecovered => format!("stop the recovered cluster {}", cluster.name),
            Step::Unseal => "give the cluster aside back to its owner".into(),
            Step::MoveOld => "move the old cluster to a timeline of its own".into(),
            Step::SwitchBack => format!("exchange it back with {pgdata}"),
            Step::RemoveStaging => "delete what was staged".into(),
            Step::KeepWal => "keep WAL that exists nowhere else".into(),
            Step::RemoveAside => "delete the cluster aside".into(),
        }
    }
}
