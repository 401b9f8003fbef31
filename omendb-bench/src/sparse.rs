//! Sparse search: latency of exact top 10 over records whose ids follow Zipf's law, by the index and by a scan.

use crate::Outcome;
use crate::measure::{Numbers, median, print_table, quantile};
use omendb::storage::MemStorage;
use omendb::{Batch, Collection, IdColumn, Include, Metric, Options, Schema, SearchOptions, Sparse};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// What to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// Records.
    #[arg(long, default_value_t = 100_000)]
    records: usize,
    /// Entries of a record, about.
    #[arg(long, default_value_t = 100)]
    entries: usize,
    /// Entries of a query, about.
    #[arg(long, default_value_t = 40)]
    query_entries: usize,
    /// Different ids.
    #[arg(long, default_value_t = 30_000)]
    ids: u32,
    /// Queries.
    #[arg(long, default_value_t = 500)]
    queries: usize,
}

/// The id of rank r has a frequency like 1 / r; a weight is between 0 and the logarithm of the rank, as in learnt
/// sparse embeddings, where frequent terms weigh little.
fn sparse(numbers: &mut Numbers, ids: u32, entries: usize) -> omendb::Result<Sparse> {
    let mut unit = || f64::from(numbers.float()) / 2.0 + 0.5;
    let mut all = BTreeMap::new();
    for _ in 0..entries * 4 / 3 {
        let rank = f64::from(ids).powf(unit());
        all.insert(rank as u32, ((1.0 + rank).ln() * unit()) as f32);
    }
    Sparse::new(all)
}

fn searched(docs: &Collection, queries: &[Sparse]) -> omendb::Result<(Vec<f64>, u64, u64)> {
    let options = SearchOptions::new(10).include(Include::NONE);
    let (mut micros, mut weights, mut scored) = (Vec::new(), 0, 0);
    for query in queries {
        let start = Instant::now();
        std::hint::black_box(docs.search_sparse("terms", query, &options)?);
        micros.push(start.elapsed().as_secs_f64() * 1e6);
        let told = docs.explain_sparse("terms", query, &options)?;
        weights += told.distances;
        scored += told.rows_visited;
    }
    Ok((micros, weights / queries.len() as u64, scored / queries.len() as u64))
}

/// Searches before and after the index is built, on one thread.
pub fn run(arguments: &Arguments) -> Outcome {
    let mut numbers = Numbers::new(1);
    let options = Options::new().memory_budget(8 << 30).background(false);
    let db = options.open_on(Arc::new(MemStorage::new()))?;
    let docs = db.create_collection("docs", Schema::new(1, Metric::L2).with_sparse("terms"))?;
    let mut weights = 0;
    for start in (0..arguments.records).step_by(10_000) {
        let rows = start..(start + 10_000).min(arguments.records);
        let values = rows.clone().map(|_| sparse(&mut numbers, arguments.ids, arguments.entries));
        let values = values.collect::<omendb::Result<Vec<Sparse>>>()?;
        weights += values.iter().map(Sparse::len).sum::<usize>();
        let ids: IdColumn = rows.map(|id| id as u64).collect();
        docs.upsert(Batch::new(ids, vec![0f32; values.len()]).with_sparse("terms", values.iter().map(Some)))?;
    }
    docs.compact()?;
    let queries = (0..arguments.queries).map(|_| sparse(&mut numbers, arguments.ids, arguments.query_entries));
    let queries = queries.collect::<omendb::Result<Vec<Sparse>>>()?;
    let entries = queries.iter().map(Sparse::len).sum::<usize>();
    println!(
        "{} records of {:.0} entries, {} queries of {:.0} entries, exact top 10, one thread",
        arguments.records,
        weights as f64 / arguments.records as f64,
        arguments.queries,
        entries as f64 / arguments.queries as f64
    );
    let few = &queries[..queries.len().min(20)];
    let scan = searched(&docs, few)?;
    let start = Instant::now();
    docs.wait_indexed(false)?;
    let built = start.elapsed();
    let index = searched(&docs, &queries)?;
    let row = |name: &str, (micros, weights, scored): &(Vec<f64>, u64, u64)| {
        let us = |q: f64| format!("{:.0}", quantile(micros, q));
        vec![name.to_owned(), format!("{:.0}", median(micros)), us(0.99), weights.to_string(), scored.to_string()]
    };
    let heading = ["way", "median us", "p99 us", "weights added or multiplied", "records scored"];
    print_table(&heading, &[row("scan", &scan), row("index", &index)]);
    println!(
        "built in {:.2} s on one thread, {:.1} M weights a second",
        built.as_secs_f64(),
        weights as f64 / built.as_secs_f64() / 1e6
    );
    Ok(())
}
