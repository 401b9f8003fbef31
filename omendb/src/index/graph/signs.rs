//! Fills the inline codes of the nodes' blocks: one bit a dimension for each neighbour, and two factors.

use super::layout::words;
use super::parallel::{Task, chunks_mut};
use super::points::Points;
use super::prune::NO_NEIGHBOUR;
use crate::distance::codes;
use crate::distance::fastscan::{self, ADD_SCALE, BLOCK};
use crate::error::Result;
use half::f16;

/// Nodes that one parallel step fills.
const CHUNK: usize = 1024;

/// Fills every block whose neighbour list is in place.
pub(super) fn write_all(
    points: &Points<'_>,
    nodes: &mut [u8],
    stride: usize,
    degree: usize,
    inline: bool,
    task: &Task<'_>,
) -> Result<()> {
    if !inline {
        return Ok(());
    }
    chunks_mut(task, nodes, CHUNK * stride, |chunk, blocks| {
        let mut signs = vec![0u64; points.width / 64];
        let mut blocks = blocks.chunks_exact_mut(stride).peekable();
        let mut node = (chunk * CHUNK) as u32;
        while let Some(block) = blocks.next() {
            if let Some(next) = blocks.peek() {
                for &other in words(&next[..degree * 4]).iter().take_while(|&&other| other != NO_NEIGHBOUR) {
                    codes::prefetch(points.code(other), 4);
                }
            }
            let (list, rest) = block.split_at_mut(degree * 4);
            write_block(points, node, words(list), rest, &mut signs);
            node += 1;
        }
    })
}

fn write_block(points: &Points<'_>, node: u32, list: &[u32], block: &mut [u8], signs: &mut [u64]) {
    let (factors, codes) = block.split_at_mut(list.len() * 4);
    let (adds, slopes) = factors.split_at_mut(list.len() * 2);
    let own = points.code(node);
    let block_bytes = fastscan::block_bytes(points.width);
    for (index, &other) in list.iter().enumerate() {
        let (mut add, mut slope) = (f16::INFINITY, f16::ZERO);
        if other != NO_NEIGHBOUR {
            let parts = fastscan::sign_parts(own, points.code(other), signs);
            let rate = if parts.absolute > 0.0 { 2.0 * parts.square / parts.absolute } else { 0.0 };
            // Kept finite: infinity stands for no neighbour.
            add = f16::from_f32(((parts.square + rate * parts.product) / ADD_SCALE).min(f16::MAX.to_f32()));
            slope = f16::from_f32(rate);
            let (byte, half) = (index % BLOCK % 16, index % BLOCK / 16 * 4);
            let mut tables = codes[index / BLOCK * block_bytes..][..block_bytes].chunks_exact_mut(16);
            for &word in signs.iter() {
                for (nibble, table) in tables.by_ref().take(16).enumerate() {
                    table[byte] |= ((word >> (nibble * 4) & 15) as u8) << half;
                }
            }
        }
        adds[index * 2..index * 2 + 2].copy_from_slice(&add.to_le_bytes());
        slopes[index * 2..index * 2 + 2].copy_from_slice(&slope.to_le_bytes());
    }
}
