//! What the owner's child can be asked to do, and who does it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::observe::survey::{self, SurveyRequest};
use crate::observe::{backups, places};
use crate::run::owner::{Progress, open_directory};
use crate::run::{absent, configure, copies, dump, reading, sql, staging, switch, tail, tidy, unlogged, wal_log, wal_rows};
use crate::store::{self, Source};
use crate::sys::dir::Dir;

/// What the child is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Task {
    /// Look at cluster, backups and archives.
    Survey(Box<SurveyRequest>),
    /// Which cluster backups and archives are of.
    Origins(Box<survey::OriginsRequest>),
    /// Read settings as a start would.
    Settings(Box<SurveyRequest>),
    /// Read `global/pg_control` (or the name it hides under).
    ReadControl {
        /// Data directory.
        data_directory: PathBuf,
        /// Hidden name of a run, tried when the usual one is absent.
        hidden: Option<String>,
    },
    /// The status line of `postmaster.pid`, empty without one.
    ServerStatus {
        /// Data directory.
        data_directory: PathBuf,
    },
    /// Run the copy of this program as the owner does, to see that it can.
    TryProgram {
        /// Its path.
        program: PathBuf,
    },
    /// Try an exchange of two directories in a parent that is the owner's.
    ProbeExchange {
        /// The parent.
        parent: PathBuf,
    },
    /// Make the run's directory in a parent that is the owner's.
    MakeRunDirectory {
        /// Its path.
        path: PathBuf,
    },
    /// Find the backups in these directories.
    Catalogue {
        /// The directories.
        directories: Vec<PathBuf>,
    },
    /// Dump a database, or what belongs to none.
    Dump(Box<dump::DumpRequest>),
    /// Read a backup whole and say what is proved of it.
    VerifyBackup(Box<Source>),
    /// Unpack a backup.
    Extract(Box<staging::ExtractRequest>),
    /// Take over configuration, write the signal.
    Configure(Box<configure::ConfigureRequest>),
    /// Copy WAL.
    CopyWal(Box<tail::CopyRequest>),
    /// List WAL directories.
    ListWal(Box<tail::ListRequest>),
    /// Read every record of a chain and answer a question about it.
    ReadWal(Box<reading::ReadRequest>),
    /// Read every record there is and list transactions.
    LogWal(Box<wal_log::LogRequest>),
    /// Read every record there is and tell what happened to the rows of some tables.
    WalRows(Box<wal_rows::RowsRequest>),
    /// Read every record there is and say which stretches are whole.
    VerifyWal(Box<wal_log::VerifyRequest>),
    /// The first page of some segment in a directory: whose WAL it is.
    ProbeWal {
        /// The directory.
        directory: PathBuf,
    },
    /// Take init forks out of sight, or give them their names back.
    RenameInitForks(unlogged::Files),
    /// Offer WAL to the archive.
    Tidy(Box<tidy::TidyRequest>),
    /// Mark as archived what the archive has.
    SettleMarks(Box<tidy::SettleRequest>),
    /// One effect of the switch.
    Switch(switch::Effect),
    /// Where the switch stands.
    LookAtSwitch(switch::Places),
    /// What will change places, with inodes.
    ListExchanges(switch::ListRequest),
    /// Look at places that links name.
    ExaminePlaces(Box<places::ExamineRequest>),
    /// Links in `pg_tblspc`.
    ListTablespaces {
        /// Data directory.
        data_directory: PathBuf,
    },
    /// Remove a directory if it is empty.
    RemoveEmpty {
        /// It.
        path: PathBuf,
    },
    /// Which of these pairs of WAL files differ, or cannot be compared.
    CompareWal {
        /// Directory and file of the one, directory and file of the other.
        pairs: Vec<(PathBuf, String, PathBuf, String)>,
    },
    /// Which of these groups of WAL files do not all have the same content.
    CompareCopies(Box<copies::CompareRequest>),
    /// Remove a directory with everything in it.
    RemoveTree {
        /// Directory that holds it.
        parent: PathBuf,
        /// The name.
        name: String,
    },
    /// Remove an empty directory if it is there; whether it is gone.
    RemovePlaceholder {
        /// Directory that holds it.
        parent: PathBuf,
        /// The name.
        name: String,
    },
    /// Remove one file of a directory if it is there.
    RemoveFile {
        /// The directory.
        parent: PathBuf,
        /// The name, beneath it.
        name: String,
    },
    /// Make an empty file durable in a directory.
    TouchFile {
        /// The directory.
        parent: PathBuf,
        /// The name, beneath it.
        name: String,
    },
    /// SQL on a server's socket.
    Sql(sql::SqlRequest),
    /// SQL on a server that a URL leads to.
    SqlAt {
        /// The URL; it may hold a password and is never shown.
        url: String,
        /// Statements.
        statements: Vec<sql::Statement>,
    },
}

