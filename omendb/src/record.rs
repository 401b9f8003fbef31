//! What goes in and what comes out: vectors, batches, records, hits.

use crate::error::{Error, Result};
use crate::fields::{FieldColumns, FieldValues};
use crate::filter::Filter;
use crate::ids::{Id, IdColumn, IdRef};
use crate::schema::{
    Element, MAX_BATCH_BYTES, MAX_BATCH_ROWS, MAX_METADATA_BYTES, MAX_METADATA_DEPTH, MAX_TEXT_BYTES, Schema,
};
use crate::sparse::Sparse;
use crate::text::Snippet;
use crate::validate::check_vectors;
use half::f16;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Vectors of one batch, row-major: `rows * dim` elements (for bits, `rows * ceil(dim / 8)` bytes).
#[derive(Debug, Clone, PartialEq)]
pub enum Vectors<'a> {
    /// 32-bit floats.
    F32(Cow<'a, [f32]>),
    /// 16-bit floats.
    F16(Cow<'a, [f16]>),
    /// Signed bytes.
    I8(Cow<'a, [i8]>),
    /// Unsigned bytes.
    U8(Cow<'a, [u8]>),
    /// Packed bits, least significant first.
    Bits(Cow<'a, [u8]>),
}

impl Vectors<'_> {
    /// The element type.
    pub fn element(&self) -> Element {
        match self {
            Vectors::F32(_) => Element::F32,
            Vectors::F16(_) => Element::F16,
            Vectors::I8(_) => Element::I8,
            Vectors::U8(_) => Element::U8,
            Vectors::Bits(_) => Element::Bits,
        }
    }

    /// Number of elements (bytes, for bits).
    pub fn elements(&self) -> usize {
        match self {
            Vectors::F32(v) => v.len(),
            Vectors::F16(v) => v.len(),
            Vectors::I8(v) => v.len(),
            Vectors::U8(v) | Vectors::Bits(v) => v.len(),
        }
    }

    /// The stored (little-endian) bytes. Exact, and a borrow on little-endian machines.
    pub(crate) fn as_le_bytes(&self) -> Cow<'_, [u8]> {
        use zerocopy::IntoBytes;
        #[cfg(target_endian = "little")]
        match self {
            Vectors::F32(v) => Cow::Borrowed(v.as_bytes()),
            Vectors::F16(v) => Cow::Borrowed(v.as_bytes()),
            Vectors::I8(v) => Cow::Borrowed(v.as_bytes()),
            Vectors::U8(v) | Vectors::Bits(v) => Cow::Borrowed(v),
        }
        #[cfg(target_endian = "big")]
        match self {
            Vectors::F32(v) => Cow::Owned(v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Vectors::F16(v) => Cow::Owned(v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Vectors::I8(v) => Cow::Borrowed(v.as_bytes()),
            Vectors::U8(v) | Vectors::Bits(v) => Cow::Borrowed(v),
        }
    }
}

impl<'a> From<&'a [f32]> for Vectors<'a> {
    fn from(v: &'a [f32]) -> Self {
        Vectors::F32(Cow::Borrowed(v))
    }
}
impl<'a> From<&'a Vec<f32>> for Vectors<'a> {
    fn from(v: &'a Vec<f32>) -> Self {
        Vectors::F32(Cow::Borrowed(v))
    }
}
impl<'a, const N: usize> From<&'a [f32; N]> for Vectors<'a> {
    fn from(v: &'a [f32; N]) -> Self {
        Vectors::F32(Cow::Borrowed(v))
    }
}
impl From<Vec<f32>> for Vectors<'_> {
    fn from(v: Vec<f32>) -> Self {
        Vectors::F32(Cow::Owned(v))
    }
}
impl<'a> From<&'a Vector> for Vectors<'a> {
    fn from(v: &'a Vector) -> Self {
        match v {
            Vector::F32(v) => Vectors::F32(Cow::Borrowed(v)),
            Vector::F16(v) => Vectors::F16(Cow::Borrowed(v)),
            Vector::I8(v) => Vectors::I8(Cow::Borrowed(v)),
            Vector::U8(v) => Vectors::U8(Cow::Borrowed(v)),
            Vector::Bits(v) => Vectors::Bits(Cow::Borrowed(v)),
        }
    }
}

