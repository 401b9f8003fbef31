//! Indexing: sealed segments get graphs and text indexes in the background. A segment without a graph is scanned
//! exactly.

use crate::engine::{CollectionState, Engine};
use crate::error::{Error, Result};
use crate::index::derived::{GRAPH, Owner};
use crate::index::file::{self, Stage};
use crate::index::graph::{BuildParams, Rows, build};
use crate::segment::RowSource;
use crate::segment::reader::{Graph, Segment};
use crate::version::Version;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Segments with fewer rows are scanned: that is as fast.
pub(crate) const MIN_ROWS: u32 = 2_000;
/// Settling is worth the time from here on.
const MIN_SETTLED_ROWS: u32 = 10_000;

impl Engine {
    /// Does the most useful piece of indexing; true if there was one. Graphs come first, then text indexes, then better
    /// graphs, and those only where `settle` says so.
    pub(crate) fn index_once(&self, settle: bool) -> Result<bool> {
        for collection in self.all_collections() {
            if self.merge_unindexed(&collection)? {
                return Ok(true);
            }
            let version = collection.version.load_full();
            for view in &version.segments {
                if self.wants_graph(&view.segment, &collection, Stage::First) {
                    self.index_segment(&collection, &view.segment, Stage::First)?;
                    return Ok(true);
                }
            }
        }
        if self.index_text_once()? {
            return Ok(true);
        }
        if !settle {
            return Ok(false);
        }
        for collection in self.all_collections() {
            let version = collection.version.load_full();
            for view in &version.segments {
                if self.wants_graph(&view.segment, &collection, Stage::Settled) {
                    self.index_segment(&collection, &view.segment, Stage::Settled)?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn wants_graph(&self, segment: &Segment, collection: &CollectionState, stage: Stage) -> bool {
        let has = segment.graph();
        let least = if stage == Stage::First { MIN_ROWS } else { MIN_SETTLED_ROWS };
        segment.rows() >= least
            && !segment.unindexable()
            && has.as_ref().is_none_or(|g| g.stage < stage)
            && (has.is_some() || self.graph_fits(segment, collection))
    }

    /// Whether another graph fits the memory budget.
    fn graph_fits(&self, segment: &Segment, collection: &CollectionState) -> bool {
        let width = collection.schema.dim.next_multiple_of(64) as u64;
        let inline = if width <= BuildParams::first().inline_max_dim as u64 { 32 * width / 8 } else { 0 };
        let bytes = u64::from(segment.rows()) * (width + inline + 160);
        self.graph_memory() + self.memtable_bytes() + self.id_memory() + bytes <= self.memory_budget / 4 * 3
    }

    pub(crate) fn graph_memory(&self) -> u64 {
        let of = |c: &Arc<CollectionState>| -> u64 {
            c.version.load().segments.iter().filter_map(|v| v.segment.graph()).map(|g| g.bytes).sum()
        };
        self.collections.load().values().map(of).sum()
    }

    /// Several segments without graphs become one first: one graph over them is built and searched faster.
    fn merge_unindexed(&self, collection: &Arc<CollectionState>) -> Result<bool> {
        let unindexed = |version: &Version| -> Vec<u32> {
            let without = version.segments.iter().filter(|v| v.segment.graph().is_none() && !v.segment.unindexable());
            without.map(|v| v.segment.id_number()).collect()
        };
        if unindexed(&collection.version.load()).len() < 2 {
            return Ok(false);
        }
        let version = collection.version.load_full();
        for id in unindexed(&version) {
            // What is on disk already need not be made.
            if let Some(view) = version.segment(id) {
                self.load_graph(&view.segment);
            }
        }
        let _turn = self.maintenance.lock();
        let version = Version::clone(&collection.version.load());
        let group = self.within_segment_limit(&version, unindexed(&version), collection.schema.stride() as u64);
        if group.len() < 2 {
            return Ok(false);
        }
        self.compact_segments(collection, &version, &group)?;
        Ok(true)
    }

    /// Takes the segment's index file into use, if there is a whole one.
    fn load_graph(&self, segment: &Segment) {
        if segment.graph().is_some() {
            return;
        }
        match file::read(&*self.storage, &self.owner(segment)) {
            Ok(Some((graph, stage))) => match segment.all_vectors() {
                Ok(_) => segment.set_graph(Graph::new(graph, stage, true)),
                Err(e) => {
                    segment.give_up_indexing();
                    self.note_damage(&e);
                }
            },
            Ok(None) => {}
            Err(e) => {
                tracing::warn!(error = %e, "an index is not usable and is made again");
                self.note_damage(&e);
            }
        }
    }

    pub(crate) fn owner<'a>(&self, segment: &'a Segment) -> Owner<'a> {
        Owner { uuid: self.uuid, segment: segment.id_number(), rows: segment.rows(), footer: &segment.entry.footer }
    }

    fn index_segment(&self, collection: &Arc<CollectionState>, segment: &Arc<Segment>, stage: Stage) -> Result<()> {
        if stage == Stage::First {
            self.load_graph(segment);
            if segment.graph().is_some() || segment.unindexable() {
                return Ok(());
            }
        }
        let start = std::time::Instant::now();
        let vectors = match segment.all_vectors() {
            Ok(vectors) => vectors,
            Err(e) => {
                // Damaged primary data: searches report it, no graph hides it.
                segment.give_up_indexing();
                self.note_damage(&e);
                return Ok(());
            }
        };
        let threads = self.indexing_threads();
        let params = match stage {
            Stage::First => BuildParams::first(),
            Stage::Settled => BuildParams::settled(),
        };
        let rows = Rows::new(vectors, segment.rows() as usize, &collection.schema)?;
        let progress = |share: f32| self.metrics.set_index_progress(share);
        let graph = match build(rows, &BuildParams { threads, ..params }, &progress, &self.cancel) {
            Err(e @ Error::Cancelled(_)) => return Err(e),
            Err(e) => {
                tracing::warn!(error = %e, segment = segment.id_number(), "no graph could be built; exact scan stays");
                segment.give_up_indexing();
                return Ok(());
            }
            Ok(graph) => graph,
        };
        // It serves from here on; its file, which only the next handle needs, is written when nothing waits.
        segment.set_graph(Graph::new(graph, stage, false));
        self.metrics.index.record(start.elapsed());
        let micros = start.elapsed().as_micros() as u64;
        tracing::info!(segment = segment.id_number(), rows = segment.rows(), ?stage, micros, "indexed");
        Ok(())
    }

    /// On how many threads an index is built: a simulation wants one order of calls.
    pub(crate) fn indexing_threads(&self) -> usize {
        match self.options.background {
            true => std::thread::available_parallelism().map_or(1, |n| n.get()),
            false => 1,
        }
    }

    /// Writes the files of the graphs and text indexes that have none yet.
    pub(crate) fn write_indexes(&self) -> Result<()> {
        self.write_graphs()?;
        self.write_texts()
    }

    fn write_graphs(&self) -> Result<()> {
        for collection in self.all_collections() {
            let version = collection.version.load_full();
            for view in &version.segments {
                if let Some(graph) = view.segment.graph().filter(|g| !g.written.swap(true, Ordering::AcqRel)) {
                    self.write_graph(&collection, &view.segment, &graph)?;
                }
            }
        }
        Ok(())
    }

    fn write_graph(&self, collection: &CollectionState, segment: &Segment, graph: &Graph) -> Result<()> {
        let gone = || collection.has_lost(segment.id_number());
        if gone() {
            return Ok(());
        }
        let written = file::write(&*self.storage, &self.owner(segment), graph.stage, &graph.index);
        // A compaction may have replaced the segment meanwhile, and removed the file that was there before.
        let _turn = self.maintenance.lock();
        if gone() || written.is_err() {
            let _ = self.storage.remove(&GRAPH.path(segment.id_number()));
        }
        // The graph serves this handle in any case; the next one makes it again.
        written
    }
}
