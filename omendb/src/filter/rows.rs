//! From ranges of codes to rows: by the stored rows or by a scan, whichever is less work.

use super::values::{
    BEYOND, Checked, CodeRanges, HEAVY_ENTRY, ORDER, Values, array, bitmap, partition_point, push_code, u32_at, u64_at,
};
use roaring::RoaringBitmap;
use std::ops::Range;

/// What things cost in picoseconds, as measured by `omendb-bench filter`; only their ratios matter.
mod cost {
    /// A row of a scan, and what its code adds for each byte and range.
    pub const SCAN_ROW: u64 = 80;
    pub const SCAN_BYTE: u64 = 50;
    /// A row whose code is looked up in a set.
    pub const SCAN_SET: u64 = 1_000;
    /// A pair of a sparse column.
    pub const SPARSE_PAIR: u64 = 1_500;
    /// A light row that is sorted among few others, or set in a bitmap.
    pub const LIGHT_SORTED: u64 = 25_000;
    pub const LIGHT_SET: u64 = 2_500;
    /// A container of a heavy code, and a row of it where it is a list: merged with other lists, or with a bitmap.
    pub const CONTAINER: u64 = 1_000_000;
    pub const LISTS_ROW: u64 = 6_000;
    pub const LIST_ROW: u64 = 1_000;
}

/// Past as many ranges, counting their rows costs more than it saves.
const MAX_RANGES_COUNTED: usize = 4_096;
/// As many light rows are sorted, more are set in a bitmap.
const SORTED_ROWS: usize = 2_048;
/// Rows of one container of a roaring bitmap.
const CONTAINER_ROWS: u32 = 1 << 16;

