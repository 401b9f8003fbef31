//! Collections: writing, reading, searching.

use crate::convert::{filter, id, ids, json, json_to_python, metadata_rows, report, text_rows};
use crate::errors::{OrRaise, exception, invalid};
use crate::fields::{Declared, Given, declared, sparse};
use crate::process::{Owned, interruptible};
use crate::results::{PyBatchHits, PyHits, PyRecord};
use crate::vectors::{Array, elements_per_vector};
use omendb::{Batch, Collection, Error, Fuse, Id, Include, Mmr, Patch, Query, Records, Schema, SearchOptions};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A batch search looks for Ctrl-C about this often.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(200);

/// A collection of an open database.
#[pyclass(frozen, name = "Collection", module = "omendb._native")]
pub(crate) struct PyCollection {
    collection: Owned<Collection>,
}

impl PyCollection {
    pub(crate) fn new(collection: Collection) -> Self {
        PyCollection { collection: Owned::new(collection) }
    }

    fn get(&self, py: Python<'_>) -> PyResult<&Collection> {
        self.collection.get().or_raise(py)
    }

    /// Hands a batch to `write`, the vectors borrowed and the lock released.
    fn write<'py>(
        &self,
        py: Python<'py>,
        columns: Columns<'_, 'py>,
        write: impl FnOnce(&Collection, Batch<'_>) -> omendb::Result<usize> + Send,
    ) -> PyResult<usize> {
        let collection = self.get(py)?;
        let column = ids(columns.ids)?;
        let array = Array::borrow(columns.vectors)?;
        let (elements, rows) = array.rows(py, collection.schema())?;
        if rows != column.len() {
            let what = format!("{} ids but {rows} vectors were given; one a record is expected", column.len());
            return Err(exception(py, &Error::invalid(what)));
        }
        let metadata = columns.metadata.map(metadata_rows).transpose()?;
        let held = columns.text.map(text_rows).transpose()?;
        let text = held.as_ref().map(|rows| text_slices(rows)).transpose()?;
        let fields = columns.fields.map(|given| given.hold(py, collection.schema())).transpose()?;
        let fields = fields.as_ref().map(|held| held.values(py)).transpose()?;
        py.detach(|| {
            let mut batch = Batch::new(column, elements);
            if let Some(rows) = &metadata {
                batch = batch.with_metadata(rows.iter().map(Option::as_ref))?;
            }
            if let Some(rows) = text {
                batch = batch.with_text(rows);
            }
            if let Some(fields) = fields {
                batch = fields.add(batch);
            }
            write(collection, batch)
        })
        .or_raise(py)
    }
}

/// A group: its value, and its hits.
type ValueAndHits<'py> = (Bound<'py, PyAny>, PyHits);

/// The columns of a batch as Python objects.
struct Columns<'a, 'py> {
    ids: &'a Bound<'py, PyAny>,
    vectors: &'a Bound<'py, PyAny>,
    metadata: Option<&'a Bound<'py, PyList>>,
    text: Option<&'a Bound<'py, PyList>>,
    fields: Option<Given<'py>>,
}

fn text_slices<'a>(rows: &'a [Option<Bound<'_, PyString>>]) -> PyResult<Vec<Option<&'a str>>> {
    rows.iter().map(|text| text.as_ref().map(|text| text.to_str()).transpose()).collect()
}

/// The options of a search as the facade hands them over.
#[derive(FromPyObject)]
struct Wanted<'py>(
    /// `k` and `offset`.
    (usize, usize),
    /// The least score.
    Option<f32>,
    /// Whether to fetch metadata, text, vector, snippet and further fields.
    (bool, bool, bool, bool, bool),
    /// The filter.
    Option<Bound<'py, PyAny>>,
    /// `recall` and `ef`.
    (Option<f32>, Option<usize>),
    /// What few searches ask for.
    Option<Special<'py>>,
);

