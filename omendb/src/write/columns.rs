//! The metadata of segments by column: built in the background, or by the first filter that needs it.

use crate::engine::{CollectionState, Engine};
use crate::error::{Error, Result};
use crate::filter::Columns;
use crate::filter::cache::{FilterCache, Held};
use crate::index::derived::{COLUMNS, Owner};
use crate::index::file::Stage;
use crate::segment::RowSource;
use crate::segment::reader::Segment;
use crate::storage::Storage;
use crate::version::Version;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Version of the layout of a payload.
const VERSION: u16 = 1;

/// Opens the owner's columns; `None` if there are none, or of another version.
pub(crate) fn read(storage: &dyn Storage, owner: &Owner<'_>) -> Result<Option<Columns>> {
    match COLUMNS.read(storage, owner)? {
        Some(file) if file.stamp == VERSION => {
            let path = COLUMNS.path(owner.segment, None);
            Columns::parse(file.into_payload(), owner.rows, &path, crate::index::derived::HEADER_BYTES as u64).map(Some)
        }
        _ => Ok(None),
    }
}

/// Where a segment keeps its columns; none where no row has metadata.
fn cache(segment: &Segment) -> Option<&FilterCache> {
    segment.filters().filter(|_| segment.metadata_bytes() > 0)
}

impl Engine {
    /// Takes the columns that are in files into use, for a filter.
    pub(crate) fn open_columns(&self, version: &Version) {
        for view in &version.segments {
            if let Some(cache) = cache(&view.segment) {
                self.open_segment_columns(&view.segment, cache);
            }
        }
    }

    fn open_segment_columns(&self, segment: &Segment, cache: &FilterCache) {
        if cache.looked_for.load(Ordering::Acquire) || cache.columns().is_some() {
            return;
        }
        match read(&*self.storage, &self.owner(segment)) {
            Ok(Some(columns)) => cache.set_mapped(columns),
            Ok(None) => {}
            Err(e) => {
                tracing::warn!(error = %e, "the columns of a segment are not usable and are made again");
                self.note_damage(&e);
            }
        }
        cache.looked_for.store(true, Ordering::Release);
    }

    /// Opens or builds the columns of one segment; true if there were any to do.
    pub(crate) fn index_columns_once(&self) -> Result<bool> {
        for collection in self.all_collections() {
            let version = collection.version.load_full();
            for view in &version.segments {
                let large = view.segment.rows() >= self.options.least_indexed_rows(Stage::First);
                let Some(cache) = cache(&view.segment).filter(|_| large) else { continue };
                self.open_segment_columns(&view.segment, cache);
                if cache.columns().is_none() && !cache.unindexable.load(Ordering::Relaxed) {
                    self.build_columns(&view.segment, cache)?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn build_columns(&self, segment: &Segment, cache: &FilterCache) -> Result<()> {
        let start = std::time::Instant::now();
        // About what is stored, and as much again while it is put together.
        if self.memory_used() + 2 * segment.metadata_bytes() > self.memory_budget / 4 * 3 {
            cache.unindexable.store(true, Ordering::Relaxed);
            return Ok(());
        }
        match cache.build(segment, &self.cancel) {
            Ok(_) => {
                let micros = start.elapsed().as_micros() as u64;
                tracing::info!(segment = segment.id_number(), rows = segment.rows(), micros, "indexed the metadata");
            }
            Err(e @ Error::Cancelled(_)) => return Err(e),
            Err(e) => {
                // Damaged primary data: filters report it.
                cache.unindexable.store(true, Ordering::Relaxed);
                self.note_damage(&e);
            }
        }
        Ok(())
    }

    /// Writes the files of the columns that have none yet, and reads from the files from then on.
    pub(crate) fn write_columns(&self) -> Result<()> {
        for collection in self.all_collections() {
            let version = collection.version.load_full();
            for view in &version.segments {
                let large = view.segment.rows() >= self.options.least_indexed_rows(Stage::First);
                let Some(cache) = cache(&view.segment).filter(|_| large) else { continue };
                if let Some(held) = cache.columns().filter(|held| !held.written.swap(true, Ordering::AcqRel)) {
                    self.write_columns_of(&collection, &view.segment, cache, &held)?;
                }
            }
        }
        Ok(())
    }

    fn write_columns_of(
        &self,
        collection: &CollectionState,
        segment: &Segment,
        cache: &FilterCache,
        held: &Held,
    ) -> Result<()> {
        let owner = self.owner(segment);
        let write = || COLUMNS.write(&*self.storage, &owner, VERSION, held.columns.as_bytes());
        self.write_derived((collection, segment), &COLUMNS.path(segment.id_number(), None), write, || {
            // What is in the file need not be in memory, too.
            if let Ok(Some(mapped)) = read(&*self.storage, &owner) {
                cache.set_mapped(mapped);
            }
        })
    }

    /// Memory of the columns that are in no file yet.
    pub(crate) fn columns_memory(&self) -> u64 {
        let of = |collection: &Arc<CollectionState>| -> u64 {
            collection.version.load().segments.iter().map(|view| view.segment.columns_memory()).sum()
        };
        self.collections().values().map(of).sum()
    }
}
