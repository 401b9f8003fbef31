//! A writer is stopped at each of its calls to the file system in turn; meanwhile readers must go on, and a close must
//! wait for it.

use crate::gate::{Gate, GatedStorage, gate_this_thread};
use crate::{batch, conclude, watchdog};
use omendb::storage::MemStorage;
use omendb::{Collection, Database, Error, Metric, Options, Patch, Schema, SearchOptions};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Rows of the batches: a small one goes through the log, a large one into a segment.
const SMALL: u64 = 4;
const LARGE: u64 = 200;

type Write = fn(&Database, &Collection) -> omendb::Result<()>;

const WRITES: &[(&str, Write)] = &[
    ("upsert", |_, c| c.upsert(batch(0, 0..SMALL, 9, 0)).map(drop)),
    ("add", |_, c| c.add(batch(7, 0..SMALL, 9, 0)).map(drop)),
    ("update", |_, c| c.update("0-1", Patch { text: Some(None), ..Patch::default() })),
    ("delete", |_, c| c.delete(["0-0", "1-1"]).map(drop)),
    ("bulk upsert", |_, c| c.upsert(batch(0, 0..LARGE, 9, 0)).map(drop)),
    ("bulk add", |_, c| c.add(batch(8, 0..LARGE, 9, 0)).map(drop)),
    ("flush", |db, _| db.flush()),
    ("compact", |_, c| c.compact()),
    ("create_collection", |db, _| db.create_collection("new", Schema::new(4, Metric::L2)).map(drop)),
    ("drop_collection", |db, _| db.drop_collection("other")),
];

struct Stage {
    gate: Gate,
    memory: Arc<MemStorage>,
    db: Database,
    collection: Collection,
}

fn options() -> Options {
    Options::new().background(false).bulk_bytes(8 << 10).seed(3).memory_budget(64 << 20)
}

/// A database with segments, dead rows, a log and a memtable.
fn stage() -> Stage {
    let (gate, memory) = (Gate::default(), Arc::new(MemStorage::new()));
    let db = options().open_on(GatedStorage::new(Arc::clone(&memory), &gate)).unwrap();
    db.create_collection("other", Schema::new(4, Metric::L2)).unwrap();
    let collection = db.create_collection("main", Schema::new(8, Metric::L2)).unwrap();
    collection.upsert(batch(0, 0..LARGE, 1, 0)).unwrap();
    collection.upsert(batch(1, 0..LARGE, 1, 0)).unwrap();
    collection.delete(["1-5"]).unwrap();
    collection.flush().unwrap();
    collection.upsert(batch(0, 0..SMALL, 2, 0)).unwrap();
    Stage { gate, memory, db, collection }
}

/// Every read; the name of each is sent once it has returned.
fn read(collection: &Collection, done: &std::sync::mpsc::Sender<&'static str>) {
    let query = [0f32; 8];
    assert_eq!(collection.search(&query, &SearchOptions::new(10)).unwrap().len(), 10);
    done.send("search").unwrap();
    assert_eq!(collection.search_batch(vec![1f32; 80], &SearchOptions::new(10), 2).unwrap().len(), 10);
    done.send("search_batch").unwrap();
    assert!(collection.count().unwrap() > LARGE);
    done.send("count").unwrap();
    assert!(collection.iterate().unwrap().all(|record| record.is_ok()));
    done.send("iterate").unwrap();
    assert!(collection.get("1-7").unwrap().is_some());
    done.send("get").unwrap();
    assert!(!collection.contains("no such").unwrap());
    done.send("contains").unwrap();
}

#[test]
fn no_read_waits_for_a_writer() {
    watchdog(300, || {
        let (mut stops, mut reads, mut violations) = (0, 0, Vec::new());
        for (name, write) in WRITES {
            for n in 0.. {
                let stage = stage();
                stage.gate.stop_at(n);
                let (db, collection) = (stage.db.clone(), stage.collection.clone());
                let writer = std::thread::spawn(move || {
                    gate_this_thread();
                    write(&db, &collection)
                });
                let Some(at) = stage.gate.wait_parked(|| writer.is_finished()) else {
                    writer.join().unwrap().unwrap();
                    break;
                };
                stops += 1;
                let (sender, done) = channel();
                let collection = stage.collection.clone();
                let reader = std::thread::spawn(move || read(&collection, &sender));
                let mut last = "nothing";
                for _ in 0..6 {
                    match done.recv_timeout(Duration::from_secs(3)) {
                        Ok(what) => (last, reads) = (what, reads + 1),
                        Err(e) => {
                            violations
                                .push(format!("{name} stopped at {at}: the reader got no further than {last} ({e})"));
                            break;
                        }
                    }
                }
                stage.gate.release();
                writer.join().unwrap().unwrap();
                reader.join().unwrap();
            }
            if violations.len() > 5 {
                break;
            }
        }
        let line = format!("stopped writers: {stops} calls of {} writes, {reads} reads beside them", WRITES.len());
        conclude(&line, &violations);
        assert!(stops > 50, "only {stops} calls were stopped at");
    });
}

