//! From candidates to neighbours: nearest first, none that a nearer neighbour stands for.

use super::leaf::{BUCKET, BucketCandidates, LeafEdges};
use super::parallel::{Task, pieces_mut};
use super::points::Points;
use crate::distance::codes;
use crate::error::Result;

/// Marks an unused place of a neighbour list.
pub(super) const NO_NEIGHBOUR: u32 = u32::MAX;
/// A neighbour hides the candidates that are nearer to it than 5/6 of their (squared) distance to the point.
const ALPHA: (u64, u64) = (6, 5);

/// Fills the neighbour lists, `degree` places a node, nearest first.
pub(super) fn prune_all(
    points: &Points<'_>,
    edges: &LeafEdges,
    degree: usize,
    lists: &mut [u32],
    task: &Task<'_>,
) -> Result<()> {
    // A few buckets a piece, so that scratch space is made once for many.
    let pieces: Vec<_> = lists.chunks_mut(4 * BUCKET * degree).collect();
    pieces_mut(task, pieces, |piece, lists| {
        let mut pruner = Pruner::default();
        let mut gathered = BucketCandidates::default();
        for (part, lists) in lists.chunks_mut(BUCKET * degree).enumerate() {
            let bucket = piece * 4 + part;
            if bucket >= edges.buckets() {
                return;
            }
            edges.gather(bucket, &mut gathered);
            let (candidates, starts) = (&mut gathered.sorted, &gathered.starts);
            for (place, list) in lists.chunks_exact_mut(degree).enumerate() {
                // The codes of the next point's candidates arrive while this one is pruned.
                if let Some(&after) = starts.get(place + 2) {
                    for &candidate in &candidates[starts[place + 1] as usize..after as usize] {
                        codes::prefetch(points.code(candidate as u32), 256);
                    }
                }
                let own = &mut candidates[starts[place] as usize..starts[place + 1] as usize];
                pruner.prune(points, (bucket * BUCKET + place) as u32, own, list);
            }
        }
    })
}

/// Scratch space of pruning.
#[derive(Default)]
pub(super) struct Pruner {
    unique: Vec<u64>,
    gathered: Vec<u8>,
    open: Vec<u32>,
    hidden: Vec<u32>,
    distances: Vec<u32>,
}

impl Pruner {
    /// Fills `list` with at most `list.len()` of the `candidates` (`distance << 32 | point`), which it sorts.
    pub fn prune(&mut self, points: &Points<'_>, id: u32, candidates: &mut [u64], list: &mut [u32]) {
        candidates.sort_unstable();
        self.unique.clear();
        for &candidate in candidates.iter() {
            let repeated = self.unique.last().is_some_and(|&last| last as u32 == candidate as u32);
            if !repeated && candidate as u32 != id {
                self.unique.push(candidate);
            }
        }
        let candidates = &self.unique;
        list.fill(NO_NEIGHBOUR);
        if candidates.len() <= list.len() {
            list.iter_mut().zip(candidates).for_each(|(slot, &candidate)| *slot = candidate as u32);
            return;
        }
        self.gathered.clear();
        for &candidate in candidates {
            self.gathered.extend_from_slice(points.code(candidate as u32));
        }
        self.hidden.clear();
        self.open.clear();
        self.open.extend(0..candidates.len() as u32);
        let mut kept = 0;
        while kept < list.len() && !self.open.is_empty() {
            let nearest = self.open.remove(0);
            list[kept] = candidates[nearest as usize] as u32;
            kept += 1;
            let code = &self.gathered[nearest as usize * points.width..][..points.width];
            codes::squared_l2_many(code, &self.gathered, &self.open, &mut self.distances);
            let mut distances = self.distances.iter();
            self.open.retain(|&other| {
                let between = u64::from(distances.next().copied().unwrap_or(0));
                let open = between * ALPHA.0 > (candidates[other as usize] >> 32) * ALPHA.1;
                if !open {
                    self.hidden.push(other);
                }
                open
            });
        }
        // Places left over cost the search nothing: a block is scanned whole.
        self.hidden.sort_unstable();
        for (slot, &other) in list[kept..].iter_mut().zip(&self.hidden) {
            *slot = candidates[other as usize] as u32;
        }
    }
}
