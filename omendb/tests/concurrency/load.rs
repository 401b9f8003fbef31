//! A mixed load on a real directory, with the background worker on.
//!
//! Writers own groups of rows and replace, add or delete a whole group in one call, so whatever a reader sees of a
//! group must be all rows with one stamp, or none; never older than what was acknowledged before the read began.

use crate::{batch, conclude, long_run, vector, watchdog};
use omendb::{Collection, Database, Durability, Error, Metric, Options, Patch, Record, Schema, SearchOptions, Vector};
use serde_json::json;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const GROUPS: u64 = 6;
const ROWS: u64 = 12;
const READERS: u64 = 3;
/// Added to a group's stamp in `Board::acked` while the group is deleted.
const DELETED: u64 = 1 << 40;

/// What the writers have had acknowledged, and what everybody counted.
#[derive(Default)]
struct Board {
    /// By group: the stamp of the last acknowledged write; stamps count deletes too.
    acked: [AtomicU64; GROUPS as usize],
    /// By group: the stamp of the last single-row update acknowledged.
    updated: [AtomicU64; GROUPS as usize],
    /// A flush or compaction is running: its number; 0 while none is.
    maintaining: AtomicU64,
    stop: AtomicBool,
    writes: AtomicU64,
    refused: AtomicU64,
    reads: AtomicU64,
    reads_beside_maintenance: AtomicU64,
    maintenances: AtomicU64,
    violations: Mutex<Vec<String>>,
}

