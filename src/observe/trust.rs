//! Paths that nobody but root can change.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{At, Error, Kind, Result};

/// Every component of `path` is a directory of root that neither group nor others can write, no link among them.
pub fn roots_alone(path: &Path) -> Result<()> {
    for component in path.ancestors() {
        let metadata = std::fs::symlink_metadata(component).at("look at", component)?;
        if !metadata.is_dir() || metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
            return Err(Error::new(Kind::Refused, format!("{} can be changed by others than root", component.display()))
                .cause(format!("owner {}, mode {:o}", metadata.uid(), metadata.mode() & 0o7777)));
        }
    }
    Ok(())
}
