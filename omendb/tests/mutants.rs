//! The test programmes notice deliberate defects. A programme that passes a broken database proves nothing.
//!
//! Defects of the storage (a sync that does nothing, a rename made durable before the bytes, ...) stand for an engine
//! that forgets or misorders a call; defects of the engine are switched on by name. Each must be noticed by the
//! programme named beside it.

mod common;

use common::explore::{Effort, Layouts, explore};
use common::flips::{golden, kind as kind_of};
use common::generate::{self, Mix};
use common::model::Step;
use common::{Setup, conclude, faults, long_run, parallel, programs};
use omendb::storage::sim::{Fault, FaultKind, Mutant, Op, SimFs};
use std::collections::BTreeMap;

const EFFORT: Effort = Effort { exhaustive: 4, random: 4, recovery_every: 4, first_only: true };

fn workloads() -> Vec<(&'static str, Vec<Step>)> {
    generate::named()
}

/// Crashes every workload until one shows a violation; its message.
fn crash_notices(setup: Setup, mutant: Option<Mutant>) -> Option<String> {
    workloads()
        .iter()
        .find_map(|(name, steps)| explore(name, setup, mutant, steps, EFFORT).violations.into_iter().next())
}

#[test]
fn defects_of_the_storage_are_noticed_by_crash_states() {
    let mutants = [
        Mutant::SkipSync { path: "" },
        Mutant::SkipSync { path: "wal/" },
        Mutant::SkipSync { path: "segments/" },
        Mutant::SkipSync { path: "MANIFEST" },
        Mutant::SkipDirSync { path: "" },
        Mutant::SkipDirSync { path: "wal" },
        Mutant::SkipDirSync { path: "segments" },
        Mutant::RenameBeforeSync { path: "MANIFEST" },
        Mutant::RemoveBeforeDirSync { path: "wal/" },
        Mutant::RemoveBeforeDirSync { path: "segments/" },
        Mutant::RemoveBeforeDirSync { path: "MANIFEST" },
        Mutant::LoseWrite { path: "wal/", nth: 2 },
        Mutant::LoseWrite { path: "segments/", nth: 1 },
        Mutant::LoseWrite { path: "MANIFEST", nth: 1 },
        Mutant::MisdirectWrite { path: "wal/", nth: 2 },
        Mutant::MisdirectWrite { path: "segments/", nth: 1 },
    ];
    let noticed = parallel(&mutants, |m| crash_notices(Setup::new(1), Some(*m)));
    let mut missed = Vec::new();
    for (mutant, noticed) in mutants.iter().zip(noticed) {
        match noticed {
            Some(message) => println!("{mutant:?} noticed: {}", message.lines().next().unwrap_or_default()),
            None => missed.push(format!("{mutant:?} was not noticed")),
        }
    }
    assert_eq!(crash_notices(Setup::new(1), None), None, "the sound storage must pass");
    conclude(&format!("storage mutants: {} of {} noticed", mutants.len() - missed.len(), mutants.len()), &missed);
}

#[test]
fn each_single_forgotten_sync_is_noticed() {
    let (mut total, mut missed) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
    for (name, steps) in workloads() {
        let paths = syncs(&steps);
        // A derived file that a crash leaves unfinished is made again: forgetting its sync breaks no promise.
        // The log is synced most often, and what that is for is the same each time: a third of them will do.
        let chosen = |(nth, path): &(usize, &str)| match kind_of(path) {
            "log" => nth % 3 == 0 || long_run(),
            kind => ["manifest", "data", "tombstones"].contains(&kind),
        };
        let paths = paths.iter().map(|path| path.trim_end_matches(".tmp")).enumerate();
        let paths: Vec<(usize, &str)> = paths.filter(chosen).collect();
        let found = parallel(&paths, |(nth, _)| {
            let mutant = Mutant::SkipNthSync { path: "", nth: *nth as u64 };
            explore(name, Setup::new(1), Some(mutant), &steps, EFFORT).violations.len()
        });
        for ((_, path), found) in paths.iter().zip(found) {
            *total.entry(kind_of(path).to_owned()).or_default() += 1;
            *missed.entry(kind_of(path).to_owned()).or_default() += u64::from(found == 0);
        }
    }
    println!("forgotten syncs by kind of file: {total:?}, of which no crash noticed {missed:?}");
    // What a manifest names, and the manifest, must be synced every time. A log's end may be synced more often than
    // a crash can tell, where a manifest makes that log superfluous right afterwards.
    for kind in ["manifest", "data", "tombstones"] {
        assert!(total.contains_key(kind), "no workload syncs a {kind} file");
        assert_eq!(missed[kind], 0, "forgotten syncs of {kind} files were not noticed");
    }
    assert!(missed["log"] * 2 <= total["log"], "most forgotten syncs of the log were not noticed");
}

