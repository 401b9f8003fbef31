//! What a collection holds: element type, dimensions, metric, further fields; and the limits on what a user hands in.

use crate::error::{Error, Result};
use crate::text::Analyzer;
use serde::{Deserialize, Serialize};

/// The type of a vector's elements, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// 32-bit IEEE float.
    #[default]
    F32,
    /// 16-bit IEEE float.
    F16,
    /// Signed byte.
    I8,
    /// Unsigned byte.
    U8,
    /// One bit a dimension, eight to a byte, least significant first; the unused bits of the last byte are 0.
    Bits,
}

impl Element {
    /// Bytes of one stored vector of `dim` dimensions.
    pub fn stride(self, dim: usize) -> usize {
        match self {
            Element::F32 => dim * 4,
            Element::F16 => dim * 2,
            Element::I8 | Element::U8 => dim,
            Element::Bits => dim.div_ceil(8),
        }
    }

    /// The name users write: `f32`, `f16`, `i8`, `u8`, `bits`.
    pub fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::I8 => "i8",
            Element::U8 => "u8",
            Element::Bits => "bits",
        }
    }
}

impl std::str::FromStr for Element {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        Ok(match s.to_ascii_lowercase().as_str() {
            "f32" | "float32" | "float" => Element::F32,
            "f16" | "float16" | "half" => Element::F16,
            "i8" | "int8" => Element::I8,
            "u8" | "uint8" => Element::U8,
            "bits" | "bit" | "binary" | "b1" => Element::Bits,
            _ => return Err(Error::invalid(format!("element type {s:?} is not known; use f32, f16, i8, u8 or bits"))),
        })
    }
}

/// How two vectors are compared. A [`distance`](crate::Hit::distance) is lower-is-better, a
/// [`score`](crate::Hit::score) higher-is-better, in every metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// distance = 1 - cos(a, b), score = cos(a, b). A zero vector is refused.
    #[default]
    Cosine,
    /// distance = |a - b| (not squared), score = -distance.
    L2,
    /// distance = -(a . b), score = a . b.
    Dot,
    /// distance = number of differing bits, score = -distance. For `bits` only.
    Hamming,
}

impl Metric {
    /// The name users write: `cosine`, `l2`, `dot`, `hamming`.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Cosine => "cosine",
            Metric::L2 => "l2",
            Metric::Dot => "dot",
            Metric::Hamming => "hamming",
        }
    }

    /// The higher-is-better score of a distance.
    pub fn score(self, distance: f32) -> f32 {
        match self {
            Metric::Cosine => 1.0 - distance,
            Metric::L2 | Metric::Dot | Metric::Hamming => -distance,
        }
    }
}

impl std::str::FromStr for Metric {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        Ok(match s.to_ascii_lowercase().as_str() {
            "cosine" | "cos" | "angular" => Metric::Cosine,
            "l2" | "euclidean" | "euclid" => Metric::L2,
            "dot" | "ip" | "inner_product" => Metric::Dot,
            "hamming" => Metric::Hamming,
            _ => return Err(Error::invalid(format!("metric {s:?} is not known; use cosine, l2, dot or hamming"))),
        })
    }
}

/// How the graphs of a collection hold vectors, for the walk; the best that a walk finds are always compared exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(into = "String", try_from = "String")]
pub enum Quantization {
    /// What searches fastest: RaBitQ where rows can be turned and are not too wide, else 8 bits a dimension.
    #[default]
    Auto,
    /// No graph: every search compares the vectors themselves, exactly, and no memory is taken.
    None,
    /// 8 bits a dimension: a third of RaBitQ's memory at 128 dimensions, and slower.
    Sq8,
    /// One bit a dimension of each neighbour, beside 8 bits of each row. For cosine and l2, up to
    /// [`MAX_RABITQ_DIM`] dimensions, not for bits.
    RaBitQ,
    /// RaBitQ codes of each row alone, of 1 to 8 bits a dimension: less memory than [`Sq8`](Self::Sq8) up to 7 bits.
    /// Fewer bits take more exact comparisons for the same recall. For the same rows as [`RaBitQ`](Self::RaBitQ).
    RaBitQBits(u8),
    /// Product quantisation, a byte for every four dimensions of each row. For the same rows as
    /// [`RaBitQ`](Self::RaBitQ).
    Pq,
}

