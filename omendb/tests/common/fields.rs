//! Further fields in the model: what records hold, what steps do to it, and every search by them.

use super::generate::vector;
use super::model::{Table, Trouble, distance, pack};
use omendb::storage::sim::Rng;
use omendb::{
    Batch, Collection, Element, FieldKind, Id, Include, Metric, Patch, Record, Schema, SearchOptions, Sparse, Vector,
    VectorField, Vectors,
};
use std::collections::BTreeMap;

/// The further fields of one record.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fields {
    pub vectors: BTreeMap<String, Vector>,
    pub sparse: BTreeMap<String, Sparse>,
}

/// What an update does to them: `None` removes one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FieldsPatch {
    pub vectors: BTreeMap<String, Option<Vector>>,
    pub sparse: BTreeMap<String, Option<Sparse>>,
}

impl Fields {
    pub fn of(record: &Record) -> Self {
        Fields { vectors: record.vectors.clone(), sparse: record.sparse.clone() }
    }

    pub fn apply(&mut self, patch: &FieldsPatch) {
        fn apply<T: Clone>(to: &mut BTreeMap<String, T>, patch: &BTreeMap<String, Option<T>>) {
            for (name, value) in patch {
                match value {
                    Some(value) => drop(to.insert(name.clone(), value.clone())),
                    None => drop(to.remove(name)),
                }
            }
        }
        apply(&mut self.vectors, &patch.vectors);
        apply(&mut self.sparse, &patch.sparse);
    }

    /// Whether a collection of this schema takes them.
    pub fn fit(&self, schema: &Schema) -> bool {
        let kind = |name: &String| schema.fields.iter().find(|field| field.name == *name).map(|field| &field.kind);
        self.sparse.keys().all(|name| kind(name) == Some(&FieldKind::Sparse))
            && self.vectors.iter().all(|(name, vector)| match kind(name) {
                Some(FieldKind::Vector(field)) => {
                    let vector = Vectors::from(vector);
                    let bits = field.element == Element::Bits;
                    let per_row = if bits { field.dim.div_ceil(8) } else { field.dim };
                    vector.element() == field.element && vector.elements() == per_row
                }
                _ => false,
            })
    }
}

impl FieldsPatch {
    pub fn fit(&self, schema: &Schema) -> bool {
        let known = |name: &String, sparse: bool| {
            let field = schema.fields.iter().find(|field| field.name == *name);
            field.is_some_and(|field| (field.kind == FieldKind::Sparse) == sparse)
        };
        let set = |name: &String, value: &Option<Vector>| Some((name.clone(), value.clone()?));
        let vectors = self.vectors.iter().filter_map(|(name, value)| set(name, value)).collect();
        self.sparse.keys().all(|name| known(name, true))
            && self.vectors.keys().all(|name| known(name, false))
            && Fields { vectors, ..Fields::default() }.fit(schema)
    }

    /// Adds the changes to a patch.
    pub fn extend<'a>(&'a self, patch: Patch<'a>) -> Patch<'a> {
        let vectors = self.vectors.iter().map(|(name, value)| (name.clone(), value.as_ref().map(Vectors::from)));
        Patch { vectors: vectors.collect(), sparse: self.sparse.clone(), ..patch }
    }
}

/// A schema with fields of every kind.
pub fn with_fields(schema: Schema) -> Schema {
    let title = VectorField::new(3, Metric::Dot).with_element(Element::I8);
    schema.with_vectors("title", title).with_sparse("terms").with_vectors("image", VectorField::new(2, Metric::Cosine))
}

fn sparse(rng: &mut Rng) -> Sparse {
    let count = if rng.one_in(6) { 0 } else { 1 + rng.below(4) };
    let id = |rng: &mut Rng| if rng.one_in(8) { u32::MAX - rng.below(2) as u32 } else { rng.below(6) as u32 };
    let entries: BTreeMap<u32, f32> = (0..count).map(|_| (id(rng), rng.below(9) as f32 / 4.0 - 0.5)).collect();
    Sparse::new(entries).expect("ids differ and weights are numbers")
}

fn field_vector(rng: &mut Rng, field: &VectorField) -> Vector {
    vector(rng, &Schema::new(field.dim, field.metric).with_element(field.element))
}

/// Random values of some of a schema's fields.
pub fn fields(rng: &mut Rng, schema: &Schema) -> Fields {
    let mut all = Fields::default();
    for field in &schema.fields {
        if rng.one_in(3) {
            continue;
        }
        match &field.kind {
            FieldKind::Vector(kind) => drop(all.vectors.insert(field.name.clone(), field_vector(rng, kind))),
            FieldKind::Sparse => drop(all.sparse.insert(field.name.clone(), sparse(rng))),
        }
    }
    all
}

/// Random changes of some of a schema's fields.
pub fn patch(rng: &mut Rng, schema: &Schema) -> FieldsPatch {
    let mut all = FieldsPatch::default();
    for field in &schema.fields {
        if rng.one_in(2) {
            continue;
        }
        let set = !rng.one_in(3);
        match &field.kind {
            FieldKind::Vector(kind) => {
                let value = set.then(|| field_vector(rng, kind));
                all.vectors.insert(field.name.clone(), value);
            }
            FieldKind::Sparse => drop(all.sparse.insert(field.name.clone(), set.then(|| sparse(rng)))),
        }
    }
    all
}

