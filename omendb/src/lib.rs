//! OmenDB: an embedded vector database.

mod error;
mod ids;
mod record;
pub mod schema;
pub mod storage;

pub use error::{Error, Result};
pub use ids::{Id, IdColumn, IdRef};
pub use record::{Batch, BlobColumn, Hit, Hits, Include, Patch, Record, SearchOptions, Vector, Vectors};
pub use schema as limits;
pub use schema::{Element, Metric, Schema};
