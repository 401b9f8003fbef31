//! Walks the graph over short codes and re-ranks what it found exactly.

use super::Rows;
use super::exact::{self, Kind};
use super::filtered::Passing;
use super::layout::{GraphIndex, InlineBlock, words};
use super::prune::NO_NEIGHBOUR;
use super::scratch::{Scratch, Sieve, unordered};
use crate::distance::Prepared;
use crate::distance::codes;
use crate::distance::fastscan::{self, BLOCK};
use crate::distance::gemm::{self, KeyBits, RowBlock, TILE};
use crate::error::{Error, Result};
use crate::schema::Metric;
use std::cmp::Reverse;

/// How hard a search tries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// The walk ends where the next candidate's squared distance exceeds this many times that of the `k`-th found.
    /// Hard queries, whose neighbours are all about as far, so get more work by themselves. Infinite, the walk keeps
    /// to `beam` instead; dot products always do.
    pub slack: f32,
    /// Nodes whose nearness ends the walk where there is no slack. More find more, slower.
    pub beam: usize,
    /// Found rows that are compared exactly, beyond the `k` asked for, where their codes leave a doubt.
    pub rerank: usize,
    /// The walk gives up after this many nodes.
    pub hops: usize,
    /// The slack of usual searches, for a recall of .95, by which this one's is judged.
    pub usual: f32,
}

impl Effort {
    /// The effort of a plain beam, as users know it (`ef`).
    pub fn beam(beam: usize) -> Self {
        Effort { slack: f32::INFINITY, beam, rerank: RERANK, hops: usize::MAX, usual: f32::INFINITY }
    }

    /// The effort of a distance ratio; 1.0 to 1.2 is usual.
    pub fn slack(slack: f32) -> Self {
        Effort { slack, beam: 128, rerank: RERANK, hops: usize::MAX, usual: slack }
    }
}

/// Rows compared exactly beyond those asked for, unless the caller says.
const RERANK: usize = 16;
/// Of those, the ones whose codes are so near the last row asked for that rounding may have put them behind it: a
/// distance d between codes errs by about 0.8 d, so its square by this many times that for a pair of rows, seldom more.
const ROUNDING: f32 = 4.0;
/// Where codes keep the directions that matter alone, they also err by a share of the squared distance.
const LEFT_OUT: f32 = 0.1;
/// The walk judges its progress by at least this many found rows.
const LEAST_JUDGED: usize = 10;

/// What a search did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SearchStats {
    /// Nodes whose neighbours were looked at.
    pub hops: usize,
    /// Codes compared, one-bit estimates included.
    pub compared: usize,
    /// Rows compared exactly.
    pub reranked: usize,
    /// The walk was not done after as many nodes as [`Effort::hops`] allows: nothing was found.
    pub gave_up: bool,
}

impl SearchStats {
    /// What both did together.
    pub(crate) fn with(self, other: SearchStats) -> SearchStats {
        SearchStats {
            hops: self.hops + other.hops,
            compared: self.compared + other.compared,
            reranked: self.reranked + other.reranked,
            gave_up: self.gave_up || other.gave_up,
        }
    }
}

