//! The further fields of records, by column: vectors and sparse vectors that a record may lack.
//!
//! A column is the values of all rows, one after the other, and where each ends; an absent value has no byte. So the
//! vectors of a column lie as densely as if there were no other rows: the *n*-th of them at `n` times their size.

use crate::codec::Reader;
use crate::error::{Error, Result};
use crate::ids::IdColumn;
use crate::record::{BlobColumn, Vectors};
use crate::schema::{FieldKind, MAX_FIELDS, Schema, in_field};
use crate::sparse::Sparse;
use crate::validate::check_vectors;
use std::ops::Range;

/// What a batch has for one field.
#[derive(Debug, Clone)]
pub(crate) enum FieldValues<'a> {
    /// A vector for each record.
    Vectors(Vectors<'a>),
    /// Vectors for the records that are marked.
    SomeVectors(Vec<bool>, Vectors<'a>),
    /// Sparse vectors, as stored.
    Sparse(BlobColumn),
}

impl FieldValues<'_> {
    pub(crate) fn sparse<'s>(rows: impl IntoIterator<Item = Option<&'s Sparse>>) -> Self {
        let mut column = BlobColumn::default();
        for value in rows {
            column.push_stored(&value.map(Sparse::encode).unwrap_or_default());
        }
        FieldValues::Sparse(column)
    }

    pub(crate) fn byte_len(&self) -> usize {
        match self {
            FieldValues::Vectors(vectors) | FieldValues::SomeVectors(_, vectors) => vectors.as_le_bytes().len(),
            FieldValues::Sparse(column) => byte_len(column),
        }
    }

    /// The column of a field of this kind for the records `ids`.
    fn into_column(self, kind: &FieldKind, schema: &Schema, ids: &IdColumn) -> Result<BlobColumn> {
        let rows = |given: usize| match given == ids.len() {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "{} ids but {given} values were given; one a record is expected",
                ids.len()
            ))),
        };
        match (self, kind) {
            (FieldValues::Vectors(mut vectors), FieldKind::Vector(field)) => {
                check_vectors(&mut vectors, &schema.alone(field), Some(ids.len()), ids)?;
                let stride = field.element.stride(field.dim) as u64;
                let ends = (1..=ids.len() as u64).map(|row| row * stride).collect();
                Ok(BlobColumn { bytes: vectors.as_le_bytes().into_owned(), ends })
            }
            (FieldValues::SomeVectors(present, vectors), FieldKind::Vector(_))
                if !present.contains(&true) && vectors.elements() == 0 =>
            {
                rows(present.len())?;
                Ok(BlobColumn { bytes: Vec::new(), ends: vec![0; ids.len()] })
            }
            (FieldValues::SomeVectors(present, mut vectors), FieldKind::Vector(field)) => {
                rows(present.len())?;
                let having =
                    present.iter().zip(0..).filter(|(present, _)| **present).filter_map(|(_, row)| ids.get(row));
                let having: IdColumn = having.collect();
                check_vectors(&mut vectors, &schema.alone(field), Some(having.len()), &having)?;
                let stride = field.element.stride(field.dim) as u64;
                let mut end = 0;
                let ends = present.iter().map(|present| {
                    end += u64::from(*present) * stride;
                    end
                });
                Ok(BlobColumn { ends: ends.collect(), bytes: vectors.as_le_bytes().into_owned() })
            }
            (FieldValues::Sparse(column), FieldKind::Sparse) => rows(column.len()).map(|()| column),
            (_, FieldKind::Sparse) => Err(Error::invalid("vectors were given for a field of sparse vectors")),
            (_, FieldKind::Vector(_)) => Err(Error::invalid("sparse vectors were given for a field of vectors")),
        }
    }
}

fn byte_len(column: &BlobColumn) -> usize {
    column.bytes.len() + column.ends.len() * 8
}

/// The columns of a run of rows: by the field's number, as far as any row has a value. Empty where none has any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FieldColumns(Vec<Option<BlobColumn>>);

