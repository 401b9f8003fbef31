//! The whole database call as a user makes it: durable ingest with string ids until every row is in a graph, search,
//! reopen.

use crate::Outcome;
use crate::graph::{DataSet, load_set, truth, user_seconds};
use crate::measure::{best, median, print_table};
use crate::workload::{Scratch, directory_bytes, processor_seconds, status_bytes};
use half::f16;
use omendb::{Batch, Collection, Database, Element, IdColumn, Include, Options, Schema, SearchOptions, Vectors};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// The data set: sift, glove-100, mnist-784 or another one of the cache.
    #[arg(long, default_value = "sift")]
    set: String,
    /// Rows to use.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    n: usize,
    /// Records a batch.
    #[arg(long, default_value_t = 10_000)]
    batch: usize,
    /// Queries; all of the set unless given.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    queries: usize,
    /// Store a set of bytes as bytes; without it they become f32, as the peers take them.
    #[arg(long)]
    u8: bool,
    /// Wait for the careful graphs too and search again.
    #[arg(long)]
    settled: bool,
    /// Rounds over all queries for each figure.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Recalls to ask for.
    #[arg(long, value_delimiter = ',', default_values_t = [0.90, 0.95, 0.99])]
    targets: Vec<f32>,
    /// Where to write.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Keep the database here; one that is here already is searched without loading it again.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// The collection's name.
pub const NAME: &str = "vectors";
const MIB: f64 = (1 << 20) as f64;

/// Rows `first..first + count` of stored bytes, as a user hands them over.
pub fn vectors(data: &DataSet, bytes: &[u8], first: usize, count: usize) -> Vectors<'static> {
    let stride = data.schema.stride();
    let bytes = &bytes[first * stride..(first + count) * stride];
    match data.schema.element {
        Element::F32 => {
            Vectors::F32(Cow::Owned(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()))
        }
        Element::F16 => {
            Vectors::F16(Cow::Owned(bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b)).collect()))
        }
        Element::I8 => Vectors::I8(Cow::Owned(bytes.iter().map(|b| *b as i8).collect())),
        Element::U8 => Vectors::U8(Cow::Owned(bytes.to_vec())),
        Element::Bits => Vectors::Bits(Cow::Owned(bytes.to_vec())),
    }
}

/// One vector of many, as a user who has them in one array hands it over.
pub fn vector_of<'a>(all: &'a Vectors<'_>, row: usize, schema: &Schema) -> Vectors<'a> {
    let width = if schema.element == Element::Bits { schema.stride() } else { schema.dim };
    let of = row * width..(row + 1) * width;
    match all {
        Vectors::F32(v) => Vectors::F32(Cow::Borrowed(&v[of])),
        Vectors::F16(v) => Vectors::F16(Cow::Borrowed(&v[of])),
        Vectors::I8(v) => Vectors::I8(Cow::Borrowed(&v[of])),
        Vectors::U8(v) => Vectors::U8(Cow::Borrowed(&v[of])),
        Vectors::Bits(v) => Vectors::Bits(Cow::Borrowed(&v[of])),
    }
}

/// Time since `clock` and `processor`, printed with the rate of `rows`.
fn line(what: &str, rows: usize, clock: Instant, processor: f64) {
    let (wall, cpu) = (clock.elapsed().as_secs_f64(), processor_seconds() - processor);
    println!(
        "{what:<34} {wall:>8.2} s {:>9.0} vec/s {:>7.2} us CPU a vector ({:>7.0} vec/s on two idle cores)",
        rows as f64 / wall,
        cpu * 1e6 / rows as f64,
        2.0 * rows as f64 / cpu.max(1e-9)
    );
}

fn memory(what: &str, raw: f64, start: u64) {
    let (anonymous, file) = (status_bytes("RssAnon").saturating_sub(start) as f64, status_bytes("RssFile") as f64);
    println!(
        "memory {what:<27} {:>8.0} MiB anonymous, {:.0} MiB of files: {:.2} and {:.2} of the raw f32 bytes",
        anonymous / MIB,
        file / MIB,
        anonymous / raw,
        file / raw
    );
}

/// Makes a database of all rows, in batches, each durable before the next; ids are `row_0` and so on.
pub fn load(data: &DataSet, path: &Path, batch: usize) -> Result<Database, Box<dyn std::error::Error>> {
    let database = Options::new().open(path)?;
    let collection = database.create_collection(NAME, data.schema.clone())?;
    for first in (0..data.count).step_by(batch) {
        let count = batch.min(data.count - first);
        let names: Vec<String> = (first..first + count).map(|row| format!("row_{row}")).collect();
        let ids: IdColumn = names.iter().collect();
        collection.upsert(Batch::new(ids, vectors(data, &data.base, first, count)))?;
    }
    Ok(database)
}

fn ingest(arguments: &Arguments, data: &DataSet, path: &Path) -> Result<Database, Box<dyn std::error::Error>> {
    let (clock, processor) = (Instant::now(), processor_seconds());
    let database = load(data, path, arguments.batch)?;
    let collection = database.collection(NAME)?;
    line("all rows durable", data.count, clock, processor);
    collection.wait_indexed(false)?;
    line("all rows in the graph", data.count, clock, processor);
    let stats = collection.stats();
    println!(
        "segments {}, indexed {}, unindexed {}, graph {:.0} bytes a row, id index {:.0} bytes a row",
        stats.segments,
        stats.indexed_rows,
        stats.unindexed_rows,
        stats.graph_bytes as f64 / data.count as f64,
        stats.id_index_bytes as f64 / data.count as f64
    );
    Ok(database)
}

