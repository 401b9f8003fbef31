//! A seeded workload for crash tests: operation `n` depends on the seed and `n` alone, so the process that crashes
//! and the process that judges it agree on what each acknowledged operation did.

use omendb::{Batch, Collection, Error, IdColumn, IdRef, Metric, Options, Patch, Result, Schema, Vector};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Dimensions of the vectors.
const DIM: usize = 16;
/// Ids in play: few, so that most writes replace or remove a record.
const IDS: u64 = 400;
/// The collection's name.
const NAME: &str = "crash";
/// A log this small is flushed in the background every few hundred operations.
const LOG_CAP: u64 = 256 << 10;

/// One record as the model keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    vector: Vec<f32>,
    metadata: Option<Value>,
    text: Option<String>,
}

/// What the database must hold.
pub type Model = BTreeMap<String, Row>;

/// One operation.
#[derive(Debug, Clone)]
pub enum Op {
    Upsert(Vec<(String, Row)>),
    Delete(Vec<String>),
    SetMetadata(String, Value),
    Flush,
    Compact,
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough randomness for a test, in five lines.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Operation `n` of the workload.
pub fn operation(seed: u64, n: u64) -> Op {
    let mut random = Random(seed ^ n.wrapping_mul(0xD1B5_4A32_D192_ED03));
    let id = |random: &mut Random| format!("record-{}", random.below(IDS));
    match random.below(100) {
        0..68 => {
            // one batch in eight is large, so that commits of many pages are cut as well
            let most = if random.below(8) == 0 { 200 } else { 6 };
            let count = 1 + random.below(most);
            let mut rows = BTreeMap::new();
            for _ in 0..count {
                let vector = (0..DIM).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect();
                let metadata = (random.below(4) > 0).then(|| json!({"n": n, "tags": [random.below(9), "x"]}));
                let text = (random.below(3) > 0).then(|| format!("operation {n}, word {}", random.below(1000)));
                rows.insert(id(&mut random), Row { vector, metadata, text });
            }
            Op::Upsert(rows.into_iter().collect())
        }
        68..83 => {
            let count = 1 + random.below(5);
            Op::Delete((0..count).map(|_| id(&mut random)).collect())
        }
        83..95 => Op::SetMetadata(id(&mut random), json!({"patched": n})),
        95..99 => Op::Flush,
        _ => Op::Compact,
    }
}

/// What an operation does to the model.
pub fn apply(model: &mut Model, op: &Op) {
    match op {
        Op::Upsert(rows) => model.extend(rows.iter().cloned()),
        Op::Delete(ids) => ids.iter().for_each(|id| {
            model.remove(id);
        }),
        Op::SetMetadata(id, value) => {
            if let Some(row) = model.get_mut(id) {
                row.metadata = Some(value.clone());
            }
        }
        Op::Flush | Op::Compact => {}
    }
}

/// What an operation does to the database.
fn execute(collection: &Collection, op: &Op) -> Result<()> {
    match op {
        Op::Upsert(rows) => {
            let ids: IdColumn = rows.iter().map(|(id, _)| IdRef::Str(id)).collect();
            let vectors: Vec<f32> = rows.iter().flat_map(|(_, row)| row.vector.iter().copied()).collect();
            let batch = Batch::new(ids, vectors)
                .with_metadata(rows.iter().map(|(_, row)| row.metadata.as_ref()))?
                .with_text(rows.iter().map(|(_, row)| row.text.as_deref()));
            collection.upsert(batch).map(|_| ())
        }
        Op::Delete(ids) => collection.delete(ids.iter().map(|id| IdRef::Str(id))).map(|_| ()),
        Op::SetMetadata(id, value) => {
            let patch = Patch { metadata: Some(value.clone()), ..Patch::default() };
            match collection.update(IdRef::Str(id), patch) {
                Err(Error::NotFound(_)) => Ok(()),
                other => other,
            }
        }
        Op::Flush => collection.flush(),
        Op::Compact => collection.compact(),
    }
}

/// The process that is to crash: runs the operations from `first` on, for ever, and writes the number of each to
/// standard output once it is acknowledged. Ends at the first error.
pub fn write_until_stopped(path: &Path, seed: u64, first: u64) -> Result<()> {
    let database = Options::new().log_cap(LOG_CAP).open(path)?;
    let collection = database.get_or_create_collection(NAME, Schema::new(DIM, Metric::L2))?;
    let mut acknowledged = std::io::stdout().lock();
    for n in first.. {
        execute(&collection, &operation(seed, n))?;
        // one write call a line: a line is whole or absent
        let line = format!("ack {n}\n");
        if acknowledged.write_all(line.as_bytes()).and_then(|()| acknowledged.flush()).is_err() {
            break;
        }
    }
    Ok(())
}

/// Reads the whole database after a crash and checks it deeply: every record, the count, a search.
pub fn read_back(path: &Path) -> Model {
    let database = Options::new().log_cap(LOG_CAP).open(path).expect("the database opens after a crash");
    let report = database.check(true).expect("the check runs");
    assert!(report.problems.is_empty(), "damage after a crash: {:?}", report.problems);
    let mut model = Model::new();
    if let Ok(collection) = database.collection(NAME) {
        for record in collection.iterate().expect("records can be read") {
            let record = record.expect("every record can be read");
            let Vector::F32(vector) = record.vector else { panic!("not an f32 vector: {record:?}") };
            let row = Row { vector, metadata: record.metadata, text: record.text };
            assert!(model.insert(record.id.to_string(), row).is_none(), "{} came twice", record.id);
        }
        assert_eq!(collection.count().expect("the count is known"), model.len() as u64);
        if let Some((id, row)) = model.first_key_value() {
            let hits = collection.search(&row.vector, &omendb::SearchOptions::new(3)).expect("a search answers");
            assert!(hits.iter().any(|hit| hit.id.to_string() == *id), "{id} is not found by its own vector");
        }
    }
    database.close().expect("the database closes");
    model
}

/// What differs between the model and what was read, for a message.
pub fn difference(expected: &Model, found: &Model) -> String {
    let lost: Vec<_> = expected.keys().filter(|id| !found.contains_key(*id)).collect();
    let risen: Vec<_> = found.keys().filter(|id| !expected.contains_key(*id)).collect();
    let changed: Vec<_> = expected.iter().filter(|(id, row)| found.get(*id).is_some_and(|f| f != *row)).collect();
    format!("lost {lost:?}; present though deleted {risen:?}; not as written {changed:?}")
}
