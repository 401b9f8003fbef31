//! Infers the columns of a segment from its records' metadata and writes them.

use super::columns::{self, Kind, MAX_ROWS};
use super::date;
use super::number::Num;
use super::values::{
    DATES_ALL, DATES_BY_TIME, DATES_LISTED, DATES_NONE, DICT_F64, DICT_I64, DICT_MIXED, DICT_TEXT, HEADER, HEAVY_ENTRY,
    MIXED_F64, MIXED_I64, MIXED_U64,
};
use crate::error::{Error, Result};
use roaring::RoaringBitmap;
use serde_json::Value;
use std::collections::HashMap;

/// Gathers the metadata of a segment's rows, in order, and writes its columns.
/// The same rows always give the same bytes.
#[derive(Debug)]
pub struct ColumnsBuilder {
    rows: u32,
    /// The first is the top of the metadata; children come after their parents.
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    parent: usize,
    name: Box<str>,
    children: HashMap<Box<str>, usize>,
    present: RoaringBitmap,
    null: RoaringBitmap,
    yes: RoaringBitmap,
    no: RoaringBitmap,
    numbers: Vec<(u32, Num)>,
    texts: Texts,
    elements: Texts,
}

/// Pairs of row and number of a distinct text, in order of appearance.
#[derive(Debug, Default)]
struct Texts {
    numbers: HashMap<Box<str>, u32>,
    pairs: Vec<(u32, u32)>,
}

impl Texts {
    fn push(&mut self, row: u32, text: &str) {
        let number = match self.numbers.get(text) {
            Some(number) => *number,
            None => {
                let number = self.numbers.len() as u32;
                self.numbers.insert(text.into(), number);
                number
            }
        };
        self.pairs.push((row, number));
    }
}

impl Default for ColumnsBuilder {
    fn default() -> Self {
        ColumnsBuilder { rows: 0, nodes: vec![Node::default()] }
    }
}

impl ColumnsBuilder {
    /// Columns of no rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of rows so far.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Appends a row; `None` is a record without metadata.
    ///
    /// # Errors
    /// `LimitExceeded` past 2^31 rows, or values of one field.
    pub fn push(&mut self, metadata: Option<&Value>) -> Result<()> {
        if self.rows >= MAX_ROWS {
            return Err(Error::LimitExceeded(format!(
                "more than {MAX_ROWS} rows were given for the columns of one segment"
            )));
        }
        if let Some(value) = metadata {
            self.add(0, value, false)?;
        }
        self.rows += 1;
        Ok(())
    }

