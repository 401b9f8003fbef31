//! What searches and reads return. Fields become Python objects when they are asked for.

use crate::convert::{id_to_python, json_to_python};
use crate::fields::{sparse_to_python, vectors_to_python};
use crate::vectors::to_array;
use numpy::{PyArray1, PyArray2, PyArrayMethods};
use omendb::{Hit, Hits, Id, Record, Snippet, Sparse, Vector};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};
use serde_json::Value;
use std::collections::BTreeMap;

/// Metadata as a Python object, made once.
struct LazyMetadata(PyOnceLock<Py<PyAny>>);

impl LazyMetadata {
    fn new() -> Self {
        LazyMetadata(PyOnceLock::new())
    }

    fn get(&self, py: Python<'_>, value: Option<&Value>) -> PyResult<Py<PyAny>> {
        let made = self.0.get_or_try_init(py, || {
            value.map_or_else(|| Ok(py.None()), |value| json_to_python(py, value).map(Bound::unbind))
        })?;
        Ok(made.clone_ref(py))
    }
}

/// The shared look of hits and records: `Name(id='a', score=0.5, ...)`.
fn repr_fields(py: Python<'_>, name: &str, fields: &[(&str, Py<PyAny>)]) -> PyResult<String> {
    let mut parts = Vec::with_capacity(fields.len());
    for (field, value) in fields {
        parts.push(format!("{field}={}", value.bind(py).repr()?));
    }
    Ok(format!("{name}({})", parts.join(", ")))
}

fn vector_repr(vector: Option<&Vector>) -> String {
    vector.map_or_else(String::new, |vector| {
        let (name, len) = match vector {
            Vector::F32(v) => ("float32", v.len()),
            Vector::F16(v) => ("float16", v.len()),
            Vector::I8(v) => ("int8", v.len()),
            Vector::U8(v) => ("uint8", v.len()),
            Vector::Bits(v) => ("packed bits", v.len()),
        };
        format!(", vector=<{len} {name}>")
    })
}

/// One result of a search.
#[pyclass(frozen, name = "Hit", module = "omendb")]
pub(crate) struct PyHit {
    hit: Hit,
    metadata: LazyMetadata,
}

impl From<Hit> for PyHit {
    fn from(hit: Hit) -> Self {
        PyHit { hit, metadata: LazyMetadata::new() }
    }
}

#[pymethods]
impl PyHit {
    /// The record's id, a str or an int.
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        id_to_python(py, &self.hit.id)
    }

    /// The metric's score: higher is better.
    #[getter]
    fn score(&self) -> f32 {
        self.hit.score
    }

    /// The metric's distance: lower is better.
    #[getter]
    fn distance(&self) -> f32 {
        self.hit.distance
    }

    /// The metadata, or None if there is none or it was not asked for.
    #[getter]
    fn metadata(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.metadata.get(py, self.hit.metadata.as_ref())
    }

    /// The text, or None if there is none or it was not asked for.
    #[getter]
    fn text(&self) -> Option<&str> {
        self.hit.text.as_deref()
    }

    /// The metric's score, or None if the search had no vector.
    #[getter]
    fn vector_score(&self) -> Option<f32> {
        self.hit.vector_score
    }

    /// The BM25 score, or None if the search had no text, or one that the record's does not match.
    #[getter]
    fn text_score(&self) -> Option<f32> {
        self.hit.text_score
    }

    /// The piece of the text that matches, or None if there is none or it was not asked for.
    #[getter]
    fn snippet(&self) -> Option<PySnippet> {
        self.hit.snippet.clone().map(PySnippet)
    }

    /// The scores by the further fields that were searched, by the field's name.
    #[getter]
    fn field_scores<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        self.hit.field_scores.iter().try_for_each(|(name, score)| dict.set_item(name, score))?;
        Ok(dict)
    }

    /// The vectors of further fields by name; empty if they were not asked for.
    #[getter]
    fn vectors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        vectors_to_python(py, &self.hit.vectors)
    }

    /// The sparse vectors by name, each a dict of weights by id; empty if they were not asked for.
    #[getter]
    fn sparse<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        sparse_to_python(py, &self.hit.sparse)
    }

    /// The vector as an array of its stored element type, or None if it was not asked for.
    #[getter]
    fn vector<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.hit.vector.as_ref().map(|vector| to_array(py, vector))
    }

    /// The fields as a plain dict.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("id", self.id(py)?)?;
        dict.set_item("score", self.score())?;
        dict.set_item("distance", self.distance())?;
        dict.set_item("metadata", self.metadata(py)?)?;
        dict.set_item("text", self.text())?;
        dict.set_item("vector", self.vector(py))?;
        dict.set_item("vector_score", self.vector_score())?;
        dict.set_item("text_score", self.text_score())?;
        dict.set_item("snippet", self.hit.snippet.as_ref().map(|snippet| snippet.marked("**", "**")))?;
        if !self.hit.field_scores.is_empty() {
            dict.set_item("field_scores", self.field_scores(py)?)?;
        }
        add_fields(py, &dict, &self.hit.vectors, &self.hit.sparse)?;
        Ok(dict)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut fields = vec![
            ("id", self.id(py)?.unbind()),
            ("score", self.score().into_pyobject(py)?.into_any().unbind()),
            ("distance", self.distance().into_pyobject(py)?.into_any().unbind()),
        ];
        if let Some(score) = self.text_score() {
            for (name, score) in [("vector_score", self.vector_score()), ("text_score", Some(score))] {
                fields.push((name, score.into_pyobject(py)?.into_any().unbind()));
            }
        }
        if self.hit.metadata.is_some() {
            fields.push(("metadata", self.metadata(py)?));
        }
        if let Some(text) = self.text() {
            fields.push(("text", text.into_pyobject(py)?.into_any().unbind()));
        }
        let shown = repr_fields(py, "Hit", &fields)?;
        Ok(format!("{}{})", &shown[..shown.len() - 1], vector_repr(self.hit.vector.as_ref())))
    }
}

