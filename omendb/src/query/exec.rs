//! Runs searches over one version: every part is walked or scanned, the best candidates are merged, their fields
//! fetched.

use crate::distance::Prepared;
use crate::engine::CollectionState;
use crate::error::{Error, Result};
use crate::fields::fits;
use crate::filter::cache::Matches;
use crate::idmap::Location;
use crate::ids::decode;
use crate::index::flat::{Block, scan_batch};
use crate::index::graph::{Effort, Gathered, GraphIndex, Rows, Scratch, SearchStats};
use crate::query::explain::{Plan, Trace};
use crate::query::mmr;
use crate::query::plan::{self, Way};
use crate::query::topk::{Candidate, TopK};
use crate::record::{Hit, Hits, Include, Record, SearchOptions, Vector, Vectors};
use crate::schema::{FieldKind, Quantization, Schema};
use crate::segment::RowSource;
use crate::segment::reader::{Graph, PassingNodes, Segment};
use crate::sparse::Sparse;
use crate::version::{Part, Version};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// Rows are verified and scanned in stretches of this many bytes.
const STRETCH_BYTES: usize = 1 << 20;

pub(crate) fn pack(at: Location) -> u64 {
    u64::from(at.source) << 32 | u64::from(at.row)
}

pub(crate) fn unpack(row: u64) -> Location {
    Location { source: (row >> 32) as u32, row: row as u32 }
}

/// The places, among rows that have a vector, of those that pass.
fn places(rows: &[u32], passes: impl Fn(u32) -> bool) -> Matches {
    Matches::new((0..).zip(rows).filter(|(_, row)| passes(**row)).map(|(place, _)| place).collect())
}

/// What is searched, and how.
#[derive(Clone, Copy)]
pub(crate) struct Search<'a> {
    pub(crate) collection: &'a CollectionState,
    pub(crate) version: &'a Version,
    pub(crate) options: &'a SearchOptions,
    /// A row that the search is blind to, as if it had never been written: to measure with stored rows as queries.
    pub(crate) hidden: Option<Location>,
    /// The field whose vectors are searched; `None`: the records' own.
    pub(crate) field: Option<usize>,
    /// What those vectors are.
    pub(crate) schema: &'a Schema,
}

/// The vectors that one part of the data is searched by. They are numbered by their places, which are the rows unless
/// some rows have none.
#[derive(Clone)]
struct Column<'a> {
    part: &'a Part<'a>,
    field: Option<usize>,
    stride: usize,
    /// The row of each place; `None`: every row has a vector.
    having: Option<Arc<[u32]>>,
}

impl<'a> Column<'a> {
    fn new(part: &'a Part<'a>, field: Option<usize>, stride: usize) -> Result<Self> {
        let having = field.map_or(Ok(None), |field| part.rows.having(field, stride))?;
        Ok(Column { part, field, stride, having })
    }

    /// How many vectors there are.
    fn len(&self) -> u32 {
        self.having.as_ref().map_or_else(|| self.part.rows.rows(), |rows| rows.len() as u32)
    }

    fn vectors(&self, first: u32, count: u32) -> Result<&'a [u8]> {
        match self.field {
            None => self.part.rows.vectors(first, count),
            Some(field) => {
                let start = first as usize * self.stride;
                self.part.rows.field_data(field, start..start + count as usize * self.stride)
            }
        }
    }

    fn row(&self, place: u32) -> u32 {
        self.having.as_ref().map_or(place, |rows| rows[place as usize])
    }

    /// The place of a row that has a vector.
    fn place(&self, row: u32) -> Option<u32> {
        match &self.having {
            None => Some(row),
            Some(rows) => rows.binary_search(&row).ok().map(|place| place as u32),
        }
    }

    /// The places of live rows that pass a filter, where there is one.
    fn matching(&self, matching: Option<Arc<Matches>>) -> Option<Arc<Matches>> {
        match (&self.having, matching) {
            (Some(rows), Some(matching)) => Some(Arc::new(places(rows, |row| matching.rows.contains(row)))),
            (_, matching) => matching,
        }
    }
}