    /// Appends a row from its metadata's JSON text.
    ///
    /// # Errors
    /// `InvalidInput` for what is no JSON, and as [`push`](Self::push).
    pub fn push_json(&mut self, metadata: Option<&[u8]>) -> Result<()> {
        let Some(bytes) = metadata else { return self.push(None) };
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|e| Error::invalid(format!("the metadata of row {} is not JSON: {e}", self.rows)))?;
        self.push(Some(&value))
    }

    fn add(&mut self, at: usize, value: &Value, in_list: bool) -> Result<()> {
        let row = self.rows;
        let node = &mut self.nodes[at];
        append(&mut node.present, row);
        match value {
            Value::Null => append(&mut node.null, row),
            Value::Bool(true) => append(&mut node.yes, row),
            Value::Bool(false) => append(&mut node.no, row),
            Value::Number(number) => node.numbers.extend(Num::from_json(number).map(|number| (row, number))),
            Value::String(text) if in_list => node.elements.push(row, text),
            Value::String(text) => node.texts.push(row, text),
            Value::Array(items) => {
                for item in items {
                    self.add(at, item, true)?;
                }
                return Ok(());
            }
            Value::Object(map) => {
                for (key, value) in map {
                    let child = self.child(at, key);
                    self.add(child, value, false)?;
                }
                return Ok(());
            }
        }
        let node = &self.nodes[at];
        let pairs = node.numbers.len().max(node.texts.pairs.len()).max(node.elements.pairs.len());
        if pairs > MAX_ROWS as usize {
            return Err(Error::LimitExceeded(format!(
                "the field {:?} has more than {MAX_ROWS} values in one segment",
                node.name
            )));
        }
        Ok(())
    }

    fn child(&mut self, parent: usize, name: &str) -> usize {
        if let Some(child) = self.nodes[parent].children.get(name) {
            return *child;
        }
        let child = self.nodes.len();
        self.nodes[parent].children.insert(name.into(), child);
        self.nodes.push(Node { parent, name: name.into(), ..Node::default() });
        child
    }

    /// The columns' bytes, which [`Columns::parse`](super::Columns::parse) reads.
    pub fn finish(self) -> Vec<u8> {
        let order = self.breadth_first();
        let mut place = vec![0usize; order.len()];
        order.iter().enumerate().for_each(|(new, old)| place[*old] = new);
        let mut writer = columns::Writer::new(self.rows, self.nodes.len());
        let mut nodes: Vec<Option<Node>> = self.nodes.into_iter().map(Some).collect();
        for old in order {
            let Some(mut node) = nodes[old].take() else { continue };
            let parts = if old == 0 { Vec::new() } else { node.parts(self.rows) };
            writer.node(place[node.parent] as u32, &node.name, &parts);
        }
        writer.finish()
    }

    /// The nodes by depth, then parent, then name, so that each node's children lie together, sorted.
    fn breadth_first(&self) -> Vec<usize> {
        let mut order = vec![0];
        let mut next = 0;
        while let Some(node) = order.get(next) {
            let mut children: Vec<(&str, usize)> =
                self.nodes[*node].children.iter().map(|(name, child)| (&**name, *child)).collect();
            children.sort_unstable();
            order.extend(children.into_iter().map(|(_, child)| child));
            next += 1;
        }
        order
    }
}

impl Node {
    fn parts(&mut self, rows: u32) -> Vec<(Kind, Vec<u8>)> {
        let mut parts = Vec::new();
        let bitmaps = [
            (Kind::Present, &mut self.present),
            (Kind::Null, &mut self.null),
            (Kind::True, &mut self.yes),
            (Kind::False, &mut self.no),
        ];
        for (kind, bitmap) in bitmaps {
            if !bitmap.is_empty() {
                parts.push((kind, bitmap_bytes(bitmap)));
            }
        }
        if !self.numbers.is_empty() {
            let (dictionary, pairs) = number_pairs(std::mem::take(&mut self.numbers));
            parts.push((Kind::Numbers, values_part(rows, dictionary, pairs)));
        }
        for (kind, texts) in [(Kind::Texts, &mut self.texts), (Kind::Elements, &mut self.elements)] {
            if !texts.pairs.is_empty() {
                let (dictionary, pairs) = text_pairs(std::mem::take(texts));
                parts.push((kind, values_part(rows, dictionary, pairs)));
            }
        }
        parts
    }
}

/// Adds the last row, if it is not in yet.
fn append(bitmap: &mut RoaringBitmap, row: u32) {
    let _ = bitmap.try_push(row);
}

fn bitmap_bytes(bitmap: &mut RoaringBitmap) -> Vec<u8> {
    bitmap.optimize();
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    // Writing to memory does not fail.
    let _ = bitmap.serialize_into(&mut bytes);
    bytes
}

/// The distinct values of a part as stored.
struct Dictionary {
    kind: u8,
    dates: u8,
    distinct: u32,
    bytes: Vec<u8>,
    date_codes: Vec<u32>,
}

