//! The (row, value) pairs of one path and type: a sorted dictionary of the distinct values, each pair's place in it
//! (its **code**) in the order of rows, and the rows of each code. So a condition becomes ranges of codes, and ranges
//! of codes become rows: from the stored rows where they are few, by a scan of the codes where they are many.
//!
//! # Layout (little-endian; offsets from the start of the part, each array 8-aligned)
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | D, the number of distinct values |
//! | 4 | 4 | P, the number of pairs |
//! | 8 | 1 | bytes of a code: 1, 2 or 4 |
//! | 9 | 1 | 1: dense, one code a row, D where the row has no value; 0: sparse, with a list of rows |
//! | 10 | 1 | values: 0 i64, 1 f64, 2 (u64 of bits, u64 of type: 0 i64, 1 u64, 2 f64), 3 text |
//! | 11 | 1 | dates among the texts: 0 none, 1 all and in order of time, 2 listed |
//! | 12 | 4 | H, the number of heavy codes |
//! | 16 | 8 | offset of the dictionary: D values; of texts D + 1 u64 of places in what follows them, ascending from 0 |
//! | 24 | 8 | offset of the codes |
//! | 32 | 8 | offset of the pairs' rows (sparse only), P u32, ascending |
//! | 40 | 8 | offset of D + 1 u32: where in the light rows those of each code start |
//! | 48 | 8 | offset of the light rows: u32, ascending within a code |
//! | 56 | 8 | offset of H entries (code u32, rows u32, offset u64, length u64), ascending: a heavy code's rows as a roaring bitmap |
//! | 64 | 8 | offset of the codes of the listed dates, u32, in order of time |
//! | 72 | 4 | the number of listed dates |
//! | 76 | 4 | 0 |
//!
//! A code is heavy where a bitmap is the smaller form; its light rows are none.

use super::ast::{Order, Scalar, Text};
use super::date::{self, Instant};
use super::number::Num;
use roaring::RoaringBitmap;
use std::cmp::Ordering;
use std::ops::Range;

/// What a damaged part is told by; the caller adds where it is.
pub(crate) type Checked<T> = Result<T, &'static str>;

pub(crate) const HEADER: usize = 80;
pub(crate) const HEAVY_ENTRY: usize = 24;
pub(crate) const DICT_I64: u8 = 0;
pub(crate) const DICT_F64: u8 = 1;
pub(crate) const DICT_MIXED: u8 = 2;
pub(crate) const DICT_TEXT: u8 = 3;
pub(crate) const MIXED_I64: u64 = 0;
pub(crate) const MIXED_U64: u64 = 1;
pub(crate) const MIXED_F64: u64 = 2;
pub(crate) const DATES_NONE: u8 = 0;
pub(crate) const DATES_SORTED: u8 = 1;
pub(crate) const DATES_LISTED: u8 = 2;

/// Ascending, disjoint, none empty.
pub(crate) type CodeRanges = Vec<Range<u32>>;

/// A view of one part, its arrays in bounds.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    rows: u32,
    distinct: u32,
    pairs: u32,
    width: usize,
    dense: bool,
    kind: u8,
    dates: u8,
    dictionary: &'a [u8],
    texts: &'a [u8],
    codes: &'a [u8],
    pair_rows: &'a [u8],
    starts: &'a [u8],
    light: &'a [u8],
    heavy: &'a [u8],
    date_codes: &'a [u8],
    part: &'a [u8],
}

pub(crate) fn u32_at(bytes: &[u8], index: usize) -> Checked<u32> {
    let at = index.checked_mul(4).ok_or(SHORT)?;
    let value = bytes.get(at..).and_then(|b| b.first_chunk::<4>()).ok_or(SHORT)?;
    Ok(u32::from_le_bytes(*value))
}

pub(crate) fn u64_at(bytes: &[u8], index: usize) -> Checked<u64> {
    let at = index.checked_mul(8).ok_or(SHORT)?;
    let value = bytes.get(at..).and_then(|b| b.first_chunk::<8>()).ok_or(SHORT)?;
    Ok(u64::from_le_bytes(*value))
}

/// `count` elements of `size` bytes from `offset`.
pub(crate) fn array(bytes: &[u8], offset: u64, count: u64, size: u64) -> Checked<&[u8]> {
    let length = count.checked_mul(size).ok_or(SHORT)?;
    let end = offset.checked_add(length).ok_or(SHORT)?;
    match (usize::try_from(offset), usize::try_from(end)) {
        (Ok(start), Ok(end)) => bytes.get(start..end).ok_or(SHORT),
        _ => Err(SHORT),
    }
}