/// The best candidates of each query, best first.
pub(crate) struct Found {
    pub(crate) candidates: Vec<Vec<Candidate>>,
    /// Whether nothing that would be among them was left out.
    pub(crate) whole: bool,
}

/// How one part was searched.
pub(crate) struct Work {
    pub(crate) plan: Plan,
    /// Why its graph was not walked.
    pub(crate) reason: Option<&'static str>,
    /// Live rows that pass the filter, if there is one.
    pub(crate) matching: Option<u64>,
    pub(crate) visited: u64,
    pub(crate) distances: u64,
    pub(crate) expected_recall: Option<f32>,
}

/// Most hits that a graph is asked for.
const MAX_GRAPH_K: usize = 1_000;

impl<'a> Search<'a> {
    /// # Errors
    /// `InvalidInput` if the field that the options name is none of vectors.
    pub(crate) fn new(
        collection: &'a CollectionState,
        version: &'a Version,
        options: &'a SearchOptions,
    ) -> Result<Self> {
        let (field, schema) = collection.vectors_of(options.using.as_deref())?;
        Ok(Search { collection, version, options, hidden: None, field, schema })
    }

    /// Searches for the rows `range` of validated `queries`.
    pub(crate) fn run(&self, queries: &Vectors<'_>, range: Range<usize>) -> Result<Vec<Hits>> {
        let found = self.candidates(queries, range, None)?;
        found.candidates.into_iter().map(|candidates| self.finish(candidates, found.whole)).collect()
    }

    /// As [`run`](Self::run) for one query; also tells what was done.
    pub(crate) fn run_traced(&self, query: &Vectors<'_>, trace: &mut Trace) -> Result<Hits> {
        let mut found = self.candidates(query, 0..1, Some(trace))?;
        self.finish(found.candidates.pop().unwrap_or_default(), found.whole)
    }

    /// How many candidates are needed to choose the hits from.
    fn wanted(&self) -> usize {
        let options = self.options;
        let chosen = options.k + options.offset;
        options.mmr.map_or(chosen, |mmr| mmr.pool(chosen)) + options.exclude.len()
    }

    /// The best candidates of the rows `range` of `queries`.
    pub(crate) fn candidates(
        &self,
        queries: &Vectors<'_>,
        range: Range<usize>,
        mut trace: Option<&mut Trace>,
    ) -> Result<Found> {
        let start = range.start;
        let prepared: Vec<Prepared> = range.map(|row| Prepared::new(self.schema, queries, row)).collect();
        let encoded = queries.as_le_bytes();
        let encoded = &encoded[start * self.schema.stride()..];
        let wanted = self.wanted();
        let radius = self.options.max_distance.map_or(f32::INFINITY, |radius| radius + 0.0);
        let mut tops: Vec<TopK> = prepared.iter().map(|_| TopK::within(wanted, radius)).collect();
        let (mut skipped, mut approximate) = (false, false);
        for part in self.version.parts() {
            let started = trace.is_some().then(std::time::Instant::now);
            match self.search_part(&part, &prepared, encoded, wanted, &mut tops) {
                Ok(work) => {
                    approximate |= work.plan != Plan::Scan;
                    if let (Some(trace), Some(started)) = (&mut trace, started) {
                        trace.push(&part, &work, started.elapsed());
                    }
                }
                // A degraded version answers from what is whole, and says that it may not be complete.
                Err(_) if !self.version.damaged.is_empty() => skipped = true,
                Err(e) => return Err(e),
            }
        }
        // What a graph did not find may still score well enough or lie near enough.
        let unsure = approximate && (self.options.min_score.is_some() || self.options.max_distance.is_some());
        let whole = !skipped && !unsure && self.version.damaged.is_empty();
        Ok(Found { candidates: tops.into_iter().map(TopK::into_sorted).collect(), whole })
    }

