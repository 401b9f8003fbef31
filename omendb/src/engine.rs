//! The state that all handles of one open database share, and the threads that flush, compact and index behind them.

use crate::budget;
use crate::database::{Durability, Options, RecoveryReport};
use crate::error::{Error, Result};
use crate::idmap::{IdMap, Location};
use crate::manifest::Manifest;
use crate::metrics::Metrics;
use crate::schema::Schema;
use crate::storage::{LockGuard, Storage};
use crate::version::Version;
use crate::wal::LogWriter;
use crate::write::commit::CommitQueue;
use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// While bulk writes keep coming, compaction waits until there are this many segments.
pub(crate) const BUSY_SEGMENTS: usize = 64;
/// With nothing else to do for this long, first graphs are replaced by careful ones.
const SETTLE_AFTER: Duration = Duration::from_secs(2);
/// A bulk write this recent counts as "keep coming".
const BUSY: Duration = Duration::from_millis(500);

/// What a background thread does until the database closes.
type Run = fn(&Engine);
/// The background threads: each can do without those after it.
const THREADS: [(&str, Run); 3] = [
    ("omendb-flusher", Engine::run_flusher),
    ("omendb-compactor", Engine::run_compactor),
    ("omendb-indexer", Engine::run_indexer),
];

/// One collection of an open database.
#[derive(Debug)]
pub(crate) struct CollectionState {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) schema: Schema,
    /// The schemas of the further vectors, by the field's number: each as of a collection with that vector alone.
    pub(crate) further: Vec<(usize, Schema)>,
    pub(crate) hash_seed: u64,
    /// What readers see. Swapped only under `ids`' write lock.
    pub(crate) version: ArcSwap<Version>,
    /// The same for those who write: an `ArcSwap` makes every thread that ever read one dearer for whoever swaps it.
    latest: Mutex<Arc<Version>>,
    /// Bytes of its memtables.
    pub(crate) memtable_memory: AtomicU64,
    /// Where each id is; loaded at the first need. Agrees with `version` whenever it is unlocked.
    ids: RwLock<Option<IdMap>>,
    pub(crate) id_memory: AtomicU64,
    pub(crate) dropped: AtomicBool,
}

impl CollectionState {
    pub(crate) fn new(id: u32, name: &str, schema: Schema, hash_seed: u64, version: Version) -> Self {
        let version = Arc::new(version);
        CollectionState {
            id,
            name: name.to_owned(),
            further: schema.vector_fields(),
            schema,
            hash_seed,
            memtable_memory: AtomicU64::new(version.memtable_bytes()),
            version: ArcSwap::new(Arc::clone(&version)),
            latest: Mutex::new(version),
            ids: RwLock::new(None),
            id_memory: AtomicU64::new(0),
            dropped: AtomicBool::new(false),
        }
    }

    /// The records' own vectors (`None`) and those of further fields, by the field's number, with their schemas.
    pub(crate) fn vectors(&self) -> impl Iterator<Item = (Option<usize>, &Schema)> {
        let further = self.further.iter().map(|(field, schema)| (Some(*field), schema));
        std::iter::once((None, &self.schema)).chain(further)
    }

    /// The vectors that a search is to use: the records' own, or those of a field.
    pub(crate) fn vectors_of(&self, using: Option<&str>) -> Result<(Option<usize>, &Schema)> {
        let Some(name) = using else { return Ok((None, &self.schema)) };
        let number = self.schema.vector_field(name)?;
        let found = self.further.iter().find(|(field, _)| *field == number);
        found
            .map(|(field, schema)| (Some(*field), schema))
            .ok_or_else(|| Error::Unusable(format!("field {name:?} is in the schema, but has none of its own")))
    }

    /// The version that the next one is made of.
    pub(crate) fn latest(&self) -> Arc<Version> {
        Arc::clone(&self.latest.lock())
    }

    /// Lets readers see a version. The caller holds `ids`' write lock.
    pub(crate) fn publish(&self, version: Version) {
        let version = Arc::new(version);
        self.memtable_memory.store(version.memtable_bytes(), Ordering::Relaxed);
        // The one before must not be dropped under the lock.
        let _before = std::mem::replace(&mut *self.latest.lock(), Arc::clone(&version));
        self.version.store(version);
    }

