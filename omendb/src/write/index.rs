//! Indexing: sealed segments get graphs and text indexes in the background. A segment without a graph is scanned
//! exactly.

use crate::engine::{CollectionState, Engine};
use crate::error::{Error, Result};
use crate::index::derived::{GRAPH, Owner};
use crate::index::file::{self, Stage};
use crate::index::graph::{BuildParams, Keep, Rows, build};
use crate::quantize::coder::Coding;
use crate::schema::{MAX_RABITQ_DIM, Profile, Quantization, Schema};
use crate::segment::RowSource;
use crate::segment::reader::{Graph, Segment};
use crate::version::{Part, SegmentView, Version};
use crate::write::install::Edit;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Segments with fewer rows are scanned: that is as fast.
pub(crate) const MIN_ROWS: u32 = 2_000;
/// Settling is worth the time from here on.
pub(crate) const MIN_SETTLED_ROWS: u32 = 10_000;

/// How the graphs of a collection are built.
fn params(schema: &Schema, stage: Stage) -> BuildParams {
    let params = match stage {
        Stage::First => BuildParams::first(),
        Stage::Settled => BuildParams::settled(),
    };
    let (inline_max_dim, coding) = match schema.codes() {
        Quantization::Sq8 => (0, Coding::Plain),
        Quantization::RaBitQ => (MAX_RABITQ_DIM, Coding::Plain),
        Quantization::RaBitQBits(bits) => (MAX_RABITQ_DIM, Coding::Bits(bits)),
        Quantization::Pq => (0, Coding::Product),
        Quantization::Auto | Quantization::None => (params.inline_max_dim, Coding::Plain),
    };
    BuildParams { inline_max_dim, coding, ..params }
}

/// Bytes of a row's codes.
fn code_bytes(schema: &Schema) -> u64 {
    schema.dim.next_multiple_of(64) as u64
}

/// Bytes of a row in a graph.
fn graph_bytes_a_row(schema: &Schema) -> u64 {
    let width = code_bytes(schema);
    let inline = width <= params(schema, Stage::First).inline_max_dim as u64;
    width + if inline { 32 * width / 8 } else { 0 } + 192
}

/// The records' own vectors, or those of a field; and their schema.
type Column<'a> = (Option<usize>, &'a Schema);

/// Segments that have no graph yet and may get one.
fn unindexed(version: &Version) -> Vec<u32> {
    let wants = |v: &&SegmentView| v.segment.graph(None).is_none() && !v.segment.unindexable(None);
    version.segments.iter().filter(wants).map(|v| v.segment.id_number()).collect()
}

/// Segments with graphs are small beside others if together they have at most this share of their rows.
const DWARFED: u64 = 4;

/// These segments and, behind them, those with graphs that are small beside them: a graph over all takes little longer
/// to build, and searches walk one graph less for each.
fn with_dwarfed(version: &Version, mut ids: Vec<u32>) -> Vec<u32> {
    let rows = |v: &SegmentView| u64::from(v.segment.rows()) - v.dead.len();
    let most = ids.iter().filter_map(|id| version.segment(*id)).map(rows).sum::<u64>() / DWARFED;
    let with_graph = version.segments.iter().filter(|v| v.segment.graph(None).is_some());
    let mut smaller: Vec<(u64, u32)> = with_graph.map(|v| (rows(v), v.segment.id_number())).collect();
    smaller.sort_unstable();
    let mut sum = 0;
    ids.extend(smaller.iter().map_while(|&(rows, id)| {
        sum += rows;
        (sum <= most).then_some(id)
    }));
    ids
}

/// Segments within this factor of each other are alike in size.
const ALIKE: u64 = 8;

/// The most segments with graphs that are alike in size, smaller ones first.
fn alike(version: &Version) -> Vec<u32> {
    let with_graph = version.segments.iter().filter(|v| v.segment.graph(None).is_some());
    let mut by_rows: Vec<(u64, u32)> =
        with_graph.map(|v| (u64::from(v.segment.rows()) - v.dead.len(), v.segment.id_number())).collect();
    by_rows.sort_unstable();
    let from = |least: usize| {
        let most = by_rows[least].0.max(1) * ALIKE;
        by_rows[least..].iter().take_while(move |(rows, _)| *rows <= most).map(|(_, id)| *id)
    };
    let best = (0..by_rows.len()).max_by_key(|&least| (from(least).count(), std::cmp::Reverse(least)));
    best.map(|least| from(least).collect()).unwrap_or_default()
}

