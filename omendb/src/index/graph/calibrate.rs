//! Measures, for each graph, what effort reaches what recall.

use super::exact::{self, Kind};
use super::layout::GraphIndex;
use super::parallel::Task;
use super::scratch::Scratch;
use super::search::Effort;
use super::{Rows, mix};
use crate::distance::codes;
use crate::distance::gemm::{self, KeyBits, NO_KEY, RowBlock, TILE, Tile};
use crate::error::Result;
use crate::schema::Metric;
use std::sync::atomic::AtomicBool;

/// Slacks that are measured, or beams where the walk keeps to one.
const SLACKS: [f32; 14] = [0.8, 0.9, 0.95, 1.0, 1.03, 1.06, 1.1, 1.14, 1.18, 1.24, 1.32, 1.45, 1.7, 2.2];
const BEAMS: [f32; 14] = [10.0, 14.0, 20.0, 28.0, 40.0, 56.0, 80.0, 112.0, 160.0, 224.0, 320.0, 448.0, 640.0, 1024.0];
/// Most rows that are used as queries: multiples of a tile.
const MAX_QUERIES: usize = 512;
/// The level of the walks that show where the neighbours lie; any would do, a higher one leaves fewer rows to look at.
const THOROUGH: f32 = 1.2;
/// Neighbours that recall is judged on.
pub(super) const K: usize = 10;
/// Rows that one parallel step compares with all picks, and those of a run that are kept for each pick.
const PART: usize = 1 << 16;
const KEPT: usize = 16;
/// Rows that are near to each of the picks.
type Near = Vec<Vec<(u32, u32)>>;
/// Recall beyond which larger beams are not measured, and the gain below which more effort is in vain.
const ENOUGH: f32 = 0.9995;
const LEAST_GAIN: f32 = 0.0005;
/// Levels at which walks look at more nodes are not measured: where distances differ little, a slack that hardly finds
/// more can span the whole graph.
pub(super) const MOST_HOPS: usize = 8_192;
/// A level that one walk in as many finds too long is one of those.
const RARELY: usize = 50;

/// Rows within this share of the distance of the tenth neighbour are a pick's twins. Copies of rows are common, and
/// lead straight to the pick's neighbours; queries seldom have any.
const TWINS: f32 = 0.5;

/// What a search for a pick has to find.
struct Answer {
    /// The distance of its tenth neighbour.
    tenth: f32,
    /// Nodes that are its twins, fewer than [`K`].
    twins: Vec<u32>,
}

/// The recall that most searches ask for.
pub(super) const USUAL: f32 = 0.95;

/// How many of the first [`K`] found are no farther than the true last one.
pub(super) fn found_within(found: &[(u32, f32)], last: f32) -> usize {
    let limit = last + last.abs() * 1e-5 + 1e-6;
    found.iter().filter(|(_, distance)| *distance <= limit).count().min(K)
}

/// The recall of searches by the sum of what each found and of its square. A sample errs: what is promised is one
/// standard error below what was measured.
pub(super) fn measured_and_promised(sum: usize, squares: usize, searches: usize) -> (f32, f32) {
    let searches = searches as f32;
    let mean = sum as f32 / searches;
    let error = ((squares as f32 / searches - mean * mean).max(0.0) / searches).sqrt();
    (mean / K as f32, ((mean - error) / K as f32).max(0.0))
}

impl GraphIndex {
    /// Measures recall@10 of growing beams with rows of the set as queries, each blind to its own node and to its
    /// twins; and where `filters`, how far walks under filters have to look.
    pub fn calibrate(&mut self, rows: Rows<'_>, filters: bool, threads: usize, cancel: &AtomicBool) -> Result<()> {
        let task = Task { threads, cancel };
        let wanted = (self.count / 64).min(MAX_QUERIES) / TILE * TILE;
        if wanted == 0 {
            return Ok(());
        }
        let picks: Vec<u32> = (0..wanted)
            .map(|index| {
                let (from, to) = (index * self.count / wanted, (index + 1) * self.count / wanted);
                (from + (mix(self.seed(), index as u64) % (to - from) as u64) as usize) as u32
            })
            .collect();
        let truth = self.exact_answers(rows, &picks, &task)?;
        let mut pairs = Vec::new();
        for level in if self.kind == Kind::Product { BEAMS } else { SLACKS } {
            let hits = task.map(wanted.div_ceil(TILE), |part| {
                let (mut scratch, mut out, mut hits) = (Scratch::default(), Vec::new(), (0, 0, 0));
                for (&pick, truth) in picks.iter().zip(&truth).skip(part * TILE).take(TILE) {
                    let own = self.order()[pick as usize];
                    // With its own node, whose edges are the answer, every row would be an easy query.
                    scratch.blind_to = Some(pick);
                    scratch.twins.clone_from(&truth.twins);
                    let effort = Effort { hops: MOST_HOPS, ..self.effort_of(level, K) };
                    let query = rows.row(own as usize);
                    let stats = self.search(rows, query, K, effort, None, &mut scratch, &mut out)?;
                    let asked = K - truth.twins.len();
                    let found = found_within(&out, truth.tenth).min(asked) * K / asked;
                    hits = (hits.0 + found, hits.1 + found * found, hits.2 + usize::from(stats.gave_up));
                }
                Ok(hits)
            })?;
            let add =
                |all: (usize, usize, usize), one: &(usize, usize, usize)| (all.0 + one.0, all.1 + one.1, all.2 + one.2);
            let (sum, squares, too_long) = hits.iter().fold((0, 0, 0), add);
            if too_long * RARELY > wanted && !pairs.is_empty() {
                break;
            }
            let (recall, promised) = measured_and_promised(sum, squares, wanted);
            let gain = promised - pairs.last().map_or(0.0, |&(_, before)| before);
            if gain < LEAST_GAIN && level > THOROUGH {
                break;
            }
            pairs.push((level, promised));
            if recall >= ENOUGH {
                break;
            }
        }
        self.set_calibration(&pairs);
        if filters { self.calibrate_detours(rows, &picks, &task) } else { Ok(()) }
    }

