//! Random ball carving: overlapping groups of near points, small enough to compare all with all.

use super::parallel::{Task, chunks_mut};
use super::points::{Points, mix};
use crate::distance::gemm::{self, KeyBits, RowBlock, TILE, Tile};
use crate::error::Result;

/// How the points are carved.
#[derive(Debug, Clone, Copy)]
pub(super) struct CarveParams {
    /// Most points of a leaf.
    pub leaf_max: usize,
    /// Groups that a point joins at the first and second level; deeper levels use one.
    pub fanout: [usize; 2],
    pub seed: u64,
}

/// Share of a group's points that lead its subgroups, and the bounds on their number.
const LEADER_SHARE: f64 = 0.01;
const MAX_LEADERS: usize = 1000;
/// Deeper than this a group that still will not split is cut into runs.
const MAX_LEVEL: usize = 12;
/// Points that one parallel step assigns.
const ASSIGN_CHUNK: usize = 4096;
/// Marks the membership through the nearest leader at every level: each point has exactly one.
const PRIMARY: u32 = 1 << 31;

/// The leaves, as runs of point numbers.
pub(super) struct Leaves {
    pub members: Vec<u32>,
    pub starts: Vec<usize>,
    /// Every point once, leaf by leaf of its primary membership.
    pub order: Vec<u32>,
}

/// Carves all points. The result depends on the points and the parameters only, never on the number of threads.
pub(super) fn carve(points: &Points<'_>, params: &CarveParams, task: &Task<'_>) -> Result<Leaves> {
    let all: Vec<u32> = (0..points.count as u32).map(|id| id | PRIMARY).collect();
    let mut groups: Vec<(Vec<u32>, usize)> = vec![(all, 0)];
    // Large groups split with all threads on one group; the rest split one thread a group.
    let mut ready = Vec::new();
    while let Some((ids, level)) = groups.pop() {
        if ids.len() <= params.leaf_max || (level > 0 && ids.len() * 8 < points.count) || level >= MAX_LEVEL {
            ready.push((ids, level));
            continue;
        }
        let parts = split(points, &ids, level, params, ready.len() as u64, task)?;
        let next = next_level(&parts, ids.len(), level);
        // Popped last first, so pushed in reverse to keep the order of leaders.
        groups.extend(parts.into_iter().rev().map(|part| (part, next)));
    }
    let alone = Task { threads: 1, ..*task };
    let parts = task.map(ready.len(), |index| {
        let mut leaves = Vec::new();
        let (ids, level) = &ready[index];
        descend(points, ids.clone(), *level, params, index as u64, &alone, &mut leaves)?;
        Ok(leaves)
    })?;
    let mut leaves = Leaves { members: Vec::new(), starts: vec![0], order: Vec::with_capacity(points.count) };
    for leaf in parts.into_iter().flatten() {
        leaves.order.extend(leaf.iter().filter(|&&id| id & PRIMARY != 0).map(|id| id & !PRIMARY));
        leaves.members.extend(leaf.iter().map(|id| id & !PRIMARY));
        leaves.starts.push(leaves.members.len());
    }
    Ok(leaves)
}

fn descend(
    points: &Points<'_>,
    ids: Vec<u32>,
    level: usize,
    params: &CarveParams,
    path: u64,
    task: &Task<'_>,
    leaves: &mut Vec<Vec<u32>>,
) -> Result<()> {
    if ids.len() <= params.leaf_max {
        if !ids.is_empty() {
            leaves.push(ids);
        }
        return Ok(());
    }
    if level >= MAX_LEVEL {
        leaves.extend(ids.chunks(params.leaf_max).map(<[u32]>::to_vec));
        return Ok(());
    }
    let parts = split(points, &ids, level, params, path, task)?;
    let level = next_level(&parts, ids.len(), level);
    let small = params.leaf_max / 4;
    let mut pool: Vec<u32> = Vec::new();
    for (index, part) in parts.into_iter().enumerate() {
        if part.len() >= small {
            descend(points, part, level, params, mix(path, index as u64), task, leaves)?;
            continue;
        }
        if pool.len() + part.len() > params.leaf_max {
            flush(&mut pool, leaves);
        }
        pool.extend(part);
    }
    flush(&mut pool, leaves);
    Ok(())
}

/// The level below. Points that no leader tells apart (duplicates) would recurse for ever, so they skip to the last.
fn next_level(parts: &[Vec<u32>], count: usize, level: usize) -> usize {
    let largest = parts.iter().map(Vec::len).max().unwrap_or(0);
    if largest * 10 > count * 9 && level >= 2 { MAX_LEVEL } else { level + 1 }
}

/// Emits a pooled leaf. A point that joined it twice through two leaders stays once.
fn flush(pool: &mut Vec<u32>, leaves: &mut Vec<Vec<u32>>) {
    if pool.is_empty() {
        return;
    }
    pool.sort_unstable_by_key(|id| (id & !PRIMARY, id & PRIMARY == 0));
    pool.dedup_by_key(|id| *id & !PRIMARY);
    leaves.push(std::mem::take(pool));
}

/// Gives each point to its nearest leaders; one list of points a leader.
fn split(
    points: &Points<'_>,
    ids: &[u32],
    level: usize,
    params: &CarveParams,
    path: u64,
    task: &Task<'_>,
) -> Result<Vec<Vec<u32>>> {
    let count = ids.len();
    let leaders = ((count as f64 * LEADER_SHARE).ceil() as usize).clamp(2, MAX_LEADERS).min(count);
    let fanout = params.fanout.get(level).copied().unwrap_or(1).clamp(1, (leaders / 2).max(1));
    let (mut signed, mut terms) = (Vec::new(), Vec::new());
    let picks = (0..leaders).map(|leader| {
        // One leader from each of `leaders` equal runs: distinct, and spread over the order of insertion.
        let (from, to) = (leader * count / leaders, (leader + 1) * count / leaders);
        let draw = mix(mix(params.seed, path), (level * MAX_LEADERS + leader) as u64);
        ids[from + (draw % (to - from) as u64) as usize] & !PRIMARY
    });
    points.gather_signed(picks, &mut signed, &mut terms);
    let bits = KeyBits::new(points.width, leaders);
    let block = RowBlock { signed: &signed, terms: &terms };
    let mut choice = vec![0u16; count * fanout];
    chunks_mut(task, &mut choice, ASSIGN_CHUNK * fanout, |chunk, choice| {
        let (mut tile, mut best) = (Tile::default(), Vec::new());
        let ids = &ids[chunk * ASSIGN_CHUNK..];
        for (ids, choice) in ids.chunks(TILE).zip(choice.chunks_mut(TILE * fanout)) {
            points.pack_tile(ids.iter().map(|&id| id & !PRIMARY), &mut tile);
            gemm::nearest_rows(&tile, block, bits, fanout, &mut best);
            for (lane, choice) in choice.chunks_exact_mut(fanout).enumerate() {
                for (rank, slot) in choice.iter_mut().enumerate() {
                    *slot = bits.index(best[rank * TILE + lane]) as u16;
                }
            }
        }
    })?;
    let mut sizes = vec![0usize; leaders];
    choice.iter().for_each(|&leader| sizes[usize::from(leader)] += 1);
    let mut parts: Vec<Vec<u32>> = sizes.into_iter().map(Vec::with_capacity).collect();
    for (&id, choice) in ids.iter().zip(choice.chunks_exact(fanout)) {
        for (rank, &leader) in choice.iter().enumerate() {
            parts[usize::from(leader)].push(if rank == 0 { id } else { id & !PRIMARY });
        }
    }
    Ok(parts)
}