impl Board {
    fn violation(&self, what: String) {
        self.stop.store(true, Ordering::Relaxed);
        self.violations.lock().unwrap().push(what);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// xorshift64*, seeded.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

fn options(durability: Durability) -> Options {
    // A small log, so that writers fill it again and again; a small threshold, so that padded batches go in bulk.
    Options::new().durability(durability).log_cap(128 << 10).bulk_bytes(6 << 10).memory_budget(64 << 20)
}

/// The stamp of a record, if its parts agree on it.
fn stamp_of(record: &Record) -> Result<u64, String> {
    let Vector::F32(v) = &record.vector else { return Err("not f32".into()) };
    let stamp = v[1] as u64;
    let metadata = record.metadata.as_ref().and_then(|m| m["stamp"].as_u64());
    let text = record.text.as_ref().and_then(|t| t.split(' ').next()?.parse().ok());
    if metadata == Some(stamp) && text == Some(stamp) { Ok(stamp) } else { Err(format!("mixed record {record:?}")) }
}

/// Writes group `g` until stopped or refused; says what was acknowledged on the board.
fn write_group(collection: &Collection, board: &Board, g: u64, seed: u64, most: u64) -> Result<(), String> {
    let mut random = Random(seed * 7919 + g + 1);
    let ids: Vec<String> = (0..ROWS).map(|row| format!("{g}-{row}")).collect();
    let mut stamp = board.acked[g as usize].load(Ordering::Acquire);
    let mut there = stamp & DELETED == 0 && stamp > 0;
    stamp &= DELETED - 1;
    for _ in 0..most {
        if board.stopped() {
            break;
        }
        stamp += 1;
        let padding = if random.below(5) == 0 { 1_000 } else { 0 };
        let (outcome, after) = match random.below(8) {
            0 if there => (collection.delete(&ids), false),
            1 if !there => (collection.add(batch(g, 0..ROWS, stamp, padding)), true),
            1 => {
                // A refused write must leave nothing behind; the readers would see its stamp.
                let refused = collection.add(batch(g, 0..ROWS, stamp + 1_000_000, padding));
                if !matches!(refused, Err(Error::AlreadyExists(_) | Error::Unusable(_))) {
                    return Err(format!("add of known ids gave {refused:?}"));
                }
                continue;
            }
            _ => (collection.upsert(batch(g, 0..ROWS, stamp, padding)), true),
        };
        match outcome {
            Ok(ROWS_WRITTEN) => there = after,
            Ok(n) => return Err(format!("{n} rows were written")),
            Err(Error::Unusable(_)) => {
                board.refused.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Err(e) => return Err(format!("a writer got {e}")),
        }
        board.acked[g as usize].store(if there { stamp } else { stamp | DELETED }, Ordering::Release);
        board.writes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

const ROWS_WRITTEN: usize = ROWS as usize;

/// Updates one record of its own, all parts at once.
fn update_single(collection: &Collection, board: &Board, g: u64, most: u64) -> Result<(), String> {
    let id = format!("single-{g}");
    let first = board.updated[g as usize].load(Ordering::Acquire);
    for stamp in first + 1..first + most {
        if board.stopped() {
            break;
        }
        let patch = Patch {
            vector: Some(vector(g, stamp, 0).to_vec().into()),
            metadata: Some(json!({"stamp": stamp})),
            text: Some(Some(stamp.to_string())),
            ..Patch::default()
        };
        match collection.update(&id, patch) {
            Ok(()) => board.updated[g as usize].store(stamp, Ordering::Release),
            Err(Error::Unusable(_)) => return Ok(()),
            Err(e) => return Err(format!("update got {e}")),
        }
        board.writes.fetch_add(1, Ordering::Relaxed);
        match collection.get(&id).map(|r| r.as_ref().map(stamp_of)) {
            Ok(Some(Ok(seen))) if seen == stamp => {}
            Err(Error::Unusable(_)) => return Ok(()),
            other => return Err(format!("after the update to {stamp}, get gives {other:?}")),
        }
    }
    Ok(())
}

/// Checks what one view holds of a group against what was acknowledged before it was taken, and against `seen`.
fn check_group(stamps: &[u64], acked: u64, seen: &mut u64, g: u64, by: &str) -> Result<(), String> {
    let whole = stamps.is_empty() || stamps.len() == ROWS as usize && stamps.iter().all(|s| *s == stamps[0]);
    if !whole {
        return Err(format!("{by} sees a part of group {g}: {stamps:?}"));
    }
    if let Some(stamp) = stamps.first() {
        if *stamp < acked & (DELETED - 1) || *stamp < *seen {
            return Err(format!("{by} sees group {g} at {stamp}, after {acked} was acknowledged and {seen} seen"));
        }
        *seen = *stamp;
    }
    Ok(())
}

/// One read of some kind; `Ok(false)` once the database is closed.
fn read_once(
    groups: &Collection,
    singles: &Collection,
    board: &Board,
    random: &mut Random,
    seen: &mut [u64; GROUPS as usize],
) -> Result<bool, String> {
    let g = random.below(GROUPS);
    let acked: Vec<u64> = board.acked.iter().map(|a| a.load(Ordering::Acquire)).collect();
    let at = g as usize;
    let outcome = match random.below(8) {
        0 => groups.iterate().and_then(|records| {
            let mut stamps = vec![Vec::new(); GROUPS as usize];
            let mut mixed = Ok(());
            for record in records {
                let record = record?;
                let group = record.metadata.as_ref().and_then(|m| m["group"].as_u64()).unwrap_or(0) as usize;
                match stamp_of(&record) {
                    Ok(stamp) => stamps[group].push(stamp),
                    Err(e) => mixed = Err(e),
                }
            }
            let check = |g: usize| check_group(&stamps[g], acked[g], &mut seen[g], g as u64, "iterate");
            Ok(mixed.and_then(|()| (0..GROUPS as usize).try_for_each(check)))
        }),
        1 => groups.count().map(|n| match n % ROWS {
            0 => Ok(()),
            _ => Err(format!("count sees {n} rows in groups of {ROWS}")),
        }),
        2 => {
            let least = board.updated[at].load(Ordering::Acquire);
            singles.get(&format!("single-{g}")).map(|record| match record.as_ref().map(stamp_of) {
                Some(Ok(stamp)) if stamp >= least => Ok(()),
                other => Err(format!("get sees {other:?} after {least} was acknowledged")),
            })
        }
        _ => {
            let options = SearchOptions::new(2 * ROWS as usize).include(omendb::Include::ALL);
            groups.search(&vector(g, acked[at] & (DELETED - 1), 0), &options).map(|hits| {
                let mut stamps = Vec::new();
                for hit in hits.hits.into_iter().filter(|h| h.distance < 5e5) {
                    let record = Record {
                        id: hit.id,
                        vector: hit.vector.ok_or("a hit without its vector")?,
                        metadata: hit.metadata,
                        text: hit.text,
                        vectors: hit.vectors,
                        sparse: hit.sparse,
                    };
                    stamps.push(stamp_of(&record)?);
                }
                check_group(&stamps, acked[at], &mut seen[at], g, "search")
            })
        }
    };
    match outcome {
        Ok(checked) => checked.map(|()| true),
        Err(Error::Unusable(_)) => Ok(false),
        Err(e) => Err(format!("a reader got {e}")),
    }
}

fn read(groups: &Collection, singles: &Collection, board: &Board, seed: u64) -> Result<(), String> {
    let mut random = Random(seed);
    let mut seen = [0; GROUPS as usize];
    while !board.stopped() {
        let before = board.maintaining.load(Ordering::Acquire);
        if !read_once(groups, singles, board, &mut random, &mut seen)? {
            break;
        }
        board.reads.fetch_add(1, Ordering::Relaxed);
        if before != 0 && board.maintaining.load(Ordering::Acquire) == before {
            board.reads_beside_maintenance.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Flushes, compacts, checks and waits for the worker, over and over.
fn maintain(db: &Database, groups: &Collection, board: &Board, seed: u64) -> Result<(), String> {
    let mut random = Random(seed);
    for number in 1.. {
        if board.stopped() {
            break;
        }
        board.maintaining.store(number, Ordering::Release);
        let outcome = match random.below(6) {
            0 => groups.compact(),
            1 => db.compact(),
            2 => db.check(true).and_then(|report| match report.problems.first() {
                Some(problem) => Err(Error::corrupt("check", 0, problem.as_str())),
                None => Ok(()),
            }),
            3 => db.collection("singles").and_then(|c| c.wait_idle()),
            _ => db.flush(),
        };
        board.maintaining.store(0, Ordering::Release);
        match outcome {
            Ok(()) => board.maintenances.fetch_add(1, Ordering::Relaxed),
            Err(Error::Unusable(_)) => break,
            Err(e) => return Err(format!("maintenance got {e}")),
        };
        if db.stats().background_error.is_some() {
            return Err(format!("the worker failed: {:?}", db.stats().background_error));
        }
        std::thread::sleep(Duration::from_micros(random.below(3_000)));
    }
    Ok(())
}

/// How a round ends while everybody is busy.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Close,
    DropHandles,
}

fn round(path: &Path, board: &Arc<Board>, durability: Durability, seed: u64, length: Duration, end: End) {
    let db = options(durability).open(path).expect("the database opens");
    let groups = db.collection("groups").expect("it was made");
    let singles = db.collection("singles").expect("it was made");
    board.stop.store(false, Ordering::Relaxed);
    let mut threads = Vec::new();
    type Work = Box<dyn FnOnce(Database, Collection, Collection, &Board) -> Result<(), String> + Send>;
    let mut start = |work: Work| {
        let (db, groups, singles, board) = (db.clone(), groups.clone(), singles.clone(), Arc::clone(board));
        threads.push(std::thread::spawn(move || {
            if let Err(what) = work(db, groups, singles, &board) {
                board.violation(what);
            }
        }));
    };
    for g in 0..GROUPS {
        start(Box::new(move |_, groups, _, board| write_group(&groups, board, g, seed, u64::MAX)));
        if g % 3 == 0 {
            start(Box::new(move |_, _, singles, board| update_single(&singles, board, g, 1 << 40)));
        }
    }
    for reader in 0..READERS {
        start(Box::new(move |_, groups, singles, board| read(&groups, &singles, board, seed * 31 + reader + 1)));
    }
    start(Box::new(move |db, groups, _, board| maintain(&db, &groups, board, seed + 77)));
    let until = Instant::now() + length;
    while Instant::now() < until && !board.stopped() {
        std::thread::sleep(Duration::from_millis(5));
    }
    match end {
        End::Close => {
            if let Err(e) = db.close() {
                board.violation(format!("close: {e}"));
            }
        }
        // The last thread to let go closes the database.
        End::DropHandles => board.stop.store(true, Ordering::Relaxed),
    }
    drop((db, groups, singles));
    for thread in threads {
        if thread.join().is_err() {
            board.violation("a thread panicked".into());
        }
    }
}

/// After a round: exactly what was acknowledged is there.
fn check_reopened(path: &Path, board: &Board) -> Result<(), String> {
    let db = Options::new().read_only(true).open(path).map_err(|e| format!("reopen: {e}"))?;
    let problems = db.check(true).map_err(|e| e.to_string())?.problems;
    if !problems.is_empty() {
        return Err(format!("check after the round finds {problems:?}"));
    }
    let groups = db.collection("groups").map_err(|e| e.to_string())?;
    let mut expected = 0;
    for g in 0..GROUPS {
        let acked = board.acked[g as usize].load(Ordering::Acquire);
        let there = acked > 0 && acked & DELETED == 0;
        expected += if there { ROWS } else { 0 };
        for row in 0..ROWS {
            let record = groups.get(&format!("{g}-{row}")).map_err(|e| e.to_string())?;
            let stamp = record.as_ref().map(stamp_of).transpose()?;
            if stamp != there.then_some(acked) {
                return Err(format!("group {g}, row {row}: {stamp:?} is there, acknowledged was {acked}"));
            }
        }
    }
    match groups.count() {
        Ok(n) if n == expected => Ok(()),
        other => Err(format!("{other:?} records are there, {expected} were expected")),
    }
}

#[test]
fn every_reader_sees_one_version() {
    watchdog(if long_run() { 900 } else { 180 }, || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.omen");
        let db = Options::new().open(&path).unwrap();
        db.create_collection("groups", Schema::new(8, Metric::L2)).unwrap();
        let singles = db.create_collection("singles", Schema::new(8, Metric::L2)).unwrap();
        for g in 0..GROUPS {
            let ids = [format!("single-{g}")];
            let batch = omendb::Batch::new(ids.iter().collect(), vector(g, 0, 0).to_vec());
            let metadata = json!({"stamp": 0});
            singles.upsert(batch.with_metadata([Some(&metadata)]).unwrap().with_text([Some("0")])).unwrap();
        }
        drop((db, singles));
        let board = Arc::new(Board::default());
        let length = Duration::from_millis(if long_run() { 20_000 } else { 700 });
        let modes = [Durability::Commit, Durability::Interval(Duration::from_millis(5)), Durability::Manual];
        let ends = [End::Close, End::DropHandles];
        for (seed, (mode, end)) in modes.into_iter().flat_map(|m| ends.map(|e| (m, e))).enumerate() {
            round(&path, &board, mode, seed as u64 + 1, length, end);
            if board.violations.lock().unwrap().is_empty()
                && let Err(what) = check_reopened(&path, &board)
            {
                board.violation(what);
            }
        }
        let figure = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let line = format!(
            "concurrency: 6 rounds, {} writes, {} reads ({} of them within a flush or compaction), {} flushes, \
                compactions and checks, {} writes refused by a close",
            figure(&board.writes),
            figure(&board.reads),
            figure(&board.reads_beside_maintenance),
            figure(&board.maintenances),
            figure(&board.refused),
        );
        conclude(&line, &board.violations.lock().unwrap());
        assert!(figure(&board.reads_beside_maintenance) > 0, "no read ended while a flush or compaction was running");
        assert!(figure(&board.writes) > 50 && figure(&board.maintenances) > 2);
    });
}

#[test]
fn wait_idle_ends_and_leaves_nothing_to_do() {
    watchdog(120, || {
        let dir = tempfile::tempdir().unwrap();
        let db = options(Durability::Manual).open(dir.path().join("db.omen")).unwrap();
        let collection = db.create_collection("groups", Schema::new(8, Metric::L2)).unwrap();
        let writers: Vec<_> = (0..4)
            .map(|g| {
                let collection = collection.clone();
                std::thread::spawn(move || {
                    for stamp in 0..60 {
                        let padding = if stamp % 3 == 0 { 1_000 } else { 0 };
                        collection.upsert(batch(g, 0..ROWS, stamp, padding)).unwrap();
                    }
                    collection.wait_idle().unwrap();
                })
            })
            .collect();
        writers.into_iter().for_each(|w| w.join().unwrap());
        collection.wait_idle().unwrap();
        let settled = collection.stats();
        collection.wait_idle().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(collection.stats().segments, settled.segments, "the worker had something left to do");
        assert_eq!(collection.count().unwrap(), 4 * ROWS);
        assert_eq!(db.stats().background_error, None);
    });
}
