//! Comma-separated values: a header names the columns; a vector is one column of text or many columns of numbers.

use super::sidecar::{IdReader, open_ids};
use super::text::{TextFile, parse_id, parse_vector};
use super::{BLOCK_BYTES, BLOCK_ROWS, Block, Columns, IdType, LINE_BYTES, Role, Source, check_dim, list};
use crate::failure::{Failure, Result, invalid, io, limit};
use csv::{Reader, ReaderBuilder, StringRecord};
use omendb::{Element, Id, Vectors};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cell::Cell;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Message of the error that an overlong record raises within the parser.
const TOO_LONG: &str = "the record is too long";

/// Passes bytes until the allowance is spent: an unclosed quote must not swallow a whole file into memory.
struct Limited {
    inner: Box<dyn std::io::BufRead>,
    allowance: Rc<Cell<usize>>,
}

impl Read for Limited {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.allowance.get() == 0 {
            return Err(std::io::Error::other(TOO_LONG));
        }
        let n = self.inner.read(buf)?;
        self.allowance.set(self.allowance.get().saturating_sub(n));
        Ok(n)
    }
}

/// Which columns hold what, by position.
#[derive(Debug, Clone, Default, PartialEq)]
struct Layout {
    id: Option<usize>,
    vector: Vec<usize>,
    text: Option<usize>,
    metadata: Option<usize>,
    fields: Vec<(usize, String)>,
}

impl Layout {
    fn new(path: &Path, header: &StringRecord, columns: &Columns) -> Result<Layout> {
        let names: Vec<&str> = header.iter().collect();
        columns.check_asked(path, &names)?;
        let mut layout = Layout { vector: numbered_columns(&names, columns), ..Layout::default() };
        for (i, name) in names.iter().enumerate() {
            if layout.vector.contains(&i) {
                continue;
            }
            match columns.role(name) {
                Role::Id if layout.id.is_none() => layout.id = Some(i),
                Role::Vector if layout.vector.is_empty() => layout.vector.push(i),
                Role::Text if layout.text.is_none() => layout.text = Some(i),
                Role::Metadata => layout.metadata = Some(i),
                Role::Further | Role::Skip => {}
                _ => layout.fields.push((i, (*name).to_owned())),
            }
        }
        if layout.vector.is_empty() {
            return Err(invalid(format!(
                "{}: line 1: no column of vectors among {}; name it with --vector-column, or a prefix of numbered \
                    columns as in 'v*'",
                path.display(),
                list(&names)
            )));
        }
        Ok(layout)
    }
}

/// The columns that share a prefix and end in consecutive numbers: those asked for, or else the longest such run of
/// three or more.
fn numbered_columns(names: &[&str], columns: &Columns) -> Vec<usize> {
    let run = |prefix: &str| -> Vec<usize> {
        let mut found: Vec<(u64, usize)> = names
            .iter()
            .enumerate()
            .filter_map(|(i, name)| Some((name.strip_prefix(prefix)?.parse::<u64>().ok()?, i)))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, i)| i).collect()
    };
    match &columns.vector_column {
        Some(asked) => asked.strip_suffix('*').map(run).unwrap_or_default(),
        None if names.iter().any(|n| super::VECTOR_NAMES.contains(n)) => Vec::new(),
        None => {
            let mut prefixes: Vec<&str> =
                names.iter().map(|n| n.trim_end_matches(|c: char| c.is_ascii_digit())).collect();
            prefixes.sort_unstable();
            prefixes.dedup();
            prefixes.into_iter().map(run).filter(|r| r.len() >= 3).max_by_key(Vec::len).unwrap_or_default()
        }
    }
}

/// A CSV file.
pub struct CsvSource {
    path: PathBuf,
    reader: Reader<Limited>,
    allowance: Rc<Cell<usize>>,
    bytes: Rc<Cell<u64>>,
    total: u64,
    layout: Layout,
    ids: IdReader,
    id_type: Option<IdType>,
    dim: usize,
}

