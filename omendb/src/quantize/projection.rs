//! The directions in which rows differ: where a few of them carry nearly all of the distances between near rows, codes
//! hold those alone, and a walk reads a fraction of the bytes. What is found is compared exactly, so what is left out
//! costs a few more comparisons, never a wrong distance.

use super::rotation::{MAX_ROTATED, Rotation};
use crate::distance::codes::with_avx2;
use crate::distance::gemm::{self, TILE, Tile};

/// Fewer dimensions or rows are not worth the search for directions.
pub const MIN_DIM: usize = 256;
pub const MIN_ROWS: usize = 10_000;
/// Rows that the directions are chosen from.
pub const SAMPLE_ROWS: usize = 2048;
/// Pairs of near rows that show what is lost.
const PAIRS: usize = 128;
/// The share of their squared distance that may be lost, on average.
const LOST: f64 = 0.1;
/// Most directions, as a share of the dimensions: beyond it the codes of all dimensions are as good.
const MOST: f64 = 0.5;
/// How often the directions are refined.
const REFINEMENTS: usize = 2;

/// A linear map from `dim` dimensions to `width`, which keeps the distances between near rows but for a small share.
/// Its directions are turned at random, so that all outputs carry about as much.
#[derive(Clone)]
pub struct Projection {
    /// Dimensions that it takes.
    pub dim: usize,
    /// Dimensions that it gives, a multiple of 64.
    pub width: usize,
    /// Codes a unit of the map.
    pub scale: f32,
    /// The map's rows as biased 8-bit codes, [`stride`](Self::stride) bytes each.
    pub codes: Vec<u8>,
    tiles: Vec<Tile>,
}

impl std::fmt::Debug for Projection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Projection({} to {} dimensions)", self.dim, self.width)
    }
}

impl PartialEq for Projection {
    fn eq(&self, other: &Self) -> bool {
        (self.dim, self.scale, &self.codes) == (other.dim, other.scale, &other.codes)
    }
}

impl Projection {
    /// Bytes of a row of the map.
    pub fn stride(dim: usize) -> usize {
        dim.next_multiple_of(16)
    }

    /// The map whose rows are `codes`; `None` where the sizes contradict each other.
    pub fn new(dim: usize, width: usize, scale: f32, codes: Vec<u8>) -> Option<Self> {
        let stride = Self::stride(dim);
        let fits = (1..=MAX_ROTATED).contains(&dim) && width.is_multiple_of(TILE) && (TILE..=dim).contains(&width);
        if !fits || codes.len() != width * stride || !scale.is_normal() {
            return None;
        }
        let pack = |rows: &[u8]| {
            let mut tile = Tile::default();
            tile.pack(stride, rows.chunks_exact(stride), std::iter::empty());
            tile
        };
        let tiles = codes.chunks_exact(stride * TILE).map(pack).collect();
        Some(Projection { dim, width, scale, codes, tiles })
    }

    /// Chooses the directions from `sample`: centred rows of `dim` dimensions. `None` where too many would be needed.
    pub fn fit(sample: &[f32], dim: usize, seed: u64) -> Option<Self> {
        let most = (dim as f64 * MOST) as usize / TILE * TILE;
        if most == 0 || sample.len() / dim < most.max(PAIRS) {
            return None;
        }
        let mut basis = Vec::new();
        let mut width = None;
        let work = || {
            basis = directions(sample, dim, most);
            width = least_width(sample, &basis, dim);
        };
        with_avx2(work);
        let width = width?;
        let rotation = Rotation::new(width, seed);
        let mut turned = vec![0f32; dim * width];
        for (axis, column) in turned.chunks_exact_mut(width).enumerate() {
            column.iter_mut().zip(basis.chunks_exact(dim)).for_each(|(value, direction)| *value = direction[axis]);
            rotation.apply(column);
        }
        let largest = turned.iter().fold(0f32, |most, value| most.max(value.abs()));
        let (scale, stride) = (127.0 / largest, Self::stride(dim));
        let mut codes = vec![128u8; width * stride];
        for (axis, column) in turned.chunks_exact(width).enumerate() {
            for (row, value) in column.iter().enumerate() {
                codes[row * stride + axis] = (value * scale + 128.5) as u8;
            }
        }
        Self::new(dim, width, scale, codes)
    }

    /// Maps `values - center`, `dim` of each, to the first `width` places of `out`.
    pub fn apply(&self, values: &[f32], center: &[f32], out: &mut [f32]) {
        // The values as 16-bit integers, in two digits that the 8-bit kernel takes one after the other.
        let (mut high, mut low) = ([0u8; MAX_ROTATED], [0u8; MAX_ROTATED]);
        let (mut scale, mut sums) = (0.0, [0; 2]);
        with_avx2(|| {
            scale = digits(values, center, &mut high, &mut low);
            sums = [&high, &low].map(|digits| digits.iter().map(|&digit| i32::from(digit as i8)).sum::<i32>());
        });
        let step = if scale > 0.0 { 1.0 / (scale * self.scale) } else { 0.0 };
        let stride = Self::stride(self.dim);
        let mut products = [[0i32; TILE]; 2];
        for (tile, out) in self.tiles.iter().zip(out.chunks_exact_mut(TILE)) {
            gemm::products(tile, [&high[..stride], &low[..stride]], &mut products);
            for ((out, high), low) in out.iter_mut().zip(products[0]).zip(products[1]) {
                // Without what the bias of the map's codes added.
                let (high, low) = (high - 128 * sums[0], low - 128 * sums[1]);
                *out = (high as f32 * 256.0 + low as f32) * step;
            }
        }
    }
}

