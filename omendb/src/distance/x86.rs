//! Kernels for x86-64: AVX2 with FMA and F16C, and AVX-512 as of 2019 (Ice Lake, Zen 4).

use super::kernel::{
    ByteElement, Bytes, Cosine, Dot, F16, F32, Float, FloatElement, Hamming, I8, L2, RowKernel, Simd, U8, drive,
    load_part,
};
use super::{Kernels, Measures, Query};
use std::arch::x86_64::*;

pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("popcnt")
}

pub(super) fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512vpopcntdq")
}

pub(super) static AVX2: Kernels = Kernels {
    f32: avx2_floats::<F32>(),
    f16: avx2_floats::<F16>(),
    i8: avx2_bytes::<I8>(),
    u8: avx2_bytes::<U8>(),
    hamming: avx2::<Hamming<Avx2>>,
};

pub(super) static AVX512: Kernels = Kernels {
    f32: avx512_floats::<F32>(),
    f16: avx512_floats::<F16>(),
    i8: avx512_bytes::<I8>(),
    u8: avx512_bytes::<U8>(),
    hamming: avx512::<Hamming<Avx512>>,
};

const fn avx2_floats<E: FloatElement>() -> Measures {
    Measures {
        dot: avx2::<Float<Avx2, E, Dot>>,
        l2: avx2::<Float<Avx2, E, L2>>,
        cosine: avx2::<Float<Avx2, E, Cosine>>,
    }
}

const fn avx2_bytes<E: ByteElement>() -> Measures {
    Measures {
        dot: avx2::<Bytes<Avx2, E, Dot>>,
        l2: avx2::<Bytes<Avx2, E, L2>>,
        cosine: avx2::<Bytes<Avx2, E, Cosine>>,
    }
}

const fn avx512_floats<E: FloatElement>() -> Measures {
    Measures {
        dot: avx512::<Float<Avx512, E, Dot>>,
        l2: avx512::<Float<Avx512, E, L2>>,
        cosine: avx512::<Float<Avx512, E, Cosine>>,
    }
}

const fn avx512_bytes<E: ByteElement>() -> Measures {
    Measures {
        dot: avx512::<Bytes<Avx512, E, Dot>>,
        l2: avx512::<Bytes<Avx512, E, L2>>,
        cosine: avx512::<Bytes<Avx512, E, Cosine>>,
    }
}

#[target_feature(enable = "avx2,fma,f16c,popcnt")]
unsafe fn avx2<K: RowKernel>(query: &Query, rows: &[u8], ordinals: Option<&[u32]>, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { drive::<K>(query, rows, ordinals, out) }
}

#[target_feature(enable = "avx2,fma,f16c,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq")]
unsafe fn avx512<K: RowKernel>(query: &Query, rows: &[u8], ordinals: Option<&[u32]>, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { drive::<K>(query, rows, ordinals, out) }
}

/// Eight lanes to four: lane 4 onto lane 0 and so on.
#[inline(always)]
unsafe fn fold(a: __m256) -> __m128 {
    // SAFETY: the caller's promise; no memory is touched.
    unsafe { _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a)) }
}

#[inline(always)]
unsafe fn fold_sums(a: __m256i) -> __m128i {
    // SAFETY: the caller's promise; no memory is touched.
    unsafe { _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a)) }
}

/// (0 + 1) + (2 + 3), as `sum_four_of_4` for each of its four.
#[inline(always)]
unsafe fn sum_of_4(a: __m128) -> f32 {
    // SAFETY: the caller's promise; no memory is touched.
    unsafe {
        let pairs = _mm_hadd_ps(a, a);
        _mm_cvtss_f32(_mm_hadd_ps(pairs, pairs))
    }
}

#[inline(always)]
unsafe fn sum_four_of_4(a: [__m128; 4]) -> [f32; 4] {
    let mut out = [0.0; 4];
    // SAFETY: the caller's promise; four floats are stored to an array of four.
    unsafe {
        _mm_storeu_ps(out.as_mut_ptr(), _mm_hadd_ps(_mm_hadd_ps(a[0], a[1]), _mm_hadd_ps(a[2], a[3])));
    }
    out
}

