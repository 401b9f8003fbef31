//! The files of columns: made in the background, used by every handle, and made again where they are damaged.

use omendb::{Batch, Collection, Filter, Metric, Options, Schema};
use serde_json::json;
use std::path::{Path, PathBuf};

const ROWS: u64 = 3_000;

fn filters() -> [(Filter, u64); 3] {
    let sql = |text: &str| Filter::from_sql(text).unwrap();
    [(sql("n = 3"), ROWS / 10), (sql("kind = 'even' AND n >= 4"), ROWS * 3 / 10), (sql("n IS NULL"), 0)]
}

fn check(docs: &Collection, what: &str) {
    for (filter, expected) in filters() {
        assert_eq!(docs.count_matching(&filter).unwrap(), expected, "{what}: {filter:?}");
    }
}

/// The file of columns in a database whose metadata is indexed.
fn made(dir: &Path) -> PathBuf {
    let db = Options::new().background(false).open(dir).unwrap();
    let docs = db.create_collection("docs", Schema::new(1, Metric::L2)).unwrap();
    let vectors: Vec<f32> = (0..ROWS).map(|id| id as f32).collect();
    let metadata = (0..ROWS).map(|id| json!({"n": id % 10, "kind": if id % 2 == 0 { "even" } else { "odd" }}));
    let metadata: Vec<_> = metadata.collect();
    docs.upsert(Batch::new((0..ROWS).collect(), vectors).with_metadata(metadata.iter().map(Some)).unwrap()).unwrap();
    docs.wait_indexed(false).unwrap();
    check(&docs, "new");
    db.close().unwrap();
    let mut files = std::fs::read_dir(dir.join("segments")).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|e| e == "columns")).expect("there is a file of columns")
}

#[test]
fn readers_use_the_file_and_build_nothing() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let db = Options::new().read_only(true).open(dir.path()).unwrap();
    let docs = db.collection("docs").unwrap();
    check(&docs, "read-only");
    assert_eq!(docs.stats().filter_columns_bytes, 0, "the columns are mapped");
    assert!(db.check(true).unwrap().problems.is_empty());
}

#[test]
fn a_damaged_or_missing_file_costs_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(dir.path());
    let whole = std::fs::read(&path).unwrap();
    for damage in 0..5 {
        let mut bytes = whole.clone();
        match damage {
            0 => bytes[200] ^= 1,
            1 => bytes.truncate(whole.len() / 2),
            2 => bytes[30] ^= 4,
            3 => bytes.push(0),
            _ => {}
        }
        std::fs::write(&path, &bytes).unwrap();
        if damage == 4 {
            std::fs::remove_file(&path).unwrap();
        }
        let db = Options::new().background(false).open(dir.path()).unwrap();
        let docs = db.collection("docs").unwrap();
        let problems = db.check(true).unwrap().problems;
        assert_eq!(problems.len(), usize::from(damage < 4), "damage {damage}: {problems:?}");
        check(&docs, &format!("damage {damage}"));
        docs.wait_indexed(false).unwrap();
        check(&docs, &format!("damage {damage}, made again"));
        db.close().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole, "the same rows give the same bytes");
    }
}
