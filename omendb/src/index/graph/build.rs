//! Builds a graph in batches: carve the points into overlapping leaves, compare all with all in each leaf, merge the
//! candidates, prune.

use super::exact::Kind;
use super::layout::{Assembly, GraphIndex};
use super::parallel::{Task, chunks_mut};
use super::partition::{self, CarveParams};
use super::points::{self, Points};
use super::prune::NO_NEIGHBOUR;
use super::{Rows, leaf, prune, repair, signs};
use crate::error::{Error, Result};
use crate::quantize::ScalarQuantizer;
use crate::quantize::bits::BitCoder;
use crate::quantize::coder::{Coder, Coding, CodingSpace};
use crate::quantize::product::{self, ProductCoder};
use std::sync::atomic::AtomicBool;
use zerocopy::IntoBytes;

/// How a graph is built. The graph depends on all of these but `threads`.
#[derive(Debug, Clone)]
pub struct BuildParams {
    /// Most neighbours of a node, a multiple of 32.
    pub degree: usize,
    /// Seed of everything drawn at random.
    pub seed: u64,
    /// Threads to use; 0 means one.
    pub threads: usize,
    /// Most points of a leaf, 32 to 1,024.
    pub leaf_max: usize,
    /// Groups that a point joins at the first and second level of the partition.
    pub fanout: [usize; 2],
    /// Neighbours that each leaf gives to each of its points, 1 to 8.
    pub leaf_k: usize,
    /// Widest rows whose neighbours' one-bit codes are stored with each node, at most 1,024. A node then takes
    /// `degree * width / 8` bytes more, and a hop reads one block instead of one code a neighbour: with 784 dimensions
    /// that is a sixth of the bytes.
    pub inline_max_dim: usize,
    /// Which codes the graph holds.
    pub coding: Coding,
    /// Calibrate search effort against exact answers.
    pub calibrate: bool,
    /// No better graph of these rows will follow. Then it is measured how walks under filters find what is asked for,
    /// and each row is looked for by itself; those that are not found get another edge. Half as long as a first build
    /// again.
    pub last: bool,
}

impl BuildParams {
    /// The quickest build that searches well: for a segment's first graph.
    pub fn first() -> Self {
        BuildParams {
            degree: 32,
            seed: 0,
            threads: 1,
            leaf_max: 256,
            fanout: [4, 2],
            leaf_k: 3,
            inline_max_dim: 1024,
            coding: Coding::Plain,
            calibrate: true,
            last: false,
        }
    }

    /// A careful build, three times as long: for a settled segment.
    pub fn settled() -> Self {
        BuildParams { fanout: [8, 3], leaf_k: 2, last: true, ..Self::first() }
    }

    fn validate(&self) -> Result<()> {
        let fits = self.degree >= 32
            && self.degree <= 256
            && self.degree.is_multiple_of(32)
            && (32..=1024).contains(&self.leaf_max)
            && (1..=8).contains(&self.leaf_k)
            && self.fanout.iter().all(|fanout| (1..=16).contains(fanout));
        if !fits {
            return Err(Error::invalid(format!(
                "graph build with degree {}, leaf_max {}, fanout {:?}, leaf_k {} given; degree is a multiple of 32 up \
                    to 256, leaf_max 32 to 1024, fanout 1 to 16, leaf_k 1 to 8",
                self.degree, self.leaf_max, self.fanout, self.leaf_k
            )));
        }
        Ok(())
    }
}

