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
//! | 11 | 1 | dates among the texts: 0 none, 1 all, 2 some, listed, 3 all, and the values are in order of time |
//! | 12 | 4 | H, the number of heavy codes |
//! | 16 | 8 | offset of the dictionary: D values; of texts D + 1 u64 of places in what follows them, ascending from 0 |
//! | 24 | 8 | offset of the codes |
//! | 32 | 8 | offset of the pairs' rows (sparse only), P u32, ascending |
//! | 40 | 8 | offset of D + 1 u32: where in the light rows those of each code start |
//! | 48 | 8 | offset of the light rows: u32, ascending within a code |
//! | 56 | 8 | offset of H entries, ascending: code u32, number of rows u32, offset u64 and length u64 of their bitmap |
//! | 64 | 8 | offset of the codes of the listed dates, u32, in order of time |
//! | 72 | 4 | the number of listed dates |
//! | 76 | 4 | 0 |
//!
//! A code is heavy where a roaring bitmap is the smaller form of its rows; its light rows are none.

use super::ast::{Order, Scalar, Text};
use super::date::{self, Instant};
use super::number::Num;
use super::rows::CodeSet;
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
pub(crate) const DATES_ALL: u8 = 1;
pub(crate) const DATES_LISTED: u8 = 2;
pub(crate) const DATES_BY_TIME: u8 = 3;

/// Ascending, disjoint, none empty.
pub(crate) type CodeRanges = Vec<Range<u32>>;

/// A view of one part, its arrays in bounds.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(super) rows: u32,
    pub(super) distinct: u32,
    pub(super) pairs: u32,
    pub(super) width: usize,
    pub(super) dense: bool,
    kind: u8,
    dates: u8,
    dictionary: &'a [u8],
    texts: &'a [u8],
    pub(super) codes: &'a [u8],
    pub(super) pair_rows: &'a [u8],
    pub(super) starts: &'a [u8],
    pub(super) light: &'a [u8],
    pub(super) heavy: &'a [u8],
    date_codes: &'a [u8],
    pub(super) part: &'a [u8],
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
pub(crate) const BEYOND: &str = "a row lies beyond the number of rows";
pub(crate) const ORDER: &str = "places or rows are not in ascending order";