/// One vector, as stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Vector {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 16-bit floats.
    F16(Vec<f16>),
    /// Signed bytes.
    I8(Vec<i8>),
    /// Unsigned bytes.
    U8(Vec<u8>),
    /// Packed bits, least significant first.
    Bits(Vec<u8>),
}

impl Vector {
    /// Reads the stored bytes of one vector.
    pub(crate) fn from_le_bytes(element: Element, bytes: &[u8]) -> Vector {
        match element {
            Element::F32 => Vector::F32(bytes.as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect()),
            Element::F16 => Vector::F16(bytes.as_chunks::<2>().0.iter().map(|c| f16::from_le_bytes(*c)).collect()),
            Element::I8 => Vector::I8(bytes.iter().map(|b| *b as i8).collect()),
            Element::U8 => Vector::U8(bytes.to_vec()),
            Element::Bits => Vector::Bits(bytes.to_vec()),
        }
    }

    /// The elements as f32 (bits as 0 and 1, padded to whole bytes).
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Vector::F32(v) => v.clone(),
            Vector::F16(v) => v.iter().map(|x| x.to_f32()).collect(),
            Vector::I8(v) => v.iter().map(|x| f32::from(*x)).collect(),
            Vector::U8(v) => v.iter().map(|x| f32::from(*x)).collect(),
            Vector::Bits(v) => v.iter().flat_map(|b| (0..8).map(move |i| f32::from(b >> i & 1))).collect(),
        }
    }
}

/// A column of byte strings, one a row, each present or absent.
/// A present value is stored behind a marker byte, so an empty string is not an absent one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlobColumn {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<u64>,
}

/// Stands before the bytes of every value that is present.
pub(crate) const PRESENT: u8 = 1;

impl BlobColumn {
    /// Appends a value.
    pub fn push(&mut self, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.bytes.push(PRESENT);
            self.bytes.extend_from_slice(value);
        }
        self.ends.push(self.bytes.len() as u64);
    }

    /// Appends a value as stored, marker and all.
    pub(crate) fn push_stored(&mut self, stored: &[u8]) {
        self.bytes.extend_from_slice(stored);
        self.ends.push(self.bytes.len() as u64);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The stored bytes of a row, marker and all; empty where absent.
    pub(crate) fn stored(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.bytes[start..self.ends[row] as usize]
    }

    /// The value of a row.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        self.stored(row).split_first().map(|(_, value)| value)
    }
}

/// Records to write, by column. A batch is applied whole or not at all.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    pub(crate) ids: IdColumn,
    pub(crate) vectors: Vectors<'a>,
    pub(crate) metadata: Option<BlobColumn>,
    pub(crate) text: Option<BlobColumn>,
    /// What was given for further fields, by name; the columns, once it is validated.
    given: Vec<(String, FieldValues<'a>)>,
    pub(crate) fields: FieldColumns,
}

impl<'a> Batch<'a> {
    /// `ids.len()` records; `vectors` holds as many rows of the collection's dimensions.
    pub fn new(ids: IdColumn, vectors: impl Into<Vectors<'a>>) -> Self {
        Batch {
            ids,
            vectors: vectors.into(),
            metadata: None,
            text: None,
            given: Vec::new(),
            fields: FieldColumns::default(),
        }
    }

    /// One record.
    pub fn one(id: impl Into<Id>, vector: impl Into<Vectors<'a>>) -> Self {
        let id = id.into();
        Batch::new([&id].into_iter().collect(), vector)
    }

