//! A crash at any moment loses nothing that was acknowledged, and no half of a batch stays behind.
//!
//! Each workload runs once on a simulated disk. Before every call that changes the disk, and with every plan of
//! which unsynced changes survive (none, all, prefixes, suffixes, single losses, torn sectors, names without bytes,
//! bytes without names, garbage in the holes), the disk is reopened, read in every way and compared with the model;
//! so are crashes during the recovery itself. Equal disks are opened once; both numbers are printed.
//!
//! The run stops at 1,000,000 states. `OMENDB_LONG=1` goes on to 20,000,000.

mod common;

use common::explore::{Effort, Report, explore};
use common::generate::{self, Mix};
use common::model::Step;
use common::{Setup, conclude, long_run, parallel};
use omendb::Durability;
use std::time::{Duration, Instant};

struct Workload {
    name: String,
    setup: Setup,
    steps: Vec<Step>,
}

fn fixed() -> Vec<Workload> {
    let modes = [Durability::Commit, Durability::Manual, Durability::Interval(Duration::from_secs(3_600))];
    let mut all = Vec::new();
    for (name, steps) in generate::named() {
        for (i, durability) in modes.into_iter().enumerate() {
            let setup = Setup { durability, ..Setup::new(i as u64) };
            all.push(Workload { name: name.to_owned(), setup, steps: steps.clone() });
        }
    }
    all
}

fn random(seed: u64) -> Workload {
    let mix = Mix { steps: 14, all_schemas: seed.is_multiple_of(4), bulk_rows: 24, ids: 8, reopen: true };
    let durability = if seed % 3 == 2 { Durability::Manual } else { Durability::Commit };
    let setup = Setup { durability, ..Setup::new(seed) };
    Workload { name: format!("random {seed}"), setup, steps: generate::workload(seed, &mix) }
}

#[test]
fn no_crash_loses_what_was_acknowledged() {
    let started = Instant::now();
    let target: u64 = if long_run() { 20_000_000 } else { 1_000_000 };
    let effort = Effort { exhaustive: 6, random: 16, recovery_every: 2, first_only: true };
    let work = |w: &Workload| explore(&w.name, w.setup, None, &w.steps, effort);
    let (mut total, mut workloads) = (Report::default(), 0);
    let mut round = fixed();
    let mut seed = 0;
    while !round.is_empty() {
        workloads += round.len();
        parallel(&round, work).into_iter().for_each(|r| total.add(r));
        let enough = total.states + total.recovery_states >= target || total.violations.len() > 50;
        round = if enough { Vec::new() } else { (seed..seed + 8).map(random).collect() };
        seed += 8;
    }
    let states = total.states + total.recovery_states;
    let line = format!(
        "crash states: {states} states ({} in workloads, {} in recoveries) at {} calls of {workloads} workloads, {} \
            different disks opened, {} of them written to again, {} layouts searched by graphs and texts, {:.0} s",
        total.states,
        total.recovery_states,
        total.moments,
        total.images,
        total.probed,
        total.layouts,
        started.elapsed().as_secs_f64(),
    );
    conclude(&line, &total.violations);
    assert!(states >= target);
}