    /// Whether a segment is not part of the collection any more.
    pub(crate) fn has_lost(&self, segment: u32) -> bool {
        self.version.load().segment(segment).is_none() || self.dropped.load(Ordering::Acquire)
    }

    /// The id index for reading, loaded if need be.
    pub(crate) fn ids(&self) -> Result<RwLockReadGuard<'_, Option<IdMap>>> {
        let guard = self.ids.read();
        if guard.is_some() {
            return Ok(guard);
        }
        drop(guard);
        Ok(RwLockWriteGuard::downgrade(self.ids_mut()?))
    }

    /// The id index for changing, loaded if need be.
    pub(crate) fn ids_mut(&self) -> Result<RwLockWriteGuard<'_, Option<IdMap>>> {
        let mut guard = self.ids.write();
        if guard.is_none() {
            let map = load_ids(&self.version.load())?;
            self.id_memory.store(map.memory(), Ordering::Relaxed);
            *guard = Some(map);
        }
        Ok(guard)
    }
}

/// Fills an id index from a version. Segments whose ids cannot be read are an error, except in a degraded version,
/// where they are left out.
fn load_ids(version: &Version) -> Result<IdMap> {
    let mut map = IdMap::with_capacity(version.live_rows() as usize);
    let degraded = !version.damaged.is_empty();
    for view in &version.segments {
        let hashes = match view.segment.hashes() {
            Ok(hashes) => hashes,
            Err(_) if degraded => continue,
            Err(e) => return Err(e),
        };
        let source = view.segment.id_number();
        for row in crate::idmap::by_shard(&hashes) {
            if !view.dead.contains(row) {
                map.insert(hashes[row as usize], Location { source, row });
            }
        }
    }
    for part in version.parts().skip(version.segments.len()) {
        for row in part.live_runs().into_iter().flatten() {
            map.insert(part.rows.hash(row)?, part.location(row));
        }
    }
    Ok(map)
}

/// The collections of a database, by name.
pub(crate) type Collections = BTreeMap<String, Arc<CollectionState>>;

/// What only a committer may touch.
#[derive(Debug)]
pub(crate) struct State {
    /// The last committed manifest.
    pub(crate) manifest: Manifest,
    /// The log that takes new frames; made at the first write.
    pub(crate) log: Option<LogWriter>,
    pub(crate) next_generation: u64,
    /// Sealed or recovered logs that no manifest has made superfluous yet: generation and bytes.
    pub(crate) old_logs: Vec<(u64, u64)>,
    /// The last frame applied.
    pub(crate) seq: u64,
    /// The last frame known to be on stable storage.
    pub(crate) durable_seq: u64,
    pub(crate) next_source: u32,
}

#[derive(Debug, Default)]
struct Work {
    flush: bool,
    flushing: bool,
    compact: bool,
    compacting: bool,
    index: bool,
    indexing: bool,
    stop: bool,
    error: Option<Error>,
    /// Somebody waits for the careful graphs.
    settle: bool,
    /// Nothing is left to index until something changes.
    settled: bool,
    last_bulk: Option<Instant>,
}

impl Work {
    /// Whether there is anything to flush or to compact: that decides which segments there are to index.
    fn segments_change(&self) -> bool {
        self.flush || self.flushing || self.compact || self.compacting
    }

    fn bulk_writes_keep_coming(&self) -> bool {
        self.last_bulk.is_some_and(|at| at.elapsed() < BUSY)
    }

    /// Keeps the outcome of background work for whoever waits for it.
    fn note(&mut self, result: Result<()>) {
        if let Err(e) = &result {
            tracing::error!(error = %e, "background work failed");
        }
        self.error = result.err();
    }
}

