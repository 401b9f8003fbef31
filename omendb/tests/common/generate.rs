//! Seeded workloads.

use super::fields::{self, with_fields};
use super::model::{Doc, Row, State, Step};
use half::f16;
use omendb::storage::sim::Rng;
use omendb::{Element, Id, Metric, Schema, Vector};
use serde_json::{Value, json};

/// What random workloads are made of.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    pub steps: usize,
    /// All element types and metrics, or f32 under L2 alone.
    pub all_schemas: bool,
    /// Rows of a batch that takes the bulk path.
    pub bulk_rows: usize,
    /// Different ids.
    pub ids: usize,
    pub reopen: bool,
}

const NAMES: [&str; 3] = ["docs", "other", "third one/../é"];

pub fn vector(rng: &mut Rng, schema: &Schema) -> Vector {
    let small = |rng: &mut Rng| rng.below(17) as i8 - 8;
    let mut ints: Vec<i8> = (0..schema.dim).map(|_| small(rng)).collect();
    ints[0] = 1 + rng.below(8) as i8; // never zero, for cosine
    match schema.element {
        Element::F32 => Vector::F32(ints.iter().map(|x| f32::from(*x)).collect()),
        Element::F16 => Vector::F16(ints.iter().map(|x| f16::from_f32(f32::from(*x))).collect()),
        Element::I8 => Vector::I8(ints),
        Element::U8 => Vector::U8(ints.iter().map(|x| x.unsigned_abs()).collect()),
        Element::Bits => {
            let mut bytes: Vec<u8> = (0..schema.stride()).map(|_| rng.next() as u8).collect();
            if !schema.dim.is_multiple_of(8) {
                let last = bytes.len() - 1;
                bytes[last] &= (1 << (schema.dim % 8)) - 1;
            }
            Vector::Bits(bytes)
        }
    }
}

pub fn schema(rng: &mut Rng, all: bool) -> Schema {
    let dim = 2 + rng.below(3);
    if !all {
        return Schema::new(dim, Metric::L2);
    }
    let element = [Element::F32, Element::F16, Element::I8, Element::U8, Element::Bits][rng.below(5)];
    let metric = [Metric::Cosine, Metric::L2, Metric::Dot][rng.below(3)];
    let metric = if element == Element::Bits { Metric::Hamming } else { metric };
    let schema = Schema::new(dim + rng.below(9), metric).with_element(element);
    if rng.one_in(2) { with_fields(schema) } else { schema }
}

fn id(rng: &mut Rng, ids: usize) -> Id {
    let n = rng.below(ids);
    if n.is_multiple_of(2) { Id::U64(n as u64 * 1_000_003) } else { Id::Str(format!("id-{n}")) }
}

fn metadata(rng: &mut Rng) -> Value {
    match rng.below(4) {
        0 => json!({}),
        1 => json!({"n": rng.below(100), "lang": "en"}),
        2 => json!({"tags": ["x", "ÿ", null], "deep": {"a": {"b": [1.5, -2e300, true]}}}),
        _ => json!({"z": rng.below(10), "a": "order matters", "big": u64::MAX}),
    }
}

fn text(rng: &mut Rng) -> String {
    match rng.below(8) {
        0 => String::new(),
        1 => format!("long {} ", rng.below(1_000)).repeat(60),
        _ => format!("some words {} 🙂", rng.below(1_000)),
    }
}

pub fn doc(rng: &mut Rng, schema: &Schema) -> Doc {
    Doc {
        vector: vector(rng, schema),
        metadata: (!rng.one_in(3)).then(|| metadata(rng)),
        text: rng.one_in(2).then(|| text(rng)),
        fields: fields::fields(rng, schema),
    }
}

/// `count` rows with different ids.
pub fn rows(rng: &mut Rng, schema: &Schema, count: usize, ids: usize) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    while rows.len() < count.min(ids) {
        let id = id(rng, ids);
        if rows.iter().all(|r| r.id != id) {
            let doc = doc(rng, schema);
            rows.push(Row { id, doc });
        }
    }
    rows
}

/// One random step that makes sense in `state`, or sometimes does not.
pub fn step(rng: &mut Rng, state: &State, mix: &Mix) -> Step {
    let known: Vec<&String> = state.0.keys().collect();
    if known.is_empty() || rng.one_in(24) {
        return Step::Create { name: NAMES[rng.below(3)].to_owned(), schema: schema(rng, mix.all_schemas) };
    }
    let name = known[rng.below(known.len())].clone();
    let schema = &state.0[&name].schema;
    match rng.below(40) {
        0..10 => {
            let count = 1 + rng.below(3);
            Step::Upsert { rows: rows(rng, schema, count, mix.ids), name }
        }
        10..14 => Step::Upsert { rows: rows(rng, schema, mix.bulk_rows, mix.ids.max(mix.bulk_rows)), name },
        14..18 => {
            let count = 1 + rng.below(2);
            Step::Add { rows: rows(rng, schema, count, mix.ids), name }
        }
        18..22 => {
            let id = id(rng, mix.ids);
            let vector = rng.one_in(2).then(|| vector(rng, schema));
            let metadata = rng.one_in(2).then(|| if rng.one_in(3) { Value::Null } else { metadata(rng) });
            let text = rng.one_in(2).then(|| rng.one_in(2).then(|| text(rng)));
            let fields = fields::patch(rng, schema);
            Step::Update { name, id, vector, metadata, text, fields }
        }
        22..29 => {
            let rows = {
                let count = 1 + rng.below(3);
                rows(rng, schema, count, mix.ids)
            };
            Step::Delete { name, ids: rows.into_iter().map(|r| r.id).collect() }
        }
        29..33 => Step::Flush,
        33..35 => Step::Compact,
        35 if rng.one_in(3) => Step::Settle,
        35 => Step::Index,
        36 => Step::Drop { name },
        37 => Step::Upsert { name: "missing".to_owned(), rows: rows(rng, schema, 1, mix.ids) },
        _ if mix.reopen => Step::Reopen,
        _ => Step::Flush,
    }
}

