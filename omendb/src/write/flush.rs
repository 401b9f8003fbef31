//! Flush: memtables become segments, and the log that backed them goes.

use crate::engine::{CollectionState, Engine, State};
use crate::error::{Error, Result};
use crate::idmap::Location;
use crate::manifest::{CollectionEntry, SegmentEntry};
use crate::segment::format::{Header, SegmentSchema};
use crate::segment::reader::Segment;
use crate::segment::writer::{NewSegment, Selection, write};
use crate::version::{Part, Version};
use crate::wal::LogWriter;
use crate::write::commit::new_memtable;
use crate::write::install::{Edit, Output};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Engine {
    /// Moves everything written so far into segments. When it returns, it is durable there.
    pub(crate) fn flush(&self) -> Result<()> {
        let _turn = self.maintenance.lock();
        self.flush_in_turn().map(|_| ())
    }

    /// The same for a caller that holds the maintenance lock; false if there was nothing to flush.
    pub(crate) fn flush_in_turn(&self) -> Result<bool> {
        self.not_poisoned()?;
        let start = std::time::Instant::now();
        let Some((frozen, log_start, seq)) = self.freeze()? else { return Ok(false) };
        let mut edits = Vec::new();
        let mut rows = 0;
        let written = (|| {
            for (collection, version) in &frozen {
                let inputs: Vec<u32> = version.memtables.iter().map(|m| m.source).collect();
                let parts: Vec<Part<'_>> = version.parts().skip(version.segments.len()).collect();
                let output = self.write_output(collection, &parts, seq)?;
                rows += output.as_ref().map_or(0, |o| o.origins.len());
                edits.push(Edit { collection: Arc::clone(collection), inputs, output });
            }
            Ok(())
        })();
        written
            .and_then(|()| self.install(&mut self.state.lock(), &edits, Some((log_start, seq))))
            .inspect_err(|_| self.discard(&edits))?;
        self.metrics.flush.record(start.elapsed());
        tracing::info!(rows, micros = start.elapsed().as_micros() as u64, "flushed");
        self.flushes.fetch_add(1, Ordering::Release);
        self.request_compaction(false);
        Ok(true)
    }

    /// Ends the current log and memtables; what comes after goes into new ones. `None` if there is nothing to flush.
    #[allow(clippy::type_complexity)]
    fn freeze(&self) -> Result<Option<(Vec<(Arc<CollectionState>, Version)>, u64, u64)>> {
        let mut state = self.state.lock();
        let state: &mut State = &mut state;
        let collections = self.all_collections();
        let unused = |log: &LogWriter| log.len() == crate::wal::FILE_HEADER_BYTES as u64;
        let nothing = state.log.as_ref().is_none_or(unused) && state.old_logs.is_empty();
        if nothing && collections.iter().all(|c| c.version.load().memtable_bytes() == 0) {
            return Ok(None);
        }
        self.sync_log_in(state)?;
        let mut log_start = state.next_generation;
        if let Some(log) = state.log.take() {
            // The next log first: once the segments are written a full device has no room for it, and deletes need one.
            let fresh = match self.new_log(state, true) {
                Ok(fresh) => fresh,
                Err(e) => {
                    state.log = Some(log);
                    return Err(e);
                }
            };
            let generation = log.generation();
            let bytes = log.len() - crate::wal::FILE_HEADER_BYTES as u64;
            let next = state.seq + 1;
            log.seal(next).map_err(|e| self.poison(&format!("the log could not be sealed: {e}")))?;
            state.old_logs.push((generation, bytes));
            log_start = fresh.generation();
            state.log = Some(fresh);
        }
        let mut frozen = Vec::new();
        for collection in collections {
            let mut version = Version::clone(&collection.latest());
            if version.memtables.iter().any(|m| m.rows() > 0) {
                let _published_under = collection.ids_mut()?;
                frozen.push((Arc::clone(&collection), version.clone()));
                version.memtables.push(new_memtable(&mut state.next_source));
                collection.publish(version);
            }
        }
        Ok(Some((frozen, log_start, state.seq)))
    }

    /// Writes the live rows of some parts as one segment; `None` if there are none.
    pub(crate) fn write_output(
        &self,
        collection: &CollectionState,
        parts: &[Part<'_>],
        seq: u64,
    ) -> Result<Option<Output>> {
        let runs = |p: &Part<'_>| match crate::mutant::active("forget-deletes-in-compaction") {
            true => std::iter::once(0..p.rows.rows()).collect(),
            false => p.live_runs(),
        };
        let selection = Selection { parts: parts.iter().map(|p| (p.rows, runs(p))).collect() };
        let rows = selection.rows();
        if rows == 0 {
            return Ok(None);
        }
        let mut origins: Vec<Location> = Vec::with_capacity(rows as usize);
        for (part, (_, runs)) in parts.iter().zip(&selection.parts) {
            origins.extend(runs.iter().cloned().flatten().map(|row| part.location(row)));
        }
        let entry = self.write_segment(collection, &selection, seq)?;
        let described = describe(collection);
        let segment = Segment::open(&*self.storage, &entry, &described, &self.uuid).inspect_err(|_| {
            let _ = self.storage.remove(&entry.data_path());
        })?;
        self.carry_texts(collection, &selection, &segment);
        Ok(Some(Output { segment: Arc::new(segment), origins }))
    }

    /// Writes and syncs one segment file, under a number of its own.
    pub(crate) fn write_segment(
        &self,
        collection: &CollectionState,
        selection: &Selection<'_>,
        seq: u64,
    ) -> Result<SegmentEntry> {
        let segment = self.next_segment.fetch_add(1, Ordering::Relaxed);
        if segment >= crate::idmap::MEMTABLE {
            return Err(Error::LimitExceeded(
                "the database has used up its segment numbers: salvage it into a new one".into(),
            ));
        }
        let header = Header { uuid: self.uuid, segment, collection: collection.id, rows: selection.rows(), seq };
        let schema = SegmentSchema {
            collection: collection.name.clone(),
            schema: collection.schema.clone(),
            hash_seed: collection.hash_seed,
        };
        write(&*self.storage, &NewSegment { header, schema: &schema }, selection)
    }

    /// Removes the files of outputs that did not become part of the database.
    pub(crate) fn discard(&self, edits: &[Edit]) {
        if self.not_poisoned().is_err() {
            // The manifest swap may have happened: what it names must stay.
            return;
        }
        for output in edits.iter().filter_map(|e| e.output.as_ref()) {
            let _ = self.storage.remove(&output.segment.entry.data_path());
        }
    }
}

/// A collection as a manifest describes it, without its segments.
pub(crate) fn describe(collection: &CollectionState) -> CollectionEntry {
    CollectionEntry {
        id: collection.id,
        name: collection.name.clone(),
        schema: collection.schema.clone(),
        hash_seed: collection.hash_seed,
        segments: Vec::new(),
    }
}
