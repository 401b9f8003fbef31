//! Further fields of records between Python objects and the engine's types.

use crate::convert::type_name;
use crate::errors::{OrRaise, invalid};
use crate::vectors::{Array, Elements, to_array};
use omendb::{Batch, Error, Field, FieldKind, Patch, Query, Schema, Sparse, Vector, VectorField};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyTuple};
use std::collections::BTreeMap;

/// A field as the facade declares it: its name and, for vectors, dimensions, metric, element type and quantization.
pub(crate) type Declared = (String, Option<(usize, String, String, String)>);

/// Adds fields to a schema.
pub(crate) fn declare(py: Python<'_>, mut schema: Schema, fields: Vec<Declared>) -> PyResult<Schema> {
    for (name, vector) in fields {
        schema = match vector {
            None => schema.with_sparse(name),
            Some((dim, metric, dtype, quantization)) => {
                let field = VectorField::new(dim, metric.parse().or_raise(py)?)
                    .with_element(dtype.parse().or_raise(py)?)
                    .with_quantization(quantization.parse().or_raise(py)?);
                schema.with_vectors(name, field)
            }
        };
    }
    Ok(schema)
}

/// The fields of a schema, as the facade declares them.
pub(crate) fn declared(schema: &Schema) -> Vec<Declared> {
    let show = |Field { name, kind }: &Field| match kind {
        FieldKind::Sparse => (name.clone(), None),
        FieldKind::Vector(v) => {
            let (metric, dtype, codes) = (v.metric.name(), v.element.name(), v.quantization.name());
            (name.clone(), Some((v.dim, metric.to_owned(), dtype.to_owned(), codes.to_owned())))
        }
    };
    schema.fields.iter().map(show).collect()
}