/// The shared heart of one open database.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) options: Options,
    pub(crate) uuid: [u8; 16],
    pub(crate) state: Mutex<State>,
    pub(crate) queue: CommitQueue,
    collections: RwLock<Arc<Collections>>,
    pub(crate) next_segment: AtomicU32,
    pub(crate) next_manifest: AtomicU64,
    /// Held by whatever replaces segments by others, from the choice of the inputs on: only its holder takes segments
    /// away. Flushes go on beside it.
    pub(crate) compaction: Mutex<()>,
    /// Held by a flush, a backup, a check and the end of a compaction: while it is held nobody else adds or removes
    /// files that a manifest names, but for bulk writes.
    pub(crate) maintenance: Mutex<()>,
    /// Flushes that moved something into segments.
    pub(crate) flushes: AtomicU64,
    pub(crate) metrics: Metrics,
    pub(crate) recovery: RecoveryReport,
    /// Bytes of all logs that a recovery would replay.
    pub(crate) log_bytes: AtomicU64,
    pub(crate) memory_budget: u64,
    damaged: Mutex<Vec<String>>,
    pid: u32,
    closed: AtomicBool,
    /// Held shared by every call that uses the files beyond one version; `close` waits for them.
    active: RwLock<()>,
    poison: OnceLock<String>,
    lock: Mutex<Option<Box<dyn LockGuard>>>,
    /// Ends the build of a graph early.
    pub(crate) cancel: AtomicBool,
    work: Mutex<Work>,
    wake: Condvar,
    /// How many background threads there are: none, the one that flushes, also the compactor, also the indexer.
    threads: AtomicU32,
    /// All of them, the syncer of `Durability::Interval` included, for `close` to wait for.
    workers: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

/// What recovery hands over.
pub(crate) struct Opened {
    pub(crate) uuid: [u8; 16],
    pub(crate) state: State,
    pub(crate) collections: Collections,
    pub(crate) recovery: RecoveryReport,
    pub(crate) lock: Box<dyn LockGuard>,
    pub(crate) damaged: Vec<String>,
}

impl Engine {
    pub(crate) fn start(storage: Arc<dyn Storage>, options: Options, opened: Opened) -> Arc<Engine> {
        let log_bytes = opened.state.old_logs.iter().map(|(_, bytes)| bytes).sum();
        let memory_budget = options.memory_budget.unwrap_or_else(budget::default);
        let engine = Arc::new(Engine {
            storage,
            uuid: opened.uuid,
            next_segment: AtomicU32::new(opened.state.manifest.next_segment),
            next_manifest: AtomicU64::new(opened.state.manifest.number + 1),
            state: Mutex::new(opened.state),
            queue: CommitQueue::default(),
            collections: RwLock::new(Arc::new(opened.collections)),
            compaction: Mutex::new(()),
            maintenance: Mutex::new(()),
            flushes: AtomicU64::new(0),
            metrics: Metrics::default(),
            recovery: opened.recovery,
            log_bytes: AtomicU64::new(log_bytes),
            memory_budget,
            damaged: Mutex::new(opened.damaged),
            pid: std::process::id(),
            closed: AtomicBool::new(false),
            active: RwLock::new(()),
            poison: OnceLock::new(),
            lock: Mutex::new(Some(opened.lock)),
            cancel: AtomicBool::new(false),
            work: Mutex::new(Work::default()),
            wake: Condvar::new(),
            threads: AtomicU32::new(0),
            workers: Mutex::new(Vec::new()),
            options,
        });
        if engine.options.background && engine.options.read_only {
            engine.spawn("omendb-loader", Engine::load_graphs);
        } else if engine.options.background {
            // Without threads the same work is done inside the calls that need it.
            let started = THREADS.iter().take_while(|(name, run)| engine.spawn(name, *run)).count();
            engine.threads.store(started as u32, Ordering::Relaxed);
            engine.request_indexing();
            if matches!(engine.options.durability, Durability::Interval(_)) {
                engine.spawn("omendb-syncer", Engine::run_syncer);
            }
            if engine.over_flush_threshold() {
                engine.request_flush();
            }
        }
        engine
    }

    /// Starts a background thread; whether that worked.
    fn spawn(self: &Arc<Self>, name: &str, run: fn(&Engine)) -> bool {
        let shared = Arc::clone(self);
        match std::thread::Builder::new().name(name.into()).spawn(move || run(&shared)) {
            Ok(worker) => {
                self.workers.lock().push(worker);
                true
            }
            Err(e) => {
                tracing::warn!(error = %e, name, "no thread for background work");
                false
            }
        }
    }

