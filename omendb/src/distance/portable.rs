//! The kernels in plain Rust: for every machine, and the reference that the others are tested against.

use super::{Kernels, Measures, Query, cosine_distance};
use half::f16;

pub(super) static KERNELS: Kernels = Kernels {
    f32: Measures { dot: dot::<F32>, l2: l2::<F32>, cosine: cosine::<F32> },
    f16: Measures { dot: dot::<F16>, l2: l2::<F16>, cosine: cosine::<F16> },
    i8: Measures { dot: byte_dot::<I8>, l2: byte_l2::<I8>, cosine: byte_cosine::<I8> },
    u8: Measures { dot: byte_dot::<U8>, l2: byte_l2::<U8>, cosine: byte_cosine::<U8> },
    hamming,
};

/// Independent partial sums: enough for the compiler to use whatever vectors the target's baseline has.
const LANES: usize = 16;

/// A float element as stored.
trait Float {
    /// The stored bytes of `LANES` elements.
    type Chunk;
    fn chunks(row: &[u8]) -> (&[Self::Chunk], &[u8]);
    fn lane(chunk: &Self::Chunk, lane: usize) -> f32;
    fn rest(row: &[u8]) -> impl Iterator<Item = f32>;
}

struct F32;
impl Float for F32 {
    type Chunk = [u8; 4 * LANES];
    #[inline(always)]
    fn chunks(row: &[u8]) -> (&[Self::Chunk], &[u8]) {
        row.as_chunks()
    }
    #[inline(always)]
    fn lane(chunk: &Self::Chunk, lane: usize) -> f32 {
        f32::from_le_bytes([chunk[4 * lane], chunk[4 * lane + 1], chunk[4 * lane + 2], chunk[4 * lane + 3]])
    }
    #[inline(always)]
    fn rest(row: &[u8]) -> impl Iterator<Item = f32> {
        row.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x))
    }
}

struct F16;
impl Float for F16 {
    type Chunk = [u8; 2 * LANES];
    #[inline(always)]
    fn chunks(row: &[u8]) -> (&[Self::Chunk], &[u8]) {
        row.as_chunks()
    }
    #[inline(always)]
    fn lane(chunk: &Self::Chunk, lane: usize) -> f32 {
        f16::from_le_bytes([chunk[2 * lane], chunk[2 * lane + 1]]).to_f32()
    }
    #[inline(always)]
    fn rest(row: &[u8]) -> impl Iterator<Item = f32> {
        row.as_chunks().0.iter().map(|x| f16::from_le_bytes(*x).to_f32())
    }
}

/// Adds `term(x, q)` over a row, in `N` sums at once.
#[inline(always)]
fn sum<F: Float, const N: usize>(query: &Query, row: &[u8], term: impl Fn(f32, f32) -> [f32; N]) -> [f32; N] {
    let (chunks, rest) = F::chunks(row);
    let q = query.floats();
    let mut lanes = [[0f32; LANES]; N];
    for (chunk, q) in chunks.iter().zip(q.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            let terms = term(F::lane(chunk, lane), q[lane]);
            for n in 0..N {
                lanes[n][lane] += terms[n];
            }
        }
    }
    let mut sums = lanes.map(|lanes| lanes.iter().sum::<f32>());
    for (x, q) in F::rest(rest).zip(&q[chunks.len() * LANES..]) {
        let terms = term(x, *q);
        for n in 0..N {
            sums[n] += terms[n];
        }
    }
    sums
}

/// Calls `key` for every row asked for.
#[inline(always)]
fn each(query: &Query, rows: &[u8], ordinals: Option<&[u32]>, out: &mut [f32], key: impl Fn(&[u8]) -> f32) {
    for (i, out) in out.iter_mut().enumerate() {
        let row = ordinals.map_or(i, |o| o[i] as usize) * query.stride;
        *out = key(&rows[row..row + query.stride]);
    }
}

fn dot<F: Float>(query: &Query, rows: &[u8], ordinals: Option<&[u32]>, out: &mut [f32]) {
    each(query, rows, ordinals, out, |row| 0.0 - sum::<F, 1>(query, row, |x, q| [x * q])[0]);
}

fn l2<F: Float>(query: &Query, rows: &[u8], ordinals: Option<&[u32]>, out: &mut [f32]) {
    each(query, rows, ordinals, out, |row| sum::<F, 1>(query, row, |x, q| [(x - q) * (x - q)])[0]);
}

fn cosine<F: Float>(query: &Query, rows: &[u8], ordinals: Option<&[u32]>, out: &mut [f32]) {
    each(query, rows, ordinals, out, |row| {
        let [dot, norm] = sum::<F, 2>(query, row, |x, q| [x * q, x * x]);
        cosine_distance(dot.into(), norm.into(), query.norm)
    });
}

/// A byte element as stored.
trait Byte {
    fn widen(byte: u8) -> i32;
}

struct I8;
impl Byte for I8 {
    #[inline(always)]
    fn widen(byte: u8) -> i32 {
        i32::from(byte as i8)
    }
}

struct U8;
impl Byte for U8 {
    #[inline(always)]
    fn widen(byte: u8) -> i32 {
        i32::from(byte)
    }
}

/// Adds `term(x, q)` over a row, exactly.
#[inline(always)]
fn byte_sum<B: Byte>(query: &Query, row: &[u8], term: impl Fn(i32, i32) -> i32) -> i64 {
    let mut sum = 0;
    // A thousand terms of at most 255 * 255 fit an i32.
    for (row, q) in row.chunks(1024).zip(query.words().chunks(1024)) {
        sum += i64::from(row.iter().zip(q).map(|(x, q)| term(B::widen(*x), i32::from(*q))).sum::<i32>());
    }
    sum
}

fn byte_dot<B: Byte>(query: &Query, rows: &[u8], ordinals: Option<&[u32]>, out: &mut [f32]) {
    each(query, rows, ordinals, out, |row| 0.0 - byte_sum::<B>(query, row, |x, q| x * q) as f32);
}

fn byte_l2<B: Byte>(query: &Query, rows: &[u8], ordinals: Option<&[u32]>, out: &mut [f32]) {
    each(query, rows, ordinals, out, |row| byte_sum::<B>(query, row, |x, q| (x - q) * (x - q)) as f32);
}

fn byte_cosine<B: Byte>(query: &Query, rows: &[u8], ordinals: Option<&[u32]>, out: &mut [f32]) {
    each(query, rows, ordinals, out, |row| {
        let dot = byte_sum::<B>(query, row, |x, q| x * q);
        let norm = byte_sum::<B>(query, row, |x, _| x * x);
        cosine_distance(dot as f64, norm as f64, query.norm)
    });
}

fn hamming(query: &Query, rows: &[u8], ordinals: Option<&[u32]>, out: &mut [f32]) {
    let (words, rest) = query.bytes()[..query.dim].as_chunks::<8>();
    each(query, rows, ordinals, out, |row| {
        let (row_words, row_rest) = row.as_chunks::<8>();
        let mut bits = 0;
        for (x, q) in row_words.iter().zip(words) {
            bits += (u64::from_ne_bytes(*x) ^ u64::from_ne_bytes(*q)).count_ones();
        }
        for (x, q) in row_rest.iter().zip(rest) {
            bits += (x ^ q).count_ones();
        }
        bits as f32
    });
}
