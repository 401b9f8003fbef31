//! The model: ordered maps and brute force. And the comparison of a database with it.

use super::fields::{self, Fields, FieldsPatch};
use omendb::{Batch, IdColumn, Record};
use omendb::{Database, Element, Error, Filter, Id, Include, Metric, Patch, Schema, SearchOptions, Vector, Vectors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A record without its id.
#[derive(Debug, Clone, PartialEq)]
pub struct Doc {
    pub vector: Vector,
    pub metadata: Option<Value>,
    pub text: Option<String>,
    pub fields: Fields,
}

impl Doc {
    pub fn of(record: &Record) -> Self {
        let Record { vector, metadata, text, .. } = record.clone();
        Doc { vector, metadata, text, fields: Fields::of(record) }
    }
}

/// A record.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub id: Id,
    pub doc: Doc,
}

/// A collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub schema: Schema,
    pub docs: BTreeMap<Id, Arc<Doc>>,
}

/// All a database holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State(pub BTreeMap<String, Table>);

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Create {
        name: String,
        schema: Schema,
    },
    Drop {
        name: String,
    },
    Upsert {
        name: String,
        rows: Vec<Row>,
    },
    Add {
        name: String,
        rows: Vec<Row>,
    },
    Update {
        name: String,
        id: Id,
        vector: Option<Vector>,
        metadata: Option<Value>,
        text: Option<Option<String>>,
        fields: FieldsPatch,
    },
    Delete {
        name: String,
        ids: Vec<Id>,
    },
    Flush,
    Compact,
    /// Flushes, merges what has no graph, and builds or loads the graph and the text index of every segment.
    Index,
    /// The same, then merges what is alike in size and makes careful graphs.
    Settle,
    /// Closes the database and opens it again.
    Reopen,
    /// Closes the database, as the last step.
    Close,
}

impl Step {
    /// Whether a step changes what the database holds.
    pub fn is_write(&self) -> bool {
        !matches!(self, Step::Flush | Step::Compact | Step::Index | Step::Settle | Step::Reopen | Step::Close)
    }

    /// Whether everything before an acknowledged step is durable, whatever the durability.
    pub fn makes_durable(&self) -> bool {
        matches!(self, Step::Flush | Step::Index | Step::Settle | Step::Reopen | Step::Close)
    }
}

/// What a step must return: a count, or the name of an error.
pub type Outcome = Result<usize, &'static str>;

impl State {
    /// Applies a step; an error leaves the state as it was.
    pub fn apply(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Create { name, schema } => {
                if self.0.contains_key(name) {
                    return Err("AlreadyExists");
                }
                self.0.insert(name.clone(), Table { schema: schema.clone(), docs: BTreeMap::new() });
                Ok(0)
            }
            Step::Drop { name } => self.0.remove(name).map(|_| 0).ok_or("NotFound"),
            Step::Upsert { name, rows } => {
                let table = self.0.get_mut(name).ok_or("NotFound")?;
                table.docs.extend(rows.iter().map(|r| (r.id.clone(), Arc::new(r.doc.clone()))));
                Ok(rows.len())
            }
            Step::Add { name, rows } => {
                let table = self.0.get_mut(name).ok_or("NotFound")?;
                if rows.iter().any(|r| table.docs.contains_key(&r.id)) {
                    return Err("AlreadyExists");
                }
                table.docs.extend(rows.iter().map(|r| (r.id.clone(), Arc::new(r.doc.clone()))));
                Ok(rows.len())
            }
            Step::Update { name, id, vector, metadata, text, fields } => {
                let table = self.0.get_mut(name).ok_or("NotFound")?;
                let doc = Arc::make_mut(table.docs.get_mut(id).ok_or("NotFound")?);
                if let Some(vector) = vector {
                    doc.vector = vector.clone();
                }
                match metadata {
                    Some(Value::Null) => doc.metadata = None,
                    Some(value) => doc.metadata = Some(value.clone()),
                    None => {}
                }
                if let Some(text) = text {
                    doc.text = text.clone();
                }
                doc.fields.apply(fields);
                Ok(0)
            }
            Step::Delete { name, ids } => {
                let table = self.0.get_mut(name).ok_or("NotFound")?;
                Ok(ids.iter().filter(|id| table.docs.remove(*id).is_some()).count())
            }
            Step::Flush | Step::Compact | Step::Index | Step::Settle | Step::Reopen | Step::Close => Ok(0),
        }
    }
}