/// A piece of a text that holds words of the query.
#[pyclass(frozen, name = "Snippet", module = "omendb")]
pub(crate) struct PySnippet(Snippet);

#[pymethods]
impl PySnippet {
    /// The piece: a run of whole words of the text.
    #[getter]
    fn text(&self) -> &str {
        &self.0.text
    }

    /// The words of `text` that match: (start, end) in characters.
    #[getter]
    fn highlights(&self) -> Vec<(usize, usize)> {
        let characters = |byte: usize| self.0.text[..byte].chars().count();
        self.0.highlights.iter().map(|range| (characters(range.start), characters(range.end))).collect()
    }

    /// The piece with each match between `before` and `after`.
    #[pyo3(signature = (before = "**", after = "**"))]
    fn marked(&self, before: &str, after: &str) -> String {
        self.0.marked(before, after)
    }

    /// The piece as HTML, escaped, with each match in `<b>`.
    fn to_html(&self) -> String {
        self.0.to_html()
    }

    fn __str__(&self) -> String {
        self.marked("**", "**")
    }

    fn __repr__(&self) -> String {
        format!("Snippet({:?})", self.marked("**", "**"))
    }
}

/// Adds what there is of further fields to a plain dict.
fn add_fields(
    py: Python<'_>,
    dict: &Bound<'_, PyDict>,
    vectors: &BTreeMap<String, Vector>,
    sparse: &BTreeMap<String, Sparse>,
) -> PyResult<()> {
    if !vectors.is_empty() {
        dict.set_item("vectors", vectors_to_python(py, vectors)?)?;
    }
    if !sparse.is_empty() {
        dict.set_item("sparse", sparse_to_python(py, sparse)?)?;
    }
    Ok(())
}

/// One stored record.
#[pyclass(frozen, name = "Record", module = "omendb")]
pub(crate) struct PyRecord {
    record: Record,
    metadata: LazyMetadata,
}

impl From<Record> for PyRecord {
    fn from(record: Record) -> Self {
        PyRecord { record, metadata: LazyMetadata::new() }
    }
}

#[pymethods]
impl PyRecord {
    /// The id, a str or an int.
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        id_to_python(py, &self.record.id)
    }

    /// The vector as an array of its stored element type (bits: packed bytes).
    #[getter]
    fn vector<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        to_array(py, &self.record.vector)
    }

    /// The vectors of further fields by name.
    #[getter]
    fn vectors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        vectors_to_python(py, &self.record.vectors)
    }

    /// The sparse vectors by name, each a dict of weights by id.
    #[getter]
    fn sparse<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        sparse_to_python(py, &self.record.sparse)
    }

    /// The metadata, or None.
    #[getter]
    fn metadata(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.metadata.get(py, self.record.metadata.as_ref())
    }

    /// The text, or None.
    #[getter]
    fn text(&self) -> Option<&str> {
        self.record.text.as_deref()
    }

    /// The fields as a plain dict.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("id", self.id(py)?)?;
        dict.set_item("vector", self.vector(py))?;
        dict.set_item("metadata", self.metadata(py)?)?;
        dict.set_item("text", self.text())?;
        add_fields(py, &dict, &self.record.vectors, &self.record.sparse)?;
        Ok(dict)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut fields = vec![("id", self.id(py)?.unbind())];
        if self.record.metadata.is_some() {
            fields.push(("metadata", self.metadata(py)?));
        }
        if let Some(text) = self.text() {
            fields.push(("text", text.into_pyobject(py)?.into_any().unbind()));
        }
        let shown = repr_fields(py, "Record", &fields)?;
        Ok(format!("{}{})", &shown[..shown.len() - 1], vector_repr(Some(&self.record.vector))))
    }
}