impl CsvSource {
    /// Opens a file; its header gives the columns, its first record the dimensions.
    pub fn open(path: &Path, columns: &Columns) -> Result<Self> {
        let text = TextFile::open(path)?;
        let allowance = Rc::new(Cell::new(LINE_BYTES));
        let limited = Limited { inner: text.reader, allowance: allowance.clone() };
        let mut reader = ReaderBuilder::new().from_reader(limited);
        let header = reader.headers().map_err(|e| csv_failure(path, e))?.clone();
        if header.is_empty() {
            return Err(invalid(format!(
                "{}: the file is empty; a header line and records are expected",
                path.display()
            )));
        }
        let layout = Layout::new(path, &header, columns)?;
        let ids = match &columns.ids {
            Some(file) => open_ids(file, columns.id_type)?,
            None => IdReader::numbered(columns.first_id),
        };
        let (bytes, total, id_type) = (text.bytes, text.total, columns.id_type);
        let mut source =
            CsvSource { path: path.to_owned(), reader, allowance, bytes, total, layout, ids, id_type, dim: 0 };
        if columns.vector_column.is_none() || source.layout.vector.len() == 1 {
            // A second reader looks at the first record, so that this one stands before it.
            source.dim = source.peek_dim()?;
        } else {
            source.dim = source.layout.vector.len();
        }
        check_dim(path, source.dim as u64)?;
        // The first id decides for all; a resumed import must decide the same, so it is looked at now.
        Ok(source)
    }

    fn peek_dim(&mut self) -> Result<usize> {
        let text = TextFile::open(&self.path)?;
        let limited = Limited { inner: text.reader, allowance: Rc::new(Cell::new(2 * LINE_BYTES)) };
        let mut record = StringRecord::new();
        if !read_record(&self.path, &mut ReaderBuilder::new().from_reader(limited), &mut record)? {
            return Err(invalid(format!("{}: no record behind the header; nothing to import", self.path.display())));
        }
        if let (Some(i), None) = (self.layout.id, self.id_type) {
            parse_id(&place(&self.path, &record), &record[i], &mut self.id_type)?;
        }
        let mut vector = Vec::new();
        self.vector(&record, &mut vector)
    }

    /// Appends the vector of a record.
    fn vector(&self, record: &StringRecord, out: &mut Vec<f32>) -> Result<usize> {
        let at = |what: String| invalid(format!("{}: {what}", place(&self.path, record)));
        if let [only] = self.layout.vector[..] {
            return parse_vector(&record[only], out).map_err(|what| at(format!("column {}: {what}", only + 1)));
        }
        for &i in &self.layout.vector {
            let number = record[i].trim().parse::<f32>().ok().filter(|x| x.is_finite());
            out.push(number.ok_or_else(|| {
                at(format!(
                    "column {}: {:?} where a finite number was expected",
                    i + 1,
                    crate::output::shorten(&record[i], 40)
                ))
            })?);
        }
        Ok(self.layout.vector.len())
    }

    fn read(&mut self, record: &mut StringRecord) -> Result<bool> {
        self.allowance.set(LINE_BYTES);
        read_record(&self.path, &mut self.reader, record)
    }

    fn id(&mut self, record: &StringRecord) -> Result<Id> {
        match self.layout.id {
            None => Ok(self.ids.take(1)?.swap_remove(0)),
            Some(i) => parse_id(&place(&self.path, record), &record[i], &mut self.id_type),
        }
    }

    fn metadata(&self, record: &StringRecord) -> Result<Option<Value>> {
        let mut map = Map::new();
        if let Some(i) = self.layout.metadata
            && !record[i].trim().is_empty()
        {
            match serde_json::from_str(&record[i]) {
                Ok(Value::Object(fields)) => map.extend(fields),
                Ok(Value::Null) => {}
                _ => {
                    return Err(invalid(format!(
                        "{}: column {}: the metadata is no JSON object; write {{\"key\": value}}",
                        place(&self.path, record),
                        i + 1
                    )));
                }
            }
        }
        for (i, name) in &self.layout.fields {
            if !record[*i].is_empty() {
                map.insert(name.clone(), scalar(&record[*i]));
            }
        }
        Ok((!map.is_empty()).then_some(Value::Object(map)))
    }
}

/// Reads the next record; text that is not UTF-8 is refused here, where the line of the record is known.
fn read_record(path: &Path, reader: &mut Reader<Limited>, record: &mut StringRecord) -> Result<bool> {
    let mut bytes = std::mem::take(record).into_byte_record();
    let found = reader.read_byte_record(&mut bytes).map_err(|e| csv_failure(path, e))?;
    *record = StringRecord::from_byte_record(bytes).map_err(|e| {
        let column = e.utf8_error().field() + 1;
        let line = e.into_byte_record().position().map_or(0, csv::Position::line);
        invalid(format!(
            "{}: line {line}: column {column}: not valid UTF-8; convert the file, for example with iconv -t utf-8",
            path.display()
        ))
    })?;
    Ok(found)
}