    /// Adds metadata: one JSON object (or `None`) a record.
    ///
    /// # Errors
    /// `InvalidInput` for anything but an object, `LimitExceeded` for one too large or nested too deep.
    pub fn with_metadata<'m>(mut self, rows: impl IntoIterator<Item = Option<&'m Value>>) -> Result<Self> {
        let mut column = BlobColumn::default();
        for (row, value) in rows.into_iter().enumerate() {
            match value {
                None | Some(Value::Null) => column.push(None),
                Some(value) => column.push(Some(&encode_metadata(value, row)?)),
            }
        }
        self.metadata = Some(column);
        Ok(self)
    }

    /// Adds text: one string (or `None`) a record.
    pub fn with_text<'t>(mut self, rows: impl IntoIterator<Item = Option<&'t str>>) -> Self {
        let mut column = BlobColumn::default();
        for value in rows {
            column.push(value.map(str::as_bytes));
        }
        self.text = Some(column);
        self
    }

    /// Adds the vectors of a further field of the [`Schema`], one a record.
    pub fn with_vectors(mut self, field: impl Into<String>, vectors: impl Into<Vectors<'a>>) -> Self {
        self.given.push((field.into(), FieldValues::Vectors(vectors.into())));
        self
    }

    /// The same where some records have none: `present` says of each record whether `vectors` holds one for it.
    pub fn with_some_vectors(
        mut self,
        field: impl Into<String>,
        present: impl IntoIterator<Item = bool>,
        vectors: impl Into<Vectors<'a>>,
    ) -> Self {
        let present = present.into_iter().collect();
        self.given.push((field.into(), FieldValues::SomeVectors(present, vectors.into())));
        self
    }

    /// Adds the sparse vectors of a field of the [`Schema`]: one (or `None`) a record.
    pub fn with_sparse<'s>(
        mut self,
        field: impl Into<String>,
        rows: impl IntoIterator<Item = Option<&'s Sparse>>,
    ) -> Self {
        self.given.push((field.into(), FieldValues::sparse(rows)));
        self
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Bytes of the batch, all columns.
    pub fn byte_len(&self) -> usize {
        let blob = |c: &Option<BlobColumn>| c.as_ref().map_or(0, |c| c.bytes.len() + c.ends.len() * 8);
        self.ids.bytes.len()
            + self.ids.ends.len() * 4
            + self.vectors.as_le_bytes().len()
            + blob(&self.metadata)
            + blob(&self.text)
            + self.given.iter().map(|(_, values)| values.byte_len()).sum::<usize>()
            + self.fields.byte_len()
    }

    /// Refuses what the schema or a limit does not allow, and turns the vectors into the stored element type.
    /// Duplicate ids within the batch are found by the caller, which hashes the ids anyway.
    pub(crate) fn validate(&mut self, schema: &Schema) -> Result<()> {
        let rows = self.ids.len();
        if rows > MAX_BATCH_ROWS {
            return Err(Error::LimitExceeded(format!(
                "a batch of {rows} records was given; the limit is {MAX_BATCH_ROWS}: split it"
            )));
        }
        if self.byte_len() > MAX_BATCH_BYTES {
            return Err(Error::LimitExceeded(format!(
                "a batch of {} bytes was given; the limit is {MAX_BATCH_BYTES}: split it",
                self.byte_len()
            )));
        }
        for (row, id) in self.ids.iter().enumerate() {
            id.validate().map_err(|e| at_row(e, row))?;
        }
        for (name, column) in [("metadata", &self.metadata), ("text", &self.text)] {
            if let Some(column) = column
                && column.len() != rows
            {
                return Err(Error::invalid(format!(
                    "{} ids but {} rows of {name} were given; one a record is expected",
                    rows,
                    column.len()
                )));
            }
        }
        if let Some(text) = &self.text {
            for row in 0..rows {
                let bytes = text.get(row).map_or(0, <[u8]>::len);
                if bytes > MAX_TEXT_BYTES {
                    return Err(Error::LimitExceeded(format!(
                        "record {row}: a text of {bytes} bytes was given; the limit is {MAX_TEXT_BYTES}: split it into \
                            passages"
                    )));
                }
            }
        }
        check_vectors(&mut self.vectors, schema, Some(rows), &self.ids)?;
        if !self.given.is_empty() {
            self.fields = FieldColumns::of(std::mem::take(&mut self.given), schema, &self.ids)?;
        }
        Ok(())
    }
}