/// Writes `values - center` as 16-bit integers, each as two signed digits of 8 bits; returns their number a unit.
#[inline(always)]
fn digits(values: &[f32], center: &[f32], high: &mut [u8], low: &mut [u8]) -> f32 {
    /// Added to a number between -2^22 and 2^22, it leaves the number, rounded, in the low bits.
    const ROUND: f32 = (3 << 22) as f32;
    let centred = values.iter().zip(center).map(|(value, mean)| value - mean);
    // Magnitudes are in the order of their bits, and integers are compared many at a time.
    let largest = f32::from_bits(centred.clone().map(|value| value.abs().to_bits()).max().unwrap_or(0));
    let scale = if largest > 0.0 && largest.is_finite() { 32_000.0 / largest } else { 0.0 };
    for ((value, high), low) in centred.zip(high).zip(low) {
        let number = (value * scale + ROUND).to_bits() as u16;
        // The lower digit is signed, so the upper one makes up for what that takes away.
        (*high, *low) = ((number.wrapping_add(128) >> 8) as u8, number as u8);
    }
    scale
}

/// Orthonormal directions, `most` of them, in which the rows of `sample` differ most, those that matter most first.
#[inline(always)]
fn directions(sample: &[f32], dim: usize, most: usize) -> Vec<f32> {
    let rows = sample.len() / dim;
    let mut transposed = vec![0f32; sample.len()];
    for (row, values) in sample.chunks_exact(dim).enumerate() {
        values.iter().enumerate().for_each(|(axis, value)| transposed[axis * rows + row] = *value);
    }
    let mut spread = vec![0f32; dim * dim];
    multiply(&transposed, sample, dim, &mut spread, true);
    for row in 0..dim {
        (0..row).for_each(|column| spread[row * dim + column] = spread[column * dim + row]);
    }
    drop(transposed);
    // Any start will do that the rows span; each turn brings the directions nearer to the largest spread.
    let mut basis: Vec<f32> =
        (0..most).flat_map(|index| sample[index * rows / most * dim..][..dim].iter().copied()).collect();
    let mut next = vec![0f32; basis.len()];
    orthonormalise(&mut basis, dim);
    for _ in 0..REFINEMENTS {
        multiply(&basis, &spread, dim, &mut next, false);
        std::mem::swap(&mut basis, &mut next);
        orthonormalise(&mut basis, dim);
    }
    basis
}

/// The least multiple of 64 directions without which near rows lose little of their distance.
#[inline(always)]
fn least_width(sample: &[f32], basis: &[f32], dim: usize) -> Option<usize> {
    let (rows, most) = (sample.len() / dim, basis.len() / dim);
    let row = |index: usize| &sample[index * dim..][..dim];
    let squares: Vec<f32> = (0..rows).map(|index| product(row(index), row(index))).collect();
    let (mut kept, mut pairs) = (vec![0f64; most], 0);
    for index in (0..PAIRS).map(|pair| pair * rows / PAIRS) {
        // Of the others, that with the least |other|^2 - 2 row * other is the nearest.
        let near = |other: usize| squares[other] - 2.0 * product(row(index), row(other));
        let others = (0..rows).filter(|&other| other != index);
        let Some((_, other)) = others.map(|o| (near(o), o)).min_by(|a, b| a.0.total_cmp(&b.0)) else { continue };
        let difference: Vec<f32> = row(index).iter().zip(row(other)).map(|(a, b)| a - b).collect();
        let square = product(&difference, &difference);
        if square.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
            continue;
        }
        let mut share = 0.0;
        for (kept, direction) in kept.iter_mut().zip(basis.chunks_exact(dim)) {
            share += f64::from(product(&difference, direction)).powi(2) / f64::from(square);
            *kept += share;
        }
        pairs += 1;
    }
    let enough = (1.0 - LOST) * f64::from(pairs);
    let width = (TILE..=most).step_by(TILE).find(|&width| kept[width - 1] >= enough)?;
    (pairs as usize >= PAIRS / 4).then_some(width)
}

/// The product of two vectors of the same length, in a fixed order of additions.
#[inline(always)]
fn product(a: &[f32], b: &[f32]) -> f32 {
    let (a, more_a) = a.as_chunks::<16>();
    let (b, more_b) = b.as_chunks::<16>();
    let mut sums = [0f32; 16];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..16 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + more_a.iter().zip(more_b).map(|(a, b)| a * b).sum::<f32>()
}

