//! Databases: opening, collections, maintenance, copies.

use crate::collection::PyCollection;
use crate::convert::report;
use crate::errors::{OrRaise, invalid};
use crate::fields::{Declared, declare};
use crate::process::{Owned, interruptible};
use omendb::storage::MemStorage;
use omendb::{Database, Durability, Options, Schema};
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// An open database.
#[pyclass(frozen, name = "Database", module = "omendb._native")]
pub(crate) struct PyDatabase {
    database: Owned<Database>,
}

/// Opens a database; `path` None means one in memory.
#[pyfunction]
#[pyo3(signature = (path, *, durability, interval_seconds, read_only, create, degraded, memory_budget, log_cap))]
#[expect(clippy::too_many_arguments, reason = "one keyword argument an option")]
pub(crate) fn open(
    py: Python<'_>,
    path: Option<PathBuf>,
    durability: &str,
    interval_seconds: f64,
    read_only: bool,
    create: bool,
    degraded: bool,
    memory_budget: Option<u64>,
    log_cap: Option<u64>,
) -> PyResult<PyDatabase> {
    let durability = match durability {
        "commit" => Durability::Commit,
        "manual" => Durability::Manual,
        _ => Durability::Interval(
            Duration::try_from_secs_f64(interval_seconds)
                .map_err(|e| invalid(py, format!("interval = {interval_seconds}: {e}")))?,
        ),
    };
    let mut options = Options::new().durability(durability).read_only(read_only).create(create).degraded(degraded);
    if let Some(bytes) = memory_budget {
        options = options.memory_budget(bytes);
    }
    if let Some(bytes) = log_cap {
        options = options.log_cap(bytes);
    }
    let database = match path {
        Some(path) => interruptible(py, move || options.open(path))?,
        None => py.detach(|| options.open_on(Arc::new(MemStorage::new()))).or_raise(py)?,
    };
    Ok(PyDatabase { database: Owned::new(database) })
}

#[pymethods]
impl PyDatabase {
    /// Creates a collection.
    fn create_collection(
        &self,
        py: Python<'_>,
        name: &str,
        dim: usize,
        kind: (String, String),
        tuning: (String, String, String),
        fields: Vec<Declared>,
    ) -> PyResult<PyCollection> {
        let schema = declare(py, schema(py, dim, &kind.0, &kind.1, &tuning)?, fields)?;
        let database = self.database.get().or_raise(py)?;
        py.detach(|| database.create_collection(name, schema)).or_raise(py).map(PyCollection::new)
    }

    /// Opens a collection, or creates it.
    fn get_or_create_collection(
        &self,
        py: Python<'_>,
        name: &str,
        dim: usize,
        kind: (String, String),
        tuning: (String, String, String),
        fields: Vec<Declared>,
    ) -> PyResult<PyCollection> {
        let schema = declare(py, schema(py, dim, &kind.0, &kind.1, &tuning)?, fields)?;
        let database = self.database.get().or_raise(py)?;
        py.detach(|| database.get_or_create_collection(name, schema)).or_raise(py).map(PyCollection::new)
    }

    /// Opens a collection.
    fn collection(&self, py: Python<'_>, name: &str) -> PyResult<PyCollection> {
        let database = self.database.get().or_raise(py)?;
        py.detach(|| database.collection(name)).or_raise(py).map(PyCollection::new)
    }

    /// Removes a collection and its records.
    fn drop_collection(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let database = self.database.get().or_raise(py)?;
        py.detach(|| database.drop_collection(name)).or_raise(py)
    }

    /// The names of the collections.
    fn collections(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let database = self.database.get().or_raise(py)?;
        Ok(py.detach(|| database.collections()))
    }

    /// Makes every acknowledged write durable and moves it out of the log.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let database = self.handle(py)?;
        interruptible(py, move || database.flush())
    }

    /// Rewrites segments without what was deleted or replaced.
    fn compact(&self, py: Python<'_>) -> PyResult<()> {
        let database = self.handle(py)?;
        interruptible(py, move || database.compact())
    }

    /// Verifies the files.
    fn check<'py>(&self, py: Python<'py>, deep: bool) -> PyResult<Bound<'py, PyAny>> {
        let database = self.handle(py)?;
        report(py, &interruptible(py, move || database.check(deep))?)
    }

    /// Writes a consistent copy.
    fn backup<'py>(&self, py: Python<'py>, destination: PathBuf) -> PyResult<Bound<'py, PyAny>> {
        let database = self.handle(py)?;
        report(py, &interruptible(py, move || database.backup(destination))?)
    }

    /// Sizes, counts and latencies.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let database = self.database.get().or_raise(py)?;
        report(py, &py.detach(|| database.stats()))
    }

    /// The statistics in the Prometheus text format.
    fn prometheus(&self, py: Python<'_>) -> PyResult<String> {
        let database = self.database.get().or_raise(py)?;
        Ok(py.detach(|| database.stats().to_prometheus()))
    }

    /// What recovery found when this handle was opened.
    fn recovery<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let database = self.database.get().or_raise(py)?;
        report(py, &py.detach(|| database.recovery()))
    }

    /// Closes the database.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let database = self.handle(py)?;
        interruptible(py, move || database.close())
    }
}

impl PyDatabase {
    fn handle(&self, py: Python<'_>) -> PyResult<Database> {
        self.database.get().or_raise(py).cloned()
    }
}

/// `tuning` is quantization, profile and analyzer.
fn schema(
    py: Python<'_>,
    dim: usize,
    metric: &str,
    dtype: &str,
    tuning: &(String, String, String),
) -> PyResult<Schema> {
    let (quantization, profile, analyzer) = tuning;
    Ok(Schema::new(dim, metric.parse().or_raise(py)?)
        .with_element(dtype.parse().or_raise(py)?)
        .with_quantization(quantization.parse().or_raise(py)?)
        .with_profile(profile.parse().or_raise(py)?)
        .with_analyzer(analyzer.parse().or_raise(py)?))
}

/// Verifies a backup.
#[pyfunction]
pub(crate) fn verify_backup(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyAny>> {
    report(py, &interruptible(py, move || omendb::verify_backup(path))?)
}

/// Copies a backup to where a database can be opened, verified.
#[pyfunction]
pub(crate) fn restore(py: Python<'_>, source: PathBuf, destination: PathBuf) -> PyResult<Bound<'_, PyAny>> {
    report(py, &interruptible(py, move || omendb::restore(source, destination))?)
}

/// Copies what is whole in a damaged database to a new one.
#[pyfunction]
pub(crate) fn salvage(py: Python<'_>, source: PathBuf, destination: PathBuf) -> PyResult<Bound<'_, PyAny>> {
    report(py, &interruptible(py, move || omendb::salvage(source, destination))?)
}
