//! The rows that pass a filter, gathered: one-bit codes of all of them, cell by cell.
//!
//! Each row's code hangs on its cell's centre, as neighbours hang on their node ([`fastscan`]). The cells are looked at
//! in the order of their distance from the query, until those have held nothing near for long
//! ([`patience`](super::patience)). Estimates, less what those may err, tell which codes have to be compared. An
//! estimate errs in proportion to how far the row and the query are from the centre, and to the inverse root of the
//! number of dimensions (Gao and Long, RaBitQ, SIGMOD 2024, theorem 3.2).

use super::Rows;
use super::cells;
use super::filtered::Passing;
use super::layout::{GraphIndex, allocate};
use super::patience::{Course, Learned};
use super::scratch::Scratch;
use super::search::SearchStats;
use super::signs::Hanger;
use crate::distance::Prepared;
use crate::distance::codes;
use crate::distance::fastscan::{self, BLOCK, SCALE_BYTES, SignBlock};
use crate::error::Result;
use memmap2::MmapMut;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// How far below its estimate a distance is still looked for, in multiples of `|row - centre| |query - centre|` over
/// the root of the dimensions: .994 to .999 of the ten nearest of SIFT are found with 2, .982 with 1.2, for 5 % less.
const DOUBT: f32 = 2.0;
/// Codes that are asked for before the first of them is compared.
const AHEAD: usize = 16;
/// Bytes of the next cell that are asked for while one is looked at.
const PREFETCHED: usize = 1024;
/// What is gathered takes at most this part of the graph's own memory.
const MEMORY_PART: usize = 48;
/// Bytes of a group's `add`, `slope` and scales.
const FACTORS: usize = 2 * BLOCK + SCALE_BYTES;
/// Rows of a cell for each root of those gathered, and more: fewer fill the groups of 32 badly.
const CELL_ROWS: f64 = 0.25;
const CELL_LEAST: usize = 48;
/// What comparing a centre costs, in rows that are looked at.
const CENTRE: usize = 5;
/// Rows that a search is expected to look at for each root of those gathered.
const EXPECTED: f64 = 40.0;
/// A search counts for this part of what is remembered of their cost.
const MEMORY: f32 = 32.0;
/// Which searches learn from each other: those for less than twice as many rows.
const SIZES: usize = 11;

/// One-bit codes of the nodes that pass.
pub(crate) struct Gathered {
    /// For each 32 nodes of a cell, the last may be fewer: their signs, then their factors.
    groups: MmapMut,
    /// The largest distance of a group's codes from their centre.
    radii: Vec<f32>,
    /// Group by group, padded with [`NO_NODE`].
    nodes: Vec<u32>,
    /// Of all cells.
    centres: Vec<u8>,
    /// The first group of each cell, and the end.
    starts: Vec<u32>,
    count: usize,
    width: usize,
    learned: [Mutex<Learned>; SIZES],
    /// An f32: what searches cost of late, in rows looked at.
    cost: AtomicU32,
}

/// Fills the last group of a cell.
const NO_NODE: u32 = u32::MAX;

impl std::fmt::Debug for Gathered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gathered({} nodes in {} cells)", self.count, self.cells())
    }
}

