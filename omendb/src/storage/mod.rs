//! The seam: every byte the engine reads or writes goes through [`Storage`].
//!
//! Paths are relative to the database's directory, `/`-separated, made by the engine and never by a user.
//! Nothing is durable before [`File::sync_data`] (a file's bytes and length) and [`Storage::sync_dir`]
//! (names: creations, renames, removals) have returned.

#[cfg(test)]
mod conformance;
mod locks;
mod mem;
mod mmap;
mod real;
#[doc(hidden)]
pub mod sim;

pub use mem::MemStorage;
pub(crate) use mmap::{Pinned, release_freed_memory};
pub use real::RealStorage;

use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

/// How [`Storage::open`] treats an existing or missing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Make a new file for reading and writing; fails if the name exists.
    CreateNew,
    /// Open an existing file for reading and writing.
    ReadWrite,
    /// Open an existing file for reading.
    Read,
}

/// Who else may hold the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// One holder.
    Exclusive,
    /// Any number of shared holders, no exclusive one.
    Shared,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name within the directory.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
}

/// The engine's file system: about a dozen synchronous calls.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Makes the directory and its parents; it is no error if it exists.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// Opens one file.
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn File>>;
    /// The files of a directory, sorted by name; `NotFound` if it does not exist. Directories are left out.
    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>>;
    /// Renames a file, replacing the target atomically.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes the names of a directory durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Takes the advisory lock on a file (made if missing), without waiting.
    /// `WouldBlock` if it is held; the error's message is the holder's note, if it can be read.
    /// An exclusive holder's `note` (its process id) is stored in the file.
    fn lock(&self, path: &str, kind: LockKind, note: &str) -> io::Result<Box<dyn LockGuard>>;
    /// The whole of an immutable file, mapped or in memory.
    fn map(&self, path: &str) -> io::Result<Bytes>;
    /// Whether calls from several threads at once gain anything; a simulation wants one order of calls.
    fn parallel(&self) -> bool {
        false
    }
    /// Where the database is, for messages.
    fn describe(&self) -> String;
}

/// One open file. Positions are absolute: there is no cursor.
pub trait File: Send + Sync + fmt::Debug {
    /// Fills `buf` from `offset`; `UnexpectedEof` if the file ends first.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `buf` at `offset`, extending the file if needed.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file's bytes and length durable. After a failure nothing may be assumed and it must not be retried.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The current length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Holds a lock until it is dropped.
pub trait LockGuard: Send + Sync + fmt::Debug {}

/// The bytes of an immutable file. Cheap to clone.
#[derive(Clone)]
pub struct Bytes(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl Bytes {
    /// Wraps any owner of bytes: a mapping, a vector. The slice must never change or move while it lives.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Bytes(Arc::new(owner))
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.len())
    }
}