/// The names of RaBitQ codes of 1 to 8 bits.
const RABITQ_BITS: [&str; 8] = ["rabitq1", "rabitq2", "rabitq3", "rabitq4", "rabitq5", "rabitq6", "rabitq7", "rabitq8"];

impl Quantization {
    /// The name users write: `auto`, `none`, `sq8`, `rabitq`, `rabitq1` to `rabitq8`, `pq`.
    pub fn name(self) -> &'static str {
        match self {
            Quantization::Auto => "auto",
            Quantization::None => "none",
            Quantization::Sq8 => "sq8",
            Quantization::RaBitQ => "rabitq",
            Quantization::RaBitQBits(bits) => RABITQ_BITS[usize::from(bits.clamp(1, 8)) - 1],
            Quantization::Pq => "pq",
        }
    }

    /// Whether it takes rows that can be turned.
    fn turns(self) -> bool {
        matches!(self, Quantization::RaBitQ | Quantization::RaBitQBits(_) | Quantization::Pq)
    }
}

impl From<Quantization> for String {
    fn from(quantization: Quantization) -> String {
        quantization.name().into()
    }
}

impl TryFrom<String> for Quantization {
    type Error = Error;
    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl std::str::FromStr for Quantization {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        const KNOWN: &str = "auto, none, sq8, rabitq, rabitq1 to rabitq8 or pq";
        let name = s.to_ascii_lowercase();
        if let Some(place) = RABITQ_BITS.iter().position(|known| *known == name) {
            return Ok(Quantization::RaBitQBits(place as u8 + 1));
        }
        Ok(match name.as_str() {
            "auto" => Quantization::Auto,
            "none" => Quantization::None,
            "sq8" => Quantization::Sq8,
            "rabitq" => Quantization::RaBitQ,
            "pq" => Quantization::Pq,
            "binary" => {
                return Err(Error::Unsupported(format!("quantization {s:?} is not available; use {KNOWN}")));
            }
            _ => return Err(Error::invalid(format!("quantization {s:?} is not known; use {KNOWN}"))),
        })
    }
}

/// What a collection is to be sparing with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Time: searches are fast.
    #[default]
    Default,
    /// Memory: `auto` quantization is `sq8`.
    Compact,
}

impl Profile {
    /// The name users write: `default`, `compact`.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Default => "default",
            Profile::Compact => "compact",
        }
    }
}

impl std::str::FromStr for Profile {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        match s.to_ascii_lowercase().as_str() {
            "default" => Ok(Profile::Default),
            "compact" => Ok(Profile::Compact),
            _ => Err(Error::invalid(format!("profile {s:?} is not known; use default or compact"))),
        }
    }
}

/// A further vector of a record, beside its own: what [`Schema`] says of that one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorField {
    /// Dimensions, 1 to [`MAX_DIM`].
    pub dim: usize,
    /// The element type, as stored.
    #[serde(default)]
    pub element: Element,
    /// The metric.
    #[serde(default)]
    pub metric: Metric,
    /// How graphs hold the vectors.
    #[serde(default, skip_serializing_if = "is_default")]
    pub quantization: Quantization,
}

impl VectorField {
    /// f32 vectors of `dim` dimensions under `metric`.
    pub fn new(dim: usize, metric: Metric) -> Self {
        VectorField { dim, element: Element::F32, metric, quantization: Quantization::Auto }
    }

    /// The same with another element type.
    pub fn with_element(mut self, element: Element) -> Self {
        self.element = element;
        self
    }

    /// The same with graphs that hold the vectors in another way.
    pub fn with_quantization(mut self, quantization: Quantization) -> Self {
        self.quantization = quantization;
        self
    }
}

