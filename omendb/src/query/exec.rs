//! Runs searches over one version: every part is scanned, the best candidates are merged, their fields fetched.

use crate::distance::Prepared;
use crate::engine::CollectionState;
use crate::error::Result;
use crate::idmap::Location;
use crate::ids::decode;
use crate::index::flat::{Block, scan_batch};
use crate::index::graph::{Effort, GraphIndex, Rows, Scratch};
use crate::query::topk::{Candidate, TopK};
use crate::record::{Hit, Hits, Include, Record, SearchOptions, Vector, Vectors};
use crate::segment::RowSource;
use crate::version::{Part, Version};
use roaring::RoaringBitmap;
use std::cell::RefCell;

/// Rows are verified and scanned in stretches of this many bytes.
const STRETCH_BYTES: usize = 1 << 20;

pub(crate) fn pack(at: Location) -> u64 {
    u64::from(at.source) << 32 | u64::from(at.row)
}

pub(crate) fn unpack(row: u64) -> Location {
    Location { source: (row >> 32) as u32, row: row as u32 }
}

/// Searches for rows `first..first + count` of validated `queries`.
pub(crate) fn search(
    collection: &CollectionState,
    version: &Version,
    queries: &Vectors<'_>,
    range: std::ops::Range<usize>,
    options: &SearchOptions,
) -> Result<Vec<Hits>> {
    let found = candidates(collection, version, queries, range, options)?;
    found.candidates.into_iter().map(|top| finish(collection, version, top, options, found.whole)).collect()
}

/// The best candidates of each query, best first.
pub(crate) struct Found {
    pub(crate) candidates: Vec<Vec<Candidate>>,
    /// Whether nothing that would be among them was left out.
    pub(crate) whole: bool,
}

/// The best candidates of the rows `range` of `queries`.
pub(crate) fn candidates(
    collection: &CollectionState,
    version: &Version,
    queries: &Vectors<'_>,
    range: std::ops::Range<usize>,
    options: &SearchOptions,
) -> Result<Found> {
    let start = range.start;
    let prepared: Vec<Prepared> = range.map(|row| Prepared::new(&collection.schema, queries, row)).collect();
    let wanted = options.k + options.offset;
    let encoded = queries.as_le_bytes();
    let encoded = &encoded[start * collection.schema.stride()..];
    let mut tops: Vec<TopK> = prepared.iter().map(|_| TopK::new(wanted)).collect();
    let (mut skipped, mut approximate) = (false, false);
    for part in version.parts() {
        match search_part(&part, collection, &prepared, encoded, options, &mut tops) {
            Ok(walked) => approximate |= walked,
            // A degraded version answers from what is whole, and says that it may not be complete.
            Err(_) if !version.damaged.is_empty() => skipped = true,
            Err(e) => return Err(e),
        }
    }
    // What a graph did not find may still score well enough.
    let unsure = approximate && options.min_score.is_some();
    let whole = !skipped && !unsure && version.damaged.is_empty();
    Ok(Found { candidates: tops.into_iter().map(TopK::into_sorted).collect(), whole })
}

/// Most hits that a graph is asked for, and the least share of its rows that a filter must leave.
const MAX_GRAPH_K: usize = 1_000;
const MIN_GRAPH_SHARE: u64 = 10;

/// Searches one part by its graph, if it has one and that is the better way, else by scanning it; whether by its graph.
fn search_part(
    part: &Part<'_>,
    collection: &CollectionState,
    queries: &[Prepared],
    encoded: &[u8],
    options: &SearchOptions,
    tops: &mut [TopK],
) -> Result<bool> {
    let matching = options.filter.as_ref().map(|filter| part.live_matching(filter)).transpose()?;
    let rows = u64::from(part.rows.rows());
    let wanted = options.k + options.offset;
    let wide = matching.as_ref().is_none_or(|m| m.len() * MIN_GRAPH_SHARE >= rows && m.len() >= 10_000);
    let approximate = options.ef.is_some() || options.recall < 1.0;
    if approximate
        && wide
        && wanted <= MAX_GRAPH_K
        && wanted as u64 * 8 <= rows
        && let Some(segment) = part.segment
        && let Some(graph) = &*segment.graph_for_search()
    {
        let vectors = Rows::new(segment.all_vectors()?, rows as usize, &collection.schema)?;
        let effort = match options.ef {
            Some(ef) => Effort::beam(ef.max(wanted)),
            None => graph.index.effort_for(options.recall, wanted),
        };
        return walk_graph(part, &graph.index, vectors, effort, wanted, queries, encoded, matching.as_ref(), tops)
            .map(|()| true);
    }
    scan_part(part, queries, matching.as_ref(), tops).map(|()| false)
}

thread_local! {
    /// What one search leaves to the next on the same thread.
    static SCRATCH: RefCell<(Scratch, Vec<(u32, f32)>)> = RefCell::default();
}