fn at_row(error: Error, row: usize) -> Error {
    match error {
        Error::InvalidInput(s) => Error::InvalidInput(format!("record {row}: {s}")),
        Error::LimitExceeded(s) => Error::LimitExceeded(format!("record {row}: {s}")),
        other => other,
    }
}

/// Metadata as stored: compact JSON text of an object.
pub(crate) fn encode_metadata(value: &Value, row: usize) -> Result<Vec<u8>> {
    if !value.is_object() {
        return Err(Error::invalid(format!(
            "record {row}: metadata must be a JSON object (or null), not {}",
            json_kind(value)
        )));
    }
    if depth_exceeds(value, MAX_METADATA_DEPTH) {
        return Err(Error::LimitExceeded(format!(
            "record {row}: metadata nested deeper than {MAX_METADATA_DEPTH} levels; flatten it"
        )));
    }
    let bytes = serde_json::to_vec(value)
        .map_err(|e| Error::invalid(format!("record {row}: metadata cannot be written as JSON: {e}")))?;
    if bytes.len() > MAX_METADATA_BYTES {
        return Err(Error::LimitExceeded(format!(
            "record {row}: metadata of {} bytes of JSON was given; the limit is {MAX_METADATA_BYTES}",
            bytes.len()
        )));
    }
    Ok(bytes)
}

fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn depth_exceeds(value: &Value, left: usize) -> bool {
    let mut stack = vec![(value, left)];
    while let Some((value, left)) = stack.pop() {
        match value {
            Value::Array(items) => {
                if left == 0 {
                    return true;
                }
                stack.extend(items.iter().map(|v| (v, left - 1)));
            }
            Value::Object(map) => {
                if left == 0 {
                    return true;
                }
                stack.extend(map.values().map(|v| (v, left - 1)));
            }
            _ => {}
        }
    }
    false
}

/// A change to one record; what is `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Patch<'a> {
    /// The new vector.
    pub vector: Option<Vectors<'a>>,
    /// The new metadata, replaced whole; `Some(Value::Null)` removes it.
    pub metadata: Option<Value>,
    /// The new text; `Some(None)` removes it.
    pub text: Option<Option<String>>,
    /// The new vectors of further fields, by name; `None` removes one.
    pub vectors: BTreeMap<String, Option<Vectors<'a>>>,
    /// The new sparse vectors, by the field's name; `None` removes one.
    pub sparse: BTreeMap<String, Option<Sparse>>,
}

/// One stored record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The id.
    pub id: Id,
    /// The vector, exactly as stored.
    pub vector: Vector,
    /// The metadata, if any.
    pub metadata: Option<Value>,
    /// The text, if any.
    pub text: Option<String>,
    /// The vectors of further fields that the record has, by the field's name, exactly as stored.
    pub vectors: BTreeMap<String, Vector>,
    /// The sparse vectors that the record has, by the field's name.
    pub sparse: BTreeMap<String, Sparse>,
}

/// Which fields of a hit to fetch besides id, distance and score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Include {
    /// The vector.
    pub vector: bool,
    /// The metadata.
    pub metadata: bool,
    /// The text.
    pub text: bool,
    /// The piece of the text that matches, with its matches marked; for searches by text.
    pub snippet: bool,
    /// The vectors and sparse vectors of further fields.
    pub fields: bool,
}

impl Include {
    /// Ids, distances and scores alone.
    pub const NONE: Include = Include { vector: false, metadata: false, text: false, snippet: false, fields: false };
    /// Everything.
    pub const ALL: Include = Include { vector: true, metadata: true, text: true, snippet: true, fields: true };
}

impl Default for Include {
    /// Metadata and text, without vectors.
    fn default() -> Self {
        Include { metadata: true, text: true, ..Include::NONE }
    }
}

