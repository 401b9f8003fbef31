//! Further fields of records as JSON, and as options of the command line.

use crate::failure::{Failure, Result};
use crate::output::{shortest, vector_json};
use omendb::{Batch, Element, Field, FieldKind, Metric, Record, Schema, Sparse, Vector, VectorField, Vectors};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The key under which a line of JSON holds them.
pub const FIELDS_NAME: &str = "fields";

/// The further fields of a new collection.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FieldOptions {
    /// A further vector of its records; may be given several times [metric: cosine, element: f32]
    #[arg(long, value_name = "NAME:DIM[:METRIC[:ELEMENT]]")]
    pub vectors: Vec<String>,
    /// A sparse vector of its records; may be given several times
    #[arg(long, value_name = "NAME")]
    pub sparse: Vec<String>,
}

impl FieldOptions {
    /// Adds the fields to a schema.
    pub fn add_to(&self, mut schema: Schema) -> Result<Schema> {
        for option in &self.vectors {
            let mut parts = option.split(':');
            let malformed = || Failure::Usage(format!("--vectors {option:?}: give NAME:DIM, as in title:384:cosine"));
            let (name, dim) = parts.next().zip(parts.next()).ok_or_else(malformed)?;
            let metric: Metric = parts.next().map_or(Ok(Metric::Cosine), str::parse)?;
            let element: Element = parts.next().map_or(Ok(Element::F32), str::parse)?;
            if parts.next().is_some() {
                return Err(malformed());
            }
            let dim = dim.parse().map_err(|_| malformed())?;
            schema = schema.with_vectors(name, VectorField::new(dim, metric).with_element(element));
        }
        Ok(self.sparse.iter().fold(schema, |schema, name| schema.with_sparse(name)))
    }
}

/// The options that declare the fields of a collection.
pub fn options_of(schema: &Schema) -> String {
    let option = |Field { name, kind }: &Field| match kind {
        FieldKind::Vector(v) => format!(" --vectors {name}:{}:{}:{}", v.dim, v.metric.name(), v.element.name()),
        FieldKind::Sparse => format!(" --sparse {name}"),
    };
    schema.fields.iter().map(option).collect()
}

/// A record's fields as JSON, if it has any: vectors as lists, sparse vectors as objects of weights by id.
pub fn fields_json(vectors: &BTreeMap<String, Vector>, sparse: &BTreeMap<String, Sparse>) -> Option<Value> {
    let entries = |value: &Sparse| value.iter().map(|(id, w)| (id.to_string(), shortest(w))).collect::<Map<_, _>>();
    let mut map: Map<String, Value> =
        vectors.iter().map(|(name, vector)| (name.clone(), vector_json(vector))).collect();
    map.extend(sparse.iter().map(|(name, value)| (name.clone(), Value::Object(entries(value)))));
    (!map.is_empty()).then(|| json!(map))
}

/// The fields of a record.
pub fn record_fields(record: &Record) -> Option<Value> {
    fields_json(&record.vectors, &record.sparse)
}

/// The further fields of one row, as read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowFields {
    vectors: BTreeMap<String, Vec<f32>>,
    sparse: BTreeMap<String, Sparse>,
}

/// Reads the object of fields of one row: lists are vectors, objects sparse vectors, null is nothing.
pub fn parse(raw: &RawValue) -> std::result::Result<RowFields, String> {
    let all: BTreeMap<String, &RawValue> =
        serde_json::from_str(raw.get()).map_err(|_| "\"fields\" must be an object of vectors by name".to_owned())?;
    let mut row = RowFields::default();
    for (name, raw) in all {
        match raw.get().as_bytes().first() {
            Some(b'[') => {
                let mut vector = Vec::new();
                super::text::parse_vector(raw.get(), &mut vector).map_err(|what| format!("field {name:?}: {what}"))?;
                row.vectors.insert(name, vector);
            }
            Some(b'{') => {
                let value = parse_sparse(raw.get()).map_err(|what| format!("field {name:?}: {what}"))?;
                row.sparse.insert(name, value);
            }
            Some(b'n') => {}
            _ => return Err(format!("field {name:?} must be a list of numbers or an object such as {{\"12\": 0.5}}")),
        }
    }
    Ok(row)
}

