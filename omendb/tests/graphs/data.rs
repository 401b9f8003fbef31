//! What the tests store.

use std::path::PathBuf;

/// Vectors, one after the other.
pub struct Rows {
    pub dim: usize,
    pub values: Vec<f32>,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dim..][..self.dim]
    }
}

/// Clustered points, of which one in twenty is there twice and forty are equal.
pub fn clustered(rows: usize, dim: usize, seed: u64) -> Rows {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let centres: Vec<f32> = (0..64 * dim).map(|_| next() * 4.0).collect();
    let mut values = Vec::with_capacity(rows * dim);
    for row in 0..rows {
        match row {
            _ if row % 20 == 19 => values.extend_from_within((row - 19) * dim..(row - 18) * dim),
            _ if row > 500 && row % 500 == 1 && row <= 20_000 => values.extend_from_within(dim..2 * dim),
            _ => {
                let centre = &centres[row % 64 * dim..][..dim];
                values.extend(centre.iter().map(|c| c + next()));
            }
        }
    }
    Rows { dim, values }
}

/// An array of SIFT 1M, as f32.
pub fn sift(name: &str, most: usize) -> Rows {
    let home = std::env::var("HOME").expect("HOME is set");
    let path = PathBuf::from(home).join(".cache/omendb-bench/sift-1m").join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}: make the data set first", path.display()));
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let values: Vec<f32> = bytes[header..].iter().take(most.saturating_mul(128)).map(|b| f32::from(*b)).collect();
    Rows { dim: 128, values }
}

/// How many rows of SIFT the long runs take.
pub fn long_rows() -> usize {
    std::env::var("OMENDB_ROWS").map_or(1_000_000, |rows| rows.parse().expect("OMENDB_ROWS is a number"))
}
