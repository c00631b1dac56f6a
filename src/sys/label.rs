//! SELinux labels: staging must carry PGDATA's, or the public start is denied after the switch (pitfalls B13).
//!
//! The label is an extended attribute that new files inherit from their directory: it is set on the run's directory
//! before anything is unpacked, so that nothing has to be relabelled later.
//!
//! A filesystem keeps labels where SELinux was switched off, or that has come from another host. No kernel inherits them
//! there and nothing reads them: they are taken along where that can be done, and stand in nobody's way.

use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::error::{At, Error, Result};
use crate::sys::dir::Dir;

const NAME: &str = "security.selinux";
/// There while SELinux is loaded, permissive or enforcing (selinuxfs).
const IN_FORCE: &str = "/sys/fs/selinux/enforce";

/// The label of a directory, `None` where there is none.
pub fn read(directory: &Dir) -> Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; 1024];
    match rustix::fs::fgetxattr(directory, NAME, &mut buffer[..]) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(Some(buffer))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e).at("read the label of", directory.path()),
    }
}

/// The type of a label, its third field: what a policy decides on. The user in it is whoever made the file.
fn kind(directory: &Dir) -> Result<Option<String>> {
    let label = read(directory)?;
    Ok(label.and_then(|l| String::from_utf8_lossy(&l).trim_end_matches('\0').split(':').nth(2).map(str::to_string)))
}

/// Gives `to` the label of `from`, if that has one and `to` has another.
pub fn copy(from: &Dir, to: &Dir) -> Result<()> {
    match set(from, to) {
        Err(error) if !in_force() => {
            log::info!("{error}; no SELinux is in force");
            Ok(())
        }
        done => done,
    }
}

/// What was unpacked has inherited its label: proves that `to` has the type of `from`. Where nothing is inherited, `to`
/// gets the label now.
pub fn settle(from: &Dir, to: &Dir) -> Result<()> {
    if !in_force() {
        return copy(from, to);
    }
    if kind(from)? == kind(to)? {
        return Ok(());
    }
    Err(Error::failed(format!("{} has another SELinux type than {}", to.path().display(), from.path().display())))
}

fn in_force() -> bool {
    Path::new(IN_FORCE).exists()
}

fn set(from: &Dir, to: &Dir) -> Result<()> {
    match read(from)? {
        Some(label) if read(to)?.as_ref() != Some(&label) => {
            rustix::fs::fsetxattr(to, NAME, &label, XattrFlags::empty()).at("set the label of", to.path())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_copied_where_there_is_one() {
        let (one, two) = (tempfile::tempdir_in("/var/tmp").unwrap(), tempfile::tempdir_in("/var/tmp").unwrap());
        let (from, to) = (Dir::open(one.path()).unwrap(), Dir::open(two.path()).unwrap());
        copy(&from, &to).unwrap();
        assert_eq!(read(&to).unwrap(), read(&from).unwrap());
        let label = b"system_u:object_r:postgresql_db_t:s0\0";
        // Without SELinux root may still store the attribute; where even that is refused there is nothing to copy.
        if rustix::fs::fsetxattr(&from, NAME, label, XattrFlags::empty()).is_ok() {
            copy(&from, &to).unwrap();
            assert_eq!(read(&to).unwrap().as_deref(), Some(&label[..]));
            assert_eq!(kind(&to).unwrap().as_deref(), Some("postgresql_db_t"));
        }
    }
}
