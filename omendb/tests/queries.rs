//! Kinds of search against naive evaluators: within a radius, by groups, for diversity, by a known record; what
//! `explain` tells and what `recall` measures. Over random data in memory and in several segments, some of it deleted
//! or replaced.

use omendb::{
    Batch, Collection, Database, Element, Error, Filter, Hit, Id, IdColumn, Include, Metric, Mmr, Options, Plan,
    Schema, SearchOptions, Vectors,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const DIM: usize = 8;

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

    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..DIM).map(|_| self.unit()).collect()
    }

    /// Metadata whose field `maker.group` is of every kind: text, number, date, boolean, list, object, null, missing.
    fn metadata(&mut self) -> Option<Value> {
        let group = match self.below(16) {
            0 => return None,
            1 => return Some(json!({"n": self.below(100)})),
            2 => Value::Null,
            3 => json!(["a", "b"]),
            4 => json!({"deeper": 1}),
            5 => json!(self.below(2) == 0),
            6 => json!(1),
            7 => json!(1.0),
            8 => json!(1.5),
            9 => json!("2020-01-01"),
            10 => json!("2020-01-01T01:00:00+01:00"),
            // One value is most of all.
            11 | 12 => json!("common"),
            _ => json!(format!("group {}", self.below(12))),
        };
        Some(json!({"n": self.below(100), "maker": {"group": group}}))
    }
}

/// What is stored.
type Model = BTreeMap<u64, (Vec<f32>, Option<Value>)>;

/// Records in several segments and in memory, some deleted, some replaced.
fn world(docs: &Collection, rng: &mut Rng) -> Model {
    let mut model = Model::new();
    for step in 0..5 {
        let rows = 100 + rng.below(500);
        // Some of these ids are known already.
        let ids: BTreeSet<u64> = (0..rows).map(|_| rng.below(2_000) as u64).collect();
        let records: Vec<_> = ids.iter().map(|_| (rng.vector(), rng.metadata())).collect();
        let vectors: Vec<f32> = records.iter().flat_map(|(vector, _)| vector.clone()).collect();
        let batch = Batch::new(ids.iter().copied().collect::<IdColumn>(), vectors);
        docs.upsert(batch.with_metadata(records.iter().map(|(_, metadata)| metadata.as_ref())).unwrap()).unwrap();
        model.extend(ids.into_iter().zip(records));
        let gone: Vec<u64> = model.keys().copied().filter(|_| rng.below(7) == 0).collect();
        docs.delete(gone.iter().copied()).unwrap();
        gone.iter().for_each(|id| {
            model.remove(id);
        });
        if step < 4 {
            docs.flush().unwrap();
        }
    }
    assert!(docs.stats().segments >= 2 && docs.stats().memtable_records > 0, "{:?}", docs.stats());
    model
}

fn worlds(check: impl Fn(&Collection, &Model, &mut Rng)) {
    let first: u64 = std::env::var("OMENDB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for (seed, metric) in (first..).zip([Metric::L2, Metric::Cosine, Metric::Dot].into_iter().cycle()).take(9) {
        let dir = tempfile::tempdir().unwrap();
        let db = Options::new().background(false).open(dir.path().join("db")).unwrap();
        let docs = db.create_collection("docs", Schema::new(DIM, metric)).unwrap();
        let mut rng = Rng(seed);
        let model = world(&docs, &mut rng);
        println!("seed {seed}, {}: {} records", metric.name(), model.len());
        check(&docs, &model, &mut rng);
        db.close().unwrap();
    }
}

fn number(id: &Id) -> u64 {
    match id {
        Id::U64(n) => *n,
        Id::Str(s) => panic!("{s} was never written"),
    }
}

fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    match metric {
        Metric::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        Metric::Dot => -dot(a, b),
        Metric::L2 => a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>().sqrt(),
        Metric::Hamming => unreachable!("bits have a test of their own"),
    }
}

