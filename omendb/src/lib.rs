//! OmenDB: an embedded vector database.

mod check;
mod checksum;
mod codec;
mod collection;
mod copies;
mod database;
mod distance;
mod engine;
mod error;
pub mod filter;
#[doc(hidden)]
pub mod fuzzing;
mod idmap;
mod ids;
mod index;
mod manifest;
mod memtable;
mod metrics;
mod mutant;
mod query;
mod record;
mod salvage;
pub mod schema;
mod segment;
pub mod storage;
mod version;
mod wal;
mod write;

pub use check::CheckReport;
pub use collection::{Collection, Records};
pub use copies::{BackupReport, restore, verify_backup};
pub use database::{Database, Durability, Options, RecoveryReport};
pub use error::{Error, Result};
pub use filter::Filter;
pub use ids::{Id, IdColumn, IdRef};
pub use metrics::{CollectionStats, Latency, Stats};
pub use record::{Batch, BlobColumn, Hit, Hits, Include, Patch, Record, SearchOptions, Vector, Vectors};
pub use salvage::{SalvageReport, salvage};
pub use schema as limits;
pub use schema::{Element, Metric, Schema};

/// The parts that the benchmarks measure by themselves. Not an interface: anything here may change at any time.
#[doc(hidden)]
pub mod bench {
    pub use crate::distance::{Level, Prepared};
    pub use crate::index::flat::{Block, scan, scan_batch};
    pub use crate::query::topk::{Candidate, TopK};
}
