//! Product quantisation: every four dimensions of a row become the number of the nearest of 256 centroids, one byte.

use crate::distance::codes::with_avx2;
use crate::index::graph::mix;

/// Dimensions of a part.
const PART: usize = 4;
/// Centroids of a part.
const CENTROIDS: usize = 256;
/// Rows that centroids are learnt from, and how often they are moved.
pub const SAMPLE_ROWS: usize = 4096;
const ROUNDS: usize = 8;

/// The centroids of each part: for every part, for every dimension of it, the values of all 256.
#[derive(Debug, Clone, PartialEq)]
pub struct ProductCoder {
    dims: usize,
    centroids: Vec<f32>,
}

/// What each centroid adds to the squared distance from a query: 256 values a part.
#[derive(Debug, Default)]
pub struct ProductQuery {
    table: Vec<f32>,
}

impl ProductCoder {
    /// Bytes of a code of `dims` dimensions.
    pub fn bytes_of(dims: usize) -> usize {
        dims.div_ceil(PART)
    }

    /// Values of the centroids of `dims` dimensions.
    pub fn centroids_of(dims: usize) -> usize {
        Self::bytes_of(dims) * PART * CENTROIDS
    }

    /// The coder of these centroids; `None` where their number is another.
    pub fn new(dims: usize, centroids: Vec<f32>) -> Option<Self> {
        (centroids.len() == Self::centroids_of(dims)).then_some(ProductCoder { dims, centroids })
    }

    /// All centroids.
    pub fn centroids(&self) -> &[f32] {
        &self.centroids
    }

    /// Bytes of a code.
    pub fn bytes(&self) -> usize {
        Self::bytes_of(self.dims)
    }

    /// Learns the centroids of `dims` dimensions from rows (Lloyd's algorithm).
    pub fn fit(sample: &[f32], dims: usize, seed: u64) -> Self {
        let rows = sample.len() / dims;
        let mut coder = ProductCoder { dims, centroids: vec![0.0; Self::centroids_of(dims)] };
        for part in 0..coder.bytes() {
            let values: Vec<[f32; PART]> = sample.chunks_exact(dims).map(|row| part_of(row, part)).collect();
            let centroids = &mut coder.centroids[part * PART * CENTROIDS..][..PART * CENTROIDS];
            for centroid in 0..CENTROIDS.min(rows) {
                // One row of each of 256 equal runs.
                let (from, to) = (centroid * rows / CENTROIDS, (centroid + 1) * rows / CENTROIDS);
                let draw = mix(mix(seed, part as u64), centroid as u64) % (to.max(from + 1) - from) as u64;
                let row = values[from + draw as usize];
                (0..PART).for_each(|axis| centroids[axis * CENTROIDS + centroid] = row[axis]);
            }
            with_avx2(|| settle(&values, centroids));
        }
        coder
    }
    /// Writes the code of a row.
    pub fn encode(&self, row: &[f32], code: &mut [u8]) {
        let parts = code.iter_mut().zip(self.centroids.chunks_exact(PART * CENTROIDS)).enumerate();
        with_avx2(|| {
            parts.for_each(|(part, (code, centroids))| *code = nearest(centroids, &part_of(row, part)) as u8);
        });
    }

    /// Prepares a query.
    pub fn prepare(&self, query: &[f32], prepared: &mut ProductQuery) {
        prepared.table.resize(self.bytes() * CENTROIDS, 0.0);
        let tables = prepared.table.as_chunks_mut::<CENTROIDS>().0;
        let parts = tables.iter_mut().zip(self.centroids.chunks_exact(PART * CENTROIDS)).enumerate();
        with_avx2(|| parts.for_each(|(part, (table, centroids))| squared(centroids, &part_of(query, part), table)));
    }

    /// Estimates the squared distances of the codes numbered `ids` in `base`.
    pub fn distances(&self, query: &ProductQuery, base: &[u8], ids: &[u32], out: &mut Vec<f32>) {
        let bytes = self.bytes();
        let tables = query.table.as_chunks::<CENTROIDS>().0;
        out.clear();
        out.extend(ids.iter().map(|&id| {
            let code = &base[id as usize * bytes..][..bytes];
            // Four sums at a time, so that additions do not wait for each other.
            let mut sums = [0f32; 4];
            for (code, tables) in code.chunks(4).zip(tables.chunks(4)) {
                for ((sum, &code), table) in sums.iter_mut().zip(code).zip(tables) {
                    *sum += table[usize::from(code)];
                }
            }
            (sums[0] + sums[1]) + (sums[2] + sums[3])
        }));
    }
}

