//! JSON lines: one object a line, its keys the columns.

use super::fields::{self, RowFields};
use super::sidecar::{IdReader, open_ids};
use super::text::{Lines, parse_vector};
use super::{BLOCK_BYTES, BLOCK_ROWS, Block, Columns, Role, Source, check_dim};
use crate::failure::{Result, invalid};
use omendb::{Element, Id, Vectors};
use serde::Deserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// A file of JSON lines.
pub struct JsonlSource {
    path: PathBuf,
    lines: Lines,
    columns: Columns,
    ids: IdReader,
    has_id: bool,
    dim: usize,
    row: u64,
}

/// One line, taken apart.
#[derive(Default)]
struct Row {
    id: Option<Value>,
    elements: Option<usize>,
    text: Option<String>,
    metadata: Option<Map<String, Value>>,
    fields: Option<RowFields>,
    keys: Vec<String>,
}

/// Reads one object into a [`Row`], its vector onto the end of `vectors`.
struct RowVisitor<'a> {
    columns: &'a Columns,
    vectors: &'a mut Vec<f32>,
}

impl<'de> Visitor<'de> for RowVisitor<'_> {
    type Value = Row;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object such as {\"id\": \"a\", \"vector\": [0.1, 0.2]}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Row, A::Error> {
        let mut row = Row::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match self.columns.role(&key) {
                Role::Id => row.id = Some(map.next_value()?),
                Role::Vector => {
                    if row.elements.is_some() {
                        return Err(A::Error::custom(format!(
                            "a second vector, {key:?}; say which is meant with --vector-column"
                        )));
                    }
                    let raw = map.next_value::<&RawValue>()?.get();
                    if !raw.starts_with('[') {
                        return Err(A::Error::custom(format!("{key:?} must be a list of numbers, such as [0.1, 0.2]")));
                    }
                    let parsed = parse_vector(raw, self.vectors);
                    row.elements = Some(parsed.map_err(|what| A::Error::custom(format!("{key:?}: {what}")))?);
                }
                Role::Text => row.text = map.next_value::<Option<String>>()?,
                Role::Metadata => match map.next_value::<Value>()? {
                    Value::Null => {}
                    Value::Object(fields) => row.metadata.get_or_insert_default().extend(fields),
                    _ => return Err(A::Error::custom("\"metadata\" must be an object or null")),
                },
                Role::Field => {
                    let value = map.next_value()?;
                    row.metadata.get_or_insert_default().insert(key.clone().into_owned(), value);
                }
                Role::Further => {
                    let raw = map.next_value::<&RawValue>()?;
                    row.fields = Some(fields::parse(raw).map_err(A::Error::custom)?);
                }
                Role::Skip => drop(map.next_value::<serde::de::IgnoredAny>()?),
            }
            row.keys.push(key.into_owned());
        }
        Ok(row)
    }
}

impl JsonlSource {
    /// Opens a file; its first line gives the dimensions.
    pub fn open(path: &Path, columns: &Columns) -> Result<Self> {
        let ids = match &columns.ids {
            Some(file) => open_ids(file, columns.id_type)?,
            None => IdReader::numbered(columns.first_id),
        };
        let mut source = JsonlSource {
            path: path.to_owned(),
            lines: Lines::open(path)?,
            columns: columns.clone(),
            ids,
            has_id: false,
            dim: 0,
            row: 0,
        };
        let mut vectors = Vec::new();
        let Some((number, row)) = source.parse_line(&mut vectors)? else {
            return Err(invalid(format!(
                "{}: no line in the file; one JSON object a line is expected",
                path.display()
            )));
        };
        let keys: Vec<&str> = row.keys.iter().map(String::as_str).collect();
        if row.elements.is_none() {
            return Err(invalid(format!(
                "{}: line {number}: no vector among the keys {}; name its key with --vector-column",
                path.display(),
                super::list(&keys)
            )));
        }
        source.dim = check_dim(path, vectors.len() as u64)?;
        source.has_id = row.id.is_some();
        source.lines = Lines::open(path)?;
        Ok(source)
    }

