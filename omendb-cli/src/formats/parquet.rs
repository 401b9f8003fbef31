//! Parquet: row groups are read a batch at a time; columns by name.

use super::sidecar::{IdReader, open_ids};
use super::values::narrow_f64;
use super::{Block, Columns, Role, Source, check_dim, list, parquet_json, rows_per_block};
use crate::failure::{Failure, Result, invalid, io};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use omendb::{Element, Id, Schema, Vectors};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The footer's key of the schema of the collection that was exported.
pub const SCHEMA_KEY: &str = "omendb.schema";
/// The column of integer ids beside the column `id` of strings, in files of collections that have both.
pub const INTEGER_ID: &str = "id_int";

/// A Parquet file.
pub struct ParquetSource {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    roles: Vec<(String, Role)>,
    ids: IdReader,
    has_id: bool,
    has_integer_id: bool,
    dim: usize,
    element: Element,
    schema: Option<Schema>,
    rows: u64,
    row: u64,
    bytes: u64,
}

/// Runs a step of the decoder. It checks what it reads, but a file made to break it may still make it panic:
/// that ends here, as an error about the file.
fn guarded<T>(path: &Path, row: u64, step: impl FnOnce() -> std::result::Result<T, String>) -> Result<T> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(AssertUnwindSafe(step));
    std::panic::set_hook(hook);
    let what = match outcome {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(what)) => what,
        Err(_) => "the decoder gave up on the data".to_owned(),
    };
    Err(invalid(format!(
        "{}: from row {row}: not a whole Parquet file ({}); it is truncated or damaged: write or copy it again",
        path.display(),
        crate::output::shorten(&what, 300)
    )))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl ParquetSource {
    /// Opens a file; its first row gives the dimensions.
    pub fn open(path: &Path, columns: &Columns) -> Result<Self> {
        let first = Opened::new(path)?;
        let schema = first.collection_schema();
        let fields = first.builder.schema().clone();
        let rows = first.rows;
        let (roles, has_integer_id) = assign(path, &fields, columns)?;
        let has_id = roles.iter().any(|(_, role)| *role == Role::Id);
        let ids = match &columns.ids {
            Some(file) => open_ids(file, columns.id_type)?,
            None => IdReader::numbered(columns.first_id),
        };
        if !has_id {
            ids.check_rows(path, rows)?;
        }
        let bytes = std::fs::metadata(path).map_err(|e| io("read", path, &e))?.len();
        let mut source = ParquetSource {
            path: path.to_owned(),
            reader: first.reader(path, &roles, 1, 0)?,
            roles,
            ids,
            has_id,
            has_integer_id,
            dim: 0,
            element: Element::F32,
            schema,
            rows,
            row: 0,
            bytes,
        };
        let Some(batch) = source.read()? else {
            return Err(invalid(format!("{}: no row in the file; nothing to import", path.display())));
        };
        let vectors = source.vectors(&batch)?;
        source.element = vectors.element();
        source.dim = check_dim(path, vectors.elements() as u64)?;
        check_pages(path, &source.roles, source.dim)?;
        source.reader = source.reopen(0)?;
        Ok(source)
    }

    fn reopen(&self, offset: u64) -> Result<ParquetRecordBatchReader> {
        let rows = rows_per_block(self.dim * 4).min(16_384);
        Opened::new(&self.path)?.reader(&self.path, &self.roles, rows, offset as usize)
    }

    fn read(&mut self) -> Result<Option<RecordBatch>> {
        let reader = &mut self.reader;
        guarded(&self.path, self.row, || reader.next().transpose().map_err(text))
    }

    fn at(&self, row: usize, what: impl std::fmt::Display) -> Failure {
        invalid(format!("{}: row {}: {what}", self.path.display(), self.row + row as u64))
    }

    fn column<'b>(&self, batch: &'b RecordBatch, role: Role) -> Option<&'b dyn Array> {
        let (name, _) = self.roles.iter().find(|(_, r)| *r == role)?;
        batch.column_by_name(name).map(|array| &**array)
    }

    fn vectors(&self, batch: &RecordBatch) -> Result<Vectors<'static>> {
        let Some(array) = self.column(batch, Role::Vector) else {
            return Err(self.at(0, "the column of vectors is missing"));
        };
        if array.null_count() > 0 {
            let row = (0..array.len()).find(|i| array.is_null(*i)).unwrap_or(0);
            return Err(self.at(row, "no vector; every row needs one: drop or repair the row"));
        }
        if let DataType::FixedSizeBinary(_) = array.data_type() {
            let bytes: Vec<u8> = array.as_fixed_size_binary().iter().flatten().flatten().copied().collect();
            return Ok(Vectors::Bits(Cow::Owned(bytes)));
        }
        let lists = array.as_list::<i32>();
        let offsets = lists.value_offsets();
        let dim = if self.dim == 0 { (offsets[1] - offsets[0]) as usize } else { self.dim };
        for (row, ends) in offsets.windows(2).enumerate() {
            let elements = (ends[1] - ends[0]) as usize;
            if elements != dim {
                return Err(self.at(
                    row,
                    format!("a vector of {elements} elements where {dim} were expected, as in the first row"),
                ));
            }
        }
        let (start, end) = (offsets[0] as usize, offsets[lists.len()] as usize);
        let values = lists.values().slice(start, end - start);
        if values.null_count() > 0 {
            let i = (0..values.len()).find(|i| values.is_null(*i)).unwrap_or(0);
            return Err(self.at(
                i / dim.max(1),
                format!("element {} of the vector is null; drop or repair the row", i % dim.max(1)),
            ));
        }
        numbers(&values).map_err(|(i, x)| {
            self.at(
                i / dim.max(1),
                format!("element {}: {x} does not fit a 32-bit float; scale the vectors", i % dim.max(1)),
            )
        })
    }

    fn ids(&mut self, batch: &RecordBatch) -> Result<Vec<Id>> {
        if !self.has_id {
            return self.ids.take(batch.num_rows());
        }
        let strings = self.column(batch, Role::Id);
        let integers = if self.has_integer_id { batch.column_by_name(INTEGER_ID) } else { None };
        (0..batch.num_rows())
            .map(|row| {
                let value = strings.map_or(Value::Null, |array| parquet_json::cell(array, row));
                let value = match (value, integers) {
                    (Value::Null, Some(array)) => parquet_json::cell(array, row),
                    (value, _) => value,
                };
                match value {
                    Value::String(s) if !s.is_empty() => Ok(Id::Str(s)),
                    Value::Number(n) if n.is_u64() => Ok(Id::U64(n.as_u64().unwrap_or_default())),
                    other => Err(self.at(
                        row,
                        format!("{other} given as the id; a non-empty string or an unsigned integer is expected"),
                    )),
                }
            })
            .collect()
    }

    fn metadata(&self, batch: &RecordBatch) -> Result<Option<Vec<Option<Value>>>> {
        let base = self.column(batch, Role::Metadata);
        let fields: Vec<(&str, &dyn Array)> = self
            .roles
            .iter()
            .filter(|(_, role)| *role == Role::Field)
            .filter_map(|(name, _)| batch.column_by_name(name).map(|array| (name.as_str(), &**array)))
            .collect();
        if base.is_none() && fields.is_empty() {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let mut map: Option<Map<String, Value>> =
                match base.map_or(Value::Null, |array| parquet_json::cell(array, row)) {
                    Value::Null => None,
                    Value::Object(map) => Some(map),
                    Value::String(json) => match serde_json::from_str(&json) {
                        Ok(Value::Object(map)) => Some(map),
                        Ok(Value::Null) => None,
                        _ => return Err(self.at(row, "the metadata is no JSON object; write {\"key\": value}")),
                    },
                    _ => return Err(self.at(row, "the metadata must be a struct or the text of a JSON object")),
                };
            for (name, array) in &fields {
                let value = parquet_json::cell(*array, row);
                if !value.is_null() {
                    map.get_or_insert_default().insert((*name).to_owned(), value);
                }
            }
            out.push(map.map(Value::Object));
        }
        Ok(Some(out))
    }
}

