//! The extension module `omendb._native`: converts between Python and the `omendb` crate, and nothing else.
//!
//! The package's typed facade (`python/omendb/`) is what users import. Every call that does work releases the
//! interpreter's lock; arrays are borrowed, not copied, where their layout is the one the engine reads.

mod collection;
mod convert;
mod database;
mod errors;
mod fields;
mod process;
mod results;
mod vectors;

use pyo3::prelude::*;

/// Native half of the package `omendb`; import `omendb` instead.
#[pymodule(name = "_native")]
mod native {
    #[pymodule_export]
    use super::collection::{PyCollection, RecordIterator};
    #[pymodule_export]
    use super::database::{PyDatabase, open, restore, salvage, verify_backup};
    #[pymodule_export]
    use super::results::{PyBatchHits, PyHit, PyHits, PyRecord, PySnippet};
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
