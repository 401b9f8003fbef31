//! Measures, for each graph, how much farther filtered walks have to look the fewer rows pass.

use super::Rows;
use super::calibrate::{K, MOST_HOPS, USUAL};
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
/// Most rows that are used as queries, for each share.
const MAX_QUERIES: usize = 128;
/// Queries for each parallel step.
const STEP: usize = 8;
/// In a graph of fewer nodes, rows that pass are found without a walk.
const LEAST: usize = 10_000;

/// Queries among the nodes that pass, and how near each one's tenth neighbour is.
struct Sample {
    passing: Passing,
    tenth: Vec<f32>,
}

impl GraphIndex {
    /// Finds the shortest detours with which walks among nodes spread evenly reach the usual recall.
    pub(super) fn calibrate_detours(&mut self, rows: Rows<'_>, picks: &[u32], task: &Task<'_>) -> Result<()> {
        if self.kind == Kind::Product || self.count < LEAST || self.calibration.is_empty() {
            return Ok(());
        }
        let picks: Vec<u32> = picks.iter().copied().step_by(picks.len().div_ceil(MAX_QUERIES).max(1)).collect();
        let mut samples = Vec::new();
        for share in SHARES {
            let passing = Passing::sample(self.count, share, mix(self.seed(), share.to_bits().into()));
            let tenth = self.tenth_among(rows, &picks, &passing, task)?;
            samples.push(Sample { passing, tenth });
        }
        for farther in FARTHER {
            self.set_farther(farther);
            if self.finds_enough(rows, &picks, &samples, task)? {
                break;
            }
        }
        Ok(())
    }

    /// The distance of each pick's tenth neighbour among the nodes that pass.
    fn tenth_among(&self, rows: Rows<'_>, picks: &[u32], passing: &Passing, task: &Task<'_>) -> Result<Vec<f32>> {
        let nodes: Vec<u32> = passing.nodes().collect();
        let parts = task.map(picks.len().div_ceil(STEP), |part| {
            let (mut scratch, mut out, mut tenth) = (Scratch::default(), Vec::new(), Vec::new());
            for &pick in picks.iter().skip(part * STEP).take(STEP) {
                let query = rows.row(self.order()[pick as usize] as usize);
                let others = nodes.iter().copied().filter(|&node| node != pick);
                let prepared = exact::prepare(&rows, query);
                self.search_among(&rows, query, &prepared, K, others, &mut scratch, &mut out)?;
                tenth.push(out.last().map_or(f32::INFINITY, |&(_, distance)| distance));
            }
            Ok(tenth)
        })?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Whether walks of usual effort find the usual share of what there is, for all that a sample can tell.
    fn finds_enough(&self, rows: Rows<'_>, picks: &[u32], samples: &[Sample], task: &Task<'_>) -> Result<bool> {
        let effort = Effort { hops: MOST_HOPS, ..self.effort_for(USUAL, K) };
        let steps = picks.len().div_ceil(STEP);
        let found = task.map(steps * samples.len(), |step| {
            let (sample, first) = (&samples[step / steps], step % steps * STEP);
            let (mut scratch, mut out, mut found) = (Scratch::default(), Vec::new(), (0, 0));
            for (&pick, tenth) in picks.iter().zip(&sample.tenth).skip(first).take(STEP) {
                // With its own node, whose edges are the answer, every row would be an easy query.
                scratch.blind_to = Some(pick);
                let query = rows.row(self.order()[pick as usize] as usize);
                let prepared = exact::prepare(&rows, query);
                self.search_passing(&rows, query, &prepared, K, effort, &sample.passing, &mut scratch, &mut out)?;
                let limit = tenth + tenth.abs() * 1e-5 + 1e-6;
                let near = out.iter().filter(|(_, distance)| *distance <= limit).count().min(K);
                found = (found.0 + near, found.1 + near * near);
            }
            Ok(found)
        })?;
        let (sum, squares) = found.iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        let walks = (picks.len() * samples.len()) as f32;
        let mean = sum as f32 / walks;
        let error = ((squares as f32 / walks - mean * mean).max(0.0) / walks).sqrt();
        Ok((mean - error) / K as f32 >= USUAL)
    }
}