impl Source for ParquetSource {
    fn dim(&self) -> usize {
        match self.element {
            Element::Bits => self.schema.as_ref().map_or(self.dim * 8, |s| s.dim),
            _ => self.dim,
        }
    }

    fn element(&self) -> Element {
        self.element
    }

    fn progress(&self) -> (u64, u64) {
        ((u128::from(self.bytes) * u128::from(self.row) / u128::from(self.rows.max(1))) as u64, self.bytes)
    }

    fn skip(&mut self, rows: u64) -> Result<()> {
        let rows = rows.min(self.rows - self.row);
        self.row += rows;
        self.reader = self.reopen(self.row)?;
        if self.has_id { Ok(()) } else { self.ids.skip(rows) }
    }

    fn next_block(&mut self) -> Result<Option<Block>> {
        let Some(batch) = self.read()? else {
            if self.row != self.rows {
                return Err(self.at(
                    0,
                    format!("the data ends here, but the footer says {} rows; the file is damaged", self.rows),
                ));
            }
            return Ok(None);
        };
        let vectors = self.vectors(&batch)?;
        let ids = self.ids(&batch)?;
        let metadata = self.metadata(&batch)?;
        let text = self.column(&batch, Role::Text).map(|array| {
            (0..array.len()).map(|row| parquet_json::cell(array, row).as_str().map(str::to_owned)).collect()
        });
        self.row += batch.num_rows() as u64;
        Ok(Some(Block { ids, vectors, metadata, text, fields: None }))
    }

