//! What the simulation programmes share: the model, workloads, and the comparison of a database with the model.
#![allow(dead_code)] // Each programme uses its own part.

pub mod explore;
pub mod faults;
pub mod fields;
pub mod flips;
pub mod generate;
pub mod model;
pub mod programs;

use omendb::storage::sim::SimFs;
use omendb::{Database, Durability, Options};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether the long run was asked for (`OMENDB_LONG=1`).
pub fn long_run() -> bool {
    std::env::var_os("OMENDB_LONG").is_some_and(|v| v == "1")
}

/// How a programme opens its databases.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub seed: u64,
    pub durability: Durability,
    pub log_cap: u64,
    pub bulk_bytes: u64,
    pub index_rows: u32,
    /// A deliberate defect of the engine.
    pub mutant: Option<&'static str>,
}

impl Setup {
    /// A small log, so that it fills and is replaced, and small thresholds for the bulk path and for graphs.
    pub const fn new(seed: u64) -> Self {
        Setup { seed, durability: Durability::Commit, log_cap: 4_096, bulk_bytes: 1_024, index_rows: 4, mutant: None }
    }

    pub fn options(&self) -> Options {
        let options = Options::new()
            .background(false)
            .seed(self.seed)
            .durability(self.durability)
            .log_cap(self.log_cap)
            .bulk_bytes(self.bulk_bytes)
            .index_rows(self.index_rows)
            .memory_budget(64 << 20);
        match self.mutant {
            Some(name) => options.mutant(name),
            None => options,
        }
    }

    pub fn open(&self, fs: &SimFs) -> omendb::Result<Database> {
        self.options().open_on(Arc::new(fs.clone()))
    }
}

/// Runs `work` on every item, on all cores; results in order.
pub fn parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(items.len().max(1));
    let next = AtomicUsize::new(0);
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let run = || {
            let mut mine = Vec::new();
            while let Some((i, item)) =
                Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, items.get(i)?)))
            {
                mine.push((i, work(item)));
            }
            mine
        };
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        handles.into_iter().flat_map(|h| h.join().expect("a worker of the test panicked")).collect()
    });
    results.sort_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, r)| r).collect()
}

/// Runs `work`; a panic becomes an error that names it.
pub fn no_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        format!("PANIC: {}", text.unwrap_or_default())
    })
}

/// Ends a programme: prints its closing line and fails on violations, the first few in full.
pub fn conclude(line: &str, violations: &[String]) {
    println!("{line}, {} violations", violations.len());
    if !violations.is_empty() {
        let shown: Vec<&str> = violations.iter().take(5).map(String::as_str).collect();
        panic!("{} violations, the first:\n{}", violations.len(), shown.join("\n"));
    }
}
