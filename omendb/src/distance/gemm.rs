//! Block kernels over 8-bit codes: the nearest of many rows for 64 points at once.
//!
//! A block multiply keeps the sums of 64 points in registers while it streams over the rows, and the selection of the
//! nearest is a branch-free insertion network on packed keys, so the cost is that of the multiply. All distances are
//! squared Euclidean between biased codes (`code = signed value + 128`), exact modulo 2^32, which holds every value up
//! to 65,536 dimensions.

/// Points of one tile: the lanes that one pass over the rows serves.
pub const TILE: usize = 64;

/// 64 points' codes, packed so that one load takes four dimensions of sixteen points.
#[derive(Clone, Default)]
pub struct Tile {
    packed: Vec<u8>,
    norms: Vec<u32>,
    width: usize,
}

impl Tile {
    /// Packs up to 64 rows of biased codes, each `width` bytes long (a multiple of 64), with their sums of squares.
    pub fn pack<'a>(&mut self, width: usize, rows: impl Iterator<Item = &'a [u8]>, norms: impl Iterator<Item = u32>) {
        self.width = width;
        self.packed.resize(width * TILE, 0);
        self.norms.clear();
        self.norms.extend(norms.take(TILE));
        self.norms.resize(TILE, 0);
        let mut four: [&[u8]; 4] = [&[]; 4];
        let mut rows = rows.take(TILE);
        for lane in (0..TILE).step_by(4) {
            let mut filled = 0;
            while filled < 4
                && let Some(row) = rows.next()
            {
                four[filled] = &row[..width];
                filled += 1;
            }
            if filled == 0 {
                return;
            }
            // Lanes without a row repeat the last one; nobody reads their results.
            let last = four[filled - 1];
            four[filled..].fill(last);
            super::codes::transpose_four(four, &mut self.packed[lane * 4..], 4 * TILE);
        }
    }
}

/// How a key packs a distance and the row's number: `(distance >> shift) << index_bits | row`.
#[derive(Debug, Clone, Copy)]
pub struct KeyBits {
    /// Low bits of the distance that are dropped so that a key fits 32 bits.
    pub shift: u32,
    /// Bits of the row's number.
    pub index_bits: u32,
}

impl KeyBits {
    /// For squared distances below `2^32` over `dim` dimensions and rows numbered below `rows`.
    pub fn new(dim: usize, rows: usize) -> Self {
        let largest = 255u64 * 255 * dim as u64;
        let distance_bits = 64 - largest.leading_zeros();
        let index_bits = usize::BITS - rows.saturating_sub(1).leading_zeros();
        KeyBits { shift: (distance_bits + index_bits).saturating_sub(32), index_bits }
    }

    /// The row's number in a key.
    pub fn index(self, key: u32) -> usize {
        (key & ((1u64 << self.index_bits) - 1) as u32) as usize
    }

    /// The distance in a key, without the bits that were dropped.
    pub fn distance(self, key: u32) -> u32 {
        ((u64::from(key) >> self.index_bits) << self.shift) as u32
    }
}

/// The rows that a tile is compared with.
#[derive(Clone, Copy)]
pub struct RowBlock<'a> {
    /// Signed codes, `width` bytes a row.
    pub signed: &'a [u8],
    /// The second of [`row_terms`](super::codes::row_terms) of each row.
    pub terms: &'a [u32],
}

/// The key that stands for "no row".
pub const NO_KEY: u32 = u32::MAX;

/// Finds the `k` nearest rows of every lane of `tile`, ascending by key: `best[rank * 64 + lane]`.
///
/// Ranks that no row fills hold [`NO_KEY`]. `k` is at most 16.
pub fn nearest_rows(tile: &Tile, rows: RowBlock<'_>, bits: KeyBits, k: usize, best: &mut Vec<u32>) {
    match k {
        0 | 1 => dispatch::<1>(tile, rows, bits, best),
        2 => dispatch::<2>(tile, rows, bits, best),
        3 => dispatch::<3>(tile, rows, bits, best),
        4 => dispatch::<4>(tile, rows, bits, best),
        5 => dispatch::<5>(tile, rows, bits, best),
        6 => dispatch::<6>(tile, rows, bits, best),
        7 | 8 => dispatch::<8>(tile, rows, bits, best),
        _ => dispatch::<16>(tile, rows, bits, best),
    }
}

