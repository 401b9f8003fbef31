//! A flat proximity graph over the rows of one segment: built in batches, walked over short codes, re-ranked exactly.

mod build;
mod calibrate;
mod cells;
mod detours;
mod exact;
mod filtered;
pub(crate) mod gathered;
mod layout;
mod leaf;
mod parallel;
mod partition;
mod patience;
pub(crate) mod points;
mod prune;
mod reach;
mod repair;
mod scratch;
mod search;
mod signs;
#[cfg(test)]
mod tests;

use crate::distance::Prepared;
use crate::error::{Error, Result};
use crate::schema::{Element, Metric, Schema};

pub use build::{BuildParams, build};
pub(crate) use filtered::Passing;
pub(crate) use gathered::Gathered;
pub use layout::GraphIndex;
pub(crate) use layout::Keep;
pub(crate) use points::mix;
pub use scratch::Scratch;
pub use search::{Effort, SearchStats};

/// The rows of a segment: `count` stored vectors, `stride` bytes apart, in the schema's element type.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    bytes: &'a [u8],
    stride: usize,
    /// Number of rows.
    pub count: usize,
    /// Dimensions of a row.
    pub dim: usize,
    /// The element type.
    pub element: Element,
    /// The metric.
    pub metric: Metric,
}

/// Most rows of one graph.
pub const MAX_ROWS: usize = (1 << 31) - 1;

impl<'a> Rows<'a> {
    /// `count` rows of `schema`, packed without gaps.
    pub fn new(bytes: &'a [u8], count: usize, schema: &Schema) -> Result<Self> {
        Self::with_stride(bytes, count, schema.stride(), schema)
    }

    /// `count` rows of `schema` that begin `stride` bytes apart.
    pub fn with_stride(bytes: &'a [u8], count: usize, stride: usize, schema: &Schema) -> Result<Self> {
        schema.validate_vectors()?;
        let need = count.checked_mul(stride);
        if stride < schema.stride() || count > MAX_ROWS || need.is_none_or(|need| need > bytes.len()) {
            return Err(Error::invalid(format!(
                "{} bytes given for {count} rows that begin {stride} bytes apart; a row of this schema takes {} bytes, \
                    and a graph at most {MAX_ROWS} rows",
                bytes.len(),
                schema.stride()
            )));
        }
        Ok(Rows { bytes, stride, count, dim: schema.dim, element: schema.element, metric: schema.metric })
    }

    /// Writes the metric's distance of each row of `ordinals`, with the very kernel that scans use.
    pub(crate) fn distances_of(&self, query: &Prepared, ordinals: &[u32], out: &mut [f32]) {
        if self.stride == query.stride() {
            return query.distances_of(self.bytes, ordinals, out);
        }
        for (row, distance) in ordinals.iter().zip(out) {
            *distance = query.distance(self.row(*row as usize));
        }
    }

    /// The bytes of one row.
    #[inline]
    pub fn row(&self, index: usize) -> &'a [u8] {
        &self.bytes[index * self.stride..][..self.element.stride(self.dim)]
    }
}