    /// Searches one part by its graph, if it has one and that is the better way, else by scanning it.
    fn search_part(
        &self,
        part: &Part<'_>,
        queries: &[Prepared],
        encoded: &[u8],
        wanted: usize,
        tops: &mut [TopK],
    ) -> Result<Work> {
        let matching = self.options.filter.as_ref().map(|filter| part.live_matching(filter)).transpose()?;
        let column = Column::new(part, self.field, self.schema.stride())?;
        let asked = matching.as_ref().map(|m| m.len());
        let matching = column.matching(matching);
        let graph = part.segment.map(|segment| (segment, segment.graph_for_search(self.field)));
        let graph = graph.as_ref().and_then(|(segment, graph)| Some((*segment, graph.as_ref()?)));
        let matching = matching.as_deref();
        let because = match self.reason_to_scan(&column, matching, wanted) {
            Some(reason) => reason,
            None => match graph {
                Some((segment, graph)) => {
                    let count = column.len();
                    let rows = Rows::new(segment.all_vectors(self.field)?, count as usize, self.schema)?;
                    let passing = matching.map(|m| graph.passing(m));
                    let gathered = passing.as_deref().and_then(PassingNodes::gathered);
                    let among = matching.map_or(0, |m| plan::nodes_for_codes(m.len(), gathered));
                    let way = matching.map(|m| plan::choose(wanted, m.len(), count.into(), among));
                    // Where hits are bounded, only comparing all exactly tells whether there are more.
                    if way != Some(Way::Scan) && !(self.is_bounded() && way == Some(Way::Codes)) {
                        let most = way.map(|way| if let Way::Walk { most } = way { most } else { 0 });
                        let passing = passing.as_deref();
                        let walk = Walk {
                            part,
                            column: &column,
                            segment,
                            graph,
                            rows,
                            wanted,
                            matching,
                            passing,
                            gathered,
                            among,
                            most,
                        };
                        return Ok(Work { matching: asked, ..self.walk(&walk, queries, encoded, tops)? });
                    }
                    "few rows pass the filter"
                }
                None => "the segment has no graph yet",
            },
        };
        let scanned = scan_part(&column, queries, matching, self.hidden, tops)?;
        Ok(Work {
            plan: Plan::Scan,
            reason: Some(because),
            matching: asked,
            visited: scanned,
            distances: scanned * queries.len() as u64,
            expected_recall: Some(1.0),
        })
    }

    fn is_bounded(&self) -> bool {
        self.options.min_score.is_some() || self.options.max_distance.is_some()
    }

