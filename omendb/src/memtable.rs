//! Recent records, in memory: immutable blocks that double in size, so that a reader holds a consistent view by
//! holding a few `Arc`s, a scan runs over contiguous vectors, and a row is copied O(log n) times.

use crate::checksum::id_hash;
use crate::error::Result;
use crate::fields::{FieldColumns, append_blobs};
use crate::filter::cache::FilterCache;
use crate::ids::IdColumn;
use crate::record::{Batch, BlobColumn};
use crate::segment::RowSource;
use crate::text::index::TextSlot;
use roaring::RoaringBitmap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Blocks of this many rows or bytes are not merged any further.
const MERGE_ROWS: usize = 8_192;
const MERGE_BYTES: usize = 1 << 20;

/// A run of rows; never changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Block {
    /// The memtable's row number of the first row.
    pub(crate) start: u32,
    pub(crate) hashes: Vec<u64>,
    pub(crate) ids: IdColumn,
    pub(crate) vectors: Vec<u8>,
    /// Bytes a vector.
    pub(crate) stride: usize,
    pub(crate) metadata: Option<BlobColumn>,
    pub(crate) text: Option<BlobColumn>,
    pub(crate) fields: FieldColumns,
    pub(crate) derived: OnceLock<Box<Derived>>,
}

/// What searches derive from a block. Made when the first one asks: most blocks are merged away before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Derived {
    text: TextSlot,
    filters: FilterCache,
}

impl Block {
    /// Takes the columns of a validated batch, whose ids hash to `hashes`.
    pub(crate) fn from_batch(batch: &Batch<'_>, stride: usize, hashes: Vec<u64>) -> Block {
        Block {
            start: 0,
            hashes,
            ids: batch.ids.clone(),
            vectors: batch.vectors.as_le_bytes().into_owned(),
            stride,
            metadata: batch.metadata.clone(),
            text: batch.text.clone(),
            fields: batch.fields.clone(),
            derived: OnceLock::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
    }

    fn end(&self) -> u32 {
        self.start + self.len() as u32
    }

    fn append(&mut self, other: &Block) {
        let base = self.ids.bytes.len() as u32;
        self.ids.bytes.extend_from_slice(&other.ids.bytes);
        self.ids.ends.extend(other.ids.ends.iter().map(|end| base + end));
        let rows = self.hashes.len();
        append_blobs(&mut self.metadata, rows, other.metadata.as_ref(), other.len());
        append_blobs(&mut self.text, rows, other.text.as_ref(), other.len());
        self.fields.append(rows, &other.fields, other.len());
        self.hashes.extend_from_slice(&other.hashes);
        self.vectors.extend_from_slice(&other.vectors);
    }

    /// One block of the rows of several, in their order.
    fn merged(blocks: &[Arc<Block>]) -> Block {
        let sum = |of: fn(&Block) -> usize| blocks.iter().map(|b| of(b)).sum();
        let rows = sum(Block::len);
        let mut out = Block {
            start: blocks[0].start,
            hashes: Vec::with_capacity(rows),
            ids: IdColumn { bytes: Vec::with_capacity(sum(|b| b.ids.bytes.len())), ends: Vec::with_capacity(rows) },
            vectors: Vec::with_capacity(sum(|b| b.vectors.len())),
            stride: blocks[0].stride,
            ..Block::default()
        };
        blocks.iter().for_each(|block| out.append(block));
        out
    }

    fn derived(&self) -> &Derived {
        self.derived.get_or_init(Box::default)
    }

    pub(crate) fn memory(&self) -> u64 {
        let blob = |c: &Option<BlobColumn>| c.as_ref().map_or(0, |c| c.bytes.capacity() + c.ends.capacity() * 8);
        (self.hashes.capacity() * 8
            + self.ids.bytes.capacity()
            + self.ids.ends.capacity() * 4
            + self.vectors.capacity()
            + blob(&self.metadata)
            + blob(&self.text)
            + self.fields.byte_len()) as u64
    }
}

/// The keyed hashes of a column of ids.
pub(crate) fn hash_ids(ids: &IdColumn, seed: u64) -> Vec<u64> {
    (0..ids.len()).map(|row| id_hash(ids.encoded(row), seed)).collect()
}

impl RowSource for Block {
    fn rows(&self) -> u32 {
        self.len() as u32
    }

    fn hash(&self, row: u32) -> Result<u64> {
        Ok(self.hashes[row as usize])
    }

    fn id(&self, row: u32) -> Result<&[u8]> {
        Ok(self.ids.encoded(row as usize))
    }

    fn vectors(&self, first: u32, count: u32) -> Result<&[u8]> {
        let start = first as usize * self.stride;
        Ok(&self.vectors[start..start + count as usize * self.stride])
    }

    fn metadata(&self, row: u32) -> Result<&[u8]> {
        Ok(self.metadata.as_ref().map_or(&[], |c| c.stored(row as usize)))
    }

