//! Vectors in NumPy arrays: the rows of one matrix, with ids, text and fields from other arrays of the same length.

use super::array::{ArrayReader, Dtype};
use super::sidecar::{IdReader, open_ids};
use super::{Block, Columns, Source, check_dim, rows_per_block};
use crate::failure::{Result, invalid};
use omendb::Element;
use serde_json::{Map, Value};
use std::path::Path;

/// Arrays read in step.
pub struct NpySource {
    vectors: ArrayReader,
    dim: usize,
    element: Element,
    ids: IdReader,
    text: Option<ArrayReader>,
    fields: Vec<(String, ArrayReader)>,
}

impl NpySource {
    /// Opens an npy file; ids come from `columns.ids` or are row numbers.
    pub fn open(path: &Path, columns: &Columns) -> Result<Self> {
        if columns.id_column.is_some() || columns.text_column.is_some() {
            return Err(invalid(format!(
                "{}: an npy file has no columns; give ids with --ids FILE, or use npz, csv, jsonl or parquet",
                path.display()
            )));
        }
        NpySource::new(path, ArrayReader::open(path)?, None, None, Vec::new(), columns)
    }

    /// Puts arrays together, refusing those that do not fit.
    pub fn new(
        path: &Path,
        vectors: ArrayReader,
        ids: Option<ArrayReader>,
        text: Option<ArrayReader>,
        fields: Vec<(String, ArrayReader)>,
        columns: &Columns,
    ) -> Result<Self> {
        let &[rows, dim] = vectors.shape() else {
            return Err(invalid(format!(
                "{}: an array of shape {:?}; a matrix [rows, dim] is expected: reshape it",
                vectors.name,
                vectors.shape()
            )));
        };
        let Dtype::Number(number, _) = vectors.dtype() else {
            return Err(invalid(format!(
                "{}: items of {}; float32, float16, int8 or uint8 are expected: convert with array.astype(np.float32)",
                vectors.name,
                vectors.describe()
            )));
        };
        let dim = check_dim(path, dim)?;
        for array in ids.iter().chain(&text).chain(fields.iter().map(|(_, array)| array)) {
            let shape = array.shape();
            if shape.first() != Some(&rows) || array.row_items() != 1 {
                return Err(invalid(format!(
                    "{}: shape {shape:?} beside {rows} vectors; one item a vector, shape [{rows}], is expected",
                    array.name
                )));
            }
        }
        let ids = match (ids, &columns.ids) {
            (Some(ids), _) => IdReader::Array(ids),
            (None, Some(file)) => open_ids(file, columns.id_type)?,
            (None, None) => IdReader::numbered(columns.first_id),
        };
        ids.check_rows(path, rows)?;
        Ok(NpySource { vectors, dim, element: number.element(), ids, text, fields })
    }
}

impl Source for NpySource {
    fn dim(&self) -> usize {
        self.dim
    }

    fn element(&self) -> Element {
        self.element
    }

    fn progress(&self) -> (u64, u64) {
        let row = self.vectors.row_bytes() as u64;
        (self.vectors.position() * row, self.vectors.rows() * row)
    }

    fn skip(&mut self, rows: u64) -> Result<()> {
        self.vectors.skip(rows)?;
        self.ids.skip(rows)?;
        for array in self.text.iter_mut().chain(self.fields.iter_mut().map(|(_, array)| array)) {
            array.skip(rows)?;
        }
        Ok(())
    }

    fn next_block(&mut self) -> Result<Option<Block>> {
        let left = self.vectors.rows() - self.vectors.position();
        if left == 0 {
            return Ok(None);
        }
        let side: usize = self.text.iter().chain(self.fields.iter().map(|(_, a)| a)).map(ArrayReader::row_bytes).sum();
        let row_bytes = self.vectors.row_bytes().max(self.element.stride(self.dim));
        let rows = rows_per_block(row_bytes + side).min(left as usize);
        let vectors = self.vectors.vectors(rows)?;
        let ids = self.ids.take(rows)?;
        let text = match &mut self.text {
            None => None,
            Some(array) => Some(
                array
                    .json(rows)?
                    .into_iter()
                    .map(|v| v.as_str().filter(|s| !s.is_empty()).map(str::to_owned))
                    .collect(),
            ),
        };
        let metadata = if self.fields.is_empty() {
            None
        } else {
            let mut maps = vec![Map::new(); rows];
            for (name, array) in &mut self.fields {
                for (map, value) in maps.iter_mut().zip(array.json(rows)?) {
                    map.insert(name.clone(), value);
                }
            }
            Some(maps.into_iter().map(|map| Some(Value::Object(map))).collect())
        };
        Ok(Some(Block { ids, vectors, metadata, text, fields: None }))
    }

    fn numbered(&self) -> bool {
        self.ids.is_numbered()
    }
}
