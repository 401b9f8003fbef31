//! The loops that all hand-written kernels share; an instruction set provides the steps ([`Simd`]).
//!
//! Every row has two accumulators of its own, and the order of its sums does not depend on how many rows are taken
//! at once: taking several only hides latency and reads the query once for all of them.

use super::{Query, cosine_distance};
use std::marker::PhantomData;

/// The steps of one instruction set. All loads take any alignment.
///
/// # Safety
/// Every function needs a processor with the instruction set, and memory of the stated length behind its pointer.
pub(super) trait Simd {
    /// `LANES` f32.
    type Floats: Copy;
    /// `WORDS` i16.
    type Words: Copy;
    /// `WORDS / 2` wrapping 32-bit sums.
    type Sums: Copy;
    /// Floats a step.
    const LANES: usize;
    /// Widened bytes a step.
    const WORDS: usize;
    /// Rows at once where a row needs two pairs of accumulators.
    const COSINE_ROWS: usize;

    unsafe fn zero() -> Self::Floats;
    /// `LANES` f32.
    unsafe fn load_f32(at: *const u8) -> Self::Floats;
    /// The first `n` (1 to `LANES - 1`) f32, then zeros.
    unsafe fn load_f32_part(at: *const u8, n: usize) -> Self::Floats;
    /// `LANES` f16, widened.
    unsafe fn load_f16(at: *const u8) -> Self::Floats;
    /// The first `n` (1 to `LANES - 1`) f16, widened, then zeros.
    unsafe fn load_f16_part(at: *const u8, n: usize) -> Self::Floats;
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn sub(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`, rounded once.
    unsafe fn mul_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// The sum of all lanes.
    unsafe fn sum(a: Self::Floats) -> f32;
    /// The sums of all lanes of each of four, in the order of `sum`.
    unsafe fn sum4(a: [Self::Floats; 4]) -> [f32; 4];

    unsafe fn zero_sums() -> Self::Sums;
    /// `WORDS` i16.
    unsafe fn load_words(at: *const i16) -> Self::Words;
    /// `WORDS` i8, widened.
    unsafe fn load_i8(at: *const u8) -> Self::Words;
    /// The first `n` (1 to `WORDS - 1`) i8, widened, then zeros.
    unsafe fn load_i8_part(at: *const u8, n: usize) -> Self::Words;
    /// `WORDS` u8, widened.
    unsafe fn load_u8(at: *const u8) -> Self::Words;
    /// The first `n` (1 to `WORDS - 1`) u8, widened, then zeros.
    unsafe fn load_u8_part(at: *const u8, n: usize) -> Self::Words;
    unsafe fn sub_words(a: Self::Words, b: Self::Words) -> Self::Words;
    /// `sums` plus the products of the words, two words to a sum.
    unsafe fn add_products(sums: Self::Sums, a: Self::Words, b: Self::Words) -> Self::Sums;
    unsafe fn add_sums(a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// The sum of all lanes, modulo 2^32.
    unsafe fn total(a: Self::Sums) -> u32;

    /// Bits that differ in the first `n` bytes. `query` is followed by zeros up to a whole cache line.
    unsafe fn differing_bits(query: *const u8, at: *const u8, n: usize) -> u32;
    /// Asks for the cache line at `at`, which need not be valid.
    unsafe fn prefetch(at: *const u8);
}

/// What is summed, and what key comes of it.
pub(super) trait Measure {
    /// Sums squared differences instead of products.
    const DIFFERENCE: bool = false;
    /// Sums the row's squares too.
    const NORM: bool = false;
    fn key(sum: f32, norm: f32, query_norm: f64) -> f32;
    /// As `key`, of exact integer sums.
    fn byte_key(sum: i64, norm: u32, query_norm: f64) -> f32;
}

pub(super) struct Dot;
impl Measure for Dot {
    #[inline(always)]
    fn key(sum: f32, _: f32, _: f64) -> f32 {
        0.0 - sum
    }
    #[inline(always)]
    fn byte_key(sum: i64, _: u32, _: f64) -> f32 {
        0.0 - sum as f32
    }
}

pub(super) struct L2;
impl Measure for L2 {
    const DIFFERENCE: bool = true;
    #[inline(always)]
    fn key(sum: f32, _: f32, _: f64) -> f32 {
        sum
    }
    #[inline(always)]
    fn byte_key(sum: i64, _: u32, _: f64) -> f32 {
        sum as f32
    }
}

pub(super) struct Cosine;
impl Measure for Cosine {
    const NORM: bool = true;
    #[inline(always)]
    fn key(sum: f32, norm: f32, query_norm: f64) -> f32 {
        cosine_distance(sum.into(), norm.into(), query_norm)
    }
    #[inline(always)]
    fn byte_key(sum: i64, norm: u32, query_norm: f64) -> f32 {
        cosine_distance(sum as f64, norm.into(), query_norm)
    }
}

/// A stored float type.
pub(super) trait FloatElement {
    const BYTES: usize;
    unsafe fn load<S: Simd>(at: *const u8) -> S::Floats;
    unsafe fn load_part<S: Simd>(at: *const u8, n: usize) -> S::Floats;
}

pub(super) struct F32;
impl FloatElement for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load<S: Simd>(at: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::load_f32(at) }
    }
    #[inline(always)]
    unsafe fn load_part<S: Simd>(at: *const u8, n: usize) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::load_f32_part(at, n) }
    }
}

pub(super) struct F16;
impl FloatElement for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<S: Simd>(at: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::load_f16(at) }
    }
    #[inline(always)]
    unsafe fn load_part<S: Simd>(at: *const u8, n: usize) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::load_f16_part(at, n) }
    }
}

/// A stored byte type.
pub(super) trait ByteElement {
    const SIGNED: bool;
    unsafe fn load<S: Simd>(at: *const u8) -> S::Words;
    unsafe fn load_part<S: Simd>(at: *const u8, n: usize) -> S::Words;
}

pub(super) struct I8;
impl ByteElement for I8 {
    const SIGNED: bool = true;
    #[inline(always)]
    unsafe fn load<S: Simd>(at: *const u8) -> S::Words {
        // SAFETY: the caller's promise.
        unsafe { S::load_i8(at) }
    }
    #[inline(always)]
    unsafe fn load_part<S: Simd>(at: *const u8, n: usize) -> S::Words {
        // SAFETY: the caller's promise.
        unsafe { S::load_i8_part(at, n) }
    }
}

pub(super) struct U8;
impl ByteElement for U8 {
    const SIGNED: bool = false;
    #[inline(always)]
    unsafe fn load<S: Simd>(at: *const u8) -> S::Words {
        // SAFETY: the caller's promise.
        unsafe { S::load_u8(at) }
    }
    #[inline(always)]
    unsafe fn load_part<S: Simd>(at: *const u8, n: usize) -> S::Words {
        // SAFETY: the caller's promise.
        unsafe { S::load_u8_part(at, n) }
    }
}

/// The keys of `R` rows at once.
pub(super) trait RowKernel {
    /// Rows worth taking at once: 4 or 2.
    const ROWS: usize;
    /// # Safety
    /// The processor has the instruction set, and a whole row lies behind each pointer.
    unsafe fn keys<const R: usize>(query: &Query, rows: [*const u8; R]) -> [f32; R];
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn prefetch(at: *const u8);
}

/// f32 and f16 rows.
pub(super) struct Float<S, E, M>(PhantomData<(S, E, M)>);

impl<S: Simd, E: FloatElement, M: Measure> Float<S, E, M> {
    #[inline(always)]
    unsafe fn step(sum: &mut S::Floats, norm: &mut S::Floats, x: S::Floats, q: S::Floats) {
        // SAFETY: the caller's promise; no memory is touched.
        unsafe {
            if M::DIFFERENCE {
                let d = S::sub(x, q);
                *sum = S::mul_add(d, d, *sum);
            } else {
                *sum = S::mul_add(x, q, *sum);
            }
            if M::NORM {
                *norm = S::mul_add(x, x, *norm);
            }
        }
    }

    #[inline(always)]
    unsafe fn totals<const R: usize>(halves: &[[S::Floats; 2]; R]) -> [f32; R] {
        let mut out = [0.0; R];
        // SAFETY: the caller's promise; no memory is touched.
        unsafe {
            if R == 4 {
                let whole = |r: usize| S::add(halves[r][0], halves[r][1]);
                out.copy_from_slice(&S::sum4([whole(0), whole(1), whole(2), whole(3)]));
            } else {
                for r in 0..R {
                    out[r] = S::sum(S::add(halves[r][0], halves[r][1]));
                }
            }
        }
        out
    }
}

impl<S: Simd, E: FloatElement, M: Measure> RowKernel for Float<S, E, M> {
    const ROWS: usize = if M::NORM { S::COSINE_ROWS } else { 4 };

    #[inline(always)]
    unsafe fn keys<const R: usize>(query: &Query, rows: [*const u8; R]) -> [f32; R] {
        let q = query.floats().as_ptr();
        let (mut sums, mut norms);
        let mut i = 0;
        // SAFETY: the caller's promise; every load ends within `dim` elements of a row, or of the query, which is
        // padded to whole cache lines, of which a step is a part or one.
        unsafe {
            sums = [[S::zero(); 2]; R];
            norms = [[S::zero(); 2]; R];
            while i + 2 * S::LANES <= query.dim {
                for half in 0..2 {
                    let at = i + half * S::LANES;
                    let q = S::load_f32(q.add(at).cast());
                    for r in 0..R {
                        let x = E::load::<S>(rows[r].add(at * E::BYTES));
                        Self::step(&mut sums[r][half], &mut norms[r][half], x, q);
                    }
                }
                i += 2 * S::LANES;
            }
            if i + S::LANES <= query.dim {
                let q = S::load_f32(q.add(i).cast());
                for r in 0..R {
                    let x = E::load::<S>(rows[r].add(i * E::BYTES));
                    Self::step(&mut sums[r][0], &mut norms[r][0], x, q);
                }
                i += S::LANES;
            }
            if i < query.dim {
                let q = S::load_f32(q.add(i).cast());
                for r in 0..R {
                    let x = E::load_part::<S>(rows[r].add(i * E::BYTES), query.dim - i);
                    Self::step(&mut sums[r][1], &mut norms[r][1], x, q);
                }
            }
            let sums = Self::totals(&sums);
            let norms = if M::NORM { Self::totals(&norms) } else { [0.0; R] };
            let mut keys = [0.0; R];
            for r in 0..R {
                keys[r] = M::key(sums[r], norms[r], query.norm);
            }
            keys
        }
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        // SAFETY: the caller's promise.
        unsafe { S::prefetch(at) }
    }
}

/// i8 and u8 rows.
pub(super) struct Bytes<S, E, M>(PhantomData<(S, E, M)>);

impl<S: Simd, E: ByteElement, M: Measure> Bytes<S, E, M> {
    #[inline(always)]
    unsafe fn step(sum: &mut S::Sums, norm: &mut S::Sums, x: S::Words, q: S::Words) {
        // SAFETY: the caller's promise; no memory is touched.
        unsafe {
            if M::DIFFERENCE {
                let d = S::sub_words(x, q);
                *sum = S::add_products(*sum, d, d);
            } else {
                *sum = S::add_products(*sum, x, q);
            }
            if M::NORM {
                *norm = S::add_products(*norm, x, x);
            }
        }
    }
}

impl<S: Simd, E: ByteElement, M: Measure> RowKernel for Bytes<S, E, M> {
    const ROWS: usize = if M::NORM { S::COSINE_ROWS } else { 4 };

    #[inline(always)]
    unsafe fn keys<const R: usize>(query: &Query, rows: [*const u8; R]) -> [f32; R] {
        let q = query.words().as_ptr();
        let (mut sums, mut norms);
        let mut i = 0;
        // SAFETY: as for `Float::keys`.
        unsafe {
            sums = [[S::zero_sums(); 2]; R];
            norms = [[S::zero_sums(); 2]; R];
            while i + 2 * S::WORDS <= query.dim {
                for half in 0..2 {
                    let at = i + half * S::WORDS;
                    let q = S::load_words(q.add(at));
                    for r in 0..R {
                        Self::step(&mut sums[r][half], &mut norms[r][half], E::load::<S>(rows[r].add(at)), q);
                    }
                }
                i += 2 * S::WORDS;
            }
            if i + S::WORDS <= query.dim {
                let q = S::load_words(q.add(i));
                for r in 0..R {
                    Self::step(&mut sums[r][0], &mut norms[r][0], E::load::<S>(rows[r].add(i)), q);
                }
                i += S::WORDS;
            }
            if i < query.dim {
                let q = S::load_words(q.add(i));
                for r in 0..R {
                    let x = E::load_part::<S>(rows[r].add(i), query.dim - i);
                    Self::step(&mut sums[r][1], &mut norms[r][1], x, q);
                }
            }
            let mut keys = [0.0; R];
            for r in 0..R {
                let sum = S::total(S::add_sums(sums[r][0], sums[r][1]));
                // Only a product of signed bytes can be negative.
                let sum = if E::SIGNED && !M::DIFFERENCE { i64::from(sum as i32) } else { i64::from(sum) };
                let norm = if M::NORM { S::total(S::add_sums(norms[r][0], norms[r][1])) } else { 0 };
                keys[r] = M::byte_key(sum, norm, query.norm);
            }
            keys
        }
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        // SAFETY: the caller's promise.
        unsafe { S::prefetch(at) }
    }
}

/// Rows of bits.
pub(super) struct Hamming<S>(PhantomData<S>);

impl<S: Simd> RowKernel for Hamming<S> {
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn keys<const R: usize>(query: &Query, rows: [*const u8; R]) -> [f32; R] {
        let q = query.bytes().as_ptr();
        let mut keys = [0.0; R];
        for r in 0..R {
            // SAFETY: the caller's promise; the query is padded to whole cache lines.
            keys[r] = unsafe { S::differing_bits(q, rows[r], query.dim) } as f32;
        }
        keys
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        // SAFETY: the caller's promise.
        unsafe { S::prefetch(at) }
    }
}

/// How much of a row is asked for ahead of time, where the next row is not the next in memory.
const PREFETCH_BYTES: usize = 1024;

/// Runs a kernel over consecutive rows or over those named.
///
/// Consecutive rows are read one by one: memory is read fastest in one long run, and the sums of a row overlap with
/// the loads of the next anyway. Scattered rows are taken several at once, while the next ones are on their way.
///
/// # Safety
/// The processor has the instruction set, and every row named lies whole within `rows`.
#[inline(always)]
pub(super) unsafe fn drive<K: RowKernel>(query: &Query, rows: &[u8], ordinals: Option<&[u32]>, out: &mut [f32]) {
    let Some(ordinals) = ordinals else {
        for (i, out) in out.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *out = unsafe { K::keys(query, [rows.as_ptr().add(i * query.stride)])[0] };
        }
        return;
    };
    // SAFETY: the caller promises that the row lies within `rows`.
    let row = |i: usize| unsafe { rows.as_ptr().add(ordinals[i] as usize * query.stride) };
    let mut i = 0;
    while i + K::ROWS <= out.len() {
        for ahead in i + K::ROWS..(i + 2 * K::ROWS).min(ordinals.len()) {
            for at in (0..query.stride.min(PREFETCH_BYTES)).step_by(64) {
                // SAFETY: the caller promises the instruction set.
                unsafe { K::prefetch(row(ahead).add(at)) };
            }
        }
        // SAFETY: the caller promises the instruction set; the rows are whole.
        unsafe {
            if K::ROWS == 4 {
                out[i..i + 4].copy_from_slice(&K::keys(query, [row(i), row(i + 1), row(i + 2), row(i + 3)]));
            } else {
                out[i..i + 2].copy_from_slice(&K::keys(query, [row(i), row(i + 1)]));
            }
        }
        i += K::ROWS;
    }
    for (i, out) in out.iter_mut().enumerate().skip(i) {
        // SAFETY: as above.
        *out = unsafe { K::keys(query, [row(i)])[0] };
    }
}

/// The first `n` (1 to 15) bytes, least significant first, then zeros: without a call, unlike a copy of unknown length.
///
/// # Safety
/// `n` bytes lie behind `at`.
#[inline(always)]
#[allow(dead_code, reason = "masked loads make it superfluous on some levels")]
pub(super) unsafe fn load_part(at: *const u8, n: usize) -> u128 {
    // SAFETY: every read ends within the first `n` bytes; two overlapping reads agree where they overlap.
    unsafe {
        if n >= 8 {
            let low = at.cast::<u64>().read_unaligned();
            let high = at.add(n - 8).cast::<u64>().read_unaligned();
            u128::from(low) | u128::from(high) << (8 * (n - 8))
        } else if n >= 4 {
            let low = at.cast::<u32>().read_unaligned();
            let high = at.add(n - 4).cast::<u32>().read_unaligned();
            u128::from(u64::from(low) | u64::from(high) << (8 * (n - 4)))
        } else {
            let (first, middle, last) = (*at, *at.add(n / 2), *at.add(n - 1));
            u128::from(u32::from(first) | u32::from(middle) << (8 * (n / 2)) | u32::from(last) << (8 * (n - 1)))
        }
    }
}
