//! SELinux labels: staging must carry PGDATA's, or the public start is denied after the switch (pitfalls B13).
//!
//! The label is an extended attribute that new files inherit from their directory: it is set on the run's directory
//! before anything is unpacked, so that nothing has to be relabelled later.

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::error::{At, Result};
use crate::sys::dir::Dir;

const NAME: &str = "security.selinux";

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
pub fn kind(directory: &Dir) -> Result<Option<String>> {
    let label = read(directory)?;
    Ok(label.and_then(|l| String::from_utf8_lossy(&l).trim_end_matches('\0').split(':').nth(2).map(str::to_string)))
}

/// Gives `to` the label of `from`, if that has one and `to` has another.
pub fn copy(from: &Dir, to: &Dir) -> Result<()> {
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
