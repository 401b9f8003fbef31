//! A collection as a Parquet file: id, vector, metadata as JSON, text; the collection's schema in the footer.

use super::progress::Progress;
use crate::failure::{Failure, Result, invalid, io};
use crate::formats::parquet::{INTEGER_ID, SCHEMA_KEY};
use crate::output::element_of;
use arrow_array::builder::{
    FixedSizeBinaryBuilder, FixedSizeListBuilder, PrimitiveBuilder, StringBuilder, UInt64Builder,
};
use arrow_array::types::{ArrowPrimitiveType, Float16Type, Float32Type, Int8Type, UInt8Type};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, SchemaRef};
use omendb::{Collection, Element, Id, Record, Records, Schema, Vector};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A batch is written when its records reach this many bytes.
const BATCH_BYTES: usize = 8 << 20;
/// A row group is closed when it reaches this many bytes.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// How an export ended.
pub enum Written {
    /// With this many rows.
    Rows(u64),
    /// Early: the collection has integer and string ids, and only one column was foreseen.
    MixedIds,
}

/// An export under way.
pub struct ParquetExport {
    path: PathBuf,
    writer: ArrowWriter<File>,
    fields: SchemaRef,
    schema: Schema,
    batch: Vec<Record>,
}

impl ParquetExport {
    /// Writes `records` of the collection. `mixed` foresees a column for each kind of id.
    pub fn write(collection: &Collection, records: Records, path: &Path, mixed: bool, silent: bool) -> Result<Written> {
        let mut records = records.peekable();
        let integers = match records.peek() {
            Some(Ok(record)) => matches!(record.id, Id::U64(_)),
            _ => false,
        };
        let schema = collection.schema().clone();
        let fields = Arc::new(arrow_schema::Schema::new(columns(&schema, integers, mixed)));
        let json = serde_json::to_string(&schema).map_err(|e| invalid(e.to_string()))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            // Vectors hardly repeat: a dictionary of them costs time and saves nothing.
            .set_column_dictionary_enabled("vector.list.item".into(), false)
            .set_key_value_metadata(Some(vec![KeyValue::new(SCHEMA_KEY.to_owned(), json)]))
            .build();
        let file = File::create(path).map_err(|e| io("create", path, &e))?;
        let writer =
            ArrowWriter::try_new(file, fields.clone(), Some(properties)).map_err(|e| parquet_failure(path, &e))?;
        let mut export = ParquetExport { path: path.to_owned(), writer, fields, schema, batch: Vec::new() };
        let mut progress = Progress::start("exporting", collection.count()?, 0, silent);
        let (mut rows, mut bytes) = (0, 0);
        for record in records {
            let record = record?;
            if !mixed && matches!(record.id, Id::U64(_)) != integers {
                return Ok(Written::MixedIds);
            }
            bytes += export.schema.stride() + record.text.as_ref().map_or(0, String::len) + 64;
            export.batch.push(record);
            rows += 1;
            if bytes >= BATCH_BYTES {
                export.flush(mixed, integers)?;
                bytes = 0;
                progress.update(rows, rows);
            }
        }
        export.flush(mixed, integers)?;
        export.writer.close().map_err(|e| parquet_failure(path, &e))?;
        progress.finish();
        Ok(Written::Rows(rows))
    }

    /// Writes the records gathered so far.
    fn flush(&mut self, mixed: bool, integers: bool) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let records = std::mem::take(&mut self.batch);
        let mut columns: Vec<ArrayRef> = Vec::new();
        if mixed || !integers {
            let mut ids = StringBuilder::new();
            records.iter().for_each(|r| ids.append_option(if let Id::Str(s) = &r.id { Some(s) } else { None }));
            columns.push(Arc::new(ids.finish()));
        }
        if mixed || integers {
            let mut ids = UInt64Builder::new();
            records.iter().for_each(|r| ids.append_option(if let Id::U64(n) = r.id { Some(n) } else { None }));
            columns.push(Arc::new(ids.finish()));
        }
        columns.push(vectors(&records, &self.schema).map_err(|e| invalid(format!("{}: {e}", self.path.display())))?);
        let (mut metadata, mut text) = (StringBuilder::new(), StringBuilder::new());
        for record in &records {
            metadata.append_option(record.metadata.as_ref().map(ToString::to_string));
            text.append_option(record.text.as_ref());
        }
        columns.push(Arc::new(metadata.finish()));
        columns.push(Arc::new(text.finish()));
        let batch = RecordBatch::try_new(self.fields.clone(), columns)
            .map_err(|e| invalid(format!("{}: {e}", self.path.display())))?;
        let mut written = self.writer.write(&batch);
        if written.is_ok() && self.writer.in_progress_size() >= ROW_GROUP_BYTES {
            written = self.writer.flush();
        }
        written.map_err(|e| parquet_failure(&self.path, &e))
    }
}

