//! The bulk path: a large batch is written once, straight into a segment, and one manifest makes it the database's.

use crate::engine::{CollectionState, Engine, State};
use crate::error::{Error, Result};
use crate::idmap::{Location, distinct_by_shard};
use crate::ids::IdColumn;
use crate::manifest::SegmentEntry;
use crate::record::Batch;
use crate::segment::RowSource;
use crate::segment::reader::Segment;
use crate::segment::writer::Selection;
use crate::version::{SegmentView, Version};
use crate::write::commit::{Op, find};
use crate::write::stage::already_exists;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A bulk write whose segment file is written and synced, but not yet part of the database.
#[derive(Debug)]
pub(crate) struct Bulk {
    entry: SegmentEntry,
    ids: IdColumn,
    hashes: Vec<u64>,
    /// Refuse known ids.
    add: bool,
    /// Rows in the order of the id index's shards.
    order: Vec<u32>,
    replaced: Replaced,
}

/// The rows of a bulk write whose ids are known, in order, and where their older records are.
#[derive(Debug)]
struct Replaced {
    rows: Vec<(u32, Location)>,
    /// What this was found in.
    version: Arc<Version>,
}

impl Engine {
    /// Writes a validated batch; returns the number of its records.
    pub(crate) fn write_bulk(
        &self,
        collection: &Arc<CollectionState>,
        batch: &Batch<'_>,
        hashes: Vec<u64>,
        add: bool,
    ) -> Result<usize> {
        self.admit(0, batch.len() as u64)?;
        self.note_bulk();
        let vectors = batch.vectors.as_le_bytes();
        let source = BatchRows { batch, vectors: &vectors, hashes: &hashes, stride: collection.schema.stride() };
        let selection = Selection { parts: vec![(&source, std::iter::once(0..source.rows()).collect())] };
        let seq = collection.latest().seq;
        let check = || {
            let order = distinct_by_shard(&batch.ids, &hashes)?;
            let replaced = resolve(collection, &batch.ids, &hashes, &order, add)?;
            Ok((order, replaced))
        };
        // The ids are looked up while the file is written.
        let (checked, written) = if self.storage.parallel() {
            std::thread::scope(|scope| {
                let checked = scope.spawn(check);
                let written = self.write_segment(collection, &selection, seq);
                (checked.join().unwrap_or_else(|_| Err(Error::Unusable("a thread panicked".into()))), written)
            })
        } else {
            (Ok(check()?), self.write_segment(collection, &selection, seq))
        };
        let (order, replaced, entry) = match (checked, written) {
            (Ok((order, replaced)), Ok(entry)) => (order, replaced, entry),
            (Err(e), written) => {
                if let Ok(entry) = written {
                    self.discard_unnamed(collection, &entry);
                }
                return Err(e);
            }
            (_, Err(e)) => return Err(e),
        };
        let bulk = Bulk { entry: entry.clone(), ids: batch.ids.clone(), hashes, add, order, replaced };
        self.submit(collection, Op::Bulk(Box::new(bulk))).inspect_err(|_| self.discard_unnamed(collection, &entry))
    }

    /// Removes the file of a segment that did not become part of the database.
    fn discard_unnamed(&self, collection: &CollectionState, entry: &SegmentEntry) {
        let state = self.state.lock();
        let described = state.manifest.collections.iter().find(|c| c.id == collection.id);
        let named = described.is_some_and(|c| c.segments.iter().any(|s| s.id == entry.id));
        // With the handle poisoned, a manifest that names it may be the durable one.
        if !named && self.not_poisoned().is_ok() {
            // A failure to remove it is made good at the next open.
            let _ = self.storage.remove(&entry.data_path());
        }
    }

