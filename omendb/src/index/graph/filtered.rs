//! Walks the graph for rows that pass a filter, wherever they lie.
//!
//! Nodes that pass and nodes that do not wait in queues of their own. The nearest of all is looked at next, as in any
//! walk, but those that do not pass are *detours*: they have to be nearer, and for each node that passes only so many
//! are made, some more than there are where the rows that pass are spread evenly. Where those lie together far from
//! the query, the walk therefore does not search all that is nearer, but goes from one of them to the next.

use super::layout::GraphIndex;
use super::scratch::{Nearest, Queue, Scratch, Sieve, ordered, unordered};
use super::search::{Effort, SearchStats};
use crate::distance::codes;
use roaring::RoaringBitmap;
use std::cmp::Reverse;

/// Nodes that pass among those that a walk begins with.
const STARTS: u64 = 32;
/// Detours on the way to the query's neighbourhood.
const APPROACH: usize = 64;
/// Detours for each node that passes, in multiples of what there are if those are spread evenly.
const DETOURS: f32 = 16.0;
/// Detours for each node that passes where those lie apart.
const DETOURS_APART: f32 = 3.0;
/// How much farther detours may lie for each halving of the share that passes, where that was not measured: the fewer
/// rows pass, the fewer ways lead to each.
const FARTHER: f32 = 0.015;
/// How much more slack a walk takes among rows some of whose neighbours do not pass.
const BESIDE: f32 = 0.03;
/// How much more it takes where the rows that pass lie apart, for each halving of their share and at most: fewer edges
/// lead from one to the next.
const APART: f32 = 0.033;
const APART_MOST: f32 = 0.115;
/// The power of the slack, beside that of usual walks, by which other efforts have more or fewer of them; at most so
/// many times more, as they are kept in order.
const BEAM_GROWTH: i32 = 8;
const BEAM_GROWTH_MOST: f32 = 16.0;
/// Marks a candidate whose code was compared already: only its neighbours are left to be looked at.
const LOOKED_AT: u32 = 1 << 31;

/// The nodes of a graph that stand for the rows that pass a filter.
#[derive(Debug)]
pub(crate) struct Passing<'a> {
    members: Members<'a>,
    /// Their share of all nodes.
    share: f32,
    /// Some of them, evenly spread over the rows.
    starts: Vec<u32>,
}

#[derive(Debug)]
enum Members<'a> {
    /// A bit for each node.
    Nodes(Vec<u64>),
    /// The rows, and the row that each node stands for.
    Rows(&'a RoaringBitmap, &'a [u32]),
}

impl<'a> Passing<'a> {
    /// Those of `rows`, where `nodes` are the nodes of the graph's rows.
    pub(crate) fn new(nodes: &[u32], rows: &RoaringBitmap) -> Passing<'static> {
        let bits = bits(nodes.len(), rows.iter().filter_map(|row| nodes.get(row as usize).copied()));
        Passing { members: Members::Nodes(bits), share: share(rows.len(), nodes), starts: starts(nodes, rows) }
    }

    /// The same without a bit for each node: nothing has to be made, but each look takes longer. `order` is the graph's.
    pub(crate) fn looked_up(nodes: &[u32], order: &'a [u32], rows: &'a RoaringBitmap) -> Passing<'a> {
        Passing { members: Members::Rows(rows, order), share: share(rows.len(), nodes), starts: starts(nodes, rows) }
    }

    /// These of `count` nodes.
    pub(super) fn of(count: usize, nodes: &[u32]) -> Passing<'static> {
        let starts = nodes.iter().copied().step_by(nodes.len().div_ceil(STARTS as usize).max(1)).collect();
        let share = nodes.len() as f32 / count.max(1) as f32;
        Passing { members: Members::Nodes(bits(count, nodes.iter().copied())), share, starts }
    }

    /// How often half of all nodes would have to be taken away until as few are left.
    fn halvings(&self) -> f32 {
        -self.share.max(f32::MIN_POSITIVE).log2()
    }

    /// In ascending order.
    pub(super) fn nodes(&self, count: usize) -> impl Iterator<Item = u32> {
        (0..count as u32).filter(|node| self.contains(*node))
    }

    #[inline]
    fn contains(&self, node: u32) -> bool {
        match &self.members {
            Members::Nodes(bits) => bits.get(node as usize / 64).is_some_and(|word| word >> (node % 64) & 1 == 1),
            Members::Rows(rows, order) => order.get(node as usize).is_some_and(|row| rows.contains(*row)),
        }
    }
}