impl<'a> Values<'a> {
    pub fn open(part: &'a [u8], rows: u32) -> Checked<Values<'a>> {
        let head = part.first_chunk::<HEADER>().ok_or(SHORT)?;
        let (distinct, pairs, heavy) = (u32_at(head, 0)?, u32_at(head, 1)?, u32_at(head, 3)?);
        let [width, dense, kind, dates] = [head[8], head[9], head[10], head[11]];
        if !matches!(width, 1 | 2 | 4) || dense > 1 || kind > DICT_TEXT || dates > DATES_BY_TIME {
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
        let Some(instant) = text.instant else { return self.ordered_by_code_points(order, &text.value) };
        if matches!(self.dates, DATES_ALL | DATES_BY_TIME) {
            let low = self.first(|code| Ok(self.instant(code)? >= instant))?;
            let high = self.first(|code| Ok(self.instant(code)? > instant))?;
            return Ok(side(order, low, high, self.distinct));
        }
        let mut ranges = self.ordered_by_code_points(order, &text.value)?;
        if self.dates == DATES_LISTED {
            // Dates go by time, the other texts by code points.
            let mut codes = CodeSet::new(self.distinct);
            ranges.into_iter().flatten().for_each(|code| codes.set(code, true));
            for code in self.date_codes.as_chunks::<4>().0 {
                codes.set(u32::from_le_bytes(*code), false);
            }
            let others = match order {
                Order::Less | Order::LessEqual => Ordering::Greater,
                Order::Greater | Order::GreaterEqual => Ordering::Less,
            };
            let place = |i: Instant| if order.accepts(i.cmp(&instant)) { Ordering::Equal } else { others };
            self.dates_in(place)?.into_iter().for_each(|code| codes.set(code, true));
            ranges = codes.ranges();
        }
        Ok(ranges)
    }

    fn ordered_by_code_points(&self, order: Order, text: &str) -> Checked<CodeRanges> {
        if self.dates == DATES_BY_TIME {
            return self.passing_among(0..self.distinct, |other| order.accepts(other.cmp(text)));
        }
        let low = self.first(|code| Ok(self.text(code)? >= text))?;
        let high = self.first(|code| Ok(self.text(code)? > text))?;
        Ok(side(order, low, high, self.distinct))
    }

    /// The codes of the dates that compare equal; `compare` ascends with time.
    fn dates_in(&self, compare: impl Fn(Instant) -> Ordering) -> Checked<Vec<u32>> {
        let count = match self.dates {
            DATES_NONE => 0,
            DATES_LISTED => self.date_codes.len() as u32 / 4,
            _ => self.distinct,
        };
        let code = |i: u32| if self.dates == DATES_LISTED { u32_at(self.date_codes, i as usize) } else { Ok(i) };
        let low = partition_point(count, |i| Ok(compare(self.instant(code(i)?)?).is_ge()))?;
        let high = partition_point(count, |i| Ok(compare(self.instant(code(i)?)?).is_gt()))?;
        (low..high).map(code).collect()
    }

    /// The code of a text that is no date.
    fn code_of(&self, text: &str) -> Checked<Option<u32>> {
        if self.dates == DATES_BY_TIME {
            return Ok(None);
        }
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

    /// The ranges of the texts that start so.
    pub fn with_prefix(&self, prefix: &str) -> Checked<CodeRanges> {
        if self.dates == DATES_BY_TIME && !prefix.is_empty() {
            return self.passing_among(0..self.distinct, |text| text.starts_with(prefix));
        }
        let low = self.first(|code| Ok(self.text(code)? >= prefix))?;
        let high = self.first(|code| {
            let text = self.text(code)?;
            Ok(text > prefix && !text.starts_with(prefix))
        })?;
        Ok(one_range(low..high))
    }

    /// The ranges of the texts that start so and pass.
    pub fn passing(&self, prefix: &str, pass: impl Fn(&str) -> bool) -> Checked<CodeRanges> {
        self.passing_among(self.with_prefix(prefix)?.into_iter().flatten(), pass)
    }

    fn passing_among(&self, codes: impl IntoIterator<Item = u32>, pass: impl Fn(&str) -> bool) -> Checked<CodeRanges> {
        let mut passed = Vec::new();
        for code in codes {
            if pass(self.text(code)?) {
                push_code(&mut passed, code);
            }
        }
        Ok(passed)
    }

    /// The ranges of the texts with this part, by one search through all of them together.
    pub fn containing(&self, part: &str) -> Checked<CodeRanges> {
        if part.is_empty() {
            return Ok(one_range(0..self.distinct));
        }
        let finder = memchr::memmem::Finder::new(part);
        let end_of = |code: u32| u64_at(self.dictionary, code as usize + 1).map(|end| end as usize);
        let mut found = Vec::new();
        let (mut from, mut code) = (0, 0);
        while let Some(hit) = self.texts.get(from..).and_then(|rest| finder.find(rest)) {
            let hit = from + hit;
            code += gallop(self.distinct - code, |i| Ok(end_of(code + i)? > hit))?;
            if code >= self.distinct {
                break;
            }
            let end = end_of(code)?;
            if hit + part.len() <= end {
                push_code(&mut found, code);
                code += 1;
                from = end;
            } else {
                // It begins in one text and ends in another.
                from = hit + 1;
            }
        }
        Ok(found)
    }

    /// The first code from which on `from_here` holds.
    fn first(&self, from_here: impl Fn(u32) -> Checked<bool>) -> Checked<u32> {
        partition_point(self.distinct, from_here)
    }
}

pub(crate) fn push_code(ranges: &mut CodeRanges, code: u32) {
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

pub(crate) fn partition_point(count: u32, from_here: impl Fn(u32) -> Checked<bool>) -> Checked<u32> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if from_here(middle)? { high = middle } else { low = middle + 1 }
    }
    Ok(low)
}

/// As [`partition_point`], quicker where it is near 0.
fn gallop(count: u32, from_here: impl Fn(u32) -> Checked<bool>) -> Checked<u32> {
    let mut low = 0;
    let mut step = 1;
    while low < count {
        let next = low.saturating_add(step).min(count);
        if from_here(next - 1)? {
            return Ok(low + partition_point(next - low, |i| from_here(low + i))?);
        }
        low = next;
        step = step.saturating_mul(2);
    }
    Ok(count)
}