/// A roaring bitmap over `rows` rows.
pub(crate) fn bitmap(mut bytes: &[u8], rows: u32) -> Checked<RoaringBitmap> {
    let bitmap = RoaringBitmap::deserialize_from(&mut bytes).map_err(|_| "a bitmap cannot be read")?;
    match bitmap.max() {
        Some(max) if max >= rows => Err(BEYOND),
        _ if !bytes.is_empty() => Err("a bitmap is shorter than its place"),
        _ => Ok(bitmap),
    }
}

const SHORT: &str = "an array lies beyond the end of its part";
const BEYOND: &str = "a row lies beyond the number of rows";
const ORDER: &str = "places or rows are not in ascending order";

impl<'a> Values<'a> {
    pub fn open(part: &'a [u8], rows: u32) -> Checked<Values<'a>> {
        let head = part.first_chunk::<HEADER>().ok_or(SHORT)?;
        let (distinct, pairs, heavy) = (u32_at(head, 0)?, u32_at(head, 1)?, u32_at(head, 3)?);
        let [width, dense, kind, dates] = [head[8], head[9], head[10], head[11]];
        if !matches!(width, 1 | 2 | 4) || dense > 1 || kind > DICT_TEXT || dates > DATES_LISTED {
            return Err("a code's width or an encoding is not known");
        }
        if u64::from(distinct) >> (8 * width) != 0 {
            return Err("there are more values than codes");
        }
        let offset = |index| u64_at(head, index);
        let d = u64::from(distinct);
        let (entries, size) = match kind {
            DICT_TEXT => (d + 1, 8),
            DICT_MIXED => (d, 16),
            _ => (d, 8),
        };
        let dictionary = array(part, offset(2)?, entries, size)?;
        let texts = match kind {
            DICT_TEXT => {
                array(part, offset(2)?.saturating_add(entries * 8), u64_at(dictionary, distinct as usize)?, 1)?
            }
            _ => &[],
        };
        let codes = array(part, offset(3)?, if dense == 1 { rows } else { pairs }.into(), width.into())?;
        let starts = array(part, offset(5)?, d + 1, 4)?;
        Ok(Values {
            rows,
            distinct,
            pairs,
            width: width.into(),
            dense: dense == 1,
            kind,
            dates,
            dictionary,
            texts,
            codes,
            pair_rows: if dense == 1 { &[] } else { array(part, offset(4)?, pairs.into(), 4)? },
            starts,
            light: array(part, offset(6)?, u32_at(starts, distinct as usize)?.into(), 4)?,
            heavy: array(part, offset(7)?, heavy.into(), HEAVY_ENTRY as u64)?,
            date_codes: array(part, offset(8)?, u32_at(head, 18)?.into(), 4)?,
            part,
        })
    }

    fn number(&self, code: u32) -> Checked<Num> {
        let code = code as usize;
        match self.kind {
            DICT_I64 => Ok(Num::Int(u64_at(self.dictionary, code)? as i64)),
            DICT_F64 => Ok(Num::from_f64(f64::from_bits(u64_at(self.dictionary, code)?))),
            DICT_MIXED => {
                let bits = u64_at(self.dictionary, code * 2)?;
                match u64_at(self.dictionary, code * 2 + 1)? {
                    MIXED_I64 => Ok(Num::Int(bits as i64)),
                    MIXED_U64 => Ok(Num::from_u64(bits)),
                    MIXED_F64 => Ok(Num::from_f64(f64::from_bits(bits))),
                    _ => Err("a number's type is not known"),
                }
            }
            _ => Err("numbers were expected in a part of texts"),
        }
    }

    fn text(&self, code: u32) -> Checked<&'a str> {
        if self.kind != DICT_TEXT {
            return Err("texts were expected in a part of numbers");
        }
        let (start, end) = (u64_at(self.dictionary, code as usize)?, u64_at(self.dictionary, code as usize + 1)?);
        let bytes = array(self.texts, start, end.checked_sub(start).ok_or(ORDER)?, 1)?;
        std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8")
    }

    fn instant(&self, code: u32) -> Checked<Instant> {
        date::parse(self.text(code)?).ok_or("a text listed as a date is none")
    }

