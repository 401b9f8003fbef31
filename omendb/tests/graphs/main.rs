//! Graphs keep their promises at size: every record can be found by its own vector, and replacing everything again and
//! again costs neither recall nor disk.
//!
//! `OMENDB_LONG=1` runs the same on SIFT 1M, from `~/.cache/omendb-bench/sift-1m` (`OMENDB_ROWS=n` takes fewer rows).

mod churn;
mod compact;
mod data;
mod reach;

use omendb::{Batch, Collection, IdColumn, SearchOptions};

/// Whether the long run was asked for.
fn long_run() -> bool {
    std::env::var_os("OMENDB_LONG").is_some_and(|v| v == "1")
}

/// Writes the given rows of `data` under the given names, in batches.
fn upsert(collection: &Collection, data: &data::Rows, rows: impl Iterator<Item = (String, usize)>) {
    let rows: Vec<(String, usize)> = rows.collect();
    for chunk in rows.chunks(2_000) {
        let ids: IdColumn = chunk.iter().map(|(name, _)| name).collect();
        let vectors: Vec<f32> = chunk.iter().flat_map(|(_, row)| data.row(*row)).copied().collect();
        collection.upsert(Batch::new(ids, vectors)).unwrap();
    }
}

/// The share of the ten nearest that searches with the usual options find.
fn recall(collection: &Collection, queries: &data::Rows) -> f64 {
    let options = SearchOptions::new(10);
    let exact = collection.search_batch(queries.values.as_slice(), &options.clone().recall(1.0), 2).unwrap();
    let found = collection.search_batch(queries.values.as_slice(), &options, 2).unwrap();
    let (mut hits, mut wanted) = (0, 0);
    for (exact, found) in exact.iter().zip(&found) {
        let limit = exact.last().map_or(0.0, |hit| hit.distance);
        hits += found.iter().filter(|hit| hit.distance <= limit).count();
        wanted += exact.len();
    }
    hits as f64 / wanted as f64
}
