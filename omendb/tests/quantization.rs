//! How graphs hold vectors is a choice: what it takes in memory, what it finds, that it lasts, and what is refused.

use omendb::{Batch, Database, Element, Error, Metric, Plan, Profile, Quantization, Schema, SearchOptions};
use serde_json::json;

const DIM: usize = 96;
const ROWS: usize = 6_000;

fn points(metric: Metric) -> Vec<f32> {
    let mut state = metric as u64 + 7;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let centres: Vec<f32> = (0..16 * DIM).map(|_| next() * 2.0).collect();
    (0..ROWS).flat_map(|row| centres[row % 16 * DIM..][..DIM].to_vec()).map(|x| x + next()).collect()
}

fn schemas(metric: Metric) -> Vec<(&'static str, Schema)> {
    let plain = Schema::new(DIM, metric);
    let mut schemas = vec![
        ("auto", plain.clone()),
        ("sq8", plain.clone().with_quantization(Quantization::Sq8)),
        ("compact", plain.clone().with_profile(Profile::Compact)),
        ("none", plain.clone().with_quantization(Quantization::None)),
    ];
    if metric != Metric::Dot {
        let others = [Quantization::RaBitQ, Quantization::Pq].into_iter().chain((1..=8).map(Quantization::RaBitQBits));
        schemas.extend(others.map(|chosen| (chosen.name(), plain.clone().with_quantization(chosen))));
    }
    schemas
}

#[test]
fn each_choice_finds_what_it_promises_in_its_own_memory_and_lasts() {
    for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let vectors = points(metric);
        let db = Database::open(&path).unwrap();
        let mut bytes = std::collections::BTreeMap::new();
        for (name, schema) in schemas(metric) {
            let docs = db.create_collection(name, schema).unwrap();
            docs.upsert(Batch::new((0..ROWS as u64).collect(), &vectors)).unwrap();
            docs.wait_indexed(false).unwrap();
            let (stats, report) = (docs.stats(), docs.recall(100, &SearchOptions::new(10)).unwrap());
            println!("{} {name}: {} bytes a row, {report:?}", metric.name(), stats.graph_bytes / ROWS as u64);
            // One bit a dimension tells rows that are all about as far from each other badly apart.
            let least = if name == "rabitq1" { 0.85 } else { 0.9 };
            assert!(stats.unindexed_rows == 0 && report.recall >= least, "{stats:?} {report:?}");
            let told = docs.explain(&vectors[..DIM], &SearchOptions::new(10)).unwrap();
            let plan = if name == "none" { Plan::Scan } else { Plan::Graph };
            assert!(told.parts.iter().all(|part| part.plan == plan), "{told:?}");
            bytes.insert(name, stats.graph_bytes);
        }
        // Once it has a file, a compact graph keeps only its codes in memory.
        assert!(bytes["none"] == 0 && bytes["compact"] <= bytes["sq8"], "{bytes:?}");
        // A row's code and 32 numbers of neighbours, and little else.
        assert!(bytes["sq8"] < ROWS as u64 * (128 + 32 * 4 + 32), "{bytes:?}");
        if let Some(rabitq) = bytes.get("rabitq") {
            assert!(*rabitq > bytes["sq8"] * 3 / 2, "{bytes:?}");
            // A row's own code, two factors, the neighbours' numbers; 128 entry points have an 8-bit code beside.
            let entries = 128 * (128 + 4) + 1024;
            for bits in 1..=8 {
                let of = bytes[Quantization::RaBitQBits(bits).name()];
                assert!(of < ROWS as u64 * (16 * u64::from(bits) + 8 + 32 * 4 + 8) + entries, "{bits} bits: {bytes:?}");
            }
            let centroids = 256 * DIM as u64 * 4;
            assert!(bytes["pq"] < ROWS as u64 * (DIM as u64 / 4 + 32 * 4 + 8) + entries + centroids, "{bytes:?}");
        }
        db.close().unwrap();
        let db = Database::open(&path).unwrap();
        for (name, schema) in schemas(metric) {
            let docs = db.collection(name).unwrap();
            assert_eq!(*docs.schema(), schema);
            docs.wait_indexed(false).unwrap();
            assert_eq!(docs.stats().graph_bytes, bytes[name], "{name} was read back as it was built");
        }
        db.close().unwrap();
    }
}