/// How to search.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchOptions {
    /// How many hits to return, 1 to [`MAX_K`](crate::limits::MAX_K) less `offset`.
    pub k: usize,
    /// How many of the best hits to skip.
    pub offset: usize,
    /// Only hits with at least this score.
    pub min_score: Option<f32>,
    /// Which fields to fetch.
    pub include: Include,
    /// Only records whose metadata passes.
    pub filter: Option<Filter>,
    /// The share of the true `k` nearest that a search is to find on average, 0.5 to 1; 1 is an exact scan.
    pub recall: f32,
    /// Overrides `recall` with a fixed effort: nodes of a graph to expand.
    pub ef: Option<usize>,
    /// How a search by several things makes one order of theirs.
    pub fuse: Fuse,
    /// Only hits within this distance.
    pub max_distance: Option<f32>,
    /// Records that are not to be hits.
    pub exclude: Vec<Id>,
    /// Chooses hits that differ from each other.
    pub mmr: Option<Mmr>,
    /// The field whose vectors are searched; `None`: the records' own.
    pub using: Option<String>,
}

/// How hits are chosen that differ from each other (maximal marginal relevance): one after the other, of the nearest
/// candidates, that of the highest `lambda * score - (1 - lambda) * highest score against the hits before it`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mmr {
    /// 1: the nearest, as without; 0: as different from each other as can be.
    pub lambda: f32,
    /// How many of the nearest to choose from; `None`: four times as many as are wanted, 50 at least.
    pub pool: Option<usize>,
}

impl Mmr {
    /// How many candidates to choose `chosen` hits from.
    pub(crate) fn pool(&self, chosen: usize) -> usize {
        self.pool.unwrap_or_else(|| chosen.saturating_mul(4).max(50)).max(chosen)
    }
}

/// How the orders of several searches become one.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Fuse {
    /// Reciprocal rank fusion: a record of rank r in one order gets 1 / (60 + r) of it. A score is the sum over all
    /// orders, scaled so that the first of every order has 1.
    #[default]
    Rrf,
    /// As `Rrf`, but of ranks that follow the scores: the best record of an order has rank 0, the 61st rank 60, and any
    /// other what its score says. An order weighs by the square of how far its best stands out: the difference to the
    /// 61st in proportion to the larger of both (distances, or scores; 0 for no match). So a query that is all in its
    /// words is decided by the words. A score of 1 is the first of every order.
    Adaptive,
    /// `alpha` times the vector's score and `1 - alpha` times the text's, each scaled over the candidates: the best is
    /// 1, and 0 is the worst candidate by vector, or no match by text. Sparse vectors count as texts do. Several of one
    /// kind share its weight; where there is one kind alone, `alpha` means nothing.
    Weighted {
        /// 0 to 1: the weight of vectors.
        alpha: f32,
    },
}

impl Fuse {
    /// From its name, `rrf`, `adaptive` or `weighted`, and the weight of vectors, which only `weighted` has: 0.5 if not
    /// given.
    ///
    /// # Errors
    /// `InvalidInput` for another name, and for a weight with one that has none.
    pub fn named(name: &str, alpha: Option<f32>) -> Result<Fuse> {
        match (name, alpha) {
            ("weighted", alpha) => Ok(Fuse::Weighted { alpha: alpha.unwrap_or(0.5) }),
            ("rrf", None) => Ok(Fuse::Rrf),
            ("adaptive", None) => Ok(Fuse::Adaptive),
            ("rrf" | "adaptive", Some(alpha)) => Err(Error::invalid(format!(
                "alpha = {alpha} was given with the fusion {name:?}, which has no weights; it goes with \"weighted\""
            ))),
            _ => Err(Error::invalid(format!(
                "the fusion {name:?} was given; \"rrf\", \"adaptive\" or \"weighted\" was expected"
            ))),
        }
    }
}

impl SearchOptions {
    /// The `k` nearest, with metadata and text.
    pub fn new(k: usize) -> Self {
        SearchOptions {
            k,
            offset: 0,
            min_score: None,
            include: Include::default(),
            filter: None,
            recall: 0.95,
            ef: None,
            fuse: Fuse::Rrf,
            max_distance: None,
            exclude: Vec::new(),
            mmr: None,
            using: None,
        }
    }

    /// Searches the vectors of a further field instead of the records' own.
    pub fn using(mut self, field: impl Into<String>) -> Self {
        self.using = Some(field.into());
        self
    }

