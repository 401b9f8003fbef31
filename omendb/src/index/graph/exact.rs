//! Exact distances to stored rows, for the re-rank.

use super::Rows;
use crate::distance::Prepared;
use crate::record::{Vector, Vectors};
use crate::schema::{Metric, Schema};

/// How distances between codes relate to the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Squared Euclidean distances between codes order like the metric.
    Euclidean,
    /// Products with codes order like the metric, the other way round.
    Product,
}

impl Kind {
    pub fn of(metric: Metric) -> Self {
        if metric == Metric::Dot { Kind::Product } else { Kind::Euclidean }
    }
}

/// A query prepared for exact distances, from the bytes of a stored row.
pub(super) fn prepare(rows: &Rows<'_>, query: &[u8]) -> Prepared {
    let schema = Schema::new(rows.dim, rows.metric).with_element(rows.element);
    Prepared::new(&schema, &Vectors::from(&Vector::from_le_bytes(rows.element, query)), 0)
}
