//! Ids, metadata and text between Python objects and the engine's types.

use crate::errors::{OrRaise, exception, invalid};
use numpy::{PyArray1, PyArrayMethods};
use omendb::{Error, Filter, Id, IdColumn, IdRef, filter, limits};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple};
use serde_json::{Map, Number, Value};

/// One id: a string or a non-negative integer of at most 64 bits.
pub(crate) fn id(object: &Bound<'_, PyAny>) -> PyResult<Id> {
    let mut column = IdColumn::with_capacity(1);
    push_id(&mut column, object).map_err(|what| invalid(object.py(), what))?;
    column.get(0).map(IdRef::to_owned).ok_or_else(|| invalid(object.py(), "an id was expected"))
}

/// A list of ids, or an integer array of them, as a column.
pub(crate) fn ids(object: &Bound<'_, PyAny>) -> PyResult<IdColumn> {
    let py = object.py();
    let negative = |row: usize, n: i64| {
        invalid(
            py,
            format!(
                "ids[{row}] is {n}; an id is a string of 1 to {} bytes or an integer from 0 to 2**64 - 1",
                limits::MAX_ID_BYTES
            ),
        )
    };
    if let Ok(array) = object.cast::<PyArray1<i64>>() {
        let array = array.try_readonly().map_err(|_| invalid(py, "the ids' array is being written to; pass a copy"))?;
        let mut column = IdColumn::with_capacity(array.as_array().len());
        for (row, n) in array.as_array().iter().enumerate() {
            column.push(u64::try_from(*n).map_err(|_| negative(row, *n))?);
        }
        return Ok(column);
    }
    if let Ok(array) = object.cast::<PyArray1<u64>>() {
        let array = array.try_readonly().map_err(|_| invalid(py, "the ids' array is being written to; pass a copy"))?;
        return Ok(array.as_array().iter().copied().collect());
    }
    let list = object.cast::<PyList>().map_err(|_| invalid(py, "ids must be a list by here"))?;
    let mut column = IdColumn::with_capacity(list.len());
    for (row, item) in list.iter().enumerate() {
        push_id(&mut column, &item).map_err(|what| invalid(py, format!("ids[{row}] {what}")))?;
    }
    Ok(column)
}

fn push_id(column: &mut IdColumn, object: &Bound<'_, PyAny>) -> Result<(), String> {
    if let Ok(text) = object.cast::<PyString>() {
        column.push(text.to_str().map_err(|_| "holds a lone surrogate; ids are valid Unicode".to_owned())?);
        return Ok(());
    }
    // An object with __index__ is an integer (NumPy's too), but True is not the id 1.
    if !object.is_instance_of::<PyBool>()
        && let Ok(number) = object.extract::<u64>()
    {
        column.push(number);
        return Ok(());
    }
    let shown = object.repr().map_or_else(|_| "an object".to_owned(), |r| r.to_string());
    Err(format!(
        "is {}, of type {}; an id is a string of 1 to {} bytes or an integer from 0 to 2**64 - 1",
        shown.chars().take(80).collect::<String>(),
        type_name(object),
        limits::MAX_ID_BYTES
    ))
}

/// An id as a Python `str` or `int`.
pub(crate) fn id_to_python<'py>(py: Python<'py>, id: &Id) -> PyResult<Bound<'py, PyAny>> {
    match id {
        Id::U64(n) => n.into_bound_py_any(py),
        Id::Str(s) => s.as_str().into_bound_py_any(py),
    }
}

pub(crate) fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "unknown".to_owned(), |name| name.to_string())
}

/// A list of `dict` or `None` as JSON values, one a record.
pub(crate) fn metadata_rows(list: &Bound<'_, PyList>) -> PyResult<Vec<Option<Value>>> {
    list.iter()
        .enumerate()
        .map(|(row, item)| if item.is_none() { Ok(None) } else { json(&item, || format!("metadata[{row}]")).map(Some) })
        .collect()
}

