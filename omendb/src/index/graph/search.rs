//! Walks the graph over short codes and re-ranks what it found exactly.

use super::exact::{ExactQuery, Kind};
use super::layout::{GraphIndex, words};
use super::prune::NO_NEIGHBOUR;
use super::Rows;
use crate::distance::codes;
use crate::distance::fastscan::{self, BLOCK, SignBlock, SignTables};
use crate::distance::gemm::{self, KeyBits, RowBlock, TILE};
use crate::error::{Error, Result};

/// How hard a search tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Candidates kept while walking. More find more, slower.
    pub beam: usize,
    /// Found rows that are compared exactly, beyond the `k` asked for.
    pub rerank: usize,
}

impl Effort {
    /// The effort of a plain beam.
    pub fn beam(beam: usize) -> Self {
        Effort { beam, rerank: 16 }
    }
}

/// What a search did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SearchStats {
    /// Nodes whose neighbours were looked at.
    pub hops: usize,
    /// Codes compared, one-bit estimates included.
    pub compared: usize,
    /// Rows compared exactly.
    pub reranked: usize,
}

/// Buffers that one search leaves to the next. One for each thread.
#[derive(Default)]
pub struct Scratch {
    visited: Vec<u64>,
    touched: Vec<u32>,
    beam: Vec<u64>,
    expanded: Vec<(f32, u32)>,
    query: Vec<u8>,
    signed: Vec<u8>,
    placed: Vec<f32>,
    values: Vec<f32>,
    tables: SignTables,
    exact: ExactQuery,
    fresh: Vec<u32>,
    distances: Vec<u32>,
    products: Vec<i32>,
    best: Vec<u32>,
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scratch")
    }
}

/// Marks a candidate whose neighbours were looked at.
const EXPANDED: u64 = 1 << 31;
/// Entry points that a walk starts from.
const STARTS: usize = 4;

/// Maps floats to integers of the same order.
#[inline]
fn ordered(value: f32) -> u32 {
    let bits = value.to_bits();
    bits ^ (((bits as i32 >> 31) as u32) | 0x8000_0000)
}

#[inline]
fn unordered(bits: u32) -> f32 {
    f32::from_bits(if bits >> 31 == 1 { bits ^ 0x8000_0000 } else { !bits })
}

impl Scratch {
    fn reset(&mut self, count: usize) {
        let need = count.div_ceil(64);
        if self.visited.len() < need {
            self.visited.resize(need, 0);
        }
        for &word in &self.touched {
            self.visited[word as usize] = 0;
        }
        self.touched.clear();
        self.beam.clear();
        self.expanded.clear();
    }

    /// Marks a node; whether it was new.
    #[inline]
    fn visit(&mut self, id: u32) -> bool {
        let (word, bit) = (id as usize / 64, 1u64 << (id % 64));
        let seen = self.visited[word];
        if seen & bit != 0 {
            return false;
        }
        if seen == 0 {
            self.touched.push(word as u32);
        }
        self.visited[word] = seen | bit;
        true
    }

    #[inline]
    fn seen(&self, id: u32) -> bool {
        self.visited[id as usize / 64] >> (id % 64) & 1 == 1
    }

    /// Puts a candidate in its place; the place, or `size` where it is worse than all of a full beam.
    #[inline]
    fn insert(&mut self, distance: f32, id: u32, size: usize) -> usize {
        let key = u64::from(ordered(distance)) << 32 | u64::from(id);
        if self.beam.len() >= size {
            if self.beam.last().is_some_and(|&last| key >= last) {
                return size;
            }
            self.beam.pop();
        }
        let place = self.beam.partition_point(|&other| other < key);
        self.beam.insert(place, key);
        place
    }

    #[inline]
    fn threshold(&self, size: usize) -> f32 {
        match self.beam.last() {
            Some(&last) if self.beam.len() >= size => unordered((last >> 32) as u32),
            _ => f32::INFINITY,
        }
    }
}