impl Gathered {
    /// Gathers the nodes that pass; `None` where the graph has no such codes, or they would take too much memory.
    pub(crate) fn new(graph: &GraphIndex, passing: &Passing<'_>) -> Option<Gathered> {
        let width = graph.inline?.width;
        let nodes: Vec<u32> = passing.nodes(graph.len()).collect();
        let size = cell_rows(nodes.len());
        let bytes = nodes.len() * (group_bytes(width) + BLOCK * 4) / BLOCK;
        if bytes + bytes / 8 > graph.as_bytes().len() / MEMORY_PART {
            return None;
        }
        let cells = cells::part(nodes.len(), width, size, |at| graph.code(nodes[at as usize]));
        let groups = cells.sizes.iter().map(|size| size.div_ceil(BLOCK)).sum::<usize>();
        let mut gathered = Gathered {
            groups: allocate(groups * group_bytes(width)).ok()?,
            radii: Vec::with_capacity(groups),
            nodes: Vec::with_capacity(groups * BLOCK),
            centres: cells.centres,
            starts: vec![0],
            count: nodes.len(),
            width,
            learned: Default::default(),
            cost: AtomicU32::new(0),
        };
        let mut places = gathered.groups.chunks_exact_mut(group_bytes(width));
        let mut hanger = Hanger::new(width, BLOCK);
        let mut members = cells.members.as_slice();
        for (centre, &size) in gathered.centres.chunks_exact(width).zip(&cells.sizes) {
            let (own, rest) = members.split_at(size);
            members = rest;
            let own: Vec<u32> = own.iter().map(|&at| nodes[at as usize]).collect();
            own.iter().for_each(|&node| codes::prefetch(graph.code(node), width));
            for (group, place) in own.chunks(BLOCK).zip(&mut places) {
                let (signs, factors) = place.split_at_mut(fastscan::block_bytes(width));
                let square = hanger.hang(centre, group.iter().map(|&node| graph.code(node)), signs, factors);
                gathered.radii.push(square.sqrt());
                gathered.nodes.extend_from_slice(group);
                gathered.nodes.resize(gathered.radii.len() * BLOCK, NO_NODE);
            }
            gathered.starts.push(gathered.radii.len() as u32);
        }
        gathered.cost = AtomicU32::new((expected_cost(nodes.len()) as f32).to_bits());
        Some(gathered)
    }

    /// What searches cost of late, in rows that are looked at.
    pub(crate) fn cost(&self) -> f32 {
        f32::from_bits(self.cost.load(Ordering::Relaxed))
    }

    fn cells(&self) -> usize {
        self.starts.len() - 1
    }

    fn signs(&self, group: usize) -> SignBlock<'_> {
        let (codes, factors) = self.groups[group * group_bytes(self.width)..][..group_bytes(self.width)]
            .split_at(fastscan::block_bytes(self.width));
        SignBlock { codes, add: &factors[..BLOCK], slope: &factors[BLOCK..2 * BLOCK], scales: &factors[2 * BLOCK..] }
    }

    fn groups(&self, cell: usize) -> Range<usize> {
        self.starts[cell] as usize..self.starts[cell + 1] as usize
    }
}

fn group_bytes(width: usize) -> usize {
    fastscan::block_bytes(width) + FACTORS
}

/// About how many rows each cell is to have.
fn cell_rows(count: usize) -> usize {
    ((count as f64).sqrt() * CELL_ROWS) as usize + CELL_LEAST
}

/// What a search will cost where `count` rows are gathered, in rows that are looked at.
pub(crate) fn expected_cost(count: usize) -> usize {
    count.min(((count as f64).sqrt() * EXPECTED) as usize) + count / cell_rows(count) * CENTRE
}

/// Cells by distance from a query, sorted as far as they are asked for: `distance << 32 | cell`.
struct Nearby<'a> {
    keys: &'a mut [u64],
    sorted: usize,
}

impl Nearby<'_> {
    /// How many are sorted at first.
    const FIRST: usize = 32;

    #[inline]
    fn get(&mut self, at: usize) -> Option<(f32, usize)> {
        if at == self.sorted && at < self.keys.len() {
            let rest = &mut self.keys[at..];
            let more = rest.len().min(at.max(Self::FIRST));
            if more < rest.len() {
                rest.select_nth_unstable(more);
            }
            rest[..more].sort_unstable();
            self.sorted += more;
        }
        self.keys.get(at).map(|key| ((key >> 32) as f32, (key & u64::from(u32::MAX)) as usize))
    }
}