/// Sorts the distinct numbers and gives each pair its code.
fn number_pairs(pairs: Vec<(u32, Num)>) -> (Dictionary, Vec<(u32, u32)>) {
    let mut sorted: Vec<(Num, u32)> = pairs.iter().enumerate().map(|(i, (_, number))| (*number, i as u32)).collect();
    sorted.sort_unstable();
    let mut coded: Vec<(u32, u32)> = pairs.into_iter().map(|(row, _)| (row, 0)).collect();
    let mut distinct: Vec<Num> = Vec::new();
    for (number, i) in sorted {
        if distinct.last() != Some(&number) {
            distinct.push(number);
        }
        coded[i as usize].1 = distinct.len() as u32 - 1;
    }
    let mut bytes = Vec::with_capacity(distinct.len() * 8);
    let kind = if distinct.iter().all(|number| matches!(number, Num::Int(_))) {
        DICT_I64
    } else if distinct.iter().all(|number| number.exact_f64().is_some()) {
        DICT_F64
    } else {
        DICT_MIXED
    };
    for number in &distinct {
        let (bits, tag) = match *number {
            other if kind == DICT_F64 => (other.exact_f64().unwrap_or_default().to_bits(), MIXED_F64),
            Num::Int(i) => (i as u64, MIXED_I64),
            Num::Big(u) => (u, MIXED_U64),
            Num::Float(x) => (x.to_bits(), MIXED_F64),
        };
        bytes.extend_from_slice(&bits.to_le_bytes());
        if kind == DICT_MIXED {
            bytes.extend_from_slice(&tag.to_le_bytes());
        }
    }
    (Dictionary { kind, dates: DATES_NONE, distinct: distinct.len() as u32, bytes, date_codes: Vec::new() }, coded)
}

/// Sorts the distinct texts and gives each pair its code.
fn text_pairs(texts: Texts) -> (Dictionary, Vec<(u32, u32)>) {
    let mut sorted: Vec<(Box<str>, u32)> = texts.numbers.into_iter().collect();
    sorted.sort_unstable();
    let instants: Vec<Option<date::Instant>> = sorted.iter().map(|(text, _)| date::parse(text)).collect();
    let mut date_codes = Vec::new();
    let dates = if instants.iter().all(Option::is_none) {
        DATES_NONE
    } else if instants.contains(&None) {
        date_codes = (0..sorted.len() as u32).filter(|code| instants[*code as usize].is_some()).collect();
        date_codes.sort_by_key(|code| instants[*code as usize]);
        DATES_LISTED
    } else if instants.is_sorted() {
        DATES_ALL
    } else {
        let mut by_time: Vec<_> = instants.into_iter().zip(sorted).collect();
        by_time.sort_unstable();
        sorted = by_time.into_iter().map(|(_, text)| text).collect();
        DATES_BY_TIME
    };
    let mut codes = vec![0u32; sorted.len()];
    sorted.iter().enumerate().for_each(|(code, (_, number))| codes[*number as usize] = code as u32);
    let mut pairs = texts.pairs;
    pairs.iter_mut().for_each(|pair| pair.1 = codes[pair.1 as usize]);

    let mut bytes = Vec::with_capacity((sorted.len() + 1) * 8);
    let mut end = 0u64;
    bytes.extend_from_slice(&end.to_le_bytes());
    for (text, _) in &sorted {
        end += text.len() as u64;
        bytes.extend_from_slice(&end.to_le_bytes());
    }
    sorted.iter().for_each(|(text, _)| bytes.extend_from_slice(text.as_bytes()));
    (Dictionary { kind: DICT_TEXT, dates, distinct: sorted.len() as u32, bytes, date_codes }, pairs)
}