impl GraphIndex {
    /// Finds the `k` nearest rows of `query`, which is encoded like a stored row, among those that `live` accepts.
    ///
    /// `rows` are the rows that the graph was built from. `out` receives row numbers and the metric's distances,
    /// nearest first, ties by row number. Fewer than `k` come back only where fewer are live.
    #[allow(clippy::too_many_arguments)]
    pub fn search(
        &self,
        rows: Rows<'_>,
        query: &[u8],
        k: usize,
        effort: Effort,
        live: Option<&dyn Fn(u32) -> bool>,
        scratch: &mut Scratch,
        out: &mut Vec<(u32, f32)>,
    ) -> Result<SearchStats> {
        out.clear();
        let stride = rows.element.stride(rows.dim);
        let same = (rows.dim, rows.element, rows.metric) == (self.quantizer.dim, self.quantizer.element, self.quantizer.metric);
        if query.len() != stride || rows.count != self.count || !same {
            return Err(Error::invalid(format!(
                "a query of {} bytes and {} rows of {} dimensions given to a graph over {} rows of {} dimensions, {} bytes each",
                query.len(),
                rows.count,
                rows.dim,
                self.count,
                self.quantizer.dim,
                self.quantizer.element.stride(self.quantizer.dim)
            )));
        }
        let mut stats = SearchStats::default();
        let k = k.min(self.count);
        if k == 0 {
            return Ok(stats);
        }
        self.prepare(query, scratch);
        let mut size = effort.beam.max(k).max(STARTS).min(self.count.max(STARTS));
        loop {
            scratch.reset(self.count);
            self.walk(size, scratch, &mut stats);
            self.rerank(&rows, k, effort.rerank, live, scratch, out, &mut stats);
            if out.len() >= k || size >= self.count {
                return Ok(stats);
            }
            size = (size * 4).min(self.count);
        }
    }

    /// Encodes the query for the walk.
    fn prepare(&self, query: &[u8], scratch: &mut Scratch) {
        scratch.query.resize(self.width, 0);
        scratch.exact.set(self.quantizer.element, query);
        if self.inline {
            scratch.placed.resize(self.width, 0.0);
            self.quantizer.place_query(query, &mut scratch.values, &mut scratch.placed);
            crate::quantize::scalar::round_codes(&scratch.placed, &mut scratch.query);
            scratch.tables.fill(&scratch.placed);
        } else {
            self.quantizer.encode_query(query, &mut scratch.values, &mut scratch.query);
        }
    }

    fn walk(&self, size: usize, scratch: &mut Scratch, stats: &mut SearchStats) {
        self.start(size, scratch, stats);
        let mut cursor = 0;
        while cursor < scratch.beam.len() {
            let candidate = scratch.beam[cursor];
            if candidate & EXPANDED != 0 {
                cursor += 1;
                continue;
            }
            scratch.beam[cursor] |= EXPANDED;
            let id = (candidate & (EXPANDED - 1)) as u32;
            cursor += 1;
            if let Some(&next) = scratch.beam.get(cursor) {
                self.prefetch((next & (EXPANDED - 1)) as u32);
            }
            let first = if self.inline {
                if !scratch.visit(id) {
                    continue;
                }
                self.expand_inline(id, size, cursor, scratch, stats)
            } else {
                let distance = unordered((candidate >> 32) as u32);
                scratch.expanded.push((distance, id));
                self.expand_separate(id, size, scratch, stats)
            };
            stats.hops += 1;
            cursor = cursor.min(first);
        }
    }

    #[inline]
    fn prefetch(&self, id: u32) {
        codes::prefetch(self.node(id), 16);
        if self.inline {
            codes::prefetch(self.code(id), 4);
        }
    }

    /// Fills the beam with the nearest entry points.
    fn start(&self, size: usize, scratch: &mut Scratch, stats: &mut SearchStats) {
        let entries = self.entries();
        stats.compared += entries.len();
        let mut starts = [(f32::INFINITY, 0u32); STARTS];
        let mut offer = |distance: f32, id: u32| {
            if distance < starts[STARTS - 1].0 {
                starts[STARTS - 1] = (distance, id);
                starts.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            }
        };
        if self.kind == Kind::Product {
            codes::product_many(&scratch.query, self.codes(), entries, &mut scratch.products);
            scratch.products.iter().zip(entries).for_each(|(&product, &id)| offer(-(product as f32), id));
        } else {
            scratch.signed.clear();
            scratch.signed.extend(scratch.query.iter().map(|code| code ^ 0x80));
            let terms = [codes::row_terms(&scratch.query).1];
            let block = RowBlock { signed: &scratch.signed, terms: &terms };
            let bits = KeyBits { shift: 0, index_bits: 0 };
            for (tile, ids) in self.entry_tiles.iter().zip(entries.chunks(TILE)) {
                gemm::nearest_rows(tile, block, bits, 1, &mut scratch.best);
                scratch.best.iter().zip(ids).for_each(|(&distance, &id)| offer(distance as f32, id));
            }
        }
        for (distance, id) in starts.into_iter().filter(|start| start.0 < f32::INFINITY) {
            if self.inline || scratch.visit(id) {
                scratch.insert(distance, id, size);
                self.prefetch(id);
            }
        }
    }