    /// Why a part is scanned although it may have a graph.
    fn reason_to_scan(&self, column: &Column<'_>, matching: Option<&Matches>, wanted: usize) -> Option<&'static str> {
        let rows = u64::from(column.len());
        if matching.is_some_and(|m| m.len() == 0) {
            Some("nothing passes the filter")
        } else if column.part.segment.is_none() {
            Some("the records are in memory")
        } else if self.options.ef.is_none() && self.options.recall >= 1.0 {
            Some("the recall asked for is 1")
        } else if self.schema.codes() == Quantization::None {
            Some("the collection has no graphs: its quantization is none")
        } else if wanted > MAX_GRAPH_K {
            Some("more than 1,000 candidates are wanted")
        } else if wanted as u64 * 8 > rows {
            Some("more than an eighth of the rows is wanted")
        } else {
            None
        }
    }

    fn walk(&self, walk: &Walk<'_>, queries: &[Prepared], encoded: &[u8], tops: &mut [TopK]) -> Result<Work> {
        let Walk { part, column, segment, graph, matching, .. } = walk;
        let hidden = self.hidden.filter(|at| at.source == part.source).and_then(|at| column.place(at.row));
        let hidden = hidden.and_then(|place| graph.index.order().iter().position(|other| *other == place));
        let hidden = hidden.map(|node| node as u32);
        let stride = queries.first().map_or(1, Prepared::stride);
        let (mut done, mut compared_all) = (SearchStats::default(), false);
        SCRATCH.with_borrow_mut(|(scratch, found)| {
            scratch.blind_to = hidden;
            let mut each = queries.iter().zip(tops).zip(encoded.chunks_exact(stride));
            let walked = each.try_for_each(|((query, top), bytes)| {
                let stats = self.walk_for(walk, query, bytes, top.radius(), scratch, found)?;
                done = done.with(stats);
                if stats.gave_up {
                    compared_all = true;
                    done = done.with(self.compare_all(walk, query, bytes, scratch, found)?);
                }
                for (place, distance) in found.iter() {
                    let row = column.row(*place);
                    segment.prefetch_id_ends(row);
                    top.push(*distance, pack(part.location(row)));
                }
                Ok(())
            });
            scratch.blind_to = None;
            walked
        })?;
        let reason = match (walk.most, walk.gathered) {
            (Some(0), Some(_)) => "the cells of the rows that pass cost less than a walk",
            (Some(0), None) => "the codes of the rows that pass are fewer than a walk would meet",
            _ => "walks meet too few rows that pass",
        };
        Ok(Work {
            plan: if compared_all { Plan::Codes } else { Plan::Graph },
            reason: compared_all.then_some(reason),
            matching: matching.map(Matches::len),
            visited: done.hops as u64,
            distances: (done.compared + done.reranked) as u64,
            expected_recall: self.expected_recall(&graph.index),
        })
    }

    /// Compares the codes of all rows that pass.
    fn compare_all(
        &self,
        walk: &Walk<'_>,
        query: &Prepared,
        bytes: &[u8],
        scratch: &mut Scratch,
        found: &mut Vec<(u32, f32)>,
    ) -> Result<SearchStats> {
        let Walk { graph, matching, passing, wanted, .. } = *walk;
        let gather =
            || passing.zip(matching).and_then(|(passing, matches)| passing.gather(graph, matches, matches.len()));
        if let Some(gathered) = walk.gathered.or_else(gather) {
            let all = self.is_bounded() || self.options.ef.is_some();
            let effort = (wanted, (!all).then_some(self.options.recall));
            return graph.index.search_gathered(&walk.rows, bytes, query, effort, gathered, scratch, found);
        }
        let (rows, hidden) = (matching.iter().flat_map(|m| m.rows.iter()), scratch.blind_to);
        let nodes = rows.filter_map(|row| graph.nodes().get(row as usize).copied());
        let nodes = nodes.filter(|node| Some(*node) != hidden);
        graph.index.search_among(&walk.rows, bytes, query, wanted, nodes, scratch, found)
    }

    /// Walks for one query until nothing within the radius is left to be found, or until that takes too long.
    fn walk_for(
        &self,
        walk: &Walk<'_>,
        query: &Prepared,
        bytes: &[u8],
        radius: f32,
        scratch: &mut Scratch,
        found: &mut Vec<(u32, f32)>,
    ) -> Result<SearchStats> {
        let Walk { part, column, graph, wanted, matching, .. } = *walk;
        let is_live = |place: u32| part.is_live(column.row(place));
        let live: Option<&dyn Fn(u32) -> bool> = if part.all_live() { None } else { Some(&is_live) };
        let passing = walk.passing.filter(|_| walk.most != Some(0)).zip(matching);
        // What radius a query has says much about its cost.
        let usual = self.options.max_distance.is_none();
        let in_vain = usual && passing.is_some_and(|(passing, _)| !passing.experience.advises_walk());
        let mut done = SearchStats { gave_up: walk.most == Some(0) || in_vain, ..SearchStats::default() };
        let mut k = if self.options.max_distance.is_some() { FIRST_WITHIN.min(wanted) } else { wanted };
        while !done.gave_up {
            let effort = self.effort(walk, k);
            let (index, rows) = (&graph.index, &walk.rows);
            let stats = match passing {
                Some((passing, matches)) => passing.with_nodes(graph, matches, |nodes| {
                    index.search_passing(rows, bytes, query, k, effort, nodes, scratch, found)
                })?,
                None => index.search_prepared(rows, bytes, query, k, effort, live, scratch, found)?,
            };
            done = done.with(stats);
            // As long as even the last one lies within the radius there may be more.
            let more = found.last().is_some_and(|(_, distance)| *distance <= radius);
            if k == wanted || found.len() < k || !more {
                break;
            }
            k = (k * 4).min(wanted);
        }
        if let Some((passing, matches)) = passing.filter(|_| usual && !in_vain) {
            passing.experience.learn(plan::cost(done.hops, done.gave_up, walk.among));
            if walk.gathered.is_none() && !done.gave_up {
                passing.gather(graph, matches, plan::missed(done.hops as u64, matches.len()));
            }
        }
        Ok(done)
    }

    fn effort(&self, walk: &Walk<'_>, k: usize) -> Effort {
        let effort = match self.options.ef {
            Some(ef) => Effort::beam(ef.max(k)),
            None => walk.graph.index.effort_for(self.options.recall, k),
        };
        Effort { hops: walk.most.unwrap_or(usize::MAX), ..effort }
    }

    /// The recall that the graph's calibration promises: that asked for, as far as the graph reached it.
    fn expected_recall(&self, graph: &GraphIndex) -> Option<f32> {
        let (first, last) = (graph.calibration().first()?.1, graph.calibration().last()?.1);
        self.options.ef.is_none().then(|| self.options.recall.clamp(first.min(last), last))
    }

    /// Chooses the hits among the candidates and fetches their fields.
    fn finish(&self, mut found: Vec<Candidate>, whole: bool) -> Result<Hits> {
        let options = self.options;
        // Ids lie at random places: waiting for all of them at once is shorter than for one after the other.
        for (source, row) in found.iter().filter_map(|candidate| self.version.source(unpack(candidate.row))) {
            source.prefetch_id(row);
        }
        self.cut(&mut found)?;
        if let Some(mmr) = options.mmr {
            found = mmr::choose(self, found, options.k + options.offset, mmr.lambda)?;
        }
        // Chosen, ordered and cut by one and the same order, so that pages neither repeat nor omit a record.
        let chosen = found.iter().skip(options.offset).take(options.k);
        // Hits are large: collecting results would move them with each growth.
        let mut hits = Vec::with_capacity(chosen.len());
        for candidate in chosen {
            hits.push(self.hit(*candidate)?);
        }
        Ok(Hits { complete: whole && hits.len() < options.k, hits })
    }

    /// Drops the candidates that may not be hits.
    pub(crate) fn cut(&self, found: &mut Vec<Candidate>) -> Result<()> {
        if let Some(least) = self.options.min_score {
            let metric = self.schema.metric;
            found.retain(|candidate| metric.score(candidate.key) >= least);
        }
        drop_excluded(self.version, self.options, found)
    }

    /// Where a candidate's record is.
    pub(crate) fn source(&self, candidate: Candidate) -> Result<(&'a dyn RowSource, u32)> {
        source(self.version, candidate.row)
    }

    /// A candidate with its fields.
    pub(crate) fn hit(&self, candidate: Candidate) -> Result<Hit> {
        let mut hit = hit(self.collection, self.version, candidate.row, self.options.include)?;
        let score = self.schema.metric.score(candidate.key);
        (hit.distance, hit.score) = (candidate.key, score);
        match &self.options.using {
            None => hit.vector_score = Some(score),
            Some(field) => drop(hit.field_scores.insert(field.clone(), score)),
        }
        Ok(hit)
    }

    /// The stored vector of a row; `None` where it has none.
    pub(crate) fn stored<'s>(&self, source: &'s dyn RowSource, row: u32) -> Result<Option<&'s [u8]>> {
        stored_vector(source, self.field, row, self.schema.stride())
    }
}