impl State {
    /// Whether the vectors of a step are of the collection's kind. A workload was made for the collections that it
    /// creates; where a creation failed, a later one may have made another kind.
    pub fn fits(&self, step: &Step) -> bool {
        let fit = |name: &String, vector: &Vector| {
            self.0.get(name).is_none_or(|table| {
                let vector = Vectors::from(vector);
                let per_row = match table.schema.element {
                    Element::Bits => table.schema.stride(),
                    _ => table.schema.dim,
                };
                vector.element() == table.schema.element && vector.elements() == per_row
            })
        };
        match step {
            Step::Upsert { name, rows } | Step::Add { name, rows } => {
                let schema = self.0.get(name).map(|table| &table.schema);
                let fields_fit = |doc: &Doc| schema.is_none_or(|schema| doc.fields.fit(schema));
                rows.iter().all(|r| fit(name, &r.doc.vector) && fields_fit(&r.doc))
            }
            Step::Update { name, vector, fields, .. } => {
                let schema = self.0.get(name).map(|table| &table.schema);
                vector.as_ref().is_none_or(|vector| fit(name, vector)) && schema.is_none_or(|schema| fields.fit(schema))
            }
            _ => true,
        }
    }
}

/// Rows as a batch.
pub fn batch(rows: &[Row], schema: &Schema) -> Batch<'static> {
    let ids: IdColumn = rows.iter().map(|r| &r.id).collect();
    let vectors = pack(rows.iter().map(|r| &r.doc.vector), schema.element);
    let batch = Batch::new(ids, vectors).with_metadata(rows.iter().map(|r| r.doc.metadata.as_ref()));
    let batch = batch.expect("the generator makes valid metadata");
    let batch = batch.with_text(rows.iter().map(|r| r.doc.text.as_deref()));
    fields::with_rows(batch, &rows.iter().map(|r| &r.doc.fields).collect::<Vec<_>>(), schema)
}

pub fn pack<'a>(rows: impl Iterator<Item = &'a Vector>, element: Element) -> Vectors<'static> {
    macro_rules! all {
        ($kind:ident) => {
            Vectors::$kind(
                rows.flat_map(|v| match v {
                    Vector::$kind(v) => v.clone(),
                    other => panic!("the generator mixed {other:?} into {element:?}"),
                })
                .collect::<Vec<_>>()
                .into(),
            )
        };
    }
    match element {
        Element::F32 => all!(F32),
        Element::F16 => all!(F16),
        Element::I8 => all!(I8),
        Element::U8 => all!(U8),
        Element::Bits => all!(Bits),
    }
}

/// Does a step on a database (not `Reopen`, which the caller does). Returns a count.
pub fn perform(db: &Database, step: &Step) -> omendb::Result<usize> {
    match step {
        Step::Create { name, schema } => db.create_collection(name, schema.clone()).map(|_| 0),
        Step::Drop { name } => db.drop_collection(name).map(|()| 0),
        Step::Upsert { name, rows } => {
            let collection = db.collection(name)?;
            collection.upsert(batch(rows, collection.schema()))
        }
        Step::Add { name, rows } => {
            let collection = db.collection(name)?;
            collection.add(batch(rows, collection.schema()))
        }
        Step::Update { name, id, vector, metadata, text, fields } => {
            let vector = vector.as_ref().map(Vectors::from);
            let patch = Patch { vector, metadata: metadata.clone(), text: text.clone(), ..Patch::default() };
            let patch = fields.extend(patch);
            db.collection(name)?.update(id, patch).map(|()| 0)
        }
        Step::Delete { name, ids } => db.collection(name)?.delete(ids),
        Step::Flush => db.flush().map(|()| 0),
        Step::Compact => db.compact().map(|()| 0),
        Step::Index => index(db, false).map(|()| 0),
        Step::Settle => index(db, true).map(|()| 0),
        Step::Reopen | Step::Close => db.close().map(|()| 0),
    }
}

