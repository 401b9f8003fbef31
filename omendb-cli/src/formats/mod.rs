//! Reading files of vectors: each format is a [`Source`] of blocks of rows, in bounded memory.
//!
//! A source never trusts a number of the file: sizes are checked against the file's length before anything is
//! allocated, and a file that is not what it says ends in an error that names file, place, expectation and fix.

pub mod array;
pub mod csv;
pub mod fields;
pub mod jsonl;
pub mod npy;
pub mod npz;
pub mod parquet;
pub mod parquet_json;
pub mod sidecar;
pub mod text;
pub mod values;
pub mod vecs;

use self::fields::RowFields;
use crate::failure::{Result, invalid, io};
use omendb::{Element, Id, Schema, Vectors};
use serde_json::Value;
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A block of rows is cut when its vectors reach about this many bytes: the engine's bulk path takes blocks of this
/// size.
pub const BLOCK_BYTES: usize = 16 << 20;
/// No block has more rows than this, however small they are.
pub const BLOCK_ROWS: usize = 100_000;
/// Largest line of JSON, record of CSV.
pub const LINE_BYTES: usize = 64 << 20;

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One NumPy array.
    Npy,
    /// Several NumPy arrays in a zip archive.
    Npz,
    /// 32-bit floats, each vector behind its length.
    Fvecs,
    /// Unsigned bytes, each vector behind its length.
    Bvecs,
    /// One JSON object a line; may be gzipped.
    Jsonl,
    /// Comma-separated values with a header; may be gzipped.
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// Which columns (keys, arrays) hold what, and where ids come from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Columns {
    /// Column (key, array of an npz) of the ids [default: id]; without one, rows are numbered
    #[arg(long, value_name = "NAME", conflicts_with = "ids")]
    pub id_column: Option<String>,
    /// File of ids, one a row: npy, ivecs, or txt with one a line
    #[arg(long, value_name = "FILE")]
    pub ids: Option<PathBuf>,
    /// Number of the first row where rows are numbered
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub first_id: u64,
    /// Whether the ids of a CSV or txt file are integers or strings [default: as the first one looks]
    #[arg(long, value_name = "TYPE")]
    pub id_type: Option<IdType>,
    /// Column (key, array) of the vectors [default: vector, embedding, ... or the only one that fits];
    /// for CSV also a prefix of numbered columns, as in `v*`
    #[arg(long, value_name = "NAME")]
    pub vector_column: Option<String>,
    /// Column (key, array) of the text [default: text]
    #[arg(long, value_name = "NAME")]
    pub text_column: Option<String>,
    /// Columns (keys, arrays) to keep as metadata, separated by commas; `none` for none [default: all others; none for
    /// npz]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub metadata_columns: Option<Vec<String>>,
    /// Whether the key `fields` of a JSON line holds further fields, as the collection has some.
    #[arg(skip)]
    pub further: bool,
}

/// How ids that are written as text are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum IdType {
    /// Unsigned 64-bit integers.
    Int,
    /// Strings, even where they are made of digits.
    String,
}

/// Names under which ids are looked for.
pub const ID_NAMES: &[&str] = &["id", "ids", "_id"];
/// Names under which vectors are looked for.
pub const VECTOR_NAMES: &[&str] =
    &["vector", "embedding", "vectors", "embeddings", "emb", "values", "base", "train", "data"];
/// Names under which text is looked for.
pub const TEXT_NAMES: &[&str] = &["text", "document"];
/// The key whose object becomes the metadata itself.
pub const METADATA_NAME: &str = "metadata";

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The id.
    Id,
    /// The vector.
    Vector,
    /// The text.
    Text,
    /// An object (or its JSON text) that is the metadata.
    Metadata,
    /// One field of the metadata.
    Field,
    /// An object of further fields.
    Further,
    /// Nothing.
    Skip,
}

impl Columns {
    /// Whether `name` is what was asked for, or one of the usual names where nothing was.
    fn is(asked: &Option<String>, usual: &[&str], name: &str) -> bool {
        asked.as_ref().map_or_else(|| usual.contains(&name), |asked| asked == name)
    }

    /// What the column called `name` is for.
    pub fn role(&self, name: &str) -> Role {
        if self.ids.is_none() && Self::is(&self.id_column, ID_NAMES, name) {
            Role::Id
        } else if Self::is(&self.vector_column, VECTOR_NAMES, name) {
            Role::Vector
        } else if Self::is(&self.text_column, TEXT_NAMES, name) {
            Role::Text
        } else if self.further && name == fields::FIELDS_NAME {
            Role::Further
        } else {
            match &self.metadata_columns {
                None if name == METADATA_NAME => Role::Metadata,
                None => Role::Field,
                Some(names) if names.iter().any(|n| n == name) && name == METADATA_NAME => Role::Metadata,
                Some(names) if names.iter().any(|n| n == name) => Role::Field,
                Some(_) => Role::Skip,
            }
        }
    }

