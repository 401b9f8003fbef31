//! Indexes of sparse vectors: built in the background; until then the vectors are scanned.

use crate::engine::{CollectionState, Engine};
use crate::error::{Error, Result};
use crate::index::derived::{Owner, SPARSE};
use crate::segment::RowSource;
use crate::segment::reader::Segment;
use crate::sparse::index::{SparseIndex, SparseSlot, build};
use crate::storage::{Bytes, Storage};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Version of the layout of a payload.
const VERSION: u16 = 1;

/// Opens the index of the owner's field; `None` if there is none, or one of another version.
pub(crate) fn read(storage: &dyn Storage, owner: &Owner<'_>) -> Result<Option<SparseIndex>> {
    match SPARSE.read(storage, owner)? {
        Some(file) if file.stamp == VERSION => {
            let payload = file.into_payload();
            let path = SPARSE.path(owner.segment, owner.field);
            let index = SparseIndex::parse(payload, owner.rows, false);
            index.map(Some).ok_or_else(|| Error::corrupt(path, 0, "the sparse index does not parse"))
        }
        _ => Ok(None),
    }
}

impl Engine {
    /// The index of a field, opened from its file if there is one; where there is none the rows are scanned.
    pub(crate) fn sparse_index(&self, segment: &Segment, field: usize) -> Option<Arc<SparseIndex>> {
        let slot = segment.sparse_slot(field)?;
        if slot.get().is_none() && !slot.looked_for.swap(true, Ordering::AcqRel) {
            match read(&*self.storage, &Owner { field: Some(field), ..self.owner(segment) }) {
                Ok(Some(index)) => slot.set(index),
                Ok(None) => {}
                Err(e) => {
                    tracing::warn!(error = %e, "a sparse index is not usable and is made again");
                    self.note_damage(&e);
                }
            }
        }
        slot.get()
    }

    /// Opens or builds one index; true if there was one to do.
    pub(crate) fn index_sparse_once(&self) -> Result<bool> {
        for collection in self.all_collections() {
            let version = collection.version.load_full();
            for view in &version.segments {
                for (field, _) in collection.schema.sparse_fields() {
                    let slot = view.segment.sparse_slot(field);
                    let Some(slot) = slot.filter(|slot| !slot.unindexable.load(Ordering::Relaxed)) else { continue };
                    if slot.get().is_none() && self.sparse_index(&view.segment, field).is_none() {
                        self.build_sparse(&view.segment, field, slot)?;
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    fn build_sparse(&self, segment: &Segment, field: usize, slot: &SparseSlot) -> Result<()> {
        let start = std::time::Instant::now();
        // Half of what is stored, and as much again while it is put together.
        if self.memory_used() + segment.field_bytes(field) > self.memory_budget / 4 * 3 {
            slot.unindexable.store(true, Ordering::Relaxed);
            return Ok(());
        }
        match build(segment, field, self.indexing_threads(), &self.cancel) {
            Ok(payload) => {
                if let Some(index) = SparseIndex::parse(Bytes::new(payload), segment.rows(), true) {
                    slot.set(index);
                }
                let micros = start.elapsed().as_micros() as u64;
                tracing::info!(segment = segment.id_number(), rows = segment.rows(), micros, "indexed sparse vectors");
            }
            Err(e @ Error::Cancelled(_)) => return Err(e),
            Err(e) => {
                // Damaged primary data: searches report it.
                slot.unindexable.store(true, Ordering::Relaxed);
                self.note_damage(&e);
            }
        }
        Ok(())
    }

    /// Writes the files of the indexes that have none yet, and reads from the files from then on.
    pub(crate) fn write_sparse(&self) -> Result<()> {
        for collection in self.all_collections() {
            let version = collection.version.load_full();
            for view in &version.segments {
                for (field, _) in collection.schema.sparse_fields() {
                    let index = view.segment.sparse_slot(field).and_then(SparseSlot::get);
                    if let Some(index) = index.filter(|index| !index.written.swap(true, Ordering::AcqRel)) {
                        self.write_sparse_index(&collection, &view.segment, field, &index)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn write_sparse_index(
        &self,
        collection: &CollectionState,
        segment: &Segment,
        field: usize,
        index: &SparseIndex,
    ) -> Result<()> {
        let owner = Owner { field: Some(field), ..self.owner(segment) };
        let path = SPARSE.path(segment.id_number(), Some(field));
        let write = || SPARSE.write(&*self.storage, &owner, VERSION, index.payload());
        self.write_derived((collection, segment), &path, write, || {
            // What is in the file need not be in memory, too.
            if let (Some(slot), Ok(Some(mapped))) = (segment.sparse_slot(field), read(&*self.storage, &owner)) {
                slot.set(mapped);
            }
        })
    }

    /// Memory of the indexes that are in no file yet.
    pub(crate) fn sparse_memory(&self) -> u64 {
        let of_segment = |collection: &CollectionState, segment: &Segment| -> u64 {
            let slots = collection.schema.sparse_fields().filter_map(|(field, _)| segment.sparse_slot(field));
            let in_memory = slots.filter_map(SparseSlot::get).filter(|index| index.in_memory);
            in_memory.map(|index| index.payload().len() as u64).sum()
        };
        let of = |collection: &Arc<CollectionState>| -> u64 {
            collection.version.load().segments.iter().map(|view| of_segment(collection, &view.segment)).sum()
        };
        self.collections().values().map(of).sum()
    }
}