/// What a further field of a record holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum FieldKind {
    /// A vector.
    Vector(VectorField),
    /// A [`Sparse`](crate::Sparse) vector, compared by the dot product.
    Sparse,
}

impl FieldKind {
    fn describe(&self) -> String {
        match self {
            FieldKind::Vector(v) => format!("a vector of {} dimensions", v.dim),
            FieldKind::Sparse => "a sparse vector".to_owned(),
        }
    }
}

/// A field of a record beside its vector, metadata and text. A record may lack it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name, 1 to [`MAX_NAME_BYTES`] bytes; not `id`, `vector`, `metadata` or `text`.
    pub name: String,
    /// What it holds.
    #[serde(flatten)]
    pub kind: FieldKind,
}

/// What a collection holds. Fixed when the collection is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Dimensions of every vector, 1 to [`MAX_DIM`].
    pub dim: usize,
    /// The element type, as stored.
    #[serde(default)]
    pub element: Element,
    /// The metric.
    #[serde(default)]
    pub metric: Metric,
    /// How texts become terms.
    #[serde(default, skip_serializing_if = "is_default")]
    pub analyzer: Analyzer,
    /// How graphs hold the vectors.
    #[serde(default, skip_serializing_if = "is_default")]
    pub quantization: Quantization,
    /// What to be sparing with.
    #[serde(default, skip_serializing_if = "is_default")]
    pub profile: Profile,
    /// Further fields, at most [`MAX_FIELDS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Schema {
    /// f32 vectors of `dim` dimensions under `metric`.
    pub fn new(dim: usize, metric: Metric) -> Self {
        Schema {
            dim,
            element: Element::F32,
            metric,
            analyzer: Analyzer::default(),
            quantization: Quantization::Auto,
            profile: Profile::Default,
            fields: Vec::new(),
        }
    }

    /// The same with another element type.
    pub fn with_element(mut self, element: Element) -> Self {
        self.element = element;
        self
    }

    /// The same with another analyzer of texts.
    pub fn with_analyzer(mut self, analyzer: Analyzer) -> Self {
        self.analyzer = analyzer;
        self
    }

    /// The same with graphs that hold the vectors in another way.
    pub fn with_quantization(mut self, quantization: Quantization) -> Self {
        self.quantization = quantization;
        self
    }

    /// The same, sparing with something else.
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// The same with a further vector in its records.
    pub fn with_vectors(self, name: impl Into<String>, field: VectorField) -> Self {
        self.with_field(name.into(), FieldKind::Vector(field))
    }

    /// The same with a sparse vector in its records.
    pub fn with_sparse(self, name: impl Into<String>) -> Self {
        self.with_field(name.into(), FieldKind::Sparse)
    }

    fn with_field(mut self, name: String, kind: FieldKind) -> Self {
        self.fields.push(Field { name, kind });
        self
    }

    /// A further field's number, counted from 0, and what it holds.
    pub(crate) fn field(&self, name: &str) -> Result<(usize, &FieldKind)> {
        let found = self.fields.iter().enumerate().find(|(_, field)| field.name == name);
        found.map(|(number, field)| (number, &field.kind)).ok_or_else(|| {
            let known: Vec<&str> = self.fields.iter().map(|field| field.name.as_str()).collect();
            let known = if known.is_empty() { "it has no further fields".into() } else { known.join(", ") };
            Error::invalid(format!("the collection has no field {name:?}: {known}"))
        })
    }

    /// The number of a sparse field.
    pub(crate) fn sparse_field(&self, name: &str) -> Result<usize> {
        match self.field(name)? {
            (number, FieldKind::Sparse) => Ok(number),
            (_, other) => {
                Err(Error::invalid(format!("field {name:?} was taken for a sparse vector; it is {}", other.describe())))
            }
        }
    }

    /// The numbers and names of the sparse fields.
    pub(crate) fn sparse_fields(&self) -> impl Iterator<Item = (usize, &str)> {
        let sparse = self.fields.iter().enumerate().filter(|(_, field)| field.kind == FieldKind::Sparse);
        sparse.map(|(number, field)| (number, field.name.as_str()))
    }

    /// The further vectors, by the field's number, each with the schema of a collection with this vector alone.
    pub(crate) fn vector_fields(&self) -> Vec<(usize, Schema)> {
        let schema = |(number, field): (usize, &Field)| match &field.kind {
            FieldKind::Vector(kind) => Some((number, self.alone(kind))),
            FieldKind::Sparse => None,
        };
        self.fields.iter().enumerate().filter_map(schema).collect()
    }

    /// Bytes of the records' own vectors (`None`) and of each further one, by the field's number.
    pub(crate) fn strides(&self) -> impl Iterator<Item = (Option<usize>, usize)> {
        let stride = |(number, field): (usize, &Field)| match &field.kind {
            FieldKind::Vector(kind) => Some((Some(number), kind.element.stride(kind.dim))),
            FieldKind::Sparse => None,
        };
        std::iter::once((None, self.stride())).chain(self.fields.iter().enumerate().filter_map(stride))
    }

    /// The number of a further vector.
    pub(crate) fn vector_field(&self, name: &str) -> Result<usize> {
        match self.field(name)? {
            (number, FieldKind::Vector(_)) => Ok(number),
            (_, other) => {
                Err(Error::invalid(format!("field {name:?} was taken for a vector; it is {}", other.describe())))
            }
        }
    }

    /// The schema of a collection whose records' own vectors are those of a further field.
    ///
    /// # Errors
    /// `InvalidInput` if there is no such field, or it is one of sparse vectors.
    pub fn of_field(&self, name: &str) -> Result<Schema> {
        let number = self.vector_field(name)?;
        let found = self.vector_fields().into_iter().find(|(field, _)| *field == number);
        Ok(found.map_or_else(|| self.clone(), |(_, schema)| schema))
    }

    /// The schema of a collection with this vector alone.
    pub(crate) fn alone(&self, field: &VectorField) -> Schema {
        Schema {
            dim: field.dim,
            element: field.element,
            metric: field.metric,
            quantization: field.quantization,
            fields: Vec::new(),
            ..self.clone()
        }
    }

    /// The quantization that graphs are built with.
    pub(crate) fn codes(&self) -> Quantization {
        match (self.quantization, self.profile) {
            (Quantization::Auto, Profile::Compact) => Quantization::Sq8,
            (chosen, _) => chosen,
        }
    }

    /// Bytes of one stored vector.
    pub fn stride(&self) -> usize {
        self.element.stride(self.dim)
    }

    /// Elements of one vector (bytes, for bits).
    pub(crate) fn elements_per_row(&self) -> usize {
        if self.element == Element::Bits { self.stride() } else { self.dim }
    }

    /// Refuses dimensions out of range and metrics that do not fit the element type, for vectors and for the further
    /// fields; what this version cannot build; and names that cannot be told apart.
    pub fn validate(&self) -> Result<()> {
        self.validate_vectors()?;
        self.validate_quantization()?;
        self.analyzer.validate()?;
        self.validate_fields()
    }

    /// The part of [`validate`](Self::validate) that says what the bytes of a vector are. Every search asks.
    pub(crate) fn validate_vectors(&self) -> Result<()> {
        if self.dim == 0 || self.dim > MAX_DIM {
            return Err(Error::invalid(format!(
                "dim = {} given; a collection takes 1 to {MAX_DIM} dimensions",
                self.dim
            )));
        }
        if (self.element == Element::Bits) != (self.metric == Metric::Hamming) {
            return Err(Error::invalid(format!(
                "metric {} with element type {} given; hamming goes with bits, and cosine, l2 and dot with f32, f16, \
                    i8 and u8",
                self.metric.name(),
                self.element.name()
            )));
        }
        Ok(())
    }

    fn validate_quantization(&self) -> Result<()> {
        let turns = self.dim <= MAX_RABITQ_DIM && matches!(self.metric, Metric::Cosine | Metric::L2);
        if self.quantization.turns() && !turns {
            return Err(Error::Unsupported(format!(
                "quantization {} with {} dimensions under {} is not available; it takes cosine and l2 and up to \
                    {MAX_RABITQ_DIM} dimensions: use auto, none or sq8",
                self.quantization.name(),
                self.dim,
                self.metric.name()
            )));
        }
        if let Quantization::RaBitQBits(bits @ (0 | 9..)) = self.quantization {
            return Err(Error::invalid(format!("RaBitQ of {bits} bits a dimension given; use 1 to 8")));
        }
        if self.quantization == Quantization::RaBitQ && self.profile == Profile::Compact {
            return Err(Error::invalid(
                "quantization rabitq with profile compact given; compact saves the memory that rabitq takes: leave out one",
            ));
        }
        Ok(())
    }

    fn validate_fields(&self) -> Result<()> {
        if self.fields.len() > MAX_FIELDS {
            return Err(Error::LimitExceeded(format!(
                "{} further fields were given; a collection has at most {MAX_FIELDS}",
                self.fields.len()
            )));
        }
        for (number, Field { name, kind }) in self.fields.iter().enumerate() {
            if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
                return Err(Error::invalid(format!(
                    "field name {name:?}: use 1 to {MAX_NAME_BYTES} bytes without control characters"
                )));
            }
            if RESERVED_NAMES.contains(&name.as_str()) {
                return Err(Error::invalid(format!("field name {name:?} belongs to a part that every record has")));
            }
            if self.fields[..number].iter().any(|other| other.name == *name) {
                return Err(Error::invalid(format!("two fields are called {name:?}; give each a name of its own")));
            }
            if let FieldKind::Vector(field) = kind {
                self.alone(field).validate().map_err(|e| in_field(e, name))?;
            }
        }
        Ok(())
    }
}