/// Entry points that a walk starts from.
const STARTS: usize = 4;
/// How much farther than the last of the nearest estimates a node may seem: so much do estimates err. Without it, every
/// neighbour of the first nodes would wait to be looked at.
const DOUBT: f32 = 1.15;
/// In a graph of fewer nodes some can be reached over farther ones alone: there everything waits.
const FEW_WAYS: usize = 2_000;
/// Codes that are asked for before the first of them is compared.
const AMONG: usize = 32;
/// Most bytes of a node's block that are asked for ahead; the processor follows a longer stretch by itself.
const PREFETCHED: usize = 2048;

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
        self.fits(&rows, query)?;
        self.search_prepared(&rows, query, &exact::prepare(&rows, query), k, effort, live, scratch, out)
    }

    /// Refuses what a search of this graph cannot take.
    pub(crate) fn fits(&self, rows: &Rows<'_>, query: &[u8]) -> Result<()> {
        let stride = rows.element.stride(rows.dim);
        let same = (rows.dim, rows.element, rows.metric)
            == (self.quantizer.dim, self.quantizer.element, self.quantizer.metric);
        if query.len() != stride || rows.count != self.count || !same {
            return Err(Error::invalid(format!(
                "a query of {} bytes and {} rows of {} dimensions given to a graph over {} rows of {} dimensions, {} \
                    bytes each",
                query.len(),
                rows.count,
                rows.dim,
                self.count,
                self.quantizer.dim,
                self.quantizer.element.stride(self.quantizer.dim)
            )));
        }
        Ok(())
    }

    /// As [`search`](Self::search), with the query prepared for exact distances too.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn search_prepared(
        &self,
        rows: &Rows<'_>,
        query: &[u8],
        prepared: &Prepared,
        k: usize,
        effort: Effort,
        live: Option<&dyn Fn(u32) -> bool>,
        scratch: &mut Scratch,
        out: &mut Vec<(u32, f32)>,
    ) -> Result<SearchStats> {
        let mut stats = SearchStats::default();
        let k = self.begin(rows, query, k, effort, scratch, out)?;
        if k > 0 {
            self.walk(live, effort.hops, scratch, &mut stats);
            self.rerank(rows, prepared, (k, effort.rerank), scratch, out, &mut stats);
        }
        Ok(stats)
    }

    /// As [`search_prepared`](Self::search_prepared) among the nodes that pass a filter.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn search_passing(
        &self,
        rows: &Rows<'_>,
        query: &[u8],
        prepared: &Prepared,
        k: usize,
        effort: Effort,
        passing: &Passing<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<(u32, f32)>,
    ) -> Result<SearchStats> {
        let mut stats = SearchStats::default();
        let k = self.begin(rows, query, k, effort, scratch, out)?;
        if k > 0 {
            self.walk_passing(passing, effort, scratch, &mut stats);
            self.rerank(rows, prepared, (k, effort.rerank), scratch, out, &mut stats);
        }
        Ok(stats)
    }

    /// Makes ready for a walk; returns how many rows there can be to find.
    pub(super) fn begin(
        &self,
        rows: &Rows<'_>,
        query: &[u8],
        k: usize,
        effort: Effort,
        scratch: &mut Scratch,
        out: &mut Vec<(u32, f32)>,
    ) -> Result<usize> {
        self.fits(rows, query)?;
        out.clear();
        let k = k.min(self.count);
        if k > 0 {
            self.prepare(query, scratch);
            scratch.reset(self.count);
            let judged = k.max(LEAST_JUDGED).min(self.count);
            let (judged, slack) = match effort.slack.is_finite() && self.kind == Kind::Euclidean {
                true => (judged, effort.slack),
                false => (effort.beam.max(judged).min(self.count), 1.0),
            };
            scratch.nearest.reset(judged, slack);
            // A node is counted as often as it is met: among many results that would bound too early.
            let bounded = self.count >= FEW_WAYS && judged <= LEAST_JUDGED;
            scratch.hoped.reset(if bounded { judged } else { 0 }, slack * DOUBT);
        }
        Ok(k)
    }

    /// As [`search_prepared`](Self::search_prepared) among these nodes alone, each of which is compared.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn search_among(
        &self,
        rows: &Rows<'_>,
        query: &[u8],
        prepared: &Prepared,
        k: usize,
        nodes: impl Iterator<Item = u32>,
        scratch: &mut Scratch,
        out: &mut Vec<(u32, f32)>,
    ) -> Result<SearchStats> {
        self.fits(rows, query)?;
        let mut stats = SearchStats::default();
        self.prepare(query, scratch);
        scratch.found.clear();
        let mut nodes = nodes.filter(|&node| (node as usize) < self.count);
        let mut fresh = std::mem::take(&mut scratch.fresh);
        let mut distances = std::mem::take(&mut scratch.distances);
        let more = self.more_than(k);
        let room = 2 * (k + more) + 1024;
        let mut bound = f32::INFINITY;
        loop {
            fresh.clear();
            fresh.extend(nodes.by_ref().take(AMONG).inspect(|&node| codes::prefetch(self.code(node), PREFETCHED)));
            if fresh.is_empty() {
                break;
            }
            stats.compared += fresh.len();
            self.distances(&fresh, scratch, &mut distances);
            let near = distances.iter().copied().zip(fresh.iter().copied()).filter(|&(distance, _)| distance <= bound);
            scratch.found.extend(near);
            if scratch.found.len() >= room {
                let (_, &mut (last, _), _) = scratch.found.select_nth_unstable_by(k + more, |a, b| a.0.total_cmp(&b.0));
                bound = last;
                scratch.found.truncate(k + more + 1);
            }
        }
        (scratch.fresh, scratch.distances) = (fresh, distances);
        self.rerank(rows, prepared, (k, more), scratch, out, &mut stats);
        Ok(stats)
    }

    /// The distances of the query from the codes of these nodes.
    pub(super) fn distances(&self, nodes: &[u32], scratch: &mut Scratch, out: &mut Vec<f32>) {
        out.clear();
        if let Some(coder) = &self.coder {
            coder.distances(&scratch.coded, self.codes(), nodes, out);
        } else if self.inline.is_some() {
            out.extend(nodes.iter().map(|&node| codes::squared_l2(&scratch.query, self.code(node)) as f32));
        } else if self.kind == Kind::Product {
            codes::product_many(&scratch.query, self.codes(), nodes, &mut scratch.products);
            out.extend(scratch.products.iter().map(|&product| -(product as f32)));
        } else {
            codes::squared_l2_many(&scratch.query, self.codes(), nodes, &mut scratch.squares);
            out.extend(scratch.squares.iter().map(|&square| square as f32));
        }
    }

    /// Encodes the query for the walk.
    pub(super) fn prepare(&self, query: &[u8], scratch: &mut Scratch) {
        scratch.query.resize(self.width, 0);
        if self.inline.is_some() {
            scratch.placed.resize(self.width, 0.0);
            self.quantizer.place_query(query, &mut scratch.values, &mut scratch.placed);
            crate::quantize::scalar::round_codes(&scratch.placed, &mut scratch.query);
            scratch.tables.fill(&scratch.placed);
        } else {
            self.quantizer.encode_query(query, &mut scratch.values, &mut scratch.query);
        }
        if let Some(coder) = &self.coder {
            coder.prepare(&self.quantizer, query, &mut scratch.space, &mut scratch.coded);
        }
    }

    /// Looks at one candidate after the other, nearest first. The next one is chosen before the last is looked at, so
    /// that its block arrives meanwhile. True if it met the node that is sought.
    pub(super) fn walk(
        &self,
        live: Option<&dyn Fn(u32) -> bool>,
        most: usize,
        scratch: &mut Scratch,
        stats: &mut SearchStats,
    ) -> bool {
        self.start(live, scratch, stats);
        let mut restarted = false;
        let mut chosen = None;
        loop {
            let next = self.choose(scratch);
            let Some(id) = std::mem::replace(&mut chosen, next) else {
                if chosen.is_some() {
                    continue;
                }
                // Too few found: what the nearest entry points do not lead to, the others do.
                if restarted || scratch.nearest.limit < f32::INFINITY {
                    return false;
                }
                restarted = true;
                scratch.lift_estimates(self.count);
                self.start_everywhere(live, scratch, stats);
                continue;
            };
            if scratch.sought == Some(id) {
                return true;
            }
            self.expand(id, live, scratch, stats);
            if stats.hops >= most {
                stats.gave_up = true;
                return false;
            }
        }
    }

    /// Looks at the neighbours of a node.
    #[inline]
    pub(super) fn expand(&self, id: u32, sieve: impl Sieve, scratch: &mut Scratch, stats: &mut SearchStats) {
        match self.inline {
            Some(inline) => self.expand_inline(id, inline, sieve, scratch, stats),
            None => self.compare(words(self.node(id)), sieve, scratch, stats),
        }
        stats.hops += 1;
    }

    /// Takes the nearest candidate, if it is near enough, and asks for its block.
    #[inline]
    fn choose(&self, scratch: &mut Scratch) -> Option<u32> {
        while let Some(&Reverse(candidate)) = scratch.frontier.peek() {
            let (distance, id) = (unordered((candidate >> 32) as u32), candidate as u32);
            if distance > scratch.nearest.limit {
                return None;
            }
            scratch.frontier.pop();
            if self.is_new(id, scratch) {
                self.prefetch(id);
                return Some(id);
            }
        }
        None
    }

    /// Whether a candidate was not looked at before. Without inline codes a node becomes a candidate once.
    #[inline]
    pub(super) fn is_new(&self, id: u32, scratch: &mut Scratch) -> bool {
        self.inline.is_none() || scratch.visit(id)
    }

    /// Takes a row whose code was compared into account, if it is wanted.
    #[inline]
    pub(super) fn found(&self, distance: f32, id: u32, sieve: impl Sieve, scratch: &mut Scratch) {
        if distance <= scratch.nearest.limit && sieve.keeps(self, id) {
            scratch.found.push((distance, id));
            scratch.nearest.add(distance);
            if sieve.beams() {
                scratch.beam.add(distance);
            }
        }
    }

    #[inline]
    pub(super) fn prefetch(&self, id: u32) {
        codes::prefetch(self.node(id), PREFETCHED);
    }

    /// Asks for a node's code, where nodes do not hold them.
    #[inline]
    fn prefetch_code(&self, id: u32) {
        let bytes = self.coder.as_ref().map_or(self.width, |coder| coder.bytes());
        codes::prefetch(&self.codes()[id as usize * bytes..][..bytes], 512);
    }

    /// Begins with the nearest entry points.
    pub(super) fn start(&self, sieve: impl Sieve, scratch: &mut Scratch, stats: &mut SearchStats) {
        let entries = self.entries();
        stats.compared += entries.len();
        let mut starts = [(f32::INFINITY, 0u32); STARTS];
        let mut offer = |distance: f32, id: u32| {
            if distance < starts[STARTS - 1].0 {
                starts[STARTS - 1] = (distance, id);
                starts.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            }
            starts[STARTS - 1].0
        };
        if self.kind == Kind::Product {
            codes::product_many(&scratch.query, self.codes(), entries, &mut scratch.products);
            for (&product, &id) in scratch.products.iter().zip(entries) {
                offer(-(product as f32), id);
            }
        } else {
            scratch.signed.clear();
            scratch.signed.extend(scratch.query.iter().map(|code| code ^ 0x80));
            let terms = [codes::row_terms(&scratch.query).1];
            let block = RowBlock { signed: &scratch.signed, terms: &terms };
            let bits = KeyBits { shift: 0, index_bits: 0 };
            let mut limit = u32::MAX;
            for (tile, ids) in self.entry_tiles.iter().zip(entries.chunks(TILE)) {
                gemm::nearest_rows(tile, block, bits, 1, &mut scratch.best);
                for (distances, ids) in scratch.best.chunks(16).zip(ids.chunks(16)) {
                    // Few runs hold one that is near enough.
                    if distances.iter().fold(u32::MAX, |least, &distance| least.min(distance)) < limit {
                        for (&distance, &id) in distances.iter().zip(ids) {
                            limit = offer(distance as f32, id) as u32;
                        }
                    }
                }
            }
        }
        for (distance, id) in starts.into_iter().filter(|start| start.0 < f32::INFINITY) {
            if self.inline.is_some() {
                scratch.push(distance, id, sieve);
            } else if self.coder.is_some() {
                self.compare(&[id], sieve, scratch, stats);
            } else if scratch.visit(id) {
                self.found(distance, id, sieve, scratch);
                scratch.push(distance, id, sieve);
            }
        }
    }

    /// Adds these nodes to those that the walk begins with.
    pub(super) fn start_at(&self, nodes: &[u32], sieve: impl Sieve, scratch: &mut Scratch, stats: &mut SearchStats) {
        if self.inline.is_none() {
            return self.compare(nodes, sieve, scratch, stats);
        }
        nodes.iter().for_each(|&node| codes::prefetch(self.code(node), self.width));
        stats.compared += nodes.len();
        for &node in nodes {
            scratch.push(codes::squared_l2(&scratch.query, self.code(node)) as f32, node, sieve);
        }
    }

    /// Adds all entry points.
    fn start_everywhere(&self, live: Option<&dyn Fn(u32) -> bool>, scratch: &mut Scratch, stats: &mut SearchStats) {
        if self.inline.is_some() {
            self.entries().iter().for_each(|&entry| scratch.push(f32::MAX, entry, live));
        } else {
            self.compare(self.entries(), live, scratch, stats);
        }
    }

    /// Looks at the neighbours of `id` through the codes in its block.
    fn expand_inline(
        &self,
        id: u32,
        inline: InlineBlock,
        sieve: impl Sieve,
        scratch: &mut Scratch,
        stats: &mut SearchStats,
    ) {
        let node = self.node(id);
        let base = codes::squared_l2(&scratch.query, &node[..self.width]) as f32;
        self.found(base, id, sieve, scratch);
        let mut estimates = [0f32; BLOCK];
        for part in 0..self.degree / BLOCK {
            stats.compared += BLOCK;
            let limit = scratch.nearest.limit.min(scratch.hoped.limit);
            let block = inline.signs(node, part);
            let mut below = fastscan::estimate(&scratch.tables, block, base, limit, &mut estimates);
            while below != 0 {
                let index = below.trailing_zeros() as usize;
                below &= below - 1;
                let other = inline.neighbour(node, part * BLOCK + index);
                if other == NO_NEIGHBOUR || scratch.seen(other) {
                    continue;
                }
                if sieve.looks_at(other) {
                    codes::prefetch(self.code(other), self.width);
                    scratch.fresh.push(other);
                } else {
                    if sieve.keeps_all() {
                        scratch.hoped.add(estimates[index]);
                    }
                    scratch.push(estimates[index], other, sieve);
                }
            }
        }
        sieve.look(self, scratch, stats);
    }

    /// Compares the query with the codes of those of `list` that are new.
    fn compare(&self, list: &[u32], sieve: impl Sieve, scratch: &mut Scratch, stats: &mut SearchStats) {
        let mut fresh = std::mem::take(&mut scratch.fresh);
        fresh.clear();
        for &other in list.iter().take_while(|&&other| other != NO_NEIGHBOUR) {
            if scratch.visit(other) {
                self.prefetch_code(other);
                fresh.push(other);
            }
        }
        stats.compared += fresh.len();
        let mut distances = std::mem::take(&mut scratch.distances);
        self.distances(&fresh, scratch, &mut distances);
        for (&distance, &other) in distances.iter().zip(&fresh) {
            if distance <= scratch.nearest.limit {
                self.found(distance, other, sieve, scratch);
                scratch.push(distance, other, sieve);
            }
        }
        (scratch.fresh, scratch.distances) = (fresh, distances);
    }

    /// The share of a squared distance by which codes may err, beyond rounding.
    pub(super) fn doubt(&self) -> f32 {
        let left_out = if self.quantizer.projects() { LEFT_OUT } else { 0.0 };
        left_out + self.coder.as_ref().map_or(0.0, |coder| coder.doubt())
    }

    /// How many rows beyond `k` are compared exactly where the codes of all were compared.
    pub(super) fn more_than(&self, k: usize) -> usize {
        RERANK + k
    }

    /// The largest distance of a code whose row may be as near as one whose code has this distance.
    pub(super) fn with_doubt(&self, distance: f32) -> f32 {
        distance * (1.0 + self.doubt()) + ROUNDING * distance.sqrt()
    }

    /// Compares the best of what the walk saw exactly.
    pub(super) fn rerank(
        &self,
        rows: &Rows<'_>,
        prepared: &Prepared,
        (k, more): (usize, usize),
        scratch: &mut Scratch,
        out: &mut Vec<(u32, f32)>,
        stats: &mut SearchStats,
    ) {
        if stats.gave_up {
            return;
        }
        let found = &mut scratch.found;
        let wanted = (k + more).min(found.len());
        if wanted < found.len() {
            found.select_nth_unstable_by(wanted, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            found.truncate(wanted);
        }
        if self.kind == Kind::Euclidean && wanted > k {
            let (_, &mut (last, _), _) = found.select_nth_unstable_by(k - 1, |a, b| a.0.total_cmp(&b.0));
            let limit = self.with_doubt(last);
            found.retain(|&(distance, _)| distance <= limit);
        }
        let order = self.order();
        found.iter_mut().for_each(|(_, id)| *id = order[*id as usize]);
        out.clear();
        if self.exact_codes {
            // Codes are the bytes themselves, so the walk's distances are exact already.
            let squared = rows.metric == Metric::L2;
            out.extend(found.iter().map(|&(d, row)| (row, if squared { f64::from(d).sqrt() as f32 } else { d })));
            out.sort_unstable_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
            out.truncate(k);
            return;
        }
        for &(_, row) in found.iter() {
            codes::prefetch(rows.row(row as usize), 512);
        }
        scratch.rows.clear();
        scratch.rows.extend(found.iter().map(|&(_, row)| row));
        scratch.exact.resize(scratch.rows.len(), 0.0);
        rows.distances_of(prepared, &scratch.rows, &mut scratch.exact);
        out.extend(scratch.rows.iter().copied().zip(scratch.exact.iter().copied()));
        stats.reranked += scratch.rows.len();
        out.sort_unstable_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        out.truncate(k);
    }
}