/// What few searches ask for.
#[derive(FromPyObject)]
struct Special<'py>(
    /// The greatest distance.
    Option<f32>,
    /// `lambda` and `pool` of maximal marginal relevance.
    Option<(f32, Option<usize>)>,
    /// The id of the record to search with, in place of a vector.
    Option<Bound<'py, PyAny>>,
    /// The field whose vectors are searched.
    Option<String>,
);

impl Wanted<'_> {
    fn options(&self) -> PyResult<SearchOptions> {
        let Wanted((k, offset), min_score, included, only, (recall, ef), special) = self;
        let (metadata, text, vector, snippet, fields) = *included;
        let include = Include { vector, metadata, text, snippet, fields };
        let mut options = SearchOptions::new(*k).offset(*offset).include(include);
        if let Some(Special(radius, mmr, _, using)) = special {
            if let Some(radius) = radius {
                options = options.max_distance(*radius);
            }
            options.mmr = mmr.map(|(lambda, pool)| Mmr { lambda, pool });
            options.using = using.clone();
        }
        options.min_score = *min_score;
        options.ef = *ef;
        if let Some(recall) = recall {
            options.recall = *recall;
        }
        if let Some(only) = only {
            options.filter = Some(filter(only)?);
        }
        Ok(options)
    }

    /// The id of the record to search with.
    fn like(&self) -> PyResult<Option<Id>> {
        self.5.as_ref().and_then(|special| special.2.as_ref()).map(id).transpose()
    }
}

#[pymethods]
impl PyCollection {
    /// The name.
    #[getter]
    fn name<'a>(&'a self, py: Python<'_>) -> PyResult<&'a str> {
        Ok(self.get(py)?.name())
    }

    /// Dimensions, metric, element type and analyzer.
    #[getter]
    fn schema(&self, py: Python<'_>) -> PyResult<(usize, &'static str, &'static str, String)> {
        let schema = self.get(py)?.schema();
        Ok((schema.dim, schema.metric.name(), schema.element.name(), schema.analyzer.to_string()))
    }

    /// The further fields.
    #[getter]
    fn fields(&self, py: Python<'_>) -> PyResult<Vec<Declared>> {
        Ok(declared(self.get(py)?.schema()))
    }

    /// Quantization and profile.
    #[getter]
    fn tuning(&self, py: Python<'_>) -> PyResult<(&'static str, &'static str)> {
        let schema = self.get(py)?.schema();
        Ok((schema.quantization.name(), schema.profile.name()))
    }

    /// Writes or replaces records.
    fn upsert(
        &self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        vectors: &Bound<'_, PyAny>,
        metadata: Option<&Bound<'_, PyList>>,
        text: Option<&Bound<'_, PyList>>,
        fields: Option<Given<'_>>,
    ) -> PyResult<usize> {
        self.write(py, Columns { ids, vectors, metadata, text, fields }, |collection, batch| collection.upsert(batch))
    }

    /// Writes new records, refusing known ids.
    fn add(
        &self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        vectors: &Bound<'_, PyAny>,
        metadata: Option<&Bound<'_, PyList>>,
        text: Option<&Bound<'_, PyList>>,
        fields: Option<Given<'_>>,
    ) -> PyResult<usize> {
        self.write(py, Columns { ids, vectors, metadata, text, fields }, |collection, batch| collection.add(batch))
    }

