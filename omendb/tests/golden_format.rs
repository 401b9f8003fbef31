//! A database of every released format opens and answers, for ever. `OMENDB_WRITE_GOLDEN=1` writes the one of the
//! current format anew, which is right only before its release.

use omendb::{Batch, Database, Element, Id, IdColumn, Metric, Options, Schema, SearchOptions, Vector, Vectors};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const FORMATS: &[&str] = &["1.0"];

fn golden(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format)
}

fn vector(n: u64) -> Vec<f32> {
    (0..8).map(|i| ((n * 31 + i * 17) % 101) as f32 - 50.0).collect()
}

fn metadata(n: u64) -> Option<Value> {
    (!n.is_multiple_of(3))
        .then(|| json!({"n": n, "big": u64::MAX, "tags": ["a", null, 1.5], "deep": {"day": "2026-11-21"}}))
}

fn text(n: u64) -> Option<String> {
    (n.is_multiple_of(2)).then(|| format!("text of {n} 🙂"))
}

fn id(n: u64) -> Id {
    if n.is_multiple_of(5) { Id::U64(n) } else { Id::Str(format!("id {n} é")) }
}

fn upsert(db: &Database, range: std::ops::Range<u64>) {
    let docs = db.collection("docs").unwrap();
    let ids: Vec<Id> = range.clone().map(id).collect();
    let vectors: Vec<f32> = range.clone().flat_map(vector).collect();
    let metadata: Vec<_> = range.clone().map(metadata).collect();
    let texts: Vec<_> = range.map(text).collect();
    let batch = Batch::new(ids.iter().collect::<IdColumn>(), vectors)
        .with_metadata(metadata.iter().map(Option::as_ref))
        .unwrap()
        .with_text(texts.iter().map(Option::as_deref));
    docs.upsert(batch).unwrap();
}

/// Segments with tombstones, records in the log, a second collection of bits.
fn write(path: &Path) {
    let db = Options::new().seed(1).background(false).open(path).unwrap();
    let docs = db.create_collection("docs", Schema::new(8, Metric::L2)).unwrap();
    let bits = db.create_collection("bits", Schema::new(12, Metric::Hamming).with_element(Element::Bits)).unwrap();
    bits.upsert(Batch::one("b", Vectors::Bits(vec![0x5a, 0x0f].into()))).unwrap();
    upsert(&db, 0..100);
    db.flush().unwrap();
    upsert(&db, 100..150);
    let gone: Vec<Id> = (0..150).step_by(7).map(id).collect();
    docs.delete(&gone).unwrap();
    db.flush().unwrap();
    upsert(&db, 150..160);
    docs.delete([&id(151)]).unwrap();
    db.close().unwrap();
}

fn expected() -> Vec<u64> {
    (0..160).filter(|n| (*n >= 150 || n % 7 != 0) && *n != 151).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &target) } else { drop(std::fs::copy(entry.path(), target)) }
    }
}

#[test]
fn every_released_format_opens_and_answers() {
    for format in FORMATS {
        if std::env::var_os("OMENDB_WRITE_GOLDEN").is_some() && Some(format) == FORMATS.last() {
            let _ = std::fs::remove_dir_all(golden(format));
            write(&golden(format));
        }
        let dir = tempfile::tempdir().unwrap();
        copy(&golden(format), dir.path());
        let db = Database::open(dir.path()).unwrap();
        let report = db.check(true).unwrap();
        assert_eq!(report.problems, Vec::<String>::new(), "{format}");
        let docs = db.collection("docs").unwrap();
        assert_eq!(docs.count().unwrap(), expected().len() as u64, "{format}");
        for n in expected() {
            let record = docs.get(&id(n)).unwrap().unwrap();
            assert_eq!(record.vector, Vector::F32(vector(n)), "{format}: {n}");
            assert_eq!((record.metadata, record.text), (metadata(n), text(n)), "{format}: {n}");
            let hits = docs.search(vector(n), &SearchOptions::new(1)).unwrap();
            assert_eq!(hits[0].distance, 0.0, "{format}: {n}");
        }
        assert_eq!(docs.get(&id(7)).unwrap(), None);
        let bits = db.collection("bits").unwrap().get("b").unwrap().unwrap();
        assert_eq!(bits.vector, Vector::Bits(vec![0x5a, 0x0f]));
        println!("golden format {format}: {} records", expected().len());
    }
}
