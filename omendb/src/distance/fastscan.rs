//! One-bit codes of 32 neighbours at a time, compared by table look-ups that stay in registers.
//!
//! A neighbour's code holds the signs of its difference from the node it hangs on. A block of 32 codes stores, for
//! every four dimensions, 16 bytes: byte `b` has the four signs of neighbour `b` in its low and of `b + 16` in its high
//! half. Two factors a neighbour, `add` and `slope`, turn the product of the query with the signs into an estimate of the
//! squared distance: `base + add - slope * product`. They are bytes on scales of their node's ([`Factors`]).

/// Neighbours of a block.
pub const BLOCK: usize = 32;
/// Bytes of a node's scales: where `add` begins, a step of `add`, a step of `slope`, and 4 bytes of zeros.
pub const SCALE_BYTES: usize = 16;

/// Bytes of one block's codes.
pub fn block_bytes(width: usize) -> usize {
    width / 4 * 16
}

/// The query's products with all sixteen sign patterns of every four dimensions, rounded to 8 bits.
#[derive(Debug, Default)]
pub struct SignTables {
    tables: Vec<u8>,
    step: f32,
    bias: f32,
}

impl SignTables {
    /// Makes the tables of a placed query; its length is a multiple of 16, at most 1,024 so that sums fit 16 bits.
    pub fn fill(&mut self, query: &[f32]) {
        self.tables.clear();
        let reach = |four: &[f32]| four.iter().map(|value| value.abs()).sum::<f32>();
        // Magnitudes are in the order of their bits, and integers are compared many at a time.
        let largest = f32::from_bits(query.chunks_exact(4).map(|four| reach(four).to_bits()).max().unwrap_or(0));
        let scale = if largest > 0.0 { 255.0 / (2.0 * largest) } else { 0.0 };
        self.step = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        self.bias = query.chunks_exact(4).map(reach).sum();
        self.tables.resize(query.len() * 4, 0);
        #[cfg(target_arch = "x86_64")]
        super::codes::with_avx2(|| fill_tables(query, scale, &mut self.tables));
        #[cfg(not(target_arch = "x86_64"))]
        fill_tables(query, scale, &mut self.tables);
    }
}

#[inline(always)]
fn fill_tables(query: &[f32], scale: f32, tables: &mut [u8]) {
    /// Added to a number below 2^22, it leaves the number, rounded, in the low bits.
    const ROUND: f32 = (1 << 23) as f32;
    for (four, table) in query.as_chunks::<4>().0.iter().zip(tables.as_chunks_mut::<16>().0) {
        // Every pattern's product, raised so that the least is 0.
        let [a, b, c, d] = four.map(|value| 2.0 * scale * value);
        let least = [a, b, c, d].iter().map(|value| value.min(0.0)).sum::<f32>();
        for (pattern, out) in table.iter_mut().enumerate() {
            let pick = |bit: usize, value: f32| if pattern >> bit & 1 == 1 { value } else { 0.0 };
            let product = (pick(0, a) + pick(1, b)) + (pick(2, c) + pick(3, d)) - least;
            *out = (product.min(255.0) + ROUND).to_bits() as u8;
        }
    }
}

/// One block of neighbours: codes and factors.
#[derive(Clone, Copy)]
pub struct SignBlock<'a> {
    /// [`block_bytes`] bytes.
    pub codes: &'a [u8],
    /// A byte a neighbour.
    pub add: &'a [u8],
    /// A byte a neighbour.
    pub slope: &'a [u8],
    /// [`SCALE_BYTES`] bytes.
    pub scales: &'a [u8],
}

/// The scales of a node's factors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    /// What an `add` of 0 stands for.
    pub add_from: f32,
    /// What one step of `add` adds.
    pub add_step: f32,
    /// What one step of `slope` adds.
    pub slope_step: f32,
}

impl Factors {
    /// Scales that hold all of these pairs of `add` and `slope`.
    pub fn of(pairs: &[(f32, f32)]) -> Self {
        let least = pairs.iter().map(|pair| pair.0).fold(f32::INFINITY, f32::min);
        let most = pairs.iter().map(|pair| pair.0).fold(f32::NEG_INFINITY, f32::max);
        let steepest = pairs.iter().map(|pair| pair.1).fold(0f32, f32::max);
        let add_from = if least.is_finite() { least } else { 0.0 };
        Factors { add_from, add_step: ((most - add_from) / 255.0).max(0.0), slope_step: steepest / 255.0 }
    }

