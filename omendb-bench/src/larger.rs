//! A collection of the compact profile that is larger than the memory it may use: load, index, search.

use crate::Outcome;
use crate::engine::{NAME, vectors};
use crate::graph::{DataSet, load_set};
use crate::measure::median;
use crate::workload::{Scratch, directory_bytes, processor_seconds, status_bytes};
use omendb::{Batch, Collection, IdColumn, Include, Options, Profile, SearchOptions, Vectors};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// Rows: those of SIFT 1M again and again, each time moved by other noise.
    #[arg(long, default_value_t = 10_000_000)]
    rows: usize,
    /// The memory budget in MiB.
    #[arg(long, default_value_t = 2048)]
    budget_mib: u64,
    /// Records a batch.
    #[arg(long, default_value_t = 50_000)]
    batch: usize,
    /// Queries; exact answers are found by reading everything.
    #[arg(long, default_value_t = 200)]
    queries: usize,
    /// Wait for the careful graphs too.
    #[arg(long)]
    settled: bool,
    /// Where to write.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Search the database that is here, made by an earlier run with `--keep`, or make one that stays.
    #[arg(long)]
    keep: Option<PathBuf>,
}

const MIB: f64 = (1 << 20) as f64;
/// Noise, as a share of a dimension's range.
const NOISE: f32 = 12.0;

/// A number between 0 and 1 for each dimension of each row.
fn noise(row: usize, dimension: usize) -> f32 {
    let mut z = (row as u64) << 32 | dimension as u64;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
}

/// Rows `first..first + count` of the set as it goes on for ever.
fn rows(base: &[u8], dim: usize, first: usize, count: usize) -> Vec<f32> {
    let known = base.len() / dim;
    let row = |row: usize| {
        let original = &base[row % known * dim..][..dim];
        original.iter().enumerate().map(move |(i, x)| (f32::from(*x) + NOISE * (noise(row, i) - 0.5)).max(0.0))
    };
    (first..first + count).flat_map(row).collect()
}

fn report(what: &str, clock: Instant, start: u64, peak: &AtomicU64) {
    let now = status_bytes("RssAnon");
    let most = peak.swap(0, Ordering::Relaxed).max(now).saturating_sub(start);
    println!(
        "{what:<28} {:>8.1} s, {:>8.1} s CPU so far; anonymous {:>6.0} MiB now, {:>6.0} MiB at the peak; {:>6.0} MiB of files",
        clock.elapsed().as_secs_f64(),
        processor_seconds(),
        now.saturating_sub(start) as f64 / MIB,
        most as f64 / MIB,
        status_bytes("RssFile") as f64 / MIB
    );
}

fn load(arguments: &Arguments, base: &[u8], collection: &Collection, dim: usize) -> Outcome {
    for first in (0..arguments.rows).step_by(arguments.batch) {
        let count = arguments.batch.min(arguments.rows - first);
        let names: Vec<String> = (first..first + count).map(|row| format!("row_{row}")).collect();
        let ids: IdColumn = names.iter().collect();
        collection.upsert(Batch::new(ids, Vectors::from(rows(base, dim, first, count))))?;
    }
    Ok(())
}

fn search(arguments: &Arguments, data: &DataSet, collection: &Collection) -> Outcome {
    let count = arguments.queries.min(data.query_count);
    let options = |recall: f32| SearchOptions::new(10).recall(recall).include(Include::NONE);
    let exact = collection.search_batch(vectors(data, &data.queries, 0, count), &options(1.0), 2)?;
    for recall in [0.90, 0.95, 0.99] {
        let (mut times, mut hits) = (Vec::new(), 0);
        for (row, exact) in exact.iter().enumerate() {
            let query = vectors(data, &data.queries, row, 1);
            let clock = Instant::now();
            let found = collection.search(query, &options(recall))?;
            times.push(clock.elapsed().as_secs_f64() * 1e3);
            let limit = exact.last().map_or(0.0, |hit| hit.distance);
            hits += found.iter().filter(|hit| hit.distance <= limit).count();
        }
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        let share = hits as f64 / (10 * count) as f64;
        println!("recall {recall}: {share:.4} measured, {:.2} ms median, {mean:.2} ms mean", median(&times));
    }
    Ok(())
}

fn all(arguments: &Arguments, data: &mut DataSet, path: &Path, start: u64, peak: &AtomicU64) -> Outcome {
    let schema = data.schema.clone().with_profile(Profile::Compact);
    let clock = Instant::now();
    let database = Options::new().memory_budget(arguments.budget_mib << 20).open(path)?;
    let known = database.collection(NAME).is_ok();
    let collection = database.get_or_create_collection(NAME, schema.clone())?;
    if !known {
        load(arguments, &data.base, &collection, schema.dim)?;
        report("all rows durable", clock, start, peak);
    }
    collection.wait_indexed(arguments.settled)?;
    report("all rows in graphs", clock, start, peak);
    let stats = collection.stats();
    println!(
        "{} segments, {} rows in graphs, {} without, graphs {:.0} MiB of memory, id index {:.0} MiB, on disk {:.0} MiB",
        stats.segments,
        stats.indexed_rows,
        stats.unindexed_rows,
        stats.graph_bytes as f64 / MIB,
        stats.id_index_bytes as f64 / MIB,
        directory_bytes(path)? as f64 / MIB
    );
    search(arguments, data, &collection)?;
    report("searched", clock, start, peak);
    database.close()?;
    Ok(())
}

/// Measures and prints.
pub fn run(arguments: &Arguments) -> Outcome {
    let (bytes, _) = load_set("sift-1m", usize::MAX, arguments.queries, false)?;
    let (mut data, _) = load_set("sift-1m", 1, arguments.queries, true)?;
    data.base = bytes.base;
    let scratch = Scratch::new(&arguments.dir, "larger")?;
    let path = arguments.keep.clone().unwrap_or_else(|| scratch.path("database"));
    println!(
        "{} rows of SIFT with noise, f32 ({:.0} MiB), profile compact, memory budget {} MiB, batches of {}",
        arguments.rows,
        (arguments.rows * data.schema.dim * 4) as f64 / MIB,
        arguments.budget_mib,
        arguments.batch
    );
    // The set itself is not the database's memory.
    let start = status_bytes("RssAnon");
    let (peak, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(status_bytes("RssAnon"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let outcome = all(arguments, &mut data, &path, start, &peak);
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}