    /// Changes parts of one record. `metadata` and `text` are one-element tuples, or None to leave them be.
    fn update(
        &self,
        py: Python<'_>,
        record: &Bound<'_, PyAny>,
        vector: Option<&Bound<'_, PyAny>>,
        metadata: Option<(Bound<'_, PyAny>,)>,
        text: Option<(Option<String>,)>,
        fields: Option<Given<'_>>,
    ) -> PyResult<()> {
        let collection = self.get(py)?;
        let record = id(record)?;
        let array = vector.map(Array::borrow).transpose()?;
        let elements = array.as_ref().map(|array| array.rows(py, collection.schema())).transpose()?;
        let metadata = metadata.map(|(value,)| json(&value, || "metadata".to_owned())).transpose()?;
        let vector = elements.map(|(elements, _)| elements.into());
        let mut patch = Patch { vector, metadata, text: text.map(|(text,)| text), ..Patch::default() };
        let fields = fields.map(|given| given.hold(py, collection.schema())).transpose()?;
        if let Some(fields) = &fields {
            patch = fields.values(py)?.patch(patch);
        }
        py.detach(|| collection.update(&record, patch)).or_raise(py)
    }

    /// Deletes records; returns how many existed.
    fn delete(&self, py: Python<'_>, records: &Bound<'_, PyAny>) -> PyResult<usize> {
        let collection = self.get(py)?;
        let records = ids(records)?;
        py.detach(|| collection.delete(records.iter())).or_raise(py)
    }

    /// Deletes the records that match a filter; returns how many.
    fn delete_matching(&self, py: Python<'_>, only: &Bound<'_, PyAny>) -> PyResult<usize> {
        let collection = self.get(py)?;
        let only = filter(only)?;
        py.detach(|| collection.delete_matching(&only)).or_raise(py)
    }

    /// Reads one record.
    fn get_one(&self, py: Python<'_>, record: &Bound<'_, PyAny>) -> PyResult<Option<PyRecord>> {
        let collection = self.get(py)?;
        let record = id(record)?;
        Ok(py.detach(|| collection.get(&record)).or_raise(py)?.map(PyRecord::from))
    }

    /// Reads records in the order of their ids, None where there is none.
    fn get_many(&self, py: Python<'_>, records: &Bound<'_, PyAny>) -> PyResult<Vec<Option<PyRecord>>> {
        let collection = self.get(py)?;
        let records = ids(records)?;
        let found = py.detach(|| collection.get_many(records.iter())).or_raise(py)?;
        Ok(found.into_iter().map(|record| record.map(PyRecord::from)).collect())
    }

    /// Whether there is a record of this id.
    fn contains(&self, py: Python<'_>, record: &Bound<'_, PyAny>) -> PyResult<bool> {
        let collection = self.get(py)?;
        let record = id(record)?;
        py.detach(|| collection.contains(&record)).or_raise(py)
    }

    /// Number of records, or of those that match a filter.
    fn count(&self, py: Python<'_>, only: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
        let collection = self.get(py)?;
        let only = only.map(filter).transpose()?;
        py.detach(|| match &only {
            Some(only) => collection.count_matching(only),
            None => collection.count(),
        })
        .or_raise(py)
    }

    /// Every record, or those that match a filter, in one consistent view.
    fn iterate(&self, py: Python<'_>, only: Option<&Bound<'_, PyAny>>) -> PyResult<RecordIterator> {
        let collection = self.get(py)?;
        let only = only.map(filter).transpose()?;
        let records = py
            .detach(|| match &only {
                Some(only) => collection.iterate_matching(only),
                None => collection.iterate(),
            })
            .or_raise(py)?;
        Ok(RecordIterator { records: Owned::new(Mutex::new(records)) })
    }

    /// Searches with one vector, or with a record.
    fn search(&self, py: Python<'_>, vector: Option<&Bound<'_, PyAny>>, wanted: Wanted<'_>) -> PyResult<PyHits> {
        let collection = self.get(py)?;
        let options = wanted.options()?;
        let hits = match (vector, wanted.like()?) {
            (Some(vector), _) => {
                let array = Array::borrow(vector)?;
                let (elements, _) = array.rows(py, &searched(py, collection, &options)?)?;
                py.detach(|| collection.search(elements, &options)).or_raise(py)?
            }
            (None, Some(record)) => py.detach(|| collection.search_like(&record, &options)).or_raise(py)?,
            (None, None) => return Err(invalid(py, "a search needs a vector or a record to be like")),
        };
        PyHits::new(py, hits)
    }

    /// Searches for the best values of a field, each with its best records: pairs of value and hits, and whether there
    /// are no more values.
    fn search_groups<'py>(
        &self,
        py: Python<'py>,
        vector: &Bound<'_, PyAny>,
        wanted: Wanted<'_>,
        field: &str,
        per_group: usize,
    ) -> PyResult<(Vec<ValueAndHits<'py>>, bool)> {
        let collection = self.get(py)?;
        let array = Array::borrow(vector)?;
        let options = wanted.options()?;
        let (elements, _) = array.rows(py, &searched(py, collection, &options)?)?;
        let found = py.detach(|| collection.search_groups(elements, field, per_group, &options)).or_raise(py)?;
        let groups = found.groups.into_iter();
        let groups = groups.map(|group| Ok((json_to_python(py, &group.value)?, PyHits::new(py, group.hits)?)));
        Ok((groups.collect::<PyResult<Vec<_>>>()?, found.complete))
    }

