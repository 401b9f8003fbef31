//! The compact profile holds no more than the codes in memory, and not even these where the budget is too small.

use crate::{data, recall, upsert};
use omendb::{Collection, Database, Metric, Options, Profile, Schema};
use std::path::Path;

const BUDGET: u64 = 16 << 20;

fn open(path: &Path, budget: u64, dim: usize) -> (Database, Collection) {
    // A small log makes small segments: one that is too large for the budget by itself would get no graph.
    let db = Options::new().memory_budget(budget).log_cap(4 << 20).open(path).unwrap();
    let schema = Schema::new(dim, Metric::L2).with_profile(Profile::Compact);
    let docs = db.get_or_create_collection("docs", schema).unwrap();
    (db, docs)
}

#[test]
fn only_codes_are_kept_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let data = data::clustered(12_000, 128, 21);
    for reopened in [false, true] {
        let (db, docs) = open(dir.path(), 1 << 30, data.dim);
        if !reopened {
            upsert(&docs, &data, (0..data.len()).map(|row| (format!("row_{row}"), row)));
        }
        docs.wait_indexed(true).unwrap();
        let stats = docs.stats();
        assert_eq!(stats.settled_rows, data.len() as u64);
        // A byte a dimension, and the number of the row; vectors take four times as much.
        assert!(stats.graph_bytes <= 140 * data.len() as u64, "{stats:?}");
        let found = recall(&docs, &data::Rows { dim: data.dim, values: data.values[..200 * data.dim].to_vec() });
        assert!(found >= 0.93, "recall {found}");
        db.close().unwrap();
    }
}

#[test]
fn what_does_not_fit_the_budget_is_indexed_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let data = data::clustered(60_000, 96, 11);
    assert!(data.values.len() as u64 * 4 > BUDGET);
    for reopened in [false, true] {
        let (db, docs) = open(dir.path(), BUDGET, data.dim);
        if !reopened {
            upsert(&docs, &data, (0..data.len()).map(|row| (format!("row_{row}"), row)));
        }
        docs.wait_indexed(true).unwrap();
        let (all, stats) = (db.stats(), docs.stats());
        assert_eq!((stats.indexed_rows, stats.unindexed_rows), (data.len() as u64, 0), "{stats:?}");
        assert!(stats.graph_bytes <= BUDGET / 4 && all.memory_used <= BUDGET, "{all:?}");
        let found = recall(&docs, &data::Rows { dim: data.dim, values: data.values[..200 * data.dim].to_vec() });
        assert!(found >= 0.93, "recall {found}");
        assert_eq!(docs.count().unwrap(), data.len() as u64);
        db.close().unwrap();
    }
}
