//! Pages of a search repeat no record and omit none, even where all distances are equal.

use omendb::{Batch, Database, IdColumn, Metric, Schema, SearchOptions};
use std::collections::BTreeSet;

#[test]
fn pages_over_equal_distances_hold_every_record_once() {
    let db = Database::in_memory().unwrap();
    let docs = db.create_collection("docs", Schema::new(2, Metric::L2)).unwrap();
    for part in 0..4u64 {
        let ids: IdColumn = (part * 50..part * 50 + 50).map(|n| n * 7919 % 1000).collect();
        docs.upsert(Batch::new(ids, vec![1.0; 100])).unwrap();
        if part == 1 {
            docs.flush().unwrap();
        }
    }
    let mut seen = BTreeSet::new();
    for page in 0..20 {
        let hits = docs.search(&[0.0, 0.0], &SearchOptions::new(10).offset(page * 10)).unwrap();
        assert_eq!((hits.len(), hits.complete), (10, false));
        for hit in hits {
            assert!(seen.insert(hit.id.clone()), "{} comes twice", hit.id);
        }
    }
    let beyond = docs.search(&[0.0, 0.0], &SearchOptions::new(10).offset(195)).unwrap();
    assert_eq!((beyond.len(), beyond.complete), (5, true));
}