    /// Refuses a column that was asked for by name and is not among `names`.
    pub fn check_asked(&self, path: &Path, names: &[&str]) -> Result<()> {
        let single = [
            ("--id-column", &self.id_column),
            ("--vector-column", &self.vector_column),
            ("--text-column", &self.text_column),
        ];
        let asked = single.into_iter().filter_map(|(flag, name)| name.as_deref().map(|n| (flag, n)));
        let fields =
            self.metadata_columns.iter().flatten().filter(|n| *n != "none").map(|n| ("--metadata-columns", &**n));
        for (flag, name) in asked.chain(fields) {
            if !names.contains(&name) && !name.ends_with('*') {
                return Err(invalid(format!(
                    "{}: {flag} {name:?} is not in the file, which has {}; name one of these",
                    path.display(),
                    list(names)
                )));
            }
        }
        Ok(())
    }
}

/// Up to twenty names for a message.
pub fn list(names: &[&str]) -> String {
    if names.is_empty() {
        return "no columns".to_owned();
    }
    let shown: Vec<String> = names.iter().take(20).map(|n| format!("{:?}", crate::output::shorten(n, 60))).collect();
    let more = names.len().saturating_sub(20);
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// Consecutive rows of a file.
#[derive(Debug)]
pub struct Block {
    /// Their ids.
    pub ids: Vec<Id>,
    /// Their vectors, row-major.
    pub vectors: Vectors<'static>,
    /// Their metadata, if the file has any: one a row.
    pub metadata: Option<Vec<Option<Value>>>,
    /// Their text, if the file has any: one a row.
    pub text: Option<Vec<Option<String>>>,
    /// Their further fields, if the file has any: one a row.
    pub fields: Option<Vec<RowFields>>,
}

impl Block {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    /// Of rows with the same id only the last stays, as if they had been written one after the other.
    /// `per_row` is the number of elements (for bits, bytes) of a vector.
    pub fn keep_last_of_each_id(&mut self, per_row: usize) {
        let mut seen = HashSet::with_capacity(self.rows());
        let mut keep: Vec<bool> = self.ids.iter().rev().map(|id| seen.insert(id.as_ref())).collect();
        if keep.iter().all(|k| *k) {
            return;
        }
        keep.reverse();
        fn rows<T>(values: &mut Vec<T>, keep: &[bool], per_row: usize) {
            let mut i = 0;
            values.retain(|_| {
                i += 1;
                keep[(i - 1) / per_row]
            });
        }
        match &mut self.vectors {
            Vectors::F32(v) => rows(v.to_mut(), &keep, per_row),
            Vectors::F16(v) => rows(v.to_mut(), &keep, per_row),
            Vectors::I8(v) => rows(v.to_mut(), &keep, per_row),
            Vectors::U8(v) | Vectors::Bits(v) => rows(v.to_mut(), &keep, per_row),
        }
        rows(&mut self.ids, &keep, 1);
        self.metadata.iter_mut().for_each(|column| rows(column, &keep, 1));
        self.text.iter_mut().for_each(|column| rows(column, &keep, 1));
        self.fields.iter_mut().for_each(|column| rows(column, &keep, 1));
    }
}

/// A file of vectors, read front to back.
pub trait Source {
    /// Elements a vector.
    fn dim(&self) -> usize;
    /// The element type of the data.
    fn element(&self) -> Element;
    /// How much of the file has been read: bytes done, bytes in all.
    fn progress(&self) -> (u64, u64);
    /// Passes over `rows` rows.
    fn skip(&mut self, rows: u64) -> Result<()>;
    /// The next rows, never none; `None` at the end.
    fn next_block(&mut self) -> Result<Option<Block>>;
    /// The collection the file was exported from, where the file says so.
    fn schema(&self) -> Option<Schema> {
        None
    }
    /// Whether rows are numbered because the file has no ids.
    fn numbered(&self) -> bool {
        false
    }
}

/// Opens a file of any format.
pub fn open(path: &Path, format: Option<Format>, columns: &Columns) -> Result<Box<dyn Source>> {
    let metadata = std::fs::metadata(path).map_err(|e| io("open", path, &e))?;
    if metadata.is_dir() {
        return Err(invalid(format!("{} is a directory; name a file of vectors", path.display())));
    }
    let format = match format {
        Some(format) => format,
        None => detect(path)?,
    };
    // Only JSON lines hold further fields.
    let columns = &Columns { further: columns.further && format == Format::Jsonl, ..columns.clone() };
    Ok(match format {
        Format::Npy => Box::new(npy::NpySource::open(path, columns)?),
        Format::Npz => Box::new(npz::open(path, columns)?),
        Format::Fvecs => Box::new(vecs::VecsSource::open(path, vecs::Kind::F32, columns)?),
        Format::Bvecs => Box::new(vecs::VecsSource::open(path, vecs::Kind::U8, columns)?),
        Format::Jsonl => Box::new(jsonl::JsonlSource::open(path, columns)?),
        Format::Csv => Box::new(csv::CsvSource::open(path, columns)?),
        Format::Parquet => Box::new(parquet::ParquetSource::open(path, columns)?),
    })
}

/// The first eight bytes of a file, or as many as there are.
pub fn magic(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path).and_then(|f| f.take(8).read_to_end(&mut head)).map_err(|e| io("read", path, &e))?;
    Ok(head)
}