/// Reads a sparse vector: an object of weights by id.
pub fn parse_sparse(text: &str) -> std::result::Result<Sparse, String> {
    struct Entries(Vec<(u32, f32)>);
    impl<'de> Deserialize<'de> for Entries {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
            deserializer.deserialize_map(Entries(Vec::new()))
        }
    }
    impl<'de> Visitor<'de> for Entries {
        type Value = Entries;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object of weights by id, such as {\"12\": 0.5}")
        }
        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> std::result::Result<Entries, A::Error> {
            while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                let id = key.parse().map_err(|_| {
                    A::Error::custom(format!("{key:?} is no id; an integer from 0 to 4294967295 was expected"))
                })?;
                self.0.push((id, map.next_value::<f64>()? as f32));
            }
            Ok(self)
        }
    }
    let entries: Entries = serde_json::from_str(text).map_err(|e| e.to_string())?;
    Sparse::new(entries.0).map_err(|e| e.to_string())
}

/// Adds the fields of rows to their batch; names and sizes are judged by the collection.
pub fn add_to_batch(mut batch: Batch<'static>, rows: &[RowFields], schema: &Schema) -> Result<Batch<'static>> {
    let vectors: BTreeSet<&String> = rows.iter().flat_map(|row| row.vectors.keys()).collect();
    for name in vectors {
        let present = rows.iter().map(|row| row.vectors.contains_key(name));
        let floats: Vec<f32> = rows.iter().filter_map(|row| row.vectors.get(name)).flatten().copied().collect();
        let bits = schema.of_field(name)?.element == Element::Bits;
        let vectors = if bits { packed(name, &floats)? } else { Vectors::F32(floats.into()) };
        batch = batch.with_some_vectors(name, present, vectors);
    }
    let sparse: BTreeSet<&String> = rows.iter().flat_map(|row| row.sparse.keys()).collect();
    for name in sparse {
        batch = batch.with_sparse(name, rows.iter().map(|row| row.sparse.get(name)));
    }
    Ok(batch)
}

/// Bits as JSON holds them: as their bytes.
fn packed(name: &str, numbers: &[f32]) -> Result<Vectors<'static>> {
    let byte = |x: &f32| Some(*x as u8).filter(|byte| f32::from(*byte) == *x);
    let bytes: Option<Vec<u8>> = numbers.iter().map(byte).collect();
    let what = || crate::failure::invalid(format!("field {name:?}: a vector of bits is given as its bytes, 0 to 255"));
    bytes.map(|bytes| Vectors::Bits(bytes.into())).ok_or_else(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_back_as_they_were_written() {
        let sparse = Sparse::new([(0, 0.1), (u32::MAX, -2.5)]).unwrap();
        let vectors = BTreeMap::from([("title".to_owned(), Vector::F32(vec![0.1, -2.0]))]);
        let json = fields_json(&vectors, &BTreeMap::from([("terms".to_owned(), sparse.clone())])).unwrap().to_string();
        let row = parse(&RawValue::from_string(json).unwrap()).unwrap();
        assert_eq!((&row.vectors["title"], &row.sparse["terms"]), (&vec![0.1, -2.0], &sparse));
        assert_eq!(parse_sparse("{}").unwrap(), Sparse::default());
        for (text, words) in [
            ("{\"1\": 1, \"1\": 2}", "twice"),
            ("{\"-1\": 1}", "no id"),
            ("{\"1\": \"x\"}", "expected"),
            ("[1]", "object"),
        ] {
            assert!(parse_sparse(text).unwrap_err().contains(words), "{text}");
        }
    }
}
