//! Walks the graph for rows that pass a filter, wherever they lie.
//!
//! Nodes that pass and nodes that do not wait in queues of their own. The nearest of all is looked at next, as in any
//! walk, but for each node that passes only so many *detours* over others are made: some more than there are where the
//! rows that pass are spread evenly. Where those lie together far from the query, the walk therefore does not search
//! all that is nearer, but goes from one of them to the next.

use super::layout::GraphIndex;
use super::search::{Effort, Queue, Scratch, SearchStats, Sieve, unordered};
use roaring::RoaringBitmap;
use std::cmp::Reverse;

/// Nodes that pass among those that a walk begins with.
const STARTS: u64 = 32;
/// Detours on the way to the query's neighbourhood.
const APPROACH: usize = 64;
/// Detours for each node that passes, in multiples of what there are if those are spread evenly.
const DETOURS: f32 = 2.0;
/// The same at most where those lie apart, and by how much more slack it then takes.
const DETOURS_APART: f32 = 8.0;
const APART: f32 = 0.5;
/// The least slack that a walk ends with.
const LEAST_SLACK: f32 = 0.8;

/// The nodes of a graph that stand for the rows that pass a filter.
#[derive(Debug)]
pub(crate) struct Passing {
    bits: Vec<u64>,
    /// Their share of all nodes.
    share: f32,
    /// Some of them, evenly spread over the rows.
    starts: Vec<u32>,
}

impl Passing {
    /// Those of `rows`, where `nodes` are the nodes of the graph's rows.
    pub(crate) fn new(nodes: &[u32], rows: &RoaringBitmap) -> Passing {
        let node = |row: u32| nodes.get(row as usize).copied();
        let mut bits = vec![0u64; nodes.len().div_ceil(64)];
        rows.iter().filter_map(node).for_each(|node| bits[node as usize / 64] |= 1 << (node % 64));
        let place = |index: u64| (index * rows.len() / STARTS.min(rows.len())) as u32;
        let starts = (0..STARTS.min(rows.len())).filter_map(|index| rows.select(place(index)).and_then(node)).collect();
        Passing { bits, share: rows.len() as f32 / nodes.len().max(1) as f32, starts }
    }

    #[inline]
    fn contains(&self, node: u32) -> bool {
        self.bits.get(node as usize / 64).is_some_and(|word| word >> (node % 64) & 1 == 1)
    }
}

/// What a walk keeps and what it goes on to from one node.
#[derive(Clone, Copy)]
struct Step<'a> {
    passing: &'a Passing,
    /// Whether neighbours that do not pass are looked at, too.
    detours: bool,
}

impl Sieve for Step<'_> {
    #[inline]
    fn keeps(self, _graph: &GraphIndex, node: u32) -> bool {
        self.passing.contains(node)
    }

    #[inline]
    fn queue(self, node: u32, scratch: &mut Scratch) -> Option<&mut Queue> {
        match self.passing.contains(node) {
            true => Some(&mut scratch.frontier),
            false if self.detours => Some(&mut scratch.detours),
            false => None,
        }
    }
}

/// How many nodes of either kind were looked at.
struct Pace {
    detours: usize,
    /// Detours allowed so far, and for each further node that passes.
    allowed: f32,
    each: f32,
    /// Whether the rows that pass lie apart from what is near the query: detours are made only next to them.
    apart: bool,
    /// Nodes that pass, and all, since enough were found.
    near: (usize, usize),
}

impl Pace {
    fn count(&mut self, passes: bool, enough: bool) {
        if passes {
            self.allowed += self.each;
        } else {
            self.detours += 1;
        }
        if enough {
            self.near = (self.near.0 + usize::from(passes), self.near.1 + 1);
        }
    }

    /// The slack that the walk needs. Where one in `n` of what it meets passes, it looks at as many nodes as a walk for
    /// `n` times as many rows, for which less slack will do; next to rows that lie apart it has fewer ways to go.
    fn slack(&self, effort: &Effort) -> f32 {
        let more = effort.slack - 1.0;
        if self.apart {
            return effort.slack + APART * more.max(0.0);
        }
        let share = (self.near.0 + 1) as f32 / (self.near.1 + 1) as f32;
        let doublings = -share.log2();
        (1.0 + more * share - effort.doubling * (doublings - 1.0).max(0.0)).max(LEAST_SLACK)
    }
}

impl GraphIndex {
    /// As a walk without a filter; gives up where it does not find enough.
    pub(super) fn walk_passing(
        &self,
        passing: &Passing,
        effort: Effort,
        scratch: &mut Scratch,
        stats: &mut SearchStats,
    ) {
        let everywhere = Step { passing, detours: true };
        self.start(everywhere, scratch, stats);
        self.start_at(&passing.starts, everywhere, scratch, stats);
        let each = DETOURS * (1.0 - passing.share) / passing.share.max(f32::MIN_POSITIVE);
        let mut pace = Pace { detours: 0, allowed: APPROACH as f32, each, apart: false, near: (0, 0) };
        let mut chosen = None;
        loop {
            let next = self.choose_passing(passing, &mut pace, scratch);
            let Some(id) = std::mem::replace(&mut chosen, next) else {
                if chosen.is_some() {
                    continue;
                }
                stats.gave_up = scratch.nearest.limit == f32::INFINITY;
                return;
            };
            self.expand(id, Step { passing, detours: !pace.apart || passing.contains(id) }, scratch, stats);
            if effort.slack.is_finite() {
                scratch.nearest.set_slack(pace.slack(&effort));
            }
            if stats.hops >= effort.hops {
                stats.gave_up = true;
                return;
            }
        }
    }

    /// Takes the nearest candidate that is near enough and in its turn, and asks for its block.
    fn choose_passing(&self, passing: &Passing, pace: &mut Pace, scratch: &mut Scratch) -> Option<u32> {
        loop {
            let limit = scratch.nearest.limit;
            let within = |candidate: Option<&Reverse<u64>>| {
                candidate.map(|candidate| candidate.0).filter(|c| unordered((c >> 32) as u32) <= limit)
            };
            let (near, detour) = (within(scratch.frontier.peek()), within(scratch.detours.peek()));
            let wanted = detour.is_some_and(|detour| near.is_none_or(|near| detour < near));
            let free = (pace.detours as f32) < pace.allowed || (near.is_none() && limit == f32::INFINITY);
            if wanted && !free && !pace.apart {
                // All that waits is near the query, where none of the rows that pass was found.
                pace.apart = true;
                pace.each = pace.each.min(DETOURS_APART);
                scratch.detours.clear();
                continue;
            }
            let candidate =
                if wanted && free { scratch.detours.pop() } else { near.and_then(|_| scratch.frontier.pop()) };
            let id = candidate?.0 as u32;
            if self.is_new(id, scratch) {
                self.prefetch(id);
                pace.count(passing.contains(id), limit < f32::INFINITY);
                return Some(id);
            }
        }
    }
}