    /// Searches, and tells how: a report and the hits.
    fn explain<'py>(
        &self,
        py: Python<'py>,
        vector: &Bound<'_, PyAny>,
        wanted: Wanted<'_>,
    ) -> PyResult<(Bound<'py, PyAny>, PyHits)> {
        let collection = self.get(py)?;
        let array = Array::borrow(vector)?;
        let options = wanted.options()?;
        let (elements, _) = array.rows(py, &searched(py, collection, &options)?)?;
        let told = py.detach(|| collection.explain(elements, &options)).or_raise(py)?;
        Ok((report(py, &told)?, PyHits::new(py, told.hits)?))
    }

    /// Measures the recall of searches against exact search.
    fn recall<'py>(&self, py: Python<'py>, sample: usize, wanted: Wanted<'_>) -> PyResult<Bound<'py, PyAny>> {
        let collection = self.get(py)?.clone();
        let options = wanted.options()?;
        let measured = interruptible(py, move || collection.recall(sample, &options))?;
        report(py, &measured)
    }

    /// Searches by any of a vector (or a record's), a text and further fields, fused as `fuse` (its name and weight) says.
    fn search_fused(
        &self,
        py: Python<'_>,
        vector: Option<&Bound<'_, PyAny>>,
        text: Option<&str>,
        fields: Option<Given<'_>>,
        fuse: (String, Option<f32>),
        wanted: Wanted<'_>,
    ) -> PyResult<PyHits> {
        let collection = self.get(py)?;
        let mut options = wanted.options()?;
        options.fuse = Fuse::named(&fuse.0, fuse.1).or_raise(py)?;
        let array = vector.map(Array::borrow).transpose()?;
        let schema = searched(py, collection, &options)?;
        let elements = array.as_ref().map(|array| array.rows(py, &schema)).transpose()?;
        let held = fields.map(|given| given.hold(py, collection.schema())).transpose()?;
        let fields = held.as_ref().map(|held| held.values(py)).transpose()?;
        let like = wanted.like()?;
        let alone = vector.is_none() && like.is_none() && fields.is_none();
        let hits = py.detach(|| {
            if let Some(text) = text.filter(|_| alone) {
                return collection.search_text(text, &options);
            }
            let mut query = Query::new();
            query = text.map_or(query.clone(), |text| query.text(text));
            query = elements.map_or(query.clone(), |(elements, _)| query.vector(elements));
            if let Some(fields) = fields {
                query = fields.query(query);
            }
            let Some(like) = like else { return collection.search_fused(query, &options) };
            let unknown = || Error::NotFound(format!("there is no record {like} to search with"));
            let record = collection.get(&like)?.ok_or_else(unknown)?;
            options.exclude = vec![like.clone()];
            let lacking = || Error::NotFound(format!("record {like} has no such vector to search with"));
            let own = match &options.using {
                None => &record.vector,
                Some(name) => record.vectors.get(name).ok_or_else(lacking)?,
            };
            collection.search_fused(query.vector(own), &options)
        });
        PyHits::new(py, hits.or_raise(py)?)
    }

    /// Searches by a sparse vector.
    fn search_sparse(
        &self,
        py: Python<'_>,
        field: &str,
        query: &Bound<'_, PyAny>,
        wanted: Wanted<'_>,
    ) -> PyResult<PyHits> {
        let collection = self.get(py)?;
        let (options, query) = (wanted.options()?, sparse(query, "sparse")?);
        PyHits::new(py, py.detach(|| collection.search_sparse(field, &query, &options)).or_raise(py)?)
    }

    /// Searches by a sparse vector, and tells how: a report and the hits.
    fn explain_sparse<'py>(
        &self,
        py: Python<'py>,
        field: &str,
        query: &Bound<'_, PyAny>,
        wanted: Wanted<'_>,
    ) -> PyResult<(Bound<'py, PyAny>, PyHits)> {
        let collection = self.get(py)?;
        let (options, query) = (wanted.options()?, sparse(query, "sparse")?);
        let told = py.detach(|| collection.explain_sparse(field, &query, &options)).or_raise(py)?;
        Ok((report(py, &told)?, PyHits::new(py, told.hits)?))
    }

    /// Searches with each row of `vectors` on `threads` threads (0: all cores).
    fn search_batch(
        &self,
        py: Python<'_>,
        vectors: &Bound<'_, PyAny>,
        wanted: Wanted<'_>,
        threads: usize,
    ) -> PyResult<PyBatchHits> {
        let collection = self.get(py)?;
        let array = Array::borrow(vectors)?;
        let options = wanted.options()?;
        let schema = searched(py, collection, &options)?;
        let (elements, rows) = array.rows(py, &schema)?;
        let per_row = elements_per_vector(&schema);
        let mut found = Vec::with_capacity(rows);
        let mut step = 256;
        while found.len() < rows {
            let until = rows.min(found.len() + step);
            let part = elements.slice(found.len() * per_row..until * per_row);
            let started = Instant::now();
            found.extend(py.detach(|| collection.search_batch(part, &options, threads)).or_raise(py)?);
            step = next_step(step, started.elapsed());
            py.check_signals()?;
        }
        Ok(PyBatchHits::new(found, options.k))
    }

    /// Moves this collection's records from memory and log to segments.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let collection = self.get(py)?.clone();
        interruptible(py, move || collection.flush())
    }

    /// Rewrites segments without what was deleted or replaced.
    fn compact(&self, py: Python<'_>) -> PyResult<()> {
        let collection = self.get(py)?.clone();
        interruptible(py, move || collection.compact())
    }

    /// Flushes, and waits until every segment that wants a graph has one; with `settled`, the careful one.
    fn wait_indexed(&self, py: Python<'_>, settled: bool) -> PyResult<()> {
        let collection = self.get(py)?.clone();
        interruptible(py, move || collection.wait_indexed(settled))
    }

    /// Counts and sizes.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let collection = self.get(py)?;
        report(py, &py.detach(|| collection.stats()))
    }
}

