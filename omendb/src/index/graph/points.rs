//! The points of a build: 8-bit codes in one block.

use super::Rows;
use super::parallel::{Task, chunks_mut};
use crate::distance::codes;
use crate::distance::gemm::Tile;
use crate::error::Result;
use crate::quantize::ScalarQuantizer;

/// Rows that one parallel step encodes.
const ENCODE_CHUNK: usize = 2048;

/// Biased 8-bit codes, `width` bytes a point, and what the block kernels need to know of each.
pub(super) struct Points<'a> {
    pub codes: &'a [u8],
    /// The two values of [`codes::row_terms`] of each point.
    terms: Vec<(u32, u32)>,
    pub width: usize,
    pub count: usize,
}

/// Encodes every row.
pub(super) fn encode(rows: Rows<'_>, quantizer: &ScalarQuantizer, task: &Task<'_>) -> Result<Vec<u8>> {
    let width = quantizer.width();
    let mut codes = vec![0u8; rows.count * width];
    chunks_mut(task, &mut codes, ENCODE_CHUNK * width, |chunk, codes| {
        let mut values = Vec::new();
        for (index, code) in codes.chunks_exact_mut(width).enumerate() {
            quantizer.encode(rows.row(chunk * ENCODE_CHUNK + index), &mut values, code);
        }
    })?;
    Ok(codes)
}

impl<'a> Points<'a> {
    /// The points of `codes`.
    pub fn new(codes: &'a [u8], width: usize, task: &Task<'_>) -> Result<Self> {
        let count = codes.len() / width;
        let mut terms = vec![(0, 0); count];
        chunks_mut(task, &mut terms, ENCODE_CHUNK, |chunk, terms| {
            let codes = codes[chunk * ENCODE_CHUNK * width..].chunks_exact(width);
            terms.iter_mut().zip(codes).for_each(|(terms, code)| *terms = codes::row_terms(code));
        })?;
        Ok(Points { codes, terms, width, count })
    }

    /// The points of `codes`, of which nothing but the codes is asked.
    pub fn untermed(codes: &'a [u8], width: usize) -> Self {
        Points { codes, count: codes.len() / width, terms: Vec::new(), width }
    }

    /// The points of `codes`, which [`reorder`](Self::reorder) wrote, with the terms that it returned.
    pub fn reordered(codes: &'a [u8], width: usize, terms: Vec<(u32, u32)>) -> Self {
        Points { codes, count: terms.len(), terms, width }
    }

    /// The code of one point.
    #[inline]
    pub fn code(&self, id: u32) -> &'a [u8] {
        &self.codes[id as usize * self.width..][..self.width]
    }

    /// Writes the same codes, `order[new] = old`, to `out`; their terms in the new order.
    pub fn reorder(&self, order: &[u32], out: &mut [u8], task: &Task<'_>) -> Result<Vec<(u32, u32)>> {
        let width = self.width;
        chunks_mut(task, out, ENCODE_CHUNK * width, |chunk, codes| {
            for (code, &old) in codes.chunks_exact_mut(width).zip(&order[chunk * ENCODE_CHUNK..]) {
                code.copy_from_slice(self.code(old));
            }
        })?;
        Ok(order.iter().map(|&old| self.terms[old as usize]).collect())
    }

    /// Copies codes, made signed, and their terms, as rows of a block.
    pub fn gather_signed(&self, ids: impl Iterator<Item = u32> + Clone, signed: &mut Vec<u8>, terms: &mut Vec<u32>) {
        terms.clear();
        terms.extend(ids.clone().map(|id| self.terms[id as usize].1));
        signed.resize(terms.len() * self.width, 0);
        let mut ahead = ids.clone().skip(4);
        for (row, id) in signed.chunks_exact_mut(self.width).zip(ids) {
            if let Some(next) = ahead.next() {
                codes::prefetch(self.code(next), 256);
            }
            row.iter_mut().zip(self.code(id)).for_each(|(out, code)| *out = code ^ 0x80);
        }
    }

    /// Packs up to 64 points into a tile.
    pub fn pack_tile(&self, ids: impl Iterator<Item = u32> + Clone, tile: &mut Tile) {
        let norms = ids.clone().map(|id| self.terms[id as usize].0);
        tile.pack(self.width, ids.map(|id| self.code(id)), norms);
    }
}

/// A well mixed number from two (the finaliser of SplitMix64).
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_add(b.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
