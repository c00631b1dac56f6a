//! Where a run keeps its things.
//!
//! `<state>/runs/<id>/` is root's: journal, report, log of the private server, the program's copy. The owner may
//! walk through it (0711) but list nothing; `door` is the owner's, for the private server's socket.
//! `<parent of PGDATA>/.pitr-<id>/` holds `data` (staging, after the switch the old cluster) and `tail` (copied WAL).

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{At, Error, Result};
use crate::host::Owner;

/// The longest path of a Unix socket that Linux takes (`sun_path`, unix(7)), without its zero byte.
pub const SOCKET_LIMIT: usize = 107;

/// Paths of one run in the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPaths {
    /// `<state>/runs/<id>`.
    pub root: PathBuf,
    /// The run's id.
    pub id: String,
}

impl RunPaths {
    /// Paths of run `id` under `state`.
    pub fn new(state: &Path, id: &str) -> RunPaths {
        RunPaths { root: state.join("runs").join(id), id: id.to_string() }
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// The lock that every child of the run holds.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Directory of the private server's socket, the owner's.
    pub fn door(&self) -> PathBuf {
        self.root.join("door")
    }

    /// Socket of the broker that answers `wal-get`.
    pub fn broker(&self) -> PathBuf {
        self.root.join("wal.sock")
    }

    /// Access file of the private server.
    pub fn access_file(&self) -> PathBuf {
        self.root.join("hba.conf")
    }

    /// Empty user-name map of the private server.
    pub fn ident_file(&self) -> PathBuf {
        self.root.join("ident.conf")
    }

    /// What the private server says.
    pub fn server_log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    /// Copy of this program that the owner can run.
    pub fn program(&self) -> PathBuf {
        self.root.join("pitr")
    }

    /// WAL kept by a purge, the owner's.
    pub fn kept_wal(&self) -> PathBuf {
        self.root.join("wal")
    }

    /// Name of the marker file in the run's data directory.
    pub fn marker(&self) -> String {
        marker_name(&self.id)
    }

    /// Makes the run's directory and what never changes in it; fails if it exists.
    pub fn create(&self, state: &Path, owner: &Owner) -> Result<()> {
        prepare_state(state)?;
        std::fs::DirBuilder::new().mode(0o711).create(&self.root).at("make", &self.root)?;
        std::fs::set_permissions(&self.root, std::fs::Permissions::from_mode(0o711)).at("set mode of", &self.root)?;
        self.make_owned(&self.door(), owner)?;
        self.write_access()?;
        self.copy_program()
    }

    /// Only the private server's own socket directory, mode 0700, leads to it.
    fn write_access(&self) -> Result<()> {
        write_readable(
            &self.access_file(),
            b"# private server: only its own socket directory, mode 0700, leads here\nlocal all all trust\n",
            0o644,
        )?;
        write_readable(&self.ident_file(), b"", 0o644)
    }

    /// Makes sure that what the owner needs is there, for a run that goes on.
    pub fn renew(&self, owner: &Owner) -> Result<()> {
        self.make_owned(&self.door(), owner)?;
        self.write_access()?;
        self.copy_program()
    }

    /// A directory of the run that belongs to the owner, 0700. One that is there already is the same: the run may have been
    /// killed between making it and giving it away. It stands in the run's own directory, where only root makes anything.
    pub fn make_owned(&self, path: &Path, owner: &Owner) -> Result<()> {
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && std::fs::symlink_metadata(path).is_ok_and(|m| m.is_dir()) => {}
            made => made.at("make", path)?,
        }
        std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid)).at("give away", path)
    }

    /// Removes the program's copy of a run that is over; a run that goes on makes it anew.
    pub fn forget_program(&self) {
        if let Err(error) = std::fs::remove_file(self.program()) {
            log::debug!("remove {}: {error}", self.program().display());
        }
    }

    /// Deletes the run's own directory. Nothing of the run may stand anywhere else.
    pub fn remove(&self) -> Result<()> {
        std::fs::remove_dir_all(&self.root).at("delete", &self.root)
    }

    /// The program runs from here even while a package upgrade replaces the installed one.
    fn copy_program(&self) -> Result<()> {
        let path = self.program();
        let fresh = self.root.join("pitr.new");
        let _ = std::fs::remove_file(&fresh);
        std::fs::copy("/proc/self/exe", &fresh).at("copy this program to", &fresh)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755)).at("set mode of", &fresh)?;
        std::fs::rename(&fresh, &path).at("rename", &path)
    }
}

/// Name of the marker file that says which run made a data directory.
pub fn marker_name(id: &str) -> String {
    format!("pitr-{id}.run")
}

/// The run whose marker this is.
pub fn parse_marker(name: &str) -> Option<&str> {
    name.strip_prefix("pitr-")?.strip_suffix(".run").filter(|id| is_run_id(id))
}

/// Whether text has the form of a run's id: `20261121T231500Z-4f2a`.
pub fn is_run_id(text: &str) -> bool {
    let (time, tail) = text.split_once('-').unwrap_or((text, ""));
    time.len() == 16
        && time.bytes().enumerate().all(|(i, b)| match i {
            8 => b == b'T',
            15 => b == b'Z',
            _ => b.is_ascii_digit(),
        })
        && tail.len() == 4
        && tail.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A new id that sorts by time.
pub fn new_run_id(now: jiff::Timestamp) -> String {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let salt = crc32c::crc32c(format!("{pid} {now}").as_bytes()) & 0xFFFF;
    format!("{}-{salt:04x}", now.strftime("%Y%m%dT%H%M%SZ"))
}

/// Makes the state directory with what every run needs in it; returns the directory of the clusters' locks.
pub fn prepare_state(state: &Path) -> Result<PathBuf> {
    make_public_directory(state)?;
    make_public_directory(&state.join("runs"))?;
    let locks = state.join("locks");
    make_public_directory(&locks)?;
    Ok(locks)
}

/// A directory of root's that others may walk through but not list.
fn make_public_directory(path: &Path) -> Result<()> {
    match std::fs::DirBuilder::new().mode(0o711).recursive(true).create(path) {
        Ok(()) => {}
        Err(e) => return Err(e).at("make", path),
    }
    let metadata = std::fs::symlink_metadata(path).at("look at", path)?;
    use std::os::unix::fs::MetadataExt;
    if !metadata.is_dir() || metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
        return Err(Error::usage(format!("state directory {} is not root's alone", path.display()))
            .hint(format!("Make it a directory of root that no one else can write: chown root: {0}; chmod 711 {0}", path.display())));
    }
    if metadata.mode() & 0o777 != 0o711 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711)).at("set mode of", path)?;
    }
    Ok(())
}

fn write_readable(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    std::fs::write(path, bytes).at("write", path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).at("set mode of", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_are_recognised() {
        let early = new_run_id("2026-11-21T21:00:00Z".parse().unwrap());
        let late = new_run_id("2026-11-21T21:00:01Z".parse().unwrap());
        assert!(early < late && is_run_id(&early));
        assert_eq!(parse_marker(&marker_name(&early)), Some(early.as_str()));
        for text in ["", "20261121T210000Z", "20261121T210000Z-xyzw", "20261121-210000Z-0000", "../etc"] {
            assert!(!is_run_id(text), "{text}");
        }
    }
}
