//! One byte a dimension: the codes that graphs are built on and walked with.

use super::projection::{self, Projection};
use super::rotation::{MAX_ROTATED, Rotation};
use crate::error::{Error, Result};
use crate::index::graph::Rows;
use crate::schema::{Element, Metric};
use half::f16;
use std::sync::Arc;

/// Rows looked at to choose the scale.
const SAMPLE_ROWS: usize = 4096;
/// The share of sampled values that the scale leaves unclipped.
const COVERED: f64 = 0.9998;

/// Farthest that a placed value may lie from the centre, in codes.
const MAX_PLACED: f32 = 8192.0;

/// How rows become biased 8-bit codes (`signed value + 128`), padded to a multiple of 64 dimensions.
///
/// Cosine rows are normalised first. Dot-product rows get one more dimension, `sqrt(M^2 - |x|^2)` with M the largest
/// norm, under which the nearest by Euclidean distance is the largest product. Bytes and bits are taken as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalarQuantizer {
    /// Dimensions of a row.
    pub dim: usize,
    /// The element type of a row.
    pub element: Element,
    /// The metric, which decides how a row is prepared.
    pub metric: Metric,
    /// Codes a unit of a prepared value; 0 where codes are the bytes themselves.
    pub scale: f32,
    /// The largest norm, for dot products.
    pub largest_norm: f32,
    /// What each dimension is centred on, empty where codes are the bytes themselves.
    pub center: Vec<f32>,
    /// Turns centred values before they are quantised, so that no dimension stands out.
    pub turn: Option<Turn>,
}

/// How centred values are turned.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// All dimensions stay.
    Rotation(Rotation),
    /// Those that matter to distances stay.
    Projection(Arc<Projection>),
}

impl ScalarQuantizer {
    /// Whether rows of this kind can be rotated, so that the signs of their differences carry their direction.
    pub fn can_rotate(dim: usize, element: Element, metric: Metric) -> bool {
        dim <= MAX_ROTATED && element != Element::Bits && metric != Metric::Dot
    }