/// Writes a part of values from pairs of row and code, ascending by row.
fn values_part(rows: u32, dictionary: Dictionary, mut pairs: Vec<(u32, u32)>) -> Vec<u8> {
    // A list may hold one value twice.
    pairs.sort_unstable();
    pairs.dedup();
    let distinct = dictionary.distinct;
    let width = match distinct {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        _ => 4,
    };
    let single = pairs.windows(2).all(|two| two[0].0 != two[1].0);
    let dense = single && rows as usize * width <= pairs.len() * (width + 4);
    let groups = Groups::new(rows, distinct, &pairs);

    let mut part = vec![0u8; HEADER];
    let mut offsets = [0u64; 7];
    let mut put = |part: &mut Vec<u8>, index: usize, bytes: &[u8]| {
        part.resize(part.len().next_multiple_of(8), 0);
        offsets[index] = part.len() as u64;
        part.extend_from_slice(bytes);
    };
    put(&mut part, 0, &dictionary.bytes);
    put(&mut part, 1, &code_bytes(rows, distinct, width, dense, &pairs));
    if !dense {
        put(&mut part, 2, &le_bytes(pairs.iter().map(|(row, _)| *row)));
    }
    put(&mut part, 3, &le_bytes(groups.starts.iter().copied()));
    put(&mut part, 4, &le_bytes(groups.light.iter().copied()));
    part.resize(part.len().next_multiple_of(8), 0);
    let mut place = part.len() + groups.heavy.len() * HEAVY_ENTRY;
    let mut entries = Vec::new();
    for (code, count, bytes) in &groups.heavy {
        entries.extend_from_slice(&code.to_le_bytes());
        entries.extend_from_slice(&count.to_le_bytes());
        entries.extend_from_slice(&(place as u64).to_le_bytes());
        entries.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        place += bytes.len();
    }
    put(&mut part, 5, &entries);
    groups.heavy.iter().for_each(|(_, _, bytes)| part.extend_from_slice(bytes));
    put(&mut part, 6, &le_bytes(dictionary.date_codes.iter().copied()));

    part[..4].copy_from_slice(&distinct.to_le_bytes());
    part[4..8].copy_from_slice(&(pairs.len() as u32).to_le_bytes());
    part[8..12].copy_from_slice(&[width as u8, u8::from(dense), dictionary.kind, dictionary.dates]);
    part[12..16].copy_from_slice(&(groups.heavy.len() as u32).to_le_bytes());
    for (slot, offset) in part[16..72].as_chunks_mut::<8>().0.iter_mut().zip(offsets) {
        *slot = offset.to_le_bytes();
    }
    part[72..76].copy_from_slice(&(dictionary.date_codes.len() as u32).to_le_bytes());
    part
}

fn le_bytes(numbers: impl Iterator<Item = u32>) -> Vec<u8> {
    numbers.flat_map(u32::to_le_bytes).collect()
}

fn code_bytes(rows: u32, distinct: u32, width: usize, dense: bool, pairs: &[(u32, u32)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(if dense { rows as usize } else { pairs.len() } * width);
    if dense {
        let mut row = 0;
        for (of, code) in pairs {
            (row..*of).for_each(|_| bytes.extend_from_slice(&distinct.to_le_bytes()[..width]));
            bytes.extend_from_slice(&code.to_le_bytes()[..width]);
            row = of + 1;
        }
        (row..rows).for_each(|_| bytes.extend_from_slice(&distinct.to_le_bytes()[..width]));
    } else {
        pairs.iter().for_each(|(_, code)| bytes.extend_from_slice(&code.to_le_bytes()[..width]));
    }
    bytes
}

/// The rows of each code: of few rows as they are, of many as a bitmap.
struct Groups {
    starts: Vec<u32>,
    light: Vec<u32>,
    heavy: Vec<(u32, u32, Vec<u8>)>,
}

impl Groups {
    fn new(rows: u32, distinct: u32, pairs: &[(u32, u32)]) -> Groups {
        // A bitmap costs two bytes a row and eight a container of 65,536 rows, in place of four bytes a row.
        let threshold = 64 + 4 * rows.div_ceil(1 << 16);
        let mut counts = vec![0u32; distinct as usize];
        pairs.iter().for_each(|(_, code)| counts[*code as usize] += 1);
        let mut starts = Vec::with_capacity(distinct as usize + 1);
        let mut heavy: Vec<(u32, u32, RoaringBitmap)> = Vec::new();
        let mut end = 0;
        for (code, count) in counts.iter().enumerate() {
            starts.push(end);
            if *count < threshold {
                end += count;
            } else {
                heavy.push((code as u32, *count, RoaringBitmap::new()));
            }
        }
        starts.push(end);
        // From here on, where each light code's next row goes, or which heavy code it is.
        let mut next = starts.clone();
        heavy.iter().enumerate().for_each(|(i, (code, ..))| next[*code as usize] = i as u32);
        let mut light = vec![0u32; end as usize];
        for (row, code) in pairs {
            let next = &mut next[*code as usize];
            if counts[*code as usize] < threshold {
                light[*next as usize] = *row;
                *next += 1;
            } else {
                append(&mut heavy[*next as usize].2, *row);
            }
        }
        let heavy = heavy.into_iter().map(|(code, count, mut rows)| (code, count, bitmap_bytes(&mut rows))).collect();
        Groups { starts, light, heavy }
    }
}
