//! Candidate edges: within each leaf, every point's nearest, in both directions.

use super::parallel::{Task, pieces_mut};
use super::partition::Leaves;
use super::points::Points;
use crate::distance::gemm::{self, KeyBits, NO_KEY, RowBlock, TILE, Tile};
use crate::error::Result;

/// Points of a bucket: their candidates are collected and pruned together.
pub(super) const BUCKET: usize = 1 << BUCKET_BITS;
const BUCKET_BITS: u32 = 11;
/// Bits of a distance in an edge.
const DISTANCE_BITS: u32 = 32 - BUCKET_BITS;
/// Leaves that one parallel step compares.
const BATCH: usize = 64;

/// Candidate edges of all leaves. An edge is `place of the source in its bucket << 53 | shortened distance << 32 |
/// target`. Each batch of leaves holds its edges in the order of buckets.
pub(super) struct LeafEdges {
    edges: Vec<u64>,
    batches: Vec<BatchEdges>,
    shift: u32,
    buckets: usize,
}

struct BatchEdges {
    start: usize,
    /// Where each bucket's edges begin, and the end of the last, counted from `start`.
    bucket_starts: Vec<u32>,
}

/// Compares all points of each leaf, keeping `leaf_k` neighbours of each.
pub(super) fn collect(
    points: &Points<'_>,
    leaves: &Leaves,
    leaf_k: usize,
    leaf_max: usize,
    task: &Task<'_>,
) -> Result<LeafEdges> {
    let room = leaf_k * 2;
    let bits = KeyBits::new(points.width, leaf_max);
    let shift = (32 - (255u64 * 255 * points.width as u64).leading_zeros() % 32).saturating_sub(DISTANCE_BITS);
    let buckets = points.count.div_ceil(BUCKET);
    let mut edges = vec![0u64; leaves.members.len() * room];
    let mut batches = Vec::new();
    let mut pieces = Vec::new();
    let windows: Vec<(usize, usize)> = leaves.starts.windows(2).map(|w| (w[0], w[1])).collect();
    let mut left = edges.as_mut_slice();
    for batch in windows.chunks(BATCH) {
        let (from, to) = (batch[0].0, batch[batch.len() - 1].1);
        batches.push(BatchEdges { start: from * room, bucket_starts: vec![0; buckets + 1] });
        let (own, rest) = left.split_at_mut((to - from) * room);
        left = rest;
        pieces.push((batch, own));
    }
    let pieces = pieces.into_iter().zip(&mut batches).collect();
    pieces_mut(task, pieces, |_, ((batch, edges), out)| {
        let mut scratch = LeafScratch::default();
        for &(from, to) in batch {
            scratch.compare_all(points, &leaves.members[from..to], leaf_k, bits, shift);
        }
        scratch.sort_by_bucket(edges, &mut out.bucket_starts);
    })?;
    Ok(LeafEdges { edges, batches, shift, buckets })
}

/// The candidates of a bucket's points: those of point `p` are `sorted[starts[p]..starts[p + 1]]`, each
/// `distance << 32 | point`.
#[derive(Default)]
pub(super) struct BucketCandidates {
    pub sorted: Vec<u64>,
    pub starts: Vec<u32>,
    next: Vec<u32>,
}

impl LeafEdges {
    pub fn buckets(&self) -> usize {
        self.buckets
    }

    /// Collects the candidates of one bucket.
    pub fn gather(&self, bucket: usize, out: &mut BucketCandidates) {
        let slices = || {
            self.batches.iter().map(move |batch| {
                let (from, to) = (batch.bucket_starts[bucket] as usize, batch.bucket_starts[bucket + 1] as usize);
                &self.edges[batch.start + from..batch.start + to]
            })
        };
        out.starts.clear();
        out.starts.resize(BUCKET + 1, 0);
        for &edge in slices().flatten() {
            out.starts[(edge >> 53) as usize + 1] += 1;
        }
        for place in 0..BUCKET {
            out.starts[place + 1] += out.starts[place];
        }
        out.next.clone_from(&out.starts);
        out.sorted.clear();
        out.sorted.resize(out.starts[BUCKET] as usize, 0);
        for &edge in slices().flatten() {
            let next = &mut out.next[(edge >> 53) as usize];
            let distance = (edge >> 32 & ((1 << DISTANCE_BITS) - 1)) << self.shift;
            out.sorted[*next as usize] = distance << 32 | (edge & u64::from(u32::MAX));
            *next += 1;
        }
    }
}

#[derive(Default)]
struct LeafScratch {
    signed: Vec<u8>,
    terms: Vec<u32>,
    tile: Tile,
    best: Vec<u32>,
    /// Bucket and edge.
    found: Vec<(u32, u64)>,
}

impl LeafScratch {
    fn compare_all(&mut self, points: &Points<'_>, members: &[u32], leaf_k: usize, bits: KeyBits, shift: u32) {
        points.gather_signed(members.iter().copied(), &mut self.signed, &mut self.terms);
        let block = RowBlock { signed: &self.signed, terms: &self.terms };
        for (tile, lanes) in members.chunks(TILE).enumerate() {
            points.pack_tile(lanes.iter().copied(), &mut self.tile);
            // One more than asked for, because the nearest of a point is itself.
            gemm::nearest_rows(&self.tile, block, bits, leaf_k + 1, &mut self.best);
            for (lane, &source) in lanes.iter().enumerate() {
                let point = tile * TILE + lane;
                let mut kept = 0;
                for rank in 0..=leaf_k {
                    let key = self.best[rank * TILE + lane];
                    if key != NO_KEY && bits.index(key) != point && kept < leaf_k {
                        kept += 1;
                        let distance = u64::from(bits.distance(key) >> shift);
                        let target = members[bits.index(key)];
                        for (from, to) in [(source, target), (target, source)] {
                            let place = u64::from(from) & (BUCKET as u64 - 1);
                            self.found.push((from >> BUCKET_BITS, place << 53 | distance << 32 | u64::from(to)));
                        }
                    }
                }
            }
        }
    }

    fn sort_by_bucket(&mut self, edges: &mut [u64], starts: &mut [u32]) {
        self.found.iter().for_each(|&(bucket, _)| starts[bucket as usize + 1] += 1);
        for bucket in 1..starts.len() {
            starts[bucket] += starts[bucket - 1];
        }
        let mut next = starts.to_vec();
        for &(bucket, edge) in &self.found {
            edges[next[bucket as usize] as usize] = edge;
            next[bucket as usize] += 1;
        }
    }
}
