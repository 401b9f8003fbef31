//! How fast are records taken in durably, beside the bare disk?

use crate::Outcome;
use crate::measure::{best, median, print_table};
use crate::workload::{Records, Scratch, dd_write, directory_bytes, processor_seconds, raw_write};
use omendb::{Database, Metric, Schema};
use std::path::PathBuf;
use std::time::Duration;

/// What to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// Numbers of records.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000,5000000")]
    sizes: Vec<usize>,
    /// Records a batch.
    #[arg(long, default_value_t = 250_000)]
    batch: usize,
    /// Dimensions of the vectors, f32.
    #[arg(long, default_value_t = 128)]
    dim: usize,
    /// Rounds; each one measures everything once, interleaved.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where to write; the disk under test.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// The share of the bare disk's speed, in percent, below which the run fails (0: never).
    #[arg(long, default_value_t = 0.0)]
    require: f64,
}

/// Vectors a second that the prototype's documentation claimed, without durability.
const PROTOTYPE_CLAIM: f64 = 1.8e6;

/// All rounds of one size.
#[derive(Default)]
struct Figures {
    rows: usize,
    payload_bytes: u64,
    disk_bytes: u64,
    database_seconds: Vec<f64>,
    processor_seconds: Vec<f64>,
    raw_seconds: Vec<f64>,
    dd_seconds: Vec<f64>,
}

impl Figures {
    fn vectors_per_second(&self) -> f64 {
        self.rows as f64 / median(&self.database_seconds)
    }

    fn row(&self) -> Vec<String> {
        let megabytes = |seconds: &[f64]| self.payload_bytes as f64 / median(seconds) / 1e6;
        let disk = |seconds: &[f64]| if seconds.is_empty() { "-".into() } else { format!("{:.0}", megabytes(seconds)) };
        let share = |seconds: &[f64]| {
            if seconds.is_empty() {
                "-".into()
            } else {
                format!("{:.0} %", 100.0 * median(seconds) / median(&self.database_seconds))
            }
        };
        vec![
            self.rows.to_string(),
            format!("{:.1}", self.payload_bytes as f64 / 1e6),
            format!("{:.3}", median(&self.database_seconds)),
            format!("{:.0}K", self.vectors_per_second() / 1e3),
            format!("{:.0}", megabytes(&self.database_seconds)),
            disk(&self.raw_seconds),
            share(&self.raw_seconds),
            disk(&self.dd_seconds),
            share(&self.dd_seconds),
            format!("{:.2}", median(&self.processor_seconds) / self.rows as f64 * 1e6),
            format!("{:.2}", self.disk_bytes as f64 / self.payload_bytes as f64),
        ]
    }

    fn measure(&mut self, arguments: &Arguments, records: &Records, scratch: &Scratch) -> Outcome {
        let path = scratch.path("database");
        let database = Database::open(&path)?;
        let collection = database.create_collection("vectors", Schema::new(arguments.dim, Metric::Cosine))?;
        let before = processor_seconds();
        // Every `upsert` returns when its batch is on stable storage: nothing is left to wait for.
        let (elapsed, bytes) = records.load(&collection, self.rows, arguments.batch)?;
        self.processor_seconds.push(processor_seconds() - before);
        self.database_seconds.push(elapsed.as_secs_f64());
        self.payload_bytes = bytes;
        if collection.count()? != self.rows as u64 {
            return Err(format!("{} records were written, {} are there", self.rows, collection.count()?).into());
        }
        database.close()?;
        self.disk_bytes = directory_bytes(&path)?;
        std::fs::remove_dir_all(&path)?;
        let seconds = |elapsed: Duration| elapsed.as_secs_f64();
        self.raw_seconds.push(seconds(raw_write(&scratch.path("raw"), bytes)?));
        self.dd_seconds.extend(dd_write(&scratch.path("dd"), bytes)?.map(seconds));
        Ok(())
    }
}

/// Measures, prints a table and fails if a required share is missed.
pub fn run(arguments: &Arguments) -> Outcome {
    let scratch = Scratch::new(&arguments.dir, "ingest")?;
    let records = Records::new(arguments.dim, arguments.batch);
    let mut all: Vec<Figures> =
        arguments.sizes.iter().map(|rows| Figures { rows: *rows, ..Figures::default() }).collect();
    for _ in 0..arguments.rounds {
        for figures in &mut all {
            figures.measure(arguments, &records, &scratch)?;
        }
    }
    println!(
        "Durable bulk ingest: {}-d f32, string ids, batches of {}, median of {} interleaved rounds, in {}.\n\
         raw: the same bytes in 1 MiB write() calls and one fdatasync; dd: the same with dd conv=fdatasync.\n\
         processor time includes making the batches; disk / payload after close.",
        arguments.dim,
        arguments.batch,
        arguments.rounds,
        arguments.dir.display()
    );
    let heading = [
        "records",
        "MB",
        "s",
        "vec/s",
        "MB/s",
        "raw MB/s",
        "of raw",
        "dd MB/s",
        "of dd",
        "CPU us/vec",
        "disk / payload",
    ];
    print_table(&heading, &all.iter().map(Figures::row).collect::<Vec<_>>());
    let speeds: Vec<f64> = all.iter().map(Figures::vectors_per_second).collect();
    let slowest = speeds.iter().copied().fold(f64::INFINITY, f64::min);
    println!("spread between sizes: {:.2} (fastest / slowest)", best(&speeds) / slowest);
    println!(
        "the prototype claimed {:.0}K vec/s, not durable: the best here is {:.2} of that",
        PROTOTYPE_CLAIM / 1e3,
        best(&speeds) / PROTOTYPE_CLAIM
    );
    let lowest =
        all.iter().map(|f| 100.0 * median(&f.raw_seconds) / median(&f.database_seconds)).fold(f64::INFINITY, f64::min);
    if lowest < arguments.require {
        return Err(
            format!("{lowest:.0} % of the bare disk's speed is reached; {} % is required", arguments.require).into()
        );
    }
    Ok(())
}
