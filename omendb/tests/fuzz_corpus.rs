//! Every input in `fuzz/corpus` still passes its target, on any toolchain; `fuzz/README.md` says how to find more.

use omendb::fuzzing::{ImageFile, TARGETS, pack, unpack};
use omendb::storage::sim::SimFs;
use omendb::{Batch, Element, Metric, Options, Schema, Vectors};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

#[test]
fn every_input_of_the_corpus_passes() {
    let mut counts = BTreeMap::new();
    let mut failed = Vec::new();
    for (name, target) in TARGETS {
        let dir = corpus().join(name);
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("an entry").path();
            let input = std::fs::read(&path).expect("a file");
            *counts.entry(*name).or_insert(0) += 1;
            if std::panic::catch_unwind(|| target(&input)).is_err() {
                failed.push(path.display().to_string());
            }
        }
    }
    println!(
        "fuzz corpus: {} inputs of {} targets, {} failed",
        counts.values().sum::<u32>(),
        TARGETS.len(),
        failed.len()
    );
    assert!(TARGETS.iter().all(|(name, _)| counts.contains_key(name)), "a target without a corpus: {counts:?}");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn targets_survive_damaged_inputs() {
    for (name, target) in TARGETS {
        let mut paths: Vec<_> =
            std::fs::read_dir(corpus().join(name)).expect("a corpus").flatten().map(|e| e.path()).collect();
        paths.sort();
        for (i, path) in paths.iter().enumerate().take(20) {
            let input = std::fs::read(path).expect("a file");
            for cut in [0, 1, input.len() / 3, input.len().saturating_sub(1)] {
                target(&input[..cut.min(input.len())]);
            }
            let mut flipped = input;
            let at = (i * 7919) % flipped.len().max(1);
            if let Some(byte) = flipped.get_mut(at) {
                *byte ^= 1 << (i % 8);
                target(&flipped);
            }
        }
    }
}

#[test]
fn an_archive_reads_back() {
    let files = vec![
        ImageFile { name: "MANIFEST-00000001".into(), bytes: vec![1, 2, 3] },
        ImageFile { name: "wal/00000001.log".into(), bytes: Vec::new() },
    ];
    assert_eq!(unpack(&pack(&files)), files);
}

/// Databases in several states, whose files are the seeds.
fn databases() -> Vec<BTreeMap<String, Vec<u8>>> {
    let files = |fs: &SimFs| fs.files().into_iter().map(|(name, bytes)| (name, bytes.to_vec())).collect();
    let mut all = Vec::new();
    for (i, element) in [Element::F32, Element::I8, Element::Bits].into_iter().enumerate() {
        let metric = if element == Element::Bits { Metric::Hamming } else { Metric::Cosine };
        let fs = SimFs::new();
        let options = Options::new().background(false).seed(i as u64).log_cap(4096).memory_budget(16 << 20);
        let db = options.bulk_bytes(1 << 20).open_on(Arc::new(fs.clone())).expect("it opens");
        all.push(files(&fs));
        let collection =
            db.create_collection("docs", Schema::new(2, metric).with_element(element)).expect("it is made");
        let write = |first: u64, stamp: i8| {
            let vectors = match element {
                Element::F32 => Vectors::F32(vec![f32::from(stamp), 1.0, 0.5, 2.0].into()),
                Element::I8 => Vectors::I8(vec![stamp, 1, 2, 3].into()),
                _ => Vectors::Bits(vec![1, 2].into()),
            };
            let metadata = json!({"lang": "en", "year": 2020 + i64::from(stamp), "tags": ["x", null], "ok": true});
            let name = format!("doc {first}");
            let mut ids = omendb::IdColumn::default();
            ids.push(first);
            ids.push(name.as_str());
            let batch = Batch::new(ids, vectors).with_metadata([Some(&metadata), None]).expect("an object");
            collection.upsert(batch.with_text([None, Some("crash safe")])).expect("it is written");
        };
        write(1, 1);
        write(2, 2);
        all.push(files(&fs));
        collection.delete([1u64]).expect("it is deleted");
        db.flush().expect("it flushes");
        all.push(files(&fs));
        write(1, 3);
        collection.delete(["doc 2"]).expect("it is deleted");
        db.flush().expect("it flushes");
        write(4, 4);
        all.push(files(&fs));
        db.close().expect("it closes");
        all.push(files(&fs));
    }
    all
}