/// The results of one search, best first.
#[pyclass(frozen, name = "Hits", module = "omendb._native")]
pub(crate) struct PyHits {
    hits: Vec<Py<PyHit>>,
    complete: bool,
}

impl PyHits {
    pub(crate) fn new(py: Python<'_>, hits: Hits) -> PyResult<Self> {
        let complete = hits.complete;
        let hits = hits.into_iter().map(|hit| Py::new(py, PyHit::from(hit))).collect::<PyResult<Vec<_>>>()?;
        Ok(PyHits { hits, complete })
    }
}

#[pymethods]
impl PyHits {
    /// True when fewer than k came back because no more records match.
    #[getter]
    fn complete(&self) -> bool {
        self.complete
    }

    /// The hits as a list.
    fn to_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, &self.hits)
    }

    /// The ids as a list.
    fn ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let ids = self.hits.iter().map(|hit| hit.get().id(py)).collect::<PyResult<Vec<_>>>()?;
        PyList::new(py, ids)
    }

    /// The scores, float32 of shape (len,).
    fn scores<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_iter(py, self.hits.iter().map(|hit| hit.get().score()))
    }

    /// The distances, float32 of shape (len,).
    fn distances<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_iter(py, self.hits.iter().map(|hit| hit.get().distance()))
    }

    fn __len__(&self) -> usize {
        self.hits.len()
    }
}

/// The results of a batch search, one row a query.
#[pyclass(frozen, name = "BatchHits", module = "omendb._native")]
pub(crate) struct PyBatchHits {
    rows: Vec<Hits>,
    k: usize,
}

impl PyBatchHits {
    pub(crate) fn new(rows: Vec<Hits>, k: usize) -> Self {
        PyBatchHits { rows, k }
    }

    fn array<'py>(
        &self,
        py: Python<'py>,
        absent: f32,
        field: impl Fn(&Hit) -> f32,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let mut values = Vec::with_capacity(self.rows.len() * self.k);
        for (row, hits) in self.rows.iter().enumerate() {
            values.extend(hits.iter().take(self.k).map(&field));
            values.resize((row + 1) * self.k, absent);
        }
        PyArray1::from_vec(py, values).reshape([self.rows.len(), self.k])
    }
}

#[pymethods]
impl PyBatchHits {
    /// Hits of each query, int64 of shape (queries,).
    fn counts<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        PyArray1::from_iter(py, self.rows.iter().map(|hits| hits.len() as i64))
    }

    /// Distances, float32 of shape (queries, k); infinity where there is no hit.
    fn distances<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        self.array(py, f32::INFINITY, |hit| hit.distance)
    }

    /// Scores, float32 of shape (queries, k); minus infinity where there is no hit.
    fn scores<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        self.array(py, f32::NEG_INFINITY, |hit| hit.score)
    }

    /// Ids, row after row: an int64 array with -1 for no hit when all are integers that fit, else a list with None.
    fn ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let integers: Option<Vec<i64>> = self
            .rows
            .iter()
            .flat_map(|hits| self.padded(hits))
            .map(|hit| match hit {
                None => Some(-1),
                Some(Hit { id: Id::U64(n), .. }) => i64::try_from(*n).ok(),
                Some(_) => None,
            })
            .collect();
        if let Some(integers) = integers {
            return Ok(PyArray1::from_vec(py, integers).into_any());
        }
        let list = PyList::empty(py);
        for hit in self.rows.iter().flat_map(|hits| self.padded(hits)) {
            match hit {
                None => list.append(py.None())?,
                Some(hit) => list.append(id_to_python(py, &hit.id)?)?,
            }
        }
        Ok(list.into_any())
    }

    /// The hits of one query.
    fn row(&self, py: Python<'_>, row: usize) -> PyResult<Option<PyHits>> {
        self.rows.get(row).map(|hits| PyHits::new(py, hits.clone())).transpose()
    }

    fn __len__(&self) -> usize {
        self.rows.len()
    }
}

impl PyBatchHits {
    fn padded<'a>(&self, hits: &'a Hits) -> impl Iterator<Item = Option<&'a Hit>> {
        hits.iter().map(Some).chain(std::iter::repeat(None)).take(self.k)
    }
}
