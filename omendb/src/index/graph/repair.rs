//! Makes every node reachable from the entry points.

use super::parallel::Task;
use super::points::Points;
use super::prune::NO_NEIGHBOUR;
use crate::distance::codes;
use crate::error::Result;

/// The parent of an entry point, and of a node that was not reached.
const ROOT: u32 = u32::MAX - 1;
const UNREACHED: u32 = u32::MAX;
/// Near reached nodes that are tried as parents before any node will do.
const TRIED: usize = 32;

struct Reach<'a> {
    lists: &'a mut [u32],
    degree: usize,
    /// The node that each node was first reached from. Edges from a parent are never replaced.
    parent: Vec<u32>,
    /// A bit a node that has a parent: small enough to stay in a cache while all edges are looked at.
    reached: Vec<u64>,
    queue: Vec<u32>,
}

/// Adds edges until each node can be reached from the middle one of `entries`. An edge that some node is reached
/// through is never dropped, so one pass is enough.
pub(super) fn connect(
    points: &Points<'_>,
    lists: &mut [u32],
    degree: usize,
    entries: &[u32],
    task: &Task<'_>,
) -> Result<usize> {
    let mut reach = Reach {
        lists,
        degree,
        parent: vec![UNREACHED; points.count],
        reached: vec![0; points.count.div_ceil(64)],
        queue: Vec::new(),
    };
    // From one entry point alone: which of them a search starts from depends on its query.
    if let Some(&root) = entries.get(entries.len() / 2) {
        reach.take(root, ROOT);
    }
    reach.spread();
    let mut added = 0;
    let mut walk = Walk::default();
    for node in 0..points.count as u32 {
        if reach.parent[node as usize] != UNREACHED {
            continue;
        }
        task.check()?;
        added += 1;
        let own = reach.list(node);
        let near: Vec<u32> = own
            .iter()
            .copied()
            .filter(|&other| other != NO_NEIGHBOUR && reach.parent[other as usize] != UNREACHED)
            .collect();
        let adopted = near.iter().any(|&parent| reach.adopt(parent, node)) || reach.adopt_next_to(&near, node);
        if !adopted {
            walk.nearest(points, &reach, entries, node);
            let found = walk.found.iter().any(|&(_, parent)| reach.adopt(parent, node));
            if !found {
                // Some reached node has a place to spare: there are at least as many places as nodes.
                let any = (0..points.count as u32).rev();
                let mut reached = any.filter(|&other| other != node);
                while let Some(parent) = reached.next()
                    && (reach.parent[parent as usize] == UNREACHED || !reach.adopt(parent, node))
                {}
            }
        }
        reach.spread();
    }
    Ok(added)
}

impl Reach<'_> {
    #[inline]
    fn list(&self, node: u32) -> &[u32] {
        &self.lists[node as usize * self.degree..][..self.degree]
    }

    /// Notes that a node is reached.
    #[inline]
    fn take(&mut self, node: u32, parent: u32) {
        self.parent[node as usize] = parent;
        self.reached[node as usize / 64] |= 1 << (node % 64);
        self.queue.push(node);
    }

    /// Visits everything reachable from the queue.
    fn spread(&mut self) {
        while let Some(node) = self.queue.pop() {
            for place in 0..self.degree {
                let other = self.list(node)[place];
                if other == NO_NEIGHBOUR {
                    break;
                }
                if self.reached[other as usize / 64] >> (other % 64) & 1 == 0 {
                    self.take(other, node);
                }
            }
        }
    }

    /// Makes `node` a neighbour of one of the neighbours of `near`.
    fn adopt_next_to(&mut self, near: &[u32], node: u32) -> bool {
        near.iter().any(|&middle| {
            (0..self.degree).any(|place| {
                let parent = self.list(middle)[place];
                parent != NO_NEIGHBOUR && self.parent[parent as usize] != UNREACHED && self.adopt(parent, node)
            })
        })
    }

    /// Makes `node` a neighbour of `parent`, in a free place or instead of the farthest that is reached otherwise.
    fn adopt(&mut self, parent: u32, node: u32) -> bool {
        let list = self.list(parent);
        let place = list
            .iter()
            .position(|&other| other == NO_NEIGHBOUR)
            .or_else(|| list.iter().rposition(|&other| self.parent[other as usize] != parent));
        let Some(place) = place else { return false };
        self.lists[parent as usize * self.degree + place] = node;
        self.take(node, parent);
        true
    }
}

/// A greedy walk over the reached part of the graph.
#[derive(Default)]
struct Walk {
    seen: std::collections::HashSet<u32>,
    found: Vec<(u32, u32)>,
    batch: Vec<u32>,
    distances: Vec<u32>,
}

impl Walk {
    /// Leaves the reached nodes nearest to `node` in `found`, nearest first.
    fn nearest(&mut self, points: &Points<'_>, reach: &Reach<'_>, entries: &[u32], node: u32) {
        self.seen.clear();
        self.found.clear();
        let mut expanded = std::collections::HashSet::new();
        self.batch.clear();
        self.batch.extend(entries.iter().filter(|&&entry| reach.parent[entry as usize] != UNREACHED));
        loop {
            self.seen.extend(self.batch.iter().copied());
            codes::squared_l2_many(points.code(node), points.codes, &self.batch, &mut self.distances);
            self.found.extend(self.distances.iter().copied().zip(self.batch.iter().copied()));
            self.found.sort_unstable();
            self.found.truncate(TRIED);
            let Some(&(_, next)) = self.found.iter().find(|(_, id)| !expanded.contains(id)) else { return };
            expanded.insert(next);
            self.batch.clear();
            let list = reach.list(next);
            let fresh = list.iter().filter(|&&other| other != NO_NEIGHBOUR && !self.seen.contains(&other));
            self.batch.extend(fresh.copied());
        }
    }
}
