//! What a program and all its children did to files, and as whom: read from `strace`.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

/// System calls that change what a path or descriptor leads to, whatever their flags.
const CHANGES: [&str; 43] = [
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "unlink",
    "unlinkat",
    "rmdir",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "lchown",
    "fchown",
    "fchownat",
    "truncate",
    "ftruncate",
    "utimensat",
    "utime",
    "utimes",
    "futimesat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "fremovexattr",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "fallocate",
    "copy_file_range",
    "sendfile",
    "creat",
    "mount",
];

/// The arguments that make `strace` write what [`Trace::read`] understands.
pub fn options(output: &Path) -> Vec<String> {
    // -D: the traced program is our child and its end is seen, even while a server that it started is still traced.
    let filter = "trace=%process,%creds,%file,open_tree,mount,write,writev,pwrite64,pwritev,pwritev2,ftruncate,fchmod,fchown,fallocate,\
                  fsetxattr,fremovexattr,copy_file_range,sendfile";
    ["-D", "-f", "-y", "-qq", "-s", "0", "-e", filter, "-o"].map(str::to_string).into_iter().chain([output.display().to_string()]).collect()
}

/// One call that changed something, or tried.
#[derive(Debug, Clone)]
pub struct Change {
    /// The user it was made as.
    pub uid: u32,
    /// Its name.
    pub call: String,
    /// Every path that its arguments lead to.
    pub paths: Vec<PathBuf>,
    /// The line.
    pub line: String,
}

/// All changes of one trace, in order.
#[derive(Debug, Default)]
pub struct Trace {
    /// The changes.
    pub changes: Vec<Change>,
}

impl Trace {
    /// Reads the output of a `strace` that began as root.
    pub fn read(file: &Path) -> Trace {
        let text = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
        let lines: Vec<(u32, &str)> =
            text.lines().filter_map(|l| l.split_once(' ')).filter_map(|(p, l)| Some((p.parse().ok()?, l.trim_start()))).collect();
        let parents = parents(&lines);
        let mut uids: BTreeMap<u32, u32> = BTreeMap::new();
        let mut pending: HashMap<u32, String> = HashMap::new();
        let mut trace = Trace::default();
        for (pid, line) in lines {
            let inherited = parents.get(&pid).and_then(|parent| uids.get(parent)).copied().unwrap_or(0);
            let uid = *uids.entry(pid).or_insert(inherited);
            let whole = if let Some(begun) = line.strip_suffix("<unfinished ...>") {
                pending.insert(pid, begun.to_string());
                continue;
            } else if let Some((_, rest)) = line.strip_prefix("<... ").and_then(|l| l.split_once(" resumed>")) {
                format!("{}{rest}", pending.remove(&pid).unwrap_or_default())
            } else {
                line.to_string()
            };
            let Some((call, arguments)) = whole.split_once('(') else { continue };
            if let Some(now) = changed_uid(call, arguments) {
                uids.insert(pid, now);
            } else if changes(call, arguments) {
                trace.changes.push(Change { uid, call: call.to_string(), paths: paths(call, arguments), line: whole.clone() });
            }
        }
        trace
    }
}

/// Who started whom.
fn parents(lines: &[(u32, &str)]) -> HashMap<u32, u32> {
    let forks = lines
        .iter()
        .filter(|(_, line)| ["clone", "fork", "vfork", "<... clone", "<... fork", "<... vfork"].iter().any(|c| line.starts_with(c)));
    forks.filter_map(|(pid, line)| Some((line.rsplit_once("= ")?.1.split(['<', ' ']).next()?.parse().ok()?, *pid))).collect()
}

fn changed_uid(call: &str, arguments: &str) -> Option<u32> {
    let position = match call {
        "setuid" => 0,
        "setresuid" | "setreuid" => 1,
        _ => return None,
    };
    let (inner, result) = arguments.rsplit_once(") ")?;
    (result.trim_start() == "= 0").then(|| inner.split(", ").nth(position)?.parse().ok()).flatten()
}

fn changes(call: &str, arguments: &str) -> bool {
    let opens = ["open", "openat", "openat2"].contains(&call);
    CHANGES.contains(&call)
        || (opens && ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_TMPFILE"].iter().any(|flag| arguments.contains(flag)))
}

/// Every path among the arguments: of descriptors, absolute names, and names relative to the descriptor before them.
fn paths(call: &str, arguments: &str) -> Vec<PathBuf> {
    let names = !call.contains("write");
    let mut found = Vec::new();
    let mut directory: Option<PathBuf> = None;
    let mut rest = arguments;
    while let Some(at) = rest.find(['<', '"']) {
        let close = if rest[at..].starts_with('<') { '>' } else { '"' };
        let Some(length) = rest[at + 1..].find(close) else { break };
        let text = &rest[at + 1..at + 1 + length];
        rest = &rest[at + 2 + length..];
        if close == '>' {
            directory = Some(PathBuf::from(text));
            // A descriptor that a name follows is only where the name begins.
            if !rest.starts_with(", \"") || !names {
                found.push(PathBuf::from(text));
            }
        } else if names {
            found.push(directory.clone().unwrap_or_default().join(text));
        }
    }
    found
}
