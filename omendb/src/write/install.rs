//! Makes new segments the database's: one manifest commit, then one new version for readers.

use crate::engine::{CollectionState, Engine, State};
use crate::error::Result;
use crate::idmap::{IdMap, Location, by_shard};
use crate::index::derived;
use crate::manifest::{Manifest, SEGMENT_DIR, manifest_path};
use crate::segment::reader::Segment;
use crate::segment::tombstones;
use crate::version::{SegmentView, Version};
use roaring::RoaringBitmap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One collection's part of a flush or a compaction.
pub(crate) struct Edit {
    pub(crate) collection: Arc<CollectionState>,
    /// Sources (segments, memtables) whose live rows the new segment holds.
    pub(crate) inputs: Vec<u32>,
    pub(crate) output: Option<Output>,
}

/// A new segment and where each of its rows came from.
pub(crate) struct Output {
    pub(crate) segment: Arc<Segment>,
    pub(crate) origins: Vec<Location>,
}

impl Engine {
    /// Replaces the inputs of every edit by its output. `flushed` is given by a flush: the first log generation still
    /// needed after it, and the last commit that it covers.
    ///
    /// On an error the database is as before, and the outputs' files are the caller's to remove, unless the error is
    /// `Indeterminate`.
    pub(crate) fn install(&self, state: &mut State, edits: &[Edit], flushed: Option<(u64, u64)>) -> Result<()> {
        // Tombstones show every commit that readers see, so those must be on stable storage first.
        self.sync_log_in(state)?;
        let mut next = self.next_manifest(state);
        if let Some((log_start, seq)) = flushed {
            (next.log_start, next.flushed) = (log_start, seq);
        }
        let mut prepared = Vec::with_capacity(edits.len());
        for edit in edits {
            let dead = match crate::mutant::active("forget-deletes-in-compaction") {
                true => RoaringBitmap::new(),
                false => rows_dead_meanwhile(edit)?,
            };
            let entry = next.collections.iter_mut().find(|c| c.id == edit.collection.id);
            if let Some(entry) = entry {
                entry.segments.retain(|s| !edit.inputs.contains(&s.id));
                if let Some(output) = &edit.output {
                    let mut segment = output.segment.entry.clone();
                    if !dead.is_empty() {
                        segment.tombstones = Some(tombstones::write(&*self.storage, segment.id, next.number, &dead)?);
                    }
                    entry.segments.push(segment);
                }
            }
            prepared.push(dead);
        }
        for collection in self.all_collections() {
            self.write_tombstones(&mut next, &collection, &collection.version.load())?;
        }
        self.commit_manifest(state, next)?;
        for (edit, dead) in edits.iter().zip(prepared) {
            publish(edit, dead)?;
        }
        Ok(())
    }

    /// A copy of the last manifest with the next number.
    pub(crate) fn next_manifest(&self, state: &State) -> Manifest {
        let mut next = state.manifest.clone();
        // Never used twice, or the leftovers of a failed attempt would be in the way.
        next.number = self.next_manifest.fetch_add(1, Ordering::Relaxed);
        next.seq = state.seq;
        next.next_segment = self.next_segment.load(Ordering::Relaxed);
        next
    }

    /// Writes the tombstones of every segment of a collection that has more dead rows than the manifest knows of.
    pub(crate) fn write_tombstones(
        &self,
        next: &mut Manifest,
        collection: &CollectionState,
        version: &Version,
    ) -> Result<()> {
        let number = next.number;
        let Some(entry) = next.collections.iter_mut().find(|c| c.id == collection.id) else { return Ok(()) };
        for segment in &mut entry.segments {
            let Some(view) = version.segment(segment.id) else { continue };
            // Dead rows are only ever added, so equal counts are equal sets.
            if view.dead.len() != segment.tombstones.as_ref().map_or(0, |t| t.rows) {
                segment.tombstones = Some(tombstones::write(&*self.storage, segment.id, number, &view.dead)?);
            }
        }
        Ok(())
    }