/// Builds or loads all graphs and text indexes, as the background does.
pub fn index(db: &Database, settled: bool) -> omendb::Result<()> {
    db.collections().iter().try_for_each(|name| db.collection(name)?.wait_indexed(settled))
}

/// Why a database could not be read, or what is wrong with what it says.
#[derive(Debug)]
pub enum Trouble {
    /// It says so itself.
    Error(Error),
    /// It does not notice.
    Wrong(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Error(error)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Error(e) => write!(f, "error {}: {e}", e.name()),
            Trouble::Wrong(what) => write!(f, "WRONG: {what}"),
        }
    }
}

macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        match $condition {
            true => {}
            false => return Err(Trouble::Wrong(format!($($message)+))),
        }
    };
}

/// Reads everything by iteration.
pub fn read_out(db: &Database) -> Result<State, Trouble> {
    let mut state = State::default();
    for name in db.collections() {
        let collection = db.collection(&name)?;
        let mut table = Table { schema: collection.schema().clone(), docs: BTreeMap::new() };
        for record in collection.iterate()? {
            let record = record?;
            let twice = table.docs.insert(record.id.clone(), Arc::new(Doc::of(&record)));
            ensure!(twice.is_none(), "{name}: iterate returns {:?} twice", record.id);
        }
        state.0.insert(name, table);
    }
    Ok(state)
}

/// Checks every other way of reading against `state`, which iteration returned.
pub fn cross_check(db: &Database, state: &State) -> Result<(), Trouble> {
    let names: Vec<String> = state.0.keys().cloned().collect();
    let mut listed = db.collections();
    listed.sort();
    ensure!(listed == names, "collections() = {listed:?}, expected {names:?}");
    for (name, table) in &state.0 {
        let collection = db.collection(name)?;
        let count = collection.count()?;
        ensure!(count == table.docs.len() as u64, "{name}: count() = {count}, expected {}", table.docs.len());
        let mut wanted: Vec<Id> = table.docs.keys().cloned().collect();
        wanted.push(Id::from("no such id"));
        let many = collection.get_many(&wanted)?;
        ensure!(many.len() == wanted.len(), "{name}: get_many of {} ids returns {}", wanted.len(), many.len());
        for (id, found) in wanted.iter().zip(many) {
            let one = collection.get(id)?;
            ensure!(one == found, "{name}: get and get_many disagree on {id:?}: {one:?}, {found:?}");
            let found = found.map(|r| (r.id.clone(), Doc::of(&r)));
            let expected = table.docs.get(id).map(|doc| (id.clone(), Doc::clone(doc)));
            ensure!(found == expected, "{name}: get({id:?}) = {found:?}, expected {expected:?}");
            let contained = collection.contains(id)?;
            ensure!(contained == expected.is_some(), "{name}: contains({id:?}) = {contained}");
        }
        let query = table.docs.values().next().map(|d| d.vector.clone()).unwrap_or_else(|| ones(&table.schema));
        check_search(&collection, table, &query, table.docs.len() + 1)?;
        check_search(&collection, table, &ones(&table.schema), 3)?;
        fields::check(&collection, table)?;
        check_filters(&collection, table)?;
        // Where there are graphs, they lead to every record.
        if collection.stats().indexed_rows > 0 {
            for doc in table.docs.values() {
                check_hits(&collection, table, &doc.vector, &SearchOptions::new(1).include(Include::ALL), 0)?;
            }
        }
    }
    Ok(())
}

