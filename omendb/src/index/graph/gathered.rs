//! The rows that pass a filter, gathered: one-bit codes of all of them in one stretch, so that comparing all reads
//! little memory, and in order.
//!
//! Nodes are numbered by partition: those that follow each other lie near each other. Each 32 that pass hang on a
//! centre of their own, the mean of their codes, as neighbours hang on their node ([`fastscan`]). Their estimates, less
//! what those may err, tell which codes have to be compared. An estimate errs in proportion to how far the row and the
//! query are from the centre, and to the inverse root of the number of dimensions (Gao and Long, RaBitQ, SIGMOD 2024,
//! theorem 3.2).

use super::Rows;
use super::filtered::Passing;
use super::layout::{GraphIndex, allocate};
use super::scratch::Scratch;
use super::search::SearchStats;
use super::signs::Hanger;
use crate::distance::Prepared;
use crate::distance::codes;
use crate::distance::fastscan::{self, BLOCK, SCALE_BYTES, SignBlock};
use crate::error::Result;
use memmap2::MmapMut;
use std::ops::Range;

/// How far below its estimate a distance is still looked for, in multiples of `|row - centre| |query - centre|` over
/// the root of the dimensions: .994 to .999 of the ten nearest of SIFT are found with 2, .982 with 1.2, for 5 % less.
const DOUBT: f32 = 2.0;
/// Groups, the nearest, that are looked at first: what is found there bounds what is looked for elsewhere.
const FIRST: usize = 8;
/// Codes that are asked for before the first of them is compared.
const AHEAD: usize = 16;
/// What is gathered takes at most this part of the graph's own memory.
const MEMORY_PART: usize = 128;
/// Bytes of a group's `add`, `slope` and scales.
const FACTORS: usize = 2 * BLOCK + SCALE_BYTES;

/// One-bit codes of the nodes that pass.
pub(crate) struct Gathered {
    /// Signs of all groups, then centres, then factors.
    bytes: MmapMut,
    /// The largest distance of a group's codes from its centre.
    radii: Vec<f32>,
    /// In ascending order.
    nodes: Vec<u32>,
    width: usize,
}

impl std::fmt::Debug for Gathered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gathered({} nodes, {} bytes)", self.nodes.len(), self.bytes.len())
    }
}

impl Gathered {
    /// Gathers the nodes that pass; `None` where the graph has no such codes, or they would take too much memory.
    pub(crate) fn new(graph: &GraphIndex, passing: &Passing<'_>) -> Option<Gathered> {
        let width = graph.inline?.width;
        let nodes: Vec<u32> = passing.nodes(graph.len()).collect();
        let groups = nodes.len().div_ceil(BLOCK);
        let bytes = groups * (fastscan::block_bytes(width) + width + FACTORS);
        if bytes + nodes.len() * 4 > graph.as_bytes().len() / MEMORY_PART {
            return None;
        }
        let mut gathered = Gathered { bytes: allocate(bytes).ok()?, radii: Vec::with_capacity(groups), nodes, width };
        let (signs, rest) = gathered.bytes.split_at_mut(groups * fastscan::block_bytes(width));
        let (centres, factors) = rest.split_at_mut(groups * width);
        let signs = signs.chunks_exact_mut(fastscan::block_bytes(width));
        let places = signs.zip(centres.chunks_exact_mut(width)).zip(factors.chunks_exact_mut(FACTORS));
        let mut hanger = Hanger::new(width, BLOCK);
        let mut sums = vec![0u32; width];
        for (group, ((signs, centre), factors)) in gathered.nodes.chunks(BLOCK).zip(places) {
            group.iter().for_each(|&node| codes::prefetch(graph.code(node), width));
            sums.fill(0);
            for &node in group {
                sums.iter_mut().zip(graph.code(node)).for_each(|(sum, &code)| *sum += u32::from(code));
            }
            let count = group.len() as u32;
            centre.iter_mut().zip(&sums).for_each(|(out, sum)| *out = ((sum + count / 2) / count) as u8);
            let square = hanger.hang(centre, group.iter().map(|&node| graph.code(node)), signs, factors);
            gathered.radii.push(square.sqrt());
        }
        Some(gathered)
    }

