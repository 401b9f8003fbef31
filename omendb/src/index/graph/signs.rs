//! Fills the blocks of nodes with inline codes: the own code, one bit a dimension for each neighbour, factors, numbers.

use super::layout::InlineBlock;
use super::parallel::{Task, chunks_mut};
use super::points::Points;
use super::prune::NO_NEIGHBOUR;
use crate::distance::codes;
use crate::distance::fastscan::{self, BLOCK, Factors};
use crate::error::Result;

/// Nodes that one parallel step fills.
const CHUNK: usize = 1024;

/// Fills every block from the nodes' neighbour lists.
pub(super) fn write_all(
    points: &Points<'_>,
    lists: &[u32],
    nodes: &mut [u8],
    inline: InlineBlock,
    task: &Task<'_>,
) -> Result<()> {
    let stride = inline.bytes();
    chunks_mut(task, nodes, CHUNK * stride, |chunk, blocks| {
        let mut writer = Writer { points, inline, hanger: Hanger::new(points.width, inline.degree) };
        let lists = &lists[chunk * CHUNK * inline.degree..];
        let mut lists = lists.chunks_exact(inline.degree).peekable();
        for (index, block) in blocks.chunks_exact_mut(stride).enumerate() {
            let Some(list) = lists.next() else { return };
            if let Some(next) = lists.peek() {
                for &other in next.iter().take_while(|&&other| other != NO_NEIGHBOUR) {
                    codes::prefetch(points.code(other), 256);
                }
            }
            writer.write((chunk * CHUNK + index) as u32, list, block);
        }
    })
}

/// Fills one block. `codes` are those of the node and then of its neighbours.
pub(super) fn write_one(codes: &[u8], list: &[u32], block: &mut [u8], inline: InlineBlock) {
    let points = Points::untermed(codes, inline.width);
    let mut writer = Writer { points: &points, inline, hanger: Hanger::new(inline.width, inline.degree) };
    let places: Vec<u32> = (0..list.len() as u32)
        .map(|place| if place + 1 < points.count as u32 { place + 1 } else { NO_NEIGHBOUR })
        .collect();
    writer.write(0, &places, block);
    inline.write_ids(block, list);
}

struct Writer<'a> {
    points: &'a Points<'a>,
    inline: InlineBlock,
    hanger: Hanger,
}

impl Writer<'_> {
    fn write(&mut self, node: u32, list: &[u32], block: &mut [u8]) {
        let (points, inline) = (self.points, self.inline);
        let own = points.code(node);
        block[..points.width].copy_from_slice(own);
        let others = list.iter().take_while(|&&other| other != NO_NEIGHBOUR).map(|&other| points.code(other));
        let (factors, signs) = block.split_at_mut(inline.codes());
        self.hanger.hang(own, others, signs, &mut factors[points.width..]);
        inline.write_ids(block, list);
    }
}

/// Writes the signs and factors of codes that hang on another.
pub(super) struct Hanger {
    signs: Vec<u64>,
    /// `add` and `slope` of each code.
    pairs: Vec<(f32, f32)>,
    width: usize,
    degree: usize,
}

impl Hanger {
    /// For `degree` codes of `width` bytes, or fewer, on each.
    pub fn new(width: usize, degree: usize) -> Self {
        Hanger { signs: vec![0; degree * width / 64], pairs: Vec::new(), width, degree }
    }

    /// Hangs `others` on `own`: writes the signs of each 32, and `degree` bytes of `add` and of `slope` and their
    /// scales. Returns the largest squared distance.
    pub fn hang<'c>(
        &mut self,
        own: &[u8],
        others: impl Iterator<Item = &'c [u8]>,
        signs: &mut [u8],
        factors: &mut [u8],
    ) -> f32 {
        let words = self.width / 64;
        let mut farthest = 0f32;
        self.pairs.clear();
        for (other, signs) in others.zip(self.signs.chunks_exact_mut(words)) {
            let parts = fastscan::sign_parts(own, other, signs);
            let slope = if parts.absolute > 0.0 { 2.0 * parts.square / parts.absolute } else { 0.0 };
            self.pairs.push((parts.square + slope * parts.product, slope));
            farthest = farthest.max(parts.square);
        }
        self.signs[self.pairs.len() * words..].fill(0);
        let blocks = signs.chunks_exact_mut(fastscan::block_bytes(self.width));
        for (block, signs) in blocks.zip(self.signs.chunks_exact(BLOCK * words)) {
            fastscan::pack_signs(signs, words, block);
        }
        let scale = Factors::of(&self.pairs);
        let (adds, rest) = factors.split_at_mut(self.degree);
        let (slopes, scales) = rest.split_at_mut(self.degree);
        for ((add, slope), &pair) in adds.iter_mut().zip(slopes).zip(&self.pairs) {
            (*add, *slope) = scale.bytes(pair);
        }
        scales[..fastscan::SCALE_BYTES].copy_from_slice(&scale.encode());
        farthest
    }
}