/// A list of `str` or `None`, checked and held for the length of a call.
pub(crate) fn text_rows<'py>(list: &Bound<'py, PyList>) -> PyResult<Vec<Option<Bound<'py, PyString>>>> {
    let py = list.py();
    list.iter()
        .enumerate()
        .map(|(row, item)| {
            if item.is_none() {
                return Ok(None);
            }
            let text = item.cast_into::<PyString>().map_err(|e| {
                invalid(
                    py,
                    format!("text[{row}] is of type {}; a str or None was expected", type_name(&e.into_inner())),
                )
            })?;
            text.to_str()
                .map_err(|_| invalid(py, format!("text[{row}] holds a lone surrogate; text is valid Unicode")))?;
            Ok(Some(text))
        })
        .collect()
}

/// Why an object has no JSON form, and where in it.
struct Misfit {
    path: String,
    what: String,
    too_deep: bool,
}

impl Misfit {
    fn new(what: String) -> Self {
        Misfit { path: String::new(), what, too_deep: false }
    }

    fn under(mut self, step: &str) -> Self {
        self.path.insert_str(0, step);
        self
    }
}

/// A Python object as JSON: None, bool, int, float, str, list, tuple, dict, dates (ISO 8601) and NumPy's values.
pub(crate) fn json(object: &Bound<'_, PyAny>, name: impl Fn() -> String) -> PyResult<Value> {
    json_within(object, limits::MAX_METADATA_DEPTH, name)
}

fn json_within(object: &Bound<'_, PyAny>, levels: usize, name: impl Fn() -> String) -> PyResult<Value> {
    to_json(object, levels + 1).map_err(|misfit| {
        // A container nested too deep is shown by its top only: its path is as deep.
        if misfit.too_deep {
            let what = format!("{} is nested deeper than {levels} levels (or holds itself); flatten it", name());
            return exception(object.py(), &Error::LimitExceeded(what));
        }
        invalid(object.py(), format!("{}{} {}", name(), misfit.path, misfit.what))
    })
}

/// A filter: a dict of operators (or another mapping), or a condition in the style of SQL.
pub(crate) fn filter(object: &Bound<'_, PyAny>) -> PyResult<Filter> {
    let py = object.py();
    if let Ok(text) = object.cast::<PyString>() {
        let text =
            text.to_str().map_err(|_| invalid(py, "the filter holds a lone surrogate; text is valid Unicode"))?;
        return Filter::from_sql(text).or_raise(py);
    }
    let tree = if let Ok(dict) = object.cast::<PyDict>() {
        filter_json(dict)?
    } else if let Ok(mapping) = object.cast::<PyMapping>() {
        let dict = PyDict::new(py);
        dict.update(mapping)?;
        filter_json(&dict)?
    } else {
        let what = format!("a filter of type {} was given; a dict or a str was expected", type_name(object));
        return Err(invalid(py, what));
    };
    Filter::from_json(&tree).or_raise(py)
}

/// Each level of a filter is a dict and a list; its own limit, which says where, comes after this one.
fn filter_json(dict: &Bound<'_, PyDict>) -> PyResult<Value> {
    json_within(dict.as_any(), 2 * filter::MAX_DEPTH + 4, || "filter".to_owned())
}

fn to_json(object: &Bound<'_, PyAny>, depth: usize) -> Result<Value, Misfit> {
    if depth == 0 {
        return Err(Misfit { too_deep: true, ..Misfit::new(String::new()) });
    }
    if object.is_none() {
        Ok(Value::Null)
    } else if let Ok(text) = object.cast::<PyString>() {
        let text = text.to_str().map_err(|_| Misfit::new("holds a lone surrogate; text is valid Unicode".into()))?;
        Ok(Value::String(text.to_owned()))
    } else if let Ok(flag) = object.cast::<PyBool>() {
        Ok(Value::Bool(flag.is_true()))
    } else if object.is_instance_of::<PyInt>() {
        integer(object)
    } else if let Ok(number) = object.cast::<PyFloat>() {
        float(number.value())
    } else if let Ok(dict) = object.cast::<PyDict>() {
        object_to_json(dict, depth)
    } else if let Ok(list) = object.cast::<PyList>() {
        array_to_json(list.iter(), depth)
    } else if let Ok(tuple) = object.cast::<PyTuple>() {
        array_to_json(tuple.iter(), depth)
    } else {
        other_to_json(object, depth)
    }
}

