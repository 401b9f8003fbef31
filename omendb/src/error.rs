//! What can go wrong, and what the caller can do about it.

use std::path::PathBuf;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error of the database. Each message says what was given, what was expected and the fix.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller handed in something that can never be accepted as it is. Nothing was applied.
    #[error("invalid input: {0}")]
    InvalidInput(String),
    /// A database, collection or record that was asked for does not exist.
    #[error("not found: {0}")]
    NotFound(String),
    /// A collection or record of that name or id exists already. Nothing was applied.
    #[error("already exists: {0}")]
    AlreadyExists(String),
    /// Another process (or another handle of this one) has the database open.
    #[error("locked: {0}")]
    Locked(String),
    /// Bytes on disk are not what was written. The data named here cannot be trusted; the rest can.
    #[error(
        "corrupt data in {file} at byte {offset}: {what}; the rest of the database stays readable with `degraded` \
            open, and `salvage` copies what is whole into a new database"
    )]
    Corrupt {
        /// The damaged file, relative to the database's directory.
        file: String,
        /// The first byte of the damaged area.
        offset: u64,
        /// What failed to verify.
        what: String,
    },
    /// A documented limit was exceeded. Nothing was applied.
    #[error("limit exceeded: {0}")]
    LimitExceeded(String),
    /// The device is full. The write was refused; reads and deletes still work.
    #[error("no space left on the device: {0}; reads and deletes still work, free some space and try again")]
    DiskFull(String),
    /// A write's outcome is unknown: the operating system failed to make it durable. It is never retried.
    #[error(
        "write outcome unknown: {0}; this handle accepts no more writes: close it and open the database again to see \
            what is stored"
    )]
    Indeterminate(String),
    /// The handle cannot do this: it is closed, read-only, or was inherited through a fork.
    #[error("unusable handle: {0}")]
    Unusable(String),
    /// The files were written by a newer or foreign version.
    #[error("unsupported format: {0}")]
    Unsupported(String),
    /// The operating system refused a file operation.
    #[error("{op} of {path} failed: {message}")]
    Io {
        /// The operation, such as `open`.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        message: String,
        /// The kind of failure.
        kind: std::io::ErrorKind,
    },
    /// The work was cancelled by its caller.
    #[error("cancelled: {0}")]
    Cancelled(String),
}

impl Error {
    /// Wraps an operating-system error of `op` on `path`, telling a full device from the rest.
    pub fn io(op: &'static str, path: impl Into<PathBuf>, error: &std::io::Error) -> Self {
        let path = path.into();
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Error::DiskFull(format!("{op} of {}", path.display()))
            }
            kind => Error::Io { op, path, message: error.to_string(), kind },
        }
    }

    /// Damage at `offset` of `file`.
    pub fn corrupt(file: impl Into<String>, offset: u64, what: impl Into<String>) -> Self {
        Error::Corrupt { file: file.into(), offset, what: what.into() }
    }

    /// Refused input.
    pub fn invalid(what: impl Into<String>) -> Self {
        Error::InvalidInput(what.into())
    }

    /// The name of the variant, for programs (`InvalidInput`, `Corrupt`, ...).
    pub fn name(&self) -> &'static str {
        match self {
            Error::InvalidInput(_) => "InvalidInput",
            Error::NotFound(_) => "NotFound",
            Error::AlreadyExists(_) => "AlreadyExists",
            Error::Locked(_) => "Locked",
            Error::Corrupt { .. } => "Corrupt",
            Error::LimitExceeded(_) => "LimitExceeded",
            Error::DiskFull(_) => "DiskFull",
            Error::Indeterminate(_) => "Indeterminate",
            Error::Unusable(_) => "Unusable",
            Error::Unsupported(_) => "Unsupported",
            Error::Io { .. } => "Io",
            Error::Cancelled(_) => "Cancelled",
        }
    }
}
