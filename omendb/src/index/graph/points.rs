//! The points of a build: 8-bit codes in one block.

use super::parallel::{Task, chunks_mut};
use super::Rows;
use crate::error::Result;
use crate::quantize::ScalarQuantizer;

/// Rows that one parallel step encodes.
const ENCODE_CHUNK: usize = 2048;

/// Biased 8-bit codes, `width` bytes a point.
pub(super) struct Points {
    pub codes: Vec<u8>,
    pub width: usize,
    pub count: usize,
}

impl Points {
    /// Encodes every row.
    pub fn encode(rows: Rows<'_>, quantizer: &ScalarQuantizer, task: &Task<'_>) -> Result<Self> {
        let width = quantizer.width();
        let mut codes = vec![0u8; rows.count * width];
        chunks_mut(task, &mut codes, ENCODE_CHUNK * width, |chunk, codes| {
            let mut values = Vec::new();
            for (index, code) in codes.chunks_exact_mut(width).enumerate() {
                quantizer.encode(rows.row(chunk * ENCODE_CHUNK + index), &mut values, code);
            }
        })?;
        Ok(Points { codes, width, count: rows.count })
    }

    /// The code of one point.
    #[inline]
    pub fn code(&self, id: u32) -> &[u8] {
        &self.codes[id as usize * self.width..][..self.width]
    }

    /// The same points, `order[new] = old`.
    pub fn reorder(&self, order: &[u32], task: &Task<'_>) -> Result<Self> {
        let width = self.width;
        let mut codes = vec![0u8; order.len() * width];
        chunks_mut(task, &mut codes, ENCODE_CHUNK * width, |chunk, codes| {
            for (code, &old) in codes.chunks_exact_mut(width).zip(&order[chunk * ENCODE_CHUNK..]) {
                code.copy_from_slice(self.code(old));
            }
        })?;
        Ok(Points { codes, width, count: order.len() })
    }
}

/// A well mixed number from two (the finaliser of SplitMix64).
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_add(b.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
