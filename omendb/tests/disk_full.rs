//! A full disk refuses writes with `DiskFull`; reads and deletes still work, nothing is lost, nothing refused is
//! applied, and writes work again once there is space.

use omendb::storage::sim::{Crash, SimFs};
use omendb::{Batch, Collection, Database, Error, Metric, Options, Schema, SearchOptions};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const DIM: usize = 8;
/// A batch of this many rows goes through the log, or in bulk where `BULK_BYTES` says so.
const ROWS: u64 = 10;
const LARGE_ROWS: u64 = 60;
const BULK_BYTES: u64 = 3_000;

/// What is acknowledged: id to stamp.
type Model = BTreeMap<u64, u64>;

fn options() -> Options {
    Options::new().background(false).seed(11).log_cap(64 << 10).bulk_bytes(BULK_BYTES).memory_budget(64 << 20)
}

fn write(collection: &Collection, first: u64, rows: u64, stamp: u64) -> omendb::Result<usize> {
    let metadata = json!({"stamp": stamp});
    let vectors: Vec<f32> =
        (0..rows).flat_map(|i| [(first + i) as f32, stamp as f32, 1., 0., 0., 0., 0., 0.]).collect();
    let batch = Batch::new((first..first + rows).collect(), vectors);
    collection.upsert(batch.with_metadata((0..rows).map(|_| Some(&metadata)))?)
}

/// Everything that reads must work and agree with the model.
fn expect(collection: &Collection, model: &Model, when: &str) -> Result<(), String> {
    let fail = |what: String| Err(format!("{when}: {what}"));
    match collection.count() {
        Ok(n) if n == model.len() as u64 => {}
        other => return fail(format!("count is {other:?}, {} are acknowledged", model.len())),
    }
    let mut found = Model::new();
    for record in collection.iterate().map_err(|e| format!("{when}: {e}"))? {
        let record = record.map_err(|e| format!("{when}: {e}"))?;
        let stamp = record.metadata.as_ref().and_then(|m| m["stamp"].as_u64()).unwrap_or(u64::MAX);
        let omendb::Id::U64(id) = record.id else { return fail("an id that was never written".into()) };
        found.insert(id, stamp);
    }
    if found != *model {
        return fail(format!("{found:?} is there, {model:?} is acknowledged"));
    }
    let query = [0f32; DIM];
    match collection.search(&query, &SearchOptions::new(5)) {
        Ok(hits) if hits.len() == model.len().min(5) => {}
        other => return fail(format!("search gives {other:?}")),
    }
    let known = model.first_key_value().map(|(id, _)| *id);
    match known.map(|id| collection.contains(id)) {
        None | Some(Ok(true)) => Ok(()),
        other => fail(format!("contains gives {other:?}")),
    }
}

/// Writes until the disk is full; the model is then what is acknowledged.
fn fill(db: &Database, collection: &Collection, model: &mut Model, stamp: &mut u64) -> Result<Error, String> {
    for turn in 0..10_000u64 {
        *stamp += 1;
        let (first, rows) = if turn % 7 == 3 { (turn * 5, LARGE_ROWS) } else { (turn * 3, ROWS) };
        let outcome = match turn % 11 {
            6 => db.flush(),
            9 => collection.compact(),
            _ => write(collection, first, rows, *stamp)
                .map(|_| model.extend((first..first + rows).map(|id| (id, *stamp)))),
        };
        match outcome {
            Ok(()) => {}
            Err(e @ Error::DiskFull(_)) => return Ok(e),
            Err(e) => return Err(format!("filling the disk gave {e}")),
        }
    }
    Err("the disk never filled".into())
}

/// One capacity: fill, look, delete, free space, go on, reopen.
fn survive(capacity: u64, counts: &mut [u64; 3]) -> Result<(), String> {
    let text = |e: Error| e.to_string();
    let fs = SimFs::new();
    let db = options().open_on(Arc::new(fs.clone())).map_err(text)?;
    let collection = db.create_collection("main", Schema::new(DIM, Metric::L2)).map_err(text)?;
    let (mut model, mut stamp) = (Model::new(), 0);
    write(&collection, 0, ROWS, 0).map_err(text)?;
    model.extend((0..ROWS).map(|id| (id, 0)));
    fs.set_capacity(Some(capacity));
    let error = fill(&db, &collection, &mut model, &mut stamp)?;
    if !error.to_string().contains("free some space") {
        return Err(format!("the error does not say the fix: {error}"));
    }
    expect(&collection, &model, "full")?;
    // Every kind of write is refused or done, nothing in between, and refusing goes on.
    for rows in [ROWS, LARGE_ROWS, ROWS] {
        stamp += 1;
        match write(&collection, 3, rows, stamp) {
            Ok(_) => model.extend((3..3 + rows).map(|id| (id, stamp))),
            Err(Error::DiskFull(_)) => counts[0] += 1,
            Err(e) => return Err(format!("a write on the full disk gave {e}")),
        }
        for outcome in [db.flush(), collection.compact()] {
            if !matches!(outcome, Ok(()) | Err(Error::DiskFull(_))) {
                return Err(format!("flush or compact on the full disk gave {outcome:?}"));
            }
        }
        expect(&collection, &model, "still full")?;
    }
    for id in model.keys().copied().take(20).collect::<Vec<_>>() {
        // A delete may need a new log, which takes a kilobyte; where there is not even that, it may be refused.
        let used: u64 = fs.files().values().map(|bytes| bytes.len() as u64).sum();
        match collection.delete([id]) {
            Ok(1) => counts[1] += 1,
            Err(Error::DiskFull(_)) if used + 1_200 > capacity => break,
            other => return Err(format!("delete of {id} on the full disk gave {other:?}")),
        }
        model.remove(&id);
    }
    expect(&collection, &model, "after deletes")?;
    after_a_crash(&fs.crash(Crash::random(capacity)), &model)?;
    fs.set_capacity(Some(capacity * 3));
    stamp += 1;
    write(&collection, 0, LARGE_ROWS, stamp).map_err(|e| format!("a write after space was freed gave {e}"))?;
    model.extend((0..LARGE_ROWS).map(|id| (id, stamp)));
    write(&collection, 500, ROWS, stamp).map_err(|e| format!("a write after space was freed gave {e}"))?;
    model.extend((500..500 + ROWS).map(|id| (id, stamp)));
    db.compact().map_err(|e| format!("compact after space was freed gave {e}"))?;
    expect(&collection, &model, "after space was freed")?;
    db.close().map_err(text)?;
    let db = options().open_on(Arc::new(fs.fork())).map_err(text)?;
    let problems = db.check(true).map_err(text)?.problems;
    counts[2] += 1;
    if problems.is_empty() {
        expect(&db.collection("main").map_err(text)?, &model, "reopened")
    } else {
        Err(format!("{problems:?}"))
    }
}