    /// The ranges of the values equal to one of `scalars`; those of another type are passed over.
    pub fn equal<'s>(&self, scalars: impl IntoIterator<Item = &'s Scalar>) -> Checked<CodeRanges> {
        let mut codes = Vec::new();
        for scalar in scalars {
            match scalar {
                Scalar::Number(x) if self.kind != DICT_TEXT => {
                    let code = self.first(|code| Ok(self.number(code)? >= *x))?;
                    if code < self.distinct && self.number(code)? == *x {
                        codes.push(code);
                    }
                }
                Scalar::Text(text) if self.kind == DICT_TEXT => match text.instant {
                    Some(instant) => codes.extend(self.dates_in(|i| i.cmp(&instant))?),
                    None => codes.extend(self.code_of(&text.value)?),
                },
                _ => {}
            }
        }
        Ok(ranges_of(codes))
    }

    /// The ranges of the values that stand so to `scalar`.
    pub fn ordered(&self, order: Order, scalar: &Scalar) -> Checked<CodeRanges> {
        match scalar {
            Scalar::Number(x) if self.kind != DICT_TEXT => {
                let low = self.first(|code| Ok(self.number(code)? >= *x))?;
                let high = self.first(|code| Ok(self.number(code)? > *x))?;
                Ok(side(order, low, high, self.distinct))
            }
            Scalar::Text(text) if self.kind == DICT_TEXT => self.ordered_texts(order, text),
            _ => Ok(Vec::new()),
        }
    }

    fn ordered_texts(&self, order: Order, text: &Text) -> Checked<CodeRanges> {
        let by_code_point = |values: &Self| {
            let low = values.first(|code| Ok(values.text(code)? >= text.value.as_str()))?;
            let high = values.first(|code| Ok(values.text(code)? > text.value.as_str()))?;
            Ok(side(order, low, high, values.distinct))
        };
        let Some(instant) = text.instant else { return by_code_point(self) };
        match self.dates {
            DATES_NONE => by_code_point(self),
            DATES_SORTED => {
                let low = self.first(|code| Ok(self.instant(code)? >= instant))?;
                let high = self.first(|code| Ok(self.instant(code)? > instant))?;
                Ok(side(order, low, high, self.distinct))
            }
            _ => {
                // Dates go by time, the other texts by code points.
                let mut codes = CodeSet::new(self.distinct);
                by_code_point(self)?.into_iter().flatten().for_each(|code| codes.set(code, true));
                for i in 0..self.date_codes.len() / 4 {
                    codes.set(u32_at(self.date_codes, i)?, false);
                }
                let others = match order {
                    Order::Less | Order::LessEqual => Ordering::Greater,
                    Order::Greater | Order::GreaterEqual => Ordering::Less,
                };
                let place = |i: Instant| if order.accepts(i.cmp(&instant)) { Ordering::Equal } else { others };
                self.dates_in(place)?.into_iter().for_each(|code| codes.set(code, true));
                Ok(codes.ranges())
            }
        }
    }

    /// The codes of the dates that compare equal; `compare` ascends with time.
    fn dates_in(&self, compare: impl Fn(Instant) -> Ordering) -> Checked<Vec<u32>> {
        let count = match self.dates {
            DATES_NONE => 0,
            DATES_SORTED => self.distinct,
            _ => self.date_codes.len() as u32 / 4,
        };
        let code = |i: u32| if self.dates == DATES_SORTED { Ok(i) } else { u32_at(self.date_codes, i as usize) };
        let low = partition_point(count, |i| Ok(compare(self.instant(code(i)?)?).is_ge()))?;
        let high = partition_point(count, |i| Ok(compare(self.instant(code(i)?)?).is_gt()))?;
        (low..high).map(code).collect()
    }

    fn code_of(&self, text: &str) -> Checked<Option<u32>> {
        let code = self.first(|code| Ok(self.text(code)? >= text))?;
        Ok((code < self.distinct && self.text(code)? == text).then_some(code))
    }

    /// Whether each row has one value at most, found by its number.
    pub fn is_dense(&self) -> bool {
        self.dense
    }

    /// Whether both are views of one part.
    pub fn is_same(&self, other: &Values<'_>) -> bool {
        std::ptr::eq(self.part, other.part)
    }

    /// The range of the texts that start so.
    pub fn with_prefix(&self, prefix: &str) -> Checked<CodeRanges> {
        let low = self.first(|code| Ok(self.text(code)? >= prefix))?;
        let high = self.first(|code| {
            let text = self.text(code)?;
            Ok(text > prefix && !text.starts_with(prefix))
        })?;
        Ok(one_range(low..high))
    }

    /// The ranges of the texts that start so and pass.
    pub fn passing(&self, prefix: &str, pass: impl Fn(&str) -> bool) -> Checked<CodeRanges> {
        let mut passed = Vec::new();
        for code in self.with_prefix(prefix)?.into_iter().flatten() {
            if pass(self.text(code)?) {
                push_code(&mut passed, code);
            }
        }
        Ok(passed)
    }

    /// The first code from which on `from_here` holds.
    fn first(&self, from_here: impl Fn(u32) -> Checked<bool>) -> Checked<u32> {
        partition_point(self.distinct, from_here)
    }

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

    fn heavy_range(&self, codes: &Range<u32>) -> Checked<Range<u32>> {
        let count = (self.heavy.len() / HEAVY_ENTRY) as u32;
        let low = partition_point(count, |i| Ok(self.heavy_code(i)? >= codes.start))?;
        let high = partition_point(count, |i| Ok(self.heavy_code(i)? >= codes.end))?;
        Ok(low..high.max(low))
    }

    fn heavy_bitmap(&self, index: u32) -> Checked<RoaringBitmap> {
        let place = index as usize * (HEAVY_ENTRY / 8);
        bitmap(array(self.part, u64_at(self.heavy, place + 1)?, u64_at(self.heavy, place + 2)?, 1)?, self.rows)
    }

    /// At least as many rows as these codes have.
    pub fn estimate(&self, ranges: &[Range<u32>]) -> Checked<u64> {
        let Some((first, last)) = ranges.first().zip(ranges.last()) else { return Ok(0) };
        if ranges.len() > MAX_RANGES_COUNTED {
            return Ok(self.light_range(&(first.start..last.end))?.len() as u64 + u64::from(self.pairs));
        }
        let mut sum = 0;
        for range in ranges {
            sum += self.light_range(range)?.len() as u64;
            for i in self.heavy_range(range)? {
                sum += u64::from(u32_at(self.heavy, i as usize * (HEAVY_ENTRY / 4) + 1)?);
            }
        }
        Ok(sum)
    }

    /// The rows that have one of these codes.
    pub fn rows_of(&self, ranges: &[Range<u32>]) -> Checked<RoaringBitmap> {
        let mut light = 0;
        let mut heavy = 0;
        if ranges.len() <= MAX_RANGES_COUNTED {
            for range in ranges {
                light += self.light_range(range)?.len();
                heavy += self.heavy_range(range)?.len();
            }
            let work = light.saturating_mul(LIGHT_COST) + heavy * (self.rows as usize / HEAVY_SHARE);
            if work <= self.codes.len() / self.width + SCAN_SETUP {
                return self.stored_rows(ranges, light);
            }
        }
        self.scanned_rows(ranges)
    }

    fn stored_rows(&self, ranges: &[Range<u32>], light: usize) -> Checked<RoaringBitmap> {
        let mut rows = Vec::with_capacity(light);
        let mut found = RoaringBitmap::new();
        for range in ranges {
            let bytes = self.light_range(range)?;
            let bytes = &self.light[bytes.start * 4..bytes.end * 4];
            rows.extend(bytes.as_chunks::<4>().0.iter().map(|row| u32::from_le_bytes(*row)));
            for i in self.heavy_range(range)? {
                found |= self.heavy_bitmap(i)?;
            }
        }
        if !(ranges.len() == 1 && ranges[0].len() == 1) {
            rows.sort_unstable();
            rows.dedup();
        }
        match rows.last() {
            Some(max) if *max >= self.rows => return Err(BEYOND),
            None => return Ok(found),
            _ => {}
        }
        Ok(found | RoaringBitmap::from_sorted_iter(rows).map_err(|_| ORDER)?)
    }

    fn scanned_rows(&self, ranges: &[Range<u32>]) -> Checked<RoaringBitmap> {
        let bits = if let [range] = ranges {
            // Each width compares in its own type, which the compiler turns into wide instructions.
            let (low, length) = (range.start, range.end - range.start);
            match self.width {
                1 => self.bits_where::<1>(|c| c[0].wrapping_sub(low as u8) < length as u8),
                2 => self.bits_where::<2>(|c| u16::from_le_bytes(c).wrapping_sub(low as u16) < length as u16),
                _ => self.bits_where::<4>(|c| u32::from_le_bytes(c).wrapping_sub(low) < length),
            }
        } else {
            let mut set = CodeSet::new(self.distinct);
            ranges.iter().cloned().flatten().for_each(|code| set.set(code, true));
            match self.width {
                1 => self.bits_where::<1>(|c| set.get(c[0].into())),
                2 => self.bits_where::<2>(|c| set.get(u16::from_le_bytes(c).into())),
                _ => self.bits_where::<4>(|c| set.get(u32::from_le_bytes(c))),
            }
        }?;
        Ok(RoaringBitmap::from_lsb0_bytes(0, &bits))
    }

    /// One bit a row, least significant first.
    fn bits_where<const W: usize>(&self, pass: impl Fn([u8; W]) -> bool) -> Checked<Vec<u8>> {
        let codes = self.codes.as_chunks::<W>().0;
        if self.dense {
            return Ok(pack_bits(codes, pass));
        }
        let mut bits = vec![0u8; (self.rows as usize).div_ceil(8)];
        for (code, row) in codes.iter().zip(self.pair_rows.as_chunks::<4>().0) {
            let row = u32::from_le_bytes(*row);
            if row >= self.rows {
                return Err(BEYOND);
            }
            bits[row as usize / 8] |= u8::from(pass(*code)) << (row % 8);
        }
        Ok(bits)
    }

    /// Keeps of `rows` those that have one of these codes; `None` where only the other way round is quick.
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