    /// The bytes of one pair.
    pub fn bytes(&self, (add, slope): (f32, f32)) -> (u8, u8) {
        let byte = |value: f32, step: f32| if step > 0.0 { (value / step + 0.5) as u8 } else { 0 };
        (byte(add - self.add_from, self.add_step), byte(slope, self.slope_step))
    }

    /// The bytes of the scales.
    pub fn encode(&self) -> [u8; SCALE_BYTES] {
        let mut out = [0; SCALE_BYTES];
        for (bytes, value) in out.as_chunks_mut::<4>().0.iter_mut().zip([self.add_from, self.add_step, self.slope_step])
        {
            *bytes = value.to_le_bytes();
        }
        out
    }

    /// The scales in `bytes`, which [`encode`](Self::encode) wrote.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Self {
        let at = |i: usize| f32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        Factors { add_from: at(0), add_step: at(4), slope_step: at(8) }
    }
}

/// Writes the signs of 32 neighbours (`signs[neighbour * words + word]`) as the codes of a block.
pub fn pack_signs(signs: &[u64], words: usize, codes: &mut [u8]) {
    const LOW: u64 = 0x0F0F_0F0F_0F0F_0F0F;
    for word in 0..words {
        // Each pair of words gives the even and the odd tables' byte of one neighbour and the one sixteen further.
        let mut rows = [[0u64; 16]; 2];
        for neighbour in 0..16 {
            let (a, b) = (signs[neighbour * words + word], signs[(neighbour + 16) * words + word]);
            rows[0][neighbour] = a & LOW | (b & LOW) << 4;
            rows[1][neighbour] = a >> 4 & LOW | b & !LOW;
        }
        for (odd, rows) in rows.iter_mut().enumerate() {
            for half in 0..2 {
                transpose_bytes(&mut rows[half * 8..][..8]);
                for (byte, row) in rows[half * 8..][..8].iter().enumerate() {
                    let at = (word * 16 + byte * 2 + odd) * 16 + half * 8;
                    codes[at..at + 8].copy_from_slice(&row.to_le_bytes());
                }
            }
        }
    }
}

/// Transposes eight rows of eight bytes.
#[inline]
fn transpose_bytes(rows: &mut [u64]) {
    for (distance, mask) in [(4, 0x0000_0000_FFFF_FFFF), (2, 0x0000_FFFF_0000_FFFF), (1, 0x00FF_00FF_00FF_00FFu64)] {
        for row in (0..8).filter(|row| row & distance == 0) {
            let (a, b) = (rows[row], rows[row + distance]);
            let bits = distance as u32 * 8;
            rows[row] = a & mask | (b & mask) << bits;
            rows[row + distance] = a >> bits & mask | b & !mask;
        }
    }
}

/// Estimates the squared distances of a block; bit `i` of the answer says that `out[i] < threshold`.
///
/// `base` is the squared distance of the query to the node that the block hangs on.
pub fn estimate(tables: &SignTables, block: SignBlock<'_>, base: f32, threshold: f32, out: &mut [f32; BLOCK]) -> u32 {
    assert!(block.codes.len() >= tables.tables.len() && block.add.len() >= BLOCK && block.slope.len() >= BLOCK);
    let factors = Factors::decode(block.scales);
    #[cfg(target_arch = "x86_64")]
    if super::codes::has_vnni() {
        // SAFETY: the features were detected on this processor, and the lengths were checked above.
        return unsafe { x86::estimate_avx512(tables, block, factors, base, threshold, out) };
    }
    #[cfg(target_arch = "x86_64")]
    if super::codes::has_avx2() {
        // SAFETY: as above.
        return unsafe { x86::estimate_avx2(tables, block, factors, base, threshold, out) };
    }
    estimate_portable(tables, block, factors, base, threshold, out)
}