/// Builds the graph of `rows`. `progress` hears the share done, from 0 to 1; a true `cancel` ends the build early with
/// [`Error::Cancelled`]. The same rows and parameters give the same bytes, whatever the number of threads.
pub fn build(
    rows: Rows<'_>,
    params: &BuildParams,
    progress: &(dyn Fn(f32) + Sync),
    cancel: &AtomicBool,
) -> Result<GraphIndex> {
    params.validate()?;
    let task = Task { threads: params.threads.max(1), cancel };
    progress(0.0);
    let quantizer = ScalarQuantizer::fit(rows, (rows.dim <= params.inline_max_dim).then_some(params.seed));
    let (width, entries) = (quantizer.width(), sample_entries(rows.count, quantizer.width()));
    let codes = points::encode(rows, &quantizer, &task)?;
    progress(0.05);
    let carve = CarveParams { leaf_max: params.leaf_max, fanout: params.fanout, seed: params.seed };
    let unordered = Points::new(&codes, width, &task)?;
    let mut leaves = partition::carve(&unordered, &carve, &task)?;
    progress(0.35);
    let mut renumbered = vec![0u32; rows.count];
    leaves.order.iter().enumerate().for_each(|(new, &old)| renumbered[old as usize] = new as u32);
    leaves.members.iter_mut().for_each(|id| *id = renumbered[*id as usize]);
    drop(renumbered);
    let mut ordered = vec![0u8; codes.len()];
    let terms = unordered.reorder(&leaves.order, &mut ordered, &task)?;
    drop(codes);
    let points = Points::reordered(&ordered, width, terms);
    let edges = leaf::collect(&points, &leaves, params.leaf_k, params.leaf_max, &task)?;
    let order = leaves.order;
    drop((leaves.members, leaves.starts));
    progress(0.6);
    let mut lists = vec![NO_NEIGHBOUR; rows.count * params.degree];
    prune::prune_all(&points, &edges, params.degree, &mut lists, &task)?;
    drop(edges);
    progress(0.8);
    repair::connect(&points, &mut lists, params.degree, &entries, &task)?;
    progress(0.85);
    let coder = coder(rows, &quantizer, params);
    let mut assembly = Assembly::new(quantizer.clone(), coder.as_ref(), &order, &entries, params.degree, params.seed)?;
    let parts = assembly.parts();
    match (parts.inline, &coder) {
        (Some(inline), _) => signs::write_all(&points, &lists, parts.nodes, inline, &task)?,
        (None, None) => parts.codes.copy_from_slice(points.codes),
        (None, Some(coder)) => {
            for (code, &entry) in parts.entry_codes.chunks_exact_mut(width).zip(&entries) {
                code.copy_from_slice(points.code(entry));
            }
            let bytes = coder.bytes();
            chunks_mut(&task, parts.codes, CODED_ROWS * bytes, |chunk, codes| {
                let mut space = CodingSpace::default();
                for (code, &row) in codes.chunks_exact_mut(bytes).zip(&order[chunk * CODED_ROWS..]) {
                    coder.encode(&quantizer, rows.row(row as usize), &mut space, code);
                }
            })?;
        }
    }
    if parts.inline.is_none() {
        parts.nodes.copy_from_slice(lists.as_bytes());
    }
    drop(points);
    drop((ordered, lists, order));
    progress(0.9);
    let mut index = assembly.finish()?;
    if params.calibrate {
        index.calibrate(rows, params.last, params.threads.max(1), cancel)?;
    }
    progress(0.95);
    if params.last {
        let strays = index.reach_all(rows, &task)?;
        if strays > 0 {
            tracing::warn!(strays, rows = rows.count, "searches for some rows do not find them");
        }
    }
    progress(1.0);
    Ok(index)
}

/// Rows that one parallel step encodes.
const CODED_ROWS: usize = 2048;

/// What makes the codes that are asked for, where rows of this kind can have them.
fn coder(rows: Rows<'_>, quantizer: &ScalarQuantizer, params: &BuildParams) -> Option<Coder> {
    match params.coding {
        Coding::Bits(bits @ 1..=8) if quantizer.turn.is_some() => {
            Some(Coder::Bits(BitCoder { bits: bits.into(), width: quantizer.width() }))
        }
        Coding::Product if Kind::of(rows.metric) == Kind::Euclidean => {
            let sample = quantizer.sample(rows, rows.count.min(product::SAMPLE_ROWS));
            Some(Coder::Product(ProductCoder::fit(&sample, quantizer.dims(), params.seed)))
        }
        _ => None,
    }
}

/// Bytes of entry points' codes that a search may read: what a cache next to the core holds.
const ENTRY_BYTES: usize = 128 << 10;

/// Nodes that searches choose their start from: evenly spread over the partition order, so over the space.
fn sample_entries(count: usize, width: usize) -> Vec<u32> {
    let most = (ENTRY_BYTES / width).clamp(64, 1024);
    let wanted = (count / 64).clamp(64, most).next_multiple_of(64).min(count);
    (0..wanted).map(|index| (index * count / wanted + count / wanted / 2) as u32).collect()
}
