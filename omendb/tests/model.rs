//! Random programmes of every operation, with reopenings and crashes in between, agree with a model of ordered maps
//! and brute force; and the same seed writes the same bytes.
//!
//! 2,000 seeds; `OMENDB_LONG=1` runs 100,000. `OMENDB_SEED=n` runs one.

mod common;

use common::generate::Mix;
use common::programs::{self, Ran};
use common::{Setup, conclude, long_run, parallel};
use omendb::Durability;
use std::time::Instant;

fn setup(seed: u64) -> Setup {
    let durability = if seed % 4 == 3 { Durability::Manual } else { Durability::Commit };
    let log_cap = [4_096, 8_192, 1 << 16][(seed / 4 % 3) as usize];
    let bulk_bytes = [512, 1_024, 1 << 20][(seed / 12 % 3) as usize];
    Setup { durability, log_cap, bulk_bytes, ..Setup::new(seed) }
}

/// Runs a seed twice, and compares the bytes.
fn twice(seed: &u64) -> Result<Ran, String> {
    let mix = Mix { steps: 40, all_schemas: true, bulk_rows: 32, ids: 12, reopen: true };
    let (first, disk) = programs::run(setup(*seed), &mix)?;
    let (second, again) = programs::run(setup(*seed), &mix)?;
    if first == second {
        return Ok(first);
    }
    let (disk, again) = (disk.files(), again.files());
    let differ: Vec<&String> = disk.keys().chain(again.keys()).filter(|p| disk.get(*p) != again.get(*p)).collect();
    Err(format!("seed {seed}: two runs differ: {first:?}, {second:?}, in {differ:?}"))
}

#[test]
fn random_programmes_agree_with_the_model() {
    let started = Instant::now();
    let one = std::env::var("OMENDB_SEED").ok().map(|s| s.parse().expect("OMENDB_SEED is a number"));
    let seeds: Vec<u64> = match one {
        Some(seed) => vec![seed],
        None => (0..if long_run() { 100_000 } else { 2_000 }).collect(),
    };
    let (mut sum, mut violations) = (Ran::default(), Vec::new());
    for result in parallel(&seeds, twice) {
        match result {
            Ok(ran) => {
                sum.steps += ran.steps;
                sum.writes += ran.writes;
                sum.refused += ran.refused;
                sum.reopened += ran.reopened;
                sum.crashed += ran.crashed;
            }
            Err(message) => violations.push(message),
        }
    }
    let line = format!(
        "model: {} seeds twice, {} steps, {} writes, {} refused, {} reopenings, {} crashes, {:.0} s",
        seeds.len(),
        sum.steps,
        sum.writes,
        sum.refused,
        sum.reopened,
        sum.crashed,
        started.elapsed().as_secs_f64()
    );
    conclude(&line, &violations);
}
