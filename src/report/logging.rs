//! Log lines on standard error.
//!
//! Guarantees: a line of the log never tears the progress bar; what comes from outside is escaped; the environment is
//! not read, so that a variable of the caller's shell cannot change what root prints.

use std::io::{self, Write};

use log::{Level, LevelFilter};

use super::progress;
use super::terminal::escape;

/// Begins logging: warnings, with `-v` what is done, with `-vv` every detail; with `-q` errors only. A second call
/// changes nothing.
pub fn start(verbose: u8, quiet: bool) {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Off).filter_module("pitr", level(verbose, quiet));
    builder.target(env_logger::Target::Pipe(Box::new(BesideTheBar)));
    builder.format(|sink, record| writeln!(sink, "{}", line(record.level(), &record.args().to_string())));
    // Only a logger that is already there makes this fail, and that one serves as well.
    let _ = builder.try_init();
}

fn level(verbose: u8, quiet: bool) -> LevelFilter {
    match (quiet, verbose) {
        (true, _) => LevelFilter::Error,
        (false, 0) => LevelFilter::Warn,
        (false, 1) => LevelFilter::Info,
        (false, _) => LevelFilter::Debug,
    }
}

fn line(level: Level, words: &str) -> String {
    format!("{}: {}", level.as_str().to_lowercase(), escape(words))
}

/// Standard error, with the bar taken away while something is written.
struct BesideTheBar;

impl Write for BesideTheBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::beside(|| io::stderr().write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_lines() {
        assert_eq!(level(0, false), LevelFilter::Warn);
        assert_eq!(level(1, false), LevelFilter::Info);
        assert_eq!(level(7, false), LevelFilter::Debug);
        assert_eq!(level(2, true), LevelFilter::Error);
        assert_eq!(line(Level::Info, "ended\nerror: forged"), "info: ended\\nerror: forged");
    }
}