#[inline(always)]
unsafe fn total_of_4(a: __m128i) -> u32 {
    // SAFETY: the caller's promise; no memory is touched.
    unsafe {
        let pairs = _mm_hadd_epi32(a, a);
        _mm_cvtsi128_si32(_mm_hadd_epi32(pairs, pairs)) as u32
    }
}

#[inline(always)]
unsafe fn load_part_128(at: *const u8, n: usize) -> __m128i {
    // SAFETY: the caller promises `n` (1 to 15) bytes behind `at`; a u128 and a __m128i are the same 16 bytes.
    unsafe { std::mem::transmute::<u128, __m128i>(load_part(at, n)) }
}

pub(super) struct Avx2;

/// Eight lanes on, then eight off: loaded from place 8 - n, it turns the first n on.
static FIRST_LANES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

// SAFETY of all blocks below: the trait's promise, the processor's features and the memory behind every pointer, is
// exactly what the intrinsics need; loads are of the unaligned kind.
impl Simd for Avx2 {
    type Floats = __m256;
    type Words = __m256i;
    type Sums = __m256i;
    const LANES: usize = 8;
    const WORDS: usize = 16;
    // Two rows fill eight of the sixteen registers, four would spill.
    const COSINE_ROWS: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load_f32(at: *const u8) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_loadu_ps(at.cast()) }
    }
    #[inline(always)]
    unsafe fn load_f32_part(at: *const u8, n: usize) -> __m256 {
        // SAFETY: see above; `n` is 1 to 7, so the mask is read within its table.
        unsafe { _mm256_maskload_ps(at.cast(), _mm256_loadu_si256(FIRST_LANES.as_ptr().add(8 - n).cast())) }
    }
    #[inline(always)]
    unsafe fn load_f16(at: *const u8) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
    }
    #[inline(always)]
    unsafe fn load_f16_part(at: *const u8, n: usize) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_cvtph_ps(load_part_128(at, 2 * n)) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn sum(a: __m256) -> f32 {
        // SAFETY: see above.
        unsafe { sum_of_4(fold(a)) }
    }
    #[inline(always)]
    unsafe fn sum4(a: [__m256; 4]) -> [f32; 4] {
        // SAFETY: see above.
        unsafe { sum_four_of_4([fold(a[0]), fold(a[1]), fold(a[2]), fold(a[3])]) }
    }

    #[inline(always)]
    unsafe fn zero_sums() -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn load_words(at: *const i16) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_loadu_si256(at.cast()) }
    }
    #[inline(always)]
    unsafe fn load_i8(at: *const u8) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast())) }
    }
    #[inline(always)]
    unsafe fn load_i8_part(at: *const u8, n: usize) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_cvtepi8_epi16(load_part_128(at, n)) }
    }
    #[inline(always)]
    unsafe fn load_u8(at: *const u8) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_cvtepu8_epi16(_mm_loadu_si128(at.cast())) }
    }
    #[inline(always)]
    unsafe fn load_u8_part(at: *const u8, n: usize) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_cvtepu8_epi16(load_part_128(at, n)) }
    }
    #[inline(always)]
    unsafe fn sub_words(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_sub_epi16(a, b) }
    }
    #[inline(always)]
    unsafe fn add_products(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(a, b)) }
    }
    #[inline(always)]
    unsafe fn add_sums(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn total(a: __m256i) -> u32 {
        // SAFETY: see above.
        unsafe { total_of_4(fold_sums(a)) }
    }

    #[inline(always)]
    unsafe fn differing_bits(query: *const u8, at: *const u8, n: usize) -> u32 {
        // SAFETY: see above; every load ends within the first `n` bytes.
        unsafe {
            let counts = _mm256_setr_epi8(
                0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
            );
            let nibble = _mm256_set1_epi8(15);
            let zero = _mm256_setzero_si256();
            let mut sums = zero;
            let mut i = 0;
            while i + 32 <= n {
                let x = _mm256_loadu_si256(at.add(i).cast());
                let bits = _mm256_xor_si256(x, _mm256_loadu_si256(query.add(i).cast()));
                let low = _mm256_shuffle_epi8(counts, _mm256_and_si256(bits, nibble));
                let high = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16::<4>(bits), nibble));
                sums = _mm256_add_epi64(sums, _mm256_sad_epu8(_mm256_add_epi8(low, high), zero));
                i += 32;
            }
            let mut bits = total_of_4(fold_sums(sums));
            if i + 16 <= n {
                let x = at.add(i).cast::<u128>().read_unaligned();
                bits += (x ^ query.add(i).cast::<u128>().read_unaligned()).count_ones();
                i += 16;
            }
            if i < n {
                bits += (load_part(at.add(i), n - i) ^ load_part(query.add(i), n - i)).count_ones();
            }
            bits
        }
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        // SAFETY: see above; a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
}

