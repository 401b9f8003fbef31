//! fvecs and bvecs: each vector behind its length, a 32-bit little-endian integer.

use super::sidecar::{IdReader, open_ids};
use super::{Block, Columns, Source, check_dim, rows_per_block};
use crate::failure::{Result, invalid, io};
use omendb::{Element, Vectors};
use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The element type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// fvecs.
    F32,
    /// bvecs.
    U8,
}

/// An fvecs or bvecs file.
pub struct VecsSource {
    path: PathBuf,
    file: File,
    kind: Kind,
    dim: usize,
    rows: u64,
    row: u64,
    ids: IdReader,
}

impl VecsSource {
    /// Opens a file; its first length and its size give dimensions and rows.
    pub fn open(path: &Path, kind: Kind, columns: &Columns) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| io("open", path, &e))?;
        let length = file.metadata().map_err(|e| io("read", path, &e))?.len();
        let mut head = [0; 4];
        file.read_exact(&mut head).map_err(|_| {
            invalid(format!(
                "{}: {length} bytes; at least one vector behind its 4-byte length is expected",
                path.display()
            ))
        })?;
        let given = i32::from_le_bytes(head);
        let dim = u64::try_from(given).ok().filter(|dim| (1..=omendb::limits::MAX_DIM as u64).contains(dim)).ok_or_else(|| {
            invalid(format!(
                "{}: byte 0: a vector of {given} dimensions; 1 to {} are expected: the file is damaged or of another \
                    format",
                path.display(),
                omendb::limits::MAX_DIM
            ))
        })?;
        let dim = check_dim(path, dim)?;
        let mut source = VecsSource {
            path: path.to_owned(),
            file,
            kind,
            dim,
            rows: 0,
            row: 0,
            ids: match &columns.ids {
                Some(file) => open_ids(file, columns.id_type)?,
                None => IdReader::numbered(columns.first_id),
            },
        };
        let stride = source.stride() as u64;
        if !length.is_multiple_of(stride) {
            return Err(invalid(format!(
                "{}: {length} bytes are no whole number of vectors of {dim} dimensions, {stride} bytes each: {} bytes \
                    are left over from byte {}; the file is truncated or of another format",
                path.display(),
                length % stride,
                length - length % stride
            )));
        }
        source.rows = length / stride;
        source.ids.check_rows(path, source.rows)?;
        Ok(source)
    }

    /// Bytes of one vector behind its length.
    fn stride(&self) -> usize {
        4 + self.dim * if self.kind == Kind::F32 { 4 } else { 1 }
    }
}

impl Source for VecsSource {
    fn dim(&self) -> usize {
        self.dim
    }

    fn element(&self) -> Element {
        match self.kind {
            Kind::F32 => Element::F32,
            Kind::U8 => Element::U8,
        }
    }

    fn progress(&self) -> (u64, u64) {
        (self.row * self.stride() as u64, self.rows * self.stride() as u64)
    }

    fn skip(&mut self, rows: u64) -> Result<()> {
        let rows = rows.min(self.rows - self.row);
        self.row += rows;
        self.ids.skip(rows)
    }

    fn next_block(&mut self) -> Result<Option<Block>> {
        let rows = (self.rows - self.row).min(rows_per_block(self.stride()) as u64) as usize;
        if rows == 0 {
            return Ok(None);
        }
        let stride = self.stride();
        let mut bytes = vec![0; rows * stride];
        let start = self.row * stride as u64;
        let read = self.file.seek(SeekFrom::Start(start)).and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(|e| io("read", &self.path, &e))?;
        let mut data = Vec::with_capacity(rows * (stride - 4));
        for (row, record) in bytes.chunks_exact(stride).enumerate() {
            let (head, vector) = record.split_at(4);
            if head != (self.dim as u32).to_le_bytes() {
                return Err(invalid(format!(
                    "{}: row {}, byte {}: a length of {} where {} was expected, as in the first; all vectors must have \
                        the same dimensions",
                    self.path.display(),
                    self.row + row as u64,
                    start + (row * stride) as u64,
                    i32::from_le_bytes([head[0], head[1], head[2], head[3]]),
                    self.dim
                )));
            }
            data.extend_from_slice(vector);
        }
        let vectors = match self.kind {
            Kind::F32 => {
                let chunks = data.as_chunks::<4>().0.iter();
                Vectors::F32(Cow::Owned(chunks.map(|c| f32::from_le_bytes(*c)).collect()))
            }
            Kind::U8 => Vectors::U8(Cow::Owned(data)),
        };
        let ids = self.ids.take(rows)?;
        self.row += rows as u64;
        Ok(Some(Block { ids, vectors, metadata: None, text: None, fields: None }))
    }

    fn numbered(&self) -> bool {
        self.ids.is_numbered()
    }
}
