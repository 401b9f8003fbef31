//! Exact search: the distance of every live row of a block.
//!
//! Rows are taken in tiles small enough for the distances to stay on the stack and the rows in the second-level cache,
//! so that several queries read memory once.

use crate::distance::Prepared;
use crate::query::topk::TopK;

/// Most rows of a tile; a whole number of words of the live mask.
const TILE_ROWS: usize = 256;
/// Most bytes of a tile that several queries share.
const TILE_BYTES: usize = 256 << 10;
/// Only the live rows of a tile are read where fewer than one in this many are live: memory is read about four times as
/// fast in one run as row by row.
const GATHER_BELOW: usize = 4;

/// Consecutive rows, as stored.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// The vectors: little-endian, row-major.
    pub rows: &'a [u8],
    /// One bit a row, least significant first, set where the row may be an answer; `None`: all rows may.
    pub live: Option<&'a [u64]>,
    /// What the first row is called in the results; the next one is one more.
    pub first_row: u64,
}

/// Offers all live rows to `top`, ranked by distance.
///
/// # Panics
/// If the block is not whole rows, or the mask is too short.
pub fn scan(query: &Prepared, block: Block<'_>, top: &mut TopK) {
    scan_tiles(std::slice::from_ref(query), block, TILE_ROWS, std::slice::from_mut(top));
}

/// As [`scan`], for several queries of one schema, reading the block once. `tops[i]` belongs to `queries[i]`.
///
/// # Panics
/// As [`scan`], or if there are not as many `tops` as `queries`.
pub fn scan_batch(queries: &[Prepared], block: Block<'_>, tops: &mut [TopK]) {
    assert_eq!(queries.len(), tops.len(), "one result a query");
    let Some(first) = queries.first() else { return };
    // At least 64 rows, so that a tile starts with a word of the mask.
    let rows = (TILE_BYTES / first.stride() / 64 * 64).clamp(64, TILE_ROWS);
    scan_tiles(queries, block, rows, tops);
}

fn scan_tiles(queries: &[Prepared], block: Block<'_>, tile_rows: usize, tops: &mut [TopK]) {
    let stride = queries[0].stride();
    assert!(block.rows.len().is_multiple_of(stride), "a block is whole rows");
    let rows = block.rows.len() / stride;
    if let Some(live) = block.live {
        assert!(live.len() >= rows.div_ceil(64), "the mask has a bit a row");
    }
    let mut distances = [0f32; TILE_ROWS];
    let mut ordinals = [0u32; TILE_ROWS];
    for start in (0..rows).step_by(tile_rows) {
        let n = tile_rows.min(rows - start);
        let tile = &block.rows[start * stride..(start + n) * stride];
        let first_row = block.first_row + start as u64;
        let live = block.live.map(|live| live_rows(&live[start / 64..], n, &mut ordinals));
        for (query, top) in queries.iter().zip(&mut *tops) {
            match live {
                Some(live) if live * GATHER_BELOW < n => {
                    let (ordinals, distances) = (&ordinals[..live], &mut distances[..live]);
                    query.distances_of(tile, ordinals, distances);
                    for (distance, ordinal) in distances.iter().zip(ordinals) {
                        top.push(*distance, first_row + u64::from(*ordinal));
                    }
                }
                Some(live) if live < n => {
                    query.distances(tile, &mut distances[..n]);
                    for ordinal in &ordinals[..live] {
                        top.push(distances[*ordinal as usize], first_row + u64::from(*ordinal));
                    }
                }
                _ => {
                    query.distances(tile, &mut distances[..n]);
                    top.push_consecutive(&distances[..n], first_row);
                }
            }
        }
    }
}

/// Writes the places of the set bits among the first `n`; returns how many there are.
fn live_rows(words: &[u64], n: usize, ordinals: &mut [u32; TILE_ROWS]) -> usize {
    let mut count = 0;
    for (word, first) in words.iter().zip((0..n).step_by(64)) {
        let mut bits = if n - first < 64 { word & ((1 << (n - first)) - 1) } else { *word };
        while bits != 0 {
            ordinals[count] = first as u32 + bits.trailing_zeros();
            count += 1;
            bits &= bits - 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Vectors;
    use crate::schema::{Metric, Schema};

    fn floats(n: usize, mut state: u64) -> Vec<f32> {
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Few distinct values, so that equal distances are common.
            (state % 7) as f32 - 3.0
        };
        (0..n).map(|_| next()).collect()
    }

    /// Which rows are live; `None`: no mask.
    type Mask = Option<fn(usize) -> bool>;

    #[test]
    fn every_live_row_is_offered_and_no_other() {
        for (dim, rows) in [(1, 1000), (3, 1000), (100, 300), (1500, 70), (3, 256), (3, 64), (3, 63), (3, 0)] {
            let schema = Schema::new(dim, Metric::L2);
            let data = floats(rows * dim, 5);
            let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
            let queries = floats(5 * dim, 6);
            let prepared: Vec<Prepared> = (0..5).map(|i| Prepared::new(&schema, &Vectors::from(&queries), i)).collect();
            let masks: [Mask; 6] =
                [None, Some(|_| true), Some(|_| false), Some(|i| i % 3 != 1), Some(|i| i % 10 == 7), Some(|i| i > 500)];
            for is_live in masks {
                let mut words = vec![0u64; rows.div_ceil(64)];
                if !words.is_empty() {
                    // Bits past the last row mean nothing.
                    words[rows.div_ceil(64) - 1] = if rows % 64 == 0 { 0 } else { !0 << (rows % 64) };
                }
                for row in (0..rows).filter(|row| is_live.is_some_and(|f| f(*row))) {
                    words[row / 64] |= 1 << (row % 64);
                }
                let block = Block { rows: &bytes, live: is_live.map(|_| words.as_slice()), first_row: 1 << 40 };
                let mut tops = vec![TopK::new(17); 5];
                scan_batch(&prepared, block, &mut tops);
                for (query, batched) in prepared.iter().zip(tops) {
                    let mut expected: Vec<(f32, u64)> = (0..rows)
                        .filter(|row| is_live.is_none_or(|f| f(*row)))
                        .map(|row| {
                            let stride = schema.stride();
                            (query.distance(&bytes[row * stride..(row + 1) * stride]), (1 << 40) + row as u64)
                        })
                        .collect();
                    expected.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                    expected.truncate(17);
                    let pairs = |top: TopK| top.into_sorted().iter().map(|c| (c.key, c.row)).collect::<Vec<_>>();
                    assert_eq!(pairs(batched), expected);
                    let mut top = TopK::new(17);
                    scan(query, block, &mut top);
                    assert_eq!(pairs(top), expected);
                }
            }
        }
    }
}
