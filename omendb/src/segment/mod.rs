//! Immutable sorted-out records on disk: how a segment is laid out, written, read, and which rows of it are dead.

pub(crate) mod format;
pub(crate) mod reader;
pub(crate) mod tombstones;
pub(crate) mod writer;

use crate::error::Result;

/// Anything that rows can be read from: a batch, a block of a memtable, a segment.
/// Row numbers are below [`RowSource::rows`]; a row outside is a bug of the caller.
pub(crate) trait RowSource: Sync {
    /// Number of rows, dead ones included.
    fn rows(&self) -> u32;
    /// The keyed hash of a row's id.
    fn hash(&self, row: u32) -> Result<u64>;
    /// The encoded id.
    fn id(&self, row: u32) -> Result<&[u8]>;
    /// The stored bytes of `count` vectors from row `first` on.
    fn vectors(&self, first: u32, count: u32) -> Result<&[u8]>;
    /// Stored metadata: empty where absent, else a marker byte and JSON text.
    fn metadata(&self, row: u32) -> Result<&[u8]>;
    /// Stored text: empty where absent, else a marker byte and UTF-8.
    fn text(&self, row: u32) -> Result<&[u8]>;
}