    /// Refuses every call on a closed or forked handle.
    pub(crate) fn usable(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Unusable("the database is closed: open it again".into()));
        }
        if std::process::id() != self.pid {
            return Err(Error::Unusable(format!(
                "this process ({}) inherited the database through a fork of process {}: open it in the child instead",
                std::process::id(),
                self.pid
            )));
        }
        Ok(())
    }

    /// Refuses every call on a closed or forked handle; while the result lives, the handle does not close.
    pub(crate) fn enter(&self) -> Result<RwLockReadGuard<'_, ()>> {
        // In a forked child the lock may be held by a thread that is not there.
        self.usable()?;
        let active = self.active.read_recursive();
        self.usable()?;
        Ok(active)
    }

    /// Refuses writes on a handle that cannot write.
    pub(crate) fn writable(&self) -> Result<()> {
        self.usable()?;
        if self.options.read_only {
            return Err(Error::Unusable("the database is open read-only: open it for writing".into()));
        }
        self.not_poisoned()
    }

    pub(crate) fn not_poisoned(&self) -> Result<()> {
        match self.poison.get() {
            Some(why) => Err(Error::Unusable(format!(
                "an earlier write could not be made durable ({why}): close the database and open it again to see what \
                    is stored"
            ))),
            None => Ok(()),
        }
    }

    /// Stops all further writes; the caller reports the outcome as unknown.
    pub(crate) fn poison(&self, why: &str) -> Error {
        tracing::error!(why, "a sync failed; the handle takes no more writes");
        let _ = self.poison.set(why.to_owned());
        Error::Indeterminate(why.to_owned())
    }

    /// Poisons the handle if the error says that an outcome is unknown.
    pub(crate) fn poison_if_indeterminate(&self, error: Error) -> Error {
        match error {
            Error::Indeterminate(why) => self.poison(&why),
            other => other,
        }
    }

    pub(crate) fn note_damage(&self, error: &Error) {
        if let Error::Corrupt { file, offset, what } = error {
            let line = format!("{file} at byte {offset}: {what}");
            let mut damaged = self.damaged.lock();
            if damaged.len() < 1000 && !damaged.contains(&line) {
                tracing::error!(%line, "damage found");
                damaged.push(line);
            }
        }
    }

    pub(crate) fn damaged(&self) -> Vec<String> {
        self.damaged.lock().clone()
    }

    pub(crate) fn poisoned(&self) -> Option<String> {
        self.poison.get().cloned()
    }

    pub(crate) fn background_error(&self) -> Option<String> {
        self.work.lock().error.as_ref().map(Error::to_string)
    }

    /// The open collections, by name.
    pub(crate) fn all_collections(&self) -> Vec<Arc<CollectionState>> {
        self.collections().values().cloned().collect()
    }

    /// The same, as of now.
    pub(crate) fn collections(&self) -> Arc<Collections> {
        Arc::clone(&self.collections.read())
    }

    /// Whoever calls it has the state.
    pub(crate) fn set_collections(&self, collections: Collections) {
        *self.collections.write() = Arc::new(collections);
    }

    /// After a commit: starts or does the flush that is due.
    pub(crate) fn after_commit(&self) {
        if self.over_flush_threshold() {
            if self.threads.load(Ordering::Relaxed) > 0 {
                self.request_flush();
            } else if let Err(e) = self.flush() {
                // The write itself is acknowledged; the failure shows in stats and stops writers at the cap.
                self.work.lock().error = Some(e);
            }
        }
    }

    fn has_compactor(&self) -> bool {
        self.threads.load(Ordering::Relaxed) > 1
    }

    pub(crate) fn has_indexer(&self) -> bool {
        self.threads.load(Ordering::Relaxed) > 2
    }

    fn request_flush(&self) {
        self.work.lock().flush = true;
        self.wake.notify_all();
    }

    /// A bulk write begins: merging and indexing would take the disk and the cores from it.
    pub(crate) fn note_bulk(&self) {
        self.work.lock().last_bulk = Some(Instant::now());
    }

    pub(crate) fn request_compaction(&self, after_bulk: bool) {
        let mut work = self.work.lock();
        work.compact = self.has_compactor();
        work.index = self.has_indexer();
        work.settled = false;
        if after_bulk {
            work.last_bulk = Some(Instant::now());
        }
        drop(work);
        self.wake.notify_all();
    }

    /// There is something new to index or to write.
    pub(crate) fn request_indexing(&self) {
        self.work.lock().index = self.has_indexer();
        self.wake.notify_all();
    }

    /// Waits until the workers have nothing left to do but to replace graphs by better ones; without workers, does what
    /// there is to compact.
    pub(crate) fn wait_idle(&self) -> Result<()> {
        if !self.has_compactor() {
            while self.compact_once()? {}
            return Ok(());
        }
        let mut work = self.work.lock();
        work.last_bulk = None;
        work.compact = true;
        self.wake.notify_all();
        while (work.segments_change() || work.index || work.indexing) && !work.stop {
            self.wake.wait(&mut work);
        }
        work.error.clone().map_or(Ok(()), Err)
    }

    /// Keeps the promise of `Durability::Interval`, whatever else goes on.
    fn run_syncer(&self) {
        let Durability::Interval(every) = self.options.durability else { return };
        loop {
            let mut work = self.work.lock();
            let deadline = Instant::now() + every.max(Duration::from_millis(1));
            while !work.stop && !self.wake.wait_until(&mut work, deadline).timed_out() {}
            if work.stop {
                return;
            }
            drop(work);
            if let Err(e) = self.sync_log() {
                self.work.lock().error = Some(e);
            }
        }
    }

    /// A writer that had to wait may have flushed already.
    fn flush_if_due(&self) -> Result<()> {
        let _turn = self.maintenance.lock();
        if self.over_flush_threshold() { self.flush_in_turn().map(|_| ()) } else { Ok(()) }
    }

    fn run_flusher(&self) {
        loop {
            let mut work = self.work.lock();
            while !work.flush && !work.stop {
                self.wake.wait(&mut work);
            }
            if work.stop {
                return;
            }
            (work.flush, work.flushing) = (false, true);
            drop(work);
            let result = self.flush_if_due();
            self.release_freed_memory();
            let mut work = self.work.lock();
            work.flushing = false;
            work.note(result);
            self.wake.notify_all();
        }
    }

    fn run_compactor(&self) {
        loop {
            let mut work = self.work.lock();
            while !work.compact && !work.stop {
                self.wake.wait(&mut work);
            }
            if work.stop {
                return;
            }
            if work.bulk_writes_keep_coming() && self.most_segments() < BUSY_SEGMENTS {
                self.wake.wait_for(&mut work, BUSY / 3);
                continue;
            }
            (work.compact, work.compacting) = (false, true);
            drop(work);
            let result = self.compact_once();
            self.release_freed_memory();
            let mut work = self.work.lock();
            work.compacting = false;
            work.compact |= *result.as_ref().unwrap_or(&false);
            work.note(result.map(|_| ()));
            self.wake.notify_all();
        }
    }

    /// Waits until every segment that wants a graph has one; without a worker, builds them.
    pub(crate) fn wait_indexed(&self, settled: bool) -> Result<()> {
        if !self.has_indexer() {
            while self.index_once(settled)? {}
            return self.write_indexes();
        }
        let mut work = self.work.lock();
        work.last_bulk = None;
        (work.index, work.settle) = (true, work.settle || settled);
        self.wake.notify_all();
        let busy = |w: &Work| w.segments_change() || w.index || w.indexing || (settled && w.settle);
        while busy(&work) && !work.stop {
            self.wake.wait(&mut work);
        }
        work.error.clone().map_or(Ok(()), Err)
    }

    fn run_indexer(&self) {
        yield_to_callers();
        let mut quiet_since = Instant::now();
        loop {
            let mut work = self.work.lock();
            if !(work.index || work.settle || work.stop) {
                self.wake.wait_for(&mut work, SETTLE_AFTER);
            }
            if work.stop {
                drop(work);
                // A graph took far longer to make than it takes to write.
                self.write_indexes_or_log();
                return;
            }
            // Merging and flushing come first.
            if work.bulk_writes_keep_coming() || work.segments_change() {
                quiet_since = Instant::now();
                self.wake.wait_for(&mut work, BUSY / 3);
                continue;
            }
            let idle = !work.settled && quiet_since.elapsed() >= SETTLE_AFTER;
            // Better graphs only where no first one is wanted.
            let (asked, settle) = (work.index, work.settle || (idle && !work.index));
            if !asked && !settle {
                continue;
            }
            (work.index, work.indexing) = (false, true);
            drop(work);
            let result = self.index_once(settle);
            self.release_freed_memory();
            let mut work = self.work.lock();
            work.indexing = false;
            match result {
                Ok(true) => {
                    if !settle {
                        quiet_since = Instant::now();
                    }
                    work.index = true;
                    work.error = None;
                }
                Ok(false) if settle => (work.settle, work.settled) = (false, !work.index),
                Ok(false) => {}
                Err(e) => {
                    tracing::error!(error = %e, "indexing failed");
                    (work.settle, work.settled) = (false, true);
                    work.error = Some(e);
                }
            }
            let idle = !work.index;
            self.wake.notify_all();
            drop(work);
            if idle {
                self.write_indexes_or_log();
            }
        }
    }

    fn write_indexes_or_log(&self) {
        if let Err(e) = self.write_indexes() {
            tracing::error!(error = %e, "the file of an index could not be written");
            self.work.lock().error = Some(e);
        }
    }

    fn most_segments(&self) -> usize {
        self.collections().values().map(|c| c.version.load().segments.len()).max().unwrap_or(0)
    }

    /// Ends the handle: no call succeeds after it; everything written is durable; the lock is free.
    pub(crate) fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        if std::process::id() != self.pid {
            // The parent owns the files and the worker.
            return Ok(());
        }
        self.work.lock().stop = true;
        self.cancel.store(true, Ordering::Release);
        self.wake.notify_all();
        let workers = std::mem::take(&mut *self.workers.lock());
        for worker in workers {
            if worker.thread().id() != std::thread::current().id() && worker.join().is_err() {
                tracing::error!("a background worker panicked");
            }
        }
        // Once the lock is free another process may own the files, so no call may be at work on them.
        let _none_active = self.active.write();
        let sealed = self.seal_log();
        *self.lock.lock() = None;
        sealed
    }

    fn seal_log(&self) -> Result<()> {
        let mut state = self.state.lock();
        if self.poison.get().is_some() {
            return Ok(());
        }
        // A seal vouches for the frames before it, so they must be on stable storage before it is written.
        self.sync_log_in(&mut state)?;
        let Some(log) = state.log.take() else { return Ok(()) };
        let next = state.seq + 1;
        log.seal(next).map_err(|e| self.poison(&format!("the log could not be sealed: {e}")))?;
        // From now on the manifest knows how far the log goes: a log that is cut short or missing will be noticed.
        let next = self.next_manifest(&state);
        if let Err(e) = self.commit_manifest(&mut state, next) {
            tracing::warn!(error = %e, "the log's end is not in the manifest");
        }
        Ok(())
    }

    /// Makes every applied frame durable.
    pub(crate) fn sync_log(&self) -> Result<()> {
        let mut state = self.state.lock();
        self.sync_log_in(&mut state)
    }

    pub(crate) fn sync_log_in(&self, state: &mut State) -> Result<()> {
        if state.durable_seq == state.seq {
            return Ok(());
        }
        self.not_poisoned()?;
        if let Some(log) = &state.log {
            self.metrics.fsync.time(|| log.sync()).map_err(|e| self.poison(&format!("sync of the log: {e}")))?;
        }
        state.durable_seq = state.seq;
        Ok(())
    }
}

/// Gives the calling thread, and those it starts, less of a busy processor than the threads that answer calls get.
fn yield_to_callers() {
    #[cfg(target_os = "linux")]
    if let Err(e) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 5) {
        tracing::debug!(error = %e, "indexing keeps the usual priority");
    }
}