    fn parse_line(&mut self, vectors: &mut Vec<f32>) -> Result<Option<(u64, Row)>> {
        let Some((number, line)) = self.lines.next()? else { return Ok(None) };
        let mut json = serde_json::Deserializer::from_str(line);
        let visitor = RowVisitor { columns: &self.columns, vectors };
        let row = json.deserialize_map(visitor).and_then(|row| json.end().map(|()| row));
        let row = row.map_err(|e| {
            // The parser sees one line, so only its column says something.
            let text = e.to_string();
            let what = text.split(" at line ").next().unwrap_or(&text);
            invalid(format!(
                "{}: line {number}, column {}: {what}; one JSON object with id and vector is expected",
                self.path.display(),
                e.column()
            ))
        })?;
        Ok(Some((number, row)))
    }

    fn id(&mut self, number: u64, id: Option<Value>) -> Result<Id> {
        match id {
            None if !self.has_id => Ok(self.ids.take(1)?.swap_remove(0)),
            Some(Value::String(s)) if self.has_id && !s.is_empty() => Ok(Id::Str(s)),
            Some(Value::Number(n)) if self.has_id && n.is_u64() => Ok(Id::U64(n.as_u64().unwrap_or_default())),
            Some(_) if !self.has_id => Err(invalid(format!(
                "{}: line {number}: an id, but the lines before have none; give all or none",
                self.path.display()
            ))),
            other => Err(invalid(format!(
                "{}: line {number}: {} given as the id; a non-empty string or an unsigned integer is expected",
                self.path.display(),
                other.map_or("nothing".to_owned(), |v| crate::output::shorten(&v.to_string(), 60))
            ))),
        }
    }
}

impl Source for JsonlSource {
    fn dim(&self) -> usize {
        self.dim
    }

    fn element(&self) -> Element {
        Element::F32
    }

    fn progress(&self) -> (u64, u64) {
        self.lines.progress()
    }

    fn skip(&mut self, rows: u64) -> Result<()> {
        for _ in 0..rows {
            if self.lines.next()?.is_none() {
                break;
            }
            self.row += 1;
        }
        if self.has_id { Ok(()) } else { self.ids.skip(rows) }
    }

    fn next_block(&mut self) -> Result<Option<Block>> {
        let (mut ids, mut vectors, mut metadata, mut text) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut bytes, mut further) = (0, Vec::new());
        while bytes < BLOCK_BYTES && ids.len() < BLOCK_ROWS {
            let before = self.lines.progress().0;
            let Some((number, row)) = self.parse_line(&mut vectors)? else { break };
            if row.elements != Some(self.dim) {
                return Err(invalid(format!(
                    "{}: line {number}: {} elements where {} were expected, as in the first line",
                    self.path.display(),
                    row.elements.unwrap_or(0),
                    self.dim
                )));
            }
            ids.push(self.id(number, row.id)?);
            let text_bytes = row.text.as_ref().map_or(0, String::len);
            bytes += self.dim * 4 + text_bytes + row.metadata.as_ref().map_or(0, |m| m.len() * 64);
            // What the line held beside its vector counts too, or long metadata would pile up.
            bytes += (self.lines.progress().0 - before) as usize / 4;
            metadata.push(row.metadata.map(Value::Object));
            text.push(row.text);
            further.push(row.fields);
            self.row += 1;
        }
        if ids.is_empty() {
            return Ok(None);
        }
        let metadata = metadata.iter().any(Option::is_some).then_some(metadata);
        let text = text.iter().any(Option::is_some).then_some(text);
        let with_fields = further.iter().any(Option::is_some);
        let fields = with_fields.then(|| further.into_iter().map(Option::unwrap_or_default).collect());
        Ok(Some(Block { ids, vectors: Vectors::F32(Cow::Owned(vectors)), metadata, text, fields }))
    }

    fn numbered(&self) -> bool {
        !self.has_id && self.ids.is_numbered()
    }
}