/// Adds the fields of rows to their batch.
pub fn with_rows(mut batch: Batch<'static>, rows: &[&Fields], schema: &Schema) -> Batch<'static> {
    for field in &schema.fields {
        let name = &field.name;
        batch = match &field.kind {
            FieldKind::Sparse => batch.with_sparse(name, rows.iter().map(|fields| fields.sparse.get(name))),
            FieldKind::Vector(kind) => {
                let present = rows.iter().map(|fields| fields.vectors.contains_key(name));
                let vectors = rows.iter().filter_map(|fields| fields.vectors.get(name));
                batch.with_some_vectors(name, present, pack(vectors, kind.element))
            }
        };
    }
    batch
}

macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        match $condition {
            true => {}
            false => return Err(Trouble::Wrong(format!($($message)+))),
        }
    };
}

/// Compares searches by every field with brute force.
pub fn check(collection: &Collection, table: &Table) -> Result<(), Trouble> {
    for field in &table.schema.fields {
        match &field.kind {
            FieldKind::Sparse => {
                let queries = [vec![(0, 1.0), (2, -0.5), (u32::MAX, 2.0)], vec![(1, 0.25)], vec![(77, 1.0)], vec![]];
                for query in queries {
                    let query = Sparse::new(query)?;
                    check_sparse(collection, table, &field.name, &query, table.docs.len() + 1)?;
                    check_sparse(collection, table, &field.name, &query, 2)?;
                }
            }
            FieldKind::Vector(kind) => {
                let query = table.docs.values().find_map(|doc| doc.fields.vectors.get(&field.name)).cloned();
                let query = query.unwrap_or_else(|| field_vector(&mut Rng::new(1), kind));
                check_vectors(collection, table, &field.name, kind.metric, &query, table.docs.len() + 1)?;
                check_vectors(collection, table, &field.name, kind.metric, &query, 2)?;
            }
        }
    }
    Ok(())
}

fn check_vectors(
    collection: &Collection,
    table: &Table,
    field: &str,
    metric: Metric,
    query: &Vector,
    k: usize,
) -> Result<(), Trouble> {
    let name = collection.name();
    let hits = collection.search(query, &SearchOptions::new(k).using(field).include(Include::ALL))?;
    let exact = |id: &Id| table.docs.get(id)?.fields.vectors.get(field).map(|value| distance(metric, query, value));
    let mut distances: Vec<f64> = table.docs.keys().filter_map(exact).collect();
    distances.sort_by(f64::total_cmp);
    let expected = k.min(distances.len());
    ensure!(hits.len() == expected, "{name}.{field}: {} hits of k={k}, expected {expected}", hits.len());
    ensure!(hits.complete == (hits.len() < k), "{name}.{field}: complete = {} of k={k}", hits.complete);
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-4 * (1.0 + a.abs());
    for (hit, wanted) in hits.iter().zip(distances) {
        let (own, got) = (exact(&hit.id), f64::from(hit.distance));
        ensure!(own.is_some_and(|own| close(own, got)), "{name}.{field}: {:?} is at {got}, not {own:?}", hit.id);
        ensure!(close(wanted, got), "{name}.{field}: a hit is at {got}, the exact one at {wanted}");
        let carried = Fields { vectors: hit.vectors.clone(), sparse: hit.sparse.clone() };
        ensure!(carried == table.docs[&hit.id].fields, "{name}.{field}: {:?} carries {carried:?}", hit.id);
    }
    Ok(())
}

/// The dot product by definition: products added up in the order of the ids.
pub fn dot(a: &Sparse, b: &Sparse) -> f32 {
    let b: BTreeMap<u32, f32> = b.iter().collect();
    let common = a.iter().filter_map(|(id, weight)| Some(f64::from(weight) * f64::from(*b.get(&id)?)));
    common.sum::<f64>() as f32
}

fn check_sparse(collection: &Collection, table: &Table, field: &str, query: &Sparse, k: usize) -> Result<(), Trouble> {
    let name = collection.name();
    let hits = collection.search_sparse(field, query, &SearchOptions::new(k).include(Include::ALL))?;
    let score = |id: &Id| table.docs.get(id)?.fields.sparse.get(field).map(|value| dot(query, value));
    let mut exact: Vec<f32> = table.docs.keys().filter_map(score).filter(|score| *score != 0.0).collect();
    exact.sort_by(|a, b| b.total_cmp(a));
    let expected: Vec<f32> = exact.iter().copied().take(k).collect();
    let got: Vec<f32> = hits.iter().map(|hit| hit.score).collect();
    ensure!(got == expected, "{name}.{field}: {query:?} (k={k}) scores {got:?}, expected {expected:?}");
    ensure!(hits.complete == (exact.len() < k), "{name}.{field}: complete = {} of k={k}", hits.complete);
    for hit in hits.iter() {
        ensure!(score(&hit.id) == Some(hit.score), "{name}.{field}: {:?} scores {}", hit.id, hit.score);
        let part = hit.field_scores.get(field);
        ensure!(part == Some(&hit.score) && hit.distance == -hit.score, "{name}.{field}: parts {:?}", hit.field_scores);
        let carried = Fields { vectors: hit.vectors.clone(), sparse: hit.sparse.clone() };
        ensure!(carried == table.docs[&hit.id].fields, "{name}.{field}: {:?} carries {carried:?}", hit.id);
    }
    Ok(())
}
