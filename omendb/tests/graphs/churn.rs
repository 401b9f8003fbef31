//! Replacing everything five times leaves recall and disk as if it had been written once, without a call that asks for
//! it.

use crate::{data, long_run, recall, upsert};
use omendb::{Collection, Database, Metric, Options, Schema};
use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
/// Most recall that may be lost, and most disk that may be taken, beside a database that was written once.
const MOST_LOST: f64 = 0.005;
const MOST_DISK: f64 = 1.5;

fn bytes_of(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    // A file may go while its directory is being read.
    let size = |path: &Path| if path.is_dir() { bytes_of(path) } else { path.metadata().map_or(0, |m| m.len()) };
    entries.map(|entry| size(&entry.path())).sum()
}

fn open(path: &Path, dim: usize, log_cap: u64) -> (Database, Collection) {
    let db = Options::new().log_cap(log_cap).open(path).unwrap();
    let docs = db.get_or_create_collection("docs", Schema::new(dim, Metric::L2)).unwrap();
    (db, docs)
}

/// Waits, without asking for anything, until the background has nothing left to do; the bytes on disk then.
fn rest(db: &Database, path: &Path, patience: Duration) -> u64 {
    let start = Instant::now();
    let (mut last, mut since) = (String::new(), Instant::now());
    // Settling begins after two seconds without other work.
    while since.elapsed() < Duration::from_secs(6) && start.elapsed() < patience {
        let stats = db.stats();
        let (now, docs) = (format!("{stats:?}"), &stats.collections[0]);
        if now != last || docs.unindexed_rows > 0 || docs.settled_rows < docs.indexed_rows {
            (last, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    bytes_of(path)
}

/// Record `n` of round `round`: its id, and its row of the data. Even ids stay and get another vector, odd ones are new
/// ids. Every round holds each row once.
fn record(n: usize, round: usize, rows: usize) -> (String, usize) {
    let row = (n + round * (rows / 7 + 1)) % rows;
    (if n.is_multiple_of(2) { format!("stays_{n}") } else { format!("round_{round}_{n}") }, row)
}

fn churn(data: &data::Rows, queries: &data::Rows, log_cap: u64, patience: Duration) {
    let dir = tempfile::tempdir().unwrap();
    let (fresh_path, path) = (dir.path().join("fresh"), dir.path().join("churned"));
    let rows = data.len();
    let (db, docs) = open(&fresh_path, data.dim, log_cap);
    upsert(&docs, data, (0..rows).map(|n| record(n, ROUNDS, rows)));
    let fresh_bytes = rest(&db, &fresh_path, patience);
    let fresh_recall = recall(&docs, queries);
    println!("churn: fresh {rows} records, {:.1} MB, recall@10 {fresh_recall:.4}", fresh_bytes as f64 / 1e6);
    db.close().unwrap();

    let (db, docs) = open(&path, data.dim, log_cap);
    upsert(&docs, data, (0..rows).map(|n| record(n, 0, rows)));
    for round in 1..=ROUNDS {
        // A little of everything at a time, so that old and new records mix in all segments.
        for part in 0..20 {
            let mine = || (part..rows).step_by(20);
            let gone: Vec<String> = mine().filter(|n| n % 2 == 1).map(|n| record(n, round - 1, rows).0).collect();
            assert_eq!(docs.delete(&gone).unwrap(), gone.len());
            upsert(&docs, data, mine().map(|n| record(n, round, rows)));
        }
        assert_eq!(docs.count().unwrap(), rows as u64, "round {round}");
    }
    let busy_bytes = bytes_of(&path);
    let churned_bytes = rest(&db, &path, patience);
    let churned_recall = recall(&docs, queries);
    let stats = docs.stats();
    let share = churned_bytes as f64 / fresh_bytes as f64;
    println!(
        "churn: replaced {ROUNDS} times, {:.1} MB at once, {:.1} MB at rest = {share:.2} of fresh, recall@10 \
         {churned_recall:.4}, {} segments, {} dead rows",
        busy_bytes as f64 / 1e6,
        churned_bytes as f64 / 1e6,
        stats.segments,
        stats.deleted
    );
    assert!(churned_recall >= fresh_recall - MOST_LOST, "recall@10 {churned_recall}, fresh {fresh_recall}");
    assert!(share <= MOST_DISK, "{churned_bytes} bytes, fresh {fresh_bytes}: {stats:?}");
    assert_eq!(docs.count().unwrap(), rows as u64);
    assert!(db.check(true).unwrap().problems.is_empty());
    db.close().unwrap();
}

#[test]
fn replacing_everything_five_times_costs_neither_recall_nor_disk() {
    let data = data::clustered(20_000, 24, 9);
    let values = data.values.chunks(data.dim).step_by(9).flatten().map(|x| x + 0.05).collect();
    let queries = data::Rows { dim: data.dim, values };
    churn(&data, &queries, 1 << 20, Duration::from_secs(120));
}

#[test]
fn replacing_sift_five_times_costs_neither_recall_nor_disk() {
    if !long_run() {
        return println!("SKIPPED: OMENDB_LONG=1 asks for five times SIFT 1M");
    }
    let (data, queries) = (data::sift("base.npy", data::long_rows()), data::sift("queries.npy", 1_000));
    churn(&data, &queries, 64 << 20, Duration::from_secs(900));
}