/// What a batch has for further fields: named vectors, with which records have one (None: all), and sparse vectors.
#[derive(FromPyObject)]
pub(crate) struct Given<'py>(Vec<(String, Option<Vec<bool>>, Bound<'py, PyAny>)>, Vec<(String, Bound<'py, PyList>)>);

/// The same, borrowed for the length of a call.
pub(crate) struct Held<'py> {
    vectors: Vec<(String, Option<Vec<bool>>, Array<'py>, Schema)>,
    sparse: Vec<(String, Vec<Option<Sparse>>)>,
}

impl<'py> Given<'py> {
    pub(crate) fn hold(self, py: Python<'_>, schema: &Schema) -> PyResult<Held<'py>> {
        let vectors = self.0.into_iter().map(|(name, present, array)| {
            let of_field = schema.of_field(&name).or_raise(py)?;
            Ok((name, present, Array::borrow(&array)?, of_field))
        });
        let rows = |(name, list): (String, Bound<'py, PyList>)| {
            let place = |row: usize| format!("sparse[{name:?}][{row}]");
            let rows = list.iter().enumerate().map(|(row, item)| match item.is_none() {
                true => Ok(None),
                false => sparse(&item, &place(row)).map(Some),
            });
            Ok((name.clone(), rows.collect::<PyResult<Vec<_>>>()?))
        };
        Ok(Held {
            vectors: vectors.collect::<PyResult<_>>()?,
            sparse: self.1.into_iter().map(rows).collect::<PyResult<_>>()?,
        })
    }
}

/// What is held, as the engine takes it.
pub(crate) struct Values<'a> {
    /// Name, which records have one, elements.
    vectors: Vec<(&'a str, Option<&'a [bool]>, Elements<'a>)>,
    sparse: &'a [(String, Vec<Option<Sparse>>)],
}

impl Held<'_> {
    pub(crate) fn values(&self, py: Python<'_>) -> PyResult<Values<'_>> {
        let mut vectors = Vec::new();
        for (name, present, array, schema) in &self.vectors {
            vectors.push((name.as_str(), present.as_deref(), array.rows(py, schema)?.0));
        }
        Ok(Values { vectors, sparse: &self.sparse })
    }
}

impl<'a> Values<'a> {
    /// Adds the fields to a batch.
    pub(crate) fn add(self, mut batch: Batch<'a>) -> Batch<'a> {
        for (name, present, elements) in self.vectors {
            batch = match present {
                None => batch.with_vectors(name, elements),
                Some(present) => batch.with_some_vectors(name, present.iter().copied(), elements),
            };
        }
        for (name, rows) in self.sparse {
            batch = batch.with_sparse(name, rows.iter().map(Option::as_ref));
        }
        batch
    }

    /// Adds the fields of one record to a patch.
    pub(crate) fn patch(self, patch: Patch<'a>) -> Patch<'a> {
        let vectors = self.vectors.into_iter().map(|(name, present, elements)| {
            let there = present.is_none_or(|present| present.first() == Some(&true));
            (name.to_owned(), there.then(|| elements.into()))
        });
        let sparse = self.sparse.iter().map(|(name, rows)| (name.clone(), rows.first().cloned().flatten()));
        Patch { vectors: vectors.collect(), sparse: sparse.collect(), ..patch }
    }

    /// Adds the fields to a query.
    pub(crate) fn query(self, mut query: Query<'a>) -> Query<'a> {
        for (name, _, elements) in self.vectors {
            query = query.vector_in(name, elements);
        }
        for (name, rows) in self.sparse {
            query = query.sparse(name, rows.first().cloned().flatten().unwrap_or_default());
        }
        query
    }
}

/// One sparse vector: a dict of weights by id, or a pair of ids and weights.
pub(crate) fn sparse(object: &Bound<'_, PyAny>, place: &str) -> PyResult<Sparse> {
    let py = object.py();
    let mut entries = Vec::new();
    if let Ok(dict) = object.cast::<PyDict>() {
        // The copy is ours alone: another thread may change the original while it is walked.
        for (key, value) in dict.copy()?.iter() {
            entries.push(entry(&key, &value, place)?);
        }
    } else if let Ok((ids, weights)) = object
        .cast::<PyTuple>()
        .map_err(PyErr::from)
        .and_then(|pair| pair.extract::<(Vec<Bound<'_, PyAny>>, Vec<Bound<'_, PyAny>>)>())
    {
        if ids.len() != weights.len() {
            return Err(invalid(py, format!("{place}: {} ids but {} weights were given", ids.len(), weights.len())));
        }
        for (id, weight) in ids.iter().zip(&weights) {
            entries.push(entry(id, weight, place)?);
        }
    } else {
        return Err(invalid(
            py,
            format!(
                "{place} is of type {}; a dict of weights by id, or a pair of ids and weights, was expected",
                type_name(object)
            ),
        ));
    }
    let named = |e| match e {
        Error::InvalidInput(what) => Error::InvalidInput(format!("{place}: {what}")),
        Error::LimitExceeded(what) => Error::LimitExceeded(format!("{place}: {what}")),
        other => other,
    };
    Sparse::new(entries).map_err(named).or_raise(py)
}

fn entry(id: &Bound<'_, PyAny>, weight: &Bound<'_, PyAny>, place: &str) -> PyResult<(u32, f32)> {
    let py = id.py();
    let shown = |object: &Bound<'_, PyAny>| object.repr().map_or_else(|_| "an object".to_owned(), |r| r.to_string());
    let number = if id.is_instance_of::<PyBool>() { None } else { id.extract::<u32>().ok() };
    let number = number.ok_or_else(|| {
        invalid(py, format!("{place} has the id {}; an integer from 0 to 2**32 - 1 was expected", shown(id)))
    })?;
    let weight_of = if weight.is_instance_of::<PyBool>() { None } else { weight.extract::<f64>().ok() };
    let weight = weight_of
        .ok_or_else(|| invalid(py, format!("{place} has the weight {}; a number was expected", shown(weight))))?;
    Ok((number, weight as f32))
}

/// Vectors by field, as arrays.
pub(crate) fn vectors_to_python<'py>(
    py: Python<'py>,
    vectors: &BTreeMap<String, Vector>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, vector) in vectors {
        dict.set_item(name, to_array(py, vector))?;
    }
    Ok(dict)
}

/// Sparse vectors by field, as dicts of weights by id.
pub(crate) fn sparse_to_python<'py>(
    py: Python<'py>,
    values: &BTreeMap<String, Sparse>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in values {
        let entries = PyDict::new(py);
        for (id, weight) in value.iter() {
            entries.set_item(id, weight)?;
        }
        dict.set_item(name, entries)?;
    }
    Ok(dict)
}
