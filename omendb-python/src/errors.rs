//! Rust errors as the exceptions of `omendb._errors`.

use omendb::Error;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The exception of `error`: the class of its name in `omendb._errors`, with its fields as attributes.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    build(py, error).unwrap_or_else(|failure| failure)
}

fn build(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let fields = PyDict::new(py);
    match error {
        Error::Corrupt { file, offset, what } => {
            fields.set_item("file", file)?;
            fields.set_item("offset", offset)?;
            fields.set_item("what", what)?;
        }
        Error::Io { op, path, .. } => {
            fields.set_item("operation", op)?;
            fields.set_item("path", path)?;
        }
        _ => {}
    }
    let class = py.import("omendb._errors")?.getattr(error.name())?;
    let value = class.call1((error.to_string(),))?;
    for (name, field) in fields.iter() {
        value.setattr(name.extract::<String>()?.as_str(), field)?;
    }
    Ok(PyErr::from_value(value))
}

/// `InvalidInput` with this message.
pub(crate) fn invalid(py: Python<'_>, what: impl Into<String>) -> PyErr {
    exception(py, &Error::invalid(what))
}

/// Turns the crate's results into Python's.
pub(crate) trait OrRaise<T> {
    /// The value, or the matching exception.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for omendb::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| exception(py, &error))
    }
}
