//! A database of every released format opens and answers, for ever. `OMENDB_WRITE_GOLDEN=1` writes the one of the
//! current format anew, which is right only before its release.

use omendb::{
    Batch, Collection, Database, Element, Id, IdColumn, Metric, Options, Plan, Schema, SearchOptions, Sparse, Vector,
    VectorField, Vectors,
};
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

/// Further fields in a segment with graphs and indexes on disk, with tombstones, and in the log.
fn write_fields(path: &Path) {
    let db = Options::new().seed(2).background(false).open(path).unwrap();
    let title = VectorField::new(3, Metric::Dot).with_element(Element::I8);
    let schema = Schema::new(2, Metric::L2).with_vectors("title", title).with_sparse("terms");
    let docs = db.create_collection("papers", schema).unwrap();
    upsert_fields(&docs, 0..30);
    docs.wait_indexed(false).unwrap();
    docs.delete((0..30u64).step_by(7)).unwrap();
    db.flush().unwrap();
    upsert_fields(&docs, 30..35);
    db.close().unwrap();
}

fn title(n: u64) -> Option<Vec<i8>> {
    (!n.is_multiple_of(3)).then(|| vec![n as i8, -(n as i8), 7])
}

fn terms(n: u64) -> Option<Sparse> {
    let entries = [(n as u32 % 5, n as f32 + 0.25), (u32::MAX - n as u32, -1.0)];
    (!n.is_multiple_of(4)).then(|| Sparse::new(entries).unwrap())
}

fn upsert_fields(docs: &Collection, range: std::ops::Range<u64>) {
    let titles: Vec<i8> = range.clone().filter_map(title).flatten().collect();
    let terms: Vec<Option<Sparse>> = range.clone().map(terms).collect();
    let vectors: Vec<f32> = range.clone().flat_map(|n| [n as f32, 0.0]).collect();
    let batch = Batch::new(range.clone().collect(), vectors)
        .with_some_vectors("title", range.map(|n| title(n).is_some()), Vectors::I8(titles.into()))
        .with_sparse("terms", terms.iter().map(Option::as_ref));
    docs.upsert(batch).unwrap();
}

#[test]
fn further_fields_of_every_released_format_are_read() {
    let format = "1.0-fields";
    if std::env::var_os("OMENDB_WRITE_GOLDEN").is_some() {
        let _ = std::fs::remove_dir_all(golden(format));
        write_fields(&golden(format));
    }
    let dir = tempfile::tempdir().unwrap();
    copy(&golden(format), dir.path());
    let db = Options::new().background(false).open(dir.path()).unwrap();
    assert_eq!(db.check(true).unwrap().problems, Vec::<String>::new());
    let docs = db.collection("papers").unwrap();
    let live: Vec<u64> = (0..35).filter(|n| *n >= 30 || n % 7 != 0).collect();
    assert_eq!(docs.count().unwrap(), live.len() as u64);
    for n in &live {
        let record = docs.get(*n).unwrap().unwrap();
        assert_eq!(record.vectors.get("title").cloned(), title(*n).map(Vector::I8), "{n}");
        assert_eq!(record.sparse.get("terms").cloned(), terms(*n), "{n}");
    }
    let query = Sparse::new([(3, 1.0)]).unwrap();
    let told = docs.explain_sparse("terms", &query, &SearchOptions::new(50)).unwrap();
    let found: Vec<Id> = told.hits.iter().map(|hit| hit.id.clone()).collect();
    let mut expected: Vec<u64> = live.iter().copied().filter(|n| n % 5 == 3 && n % 4 != 0).collect();
    expected.reverse();
    assert_eq!(found, expected.into_iter().map(Id::U64).collect::<Vec<_>>());
    assert_eq!(told.parts[0].plan, Plan::Postings, "the index that was stored is used");
    let hits = docs.search(Vectors::I8(vec![1, 0, 0].into()), &SearchOptions::new(1).using("title")).unwrap();
    assert_eq!(hits[0].id, Id::U64(34));
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
