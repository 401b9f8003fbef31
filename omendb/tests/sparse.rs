//! Sparse vectors: searches have the answers of a naive dot product, to the bit, over uniform, Zipf-distributed and
//! hostile data, in memory, in segments with and without an index, with deletions and filters, after compaction and
//! reopening; every bad input is refused whole; a damaged index costs no answer.

use omendb::{Batch, Collection, Database, Error, Filter, Id, IdColumn, Options, Patch, Plan, Schema, SearchOptions};
use omendb::{Include, Metric, Sparse, VectorField};
use serde_json::json;
use std::collections::BTreeMap;

/// splitmix64
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What the weights of a set look like.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Few ids, weights of both signs.
    Uniform,
    /// Ids by Zipf's law, positive weights that are small for frequent ids: like learnt term weights.
    Zipf,
    /// Few different weights, zeros, huge, tiny and cancelling ones, empty vectors.
    Hostile,
}

fn sparse(rng: &mut Rng, kind: Kind, entries: usize) -> Sparse {
    let entry = |rng: &mut Rng| match kind {
        Kind::Uniform => (rng.below(300) as u32, rng.unit() as f32 - 0.5),
        Kind::Zipf => {
            // Of 30,000 ids, the r-th with a frequency like 1 / r.
            let rank = 30_000f64.powf(rng.unit());
            ((rank as u32).wrapping_mul(2_654_435_761), ((1.0 + rank).ln() * rng.unit()) as f32)
        }
        Kind::Hostile => {
            let weights = [0.0, -0.0, 1.0, -1.0, 1e-42, -1e-42, 1e15, -1e15, 0.5, 1e-20];
            let id = if rng.below(5) == 0 { u32::MAX - rng.below(3) as u32 } else { rng.below(12) as u32 };
            (id, weights[rng.below(weights.len())])
        }
    };
    let entries: BTreeMap<u32, f32> = (0..entries).map(|_| entry(rng)).collect();
    Sparse::new(entries).unwrap()
}

fn dot(a: &Sparse, b: &Sparse) -> f32 {
    let b: BTreeMap<u32, f32> = b.iter().collect();
    a.iter().filter_map(|(id, weight)| Some(f64::from(weight) * f64::from(*b.get(&id)?))).sum::<f64>() as f32
}

type Model = BTreeMap<u64, (Option<Sparse>, u64)>;

fn upsert(docs: &Collection, model: &mut Model, rows: Vec<(u64, Option<Sparse>)>) {
    let vectors: Vec<f32> = rows.iter().map(|(id, _)| *id as f32).collect();
    let metadata: Vec<_> = rows.iter().map(|(id, _)| json!({"n": id % 100})).collect();
    let batch = Batch::new(rows.iter().map(|(id, _)| Id::U64(*id)).collect::<Vec<_>>().iter().collect(), vectors);
    let batch = batch.with_metadata(metadata.iter().map(Some)).unwrap();
    docs.upsert(batch.with_sparse("terms", rows.iter().map(|(_, value)| value.as_ref()))).unwrap();
    model.extend(rows.into_iter().map(|(id, value)| (id, (value, id % 100))));
}

/// Compares one search with the naive one.
fn check(docs: &Collection, model: &Model, query: &Sparse, k: usize, below: Option<u64>, what: &str) {
    let mut options = SearchOptions::new(k).include(Include::NONE);
    if let Some(below) = below {
        options = options.filter(Filter::from_sql(&format!("n < {below}")).unwrap());
    }
    let hits = docs.search_sparse("terms", query, &options).unwrap();
    let score = |(value, n): &(Option<Sparse>, u64)| {
        value.as_ref().filter(|_| below.is_none_or(|below| *n < below)).map(|value| dot(query, value))
    };
    let mut exact: Vec<f32> = model.values().filter_map(score).filter(|score| *score != 0.0).collect();
    exact.sort_by(|a, b| b.total_cmp(a));
    let got: Vec<f32> = hits.iter().map(|hit| hit.score).collect();
    assert_eq!(got, exact[..k.min(exact.len())], "{what}: k {k}, n < {below:?}");
    assert_eq!(hits.complete, exact.len() < k, "{what}");
    for hit in hits.iter() {
        let Id::U64(id) = hit.id else { panic!("integer ids") };
        assert_eq!(score(&model[&id]), Some(hit.score), "{what}: {id}");
    }
}