/// Makes the rows of `basis` orthonormal, in their order. A row that the ones before it span becomes zero.
#[inline(always)]
fn orthonormalise(basis: &mut [f32], dim: usize) {
    for index in 0..basis.len() / dim {
        let (before, rest) = basis.split_at_mut(index * dim);
        let row = &mut rest[..dim];
        let first = product(row, row).sqrt();
        if first > 0.0 {
            row.iter_mut().for_each(|value| *value /= first);
        }
        for other in before.chunks_exact(dim) {
            let along = product(row, other);
            row.iter_mut().zip(other).for_each(|(value, other)| *value -= along * other);
        }
        let length = product(row, row).sqrt();
        let factor = if length > 1e-4 { 1.0 / length } else { 0.0 };
        row.iter_mut().for_each(|value| *value *= factor);
    }
}

/// `out = a * b`: `b` has rows of `columns` values, as many as `a` has values in a row. With `upper`, what lies far
/// below the diagonal is left out.
#[inline(always)]
fn multiply(a: &[f32], b: &[f32], columns: usize, out: &mut [f32], upper: bool) {
    const ROWS: usize = 4;
    const LANES: usize = 16;
    let inner = b.len() / columns;
    for (first, (a, out)) in a.chunks(inner * ROWS).zip(out.chunks_mut(columns * ROWS)).enumerate() {
        let start = if upper { first * ROWS / LANES * LANES } else { 0 };
        for from in (start..columns).step_by(LANES) {
            let lanes = LANES.min(columns - from);
            let mut sums = [[0f32; LANES]; ROWS];
            if a.len() == inner * ROWS && lanes == LANES {
                for k in 0..inner {
                    let b = &b[k * columns + from..][..LANES];
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let factor = a[row * inner + k];
                        for lane in 0..LANES {
                            sums[lane] += factor * b[lane];
                        }
                    }
                }
            } else {
                for (a, sums) in a.chunks_exact(inner).zip(&mut sums) {
                    for (k, factor) in a.iter().enumerate() {
                        let b = &b[k * columns + from..][..lanes];
                        sums.iter_mut().zip(b).for_each(|(sum, value)| *sum += factor * value);
                    }
                }
            }
            for (out, sums) in out.chunks_exact_mut(columns).zip(&sums) {
                out[from..from + lanes].copy_from_slice(&sums[..lanes]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that differ in `inner` hidden directions and a little in all.
    fn rows(count: usize, dim: usize, inner: usize, noise: f32) -> Vec<f32> {
        let mut state = 5u64;
        let mut draw = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let hidden: Vec<f32> = (0..inner * dim).map(|_| draw()).collect();
        let mut rows = Vec::new();
        for _ in 0..count {
            let mut row: Vec<f32> = (0..dim).map(|_| draw() * noise).collect();
            for direction in hidden.chunks_exact(dim) {
                let along = draw();
                row.iter_mut().zip(direction).for_each(|(value, part)| *value += along * part);
            }
            rows.extend(row);
        }
        rows
    }

    #[test]
    fn distances_survive_where_few_directions_matter() {
        let dim = 300;
        let sample = rows(600, dim, 50, 0.02);
        let projection = Projection::fit(&sample, dim, 3).unwrap();
        assert_eq!(projection.width, 64);
        let center = vec![0.25; dim];
        let (mut a, mut b) = (vec![0.0; 64], vec![0.0; 64]);
        for pair in 0..100 {
            let (x, y) = (&sample[pair * dim..][..dim], &sample[(pair + 300) * dim..][..dim]);
            projection.apply(x, &center, &mut a);
            projection.apply(y, &center, &mut b);
            let squared = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f32>();
            let ratio = squared(&a, &b) / squared(x, y);
            assert!((0.9..1.01).contains(&ratio), "{ratio}");
        }
        // No output stands out.
        let reach = |a: &[f32]| a.iter().fold(0f32, |most, value| most.max(value.abs()));
        assert!(reach(&a) < 5.0 * (a.iter().map(|value| value * value).sum::<f32>() / 64.0).sqrt());
        let again = Projection::new(dim, 64, projection.scale, projection.codes.clone()).unwrap();
        assert_eq!(again, projection);
        again.apply(&sample[..dim], &center, &mut b);
        projection.apply(&sample[..dim], &center, &mut a);
        assert_eq!(a, b);
    }

    #[test]
    fn rows_that_differ_everywhere_are_not_projected() {
        assert!(Projection::fit(&rows(600, 320, 0, 1.0), 320, 3).is_none());
        for odd in [0.0, f32::MAX, f32::NAN] {
            assert!(Projection::fit(&vec![odd; 600 * 320], 320, 3).is_none());
        }
    }

    #[test]
    fn sizes_that_contradict_each_other_are_refused() {
        assert!(Projection::new(300, 64, 1.0, vec![0; 64 * 304]).is_some());
        for (dim, width, scale, bytes) in
            [(300, 63, 1.0, 63 * 304), (300, 64, 0.0, 64 * 304), (300, 64, 1.0, 64 * 300), (2000, 64, 1.0, 64 * 2000)]
        {
            assert!(Projection::new(dim, width, scale, vec![0; bytes]).is_none());
        }
    }
}