fn share(rows: u64, nodes: &[u32]) -> f32 {
    rows as f32 / nodes.len().max(1) as f32
}

/// The nodes of some of the rows.
fn starts(nodes: &[u32], rows: &RoaringBitmap) -> Vec<u32> {
    let place = |index: u64| (index * rows.len() / STARTS.min(rows.len())) as u32;
    let node = |row: u32| nodes.get(row as usize).copied();
    (0..STARTS.min(rows.len())).filter_map(|index| rows.select(place(index)).and_then(node)).collect()
}

/// A set of `count` nodes.
fn bits(count: usize, nodes: impl Iterator<Item = u32>) -> Vec<u64> {
    let mut bits = vec![0u64; count.div_ceil(64)];
    nodes.for_each(|node| bits[node as usize / 64] |= 1 << (node % 64));
    bits
}

/// What a walk keeps and what it goes on to from one node.
#[derive(Clone, Copy)]
struct Step<'a> {
    passing: &'a Passing<'a>,
    /// The largest distance of neighbours that do not pass and wait to be looked at, too.
    detours: f32,
    /// Whether neighbours that pass are compared at once: from a detour few of them are seen, and each tells how near
    /// further detours have to be.
    looks: bool,
    /// Whether the node itself is found already.
    known: bool,
}

impl Sieve for Step<'_> {
    #[inline]
    fn keeps(self, _graph: &GraphIndex, node: u32) -> bool {
        !self.known && self.passing.contains(node)
    }

    #[inline]
    fn queue(self, distance: f32, node: u32, scratch: &mut Scratch) -> Option<&mut Queue> {
        match self.passing.contains(node) {
            true => Some(&mut scratch.frontier),
            false if distance <= self.detours => Some(&mut scratch.detours),
            false => None,
        }
    }

    #[inline]
    fn beams(self) -> bool {
        true
    }

    #[inline]
    fn looks_at(self, node: u32) -> bool {
        self.looks && self.passing.contains(node)
    }

    #[inline]
    fn look(self, graph: &GraphIndex, scratch: &mut Scratch, stats: &mut SearchStats) {
        while let Some(node) = scratch.fresh.pop() {
            scratch.visit(node);
            stats.compared += 1;
            let distance = codes::squared_l2(&scratch.query, graph.code(node)) as f32;
            if distance <= scratch.nearest.limit {
                graph.found(distance, node, self, scratch);
                scratch.frontier.push(Reverse(u64::from(ordered(distance)) << 32 | u64::from(node | LOOKED_AT)));
            }
        }
    }
}

/// What a walk may look at.
struct Pace {
    /// Detours made.
    detours: usize,
    /// Detours allowed so far, and for each further node that passes.
    allowed: f32,
    each: f32,
    /// How much farther detours may lie than those of a walk all of whose nodes pass.
    farther: f32,
    /// The slack for nodes that pass.
    slack: f32,
    /// Whether the rows that pass lie apart from what is near the query: detours are made only next to them.
    apart: bool,
}

impl Pace {
    fn new(graph: &GraphIndex, passing: &Passing<'_>, effort: &Effort) -> Pace {
        let each = DETOURS * (1.0 - passing.share) / passing.share.max(f32::MIN_POSITIVE);
        let farther = 1.0 + graph.farther.unwrap_or(FARTHER) * passing.halvings();
        let slack = effort.slack + BESIDE;
        Pace { detours: 0, allowed: APPROACH as f32, each, farther, slack, apart: false }
    }

    /// All that waits is near the query, where none of the rows that pass was found.
    fn set_apart(&mut self, passing: &Passing<'_>, effort: &Effort) {
        self.slack = effort.slack + (APART * passing.halvings()).min(APART_MOST);
        (self.apart, self.each) = (true, DETOURS_APART);
    }

    /// The largest distance of detours: that of the nearer half of the rows found, which takes in most of the
    /// neighbourhood of all of them. More or less where another recall than the usual one is asked for.
    fn detour_limit(&self, effort: &Effort, nearest: &Nearest) -> f32 {
        // Without slack there is a beam of nodes that pass; what is nearer than its last belongs to it.
        if self.apart || effort.slack.is_infinite() || nearest.limit == f32::INFINITY {
            return nearest.limit;
        }
        (nearest.median() * effort.slack / effort.usual * self.farther).min(nearest.limit)
    }

