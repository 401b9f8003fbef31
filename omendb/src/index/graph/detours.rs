//! Measures, for each graph, how walks under filters find what is asked for: how much farther they have to look the
//! fewer rows pass, and how they go on where those lie apart from the query.

use super::Rows;
use super::calibrate::{K, MOST_HOPS, USUAL, found_within, measured_and_promised};
use super::exact::{self, Kind};
use super::filtered::Passing;
use super::layout::GraphIndex;
use super::mix;
use super::parallel::Task;
use super::scratch::Scratch;
use super::search::Effort;
use crate::error::Result;

/// Shares of nodes that pass, of walks that are measured.
const SHARES: [f32; 2] = [0.16, 0.08];
/// How much farther detours may lie for each halving of the share, from the cheapest on.
const FARTHER: [f32; 6] = [0.0, 0.005, 0.01, 0.015, 0.02, 0.03];
/// Beams among rows that lie apart, from the cheapest on.
const BEAMS: [u32; 4] = [20, 40, 80, 160];
/// Places around which the nearest nodes pass, for each share.
const PLACES: usize = 8;
/// Most rows that are used as queries, for each share.
const MAX_QUERIES: usize = 128;
/// Fewer walks than this tell nothing.
const LEAST_WALKS: usize = 32;
/// Queries for each parallel step.
const STEP: usize = 8;
/// In a graph of fewer nodes, rows that pass are found without a walk.
const LEAST: usize = 10_000;

/// A filter, queries under it, and the distance of each one's tenth neighbour among the nodes that pass.
struct Sample<'a> {
    passing: Passing<'static>,
    picks: &'a [u32],
    tenth: Vec<f32>,
}

/// About this share of all nodes, spread evenly.
pub(super) fn random_nodes(count: usize, share: f32, seed: u64) -> Vec<u32> {
    let limit = (f64::from(share) * (1u64 << 32) as f64) as u64;
    let seed = mix(seed, share.to_bits().into());
    (0..count as u32).filter(|&node| mix(seed, node.into()) >> 32 < limit).collect()
}

impl GraphIndex {
    /// Finds the cheapest way in which filtered walks reach the usual recall.
    pub(super) fn calibrate_detours(&mut self, rows: Rows<'_>, picks: &[u32], task: &Task<'_>) -> Result<()> {
        if self.kind == Kind::Product || self.count < LEAST || self.calibration.is_empty() {
            return Ok(());
        }
        let picks: Vec<u32> = picks.iter().copied().step_by(picks.len().div_ceil(MAX_QUERIES).max(1)).collect();
        self.calibrate_apart(rows, &picks, task)?;
        let filters = SHARES.map(|share| (random_nodes(self.count, share, self.seed()), &picks[..]));
        let samples = self.samples(rows, filters.into(), task)?;
        for farther in FARTHER {
            self.set_farther(farther);
            if self.recall_under(rows, &samples, false, task)?.is_none_or(|recall| recall >= USUAL) {
                break;
            }
        }
        Ok(())
    }

    /// The way where the nodes that pass are the nearest to one place: whole neighbourhoods and, far from the place,
    /// single ones of others.
    fn calibrate_apart(&mut self, rows: Rows<'_>, picks: &[u32], task: &Task<'_>) -> Result<()> {
        // Each place is asked for from everywhere. Half of the rows are enough: the beams differ more.
        let queries: Vec<Vec<u32>> =
            (0..PLACES).map(|place| picks.iter().copied().skip(place).step_by(2 * PLACES).collect()).collect();
        let around = task.map(PLACES, |place| self.nodes_around(rows, picks[place * picks.len() / PLACES]))?;
        let filters = around.into_iter().zip(&queries);
        let filters = filters.flat_map(|(shares, queries)| shares.map(|nodes| (nodes, &queries[..]))).collect();
        let samples = self.samples(rows, filters, task)?;
        for beam in BEAMS {
            self.set_beam_apart(Some(beam));
            match self.recall_under(rows, &samples, true, task)? {
                Some(recall) if recall < USUAL => {}
                Some(_) => return Ok(()),
                None => break,
            }
        }
        self.set_beam_apart(None);
        Ok(())
    }

