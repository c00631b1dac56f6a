//! Recoveries where no cluster could run at PGDATA: it is missing, empty, or its pg_control is destroyed.
//!
//! What stands there is kept aside like any old cluster. Where nothing does, an empty directory is made first, so that
//! there is something to change places with; when the old state comes back, it goes.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::error::{At, Error, Kind, Result};
use crate::observe::postmaster;
use crate::observe::survey::SurveyRequest;
use crate::plan::facts::{Control, Remains, own_environment};
use crate::plan::ledger::Fact;
use crate::run::control;
use crate::run::executor::Run;
use crate::run::owner::Task;
use crate::run::private::without_directory;
use crate::run::staging;
use crate::sys::crash;
use crate::sys::dir::Dir;

/// Makes an empty directory at PGDATA, by whoever owns the parent. One that is there already is left.
pub fn make_placeholder(run: &mut Run) -> Result<()> {
    let path = run.recovery().cluster.data_directory.clone();
    if std::fs::symlink_metadata(&path).is_ok() && run.ledger().facts.contains(&Fact::Placeholder) {
        return Ok(());
    }
    run.fact(Fact::Placeholder)?;
    if run.recovery().cluster.parent_is_owners {
        run.owner::<u64>(Task::MakeRunDirectory { path })?;
    } else {
        place_given(run, &path)?;
    }
    crash::point("after placeholder")
}

/// It gets its name only when it is the owner's: a kill in between would leave a directory at PGDATA that the owner, as
/// whom it is looked at, may not enter.
fn place_given(run: &Run, path: &Path) -> Result<()> {
    let above = path.parent().unwrap_or(Path::new("/"));
    crate::observe::trust::roots_alone(above)?;
    let fresh = above.join(unplaced(run));
    staging::make_run_directory(&fresh)?;
    crash::point("before a change of owner")?;
    let owner = &run.recovery().cluster.owner;
    let ids = (Some(rustix::fs::Uid::from_raw(owner.uid)), Some(rustix::fs::Gid::from_raw(owner.gid)));
    rustix::fs::fchown(Dir::open(&fresh)?.as_fd(), ids.0, ids.1).at("give away", &fresh)?;
    let parent = Dir::open(above)?;
    parent.rename_noreplace(unplaced(run), &parent, path.file_name().unwrap_or_default())?;
    parent.sync()
}

fn unplaced(run: &Run) -> String {
    format!(".pitr-{}.placeholder", run.paths.id)
}

/// Removes the directory that [`make_placeholder`] made, as long as it is empty: nobody put anything there.
pub fn remove_placeholder(run: &mut Run) -> Result<()> {
    let path = run.recovery().cluster.data_directory.clone();
    if run.recovery().cluster.remains != Remains::Missing || !run.ledger().facts.contains(&Fact::Placeholder) {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new("/")).to_path_buf();
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let gone: bool = if run.recovery().cluster.parent_is_owners {
        run.owner_unwatched(Task::RemovePlaceholder { parent, name })?
    } else {
        crate::observe::trust::roots_alone(&parent)?;
        let parent = Dir::open(&parent)?;
        remove_empty(&parent, &unplaced(run))?;
        remove_empty(&parent, &name)?
    };
    if gone { Ok(()) } else { run.remark(format!("{} did not exist before and is not empty now: it was left", path.display())) }
}

/// Removes an empty directory if it is there. Returns whether nothing is there any more.
pub fn remove_empty(parent: &Dir, name: &str) -> Result<bool> {
    if parent.metadata_if_exists(name)?.is_none() {
        return Ok(true);
    }
    if !parent.open_beneath(name)?.entries()?.is_empty() {
        return Ok(false);
    }
    parent.remove_dir(name)?;
    parent.sync()?;
    Ok(true)
}

/// Proves that nothing runs at PGDATA, and sees to it that its unit does not start in the middle.
pub fn prove(run: &mut Run) -> Result<()> {
    control::keep_down(run)?;
    refuse_newcomer(run)?;
    run.fact(Fact::OldAbsent)
}

/// Before every later step: nobody put a cluster to work there meanwhile, and the unit is still kept down.
pub fn nothing_came(run: &mut Run) -> Result<()> {
    let proved = run.ledger().facts.iter().rev().find_map(|fact| match fact {
        Fact::OldAbsent => Some(true),
        Fact::OldStarted | Fact::OldStopped { .. } => Some(false),
        _ => None,
    });
    if proved != Some(true) || run.ledger().switch_begun() {
        return Ok(());
    }
    refuse_newcomer(run)?;
    control::keep_down(run)
}

fn refuse_newcomer(run: &Run) -> Result<()> {
    let data_directory = &run.recovery().cluster.data_directory;
    match postmaster::find(data_directory)? {
        None => Ok(()),
        Some(process) => Err(Error::new(Kind::Refused, format!("a server runs on {}, where nothing could run", data_directory.display()))
            .cause(format!("process {}", process.identity.pid))
            .hint(format!("Somebody made a cluster there. End this recovery: pitr undo {}. Then plan again.", run.paths.id))),
    }
}

/// Settings of the recovered cluster where the plan could not know them: read from staging, now that it is configured.
pub fn read_settings(run: &mut Run) -> Result<()> {
    let recovery = run.recovery();
    if !recovery.config_from_backup {
        return Ok(());
    }
    let cluster = &recovery.cluster;
    let arguments = match &cluster.control {
        Control::PgCtl { options, .. } | Control::Systemd { options, .. } => without_directory(options),
        Control::PgCtlCluster { .. } => Vec::new(),
    };
    let environment = own_environment(cluster.control.environment()).cloned().collect();
    let config_file: Option<PathBuf> = (!cluster.configuration.in_data_directory).then(|| cluster.configuration.config_file.clone());
    let request = SurveyRequest {
        data_directory: run.staging(),
        programs: cluster.programs.clone(),
        config_file,
        environment,
        arguments,
        control: None,
        backups: vec![],
        wal: vec![],
        identify: None,
        looked: vec![],
    };
    let settings = run.owner(Task::Settings(Box::new(request)))?;
    run.fact(Fact::Settings { settings })
}
