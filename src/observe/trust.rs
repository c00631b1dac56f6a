//! Paths that nobody but root can change.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{At, Error, Kind, Result};

/// `path` is a directory of root that neither group nor others can write, and so is every component above it; there
/// a sticky directory is as good, because in it nobody can rename what is root's. No component is a link.
pub fn roots_alone(path: &Path) -> Result<()> {
    for component in path.ancestors() {
        let metadata = std::fs::symlink_metadata(component).at("look at", component)?;
        let sticky = component != path && metadata.mode() & 0o1000 != 0;
        if !metadata.is_dir() || metadata.uid() != 0 || (metadata.mode() & 0o022 != 0 && !sticky) {
            return Err(Error::new(Kind::Refused, format!("{} can be changed by others than root", component.display())).cause(format!(
                "owner {}, mode {:o}",
                metadata.uid(),
                metadata.mode() & 0o7777
            )));
        }
    }
    Ok(())
}