fn check_all(docs: &Collection, model: &Model, kind: Kind, rng: &mut Rng, what: &str) {
    for entries in [1, 3, 20, 60] {
        let query = sparse(rng, kind, entries);
        for (k, below) in [(1, None), (10, None), (model.len() + 1, None), (10, Some(50)), (10, Some(2)), (7, Some(0))]
        {
            check(docs, model, &query, k, below, what);
        }
    }
    check(docs, model, &Sparse::default(), 3, None, what);
}

#[test]
fn every_layout_has_the_answers_of_a_naive_dot_product() {
    for (kind, rows, entries) in [(Kind::Uniform, 9_000, 8), (Kind::Zipf, 12_000, 60), (Kind::Hostile, 9_000, 4)] {
        let dir = tempfile::tempdir().unwrap();
        let db = Options::new().background(false).open(dir.path()).unwrap();
        let docs = db.create_collection("docs", Schema::new(1, Metric::L2).with_sparse("terms")).unwrap();
        let (mut rng, mut model) = (Rng(7), Model::new());
        let value = |rng: &mut Rng| (rng.below(10) > 0).then(|| sparse(rng, kind, entries));
        let batch = |rng: &mut Rng, ids: std::ops::Range<u64>| ids.map(|id| (id, value(rng))).collect::<Vec<_>>();
        for start in (0..rows).step_by(1_000) {
            upsert(&docs, &mut model, batch(&mut rng, start..start + 1_000));
        }
        check_all(&docs, &model, kind, &mut rng, &format!("{kind:?} in memory"));
        docs.flush().unwrap();
        check_all(&docs, &model, kind, &mut rng, &format!("{kind:?} in a segment"));
        docs.wait_indexed(false).unwrap();
        upsert(&docs, &mut model, batch(&mut rng, rows - 500..rows + 2_000));
        let gone: Vec<u64> = (0..rows).filter(|id| id % 7 == 3).collect();
        docs.delete(gone.iter().copied()).unwrap();
        gone.iter().for_each(|id| drop(model.remove(id)));
        check_all(&docs, &model, kind, &mut rng, &format!("{kind:?} in an indexed segment and in memory"));
        let query = sparse(&mut rng, kind, 20);
        let plans: Vec<Plan> = docs
            .explain_sparse("terms", &query, &SearchOptions::new(10))
            .unwrap()
            .parts
            .iter()
            .map(|part| part.plan)
            .collect();
        assert!(plans.contains(&Plan::Postings), "{plans:?}");
        docs.wait_indexed(false).unwrap();
        check_all(&docs, &model, kind, &mut rng, &format!("{kind:?} in indexed segments"));
        docs.compact().unwrap();
        docs.wait_indexed(false).unwrap();
        check_all(&docs, &model, kind, &mut rng, &format!("{kind:?} compacted"));
        drop(docs);
        db.close().unwrap();
        for options in [Options::new().background(false), Options::new().read_only(true)] {
            let db = options.open(dir.path()).unwrap();
            let docs = db.collection("docs").unwrap();
            check_all(&docs, &model, kind, &mut rng, &format!("{kind:?} reopened"));
            let plan = docs.explain_sparse("terms", &query, &SearchOptions::new(10)).unwrap();
            assert!(plan.parts.iter().all(|part| part.plan == Plan::Postings), "{plan:?}");
            for (id, (value, _)) in model.iter().step_by(97) {
                assert_eq!(docs.get(*id).unwrap().unwrap().sparse.get("terms"), value.as_ref());
            }
            assert_eq!(db.check(true).unwrap().problems, Vec::<String>::new());
        }
    }
}

fn small() -> (Database, Collection) {
    let db = Database::in_memory().unwrap();
    let schema =
        Schema::new(2, Metric::L2).with_sparse("terms").with_vectors("title", VectorField::new(2, Metric::Dot));
    let docs = db.create_collection("docs", schema).unwrap();
    (db, docs)
}