    /// The nodes nearest to a node by their codes, of each share.
    fn nodes_around(&self, rows: Rows<'_>, place: u32) -> Result<[Vec<u32>; SHARES.len()]> {
        let (mut scratch, mut distances) = (Scratch::default(), Vec::new());
        self.prepare(rows.row(self.order()[place as usize] as usize), &mut scratch);
        let mut nodes: Vec<u32> = (0..self.count as u32).collect();
        self.distances(&nodes, &mut scratch, &mut distances);
        let by_distance = |a: &u32, b: &u32| distances[*a as usize].total_cmp(&distances[*b as usize]).then(a.cmp(b));
        Ok(SHARES.map(|share| {
            let wanted = ((self.count as f32 * share) as usize).clamp(1, nodes.len());
            nodes.select_nth_unstable_by(wanted - 1, by_distance);
            nodes[..wanted].to_vec()
        }))
    }

    /// Each filter with exact answers.
    fn samples<'a>(
        &self,
        rows: Rows<'_>,
        filters: Vec<(Vec<u32>, &'a [u32])>,
        task: &Task<'_>,
    ) -> Result<Vec<Sample<'a>>> {
        let mut samples = Vec::with_capacity(filters.len());
        for (nodes, picks) in filters {
            let tenth = task.map(picks.len(), |at| {
                let (mut scratch, mut out) = (Scratch::default(), Vec::new());
                let query = rows.row(self.order()[picks[at] as usize] as usize);
                let others = nodes.iter().copied().filter(|&node| node != picks[at]);
                let prepared = exact::prepare(&rows, query);
                self.search_among(&rows, query, &prepared, K, others, &mut scratch, &mut out)?;
                Ok(out.last().map_or(f32::INFINITY, |&(_, distance)| distance))
            })?;
            samples.push(Sample { passing: Passing::of(self.count, &nodes), picks, tenth });
        }
        Ok(samples)
    }

    /// The recall that walks of usual effort promise: all of them, or those that find the rows that pass apart. `None`
    /// where there are too few to tell.
    fn recall_under(
        &self,
        rows: Rows<'_>,
        samples: &[Sample<'_>],
        apart: bool,
        task: &Task<'_>,
    ) -> Result<Option<f32>> {
        let effort = Effort { hops: MOST_HOPS, ..self.effort_for(USUAL, K) };
        let walks: Vec<(&Sample<'_>, usize)> =
            samples.iter().flat_map(|sample| (0..sample.picks.len()).map(move |at| (sample, at))).collect();
        let found = task.map(walks.len().div_ceil(STEP), |step| {
            let (mut scratch, mut out, mut all) = (Scratch::default(), Vec::new(), (0, 0, 0));
            for &(sample, at) in walks.iter().skip(step * STEP).take(STEP) {
                // With its own node, whose edges are the answer, every row would be an easy query.
                scratch.blind_to = Some(sample.picks[at]);
                let query = rows.row(self.order()[sample.picks[at] as usize] as usize);
                let prepared = exact::prepare(&rows, query);
                self.search_passing(&rows, query, &prepared, K, effort, &sample.passing, &mut scratch, &mut out)?;
                if scratch.went_apart || !apart {
                    // Those that walks leave to a comparison of all are found.
                    let compared = scratch.went_apart && self.beam_apart.is_none();
                    let near = if compared { K } else { found_within(&out, sample.tenth[at]) };
                    all = (all.0 + near, all.1 + near * near, all.2 + 1);
                }
            }
            Ok(all)
        })?;
        let add =
            |all: (usize, usize, usize), one: &(usize, usize, usize)| (all.0 + one.0, all.1 + one.1, all.2 + one.2);
        let (sum, squares, walks) = found.iter().fold((0, 0, 0), add);
        Ok((walks >= LEAST_WALKS).then(|| measured_and_promised(sum, squares, walks).1))
    }
}