/// Where a record begins, for messages.
fn place(path: &Path, record: &StringRecord) -> String {
    let line = record.position().map_or(0, csv::Position::line);
    format!("{}: line {line}", path.display())
}

/// A field as JSON: `true` and `false`, numbers as they are usually written, else a string.
fn scalar(text: &str) -> Value {
    match text {
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    // JSON's own grammar: no leading zeros, no plus, no hex; so codes such as 007 stay strings.
    match serde_json::from_str::<serde_json::Number>(text) {
        Ok(number) => Value::Number(number),
        Err(_) => Value::String(text.to_owned()),
    }
}

fn csv_failure(path: &Path, error: csv::Error) -> Failure {
    let line = error.position().map_or(0, csv::Position::line);
    let at = format!("{}: line {line}", path.display());
    match error.into_kind() {
        csv::ErrorKind::Io(e) if e.to_string() == TOO_LONG => limit(format!(
            "{}: a record longer than {LINE_BYTES} bytes; a quote is probably not closed: look at the last records \
                before it",
            path.display()
        )),
        csv::ErrorKind::Io(e) if e.kind() == std::io::ErrorKind::Other => io("read", path, &e),
        csv::ErrorKind::Io(e) => super::text::read_failure(path, "csv", &e),
        csv::ErrorKind::Utf8 { err, .. } => invalid(format!(
            "{at}: column {}: not valid UTF-8; convert the file, for example with iconv -t utf-8",
            err.field() + 1
        )),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => invalid(format!(
            "{at}: {len} fields where the header has {expected_len}; check quotes and commas, or whether the file is \
                truncated"
        )),
        other => invalid(format!("{at}: {other:?}")),
    }
}

impl Source for CsvSource {
    fn dim(&self) -> usize {
        self.dim
    }

    fn element(&self) -> Element {
        Element::F32
    }

    fn progress(&self) -> (u64, u64) {
        (self.bytes.get(), self.total)
    }

    fn skip(&mut self, rows: u64) -> Result<()> {
        let mut record = StringRecord::new();
        for _ in 0..rows {
            if !self.read(&mut record)? {
                break;
            }
        }
        if self.layout.id.is_none() { self.ids.skip(rows) } else { Ok(()) }
    }

    fn next_block(&mut self) -> Result<Option<Block>> {
        let (mut ids, mut vectors, mut metadata, mut text) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut record = StringRecord::new();
        let mut bytes = 0;
        while bytes < BLOCK_BYTES && ids.len() < BLOCK_ROWS && self.read(&mut record)? {
            let elements = self.vector(&record, &mut vectors)?;
            if elements != self.dim {
                return Err(invalid(format!(
                    "{}: a vector of {elements} elements where {} were expected, as in the first record",
                    place(&self.path, &record),
                    self.dim
                )));
            }
            ids.push(self.id(&record)?);
            metadata.push(self.metadata(&record)?);
            text.push(self.layout.text.map(|i| &record[i]).filter(|s| !s.is_empty()).map(str::to_owned));
            bytes += self.dim * 4 + record.as_slice().len() / 4 + self.layout.fields.len() * 64;
        }
        if ids.is_empty() {
            return Ok(None);
        }
        let metadata = metadata.iter().any(Option::is_some).then_some(metadata);
        let text = text.iter().any(Option::is_some).then_some(text);
        Ok(Some(Block { ids, vectors: Vectors::F32(Cow::Owned(vectors)), metadata, text, fields: None }))
    }

    fn numbered(&self) -> bool {
        self.layout.id.is_none() && self.ids.is_numbered()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_become_the_json_they_look_like() {
        assert_eq!(scalar("7"), json!(7));
        assert_eq!(scalar("1.50"), json!(1.5));
        assert_eq!(scalar("007"), json!("007"));
        assert_eq!(scalar("nan"), json!("nan"));
        assert_eq!(scalar("True"), json!(true));
        assert_eq!(scalar("{}"), json!("{}"));
    }

    #[test]
    fn numbered_columns_are_found_in_numeric_order() {
        let names = ["id", "v10", "v2", "v1", "year"];
        assert_eq!(numbered_columns(&names, &Columns::default()), [3, 2, 1]);
        let asked = Columns { vector_column: Some("v*".into()), ..Columns::default() };
        assert_eq!(numbered_columns(&names, &asked), [3, 2, 1]);
        assert!(numbered_columns(&["id", "vector", "a1", "a2", "a3"], &Columns::default()).is_empty());
    }
}
