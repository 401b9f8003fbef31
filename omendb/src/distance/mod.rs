//! How far is a stored vector from the query? One table of kernels, chosen once for this processor.
//!
//! | level | needs | what it uses |
//! |---|---|---|
//! | `Avx512` | AVX-512 F, BW, VL, DQ, VNNI, VPOPCNTDQ | 16 floats or 32 widened bytes a step, masked tails |
//! | `Avx2` | AVX2, FMA, F16C | 8 floats or 16 widened bytes a step |
//! | `Neon` | 64-bit ARM | 4 floats or 8 widened bytes a step |
//! | `Portable` | nothing | plain Rust, 16 partial sums |
//!
//! On one level the distance of a row depends on that row and the query alone: one call a row and one call a
//! thousand rows give the same bits. Between levels, i8, u8 and bits give the same bits; f32 and f16 differ by
//! rounding, with an error of a sum of at most `(dim / 8 + 8) * 2^-24 * sum |terms|`.

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod aarch64;
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
pub mod codes;
pub mod fastscan;
pub mod gemm;
mod kernel;
mod portable;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::record::Vectors;
use crate::schema::{Element, MAX_DIM, Metric, Schema};
use std::sync::OnceLock;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

// Sums of products of bytes are taken modulo 2^32: no vector that a schema allows may exceed it.
const _: () = assert!(MAX_DIM as u64 * 255 * 255 <= u32::MAX as u64);

/// A set of processor instructions that has kernels of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Plain Rust, on every machine.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL, DQ, VNNI and VPOPCNTDQ.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 64-bit ARM.
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Neon,
}

impl Level {
    /// The levels that this processor can run, slowest first.
    pub fn available() -> Vec<Level> {
        #[allow(unused_mut, reason = "other architectures have nothing to add")]
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if x86::has_avx2() {
                levels.push(Level::Avx2);
                if x86::has_avx512() {
                    levels.push(Level::Avx512);
                }
            }
        }
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        if std::arch::is_aarch64_feature_detected!("neon") {
            levels.push(Level::Neon);
        }
        levels
    }

    /// The fastest level of this processor; found once.
    pub fn best() -> Level {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| Level::available().last().copied().unwrap_or(Level::Portable))
    }

    fn kernels(self) -> &'static Kernels {
        match self {
            Level::Portable => &portable::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &x86::AVX2,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &x86::AVX512,
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Level::Neon => &aarch64::NEON,
        }
    }
}

/// Writes the key of one row to each place of `out`: of row `ordinals[i]`, or of row `i` if there are none.
///
/// # Safety
/// The processor must support the kernel's level, and every row named must lie whole within `rows`.
type Kernel = unsafe fn(query: &Query, rows: &[u8], ordinals: Option<&[u32]>, out: &mut [f32]);

/// The kernels of one element type.
struct Measures {
    dot: Kernel,
    l2: Kernel,
    cosine: Kernel,
}

/// The kernels of one level.
struct Kernels {
    f32: Measures,
    f16: Measures,
    i8: Measures,
    u8: Measures,
    hamming: Kernel,
}

impl Kernels {
    fn get(&self, element: Element, metric: Metric) -> Kernel {
        let measures = match element {
            Element::F32 => &self.f32,
            Element::F16 => &self.f16,
            Element::I8 => &self.i8,
            Element::U8 => &self.u8,
            Element::Bits => return self.hamming,
        };
        match metric {
            Metric::Dot => measures.dot,
            Metric::L2 => measures.l2,
            // Hamming goes with bits alone (see `Schema::validate`).
            Metric::Cosine | Metric::Hamming => measures.cosine,
        }
    }
}

/// One cache line.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// The query as the kernels read it: f32 for float elements, i16 for bytes, and bits as they are.
/// Zeros follow up to the next whole cache line, and the buffer starts on one.
struct Query {
    lines: Vec<Line>,
    /// Elements (bytes, for bits) of a vector.
    dim: usize,
    /// Bytes of a stored row.
    stride: usize,
    /// The squared norm; 0 unless the metric is cosine.
    norm: f64,
}