/// A random workload, and what it leads to.
pub fn workload(seed: u64, mix: &Mix) -> Vec<Step> {
    let mut rng = Rng::new(seed);
    let mut state = State::default();
    let mut steps = Vec::new();
    for _ in 0..mix.steps {
        let next = step(&mut rng, &state, mix);
        let _ = state.apply(&next);
        steps.push(next);
    }
    steps
}

/// A workload for one purpose, by name.
pub fn named() -> Vec<(&'static str, Vec<Step>)> {
    let schema = with_fields(Schema::new(2, Metric::L2));
    let docs = || "docs".to_owned();
    let (create, drop_docs) = (Step::Create { name: docs(), schema: schema.clone() }, Step::Drop { name: docs() });
    let put = |seed: u64, ids: std::ops::Range<u64>| {
        let mut rng = Rng::new(seed);
        let row = |id| Row { id: Id::U64(id), doc: doc(&mut rng, &schema) };
        Step::Upsert { name: docs(), rows: ids.map(row).collect() }
    };
    let delete = |ids: &[u64]| Step::Delete { name: docs(), ids: ids.iter().map(|n| Id::U64(*n)).collect() };
    let update = |id, note: &str| Step::Update {
        name: docs(),
        id: Id::U64(id),
        vector: None,
        metadata: Some(json!({"note": note})),
        text: Some(Some(note.to_owned())),
        fields: fields::patch(&mut Rng::new(id), &schema),
    };
    vec![
        ("put", vec![create.clone(), put(1, 0..1), put(2, 1..3), put(3, 0..2)]),
        ("put and close", vec![create.clone(), put(1, 0..2), Step::Close]),
        ("delete", vec![create.clone(), put(1, 0..3), delete(&[0, 2, 9]), put(2, 2..3), delete(&[1])]),
        ("update", vec![create.clone(), put(1, 0..2), update(1, "one"), Step::Flush, update(1, "two"), update(7, "x")]),
        (
            "flush",
            vec![create.clone(), put(1, 0..2), Step::Flush, put(2, 1..4), Step::Flush, delete(&[0]), Step::Flush],
        ),
        (
            "compact",
            vec![
                create.clone(),
                put(1, 0..3),
                Step::Flush,
                put(2, 2..5),
                Step::Flush,
                delete(&[0, 3]),
                Step::Compact,
                put(3, 3..4),
            ],
        ),
        (
            "index",
            vec![
                create.clone(),
                put(1, 0..5),
                Step::Index,
                update(1, "one"),
                delete(&[0]),
                put(2, 4..7),
                Step::Index,
                Step::Reopen,
                put(3, 6..8),
                Step::Compact,
            ],
        ),
        ("settle", settle(&create)),
        ("bulk", vec![create.clone(), put(1, 0..1), put(2, 0..24), put(3, 20..22), put(4, 10..40), delete(&[0, 25])]),
        (
            "collections",
            vec![
                create.clone(),
                put(1, 0..2),
                other(),
                Step::Flush,
                drop_docs.clone(),
                create.clone(),
                put(2, 1..2),
                drop_docs,
            ],
        ),
        (
            "reopen",
            vec![
                create.clone(),
                put(1, 0..2),
                Step::Reopen,
                delete(&[0]),
                Step::Flush,
                put(2, 3..4),
                Step::Reopen,
                put(3, 4..5),
            ],
        ),
        (
            "rotate",
            std::iter::once(create).chain((0..30).map(|n| put(n, n % 5..n % 5 + 2))).chain([Step::Close]).collect(),
        ),
    ]
}

/// Segments large enough for graphs, merged with careful ones.
fn settle(create: &Step) -> Vec<Step> {
    let Step::Create { name, schema } = create else { return Vec::new() };
    let put = |seed: u64, ids: std::ops::Range<u64>| {
        let mut rng = Rng::new(seed);
        let row = |id| Row { id: Id::U64(id), doc: doc(&mut rng, schema) };
        Step::Upsert { name: name.clone(), rows: ids.map(row).collect() }
    };
    let delete = Step::Delete { name: name.clone(), ids: vec![Id::U64(1), Id::U64(17)] };
    vec![
        create.clone(),
        put(1, 0..20),
        Step::Index,
        put(2, 16..40),
        Step::Index,
        delete,
        Step::Settle,
        put(3, 5..7),
        Step::Reopen,
        Step::Index,
    ]
}

/// A second collection.
fn other() -> Step {
    Step::Create { name: "other".to_owned(), schema: Schema::new(3, Metric::Cosine) }
}
