//! A random rotation that needs no data: three rounds of sign flips and a fast Hadamard transform.

use crate::index::graph::mix;

/// Widest vector that is rotated.
pub const MAX_ROTATED: usize = 1024;
const ROUNDS: usize = 3;

/// An orthogonal map of `width` (a power of two) dimensions, made from a seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    width: usize,
    signs: Vec<f32>,
}

impl Rotation {
    /// The rotation of `seed`; `width` is a power of two.
    pub fn new(width: usize, seed: u64) -> Self {
        let signs = (0..ROUNDS * width).map(|i| if mix(seed, i as u64) >> 63 == 0 { 1.0 } else { -1.0 }).collect();
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
        let norm = 1.0 / (self.width as f32).sqrt();
        for signs in self.signs.chunks_exact(self.width) {
            values.iter_mut().zip(signs).for_each(|(value, sign)| *value *= sign * norm);
            hadamard(values);
        }
    }
}

#[inline(always)]
fn hadamard(values: &mut [f32]) {
    let mut half = 1;
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
        let rotation = Rotation::new(128, 9);
        let mut a: Vec<f32> = (0..128).map(|i| (i as f32 * 0.7).sin()).collect();
        let mut b: Vec<f32> = (0..128).map(|i| if i == 5 { 3.0 } else { 0.0 }).collect();
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        let (before_a, before) = (product(&a, &a), product(&a, &b));
        rotation.apply(&mut a);
        rotation.apply(&mut b);
        assert!((product(&a, &a) - before_a).abs() < 1e-3 && (product(&a, &b) - before).abs() < 1e-3);
        // A single spike is spread over all dimensions.
        assert!(b.iter().all(|value| value.abs() < 1.5));
    }
}