impl Query {
    fn new<const N: usize, T>(
        elements: &[T],
        schema: &Schema,
        encode: impl Fn(&T) -> [u8; N],
        square: impl Fn(&T) -> f64,
    ) -> Query {
        let mut lines = vec![Line([0; 64]); (elements.len() * N).div_ceil(64)];
        for (i, element) in elements.iter().enumerate() {
            let at = i * N;
            lines[at / 64].0[at % 64..at % 64 + N].copy_from_slice(&encode(element));
        }
        let norm = if schema.metric == Metric::Cosine { elements.iter().map(square).sum() } else { 0.0 };
        Query { lines, dim: elements.len(), stride: schema.stride(), norm }
    }

    /// A query whose elements are as the kernels read them.
    fn of_bytes(bytes: &[u8], dim: usize, schema: &Schema) -> Query {
        let mut lines = vec![Line([0; 64]); bytes.len().div_ceil(64)];
        lines.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        Query { lines, dim, stride: schema.stride(), norm: 0.0 }
    }

    /// The values as f32, `dim` of them and then zeros.
    fn floats(&self) -> &[f32] {
        <[f32]>::ref_from_bytes(self.bytes()).unwrap_or(&[])
    }

    /// The values as i16, `dim` of them and then zeros.
    fn words(&self) -> &[i16] {
        <[i16]>::ref_from_bytes(self.bytes()).unwrap_or(&[])
    }

    /// The bytes, `dim` of them and then zeros.
    fn bytes(&self) -> &[u8] {
        self.lines.as_bytes()
    }
}

/// A query prepared for one schema, so that nothing is converted row by row.
///
/// Rows are given as stored: little-endian, row-major, [`Schema::stride`] bytes each, at any alignment.
pub struct Prepared {
    query: Query,
    kernel: Kernel,
    metric: Metric,
}

impl Prepared {
    /// Prepares vector `row` of `query`.
    ///
    /// `query` must have passed the schema's validation: its element type, whole rows of the schema's dimensions,
    /// finite, and not zero under cosine.
    ///
    /// # Panics
    /// If the element type is another or there is no such row.
    pub fn new(schema: &Schema, query: &Vectors<'_>, row: usize) -> Prepared {
        Prepared::with_level(schema, query, row, Level::best())
    }

    /// As [`Prepared::new`], with the kernels of `level` (of the portable one if this processor lacks it).
    #[doc(hidden)]
    pub fn with_level(schema: &Schema, query: &Vectors<'_>, row: usize, level: Level) -> Prepared {
        assert_eq!(query.element(), schema.element, "the query was not converted to the collection's element type");
        let level = if level == Level::best() || Level::available().contains(&level) { level } else { Level::Portable };
        let kernels = level.kernels();
        let per_row = if schema.element == Element::Bits { schema.stride() } else { schema.dim };
        let of = row * per_row..(row + 1) * per_row;
        let square = |x: f64| x * x;
        let mut query = match query {
            Vectors::F32(v) => Query::of_bytes(v[of].as_bytes(), schema.dim, schema),
            Vectors::F16(v) => Query::new(&v[of], schema, |x| x.to_f32().to_ne_bytes(), |_| 0.0),
            Vectors::I8(v) => Query::new(&v[of], schema, |x| i16::from(*x).to_ne_bytes(), |x| square((*x).into())),
            Vectors::U8(v) => Query::new(&v[of], schema, |x| i16::from(*x).to_ne_bytes(), |x| square((*x).into())),
            Vectors::Bits(v) => Query::of_bytes(&v[of], per_row, schema),
        };
        if schema.metric == Metric::Cosine && matches!(schema.element, Element::F32 | Element::F16) {
            // Summed in the very order of the rows' norms, so that a row equal to the query is at distance 0.
            let row: Vec<u8> = query.floats()[..query.dim].iter().flat_map(|x| x.to_le_bytes()).collect();
            let mut minus_norm = [0.0];
            // SAFETY: the level was found available, and `row` holds the one row asked for, as f32.
            unsafe {
                let stride = std::mem::replace(&mut query.stride, row.len());
                (kernels.f32.dot)(&query, &row, None, &mut minus_norm);
                query.stride = stride;
            }
            query.norm = f64::from(-minus_norm[0]);
        }
        Prepared { query, kernel: kernels.get(schema.element, schema.metric), metric: schema.metric }
    }

