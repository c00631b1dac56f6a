//! Copies of WAL that should be one: which of them do not hold the same bytes, unpacked. Each file is read once, and not
//! again while it stands as it was when the index was told of it.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{At, Result};
use crate::run::in_order::{Weight, in_order, readers};
use crate::run::owner::open_directory;
use crate::run::segments::{Indexed, Known, key};
use crate::store::codec::decoder;
use crate::store::index::Entry;
use crate::sys::dir::Dir;
use crate::wal::packed::Packed;

/// Bytes read at a time.
const CHUNK: usize = 1 << 18;

/// What to compare.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CompareRequest {
    /// Files that should be copies of one another: directory by the path to open, and name.
    pub groups: Vec<Vec<(PathBuf, String)>>,
    /// Size of a segment, in bytes.
    pub segment: u64,
    /// The index, where it is used.
    pub index: Option<Indexed>,
}

/// A copy that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Odd {
    /// Position of the group.
    pub group: usize,
    /// Position in it.
    pub copy: usize,
    /// What is odd about it.
    pub how: How,
}

/// What is odd about a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It cannot be read to its end, and why.
    Unreadable(String),
    /// Its content is another one than that of the first that can be read, by that one's position in the group.
    Unlike(usize),
}

impl Weight for Option<(usize, usize, Result<Vec<u8>>)> {
    fn weight(&self) -> usize {
        0
    }
}

/// Reads what the index does not know, and names the copies that are odd.
pub fn different(request: &CompareRequest) -> Result<Vec<Odd>> {
    let files: Vec<(usize, usize, &PathBuf, &str)> = request
        .groups
        .iter()
        .enumerate()
        .flat_map(|(group, copies)| copies.iter().enumerate().map(move |(at, (directory, file))| (group, at, directory, file.as_str())))
        .collect();
    let read = |at: usize, buffer: &mut Vec<u8>| {
        let &(group, copy, directory, file) = files.get(at)?;
        Some((group, copy, content(request.index.as_ref(), directory, file, buffer)))
    };
    let (mut odd, mut first) = (Vec::new(), None);
    in_order(files.len(), readers(request.segment), read, |read| {
        let Some((group, copy, content)) = read else { return Ok(true) };
        match content {
            Err(error) => odd.push(Odd { group, copy, how: How::Unreadable(error.to_string()) }),
            Ok(content) => match &first {
                Some((of, like, known)) if *of == group => {
                    if *known != content {
                        odd.push(Odd { group, copy, how: How::Unlike(*like) });
                    }
                }
                _ => first = Some((group, copy, content)),
            },
        }
        Ok(true)
    })?;
    Ok(odd)
}

/// SHA-256 of what a file holds, unpacked.
fn content(index: Option<&Indexed>, directory: &Path, file: &str, buffer: &mut Vec<u8>) -> Result<Vec<u8>> {
    let opened = open_directory(directory)?;
    let known = index.and_then(|index| key(index, &opened, directory, file));
    if let Some(packed) = known.as_ref().and_then(|known| known.look_up(Entry::Content, file)) {
        return Ok(packed.front);
    }
    let content = digest(&opened, file, buffer)?;
    if let Some(known) = known.filter(|known: &Known| known.is_still(&opened, file)) {
        known.keep(Entry::Content, file, &Packed { front: content.clone(), rest: Vec::new() });
    }
    Ok(content)
}

fn digest(opened: &Dir, file: &str, buffer: &mut Vec<u8>) -> Result<Vec<u8>> {
    let (_, mut reader) = decoder(opened.open_file(file)?).at("read", opened.join(file))?;
    buffer.resize(CHUNK, 0);
    let mut hasher = Sha256::new();
    loop {
        match reader.read(buffer).at("read", opened.join(file))? {
            0 => return Ok(hasher.finalize().to_vec()),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}
