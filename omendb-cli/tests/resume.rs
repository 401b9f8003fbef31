//! An import that is killed and started again ends with every row once.

mod common;

use common::*;
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Number of files that hold records: the import makes one a block.
fn data_files(db: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(db.join("segments")) else { return 0 };
    entries.flatten().filter(|e| e.path().extension().is_some_and(|x| x == "data")).count()
}

/// Starts an import and kills it when there are `files` files: all but the last of these blocks are acknowledged then.
fn start_and_kill(dir: &Path, file: &str, files: usize) {
    let db = dir.join("db");
    let mut command = Command::new(OMENDB);
    command.args(["import", "db", file, "-c", "c"]).current_dir(dir).stderr(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().expect("the import starts");
    let start = Instant::now();
    while data_files(&db) < files && child.try_wait().expect("its state").is_none() {
        assert!(start.elapsed() < Duration::from_secs(120), "the import hangs");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("kill");
    child.wait().expect("its end");
}

/// Kills imports of `file` when there are so many files, then lets one end, and compares with an import that was let
/// alone.
fn killed_and_resumed(dir: &Path, file: &str, rows: u64, kills: &[usize]) {
    for files in kills {
        start_and_kill(dir, file, *files);
    }
    let done = omendb(dir, &["import", "db", file, "-c", "c", "--json"]).expect(0).json();
    assert_eq!((&done["rows"], &done["records"]), (&json!(rows), &json!(rows)), "after kills at {kills:?}");
    if kills.iter().any(|files| *files > 1) {
        assert!(done["resumed_from"].as_u64() > Some(0), "{done} after kills at {kills:?}");
    }
    let stats = omendb(dir, &["stats", "db", "--json"]).expect(0).json();
    assert_eq!(stats["stats"]["collections"].as_array().map(Vec::len), Some(1), "no trace of the import is left");
    let records = |name: &str| {
        let db = omendb::Database::open(dir.join(name)).expect("open");
        let collection = db.collection("c").expect("the collection");
        let mut records: Vec<_> = collection.iterate().expect("iterate").map(|r| r.expect("a record")).collect();
        records.sort_by(|a, b| a.id.cmp(&b.id));
        records
    };
    assert!(records("db") == records("whole"), "after kills at {kills:?}");
    assert!(omendb(dir, &["check", "db", "--deep"]).expect(0).out.contains("no problem"));
    std::fs::remove_dir_all(dir.join("db")).expect("the database is removed");
}

#[test]
fn killed_imports_go_on_and_every_row_is_there_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // Four blocks of 16 MiB.
    put(dir.path(), "a.npy", npy_f32(&matrix(1, 32_768, 512), 512));
    omendb(dir.path(), &["import", "whole", "a.npy", "-c", "c"]).expect(0);
    for kills in [&[1][..], &[2], &[3], &[2, 3]] {
        killed_and_resumed(dir.path(), "a.npy", 32_768, kills);
    }
}

#[test]
fn killed_imports_of_lines_go_on_too() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let values = matrix(2, 60_000, 128);
    let mut lines = String::new();
    for (i, v) in values.chunks_exact(128).enumerate() {
        let list: Vec<String> = v.iter().map(f32::to_string).collect();
        lines.push_str(&format!("{{\"id\": {i}, \"vector\": [{}], \"text\": \"row {i}\"}}\n", list.join(",")));
    }
    put(dir.path(), "a.jsonl", lines);
    omendb(dir.path(), &["import", "whole", "a.jsonl", "-c", "c"]).expect(0);
    for kills in [&[2][..], &[1, 2]] {
        killed_and_resumed(dir.path(), "a.jsonl", 60_000, kills);
    }
}

#[test]
fn a_cursor_is_not_trusted_for_another_file_or_collection() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut values = matrix(3, 12_000, 1024);
    put(dir.path(), "a.npy", npy_f32(&values, 1024));
    // The second block (rows 4,096 on) is bad: the import stops with a cursor behind the first.
    values[5_000 * 1024] = f32::NAN;
    let bad = npy_f32(&values, 1024);
    let good = std::fs::read(dir.path().join("a.npy")).expect("the good file");
    put(dir.path(), "a.npy", &bad);
    omendb(dir.path(), &["import", "db", "a.npy"]).expect(3);
    let again = omendb(dir.path(), &["import", "db", "a.npy", "--json"]).expect(3);
    assert!(again.err.contains("row 5000"), "rows keep their numbers when an import goes on: {again:?}");
    // The repaired file is another file.
    put(dir.path(), "a.npy", &good);
    let done = omendb(dir.path(), &["import", "db", "a.npy", "--json"]).expect(0).json();
    assert_eq!((&done["resumed_from"], &done["records"]), (&json!(0), &json!(12_000)));
    // The same bad file into another collection begins at its first row.
    put(dir.path(), "a.npy", &bad);
    omendb(dir.path(), &["import", "db", "a.npy", "-c", "other"]).expect(3);
    let stats = omendb(dir.path(), &["stats", "db", "--json"]).expect(0).json();
    assert_eq!(stats["stats"]["records"], 12_000 + 4_096);
}
