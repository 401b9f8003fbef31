//! Text indexes: built in the background, or by the first search that needs one.

use crate::engine::{CollectionState, Engine};
use crate::error::{Error, Result};
use crate::index::derived::TEXT;
use crate::segment::RowSource;
use crate::segment::reader::Segment;
use crate::segment::writer::Selection;
use crate::text::file;
use crate::text::index::{TextIndex, build};
use crate::text::merge::merge;
use crate::version::Version;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// So many texts without an index are indexed on the way when they are merged with indexed ones.
const MOST_CARRIED_UNINDEXED: u32 = 8_192;

impl Engine {
    /// The text index of some rows, opened from its file or built if need be; `None` where no row has a text.
    pub(crate) fn text_index(
        &self,
        collection: &CollectionState,
        rows: &dyn RowSource,
        segment: Option<&Segment>,
    ) -> Result<Option<Arc<TextIndex>>> {
        let Some(slot) = rows.text_slot() else { return Ok(None) };
        if let Some(index) = slot.get() {
            return Ok(Some(index));
        }
        let _one_at_a_time = slot.building.lock();
        if let Some(index) = slot.get() {
            return Ok(Some(index));
        }
        if let Some(segment) = segment.filter(|_| !slot.distrusted.load(Ordering::Acquire)) {
            match file::read(&*self.storage, &self.owner(segment)) {
                Ok(Some(index)) => return Ok(Some(slot.set(index))),
                Ok(None) => {}
                Err(e) => {
                    tracing::warn!(error = %e, "a text index is not usable and is made again");
                    self.note_damage(&e);
                }
            }
        }
        let start = std::time::Instant::now();
        let threads = if segment.is_some() { self.indexing_threads() } else { 1 };
        let payload = build(collection.schema.analyzer, rows, threads, &self.cancel)?;
        let index = file::open_built(payload, rows.rows(), segment.map(Segment::id_number))?;
        if let Some(segment) = segment {
            let micros = start.elapsed().as_micros() as u64;
            tracing::info!(segment = segment.id_number(), rows = rows.rows(), micros, "indexed the texts");
            self.request_indexing();
        }
        Ok(Some(slot.set(index)))
    }

    /// Gives a new segment the text index that those of its inputs make up, if there are any: else the next search
    /// would wait until all its texts are read again.
    pub(crate) fn carry_texts(&self, collection: &CollectionState, inputs: &Selection<'_>, output: &Segment) {
        let Some(slot) = output.text_slot() else { return };
        let has_index = |rows: &dyn RowSource| rows.text_slot().is_some_and(|slot| slot.get().is_some());
        if !inputs.parts.iter().any(|(rows, _)| has_index(*rows)) {
            return;
        }
        let carried = || -> Result<Option<TextIndex>> {
            let mut indexes = Vec::with_capacity(inputs.parts.len());
            for (rows, runs) in &inputs.parts {
                let known = rows.text_slot().and_then(|slot| slot.get());
                let index = match known {
                    Some(index) => index,
                    // The indexer makes one of all texts as well as of these.
                    None if rows.text_slot().is_some() && rows.rows() > MOST_CARRIED_UNINDEXED => return Ok(None),
                    None => {
                        let payload = build(collection.schema.analyzer, *rows, 1, &self.cancel)?;
                        Arc::new(file::open_built(payload, rows.rows(), None)?)
                    }
                };
                indexes.push((index, runs.clone()));
            }
            file::open_built(merge(&indexes)?, output.rows(), Some(output.id_number())).map(Some)
        };
        match carried() {
            Ok(Some(index)) => {
                slot.set(index);
                self.request_indexing();
            }
            Ok(None) => {}
            // It is made from the texts, which are the truth.
            Err(e) => tracing::warn!(error = %e, "text indexes could not be merged"),
        }
    }

    /// Opens or builds one text index; true if there was one to do.
    pub(crate) fn index_text_once(&self) -> Result<bool> {
        for collection in self.all_collections() {
            let version = collection.version.load_full();
            for view in &version.segments {
                let Some(slot) = view.segment.text_slot() else { continue };
                if slot.get().is_some() || slot.unindexable.load(Ordering::Relaxed) {
                    continue;
                }
                match self.text_index(&collection, &*view.segment, Some(&view.segment)) {
                    Err(e @ Error::Cancelled(_)) => return Err(e),
                    Err(e) => {
                        // Damaged primary data: searches report it.
                        slot.unindexable.store(true, Ordering::Relaxed);
                        self.note_damage(&e);
                    }
                    Ok(_) => {}
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the files of the text indexes that have none yet, and reads from the files from then on.
    pub(crate) fn write_texts(&self) -> Result<()> {
        for collection in self.all_collections() {
            let version = collection.version.load_full();
            for view in &version.segments {
                let index = view.segment.text_slot().and_then(|slot| slot.get());
                if let Some(index) = index.filter(|index| !index.written.swap(true, Ordering::AcqRel)) {
                    self.write_text(&collection, &view.segment, &index)?;
                }
            }
        }
        Ok(())
    }

    fn write_text(&self, collection: &CollectionState, segment: &Segment, index: &TextIndex) -> Result<()> {
        let owner = self.owner(segment);
        let write = || file::write(&*self.storage, &owner, index);
        self.write_derived((collection, segment), &TEXT.path(segment.id_number(), None), write, || {
            // What is in the file need not be in memory, too.
            if let (Some(slot), Ok(Some(mapped))) = (segment.text_slot(), file::read(&*self.storage, &owner)) {
                slot.distrusted.store(false, Ordering::Release);
                slot.set(mapped);
            }
        })
    }

    /// Memory of the text indexes that are in no file yet.
    pub(crate) fn text_memory(&self) -> u64 {
        self.collections().values().map(|c| text_memory(c)).sum()
    }
}

/// Rows in segments whose texts are indexed.
pub(crate) fn text_indexed_rows(version: &Version) -> u64 {
    let indexed = version.segments.iter().filter(|v| v.segment.text_slot().is_some_and(|slot| slot.get().is_some()));
    indexed.map(|v| u64::from(v.segment.rows())).sum()
}

/// Memory of one collection's text indexes that are in no file.
pub(crate) fn text_memory(collection: &CollectionState) -> u64 {
    let version = collection.version.load();
    let of = |rows: &dyn RowSource| rows.text_slot().and_then(|slot| slot.get()).filter(|i| i.in_memory);
    version.parts().filter_map(|part| of(part.rows)).map(|index| index.payload().len() as u64).sum()
}