/// The stored vector of a row, its own or that of a field; `None` where it has none.
pub(crate) fn stored_vector(
    source: &dyn RowSource,
    field: Option<usize>,
    row: u32,
    stride: usize,
) -> Result<Option<&[u8]>> {
    let Some(field) = field else { return source.vectors(row, 1).map(Some) };
    match source.field(field, row)? {
        [] => Ok(None),
        stored if stored.len() == stride => Ok(Some(stored)),
        _ => Err(Error::corrupt("record", u64::from(row), "a vector has another size")),
    }
}

/// Where the record of a packed location is.
pub(crate) fn source(version: &Version, row: u64) -> Result<(&dyn RowSource, u32)> {
    version
        .source(unpack(row))
        .ok_or_else(|| Error::Unusable("a candidate is not in the version it was found in".into()))
}

/// The record of a packed location as a hit without any score.
pub(crate) fn hit(collection: &CollectionState, version: &Version, row: u64, include: Include) -> Result<Hit> {
    let (source, row) = source(version, row)?;
    let fields = fields(collection, source, row, include)?;
    Ok(Hit {
        id: fields.id,
        distance: 0.0,
        score: 0.0,
        vector_score: None,
        text_score: None,
        field_scores: BTreeMap::new(),
        vector: fields.vector,
        metadata: fields.metadata,
        text: fields.text,
        snippet: None,
        vectors: fields.vectors,
        sparse: fields.sparse,
    })
}