    /// Skips the best `offset` hits.
    pub fn offset(mut self, offset: usize) -> Self {
        self.offset = offset;
        self
    }

    /// Drops hits below `score`.
    pub fn min_score(mut self, score: f32) -> Self {
        self.min_score = Some(score);
        self
    }

    /// Sets the recall to meet, 0.5 to 1 (default 0.95); 1 scans everything.
    pub fn recall(mut self, recall: f32) -> Self {
        self.recall = recall;
        self
    }

    /// Sets a fixed effort instead of a recall.
    pub fn ef(mut self, ef: usize) -> Self {
        self.ef = Some(ef);
        self
    }

    /// Keeps to records whose metadata passes `filter`: the `k` best of them, or all of them.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Sets how a search by several things makes one order of theirs.
    pub fn fuse(mut self, fuse: Fuse) -> Self {
        self.fuse = fuse;
        self
    }

    /// Keeps to records within `radius` (a distance, see [`Metric`](crate::Metric)), and sets the recall to 1, as a
    /// search within a radius wants them all: `k` bounds their number, and [`Hits::complete`] says whether there are
    /// more. Ask for a lower recall afterwards to search by graphs.
    pub fn max_distance(mut self, radius: f32) -> Self {
        (self.max_distance, self.recall) = (Some(radius), 1.0);
        self
    }

    /// Leaves out records; ids that are not known are no error.
    pub fn exclude(mut self, ids: impl IntoIterator<Item = Id>) -> Self {
        self.exclude = ids.into_iter().collect();
        self
    }

    /// Chooses hits that differ from each other, see [`Mmr`]. They come in the order in which they are chosen.
    pub fn mmr(mut self, lambda: f32) -> Self {
        self.mmr = Some(Mmr { lambda, pool: None });
        self
    }

    /// Chooses the fields to fetch.
    pub fn include(mut self, include: Include) -> Self {
        self.include = include;
        self
    }
}

/// One result of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The record's id.
    pub id: Id,
    /// The metric's distance, lower is better (see [`Metric`](crate::Metric)); of a search by text or by sparse vector
    /// alone, the negative score.
    pub distance: f32,
    /// What the hits are ordered by, higher is better: the metric's score, BM25, or of a hybrid search the fused score.
    pub score: f32,
    /// The metric's score, where there was a vector to compare with.
    pub vector_score: Option<f32>,
    /// The BM25 score, where the search's text matches the record's.
    pub text_score: Option<f32>,
    /// The scores by the further fields that were searched, by the field's name: higher is better.
    pub field_scores: BTreeMap<String, f32>,
    /// The vector, if asked for.
    pub vector: Option<Vector>,
    /// The metadata, if asked for and present.
    pub metadata: Option<Value>,
    /// The text, if asked for and present.
    pub text: Option<String>,
    /// The piece of the text that matches, if asked for and the search's text matches.
    pub snippet: Option<Snippet>,
    /// The vectors of further fields, by the field's name, if asked for.
    pub vectors: BTreeMap<String, Vector>,
    /// The sparse vectors, by the field's name, if asked for.
    pub sparse: BTreeMap<String, Sparse>,
}

/// The results of one search, best first; records at equal distances keep one order as long as the collection does not
/// change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hits {
    /// The hits.
    pub hits: Vec<Hit>,
    /// True when fewer than `k` came back because no more records match. False also where that is not known: a search
    /// by graph with `min_score` or `max_distance`, or over damaged data.
    pub complete: bool,
}

impl std::ops::Deref for Hits {
    type Target = [Hit];
    fn deref(&self) -> &[Hit] {
        &self.hits
    }
}

impl IntoIterator for Hits {
    type Item = Hit;
    type IntoIter = std::vec::IntoIter<Hit>;
    fn into_iter(self) -> Self::IntoIter {
        self.hits.into_iter()
    }
}

/// An id for a message.
pub(crate) fn show_id(id: Option<IdRef<'_>>) -> String {
    id.map_or_else(|| "(unreadable id)".to_owned(), |id| format!("{:?}", id.to_string()))
}