    /// Commits a bulk write: older records of its ids die, one manifest makes it all durable.
    pub(crate) fn commit_bulk(
        &self,
        state: &mut State,
        collection: &Arc<CollectionState>,
        bulk: Bulk,
    ) -> Result<usize> {
        // What is acknowledged before a bulk write must not be lost when the bulk write is kept.
        self.sync_log_in(state)?;
        let mut entry = bulk.entry;
        entry.seq = state.seq;
        let mut next = self.next_manifest(state);
        let Some(described) = next.collections.iter().find(|c| c.id == collection.id) else {
            return Err(crate::write::commit::deleted(collection));
        };
        let segment = Arc::new(Segment::open(&*self.storage, &entry, described, &self.uuid)?);
        // Readers go on: nobody else changes ids or version while this call has the state.
        let replaced = match Arc::ptr_eq(&bulk.replaced.version, &collection.latest()) {
            true => bulk.replaced,
            false => resolve(collection, &bulk.ids, &bulk.hashes, &bulk.order, bulk.add)?,
        };
        let mut version = Version::clone(&replaced.version);
        for (_, old) in &replaced.rows {
            version.kill(*old);
        }
        self.write_tombstones(&mut next, collection, &version)?;
        let source = entry.id;
        if let Some(described) = next.collections.iter_mut().find(|c| c.id == collection.id) {
            described.segments.push(entry);
        }
        self.commit_manifest(state, next)?;
        let mut guard = collection.ids_mut()?;
        if let Some(ids) = guard.as_mut() {
            ids.assign(&bulk.hashes, &bulk.order, &replaced.rows, source);
            collection.id_memory.store(ids.memory(), Ordering::Relaxed);
        }
        version.seq = version.seq.max(state.seq);
        version.segments.push(SegmentView { segment, dead: Arc::default() });
        collection.publish(version);
        drop(guard);
        self.request_compaction(true);
        Ok(bulk.hashes.len())
    }
}

fn resolve(collection: &CollectionState, ids: &IdColumn, hashes: &[u64], order: &[u32], add: bool) -> Result<Replaced> {
    let guard = collection.ids()?;
    // Under the lock on the ids, so that both agree.
    let mut replaced = Replaced { rows: Vec::new(), version: collection.latest() };
    let Some(map) = guard.as_ref().filter(|map| map.len() > 0) else { return Ok(replaced) };
    for row in order {
        let at = *row as usize;
        if let Some(old) = find(map, &replaced.version, hashes[at], ids.encoded(at))? {
            if add {
                return Err(already_exists(ids, at));
            }
            replaced.rows.push((*row, old));
        }
    }
    replaced.rows.sort_unstable();
    Ok(replaced)
}

/// The rows of a batch on their way into a segment.
struct BatchRows<'a> {
    batch: &'a Batch<'a>,
    vectors: &'a [u8],
    hashes: &'a [u64],
    stride: usize,
}

impl RowSource for BatchRows<'_> {
    fn rows(&self) -> u32 {
        self.hashes.len() as u32
    }

    fn hash(&self, row: u32) -> Result<u64> {
        Ok(self.hashes[row as usize])
    }

    fn id(&self, row: u32) -> Result<&[u8]> {
        Ok(self.batch.ids.encoded(row as usize))
    }

    fn vectors(&self, first: u32, count: u32) -> Result<&[u8]> {
        let start = first as usize * self.stride;
        Ok(&self.vectors[start..start + count as usize * self.stride])
    }

    fn metadata(&self, row: u32) -> Result<&[u8]> {
        Ok(self.batch.metadata.as_ref().map_or(&[], |c| c.stored(row as usize)))
    }

    fn text(&self, row: u32) -> Result<&[u8]> {
        Ok(self.batch.text.as_ref().map_or(&[], |c| c.stored(row as usize)))
    }

    fn field(&self, field: usize, row: u32) -> Result<&[u8]> {
        Ok(self.batch.fields.stored(field, row))
    }

    fn field_data(&self, field: usize, range: Range<usize>) -> Result<&[u8]> {
        Ok(self.batch.fields.data(field, range))
    }
}
