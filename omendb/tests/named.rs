//! Named vectors: several vectors of different size, element type and metric in one record, searched like the records'
//! own, with those of records that lack them passed over. Against brute force, in memory, in segments with and without
//! graphs, with deletions and filters, after compaction and reopening; and together with texts and sparse vectors.

use omendb::{
    Batch, Collection, Database, Element, Error, Filter, Fuse, Hits, Id, IdColumn, Include, Metric, Options, Patch,
    Plan, Query, Schema, SearchOptions, Sparse, VectorField, Vectors,
};
use serde_json::json;
use std::collections::{BTreeMap, HashSet};

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

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5).collect()
    }

    fn bytes(&mut self, n: usize) -> Vec<i8> {
        (0..n).map(|_| self.next() as i8).collect()
    }
}

const TITLE: usize = 24;
const IMAGE: usize = 40;

/// `title` is in every record, `image` in some.
fn schema() -> Schema {
    Schema::new(4, Metric::L2)
        .with_vectors("title", VectorField::new(TITLE, Metric::Cosine))
        .with_sparse("terms")
        .with_vectors("image", VectorField::new(IMAGE, Metric::Dot).with_element(Element::I8))
}

#[derive(Clone)]
struct Row {
    title: Vec<f32>,
    image: Option<Vec<i8>>,
    n: u64,
}

type Model = BTreeMap<u64, Row>;