    /// Chooses centre and scale from an even sample of `rows`. `rotation` is the seed of the rotation, where one is
    /// wanted and [possible](Self::can_rotate).
    pub fn fit(rows: Rows<'_>, rotation: Option<u64>) -> Self {
        let mut fitted = ScalarQuantizer {
            dim: rows.dim,
            element: rows.element,
            metric: rows.metric,
            scale: 0.0,
            largest_norm: 0.0,
            center: Vec::new(),
            turn: None,
        };
        if Self::can_rotate(rows.dim, rows.element, rows.metric) {
            fitted.turn = rotation.map(|seed| Turn::Rotation(Rotation::new(Self::rotated_width(rows.dim), seed)));
        }
        if fitted.is_direct() {
            return fitted;
        }
        let mut values = Vec::new();
        if rows.metric == Metric::Dot {
            for row in 0..rows.count {
                decode(rows.element, rows.row(row), &mut values);
                fitted.largest_norm = fitted.largest_norm.max(norm(&values) as f32);
            }
        }
        let dims = fitted.dims();
        let sample = rows.count.min((SAMPLE_ROWS * 256 / dims.max(256)).max(64));
        let all = fitted.sample(rows, sample);
        let mut center = vec![0f64; dims];
        for row in all.chunks_exact(dims) {
            center.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        fitted.center = center.iter().map(|sum| (sum / sample.max(1) as f64) as f32).collect();
        if let (Some(_), Some(seed), true) = (&fitted.turn, rotation, rows.count >= projection::MIN_ROWS) {
            fitted.project(rows, seed);
        }
        let width = fitted.width();
        let mut spread = vec![0f32; sample * width];
        for (out, row) in spread.chunks_exact_mut(width).zip(all.chunks_exact(dims)) {
            fitted.place(row, out);
        }
        let mut all: Vec<f32> = spread.into_iter().map(f32::abs).collect();
        let rank = ((all.len() as f64 * COVERED) as usize).min(all.len().saturating_sub(1));
        let covered = if all.is_empty() { 0.0 } else { *all.select_nth_unstable_by(rank, f32::total_cmp).1 };
        let largest = all.iter().copied().fold(0f32, f32::max);
        let reach = if covered > largest * 1e-3 { covered } else { largest };
        fitted.scale = if reach > 0.0 && reach.is_finite() { (127.0 / reach).min(f32::MAX) } else { 1.0 };
        fitted
    }

    /// Prepared values of `count` rows, evenly spread.
    pub fn sample(&self, rows: Rows<'_>, count: usize) -> Vec<f32> {
        let (mut values, mut all) = (Vec::new(), Vec::with_capacity(count * self.dims()));
        for index in 0..count {
            self.prepare(rows.row(index * rows.count / count), &mut values);
            all.extend_from_slice(&values);
        }
        all
    }

    /// Keeps those directions only that matter, where they are few.
    fn project(&mut self, rows: Rows<'_>, seed: u64) {
        if self.dim < projection::MIN_DIM {
            return;
        }
        let mut sample = self.sample(rows, projection::SAMPLE_ROWS);
        for row in sample.chunks_exact_mut(self.dim) {
            row.iter_mut().zip(&self.center).for_each(|(value, mean)| *value -= mean);
        }
        if let Some(projection) = Projection::fit(&sample, self.dim, seed) {
            self.turn = Some(Turn::Projection(Arc::new(projection)));
        }
    }

    /// Whether a code is the row's own bytes, so that distances between codes are exact.
    pub fn is_direct(&self) -> bool {
        if self.turn.is_some() {
            return false;
        }
        match self.element {
            Element::Bits => true,
            Element::I8 | Element::U8 => self.metric == Metric::L2,
            Element::F32 | Element::F16 => false,
        }
    }

    /// Whether codes keep those directions only that matter.
    pub fn projects(&self) -> bool {
        matches!(self.turn, Some(Turn::Projection(_)))
    }

    /// Dimensions of a code before padding.
    pub fn dims(&self) -> usize {
        self.dim + usize::from(self.metric == Metric::Dot)
    }

    /// Bytes of a rotated row's code.
    pub fn rotated_width(dim: usize) -> usize {
        dim.next_multiple_of(64)
    }

    /// Bytes of a code.
    pub fn width(&self) -> usize {
        match &self.turn {
            Some(Turn::Projection(projection)) => projection.width,
            Some(Turn::Rotation(_)) => Self::rotated_width(self.dim),
            None => self.dims().next_multiple_of(64),
        }
    }

    /// Centres prepared values and turns them where rows are; `out` is [`width`](Self::width) long.
    fn place(&self, values: &[f32], out: &mut [f32]) {
        if let Some(Turn::Projection(projection)) = &self.turn {
            return projection.apply(values, &self.center, out);
        }
        out.fill(0.0);
        for ((out, &value), &mean) in out.iter_mut().zip(values).zip(&self.center) {
            *out = value - mean;
        }
        if let Some(Turn::Rotation(rotation)) = &self.turn {
            rotation.apply(out);
        }
    }

    /// Where a query lies among the codes, before it is rounded to one: `out` is [`width`](Self::width) long.
    pub fn place_query(&self, query: &[u8], values: &mut Vec<f32>, out: &mut [f32]) {
        self.prepare(query, values);
        self.place(values, out);
        // A query far from all rows keeps its direction, and sums of its squares stay finite.
        out.iter_mut().for_each(|value| *value = (*value * self.scale).clamp(-MAX_PLACED, MAX_PLACED));
    }

    /// The prepared values of a row: decoded, and normalised or augmented as the metric asks.
    pub fn prepare(&self, row: &[u8], values: &mut Vec<f32>) {
        decode(self.element, row, values);
        values.truncate(self.dim);
        match self.metric {
            Metric::Cosine => {
                let length = norm(values);
                if length > 0.0 {
                    values.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
                }
            }
            Metric::Dot => {
                let length = norm(values) as f32;
                let rest = f64::from(self.largest_norm).powi(2) - f64::from(length).powi(2);
                values.push(rest.max(0.0).sqrt() as f32);
            }
            Metric::L2 | Metric::Hamming => {}
        }
    }

    /// Writes the code of a stored row; `code` is [`width`](Self::width) bytes.
    pub fn encode(&self, row: &[u8], values: &mut Vec<f32>, code: &mut [u8]) {
        if self.turn.is_some() {
            let mut placed = [0f32; MAX_ROTATED];
            let placed = &mut placed[..code.len().min(MAX_ROTATED)];
            self.place_query(row, values, placed);
            round_codes(placed, code);
            return;
        }
        match (self.is_direct(), self.element) {
            (true, Element::U8) => code[..self.dim].copy_from_slice(row),
            (true, Element::I8) => code.iter_mut().zip(row).for_each(|(code, &byte)| *code = byte ^ 0x80),
            (true, _) => code[..self.dim]
                .iter_mut()
                .enumerate()
                .for_each(|(bit, code)| *code = 128 + (row[bit / 8] >> (bit % 8) & 1)),
            (false, _) => {
                self.prepare(row, values);
                for ((code, &value), &mean) in code.iter_mut().zip(values.iter()).zip(&self.center) {
                    *code = quantize((value - mean) * self.scale);
                }
            }
        }
        code[self.dims()..].fill(128);
    }

    /// Writes the code that a query walks the graph with: a biased code for Euclidean distances between codes, and for
    /// dot products a signed one (without the added dimension) whose product with a code grows with the true product.
    pub fn encode_query(&self, query: &[u8], values: &mut Vec<f32>, code: &mut [u8]) {
        if self.metric != Metric::Dot {
            self.encode(query, values, code);
            return;
        }
        decode(self.element, query, values);
        let largest = values.iter().fold(0f32, |most, value| most.max(value.abs()));
        let scale = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        code.fill(0);
        for (code, &value) in code.iter_mut().zip(values.iter().take(self.dim)) {
            *code = quantize(value * scale) ^ 0x80;
        }
    }

    /// Refuses values that no [`fit`](Self::fit) can have chosen.
    pub fn validate(&self) -> Result<()> {
        let centred = if self.is_direct() { 0 } else { self.dims() };
        if self.center.len() != centred || !self.scale.is_finite() || !self.largest_norm.is_finite() {
            return Err(Error::invalid("the graph's quantiser does not fit its schema; rebuild the index"));
        }
        Ok(())
    }
}

/// Rounds placed values to a biased code.
pub fn round_codes(placed: &[f32], code: &mut [u8]) {
    code.iter_mut().zip(placed).for_each(|(code, &value)| *code = quantize(value));
}

#[inline]
fn quantize(value: f32) -> u8 {
    /// Added to a number below 2^22, it leaves the number, rounded, in the low bits.
    const ROUND: f32 = (1 << 23) as f32;
    // The clamp keeps the signed value within +-127; NaN becomes 0, which is as good as any.
    (value.clamp(-127.0, 127.0) + (128.0 + ROUND)).to_bits() as u8
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt()
}

/// The elements of a stored row as f32; bits become 0 and 1.
pub fn decode(element: Element, row: &[u8], values: &mut Vec<f32>) {
    values.clear();
    match element {
        Element::F32 => values.extend(row.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
        Element::F16 => values.extend(row.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())),
        Element::I8 => values.extend(row.iter().map(|&b| f32::from(b as i8))),
        Element::U8 => values.extend(row.iter().map(|&b| f32::from(b))),
        Element::Bits => values.extend((0..row.len() * 8).map(|bit| f32::from(row[bit / 8] >> (bit % 8) & 1))),
    }
}
