//! Full text and hybrid search: the answers are right, whatever the layout, the query and the damage.

mod damage;
mod hybrid;
mod layouts;
mod queries;
mod tantivy_parity;

use omendb::{Batch, Collection, Database, Hits, Metric, Options, Schema, SearchOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;

/// The glosses of the demo's words, most frequent word first: (word, gloss).
fn glosses() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../omendb-cli/data/words.jsonl.gz");
    let file = std::fs::File::open(path).unwrap();
    let lines = BufReader::new(flate2::read::GzDecoder::new(file)).lines();
    let word = |line: String| {
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let field = |name: &str| value[name].as_str().unwrap().to_owned();
        (field("word"), field("gloss"))
    };
    lines.map(|line| word(line.unwrap())).collect()
}

/// Numbers that repeat from run to run.
fn numbers(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    }
}

/// No threads and no bulk writes: records stay in memory until they are flushed.
fn quiet() -> Options {
    Options::new().background(false).bulk_bytes(256 << 20).seed(1)
}

fn schema() -> Schema {
    Schema::new(2, Metric::L2)
}

fn in_memory(schema: Schema) -> (Database, Collection) {
    let db = quiet().open_on(std::sync::Arc::new(omendb::storage::MemStorage::new())).unwrap();
    let docs = db.create_collection("docs", schema).unwrap();
    (db, docs)
}

fn write<S: AsRef<str>>(docs: &Collection, records: &[(S, S)]) {
    for chunk in records.chunks(1_000) {
        let vectors: Vec<f32> = (0..chunk.len()).flat_map(|i| [i as f32, 0.0]).collect();
        let batch = Batch::new(chunk.iter().map(|(id, _)| id.as_ref()).collect(), vectors);
        docs.upsert(batch.with_text(chunk.iter().map(|(_, text)| Some(text.as_ref())))).unwrap();
    }
}

/// The ids that a query finds.
fn found(docs: &Collection, query: &str) -> Vec<String> {
    ids(&docs.search_text(query, &SearchOptions::new(100)).unwrap())
}

fn ids(hits: &Hits) -> Vec<String> {
    hits.iter().map(|hit| hit.id.to_string()).collect()
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}