    fn schema(&self) -> Option<Schema> {
        self.schema.clone()
    }

    fn numbered(&self) -> bool {
        !self.has_id && self.ids.is_numbered()
    }
}

/// A file whose footer has been read.
struct Opened {
    builder: ParquetRecordBatchReaderBuilder<File>,
    rows: u64,
}

impl Opened {
    fn new(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| io("open", path, &e))?;
        // Only the Parquet schema counts: the Arrow schema that some writers embed adds nothing that is needed here.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder =
            guarded(path, 0, || ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).map_err(text))?;
        let rows = builder.metadata().file_metadata().num_rows();
        let counted =
            builder.metadata().row_groups().iter().try_fold(0i64, |sum, group| sum.checked_add(group.num_rows()));
        match u64::try_from(rows) {
            Ok(rows) if counted == Some(rows as i64) => Ok(Opened { builder, rows }),
            _ => Err(invalid(format!(
                "{}: the footer says {rows} rows, its row groups {counted:?}; the file is damaged: write or copy it \
                    again",
                path.display()
            ))),
        }
    }

    fn collection_schema(&self) -> Option<Schema> {
        let entries = self.builder.metadata().file_metadata().key_value_metadata()?;
        let value = entries.iter().find(|entry| entry.key == SCHEMA_KEY)?.value.as_ref()?;
        serde_json::from_str(value).ok().filter(|schema: &Schema| schema.validate().is_ok())
    }

    fn reader(
        self,
        path: &Path,
        roles: &[(String, Role)],
        rows: usize,
        offset: usize,
    ) -> Result<ParquetRecordBatchReader> {
        let fields = self.builder.schema().fields().clone();
        let wanted = fields.iter().enumerate().filter(|(_, f)| roles.iter().any(|(name, _)| name == f.name()));
        let mask = ProjectionMask::roots(self.builder.parquet_schema(), wanted.map(|(i, _)| i));
        guarded(path, offset as u64, || {
            self.builder.with_projection(mask).with_batch_size(rows).with_offset(offset).build().map_err(text)
        })
    }
}

/// What each column is for, without those that are for nothing; and whether integer ids stand in a column of their own.
fn assign(path: &Path, schema: &SchemaRef, columns: &Columns) -> Result<(Vec<(String, Role)>, bool)> {
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    columns.check_asked(path, &names)?;
    let fits = |data: &DataType| match data {
        DataType::List(child) => child.data_type().is_numeric(),
        DataType::FixedSizeBinary(_) => true,
        _ => false,
    };
    let mut roles: Vec<(String, Role)> = Vec::new();
    for field in schema.fields() {
        let mut role = columns.role(field.name());
        let taken = |role| roles.iter().any(|(_, r)| *r == role);
        if matches!(role, Role::Id | Role::Text | Role::Vector) && taken(role)
            || role == Role::Vector && !fits(field.data_type()) && columns.vector_column.is_none()
            || role == Role::Text && *field.data_type() != DataType::Utf8
        {
            role = Role::Field;
        }
        roles.push((field.name().clone(), role));
    }
    let vectors: Vec<&str> =
        schema.fields().iter().filter(|f| fits(f.data_type())).map(|f| f.name().as_str()).collect();
    if !roles.iter().any(|(_, r)| *r == Role::Vector) {
        let [only] = vectors[..] else {
            return Err(invalid(format!(
                "{}: {} columns hold lists of numbers among {}; say which holds the vectors with --vector-column",
                path.display(),
                vectors.len(),
                list(&names)
            )));
        };
        roles.iter_mut().filter(|(name, _)| name == only).for_each(|(_, role)| *role = Role::Vector);
    }
    let has_id = roles.iter().any(|(_, r)| *r == Role::Id);
    let has_integer_id = has_id && names.contains(&INTEGER_ID) && columns.id_column.is_none();
    for ((name, role), field) in roles.iter_mut().zip(schema.fields()) {
        match role {
            Role::Vector if !fits(field.data_type()) => {
                return Err(invalid(format!(
                    "{}: column {name:?} is of type {}; a list of numbers is expected for vectors: name another with \
                        --vector-column",
                    path.display(),
                    field.data_type()
                )));
            }
            Role::Field if has_integer_id && name == INTEGER_ID => *role = Role::Id,
            Role::Field | Role::Metadata | Role::Id => parquet_json::check_type(field).map_err(|what| {
                invalid(format!(
                    "{}: {what}; leave it out: list the columns to keep with --metadata-columns",
                    path.display()
                ))
            })?,
            _ => {}
        }
    }
    // The string ids come first, so that the first column of that role is theirs.
    roles.retain(|(_, role)| *role != Role::Skip);
    roles.sort_by_key(|(name, _)| name == INTEGER_ID);
    Ok((roles, has_integer_id))
}