/// Moves each centroid to the middle of the values that it is nearest to, again and again.
#[inline(always)]
fn settle(values: &[[f32; PART]], centroids: &mut [f32]) {
    for _ in 0..ROUNDS {
        let (mut sums, mut counts) = ([[0f64; PART]; CENTROIDS], [0u32; CENTROIDS]);
        for value in values {
            let nearest = nearest(centroids, value);
            counts[nearest] += 1;
            (0..PART).for_each(|axis| sums[nearest][axis] += f64::from(value[axis]));
        }
        for (centroid, (sum, count)) in sums.iter().zip(counts).enumerate().filter(|(_, (_, n))| *n > 0) {
            for axis in 0..PART {
                centroids[axis * CENTROIDS + centroid] = (sum[axis] / f64::from(count)) as f32;
            }
        }
    }
}

/// One part of a row; zeros follow where the row ends.
#[inline(always)]
fn part_of(row: &[f32], part: usize) -> [f32; PART] {
    let mut values = [0.0; PART];
    values.iter_mut().zip(&row[part * PART..]).for_each(|(value, given)| *value = *given);
    values
}

/// The squared distances of a value from all centroids of its part.
#[inline(always)]
fn squared(centroids: &[f32], value: &[f32; PART], out: &mut [f32; CENTROIDS]) {
    out.fill(0.0);
    for (axis, centroids) in centroids.as_chunks::<CENTROIDS>().0.iter().enumerate() {
        for (out, centroid) in out.iter_mut().zip(centroids) {
            let apart = value[axis] - centroid;
            *out += apart * apart;
        }
    }
}

/// The number of the nearest centroid, the first of equals.
#[inline(always)]
fn nearest(centroids: &[f32], value: &[f32; PART]) -> usize {
    let mut distances = [0f32; CENTROIDS];
    squared(centroids, value, &mut distances);
    let least = distances.iter().fold(f32::INFINITY, |least, &distance| least.min(distance));
    distances.iter().position(|&distance| distance == least).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize, dims: usize) -> Vec<f32> {
        let mut state = 3u64;
        let mut draw = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        (0..count * dims).map(|_| draw()).collect()
    }

    #[test]
    fn codes_stand_for_near_points_and_estimates_for_their_distances() {
        let dims = 30;
        let sample = rows(2000, dims);
        let coder = ProductCoder::fit(&sample, dims, 7);
        assert_eq!(coder, ProductCoder::fit(&sample, dims, 7));
        assert_eq!(coder, ProductCoder::new(dims, coder.centroids().to_vec()).unwrap());
        assert_eq!(coder.bytes(), 8);
        let codes: Vec<u8> = sample
            .chunks_exact(dims)
            .flat_map(|row| {
                let mut code = vec![0; coder.bytes()];
                coder.encode(row, &mut code);
                code
            })
            .collect();
        let (mut query, mut out) = (ProductQuery::default(), Vec::new());
        let ids: Vec<u32> = (0..2000).collect();
        coder.prepare(&sample[..dims], &mut query);
        coder.distances(&query, &codes, &ids, &mut out);
        let mut error = 0.0;
        for (row, estimate) in sample.chunks_exact(dims).zip(&out).skip(1) {
            let exact: f32 = row.iter().zip(&sample[..dims]).map(|(a, b)| (a - b) * (a - b)).sum();
            error += (estimate / exact - 1.0).powi(2) / 2000.0;
        }
        assert!(error.sqrt() < 0.1, "{}", error.sqrt());
        // A row lies near the point that its own code stands for.
        assert!(out[0] < out[1..].iter().copied().fold(f32::MAX, f32::min));
    }

    #[test]
    fn few_rows_and_wrong_sizes_are_no_trouble() {
        let coder = ProductCoder::fit(&[1.0, 2.0, 3.0], 3, 1);
        let mut code = [9];
        coder.encode(&[1.0, 2.0, 3.0], &mut code);
        assert_eq!(code, [0]);
        assert!(ProductCoder::new(3, vec![0.0; 5]).is_none());
    }
}