impl Values<'_> {
    fn light_range(&self, codes: &Range<u32>) -> Checked<Range<usize>> {
        let (start, end) = (u32_at(self.starts, codes.start as usize)?, u32_at(self.starts, codes.end as usize)?);
        if start > end || end as usize > self.light.len() / 4 {
            return Err(ORDER);
        }
        Ok(start as usize..end as usize)
    }

    fn heavy_code(&self, index: u32) -> Checked<u32> {
        u32_at(self.heavy, index as usize * (HEAVY_ENTRY / 4))
    }

    /// The number of rows of a heavy code.
    fn heavy_rows(&self, index: u32) -> Checked<u64> {
        u32_at(self.heavy, index as usize * (HEAVY_ENTRY / 4) + 1).map(u64::from)
    }

    fn heavy_bitmap(&self, index: u32) -> Checked<RoaringBitmap> {
        let place = index as usize * (HEAVY_ENTRY / 8);
        bitmap(array(self.part, u64_at(self.heavy, place + 1)?, u64_at(self.heavy, place + 2)?, 1)?, self.rows)
    }

    fn heavy_range(&self, codes: &Range<u32>) -> Checked<Range<u32>> {
        let count = (self.heavy.len() / HEAVY_ENTRY) as u32;
        if count == 0 {
            return Ok(0..0);
        }
        let low = partition_point(count, |i| Ok(self.heavy_code(i)? >= codes.start))?;
        let high = partition_point(count, |i| Ok(self.heavy_code(i)? >= codes.end))?;
        Ok(low..high.max(low))
    }

    /// At least as many rows as these codes have.
    pub fn estimate(&self, ranges: &[Range<u32>]) -> Checked<u64> {
        if ranges.len() > MAX_RANGES_COUNTED {
            return Ok(self.pairs.into());
        }
        let mut sum = 0;
        for range in ranges {
            sum += self.light_range(range)?.len() as u64;
            for i in self.heavy_range(range)? {
                sum += self.heavy_rows(i)?;
            }
        }
        Ok(sum)
    }

    /// The rows that have one of these codes.
    pub fn rows_of(&self, ranges: &[Range<u32>]) -> Checked<RoaringBitmap> {
        if ranges.len() > MAX_RANGES_COUNTED {
            return self.scanned_rows(ranges);
        }
        let (mut light, mut heavy) = (0, Vec::new());
        for range in ranges {
            light += self.light_range(range)?.len();
            heavy.extend(self.heavy_range(range)?);
        }
        if self.stored_cost(light, &heavy)? <= self.scan_cost(ranges.len()) {
            self.stored_rows(ranges, light, &heavy)
        } else {
            self.scanned_rows(ranges)
        }
    }

    fn stored_cost(&self, light: usize, heavy: &[u32]) -> Checked<u64> {
        let mut sum = match light {
            ..=SORTED_ROWS => light as u64 * cost::LIGHT_SORTED,
            _ => u64::from(self.rows) * cost::SCAN_ROW + light as u64 * cost::LIGHT_SET,
        };
        let containers = u64::from(self.rows.div_ceil(CONTAINER_ROWS));
        let counts = heavy.iter().map(|i| self.heavy_rows(*i)).collect::<Checked<Vec<u64>>>()?;
        // A container of up to 4,096 rows is a sorted list, and two lists are slow to merge.
        let is_list = |rows: u64| rows < containers * 4_096;
        let merged = light > 0 || heavy.len() > 1;
        let row = if counts.iter().all(|rows| is_list(*rows)) { cost::LISTS_ROW } else { cost::LIST_ROW };
        for rows in counts {
            sum += containers * cost::CONTAINER + if merged && is_list(rows) { rows * row } else { 0 };
        }
        Ok(sum)
    }

    fn scan_cost(&self, ranges: usize) -> u64 {
        if self.dense {
            let compare = self.compare_cost(ranges).min(cost::SCAN_SET);
            u64::from(self.rows) * (cost::SCAN_ROW + compare)
        } else {
            u64::from(self.rows) * cost::SCAN_ROW + u64::from(self.pairs) * cost::SPARSE_PAIR
        }
    }

    /// The cost of comparing one code with the bounds of some ranges.
    fn compare_cost(&self, ranges: usize) -> u64 {
        (ranges * self.width) as u64 * cost::SCAN_BYTE
    }

    fn stored_rows(&self, ranges: &[Range<u32>], light: usize, heavy: &[u32]) -> Checked<RoaringBitmap> {
        let mut found = RoaringBitmap::new();
        for i in heavy {
            found |= self.heavy_bitmap(*i)?;
        }
        if light == 0 {
            return Ok(found);
        }
        let mut light_rows = Vec::new();
        for range in ranges {
            let rows = self.light_range(range)?;
            light_rows.extend(self.light[rows.start * 4..rows.end * 4].as_chunks::<4>().0);
        }
        let light_rows = light_rows.into_iter().map(|row: [u8; 4]| u32::from_le_bytes(row));
        if light > SORTED_ROWS {
            let mut bits = vec![0u8; (self.rows as usize).div_ceil(8)];
            for row in light_rows {
                self.set_bit(&mut bits, row, true)?;
            }
            return Ok(found | RoaringBitmap::from_lsb0_bytes(0, &bits));
        }
        let mut light_rows: Vec<u32> = light_rows.collect();
        light_rows.sort_unstable();
        light_rows.dedup();
        match light_rows.last() {
            Some(max) if *max >= self.rows => Err(BEYOND),
            _ => Ok(found | RoaringBitmap::from_sorted_iter(light_rows).map_err(|_| ORDER)?),
        }
    }

    fn set_bit(&self, bits: &mut [u8], row: u32, member: bool) -> Checked<()> {
        if row >= self.rows {
            return Err(BEYOND);
        }
        bits[row as usize / 8] |= u8::from(member) << (row % 8);
        Ok(())
    }

    fn scanned_rows(&self, ranges: &[Range<u32>]) -> Checked<RoaringBitmap> {
        let mut bits = vec![0u8; (self.rows as usize).div_ceil(8)];
        if ranges.len() == 1 || (self.dense && self.compare_cost(ranges.len()) <= cost::SCAN_SET) {
            for range in ranges {
                // Each width compares in its own type, which the compiler turns into wide instructions.
                let (low, length) = (range.start, range.end - range.start);
                match self.width {
                    1 => self.scan::<1>(&mut bits, |c| c[0].wrapping_sub(low as u8) < length as u8),
                    2 => self.scan::<2>(&mut bits, |c| u16::from_le_bytes(c).wrapping_sub(low as u16) < length as u16),
                    _ => self.scan::<4>(&mut bits, |c| u32::from_le_bytes(c).wrapping_sub(low) < length),
                }?;
            }
        } else {
            let mut set = CodeSet::new(self.distinct);
            ranges.iter().cloned().flatten().for_each(|code| set.set(code, true));
            match self.width {
                1 => self.scan::<1>(&mut bits, |c| set.get(c[0].into())),
                2 => self.scan::<2>(&mut bits, |c| set.get(u16::from_le_bytes(c).into())),
                _ => self.scan::<4>(&mut bits, |c| set.get(u32::from_le_bytes(c))),
            }?;
        }
        Ok(RoaringBitmap::from_lsb0_bytes(0, &bits))
    }

    /// Sets the bits (least significant first) of the rows whose code passes.
    fn scan<const W: usize>(&self, bits: &mut [u8], pass: impl Fn([u8; W]) -> bool) -> Checked<()> {
        let codes = self.codes.as_chunks::<W>().0;
        if self.dense {
            set_bits(bits, codes, pass);
            return Ok(());
        }
        for (code, row) in codes.iter().zip(self.pair_rows.as_chunks::<4>().0) {
            self.set_bit(bits, u32::from_le_bytes(*row), pass(*code))?;
        }
        Ok(())
    }

    /// Looks up `rows` one by one, and keeps those that have one of these codes, or those that have none.
    /// `None` where a row's codes cannot be looked up.
    pub fn retain(&self, ranges: &[Range<u32>], keep: bool, rows: &RoaringBitmap) -> Option<RoaringBitmap> {
        if !self.dense {
            return None;
        }
        let code = |row: u32| {
            let at = row as usize * self.width;
            let mut code = [0u8; 4];
            code[..self.width].copy_from_slice(self.codes.get(at..at + self.width)?);
            Some(u32::from_le_bytes(code))
        };
        let has = |row: u32| {
            code(row).is_some_and(|code| {
                let after = ranges.partition_point(|range| range.start <= code);
                after > 0 && code < ranges[after - 1].end
            })
        };
        RoaringBitmap::from_sorted_iter(rows.iter().filter(|row| has(*row) == keep)).ok()
    }
}

