//! OmenDB: an embedded vector database.
//!
//! A [`Database`] is a directory of collections; a [`Collection`] holds records: an id (string or `u64`), a vector,
//! metadata (JSON) and text. A write that returned `Ok` survives a power cut; every byte is checked before an answer is
//! computed from it. Searches walk graphs, built in the background, to the recall asked for; a recall of 1 is exact.
//!
//! ```
//! use omendb::{Batch, Database, Id, Metric, Schema, SearchOptions};
//! use serde_json::json;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("library.omen");
//! let db = Database::open(&path)?;
//! let docs = db.create_collection("docs", Schema::new(3, Metric::Cosine))?;
//!
//! // A batch is applied whole or not at all: ids, vectors (row after row), metadata, text.
//! let (en, de) = (json!({"lang": "en", "year": 2020}), json!({"lang": "de", "tags": ["x", null]}));
//! let batch = Batch::new(["a", "b"].into_iter().collect(), vec![1.0, 0.0, 0.0, 0.6, 0.8, 0.0])
//!     .with_metadata([Some(&en), Some(&de)])?
//!     .with_text([Some("crash safe storage"), None]);
//! docs.upsert(batch)?;
//!
//! // A score is higher-is-better, a distance lower-is-better, in every metric.
//! let hits = docs.search(&[0.9, 0.1, 0.0], &SearchOptions::new(2))?;
//! assert_eq!(hits[0].id, Id::from("a"));
//! assert_eq!(hits[0].text.as_deref(), Some("crash safe storage"));
//! assert!(hits[0].score > hits[1].score && hits[0].distance < hits[1].distance);
//! db.close()?;
//!
//! let db = Database::open(&path)?;
//! let docs = db.collection("docs")?;
//! let record = docs.get("b")?.ok_or("not found")?;
//! assert_eq!(record.metadata, Some(de));
//! assert_eq!(record.vector.to_f32(), [0.6, 0.8, 0.0]);
//! docs.delete(["a", "b"])?;
//! assert_eq!(docs.count()?, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Where to go on
//! - [`Options`]: durability, memory budget, reading alone, damaged databases.
//! - [`Collection`]: `upsert`, `add`, `update`, `delete`, `get`, `iterate`, `search`, `search_batch`, `search_like`,
//!   `search_groups`, `explain`, `recall`, `compact`.
//! - [`Database::check`], [`Database::backup`], [`restore`], [`salvage`]: when something went wrong, or before it does.
//! - [`Error`]: what can go wrong, and what each kind asks of the caller.
//! - [`limits`]: what is the most of everything.
//! - [`Filter`]: conditions on metadata, for searches, counts, deletions and iteration.

mod budget;
mod check;
mod checksum;
mod codec;
mod collection;
mod copies;
mod database;
mod distance;
#[cfg(test)]
mod documents;
mod engine;
mod error;
mod fields;
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
mod quantize;
mod query;
mod record;
mod salvage;
pub mod schema;
mod segment;
mod sparse;
pub mod storage;
mod text;
mod validate;
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
pub use query::explain::{Explanation, PartPlan, Plan};
pub use query::fusion::Query;
pub use query::group::{Group, Groups};
pub use query::measure::RecallReport;
pub use record::{Batch, BlobColumn, Fuse, Hit, Hits, Include, Mmr, Patch, Record, SearchOptions, Vector, Vectors};
pub use salvage::{SalvageReport, salvage};
pub use schema as limits;
pub use schema::{Element, Field, FieldKind, Metric, Profile, Quantization, Schema, VectorField};
pub use sparse::Sparse;
pub use text::{Analyzer, Language, Snippet};

/// The parts that the benchmarks measure by themselves. Not an interface: anything here may change at any time.
#[doc(hidden)]
pub mod bench {
    pub use crate::distance::{Level, Prepared};
    pub use crate::index::flat::{Block, scan, scan_batch};
    pub use crate::index::graph;
    pub use crate::quantize::coder::Coding;
    pub use crate::query::topk::{Candidate, TopK};
}
