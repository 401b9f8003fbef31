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
        let mut writer =
            Writer { points, inline, signs: vec![0; inline.degree * points.width / 64], pairs: Vec::new() };
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
    let signs = vec![0; inline.degree * inline.width / 64];
    let mut writer = Writer { points: &points, inline, signs, pairs: Vec::new() };
    let places: Vec<u32> = (0..list.len() as u32)
        .map(|place| if place + 1 < points.count as u32 { place + 1 } else { NO_NEIGHBOUR })
        .collect();
    writer.write(0, &places, block);
    inline.write_ids(block, list);
}

struct Writer<'a> {
    points: &'a Points<'a>,
    inline: InlineBlock,
    signs: Vec<u64>,
    /// `add` and `slope` of each neighbour.
    pairs: Vec<(f32, f32)>,
}

impl Writer<'_> {
    fn write(&mut self, node: u32, list: &[u32], block: &mut [u8]) {
        let (points, inline) = (self.points, self.inline);
        let words = points.width / 64;
        let own = points.code(node);
        let used = list.iter().take_while(|&&other| other != NO_NEIGHBOUR).count();
        self.pairs.clear();
        for (&other, signs) in list[..used].iter().zip(self.signs.chunks_exact_mut(words)) {
            let parts = fastscan::sign_parts(own, points.code(other), signs);
            let slope = if parts.absolute > 0.0 { 2.0 * parts.square / parts.absolute } else { 0.0 };
            self.pairs.push((parts.square + slope * parts.product, slope));
        }
        self.signs[used * words..].fill(0);
        block[..points.width].copy_from_slice(own);
        let parts = block[inline.codes()..].chunks_exact_mut(fastscan::block_bytes(points.width));
        for (codes, signs) in parts.zip(self.signs.chunks_exact(BLOCK * words)) {
            fastscan::pack_signs(signs, words, codes);
        }
        let factors = Factors::of(&self.pairs);
        let (adds, rest) = block[points.width..].split_at_mut(inline.degree);
        let (slopes, scales) = rest.split_at_mut(inline.degree);
        for ((add, slope), &pair) in adds.iter_mut().zip(slopes).zip(&self.pairs) {
            (*add, *slope) = factors.bytes(pair);
        }
        scales[..fastscan::SCALE_BYTES].copy_from_slice(&factors.encode());
        inline.write_ids(block, list);
    }
}