#[test]
fn close_waits_for_what_is_under_way() {
    watchdog(300, || {
        let (mut stops, mut violations) = (0, Vec::new());
        for (name, write) in WRITES {
            for n in 0.. {
                let stage = stage();
                let before = contents(&stage.db);
                stage.gate.stop_at(n);
                let (db, collection) = (stage.db.clone(), stage.collection.clone());
                let writer = std::thread::spawn(move || {
                    gate_this_thread();
                    write(&db, &collection)
                });
                let Some(at) = stage.gate.wait_parked(|| writer.is_finished()) else {
                    writer.join().unwrap().unwrap();
                    break;
                };
                stops += 1;
                let db = stage.db.clone();
                let (sender, closed) = channel();
                let closer = std::thread::spawn(move || sender.send(db.close()).unwrap());
                // Once it has returned, another process may own the files: no call may be under way any more.
                if closed.recv_timeout(Duration::from_millis(30)).is_ok() {
                    let second = options().open_on(GatedStorage::new(Arc::clone(&stage.memory), &Gate::default()));
                    violations.push(format!(
                        "{name} stopped at {at}: close returned meanwhile, and a second open gave {:?}",
                        second.map(|_| "a handle").map_err(|e| e.name())
                    ));
                }
                stage.gate.release();
                let outcome = writer.join().unwrap();
                closer.join().unwrap();
                if let Err(e) = check_after_close(&stage, &before, &outcome, *write) {
                    violations.push(format!("{name} stopped at {at}: {e}"));
                }
            }
        }
        conclude(&format!("close beside stopped writers: {stops} calls of {} writes", WRITES.len()), &violations);
    });
}

type Contents = Vec<(String, Vec<String>)>;

fn contents(db: &Database) -> Contents {
    let read = |name: &String| -> Vec<String> {
        let records = db.collection(name).and_then(|c| c.iterate()).expect("an open collection");
        let mut records: Vec<String> = records.map(|r| format!("{r:?}")).collect();
        records.sort();
        records
    };
    db.collections().iter().map(|name| (name.clone(), read(name))).collect()
}

/// What is there after a reopen is what was there before the write or after it, as its outcome says.
fn check_after_close(
    stage: &Stage,
    before: &Contents,
    outcome: &omendb::Result<()>,
    write: Write,
) -> Result<(), String> {
    let open = || options().open_on(GatedStorage::new(Arc::clone(&stage.memory), &Gate::default()));
    let db = open().map_err(|e| format!("reopen: {e}"))?;
    let problems = db.check(true).map_err(|e| e.to_string())?.problems;
    if !problems.is_empty() {
        return Err(format!("check finds {problems:?}"));
    }
    let after = contents(&db);
    match outcome {
        Ok(()) => {
            let expected = self::stage();
            write(&expected.db, &expected.collection).map_err(|e| e.to_string())?;
            if after != contents(&expected.db) {
                return Err("an acknowledged write is not there".into());
            }
        }
        Err(Error::Unusable(_)) if after == *before => {}
        Err(Error::Unusable(_)) => return Err("a refused write is there".into()),
        Err(e) => return Err(format!("the writer got {e}")),
    }
    Ok(())
}

