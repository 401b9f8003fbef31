//! Opening a database, its collections, and what concerns it as a whole.

use crate::check::CheckReport;
use crate::collection::{Collection, collection_stats};
use crate::copies::BackupReport;
use crate::engine::{CollectionState, Collections, Engine};
use crate::error::{Error, Result};
use crate::index::file::Stage;
use crate::manifest::{LOG_DIR, SEGMENT_DIR};
use crate::metrics::Stats;
use crate::schema::{MAX_COLLECTIONS, MAX_NAME_BYTES, Profile, Quantization, Schema};
use crate::storage::{MemStorage, RealStorage, Storage};
use crate::text::Analyzer;
use crate::version::Version;
use crate::write::commit::new_memtable;
use crate::write::flush::describe;
use crate::write::index::{MIN_ROWS, MIN_SETTLED_ROWS};
use crate::write::recover;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// When a write is acknowledged, that is, returns `Ok`. In every mode what a crash leaves is a prefix of the commits,
/// and a batch is there whole or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When it is on stable storage: it survives a power cut.
    #[default]
    Commit,
    /// When the operating system has it: it survives the death of the process at once, and a power cut after at most
    /// this long and one sync. With [`Options::background`] off, as `Manual`.
    Interval(Duration),
    /// When the operating system has it: it survives a power cut after the next `flush`.
    Manual,
}

/// How to open a database: `Options::new().durability(Durability::Manual).open("library.omen")`.
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) read_only: bool,
    pub(crate) degraded: bool,
    pub(crate) create: bool,
    pub(crate) durability: Durability,
    pub(crate) memory_budget: Option<u64>,
    pub(crate) log_cap: u64,
    pub(crate) background: bool,
    pub(crate) mmap: bool,
    pub(crate) seed: Option<u64>,
    bulk_bytes: Option<u64>,
    index_rows: Option<u32>,
    mutant: Option<&'static str>,
}

/// Smallest memory budget, bytes.
const MIN_MEMORY_BUDGET: u64 = 16 << 20;
/// Smallest cap of the log, bytes.
const MIN_LOG_CAP: u64 = 1 << 10;
/// A batch of this size goes straight into a segment.
const BULK_BYTES: u64 = 4 << 20;
/// The log grows by this much at a time.
const LOG_CHUNK: u64 = 4 << 20;

impl Default for Options {
    fn default() -> Self {
        Options {
            read_only: false,
            degraded: false,
            create: true,
            durability: Durability::Commit,
            memory_budget: None,
            log_cap: 64 << 20,
            background: true,
            mmap: true,
            seed: None,
            bulk_bytes: None,
            index_rows: None,
            mutant: None,
        }
    }
}

impl Options {
    /// The defaults: read and write, durable on acknowledgement, made if missing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens for reading alone. Any number of readers may share a database, without a writer.
    pub fn read_only(mut self, on: bool) -> Self {
        self.read_only = on;
        self
    }

    /// Opens a damaged database for reading what is whole (implies `read_only`). What is left out is listed in
    /// [`Stats::damaged`]; searches then never claim to be complete, and `get` of an id that is not found is an error.
    pub fn degraded(mut self, on: bool) -> Self {
        self.degraded = on;
        self.read_only |= on;
        self
    }

    /// Whether to make a database where there is none (the default) or fail with `NotFound`.
    pub fn create(mut self, on: bool) -> Self {
        self.create = on;
        self
    }

