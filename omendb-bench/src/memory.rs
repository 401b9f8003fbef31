//! Does the memory budget hold while ten times as much is loaded?

use crate::Outcome;
use crate::measure::print_table;
use crate::workload::{Records, Scratch, status_bytes};
use omendb::{Include, Metric, Options, Schema, SearchOptions};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// The memory budget in MiB.
    #[arg(long, default_value_t = 64)]
    budget_mib: u64,
    /// How many times the budget to load.
    #[arg(long, default_value_t = 10)]
    times: u64,
    /// Records a batch.
    #[arg(long, default_value_t = 1_000)]
    batch: usize,
    /// Dimensions of the vectors, f32.
    #[arg(long, default_value_t = 128)]
    dim: usize,
    /// Where to write.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Fail if anonymous memory above the start exceeds the budget.
    #[arg(long)]
    require: bool,
}

/// Loads, searches and compacts; prints the memory of each step.
pub fn run(arguments: &Arguments) -> Outcome {
    let scratch = Scratch::new(&arguments.dir, "memory")?;
    let records = Records::new(arguments.dim, arguments.batch);
    let budget = arguments.budget_mib << 20;
    let rows = (budget * arguments.times) as usize / (arguments.dim * 4);
    let start = status_bytes("RssAnon");
    let (peak, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut table = Vec::new();
    let mut most = 0;
    let mut step = |name: &str, used: u64| {
        // The largest sample since the last step.
        let anonymous = peak.swap(0, Ordering::Relaxed).max(status_bytes("RssAnon")).saturating_sub(start);
        most = most.max(anonymous);
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / (1 << 20) as f64);
        table.push(vec![name.to_owned(), mib(anonymous), mib(used), mib(status_bytes("VmHWM"))]);
    };
    std::thread::scope(|scope| -> Outcome {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(status_bytes("RssAnon"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let outcome = (|| -> Outcome {
            let database = Options::new().memory_budget(budget).open(scratch.path("database"))?;
            let collection = database.create_collection("vectors", Schema::new(arguments.dim, Metric::Cosine))?;
            step("open", database.stats().memory_used);
            records.load(&collection, rows, arguments.batch)?;
            step("load", database.stats().memory_used);
            collection.flush()?;
            collection.wait_idle()?;
            step("flush", database.stats().memory_used);
            for i in 0..10 {
                collection.search(records.query(i), &SearchOptions::new(10).include(Include::NONE))?;
            }
            step("search", database.stats().memory_used);
            collection.compact()?;
            step("compact", database.stats().memory_used);
            database.close()?;
            Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        outcome
    })?;
    println!(
        "Memory budget {} MiB, {rows} records of {}-d f32 ({} MiB) in batches of {}.\n\
         Anonymous memory: peak of each step above the start ({:.1} MiB), sampled every 2 ms.\n\
         Resident memory includes mapped files, which the system takes back at will.",
        arguments.budget_mib,
        arguments.dim,
        arguments.budget_mib * arguments.times,
        arguments.batch,
        start as f64 / (1 << 20) as f64
    );
    print_table(&["step", "anonymous MiB", "the database says", "peak resident so far"], &table);
    if arguments.require && most > budget {
        return Err(format!("{most} bytes of anonymous memory were used; the budget is {budget}").into());
    }
    Ok(())
}