fn columns(schema: &Schema, integers: bool, mixed: bool) -> Vec<Field> {
    let mut out = Vec::new();
    if mixed || !integers {
        out.push(Field::new("id", DataType::Utf8, mixed));
    }
    if mixed || integers {
        out.push(Field::new(if mixed { INTEGER_ID } else { "id" }, DataType::UInt64, mixed));
    }
    out.push(Field::new("vector", vector_type(schema), false));
    out.push(Field::new("metadata", DataType::Utf8, true));
    out.push(Field::new("text", DataType::Utf8, true));
    out
}

fn item(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", data_type, false))
}

fn vector_type(schema: &Schema) -> DataType {
    let data_type = match schema.element {
        Element::F32 => DataType::Float32,
        Element::F16 => DataType::Float16,
        Element::I8 => DataType::Int8,
        Element::U8 => DataType::UInt8,
        Element::Bits => return DataType::FixedSizeBinary(schema.stride() as i32),
    };
    DataType::FixedSizeList(item(data_type), schema.dim as i32)
}

fn vectors(records: &[Record], schema: &Schema) -> std::result::Result<ArrayRef, ArrowError> {
    fn list<'r, T: ArrowPrimitiveType>(
        records: &'r [Record],
        dim: usize,
        elements: impl Fn(&'r Vector) -> Option<&'r [T::Native]>,
    ) -> std::result::Result<ArrayRef, ArrowError> {
        let builder = PrimitiveBuilder::<T>::with_capacity(records.len() * dim);
        let mut lists = FixedSizeListBuilder::new(builder, dim as i32).with_field(item(T::DATA_TYPE));
        for record in records {
            let elements = elements(&record.vector).ok_or_else(|| wrong_element(record))?;
            lists.values().append_slice(elements);
            lists.append(true);
        }
        Ok(Arc::new(lists.finish()))
    }
    match schema.element {
        Element::F32 => {
            list::<Float32Type>(records, schema.dim, |v| if let Vector::F32(v) = v { Some(v) } else { None })
        }
        Element::F16 => {
            list::<Float16Type>(records, schema.dim, |v| if let Vector::F16(v) = v { Some(v) } else { None })
        }
        Element::I8 => list::<Int8Type>(records, schema.dim, |v| if let Vector::I8(v) = v { Some(v) } else { None }),
        Element::U8 => list::<UInt8Type>(records, schema.dim, |v| if let Vector::U8(v) = v { Some(v) } else { None }),
        Element::Bits => {
            let mut out = FixedSizeBinaryBuilder::with_capacity(records.len(), schema.stride() as i32);
            for record in records {
                let Vector::Bits(bytes) = &record.vector else { return Err(wrong_element(record)) };
                out.append_value(bytes)?;
            }
            Ok(Arc::new(out.finish()))
        }
    }
}

fn wrong_element(record: &Record) -> ArrowError {
    ArrowError::SchemaError(format!(
        "record {} holds elements of type {}, not of the collection's",
        record.id,
        element_of(&record.vector).name()
    ))
}

fn parquet_failure(path: &Path, error: &ParquetError) -> Failure {
    match error {
        ParquetError::External(source) => match source.downcast_ref::<std::io::Error>() {
            Some(e) => io("write", path, e),
            None => invalid(format!("{}: {error}", path.display())),
        },
        _ => invalid(format!("{}: {error}", path.display())),
    }
}