#[test]
fn an_update_changes_one_field_and_a_snapshot_keeps_the_old_one() {
    let (_db, docs) = small();
    let (old, new) = (Sparse::new([(1, 1.0)]).unwrap(), Sparse::new([(2, 3.0), (1, 0.5)]).unwrap());
    docs.upsert(Batch::one("a", vec![1.0, 2.0]).with_text([Some("words")]).with_sparse("terms", [Some(&old)])).unwrap();
    let mut before = docs.iterate().unwrap();
    let set = |value| Patch { sparse: BTreeMap::from([("terms".to_owned(), value)]), ..Patch::default() };
    docs.update("a", set(Some(new.clone()))).unwrap();
    let record = docs.get("a").unwrap().unwrap();
    assert_eq!((record.sparse["terms"].clone(), record.text.as_deref()), (new.clone(), Some("words")));
    assert_eq!(before.next().unwrap().unwrap().sparse["terms"], old);
    let hits = docs.search_sparse("terms", &old, &SearchOptions::new(3)).unwrap();
    assert_eq!((hits.len(), hits[0].score, hits[0].text.as_deref()), (1, 0.5, Some("words")));
    docs.update("a", Patch { metadata: Some(json!({"x": 1})), ..Patch::default() }).unwrap();
    assert_eq!(docs.get("a").unwrap().unwrap().sparse["terms"], new, "other updates leave it alone");
    docs.update("a", set(Some(Sparse::default()))).unwrap();
    assert_eq!(docs.get("a").unwrap().unwrap().sparse["terms"], Sparse::default(), "an empty one is there");
    docs.update("a", set(None)).unwrap();
    assert_eq!(docs.get("a").unwrap().unwrap().sparse, BTreeMap::new());
    assert!(docs.search_sparse("terms", &new, &SearchOptions::new(3)).unwrap().is_empty());
    docs.update("a", set(Some(new.clone()))).unwrap();
    docs.upsert(Batch::one("a", vec![1.0, 2.0])).unwrap();
    assert_eq!(docs.get("a").unwrap().unwrap().sparse, BTreeMap::new(), "upsert replaces the whole record");
}

#[test]
fn options_mean_what_they_mean_for_vectors() {
    let (_db, docs) = small();
    let values: Vec<Sparse> = (0..20u32).map(|n| Sparse::new([(n % 2, n as f32)]).unwrap()).collect();
    let ids: IdColumn = (0..20u64).collect();
    docs.upsert(Batch::new(ids, vec![0.5; 40]).with_sparse("terms", values.iter().map(Some))).unwrap();
    let query = Sparse::new([(0, 1.0), (1, -1.0)]).unwrap();
    let search = |options: SearchOptions| docs.search_sparse("terms", &query, &options).unwrap();
    let ids = |options| search(options).iter().map(|hit| hit.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(SearchOptions::new(2).offset(1)), ["16", "14"]);
    assert_eq!(ids(SearchOptions::new(2).exclude([Id::U64(18)])), ["16", "14"]);
    assert_eq!(ids(SearchOptions::new(9).min_score(14.0)), ["18", "16", "14"]);
    assert!(search(SearchOptions::new(9).min_score(14.0)).complete);
    // 0 scores 0; the odd ones score less.
    assert_eq!(ids(SearchOptions::new(20)).len(), 19);
    assert_eq!(search(SearchOptions::new(20))[18].score, -19.0);
    let hits = search(SearchOptions::new(1).include(Include::ALL));
    assert_eq!((hits[0].sparse["terms"].clone(), hits[0].field_scores["terms"]), (values[18].clone(), 18.0));
    assert_eq!((hits[0].vector_score, hits[0].text_score, hits[0].distance), (None, None, -18.0));
}

