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
use std::sync::Arc;

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
    pub(crate) text_slot: TextSlot,
    pub(crate) filters: FilterCache,
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
            text_slot: TextSlot::default(),
            filters: FilterCache::default(),
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

    fn merged(a: &Block, b: &Block) -> Block {
        let mut out = Block {
            start: a.start,
            hashes: Vec::with_capacity(a.len() + b.len()),
            ids: IdColumn {
                bytes: Vec::with_capacity(a.ids.bytes.len() + b.ids.bytes.len()),
                ends: Vec::with_capacity(a.len() + b.len()),
            },
            vectors: Vec::with_capacity(a.vectors.len() + b.vectors.len()),
            stride: a.stride,
            metadata: None,
            text: None,
            fields: FieldColumns::default(),
            text_slot: TextSlot::default(),
            filters: FilterCache::default(),
        };
        out.append(a);
        out.append(b);
        out
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
        self.text.is_some().then_some(&self.text_slot)
    }

    fn filters(&self) -> Option<&FilterCache> {
        Some(&self.filters)
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

    /// Appends a block, whose `start` must be [`Memtable::rows`], and merges blocks of like size.
    pub(crate) fn push(&mut self, block: Block) {
        let mut block = Arc::new(block);
        while let Some(last) = self.blocks.last() {
            let small =
                last.len() + block.len() <= MERGE_ROWS && last.vectors.len() + block.vectors.len() <= MERGE_BYTES;
            if !small || last.len() > block.len() {
                break;
            }
            block = Arc::new(Block::merged(last, &block));
            self.blocks.pop();
        }
        self.blocks.push(block);
    }

    /// The block that holds a row, and the row's place in it.
    pub(crate) fn locate(&self, row: u32) -> Option<(&Arc<Block>, u32)> {
        let i = self.blocks.partition_point(|b| b.end() <= row);
        let block = self.blocks.get(i)?;
        Some((block, row.checked_sub(block.start)?))
    }
}