#[test]
fn an_existing_collection_keeps_its_choice_and_another_is_refused() {
    let db = Database::in_memory().unwrap();
    let schema = Schema::new(4, Metric::L2);
    db.create_collection("docs", schema.clone().with_quantization(Quantization::Sq8)).unwrap();
    let docs = db.get_or_create_collection("docs", schema.clone()).unwrap();
    assert_eq!(docs.schema().quantization, Quantization::Sq8);
    let refused = db.get_or_create_collection("docs", schema.clone().with_quantization(Quantization::None));
    assert!(matches!(refused, Err(Error::InvalidInput(what)) if what.contains("quantization none")));
    let refused = db.get_or_create_collection("docs", schema.with_profile(Profile::Compact));
    assert!(matches!(refused, Err(Error::InvalidInput(what)) if what.contains("profile compact")));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let rabitq = |schema: Schema| schema.with_quantization(Quantization::RaBitQ).validate();
    for chosen in [Quantization::RaBitQBits(4), Quantization::Pq] {
        let dot = Schema::new(8, Metric::Dot).with_quantization(chosen).validate();
        assert!(matches!(dot, Err(Error::Unsupported(what)) if what.contains(chosen.name())));
        assert!(Schema::new(8, Metric::L2).with_quantization(chosen).with_profile(Profile::Compact).validate().is_ok());
    }
    for bits in [0, 9, 255] {
        let odd = Schema::new(8, Metric::L2).with_quantization(Quantization::RaBitQBits(bits)).validate();
        assert!(matches!(odd, Err(Error::InvalidInput(what)) if what.contains("1 to 8")));
    }
    for schema in [
        Schema::new(8, Metric::Dot),
        Schema::new(1_025, Metric::L2),
        Schema::new(8, Metric::Hamming).with_element(Element::Bits),
    ] {
        assert!(matches!(rabitq(schema), Err(Error::Unsupported(what)) if what.contains("sq8")));
    }
    assert!(rabitq(Schema::new(1_024, Metric::Cosine)).is_ok());
    let both = rabitq(Schema::new(8, Metric::L2).with_profile(Profile::Compact));
    assert!(matches!(both, Err(Error::InvalidInput(_))));
    assert!(matches!("binary".parse::<Quantization>(), Err(Error::Unsupported(what)) if what.contains("rabitq")));
    for name in ["auto", "none", "sq8", "rabitq", "rabitq1", "rabitq8", "pq"] {
        assert_eq!(name.parse::<Quantization>().unwrap().name(), name);
    }
    for odd in ["rabitq0", "rabitq9", "rabitq44", "rabitq "] {
        assert!(matches!(odd.parse::<Quantization>(), Err(Error::InvalidInput(what)) if what.contains("rabitq8")));
    }
    assert!(matches!("magic".parse::<Quantization>(), Err(Error::InvalidInput(_))));
    assert!(matches!("tiny".parse::<Profile>(), Err(Error::InvalidInput(_))));
}

/// What was written before there was a choice reads as the default, and the default is written as before.
#[test]
fn defaults_are_stored_as_nothing() {
    let old = json!({"dim": 4, "element": "f32", "metric": "l2"});
    let schema: Schema = serde_json::from_value(old.clone()).unwrap();
    assert_eq!(schema, Schema::new(4, Metric::L2));
    assert_eq!(serde_json::to_value(&schema).unwrap(), old);
    let chosen = schema.with_quantization(Quantization::RaBitQ).with_profile(Profile::Default);
    let stored = serde_json::to_value(&chosen).unwrap();
    assert_eq!(stored, json!({"dim": 4, "element": "f32", "metric": "l2", "quantization": "rabitq"}));
    assert_eq!(serde_json::from_value::<Schema>(stored).unwrap(), chosen);
    let bits = chosen.with_quantization(Quantization::RaBitQBits(5));
    let stored = serde_json::to_value(&bits).unwrap();
    assert_eq!(stored["quantization"], "rabitq5");
    assert_eq!(serde_json::from_value::<Schema>(stored).unwrap(), bits);
}