/// An error about a field, with its name.
pub(crate) fn in_field(error: Error, name: &str) -> Error {
    match error {
        Error::InvalidInput(what) => Error::InvalidInput(format!("field {name:?}: {what}")),
        Error::LimitExceeded(what) => Error::LimitExceeded(format!("field {name:?}: {what}")),
        Error::Unsupported(what) => Error::Unsupported(format!("field {name:?}: {what}")),
        other => other,
    }
}

/// Names of what every record has.
const RESERVED_NAMES: [&str; 4] = ["id", "vector", "metadata", "text"];

/// Most dimensions of a vector.
pub const MAX_DIM: usize = 65_536;
/// Most dimensions of a collection whose quantization is `rabitq`, with or without a number of bits, or `pq`.
pub const MAX_RABITQ_DIM: usize = crate::quantize::rotation::MAX_ROTATED;
/// Most bytes of a string id.
pub const MAX_ID_BYTES: usize = 512;
/// Most results of one search (`k` plus `offset`).
pub const MAX_K: usize = 100_000;
/// Most hits of a search for hits that differ ([`Mmr`](crate::Mmr)), `k` plus `offset`.
pub const MAX_MMR_K: usize = 1_000;
/// Most candidates that such a search chooses from.
pub const MAX_MMR_POOL: usize = 10_000;
/// Most records of one batch.
pub const MAX_BATCH_ROWS: usize = 4_000_000;
/// Most bytes of one batch, vectors and all.
pub const MAX_BATCH_BYTES: usize = 1 << 30;
/// Most bytes of one record's metadata as JSON.
pub const MAX_METADATA_BYTES: usize = 1 << 20;
/// Deepest nesting of metadata.
pub const MAX_METADATA_DEPTH: usize = 64;
/// Most bytes of one record's text.
pub const MAX_TEXT_BYTES: usize = 16 << 20;
/// Most further fields of a collection.
pub const MAX_FIELDS: usize = 16;
/// Most entries of one sparse vector.
pub const MAX_SPARSE_ENTRIES: usize = 65_536;
/// Most bytes of a collection's or a field's name.
pub const MAX_NAME_BYTES: usize = 255;
/// Most collections of one database.
pub const MAX_COLLECTIONS: usize = 1_024;
