//! Filters: the operators by example, agreement of spellings and evaluators, errors and hostile input.

mod agreement;
mod errors;
mod files;
mod hostile;
mod operators;

use omendb::filter::{Columns, ColumnsBuilder};
use omendb::storage::Bytes;
use serde_json::Value;

/// A small seeded generator (splitmix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A number below `end`, the small ones far more often.
    fn skewed(&mut self, end: usize) -> usize {
        let end = 1 + self.below(end);
        self.below(end)
    }

    /// True once in `n`.
    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

fn build(rows: &[Option<Value>]) -> Vec<u8> {
    let mut builder = ColumnsBuilder::new();
    for row in rows {
        builder.push(row.as_ref()).expect("the columns take the row");
    }
    builder.finish()
}

fn columns(rows: &[Option<Value>]) -> Columns {
    Columns::parse(Bytes::new(build(rows)), rows.len() as u32, "test", 0).expect("the columns are read back")
}
