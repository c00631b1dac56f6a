//! Whose a data directory is, and whether that can be believed.
//!
//! A run works as the owner of PGDATA. Whoever can make a link on the way to it would choose that owner, and with it whom
//! the run works as on their input. So a link counts only if it is root's or of the very user it leads to.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Stat;

use crate::error::{Error, Kind, Result};
use crate::sys::way::{self, Link};

/// A place for a data directory.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its real path; where it is missing, its name in the real path of the directory above.
    pub path: PathBuf,
    /// Who owns it, or where it is missing, the directory above.
    pub uid: u32,
    /// The place itself, unless it is missing.
    pub there: Option<Stat>,
}

/// Follows `path`. Refused where a link on the way belongs to neither root nor the owner of the place.
pub fn place(path: &Path) -> Result<Place> {
    match (way::follow(path), path.parent(), path.file_name()) {
        (Err(e), Some(parent), Some(name)) if e.kind() == io::ErrorKind::NotFound && std::fs::symlink_metadata(path).is_err() => {
            let above = way::follow(parent).map_err(|e| unreachable(path, e))?;
            honest(path, &above.links, above.end.stat.st_uid)?;
            Ok(Place { path: above.end.path.join(name), uid: above.end.stat.st_uid, there: None })
        }
        (way, ..) => {
            let way = way.map_err(|e| unreachable(path, e))?;
            honest(path, &way.links, way.end.stat.st_uid)?;
            Ok(Place { path: way.end.path, uid: way.end.stat.st_uid, there: Some(way.end.stat) })
        }
    }
}

fn unreachable(path: &Path, error: io::Error) -> Error {
    Error::new(Kind::Refused, format!("open data directory {}", path.display()))
        .cause(error)
        .hint("Is it mounted? The directory that it stands in must be there, even where PGDATA itself is lost.")
}

fn honest(path: &Path, links: &[Link], owner: u32) -> Result<()> {
    let Some(Link { link, .. }) = links.iter().find(|l| l.link.stat.st_uid != 0 && l.link.stat.st_uid != owner) else { return Ok(()) };
    Err(Error::new(Kind::Refused, format!("{} leads to a place of uid {owner}", path.display()))
        .cause(format!("the link {} belongs to uid {}", link.path.display(), link.stat.st_uid))
        .hint("If it is right, make the link root's: `chown -h root LINK`; or name the real path as data_directory in /etc/pitr/pitr.toml.")
        .id("foreign-owner"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, lchown, symlink};

    use super::*;

    const POSTGRES: u32 = 54_321;
    const ALICE: u32 = 54_322;

    #[test]
    fn a_link_counts_only_if_it_is_roots_or_the_owners() {
        let held = tempfile::tempdir_in("/var/tmp").unwrap();
        let at = |name: &str| held.path().join(name);
        fs::create_dir_all(at("home/alice")).unwrap();
        chown(at("home"), Some(ALICE), None).unwrap();
        chown(at("home/alice"), Some(ALICE), None).unwrap();
        fs::create_dir(at("pg")).unwrap();
        chown(at("pg"), Some(POSTGRES), None).unwrap();
        symlink(at("home/alice"), at("pg/main")).unwrap();
        symlink(at("home"), at("pg/above")).unwrap();
        symlink(held.path(), at("pg/roots")).unwrap();
        let lchown_all = |uid| ["pg/main", "pg/above", "pg/roots"].iter().for_each(|name| lchown(at(name), Some(uid), None).unwrap());
        let places = ["pg/main", "pg/above/alice", "pg/above/missing"];
        for good in [0, ALICE] {
            lchown_all(good);
            for name in places {
                let place = place(&at(name)).unwrap();
                assert_eq!((place.uid, place.there.is_some()), (ALICE, name != "pg/above/missing"));
                assert!(place.path.starts_with(at("home")));
            }
        }
        lchown_all(POSTGRES);
        for name in places.iter().chain(&["pg/roots/home/alice", "pg/roots/missing"]) {
            let error = place(&at(name)).unwrap_err();
            assert_eq!((error.kind, error.id.as_deref()), (Kind::Refused, Some("foreign-owner")), "{name}: {error}");
        }
        assert_eq!(place(&at("pg/roots/pg")).unwrap().uid, POSTGRES);
        let lost = place(&at("pg/missing")).unwrap();
        assert_eq!((lost.uid, lost.path, lost.there.is_none()), (POSTGRES, at("pg/missing"), true));
        assert_eq!(place(&at("no/where")).unwrap_err().kind, Kind::Refused);
    }
}