    /// Bytes of one row.
    pub fn stride(&self) -> usize {
        self.query.stride
    }

    /// The distances (see [`Metric`]) of `out.len()` consecutive rows.
    ///
    /// # Panics
    /// If `rows` is not `out.len()` rows long.
    pub fn distances(&self, rows: &[u8], out: &mut [f32]) {
        self.keys(rows, out);
        self.keys_to_distances(out);
    }

    /// The distances of the rows `ordinals` of `rows`.
    ///
    /// # Panics
    /// If `ordinals` and `out` differ in length, or an ordinal is past the last row.
    pub fn distances_of(&self, rows: &[u8], ordinals: &[u32], out: &mut [f32]) {
        self.keys_of(rows, ordinals, out);
        self.keys_to_distances(out);
    }

    /// The distance of one row.
    ///
    /// # Panics
    /// If `row` is not one row long.
    pub fn distance(&self, row: &[u8]) -> f32 {
        let mut out = [0.0];
        self.distances(row, &mut out);
        out[0]
    }

    /// The keys of `out.len()` consecutive rows: cheaper than distances and never in another order.
    /// Unequal keys may belong to equal distances.
    ///
    /// # Panics
    /// If `rows` is not `out.len()` rows long.
    pub fn keys(&self, rows: &[u8], out: &mut [f32]) {
        assert_eq!(Some(rows.len()), out.len().checked_mul(self.query.stride), "one key a row");
        // SAFETY: the level was found available when the kernel was chosen, and all rows are there.
        unsafe { (self.kernel)(&self.query, rows, None, out) }
    }

    /// The keys of the rows `ordinals` of `rows`.
    ///
    /// # Panics
    /// If `ordinals` and `out` differ in length, or an ordinal is past the last row.
    pub fn keys_of(&self, rows: &[u8], ordinals: &[u32], out: &mut [f32]) {
        assert_eq!(ordinals.len(), out.len(), "one key an ordinal");
        let Some(last) = ordinals.iter().max() else { return };
        assert!((*last as usize) < rows.len() / self.query.stride, "ordinal {last} is past the last row");
        // SAFETY: the level was found available when the kernel was chosen, and every row named is there.
        unsafe { (self.kernel)(&self.query, rows, Some(ordinals), out) }
    }

    /// The distance that a key stands for.
    pub fn key_to_distance(&self, key: f32) -> f32 {
        if self.metric == Metric::L2 { key.sqrt() } else { key }
    }

    fn keys_to_distances(&self, keys: &mut [f32]) {
        if self.metric == Metric::L2 {
            for key in keys {
                *key = key.sqrt();
            }
        }
    }
}

/// 1 - cos, from the dot product and the two squared norms. In f64 no product overflows, and `sqrt(n * n)` is `n`, so
/// equal vectors are at 0. A zero row, which no validated collection holds, comes last.
#[inline(always)]
#[allow(clippy::manual_clamp, reason = "clamp would keep the NaN of a zero row")]
fn cosine_distance(dot: f64, norm: f64, query_norm: f64) -> f32 {
    (1.0 - dot / (norm * query_norm).sqrt()).min(2.0).max(0.0) as f32
}