/// Every record that passes, nearest first; itself compared with the model.
fn ranking(docs: &Collection, model: &Model, query: &[f32], filter: Option<&Filter>) -> Vec<Hit> {
    let mut options = SearchOptions::new(10_000).recall(1.0);
    options.filter = filter.cloned();
    let hits = docs.search(query, &options).unwrap();
    assert!(hits.complete);
    let passing = model.iter().filter(|(_, (_, metadata))| filter.is_none_or(|f| f.matches(metadata.as_ref())));
    let expected: BTreeSet<u64> = passing.map(|(id, _)| *id).collect();
    assert_eq!(hits.iter().map(|hit| number(&hit.id)).collect::<BTreeSet<_>>(), expected);
    for hit in hits.iter() {
        let exact = distance(docs.schema().metric, query, &model[&number(&hit.id)].0);
        assert!((f64::from(hit.distance) - exact).abs() < 1e-5, "{} is {exact} away, not {}", hit.id, hit.distance);
    }
    hits.hits
}

fn filters() -> [Option<Filter>; 3] {
    [
        None,
        Some(Filter::from_sql("n < 60").unwrap()),
        Some(Filter::from_sql("n = 7 OR maker.group = 'common'").unwrap()),
    ]
}

fn options(k: usize, filter: Option<&Filter>) -> SearchOptions {
    let mut options = SearchOptions::new(k);
    options.filter = filter.cloned();
    options
}

#[test]
fn a_radius_keeps_all_within_it_and_says_whether_there_are_more() {
    worlds(|docs, model, rng| {
        for filter in &filters() {
            let query = rng.vector();
            let all = ranking(docs, model, &query, filter.as_ref());
            for _ in 0..20 {
                let radius = all[rng.below(all.len())].distance + [0.0, 1e-3, -1e-3][rng.below(3)];
                let (k, offset) = (1 + rng.below(all.len() + 20), [0, 0, 5][rng.below(3)]);
                let least = (rng.below(3) == 0).then(|| all[rng.below(all.len())].score);
                let mut options = options(k, filter.as_ref()).max_distance(radius).offset(offset);
                options.min_score = least;
                let hits = docs.search(&query, &options).unwrap();
                let within = |hit: &&Hit| hit.distance <= radius && least.is_none_or(|least| hit.score >= least);
                let expected: Vec<Hit> = all.iter().filter(within).skip(offset).take(k).cloned().collect();
                assert_eq!(hits.hits, expected, "radius {radius}, k {k}");
                assert_eq!(hits.complete, expected.len() < k);
            }
        }
        let beyond = docs.search(rng.vector(), &SearchOptions::new(5).max_distance(f32::NEG_INFINITY)).unwrap();
        assert!(beyond.is_empty() && beyond.complete);
        let refused = docs.search(rng.vector(), &SearchOptions::new(5).max_distance(f32::NAN));
        assert!(matches!(refused, Err(Error::InvalidInput(what)) if what.contains("max_distance")));
    });
}

