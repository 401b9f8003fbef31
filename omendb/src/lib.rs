//! OmenDB: an embedded vector database.

mod collection;
mod database;
mod distance;
mod error;
mod ids;
mod index;
mod query;
mod record;
pub mod schema;
pub mod storage;

pub use collection::Collection;
pub use database::{restore, salvage, verify_backup, BackupReport, CheckReport, CollectionStats, Database, Durability, Latency, Options, RecoveryReport, SalvageReport, Stats};
pub use error::{Error, Result};
pub use ids::{Id, IdColumn, IdRef};
pub use record::{Batch, BlobColumn, Hit, Hits, Include, Patch, Record, SearchOptions, Vector, Vectors};
pub use schema as limits;
pub use schema::{Element, Metric, Schema};

/// The parts that the benchmarks measure by themselves. Not an interface: anything here may change at any time.
#[doc(hidden)]
pub mod bench {
    pub use crate::distance::{Level, Prepared};
    pub use crate::index::flat::{Block, scan, scan_batch};
    pub use crate::query::topk::{Candidate, TopK};
}