/// A power cut while the disk was full loses nothing.
fn after_a_crash(crashed: &SimFs, model: &Model) -> Result<(), String> {
    let text = |e: Error| format!("open after a crash: {e}");
    let db = options().read_only(true).open_on(Arc::new(crashed.fork())).map_err(text)?;
    expect(&db.collection("main").map_err(text)?, model, "crashed, read-only")?;
    let db = options().open_on(Arc::new(crashed.fork())).map_err(text)?;
    expect(&db.collection("main").map_err(text)?, model, "crashed")?;
    // Without a byte to spare it may not open for writing, but says why, and still opens for reading.
    let full = crashed.fork();
    full.set_capacity(Some(1));
    match options().open_on(Arc::new(full.clone())) {
        Ok(db) => expect(&db.collection("main").map_err(text)?, model, "crashed and full")?,
        Err(Error::DiskFull(_)) => {}
        Err(e) => return Err(format!("open of a crashed database on a full disk gave {e}")),
    }
    let db = options().read_only(true).open_on(Arc::new(full.clone())).map_err(text)?;
    expect(&db.collection("main").map_err(text)?, model, "crashed, full, read-only")?;
    drop(db);
    full.set_capacity(None);
    let db = options().open_on(Arc::new(full)).map_err(text)?;
    expect(&db.collection("main").map_err(text)?, model, "crashed, full once")
}

#[test]
fn a_full_disk_is_survived_at_every_size() {
    let (mut counts, mut violations) = ([0; 3], Vec::new());
    let most = if std::env::var_os("OMENDB_LONG").is_some_and(|v| v == "1") { 1_000 } else { 40 };
    for i in 0..most {
        // Odd steps, so that the disk fills in the midst of every kind of file.
        let capacity = 24_000 + i * 1_777;
        if let Err(what) = survive(capacity, &mut counts) {
            violations.push(format!("{capacity} bytes: {what}"));
        }
    }
    let [refused, deleted, reopened] = counts;
    println!(
        "disk full: {most} sizes, {refused} writes refused, {deleted} deletes done, {reopened} reopened, {} violations",
        violations.len()
    );
    let shown: Vec<&str> = violations.iter().take(5).map(String::as_str).collect();
    assert!(violations.is_empty(), "{} violations, the first:\n{}", violations.len(), shown.join("\n"));
}

/// A small file system in memory, unmounted when dropped.
struct Mount<'a>(&'a Path);

impl Mount<'_> {
    fn new(path: &Path) -> Option<Mount<'_>> {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(path).output();
        done.is_ok_and(|o| o.status.success()).then_some(Mount(path))
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}

#[test]
fn a_real_full_file_system_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_mount) = Mount::new(dir.path()) else {
        println!("SKIPPED disk full on a real file system: mounting one needs root");
        return;
    };
    let path = dir.path().join("db.omen");
    let ballast = dir.path().join("ballast");
    std::fs::write(&ballast, vec![1; 6 << 20]).unwrap();
    let open = || Options::new().background(false).bulk_bytes(1 << 20).open(&path);
    let db = open().unwrap();
    let collection = db.create_collection("main", Schema::new(DIM, Metric::L2)).unwrap();
    let mut model = Model::new();
    let mut refused = None;
    for turn in 0..400u64 {
        let (first, rows) = (turn * 1_000, if turn % 5 == 0 { 20_000 } else { 1_000 });
        match write(&collection, first, rows, turn) {
            Ok(_) => model.extend((first..first + rows).map(|id| (id, turn))),
            Err(e) => {
                refused = Some(e);
                break;
            }
        }
    }
    assert!(matches!(refused, Some(Error::DiskFull(_))), "{refused:?}");
    expect(&collection, &model, "full").unwrap();
    for id in model.keys().copied().take(100).collect::<Vec<_>>() {
        assert_eq!(collection.delete([id]).unwrap(), 1);
        model.remove(&id);
    }
    expect(&collection, &model, "after deletes").unwrap();
    std::fs::remove_file(&ballast).unwrap();
    write(&collection, 0, 1_000, 1_000).unwrap();
    model.extend((0..1_000).map(|id| (id, 1_000)));
    db.close().unwrap();
    drop((collection, db));
    let db = open().unwrap();
    assert!(db.check(true).unwrap().problems.is_empty());
    expect(&db.collection("main").unwrap(), &model, "reopened").unwrap();
    println!("disk full on a real file system: {} records kept, 100 deletes done, 0 violations", model.len());
}