/// The products of two rows of signed bytes, as wide as the tile's (a multiple of 16), with the biased codes of every
/// lane.
pub fn products(tile: &Tile, rows: [&[u8]; 2], out: &mut [[i32; TILE]; 2]) {
    assert!(rows.iter().all(|row| row.len() == tile.width) && tile.packed.len() >= tile.width * TILE);
    #[cfg(target_arch = "x86_64")]
    if super::codes::has_vnni() {
        // SAFETY: the features were detected on this processor.
        return unsafe { vnni::products(tile, rows, out) };
    }
    super::codes::with_avx2(|| products_portable(tile, rows, out));
}

#[inline(always)]
fn products_portable(tile: &Tile, rows: [&[u8]; 2], out: &mut [[i32; TILE]; 2]) {
    for (row, out) in rows.into_iter().zip(out) {
        out.fill(0);
        for (group, four) in tile.packed.chunks_exact(4 * TILE).zip(row.as_chunks::<4>().0) {
            for (sum, codes) in out.iter_mut().zip(group.as_chunks::<4>().0) {
                *sum += codes.iter().zip(four).map(|(&a, &b)| i32::from(a) * i32::from(b as i8)).sum::<i32>();
            }
        }
    }
}

fn dispatch<const K: usize>(tile: &Tile, rows: RowBlock<'_>, bits: KeyBits, best: &mut Vec<u32>) {
    best.clear();
    best.resize(K * TILE, NO_KEY);
    #[cfg(target_arch = "x86_64")]
    {
        if super::codes::has_vnni() {
            // SAFETY: the features were detected on this processor.
            unsafe { vnni::nearest::<K>(tile, rows, bits, best) };
            return;
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was detected on this processor.
            unsafe { portable_avx2::<K>(tile, rows, bits, best) };
            return;
        }
    }
    portable::<K>(tile, rows, bits, best);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn portable_avx2<const K: usize>(tile: &Tile, rows: RowBlock<'_>, bits: KeyBits, best: &mut [u32]) {
    portable::<K>(tile, rows, bits, best);
}

#[inline(always)]
fn portable<const K: usize>(tile: &Tile, rows: RowBlock<'_>, bits: KeyBits, best: &mut [u32]) {
    for (index, (row, &term)) in rows.signed.chunks_exact(tile.width).zip(rows.terms).enumerate() {
        let mut sums = [0i32; TILE];
        for (group, four) in tile.packed.chunks_exact(4 * TILE).zip(row.chunks_exact(4)) {
            for (sum, codes) in sums.iter_mut().zip(group.chunks_exact(4)) {
                let mut part = 0i32;
                for (&a, &b) in codes.iter().zip(four) {
                    part += i32::from(a) * i32::from(b as i8);
                }
                *sum = sum.wrapping_add(part);
            }
        }
        for (lane, &sum) in sums.iter().enumerate() {
            let distance = tile.norms[lane].wrapping_add(term).wrapping_sub((sum as u32).wrapping_mul(2));
            let mut key = ((u64::from(distance >> bits.shift) << bits.index_bits) as u32) | index as u32;
            for rank in 0..K {
                let slot = &mut best[rank * TILE + lane];
                (*slot, key) = (key.min(*slot), key.max(*slot));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod vnni {
    use super::{KeyBits, RowBlock, TILE, Tile};
    use std::arch::x86_64::*;

    const REGISTERS: usize = TILE / 16;

    /// The caller has checked that both rows are as wide as the tile.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub fn products(tile: &Tile, [first, second]: [&[u8]; 2], out: &mut [[i32; TILE]; 2]) {
        let mut sums = [[_mm512_setzero_si512(); REGISTERS]; 2];
        let fours = first.as_chunks::<4>().0.iter().zip(second.as_chunks::<4>().0);
        for (group, (a, b)) in tile.packed.chunks_exact(4 * TILE).zip(fours) {
            let (a, b) = (_mm512_set1_epi32(i32::from_le_bytes(*a)), _mm512_set1_epi32(i32::from_le_bytes(*b)));
            let [sums_a, sums_b] = &mut sums;
            for (column, (sum_a, sum_b)) in group.as_chunks::<64>().0.iter().zip(sums_a.iter_mut().zip(sums_b)) {
                // SAFETY: the chunk is 64 bytes long.
                let column = unsafe { _mm512_loadu_si512(column.as_ptr().cast()) };
                *sum_a = _mm512_dpbusd_epi32(*sum_a, column, a);
                *sum_b = _mm512_dpbusd_epi32(*sum_b, column, b);
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            for (out, sum) in out.as_chunks_mut::<16>().0.iter_mut().zip(sums) {
                // SAFETY: `out` holds 16 values.
                unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sum) };
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub fn nearest<const K: usize>(tile: &Tile, rows: RowBlock<'_>, bits: KeyBits, best: &mut [u32]) {
        let count = rows.terms.len().min(rows.signed.len() / tile.width.max(1));
        let mut row = 0;
        while row + 6 <= count {
            block::<K, 6>(tile, rows, row, bits, best);
            row += 6;
        }
        while row < count {
            block::<K, 1>(tile, rows, row, bits, best);
            row += 1;
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn block<const K: usize, const M: usize>(
        tile: &Tile,
        rows: RowBlock<'_>,
        first: usize,
        bits: KeyBits,
        best: &mut [u32],
    ) {
        let width = tile.width;
        let signed = &rows.signed[first * width..(first + M) * width];
        let packed = &tile.packed[..width * TILE];
        let mut sums = [[_mm512_setzero_si512(); REGISTERS]; M];
        // One row alone would wait for each of its sums: every other group has sums of its own then.
        let mut odd = [_mm512_setzero_si512(); REGISTERS];
        for pair in 0..width / 8 {
            for half in 0..2 {
                let group = pair * 2 + half;
                let mut columns = [_mm512_setzero_si512(); REGISTERS];
                for (register, column) in columns.iter_mut().enumerate() {
                    // SAFETY: group < width / 4, so the 64 bytes at this offset lie inside `packed`.
                    *column = unsafe { _mm512_loadu_si512(packed.as_ptr().add((group * 4 + register) * 64).cast()) };
                }
                for (index, row_sums) in sums.iter_mut().enumerate() {
                    // SAFETY: index < M and group * 4 + 4 <= width, so the four bytes lie inside `signed`.
                    let four = unsafe { signed.as_ptr().add(index * width + group * 4).cast::<i32>().read_unaligned() };
                    let four = _mm512_set1_epi32(four);
                    let row_sums = if M == 1 && half == 1 { &mut odd } else { row_sums };
                    for (sum, &column) in row_sums.iter_mut().zip(&columns) {
                        *sum = _mm512_dpbusd_epi32(*sum, column, four);
                    }
                }
            }
        }
        for (sum, odd) in sums[0].iter_mut().zip(odd) {
            *sum = _mm512_add_epi32(*sum, odd);
        }
        let shift = _mm_cvtsi32_si128(bits.shift as i32);
        let raise = _mm_cvtsi32_si128(bits.index_bits as i32);
        let norms = &tile.norms[..TILE];
        let best = &mut best[..K * TILE];
        for register in 0..REGISTERS {
            // SAFETY: `norms` holds 64 values and register < 4.
            let norm = unsafe { _mm512_loadu_si512(norms.as_ptr().add(register * 16).cast()) };
            let mut kept = [_mm512_setzero_si512(); K];
            for (rank, slot) in kept.iter_mut().enumerate() {
                // SAFETY: `best` holds K x 64 values, rank < K and register < 4.
                *slot = unsafe { _mm512_loadu_si512(best.as_ptr().add(rank * TILE + register * 16).cast()) };
            }
            for (index, row_sums) in sums.iter().enumerate() {
                let term = _mm512_set1_epi32(rows.terms[first + index] as i32);
                let twice = _mm512_slli_epi32::<1>(row_sums[register]);
                let distance = _mm512_sub_epi32(_mm512_add_epi32(norm, term), twice);
                let high = _mm512_sll_epi32(_mm512_srl_epi32(distance, shift), raise);
                let mut key = _mm512_or_si512(high, _mm512_set1_epi32((first + index) as i32));
                for slot in &mut kept {
                    let larger = _mm512_max_epu32(*slot, key);
                    *slot = _mm512_min_epu32(*slot, key);
                    key = larger;
                }
            }
            for (rank, slot) in kept.iter().enumerate() {
                // SAFETY: as for the load above; `best` is borrowed mutably.
                unsafe { _mm512_storeu_si512(best.as_mut_ptr().add(rank * TILE + register * 16).cast(), *slot) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(width: usize, count: usize, extreme: bool) {
        let mut state = 7u64;
        let mut byte = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            if extreme { if state >> 63 == 0 { 1u8 } else { 255 } } else { (state >> 56) as u8 }
        };
        let codes: Vec<u8> = (0..count * width).map(|_| byte()).collect();
        let signed: Vec<u8> = codes.iter().map(|c| c ^ 0x80).collect();
        let terms: Vec<(u32, u32)> = codes.chunks_exact(width).map(super::super::codes::row_terms).collect();
        let mut tile = Tile::default();
        tile.pack(width, codes.chunks_exact(width), terms.iter().map(|terms| terms.0));
        let terms: Vec<u32> = terms.iter().map(|terms| terms.1).collect();
        let bits = KeyBits::new(width, count);
        let rows = RowBlock { signed: &signed, terms: &terms };
        let (mut fast, mut slow) = (Vec::new(), vec![NO_KEY; 3 * TILE]);
        nearest_rows(&tile, rows, bits, 3, &mut fast);
        portable::<3>(&tile, rows, bits, &mut slow);
        assert_eq!(fast, slow);
        for lane in 0..count.min(TILE) {
            let point = &codes[lane * width..][..width];
            let mut keys: Vec<u32> = (0..count)
                .map(|row| {
                    let other = &codes[row * width..][..width];
                    let d: u64 =
                        point.iter().zip(other).map(|(&a, &b)| (i64::from(a) - i64::from(b)).pow(2) as u64).sum();
                    (((d >> bits.shift) << bits.index_bits) as u32) | row as u32
                })
                .collect();
            keys.sort_unstable();
            for rank in 0..3.min(count) {
                assert_eq!(fast[rank * TILE + lane], keys[rank], "lane {lane} rank {rank}");
            }
        }
    }

    #[test]
    fn products_agree_with_plain_ones() {
        for width in [16, 304] {
            let mut state = 11u64;
            let mut byte = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            };
            let codes: Vec<u8> = (0..TILE * width).map(|_| byte()).collect();
            let rows: Vec<Vec<u8>> = (0..2).map(|_| (0..width).map(|_| byte()).collect()).collect();
            let mut tile = Tile::default();
            tile.pack(width, codes.chunks_exact(width), std::iter::empty());
            let (mut fast, mut slow) = ([[1; TILE]; 2], [[2; TILE]; 2]);
            products(&tile, [&rows[0], &rows[1]], &mut fast);
            products_portable(&tile, [&rows[0], &rows[1]], &mut slow);
            assert_eq!(fast, slow);
            let plain = |row: &[u8], code: &[u8]| -> i32 {
                row.iter().zip(code).map(|(&a, &b)| i32::from(a as i8) * i32::from(b)).sum()
            };
            for (row, fast) in rows.iter().zip(&fast) {
                assert!(codes.chunks_exact(width).zip(fast).all(|(code, product)| plain(row, code) == *product));
            }
        }
    }

    #[test]
    fn kernels_agree_with_plain_distances() {
        for (width, count) in [(64, 1), (64, 7), (128, 64), (192, 100)] {
            check(width, count, false);
        }
        check(65_536, 5, true);
    }
}