/// Past as many ranges, counting their rows costs more than it saves.
const MAX_RANGES_COUNTED: usize = 4_096;
/// What a stored row costs, gathered and sorted, in codes scanned.
const LIGHT_COST: usize = 32;
/// A heavy code's bitmap costs as much as a scan of one row in so many.
const HEAVY_SHARE: usize = 6;
/// What a scan costs however short.
const SCAN_SETUP: usize = 1_024;

/// One bit for each of the `codes`, least significant first.
fn pack_bits<const W: usize>(codes: &[[u8; W]], pass: impl Fn([u8; W]) -> bool) -> Vec<u8> {
    /// Moves bit 0 of byte i to bit 56 + i, with no two terms in one place.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut bits = Vec::with_capacity(codes.len().div_ceil(8));
    let (blocks, rest) = codes.as_chunks::<64>();
    for block in blocks {
        let mut flags = [0u8; 64];
        for (flag, code) in flags.iter_mut().zip(block) {
            *flag = u8::from(pass(*code));
        }
        bits.extend(flags.as_chunks::<8>().0.iter().map(|f| (u64::from_le_bytes(*f).wrapping_mul(GATHER) >> 56) as u8));
    }
    for eight in rest.chunks(8) {
        bits.push(eight.iter().enumerate().fold(0, |byte, (i, code)| byte | u8::from(pass(*code)) << i));
    }
    bits
}