impl Task {
    /// Does it, as the owner, with the file that came with it. `say_progress` is told how far it got.
    pub(super) fn perform(self, passed: Option<OwnedFd>, say_progress: &mut dyn FnMut(Progress) -> bool) -> Result<Value> {
        match self {
            Task::Survey(request) => answer(survey::survey(&request)?),
            Task::Origins(request) => answer(survey::origins(&request)),
            Task::Settings(request) => answer(survey::settings(&request)?),
            Task::ReadControl { data_directory, hidden } => {
                answer(switch::read_control(&open_directory(&data_directory)?, hidden.as_deref())?)
            }
            Task::ServerStatus { data_directory } => answer(switch::server_status(&open_directory(&data_directory)?)?),
            Task::TryProgram { program } => answer(staging::try_program(&program)?),
            Task::ProbeExchange { parent } => answer(switch::probe_exchange(&Dir::open(parent)?)?),
            Task::MakeRunDirectory { path } => answer(staging::make_run_directory(&path)?),
            Task::Catalogue { directories } => answer(backups::backups(&directories)),
            Task::Dump(request) => answer(dump::dump(&request, passed, say_progress)?),
            Task::VerifyBackup(source) => {
                let say = &mut |p: store::ExtractProgress| say_progress(Progress { done: p.read, total: Some(p.total) });
                answer(store::verify(&source, say)?)
            }
            Task::Extract(request) => answer(staging::extract(&request, say_progress)?),
            Task::Configure(request) => answer(configure::configure(&request)?),
            Task::CopyWal(request) => answer(tail::copy(&request, say_progress)?),
            Task::ListWal(request) => answer(tail::list(&request)?),
            Task::ReadWal(request) => answer(reading::read(&request)?),
            Task::LogWal(request) => answer(wal_log::log(&request)?),
            Task::WalRows(request) => answer(wal_rows::rows(&request)?),
            Task::VerifyWal(request) => answer(wal_log::verify(&request)?),
            Task::ProbeWal { directory } => answer(wal_log::probe(&directory)?),
            Task::RenameInitForks(files) => answer(unlogged::rename(&files)?),
            Task::Tidy(request) => answer(tidy::tidy(&request)?),
            Task::SettleMarks(request) => answer(tidy::settle_marks(&request)?),
            Task::CompareWal { pairs } => answer(tidy::different(&pairs)),
            Task::CompareCopies(request) => answer(copies::different(&request)?),
            Task::Switch(effect) => answer(switch::perform(&effect)?),
            Task::LookAtSwitch(places) => answer(switch::look(&places)?),
            Task::ListExchanges(request) => answer(switch::list(&request)?),
            Task::ExaminePlaces(request) => answer(places::examine(&request)),
            Task::ListTablespaces { data_directory } => answer(survey::tablespaces(&Dir::open(data_directory)?)?),
            Task::RemoveEmpty { path } => answer(staging::remove_if_empty(&path)?),
            Task::RemoveTree { parent, name } => {
                let parent = Dir::open(parent)?;
                if parent.metadata_if_exists(&name)?.is_some() {
                    parent.remove_tree(&name)?;
                    parent.sync()?;
                }
                answer(())
            }
            Task::RemovePlaceholder { parent, name } => answer(absent::remove_empty(&Dir::open(parent)?, &name)?),
            Task::RemoveFile { parent, name } => {
                let parent = open_directory(&parent)?;
                if parent.unlink_if_exists(&name)? {
                    parent.sync()?;
                }
                answer(())
            }
            Task::TouchFile { parent, name } => answer(open_directory(&parent)?.write_durable(name, b"", 0o600)?),
            Task::Sql(request) => answer(sql::run(&request)?),
            Task::SqlAt { url, statements } => answer(sql::run_at(&url, &statements)?),
        }
    }
}

fn answer<T: Serialize>(value: T) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::failed("describe result").cause(e))
}