fn upsert(docs: &Collection, model: &mut Model, rng: &mut Rng, ids: std::ops::Range<u64>) {
    let row = |rng: &mut Rng, id| Row {
        title: rng.floats(TITLE),
        image: (rng.below(3) > 0).then(|| rng.bytes(IMAGE)),
        n: id % 100,
    };
    let rows: Vec<(u64, Row)> = ids.map(|id| (id, row(rng, id))).collect();
    let metadata: Vec<_> = rows.iter().map(|(_, row)| json!({"n": row.n})).collect();
    let column: IdColumn = rows.iter().map(|(id, _)| *id).collect();
    let titles: Vec<f32> = rows.iter().flat_map(|(_, row)| row.title.clone()).collect();
    let images: Vec<i8> = rows.iter().filter_map(|(_, row)| row.image.clone()).flatten().collect();
    let batch = Batch::new(column, vec![1f32; rows.len() * 4])
        .with_metadata(metadata.iter().map(Some))
        .unwrap()
        .with_vectors("title", titles)
        .with_some_vectors("image", rows.iter().map(|(_, row)| row.image.is_some()), Vectors::I8(images.into()));
    docs.upsert(batch).unwrap();
    model.extend(rows);
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn dot(a: &[i8], b: &[i8]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Checks hits against the scores of all records that may be hits; with `least`, that share of the best is enough.
fn check(hits: &Hits, field: &str, exact: &BTreeMap<u64, f64>, k: usize, least: f64, what: &str) {
    let mut best: Vec<f64> = exact.values().copied().collect();
    best.sort_by(|a, b| b.total_cmp(a));
    best.truncate(k);
    assert_eq!(hits.len(), best.len(), "{what}");
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-4 * (1.0 + a.abs());
    for hit in hits.iter() {
        let Id::U64(id) = hit.id else { panic!("integer ids") };
        let expected = exact.get(&id).unwrap_or_else(|| panic!("{what}: {id} is no hit"));
        assert!(close(*expected, f64::from(hit.score)), "{what}: {id} scores {}, not {expected}", hit.score);
        assert_eq!((hit.field_scores.get(field), hit.vector_score), (Some(&hit.score), None), "{what}");
    }
    let Some(last) = best.last() else { return };
    let right = hits.iter().filter(|hit| f64::from(hit.score) >= last - 1e-4 * (1.0 + last.abs())).count();
    assert!(right as f64 >= least * best.len() as f64, "{what}: {right} of the best {}", best.len());
}

fn check_all(docs: &Collection, model: &Model, rng: &mut Rng, least: f64, what: &str) {
    for (filter, below) in [(None, 100), (Some("n < 40"), 40), (Some("n < 1"), 1), (Some("n < 0"), 0)] {
        for recall in [1.0, 0.95] {
            let options = |field: &str| {
                let options = SearchOptions::new(10).recall(recall).using(field).include(Include::NONE);
                filter.map_or(options.clone(), |sql| options.clone().filter(Filter::from_sql(sql).unwrap()))
            };
            let least = if recall == 1.0 { 1.0 } else { least };
            let passing = || model.iter().filter(|(_, row)| row.n < below);
            let (title, image) = (rng.floats(TITLE), rng.bytes(IMAGE));
            let exact = passing().map(|(id, row)| (*id, cosine(&row.title, &title))).collect();
            let hits = docs.search(&title, &options("title")).unwrap();
            check(&hits, "title", &exact, 10, least, &format!("{what}, title, {filter:?}, recall {recall}"));
            let exact = passing().filter_map(|(id, row)| Some((*id, dot(row.image.as_ref()?, &image)))).collect();
            let hits = docs.search(Vectors::I8(image.clone().into()), &options("image")).unwrap();
            check(&hits, "image", &exact, 10, least, &format!("{what}, image, {filter:?}, recall {recall}"));
            let many = docs.search_batch(Vectors::I8([image.clone(), image].concat().into()), &options("image"), 2);
            let ids = |hits: &Hits| hits.iter().map(|hit| hit.id.clone()).collect::<Vec<_>>();
            assert!(many.unwrap().iter().all(|more| ids(more) == ids(&hits)), "{what}");
        }
    }
}

#[test]
fn every_layout_has_the_answers_of_brute_force() {
    let dir = tempfile::tempdir().unwrap();
    let db = Options::new().background(false).open(dir.path()).unwrap();
    let docs = db.create_collection("docs", schema()).unwrap();
    let (mut rng, mut model) = (Rng(5), Model::new());
    for start in (0..6_000).step_by(1_500) {
        upsert(&docs, &mut model, &mut rng, start..start + 1_500);
    }
    check_all(&docs, &model, &mut rng, 1.0, "in memory");
    docs.flush().unwrap();
    check_all(&docs, &model, &mut rng, 1.0, "in a segment");
    docs.wait_indexed(false).unwrap();
    let gone: Vec<u64> = (0..6_000).filter(|id| id % 5 == 2).collect();
    docs.delete(gone.iter().copied()).unwrap();
    gone.iter().for_each(|id| drop(model.remove(id)));
    upsert(&docs, &mut model, &mut rng, 5_900..6_300);
    // Graphs are asked for .95; one query of ten hits may miss a few.
    check_all(&docs, &model, &mut rng, 0.6, "with graphs, deletions and records in memory");
    for field in ["title", "image"] {
        let options = SearchOptions::new(10).using(field);
        let told = match field {
            "title" => docs.explain(rng.floats(TITLE), &options).unwrap(),
            _ => docs.explain(Vectors::I8(rng.bytes(IMAGE).into()), &options).unwrap(),
        };
        assert!(told.parts.iter().any(|part| part.plan == Plan::Graph), "{field}: {told:?}");
        let measured = docs.recall(100, &options).unwrap();
        assert!(measured.recall > 0.9 && measured.queries > 50, "{field}: {measured:?}");
    }
    docs.compact().unwrap();
    docs.wait_indexed(false).unwrap();
    check_all(&docs, &model, &mut rng, 0.6, "compacted");
    drop(docs);
    db.close().unwrap();
    let db = Options::new().background(false).open(dir.path()).unwrap();
    let docs = db.collection("docs").unwrap();
    docs.wait_indexed(false).unwrap();
    check_all(&docs, &model, &mut rng, 0.6, "reopened");
    assert_eq!(db.check(true).unwrap().problems, Vec::<String>::new());
    let files: Vec<String> = std::fs::read_dir(dir.path().join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for ending in [".0.index", ".2.index"] {
        assert_eq!(files.iter().filter(|name| name.ends_with(ending)).count(), 1, "{files:?}");
    }
    for (id, row) in model.iter().step_by(131) {
        let record = docs.get(*id).unwrap().unwrap();
        assert_eq!(record.vectors["title"], omendb::Vector::F32(row.title.clone()));
        assert_eq!(record.vectors.get("image").cloned(), row.image.clone().map(omendb::Vector::I8));
    }
}

fn small() -> (Database, Collection) {
    let db = Database::in_memory().unwrap();
    let schema = Schema::new(1, Metric::L2)
        .with_vectors("title", VectorField::new(2, Metric::Cosine))
        .with_vectors("hash", VectorField::new(12, Metric::Hamming).with_element(Element::Bits))
        .with_sparse("terms");
    let docs = db.create_collection("docs", schema).unwrap();
    (db, docs)
}

#[test]
fn every_kind_of_search_takes_a_field() {
    let (_db, docs) = small();
    let titles = vec![1.0, 0.0, 0.9, 0.1, 0.0, 1.0];
    let metadata: Vec<_> = ["x", "x", "y", "y"].map(|group| json!({"group": group})).into();
    let ids: IdColumn = ["a", "b", "c", "d"].into_iter().collect();
    let batch = Batch::new(ids, vec![0.0, 1.0, 2.0, 3.0])
        .with_metadata(metadata.iter().map(Some))
        .unwrap()
        .with_some_vectors("title", [true, true, true, false], titles)
        .with_some_vectors("hash", [false, true, true, true], Vectors::Bits(vec![1, 0, 3, 0, 255, 15].into()));
    docs.upsert(batch).unwrap();
    let title = || SearchOptions::new(9).using("title");
    let ids = |hits: &Hits| hits.iter().map(|hit| hit.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(&docs.search(&[1.0, 0.0], &title()).unwrap()), ["a", "b", "c"]);
    assert!(docs.search(&[1.0, 0.0], &title()).unwrap().complete);
    assert_eq!(ids(&docs.search(&[1.0, 0.0], &title().max_distance(0.5)).unwrap()), ["a", "b"]);
    assert_eq!(ids(&docs.search(&[1.0, 0.0], &title().min_score(0.999)).unwrap()), ["a"]);
    assert_eq!(ids(&docs.search(&[1.0, 0.0], &SearchOptions { k: 2, ..title() }.mmr(0.1)).unwrap()), ["a", "c"]);
    assert_eq!(ids(&docs.search_like("a", &title()).unwrap()), ["b", "c"]);
    let hash = SearchOptions::new(9).using("hash");
    assert_eq!(ids(&docs.search(Vectors::Bits(vec![1, 0].into()), &hash).unwrap()), ["b", "c", "d"]);
    let groups = docs.search_groups(&[0.0, 1.0], "group", 1, &title()).unwrap();
    let values: Vec<_> = groups.groups.iter().map(|group| (group.value.clone(), ids(&group.hits))).collect();
    assert_eq!(values, [(json!("y"), vec!["c".to_owned()]), (json!("x"), vec!["b".to_owned()])]);
    let hit = &docs.search(&[1.0, 0.0], &title().include(Include::ALL)).unwrap()[0];
    assert_eq!(hit.vectors.keys().collect::<Vec<_>>(), ["title"]);
    assert!(docs.search(&[1.0, 0.0], &title()).unwrap()[0].vectors.is_empty(), "fields come when they are asked for");
    let refused = |result: omendb::Result<Hits>, words: &str| match result {
        Err(e @ (Error::InvalidInput(_) | Error::NotFound(_))) => assert!(e.to_string().contains(words), "{e}"),
        other => panic!("{words}: {other:?}"),
    };
    refused(docs.search(&[1.0], &SearchOptions::new(1).using("nope")), "no field \"nope\"");
    refused(docs.search(&[1.0], &SearchOptions::new(1).using("terms")), "taken for a vector");
    refused(docs.search(&[1.0], &title()), "field \"title\": wrong dimension");
    refused(docs.search(&[0.0, 0.0], &title()), "is zero");
    refused(docs.search_like("d", &title()), "has no \"title\"");
    let change = |value| Patch { vectors: BTreeMap::from([("title".to_owned(), value)]), ..Patch::default() };
    docs.update("d", change(Some(vec![1.0, 0.0].into()))).unwrap();
    docs.update("a", change(None)).unwrap();
    assert_eq!(ids(&docs.search(&[1.0, 0.0], &title()).unwrap()), ["d", "b", "c"]);
    assert!(docs.update("a", change(Some(vec![1.0].into()))).is_err());
}

/// Reciprocal rank fusion by definition, over full orders.
fn fused(orders: &[Vec<String>], id: &str) -> f32 {
    let share = |order: &Vec<String>| {
        order.iter().position(|other| other == id).map_or(0.0, |rank| 61.0 / (61.0 + rank as f32))
    };
    orders.iter().map(share).sum::<f32>() / orders.len() as f32
}

#[test]
fn any_of_vectors_texts_and_sparse_vectors_are_fused() {
    let (_db, docs) = small();
    let mut rng = Rng(11);
    let ids: IdColumn = (0..60u64).collect();
    let words = ["river", "bank", "money", "loan", "water"];
    let texts: Vec<Option<String>> = (0..60)
        .map(|n| (n % 4 > 0).then(|| (0..4).map(|_| words[rng.below(5)]).collect::<Vec<_>>().join(" ")))
        .collect();
    let terms: Vec<Option<Sparse>> = (0..60)
        .map(|n| {
            (n % 3 > 0).then(|| {
                Sparse::new(
                    (0..5u32)
                        .filter(|_| rng.below(2) == 0)
                        .map(|id| (id, 1.0 + id as f32 + n as f32 / 64.0))
                        .collect::<Vec<_>>(),
                )
                .unwrap()
            })
        })
        .collect();
    let present: Vec<bool> = (0..60).map(|n| n % 5 > 0).collect();
    let titles = rng.floats(present.iter().filter(|p| **p).count() * 2);
    let batch = Batch::new(ids, rng.floats(60))
        .with_text(texts.iter().map(Option::as_deref))
        .with_sparse("terms", terms.iter().map(Option::as_ref))
        .with_some_vectors("title", present, titles);
    docs.upsert(batch).unwrap();
    let all = SearchOptions::new(60);
    let names = |hits: Hits| hits.iter().map(|hit| hit.id.to_string()).collect::<Vec<_>>();
    let sparse = Sparse::new([(1, 1.0), (3, 0.5)]).unwrap();
    let (own, title) = ([0.1f32], [0.3f32, 0.7]);
    let orders = [
        names(docs.search(&own, &all).unwrap()),
        names(docs.search(&title, &all.clone().using("title")).unwrap()),
        names(docs.search_text("river bank", &all).unwrap()),
        names(docs.search_sparse("terms", &sparse, &all).unwrap()),
    ];
    for parts in 1..16usize {
        let asked = |part: usize| parts >> part & 1 == 1;
        let mut query = Query::new();
        if asked(0) {
            query = query.vector(&own);
        }
        if asked(1) {
            query = query.vector_in("title", &title);
        }
        if asked(2) {
            query = query.text("river bank");
        }
        if asked(3) {
            query = query.sparse("terms", sparse.clone());
        }
        let chosen: Vec<Vec<String>> = (0..4).filter(|part| asked(*part)).map(|part| orders[part].clone()).collect();
        let hits = docs.search_fused(query.clone(), &all).unwrap();
        let expected: HashSet<&String> = chosen.iter().flatten().collect();
        assert_eq!(hits.len(), expected.len(), "parts {parts:#b}");
        assert_eq!(hits.complete, expected.len() < 60, "parts {parts:#b}");
        for pair in hits.windows(2) {
            assert!(pair[0].score >= pair[1].score, "parts {parts:#b}");
        }
        for hit in hits.iter() {
            let id = hit.id.to_string();
            assert!((hit.score - fused(&chosen, &id)).abs() < 1e-6, "parts {parts:#b}: {hit:?}");
            let Id::U64(n) = hit.id else { panic!("integer ids") };
            let exact = terms[n as usize].as_ref().map(|value| value.dot(&sparse)).filter(|score| *score != 0.0);
            assert_eq!(hit.field_scores.get("terms").copied(), exact.filter(|_| asked(3)), "parts {parts:#b}: {id}");
            assert_eq!(hit.field_scores.contains_key("title"), asked(1) && n % 5 > 0, "parts {parts:#b}: {id}");
            assert_eq!(
                (hit.vector_score.is_some(), hit.text_score.is_some()),
                (asked(0), asked(2) && orders[2].contains(&id))
            );
        }
        let weighted = |alpha| docs.search_fused(query.clone(), &all.clone().fuse(Fuse::Weighted { alpha })).unwrap();
        assert!(weighted(0.3).iter().all(|hit| (0.0..=1.0).contains(&hit.score)), "parts {parts:#b}");
        if asked(3) && !asked(2) && parts != 0b1000 {
            assert_eq!(weighted(0.0)[0].id.to_string(), orders[3][0], "parts {parts:#b}");
        }
    }
    let twice = Query::new().sparse("terms", sparse.clone()).sparse("terms", sparse);
    for query in [Query::new(), twice, Query::new().vector_in("terms", &title)] {
        assert!(matches!(docs.search_fused(query, &all), Err(Error::InvalidInput(_))));
    }
    let radius = all.max_distance(0.5);
    assert!(matches!(docs.search_fused(Query::new().text("river"), &radius), Err(Error::InvalidInput(_))));
    let near = docs.search_fused(Query::new().text("river").vector(&own), &radius).unwrap();
    assert!(!near.is_empty() && near.iter().all(|hit| hit.distance <= 0.5));
}