    /// Commits a manifest and removes the files that only its predecessor named.
    pub(crate) fn commit_manifest(&self, state: &mut State, next: Manifest) -> Result<()> {
        self.storage.sync_dir(SEGMENT_DIR).map_err(|e| crate::error::Error::io("sync", SEGMENT_DIR, &e))?;
        if crate::mutant::active("remove-inputs-before-manifest") {
            let keep: Vec<String> = next.collections.iter().flat_map(|c| &c.segments).map(|s| s.data_path()).collect();
            let inputs = state.manifest.collections.iter().flat_map(|c| &c.segments).map(|s| s.data_path());
            inputs.filter(|path| !keep.contains(path)).for_each(|path| drop(self.storage.remove(&path)));
        }
        if crate::mutant::active("drop-log-before-manifest") {
            let gone = state.old_logs.iter().filter(|(generation, _)| *generation < next.log_start);
            gone.for_each(|(generation, _)| drop(self.storage.remove(&crate::wal::log_path(*generation))));
        }
        next.commit(&*self.storage, &self.uuid).map_err(|e| self.poison_if_indeterminate(e))?;
        let before = std::mem::replace(&mut state.manifest, next);
        let now = &state.manifest;
        let mut files = vec![manifest_path(before.number)];
        let named = |m: &Manifest| -> std::collections::BTreeSet<String> {
            let segments = m.collections.iter().flat_map(|c| c.segments.iter().map(move |s| (s, &c.schema)));
            // Whether there are derived files or not: what is deleted must be gone from them too.
            segments
                .flat_map(|(s, schema)| {
                    [Some(s.data_path()), s.tombstones_path()].into_iter().flatten().chain(derived::paths(s.id, schema))
                })
                .collect()
        };
        files.extend(named(&before).difference(&named(now)).cloned());
        let start = now.log_start;
        let (gone, kept): (Vec<_>, Vec<_>) = state.old_logs.drain(..).partition(|(generation, _)| *generation < start);
        state.old_logs = kept;
        for (generation, bytes) in gone {
            files.push(crate::wal::log_path(generation));
            self.log_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        for path in files {
            if let Err(e) = self.storage.remove(&path) {
                tracing::debug!(%path, error = %e, "a superfluous file stays until the next open");
            }
        }
        Ok(())
    }
}

/// Output rows whose record was replaced or deleted since the edit's inputs were read.
fn rows_dead_meanwhile(edit: &Edit) -> Result<RoaringBitmap> {
    let mut dead = RoaringBitmap::new();
    let Some(output) = &edit.output else { return Ok(dead) };
    let guard = edit.collection.ids()?;
    let Some(ids) = guard.as_ref() else { return Ok(dead) };
    let hashes = output.segment.hashes()?;
    for row in by_shard(&hashes) {
        let origin = output.origins[row as usize];
        if ids.find(hashes[row as usize], |at| at == origin).is_none() {
            dead.insert(row);
        }
    }
    Ok(dead)
}

fn publish(edit: &Edit, dead: RoaringBitmap) -> Result<()> {
    let collection = &edit.collection;
    let mut guard = collection.ids_mut()?;
    let mut version = Version::clone(&collection.latest());
    if let (Some(output), Some(ids)) = (&edit.output, guard.as_mut()) {
        relocate(ids, output, &dead)?;
    }
    version.segments.retain(|v| !edit.inputs.contains(&v.segment.id_number()));
    version.memtables.retain(|m| !edit.inputs.contains(&m.source));
    if let Some(output) = &edit.output {
        version.segments.push(SegmentView { segment: Arc::clone(&output.segment), dead: Arc::new(dead) });
        // Oldest first, by the newest commit each may hold.
        version.segments.sort_by_key(|v| (v.segment.entry.seq, v.segment.id_number()));
    }
    collection.publish(version);
    Ok(())
}

fn relocate(ids: &mut IdMap, output: &Output, dead: &RoaringBitmap) -> Result<()> {
    let hashes = output.segment.hashes()?;
    let source = output.segment.id_number();
    for row in by_shard(&hashes) {
        if !dead.contains(row) {
            ids.relocate(hashes[row as usize], output.origins[row as usize], Location { source, row });
        }
    }
    Ok(())
}