fn estimate_portable(
    tables: &SignTables,
    block: SignBlock<'_>,
    factors: Factors,
    base: f32,
    threshold: f32,
    out: &mut [f32; BLOCK],
) -> u32 {
    let mut sums = [0u16; BLOCK];
    for (table, codes) in tables.tables.chunks_exact(16).zip(block.codes.chunks_exact(16)) {
        for (index, &byte) in codes.iter().enumerate() {
            sums[index] += u16::from(table[usize::from(byte & 15)]);
            sums[index + 16] += u16::from(table[usize::from(byte >> 4)]);
        }
    }
    let mut below = 0;
    for (index, &sum) in sums.iter().enumerate() {
        let product = f32::from(sum) * tables.step - tables.bias;
        let add = f32::from(block.add[index]) * factors.add_step + (base + factors.add_from);
        out[index] = add - f32::from(block.slope[index]) * factors.slope_step * product;
        below |= u32::from(out[index] < threshold) << index;
    }
    below
}

/// The signs of the difference of two biased codes and what the factors are made of.
pub struct SignParts {
    /// Sum of squares of the differences.
    pub square: f32,
    /// Sum of their absolute values.
    pub absolute: f32,
    /// Product of the signs (`+1` where the neighbour's value is larger, else `-1`) with the node's signed code.
    pub product: f32,
}

/// Compares a neighbour's biased code with its node's, writing one bit a dimension (1: the neighbour's is larger).
///
/// Both codes and `8 * signs.len()` are the same multiple of 64 long.
pub fn sign_parts(node: &[u8], neighbour: &[u8], signs: &mut [u64]) -> SignParts {
    #[cfg(target_arch = "x86_64")]
    if super::codes::has_vnni() {
        // SAFETY: the features were detected on this processor.
        return unsafe { x86::sign_parts_avx512(node, neighbour, signs) };
    }
    #[cfg(target_arch = "x86_64")]
    if super::codes::has_avx2() {
        // SAFETY: as above.
        return unsafe { x86::sign_parts_avx2(node, neighbour, signs) };
    }
    sign_parts_portable(node, neighbour, signs)
}

