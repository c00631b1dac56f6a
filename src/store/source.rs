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
    /// What `pg_basebackup -Fp` writes, or a copied data directory.
    Plain {
        /// The directory.
        directory: PathBuf,
        /// No server was ever started in it (it has no `postmaster.opts`): then its `pg_wal` belongs to the backup, where
        /// a copied data directory has whatever lay there.
        #[serde(default)]
        from_server: bool,
        /// Where the content of each tablespace lies that is a link in `pg_tblspc`.
        #[serde(default)]
        tablespaces: Vec<TablespaceDirectory>,
        /// Whether its `backup_manifest` is of this backup.
        #[serde(default)]
        manifest: bool,
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

/// A tablespace of a [`Form::Plain`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablespaceDirectory {
    /// The tablespace's OID.
    pub oid: u32,
    /// Real path of the directory that the link names; the content is in `PG_<major>_<catalogue version>` there.
    pub directory: PathBuf,
}

impl Source {
    /// The file or directory that is the backup.
    pub fn path(&self) -> &Path {
        match &self.form {
            Form::TarDirectory { directory, .. } | Form::Plain { directory, .. } => directory,
            Form::Tarball { file, .. } => file,
        }
    }
}