/// Drops the candidates that a search is to leave out.
pub(crate) fn drop_excluded(version: &Version, options: &SearchOptions, found: &mut Vec<Candidate>) -> Result<()> {
    if options.exclude.is_empty() {
        return Ok(());
    }
    let excluded: HashSet<Vec<u8>> = options.exclude.iter().map(|id| id.as_ref().encode()).collect();
    let mut kept = Vec::with_capacity(found.len());
    for candidate in found.drain(..) {
        let (source, row) = source(version, candidate.row)?;
        if !excluded.contains(source.id(row)?) {
            kept.push(candidate);
        }
    }
    *found = kept;
    Ok(())
}

/// Candidates that the first walk of a search within a radius is asked for.
const FIRST_WITHIN: usize = 64;

/// A part that is searched by its graph.
struct Walk<'a> {
    part: &'a Part<'a>,
    column: &'a Column<'a>,
    segment: &'a Segment,
    graph: &'a Graph,
    rows: Rows<'a>,
    wanted: usize,
    matching: Option<&'a Matches>,
    passing: Option<&'a PassingNodes>,
    gathered: Option<&'a Gathered>,
    /// What comparing codes costs, in nodes of a walk.
    among: u64,
    /// After how many nodes the codes of all rows that pass are compared instead; at once if it is 0.
    most: Option<usize>,
}

thread_local! {
    /// What one search leaves to the next on the same thread.
    static SCRATCH: RefCell<(Scratch, Vec<(u32, f32)>)> = RefCell::default();
}

/// Compares all vectors of live rows that match; returns how many.
fn scan_part(
    column: &Column<'_>,
    queries: &[Prepared],
    matching: Option<&Matches>,
    hidden: Option<Location>,
    tops: &mut [TopK],
) -> Result<u64> {
    let Some(rows) = &column.having else {
        return scan_places(column, queries, matching, hidden, pack(column.part.location(0)), tops);
    };
    let live = matching.is_none().then(|| places(rows, |row| column.part.is_live(row)));
    let matching = matching.or(live.as_ref());
    // The order of the places is that of their rows, so the best of this part can be renamed when they are known.
    let mut best: Vec<TopK> = tops.iter().map(|top| TopK::within(top.k(), top.threshold())).collect();
    let scanned = scan_places(column, queries, matching, hidden, 0, &mut best)?;
    for (best, top) in best.into_iter().zip(tops) {
        for Candidate { key, row } in best.into_sorted() {
            top.push(key, pack(column.part.location(column.row(row as u32))));
        }
    }
    Ok(scanned)
}