/// Filters and the records must agree about which metadata there is.
fn check_filters(collection: &omendb::Collection, table: &Table) -> Result<(), Trouble> {
    for sql in ["n < 50 OR z = 3", "deep.a.b = true", "lang IS NULL AND NOT tags = 'x'", "note IS NOT NULL"] {
        let filter = Filter::from_sql(sql)?;
        let found = collection.count_matching(&filter)?;
        let expected = table.docs.values().filter(|doc| filter.matches(doc.metadata.as_ref())).count() as u64;
        ensure!(found == expected, "{}: {found} records where {sql}, expected {expected}", collection.name());
    }
    Ok(())
}

/// Text search and the records must agree about which texts there are.
pub fn check_texts(db: &Database, state: &State) -> Result<(), Trouble> {
    state.0.iter().try_for_each(|(name, table)| check_texts_of(&db.collection(name)?, table))
}

fn check_texts_of(collection: &omendb::Collection, table: &Table) -> Result<(), Trouble> {
    let name = collection.name();
    let texts: Vec<(&Id, &str)> = table.docs.iter().filter_map(|(id, doc)| Some((id, doc.text.as_deref()?))).collect();
    let number = texts.iter().find_map(|(_, text)| text.split(' ').find(|word| word.parse::<u32>().is_ok()));
    for word in ["words", "long", "probe"].into_iter().chain(number) {
        let hits = collection.search_text(word, &SearchOptions::new(texts.len() + 1).include(Include::ALL))?;
        let mut found: Vec<&Id> = hits.iter().map(|hit| &hit.id).collect();
        found.sort();
        let holds = |(_, text): &&(&Id, &str)| text.split(' ').any(|other| other == word);
        let expected: Vec<&Id> = texts.iter().filter(holds).map(|(id, _)| *id).collect();
        ensure!(found == expected, "{name}: {word:?} is found in {found:?}, expected {expected:?}");
        ensure!(hits.complete, "{name}: {word:?}: {} of {} hits are not complete", hits.len(), expected.len());
        for hit in hits.iter() {
            let doc = &table.docs[&hit.id];
            let fields = (hit.vector.as_ref(), hit.metadata.as_ref(), hit.text.as_ref());
            let expected = (Some(&doc.vector), doc.metadata.as_ref(), doc.text.as_ref());
            ensure!(fields == expected, "{name}: hit {:?} carries {fields:?}, expected {expected:?}", hit.id);
            ensure!(hit.score > 0.0 && hit.score.is_finite(), "{name}: {:?} scores {}", hit.id, hit.score);
        }
    }
    Ok(())
}

fn ones(schema: &Schema) -> Vector {
    match schema.element {
        Element::F32 => Vector::F32(vec![1.0; schema.dim]),
        Element::F16 => Vector::F16(vec![half::f16::ONE; schema.dim]),
        Element::I8 => Vector::I8(vec![1; schema.dim]),
        Element::U8 => Vector::U8(vec![1; schema.dim]),
        Element::Bits => Vector::Bits((0..schema.dim.div_ceil(8)).map(|i| if i == 0 { 1 } else { 0 }).collect()),
    }
}

/// The distance by definition, in f64.
pub fn distance(metric: Metric, a: &Vector, b: &Vector) -> f64 {
    let pairs = || a.to_f32().into_iter().zip(b.to_f32()).map(|(x, y)| (f64::from(x), f64::from(y)));
    let dot = |pairs: &mut dyn Iterator<Item = (f64, f64)>| pairs.map(|(x, y)| x * y).sum::<f64>();
    match metric {
        Metric::L2 => pairs().map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt(),
        Metric::Dot => -dot(&mut pairs()),
        Metric::Cosine => {
            let norms = dot(&mut pairs().map(|(x, _)| (x, x))) * dot(&mut pairs().map(|(_, y)| (y, y)));
            1.0 - dot(&mut pairs()) / norms.sqrt()
        }
        Metric::Hamming => pairs().filter(|(x, y)| x != y).count() as f64,
    }
}

/// Compares searches with brute force: an exact one, and the usual one, which may miss a record where there are graphs.
fn check_search(collection: &omendb::Collection, table: &Table, query: &Vector, k: usize) -> Result<(), Trouble> {
    let options = SearchOptions::new(k).include(Include::ALL);
    check_hits(collection, table, query, &options, usize::from(collection.stats().indexed_rows > 0))?;
    check_hits(collection, table, query, &options.recall(1.0), 0)
}

