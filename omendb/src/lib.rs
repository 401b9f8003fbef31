//! OmenDB: an embedded vector database.

mod collection;
mod database;
#[doc(hidden)]
pub mod distance;
mod error;
mod ids;
#[doc(hidden)]
pub mod index;
#[doc(hidden)]
pub mod quantize;
mod record;
pub mod schema;
pub mod storage;

pub use collection::Collection;
pub use database::{
    BackupReport, CheckReport, CollectionStats, Database, Durability, Latency, Options, RecoveryReport, SalvageReport,
    Stats, restore, salvage, verify_backup,
};
pub use error::{Error, Result};
pub use ids::{Id, IdColumn, IdRef};
pub use record::{Batch, BlobColumn, Hit, Hits, Include, Patch, Record, SearchOptions, Vector, Vectors};
pub use schema as limits;
pub use schema::{Element, Metric, Schema};