/// The same, where place 0 is called `first_name`, the next one 1 more, and so on.
fn scan_places(
    column: &Column<'_>,
    queries: &[Prepared],
    matching: Option<&Matches>,
    hidden: Option<Location>,
    first_name: u64,
    tops: &mut [TopK],
) -> Result<u64> {
    let Some(first) = queries.first() else { return Ok(0) };
    let part = column.part;
    let hidden = hidden.and_then(|at| part.row_at(at)).and_then(|row| column.place(row));
    let stretch = (STRETCH_BYTES / first.stride()).next_multiple_of(64).max(64) as u32;
    let rows = column.len();
    let mut words = Vec::new();
    let mut scanned = 0;
    for start in (0..rows).step_by(stretch as usize) {
        let count = stretch.min(rows - start);
        words.clear();
        words.resize((count as usize).div_ceil(64), 0u64);
        let mut set = |row: u32| words[((row - start) / 64) as usize] |= 1 << ((row - start) % 64);
        let all = match matching {
            Some(matching) => {
                if matching.rows.range_cardinality(start..start + count) == 0 {
                    continue;
                }
                matching.rows.range(start..start + count).for_each(&mut set);
                false
            }
            None => {
                let runs = part.live_runs_in(start..start + count);
                if runs.is_empty() {
                    continue;
                }
                let all = runs[0] == (start..start + count) && hidden.is_none();
                if !all {
                    runs.into_iter().flatten().for_each(&mut set);
                }
                all
            }
        };
        if let Some(row) = hidden.filter(|row| (start..start + count).contains(row)) {
            words[((row - start) / 64) as usize] &= !(1 << ((row - start) % 64));
        }
        scanned += if all { u64::from(count) } else { words.iter().map(|w| u64::from(w.count_ones())).sum() };
        let block = Block {
            rows: column.vectors(start, count)?,
            live: (!all).then_some(&words),
            first_row: first_name + u64::from(start),
        };
        scan_batch(queries, block, tops);
    }
    Ok(scanned)
}

pub(crate) struct Fields {
    pub(crate) id: crate::ids::Id,
    pub(crate) vector: Option<Vector>,
    pub(crate) metadata: Option<serde_json::Value>,
    pub(crate) text: Option<String>,
    pub(crate) vectors: BTreeMap<String, Vector>,
    pub(crate) sparse: BTreeMap<String, Sparse>,
}

/// Reads one row's fields.
pub(crate) fn fields(
    collection: &CollectionState,
    source: &dyn RowSource,
    row: u32,
    include: Include,
) -> Result<Fields> {
    let damaged = |what: &str| Error::corrupt("record", u64::from(row), what);
    let id = decode(source.id(row)?).ok_or_else(|| damaged("an id does not decode"))?.to_owned();
    let vector = match include.vector {
        true => Some(Vector::from_le_bytes(collection.schema.element, source.vectors(row, 1)?)),
        false => None,
    };
    // What is not asked for is not read either.
    let metadata = if include.metadata { source.metadata(row)? } else { &[] };
    let metadata = metadata.split_first().map(|(_, json)| serde_json::from_slice(json));
    let metadata = metadata.transpose().map_err(|_| damaged("metadata is not JSON"))?;
    let text = if include.text { source.text(row)? } else { &[] };
    let text = text.split_first().map(|(_, text)| std::str::from_utf8(text).map(str::to_owned));
    let text = text.transpose().map_err(|_| damaged("text is not UTF-8"))?;
    let (mut vectors, mut sparse) = (BTreeMap::new(), BTreeMap::new());
    let further = if include.fields { collection.schema.fields.as_slice() } else { &[] };
    for (number, field) in further.iter().enumerate() {
        let stored = source.field(number, row)?;
        if stored.is_empty() {
            continue;
        }
        match &field.kind {
            FieldKind::Vector(_) if !fits(stored, &field.kind) => return Err(damaged("a vector has another size")),
            FieldKind::Vector(kind) => {
                vectors.insert(field.name.clone(), Vector::from_le_bytes(kind.element, stored));
            }
            FieldKind::Sparse => {
                let value = Sparse::decode(stored).ok_or_else(|| damaged("a sparse vector does not decode"))?;
                sparse.insert(field.name.clone(), value);
            }
        }
    }
    Ok(Fields { id, vector, metadata, text, vectors, sparse })
}

/// Reads one whole record.
pub(crate) fn record(collection: &CollectionState, source: &dyn RowSource, row: u32) -> Result<Record> {
    let fields = fields(collection, source, row, Include::ALL)?;
    Ok(Record {
        id: fields.id,
        vector: fields.vector.unwrap_or(Vector::F32(Vec::new())),
        metadata: fields.metadata,
        text: fields.text,
        vectors: fields.vectors,
        sparse: fields.sparse,
    })
}
