//! Writes the man pages and completions that are made from the command line's own description. Run by `scripts/man`:
//! `pages DIRECTORY`, the top of the source tree.

use std::path::PathBuf;
use std::process::ExitCode;

mod completions;
mod generate;

fn main() -> ExitCode {
    let Some(top) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return fail("usage: pages DIRECTORY");
    };
    let files = match generate::files(&top) {
        Ok(files) => files,
        Err(e) => return fail(&e.to_string()),
    };
    for (path, text) in files {
        let path = top.join(path);
        if let Err(e) = std::fs::write(&path, text) {
            return fail(&format!("write {}: {e}", path.display()));
        }
    }
    ExitCode::SUCCESS
}

fn fail(words: &str) -> ExitCode {
    eprintln!("{words}");
    ExitCode::FAILURE
}