/// Equal for values that are one group, different for others.
fn group_of(metadata: Option<&Value>) -> Option<String> {
    match metadata?.get("maker")?.get("group")? {
        Value::Bool(flag) => Some(format!("flag {flag}")),
        Value::Number(number) => Some(format!("number {}", number.as_f64().unwrap())),
        Value::String(text) if text.starts_with("2020") => Some("the moment".into()),
        Value::String(text) => Some(format!("text {text}")),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[test]
fn groups_hold_the_best_of_the_best_values() {
    worlds(|docs, model, rng| {
        for filter in &filters() {
            let query = rng.vector();
            let all = ranking(docs, model, &query, filter.as_ref());
            for _ in 0..8 {
                let (k, most) = (1 + rng.below(24), 1 + rng.below(12));
                let radius = (rng.below(3) == 0).then(|| all[rng.below(all.len())].distance);
                let mut options = options(k, filter.as_ref());
                options.max_distance = radius;
                options.exclude = (rng.below(3) == 0).then(|| all[0].id.clone()).into_iter().collect();
                let found = docs.search_groups(&query, "maker.group", most, &options).unwrap();
                let mut expected: Vec<(String, Vec<Hit>)> = Vec::new();
                for hit in all.iter().filter(|hit| radius.is_none_or(|radius| hit.distance <= radius)) {
                    let Some(name) = group_of(hit.metadata.as_ref()) else { continue };
                    if options.exclude.contains(&hit.id) {
                        continue;
                    }
                    match expected.iter_mut().find(|(other, _)| *other == name) {
                        Some((_, hits)) => hits.push(hit.clone()),
                        None => expected.push((name, vec![hit.clone()])),
                    }
                }
                assert_eq!(found.complete, expected.len() < k);
                expected.truncate(k);
                assert_eq!(found.groups.len(), expected.len());
                for (group, (name, mut hits)) in found.groups.into_iter().zip(expected) {
                    assert_eq!(group.hits.complete, hits.len() < most, "{name}");
                    assert_eq!(group_of(Some(&json!({"maker": {"group": group.value}}))), Some(name));
                    hits.truncate(most);
                    assert_eq!(group.hits.hits, hits);
                }
            }
        }
        let wrong = |field: &str, most, options: &SearchOptions| docs.search_groups(rng_vector(), field, most, options);
        for refused in [
            wrong("a..b", 1, &SearchOptions::new(1)),
            wrong("a", 0, &SearchOptions::new(1)),
            wrong("a", 1, &SearchOptions::new(1).offset(1)),
            wrong("a", 1, &SearchOptions::new(1).mmr(0.5)),
        ] {
            assert!(matches!(refused, Err(Error::InvalidInput(_))), "{refused:?}");
        }
        assert!(matches!(wrong("a", 1_000, &SearchOptions::new(1_000)), Err(Error::LimitExceeded(_))));
        let nothing = wrong("nowhere", 3, &SearchOptions::new(5)).unwrap();
        assert!(nothing.groups.is_empty() && nothing.complete);
    });
}

fn rng_vector() -> Vec<f32> {
    Rng(99).vector()
}

#[test]
fn diverse_hits_are_each_the_best_choice_after_those_before() {
    worlds(|docs, model, rng| {
        let metric = docs.schema().metric;
        let score = |distance: f64| if metric == Metric::Cosine { 1.0 - distance } else { -distance };
        for filter in &filters() {
            let query = rng.vector();
            let all = ranking(docs, model, &query, filter.as_ref());
            for lambda in [0.0, 0.3, 0.7, 1.0] {
                let (k, pool) = (1 + rng.below(20), 20 + rng.below(60));
                let mut options = options(k, filter.as_ref());
                options.mmr = Some(Mmr { lambda, pool: Some(pool) });
                let hits = docs.search(&query, &options).unwrap();
                let mut left: Vec<u64> = all.iter().take(pool).map(|hit| number(&hit.id)).collect();
                assert_eq!(hits.len(), k.min(left.len()));
                let mut chosen: Vec<u64> = Vec::new();
                for hit in hits.iter() {
                    let value = |id: &u64| {
                        let vector = &model[id].0;
                        let closest = chosen.iter().map(|other| score(distance(metric, vector, &model[other].0)));
                        let closest = closest.fold(f64::NEG_INFINITY, f64::max);
                        let relevance = f64::from(lambda) * score(distance(metric, vector, &query));
                        if chosen.is_empty() { relevance } else { relevance - f64::from(1.0 - lambda) * closest }
                    };
                    let best = left.iter().map(value).fold(f64::NEG_INFINITY, f64::max);
                    let id = number(&hit.id);
                    assert!(left.contains(&id) && value(&id) >= best - 1e-5, "{id}: {} of {best}", value(&id));
                    left.retain(|other| *other != id);
                    chosen.push(id);
                }
                if lambda == 1.0 {
                    assert_eq!(hits.hits, all[..k.min(all.len())]);
                }
            }
        }
        for lambda in [-0.1, 1.1, f32::NAN] {
            let refused = docs.search(rng_vector(), &SearchOptions::new(5).mmr(lambda));
            assert!(matches!(refused, Err(Error::InvalidInput(what)) if what.contains("lambda")));
        }
        let refused = docs.search(rng_vector(), &SearchOptions::new(1_001).mmr(0.5));
        assert!(matches!(refused, Err(Error::LimitExceeded(_))));
    });
}

#[test]
fn a_record_finds_what_is_like_it_and_not_itself() {
    worlds(|docs, model, rng| {
        let known: Vec<u64> = model.keys().copied().collect();
        for filter in &filters() {
            for _ in 0..10 {
                let id = known[rng.below(known.len())];
                let mut expected = ranking(docs, model, &model[&id].0, filter.as_ref());
                expected.retain(|hit| number(&hit.id) != id);
                let (k, offset) = (1 + rng.below(30), rng.below(4));
                let least = expected[rng.below(expected.len())].score;
                let options = options(k, filter.as_ref()).offset(offset).min_score(least);
                let hits = docs.search_like(id, &options).unwrap();
                expected.retain(|hit| hit.score >= least);
                let expected: Vec<Hit> = expected.into_iter().skip(offset).take(k).collect();
                assert_eq!(hits.complete, expected.len() < k);
                assert_eq!(hits.hits, expected);
            }
        }
        assert!(matches!(docs.search_like(1_000_000, &SearchOptions::new(5)), Err(Error::NotFound(_))));
        assert!(matches!(docs.search_like("", &SearchOptions::new(5)), Err(Error::InvalidInput(_))));
        let all: Vec<Id> = known.iter().map(|id| Id::U64(*id)).collect();
        let none = docs.search(rng_vector(), &SearchOptions::new(5).exclude(all)).unwrap();
        assert!(none.is_empty() && none.complete);
    });
}

#[test]
fn explanations_count_what_scans_do() {
    worlds(|docs, model, rng| {
        for filter in &filters() {
            let options = options(10, filter.as_ref());
            let query = rng.vector();
            let told = docs.explain(&query, &options).unwrap();
            assert_eq!(told.hits, docs.search(&query, &options).unwrap());
            let stats = docs.stats();
            assert_eq!(told.parts.len() as u64, stats.segments + 1);
            assert_eq!(told.parts.iter().map(|part| part.rows).sum::<u64>(), model.len() as u64);
            let passing = filter.as_ref().map_or(model.len() as u64, |filter| docs.count_matching(filter).unwrap());
            assert_eq!((told.rows_visited, told.distances), (passing, passing));
            assert!(told.parts.iter().all(|part| part.plan == Plan::Scan && part.reason.is_some()));
            if filter.is_some() {
                assert_eq!(told.parts.iter().filter_map(|part| part.matching).sum::<u64>(), passing);
            }
            assert_eq!(told.estimated_recall, Some(1.0));
            assert!(told.parts.iter().map(|part| part.micros).sum::<u64>() <= told.micros);
        }
        let report = docs.recall(50, &SearchOptions::new(10)).unwrap();
        assert_eq!((report.recall, report.lowest, report.queries, report.k), (1.0, 1.0, 50, 10));
        assert!(matches!(docs.recall(0, &SearchOptions::new(10)), Err(Error::InvalidInput(_))));
    });
}

#[test]
fn bits_are_searched_in_every_way_too() {
    let db = Database::in_memory().unwrap();
    let docs = db.create_collection("docs", Schema::new(16, Metric::Hamming).with_element(Element::Bits)).unwrap();
    let mut rng = Rng(5);
    let bits: Vec<u8> = (0..400).map(|_| rng.next() as u8).collect();
    let marks: Vec<Value> = (0..200).map(|row| json!({"mark": row % 5})).collect();
    let vectors = Vectors::Bits(bits.clone().into());
    docs.upsert(Batch::new((0..200u64).collect(), vectors).with_metadata(marks.iter().map(Some)).unwrap()).unwrap();
    let query = || Vectors::Bits(vec![0x0f, 0xf0].into());
    let within = docs.search(query(), &SearchOptions::new(200).max_distance(6.0)).unwrap();
    let naive = bits.chunks(2).filter(|b| (b[0] ^ 0x0f).count_ones() + (b[1] ^ 0xf0).count_ones() <= 6).count();
    assert_eq!((within.len(), within.complete), (naive, true));
    let groups = docs.search_groups(query(), "mark", 3, &SearchOptions::new(9)).unwrap();
    assert_eq!((groups.groups.len(), groups.complete), (5, true));
    assert_eq!(docs.search(query(), &SearchOptions::new(8).mmr(0.2)).unwrap().len(), 8);
    assert_eq!(docs.recall(20, &SearchOptions::new(5)).unwrap().recall, 1.0);
    let empty = db.create_collection("empty", Schema::new(2, Metric::L2)).unwrap();
    assert_eq!(empty.recall(20, &SearchOptions::new(5)).unwrap().queries, 0);
    assert_eq!(empty.explain(&[1.0, 2.0], &SearchOptions::new(5)).unwrap().parts, []);
}

/// With graphs: the same questions, to the recall asked for.
#[test]
fn graphs_answer_the_same_questions() {
    const ROWS: usize = 30_000;
    let dir = tempfile::tempdir().unwrap();
    let db = Options::new().bulk_bytes(64 << 10).open(dir.path().join("db")).unwrap();
    let docs = db.create_collection("docs", Schema::new(32, Metric::L2)).unwrap();
    let mut rng = Rng(3);
    let centres: Vec<f32> = (0..64 * 32).map(|_| rng.unit() * 4.0).collect();
    let vectors: Vec<f32> =
        (0..ROWS).flat_map(|row| centres[row % 64 * 32..][..32].to_vec()).map(|x| x + rng.unit()).collect();
    for (part, vectors) in vectors.chunks(3_000 * 32).enumerate() {
        let ids: Vec<u64> = (0..3_000).map(|row| (part * 3_000 + row) as u64).collect();
        let marks: Vec<Value> = ids.iter().map(|id| json!({"cluster": id % 64, "half": id % 2})).collect();
        let batch = Batch::new(ids.iter().copied().collect(), vectors).with_metadata(marks.iter().map(Some)).unwrap();
        docs.upsert(batch).unwrap();
    }
    docs.wait_indexed(false).unwrap();
    assert_eq!(docs.stats().unindexed_rows, 0);
    let plain = SearchOptions::new(10).include(Include::NONE);

    let told = docs.explain(&vectors[..32], &plain).unwrap();
    let graphs: Vec<_> = told.parts.iter().filter(|part| part.plan == Plan::Graph).collect();
    assert!(!graphs.is_empty() && graphs.iter().all(|part| part.reason.is_none()));
    assert!(told.rows_visited > 0 && told.distances < ROWS as u64 / 2, "{told:?}");
    assert!(told.estimated_recall.is_some_and(|recall| (0.9..=1.0).contains(&recall)), "{told:?}");
    assert_eq!(docs.explain(&vectors[..32], &plain.clone().ef(50)).unwrap().estimated_recall, None);
    let half = plain.clone().filter(Filter::from_sql("half = 0").unwrap());
    let told = docs.explain(&vectors[..32], &half).unwrap();
    assert_eq!(told.parts.iter().filter_map(|part| part.matching).sum::<u64>(), ROWS as u64 / 2);
    let narrow = plain.clone().filter(Filter::from_sql("cluster = 5").unwrap());
    let told = docs.explain(&vectors[..32], &narrow).unwrap();
    assert!(told.parts.iter().all(|part| part.plan == Plan::Codes && part.reason.is_some()), "{told:?}");
    let bounded = docs.search(&vectors[..32], &narrow.clone().max_distance(3.0)).unwrap();
    assert!(bounded.len() == 10 || bounded.complete, "{bounded:?}");
    let tiny = plain.clone().filter(Filter::from_sql("cluster = 5 AND half = 0").unwrap());
    let told = docs.explain(&vectors[..32], &tiny).unwrap();
    assert!(told.parts.iter().all(|part| part.plan == Plan::Scan) && told.hits.is_empty() && told.hits.complete);

    for (recall, least) in [(0.9, 0.88), (0.95, 0.93), (0.99, 0.97), (1.0, 1.0)] {
        let report = docs.recall(200, &plain.clone().recall(recall)).unwrap();
        println!("recall {recall} asked for: {report:?}");
        assert!(report.recall >= least && report.lowest <= report.recall, "{report:?}");
    }
    assert!(docs.recall(200, &plain.clone().ef(1)).unwrap().recall <= docs.recall(200, &plain).unwrap().recall);

    let (mut found, mut wanted) = (0, 0);
    for id in (0..ROWS as u64).step_by(601) {
        let vector = &vectors[id as usize * 32..][..32];
        let exact = docs.search(vector, &plain.clone().max_distance(2.0)).unwrap();
        let near = docs.search(vector, &plain.clone().max_distance(2.0).recall(0.95)).unwrap();
        assert!(!near.complete && near.iter().all(|hit| hit.distance <= 2.0));
        let wide = SearchOptions::new(900).include(Include::NONE).max_distance(3.0);
        let (all, many) = (docs.search(vector, &wide).unwrap(), docs.search(vector, &wide.recall(0.95)).unwrap());
        assert!(all.complete, "a cluster holds {} records", ROWS / 64);
        (found, wanted) = (found + near.len() + many.len(), wanted + exact.len() + all.len());
        let like = docs.search_like(id, &plain).unwrap();
        assert!(like.len() == 10 && like.iter().all(|hit| number(&hit.id) != id));
        let groups = docs.search_groups(vector, "cluster", 3, &plain).unwrap();
        assert_eq!(groups.groups.len(), 10);
        assert!(groups.groups.iter().all(|group| group.hits.len() == 3));
        let own = &groups.groups[0];
        assert_eq!((own.value.as_u64(), number(&own.hits[0].id)), (Some(id % 64), id));
        assert_eq!(docs.search(vector, &plain.clone().mmr(0.3)).unwrap().len(), 10);
    }
    assert!(found as f64 >= 0.93 * wanted as f64, "{found} of {wanted} within the radii");
    db.close().unwrap();
}

/// Under filters of every share, whose matches are spread evenly, lie around the query or far from it.
#[test]
fn filters_of_every_share_keep_the_recall() {
    const ROWS: usize = 40_000;
    let dir = tempfile::tempdir().unwrap();
    let db = Options::new().bulk_bytes(64 << 10).open(dir.path().join("db")).unwrap();
    let docs = db.create_collection("docs", Schema::new(24, Metric::L2)).unwrap();
    let mut rng = Rng(8);
    let vectors: Vec<f32> = (0..ROWS * 24).map(|_| rng.unit() + rng.unit() + rng.unit()).collect();
    let far = |row: usize| -> f32 {
        vectors[row * 24..][..24].iter().zip(&vectors[..24]).map(|(a, b)| (a - b).powi(2)).sum()
    };
    let mut order: Vec<usize> = (0..ROWS).collect();
    order.sort_by(|a, b| far(*a).total_cmp(&far(*b)));
    let mut near = vec![0; ROWS];
    order.iter().enumerate().for_each(|(rank, row)| near[*row] = rank);
    let marks: Vec<Value> = (0..ROWS).map(|row| json!({"even": row * 7919 % ROWS, "near": near[row]})).collect();
    let batch = Batch::new((0..ROWS as u64).collect(), &vectors[..]).with_metadata(marks.iter().map(Some)).unwrap();
    docs.upsert(batch).unwrap();
    docs.wait_indexed(true).unwrap();
    let plain = SearchOptions::new(10).include(Include::NONE);
    let around: Vec<usize> = order[..4_000].iter().step_by(100).copied().collect();
    let away: Vec<usize> = order[ROWS - 4_000..].iter().step_by(100).copied().collect();
    let anywhere: Vec<usize> = (0..ROWS).step_by(1_000).collect();
    let mut plans = std::collections::BTreeSet::new();
    for (field, queries) in [("even", &anywhere), ("near", &anywhere), ("near", &around), ("near", &away)] {
        for matches in [ROWS / 2, ROWS / 5, ROWS / 10, ROWS / 20, ROWS / 100, ROWS / 1_000, 5] {
            let options = plain.clone().filter(Filter::from_sql(&format!("{field} < {matches}")).unwrap());
            let (mut found, mut wanted) = (0, 0);
            for row in queries {
                let query: Vec<f32> = vectors[row * 24..][..24].iter().map(|x| x + rng.unit() * 0.2).collect();
                let exact = docs.search(&query, &options.clone().recall(1.0)).unwrap();
                let told = docs.explain(&query, &options).unwrap();
                assert_eq!(told.parts.iter().filter_map(|part| part.matching).sum::<u64>(), matches as u64);
                plans.extend(told.parts.iter().map(|part| part.plan.name()));
                assert_eq!((told.hits.len(), told.hits.complete), (matches.min(10), matches < 10), "{told:?}");
                let last = exact.last().map_or(0.0, |hit| hit.distance);
                wanted += exact.len();
                found += told.hits.iter().filter(|hit| hit.distance <= last * 1.00001).count();
            }
            println!("{field} < {matches}: {found} of {wanted}");
            assert!(found as f64 >= 0.93 * wanted as f64, "{field} < {matches}: {found} of {wanted}");
        }
    }
    assert_eq!(plans.into_iter().collect::<Vec<_>>(), ["codes", "graph", "scan"]);
    db.close().unwrap();
}