    /// Between codes, a little more than the distance within which each pick has ten neighbours: those a walk finds.
    fn reach(&self, rows: Rows<'_>, picks: &[u32], task: &Task<'_>) -> Result<Vec<u32>> {
        let parts = task.map(picks.len().div_ceil(TILE), |part| {
            let (mut scratch, mut out, mut values) = (Scratch::default(), Vec::new(), Vec::new());
            let (mut code, mut own_code, mut reach) = (vec![0; self.width], vec![0; self.width], Vec::new());
            for &pick in picks.iter().skip(part * TILE).take(TILE) {
                scratch.blind_to = Some(pick);
                let own = rows.row(self.order()[pick as usize] as usize);
                let effort = Effort { hops: MOST_HOPS, ..self.effort_of(THOROUGH, K) };
                if self.search(rows, own, K, effort, None, &mut scratch, &mut out)?.gave_up {
                    self.search(rows, own, K, self.effort_of(SLACKS[0], K), None, &mut scratch, &mut out)?;
                }
                self.copy_code(rows, pick, &mut values, &mut own_code);
                let mut farthest = if out.len() < K { u32::MAX } else { 0 };
                for &(row, _) in &out {
                    self.quantizer.encode(rows.row(row as usize), &mut values, &mut code);
                    farthest = farthest.max(codes::squared_l2(&own_code, &code));
                }
                // Rounding to codes may put a nearer row a little farther away.
                reach.push(farthest.saturating_add(farthest / 16));
            }
            Ok(reach)
        })?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// What a search for each pick has to find, exactly.
    fn exact_answers(&self, rows: Rows<'_>, picks: &[u32], task: &Task<'_>) -> Result<Vec<Answer>> {
        let found = match self.kind {
            Kind::Euclidean => self.near_codes(rows, picks, task)?,
            Kind::Product => self.large_products(rows, picks, task)?,
        };
        let mut answers = Vec::with_capacity(picks.len());
        for (index, &pick) in picks.iter().enumerate() {
            let mut near: Vec<(u32, u32)> = found.iter().flat_map(|part| part[index].iter().copied()).collect();
            near.sort_unstable();
            let own = self.order()[pick as usize];
            let prepared = exact::prepare(&rows, rows.row(own as usize));
            let candidates = near.iter().take(4 * KEPT).filter(|&&(_, id)| id != pick);
            let candidates: Vec<u32> = candidates.map(|&(_, id)| id).collect();
            let places: Vec<u32> = candidates.iter().map(|&id| self.order()[id as usize]).collect();
            let mut distances = vec![0.0; candidates.len()];
            rows.distances_of(&prepared, &places, &mut distances);
            let mut sorted = distances.clone();
            sorted.sort_unstable_by(f32::total_cmp);
            let tenth = sorted.get(K - 1).or(sorted.last()).copied().unwrap_or(0.0);
            // Distances of other metrics are in the order of squares.
            let near = tenth * if rows.metric == Metric::L2 { TWINS } else { TWINS * TWINS };
            let twins = candidates.iter().zip(&distances).filter(|(_, distance)| **distance < near);
            let twins = twins.map(|(&node, _)| node).take(if self.kind == Kind::Product { 0 } else { K - 1 }).collect();
            answers.push(Answer { tenth, twins });
        }
        Ok(answers)
    }

    /// For each part of the rows and each pick, rows whose codes are near: all that may be among the nearest, each with
    /// what orders them.
    fn near_codes(&self, rows: Rows<'_>, picks: &[u32], task: &Task<'_>) -> Result<Vec<Near>> {
        let tiles: Vec<Tile> = picks
            .chunks(TILE)
            .map(|picks| {
                let mut tile = Tile::default();
                let (mut values, mut codes) = (Vec::new(), vec![0; picks.len() * self.width]);
                for (code, &pick) in codes.chunks_exact_mut(self.width).zip(picks) {
                    self.copy_code(rows, pick, &mut values, code);
                }
                let norms = codes.chunks_exact(self.width).map(|code| codes::row_terms(code).0);
                tile.pack(self.width, codes.chunks_exact(self.width), norms);
                tile
            })
            .collect();
        let bits = KeyBits::new(self.width, 256);
        let reach = self.reach(rows, picks, task)?;
        let near = |key: u32, pick: usize| key != NO_KEY && bits.distance(key) <= reach[pick];
        task.map(self.count.div_ceil(PART), |part| {
            let mut found: Vec<Vec<(u32, u32)>> = vec![Vec::new(); picks.len()];
            let (mut signed, mut terms, mut best) = (Vec::new(), Vec::new(), Vec::new());
            let (mut values, mut code) = (Vec::new(), vec![0; self.width]);
            let end = ((part + 1) * PART).min(self.count);
            for first in (part * PART..end).step_by(256) {
                signed.clear();
                terms.clear();
                for id in first..(first + 256).min(end) {
                    self.copy_code(rows, id as u32, &mut values, &mut code);
                    signed.extend(code.iter().map(|code| code ^ 0x80));
                    terms.push(codes::row_terms(&code).1);
                }
                let block = RowBlock { signed: &signed, terms: &terms };
                for (number, tile) in tiles.iter().enumerate() {
                    // Few blocks hold a row that is near enough to any of the tile.
                    gemm::nearest_rows(tile, block, bits, 1, &mut best);
                    if !best.iter().zip(number * TILE..).any(|(&key, pick)| near(key, pick)) {
                        continue;
                    }
                    gemm::nearest_rows(tile, block, bits, KEPT, &mut best);
                    for (lane, pick) in (number * TILE..picks.len()).take(TILE).enumerate() {
                        let keys = (0..KEPT).map(|rank| best[rank * TILE + lane]).take_while(|&key| near(key, pick));
                        found[pick].extend(keys.map(|key| (bits.distance(key), (first + bits.index(key)) as u32)));
                    }
                }
            }
            Ok(found)
        })
    }

    /// The same by the products of codes: how near a row is to a pick says little about their product.
    fn large_products(&self, rows: Rows<'_>, picks: &[u32], task: &Task<'_>) -> Result<Vec<Near>> {
        task.map(self.count.div_ceil(PART), |part| {
            let ids: Vec<u32> = ((part * PART) as u32..((part + 1) * PART).min(self.count) as u32).collect();
            let (mut values, mut code, mut products) = (Vec::new(), vec![0; self.width], Vec::new());
            let largest = |&pick: &u32| {
                let own = rows.row(self.order()[pick as usize] as usize);
                self.quantizer.encode_query(own, &mut values, &mut code);
                codes::product_many(&code, self.codes(), &ids, &mut products);
                // Numbers in the opposite order of the products.
                let keys = products.iter().map(|&product| !(product as u32 ^ (1 << 31)));
                let mut near: Vec<(u32, u32)> = keys.zip(ids.iter().copied()).collect();
                if near.len() > 4 * KEPT {
                    near.select_nth_unstable(4 * KEPT);
                    near.truncate(4 * KEPT);
                }
                near
            };
            Ok(picks.iter().map(largest).collect())
        })
    }

    /// The effort that reached `recall` (0 to 1) at calibration, for `k` results.
    pub fn effort_for(&self, recall: f32, k: usize) -> Effort {
        Effort { usual: self.level_for(USUAL), ..self.effort_of(self.level_for(recall), k) }
    }

    fn level_for(&self, recall: f32) -> f32 {
        let pairs = &self.calibration[..];
        match pairs.iter().position(|&(_, measured)| measured >= recall) {
            Some(0) => pairs[0].0,
            Some(place) => {
                let ((low, below), (high, above)) = (pairs[place - 1], pairs[place]);
                // Between two efforts the logarithm of what is missed is nearly straight.
                let missed = |recall: f32| (1.0 - recall).max(1e-4).ln();
                let (from, to) = (missed(below), missed(above));
                low + (high - low) * ((missed(recall) - from) / (to - from).min(-1e-6)).clamp(0.0, 1.0)
            }
            None if self.kind == Kind::Product => pairs.last().map_or(256.0, |pair| pair.0),
            None => pairs.last().map_or(1.3 + self.doubt(), |pair| pair.0),
        }
    }

    fn effort_of(&self, level: f32, k: usize) -> Effort {
        let effort = if self.kind == Kind::Product {
            Effort::beam(level.ceil() as usize + k.saturating_sub(K))
        } else {
            Effort::slack(level)
        };
        let rerank = self.coder.as_ref().map_or(effort.rerank, |coder| coder.rerank());
        Effort { rerank: rerank + k / 4, ..effort }
    }
}