/// A set of codes, one bit each.
struct CodeSet {
    words: Vec<u64>,
}

impl CodeSet {
    fn new(distinct: u32) -> CodeSet {
        CodeSet { words: vec![0; distinct as usize / 64 + 1] }
    }

    fn set(&mut self, code: u32, member: bool) {
        if let Some(word) = self.words.get_mut(code as usize / 64) {
            let bit = 1 << (code % 64);
            if member { *word |= bit } else { *word &= !bit }
        }
    }

    fn get(&self, code: u32) -> bool {
        self.words.get(code as usize / 64).is_some_and(|word| word >> (code % 64) & 1 == 1)
    }

    fn ranges(&self) -> CodeRanges {
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

fn push_code(ranges: &mut CodeRanges, code: u32) {
    match ranges.last_mut() {
        Some(last) if last.end == code => last.end += 1,
        _ => ranges.push(code..code + 1),
    }
}

fn ranges_of(mut codes: Vec<u32>) -> CodeRanges {
    codes.sort_unstable();
    codes.dedup();
    let mut ranges = Vec::new();
    codes.into_iter().for_each(|code| push_code(&mut ranges, code));
    ranges
}

/// Of the values below `low`, equal (`low..high`) and above, those on the order's side.
fn side(order: Order, low: u32, high: u32, end: u32) -> CodeRanges {
    one_range(match order {
        Order::Less => 0..low,
        Order::LessEqual => 0..high,
        Order::Greater => high..end,
        Order::GreaterEqual => low..end,
    })
}

fn one_range(range: Range<u32>) -> CodeRanges {
    Some(range).into_iter().filter(|range| !range.is_empty()).collect()
}

fn partition_point(count: u32, from_here: impl Fn(u32) -> Checked<bool>) -> Checked<u32> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if from_here(middle)? { high = middle } else { low = middle + 1 }
    }
    Ok(low)
}
