//! What does one small durable write cost, alone, in company, and in a large database?

use crate::Outcome;
use crate::measure::{median, print_table, quantile};
use crate::workload::{Records, Scratch};
use omendb::{Collection, Database, Durability, Metric, Options, Schema};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// Dimensions of the vectors, f32.
    #[arg(long, default_value_t = 128)]
    dim: usize,
    /// Bytes of one write of the bare disk, as long as a log frame of one record (0: that of the vector plus 64).
    #[arg(long, default_value_t = 0)]
    frame_bytes: usize,
    /// Seconds of each measurement of a round.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Rounds; each one measures everything once, interleaved.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Writers of the group.
    #[arg(long, default_value_t = 16)]
    writers: usize,
    /// Records of the large database (0: leave this part out).
    #[arg(long, default_value_t = 1_000_000)]
    large: usize,
    /// Single writes to each of the small and the large database.
    #[arg(long, default_value_t = 2_000)]
    writes: usize,
    /// Where to write; the disk under test.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

/// Records of the small database.
const SMALL: usize = 1_000;
/// Bytes of the file that the bare disk overwrites.
const PREALLOCATED_BYTES: usize = 16 << 20;

/// Measures and prints two tables.
pub fn run(arguments: &Arguments) -> Outcome {
    let scratch = Scratch::new(&arguments.dir, "small-writes")?;
    writers(arguments, &scratch)?;
    if arguments.large > 0 {
        for (name, durability) in [("commit", Durability::Commit), ("manual", Durability::Manual)] {
            sizes(arguments, &scratch, name, durability)?;
        }
    }
    Ok(())
}

fn writers(arguments: &Arguments, scratch: &Scratch) -> Outcome {
    let frame = if arguments.frame_bytes == 0 { arguments.dim * 4 + 64 } else { arguments.frame_bytes };
    let length = Duration::from_secs_f64(arguments.seconds);
    let database = Database::open(scratch.path("writers"))?;
    let collection = database.create_collection("vectors", Schema::new(arguments.dim, Metric::Cosine))?;
    let records = Records::new(arguments.dim, 1);
    let next = AtomicU64::new(0);
    let raw = scratch.path("raw");
    preallocate(&raw)?;
    let (mut disk, mut one, mut many) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        disk.push(overwrites_per_second(&raw, frame, length)?);
        one.push(writes_per_second(&collection, &records, &next, 1, length)?);
        many.push(writes_per_second(&collection, &records, &next, arguments.writers, length)?);
    }
    database.close()?;
    println!(
        "Durable writes of one record, {}-d f32; {} interleaved rounds of {} s, in {}.\n\
         bare disk: {frame} bytes overwritten in a preallocated file, one fdatasync each.",
        arguments.dim,
        arguments.rounds,
        arguments.seconds,
        arguments.dir.display()
    );
    let row = |name: String, rates: &[f64]| {
        let paired: Vec<f64> = rates.iter().zip(&disk).map(|(rate, disk)| rate / disk).collect();
        vec![
            name,
            format!("{:.0}", median(rates)),
            format!("{:.0}", quantile(rates, 0.0)),
            format!("{:.0}", quantile(rates, 1.0)),
            format!("{:.2}", median(&paired)),
        ]
    };
    let rows = [
        row("bare disk".into(), &disk),
        row("1 writer".into(), &one),
        row(format!("{} writers", arguments.writers), &many),
    ];
    print_table(&["writes a second", "median", "least", "most", "of the disk"], &rows);
    println!("{} writers are {:.1} times as fast as one\n", arguments.writers, median(&many) / median(&one));
    Ok(())
}

fn preallocate(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&vec![0; PREALLOCATED_BYTES])?;
    file.sync_all()
}

fn overwrites_per_second(path: &Path, frame: usize, length: Duration) -> io::Result<f64> {
    let mut file = File::options().write(true).open(path)?;
    let bytes = vec![0x5a; frame];
    let start = Instant::now();
    let mut writes = 0;
    while start.elapsed() < length {
        let at = writes * frame % (PREALLOCATED_BYTES - frame);
        file.seek(SeekFrom::Start(at as u64))?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        writes += 1;
    }
    Ok(writes as f64 / start.elapsed().as_secs_f64())
}

fn writes_per_second(
    collection: &Collection,
    records: &Records,
    next: &AtomicU64,
    writers: usize,
    length: Duration,
) -> omendb::Result<f64> {
    let (stop, ready) = (AtomicBool::new(false), Barrier::new(writers + 1));
    let before = next.load(Ordering::Relaxed);
    let write = || {
        ready.wait();
        while !stop.load(Ordering::Relaxed) {
            collection.upsert(records.batch(next.fetch_add(1, Ordering::Relaxed) as usize, 1))?;
        }
        Ok(())
    };
    let (outcome, elapsed) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers).map(|_| scope.spawn(write)).collect();
        ready.wait();
        let start = Instant::now();
        std::thread::sleep(length);
        stop.store(true, Ordering::Relaxed);
        let outcome: omendb::Result<()> = threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        (outcome, start.elapsed())
    });
    outcome?;
    Ok((next.load(Ordering::Relaxed) - before) as f64 / elapsed.as_secs_f64())
}

fn sizes(arguments: &Arguments, scratch: &Scratch, name: &str, durability: Durability) -> Outcome {
    let records = Records::new(arguments.dim, 100_000);
    let open = |rows: usize| -> omendb::Result<(Database, Collection)> {
        let database = Options::new().durability(durability).open(scratch.path(&format!("{name}-{rows}")))?;
        let collection = database.create_collection("vectors", Schema::new(arguments.dim, Metric::Cosine))?;
        records.load(&collection, rows, 100_000)?;
        collection.flush()?;
        collection.wait_idle()?;
        Ok((database, collection))
    };
    let (small, large) = (open(SMALL)?, open(arguments.large)?);
    let mut micros = [Vec::new(), Vec::new()];
    for i in 0..arguments.writes {
        for ((_, collection), micros) in [&small, &large].iter().zip(&mut micros) {
            // Half of the writes replace a record, half add one.
            let count = if i % 2 == 0 { arguments.large + i } else { i * 7 % SMALL };
            let batch = records.batch(count, 1);
            let start = Instant::now();
            collection.upsert(batch)?;
            micros.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    println!("One upsert, durability {name}, microseconds; {} writes to each, interleaved:", arguments.writes);
    let mean = |micros: &[f64]| micros.iter().sum::<f64>() / micros.len().max(1) as f64;
    let row = |rows: usize, micros: &[f64]| {
        let figures = [median(micros), mean(micros), quantile(micros, 0.99), quantile(micros, 1.0)];
        std::iter::once(rows.to_string()).chain(figures.iter().map(|x| format!("{x:.1}"))).collect::<Vec<_>>()
    };
    let rows = [row(SMALL, &micros[0]), row(arguments.large, &micros[1])];
    print_table(&["records", "median", "mean", "p99", "max"], &rows);
    println!(
        "large / small: {:.2} of the median, {:.2} of the mean\n",
        median(&micros[1]) / median(&micros[0]),
        mean(&micros[1]) / mean(&micros[0])
    );
    for (database, _) in [small, large] {
        database.close()?;
    }
    Ok(())
}
