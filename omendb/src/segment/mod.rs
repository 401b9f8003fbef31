//! Immutable sorted-out records on disk: how a segment is laid out, written, read, and which rows of it are dead.

pub(crate) mod format;
pub(crate) mod reader;
pub(crate) mod tombstones;
pub(crate) mod writer;

use crate::error::{Error, Result};
use crate::filter::cache::FilterCache;
use crate::text::index::TextSlot;
use serde_json::Value;
use std::ops::Range;
use std::sync::Arc;

/// Anything that rows can be read from: a batch, a block of a memtable, a segment.
/// Row numbers are below [`RowSource::rows`]; a row outside is a bug of the caller.
pub(crate) trait RowSource: Sync {
    /// Number of rows, dead ones included.
    fn rows(&self) -> u32;
    /// The keyed hash of a row's id.
    fn hash(&self, row: u32) -> Result<u64>;
    /// The encoded id.
    fn id(&self, row: u32) -> Result<&[u8]>;
    /// Asks for a row's id ahead of its use; only a hint.
    fn prefetch_id(&self, _row: u32) {}
    /// The stored bytes of `count` vectors from row `first` on.
    fn vectors(&self, first: u32, count: u32) -> Result<&[u8]>;
    /// Stored metadata: empty where absent, else a marker byte and JSON text.
    fn metadata(&self, row: u32) -> Result<&[u8]>;
    /// Where what filters derive is kept; none where no filter is asked.
    fn filters(&self) -> Option<&FilterCache> {
        None
    }
    /// Stored text: empty where absent, else a marker byte and UTF-8.
    fn text(&self, row: u32) -> Result<&[u8]>;
    /// The stored value of a further field, by its number; empty where absent.
    fn field(&self, field: usize, row: u32) -> Result<&[u8]>;
    /// Bytes of the values of a field, which lie one after the other.
    fn field_data(&self, field: usize, range: Range<usize>) -> Result<&[u8]>;
    /// The rows that have a vector of this size in a field, ascending; `None`: all of them.
    fn having(&self, field: usize, stride: usize) -> Result<Option<Arc<[u32]>>> {
        rows_having(self, field, stride).map(|rows| (rows.len() < self.rows() as usize).then_some(rows))
    }
    /// Where the index of the texts is kept; none where no row has a text.
    fn text_slot(&self) -> Option<&TextSlot> {
        None
    }
}

/// The rows that have a vector of this size in a field, ascending.
fn rows_having(source: &(impl RowSource + ?Sized), field: usize, stride: usize) -> Result<Arc<[u32]>> {
    let mut rows = Vec::new();
    for row in 0..source.rows() {
        match source.field(field, row)?.len() {
            0 => {}
            len if len == stride => rows.push(row),
            _ => return Err(Error::corrupt("record", u64::from(row), "a vector has another size")),
        }
    }
    Ok(rows.into())
}

/// Reads stored metadata.
pub(crate) fn decode_metadata(stored: &[u8]) -> Result<Option<Value>> {
    match stored.split_first() {
        Some((_, json)) => serde_json::from_slice(json)
            .map(Some)
            .map_err(|_| Error::corrupt("record", 0, "stored metadata is not JSON")),
        None => Ok(None),
    }
}