fn integer(object: &Bound<'_, PyAny>) -> Result<Value, Misfit> {
    if let Ok(n) = object.extract::<i64>() {
        return Ok(n.into());
    }
    object.extract::<u64>().map(Value::from).map_err(|_| {
        Misfit::new(
            "is an integer beyond 64 bits; an integer from -2**63 to 2**64 - 1 was expected: store it as a string"
                .into(),
        )
    })
}

fn float(number: f64) -> Result<Value, Misfit> {
    Number::from_f64(number)
        .map(Value::Number)
        .ok_or_else(|| Misfit::new(format!("is {number}; a finite number was expected: use None for a missing value")))
}

fn object_to_json(dict: &Bound<'_, PyDict>, depth: usize) -> Result<Value, Misfit> {
    // The copy is ours alone: another thread may change the original while it is walked.
    let dict = dict.copy().map_err(|e| Misfit::new(format!("cannot be read: {e}")))?;
    let mut map = Map::with_capacity(dict.len());
    for (key, value) in dict.iter() {
        let Ok(name) = key.extract::<String>() else {
            return Err(Misfit::new(format!("has a key of type {}; keys are strings", type_name(&key))));
        };
        let value =
            to_json(&value, depth - 1).map_err(|m| if m.too_deep { m } else { m.under(&format!(".{name}")) })?;
        map.insert(name, value);
    }
    Ok(Value::Object(map))
}

fn array_to_json<'py>(items: impl Iterator<Item = Bound<'py, PyAny>>, depth: usize) -> Result<Value, Misfit> {
    items
        .enumerate()
        .map(|(i, item)| to_json(&item, depth - 1).map_err(|m| if m.too_deep { m } else { m.under(&format!("[{i}]")) }))
        .collect::<Result<Vec<_>, _>>()
        .map(Value::Array)
}

/// Dates and times become ISO 8601 text, NumPy's scalars and arrays plain values.
fn other_to_json(object: &Bound<'_, PyAny>, depth: usize) -> Result<Value, Misfit> {
    let type_name = type_name(object);
    let read = |result: PyResult<Bound<'_, PyAny>>| {
        result
            .and_then(|text| text.extract::<String>())
            .map_err(|e| Misfit::new(format!("of type {type_name} cannot be read: {e}")))
    };
    if type_name == "datetime64" {
        return read(object.str().map(Bound::into_any)).map(Value::String);
    }
    if object.hasattr("isoformat").unwrap_or(false) {
        return read(object.call_method0("isoformat")).map(Value::String);
    }
    if object.hasattr("tolist").unwrap_or(false) {
        let plain = object
            .call_method0("tolist")
            .map_err(|e| Misfit::new(format!("of type {type_name} cannot be read: {e}")))?;
        return to_json(&plain, depth - 1);
    }
    Err(Misfit::new(format!(
        "is of type {type_name}, which has no place in JSON; use None, bool, int, float, str, list, dict or datetime"
    )))
}

/// JSON as Python objects.
pub(crate) fn json_to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::Null => Ok(py.None().into_bound(py)),
        Value::Bool(flag) => flag.into_bound_py_any(py),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(n), _) => n.into_bound_py_any(py),
            (None, Some(n)) => n.into_bound_py_any(py),
            (None, None) => number.as_f64().into_bound_py_any(py),
        },
        Value::String(text) => text.as_str().into_bound_py_any(py),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(json_to_python(py, item)?)?;
            }
            Ok(list.into_any())
        }
        Value::Object(map) => {
            let dict = PyDict::new(py);
            for (key, item) in map {
                dict.set_item(key, json_to_python(py, item)?)?;
            }
            Ok(dict.into_any())
        }
    }
}

/// A report of the engine as a `dict`.
pub(crate) fn report<'py>(py: Python<'py>, report: &impl serde::Serialize) -> PyResult<Bound<'py, PyAny>> {
    let value = serde_json::to_value(report).map_err(|e| invalid(py, format!("a report cannot be shown: {e}")))?;
    json_to_python(py, &value)
}
