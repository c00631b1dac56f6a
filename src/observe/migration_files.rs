//! The directory of a migration tool: names, and the text of scripts. Nothing in it is followed or run.

use std::path::Path;

use crate::error::{Error, Result};
use crate::migrations::files::Listing;
use crate::sys::dir::{Dir, Kind};

/// Files that are looked at, and bytes of one and of all.
const MOST_FILES: usize = 20_000;
const LONGEST: u64 = 4 << 20;
const MOST_BYTES: u64 = 128 << 20;
/// A folder for each migration, or one beside them.
const DEPTH: usize = 2;

/// Reads it; links are left out.
pub fn listing(path: &Path) -> Result<Listing> {
    let directory = Dir::open(path).map_err(|e| {
        Error::usage(format!("{} cannot be read as a directory of migrations", path.display())).cause(e).hint("Correct --dir.")
    })?;
    let mut reader = Reader { listing: Listing::default(), bytes: 0 };
    reader.directory(&directory, "", DEPTH)?;
    reader.listing.files.sort();
    Ok(reader.listing)
}

struct Reader {
    listing: Listing,
    bytes: u64,
}

impl Reader {
    fn directory(&mut self, directory: &Dir, prefix: &str, depth: usize) -> Result<()> {
        for entry in directory.entries()? {
            let Some(name) = entry.name_str().filter(|name| !name.starts_with('.') && *name != "node_modules") else { continue };
            let path = format!("{prefix}{name}");
            match entry.kind() {
                Kind::Directory if depth > 0 => self.directory(&directory.open_beneath(name)?, &format!("{path}/"), depth - 1)?,
                Kind::File if self.listing.files.len() < MOST_FILES => {
                    let wanted = name.ends_with(".sql") || name == "_journal.json";
                    let fits = entry.metadata.size <= LONGEST && self.bytes + entry.metadata.size <= MOST_BYTES;
                    let text = if wanted && fits { Some(directory.read_file(name, LONGEST)?) } else { None };
                    self.bytes += text.as_ref().map_or(0, |text| text.len() as u64);
                    self.listing.files.push((path, text.map(|text| String::from_utf8_lossy(&text).into_owned())));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
