//! The error that reaches a person: what failed, its cause, and the next command.
//!
//! An error is built where the failure is understood and printed once, by `report`. Its [`Kind`] is the
//! exit code (design: the exit table is API).

use std::fmt;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Why `pitr` ends other than well; the number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Failed before the switch; the old cluster is as it was.
    Failed = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Refused before anything was touched.
    Refused = 3,
    /// Hands are needed; the hint gives the exact next command.
    Hands = 4,
    /// Another run holds the lock.
    Locked = 5,
    /// A check or verification failed; nothing was switched.
    Check = 6,
    /// SIGINT; the old cluster is as it was, the work is kept.
    Interrupted = 130,
    /// SIGTERM; the old cluster is as it was, the work is kept.
    Terminated = 143,
}

impl Kind {
    /// The process exit code of this kind.
    pub fn exit_code(self) -> u8 {
        self as u8
    }
}

/// What failed, why, and what to type next. `what` and `cause` are lower case without a full stop; `hint`
/// is a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Exit code class.
    pub kind: Kind,
    /// What failed, with its path or LSN.
    pub what: String,
    /// Why, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The next command or action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Stable id of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Result of everything that can fail in front of a person.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` with only its first line.
    pub fn new(kind: Kind, what: impl Into<String>) -> Error {
        Error { kind, what: what.into(), cause: None, hint: None, id: None }
    }

    /// [`Kind::Failed`].
    pub fn failed(what: impl Into<String>) -> Error {
        Error::new(Kind::Failed, what)
    }

    /// [`Kind::Usage`].
    pub fn usage(what: impl Into<String>) -> Error {
        Error::new(Kind::Usage, what)
    }

    /// Sets the `cause:` line.
    #[must_use]
    pub fn cause(mut self, cause: impl fmt::Display) -> Error {
        self.cause = Some(cause.to_string());
        self
    }

    /// Sets the `hint:` line.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the stable id of a refusal.
    #[must_use]
    pub fn id(mut self, id: &str) -> Error {
        self.id = Some(id.into());
        self
    }

    /// The same error under another exit code.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Error {
        self.kind = kind;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// An I/O error never leaves without the act and the path it happened on.
pub trait At<T> {
    /// Turns the error into "`act` `path`" with the system's words as cause.
    fn at(self, act: &str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, act: &str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|e| Error::failed(format!("{act} {}", path.as_ref().display())).cause(e.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let codes = [Kind::Failed, Kind::Usage, Kind::Refused, Kind::Hands, Kind::Locked, Kind::Check, Kind::Interrupted, Kind::Terminated]
            .map(Kind::exit_code);
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 130, 143]);
    }

    #[test]
    fn an_io_error_names_act_and_path() {
        let error = std::fs::File::open("/nonexistent/x").at("open", "/nonexistent/x").unwrap_err();
        assert_eq!(error.what, "open /nonexistent/x");
        assert!(error.cause.unwrap().contains("No such file"));
    }
}
