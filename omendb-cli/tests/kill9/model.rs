//! What the writer does, as a function of seed, thread and number; and what must be stored after it.

use omendb::{
    Batch, Collection, Database, Error, Id, Metric, Patch, Record, Schema, Sparse, Vector, VectorField, Vectors,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// Dimensions of the vectors.
pub const DIM: usize = 256;
/// The collection.
pub const COLLECTION: &str = "kill9";
/// Most writing threads.
pub const THREADS: usize = 3;
/// Records of a bulk write: past the size that goes through the log.
const BULK: u64 = 2_000;
/// Ids of small writes.
const SMALL: u64 = 300;

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// A course of its own for these numbers.
    pub fn of(parts: &[u64]) -> Random {
        let mut random = Random(0x006f_6d65_6e64_6239);
        for part in parts {
            random.0 = random.next() ^ part;
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

/// What is stored under an id, its vector as the seed it is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    vector: u64,
    metadata: Option<Value>,
    text: Option<String>,
    /// What the sparse vector `terms` and the vector `title` are made from.
    fields: Option<u64>,
}

/// What the collection holds.
pub fn schema() -> Schema {
    Schema::new(DIM, Metric::L2).with_sparse("terms").with_vectors("title", VectorField::new(2, Metric::L2))
}

fn terms(seed: u64) -> Sparse {
    let entries = (0..seed % 9).map(|n| ((seed % 1_000 + n * 7) as u32, n as f32 + 0.5));
    Sparse::new(entries).expect("ids differ")
}

fn title(seed: u64) -> [f32; 2] {
    [(seed % 1_000) as f32, (seed / 1_000) as f32]
}

impl Stored {
    /// Version `version` of the record of an id.
    fn new(version: u64) -> Stored {
        let metadata = (!version.is_multiple_of(5)).then(|| json!({"version": version, "tags": ["a", version % 7]}));
        let text = version.is_multiple_of(2).then(|| format!("version {version} of some words"));
        Stored { vector: version, metadata, text, fields: (!version.is_multiple_of(3)).then_some(version) }
    }
}

fn vector(seed: u64) -> Vec<f32> {
    let mut random = Random::of(&[seed]);
    (0..DIM / 2)
        .flat_map(|_| {
            let bits = random.next();
            [(bits >> 40) as f32 + 0.5, (bits & 0xff_ffff) as f32 + 0.5]
        })
        .collect()
}

/// A change of one record; what is `None` stays.
#[derive(Debug, Clone)]
pub struct Change {
    vector: Option<u64>,
    metadata: Option<Value>,
    text: Option<Option<String>>,
    fields: Option<Option<u64>>,
}

/// One operation.
#[derive(Debug, Clone)]
pub enum Op {
    Upsert(Vec<(Id, Stored)>),
    Update(Id, Change),
    Delete(Vec<Id>),
    Flush,
    Compact,
}

impl Op {
    /// Operation number `index` of a thread.
    fn new(seed: u64, thread: usize, index: u64) -> Op {
        let mut random = Random::of(&[seed, thread as u64, index]);
        let small = |n: u64| Id::U64(thread as u64 * 1_000_000 + n);
        let large = |n: u64| Id::Str(format!("thread {thread} bulk {n}"));
        let version = |n: u64| index * 10_000 + n;
        match random.below(100) {
            0..40 => {
                let n = 1 + random.below(20);
                let first = random.below(SMALL);
                Op::Upsert((0..n).map(|i| (small((first + i) % SMALL), Stored::new(version(i)))).collect())
            }
            40..60 => Op::Upsert(vec![(small(random.below(SMALL)), Stored::new(version(0)))]),
            60..72 => {
                let first = random.below(SMALL);
                Op::Delete((0..1 + random.below(5)).map(|i| small((first + i) % SMALL)).collect())
            }
            72..84 => {
                let new = Stored::new(version(0));
                let which = random.below(15) + 1;
                let change = Change {
                    vector: (which & 1 != 0).then_some(new.vector),
                    metadata: (which & 2 != 0).then(|| new.metadata.unwrap_or(Value::Null)),
                    text: (which & 4 != 0).then_some(new.text),
                    fields: (which & 8 != 0).then_some(new.fields),
                };
                Op::Update(small(random.below(SMALL)), change)
            }
            84..87 => {
                let n = BULK - random.below(BULK / 4);
                Op::Upsert((0..n).map(|i| (large(i), Stored::new(version(i)))).collect())
            }
            87..90 => {
                let first = random.below(BULK);
                Op::Delete((first..first + 200).map(large).collect())
            }
            90..96 => Op::Flush,
            _ => Op::Compact,
        }
    }

    /// For messages.
    pub fn name(&self) -> String {
        match self {
            Op::Upsert(records) => format!("the upsert of {} records", records.len()),
            Op::Update(id, ..) => format!("the update of {id}"),
            Op::Delete(ids) => format!("the deletion of {} records", ids.len()),
            Op::Flush => "a flush".to_owned(),
            Op::Compact => "a compaction".to_owned(),
        }
    }

    /// Does it for real.
    pub fn run(self, database: &Database, collection: &Collection) -> omendb::Result<()> {
        match self {
            Op::Upsert(records) => {
                let vectors: Vec<f32> = records.iter().flat_map(|(_, r)| vector(r.vector)).collect();
                let batch = Batch::new(records.iter().map(|(id, _)| id).collect(), vectors)
                    .with_metadata(records.iter().map(|(_, r)| r.metadata.as_ref()))?
                    .with_text(records.iter().map(|(_, r)| r.text.as_deref()));
                let values: Vec<Option<Sparse>> = records.iter().map(|(_, r)| r.fields.map(terms)).collect();
                let titles: Vec<f32> = records.iter().filter_map(|(_, r)| r.fields).flat_map(title).collect();
                let present = records.iter().map(|(_, r)| r.fields.is_some());
                let batch = batch
                    .with_sparse("terms", values.iter().map(Option::as_ref))
                    .with_some_vectors("title", present, titles);
                collection.upsert(batch).map(drop)
            }
            Op::Update(id, Change { vector: new_vector, metadata, text, fields }) => {
                let mut patch =
                    Patch { vector: new_vector.map(|v| Vectors::from(vector(v))), metadata, text, ..Patch::default() };
                if let Some(fields) = fields {
                    let title = fields.map(|seed| Vectors::from(title(seed).to_vec()));
                    patch.vectors = BTreeMap::from([("title".to_owned(), title)]);
                    patch.sparse = BTreeMap::from([("terms".to_owned(), fields.map(terms))]);
                }
                match collection.update(&id, patch) {
                    Err(Error::NotFound(_)) => Ok(()),
                    other => other,
                }
            }
            Op::Delete(ids) => collection.delete(&ids).map(drop),
            Op::Flush => database.flush(),
            Op::Compact => collection.compact(),
        }
    }
}

/// What must be stored of one thread.
#[derive(Debug, Clone)]
pub struct Model {
    /// The seed of the database's course.
    pub seed: u64,
    /// The thread.
    pub thread: usize,
    /// Number of its next operation.
    pub next: u64,
    /// Its records.
    pub records: HashMap<Id, Stored>,
}

impl Model {
    /// A thread that has done nothing yet.
    pub fn new(seed: u64, thread: usize) -> Model {
        Model { seed, thread, next: 0, records: HashMap::new() }
    }

    /// The next operation.
    pub fn next_op(&self) -> Op {
        Op::new(self.seed, self.thread, self.next)
    }

    /// Does the next operation to the model.
    pub fn apply_next(&mut self) {
        match self.next_op() {
            Op::Upsert(records) => self.records.extend(records),
            Op::Update(id, Change { vector, metadata, text, fields }) => {
                if let Some(stored) = self.records.get_mut(&id) {
                    if let Some(vector) = vector {
                        stored.vector = vector;
                    }
                    if let Some(metadata) = metadata {
                        stored.metadata = (!metadata.is_null()).then_some(metadata);
                    }
                    if let Some(text) = text {
                        stored.text = text;
                    }
                    if let Some(fields) = fields {
                        stored.fields = fields;
                    }
                }
            }
            Op::Delete(ids) => ids.iter().for_each(|id| drop(self.records.remove(id))),
            Op::Flush | Op::Compact => {}
        }
        self.next += 1;
    }

    /// Whether an id belongs to this thread.
    fn owns(&self, id: &Id) -> bool {
        match id {
            Id::U64(n) => *n / 1_000_000 == self.thread as u64,
            Id::Str(s) => s.starts_with(&format!("thread {} ", self.thread)),
        }
    }

    /// The first difference between the model and what is stored, if there is any.
    pub fn difference(&self, records: &[Record]) -> Option<String> {
        let mut found = 0;
        for record in records.iter().filter(|r| self.owns(&r.id)) {
            let Some(stored) = self.records.get(&record.id) else {
                return Some(format!("{} is there and should not be", record.id));
            };
            if record.metadata != stored.metadata || record.text != stored.text {
                return Some(format!("{} holds {:?} {:?}, not {stored:?}", record.id, record.metadata, record.text));
            }
            if !matches!(&record.vector, Vector::F32(v) if *v == vector(stored.vector)) {
                return Some(format!("{} has another vector", record.id));
            }
            let titles = stored.fields.map(|seed| ("title".to_owned(), Vector::F32(title(seed).to_vec())));
            let sparse = stored.fields.map(|seed| ("terms".to_owned(), terms(seed)));
            if record.vectors != titles.into_iter().collect() || record.sparse != sparse.into_iter().collect() {
                return Some(format!("{} has other fields: {:?} {:?}", record.id, record.vectors, record.sparse));
            }
            found += 1;
        }
        (found != self.records.len()).then(|| format!("{found} records, {} expected", self.records.len()))
    }
}
