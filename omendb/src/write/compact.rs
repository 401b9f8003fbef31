//! Compaction: the live rows of several segments become one new segment, and the inputs go.

use crate::engine::{BUSY_SEGMENTS, CollectionState, Engine};
use crate::error::Result;
use crate::segment::RowSource;
use crate::version::{Part, SegmentView, Version};
use crate::write::install::Edit;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Segments of like size that make a compaction worth while.
const FANOUT: usize = 8;
/// Most bytes of vectors in one compacted segment.
const MAX_SEGMENT_BYTES: u64 = 8 << 30;
/// Memory that a merge takes for each row: where it came from, its hash and its place in the id index's order.
const MERGE_BYTES_A_ROW: u64 = 32;
/// A segment with more dead rows than this share is rewritten.
const DEAD_SHARE: f64 = 0.3;

impl Engine {
    /// Does the most useful compaction, if one is due; true if another may be.
    pub(crate) fn compact_once(&self) -> Result<bool> {
        for collection in self.all_collections() {
            let _alone = self.compaction.lock();
            let version = Version::clone(&collection.version.load());
            // Segments without graphs are merged by the indexer, all at once, just before they get one.
            let indexed_only = self.has_indexer() && version.segments.len() < BUSY_SEGMENTS;
            let stride = collection.schema.stride() as u64;
            // What has graphs is to get one again.
            let fits = |rows| !indexed_only || self.graph_fits(rows, &collection.schema);
            if let Some(inputs) = pick(&version, stride, self.segment_limit(stride), indexed_only, &fits) {
                self.compact_segments(&collection, &version, &inputs)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Most bytes of vectors in one merged segment, so that merging it stays within an eighth of the memory budget.
    fn segment_limit(&self, stride: u64) -> u64 {
        (self.memory_budget / 8 / MERGE_BYTES_A_ROW * stride.max(16)).min(MAX_SEGMENT_BYTES)
    }

    /// Rewrites a collection so that no deleted or replaced record is left in its files.
    pub(crate) fn compact_fully(&self, collection: &Arc<CollectionState>) -> Result<()> {
        let _alone = self.compaction.lock();
        self.flush()?;
        let version = Version::clone(&collection.version.load());
        let stride = collection.schema.stride() as u64;
        let mut group = Vec::new();
        let mut bytes = 0;
        for view in &version.segments {
            let size = u64::from(view.segment.rows()) * stride;
            if bytes + size > self.segment_limit(stride) && !group.is_empty() {
                self.compact_group(collection, &version, &std::mem::take(&mut group))?;
                bytes = 0;
            }
            bytes += size;
            group.push(view.segment.id_number());
        }
        self.compact_group(collection, &version, &group)
    }

    fn compact_group(&self, collection: &Arc<CollectionState>, version: &Version, group: &[u32]) -> Result<()> {
        let clean = |id: &u32| version.segment(*id).is_none_or(|v| v.dead.is_empty());
        if group.is_empty() || (group.len() == 1 && clean(&group[0])) {
            return Ok(());
        }
        self.compact_segments(collection, version, group)
    }

    /// The first of these segments that together make one of the largest size or less.
    pub(crate) fn within_segment_limit(&self, version: &Version, ids: Vec<u32>, stride: u64) -> Vec<u32> {
        let mut bytes = 0;
        let size = |id: &u32| version.segment(*id).map_or(0, |v| u64::from(v.segment.rows()) * stride);
        ids.into_iter()
            .take_while(|id| {
                bytes += size(id);
                bytes <= self.segment_limit(stride)
            })
            .collect()
    }

    /// For a caller that holds the compaction lock since it chose the inputs.
    pub(crate) fn compact_segments(
        &self,
        collection: &Arc<CollectionState>,
        version: &Version,
        inputs: &[u32],
    ) -> Result<()> {
        self.not_poisoned()?;
        let start = std::time::Instant::now();
        let chosen = |v: &&SegmentView| inputs.contains(&v.segment.id_number());
        let seq = version.segments.iter().filter(chosen).map(|v| v.segment.entry.seq).max().unwrap_or(0);
        let parts: Vec<Part<'_>> = version.parts().filter(|p| inputs.contains(&p.source)).collect();
        let output = self.write_output(collection, &parts, seq).inspect_err(|e| self.note_damage(e))?;
        let rows = output.as_ref().map_or(0, |o| o.origins.len());
        let edits = [Edit { collection: Arc::clone(collection), inputs: inputs.to_vec(), output }];
        let _turn = self.maintenance.lock();
        if collection.dropped.load(Ordering::Acquire) {
            self.discard(&edits);
            return Ok(());
        }
        self.install(&mut self.state.lock(), &edits, None).inspect_err(|_| self.discard(&edits))?;
        self.metrics.compaction.record(start.elapsed());
        let micros = start.elapsed().as_micros() as u64;
        tracing::info!(collection = %collection.name, segments = inputs.len(), rows, micros, "compacted");
        Ok(())
    }
}

/// The segments to merge next: a run of like size, or one that is mostly dead.
fn pick(
    version: &Version,
    stride: u64,
    limit: u64,
    indexed_only: bool,
    fits: &dyn Fn(u64) -> bool,
) -> Option<Vec<u32>> {
    let mut by_size: Vec<(u64, u32)> = version
        .segments
        .iter()
        .filter(|v| !indexed_only || v.segment.graph(None).is_some())
        .map(|v| ((u64::from(v.segment.rows()) - v.dead.len()) * stride.max(16), v.segment.id_number()))
        .collect();
    by_size.sort_unstable();
    // The smallest window of FANOUT segments whose largest is within a factor of FANOUT of its smallest.
    for window in by_size.windows(FANOUT) {
        let (smallest, largest) = (window[0].0.max(1 << 20), window[FANOUT - 1].0);
        let total: u64 = window.iter().map(|(size, _)| size).sum();
        if largest <= smallest * FANOUT as u64 && total <= limit && fits(total / stride.max(16)) {
            return Some(window.iter().map(|(_, id)| *id).collect());
        }
    }
    let mostly_dead = version.segments.iter().find(|v| {
        let rows = f64::from(v.segment.rows());
        v.dead.len() as f64 > rows * DEAD_SHARE && rows > 0.0
    });
    mostly_dead.map(|v| vec![v.segment.id_number()])
}
