//! Why a command failed, as words for people, JSON for programs and an exit code for both.

use omendb::Error;
use serde_json::{Value, json};
use std::path::Path;

/// The result of every step of a command.
pub type Result<T> = std::result::Result<T, Failure>;

/// The exit codes, as `omendb --help` documents them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  not found; or `check` found problems, or a proof of `demo` failed
  2  wrong usage of the command line
  3  invalid input: a value, a file or a record was refused
  4  locked: another process has the database open
  5  corrupt or unsupported data on disk
  6  no space left on the device, or a limit was exceeded
  7  the operating system refused a file operation
  8  the outcome of a write is unknown, or the work was cancelled";

/// What ends a command early.
#[derive(Debug)]
pub enum Failure {
    /// The library's or a reader's typed error.
    Engine(Error),
    /// The command line asks for something that makes no sense.
    Usage(String),
    /// The command ran to its end, and what it looked at is not as it should be; the output was printed already.
    Problems(String),
    /// Whoever read our standard output has gone: nothing is left to say, and nobody to say it to.
    OutputClosed,
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::OutputClosed => 0,
            Failure::Problems(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Engine(error) => match error {
                Error::NotFound(_) => 1,
                Error::InvalidInput(_) | Error::AlreadyExists(_) => 3,
                Error::Locked(_) => 4,
                Error::Corrupt { .. } | Error::Unsupported(_) => 5,
                Error::LimitExceeded(_) | Error::DiskFull(_) => 6,
                Error::Io { .. } => 7,
                _ => 8,
            },
        }
    }

    /// The name of the kind, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Failure::Engine(error) => error.name(),
            Failure::Usage(_) => "Usage",
            Failure::Problems(_) => "Problems",
            Failure::OutputClosed => "OutputClosed",
        }
    }

    /// `{"error": {"kind", "message", "exit_code"}}`.
    pub fn to_json(&self) -> Value {
        json!({"error": {"kind": self.kind(), "message": self.to_string(), "exit_code": self.code()}})
    }

    /// The same failure with `place` (a file, rows of a file) named before its message, where the message is free text.
    pub fn at(self, place: impl std::fmt::Display) -> Failure {
        match self {
            Failure::Engine(Error::InvalidInput(s)) => Failure::Engine(Error::InvalidInput(format!("{place}: {s}"))),
            Failure::Engine(Error::LimitExceeded(s)) => Failure::Engine(Error::LimitExceeded(format!("{place}: {s}"))),
            other => other,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Engine(error) => error.fmt(f),
            Failure::Usage(s) | Failure::Problems(s) => f.write_str(s),
            Failure::OutputClosed => f.write_str("standard output was closed"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Engine(error)
    }
}

/// Input that is refused: say what was given, what was expected and the fix.
pub fn invalid(what: impl Into<String>) -> Failure {
    Failure::Engine(Error::InvalidInput(what.into()))
}

/// Something past a documented limit.
pub fn limit(what: impl Into<String>) -> Failure {
    Failure::Engine(Error::LimitExceeded(what.into()))
}

/// An operating-system error of `op` on `path`.
pub fn io(op: &'static str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::Engine(Error::io(op, path, error))
}