    /// How to look at a node.
    fn step<'a>(&self, passing: &'a Passing<'a>, id: u32, known: bool, detour_limit: f32) -> Step<'a> {
        let passes = passing.contains(id);
        let detours = if passes || !self.apart { detour_limit } else { f32::NEG_INFINITY };
        Step { passing, detours, looks: !passes, known }
    }
}

impl GraphIndex {
    /// How many rows found say when a walk ends among rows that lie apart, where `judged` are asked for. From afar all
    /// of them are about as far: the slack that does near the query takes in too many. `None` where walks do not find
    /// enough, or it was not measured: comparing all rows that pass is sure.
    fn beam_apart(&self, passing: &Passing<'_>, effort: &Effort, judged: usize) -> Option<usize> {
        let beam = self.beam_apart.filter(|_| effort.slack.is_finite())?;
        let growth = (effort.slack / effort.usual).powi(BEAM_GROWTH).min(BEAM_GROWTH_MOST);
        Some(judged + (beam as f32 * (2.0 + passing.halvings()) * growth) as usize)
    }

    /// As a walk without a filter; gives up where it does not find enough.
    pub(super) fn walk_passing(
        &self,
        passing: &Passing<'_>,
        effort: Effort,
        scratch: &mut Scratch,
        stats: &mut SearchStats,
    ) {
        let beam = self.beam_apart(passing, &effort, scratch.nearest.judged());
        scratch.beam.reset(beam.unwrap_or(0), 1.0);
        let everywhere = Step { passing, detours: f32::INFINITY, looks: false, known: false };
        self.start(everywhere, scratch, stats);
        self.start_at(&passing.starts, everywhere, scratch, stats);
        scratch.fresh.clear();
        let mut pace = Pace::new(self, passing, &effort);
        let mut chosen = None;
        loop {
            if effort.slack.is_finite() {
                scratch.nearest.set_slack(pace.slack);
                if pace.apart {
                    scratch.nearest.limit = scratch.nearest.limit.min(scratch.beam.limit);
                }
            }
            let next = self.choose_passing(passing, &effort, &mut pace, scratch);
            scratch.went_apart = pace.apart;
            if pace.apart && effort.slack.is_finite() && beam.is_none() {
                stats.gave_up = true;
                return;
            }
            let Some(candidate) = std::mem::replace(&mut chosen, next) else {
                if chosen.is_some() {
                    continue;
                }
                stats.gave_up = scratch.nearest.limit == f32::INFINITY;
                return;
            };
            let (id, known) = (candidate & !LOOKED_AT, candidate & LOOKED_AT != 0);
            let detour_limit = pace.detour_limit(&effort, &scratch.nearest);
            self.expand(id, pace.step(passing, id, known, detour_limit), scratch, stats);
            if stats.hops >= effort.hops {
                stats.gave_up = true;
                return;
            }
        }
    }

    /// Takes the nearest candidate that is near enough and in its turn, and asks for its block.
    fn choose_passing(
        &self,
        passing: &Passing<'_>,
        effort: &Effort,
        pace: &mut Pace,
        scratch: &mut Scratch,
    ) -> Option<u32> {
        loop {
            let limit = scratch.nearest.limit;
            let within = |candidate: Option<&Reverse<u64>>, limit: f32| {
                candidate.map(|candidate| candidate.0).filter(|c| unordered((c >> 32) as u32) <= limit)
            };
            let near = within(scratch.frontier.peek(), limit);
            let detour = within(scratch.detours.peek(), pace.detour_limit(effort, &scratch.nearest));
            let wanted = detour.is_some_and(|detour| near.is_none_or(|near| detour < near));
            let free = (pace.detours as f32) < pace.allowed || (near.is_none() && limit == f32::INFINITY);
            if wanted && !free && !pace.apart {
                pace.set_apart(passing, effort);
                scratch.detours.clear();
                continue;
            }
            let candidate =
                if wanted && free { scratch.detours.pop() } else { near.and_then(|_| scratch.frontier.pop()) };
            let candidate = candidate?.0 as u32;
            let id = candidate & !LOOKED_AT;
            if candidate != id || self.is_new(id, scratch) {
                self.prefetch(id);
                match passing.contains(id) {
                    true => pace.allowed += pace.each,
                    false => pace.detours += 1,
                }
                return Some(candidate);
            }
        }
    }
}
