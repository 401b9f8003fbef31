//! How long does opening take, after a crash and after a clean close?

use crate::Outcome;
use crate::measure::{median, print_table, quantile};
use crate::workload::{Records, Scratch, processor_seconds};
use omendb::{Database, Durability, Include, Metric, Options, Schema, SearchOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// What to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// Dimensions of the vectors, f32.
    #[arg(long, default_value_t = 128)]
    dim: usize,
    /// Bytes to leave in the log, in MiB.
    #[arg(long, default_value_t = 64)]
    log_mib: u64,
    /// Records of the cleanly closed database (0: leave this part out).
    #[arg(long, default_value_t = 1_000_000)]
    records: usize,
    /// Crashes of each kind, and openings.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where to write.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// The median of a recovery in seconds above which the run fails (0: never).
    #[arg(long, default_value_t = 0.0)]
    require: f64,
}

/// What the process that is to be killed does.
#[derive(clap::Args)]
pub struct FillArguments {
    path: PathBuf,
    dim: usize,
    bytes: u64,
    batch: usize,
}

/// What the child says when the log is full.
const FULL: &str = "full";

/// Fills the log and then waits to be killed: nothing is flushed or closed.
pub fn fill(arguments: &FillArguments) -> Outcome {
    // The engine starts a flush well below the cap; this process must not reach that point.
    let options = Options::new().durability(Durability::Manual).log_cap(8 * arguments.bytes).background(false);
    let database = options.open(&arguments.path)?;
    let collection = database.create_collection("vectors", Schema::new(arguments.dim, Metric::Cosine))?;
    let records = Records::new(arguments.dim, arguments.batch);
    let (mut rows, mut bytes) = (0, 0);
    while bytes < arguments.bytes {
        let batch = records.batch(rows, arguments.batch);
        rows += arguments.batch;
        bytes += batch.byte_len() as u64;
        collection.upsert(batch)?;
    }
    println!("{FULL} {rows}");
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}

/// Runs `fill` in a process of its own and kills it; returns how many records it wrote.
fn crash(path: &Path, arguments: &Arguments, batch: usize) -> Result<u64, Box<dyn std::error::Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("fill-log")
        .arg(path)
        .args([arguments.dim.to_string(), (arguments.log_mib << 20).to_string(), batch.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    child.kill()?;
    child.wait()?;
    match line.trim().strip_prefix(FULL) {
        Some(rows) => Ok(rows.trim().parse()?),
        None => Err("the process that fills the log failed".into()),
    }
}

/// Measures, prints two tables and fails if recovery takes longer than required.
pub fn run(arguments: &Arguments) -> Outcome {
    let scratch = Scratch::new(&arguments.dir, "recovery")?;
    let slowest = crashes(arguments, &scratch)?;
    if arguments.records > 0 {
        clean(arguments, &scratch)?;
    }
    if arguments.require > 0.0 && slowest > arguments.require {
        return Err(format!("recovery takes {slowest:.2} s; at most {} s is required", arguments.require).into());
    }
    Ok(())
}

fn crashes(arguments: &Arguments, scratch: &Scratch) -> Result<f64, Box<dyn std::error::Error>> {
    let mut table = Vec::new();
    let mut slowest = 0f64;
    for batch in [1, 1_000] {
        let (mut seconds, mut processor, mut again) = (Vec::new(), Vec::new(), Vec::new());
        let (mut log_bytes, mut frames, mut rows) = (0, 0, 0);
        for round in 0..arguments.rounds {
            let path = scratch.path(&format!("crash-{batch}-{round}"));
            rows = crash(&path, arguments, batch)?;
            let before = processor_seconds();
            let start = Instant::now();
            let database = Database::open(&path)?;
            seconds.push(start.elapsed().as_secs_f64());
            processor.push(processor_seconds() - before);
            let report = database.recovery();
            (log_bytes, frames) = (report.log_bytes, report.frames);
            let found = database.collection("vectors")?.count()?;
            if found != rows {
                return Err(format!("{rows} records were written, {found} were recovered").into());
            }
            database.close()?;
            let start = Instant::now();
            Database::open(&path)?.close()?;
            again.push(start.elapsed().as_secs_f64());
            std::fs::remove_dir_all(&path)?;
        }
        slowest = slowest.max(median(&seconds));
        table.push(vec![
            batch.to_string(),
            rows.to_string(),
            format!("{:.1}", log_bytes as f64 / (1 << 20) as f64),
            frames.to_string(),
            format!("{:.3}", median(&seconds)),
            format!("{:.3}", quantile(&seconds, 1.0)),
            format!("{:.2}", median(&processor)),
            format!("{:.3}", median(&again)),
        ]);
    }
    println!(
        "Opening after a kill with about {} MiB in the log, {}-d f32, {} crashes of each kind:",
        arguments.log_mib, arguments.dim, arguments.rounds
    );
    print_table(
        &["records a write", "records", "log MiB", "frames", "open s", "most", "CPU s", "open and close after"],
        &table,
    );
    println!();
    Ok(slowest)
}

fn clean(arguments: &Arguments, scratch: &Scratch) -> Outcome {
    let path = scratch.path("clean");
    let records = Records::new(arguments.dim, 100_000);
    {
        let database = Database::open(&path)?;
        let collection = database.create_collection("vectors", Schema::new(arguments.dim, Metric::Cosine))?;
        records.load(&collection, arguments.records, 100_000)?;
        collection.flush()?;
        collection.wait_idle()?;
        database.close()?;
    }
    let options = SearchOptions::new(10).include(Include::NONE);
    let (mut open, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
    let mut segments = 0;
    for round in 0..arguments.rounds {
        let start = Instant::now();
        let database = Database::open(&path)?;
        open.push(start.elapsed().as_secs_f64() * 1e3);
        let collection = database.collection("vectors")?;
        for times in [&mut first, &mut second] {
            let start = Instant::now();
            let hits = collection.search(records.query(round), &options)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            if hits.len() != 10 {
                return Err(format!("10 hits were asked for, {} came", hits.len()).into());
            }
        }
        segments = collection.stats().segments;
        database.close()?;
    }
    println!("Opening a cleanly closed database of {} records, {segments} segments, milliseconds:", arguments.records);
    let row = |name: &str, times: &[f64]| {
        let figures = [median(times), quantile(times, 0.0), quantile(times, 1.0)];
        std::iter::once(name.to_owned()).chain(figures.iter().map(|x| format!("{x:.2}"))).collect::<Vec<_>>()
    };
    let rows = [row("open", &open), row("first search", &first), row("second search", &second)];
    print_table(&["", "median", "least", "most"], &rows);
    Ok(())
}