#[test]
fn waiting_writers_share_a_sync() {
    watchdog(60, || {
        let stage = stage();
        stage.collection.upsert(batch(2, 0..1, 1, 0)).unwrap();
        let before = stage.gate.syncs();
        stage.gate.stop_at(0);
        let writers: Vec<_> = (0..16)
            .map(|i| {
                let collection = stage.collection.clone();
                let writer = std::thread::spawn(move || {
                    if i == 0 {
                        gate_this_thread();
                    }
                    collection.upsert(batch(20 + i, 0..2, 1, 0))
                });
                if i == 0 {
                    stage.gate.wait_parked(|| writer.is_finished()).expect("the leader writes to the log");
                }
                writer
            })
            .collect();
        // They queue up behind the stopped leader; one that comes late costs one more sync at most.
        std::thread::sleep(Duration::from_millis(200));
        stage.gate.release();
        let written: usize = writers.into_iter().map(|w| w.join().unwrap().unwrap()).sum();
        let syncs = stage.gate.syncs() - before;
        assert_eq!(written, 32);
        assert!(syncs <= 4, "{syncs} syncs for 16 writers that waited together");
        println!("group commit: 16 writers, {syncs} syncs");
    });
}

/// Runs `work` on a thread of its own; whether it ended within a few seconds.
fn ends(work: impl FnOnce() + Send + 'static) -> bool {
    let (sender, done) = channel();
    std::thread::spawn(move || {
        work();
        let _ = sender.send(());
    });
    done.recv_timeout(Duration::from_secs(10)).is_ok()
}

#[test]
fn writes_and_flushes_go_on_beside_a_compaction() {
    watchdog(300, || {
        let (mut beside, mut violations) = (0, Vec::new());
        for n in 0.. {
            let Stage { gate, memory, db, collection } = stage();
            collection.flush().unwrap();
            gate.stop_at(n);
            let compacted = collection.clone();
            let compaction = std::thread::spawn(move || {
                gate_this_thread();
                compacted.compact()
            });
            let Some(at) = gate.wait_parked(|| compaction.is_finished()) else {
                compaction.join().unwrap().unwrap();
                break;
            };
            // While the merged segment is being written; making it the database's takes turns with flushes.
            let writing =
                ["open", "write", "sync", "map"].iter().any(|call| at.starts_with(call)) && at.contains(".data");
            if writing {
                beside += 1;
                let (db, collection) = (db.clone(), collection.clone());
                let done = ends(move || {
                    collection.upsert(batch(0, 0..SMALL, 9, 0)).unwrap();
                    collection.delete(["1-7"]).unwrap();
                    db.flush().unwrap();
                });
                if !done {
                    violations.push(format!("a compaction stopped at {at} holds up a write or a flush"));
                }
            }
            gate.release();
            compaction.join().unwrap().unwrap();
            let judge = |db: &Database| {
                let collection = db.collection("main").unwrap();
                let stamp = collection.get("0-1").unwrap().unwrap().metadata.unwrap()["stamp"].as_u64();
                assert_eq!(stamp, Some(if writing { 9 } else { 2 }), "{at}");
                assert_eq!(collection.get("1-7").unwrap().is_none(), writing, "{at}");
                assert_eq!(collection.count().unwrap(), 2 * LARGE - 1 - u64::from(writing), "{at}");
                assert_eq!(db.check(true).unwrap().problems, Vec::<String>::new(), "{at}");
            };
            judge(&db);
            db.close().unwrap();
            judge(&options().open_on(GatedStorage::new(memory, &gate)).unwrap());
        }
        conclude(&format!("compaction: flushes beside it at {beside} of its calls"), &violations);
        assert!(beside > 3);
    });
}

#[test]
fn a_writer_waits_for_flushes_as_long_as_they_make_room() {
    watchdog(300, || {
        const WRITERS: u64 = 12;
        const WRITES: u64 = 40;
        let storage = GatedStorage::new(Arc::new(MemStorage::new()), &Gate::default());
        // Each write takes a sixth of the log, so most of them find it full.
        let db = Options::new().log_cap(48 << 10).memory_budget(16 << 20).open_on(storage).unwrap();
        let collection = db.create_collection("main", Schema::new(8, Metric::L2)).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let collection = &collection;
                scope.spawn(move || {
                    for write in 0..WRITES {
                        collection.upsert(batch(writer, write * SMALL..(write + 1) * SMALL, write, 2_000)).unwrap();
                    }
                });
            }
        });
        assert_eq!(collection.count().unwrap(), WRITERS * WRITES * SMALL);
        // No flush makes room for what is larger than the log.
        let text = Some(Some("x".repeat(100 << 10)));
        let refused = collection.update("0-1", Patch { text, ..Patch::default() });
        assert!(matches!(refused, Err(Error::LimitExceeded(_))), "{refused:?}");
        db.close().unwrap();
    });
}
