//! Vector, text and filter in one search.

use super::*;
use omendb::{Error, Filter, Fuse};
use serde_json::json;
use std::collections::HashMap;

const N: usize = 5_000;

fn collection() -> (Database, Collection) {
    let (db, docs) = in_memory(schema());
    let records = &glosses()[..N];
    for (start, chunk) in records.chunks(1_000).enumerate() {
        let rows = start * 1_000..start * 1_000 + chunk.len();
        let vectors: Vec<f32> = rows.clone().flat_map(|i| [(i * 7919 % N) as f32, 0.0]).collect();
        let metadata: Vec<_> = rows.map(|i| json!({"n": i})).collect();
        let batch = Batch::new(chunk.iter().map(|(id, _)| id.as_str()).collect(), vectors);
        let batch = batch.with_metadata(metadata.iter().map(Some)).unwrap();
        docs.upsert(batch.with_text(chunk.iter().map(|(_, gloss)| Some(gloss.as_str())))).unwrap();
        if start == 2 {
            db.flush().unwrap();
        }
    }
    (db, docs)
}

/// Both rankings, fused in the plainest way.
fn naive(docs: &Collection, vector: &[f32], text: &str, options: &SearchOptions) -> Vec<(String, f32)> {
    let depth = (2 * (options.k + options.offset)).max(100);
    let deep = SearchOptions { k: depth, offset: 0, min_score: None, ..options.clone() };
    let mut scores: HashMap<String, f32> = HashMap::new();
    for hits in [docs.search(vector, &deep).unwrap(), docs.search_text(text, &deep).unwrap()] {
        for (rank, hit) in hits.iter().enumerate() {
            *scores.entry(hit.id.to_string()).or_default() += 61.0 / (61.0 + rank as f32) / 2.0;
        }
    }
    let mut order: Vec<_> = scores.into_iter().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    order.into_iter().skip(options.offset).take(options.k).collect()
}

#[test]
fn rank_fusion_is_as_defined_and_scores_are_exact() {
    let (_db, docs) = collection();
    let mut next = numbers(5);
    for text in ["large animal", "\"of or relating\"", "person who makes", "water*", "absent", "the -a"] {
        for filter in [None, Some("n < 40"), Some("n >= 2500")] {
            let vector = [next(N) as f32, 0.0];
            let mut options = SearchOptions::new(10);
            options.filter = filter.map(|sql| Filter::from_sql(sql).unwrap());
            let hits = docs.search_hybrid(&vector, text, &options).unwrap();
            assert_eq!((hits.len(), hits.complete), (10, false));
            let expected = naive(&docs, &vector, text, &options);
            for (hit, (_, score)) in hits.iter().zip(&expected) {
                assert!((hit.score - score).abs() < 1e-6, "{text}: {hits:?} {expected:?}");
            }
            let all = SearchOptions { k: N, ..options.clone() };
            let by_id = |hits: Hits| -> HashMap<String, f32> {
                hits.iter().map(|hit| (hit.id.to_string(), hit.score)).collect()
            };
            let near = by_id(docs.search(&vector, &all.clone().recall(1.0)).unwrap());
            let told = by_id(docs.search_text(text, &all).unwrap());
            for hit in hits.iter() {
                let id = hit.id.to_string();
                assert_eq!(hit.vector_score, near.get(&id).copied(), "{text}: {id}");
                assert_eq!(hit.text_score, told.get(&id).copied(), "{text}: {id}");
                assert_eq!(Some(-hit.distance), hit.vector_score);
            }
        }
    }
}

#[test]
fn all_matches_come_and_pages_neither_repeat_nor_omit() {
    let (_db, docs) = collection();
    let few = SearchOptions::new(50).filter(Filter::from_sql("n < 30").unwrap());
    let hits = docs.search_hybrid(&[10.0, 0.0], "the of", &few).unwrap();
    assert_eq!((hits.len(), hits.complete), (30, true));
    let good = docs.search_hybrid(&[10.0, 0.0], "the of", &few.clone().min_score(0.6)).unwrap();
    assert!(!good.is_empty() && good.len() < 30 && good.complete && good.iter().all(|hit| hit.score >= 0.6));
    let none = few.clone().filter(Filter::from_sql("n < 0").unwrap());
    let hits = docs.search_hybrid(&[10.0, 0.0], "the of", &none).unwrap();
    assert!(hits.is_empty() && hits.complete);
    let whole = docs.search_hybrid(&[10.0, 0.0], "the person", &SearchOptions::new(40)).unwrap();
    let mut paged = Vec::new();
    for offset in (0..40).step_by(8) {
        paged.extend(docs.search_hybrid(&[10.0, 0.0], "the person", &SearchOptions::new(8).offset(offset)).unwrap());
    }
    assert_eq!(paged, whole.hits);
}

#[test]
fn weights_reach_from_one_order_to_the_other() {
    let (_db, docs) = collection();
    let (vector, text) = ([1234.0, 0.0], "person who water");
    let weighted = |alpha| SearchOptions::new(20).fuse(Fuse::Weighted { alpha });
    let near = docs.search(&vector, &SearchOptions::new(20)).unwrap();
    let told = docs.search_text(text, &SearchOptions::new(20)).unwrap();
    assert_eq!(ids(&docs.search_hybrid(&vector, text, &weighted(1.0)).unwrap()), ids(&near));
    let scores = |hits: &Hits| hits.iter().map(|hit| hit.text_score.unwrap().to_bits()).collect::<Vec<_>>();
    assert_eq!(scores(&docs.search_hybrid(&vector, text, &weighted(0.0)).unwrap()), scores(&told));
    let both = docs.search_hybrid(&vector, text, &weighted(0.5)).unwrap();
    assert!(both.windows(2).all(|pair| pair[0].score >= pair[1].score) && both[0].score <= 1.0);
    for alpha in [-0.1, 1.1, f32::NAN] {
        let refused = docs.search_hybrid(&vector, text, &weighted(alpha));
        assert!(matches!(refused, Err(Error::InvalidInput(_))), "{refused:?}");
    }
    let refused = docs.search_hybrid(&[1.0], text, &SearchOptions::new(1));
    assert!(matches!(refused, Err(Error::InvalidInput(_))), "{refused:?}");
}
