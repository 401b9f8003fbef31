//! `get` and a search for a record's own vector agree, for every record.

use crate::{data, long_run, upsert};
use omendb::{Collection, Metric, Options, Quantization, Schema, SearchOptions};

/// Queries of one batch.
const BATCH: usize = 20_000;
/// Equal vectors that are told apart: more than any data set here has.
const MOST_EQUAL: usize = 100;

/// The records that a search for their own vector does not find, or `get` does not.
fn unreachable(collection: &Collection, data: &data::Rows) -> Vec<String> {
    let (one, many) = (SearchOptions::new(1), SearchOptions::new(MOST_EQUAL));
    let mut lost = Vec::new();
    for (part, queries) in data.values.chunks(BATCH * data.dim).enumerate() {
        let found = collection.search_batch(queries, &one, 2).unwrap();
        for (i, hits) in found.iter().enumerate() {
            let (row, vector) = (part * BATCH + i, &queries[i * data.dim..][..data.dim]);
            let id = format!("row_{row}");
            let stored = collection.get(id.as_str()).unwrap();
            if stored.is_none_or(|record| record.vector.to_f32() != vector) {
                lost.push(format!("{id}: get"));
            }
            if hits[0].id.to_string() == id {
                continue;
            }
            // An equal record may stand before it, but not hide it.
            let equal = collection.search(vector, &many).unwrap();
            if !equal.iter().any(|hit| hit.id.to_string() == id) {
                lost.push(format!("{id}: search, nearest {} at {}", hits[0].id, hits[0].distance));
            }
        }
    }
    lost
}

fn every_record(data: &data::Rows, schema: Schema, name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let db = Options::new().open(dir.path().join("db")).unwrap();
    let docs = db.create_collection("docs", schema).unwrap();
    upsert(&docs, data, (0..data.len()).map(|row| (format!("row_{row}"), row)));
    docs.wait_indexed(false).unwrap();
    println!("reach, {name}: first graph, {} of {} are not found", unreachable(&docs, data).len(), data.len());
    docs.wait_indexed(true).unwrap();
    let stats = docs.stats();
    assert_eq!(stats.settled_rows, data.len() as u64, "{stats:?}");
    let lost = unreachable(&docs, data);
    println!("reach, {name}: settled, {} of {} are not found", lost.len(), data.len());
    assert!(lost.is_empty(), "{name}: {} are not found: {:?}", lost.len(), &lost[..lost.len().min(5)]);
    db.close().unwrap();
}

#[test]
fn every_record_is_found_by_its_own_vector() {
    let data = data::clustered(20_000, 24, 5);
    for metric in [Metric::L2, Metric::Cosine] {
        for quantization in [Quantization::RaBitQ, Quantization::Sq8] {
            let schema = Schema::new(data.dim, metric).with_quantization(quantization);
            every_record(&data, schema, &format!("{} {}", metric.name(), quantization.name()));
        }
    }
}

#[test]
fn every_record_of_sift_is_found_by_its_own_vector() {
    if !long_run() {
        return println!("SKIPPED: OMENDB_LONG=1 asks for every record of SIFT 1M");
    }
    let data = data::sift("base.npy", data::long_rows());
    every_record(&data, Schema::new(data.dim, Metric::L2), "SIFT");
}