/// Compares one search with brute force. Of the nearest records, at most `missed` may not be found.
fn check_hits(
    collection: &omendb::Collection,
    table: &Table,
    query: &Vector,
    options: &SearchOptions,
    missed: usize,
) -> Result<(), Trouble> {
    let (name, k) = (collection.name(), options.k);
    let hits = collection.search(query, options)?;
    let metric = table.schema.metric;
    let mut exact: Vec<f64> = table.docs.values().map(|doc| distance(metric, query, &doc.vector)).collect();
    exact.sort_by(f64::total_cmp);
    let expected = k.min(exact.len());
    ensure!(hits.len() == expected, "{name}: search(k={k}) returns {} hits, expected {expected}", hits.len());
    // `complete` says that fewer than k came back because no more records match.
    ensure!(
        !(hits.len() == k && hits.complete) && (hits.len() == k || hits.complete),
        "{name}: complete = {} with {} of k={k} hits",
        hits.complete,
        hits.len()
    );
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-4 * (1.0 + a.abs());
    for (rank, hit) in hits.iter().enumerate() {
        let Some(doc) = table.docs.get(&hit.id) else {
            return Err(Trouble::Wrong(format!("{name}: search returns {:?}, which is not there", hit.id)));
        };
        let wanted = distance(metric, query, &doc.vector);
        let got = f64::from(hit.distance);
        ensure!(close(wanted, got), "{name}: distance of {:?} = {got}, expected {wanted}", hit.id);
        // Each record that is missed lets the next one take its rank.
        let right = exact[rank..].iter().take(missed + 1).any(|exact| close(*exact, got));
        ensure!(right, "{name}: hit {rank} is at {got}, the exact one at {}", exact[rank]);
        ensure!((hit.score - metric.score(hit.distance)).abs() <= 1e-5, "{name}: score {} at {got}", hit.score);
        if let Some(next) = hits.get(rank + 1) {
            let ordered = hit.distance <= next.distance && hit.id != next.id;
            ensure!(ordered, "{name}: hits out of order: {:?} {got}, then {:?} {}", hit.id, next.id, next.distance);
        }
        let fields = (hit.vector.as_ref(), hit.metadata.as_ref(), hit.text.as_ref());
        let expected = (Some(&doc.vector), doc.metadata.as_ref(), doc.text.as_ref());
        ensure!(fields == expected, "{name}: hit {:?} carries {fields:?}, expected {expected:?}", hit.id);
    }
    Ok(())
}

/// Reads a database in every way.
pub fn read_all(db: &Database) -> Result<State, Trouble> {
    let state = read_records(db)?;
    check_texts(db, &state)?;
    Ok(state)
}

/// Reads a database in every way but by its texts, whose indexes take a while to make.
pub fn read_records(db: &Database) -> Result<State, Trouble> {
    let state = read_out(db)?;
    cross_check(db, &state)?;
    Ok(state)
}

/// The difference of two states, in short.
pub fn difference(got: &State, expected: &State) -> String {
    let mut lines = Vec::new();
    for name in got.0.keys().chain(expected.0.keys().filter(|n| !got.0.contains_key(*n))) {
        match (got.0.get(name), expected.0.get(name)) {
            (Some(_), None) => lines.push(format!("collection {name} should not be there")),
            (None, Some(_)) => lines.push(format!("collection {name} is missing")),
            (Some(g), Some(e)) => {
                if g.schema != e.schema {
                    lines.push(format!("{name}: schema {:?}, expected {:?}", g.schema, e.schema));
                }
                let ids = g.docs.keys().chain(e.docs.keys().filter(|id| !g.docs.contains_key(*id)));
                for id in ids.filter(|id| g.docs.get(*id) != e.docs.get(*id)) {
                    lines.push(format!("{name}/{id:?}: got {:?}, expected {:?}", g.docs.get(id), e.docs.get(id)));
                }
            }
            (None, None) => {}
        }
    }
    lines.join("; ")
}
