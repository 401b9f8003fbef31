//! Whichever call to the file system fails, nothing acknowledged is lost and nothing refused comes back.
//!
//! Each workload runs with its 1st, 2nd, ... call failing, once and for ever, with a device error and with a full
//! disk, with failed syncs that drop the bytes and failed syncs that only seem to keep them, until it ends without
//! a failure. On the way every error must be typed and reads must go on; afterwards a restart and several crashes
//! must find every acknowledged write and no refused one, and new writes must last.
//!
//! `OMENDB_LONG=1` adds 200 random workloads.

mod common;

use common::explore::Layouts;
use common::generate::{self, Mix};
use common::model::Step;
use common::{Setup, conclude, faults, long_run, parallel};
use omendb::storage::sim::{Fault, FaultKind};
use std::time::Instant;

struct Plan {
    setup: Setup,
    steps: Vec<Step>,
    kind: FaultKind,
    forever: bool,
    readable: bool,
}

/// Runs one plan over every call. Returns the number of calls tried and the violations.
fn every_call(plan: &Plan) -> (u64, Vec<String>) {
    let (mut violations, mut layouts) = (Vec::new(), Layouts::default());
    for at in 0u64.. {
        let fault = Fault {
            forever: plan.forever,
            readable_after_failed_sync: plan.readable,
            torn_write: at.is_multiple_of(2),
            ..Fault::once(at, plan.kind)
        };
        match faults::run(plan.setup, &plan.steps, fault, &mut layouts) {
            Ok(true) => {}
            Ok(false) => return (at, violations),
            Err(message) => violations.push(message),
        }
        if violations.len() > 20 || at > 100_000 {
            return (at, violations);
        }
    }
    (0, violations)
}

#[test]
fn every_failing_call_is_survived() {
    let started = Instant::now();
    let mut workloads: Vec<Vec<Step>> = generate::named().into_iter().map(|(_, steps)| steps).collect();
    let mix = Mix { steps: 20, all_schemas: true, bulk_rows: 30, ids: 8, reopen: true };
    workloads.extend((0..if long_run() { 200 } else { 8 }).map(|seed| generate::workload(seed + 900, &mix)));
    let mut plans = Vec::new();
    for (i, steps) in workloads.iter().enumerate() {
        for (kind, forever, readable) in [
            (FaultKind::Eio, false, false),
            (FaultKind::Eio, false, true),
            (FaultKind::Eio, true, false),
            (FaultKind::Enospc, false, false),
            (FaultKind::Enospc, true, true),
            (FaultKind::ShortRead, false, false),
        ] {
            plans.push(Plan { setup: Setup::new(i as u64), steps: steps.clone(), kind, forever, readable });
        }
    }
    let (mut calls, mut violations) = (0, Vec::new());
    for (tried, found) in parallel(&plans, every_call) {
        calls += tried;
        violations.extend(found);
    }
    let line = format!(
        "nth fault: {calls} failing calls in {} plans over {} workloads, {:.0} s",
        plans.len(),
        workloads.len(),
        started.elapsed().as_secs_f64()
    );
    conclude(&line, &violations);
}
