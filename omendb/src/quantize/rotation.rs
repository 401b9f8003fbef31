//! A random rotation that needs no data: rounds of sign flips and a fast Hadamard transform. Where the width is no
//! power of two, the rounds transform the largest power of two of values at the front and at the back in turn.

use crate::index::graph::mix;

/// Widest vector that is rotated.
pub const MAX_ROTATED: usize = 1024;
const ROUNDS: usize = 3;
/// Rounds where one does not reach all values.
const UNEVEN_ROUNDS: usize = 4;

/// An orthogonal map of `width` dimensions, made from a seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    width: usize,
    signs: Vec<f32>,
}

impl Rotation {
    /// The rotation of `seed`.
    pub fn new(width: usize, seed: u64) -> Self {
        let rounds = if width.is_power_of_two() { ROUNDS } else { UNEVEN_ROUNDS };
        let signs = (0..rounds * width).map(|i| if mix(seed, i as u64) >> 63 == 0 { 1.0 } else { -1.0 }).collect();
        Rotation { width, signs }
    }

    /// Rotates `values` in place; its length is the rotation's width.
    pub fn apply(&self, values: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        crate::distance::codes::with_avx2(|| self.rounds(values));
        #[cfg(not(target_arch = "x86_64"))]
        self.rounds(values);
    }

    #[inline(always)]
    fn rounds(&self, values: &mut [f32]) {
        let reach = 1 << self.width.max(1).ilog2();
        let norm = 1.0 / (reach as f32).sqrt();
        for (round, signs) in self.signs.chunks_exact(self.width).enumerate() {
            let first = if round % 2 == 0 { 0 } else { self.width - reach };
            values.iter_mut().zip(signs).for_each(|(value, sign)| *value *= sign);
            let values = &mut values[first..first + reach];
            hadamard(values);
            values.iter_mut().for_each(|value| *value *= norm);
        }
    }
}

#[inline(always)]
fn hadamard(values: &mut [f32]) {
    // The shortest steps within registers, the others over runs of values.
    for eight in values.as_chunks_mut::<8>().0 {
        let [a, b, c, d, e, f, g, h] = *eight;
        let [a, b, c, d, e, f, g, h] = [a + b, a - b, c + d, c - d, e + f, e - f, g + h, g - h];
        let [a, b, c, d, e, f, g, h] = [a + c, b + d, a - c, b - d, e + g, f + h, e - g, f - h];
        *eight = [a + e, b + f, c + g, d + h, a - e, b - f, c - g, d - h];
    }
    let mut half = 8;
    while half < values.len() {
        for pair in values.chunks_exact_mut(half * 2) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_products_survive() {
        for width in [64, 128, 192, 832] {
            let rotation = Rotation::new(width, 9);
            let mut a: Vec<f32> = (0..width).map(|i| (i as f32 * 0.7).sin()).collect();
            let mut b: Vec<f32> = (0..width).map(|i| if i == 5 { 3.0 } else { 0.0 }).collect();
            let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
            let (before_a, before) = (product(&a, &a), product(&a, &b));
            rotation.apply(&mut a);
            rotation.apply(&mut b);
            assert!((product(&a, &a) / before_a - 1.0).abs() < 1e-4 && (product(&a, &b) - before).abs() < 1e-3);
            // A single spike is spread over all dimensions.
            assert!(b.iter().all(|value| value.abs() < 1.5));
        }
    }
}
