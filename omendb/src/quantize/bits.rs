//! RaBitQ codes of 1 to 8 bits a dimension: of each row the nearest of the directions that a grid of that many bits
//! offers, how long the row is, and how well the direction fits, so that estimates of distances are unbiased.
//!
//! A code is, for every 64 dimensions, one u64 a bit, lowest first; then two f32, the row's squared length and its
//! squared length over its product with the grid's point.

use crate::distance::codes;

/// Bytes of the two factors.
const FACTOR_BYTES: usize = 8;
/// Lengths of the grid's step that are tried for a row.
const STEPS: usize = 24;

/// Codes of `bits` bits for each of `width` turned dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitCoder {
    pub bits: usize,
    /// A multiple of 64.
    pub width: usize,
}

/// A query as the codes are compared with it.
#[derive(Debug, Default)]
pub struct BitQuery {
    signed: Vec<u8>,
    square: f32,
    step: f32,
    sum: f32,
}

impl BitCoder {
    /// Bytes of a code.
    pub fn bytes(self) -> usize {
        self.width / 8 * self.bits + FACTOR_BYTES
    }

    /// The middle of the grid's numbers.
    fn middle(self) -> f32 {
        ((1u32 << self.bits) - 1) as f32 / 2.0
    }

    /// Writes the code of a placed row.
    pub fn encode(self, placed: &[f32], code: &mut [u8]) {
        let square: f32 = placed.iter().map(|value| value * value).sum();
        let largest = placed.iter().fold(0f32, |most, value| most.max(value.abs()));
        let (middle, highest) = (self.middle(), ((1u32 << self.bits) - 1) as f32);
        // The grid's number of a value where a unit is `scale` steps long.
        let number = |value: f32, scale: f32| (value * scale + middle).round().clamp(0.0, highest);
        let fit = |scale: f32| {
            let (mut along, mut length) = (0f32, 0f32);
            for &value in placed {
                let point = number(value, scale) - middle;
                along += point * value;
                length += point * point;
            }
            (along, length)
        };
        // From the grid's end at the largest value to one that clips all but the smallest.
        let least = if largest > 0.0 { (middle + 0.5) / largest } else { 0.0 };
        let tried = if self.bits == 1 { 1 } else { STEPS };
        let scales = (0..tried).map(|step| least * (1.0 + step as f32 * 4.0 / STEPS as f32));
        let quality = |scale: f32| {
            let (along, length) = fit(scale);
            if length > 0.0 { along / length.sqrt() } else { 0.0 }
        };
        let best = scales
            .map(|scale| (quality(scale), scale))
            .fold((-1.0, least), |best, one| if one.0 > best.0 { one } else { best });
        let (along, _) = fit(best.1);
        let (planes, factors) = code.split_at_mut(self.bytes() - FACTOR_BYTES);
        for (word, planes) in placed.chunks_exact(64).zip(planes.chunks_exact_mut(8 * self.bits)) {
            let mut bits = [0u64; 8];
            for (place, &value) in word.iter().enumerate() {
                let number = number(value, best.1) as u64;
                for (bit, plane) in bits.iter_mut().enumerate().take(self.bits) {
                    *plane |= (number >> bit & 1) << place;
                }
            }
            for (out, plane) in planes.as_chunks_mut::<8>().0.iter_mut().zip(bits) {
                *out = plane.to_le_bytes();
            }
        }
        let slope = if along > 0.0 { square / along } else { 0.0 };
        factors[..4].copy_from_slice(&square.to_le_bytes());
        factors[4..].copy_from_slice(&slope.to_le_bytes());
    }

    /// Prepares a placed query.
    pub fn prepare(self, placed: &[f32], query: &mut BitQuery) {
        let largest = placed.iter().fold(0f32, |most, value| most.max(value.abs()));
        let scale = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        query.signed.clear();
        query.signed.extend(placed.iter().map(|value| (value * scale).round() as i8 as u8));
        query.square = placed.iter().map(|value| value * value).sum();
        query.step = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        query.sum = query.signed.iter().map(|&value| f32::from(value as i8)).sum();
    }

    /// Estimates the squared distances of the codes numbered `ids` in `base`.
    pub fn distances(self, query: &BitQuery, base: &[u8], ids: &[u32], out: &mut Vec<f32>) {
        let bytes = self.bytes();
        out.clear();
        out.extend(ids.iter().map(|&id| {
            let (planes, factors) = base[id as usize * bytes..][..bytes].split_at(bytes - FACTOR_BYTES);
            let product = codes::plane_product(&query.signed, planes, self.bits) as f32;
            let at = |i: usize| f32::from_le_bytes([factors[i], factors[i + 1], factors[i + 2], factors[i + 3]]);
            let along = (product - self.middle() * query.sum) * query.step;
            (at(0) + query.square - 2.0 * at(4) * along).max(0.0)
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(seed: u64, width: usize) -> Vec<f32> {
        let mut state = seed;
        let mut draw = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..width).map(|_| (0..6).map(|_| draw()).sum::<f32>() * 30.0).collect()
    }

    #[test]
    fn more_bits_err_less_and_estimates_are_not_biased() {
        let width = 256;
        let mut before = f64::MAX;
        for bits in 1..=8 {
            let coder = BitCoder { bits, width };
            let query = placed(1, width);
            let mut prepared = BitQuery::default();
            coder.prepare(&query, &mut prepared);
            let (mut bias, mut error) = (0.0, 0.0);
            let mut code = vec![0; coder.bytes()];
            let mut out = Vec::new();
            for row in 0..400 {
                let row = placed(row + 2, width);
                coder.encode(&row, &mut code);
                coder.distances(&prepared, &code, &[0], &mut out);
                let exact: f32 = row.iter().zip(&query).map(|(a, b)| (a - b) * (a - b)).sum();
                let relative = f64::from(out[0] / exact - 1.0);
                (bias, error) = (bias + relative / 400.0, error + relative * relative / 400.0);
            }
            let error = error.sqrt();
            assert!(bias.abs() < 0.01 && error < before, "{bits} bits: bias {bias}, error {error}, before {before}");
            // Each bit about halves the error, until that of the query's own rounding is all that is left.
            assert!(error < 0.06 / f64::from(1 << (bits - 1)) + 0.004, "{bits} bits: {error}");
            before = error.max(0.004);
        }
    }

    #[test]
    fn rows_without_length_have_codes() {
        for bits in [1, 4, 8] {
            let coder = BitCoder { bits, width: 64 };
            let (mut code, mut query, mut out) = (vec![1; coder.bytes()], BitQuery::default(), Vec::new());
            coder.encode(&[0.0; 64], &mut code);
            coder.prepare(&[2.0; 64], &mut query);
            coder.distances(&query, &code, &[0], &mut out);
            assert_eq!(out, [256.0]);
            coder.prepare(&[0.0; 64], &mut query);
            coder.distances(&query, &code, &[0], &mut out);
            assert_eq!(out, [0.0]);
        }
    }
}