#[allow(clippy::too_many_arguments)]
fn walk_graph(
    part: &Part<'_>,
    graph: &GraphIndex,
    vectors: Rows<'_>,
    effort: Effort,
    wanted: usize,
    queries: &[Prepared],
    encoded: &[u8],
    matching: Option<&RoaringBitmap>,
    tops: &mut [TopK],
) -> Result<()> {
    let is_live = |row: u32| part.is_live(row);
    let passes = |row: u32| matching.is_some_and(|m| m.contains(row));
    let live: Option<&dyn Fn(u32) -> bool> = match matching {
        Some(_) => Some(&passes),
        None if part.all_live() => None,
        None => Some(&is_live),
    };
    SCRATCH.with_borrow_mut(|(scratch, found)| {
        for ((query, top), bytes) in queries.iter().zip(tops).zip(encoded.chunks_exact(query_bytes(queries))) {
            graph.search_prepared(&vectors, bytes, query, wanted, effort, live, scratch, found)?;
            for (row, distance) in found.iter() {
                if let Some(segment) = part.segment {
                    segment.prefetch_id_ends(*row);
                }
                top.push(*distance, pack(part.location(*row)));
            }
        }
        Ok(())
    })
}

fn query_bytes(queries: &[Prepared]) -> usize {
    queries.first().map_or(1, Prepared::stride)
}

fn scan_part(part: &Part<'_>, queries: &[Prepared], matching: Option<&RoaringBitmap>, tops: &mut [TopK]) -> Result<()> {
    let Some(first) = queries.first() else { return Ok(()) };
    let stretch = (STRETCH_BYTES / first.stride()).next_multiple_of(64).max(64) as u32;
    let rows = part.rows.rows();
    let mut words = Vec::new();
    for start in (0..rows).step_by(stretch as usize) {
        let count = stretch.min(rows - start);
        words.clear();
        words.resize((count as usize).div_ceil(64), 0u64);
        let mut set = |row: u32| words[((row - start) / 64) as usize] |= 1 << ((row - start) % 64);
        let all = match matching {
            Some(matching) => {
                if matching.range_cardinality(start..start + count) == 0 {
                    continue;
                }
                matching.range(start..start + count).for_each(&mut set);
                false
            }
            None => {
                let runs = part.live_runs_in(start..start + count);
                if runs.is_empty() {
                    continue;
                }
                let all = runs[0] == (start..start + count);
                if !all {
                    runs.into_iter().flatten().for_each(&mut set);
                }
                all
            }
        };
        let block = Block {
            rows: part.rows.vectors(start, count)?,
            live: (!all).then_some(&words),
            first_row: pack(part.location(start)),
        };
        scan_batch(queries, block, tops);
    }
    Ok(())
}

fn finish(
    collection: &CollectionState,
    version: &Version,
    found: Vec<Candidate>,
    options: &SearchOptions,
    whole: bool,
) -> Result<Hits> {
    let metric = collection.schema.metric;
    let good = |c: &Candidate| options.min_score.is_none_or(|min| metric.score(c.key) >= min);
    let mut hits = Vec::with_capacity(options.k.min(found.len()));
    // Ids lie at random places: waiting for all of them at once is shorter than for one after the other.
    for (source, row) in found.iter().filter_map(|candidate| version.source(unpack(candidate.row))) {
        source.prefetch_id(row);
    }
    // Chosen, ordered and cut by one and the same order, so that pages neither repeat nor omit a record.
    for candidate in found.iter().filter(|c| good(c)).skip(options.offset) {
        hits.push(hit(collection, version, *candidate, options.include)?);
    }
    let complete = whole && hits.len() < options.k;
    Ok(Hits { hits, complete })
}

fn hit(collection: &CollectionState, version: &Version, candidate: Candidate, include: Include) -> Result<Hit> {
    let at = unpack(candidate.row);
    let Some((source, row)) = version.source(at) else {
        return Err(crate::error::Error::Unusable("a candidate is not in the version it was found in".into()));
    };
    let fields = fields(collection, source, row, include)?;
    Ok(Hit {
        id: fields.id,
        distance: candidate.key,
        score: collection.schema.metric.score(candidate.key),
        vector_score: Some(collection.schema.metric.score(candidate.key)),
        text_score: None,
        vector: fields.vector,
        metadata: fields.metadata,
        text: fields.text,
        snippet: None,
    })
}

pub(crate) struct Fields {
    pub(crate) id: crate::ids::Id,
    pub(crate) vector: Option<Vector>,
    pub(crate) metadata: Option<serde_json::Value>,
    pub(crate) text: Option<String>,
}

/// Reads one row's fields.
pub(crate) fn fields(
    collection: &CollectionState,
    source: &dyn RowSource,
    row: u32,
    include: Include,
) -> Result<Fields> {
    let damaged = |what: &str| crate::error::Error::corrupt("record", u64::from(row), what);
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
    Ok(Fields { id, vector, metadata, text })
}

/// Reads one whole record.
pub(crate) fn record(collection: &CollectionState, source: &dyn RowSource, row: u32) -> Result<Record> {
    let fields = fields(collection, source, row, Include::ALL)?;
    Ok(Record {
        id: fields.id,
        vector: fields.vector.unwrap_or(Vector::F32(Vec::new())),
        metadata: fields.metadata,
        text: fields.text,
    })
}
