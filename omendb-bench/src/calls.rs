//! What one call costs from Rust, for `omendb-python/benches/overhead.py` to compare with: prints JSON.

use crate::Outcome;
use crate::measure::{Numbers, median, time};
use omendb::storage::MemStorage;
use omendb::{Batch, Collection, Database, IdColumn, Metric, Options, Schema, SearchOptions};
use std::sync::Arc;

/// What to measure. Everything is in memory, so that no device hides the calls.
#[derive(clap::Args)]
pub struct Arguments {
    /// Dimensions of the vectors, f32.
    #[arg(long, default_value_t = 128)]
    dim: usize,
    /// Records of the collection that single searches scan.
    #[arg(long, default_value_t = 1_000)]
    records: usize,
    /// Single searches.
    #[arg(long, default_value_t = 5_000)]
    searches: usize,
    /// Records of an upsert, and of the collection that a batch search scans.
    #[arg(long, default_value_t = 100_000)]
    batch: usize,
    /// Queries of a batch search, on one thread.
    #[arg(long, default_value_t = 100)]
    queries: usize,
    /// Repetitions of batch search and upsert; the fastest counts.
    #[arg(long, default_value_t = 5)]
    repeat: usize,
}

fn database() -> omendb::Result<Database> {
    Options::new().memory_budget(2 << 30).open_on(Arc::new(MemStorage::new()))
}

fn fill(database: &Database, name: &str, vectors: &[f32], dim: usize) -> omendb::Result<Collection> {
    let collection = database.create_collection(name, Schema::new(dim, Metric::Cosine))?;
    let ids: IdColumn = (0..(vectors.len() / dim) as u64).collect();
    collection.upsert(Batch::new(ids, vectors))?;
    collection.flush()?;
    Ok(collection)
}

/// Measures single searches (median), a batch search and an upsert (fastest of several).
pub fn run(arguments: &Arguments) -> Outcome {
    let dim = arguments.dim;
    let mut numbers = Numbers::new(1);
    let vectors = numbers.floats(arguments.batch.max(arguments.records) * dim);
    let options = SearchOptions::new(10);

    let small = database()?;
    let collection = fill(&small, "small", &vectors[..arguments.records * dim], dim)?;
    let queries = numbers.floats(arguments.searches * dim);
    let mut searches = Vec::with_capacity(arguments.searches);
    for query in queries.chunks_exact(dim) {
        let mut found = Ok(omendb::Hits::default());
        searches.push(time(|| found = collection.search(query, &options)).as_secs_f64() * 1e6);
        found?;
    }

    let large = database()?;
    let collection = fill(&large, "large", &vectors[..arguments.batch * dim], dim)?;
    let queries = numbers.floats(arguments.queries * dim);
    let (mut batch, mut upsert) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..arguments.repeat {
        let mut found = Ok(Vec::new());
        batch = batch.min(time(|| found = collection.search_batch(&queries, &options, 1)).as_secs_f64());
        found?;
        let empty = database()?;
        let target = empty.create_collection("target", Schema::new(dim, Metric::Cosine))?;
        let mut written = Ok(0);
        let work = || {
            let ids: IdColumn = (0..arguments.batch as u64).collect();
            written = target.upsert(Batch::new(ids, &vectors[..arguments.batch * dim]));
        };
        upsert = upsert.min(time(work).as_secs_f64());
        written?;
    }
    let figures = serde_json::json!({
        "search_us": median(&searches), "search_batch_s": batch, "upsert_s": upsert,
    });
    println!("{figures}");
    Ok(())
}
