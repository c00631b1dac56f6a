//! A directory tree as a value, to prove that it is what it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::program::{self, program};

/// One entry of a tree. Times are left out: reading must not count as a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `file`, `dir`, `link`, `socket` or `other`.
    pub kind: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group ids.
    pub owner: (u32, u32),
    /// Size in bytes; 0 for what is not a file.
    pub size: u64,
    /// SHA-256 of a file's content, in hex.
    pub sha256: Option<String>,
    /// Where a link points.
    pub target: Option<PathBuf>,
}

/// Paths below the root of the snapshot, and what is there.
pub type Tree = BTreeMap<PathBuf, Entry>;

/// Reads `dir`: every entry below it, without following links. Nothing may change meanwhile.
#[track_caller]
pub fn snapshot_tree(dir: &Path) -> Tree {
    let mut tree = Tree::new();
    walk(dir, dir, &mut tree);
    let files: Vec<PathBuf> = tree.iter().filter(|(_, entry)| entry.kind == "file").map(|(path, _)| path.clone()).collect();
    for batch in files.chunks(500) {
        // coreutils has the fast implementation; a test build of the crate does not.
        let sums = program::ok(program("sha256sum").current_dir(dir).args(["-z", "--"]).args(batch));
        for line in sums.split_terminator('\0') {
            let (sum, path) = line.split_once("  ").expect("sum, two blanks, path");
            tree.get_mut(Path::new(path)).expect("a path that was asked for").sha256 = Some(sum.to_string());
        }
    }
    tree
}

/// What differs between two snapshots, a line for each entry: `- path`, `+ path` or `~ path (what)`.
pub fn diff(before: &Tree, after: &Tree) -> Vec<String> {
    let gone = before.keys().filter(|path| !after.contains_key(*path)).map(|path| format!("- {}", path.display()));
    let new = after.keys().filter(|path| !before.contains_key(*path)).map(|path| format!("+ {}", path.display()));
    let changed = before.iter().filter_map(|(path, old)| {
        let now = after.get(path)?;
        (old != now).then(|| format!("~ {} ({})", path.display(), changes(old, now)))
    });
    gone.chain(new).chain(changed).collect()
}

fn changes(old: &Entry, now: &Entry) -> String {
    let mut what = Vec::new();
    if old.kind != now.kind {
        what.push(format!("{} is now {}", old.kind, now.kind));
    }
    if old.mode != now.mode {
        what.push(format!("mode {:o} is now {:o}", old.mode, now.mode));
    }
    if old.owner != now.owner {
        what.push(format!("owner {:?} is now {:?}", old.owner, now.owner));
    }
    if old.size != now.size {
        what.push(format!("size {} is now {}", old.size, now.size));
    } else if old.sha256 != now.sha256 {
        what.push("content".to_string());
    }
    if old.target != now.target {
        what.push("target".to_string());
    }
    what.join(", ")
}

fn walk(root: &Path, dir: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("read {}: {e}", dir.display())) {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        tree.insert(path.strip_prefix(root).unwrap().to_path_buf(), describe(&path, &meta));
        if meta.is_dir() {
            walk(root, &path, tree);
        }
    }
}

fn describe(path: &Path, meta: &fs::Metadata) -> Entry {
    let kind = match meta.file_type() {
        t if t.is_file() => "file",
        t if t.is_dir() => "dir",
        t if t.is_symlink() => "link",
        t if t.is_socket() => "socket",
        _ => "other",
    };
    Entry {
        kind,
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        size: if meta.is_file() { meta.len() } else { 0 },
        sha256: None,
        target: fs::read_link(path).ok(),
    }
}
