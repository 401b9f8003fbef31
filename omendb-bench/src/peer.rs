//! One side of a comparison: answers the efforts that `peers/compare.py` asks for, each with the whole database call.

use crate::Outcome;
use crate::engine::{self, NAME, vector_of, vectors};
use crate::graph::load_set;
use crate::workload::{processor_seconds, status_bytes};
use omendb::{Id, Include, Options, SearchOptions};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

/// What to compare.
#[derive(clap::Args)]
pub struct Arguments {
    /// The data set.
    #[arg(long)]
    set: String,
    /// Queries.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    queries: usize,
    /// Keep the database here; one that is here already is not loaded again.
    #[arg(long)]
    keep: PathBuf,
    /// Wait for the careful graphs.
    #[arg(long)]
    settled: bool,
}

/// Recalls to ask for.
const EFFORTS: [f32; 9] = [0.80, 0.86, 0.90, 0.93, 0.95, 0.97, 0.98, 0.99, 0.999];
const BATCH: usize = 10_000;
const K: usize = 10;

/// Loads, then reads efforts from standard input until it ends.
pub fn run(arguments: &Arguments) -> Outcome {
    let (mut data, _) = load_set(&arguments.set, usize::MAX, arguments.queries, true)?;
    let about = arguments.keep.with_extension("json");
    let before = status_bytes("VmRSS");
    let kept = arguments.keep.exists() && about.exists();
    let (clock, processor) = (Instant::now(), processor_seconds());
    if !kept {
        let database = engine::load(&data, &arguments.keep, BATCH)?;
        database.collection(NAME)?.wait_indexed(arguments.settled)?;
        let (seconds, cpu) = (clock.elapsed().as_secs_f64(), processor_seconds() - processor);
        let resident = status_bytes("VmRSS").saturating_sub(before);
        database.close()?;
        std::fs::write(&about, format!("\"build_s\": {seconds}, \"build_cpu_s\": {cpu}, \"resident\": {resident}"))?;
    }
    // Without the threads that would replace first graphs meanwhile.
    let database = Options::new().background(false).open(&arguments.keep)?;
    let collection = database.collection(NAME)?;
    collection.wait_indexed(false)?;
    let queries = vectors(&data, &data.queries, 0, data.query_count);
    (data.base, data.queries) = (Vec::new(), Vec::new());
    println!(
        "{{\"rows\": {}, \"dim\": {}, \"version\": \"{}\", \"efforts\": {EFFORTS:?}, {}}}",
        data.count,
        data.schema.dim,
        env!("CARGO_PKG_VERSION"),
        std::fs::read_to_string(&about)?
    );
    std::io::stdout().flush()?;
    for line in std::io::stdin().lock().lines() {
        let options = SearchOptions::new(K).recall(line?.trim().parse()?).include(Include::NONE);
        let mut found = vec![[u64::MAX; K]; data.query_count];
        let clock = Instant::now();
        for (row, found) in found.iter_mut().enumerate() {
            let hits = collection.search(vector_of(&queries, row, &data.schema), &options)?;
            found.iter_mut().zip(hits.iter()).for_each(|(found, hit)| *found = row_of(&hit.id));
        }
        let rate = data.query_count as f64 / clock.elapsed().as_secs_f64();
        println!("{{\"qps\": {rate}, \"found\": {found:?}}}");
        std::io::stdout().flush()?;
    }
    database.close()?;
    Ok(())
}

/// The number of the row whose id is `row_` and that number.
fn row_of(id: &Id) -> u64 {
    match id {
        Id::Str(name) => name.get(4..).and_then(|number| number.parse().ok()).unwrap_or(u64::MAX),
        Id::U64(number) => *number,
    }
}