    /// When writes are acknowledged.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Bytes that memtables and id indexes may take, 16 MiB or more; the default is a quarter of what the control
    /// group or the machine has. Writes wait for flushes to stay within it and are refused where that cannot help.
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = Some(bytes);
        self
    }

    /// Most bytes of log, which bounds the time of recovery; 64 MiB by default.
    pub fn log_cap(mut self, bytes: u64) -> Self {
        self.log_cap = bytes;
        self
    }

    /// Whether a thread flushes and compacts (the default), or writers do so within their calls.
    pub fn background(mut self, on: bool) -> Self {
        self.background = on;
        self
    }

    /// Whether files are mapped (the default) or read into memory whole. A mapped file that another program truncates
    /// ends the process.
    pub fn mmap(mut self, on: bool) -> Self {
        self.mmap = on;
        self
    }

    /// Makes a new database's identity reproducible, for tests: same calls and seed, same bytes.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Batches of this size go straight into a segment, for tests.
    #[doc(hidden)]
    pub fn bulk_bytes(mut self, bytes: u64) -> Self {
        self.bulk_bytes = Some(bytes);
        self
    }

    /// Segments of this many rows get a graph, and a careful one when settled, for tests.
    #[doc(hidden)]
    pub fn index_rows(mut self, rows: u32) -> Self {
        self.index_rows = Some(rows);
        self
    }

    /// A deliberate defect, for tests of the tests; without effect in builds without debug assertions.
    #[doc(hidden)]
    pub fn mutant(mut self, name: &'static str) -> Self {
        self.mutant = Some(name);
        self
    }

    /// Opens the database in the directory `path`.
    ///
    /// # Errors
    /// `Locked` if it is open elsewhere; `NotFound` if it is not there and may not be made; `Corrupt` if what
    /// opening reads is damaged; `Unsupported` for a newer format.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Database> {
        let path = path.as_ref().to_path_buf();
        let storage: Arc<dyn Storage> =
            if self.mmap { Arc::new(RealStorage::new(path)) } else { Arc::new(RealStorage::without_mmap(path)) };
        self.open_on(storage)
    }

    /// Opens the database in any storage.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open_on(self, storage: Arc<dyn Storage>) -> Result<Database> {
        crate::mutant::activate(self.mutant);
        if self.memory_budget.is_some_and(|bytes| bytes < MIN_MEMORY_BUDGET) {
            return Err(Error::invalid(format!(
                "a memory budget of {} bytes was given; the least is {MIN_MEMORY_BUDGET}",
                self.memory_budget.unwrap_or_default()
            )));
        }
        if self.log_cap < MIN_LOG_CAP {
            return Err(Error::invalid(format!(
                "a log cap of {} bytes was given; the least is {MIN_LOG_CAP}",
                self.log_cap
            )));
        }
        let opened = recover::open(&*storage, &self)?;
        Ok(Database { handle: Arc::new(Handle(Engine::start(storage, self, opened))) })
    }

    /// Batches of this many bytes or more take the bulk path.
    pub(crate) fn bulk_threshold(&self) -> u64 {
        self.bulk_bytes.unwrap_or(BULK_BYTES).min(self.log_cap / 4)
    }

    /// Segments of fewer rows get no graph of this stage.
    pub(crate) fn least_indexed_rows(&self, stage: Stage) -> u32 {
        self.index_rows.unwrap_or(if stage == Stage::First { MIN_ROWS } else { MIN_SETTLED_ROWS })
    }

    pub(crate) fn log_chunk(&self) -> u64 {
        LOG_CHUNK.min(self.log_cap / 16).max(256)
    }
}

/// Closes the database when the last handle is dropped.
#[derive(Debug)]
pub(crate) struct Handle(pub(crate) Arc<Engine>);

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(e) = self.0.close() {
            tracing::error!(error = %e, "close failed");
        }
    }
}

/// An open database. Cheap to clone; all clones are one handle, which closes when the last of them and of their
/// collections is gone.
#[derive(Debug, Clone)]
pub struct Database {
    pub(crate) handle: Arc<Handle>,
}