/// The format of a file: by its first bytes where they tell, else by its extension.
pub fn detect(path: &Path) -> Result<Format> {
    let head = magic(path)?;
    if head.starts_with(b"\x93NUMPY") {
        return Ok(Format::Npy);
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Ok(Format::Npz);
    }
    if head.starts_with(b"PAR1") {
        return Ok(Format::Parquet);
    }
    let name = path.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "npy" => Ok(Format::Npy),
        "npz" => Ok(Format::Npz),
        "fvecs" => Ok(Format::Fvecs),
        "bvecs" => Ok(Format::Bvecs),
        "jsonl" | "ndjson" => Ok(Format::Jsonl),
        "csv" => Ok(Format::Csv),
        "parquet" | "pq" => Ok(Format::Parquet),
        "ivecs" => Err(invalid(format!("{}: an ivecs file holds ids, not vectors; give it as --ids", path.display()))),
        _ => Err(invalid(format!(
            "{}: the format is not known by its name or first bytes; give --format npy, npz, fvecs, bvecs, jsonl, csv \
                or parquet",
            path.display()
        ))),
    }
}

/// Rows a block, for rows of `row_bytes` bytes.
pub fn rows_per_block(row_bytes: usize) -> usize {
    (BLOCK_BYTES / row_bytes.max(1)).clamp(1, BLOCK_ROWS)
}

/// Refuses dimensions that no collection takes.
pub fn check_dim(path: &Path, dim: u64) -> Result<usize> {
    match usize::try_from(dim) {
        Ok(dim) if (1..=omendb::limits::MAX_DIM).contains(&dim) => Ok(dim),
        _ => Err(invalid(format!(
            "{}: vectors of {dim} dimensions; a collection takes 1 to {}",
            path.display(),
            omendb::limits::MAX_DIM
        ))),
    }
}

/// Refuses NaN and infinity in a block; `first_row` is the number of its first row.
pub fn check_finite(path: &Path, first_row: u64, dim: usize, vectors: &Vectors<'_>) -> Result<()> {
    let position = match vectors {
        Vectors::F32(v) => v.iter().position(|x| !x.is_finite()).map(|i| (i, f64::from(v[i]))),
        Vectors::F16(v) => v.iter().position(|x| !x.is_finite()).map(|i| (i, f64::from(v[i].to_f32()))),
        _ => None,
    };
    match position {
        None => Ok(()),
        Some((i, x)) => Err(invalid(format!(
            "{}: row {}, element {}: {x} where a finite number was expected; drop or repair the row",
            path.display(),
            first_row + (i / dim) as u64,
            i % dim
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    #[test]
    fn the_last_row_of_an_id_stays() {
        let mut block = Block {
            ids: vec![Id::U64(1), Id::from("a"), Id::U64(1), Id::from("1")],
            vectors: Vectors::U8(Cow::Owned(vec![1, 2, 3, 4, 5, 6, 7, 8])),
            metadata: None,
            text: Some(vec![None, Some("a".into()), Some("b".into()), None]),
            fields: None,
        };
        block.keep_last_of_each_id(2);
        assert_eq!(block.ids, [Id::from("a"), Id::U64(1), Id::from("1")]);
        assert_eq!(block.vectors, Vectors::U8(Cow::Owned(vec![3, 4, 5, 6, 7, 8])));
        assert_eq!(block.text, Some(vec![Some("a".into()), Some("b".into()), None]));
    }
}