impl FieldColumns {
    /// The columns of a batch.
    pub(crate) fn of(values: Vec<(String, FieldValues<'_>)>, schema: &Schema, ids: &IdColumn) -> Result<Self> {
        let mut columns = FieldColumns::default();
        for (name, values) in values {
            let (number, kind) = schema.field(&name)?;
            let column = values.into_column(kind, schema, ids).map_err(|e| in_field(e, &name))?;
            if columns.0.get(number).is_some_and(Option::is_some) {
                return Err(Error::invalid(format!("field {name:?} was given twice; give its values once")));
            }
            columns.set(number, column);
        }
        Ok(columns)
    }

    /// Takes a column, unless it is without a value.
    pub(crate) fn set(&mut self, field: usize, column: BlobColumn) {
        if !column.bytes.is_empty() {
            self.0.resize(self.0.len().max(field + 1), None);
            self.0[field] = Some(column);
        }
    }

    fn column(&self, field: usize) -> Option<&BlobColumn> {
        self.0.get(field)?.as_ref()
    }

    /// The stored value of a row; empty where absent.
    pub(crate) fn stored(&self, field: usize, row: u32) -> &[u8] {
        self.column(field).map_or(&[], |column| column.stored(row as usize))
    }

    /// Bytes of the values of a field.
    pub(crate) fn data(&self, field: usize, range: Range<usize>) -> &[u8] {
        self.column(field).and_then(|column| column.bytes.get(range)).unwrap_or_default()
    }

    /// Appends the columns of `more` rows to those of `rows`.
    pub(crate) fn append(&mut self, rows: usize, other: &FieldColumns, more: usize) {
        self.0.resize(self.0.len().max(other.0.len()), None);
        for (field, column) in self.0.iter_mut().enumerate() {
            append_blobs(column, rows, other.column(field), more);
        }
    }

    pub(crate) fn byte_len(&self) -> usize {
        self.0.iter().flatten().map(byte_len).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// As in the payload of a log frame: which fields there are, one bit each, and their columns.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let bits =
            (0..MAX_FIELDS).filter(|field| self.column(*field).is_some()).fold(0u32, |bits, field| bits | 1 << field);
        out.extend_from_slice(&bits.to_le_bytes());
        self.0.iter().flatten().for_each(|column| encode_blobs(out, column));
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` if the values do not fit the schema.
    pub(crate) fn decode(r: &mut Reader<'_>, rows: usize, schema: &Schema) -> Option<Self> {
        let bits = r.u32()?;
        let mut columns = FieldColumns::default();
        for field in (0..u32::BITS as usize).filter(|field| bits >> field & 1 == 1) {
            let column = decode_blobs(r, rows)?;
            let kind = &schema.fields.get(field)?.kind;
            (0..rows).all(|row| fits(column.stored(row), kind)).then_some(())?;
            columns.set(field, column);
        }
        Some(columns)
    }
}

/// Whether a stored value is one of a field.
pub(crate) fn fits(stored: &[u8], kind: &FieldKind) -> bool {
    stored.is_empty()
        || match kind {
            FieldKind::Vector(field) => stored.len() == field.element.stride(field.dim),
            FieldKind::Sparse => Sparse::decode(stored).is_some(),
        }
}

/// Appends a column of `more` rows to one of `rows`; either may be absent.
pub(crate) fn append_blobs(to: &mut Option<BlobColumn>, rows: usize, from: Option<&BlobColumn>, more: usize) {
    if to.is_none() && from.is_none() {
        return;
    }
    let to = to.get_or_insert_with(|| {
        let mut absent = BlobColumn::default();
        absent.ends.resize(rows, 0);
        absent
    });
    match from {
        Some(from) => {
            let base = to.bytes.len() as u64;
            to.bytes.extend_from_slice(&from.bytes);
            to.ends.extend(from.ends.iter().map(|end| base + end));
        }
        None => {
            let end = to.bytes.len() as u64;
            to.ends.resize(rows + more, end);
        }
    }
}

pub(crate) fn encode_blobs(out: &mut Vec<u8>, column: &BlobColumn) {
    column.ends.iter().for_each(|end| out.extend_from_slice(&end.to_le_bytes()));
    out.extend_from_slice(&column.bytes);
}

pub(crate) fn decode_blobs(r: &mut Reader<'_>, rows: usize) -> Option<BlobColumn> {
    let ends: Vec<u64> =
        r.take(rows.checked_mul(8)?)?.as_chunks::<8>().0.iter().map(|c| u64::from_le_bytes(*c)).collect();
    let len = usize::try_from(ends.last().copied().unwrap_or(0)).ok()?;
    let bytes = r.take(len)?.to_vec();
    ends.is_sorted().then_some(BlobColumn { bytes, ends })
}