    fn section(&self, before: usize, group: usize, bytes: usize) -> Range<usize> {
        let start = self.radii.len() * before + group * bytes;
        start..start + bytes
    }

    fn centre(&self, group: usize) -> &[u8] {
        &self.bytes[self.section(fastscan::block_bytes(self.width), group, self.width)]
    }

    fn signs(&self, group: usize) -> SignBlock<'_> {
        let bytes = fastscan::block_bytes(self.width);
        let factors = &self.bytes[self.section(bytes + self.width, group, FACTORS)];
        SignBlock {
            codes: &self.bytes[self.section(0, group, bytes)],
            add: &factors[..BLOCK],
            slope: &factors[BLOCK..2 * BLOCK],
            scales: &factors[2 * BLOCK..],
        }
    }

    fn group(&self, group: usize) -> &[u32] {
        &self.nodes[group * BLOCK..self.nodes.len().min((group + 1) * BLOCK)]
    }
}

impl GraphIndex {
    /// As [`search_among`](Self::search_among), with what is gathered of the nodes.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn search_gathered(
        &self,
        rows: &Rows<'_>,
        query: &[u8],
        prepared: &Prepared,
        k: usize,
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
        let mut bases = std::mem::take(&mut scratch.bases);
        bases.clear();
        let groups = 0..gathered.radii.len();
        bases.extend(groups.map(|group| codes::squared_l2(&scratch.query, gathered.centre(group)) as f32));
        stats.compared += bases.len();
        let mut first = [(f32::INFINITY, 0); FIRST];
        for (group, &base) in bases.iter().enumerate() {
            if base < first[FIRST - 1].0 {
                let place = first.partition_point(|other| other.0 <= base);
                first[place..].rotate_right(1);
                first[place] = (base, group);
            }
        }
        for (base, group) in first.into_iter().filter(|first| first.0 < f32::INFINITY) {
            self.look_at_group(gathered, group, base, scratch, &mut stats);
            bases[group] = f32::INFINITY;
        }
        self.look_at_fresh(scratch, &mut stats);
        for (group, &base) in bases.iter().enumerate().filter(|(_, base)| **base < f32::INFINITY) {
            self.look_at_group(gathered, group, base, scratch, &mut stats);
        }
        self.look_at_fresh(scratch, &mut stats);
        scratch.bases = bases;
        self.rerank(rows, prepared, (k, self.more_than(k)), scratch, out, &mut stats);
        Ok(stats)
    }

    /// Looks for rows of one group that may be near enough.
    fn look_at_group(
        &self,
        gathered: &Gathered,
        group: usize,
        base: f32,
        scratch: &mut Scratch,
        stats: &mut SearchStats,
    ) {
        let nodes = gathered.group(group);
        let doubt = DOUBT * gathered.radii[group] * (base / self.width as f32).sqrt();
        let limit = self.with_doubt(scratch.nearest.limit);
        let mut estimates = [0f32; BLOCK];
        let mut below = fastscan::estimate(&scratch.tables, gathered.signs(group), base - doubt, limit, &mut estimates);
        stats.compared += nodes.len();
        while below != 0 {
            let index = below.trailing_zeros() as usize;
            below &= below - 1;
            if let Some(&node) = nodes.get(index).filter(|&&node| scratch.blind_to != Some(node)) {
                codes::prefetch(self.code(node), self.width);
                scratch.fresh.push(node);
            }
        }
        if scratch.fresh.len() >= AHEAD {
            self.look_at_fresh(scratch, stats);
        }
    }

    /// Compares the codes of those that seemed near enough.
    fn look_at_fresh(&self, scratch: &mut Scratch, stats: &mut SearchStats) {
        stats.compared += scratch.fresh.len();
        while let Some(node) = scratch.fresh.pop() {
            let distance = codes::squared_l2(&scratch.query, self.code(node)) as f32;
            if distance <= self.with_doubt(scratch.nearest.limit) {
                scratch.nearest.add(distance);
                scratch.found.push((distance, node));
            }
        }
    }
}