/// The schema of the vectors that a search is of.
fn searched(py: Python<'_>, collection: &Collection, options: &SearchOptions) -> PyResult<Schema> {
    match &options.using {
        None => Ok(collection.schema().clone()),
        Some(name) => collection.schema().of_field(name).or_raise(py),
    }
}

/// The rows to search before the next look for signals: as many as take about [`SIGNAL_INTERVAL`].
fn next_step(step: usize, took: Duration) -> usize {
    if took < SIGNAL_INTERVAL / 2 {
        step.saturating_mul(2)
    } else if took > SIGNAL_INTERVAL * 2 {
        (step / 2).max(16)
    } else {
        step
    }
}

/// Reads a collection's records a batch at a time.
#[pyclass(frozen, name = "RecordIterator", module = "omendb._native")]
pub(crate) struct RecordIterator {
    records: Owned<Mutex<Records>>,
}

#[pymethods]
impl RecordIterator {
    /// The next `count` records; fewer at the end, and an empty list after it.
    fn next_batch(&self, py: Python<'_>, count: usize) -> PyResult<Vec<PyRecord>> {
        let records = self.records.get().or_raise(py)?;
        let batch = py.detach(|| {
            let mut records = records.lock().unwrap_or_else(PoisonError::into_inner);
            records.by_ref().take(count).collect::<omendb::Result<Vec<_>>>()
        });
        Ok(batch.or_raise(py)?.into_iter().map(PyRecord::from).collect())
    }
}
