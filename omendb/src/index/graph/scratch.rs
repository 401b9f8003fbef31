//! The state of a search: what it met, what waits to be looked at, what was found.

use super::layout::GraphIndex;
use super::search::SearchStats;
use crate::distance::fastscan::SignTables;
use crate::quantize::coder::{CoderQuery, CodingSpace};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Buffers that one search leaves to the next. One for each thread.
#[derive(Default)]
pub struct Scratch {
    pub(super) visited: Vec<u64>,
    pub(super) touched: Vec<u32>,
    pub(super) frontier: Queue,
    /// The same for nodes that may not be results, where those wait apart.
    pub(super) detours: Queue,
    /// A node that the walk must not use, as if it were not in the graph.
    pub(crate) blind_to: Option<u32>,
    /// More of them.
    pub(super) twins: Vec<u32>,
    /// A node that ends the walk once it is met.
    pub(super) sought: Option<u32>,
    pub(super) found: Vec<(f32, u32)>,
    pub(super) nearest: Nearest,
    /// The smallest estimates of nodes that may be looked at, where all of them may be results.
    pub(super) hoped: Nearest,
    /// More of the nearest rows found, where a walk needs them to know when it is done.
    pub(super) beam: Nearest,
    /// Whether the last filtered walk found the rows that pass apart from what is near its query.
    pub(super) went_apart: bool,
    pub(super) query: Vec<u8>,
    pub(super) signed: Vec<u8>,
    pub(super) placed: Vec<f32>,
    pub(super) values: Vec<f32>,
    pub(super) tables: SignTables,
    pub(super) rows: Vec<u32>,
    pub(super) exact: Vec<f32>,
    /// Cells by distance.
    pub(super) keys: Vec<u64>,
    /// In which cell each of those found was.
    pub(super) found_in: Vec<u32>,
    pub(super) fresh: Vec<u32>,
    pub(super) squares: Vec<u32>,
    pub(super) distances: Vec<f32>,
    pub(super) products: Vec<i32>,
    pub(super) best: Vec<u32>,
    pub(super) coded: CoderQuery,
    pub(super) space: CodingSpace,
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scratch")
    }
}

/// The `k` smallest distances found, ascending, and what the next candidate may be at most; no limit if `k` is 0.
#[derive(Default)]
pub(super) struct Nearest {
    distances: Vec<f32>,
    k: usize,
    slack: f32,
    pub(super) limit: f32,
}

impl Nearest {
    pub(super) fn reset(&mut self, k: usize, slack: f32) {
        self.distances.clear();
        (self.k, self.slack, self.limit) = (k, slack, f32::INFINITY);
    }

    /// Adds one; true if it is among the smallest.
    #[inline]
    pub(super) fn add(&mut self, distance: f32) -> bool {
        if self.distances.len() == self.k {
            if self.distances.last().is_none_or(|&last| distance >= last) {
                return false;
            }
            self.distances.pop();
        }
        let place = self.distances.partition_point(|&other| other <= distance);
        self.distances.insert(place, distance);
        if self.distances.len() == self.k {
            self.limit = self.distances[self.k - 1] * self.slack;
        }
        true
    }

    /// How many of the nearest there are to be.
    pub(super) fn judged(&self) -> usize {
        self.k
    }

    /// The largest distance of the nearer half.
    #[inline]
    pub(super) fn median(&self) -> f32 {
        self.distances.get(self.distances.len().saturating_sub(1) / 2).copied().unwrap_or(f32::INFINITY)
    }

    /// Goes on with another slack.
    #[inline]
    pub(super) fn set_slack(&mut self, slack: f32) {
        self.slack = slack;
        if self.distances.len() == self.k {
            self.limit = self.distances[self.k - 1] * slack;
        }
    }
}

/// Which nodes may be results.
pub(super) trait Sieve: Copy {
    /// Whether this one may.
    fn keeps(self, graph: &GraphIndex, node: u32) -> bool;

    /// Whether all may.
    #[inline]
    fn keeps_all(self) -> bool {
        false
    }

    /// Whether more of the nearest are kept than are judged.
    #[inline]
    fn beams(self) -> bool {
        false
    }

    /// Where it waits to be looked at.
    #[inline]
    fn queue(self, _distance: f32, _node: u32, scratch: &mut Scratch) -> Option<&mut Queue> {
        Some(&mut scratch.frontier)
    }

    /// Whether its code is compared as soon as its estimate says that it is near.
    #[inline]
    fn looks_at(self, _node: u32) -> bool {
        false
    }

    /// Looks at those of `scratch.fresh`.
    #[inline]
    fn look(self, _graph: &GraphIndex, _scratch: &mut Scratch, _stats: &mut SearchStats) {}
}

/// Candidates, nearest on top: `Reverse(ordered distance << 32 | node)`.
pub(super) type Queue = BinaryHeap<Reverse<u64>>;

impl Sieve for Option<&dyn Fn(u32) -> bool> {
    #[inline]
    fn keeps(self, graph: &GraphIndex, node: u32) -> bool {
        // The row's number is looked up where it is needed: the table is read at random.
        self.is_none_or(|live| live(graph.order()[node as usize]))
    }

    #[inline]
    fn keeps_all(self) -> bool {
        self.is_none()
    }
}

/// Maps floats to integers of the same order.
#[inline]
pub(super) fn ordered(value: f32) -> u32 {
    let bits = value.to_bits();
    bits ^ (((bits as i32 >> 31) as u32) | 0x8000_0000)
}

#[inline]
pub(super) fn unordered(bits: u32) -> f32 {
    f32::from_bits(if bits >> 31 == 1 { bits ^ 0x8000_0000 } else { !bits })
}

impl Scratch {
    pub(super) fn reset(&mut self, count: usize) {
        let need = count.div_ceil(64);
        if self.visited.len() < need {
            self.visited.resize(need, 0);
        }
        for &word in &self.touched {
            self.visited[word as usize] = 0;
        }
        self.touched.clear();
        self.frontier.clear();
        self.detours.clear();
        self.found.clear();
        for at in 0..self.twins.len() {
            self.visit(self.twins[at]);
        }
        if let Some(node) = self.blind_to.filter(|&node| (node as usize) < count) {
            self.visit(node);
        }
    }

    /// Lifts the limit on estimates. Where they may have hidden what a walk did not find, what it met is forgotten.
    pub(super) fn lift_estimates(&mut self, count: usize) {
        if self.hoped.limit < f32::INFINITY {
            self.reset(count);
            self.nearest.reset(self.nearest.k, self.nearest.slack);
        }
        self.hoped.reset(0, 1.0);
    }

    /// The largest distance that a walk still looks at.
    pub(super) fn nearest_limit(&self) -> f32 {
        self.nearest.limit
    }

    /// The nodes that the last walk met, nearest first.
    pub(super) fn met_nearest_first(&mut self) -> &[(f32, u32)] {
        self.found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        &self.found
    }

    /// Marks a node; whether it was new.
    #[inline]
    pub(super) fn visit(&mut self, id: u32) -> bool {
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
    pub(super) fn seen(&self, id: u32) -> bool {
        self.visited[id as usize / 64] >> (id % 64) & 1 == 1
    }

    #[inline]
    pub(super) fn push(&mut self, distance: f32, id: u32, sieve: impl Sieve) {
        if let Some(queue) = sieve.queue(distance, id, self) {
            queue.push(Reverse(u64::from(ordered(distance)) << 32 | u64::from(id)));
        }
    }
}
