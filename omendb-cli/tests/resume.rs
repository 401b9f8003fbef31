//! An import that is killed and started again ends with every row once.

mod common;

use common::*;
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Kills imports of `file` at moments spread over the time that one takes, then lets one end; returns how many went on
/// from a cursor.
fn killed_and_resumed(dir: &Path, file: &str, rows: u64, last: &str, kills: &[f64]) -> u64 {
    let start = Instant::now();
    omendb(dir, &["import", "whole", file, "-c", "c"]).expect(0);
    let whole = start.elapsed();
    for share in kills {
        let child = Command::new(OMENDB)
            .args(["import", "db", file, "-c", "c"])
            .current_dir(dir)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let mut child = child.expect("the import starts");
        std::thread::sleep(Duration::from_secs_f64(whole.as_secs_f64() * share));
        child.kill().expect("kill");
        child.wait().expect("its end");
    }
    let done = omendb(dir, &["import", "db", file, "-c", "c", "--json"]).expect(0).json();
    assert_eq!((&done["rows"], &done["records"]), (&json!(rows), &json!(rows)), "after kills at {kills:?}");
    let stats = omendb(dir, &["stats", "db", "--json"]).expect(0).json();
    assert_eq!(stats["stats"]["collections"].as_array().map(Vec::len), Some(1), "no trace of the import is left");
    for id in ["0", last] {
        let got = ["db", "whole"].map(|db| omendb(dir, &["get", db, id, "-c", "c", "--json"]).expect(0).json());
        assert_eq!(got[0], got[1]);
    }
    assert!(omendb(dir, &["check", "db", "--deep"]).expect(0).out.contains("no problem"));
    for db in ["db", "whole"] {
        std::fs::remove_dir_all(dir.join(db)).expect("the database is removed");
    }
    u64::from(done["resumed_from"].as_u64() > Some(0))
}

#[test]
fn killed_imports_go_on_and_every_row_is_there_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // Eight blocks of 16 MiB.
    put(dir.path(), "a.npy", npy_f32(&matrix(1, 65_536, 512), 512));
    let mut resumed = 0;
    for kills in [&[0.5][..], &[0.7], &[0.3, 0.5], &[0.9], &[0.2, 0.2, 0.2]] {
        resumed += killed_and_resumed(dir.path(), "a.npy", 65_536, "65535", kills);
    }
    assert!(resumed > 0, "no import was killed between its first block and its last");
}

#[test]
fn killed_imports_of_lines_go_on_too() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let values = matrix(2, 120_000, 64);
    let mut lines = String::new();
    for (i, v) in values.chunks_exact(64).enumerate() {
        let list: Vec<String> = v.iter().map(f32::to_string).collect();
        lines.push_str(&format!("{{\"id\": {i}, \"vector\": [{}], \"text\": \"row {i}\"}}\n", list.join(",")));
    }
    put(dir.path(), "a.jsonl", lines);
    let mut resumed = 0;
    for kills in [&[0.6][..], &[0.8], &[0.5, 0.5]] {
        resumed += killed_and_resumed(dir.path(), "a.jsonl", 120_000, "119999", kills);
    }
    assert!(resumed > 0, "no import was killed between its first block and its last");
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