impl Engine {
    /// Does the most useful piece of indexing; true if there was one. Graphs come first, then text indexes, then better
    /// graphs, and those only where `settle` says so.
    pub(crate) fn index_once(&self, settle: bool) -> Result<bool> {
        for collection in self.all_collections() {
            if collection.schema.profile == Profile::Compact {
                // What has a file makes room for the next.
                self.write_graphs_of(&collection)?;
            }
            if self.merge_unindexed(&collection)? {
                return Ok(true);
            }
            let version = collection.version.load_full();
            if self.index_one(&collection, &version, Stage::First)? {
                return Ok(true);
            }
        }
        if self.index_text_once()? || self.index_sparse_once()? || self.index_columns_once()? {
            return Ok(true);
        }
        if !settle {
            return Ok(false);
        }
        for collection in self.all_collections() {
            if self.merge_alike(&collection)? {
                return Ok(true);
            }
            let version = collection.version.load_full();
            if self.index_one(&collection, &version, Stage::Settled)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Builds or loads one graph of a collection, if one is wanted; whether there was one.
    fn index_one(&self, collection: &CollectionState, version: &Version, stage: Stage) -> Result<bool> {
        for view in &version.segments {
            for column in collection.vectors() {
                if self.wants_graph(&view.segment, column, stage) {
                    self.index_segment(&view.segment, column, stage)?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn wants_graph(&self, segment: &Segment, (field, schema): Column<'_>, stage: Stage) -> bool {
        let has = segment.graph(field);
        let rows = segment.vector_count(field, schema.stride());
        rows >= self.options.least_indexed_rows(stage)
            && schema.codes() != Quantization::None
            && !segment.unindexable(field)
            && has.as_ref().is_none_or(|g| g.stage < stage)
            && (has.is_some() || self.graph_fits(u64::from(rows), schema))
    }

    /// Whether another graph fits the memory budget; building one takes about as much again.
    pub(crate) fn graph_fits(&self, rows: u64, schema: &Schema) -> bool {
        self.memory_with_graph(rows, schema) <= self.memory_budget / 4 * 3
    }

    fn memory_with_graph(&self, rows: u64, schema: &Schema) -> u64 {
        let used = self.graph_memory() + self.memtable_bytes() + self.id_memory();
        used + 2 * rows * graph_bytes_a_row(schema)
    }

    /// The first of these segments over which one graph fits, with room to spare: by the time that it is built others
    /// may have taken some. Those that do not fit by themselves are passed over.
    fn fitting(&self, version: &Version, ids: Vec<u32>, schema: &Schema) -> Vec<u32> {
        let size = |id: u32| version.segment(id).map_or(0, |v| u64::from(v.segment.rows()));
        let fits = |rows| self.memory_with_graph(rows, schema) <= self.memory_budget / 2;
        let mut rows = 0;
        let group = ids.into_iter().filter(|id| fits(size(*id))).take_while(|id| {
            rows += size(*id);
            fits(rows)
        });
        group.collect()
    }

    /// What of a graph on disk is kept in memory beside `used` bytes of other graphs: under the compact profile at most
    /// the codes, and of any no more than fits.
    fn keep(&self, used: u64, vectors: u32, schema: &Schema) -> Keep {
        let (keep, bytes, room) = match schema.profile {
            Profile::Default => (Keep::All, graph_bytes_a_row(schema), self.memory_budget / 4 * 3),
            // The rest is for building the next ones.
            Profile::Compact => (Keep::Codes, code_bytes(schema) + 4, self.memory_budget / 4),
        };
        if used + u64::from(vectors) * bytes <= room { keep } else { Keep::Nothing }
    }

    pub(crate) fn graph_memory(&self) -> u64 {
        let of = |c: &Arc<CollectionState>| -> u64 {
            c.version.load().segments.iter().flat_map(|v| v.segment.graphs()).map(|g| g.bytes).sum()
        };
        self.collections().values().map(of).sum()
    }

    /// Several segments without graphs become one first, together with those that have one and are small beside them:
    /// one graph over them is built and searched faster.
    fn merge_unindexed(&self, collection: &Arc<CollectionState>) -> Result<bool> {
        let version = collection.version.load_full();
        if collection.schema.codes() == Quantization::None || with_dwarfed(&version, unindexed(&version)).len() < 2 {
            return Ok(false);
        }
        for id in unindexed(&version) {
            // What is on disk already need not be made.
            if let Some(view) = version.segment(id) {
                self.load_graph(&view.segment, (None, &collection.schema));
            }
        }
        let _alone = self.compaction.lock();
        let version = Version::clone(&collection.version.load());
        let group = with_dwarfed(&version, unindexed(&version));
        let group = self.within_segment_limit(&version, group, collection.schema.stride() as u64);
        // Without a graph in the end, merging is worth it only for segments of like size.
        let group = self.fitting(&version, group, &collection.schema);
        if group.len() < 2 || !unindexed(&version).iter().any(|id| group.contains(id)) {
            return Ok(false);
        }
        self.compact_segments(collection, &version, &group)?;
        Ok(true)
    }

    /// Makes one segment with one careful graph of several that are alike in size. They serve until it takes their
    /// place, and stay where that fails.
    fn merge_alike(&self, collection: &Arc<CollectionState>) -> Result<bool> {
        let version = collection.version.load_full();
        let inputs = self.within_segment_limit(&version, alike(&version), collection.schema.stride() as u64);
        let inputs = self.fitting(&version, inputs, &collection.schema);
        if inputs.len() < 2 {
            return Ok(false);
        }
        let chosen = |v: &&SegmentView| inputs.contains(&v.segment.id_number());
        let rows: u64 = version.segments.iter().filter(chosen).map(|v| u64::from(v.segment.rows())).sum();
        let seq = version.segments.iter().filter(chosen).map(|v| v.segment.entry.seq).max().unwrap_or(0);
        let parts: Vec<Part<'_>> = version.parts().filter(|p| inputs.contains(&p.source)).collect();
        let start = std::time::Instant::now();
        let output = match self.write_output(collection, &parts, seq) {
            Ok(output) => output,
            Err(e) => {
                // Each of them goes on alone.
                tracing::warn!(error = %e, "segments could not be merged");
                self.note_damage(&e);
                return Ok(false);
            }
        };
        let segment = output.as_ref().map(|output| Arc::clone(&output.segment));
        let edits = [Edit { collection: Arc::clone(collection), inputs: inputs.clone(), output }];
        if let Some(segment) = segment {
            for column in collection.vectors() {
                let wanted = column.0.is_none() || self.wants_graph(&segment, column, Stage::First);
                if wanted {
                    self.index_segment(&segment, column, Stage::Settled).inspect_err(|_| self.discard(&edits))?;
                }
            }
            if segment.graph(None).is_none() {
                self.discard(&edits);
                return Ok(false);
            }
        }
        let _alone = self.compaction.lock();
        let _turn = self.maintenance.lock();
        // A compaction may have taken them meanwhile.
        let now = collection.version.load();
        if inputs.iter().any(|id| now.segment(*id).is_none()) || collection.dropped.load(Ordering::Acquire) {
            self.discard(&edits);
            return Ok(true);
        }
        self.install(&mut self.state.lock(), &edits, None).inspect_err(|_| self.discard(&edits))?;
        self.metrics.compaction.record(start.elapsed());
        tracing::info!(collection = %collection.name, segments = inputs.len(), rows, "merged with one graph");
        Ok(true)
    }

    /// Takes the graphs that are on disk into use: all that a handle can do that may not write.
    pub(crate) fn load_graphs(&self) {
        for collection in self.all_collections() {
            for view in &collection.version.load_full().segments {
                if self.cancel.load(Ordering::Acquire) {
                    return;
                }
                for column in collection.vectors() {
                    self.load_graph(&view.segment, column);
                }
            }
        }
    }

    /// Takes an index file of the segment into use, if there is a whole one.
    fn load_graph(&self, segment: &Segment, (field, schema): Column<'_>) {
        if segment.graph(field).is_some() {
            return;
        }
        let count = segment.vector_count(field, schema.stride());
        let keep = self.keep(self.graph_memory(), count, schema);
        match file::read(&*self.storage, &Owner { field, ..self.owner(segment) }, count, keep) {
            Ok(Some((graph, stage))) => match segment.all_vectors(field) {
                Ok(_) => segment.set_graph(field, Graph::new(graph, stage, true)),
                Err(e) => {
                    segment.give_up_indexing(field);
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
        segment.entry.owner(self.uuid)
    }

    fn index_segment(&self, segment: &Segment, column: Column<'_>, stage: Stage) -> Result<()> {
        let (field, schema) = column;
        if stage == Stage::First {
            self.load_graph(segment, column);
            if segment.graph(field).is_some() || segment.unindexable(field) {
                return Ok(());
            }
        }
        let start = std::time::Instant::now();
        let vectors = match segment.all_vectors(field) {
            Ok(vectors) => vectors,
            Err(e) => {
                // Damaged primary data: searches report it, no graph hides it.
                segment.give_up_indexing(field);
                self.note_damage(&e);
                return Ok(());
            }
        };
        let threads = self.indexing_threads();
        let params = params(schema, stage);
        let count = segment.vector_count(field, schema.stride());
        let rows = Rows::new(vectors, count as usize, schema)?;
        let progress = |share: f32| self.metrics.set_index_progress(share);
        // The last graph of the segment: larger ones get a careful one before long.
        let last = params.last || count < self.options.least_indexed_rows(Stage::Settled);
        let graph = match build(rows, &BuildParams { threads, last, ..params }, &progress, &self.cancel) {
            Err(e @ Error::Cancelled(_)) => return Err(e),
            Err(e) => {
                tracing::warn!(error = %e, segment = segment.id_number(), "no graph could be built; exact scan stays");
                segment.give_up_indexing(field);
                return Ok(());
            }
            Ok(graph) => graph,
        };
        // It serves from here on; its file, which only the next handle needs, is written when nothing waits.
        segment.set_graph(field, Graph::new(graph, stage, false));
        self.metrics.index.record(start.elapsed());
        let micros = start.elapsed().as_micros() as u64;
        tracing::info!(segment = segment.id_number(), rows = count, ?field, ?stage, micros, "indexed");
        Ok(())
    }

    /// On how many threads an index is built: a simulation wants one order of calls.
    pub(crate) fn indexing_threads(&self) -> usize {
        match self.options.background {
            true => std::thread::available_parallelism().map_or(1, |n| n.get()),
            false => 1,
        }
    }

    /// Writes the files of what was derived and has none yet.
    pub(crate) fn write_indexes(&self) -> Result<()> {
        self.write_graphs()?;
        self.write_texts()?;
        self.write_sparse()?;
        self.write_columns()
    }

    /// Writes a derived file of a segment and, if the segment is still in use then, takes it into use by `adopt`.
    /// What was derived serves this handle in any case; the next one would make it again.
    pub(crate) fn write_derived(
        &self,
        (collection, segment): (&CollectionState, &Segment),
        path: &str,
        write: impl FnOnce() -> Result<()>,
        adopt: impl FnOnce(),
    ) -> Result<()> {
        let gone = || collection.has_lost(segment.id_number());
        if gone() {
            return Ok(());
        }
        let written = write();
        // A compaction may have replaced the segment meanwhile, and removed the file that was there before.
        let _turn = self.maintenance.lock();
        if gone() || written.is_err() {
            let _ = self.storage.remove(path);
        } else {
            adopt();
        }
        written
    }

    fn write_graphs(&self) -> Result<()> {
        self.all_collections().iter().try_for_each(|collection| self.write_graphs_of(collection))
    }

    fn write_graphs_of(&self, collection: &CollectionState) -> Result<()> {
        let version = collection.version.load_full();
        for view in &version.segments {
            for column in collection.vectors() {
                let graph = view.segment.graph(column.0);
                if let Some(graph) = graph.filter(|g| !g.written.swap(true, Ordering::AcqRel)) {
                    self.write_graph(collection, &view.segment, column, &graph)?;
                }
            }
        }
        Ok(())
    }

    fn write_graph(
        &self,
        collection: &CollectionState,
        segment: &Segment,
        (field, schema): Column<'_>,
        graph: &Graph,
    ) -> Result<()> {
        let owner = Owner { field, ..self.owner(segment) };
        let write = || file::write(&*self.storage, &owner, graph.stage, &graph.index);
        self.write_derived((collection, segment), &GRAPH.path(segment.id_number(), field), write, || {
            if schema.profile != Profile::Compact {
                return;
            }
            // What is in the file need not be in memory, too.
            let others = self.graph_memory().saturating_sub(graph.bytes);
            let count = segment.vector_count(field, schema.stride());
            let keep = self.keep(others, count, schema);
            if let Ok(Some((mapped, stage))) = file::read(&*self.storage, &owner, count, keep) {
                segment.set_graph(field, Graph::new(mapped, stage, true));
            }
        })
    }
}