/// Refuses pages that announce more values than the rows can hold: a few bytes can be made to expand to billions of
/// them.
fn check_pages(path: &Path, roles: &[(String, Role)], dim: usize) -> Result<()> {
    let file = File::open(path).map_err(|e| io("open", path, &e))?;
    let damage = guarded(path, 0, || {
        let file = SerializedFileReader::new(file).map_err(text)?;
        for group in 0..file.num_row_groups() {
            let group_reader = file.get_row_group(group).map_err(text)?;
            let rows = group_reader.metadata().num_rows().max(0) as u64;
            for column in 0..group_reader.num_columns() {
                let description = group_reader.metadata().column(column).column_descr_ptr();
                let name = description.path().parts().first().cloned().unwrap_or_default();
                let Some((_, role)) = roles.iter().find(|(n, _)| *n == name) else { continue };
                let expected = match (role, description.max_rep_level()) {
                    (_, 0) => rows,
                    (Role::Vector, _) => rows.saturating_mul(dim as u64),
                    _ => rows.saturating_mul(10_000),
                };
                let mut pages = group_reader.get_column_page_reader(column).map_err(text)?;
                let mut levels = 0u64;
                while let Some(page) = pages.peek_next_page().map_err(text)? {
                    levels += page.num_levels.unwrap_or(0) as u64;
                    pages.skip_next_page().map_err(text)?;
                }
                if levels > expected {
                    return Ok(Some(format!(
                        "row group {group}, column {name:?}: {levels} values where at most {expected} were expected"
                    )));
                }
            }
        }
        Ok(None)
    })?;
    match damage {
        None => Ok(()),
        Some(what) => Err(invalid(format!(
            "{}: {what}; vectors must all have the dimensions of the first, {dim}; repair or drop the rows",
            path.display()
        ))),
    }
}

/// The numbers of an array as vectors; `Err` is the position and value of one that has no place in f32.
fn numbers(values: &dyn Array) -> std::result::Result<Vectors<'static>, (usize, String)> {
    fn narrow<T: ArrowPrimitiveType>(
        values: &dyn Array,
        narrow: impl Fn(T::Native) -> Option<f32>,
    ) -> std::result::Result<Vectors<'static>, (usize, String)>
    where
        T::Native: std::fmt::Display,
    {
        let values = values.as_primitive::<T>().values();
        let each = values.iter().enumerate().map(|(i, x)| narrow(*x).ok_or_else(|| (i, x.to_string())));
        Ok(Vectors::F32(Cow::Owned(each.collect::<std::result::Result<_, _>>()?)))
    }
    fn exact(n: i128) -> Option<f32> {
        Some(n as f32).filter(|x| *x as i128 == n)
    }
    Ok(match values.data_type() {
        DataType::Float32 => Vectors::F32(Cow::Owned(values.as_primitive::<Float32Type>().values().to_vec())),
        DataType::Float16 => Vectors::F16(Cow::Owned(values.as_primitive::<Float16Type>().values().to_vec())),
        DataType::Int8 => Vectors::I8(Cow::Owned(values.as_primitive::<Int8Type>().values().to_vec())),
        DataType::UInt8 => Vectors::U8(Cow::Owned(values.as_primitive::<UInt8Type>().values().to_vec())),
        DataType::Float64 => return narrow::<Float64Type>(values, narrow_f64),
        DataType::Int16 => return narrow::<Int16Type>(values, |n| exact(n.into())),
        DataType::Int32 => return narrow::<Int32Type>(values, |n| exact(n.into())),
        DataType::Int64 => return narrow::<Int64Type>(values, |n| exact(n.into())),
        DataType::UInt16 => return narrow::<UInt16Type>(values, |n| exact(n.into())),
        DataType::UInt32 => return narrow::<UInt32Type>(values, |n| exact(n.into())),
        DataType::UInt64 => return narrow::<UInt64Type>(values, |n| exact(n.into())),
        other => return Err((0, format!("a value of type {other}"))),
    })
}
