//! Kernels over codes: one code against many, with run-time dispatch.

/// Whether the processor has AVX-512 with VNNI.
#[inline]
pub fn has_vnni() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512vnni")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("avx512f")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether the processor has AVX2 with fused multiplication.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

/// Asks for the cache lines of the first `most` of `bytes` ahead of their use.
#[inline(always)]
pub fn prefetch(bytes: &[u8], most: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..bytes.len().min(most)).step_by(64) {
        // SAFETY: a prefetch of any address has no effect but on the caches.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(bytes.as_ptr().add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, most);
}

/// Runs `f`, compiled for AVX2 where it is inlined and the processor has it.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn with_avx2(f: impl FnOnce()) {
    #[target_feature(enable = "avx2,fma")]
    fn run(f: impl FnOnce()) {
        f();
    }
    if has_avx2() {
        // SAFETY: the features were detected on this processor.
        unsafe { run(f) };
    } else {
        f();
    }
}

/// Other processors need no such help.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub fn with_avx2(f: impl FnOnce()) {
    f();
}

/// What block kernels need of a biased code: the sum of squares of its signed values, and the term by which a biased
/// product is corrected, both modulo 2^32.
pub fn row_terms(code: &[u8]) -> (u32, u32) {
    let (mut square, mut sum) = (0u32, 0i32);
    #[cfg(target_arch = "x86_64")]
    with_avx2(|| (square, sum) = row_sums(code));
    #[cfg(not(target_arch = "x86_64"))]
    {
        (square, sum) = row_sums(code);
    }
    (square, square.wrapping_add((sum as u32).wrapping_mul(256)))
}

#[inline(always)]
fn row_sums(code: &[u8]) -> (u32, i32) {
    let (mut square, mut sum) = (0u32, 0i32);
    for &byte in code {
        let value = i32::from(byte) - 128;
        square = square.wrapping_add((value * value) as u32);
        sum += value;
    }
    (square, sum)
}

/// Writes four rows so that their first four bytes lie side by side, then, `stride` bytes on, their next four.
///
/// The rows have the same length, a multiple of 16; `out` reaches 16 bytes past the last multiple of `stride`.
pub fn transpose_four(rows: [&[u8]; 4], out: &mut [u8], stride: usize) {
    let groups = rows[0].len() / 4;
    assert!(rows.iter().all(|row| row.len() == groups * 4) && groups.is_multiple_of(4));
    assert!(groups == 0 || out.len() >= (groups - 1) * stride + 16);
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: SSE2 is part of x86-64, and the lengths were checked above.
        unsafe { x86::transpose_four_sse2(rows, out, stride) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    for group in 0..groups {
        for (index, row) in rows.iter().enumerate() {
            out[group * stride + index * 4..][..4].copy_from_slice(&row[group * 4..group * 4 + 4]);
        }
    }
}

/// Squared Euclidean distances (modulo 2^32) of `query` to the codes numbered `ids` in `base`.
///
/// Codes are `query.len()` bytes each, a multiple of 64. `out` receives one value an id. Panics where an id is out of
/// range.
pub fn squared_l2_many(query: &[u8], base: &[u8], ids: &[u32], out: &mut Vec<u32>) {
    out.clear();
    #[cfg(target_arch = "x86_64")]
    {
        if has_vnni() {
            // SAFETY: the features were detected on this processor.
            unsafe { x86::squared_l2_many_vnni(query, base, ids, out) };
            return;
        }
        if has_avx2() {
            // SAFETY: the features were detected on this processor.
            unsafe { x86::squared_l2_many_avx2(query, base, ids, out) };
            return;
        }
    }
    squared_l2_many_portable(query, base, ids, out);
}

#[inline(always)]
fn squared_l2_many_portable(query: &[u8], base: &[u8], ids: &[u32], out: &mut Vec<u32>) {
    let width = query.len();
    out.extend(ids.iter().map(|&id| {
        let code = &base[id as usize * width..][..width];
        let mut sum = 0u32;
        for (&a, &b) in query.iter().zip(code) {
            let difference = i32::from(a) - i32::from(b);
            sum = sum.wrapping_add((difference * difference) as u32);
        }
        sum
    }));
}

/// The squared Euclidean distance (modulo 2^32) of two codes of the same length, a multiple of 64.
pub fn squared_l2(query: &[u8], code: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if has_vnni() {
        // SAFETY: the features were detected on this processor.
        return unsafe { x86::squared_l2_vnni(query, code) };
    }
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the features were detected on this processor.
        return unsafe { x86::squared_l2_avx2(query, code) };
    }
    squared_l2_portable(query, code)
}