impl GraphIndex {
    /// As [`search_among`](Self::search_among), with what is gathered of the nodes: all of them without a `recall`,
    /// else as many as it needs.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn search_gathered(
        &self,
        rows: &Rows<'_>,
        query: &[u8],
        prepared: &Prepared,
        (k, recall): (usize, Option<f32>),
        gathered: &Gathered,
        scratch: &mut Scratch,
        out: &mut Vec<(u32, f32)>,
    ) -> Result<SearchStats> {
        self.fits(rows, query)?;
        let mut stats = SearchStats::default();
        self.prepare(query, scratch);
        scratch.found.clear();
        scratch.fresh.clear();
        scratch.nearest.reset(k, 1.0);
        let learned = &gathered.learned[(k.max(1).ilog2() as usize).min(SIZES - 1)];
        let choose = |recall| learned.lock().choose(recall, gathered.count);
        let mut course = recall.map_or_else(Course::learning, choose);
        let mut found_in = std::mem::take(&mut scratch.found_in);
        found_in.clear();
        let mut keys = std::mem::take(&mut scratch.keys);
        keys.clear();
        codes::squared_l2_run(&scratch.query, &gathered.centres, &mut scratch.squares);
        keys.extend((0u64..).zip(&scratch.squares).map(|(cell, &square)| u64::from(square) << 32 | cell));
        let mut nearby = Nearby { keys: &mut keys, sorted: 0 };
        let mut at = 0;
        while let Some((base, cell)) = nearby.get(at) {
            let number = at as u32;
            if let Some((_, next)) = nearby.get(at + 1) {
                let first = gathered.starts[next] as usize * group_bytes(self.width);
                codes::prefetch(&gathered.groups[first..], PREFETCHED);
            }
            self.look_at_cell(gathered, cell, base, scratch, &mut stats);
            if scratch.fresh.len() >= AHEAD && self.look_at_fresh(scratch, &mut stats) {
                course.found(number);
            }
            if course.ends(number) && scratch.nearest.limit < f32::INFINITY {
                if self.look_at_fresh(scratch, &mut stats) {
                    course.found(number);
                }
                if course.ends(number) {
                    if !course.is_whole() {
                        break;
                    }
                    course.stop(number, stats.compared);
                }
            }
            if course.is_whole() {
                found_in.resize(scratch.found.len(), number);
            }
            at += 1;
        }
        self.look_at_fresh(scratch, &mut stats);
        stats.compared += keys.len();
        scratch.keys = keys;
        if course.is_usual() {
            let cost = (stats.compared + (CENTRE - 1) * gathered.cells()) as f32;
            let before = gathered.cost();
            gathered.cost.store((before + (cost - before) / MEMORY).to_bits(), Ordering::Relaxed);
        }
        if course.is_whole() && recall.is_some() {
            found_in.resize(scratch.found.len(), at as u32);
            let order = self.order();
            let rows_in = scratch.found.iter().zip(&found_in).map(|(found, cell)| (order[found.1 as usize], *cell));
            let mut cells: Vec<(u32, u32)> = rows_in.collect();
            cells.sort_unstable();
            self.rerank(rows, prepared, (k, self.more_than(k)), scratch, out, &mut stats);
            let cell = |row: u32| cells.binary_search_by_key(&row, |other| other.0).ok().map(|place| cells[place].1);
            let results: Vec<u32> = out.iter().filter_map(|hit| cell(hit.0)).collect();
            learned.lock().learn(&course, &results, gathered.count);
        } else {
            self.rerank(rows, prepared, (k, self.more_than(k)), scratch, out, &mut stats);
        }
        scratch.found_in = found_in;
        Ok(stats)
    }

    /// Looks for rows of one cell that may be near enough.
    #[inline]
    fn look_at_cell(
        &self,
        gathered: &Gathered,
        cell: usize,
        base: f32,
        scratch: &mut Scratch,
        stats: &mut SearchStats,
    ) {
        let doubt = DOUBT * (base / self.width as f32).sqrt();
        let limit = self.with_doubt(scratch.nearest.limit);
        let mut estimates = [0f32; BLOCK];
        for group in gathered.groups(cell) {
            let base = base - doubt * gathered.radii[group];
            let mut below = fastscan::estimate(&scratch.tables, gathered.signs(group), base, limit, &mut estimates);
            while below != 0 {
                let index = below.trailing_zeros() as usize;
                below &= below - 1;
                let node = gathered.nodes[group * BLOCK + index];
                if node != NO_NODE && scratch.blind_to != Some(node) {
                    codes::prefetch(self.code(node), self.width);
                    scratch.fresh.push(node);
                }
            }
        }
        stats.compared += gathered.groups(cell).len() * BLOCK;
    }

    /// Compares the codes of those that seemed near enough; true if one of them is among the nearest so far.
    fn look_at_fresh(&self, scratch: &mut Scratch, stats: &mut SearchStats) -> bool {
        let mut nearer = false;
        stats.compared += scratch.fresh.len();
        while let Some(node) = scratch.fresh.pop() {
            let distance = codes::squared_l2(&scratch.query, self.code(node)) as f32;
            if distance <= self.with_doubt(scratch.nearest.limit) {
                nearer |= scratch.nearest.add(distance);
                scratch.found.push((distance, node));
            }
        }
        nearer
    }
}
