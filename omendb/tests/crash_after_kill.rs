//! A power cut while the database recovers from the death of its process loses nothing that was acknowledged.
//!
//! A killed process leaves changes that every program sees and that no sync has covered. Recovery reads them as they
//! are, so it must make them durable before it removes anything on their strength. Each workload is killed at every
//! call; the disk, with all that waits, is opened again, and that opening is crashed before every call that changes
//! the disk.

mod common;

use common::explore::{Layouts, recover};
use common::generate;
use common::model::{self, State, Step};
use common::{Setup, conclude, no_panic, parallel};
use omendb::storage::sim::{Crash, SimFs};
use std::collections::HashSet;
use std::time::Instant;

/// What one workload came to: kills, crashes, violations.
type Found = (u64, u64, Vec<String>);

/// Runs the workload until call `at` and kills it there; the disk, and the states that may be found on it.
/// `None` when the workload ends before that call.
fn kill(setup: &Setup, steps: &[Step], at: u64) -> Option<(SimFs, Vec<State>)> {
    let fs = SimFs::new();
    fs.stop_at(Some(at));
    let mut allowed = vec![State::default()];
    let mut db = setup.open(&fs).ok();
    if fs.calls() > at {
        return Some((fs.fork(), allowed));
    }
    for step in steps {
        let handle = db.take()?;
        let mut next = allowed[0].clone();
        let expected = next.apply(step);
        let got = model::perform(&handle, step);
        if fs.calls() > at {
            if got.is_ok() {
                allowed = vec![next];
            } else {
                allowed.push(next);
            }
            drop(handle);
            return Some((fs.fork(), allowed));
        }
        assert_eq!(got.as_ref().map_err(|e| e.name()), expected.as_ref().map_err(|e| *e), "{step:?}");
        allowed = vec![next];
        db = match step {
            Step::Close => None,
            Step::Reopen => {
                drop(handle);
                setup.open(&fs).ok()
            }
            _ => Some(handle),
        };
        if fs.calls() > at {
            return Some((fs.fork(), allowed));
        }
    }
    None
}

fn workload((name, steps): &(&'static str, Vec<Step>)) -> Found {
    let setup = Setup::new(1);
    let (mut kills, mut crashes, mut violations) = (0, 0, Vec::new());
    let mut layouts = Layouts::default();
    for at in 0.. {
        let Some((fs, allowed)) = kill(&setup, steps, at) else { break };
        kills += 1;
        fs.record();
        let _ = no_panic(|| drop(setup.open(&fs)));
        let mut seen = HashSet::new();
        for (m, moment) in fs.take_moments().iter().enumerate() {
            for crash in Crash::plans(moment.waiting(), 5, 4, m as u64) {
                let disk = moment.crash(crash);
                if !seen.insert(disk.fingerprint()) {
                    continue;
                }
                crashes += 1;
                let found = no_panic(|| recover(&setup, &disk, false, &mut layouts));
                let found = found.and_then(|r| r.map_err(|e| e.to_string()));
                let wrong = match found {
                    Ok(state) if allowed.contains(&state) => continue,
                    Ok(state) => model::difference(&state, &allowed[0]),
                    Err(message) => message,
                };
                violations.push(format!(
                    "{name}: killed at call {at}, then a crash before recovery's {:?} {} {crash:?}: {wrong}",
                    moment.op, moment.path
                ));
            }
        }
    }
    (kills, crashes, violations)
}

#[test]
fn no_crash_in_a_recovery_from_a_kill_loses_what_was_acknowledged() {
    let started = Instant::now();
    let (mut kills, mut crashes, mut violations) = (0, 0, Vec::new());
    for (k, c, v) in parallel(&generate::named(), workload) {
        kills += k;
        crashes += c;
        violations.extend(v);
    }
    let line =
        format!("crash after kill: {crashes} crashes in {kills} recoveries, {:.0} s", started.elapsed().as_secs_f64());
    conclude(&line, &violations);
    assert!(crashes > 1_000);
}