fn sign_parts_portable(node: &[u8], neighbour: &[u8], signs: &mut [u64]) -> SignParts {
    let (mut square, mut absolute, mut product) = (0i64, 0i64, 0i64);
    for ((node, neighbour), word) in node.chunks_exact(64).zip(neighbour.chunks_exact(64)).zip(signs) {
        *word = 0;
        for (bit, (&a, &b)) in node.iter().zip(neighbour).enumerate() {
            let difference = i64::from(b) - i64::from(a);
            square += difference * difference;
            absolute += difference.abs();
            product += (i64::from(a) - 128) * if b > a { 1 } else { -1 };
            *word |= u64::from(b > a) << bit;
        }
    }
    SignParts { square: square as f32, absolute: absolute as f32, product: product as f32 }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BLOCK, Factors, SignBlock, SignParts, SignTables};
    use crate::distance::codes::x86::sum_epi32;
    use std::arch::x86_64::*;

    /// Sums the four 128-bit lanes of 16-bit counters.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    fn fold(value: __m512i) -> __m128i {
        let half = _mm256_add_epi16(_mm512_castsi512_si256(value), _mm512_extracti64x4_epi64::<1>(value));
        _mm_add_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
    }

    /// The caller guarantees the lengths that `estimate` checks.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub unsafe fn estimate_avx512(
        tables: &SignTables,
        block: SignBlock<'_>,
        factors: Factors,
        base: f32,
        threshold: f32,
        out: &mut [f32; BLOCK],
    ) -> u32 {
        let mask = _mm512_set1_epi8(15);
        let zero = _mm512_setzero_si512();
        let (mut low, mut low_odd, mut high, mut high_odd) = (zero, zero, zero, zero);
        for (table, codes) in tables.tables.chunks_exact(64).zip(block.codes.chunks_exact(64)) {
            // SAFETY: both chunks are 64 bytes long.
            let (table, codes) =
                unsafe { (_mm512_loadu_si512(table.as_ptr().cast()), _mm512_loadu_si512(codes.as_ptr().cast())) };
            let first = _mm512_shuffle_epi8(table, _mm512_and_si512(codes, mask));
            let second = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16::<4>(codes), mask));
            low = _mm512_add_epi16(low, first);
            low_odd = _mm512_add_epi16(low_odd, _mm512_srli_epi16::<8>(first));
            high = _mm512_add_epi16(high, second);
            high_odd = _mm512_add_epi16(high_odd, _mm512_srli_epi16::<8>(second));
        }
        // Even bytes: what is left of the 16-bit sums when the odd bytes' share is taken out.
        low = _mm512_sub_epi16(low, _mm512_slli_epi16::<8>(low_odd));
        high = _mm512_sub_epi16(high, _mm512_slli_epi16::<8>(high_odd));
        let mut below = 0u32;
        let step = _mm512_set1_ps(tables.step);
        let bias = _mm512_set1_ps(-tables.bias);
        let from = _mm512_set1_ps(base + factors.add_from);
        let add_step = _mm512_set1_ps(factors.add_step);
        let slope_step = _mm512_set1_ps(factors.slope_step);
        for (part, (even, odd)) in [(fold(low), fold(low_odd)), (fold(high), fold(high_odd))].into_iter().enumerate() {
            let sums = _mm256_set_m128i(_mm_unpackhi_epi16(even, odd), _mm_unpacklo_epi16(even, odd));
            let sums = _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(sums));
            // SAFETY: both factor arrays are 32 bytes long, and part is 0 or 1.
            let (add, slope) = unsafe {
                (
                    _mm_loadu_si128(block.add.as_ptr().add(part * 16).cast()),
                    _mm_loadu_si128(block.slope.as_ptr().add(part * 16).cast()),
                )
            };
            let product = _mm512_mul_ps(_mm512_fmadd_ps(sums, step, bias), slope_step);
            let add = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(add)), add_step, from);
            let estimate = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(slope)), product, add);
            // SAFETY: `out` holds 32 values.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr().add(part * 16), estimate) };
            let less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(estimate, _mm512_set1_ps(threshold));
            below |= u32::from(less) << (part * 16);
        }
        below
    }

    /// The caller guarantees the lengths that `estimate` checks.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn estimate_avx2(
        tables: &SignTables,
        block: SignBlock<'_>,
        factors: Factors,
        base: f32,
        threshold: f32,
        out: &mut [f32; BLOCK],
    ) -> u32 {
        let mask = _mm256_set1_epi8(15);
        let zero = _mm256_setzero_si256();
        let (mut low, mut low_odd, mut high, mut high_odd) = (zero, zero, zero, zero);
        for (table, codes) in tables.tables.chunks_exact(32).zip(block.codes.chunks_exact(32)) {
            // SAFETY: both chunks are 32 bytes long.
            let (table, codes) =
                unsafe { (_mm256_loadu_si256(table.as_ptr().cast()), _mm256_loadu_si256(codes.as_ptr().cast())) };
            let first = _mm256_shuffle_epi8(table, _mm256_and_si256(codes, mask));
            let second = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), mask));
            low = _mm256_add_epi16(low, first);
            low_odd = _mm256_add_epi16(low_odd, _mm256_srli_epi16::<8>(first));
            high = _mm256_add_epi16(high, second);
            high_odd = _mm256_add_epi16(high_odd, _mm256_srli_epi16::<8>(second));
        }
        // As with AVX-512: what is left without the odd bytes' share are the even bytes' sums.
        low = _mm256_sub_epi16(low, _mm256_slli_epi16::<8>(low_odd));
        high = _mm256_sub_epi16(high, _mm256_slli_epi16::<8>(high_odd));
        let mut below = 0u32;
        let (step, bias) = (_mm256_set1_ps(tables.step), _mm256_set1_ps(-tables.bias));
        let from = _mm256_set1_ps(base + factors.add_from);
        let (add_step, slope_step) = (_mm256_set1_ps(factors.add_step), _mm256_set1_ps(factors.slope_step));
        let [low, low_odd, high, high_odd] = [low, low_odd, high, high_odd]
            .map(|sums| _mm_add_epi16(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums)));
        let eights = [
            _mm_unpacklo_epi16(low, low_odd),
            _mm_unpackhi_epi16(low, low_odd),
            _mm_unpacklo_epi16(high, high_odd),
            _mm_unpackhi_epi16(high, high_odd),
        ];
        for (part, sums) in eights.into_iter().enumerate() {
            let sums = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(sums));
            // SAFETY: both factor arrays are 32 bytes long, and part is 0 to 3.
            let (add, slope) = unsafe {
                (
                    _mm_loadl_epi64(block.add.as_ptr().add(part * 8).cast()),
                    _mm_loadl_epi64(block.slope.as_ptr().add(part * 8).cast()),
                )
            };
            let product = _mm256_mul_ps(_mm256_fmadd_ps(sums, step, bias), slope_step);
            let add = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(add)), add_step, from);
            let estimate = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(slope)), product, add);
            // SAFETY: `out` holds 32 values.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(part * 8), estimate) };
            let less = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(estimate, _mm256_set1_ps(threshold)));
            below |= (less as u32) << (part * 8);
        }
        below
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn sign_parts_avx2(node: &[u8], neighbour: &[u8], signs: &mut [u64]) -> SignParts {
        let zero = _mm256_setzero_si256();
        let (mut square, mut absolute, mut chosen, mut whole) = (zero, zero, zero, zero);
        let (mut set, mut dims) = (0i64, 0i64);
        for ((node, neighbour), word) in node.chunks_exact(64).zip(neighbour.chunks_exact(64)).zip(signs) {
            *word = 0;
            for half in [0, 32] {
                // SAFETY: both chunks are 64 bytes long.
                let (a, b) = unsafe {
                    (
                        _mm256_loadu_si256(node.as_ptr().add(half).cast()),
                        _mm256_loadu_si256(neighbour.as_ptr().add(half).cast()),
                    )
                };
                let not_larger = _mm256_cmpeq_epi8(_mm256_max_epu8(a, b), a);
                let difference = _mm256_or_si256(_mm256_subs_epu8(a, b), _mm256_subs_epu8(b, a));
                absolute = _mm256_add_epi64(absolute, _mm256_sad_epu8(difference, zero));
                let (first, second) = (_mm256_unpacklo_epi8(difference, zero), _mm256_unpackhi_epi8(difference, zero));
                let squares = _mm256_add_epi32(_mm256_madd_epi16(first, first), _mm256_madd_epi16(second, second));
                square = _mm256_add_epi32(square, squares);
                chosen = _mm256_add_epi64(chosen, _mm256_sad_epu8(_mm256_andnot_si256(not_larger, a), zero));
                whole = _mm256_add_epi64(whole, _mm256_sad_epu8(a, zero));
                let larger = !(_mm256_movemask_epi8(not_larger) as u32);
                set += i64::from(larger.count_ones());
                dims += 32;
                *word |= u64::from(larger) << half;
            }
        }
        let sum = |value: __m256i| {
            let mut parts = [0i64; 4];
            // SAFETY: there is room for 32 bytes.
            unsafe { _mm256_storeu_si256(parts.as_mut_ptr().cast(), value) };
            parts.iter().sum::<i64>()
        };
        let chosen = sum(chosen) - 128 * set;
        let whole = sum(whole) - 128 * dims;
        SignParts {
            square: sum_epi32(square) as u32 as f32,
            absolute: sum(absolute) as f32,
            product: (2 * chosen - whole) as f32,
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub fn sign_parts_avx512(node: &[u8], neighbour: &[u8], signs: &mut [u64]) -> SignParts {
        let zero = _mm512_setzero_si512();
        let (mut square, mut absolute, mut chosen, mut whole) = (zero, zero, zero, zero);
        let (mut set, mut dims) = (0i64, 0i64);
        for ((node, neighbour), word) in node.chunks_exact(64).zip(neighbour.chunks_exact(64)).zip(signs) {
            // SAFETY: both chunks are 64 bytes long.
            let (a, b) =
                unsafe { (_mm512_loadu_si512(node.as_ptr().cast()), _mm512_loadu_si512(neighbour.as_ptr().cast())) };
            let larger = _mm512_cmpgt_epu8_mask(b, a);
            let difference = _mm512_or_si512(_mm512_subs_epu8(a, b), _mm512_subs_epu8(b, a));
            absolute = _mm512_add_epi64(absolute, _mm512_sad_epu8(difference, zero));
            let (first, second) = (_mm512_unpacklo_epi8(difference, zero), _mm512_unpackhi_epi8(difference, zero));
            square = _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(square, first, first), second, second);
            chosen = _mm512_add_epi64(chosen, _mm512_sad_epu8(_mm512_maskz_mov_epi8(larger, a), zero));
            whole = _mm512_add_epi64(whole, _mm512_sad_epu8(a, zero));
            set += i64::from(larger.count_ones());
            dims += 64;
            *word = larger;
        }
        let chosen = _mm512_reduce_add_epi64(chosen) - 128 * set;
        let whole = _mm512_reduce_add_epi64(whole) - 128 * dims;
        SignParts {
            square: _mm512_reduce_add_epi32(square) as u32 as f32,
            absolute: _mm512_reduce_add_epi64(absolute) as f32,
            product: (2 * chosen - whole) as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispatched_kernels_agree_with_the_portable_ones() {
        let mut state = 11u64;
        let mut byte = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        };
        for width in [64usize, 128, 256] {
            let query: Vec<f32> = (0..width).map(|_| f32::from(byte()) - 128.0).collect();
            let mut tables = SignTables::default();
            tables.fill(&query);
            let codes: Vec<u8> = (0..block_bytes(width)).map(|_| byte()).collect();
            let pairs: Vec<(f32, f32)> =
                (0..32).map(|_| (f32::from(byte()) * 1024.0, f32::from(byte()) / 9.0)).collect();
            let factors = Factors::of(&pairs);
            let (add, slope): (Vec<u8>, Vec<u8>) = pairs.iter().map(|pair| factors.bytes(*pair)).unzip();
            let scales = factors.encode();
            assert_eq!(Factors::decode(&scales), factors);
            let block = SignBlock { codes: &codes, add: &add, slope: &slope, scales: &scales };
            let (mut fast, mut slow) = ([0f32; BLOCK], [0f32; BLOCK]);
            let threshold = 9000.0;
            let a = estimate(&tables, block, 1000.0, threshold, &mut fast);
            let b = estimate_portable(&tables, block, factors, 1000.0, threshold, &mut slow);
            assert_eq!(a, b);
            let agree = |fast: &[f32; BLOCK]| {
                assert!(fast.iter().zip(&slow).all(|(x, y)| (x - y).abs() <= 1e-4 * y.abs().max(100.0)));
            };
            agree(&fast);
            #[cfg(target_arch = "x86_64")]
            if crate::distance::codes::has_avx2() {
                // SAFETY: the features were detected on this processor, and all lengths are those of a block.
                let below = unsafe { x86::estimate_avx2(&tables, block, factors, 1000.0, threshold, &mut fast) };
                assert_eq!(below, b);
                agree(&fast);
            }
            // The tables' products are the true ones but for rounding.
            for neighbour in 0..BLOCK {
                let sign = |dim: usize| {
                    let byte = codes[dim / 4 * 16 + neighbour % 16];
                    if byte >> (dim % 4 + neighbour / 16 * 4) & 1 == 1 { 1.0 } else { -1.0f32 }
                };
                let exact: f32 = query.iter().enumerate().map(|(dim, value)| value * sign(dim)).sum();
                let (add, slope) = pairs[neighbour];
                let error = (fast[neighbour] - (1000.0 + add - slope * exact)).abs();
                let rounded = factors.add_step + factors.slope_step * exact.abs();
                assert!(error <= slope * width as f32 + rounded, "{error} {add} {slope} {exact}");
            }
            // Packed words say the same as their bits.
            let words = width / 64;
            let signs: Vec<u64> = (0..32 * words).map(|_| (0..8).fold(0, |w, _| w << 8 | u64::from(byte()))).collect();
            let mut packed = vec![0u8; block_bytes(width)];
            pack_signs(&signs, words, &mut packed);
            for (neighbour, dim) in (0..32).flat_map(|n| (0..width).map(move |d| (n, d))) {
                let bit = packed[dim / 4 * 16 + neighbour % 16] >> (dim % 4 + neighbour / 16 * 4) & 1;
                assert_eq!(u64::from(bit), signs[neighbour * words + dim / 64] >> (dim % 64) & 1);
            }
            let (a, b): (Vec<u8>, Vec<u8>) = (0..width).map(|_| (byte(), byte())).unzip();
            let (mut one, mut two) = (vec![0u64; width / 64], vec![0u64; width / 64]);
            let (x, y) = (sign_parts(&a, &b, &mut one), sign_parts_portable(&a, &b, &mut two));
            let parts =
                |signs: &[u64], parts: &SignParts| (signs.to_vec(), parts.square, parts.absolute, parts.product);
            assert_eq!(parts(&one, &x), parts(&two, &y));
            #[cfg(target_arch = "x86_64")]
            if crate::distance::codes::has_avx2() {
                // SAFETY: the features were detected on this processor.
                let x = unsafe { x86::sign_parts_avx2(&a, &b, &mut one) };
                assert_eq!(parts(&one, &x), parts(&two, &y));
            }
        }
    }
}