/// Squared Euclidean distances (modulo 2^32) of `query` to each of the codes that lie one after the other in `run`, of
/// the same length, a multiple of 64.
pub fn squared_l2_run(query: &[u8], run: &[u8], out: &mut Vec<u32>) {
    out.clear();
    #[cfg(target_arch = "x86_64")]
    {
        if has_vnni() {
            // SAFETY: the features were detected on this processor.
            return unsafe { x86::squared_l2_run_vnni(query, run, out) };
        }
        if has_avx2() {
            // SAFETY: the features were detected on this processor.
            return unsafe { x86::squared_l2_run_avx2(query, run, out) };
        }
    }
    out.extend(run.chunks_exact(query.len()).map(|code| squared_l2_portable(query, code)));
}

fn squared_l2_portable(query: &[u8], code: &[u8]) -> u32 {
    query.iter().zip(code).fold(0u32, |sum, (&a, &b)| {
        let difference = i32::from(a) - i32::from(b);
        sum.wrapping_add((difference * difference) as u32)
    })
}

/// Products of a signed query with the biased codes numbered `ids` in `base`: the sum of `signed[i] * code[i]`.
///
/// The lengths are as for [`squared_l2_many`]. The sum fits an `i32` up to 65,536 dimensions.
pub fn product_many(signed: &[u8], base: &[u8], ids: &[u32], out: &mut Vec<i32>) {
    out.clear();
    #[cfg(target_arch = "x86_64")]
    {
        if has_vnni() {
            // SAFETY: the features were detected on this processor.
            unsafe { x86::product_many_vnni(signed, base, ids, out) };
            return;
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was detected on this processor.
            unsafe { x86::product_many_avx2(signed, base, ids, out) };
            return;
        }
    }
    product_many_portable(signed, base, ids, out);
}

#[inline(always)]
fn product_many_portable(signed: &[u8], base: &[u8], ids: &[u32], out: &mut Vec<i32>) {
    let width = signed.len();
    out.extend(ids.iter().map(|&id| {
        let code = &base[id as usize * width..][..width];
        signed.iter().zip(code).fold(0i32, |sum, (&a, &b)| sum.wrapping_add(i32::from(a as i8) * i32::from(b)))
    }));
}

/// The product of a signed query with numbers of `bits` bits that are stored as bit planes: for every 64 of them one u64
/// a bit, lowest first.
pub fn plane_product(signed: &[u8], planes: &[u8], bits: usize) -> i32 {
    assert!((1..=8).contains(&bits) && planes.len() == signed.len() / 64 * 8 * bits);
    #[cfg(target_arch = "x86_64")]
    if has_vnni() {
        // SAFETY: the features were detected on this processor.
        return unsafe { x86::plane_product_vnni(signed, planes, bits) };
    }
    plane_product_portable(signed, planes, bits)
}