impl Database {
    /// Opens the database in the directory `path`, or makes it, with default [`Options`].
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(path)
    }

    /// A database in memory, gone when it is closed.
    ///
    /// # Errors
    /// None are expected.
    pub fn in_memory() -> Result<Self> {
        Options::new().open_on(Arc::new(MemStorage::new()))
    }

    fn engine(&self) -> &Engine {
        &self.handle.0
    }

    fn wrap(&self, state: Arc<CollectionState>) -> Collection {
        Collection { handle: Arc::clone(&self.handle), state }
    }

    /// Makes a collection; durable when it returns.
    ///
    /// # Errors
    /// `AlreadyExists`; `InvalidInput` for a bad name or schema.
    pub fn create_collection(&self, name: &str, schema: Schema) -> Result<Collection> {
        let engine = self.engine();
        let _active = engine.enter()?;
        engine.writable()?;
        validate_name(name)?;
        schema.validate()?;
        let _turn = engine.maintenance.lock();
        let mut state = engine.state.lock();
        let mut collections = Collections::clone(&engine.collections());
        if collections.contains_key(name) {
            return Err(Error::AlreadyExists(format!("collection {name:?}: open it, or choose another name")));
        }
        if collections.len() >= MAX_COLLECTIONS {
            return Err(Error::LimitExceeded(format!("a database holds at most {MAX_COLLECTIONS} collections")));
        }
        engine.sync_log_in(&mut state)?;
        let mut next = engine.next_manifest(&state);
        let id = next.next_collection;
        next.next_collection = id
            .checked_add(1)
            .ok_or_else(|| Error::LimitExceeded("the database has used up its collection numbers".into()))?;
        let seed = crate::checksum::xxh3_128(&[&engine.uuid, &id.to_le_bytes()]) as u64;
        let version = Version::new(new_memtable(&mut state.next_source));
        let collection = Arc::new(CollectionState::new(id, name, schema, seed, version));
        next.collections.push(describe(&collection));
        engine.commit_manifest(&mut state, next)?;
        collections.insert(name.to_owned(), Arc::clone(&collection));
        engine.set_collections(collections);
        Ok(self.wrap(collection))
    }

    /// An existing collection.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn collection(&self, name: &str) -> Result<Collection> {
        self.engine().usable()?;
        match self.engine().collections().get(name) {
            Some(collection) => Ok(self.wrap(Arc::clone(collection))),
            None => Err(Error::NotFound(format!("collection {name:?}; there are: {}", self.collections().join(", ")))),
        }
    }

    /// An existing collection, or a new one.
    ///
    /// # Errors
    /// `InvalidInput` if it exists with another schema, where a default quantization, profile or analyzer, and no
    /// fields, mean those that it has; else as [`Database::create_collection`].
    pub fn get_or_create_collection(&self, name: &str, schema: Schema) -> Result<Collection> {
        let existing = match self.collection(name) {
            Err(Error::NotFound(_)) => match self.create_collection(name, schema.clone()) {
                Err(Error::AlreadyExists(_)) => self.collection(name)?,
                other => return other,
            },
            other => other?,
        };
        let own = existing.schema();
        let asked = Schema {
            quantization: if schema.quantization == Quantization::default() {
                own.quantization
            } else {
                schema.quantization
            },
            profile: if schema.profile == Profile::default() { own.profile } else { schema.profile },
            analyzer: if schema.analyzer == Analyzer::default() { own.analyzer } else { schema.analyzer },
            fields: if schema.fields.is_empty() { own.fields.clone() } else { schema.fields.clone() },
            ..schema.clone()
        };
        if *own != asked {
            return Err(Error::invalid(format!(
                "collection {name:?} exists with {}; {} was asked for",
                show_schema(own),
                show_schema(&asked)
            )));
        }
        Ok(existing)
    }

    /// Deletes a collection and all its records; durable when it returns.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn drop_collection(&self, name: &str) -> Result<()> {
        let engine = self.engine();
        let _active = engine.enter()?;
        engine.writable()?;
        let collection = self.collection(name)?.state;
        let _turn = engine.maintenance.lock();
        let mut state = engine.state.lock();
        engine.sync_log_in(&mut state)?;
        let mut next = engine.next_manifest(&state);
        next.collections.retain(|c| c.id != collection.id);
        engine.commit_manifest(&mut state, next)?;
        collection.dropped.store(true, Ordering::Release);
        let mut collections = Collections::clone(&engine.collections());
        collections.retain(|_, c| c.id != collection.id);
        engine.set_collections(collections);
        Ok(())
    }

    /// The names of all collections, sorted.
    pub fn collections(&self) -> Vec<String> {
        self.engine().collections().keys().cloned().collect()
    }

    /// Moves everything written so far into segments; when it returns, it is durable there, in every mode.
    ///
    /// # Errors
    /// `DiskFull`, `Io`; what was acknowledged stays in the log.
    pub fn flush(&self) -> Result<()> {
        let _active = self.engine().enter()?;
        self.engine().writable()?;
        self.engine().flush()
    }

    /// Rewrites every collection so that nothing deleted or replaced is left in the files.
    ///
    /// # Errors
    /// `DiskFull`, `Io`, `Corrupt`; the collections stay as they were.
    pub fn compact(&self) -> Result<()> {
        for name in self.collections() {
            match self.collection(&name) {
                Ok(collection) => collection.compact()?,
                Err(Error::NotFound(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Checks the files: names, lengths and footers; with `deep` every byte and every invariant.
    /// What is wrong is in the report, not an error.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn check(&self, deep: bool) -> Result<CheckReport> {
        let _active = self.engine().enter()?;
        crate::check::check(self.engine(), deep)
    }

    /// Copies the database, as of now, into the new directory `destination`, durably.
    ///
    /// # Errors
    /// `AlreadyExists` if there is something at the destination; `Corrupt` if the source is damaged; `DiskFull`, `Io`.
    pub fn backup(&self, destination: impl AsRef<Path>) -> Result<BackupReport> {
        let _active = self.engine().enter()?;
        crate::copies::backup(self.engine(), destination.as_ref())
    }

    /// What the database holds and how it has been doing.
    pub fn stats(&self) -> Stats {
        let engine = self.engine();
        let collections: Vec<_> = engine.all_collections().iter().map(|c| collection_stats(c)).collect();
        let mut stats = Stats {
            path: engine.storage.describe(),
            records: collections.iter().map(|c| c.records).sum(),
            collections,
            log_lag_bytes: engine.log_bytes.load(Ordering::Relaxed),
            memory_used: engine.memory_used(),
            memory_budget: engine.memory_budget,
            damaged: engine.damaged(),
            background_error: engine.background_error(),
            poisoned: engine.poisoned(),
            write: engine.metrics.write.latency(),
            search: engine.metrics.search.latency(),
            fsync: engine.metrics.fsync.latency(),
            flush: engine.metrics.flush.latency(),
            compaction: engine.metrics.compaction.latency(),
            index: engine.metrics.index.latency(),
            index_progress: engine.metrics.index_progress(),
            ..Stats::default()
        };
        for dir in ["", SEGMENT_DIR, LOG_DIR] {
            // A directory that cannot be listed shows as empty here and as an error wherever it matters.
            for entry in engine.storage.list(dir).unwrap_or_default() {
                match entry.name.rsplit('.').next() {
                    _ if entry.name.starts_with("MANIFEST-") => stats.bytes_manifest += entry.len,
                    Some("log") => stats.bytes_log += entry.len,
                    Some("data") => stats.bytes_data += entry.len,
                    Some("index" | "sparse" | "columns") => stats.bytes_index += entry.len,
                    Some("text") => stats.bytes_text += entry.len,
                    Some("tombstones") => stats.bytes_tombstones += entry.len,
                    _ => {}
                }
            }
        }
        stats
    }

    /// What recovery found when this handle opened.
    pub fn recovery(&self) -> RecoveryReport {
        self.engine().recovery.clone()
    }

    /// Makes everything written durable and ends the handle; every later call on it or its collections is refused.
    /// Dropping the last handle does the same, but cannot report an error.
    ///
    /// # Errors
    /// `Indeterminate` if the log could not be sealed.
    pub fn close(&self) -> Result<()> {
        self.engine().close()
    }
}

/// What recovery did at open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RecoveryReport {
    /// Bytes of log that were replayed.
    pub log_bytes: u64,
    /// Frames that were replayed.
    pub frames: u64,
    /// Records written by those frames.
    pub records: u64,
    /// Bytes of unacknowledged tail that were cut off.
    pub truncated_bytes: u64,
    /// How long opening took, microseconds.
    pub micros: u64,
}

fn validate_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "collection name {:?} was given; a name has 1 to {MAX_NAME_BYTES} bytes and no control characters",
            name.chars().take(64).collect::<String>()
        )));
    }
    Ok(())
}

fn show_schema(schema: &Schema) -> String {
    let mut shown = format!("dim {}, {}, {}", schema.dim, schema.element.name(), schema.metric.name());
    if schema.quantization != Quantization::default() {
        shown += &format!(", quantization {}", schema.quantization.name());
    }
    if schema.profile != Profile::default() {
        shown += &format!(", profile {}", schema.profile.name());
    }
    if schema.analyzer != Analyzer::default() {
        shown += &format!(", analyzer {}", schema.analyzer);
    }
    shown
}