    fn text(&self, row: u32) -> Result<&[u8]> {
        Ok(self.text.as_ref().map_or(&[], |c| c.stored(row as usize)))
    }

    fn field(&self, field: usize, row: u32) -> Result<&[u8]> {
        Ok(self.fields.stored(field, row))
    }

    fn field_data(&self, field: usize, range: Range<usize>) -> Result<&[u8]> {
        Ok(self.fields.data(field, range))
    }

    fn text_slot(&self) -> Option<&TextSlot> {
        self.text.is_some().then(|| &self.derived().text)
    }

    fn filters(&self) -> Option<&FilterCache> {
        Some(&self.derived().filters)
    }
}

/// Neighbouring blocks that are to become one.
struct Run {
    blocks: Range<usize>,
    rows: usize,
    bytes: usize,
}

impl Run {
    /// Only with what is at least as long: so a row is copied O(log n) times.
    fn merges_with(&self, next: &Run) -> bool {
        self.rows <= next.rows && self.rows + next.rows <= MERGE_ROWS && self.bytes + next.bytes <= MERGE_BYTES
    }
}

/// One generation of recent records, as of one version.
#[derive(Debug, Clone)]
pub(crate) struct Memtable {
    /// Its number in a [`crate::idmap::Location`].
    pub(crate) source: u32,
    pub(crate) blocks: Vec<Arc<Block>>,
    /// Row numbers that were replaced or deleted.
    pub(crate) dead: Arc<RoaringBitmap>,
}

impl Memtable {
    pub(crate) fn new(source: u32) -> Self {
        Memtable { source, blocks: Vec::new(), dead: Arc::default() }
    }

    /// Rows, dead ones included.
    pub(crate) fn rows(&self) -> u32 {
        self.blocks.last().map_or(0, |b| b.end())
    }

    pub(crate) fn memory(&self) -> u64 {
        self.blocks.iter().map(|b| b.memory()).sum()
    }

    /// Appends a block, whose `start` must be [`Memtable::rows`].
    pub(crate) fn push(&mut self, block: Block) {
        self.blocks.push(Arc::new(block));
    }

    /// Merges blocks of like size. What is appended between two calls is copied once, however many blocks it is.
    pub(crate) fn merge(&mut self) {
        let mut runs: Vec<Run> = Vec::with_capacity(self.blocks.len());
        for (at, block) in self.blocks.iter().enumerate() {
            let mut run = Run { blocks: at..at + 1, rows: block.len(), bytes: block.vectors.len() };
            while let Some(last) = runs.pop_if(|last| last.merges_with(&run)) {
                run = Run {
                    blocks: last.blocks.start..run.blocks.end,
                    rows: last.rows + run.rows,
                    bytes: last.bytes + run.bytes,
                };
            }
            runs.push(run);
        }
        if runs.len() < self.blocks.len() {
            let whole = |run: Run| match &self.blocks[run.blocks] {
                [one] => Arc::clone(one),
                several => Arc::new(Block::merged(several)),
            };
            self.blocks = runs.into_iter().map(whole).collect();
        }
    }

    /// The block that holds a row, and the row's place in it.
    pub(crate) fn locate(&self, row: u32) -> Option<(&Arc<Block>, u32)> {
        let i = self.blocks.partition_point(|b| b.end() <= row);
        let block = self.blocks.get(i)?;
        Some((block, row.checked_sub(block.start)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::IdRef;

    fn block(start: u32, rows: u32) -> Block {
        let ids: IdColumn = (u64::from(start)..u64::from(start + rows)).collect();
        let vectors = (start..start + rows).flat_map(u32::to_le_bytes).collect();
        Block { start, hashes: hash_ids(&ids, 7), ids, vectors, stride: 4, ..Block::default() }
    }

    #[test]
    fn blocks_end_alike_merged_one_by_one_or_many_at_once() {
        let (mut single, mut grouped) = (Memtable::new(0), Memtable::new(0));
        let rows = (0..3 * MERGE_ROWS as u32).map(|i| if i % 100 == 0 { 40 } else { 1 });
        for (i, rows) in rows.enumerate() {
            single.push(block(single.rows(), rows));
            single.merge();
            grouped.push(block(grouped.rows(), rows));
            if i % 17 == 0 {
                grouped.merge();
            }
        }
        grouped.merge();
        let lengths = |m: &Memtable| m.blocks.iter().map(|b| b.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&single), lengths(&grouped));
        assert!(single.blocks.len() < 20 && lengths(&single).iter().all(|len| *len <= MERGE_ROWS));
        for row in 0..single.rows() {
            for memtable in [&single, &grouped] {
                let (block, at) = memtable.locate(row).unwrap();
                assert_eq!(crate::ids::decode(block.id(at).unwrap()), Some(IdRef::U64(u64::from(row))));
                assert_eq!(block.vectors(at, 1).unwrap(), row.to_le_bytes());
            }
        }
    }
}
