//! Exact distances to stored rows, for the re-rank.

use super::Rows;
use crate::quantize::scalar::decode;
use crate::schema::{Element, Metric};

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

/// A query prepared for exact distances.
#[derive(Debug, Default)]
pub(super) struct ExactQuery {
    values: Vec<f32>,
    other: Vec<f32>,
    bytes: Vec<u8>,
    norm: f32,
}

impl ExactQuery {
    pub fn set(&mut self, element: Element, query: &[u8]) {
        decode(element, query, &mut self.values);
        self.bytes.clear();
        self.bytes.extend_from_slice(query);
        self.norm = sum_of(&self.values, &self.values, |a, b| a * b).sqrt();
    }

    /// The metric's distance to one stored row, as the user sees it.
    pub fn distance(&mut self, rows: &Rows<'_>, row: usize) -> f32 {
        let stored = rows.row(row);
        if rows.metric == Metric::Hamming {
            return self.bytes.iter().zip(stored).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>() as f32;
        }
        if rows.element == Element::U8 && rows.metric == Metric::L2 && rows.dim <= 65_536 {
            let square = self.bytes.iter().zip(stored).fold(0u32, |sum, (&a, &b)| {
                let difference = i32::from(a) - i32::from(b);
                sum.wrapping_add((difference * difference) as u32)
            });
            return (f64::from(square)).sqrt() as f32;
        }
        decode(rows.element, stored, &mut self.other);
        match rows.metric {
            Metric::L2 | Metric::Hamming => sum_of(&self.values, &self.other, |a, b| (a - b) * (a - b)).sqrt(),
            Metric::Dot => -sum_of(&self.values, &self.other, |a, b| a * b),
            Metric::Cosine => {
                let length = self.norm * sum_of(&self.other, &self.other, |a, b| a * b).sqrt();
                let product = sum_of(&self.values, &self.other, |a, b| a * b);
                if length > 0.0 { 1.0 - product / length } else { 1.0 }
            }
        }
    }
}

/// Sums in sixteen strands, so that the compiler may use wide registers.
#[inline]
fn sum_of(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut strands = [0f32; 16];
    let (mut left, mut right) = (a.chunks_exact(16), b.chunks_exact(16));
    for (a, b) in left.by_ref().zip(right.by_ref()) {
        for (strand, (&a, &b)) in strands.iter_mut().zip(a.iter().zip(b)) {
            *strand += term(a, b);
        }
    }
    let rest: f32 = left.remainder().iter().zip(right.remainder()).map(|(&a, &b)| term(a, b)).sum();
    strands.iter().sum::<f32>() + rest
}
