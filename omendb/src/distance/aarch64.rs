//! Kernels for 64-bit ARM: NEON, which every such processor has.

use super::kernel::{
    ByteElement, Bytes, Cosine, Dot, F16, F32, Float, FloatElement, Hamming, I8, L2, RowKernel, Simd, U8, drive,
    load_part,
};
use super::{Kernels, Measures, Query};
use std::arch::aarch64::*;

pub(super) static NEON: Kernels = Kernels {
    f32: floats::<F32>(),
    f16: floats::<F16>(),
    i8: bytes::<I8>(),
    u8: bytes::<U8>(),
    hamming: neon::<Hamming<Neon>>,
};

const fn floats<E: FloatElement>() -> Measures {
    Measures {
        dot: neon::<Float<Neon, E, Dot>>,
        l2: neon::<Float<Neon, E, L2>>,
        cosine: neon::<Float<Neon, E, Cosine>>,
    }
}

const fn bytes<E: ByteElement>() -> Measures {
    Measures {
        dot: neon::<Bytes<Neon, E, Dot>>,
        l2: neon::<Bytes<Neon, E, L2>>,
        cosine: neon::<Bytes<Neon, E, Cosine>>,
    }
}

#[target_feature(enable = "neon")]
unsafe fn neon<K: RowKernel>(query: &Query, rows: &[u8], ordinals: Option<&[u32]>, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { drive::<K>(query, rows, ordinals, out) }
}

/// Four f16 to f32, by shifting the exponent and scaling it by 2^(127 - 15): exact for all finite values, subnormals
/// included.
#[inline(always)]
unsafe fn widen_f16(halves: uint16x4_t) -> float32x4_t {
    // SAFETY: the caller's promise; no memory is touched.
    unsafe {
        let wide = vmovl_u16(halves);
        let magnitude = vshlq_n_u32::<13>(vandq_u32(wide, vdupq_n_u32(0x7fff)));
        let sign = vshlq_n_u32::<16>(vandq_u32(wide, vdupq_n_u32(0x8000)));
        let scaled = vmulq_f32(vreinterpretq_f32_u32(magnitude), vdupq_n_f32(f32::from_bits((127 + 112) << 23)));
        vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(scaled), sign))
    }
}

pub(super) struct Neon;

// SAFETY of all blocks below: the trait's promise, the processor's features and the memory behind every pointer, is
// exactly what the intrinsics need; loads take any alignment.
impl Simd for Neon {
    type Floats = float32x4_t;
    type Words = int16x8_t;
    type Sums = int32x4_t;
    const LANES: usize = 4;
    const WORDS: usize = 8;
    const COSINE_ROWS: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> float32x4_t {
        // SAFETY: see above.
        unsafe { vdupq_n_f32(0.0) }
    }
    #[inline(always)]
    unsafe fn load_f32(at: *const u8) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vreinterpretq_f32_u8(vld1q_u8(at)) }
    }
    #[inline(always)]
    unsafe fn load_f32_part(at: *const u8, n: usize) -> float32x4_t {
        // SAFETY: see above; a u128 and a float32x4_t are the same 16 bytes.
        unsafe { std::mem::transmute::<u128, float32x4_t>(load_part(at, 4 * n)) }
    }
    #[inline(always)]
    unsafe fn load_f16(at: *const u8) -> float32x4_t {
        // SAFETY: see above.
        unsafe { widen_f16(vreinterpret_u16_u8(vld1_u8(at))) }
    }
    #[inline(always)]
    unsafe fn load_f16_part(at: *const u8, n: usize) -> float32x4_t {
        // SAFETY: see above.
        unsafe { widen_f16(vcreate_u16(load_part(at, 2 * n) as u64)) }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn sum(a: float32x4_t) -> f32 {
        // SAFETY: see above.
        unsafe {
            let pairs = vpaddq_f32(a, a);
            vgetq_lane_f32::<0>(vpaddq_f32(pairs, pairs))
        }
    }
    #[inline(always)]
    unsafe fn sum4(a: [float32x4_t; 4]) -> [f32; 4] {
        let mut out = [0.0; 4];
        // SAFETY: see above; four floats are stored to an array of four.
        unsafe { vst1q_f32(out.as_mut_ptr(), vpaddq_f32(vpaddq_f32(a[0], a[1]), vpaddq_f32(a[2], a[3]))) };
        out
    }

    #[inline(always)]
    unsafe fn zero_sums() -> int32x4_t {
        // SAFETY: see above.
        unsafe { vdupq_n_s32(0) }
    }
    #[inline(always)]
    unsafe fn load_words(at: *const i16) -> int16x8_t {
        // SAFETY: see above.
        unsafe { vld1q_s16(at) }
    }
    #[inline(always)]
    unsafe fn load_i8(at: *const u8) -> int16x8_t {
        // SAFETY: see above.
        unsafe { vmovl_s8(vreinterpret_s8_u8(vld1_u8(at))) }
    }
    #[inline(always)]
    unsafe fn load_i8_part(at: *const u8, n: usize) -> int16x8_t {
        // SAFETY: see above.
        unsafe { vmovl_s8(vcreate_s8(load_part(at, n) as u64)) }
    }
    #[inline(always)]
    unsafe fn load_u8(at: *const u8) -> int16x8_t {
        // SAFETY: see above.
        unsafe { vreinterpretq_s16_u16(vmovl_u8(vld1_u8(at))) }
    }
    #[inline(always)]
    unsafe fn load_u8_part(at: *const u8, n: usize) -> int16x8_t {
        // SAFETY: see above.
        unsafe { vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(load_part(at, n) as u64))) }
    }
    #[inline(always)]
    unsafe fn sub_words(a: int16x8_t, b: int16x8_t) -> int16x8_t {
        // SAFETY: see above.
        unsafe { vsubq_s16(a, b) }
    }
    #[inline(always)]
    unsafe fn add_products(sums: int32x4_t, a: int16x8_t, b: int16x8_t) -> int32x4_t {
        // SAFETY: see above.
        unsafe { vmlal_high_s16(vmlal_s16(sums, vget_low_s16(a), vget_low_s16(b)), a, b) }
    }
    #[inline(always)]
    unsafe fn add_sums(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: see above.
        unsafe { vaddq_s32(a, b) }
    }
    #[inline(always)]
    unsafe fn total(a: int32x4_t) -> u32 {
        // SAFETY: see above.
        unsafe { vaddvq_s32(a) as u32 }
    }

    #[inline(always)]
    unsafe fn differing_bits(query: *const u8, at: *const u8, n: usize) -> u32 {
        // SAFETY: see above; every load ends within the first `n` bytes.
        unsafe {
            let mut sums = vdupq_n_u32(0);
            let mut i = 0;
            while i + 16 <= n {
                let counts = vcntq_u8(veorq_u8(vld1q_u8(at.add(i)), vld1q_u8(query.add(i))));
                sums = vpadalq_u16(sums, vpaddlq_u8(counts));
                i += 16;
            }
            let mut bits = vaddvq_u32(sums);
            if i < n {
                bits += (load_part(at.add(i), n - i) ^ load_part(query.add(i), n - i)).count_ones();
            }
            bits
        }
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        // SAFETY: a prefetch reads nothing that the program can see and never faults.
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) at, options(nostack, preserves_flags, readonly));
        }
    }
}