#[test]
fn bad_input_is_refused_whole() {
    let (db, docs) = small();
    let good = Sparse::new([(1, 1.0)]).unwrap();
    let one = |id: &str| Batch::one(id, vec![1.0, 2.0]);
    let title = || vec![1.0, 2.0];
    let refused = |batch: Batch<'_>, words: &str| match docs.upsert(batch) {
        Err(Error::InvalidInput(what)) => assert!(what.contains(words), "{what}"),
        other => panic!("{words}: {other:?}"),
    };
    refused(one("a").with_sparse("other", [Some(&good)]), "no field \"other\": terms, title");
    refused(one("a").with_sparse("title", [Some(&good)]), "field \"title\": sparse vectors were given");
    refused(one("a").with_vectors("terms", title()), "field \"terms\": vectors were given");
    refused(one("a").with_sparse("terms", [Some(&good), None]), "1 ids but 2 values");
    refused(one("a").with_vectors("title", vec![1.0]), "wrong dimension");
    refused(one("a").with_vectors("title", vec![1.0, f32::NAN]), "NaN");
    refused(one("a").with_some_vectors("title", [false], title()), "wrong dimension");
    refused(one("a").with_some_vectors("title", [true, true], title()), "1 ids but 2 values");
    refused(one("a").with_vectors("title", title()).with_vectors("title", title()), "given twice");
    assert_eq!(docs.count().unwrap(), 0);
    for (entries, words) in
        [(vec![(1, 1.0), (1, 2.0)], "twice"), (vec![(1, f32::NAN)], "NaN"), (vec![(1, 2e15)], "1e15")]
    {
        match Sparse::new(entries) {
            Err(Error::InvalidInput(what)) => assert!(what.contains(words), "{what}"),
            other => panic!("{words}: {other:?}"),
        }
    }
    assert!(matches!(Sparse::new((0..65_537).map(|id| (id, 1.0))), Err(Error::LimitExceeded(_))));
    assert_eq!(Sparse::new((0..65_536).map(|id| (id, 1.0))).unwrap().len(), 65_536);
    docs.upsert(one("a")).unwrap();
    let patch =
        |name: &str| Patch { sparse: BTreeMap::from([(name.to_owned(), Some(good.clone()))]), ..Patch::default() };
    assert!(matches!(docs.update("a", patch("title")), Err(Error::InvalidInput(_))));
    assert!(matches!(docs.update("b", patch("terms")), Err(Error::NotFound(_))));
    let search = |field: &str, options| docs.search_sparse(field, &good, &options).map(|_| ());
    for (result, words) in [
        (search("nope", SearchOptions::new(1)), "no field"),
        (search("title", SearchOptions::new(1)), "taken for a sparse vector"),
        (search("terms", SearchOptions::new(0)), "k = 0"),
        (search("terms", SearchOptions::new(1).max_distance(1.0)), "min_score"),
        (search("terms", SearchOptions::new(1).mmr(0.5)), "mmr"),
    ] {
        match result {
            Err(Error::InvalidInput(what)) => assert!(what.contains(words), "{what}"),
            other => panic!("{words}: {other:?}"),
        }
    }
    let base = || Schema::new(2, Metric::L2);
    let many = (0..17).fold(base(), |schema, n| schema.with_sparse(format!("f{n}")));
    for schema in [
        base().with_sparse(""),
        base().with_sparse("text"),
        base().with_sparse("a").with_vectors("a", VectorField::new(2, Metric::L2)),
        base().with_vectors("a", VectorField::new(0, Metric::L2)),
        base().with_vectors("a", VectorField::new(2, Metric::Hamming)),
        base().with_sparse("a\nb"),
        many,
    ] {
        let made = db.create_collection("other", schema.clone());
        assert!(matches!(made, Err(Error::InvalidInput(_) | Error::LimitExceeded(_))), "{schema:?}");
    }
}

#[test]
fn a_damaged_or_missing_index_costs_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rng, mut model) = (Rng(3), Model::new());
    let schema = Schema::new(1, Metric::L2).with_sparse("terms");
    {
        let db = Options::new().background(false).open(dir.path()).unwrap();
        let docs = db.create_collection("docs", schema).unwrap();
        upsert(&docs, &mut model, (0..3_000).map(|id| (id, Some(sparse(&mut rng, Kind::Zipf, 20)))).collect());
        docs.wait_indexed(false).unwrap();
        db.close().unwrap();
    }
    let path = std::fs::read_dir(dir.path().join("segments")).unwrap().map(|entry| entry.unwrap().path());
    let path = path.into_iter().find(|path| path.extension().is_some_and(|e| e == "sparse")).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for damage in 0..4 {
        let mut bytes = whole.clone();
        match damage {
            0 => bytes[200] ^= 1,
            1 => bytes.truncate(whole.len() / 2),
            2 => bytes[30] ^= 4,
            _ => {}
        }
        std::fs::write(&path, &bytes).unwrap();
        if damage == 3 {
            std::fs::remove_file(&path).unwrap();
        }
        let db = Options::new().background(false).open(dir.path()).unwrap();
        let docs = db.collection("docs").unwrap();
        check_all(&docs, &model, Kind::Zipf, &mut rng, &format!("damage {damage}"));
        docs.wait_indexed(false).unwrap();
        check_all(&docs, &model, Kind::Zipf, &mut rng, &format!("damage {damage}, made again"));
        db.close().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole, "the same rows give the same bytes");
    }
}