fn plane_product_portable(signed: &[u8], planes: &[u8], bits: usize) -> i32 {
    let mut sum = 0;
    for (query, planes) in signed.chunks_exact(64).zip(planes.chunks_exact(8 * bits)) {
        for (bit, plane) in planes.as_chunks::<8>().0.iter().enumerate() {
            let mut left = u64::from_le_bytes(*plane);
            while left != 0 {
                sum += i32::from(query[left.trailing_zeros() as usize] as i8) << bit;
                left &= left - 1;
            }
        }
    }
    sum
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    /// The caller guarantees the lengths that `transpose_four` checks.
    #[target_feature(enable = "sse2")]
    pub unsafe fn transpose_four_sse2(rows: [&[u8]; 4], out: &mut [u8], stride: usize) {
        for start in (0..rows[0].len()).step_by(16) {
            // SAFETY: every row's length is a multiple of 16, so 16 bytes from `start` lie inside it.
            let [a, b, c, d] = rows.map(|row| unsafe { _mm_loadu_si128(row.as_ptr().add(start).cast()) });
            let (ab, cd) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
            let (ef, gh) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
            let groups = [
                _mm_unpacklo_epi64(ab, cd),
                _mm_unpackhi_epi64(ab, cd),
                _mm_unpacklo_epi64(ef, gh),
                _mm_unpackhi_epi64(ef, gh),
            ];
            for (index, group) in groups.into_iter().enumerate() {
                // SAFETY: the caller guarantees that `out` reaches 16 bytes past every group's start.
                unsafe { _mm_storeu_si128(out.as_mut_ptr().add((start / 4 + index) * stride).cast(), group) };
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn squared_l2_run_avx2(query: &[u8], run: &[u8], out: &mut Vec<u32>) {
        out.extend(run.chunks_exact(query.len()).map(|code| squared_l2_avx2(query, code)));
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub fn squared_l2_run_vnni(query: &[u8], run: &[u8], out: &mut Vec<u32>) {
        out.extend(run.chunks_exact(query.len()).map(|code| squared_l2_vnni(query, code)));
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn squared_l2_many_avx2(query: &[u8], base: &[u8], ids: &[u32], out: &mut Vec<u32>) {
        let width = query.len();
        for &id in ids {
            out.push(squared_l2_avx2(query, &base[id as usize * width..][..width]));
        }
    }

    #[target_feature(enable = "avx2,fma")]
    #[inline]
    pub fn squared_l2_avx2(query: &[u8], code: &[u8]) -> u32 {
        let zero = _mm256_setzero_si256();
        let (mut low, mut high) = (zero, zero);
        for (a, b) in query.chunks_exact(32).zip(code.chunks_exact(32)) {
            // SAFETY: both chunks are 32 bytes long.
            let (a, b) = unsafe { (_mm256_loadu_si256(a.as_ptr().cast()), _mm256_loadu_si256(b.as_ptr().cast())) };
            let difference = _mm256_or_si256(_mm256_subs_epu8(a, b), _mm256_subs_epu8(b, a));
            let (first, second) = (_mm256_unpacklo_epi8(difference, zero), _mm256_unpackhi_epi8(difference, zero));
            low = _mm256_add_epi32(low, _mm256_madd_epi16(first, first));
            high = _mm256_add_epi32(high, _mm256_madd_epi16(second, second));
        }
        sum_epi32(_mm256_add_epi32(low, high)) as u32
    }

    /// The sum of eight 32-bit numbers.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn sum_epi32(value: __m256i) -> i32 {
        let four = _mm_add_epi32(_mm256_castsi256_si128(value), _mm256_extracti128_si256::<1>(value));
        let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
    }

    #[target_feature(enable = "avx2")]
    pub fn product_many_avx2(signed: &[u8], base: &[u8], ids: &[u32], out: &mut Vec<i32>) {
        super::product_many_portable(signed, base, ids, out);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub fn squared_l2_many_vnni(query: &[u8], base: &[u8], ids: &[u32], out: &mut Vec<u32>) {
        let width = query.len();
        for &id in ids {
            out.push(squared_l2_vnni(query, &base[id as usize * width..][..width]));
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub fn squared_l2_vnni(query: &[u8], code: &[u8]) -> u32 {
        let (mut low, mut high) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        for (a, b) in query.chunks_exact(64).zip(code.chunks_exact(64)) {
            // SAFETY: both chunks are 64 bytes long.
            let (a, b) = unsafe { (_mm512_loadu_si512(a.as_ptr().cast()), _mm512_loadu_si512(b.as_ptr().cast())) };
            let difference = _mm512_or_si512(_mm512_subs_epu8(a, b), _mm512_subs_epu8(b, a));
            let first = _mm512_unpacklo_epi8(difference, _mm512_setzero_si512());
            let second = _mm512_unpackhi_epi8(difference, _mm512_setzero_si512());
            low = _mm512_dpwssd_epi32(low, first, first);
            high = _mm512_dpwssd_epi32(high, second, second);
        }
        _mm512_reduce_add_epi32(_mm512_add_epi32(low, high)) as u32
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub fn plane_product_vnni(signed: &[u8], planes: &[u8], bits: usize) -> i32 {
        let ones = _mm512_set1_epi8(1);
        let mut sums = [_mm512_setzero_si512(); 8];
        for (query, planes) in signed.chunks_exact(64).zip(planes.chunks_exact(8 * bits)) {
            // SAFETY: the chunk is 64 bytes long.
            let query = unsafe { _mm512_loadu_si512(query.as_ptr().cast()) };
            for (sum, plane) in sums.iter_mut().zip(planes.as_chunks::<8>().0) {
                let chosen = _mm512_maskz_mov_epi8(u64::from_le_bytes(*plane), query);
                *sum = _mm512_dpbusd_epi32(*sum, ones, chosen);
            }
        }
        // The highest first, doubled once for each bit below it.
        let all = sums
            .iter()
            .rev()
            .fold(_mm512_setzero_si512(), |all, sum| _mm512_add_epi32(_mm512_slli_epi32::<1>(all), *sum));
        _mm512_reduce_add_epi32(all)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub fn product_many_vnni(signed: &[u8], base: &[u8], ids: &[u32], out: &mut Vec<i32>) {
        let width = signed.len();
        for &id in ids {
            let code = &base[id as usize * width..][..width];
            let mut sum = _mm512_setzero_si512();
            for (a, b) in signed.chunks_exact(64).zip(code.chunks_exact(64)) {
                // SAFETY: both chunks are 64 bytes long.
                let (a, b) = unsafe { (_mm512_loadu_si512(a.as_ptr().cast()), _mm512_loadu_si512(b.as_ptr().cast())) };
                sum = _mm512_dpbusd_epi32(sum, b, a);
            }
            out.push(_mm512_reduce_add_epi32(sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispatched_kernels_agree_with_the_portable_ones() {
        let mut state = 3u64;
        let mut byte = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        };
        for width in [64, 128, 832] {
            let base: Vec<u8> = (0..9 * width).map(|_| byte()).collect();
            let query: Vec<u8> = (0..width).map(|_| byte()).collect();
            let ids = [8, 0, 3, 3, 7];
            let (mut fast, mut slow) = (Vec::new(), Vec::new());
            squared_l2_many(&query, &base, &ids, &mut fast);
            squared_l2_many_portable(&query, &base, &ids, &mut slow);
            assert_eq!(fast, slow);
            #[cfg(target_arch = "x86_64")]
            if has_avx2() {
                fast.clear();
                // SAFETY: the features were detected on this processor.
                unsafe { x86::squared_l2_many_avx2(&query, &base, &ids, &mut fast) };
                assert_eq!(fast, slow);
            }
            let each = ids.map(|id| squared_l2(&query, &base[id as usize * width..][..width]));
            assert_eq!(each[..], slow);
            let each = ids.map(|id| squared_l2_portable(&query, &base[id as usize * width..][..width]));
            assert_eq!(each[..], slow);
            let in_order: Vec<u32> = base.chunks_exact(width).map(|code| squared_l2_portable(&query, code)).collect();
            squared_l2_run(&query, &base, &mut fast);
            assert_eq!(fast, in_order);
            #[cfg(target_arch = "x86_64")]
            if has_avx2() {
                fast.clear();
                // SAFETY: the features were detected on this processor.
                unsafe { x86::squared_l2_run_avx2(&query, &base, &mut fast) };
                assert_eq!(fast, in_order);
            }
            let (mut fast, mut slow) = (Vec::new(), Vec::new());
            product_many(&query, &base, &ids, &mut fast);
            product_many_portable(&query, &base, &ids, &mut slow);
            assert_eq!(fast, slow);
            for bits in 1..=8 {
                let planes: Vec<u8> = (0..width / 8 * bits).map(|_| byte()).collect();
                let slow = plane_product_portable(&query, &planes, bits);
                assert_eq!(plane_product(&query, &planes, bits), slow);
            }
        }
    }
}