/// One query at a time on one thread, at each target; then the same in one batch on one and on two threads.
fn search(arguments: &Arguments, data: &DataSet, collection: &Collection, tenths: &[f32], stage: &str) -> Outcome {
    let all = vectors(data, &data.queries, 0, data.query_count);
    let per_second = |seconds: f64| format!("{:.0}", data.query_count as f64 / seconds);
    let mut table = Vec::new();
    for &target in &arguments.targets {
        let options = SearchOptions::new(10).recall(target).include(Include::NONE);
        let (mut wall, mut cpu, mut one, mut two) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut hits = 0;
        for round in 0..arguments.rounds {
            let (clock, processor) = (Instant::now(), user_seconds());
            for (row, tenth) in tenths.iter().enumerate().take(data.query_count) {
                let found = collection.search(vector_of(&all, row, &data.schema), &options)?;
                if round == 0 {
                    let limit = tenth * (1.0 + 1e-5) + 2e-6;
                    hits += found.iter().filter(|hit| hit.distance <= limit).count();
                }
            }
            wall.push(clock.elapsed().as_secs_f64());
            cpu.push(user_seconds() - processor);
            for (threads, times) in [(1, &mut one), (2, &mut two)] {
                let clock = Instant::now();
                collection.search_batch(all.clone(), &options, threads)?;
                times.push(clock.elapsed().as_secs_f64());
            }
        }
        let least = |times: &[f64]| -best(&times.iter().map(|t| 1e9 - t).collect::<Vec<_>>()) + 1e9;
        table.push(vec![
            format!("{stage} {target}"),
            format!("{:.4}", hits as f64 / (data.query_count * 10) as f64),
            per_second(least(&cpu)),
            per_second(median(&cpu)),
            per_second(least(&wall)),
            per_second(least(&one)),
            per_second(least(&two)),
            format!("{:.2}", least(&one) / least(&two)),
        ]);
    }
    let heading = ["", "recall@10", "QPS cpu", "median", "QPS wall", "batch x1", "batch x2", "gain"];
    print_table(&heading, &table);
    Ok(())
}

/// Opens the database and waits until searches use its graphs.
fn reopen(data: &DataSet, path: &Path) -> Result<Database, Box<dyn std::error::Error>> {
    let clock = Instant::now();
    let database = Options::new().open(path)?;
    let collection = database.collection(NAME)?;
    let open = clock.elapsed();
    let query = vectors(data, &data.queries, 0, 1);
    collection.search(query, &SearchOptions::new(10).include(Include::NONE))?;
    let first = clock.elapsed();
    while collection.stats().indexed_rows < data.count as u64 && clock.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    println!(
        "reopen {:.1} ms, first search answered after {:.1} ms, graph serves after {:.1} ms",
        open.as_secs_f64() * 1e3,
        first.as_secs_f64() * 1e3,
        clock.elapsed().as_secs_f64() * 1e3
    );
    Ok(database)
}

/// Measures and prints.
pub fn run(arguments: &Arguments) -> Outcome {
    let name = if arguments.set == "sift" { "sift-1m" } else { &arguments.set };
    let (mut data, root) = load_set(name, arguments.n, arguments.queries, !arguments.u8)?;
    let tenths = truth(&data, &root, 2)?;
    let raw = (data.count * data.schema.dim * 4) as f64;
    println!(
        "{name}: {} rows x {} {}, {} queries, batches of {}, Durability::Commit, load average {}",
        data.count,
        data.schema.dim,
        data.schema.element.name(),
        data.query_count,
        arguments.batch,
        std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
    );
    let scratch = Scratch::new(&arguments.dir, "engine")?;
    let path = arguments.keep.clone().unwrap_or_else(|| scratch.path("database"));
    if !path.exists() {
        let (clock, processor) = (Instant::now(), processor_seconds());
        let database = ingest(arguments, &data, &path)?;
        let collection = database.collection(NAME)?;
        // The set itself is not the database's memory.
        data.base = Vec::new();
        search(arguments, &data, &collection, &tenths, "first")?;
        if arguments.settled {
            let waited = Instant::now();
            collection.wait_indexed(true)?;
            println!("settled after {:.2} s more", waited.elapsed().as_secs_f64());
            line("settled, searches included", data.count, clock, processor);
            search(arguments, &data, &collection, &tenths, "settled")?;
        }
        database.close()?;
    }
    data.base = Vec::new();
    println!("on disk {:.2} of the raw f32 bytes", directory_bytes(&path)? as f64 / raw);
    let start = status_bytes("RssAnon");
    let database = reopen(&data, &path)?;
    let collection = database.collection(NAME)?;
    memory("reopened", raw, start);
    search(arguments, &data, &collection, &tenths, "reopened")?;
    memory("after searches", raw, start);
    database.close()?;
    Ok(())
}
