//! What a backup consists of: plain data that crosses from the process that looked to the process that extracts.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A base backup that was found, by name and form. Paths are real paths; nothing in them is a link that was followed below a
/// configured directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The name it is asked for by: its file or directory name.
    pub name: String,
    /// What it consists of.
    pub form: Form,
}

/// The forms of a base backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Form {
    /// What `pg_basebackup -Ft` writes.
    TarDirectory {
        /// The directory.
        directory: PathBuf,
        /// Name of `base.tar` with its suffix.
        base: String,
        /// `OID.tar` of each tablespace.
        tablespaces: Vec<TablespaceTar>,
        /// Name of `pg_wal.tar` (`-X stream`) with its suffix.
        wal: Option<String>,
        /// Whether there is a `backup_manifest`.
        manifest: bool,
    },
    /// One tar of a data directory, with or without a leading directory.
    Tarball {
        /// The file.
        file: PathBuf,
        /// `backup_label` is its first member, as only the server sends it: then its `pg_wal` belongs to the backup too
        /// (`-X fetch`), where a copy of files has whatever lay there.
        from_server: bool,
    },
    /// What `pg_basebackup -Fp` writes: a data directory.
    Plain {
        /// The directory.
        directory: PathBuf,
    },
}

/// A tablespace of a [`Form::TarDirectory`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablespaceTar {
    /// The tablespace's OID.
    pub oid: u32,
    /// File name with its suffix.
    pub file: String,
}

impl Source {
    /// The file or directory that is the backup.
    pub fn path(&self) -> &Path {
        match &self.form {
            Form::TarDirectory { directory, .. } | Form::Plain { directory } => directory,
            Form::Tarball { file, .. } => file,
        }
    }
}