pub(super) struct Avx512;

#[inline(always)]
unsafe fn fold_512(a: __m512) -> __m128 {
    // SAFETY: the caller's promise; no memory is touched.
    unsafe { fold(_mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a))) }
}

/// The lowest `n` (under 64) bits.
#[inline(always)]
fn first(n: usize) -> u64 {
    (1 << n) - 1
}

// SAFETY of all blocks below: as for `Avx2`; masked loads touch no memory where the mask is 0.
impl Simd for Avx512 {
    type Floats = __m512;
    type Words = __m512i;
    type Sums = __m512i;
    const LANES: usize = 16;
    const WORDS: usize = 32;
    const COSINE_ROWS: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load_f32(at: *const u8) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(at.cast()) }
    }
    #[inline(always)]
    unsafe fn load_f32_part(at: *const u8, n: usize) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_maskz_loadu_ps(first(n) as u16, at.cast()) }
    }
    #[inline(always)]
    unsafe fn load_f16(at: *const u8) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }
    #[inline(always)]
    unsafe fn load_f16_part(at: *const u8, n: usize) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n) as u16, at.cast())) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn sum(a: __m512) -> f32 {
        // SAFETY: see above.
        unsafe { sum_of_4(fold_512(a)) }
    }
    #[inline(always)]
    unsafe fn sum4(a: [__m512; 4]) -> [f32; 4] {
        // SAFETY: see above.
        unsafe { sum_four_of_4([fold_512(a[0]), fold_512(a[1]), fold_512(a[2]), fold_512(a[3])]) }
    }

    #[inline(always)]
    unsafe fn zero_sums() -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn load_words(at: *const i16) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }
    #[inline(always)]
    unsafe fn load_i8(at: *const u8) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_cvtepi8_epi16(_mm256_loadu_si256(at.cast())) }
    }
    #[inline(always)]
    unsafe fn load_i8_part(at: *const u8, n: usize) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(first(n) as u32, at.cast())) }
    }
    #[inline(always)]
    unsafe fn load_u8(at: *const u8) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_cvtepu8_epi16(_mm256_loadu_si256(at.cast())) }
    }
    #[inline(always)]
    unsafe fn load_u8_part(at: *const u8, n: usize) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(first(n) as u32, at.cast())) }
    }
    #[inline(always)]
    unsafe fn sub_words(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_sub_epi16(a, b) }
    }
    #[inline(always)]
    unsafe fn add_products(sums: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_dpwssd_epi32(sums, a, b) }
    }
    #[inline(always)]
    unsafe fn add_sums(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn total(a: __m512i) -> u32 {
        // SAFETY: see above.
        unsafe { total_of_4(fold_sums(_mm256_add_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64::<1>(a)))) }
    }

    #[inline(always)]
    unsafe fn differing_bits(query: *const u8, at: *const u8, n: usize) -> u32 {
        // SAFETY: see above; the query is followed by zeros up to a whole cache line.
        unsafe {
            let mut sums = _mm512_setzero_si512();
            let mut i = 0;
            while i < n {
                let x = if i + 64 <= n {
                    _mm512_loadu_si512(at.add(i).cast())
                } else {
                    _mm512_maskz_loadu_epi8(first(n - i), at.add(i).cast())
                };
                let bits = _mm512_xor_si512(x, _mm512_loadu_si512(query.add(i).cast()));
                sums = _mm512_add_epi64(sums, _mm512_popcnt_epi64(bits));
                i += 64;
            }
            _mm512_reduce_add_epi64(sums) as u32
        }
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        // SAFETY: see above; a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
}