const FILTERS: &[&str] = &[
    r#"{"lang": "en", "year": {"$gte": 2020, "$lt": 2030.5}}"#,
    r#"{"$or": [{"tags": {"$in": ["x", null, 3]}}, {"$not": {"a.b": {"$exists": true}}}]}"#,
    r#"{"$and": [{"t": {"$contains": "q"}}, {"t": {"$startswith": "c"}}, {"d": {"$nin": [1, 2]}}, {"n": {"$ne": null}}]}"#,
    r#"{"t": {"$like": "a%_\\%"}, "u": {"$ilike": "X"}, "v": {"$regex": "^a[b-d]+$"}}"#,
    "lang = 'en' AND year >= 2020 AND NOT (author.name LIKE 'A%')",
    "day BETWEEN '2020-01-01' AND '2021-01-01T10:00:00Z' OR tags CONTAINS 'x'",
    "\"a.b\" IS NULL OR x IN (1, 2.5, 'three', TRUE) OR y REGEXP '^z' OR z STARTSWITH 'q' OR w EXISTS",
    "a != -1e300 AND b <> 9007199254740993 AND c ILIKE '%é%' AND TRUE",
];
const METADATA: &str = r#"
{"lang": "en", "year": 2021, "tags": ["x", "y"], "author": {"name": "Ann"}, "day": "2020-06-01"}
{"lang": ["en", "de"], "year": 9007199254740993, "a": {"b": null}, "t": "crash", "x": 2.5}
null
{"tags": [{"name": "x"}, []], "d": "2020-01-01T00:00:00+02:00", "v": "abcd", "c": "café", "y": true}"#;

/// Writes the seeds of the corpus anew: `cargo test --test fuzz_corpus -- --ignored write_seeds`.
#[test]
#[ignore = "it writes into fuzz/corpus"]
fn write_seeds() {
    let put = |target: &str, name: String, bytes: &[u8]| {
        let dir = corpus().join(target);
        std::fs::create_dir_all(&dir).expect("a directory");
        std::fs::write(dir.join(name), bytes).expect("a file");
    };
    let behind = |control: &[u8], bytes: &[u8]| [control, bytes].concat();
    for (i, files) in databases().iter().enumerate() {
        // The zeros behind a log's frames are of no use to a fuzzer.
        let trimmed = |name: &str, bytes: &[u8]| {
            let used = bytes.len() - bytes.iter().rev().take_while(|b| **b == 0).count();
            bytes[..if name.ends_with(".log") { used.next_multiple_of(8).min(bytes.len()) } else { bytes.len() }]
                .to_vec()
        };
        let files: Vec<ImageFile> = files
            .iter()
            .filter(|(name, _)| *name != "LOCK")
            .map(|(name, bytes)| ImageFile { name: name.clone(), bytes: trimmed(name, bytes) })
            .collect();
        for control in [0, 255] {
            put("open", format!("seed-{i}-{control}"), &behind(&[control], &pack(&files)));
        }
        for file in &files {
            let seed = format!("seed-{i}-{}", file.name.replace('/', "-"));
            if file.name.starts_with("MANIFEST") {
                put("manifest", seed, &file.bytes);
            } else if file.name.ends_with(".log") {
                put("log", seed, &behind(&[255], &file.bytes));
                payloads(&file.bytes).iter().enumerate().for_each(|(n, payload)| {
                    put("payload", format!("seed-{i}-{n}"), &behind(&[2], payload));
                });
            } else if file.name.ends_with(".data") {
                put("segment", seed, &behind(&[1], &file.bytes));
            } else if file.name.ends_with(".tombstones") {
                put("tombstones", seed, &behind(&4u32.to_le_bytes(), &file.bytes));
            }
        }
    }
    let rows: Vec<Option<serde_json::Value>> =
        METADATA.lines().skip(1).map(|line| serde_json::from_str(line).ok()).collect();
    let mut builder = omendb::filter::ColumnsBuilder::new();
    rows.iter().for_each(|row| builder.push(row.as_ref()).expect("it is taken"));
    put("columns", "seed-0".into(), &behind(&[rows.len() as u8, 0], &builder.finish()));
    for (i, query) in TEXT_QUERIES.iter().enumerate() {
        put("text", format!("seed-{i}"), query.as_bytes());
    }
    for (i, filter) in FILTERS.iter().enumerate() {
        put("filter", format!("seed-{i}"), format!("{filter}{METADATA}").as_bytes());
    }
}

const TEXT_QUERIES: &[&str] = &[
    "crash safe storage",
    "\"crash safe\"~2 +storage -vector",
    "(databas* OR record~2) AND NOT häuser",
    "東京 검색 КОШКА \"a b c\"",
    "AND OR NOT ((( \"unclosed +-+- ~ * \\ ^2 text:crash",
    "e\u{301}te\u{301} the of AND",
    "",
];

/// The payloads of a log's frames, by their lengths.
fn payloads(log: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut at = 64;
    while let Some(header) = log.get(at..at + 40) {
        let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let Some(payload) = log.get(at + 40..at + 40 + len) else { break };
        if !payload.is_empty() {
            found.push(payload.to_vec());
        }
        at += (40 + len).next_multiple_of(8);
    }
    found
}