/// The files that a workload syncs, in order.
fn syncs(steps: &[Step]) -> Vec<String> {
    let fs = SimFs::new();
    fs.record();
    let setup = Setup::new(1);
    let mut db = setup.open(&fs).expect("an empty disk opens");
    for step in steps {
        let _ = common::model::perform(&db, step);
        if *step == Step::Reopen {
            drop(db);
            db = setup.open(&fs).expect("a closed database opens");
        }
    }
    let moments = fs.take_moments();
    moments.iter().filter(|m| m.op == Op::SyncData).map(|m| m.path.to_string()).collect()
}

/// The programme that must notice a defect of the engine.
#[derive(Debug, Clone, Copy)]
enum Programme {
    CrashStates,
    NthFault,
    Model,
    BitFlips,
}

/// Defects that `Options::mutant` switches on.
const ENGINE_MUTANTS: &[(&str, Programme)] = &[
    ("ack-before-sync", Programme::CrashStates),
    ("drop-log-before-manifest", Programme::CrashStates),
    ("remove-inputs-before-manifest", Programme::CrashStates),
    ("ignore-failed-sync", Programme::NthFault),
    ("forget-deletes-in-compaction", Programme::Model),
    ("ignore-log-checksum", Programme::BitFlips),
    ("ignore-block-checksum", Programme::BitFlips),
    ("ignore-manifest-checksum", Programme::BitFlips),
    ("ignore-index-checksum", Programme::BitFlips),
];

fn notices(programme: Programme, setup: Setup) -> Option<String> {
    match programme {
        Programme::CrashStates => crash_notices(setup, None),
        Programme::NthFault => workloads().into_iter().find_map(|(_, steps)| {
            let fault =
                |at, readable| Fault { readable_after_failed_sync: readable, ..Fault::once(at, FaultKind::Eio) };
            let fails = |at, readable| faults::run(setup, &steps, fault(at, readable), &mut Layouts::default()).err();
            (0..400).find_map(|at| [false, true].into_iter().find_map(|readable| fails(at, readable)))
        }),
        Programme::Model => (0..60).find_map(|seed| {
            let mix = Mix { steps: 40, all_schemas: true, bulk_rows: 32, ids: 12, reopen: true };
            let run = || programs::run(Setup { seed, ..setup }, &mix);
            match (run(), run()) {
                (Err(message), _) | (_, Err(message)) => Some(message),
                (Ok(a), Ok(b)) if a.0 != b.0 => Some("two runs differ".to_owned()),
                _ => None,
            }
        }),
        Programme::BitFlips => {
            workloads().into_iter().filter(|(_, s)| s.last() != Some(&Step::Close)).find_map(|(_, s)| {
                let steps: Vec<Step> = s.into_iter().filter(|s| *s != Step::Reopen).collect();
                let golden = golden("mutant", setup, &steps, true).ok()?;
                golden.fs.files().into_iter().find_map(|(path, bytes)| {
                    (0..bytes.len() as u64).step_by(3).find_map(|offset| {
                        golden.judge(&|fs| fs.damage(&path, offset, 0x10).expect("the file is there")).err()
                    })
                })
            })
        }
    }
}

#[test]
fn defects_of_the_engine_are_noticed() {
    let found = parallel(ENGINE_MUTANTS, |(name, programme)| {
        notices(*programme, Setup { mutant: Some(name), ..Setup::new(2) })
    });
    let mut missed = Vec::new();
    for ((name, programme), found) in ENGINE_MUTANTS.iter().zip(found) {
        match found {
            Some(message) => {
                println!("{name} noticed by {programme:?}: {}", message.lines().next().unwrap_or_default())
            }
            None => missed.push(format!("{name} was not noticed by {programme:?}")),
        }
    }
    let count = ENGINE_MUTANTS.len();
    conclude(&format!("engine mutants: {} of {count} noticed", count - missed.len()), &missed);
}
