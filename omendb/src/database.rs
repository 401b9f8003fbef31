//! STUB of the API; the real engine replaces this file.
use crate::*;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When it is on stable storage. 
    #[default]
    Commit,
    /// When the operating system has it; it is on stable storage at most this much later.
    Interval(Duration),
    /// As `Interval`, with no clock: on stable storage after the next `flush`.
    Manual,
}

/// How to open a database: `Options::new().durability(..).open(path)`.
#[derive(Debug, Clone)]
pub struct Options {
    /// see methods
    pub read_only: bool, pub degraded: bool, pub durability: Durability,
    /// false: fail with NotFound where there is no database.
    pub create: bool,
    /// bytes of anonymous memory; None = a quarter of the cgroup's limit or the machine
    pub memory_budget: Option<u64>,
    /// bytes; default 64 MiB
    pub log_cap: u64,
    /// false: no background thread; flush/compaction happen only inside calls (deterministic; used by simulations)
    pub background: bool,
    /// false: read files into memory instead of mapping them
    pub mmap: bool,
    /// uuid seed for reproducible files (tests)
    pub seed: Option<u64>,
}
impl Options {
    pub fn new() -> Self { todo!() }
    pub fn read_only(self, _: bool) -> Self { todo!() }
    pub fn degraded(self, _: bool) -> Self { todo!() }
    pub fn create(self, _: bool) -> Self { todo!() }
    pub fn durability(self, _: Durability) -> Self { todo!() }
    pub fn memory_budget(self, _bytes: u64) -> Self { todo!() }
    pub fn log_cap(self, _bytes: u64) -> Self { todo!() }
    pub fn background(self, _: bool) -> Self { todo!() }
    pub fn mmap(self, _: bool) -> Self { todo!() }
    pub fn seed(self, _: u64) -> Self { todo!() }
    pub fn open(self, _path: impl AsRef<Path>) -> Result<Database> { todo!() }
    /// over any storage (simulations)
    pub fn open_on(self, _storage: Arc<dyn storage::Storage>) -> Result<Database> { todo!() }
}
/// An open database. Cheap to clone; all clones are one handle. Send + Sync.
#[derive(Debug, Clone)]
pub struct Database;
impl Database {
    pub fn open(_path: impl AsRef<Path>) -> Result<Self> { todo!() }
    pub fn in_memory() -> Result<Self> { todo!() }
    pub fn create_collection(&self, _name: &str, _schema: Schema) -> Result<Collection> { todo!() }
    pub fn collection(&self, _name: &str) -> Result<Collection> { todo!() }
    pub fn get_or_create_collection(&self, _name: &str, _schema: Schema) -> Result<Collection> { todo!() }
    pub fn drop_collection(&self, _name: &str) -> Result<()> { todo!() }
    pub fn collections(&self) -> Vec<String> { todo!() }
    /// memtables -> segments, all durable
    pub fn flush(&self) -> Result<()> { todo!() }
    pub fn compact(&self) -> Result<()> { todo!() }
    /// deep = every byte and every invariant; else manifest, names, lengths, footers
    pub fn check(&self, _deep: bool) -> Result<CheckReport> { todo!() }
    /// a consistent copy; dst must not exist
    pub fn backup(&self, _dst: impl AsRef<Path>) -> Result<BackupReport> { todo!() }
    pub fn stats(&self) -> Stats { todo!() }
    /// what recovery found when this handle opened
    pub fn recovery(&self) -> RecoveryReport { todo!() }
    pub fn close(&self) -> Result<()> { todo!() }
}
pub fn verify_backup(_path: impl AsRef<Path>) -> Result<CheckReport> { todo!() }
pub fn restore(_src: impl AsRef<Path>, _dst: impl AsRef<Path>) -> Result<CheckReport> { todo!() }
pub fn salvage(_src: impl AsRef<Path>, _dst: impl AsRef<Path>) -> Result<SalvageReport> { todo!() }

#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct CheckReport { pub files: u64, pub bytes: u64, pub records: u64, pub problems: Vec<String> }
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct BackupReport { pub files: u64, pub bytes: u64, pub records: u64 }
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct SalvageReport { pub collections: u64, pub records_saved: u64, pub records_lost: u64, pub problems: Vec<String> }
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct RecoveryReport { pub log_bytes: u64, pub frames: u64, pub records: u64, pub truncated_bytes: u64, pub micros: u64 }
/// quantiles of one operation, microseconds
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Latency { pub count: u64, pub p50_us: f64, pub p99_us: f64, pub max_us: f64 }
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct CollectionStats { pub name: String, pub dim: usize, pub metric: String, pub element: String, pub records: u64, pub deleted: u64, pub segments: u64, pub memtable_records: u64, pub memtable_bytes: u64 }
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Stats {
    pub path: String, pub records: u64, pub collections: Vec<CollectionStats>,
    pub bytes_log: u64, pub bytes_data: u64, pub bytes_index: u64, pub bytes_text: u64, pub bytes_tombstones: u64, pub bytes_manifest: u64,
    pub log_lag_bytes: u64, pub memory_used: u64, pub memory_budget: u64, pub damaged: Vec<String>,
    pub write: Latency, pub search: Latency, pub fsync: Latency, pub flush: Latency, pub compaction: Latency,
}
impl Stats { pub fn to_prometheus(&self) -> String { todo!() } }
