//! The places where a cluster's data lies, and the exchanges that a switch consists of.
//!
//! PGDATA is one; each tablespace outside PGDATA and a `pg_wal` that is a link are others, often on filesystems of
//! their own. Each gets a run's directory beside or in it, on the same filesystem, in which the new content is staged
//! and in which the old one stands aside after the switch.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Directory in a data directory that is a mount point, which holds those of the runs. `pg_basebackup` and
/// `pg_checksums` pass over names that begin like this (`PG_TEMP_FILES_DIR`, storage/fd.h), and the server removes such
/// names only elsewhere (`RemovePgTempFiles`).
pub const INSIDE: &str = "pgsql_tmp.pitr";

/// What a place holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// PGDATA.
    Data,
    /// PGDATA that is itself a mount point: what changes places are its entries.
    MountedData,
    /// A tablespace outside PGDATA.
    Tablespace,
    /// A `pg_wal` outside PGDATA.
    Wal,
}

/// A place, by the directory in which something changes places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// What it holds.
    pub holds: Holds,
    /// The directory whose entry changes places, and in which the run's directory stands: PGDATA's parent, a
    /// tablespace's location (or PGDATA itself, mounted), the parent of an external `pg_wal`. A real path.
    pub parent: PathBuf,
    /// The entry: PGDATA's name, `PG_15_202209061`, the name of the external `pg_wal`; empty for a mounted PGDATA.
    pub name: String,
    /// `parent` belongs to the owner; otherwise to root alone.
    pub parent_is_owners: bool,
    /// The filesystem exchanges two names in one step; otherwise it takes three renames.
    pub one_step: bool,
    /// The paths by which links in PGDATA name it.
    pub called: Vec<PathBuf>,
    /// Bytes that must stay free on its filesystem.
    pub reserve: u64,
}

impl Place {
    /// The directory of run `id` at this place.
    pub fn run_directory(&self, id: &str) -> PathBuf {
        let name = format!(".pitr-{id}");
        match self.holds {
            Holds::MountedData => self.parent.join(INSIDE).join(name),
            Holds::Data | Holds::Tablespace | Holds::Wal => self.parent.join(name),
        }
    }

    /// What is staged there, and stands aside later: what a private server finds at [`Place::at`].
    pub fn staged(&self, id: &str) -> PathBuf {
        self.run_directory(id).join(match self.holds {
            Holds::Data | Holds::MountedData => "data",
            Holds::Tablespace => "space",
            Holds::Wal => "wal",
        })
    }

    /// Where a server finds the content: the real path of PGDATA, of a tablespace's location or of `pg_wal`.
    pub fn at(&self) -> PathBuf {
        match self.holds {
            Holds::Data | Holds::Wal => self.parent.join(&self.name),
            Holds::MountedData | Holds::Tablespace => self.parent.clone(),
        }
    }
}

/// Two names that change places, or one that moves in or out, with what tells them apart. An inode survives a reboot; a
/// device number need not, and is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// Directory of the name that servers know.
    pub live: PathBuf,
    /// That name.
    pub name: String,
    /// Directory of the other name.
    pub aside: PathBuf,
    /// The other name.
    pub aside_name: String,
    /// Inode of the old one, if there is one.
    pub old: Option<u64>,
    /// Inode of the new one, if there is one.
    pub new: Option<u64>,
    /// `live` is the owner's: the owner renames; otherwise root does.
    pub by_owner: bool,
    /// Both change places in one step.
    pub one_step: bool,
}

/// A tablespace of the backup and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    /// Its OID.
    pub oid: u32,
    /// What the link in `pg_tblspc` says; `None`: it lies in `pg_tblspc` itself.
    pub location: Option<PathBuf>,
    /// The location's real path.
    pub real: Option<PathBuf>,
}

/// Name of a tablespace's directory of one version (`TABLESPACE_VERSION_DIRECTORY`, common/relpath.h).
pub fn version_directory(major: u32, catalog_version: u32) -> String {
    format!("PG_{major}_{catalog_version}")
}

/// Whether the text of a link or map names no place outside PGDATA: `pg_tablespace_location` calls a tablespace in place
/// `pg_tblspc/OID`.
pub fn is_in_place(oid: u32, text: &Path) -> bool {
    text == Path::new("pg_tblspc").join(oid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_stands_on_the_filesystem_of_each_place() {
        let place = |holds, parent: &str, name: &str| Place {
            holds,
            parent: parent.into(),
            name: name.into(),
            parent_is_owners: true,
            one_step: true,
            called: vec![],
            reserve: 0,
        };
        for (place, at, staged) in [
            (place(Holds::Data, "/pg", "main"), "/pg/main", "/pg/.pitr-R/data"),
            (place(Holds::MountedData, "/pg/main", ""), "/pg/main", "/pg/main/pgsql_tmp.pitr/.pitr-R/data"),
            (place(Holds::Tablespace, "/mnt/a b", "PG_15_1"), "/mnt/a b", "/mnt/a b/.pitr-R/space"),
            (place(Holds::Wal, "/pg", "wal"), "/pg/wal", "/pg/.pitr-R/wal"),
        ] {
            assert_eq!((place.at(), place.staged("R")), (at.into(), staged.into()));
        }
        assert!(is_in_place(16400, Path::new("pg_tblspc/16400")) && !is_in_place(16400, Path::new("/pg_tblspc/16400")));
    }
}