    /// Looks at the neighbours of `id` through the codes in its block; the first place of the beam that changed.
    fn expand_inline(&self, id: u32, size: usize, cursor: usize, scratch: &mut Scratch, stats: &mut SearchStats) -> usize {
        let base = codes::squared_l2(&scratch.query, self.code(id)) as f32;
        scratch.expanded.push((base, id));
        let (list, rest) = self.node(id).split_at(self.degree * 4);
        let list = words(list);
        let (adds, rest) = rest.split_at(self.degree * 2);
        let (slopes, signs) = rest.split_at(self.degree * 2);
        let block_bytes = fastscan::block_bytes(self.width);
        let mut estimates = [0f32; BLOCK];
        let mut first = usize::MAX;
        for part in 0..self.degree / BLOCK {
            let block = SignBlock {
                codes: &signs[part * block_bytes..][..block_bytes],
                add: &adds[part * 64..][..64],
                slope: &slopes[part * 64..][..64],
            };
            stats.compared += BLOCK;
            let threshold = scratch.threshold(size);
            let mut below = fastscan::estimate(&scratch.tables, block, base, threshold, &mut estimates);
            let ids = &list[part * BLOCK..][..BLOCK];
            while below != 0 {
                let index = below.trailing_zeros() as usize;
                below &= below - 1;
                let other = ids[index];
                if other == NO_NEIGHBOUR || scratch.seen(other) {
                    continue;
                }
                let place = scratch.insert(estimates[index], other, size);
                if place <= cursor {
                    self.prefetch(other);
                }
                first = first.min(place);
            }
        }
        first
    }

    /// Compares the query with the codes of the neighbours of `id`; the first place of the beam that changed.
    fn expand_separate(&self, id: u32, size: usize, scratch: &mut Scratch, stats: &mut SearchStats) -> usize {
        let list = words(self.node(id));
        let mut fresh = std::mem::take(&mut scratch.fresh);
        fresh.clear();
        for &other in list.iter().take_while(|&&other| other != NO_NEIGHBOUR) {
            if scratch.visit(other) {
                codes::prefetch(self.code(other), 8);
                fresh.push(other);
            }
        }
        stats.compared += fresh.len();
        let mut first = usize::MAX;
        if self.kind == Kind::Product {
            codes::product_many(&scratch.query, self.codes(), &fresh, &mut scratch.products);
            let products = std::mem::take(&mut scratch.products);
            for (&product, &other) in products.iter().zip(&fresh) {
                first = first.min(scratch.insert(-(product as f32), other, size));
            }
            scratch.products = products;
        } else {
            codes::squared_l2_many(&scratch.query, self.codes(), &fresh, &mut scratch.distances);
            let distances = std::mem::take(&mut scratch.distances);
            for (&distance, &other) in distances.iter().zip(&fresh) {
                first = first.min(scratch.insert(distance as f32, other, size));
            }
            scratch.distances = distances;
        }
        scratch.fresh = fresh;
        first
    }

    /// Compares the best of what the walk saw exactly.
    #[allow(clippy::too_many_arguments)]
    fn rerank(
        &self,
        rows: &Rows<'_>,
        k: usize,
        more: usize,
        live: Option<&dyn Fn(u32) -> bool>,
        scratch: &mut Scratch,
        out: &mut Vec<(u32, f32)>,
        stats: &mut SearchStats,
    ) {
        let order = self.order();
        let found = &mut scratch.expanded;
        found.iter_mut().for_each(|(_, id)| *id = order[*id as usize]);
        if let Some(live) = live {
            found.retain(|&(_, row)| live(row));
        }
        let wanted = (k + more).min(found.len());
        if wanted < found.len() {
            found.select_nth_unstable_by(wanted, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            found.truncate(wanted);
        }
        for &(_, row) in found.iter() {
            codes::prefetch(rows.row(row as usize), 8);
        }
        out.clear();
        for &(_, row) in found.iter() {
            out.push((row, scratch.exact.distance(rows, row as usize)));
        }
        stats.reranked += wanted;
        out.sort_unstable_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        out.truncate(k);
    }
}