/// Sets bit i, least significant first, if code i passes.
fn set_bits<const W: usize>(bits: &mut [u8], codes: &[[u8; W]], pass: impl Fn([u8; W]) -> bool) {
    /// Moves bit 0 of byte i to bit 56 + i, with no two terms in one place.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let (blocks, rest) = codes.as_chunks::<64>();
    let (whole, tail) = bits.split_at_mut(blocks.len() * 8);
    for (block, bytes) in blocks.iter().zip(whole.as_chunks_mut::<8>().0) {
        let mut flags = [0u8; 64];
        for (flag, code) in flags.iter_mut().zip(block) {
            *flag = u8::from(pass(*code));
        }
        for (byte, eight) in bytes.iter_mut().zip(flags.as_chunks::<8>().0) {
            *byte |= (u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56) as u8;
        }
    }
    for (i, code) in rest.iter().enumerate() {
        tail[i / 8] |= u8::from(pass(*code)) << (i % 8);
    }
}

/// A set of codes, one bit each.
pub(super) struct CodeSet {
    words: Vec<u64>,
}

impl CodeSet {
    pub fn new(distinct: u32) -> CodeSet {
        CodeSet { words: vec![0; distinct as usize / 64 + 1] }
    }

    pub fn set(&mut self, code: u32, member: bool) {
        if let Some(word) = self.words.get_mut(code as usize / 64) {
            let bit = 1 << (code % 64);
            if member { *word |= bit } else { *word &= !bit }
        }
    }

    pub fn get(&self, code: u32) -> bool {
        self.words.get(code as usize / 64).is_some_and(|word| word >> (code % 64) & 1 == 1)
    }

    pub fn ranges(&self) -> CodeRanges {
        let mut ranges = Vec::new();
        for (i, word) in self.words.iter().enumerate() {
            let mut left = *word;
            while left != 0 {
                push_code(&mut ranges, i as u32 * 64 + left.trailing_zeros());
                left &= left - 1;
            }
        }
        ranges
    }
}
