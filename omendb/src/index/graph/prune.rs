//! From candidates to neighbours: nearest first, none that a nearer neighbour stands for.

use super::leaf::LeafEdges;
use super::parallel::{Task, chunks_mut};
use super::partition::Leaves;
use super::points::Points;
use crate::distance::codes;
use crate::error::Result;

/// Marks an unused place of a neighbour list.
pub(super) const NO_NEIGHBOUR: u32 = u32::MAX;
/// A neighbour hides the candidates that are nearer to it than 5/6 of their (squared) distance to the point.
const ALPHA: (u64, u64) = (6, 5);
/// Points that one parallel step prunes.
const PRUNE_CHUNK: usize = 1024;

/// The neighbour lists, `degree` places a point, nearest first.
pub(super) fn prune_all(
    points: &Points,
    leaves: &Leaves,
    edges: &LeafEdges,
    degree: usize,
    task: &Task<'_>,
) -> Result<Vec<u32>> {
    let mut neighbours = vec![NO_NEIGHBOUR; points.count * degree];
    chunks_mut(task, &mut neighbours, PRUNE_CHUNK * degree, |chunk, lists| {
        let mut pruner = Pruner::default();
        let mut candidates = Vec::new();
        for (index, list) in lists.chunks_exact_mut(degree).enumerate() {
            let id = (chunk * PRUNE_CHUNK + index) as u32;
            candidates.clear();
            edges.candidates(leaves, id, &mut candidates);
            pruner.prune(points, id, &mut candidates, list);
        }
    })?;
    Ok(neighbours)
}

/// Scratch space of pruning.
#[derive(Default)]
pub(super) struct Pruner {
    gathered: Vec<u8>,
    open: Vec<u32>,
    hidden: Vec<u32>,
    distances: Vec<u32>,
}

impl Pruner {
    /// Fills `list` with at most `list.len()` of the `candidates` (`distance << 32 | point`).
    pub fn prune(&mut self, points: &Points, id: u32, candidates: &mut Vec<u64>, list: &mut [u32]) {
        candidates.sort_unstable();
        candidates.dedup_by_key(|candidate| *candidate as u32);
        candidates.retain(|&candidate| candidate as u32 != id);
        list.fill(NO_NEIGHBOUR);
        if candidates.len() <= list.len() {
            list.iter_mut().zip(candidates.iter()).for_each(|(slot, &candidate)| *slot = candidate as u32);
            return;
        }
        for &candidate in candidates.iter() {
            codes::prefetch(points.code(candidate as u32), 4);
        }
        self.gathered.clear();
        for &candidate in candidates.iter() {
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
